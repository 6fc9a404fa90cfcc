"""Which endpoint a request will reach: the URL rule that Flask itself matched, under the key a policy binds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afmiddleware.mapping.coverage import key_of
from afmiddleware.model.http import Target

if TYPE_CHECKING:
    from flask import Flask, Request
    from werkzeug.routing import Rule


class Place:
    """One URL rule as a policy sees it.

    `template` is the rule's own text below its mount, and behind `//host` for a rule of one host. `keys` maps a method
    as sent to (judged method, binding key); a rule without methods dispatches every one. A rule of WebSockets, as
    Flask-Sock makes them, is judged as `WEBSOCKET`, which a policy can only make public.
    """

    __slots__ = ("any_method", "automatic", "keys", "rule", "template")

    def __init__(self, app: Flask, rule: Rule, mount: str) -> None:
        self.rule = rule
        self.template = host_of(app, rule) + mount + rule.rule
        self.automatic: bool = getattr(rule, "provide_automatic_options", False)
        self.any_method = rule.methods is None and not rule.websocket
        self.keys: dict[str, tuple[str, str]] = {}
        for method in rule.methods or ():
            if not (self.automatic and method == "OPTIONS"):
                judged = _judged(app, rule, method)
                self.keys[method] = (judged, key_of(judged, self.template))


def _judged(app: Flask, rule: Rule, method: str) -> str:
    """The method under which a rule's method is judged: `HEAD` is `GET` unless a class view answers it by itself."""
    if rule.websocket:
        return "WEBSOCKET"
    if method != "HEAD" or "GET" not in (rule.methods or ()):
        return method
    view_class = getattr(app.view_functions.get(rule.endpoint), "view_class", None)
    return "HEAD" if hasattr(view_class, "head") else "GET"


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
            known = method, key_of(method, place.template)
        return Target(
            key=known[1],
            method=known[0],
            template=place.template,
            endpoint=self._app.view_functions.get(rule.endpoint),
            params=request.view_args or {},
        )


def host_of(app: Flask, rule: Rule) -> str:
    """`//api.example.com` for a rule of one host or subdomain only, as below a Starlette `Host`; else nothing."""
    if app.url_map.host_matching:
        host = rule.host or ""
    elif rule.subdomain:
        server = (app.config.get("SERVER_NAME") or "").partition(":")[0]
        host = f"{rule.subdomain}.{server}".rstrip(".")
    else:
        host = ""
    return f"//{host}" if host else ""
