"""Which endpoint a request will reach: the URL rule that Flask itself matched, under the key a policy binds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from werkzeug.routing import PathConverter

from afmiddleware.model.http import Target

if TYPE_CHECKING:
    from flask import Flask, Request
    from werkzeug.routing import Rule

_PARAMETER = re.compile(r"<(?:([A-Za-z_]\w*)(?:\([^<>]*\))?:)?([A-Za-z_]\w*)>", re.ASCII)
REST = "/{path:path}"
"""The template of everything below a place that is one endpoint as a whole."""


class Place:
    """One URL rule as a policy sees it.

    `template` is spelled alike for every framework: `/v1/bookings/{id}`, `{path:path}` where slashes may stand inside.
    `keys` maps a method as sent to (judged method, binding key); a rule without methods dispatches every one.
    """

    __slots__ = ("any_method", "automatic", "keys", "rule", "template")

    def __init__(self, app: Flask, rule: Rule, mount: str) -> None:
        self.rule = rule
        self.template = host_of(app, rule) + mount + template_of(app, rule.rule)
        self.automatic: bool = getattr(rule, "provide_automatic_options", False)
        self.any_method = rule.methods is None
        view_class = getattr(app.view_functions.get(rule.endpoint), "view_class", None)
        own_head = hasattr(view_class, "head")
        self.keys: dict[str, tuple[str, str]] = {}
        for method in rule.methods or ():
            judged = "GET" if method == "HEAD" and "GET" in (rule.methods or ()) and not own_head else method
            if not (self.automatic and method == "OPTIONS"):
                self.keys[method] = (judged, f"{judged} {self.template}")


class Resolver:
    """The rules of one application, whose templates stand below `mount`."""

    def __init__(self, app: Flask, mount: str = "") -> None:
        self.mount = mount
        self._app = app
        self._places: dict[int, Place] = {}

    def place(self, rule: Rule) -> Place:
        """The rule as a policy sees it."""
        # Rules compare by what they say and cannot be hashed; the place keeps its rule alive, so its id stays its own.
        place = self._places.get(id(rule))
        if place is None:
            place = self._places[id(rule)] = Place(self._app, rule, self.mount)
        return place

    def resolve(self, request: Request) -> Target | None:
        """The endpoint that Flask is about to dispatch to, `None` when it answers by itself.

        By itself it answers 404, 405, redirects, and OPTIONS for rules whose view has no OPTIONS of its own.
        """
        rule = request.url_rule
        if rule is None or request.routing_exception is not None:
            return None
        place = self.place(rule)
        method = request.method
        known = place.keys.get(method)
        if known is None:
            if method == "OPTIONS" and place.automatic:
                return None
            known = method, f"{method} {place.template}"
        return Target(
            key=known[1],
            method=known[0],
            template=place.template,
            endpoint=self._app.view_functions.get(rule.endpoint),
            params=request.view_args or {},
        )


def template_of(app: Flask, rule: str) -> str:
    """A rule's text in the spelling of policies: `<int:id>` is `{id}`, `<path:rest>` is `{rest:path}`."""
    converters = app.url_map.converters

    def spelled(found: re.Match[str]) -> str:
        converter: Any = converters.get(found[1] or "default")
        crosses = converter is not None and (
            issubclass(converter, PathConverter) or not getattr(converter, "part_isolating", True)
        )
        return f"{{{found[2]}:path}}" if crosses else f"{{{found[2]}}}"

    return _PARAMETER.sub(spelled, rule)


def host_of(app: Flask, rule: Rule) -> str:
    """`//api.example.com` for a rule of one host or subdomain only, as below a Starlette `Host`; else nothing."""
    if app.url_map.host_matching:
        host = rule.host or ""
    elif rule.subdomain:
        server = (app.config.get("SERVER_NAME") or "").partition(":")[0]
        host = f"{rule.subdomain}.{server}".rstrip(".")
    else:
        host = ""
    return f"//{template_of(app, host)}" if host else ""


def is_plain(rule: str) -> bool:
    """Whether a rule's literal text cannot be mistaken for a parameter."""
    return not {"{", "}"} & set(_PARAMETER.sub("", rule))
