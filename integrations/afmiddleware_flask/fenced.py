"""One Flask application behind a fence: the wrapper around `wsgi_app`, and the hook that decides before the view."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from flask import current_app, got_request_exception

from afmiddleware.errors import ClientGoneError, ConfigError, SealBrokenError
from afmiddleware.identity.app_user import AppUser, signed_in
from afmiddleware.pep.environ import facts_of
from afmiddleware.pep.passage import unsealed, unusable
from afmiddleware.pep.respond import refusal
from afmiddleware.pep.wsgi import texts
from afmiddleware.plan import Refused
from afmiddleware_flask.mounts import EXTENSION, WholeMount, chain_of
from afmiddleware_flask.resolver import Resolver
from afmiddleware_flask.seal import KEY, FlaskExchange, Seal, SealedViews, current_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from flask import Flask, Request, Response

    from afmiddleware.fence import Fence
    from afmiddleware.model.http import Target


class FencedApp:
    """Stands as `app.wsgi_app`, and as the first `before_request` function. `start` audits, once, before anything."""

    def __init__(self, app: Flask, fence: Fence, mount: str, start: Callable[[WSGIEnvironment], None]) -> None:
        self.app = app
        self.fence = fence
        self.resolver = Resolver(app, mount)
        self.inner: Any = app.wsgi_app
        self.started = False
        self.wrapped = False
        self._start = start
        self._layered = False
        app.view_functions = SealedViews(app)
        app.before_request_funcs.setdefault(None, []).insert(0, self.judge)
        app.extensions[EXTENSION] = self
        # Flask answers 500 for what a view raised; only this tells that from a view's own answer.
        got_request_exception.connect(_failed, app)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        fence = self.fence
        if not self.started:
            try:
                self._start(environ)
            except ConfigError as error:
                exchange = FlaskExchange(fence, environ, start_response)
                return exchange.refuse(unusable(fence, exchange.facts, error))
        outer = environ.get(KEY)
        if isinstance(outer, FlaskExchange) and outer.fence is fence and not outer.decided:
            # A dispatcher behind another application's wrapper has brought the request here.
            answer: Iterable[bytes] = self.inner(environ, start_response)
            return answer
        exchange = FlaskExchange(fence, environ, start_response)
        exchange.layered = self._layered and not exchange.plan.observe
        if (served := exchange.served()) is not None:
            return served
        if exchange.layered:
            # Nobody but Flask may see an ambiguous request before its hook refuses it.
            passage = exchange.decide(lambda: None)
            if isinstance(passage, Refused):
                return exchange.refuse(passage)
        return exchange.run(self.inner)

    def wrap(self) -> None:
        """Stand around the application. One that is mounted behind the fence of another needs no wrapper of its own."""
        self.app.wsgi_app = self  # type: ignore[method-assign]
        self.wrapped = True

    def unfold(self) -> list[tuple[Flask, str]]:
        """Have mounted applications that are not Flask judged as a whole; returns the Flask ones without a fence."""
        chain = chain_of(self.inner, self.resolver.mount)
        for whole in chain.wholes:
            mounts = whole.dispatcher.mounts
            if not isinstance(mounts[whole.prefix], WholeMount):
                mounts[whole.prefix] = WholeMount(mounts[whole.prefix], whole.mount)
        self._layered = bool(chain.layers)
        return [(one.app, one.mount) for one in chain.flasks if EXTENSION not in one.app.extensions]

    def judge(self) -> Response | None:
        """Decide the request that Flask has matched."""
        asked = current_request()
        exchange = asked.environ.get(KEY)
        if not isinstance(exchange, FlaskExchange) or exchange.decided or exchange.fence is not self.fence:
            return self._unsealed(asked, "the request did not come in through the fence, or for the second time")
        if type(self.app.view_functions) is not SealedViews and not exchange.plan.observe:
            return self._unsealed(asked, "the table of views was replaced, so that nobody sees which of them runs")
        exchange.look_anew(asked.environ)
        exchange.decided = True
        own = exchange.own(known)
        if own is not None:
            status, headers, content = own
            return self.app.response_class(content, status, texts(headers))
        target: Target | None = None

        def resolve() -> Target | None:
            nonlocal target
            target = self.resolver.resolve(asked)
            return target

        try:
            passage = exchange.decide(resolve, known)
        except ClientGoneError:
            return self.app.response_class(status=400)
        if isinstance(passage, Refused):
            return self._refuse(passage, asked)
        judged = exchange.body.judged if exchange.body is not None else None
        if judged is not None:
            # A stream made before now would go on reading the server's.
            vars(asked).pop("stream", None)
        if not exchange.plan.observe:
            exchange.seal = Seal(asked, target, judged)
        return None

    def _unsealed(self, asked: Request, what: str) -> Response | None:
        """The answer where nothing can be judged. In `observe` it is said, and the request passes."""
        passage = unsealed(self.fence, facts_of(asked.environ), SealBrokenError(what))
        return None if self.fence.plan.observe else self._refuse(passage, asked)

    def _refuse(self, passage: Refused, asked: Request) -> Response:
        """A refusal as Flask's own response, so that the application's CORS layer dresses it."""
        crossing = "HTTP_ORIGIN" in asked.environ
        status, headers, content = refusal(passage, self.fence.clock(), self.fence.vary, cross_origin=crossing)
        return self.app.response_class(content, status, texts(headers))


def known() -> AppUser | None:
    """Whom Flask-Login has signed in, where the application uses it."""
    login = sys.modules.get("flask_login")
    return signed_in(login.current_user) if login is not None and hasattr(current_app, "login_manager") else None


def _failed(_app: Flask, **_told: Any) -> None:
    exchange = current_request().environ.get(KEY)
    if isinstance(exchange, FlaskExchange):
        exchange.failed = True
