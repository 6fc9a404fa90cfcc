"""The audit: which endpoints a Flask application has, and what stands between the fence and its views."""

from __future__ import annotations

import difflib
import functools
from typing import TYPE_CHECKING, Any

import msgspec
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from afmiddleware_flask.resolver import Resolver, is_plain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

HARMLESS: frozenset[object] = frozenset({ProxyFix})
"""WSGI middlewares that leave method, path, query and body as they are. A subclass is not one of them."""

_DISPATCHING = ("full_dispatch_request", "preprocess_request", "dispatch_request", "ensure_sync")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Something of the application that a request can reach.

    `key` is what a policy binds; `methods` are those that are judged under it, none when every method is dispatched,
    each under its own key, and `key` has `*` for the method. `name` is the view's import path.
    """

    key: str
    template: str
    methods: tuple[str, ...]
    name: str


def endpoints(app: Flask, mount: str = "") -> list[Endpoint]:
    """Every endpoint of a Flask application, its static files included, in the order of its rules."""
    resolver = Resolver(app, mount)
    found: list[Endpoint] = []
    for rule in app.url_map.iter_rules():
        if rule.build_only or rule.websocket or rule.redirect_to is not None:
            continue
        place = resolver.place(rule)
        name = dotted(app.view_functions.get(rule.endpoint))
        judged: dict[str, list[str]] = {}
        for method, (_, key) in sorted(place.keys.items()):
            judged.setdefault(key, []).append(method)
        found += [
            Endpoint(key=key, template=place.template, methods=tuple(methods), name=name)
            for key, methods in judged.items()
        ]
        if place.any_method:
            found.append(Endpoint(key=f"* {place.template}", template=place.template, methods=(), name=name))
    return found


def between(app: Flask, hook: object) -> list[str]:
    """The import paths of what runs between the fence's `hook` and the views: functions, and overridden dispatch."""
    functions: list[object] = []
    for table in (app.url_value_preprocessors, app.before_request_funcs):
        for registered in table.values():
            functions += registered
    names = [dotted(function) for function in functions if function != hook]
    for name in _DISPATCHING:
        if name in vars(app):
            names.append(dotted(vars(app)[name]))
        elif getattr(type(app), name) is not getattr(Flask, name):
            names.append(dotted(getattr(type(app), name)))
    return list(dict.fromkeys(names))


def layers(inner: Any) -> list[object]:
    """The WSGI layers from `inner` to Flask's own `wsgi_app`, outermost first."""
    return list(_layers(inner))


def findings(app: Flask, bindings: Iterable[str], allowed_inner: Collection[str], *, hook: object) -> list[str]:
    """What must stop the start: one text a problem; empty when the application can be fenced.

    `bindings` are the keys of the policy's routes, `allowed_inner` the names under `inner_middleware:`.
    """
    problems: list[str] = []
    found = endpoints(app)
    known = {one.key for one in found if one.methods}
    whole = {one.template for one in found if not one.methods}
    for key in bindings:
        method, _, template = key.partition(" ")
        if key in known or (template in whole and method.isupper()):
            continue
        near = difflib.get_close_matches(key, sorted(known | {f"{method} {one}" for one in whole}), n=2, cutoff=0.6)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        problems.append(f"routes: the application has no endpoint {key}{hint}")
    problems += [
        f"routes: the rule {rule.rule} holds a brace, which cannot be told from a parameter"
        for rule in app.url_map.iter_rules()
        if not is_plain(rule.rule)
    ]
    if app.before_request_funcs.get(None, [None])[0] != hook:
        problems.append("before_request: a function was put before the fence's own, which must be the first")
    problems += [
        f"inner_middleware: {name} stands between the fence and the views and may change what they act on; "
        "name it under inner_middleware"
        for name in between(app, hook)
        if name not in allowed_inner
    ]
    return problems


def _layers(inner: Any) -> Iterator[object]:
    while getattr(inner, "__func__", None) is not Flask.wsgi_app:
        yield inner
        held = getattr(inner, "__dict__", {})
        inner = next((held[name] for name in ("app", "wsgi_app") if name in held), None)
        if inner is None:
            return


def dotted(thing: Any) -> str:
    """The import path of a class or function; of an object, that of its class."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    return f"{thing.__module__}.{thing.__qualname__}"
