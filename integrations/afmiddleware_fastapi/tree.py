"""What an application's routers can reach: tables of routes, in the routers' own order, mounts and hosts unfolded."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles

from afmiddleware.declare import first_declared
from afmiddleware.mapping.coverage import Kind, key_of
from afmiddleware_fastapi.index import ANYTHING, Index, Shape, shape_of
from afmiddleware_fastapi.spelling import Spelling, spelling_of
from afmiddleware_fastapi.typed import types_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from afmiddleware.declare import Declaration

REST = "/{path:path}"
"""The template of everything below a place that is one endpoint as a whole."""


class Node:
    """One route as the router sees it.

    `template` is its whole template. `child` is the table below a mount or host; without one the node is an endpoint.
    `keys` maps a method as sent to (judged method, binding key); with `any_method` others are dispatched too. `closed`
    says that nothing behind the endpoint dispatches any further. `types` are what path
    parameters are converted to, `dependant` what FastAPI knows of the handler. `held` is the declaration on the nearest
    router or application that holds the route.
    `sets_root` is the root path the sub-application sets.
    """

    __slots__ = (
        "any_method", "child", "closed", "dependant", "endpoint", "held", "keys", "kind", "layers", "match", "name",
        "refuses", "sets_root", "shape", "spelled", "template", "types",
    )  # fmt: skip

    def __init__(self, kind: Kind, match: Callable[[Any], tuple[Any, Any]], template: str, endpoint: object) -> None:
        self.kind: Kind = kind
        self.match = match
        self.template = template
        self.endpoint = endpoint
        self.name = dotted(endpoint)
        self.shape: Shape = ANYTHING
        self.child: Table | None = None
        self.held: Declaration | None = None
        self.keys: dict[str, tuple[str, str]] = {}
        self.any_method = False
        self.closed = False
        self.refuses: Callable[[str], bool] | None = None
        self.sets_root = ""
        self.types: Mapping[str, Any] = {}
        self.dependant: Any = None
        self.spelled: Spelling | None = None
        self.layers: tuple[object, ...] = ()


class Table:
    """One router: its routes in order, and what it does when none of them matches."""

    __slots__ = ("default", "index", "late", "layers", "nodes", "prefix", "redirects", "unknown")

    def __init__(self, router: Router, prefix: str, nodes: tuple[Node, ...], late: tuple[Any, ...]) -> None:
        self.prefix = prefix
        self.nodes = nodes
        self.index = Index([node.shape for node in nodes])
        self.redirects = router.redirect_slashes
        self.late = late
        stock = router.default == router.not_found and type(router).not_found is Router.not_found
        self.default: object = None if stock else router.default
        self.layers = wrappers(router.middleware_stack)[0]
        self.unknown = not is_stock_router(router)


class Tree:
    """The table of an application's router, and a cheap way to tell that routes were added since."""

    def __init__(self, app: Any) -> None:
        self._watched: list[tuple[Router | None, Any, int]] = []
        self._turn = 0
        self.literal: dict[tuple[str, str | None, str], Any] = {}
        """What was found for a method and a path that no parameter, host or header has a say in."""
        router = router_of(app)
        self.root = self._table(router, "", (), first_declared((router, app)))

    def stale(self) -> bool:
        """Whether the outermost list of routes, or the next of the others, has grown, shrunk or been replaced.

        Hundreds of included routers would cost more than the decision, so each has its turn.
        """
        watched = self._watched
        router, routes, count = watched[0]
        if len(routes) != count or (router is not None and router.routes is not routes):
            return True
        if len(watched) == 1:
            return False
        turn = self._turn = (self._turn + 1) % len(watched)
        return _changed(*watched[turn])

    def stale_anywhere(self) -> bool:
        """The same of every list of routes."""
        return any(_changed(*one) for one in self._watched)

    def _watch(self, router: Any) -> None:
        self._watched.append((router, router.routes, len(router.routes)))
        late = getattr(router, "_low_priority_routes", None)
        if late is not None:
            self._watched.append((None, late, len(late)))
        for route in router.routes:
            # FastAPI's included routers are live: a route added to one later is served at once.
            included = getattr(route, "original_router", None)
            if included is not None and all(included is not seen for seen, _, _ in self._watched):
                self._watch(included)

    def _table(self, router: Router, prefix: str, above: tuple[Router, ...], held: Declaration | None) -> Table:
        self._watch(router)
        nodes = []
        for original, view, holders in flatten(router):
            node = self._node(original, view, prefix, included=bool(holders))
            node.held = first_declared((original, *holders)) or held
            if isinstance(original, (Mount, Host)):
                self._unfold(node, view.app, (*above, router))
            nodes.append(node)
        # FastAPI lists the routes of `app.frontend()` nowhere in public; they come after all others.
        late = getattr(router, "_iter_low_priority_routes", tuple)
        return Table(router, prefix, tuple(nodes), tuple(late()))

    def _node(self, original: Any, view: Any, prefix: str, *, included: bool) -> Node:
        if included and type(original).matches not in stock_matches():
            # The router asks this class's own `matches` in a way that cannot be repeated from outside.
            return Node("unknown", view.matches, f"{prefix}<{dotted(type(original))}>", type(original))
        if isinstance(original, Mount):
            node = Node("mount", view.matches, prefix + view.path, view.app)
            node.shape = _shape(original, view, view.path + REST)
        elif isinstance(original, Host):
            node = Node("mount", view.matches, f"{prefix}//{view.host}", view.app)
        elif isinstance(original, Route):
            node = Node("http", view.matches, prefix + view.path, view.endpoint)
            node.shape = _shape(original, view, view.path)
            _methods(node, original, view.methods)
            node.dependant = getattr(view, "dependant", None)
            node.types = types_of(node.dependant)
            node.spelled = spelling_of(node.dependant)
            node.layers = _route_layers(original, view)
        elif isinstance(original, WebSocketRoute):
            node = Node("websocket", view.matches, prefix + view.path, view.endpoint)
            node.shape = _shape(original, view, view.path)
            node.closed = handled(view.endpoint, WebSocketEndpoint)
            node.layers = _route_layers(original, view)
        else:
            node = Node("unknown", original.matches, f"{prefix}<{dotted(type(original))}>", original)
        return node

    def _unfold(self, node: Node, app: Any, above: tuple[Router, ...]) -> None:
        node.layers, inner = wrappers(app)
        router = router_of(inner) if isinstance(inner, (Router, Starlette)) else None
        if router is None or not is_stock_router(router) or any(router is outer for outer in above):
            node.template += REST
            node.layers = ()  # judged as a whole, its own middlewares included
            if isinstance(inner, StaticFiles):
                node.keys = {
                    "GET": ("GET", key_of("GET", node.template)),
                    "HEAD": ("GET", key_of("GET", node.template)),
                }
            node.any_method = True
            return
        if isinstance(inner, Starlette):
            node.layers += tuple(inner.user_middleware)
            node.sets_root = getattr(inner, "root_path", "") if _is_fastapi(inner) else ""
        node.child = self._table(router, node.template, above, first_declared((router, inner, app)) or node.held)


