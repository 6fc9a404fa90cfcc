"""The start-up audit: which endpoints an application has, and what stands between the fence and its handlers."""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware  # noqa: TID251 (recognised here, never used)
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from afmiddleware_fastapi.tree import REST, Kind, Tree, dotted, is_stock_router, router_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

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


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Something of the application that a request can reach.

    `key` is what a policy binds. `methods` are those that are judged under it (`GET` includes `HEAD` where the same
    handler answers both); with none, every method is dispatched, each under its own key, and `key` has `*` for the
    method. `kind` is `mount` for an application judged as a whole, `unknown` for what the resolver cannot look into.
    `name` is the handler's import path.
    """

    key: str
    template: str
    methods: tuple[str, ...]
    kind: Kind
    name: str


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


def findings(app: Any, bindings: Iterable[str], allowed_inner: Collection[str], fence_class: type) -> list[str]:
    """What must stop the start: one text a problem, in the order found; empty when the application can be fenced.

    `bindings` are the keys of the policy's routes, `allowed_inner` the names under `inner_middleware:`.
    """
    problems: list[str] = []
    found = endpoints(app)
    known = {one.key for one in found if one.methods and one.kind != "unknown"}
    whole = {one.template for one in found if not one.methods and one.kind != "unknown"}
    for key in bindings:
        method, _, template = key.partition(" ")
        if key in known or (template in whole and method.isupper()):
            continue
        offers = sorted(known | {f"{method} {one}" for one in whole})
        near = [f"GET {template}"] if method == "HEAD" and f"GET {template}" in known else _near(key, offers)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        problems.append(f"routes: the application has no endpoint {key}{hint}")
    problems += [
        f"the router has a node of an unknown kind, {one.name}: the fence cannot see what it runs; "
        "use Route, WebSocketRoute, Mount, Host or an included router"
        for one in found
        if one.kind == "unknown"
    ]
    problems += [
        f"inner_middleware: {name} stands between the fence and the handlers and may change what they act on; "
        "add it after the fence, which puts it outside, or name it under inner_middleware"
        for name in inner_middlewares(app, fence_class)
        if name not in allowed_inner
    ]
    if not is_stock_router(router_of(app)):
        problems.append(
            f"the router {dotted(type(router_of(app)))} dispatches in a way of its own; the fence cannot resolve its "
            "endpoints"
        )
    return problems


def _endpoints(table: Table) -> Iterator[Endpoint]:
    for node in table.nodes:
        if node.child is not None:
            yield from _endpoints(node.child)
        else:
            yield from _of(node)
    if table.late:
        template = table.prefix + REST
        yield Endpoint(key=f"GET {template}", template=template, methods=("GET", "HEAD"), kind="mount", name="frontend")
    if table.default is not None:
        template = table.prefix + REST
        yield Endpoint(key=f"* {template}", template=template, methods=(), kind="mount", name=dotted(table.default))


def _of(node: Node) -> Iterator[Endpoint]:
    if node.kind == "websocket":
        key = f"WEBSOCKET {node.template}"
        yield Endpoint(key=key, template=node.template, methods=("WEBSOCKET",), kind="websocket", name=node.name)
        return
    judged: dict[str, list[str]] = {}
    for method, (under, _) in sorted(node.keys.items()):
        judged.setdefault(under, []).append(method)
    for under, methods in judged.items():
        key = f"{under} {node.template}"
        yield Endpoint(key=key, template=node.template, methods=tuple(methods), kind=node.kind, name=node.name)
    if node.kind == "unknown":
        yield Endpoint(key=f"* {node.template}", template=node.template, methods=(), kind="unknown", name=node.name)
    elif node.any_method and (node.refuses is None or not judged):
        yield Endpoint(key=f"* {node.template}", template=node.template, methods=(), kind=node.kind, name=node.name)


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


def _near(key: str, offers: list[str]) -> list[str]:
    return difflib.get_close_matches(key, offers, n=2, cutoff=0.6)
