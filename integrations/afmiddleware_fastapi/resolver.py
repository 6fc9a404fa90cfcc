"""Which endpoint a request will reach: the answer of the application's own router, without running anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from starlette.routing import Match

from afmiddleware.mapping.coverage import key_of
from afmiddleware.model.http import Target
from afmiddleware_fastapi.index import route_path
from afmiddleware_fastapi.tree import REST, Node, Table, Tree, router_of
from afmiddleware_fastapi.typed import TypedParams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

Steps = tuple[object, ...]
"""The endpoints the routers will put into the scope, outermost first: those of mounts and hosts, then the handler."""


class Routed(Target, frozen=True, kw_only=True):
    """A request that reaches an endpoint.

    `key` is what the policy binds: `POST /v1/bookings/{id}`, `WEBSOCKET /ws/{room}`, `GET /static/{path:path}` for a
    mounted application that is one endpoint as a whole, `GET //api.example.com/v1/x` below a `Host` route. Templates
    are spelled as the application declares them, convertors included. `steps` is what the seal expects to see. With
    `closed` nothing may be dispatched after the last of them. With `rest` the parameter `path` is not the router's: it
    is what is left of the path for an application that is judged as a whole.
    """

    steps: Steps = ()
    closed: bool = True
    rest: bool = False


class Unrouted(msgspec.Struct, frozen=True, kw_only=True):
    """A request that the framework answers by itself: no handler of the application runs.

    `not_found` is 404 (a websocket is closed), `method_not_allowed` 405, `redirect` 307 to the path with or without
    its final slash. An OPTIONS request that no route lists is `method_not_allowed`: these frameworks answer none by
    themselves.
    """

    kind: Literal["not_found", "method_not_allowed", "redirect"]
    steps: Steps = ()
    closed: bool = True


class Resolver:
    """Resolves requests for one application: what Starlette or FastAPI put into `scope["app"]`.

    The routes are read at the first request, and again when a list of routes has changed its length or was replaced:
    the outermost is looked at for every request, the others in turn and where nothing was found.
    `changed` is called for each reading but the first. A route exchanged in place is not noticed; the seal refuses the
    requests it would have served.
    Raises `TypeError` for an application without a Starlette router.
    """

    def __init__(self, app: Any, changed: Callable[[], None] = lambda: None) -> None:
        router_of(app)
        self._app = app
        self._tree: Tree | None = None
        self._changed = changed

    @property
    def tree(self) -> Tree:
        """What the application can reach now."""
        tree = self._tree
        if tree is None:
            tree = self._tree = Tree(self._app)
        elif tree.stale():
            tree = self._read_again()
        return tree

    def resolve(self, scope: MutableMapping[str, Any]) -> Routed | Unrouted:
        """Say what the router will do with this `http` or `websocket` scope, as the middleware received it.

        The scope is not changed.
        """
        return self.resolve_in(self.tree, scope)

    def resolve_in(self, tree: Tree, scope: MutableMapping[str, Any]) -> Routed | Unrouted:
        """`resolve` in a tree that was just looked up."""
        known: Routed | None = tree.literal.get((scope["type"], scope.get("method"), scope["path"]))
        if known is not None and not scope.get("root_path") and not scope.get("path_params"):
            return known
        found = _search(tree.root, scope, ())
        if isinstance(found, Routed) and _is_literal(tree.root, scope, found):
            tree.literal[scope["type"], scope["method"], scope["path"]] = found
        if isinstance(found, Unrouted) and tree.stale_anywhere():
            return _search(self._read_again().root, scope, ())
        return found

    def _read_again(self) -> Tree:
        tree = self._tree = Tree(self._app)
        self._changed()
        return tree


def _is_literal(table: Table, scope: MutableMapping[str, Any], found: Routed) -> bool:
    """Whether every request with this method and path is routed alike, so that it need not be asked again.

    So it is when the first route that may match is the outermost router's own, listed with the method, and has no
    parameters. There are no more of them than routes and methods.
    """
    if scope["type"] != "http" or scope.get("root_path") or scope.get("path_params"):
        return False
    places = table.index.places(scope["path"])
    node = table.nodes[places[0]] if places else None
    return (
        node is not None
        and node.kind == "http"
        and node.shape.literal
        and scope["method"] in node.keys
        and found.steps == (node.endpoint,)
    )


def _search(table: Table, scope: MutableMapping[str, Any], steps: Steps) -> Routed | Unrouted:
    nodes = table.nodes
    partial: tuple[Node, Mapping[str, Any]] | None = None
    for place in table.index.places(route_path(scope)):
        node = nodes[place]
        match, found = node.match(scope)
        if match is Match.FULL:
            return _enter(node, scope, found, steps)
        if match is Match.PARTIAL and partial is None:
            partial = node, found
    if partial is not None:
        node, found = partial
        if node.any_method or node.kind != "http":
            return _enter(node, scope, found, steps)
        return Unrouted(kind="method_not_allowed", steps=(*steps, found["endpoint"]))
    return _unmatched(table, scope, steps)


def _enter(node: Node, scope: MutableMapping[str, Any], found: Mapping[str, Any], steps: Steps) -> Routed | Unrouted:
    # A route that names no endpoint breaks no seal and fires none: its answer never leaves the fence.
    endpoint = found.get("endpoint", _NOBODY)
    steps = (*steps, endpoint)
    if node.child is not None:
        inner = {**scope, **found}
        if node.sets_root:
            inner["root_path"] = node.sets_root
        return _search(node.child, inner, steps)
    method = "WEBSOCKET" if scope["type"] == "websocket" else scope["method"]
    known = node.keys.get(method)
    if known is None:
        if node.refuses is not None and node.refuses(method):
            return Unrouted(kind="method_not_allowed", steps=steps)
        known = method, key_of(method, node.template)
    params, rest = found.get("path_params", {}), False
    if node.types:
        params = TypedParams(params, node.types)
    elif node.kind == "mount":
        params, rest = _with_rest({**scope, **found}, params)
    return Routed(
        key=known[1],
        method=known[0],
        template=node.template,
        endpoint=endpoint,
        params=params,
        spelled=node.spelled,
        rest=rest,
        steps=steps,
        closed=node.closed,
    )


def _unmatched(table: Table, scope: MutableMapping[str, Any], steps: Steps) -> Routed | Unrouted:
    http = scope["type"] == "http"
    path = route_path(scope)
    if http and table.redirects and path != "/":
        whole: str = scope["path"]
        other = dict(scope)
        other["path"] = whole.rstrip("/") if path.endswith("/") else whole + "/"
        for place in table.index.places(route_path(other)):
            if table.nodes[place].match(other)[0] is not Match.NONE:
                return Unrouted(kind="redirect", steps=steps)
    matches = {route.matches(scope)[0]: route for route in reversed(table.late)}
    if Match.FULL in matches:
        return _whole(table, scope, steps, matches[Match.FULL])
    if Match.PARTIAL in matches:
        return Unrouted(kind="method_not_allowed", steps=steps)
    if table.default is not None:
        return _whole(table, scope, steps, table.default)
    return Unrouted(kind="not_found", steps=steps)


def _whole(table: Table, scope: MutableMapping[str, Any], steps: Steps, endpoint: object) -> Routed:
    """What a router runs without naming it in the scope: its default application, or a frontend's files."""
    method = "WEBSOCKET" if scope["type"] == "websocket" else scope["method"]
    template = table.prefix + REST
    params, rest = _with_rest(scope, scope.get("path_params", {}))
    return Routed(
        key=key_of(method, template),
        method=method,
        template=template,
        endpoint=endpoint,
        params=params,
        rest=rest,
        steps=steps,
        closed=True,
    )


def _with_rest(inner: Mapping[str, Any], params: Mapping[str, object]) -> tuple[Mapping[str, object], bool]:
    """The path parameters with `path`, which the template of an application judged as a whole ends in.

    Where a parameter of the router has that name, it keeps it.
    """
    return (params, False) if "path" in params else ({**params, "path": route_path(inner)[1:]}, True)


class _Nobody:
    __slots__ = ()


_NOBODY = _Nobody()
