"""What stands in MIDDLEWARE around the fence, and between the fence and the views."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from django.conf import settings
from django.utils.module_loading import import_string

FENCE: Final = "afmiddleware_django.middleware.FenceMiddleware"
SEAL: Final = "afmiddleware_django.middleware.SealMiddleware"

HARMLESS: Final = frozenset(
    {
        FENCE,
        SEAL,
        "corsheaders.middleware.CorsMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
        "django.contrib.auth.middleware.PersistentRemoteUserMiddleware",
        "django.contrib.auth.middleware.RemoteUserMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.contrib.redirects.middleware.RedirectFallbackMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.sites.middleware.CurrentSiteMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        "django.middleware.common.BrokenLinkEmailsMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csp.ContentSecurityPolicyMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.gzip.GZipMiddleware",
        "django.middleware.http.ConditionalGetMiddleware",
        "django.middleware.locale.LocaleMiddleware",
        "django.middleware.security.SecurityMiddleware",
        "whitenoise.middleware.WhiteNoiseMiddleware",
    },
)
"""Middlewares that leave method, path, query, body and view as they are, or answer by a redirect or a refusal."""

_CSRF: Final = "django.middleware.csrf.CsrfViewMiddleware"
_CACHES: Final = frozenset(
    {"django.middleware.cache.CacheMiddleware", "django.middleware.cache.FetchFromCacheMiddleware"},
)


class Misplaced(msgspec.Struct, frozen=True):
    """One thing that is wrong with the order of MIDDLEWARE, under the id of its system check."""

    id: str
    text: str
    hint: str


def inner_layers() -> list[str]:
    """The import paths of the middlewares behind the fence that are not known to be harmless."""
    names = list(settings.MIDDLEWARE)
    behind = names[names.index(FENCE) + 1 :] if FENCE in names else names
    return [name for name in dict.fromkeys(behind) if canonical(name) not in HARMLESS]


def misplaced() -> list[Misplaced]:
    """What is wrong with the place of the fence among the middlewares."""
    names = list(settings.MIDDLEWARE)
    if FENCE not in names:
        text = "FenceMiddleware is not in MIDDLEWARE, so nothing is judged."
        return [Misplaced("afmiddleware.E003", text, f"MIDDLEWARE.insert(0, {FENCE!r})")]
    found: list[Misplaced] = []
    if names.count(FENCE) > 1:
        found.append(Misplaced("afmiddleware.E003", "FenceMiddleware stands in MIDDLEWARE twice.", "Keep the first."))
    place = names.index(FENCE)
    before = {canonical(name): name for name in names[:place]}
    if _CSRF in before:
        text = (
            f"FenceMiddleware stands behind {before[_CSRF]}, which refuses a call with a bearer token before it is "
            "judged, and reads forms."
        )
        found.append(Misplaced("afmiddleware.E004", text, "Put FenceMiddleware first."))
    found += [
        Misplaced("afmiddleware.E004", text, "Put FenceMiddleware first.")
        for name in names[:place]
        if canonical(name) not in HARMLESS | _CACHES and _sees_views(name)
        for text in [f"FenceMiddleware stands behind {name}, which has a process_view: it answers or acts unjudged."]
    ]
    found += [
        Misplaced(
            "afmiddleware.E005",
            f"{name} gives answers that were made for one caller to others, without a decision.",
            "Cache in the views that may be cached (cache_page), behind the fence.",
        )
        for name in names
        if canonical(name) in _CACHES
    ]
    if SEAL in names and names[-1] != SEAL:
        text = "SealMiddleware is not the last of MIDDLEWARE, so it does not see what those behind it change."
        found.append(Misplaced("afmiddleware.E006", text, "Put it last."))
    return found


def has_seal() -> bool:
    """Whether the seal stands right before the views."""
    return bool(settings.MIDDLEWARE) and settings.MIDDLEWARE[-1] == SEAL


def canonical(name: str) -> str:
    """The import path under which a middleware's class is defined; a subclass is another middleware."""
    try:
        made: Any = import_string(name)
    except ImportError:
        return name
    return f"{made.__module__}.{made.__qualname__}" if isinstance(made, type) else name


def _sees_views(name: str) -> bool:
    try:
        made: Any = import_string(name)
    except ImportError:
        return False
    return hasattr(made, "process_view")
