"""The audit: which endpoints a Flask application has, and what stands between the fence and its views."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from flask import Flask

from afmiddleware.declare import declared
from afmiddleware.mapping.coverage import ANY_METHOD, Endpoint, Listing, merge
from afmiddleware_flask.mounts import EXTENSION, REST, chain_of
from afmiddleware_flask.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from afmiddleware.declare import Declaration

_DISPATCHING = ("full_dispatch_request", "preprocess_request", "dispatch_request", "ensure_sync")


def listing(app: Any) -> Listing:
    """What a Flask application has: its endpoints, those of mounted applications, and what stands in between.

    Raises `TypeError` for anything else than a Flask application.
    """
    if not isinstance(app, Flask):
        msg = f"{dotted(app)} is no Flask application: use afmiddleware.pep.wsgi and a route table instead"
        raise TypeError(msg)
    fenced = app.extensions.get(EXTENSION)
    if fenced is None:
        return reached(app.wsgi_app)
    mount = fenced.resolver.mount
    found = merge(own(app, mount), reached(fenced.inner, mount, but=app))
    return merge(found, Listing(problems=tuple(_beside(app, fenced))))


def fenced(app: Flask) -> bool:
    """Whether the application has its fence."""
    return EXTENSION in app.extensions


def reached(inner: Any, mount: str = "", *, but: Flask | None = None) -> Listing:
    """What a WSGI callable at `mount` leads to; the application `but` is left out."""
    chain = chain_of(inner, mount)
    found = Listing(layers=tuple(dotted(layer) for layer in chain.layers))
    for mounted in chain.flasks:
        if mounted.app is not but:
            found = merge(found, own(mounted.app, mounted.mount))
    wholes = tuple(
        Endpoint(
            method=ANY_METHOD,
            template=whole.mount + REST,
            name=dotted(whole.app),
            kind="mount",
            declaration=declared(whole.app),
        )
        for whole in chain.wholes
    )
    return merge(found, Listing(endpoints=wholes))


def own(app: Flask, mount: str) -> Listing:
    """One application's own endpoints, its static files included, and what runs before its views."""
    fenced = app.extensions.get(EXTENSION)
    hook = fenced.judge if fenced is not None else None
    problems = []
    if hook is not None and app.before_request_funcs.get(None, [None])[0] != hook:
        problems.append("before_request: a function was put before the fence's own, which must be the first")
    return Listing(
        endpoints=tuple(_endpoints(app, mount)),
        layers=tuple(between(app, hook)),
        problems=tuple(problems),
    )


def between(app: Flask, hook: object) -> list[str]:
    """The import paths of what runs between the fence's `hook` and the views: functions, and overridden dispatch."""
    tables: tuple[Mapping[Any, Sequence[object]], ...] = (app.url_value_preprocessors, app.before_request_funcs)
    functions = [function for table in tables for registered in table.values() for function in registered]
    names = [dotted(function) for function in functions if function != hook]
    for name in _DISPATCHING:
        if name in vars(app):
            names.append(dotted(vars(app)[name]))
        elif getattr(type(app), name) is not getattr(Flask, name):
            names.append(dotted(getattr(type(app), name)))
    return list(dict.fromkeys(names))


def _endpoints(app: Flask, mount: str) -> Iterator[Endpoint]:
    resolver = Resolver(app, mount)
    for rule in app.url_map.iter_rules():
        # These only build URLs, or redirect.
        if rule.build_only or rule.redirect_to is not None:
            continue
        place = resolver.place(rule)
        view = app.view_functions.get(rule.endpoint)
        judged: dict[str, list[str]] = {}
        for method, (under, _) in sorted(place.keys.items()):
            judged.setdefault(under, []).append(method)
        if place.any_method:
            judged[ANY_METHOD] = []
        for under, methods in judged.items():
            yield Endpoint(
                method=under,
                template=place.template,
                methods=("WEBSOCKET",) if rule.websocket else tuple(methods),
                kind="websocket" if rule.websocket else "http",
                name=dotted(getattr(view, "view_class", view)),
                where=_where(view, under),
                declaration=_declaration(app, rule.endpoint, view, "GET" if under == ANY_METHOD else under),
            )


def _declaration(app: Flask, endpoint: str, view: Any, method: str) -> Declaration | None:
    """What is declared on a view, else on the innermost of its blueprints, else on its application."""
    found = declared(view, method)
    name = endpoint.rpartition(".")[0]
    while found is None and name:
        found = declared(app.blueprints.get(name))
        name = name.rpartition(".")[0]
    return found or declared(app)


def _beside(app: Flask, fenced: Any) -> Iterator[str]:
    """Applications that a dispatcher outside the fence mounts, and that nobody judges."""
    chain = chain_of(app.wsgi_app, fenced.resolver.mount, until=fenced)
    for mounted in chain.flasks:
        if mounted.fenced is None:
            yield f"the application mounted at {mounted.mount} stands beside the fence; give it to init_app too"
    for whole in chain.wholes:
        yield (
            f"the application mounted at {whole.mount} stands beside the fence; "
            "put the dispatcher around wsgi_app before the fence"
        )


def _where(view: Any, method: str) -> str:
    """File and line of a view, or of the method that answers in a class of them."""
    view_class = getattr(view, "view_class", None)
    code = getattr(view if view_class is None else getattr(view_class, method.lower(), None), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def dotted(thing: Any) -> str:
    """The import path of a class or function; of an object, that of its class."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    return f"{thing.__module__}.{thing.__qualname__}"
