"""The fence as a Flask extension: a wrapper around `wsgi_app`, a hook before the view, a seal where that is called."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from afmiddleware.errors import ClientGoneError, ConfigError, SealBrokenError
from afmiddleware.fence import Fence
from afmiddleware.pep.environ import facts_of
from afmiddleware.pep.passage import unsealed, unusable
from afmiddleware.pep.respond import refusal
from afmiddleware.plan import Refused
from afmiddleware_flask.audit import findings, layers
from afmiddleware_flask.resolver import Resolver
from afmiddleware_flask.seal import KEY, FlaskExchange, Seal, SealedViews, current_request

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from flask import Flask, Request, Response

    from afmiddleware.model.http import Target


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

        Raises `ConfigError` with every problem of the policy, `RuntimeError` for an application fenced already.
        """
        if "afmiddleware" in app.extensions:
            msg = "the application has a fence already"
            raise RuntimeError(msg)
        fenced = FencedApp(app, self.fence, mount)
        fenced.wrap()
        app.extensions["afmiddleware"] = fenced


class FencedApp:
    """One Flask application behind a fence."""

    def __init__(self, app: Flask, fence: Fence, mount: str = "") -> None:
        self.app = app
        self.fence = fence
        self.resolver = Resolver(app, mount)
        self.inner: Any = app.wsgi_app
        self._started = False
        self._starting = threading.Lock()
        self._layered = False
        app.view_functions = SealedViews(app)
        app.before_request_funcs.setdefault(None, []).insert(0, self.judge)

    def wrap(self) -> None:
        """Stand around the application's `wsgi_app`."""
        self.app.wsgi_app = self  # type: ignore[method-assign]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        fence = self.fence
        if not self._started:
            try:
                self._start()
            except ConfigError as error:
                exchange = FlaskExchange(fence, environ, start_response, layered=False)
                return exchange.refuse(unusable(fence, exchange.facts, error))
        exchange = FlaskExchange(fence, environ, start_response, layered=self._layered)
        environ[KEY] = exchange
        return exchange.run(self.inner)

    def judge(self) -> Response | None:
        """Decide the request that Flask has matched: the first of its `before_request` functions."""
        asked = current_request()
        exchange = asked.environ.get(KEY)
        if not isinstance(exchange, FlaskExchange) or exchange.decided or exchange.fence is not self.fence:
            error = SealBrokenError("the request did not come in through the fence")
            return self._response(unsealed(self.fence, facts_of(asked.environ), error), asked)
        exchange.environ = asked.environ
        exchange.decided = True
        target: Target | None = None

        def resolve() -> Target | None:
            nonlocal target
            target = self.resolver.resolve(asked)
            return target

        try:
            passage = exchange.decide(resolve)
        except ClientGoneError:
            return self.app.response_class(status=400, headers={"Connection": "close"})
        if isinstance(passage, Refused):
            return self._response(passage, asked)
        if exchange.body is not None and exchange.body.judged is not None:
            # A stream made before now would go on reading the server's.
            vars(asked).pop("stream", None)
        if not self.fence.plan.observe:
            exchange.seal = Seal(asked, target, exchange.body.judged if exchange.body is not None else None)
        return None

    def _response(self, passage: Refused, asked: Request) -> Response:
        crossing = "HTTP_ORIGIN" in asked.environ
        status, headers, content = refusal(passage, self.fence.clock(), self.fence.vary, cross_origin=crossing)
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        return self.app.response_class(content, status, fields)

    def _start(self) -> None:
        """Audit the application, once. Raises `ConfigError`."""
        with self._starting:
            if self._started:
                return
            config = self.fence.config
            problems = findings(self.app, self.fence.plan.bindings, config.inner_middleware, hook=self.judge)
            if problems:
                raise ConfigError([f"{config.source}: {problem}" for problem in problems])
            self._layered = bool(layers(self.inner))
            self._started = True
