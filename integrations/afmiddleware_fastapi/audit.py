"""The start-up audit: which endpoints an application has, and what stands between the fence and its handlers."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware  # noqa: TID251 (recognised here, never used)
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from afmiddleware.declare import declared, location
from afmiddleware.mapping.coverage import Endpoint, Listing
from afmiddleware.pep.asgi import FenceMiddleware
from afmiddleware_fastapi.tree import REST, Tree, dotted, is_stock_router, router_of
from afmiddleware_fastapi.unread import unread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afmiddleware_fastapi.tree import Node, Table

HARMLESS: frozenset[object] = frozenset(
    {
        AuthenticationMiddleware,
        CORSMiddleware,
        ExceptionMiddleware,
        GZipMiddleware,
        HTTPSRedirectMiddleware,
        ServerErrorMiddleware,
        TrustedHostMiddleware,
    }
)
"""Starlette's middlewares that leave method, path, headers and body as they are. A subclass is not one of them."""

HARMLESS_WHERE_IMPORTED = (
    ("starlette.middleware.sessions", "SessionMiddleware"),
    ("starlette.middleware.body_limit", "RequestBodyLimitMiddleware"),
    ("starlette.middleware.opentelemetry", "OpenTelemetryMiddleware"),
)
"""The same for those that need an optional package or a newer Starlette: who uses one has imported it."""


def endpoints(app: Any) -> list[Endpoint]:
    """Every endpoint of a Starlette or FastAPI application, in the order its routers ask, documentation included.

    Raises `TypeError` for an application without a Starlette router.
    """
    return list(_endpoints(Tree(app).root))


def inner_middlewares(app: Any, fence_class: type) -> list[str]:
    """The import paths of the middlewares that stand between the fence and the handlers and are not known as harmless.

    Looks behind the fence in `app.user_middleware`, around routers, mounts and routes, and inside mounted applications.
    A function given to `@app.middleware("http")` is named by its own path. Where the fence is not among the
    application's middlewares, it is taken to stand outside all of them.
    """
    declared: list[Middleware] = list(getattr(app, "user_middleware", ()))
    position = next((place for place, layer in enumerate(declared) if _is(layer.cls, fence_class)), -1)
    layers: list[object] = [*declared[position + 1 :], *_layers(Tree(app).root)]
    names = [_name(layer) for layer in layers if not _harmless(layer, fence_class)]
    return list(dict.fromkeys(names))


def listing(app: Any, fence_class: type = FenceMiddleware) -> Listing:
    """What the coverage audit needs to know of an application (`afmiddleware.mapping.coverage`).

    Raises `TypeError` for an application without a Starlette router.
    """
    router = router_of(app)
    own = f"the router {dotted(type(router))} dispatches in a way of its own; the fence cannot resolve its endpoints"
    return Listing(
        endpoints=(*endpoints(app),),
        layers=(*inner_middlewares(app, fence_class),),
        problems=(*(() if is_stock_router(router) else (own,)), *_twice(app, fence_class)),
    )


def fenced(app: Any, fence_class: type = FenceMiddleware) -> bool:
    """Whether a fence is among the application's middlewares."""
    return _fences(app, fence_class) > 0


def _fences(app: Any, fence_class: type) -> int:
    declared: list[Middleware] = list(getattr(app, "user_middleware", ()))
    return sum(_is(one.cls, fence_class) for one in declared)


def _twice(app: Any, fence_class: type) -> Iterator[str]:
    if _fences(app, fence_class) > 1:
        yield "the fence is added twice; keep the first add_middleware call alone"


def _endpoints(table: Table) -> Iterator[Endpoint]:
    for node in table.nodes:
        if node.child is not None:
            yield from _endpoints(node.child)
        else:
            yield from _of(node)
    template = table.prefix + REST
    if table.late:
        yield Endpoint(method="GET", template=template, methods=("GET", "HEAD"), kind="mount", name="frontend")
    if table.default is not None:
        yield Endpoint(method="*", template=template, kind="mount", name=dotted(table.default))


def _of(node: Node) -> Iterator[Endpoint]:
    if node.kind == "websocket":
        yield _endpoint(node, "WEBSOCKET", ("WEBSOCKET",))
        return
    judged: dict[str, list[str]] = {}
    for method, (under, _) in sorted(node.keys.items()):
        judged.setdefault(under, []).append(method)
    for under, methods in judged.items():
        yield _endpoint(node, under, tuple(methods))
    if node.kind == "unknown" or (node.any_method and (node.refuses is None or not judged)):
        yield _endpoint(node, "*", ())


def _endpoint(node: Node, method: str, methods: tuple[str, ...]) -> Endpoint:
    return Endpoint(
        method=method,
        template=node.template,
        methods=methods,
        kind=node.kind,
        name=node.name,
        where=location(node.endpoint),
        # What a router declares is meant for its requests: a WebSocket among them stays unmapped, and is refused.
        misread=node.spelled.misread if node.spelled is not None else None,
        unread=partial(unread, node.dependant) if node.dependant is not None else None,
        declaration=declared(node.endpoint, method) or (node.held if node.kind != "websocket" else None),
    )


def _layers(table: Table) -> Iterator[object]:
    yield from table.layers
    for node in table.nodes:
        yield from node.layers
        if node.child is not None:
            yield from _layers(node.child)


def _harmless(layer: object, fence_class: type) -> bool:
    kind: Any = layer.cls if isinstance(layer, Middleware) else type(layer)
    if _is(kind, fence_class):
        return True
    if kind in HARMLESS:
        return True
    if any(kind is getattr(sys.modules.get(module), name, None) for module, name in HARMLESS_WHERE_IMPORTED):
        return True
    # FastAPI wraps its routes in private layers of its own.
    return dotted(kind).startswith("fastapi.")


def _is(kind: object, fence_class: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, fence_class)


def _name(layer: object) -> str:
    if isinstance(layer, Middleware):
        cls: object = layer.cls
        dispatch: Any = layer.kwargs.get("dispatch") or (layer.args[0] if layer.args else None)
        return dotted(dispatch if cls is BaseHTTPMiddleware and callable(dispatch) else cls)
    if type(layer) is BaseHTTPMiddleware:
        return dotted(layer.dispatch_func)
    return dotted(type(layer))
