"""A Django project made of settings and URL patterns that a test gives."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import count
from types import ModuleType
from typing import Any

import django
from django.conf import settings
from django.test.utils import override_settings
from django.urls import clear_url_caches

from afmiddleware.fence import Fence

FENCE = "afmiddleware_django.middleware.FenceMiddleware"
SEAL = "afmiddleware_django.middleware.SealMiddleware"
_numbers = count()


def configure() -> None:
    """Set Django up once in this process; tests override the settings."""
    if settings.configured:
        return
    settings.configure(
        SECRET_KEY="not a secret: it signs nothing here",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "django.contrib.messages",
            "django.contrib.admin",
            "rest_framework",
            "afmiddleware_django",
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        MIDDLEWARE=[FENCE],
        ROOT_URLCONF="none",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        LOGGING_CONFIG=None,
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ],
                },
            },
        ],
    )
    django.setup()


@contextmanager
def project(patterns: Sequence[Any], fence: Fence | None = None, **overrides: Any) -> Generator[str]:
    """Settings with these URL patterns; the name of their URLconf."""
    configure()
    name = f"afm_test_urls_{next(_numbers)}"
    module = sys.modules[name] = ModuleType(name)
    vars(module)["urlpatterns"] = list(patterns)
    told = {"ROOT_URLCONF": name, **({"AFMIDDLEWARE": {"fence": fence}} if fence is not None else {}), **overrides}
    clear_url_caches()
    try:
        with override_settings(**told):
            yield name
    finally:
        clear_url_caches()
        del sys.modules[name]


configure()
