"""Which endpoint a request will reach: the pattern that Django itself matched, under the key a policy binds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.conf import settings

from afmiddleware.mapping.coverage import EVERY, key_of
from afmiddleware.model.http import Target
from afmiddleware_django.tree import Leaf, leaves_of
from afmiddleware_django.views import methods_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.urls import ResolverMatch

_NOBODY: Final = ("", "")


class Place:
    """One view under one route, as a policy sees it.

    `template` is the route from the root down, below `//urlconf` for a URLconf that is not the project's own. `keys`
    maps a method as sent to (judged method, binding key). `whole` is the route of an application that is judged as one.
    """

    __slots__ = ("_closed", "keys", "route", "template", "view", "whole")

    def __init__(self, leaf: Leaf, urlconf: str = "") -> None:
        view = leaf.view
        if view is None:
            msg = f"{leaf.node} is no view"
            raise TypeError(msg)
        self.view: Callable[..., Any] = view
        self.route = leaf.route
        self.whole = leaf.whole
        self.template = f"//{urlconf}/{leaf.template.lstrip('^/')}" if urlconf else leaf.template
        methods = methods_of(view)
        self._closed = methods.known is not None and leaf.whole is None
        self.keys: dict[str, tuple[str, str]] = {}
        for method in methods.known if methods.known is not None and self._closed else EVERY:
            judged = "GET" if method == "HEAD" and not methods.own_head else method
            self.keys[method] = judged, key_of(judged, self.template)

    @property
    def any_method(self) -> bool:
        """Whether the view runs whatever the method is."""
        return not self._closed

    def judged(self, method: str) -> tuple[str, str] | None:
        """The judged method and the binding key, `None` when Django answers by itself."""
        known = self.keys.get(method)
        if known is None and not self._closed:
            return method, key_of(method, self.template)
        return known


class Resolver:
    """The views of the project. Raises whatever importing its URLconfs raises."""

    def __init__(self, urlconfs: tuple[str, ...] = ()) -> None:
        self.root: str = settings.ROOT_URLCONF
        self.places: list[Place] = []
        self.unknown: list[Leaf] = []
        self._places: dict[tuple[str, str, int], Place] = {}
        for urlconf in (self.root, *urlconfs):
            self._add(urlconf)

    def place(self, request: HttpRequest, match: ResolverMatch) -> Place:
        """The place that Django has matched."""
        chosen: object = getattr(request, "urlconf", None) or settings.ROOT_URLCONF
        urlconf = chosen if isinstance(chosen, str) else str(getattr(chosen, "__name__", type(chosen).__qualname__))
        found = self._places.get((urlconf, match.route, id(match.func)))
        if found is not None:
            return found
        leaf = Leaf(route=match.route, template=match.route, view=match.func)
        return Place(leaf, urlconf if urlconf != self.root else "")

    def _add(self, urlconf: str) -> None:
        shown = urlconf if urlconf != self.root else ""
        first, others = leaves_of(urlconf)
        for number, leaf in enumerate(first):
            if leaf.view is None:
                self.unknown.append(leaf)
                continue
            place = Place(leaf, shown)
            self.places.append(place)
            for said in (leaf, *(other[number] for other in others.values())):
                known = (urlconf, said.route, id(leaf.view))
                self._places.setdefault(known, place if said.route == leaf.route else _moved(place, said))


def target_of(place: Place, request: HttpRequest, match: ResolverMatch) -> Target | None:
    """The endpoint that is judged, `None` when Django answers the method by itself."""
    judged = place.judged(request.method or "")
    if judged is None:
        return None
    params: dict[str, object] = match.kwargs
    if place.whole is not None:
        params = {"path": request.path_info.removeprefix("/").removeprefix(place.whole)}
    return Target(key=judged[1], method=judged[0], template=place.template, endpoint=place.view, params=params)


def _moved(place: Place, leaf: Leaf) -> Place:
    """The same place under its route in another language."""
    moved = Place.__new__(Place)
    for name in Place.__slots__:
        setattr(moved, name, getattr(place, name))
    moved.route, moved.whole = leaf.route, leaf.whole
    return moved
