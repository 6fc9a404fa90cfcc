"""The URLconf as a list: every view that a request can reach, under the route that Django will name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import LocalePrefixPattern
from django.utils import translation
from django.utils.functional import Promise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

REST: Final = "{path:path}"
"""The template of everything below an application that is judged as a whole."""
_LANGUAGE: Final = "{language}/"


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """One view.

    `route` is what `resolver_match.route` will be, in one language; `template` is the same for every language, with
    `{language}` for the prefix of `i18n_patterns`. `whole` is the route of the application that the view belongs to
    when that is judged as one endpoint (the admin). `view` is `None` for a node of an unknown kind.
    """

    route: str
    template: str
    view: Callable[..., Any] | None
    whole: str | None = None
    node: str = ""


def leaves_of(urlconf: str) -> tuple[list[Leaf], dict[str, list[Leaf]]]:
    """The views of a URLconf in the order Django asks them, and the same again in every other language.

    Raises whatever importing the URLconf raises.
    """
    patterns = get_resolver(urlconf).url_patterns
    with translation.override(settings.LANGUAGE_CODE):
        first = [*_walk(patterns, "", "", None)]
    others: dict[str, list[Leaf]] = {}
    if _varies(patterns):
        for code in dict(settings.LANGUAGES):
            with translation.override(code):
                others[code] = [*_walk(patterns, "", "", None)]
    return first, others


def _walk(nodes: Iterable[Any], route: str, template: str, whole: str | None) -> Iterator[Leaf]:
    for node in nodes:
        if isinstance(node, URLPattern) and type(node).resolve is URLPattern.resolve:
            part = str(node.pattern)
            yield Leaf(
                route=_join(route, part),
                template=_join(template, part) if whole is None else _join(template, REST),
                view=node.callback,
                whole=whole,
            )
        elif isinstance(node, URLResolver) and type(node).resolve is URLResolver.resolve:
            part = str(node.pattern)
            shown = _LANGUAGE if isinstance(node.pattern, LocalePrefixPattern) else part
            inner, below = _join(route, part), _join(template, shown)
            if whole is not None:
                below = template
            starts = inner if whole is None and _is_admin(node) else whole
            yield from _walk(node.url_patterns, inner, below, starts)
        else:
            kind = f"{type(node).__module__}.{type(node).__qualname__}"
            yield Leaf(route=route, template=template, view=None, node=kind)


def _is_admin(node: URLResolver) -> bool:
    """Whether it is a site of Django's admin, which marks its views: a project may call its own patterns so too."""
    views = (getattr(one, "callback", None) for one in node.url_patterns)
    return node.app_name == "admin" and any(hasattr(view, "admin_site") for view in views)


def _join(first: str, second: str) -> str:
    """As `URLResolver` joins the routes of nested patterns."""
    return first + second.removeprefix("^") if first else second


def _varies(nodes: Iterable[Any]) -> bool:
    """Whether routes depend on the language."""
    for node in nodes:
        pattern = getattr(node, "pattern", None)
        told = vars(pattern) if pattern is not None else {}
        if isinstance(pattern, LocalePrefixPattern):
            return True
        if isinstance(told.get("_route"), Promise) or isinstance(told.get("_regex"), Promise):
            return True
        if isinstance(node, URLResolver) and _varies(node.url_patterns):
            return True
    return False
