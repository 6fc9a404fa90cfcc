"""The Flask extension: which applications have the fence, and the audit they share."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from afmiddleware.errors import ConfigError
from afmiddleware.fence import Fence
from afmiddleware.mapping.coverage import Listing, merge
from afmiddleware.pep.environ import check_processes
from afmiddleware_flask.audit import listing
from afmiddleware_flask.fenced import FencedApp
from afmiddleware_flask.mounts import EXTENSION

if TYPE_CHECKING:
    import os
    from wsgiref.types import WSGIEnvironment

    from flask import Flask


class AgentFence:
    """`AgentFence(app, policy="fence.yaml")`, or `AgentFence(policy=...).init_app(app)` for an application factory.

    Every request is decided on the URL rule that Flask matched, before its view runs; refusals pass the application's
    own `after_request` functions (CORS). Raises `ConfigError` with every problem of the policy. The application itself
    is audited at its first request, when its routes exist: a binding without an endpoint, or a function or layer
    between the fence and the views that is neither known to be harmless nor named under `inner_middleware:`, answers
    every request with 503. One extension may serve several applications; they share its fence.
    """

    def __init__(
        self,
        app: Flask | None = None,
        policy: str | os.PathLike[str] | None = None,
        *,
        fence: Fence | None = None,
    ) -> None:
        self._policy = policy
        self._fence = fence
        self._apps: list[FencedApp] = []
        self._starting = threading.Lock()
        if app is not None:
            self.init_app(app)

    @property
    def fence(self) -> Fence:
        """The policy at work; read from the file when it is first asked for."""
        if self._fence is None:
            self._fence = Fence.from_file(self._policy)
        return self._fence

    def init_app(self, app: Flask, *, mount: str = "") -> None:
        """Put the fence around `app`. `mount` is the path where another application mounts it, for its binding keys.

        Raises `ConfigError` with every problem of the policy, and for an application fenced already.
        """
        if EXTENSION in app.extensions:
            msg = f"the application {app.import_name} has a fence already; keep one AgentFence and remove the other"
            raise ConfigError([msg])
        fenced = FencedApp(app, self.fence, mount, self._start)
        fenced.wrap()
        self._apps.append(fenced)

    def _start(self, environ: WSGIEnvironment) -> None:
        """Audit the applications, once, and fit the policy to them. Raises `ConfigError`."""
        with self._starting:
            if self._apps[0].started:
                return
            check_processes(self.fence, environ)
            for fenced in tuple(self._apps):
                for app, mount in fenced.unfold():
                    # Its requests come through the wrapper they are mounted behind.
                    self._apps.append(FencedApp(app, self.fence, mount, self._start))
            found = Listing()
            for fenced in self._apps:
                if fenced.wrapped:
                    found = merge(found, listing(fenced.app))
            self.fence.adopt(found)
            for fenced in self._apps:
                fenced.started = True