def _changed(router: Router | None, routes: Any, count: int) -> bool:
    return len(routes) != count or (router is not None and router.routes is not routes)


def flatten(router: Router) -> Iterator[tuple[Any, Any, tuple[Any, ...]]]:
    """A router's routes in matching order, included routers unfolded, as (route, how the router sees it, its holders).

    The holders are the included routers a route stands in, innermost first; there are none for the router's own. The
    first full match of this list is the router's own, and so is the first partial one where no match is full.
    """
    iterate = None
    if "fastapi.routing" in sys.modules:  # never imported for a plain Starlette application
        iterate = getattr(sys.modules["fastapi.routing"], "iter_route_contexts", None)
    for route in router.routes:
        if iterate is None:
            yield route, route, ()
            continue
        leaves = _leaves(route, ())
        for context in iterate([route]):
            leaf, holders = next(leaves, (None, ()))
            if context.route is route:
                yield route, route, ()
            else:
                # Should the two walks ever disagree, nothing is taken to be declared.
                yield context.original_route, context, holders if leaf is context.original_route else (None,)


def _leaves(route: Any, holders: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The routes below an included router, with the routers that hold them."""
    included = getattr(route, "original_router", None)
    if included is None:
        yield route, holders
        return
    for inner in included.routes:
        yield from _leaves(inner, (included, *holders))


def router_of(app: Any) -> Router:
    """The router of an application; a router is its own. Raises `TypeError` for anything else."""
    router = getattr(app, "router", app)
    if not isinstance(router, Router):
        msg = f"{dotted(type(app))} has no Starlette router: use afmiddleware.pep.asgi and a route table instead"
        raise TypeError(msg)
    return router


def is_stock_router(router: Router) -> bool:
    """Whether the router dispatches the way Starlette or FastAPI do, and not in a way of its own."""
    for cls in type(router).__mro__:
        if "app" in vars(cls) or "__call__" in vars(cls):
            return cls is Router or cls.__module__ == "fastapi.routing"
    return False


def wrappers(app: Any) -> tuple[tuple[object, ...], Any]:
    """The middlewares around an ASGI application, outermost first, and what they are around.

    Followed by the `app` attribute, which every middleware made for Starlette has.
    """
    layers: list[object] = []
    while not isinstance(app, (Router, Starlette)) and not inspect.ismethod(app):
        inner = getattr(app, "app", None)
        if inner is None or inspect.isclass(app):
            break
        layers.append(app)
        app = inner
    return tuple(layers), app


def _route_layers(original: Any, view: Any) -> tuple[object, ...]:
    around = () if view.app is view.endpoint else wrappers(view.app)[0]
    fastapi = sys.modules.get("fastapi.routing")
    stock = [Route, WebSocketRoute] + ([fastapi.APIRoute, fastapi.APIWebSocketRoute] if fastapi is not None else [])
    # A route class that handles its requests in its own way may hand another request to the endpoint.
    own = any(
        getattr(type(original), name, None) not in [getattr(one, name, None) for one in stock]
        for name in ("handle", "get_route_handler")
    )
    return (original, *around) if own else around


def handled(endpoint: Any, base: type) -> bool:
    """Whether an endpoint is a handler: a function, or a class made of them; otherwise it is an ASGI application."""
    while isinstance(endpoint, functools.partial):
        endpoint = endpoint.func
    if inspect.isclass(endpoint):
        return issubclass(endpoint, base)
    return inspect.isfunction(endpoint) or inspect.ismethod(endpoint)


def dotted(thing: Any) -> str:
    """The import path of a class or function; of an object, that of its class."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    return f"{thing.__module__}.{thing.__qualname__}"


@functools.cache
def _starlette_matches() -> frozenset[Any]:
    return frozenset({Route.matches, WebSocketRoute.matches, Mount.matches, Host.matches})


def stock_matches() -> Collection[Any]:
    """The `matches` functions of Starlette's and FastAPI's own route classes."""
    fastapi = sys.modules.get("fastapi.routing")
    if fastapi is None:
        return _starlette_matches()
    return _starlette_matches() | {fastapi.APIRoute.matches, fastapi.APIWebSocketRoute.matches}


def _shape(original: Any, view: Any, path: str) -> Shape:
    if type(original).matches not in stock_matches():
        return ANYTHING
    return shape_of(path, view.path_regex.pattern, view.param_convertors)


def _is_fastapi(app: object) -> bool:
    fastapi = sys.modules.get("fastapi")
    return fastapi is not None and isinstance(app, fastapi.FastAPI)


def _methods(node: Node, original: Any, methods: Collection[str] | None) -> None:
    endpoint = node.endpoint
    fastapi = sys.modules.get("fastapi.routing")
    node.closed = handled(endpoint, HTTPEndpoint) or (fastapi is not None and isinstance(original, fastapi.APIRoute))
    if not methods:
        # No methods listed means that every method is dispatched.
        node.any_method = True
        if inspect.isclass(endpoint) and issubclass(endpoint, HTTPEndpoint):
            _class_methods(node, endpoint)
        return
    for method in methods:
        judged = "GET" if method == "HEAD" and "GET" in methods else method
        node.keys[method] = (judged, key_of(judged, node.template))
    if type(original).handle not in _stock_handles():
        # The route's own code answers where others would say 405.
        node.any_method = True


def _class_methods(node: Node, endpoint: type[HTTPEndpoint]) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"):
        if hasattr(endpoint, method.lower()):
            node.keys[method] = (method, key_of(method, node.template))
    if "GET" in node.keys and "HEAD" not in node.keys:
        node.keys["HEAD"] = node.keys["GET"]
    stock = ("__init__", "__await__", "dispatch", "method_not_allowed")
    if all(getattr(endpoint, name) is getattr(HTTPEndpoint, name) for name in stock):
        node.refuses = lambda method: not hasattr(endpoint, method.lower())


def _stock_handles() -> Collection[Any]:
    fastapi = sys.modules.get("fastapi.routing")
    return {Route.handle} if fastapi is None else {Route.handle, fastapi.APIRoute.handle}
