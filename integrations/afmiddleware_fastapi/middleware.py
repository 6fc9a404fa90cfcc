"""The fence for FastAPI and plain Starlette: the generic ASGI middleware with the framework's own router."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.middleware import Middleware

from afmiddleware.errors import AFError, ConfigError
from afmiddleware.fence import Fence
from afmiddleware.model.http import Target
from afmiddleware.pep.asgi import FenceMiddleware as AsgiFence
from afmiddleware.pep.closed import Closed
from afmiddleware_fastapi.audit import listing
from afmiddleware_fastapi.resolver import Resolver, Routed, Unrouted
from afmiddleware_fastapi.seal import SealedScope, left_unsealed

_log = logging.getLogger("afmiddleware")

if TYPE_CHECKING:
    import os

    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Scope

    from afmiddleware.plan import Plan
    from afmiddleware_fastapi.tree import Tree


class FenceMiddleware(AsgiFence):
    """Put it on with `app.add_middleware(FenceMiddleware, policy="fence.yaml")`, before any other middleware.

    The first one added stands innermost, so the application's own CORS and error layers dress refusals too;
    `install` puts it there whatever was added before. Starlette makes it when the server starts: a policy that is wrong
    fails the start with every problem, and where the server has no lifespan every request is answered 503. At the
    start it also audits the application: a binding without an endpoint, or a layer between the fence and the handlers
    that is neither known to be harmless nor named under `inner_middleware:`, stops it.
    """

    def __init__(
        self, app: ASGIApp, policy: str | os.PathLike[str] | None = None, *, fence: Fence | None = None
    ) -> None:
        try:
            super().__init__(app, policy, fence=fence)
        except AFError as error:
            self._closed = Closed(error)

    def make_router(self, scope: Scope) -> FastApiRouter:
        """The router of the application in the scope, audited. Raises `ConfigError`."""
        app = scope.get("app")
        try:
            resolver = Resolver(app, lambda: self._adopt_again(app))
        except TypeError as error:
            msg = f"the fence found no Starlette or FastAPI application to ask: {error}"
            raise ConfigError([msg]) from error
        found = listing(app)
        self.fence.adopt(found)
        return FastApiRouter(self.fence, resolver, watched=bool(found.layers))

    def _adopt_again(self, app: Any) -> None:
        """Routes were added to the running application. What is wrong with them stays unmapped, and is denied."""
        try:
            self.fence.adopt(listing(app))
        except ConfigError as error:
            _log.error("routes that were added later are not mapped: %s", error)


class FastApiRouter:
    """A FastAPI or Starlette application, as the fence asks it."""

    def __init__(self, fence: Fence, resolver: Resolver, *, watched: bool) -> None:
        self.watched = watched
        self._fence = fence
        self._resolver = resolver

    def begin(self, scope: Scope) -> _Routing:
        """Look at one request, in the routes as they are now."""
        # Looking may find routes that were added, which makes another plan.
        tree = self._resolver.tree
        return _Routing(self._fence.plan, self._resolver, tree, scope)


class _Routing:
    """One request: what the router will do with it, asked at most once."""

    __slots__ = ("_found", "_resolver", "_scope", "_tree", "plan")

    def __init__(self, plan: Plan, resolver: Resolver, tree: Tree, scope: Scope) -> None:
        self.plan = plan
        self._resolver = resolver
        self._tree = tree
        self._scope = scope
        self._found: Routed | Unrouted | None = None

    def resolve(self) -> Target | None:
        """The endpoint that will run."""
        found = self._found = self._resolver.resolve_in(self._tree, self._scope)
        return found if isinstance(found, Routed) else None

    def seal(self) -> SealedScope:
        """The scope to hand inward."""
        found = self._found
        return SealedScope(
            self._scope, found if found is not None else self._resolver.resolve_in(self._tree, self._scope)
        )

    def unsealed(self, sealed: SealedScope, status: int) -> bool:
        """Whether an answer does not come from what was judged."""
        return left_unsealed(sealed, status)


def install(app: Starlette, policy: str | os.PathLike[str] | None = None, *, fence: Fence | None = None) -> None:
    """Put the fence innermost, just outside the router, whatever middleware was added before.

    Raises `ConfigError` with every problem of the policy, and `RuntimeError` once the application has started.
    """
    if app.middleware_stack is not None:
        msg = "the application has started already: install the fence before"
        raise RuntimeError(msg)
    made = fence if fence is not None else Fence.from_file(policy)
    entry: Any = Middleware(FenceMiddleware, fence=made)
    app.user_middleware.append(entry)
