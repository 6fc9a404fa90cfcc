"""The seal: the view that Flask dispatches to must be the one that was judged, with the values that were judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never

from flask import request

from afmiddleware.errors import SealBrokenError
from afmiddleware.model.outcome import End
from afmiddleware.pep.wsgi import Exchange

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Flask, Request
    from werkzeug.routing import Rule

    from afmiddleware.fence import Fence
    from afmiddleware.model.http import Target

KEY = "afmiddleware.exchange"
"""Where the exchange stands in a WSGI environment. No client can set it: headers come in as `HTTP_...`."""


class Seal:
    """What was judged, and whether the view was reached (`fired`)."""

    __slots__ = ("_body", "_method", "_params", "_query", "_rule", "_target", "fired")

    def __init__(self, request: Request, target: Target | None, body: io.BytesIO | None) -> None:
        self._target = target
        self._rule: Rule | None = request.url_rule
        self._method = request.method
        self._query = request.query_string
        self._params: Mapping[str, object] = dict(target.params) if target is not None else {}
        self._body = body
        self.fired = False

    def check(self, request: Request, endpoint: str, view: object) -> None:
        """Raise `SealBrokenError` unless looking up `view` is harmless or leads to what was judged."""
        rule, target = self._rule, self._target
        if request.url_rule is not rule:
            _broken("another URL rule than the one that was judged is dispatched")
        if request.method != self._method:
            _broken("the method was changed after the request was judged")
        if rule is None or endpoint != rule.endpoint:
            # Flask looks up the view of the matched rule and no other: this is somebody reading the table.
            return
        if target is None:
            if self._method == "OPTIONS" and getattr(rule, "provide_automatic_options", False):
                return
            _broken("a view is dispatched where none was judged")
        if view is not target.endpoint:
            _broken("another view than the one that was judged stands under its endpoint")
        if request.view_args != self._params:
            _broken("the view's arguments are not those that were judged")
        if request.query_string != self._query:
            _broken("the query was changed after the request was judged")
        if self._body is not None:
            _compare_body(request, self._body)
        self.fired = True


class FlaskExchange(Exchange):
    """A request on its way through a Flask application."""

    __slots__ = ("broken", "decided", "failed", "layered", "seal")

    def __init__(
        self,
        fence: Fence,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        *,
        layered: bool = False,
    ) -> None:
        super().__init__(fence, environ, start_response)
        self.decided = False
        self.failed = False
        self.layered = layered
        self.seal: Seal | None = None
        self.broken: SealBrokenError | None = None

    def run(self, app: WSGIApplication) -> Iterable[bytes]:
        """Let the application answer."""
        environ = self.environ
        environ[KEY] = self
        try:
            return super().run(app)
        finally:
            # The two would keep each other, and all of the request, until a garbage collection.
            environ.pop(KEY, None)
            self.environ.pop(KEY, None)

    def check(self, status: int) -> None:
        """Refuse an answer that hides a broken seal, or that a layer gave which the hook has not seen."""
        del status
        if self.broken is not None:
            raise self.broken
        if self.layered and not self.decided:
            msg = "a layer inside the fence answered although Flask was not reached"
            raise SealBrokenError(msg, entered=True)

    def finish(self, end: End) -> None:
        """Record how the action ended; a view that raised has not ended well, whatever was answered for it."""
        super().finish(End.ERROR if self.failed and end is End.OK else end)

    def dispatch(self, asked: Request, endpoint: str, view: object) -> None:
        """Let `view` be looked up. Raises `SealBrokenError` when it would run without being what was judged."""
        try:
            if self.seal is not None:
                self.seal.check(asked, endpoint, view)
            elif not self.decided:
                _broken("a view is dispatched before the request was judged")
        except SealBrokenError as error:
            # An error handler of the application may answer for the exception: it is kept.
            self.broken = error
            raise

    def reached(self) -> bool:
        """Whether the view was entered, or somebody before it answered as if it had been."""
        seal = self.seal
        return seal is None or seal.fired or 0 < self.status < 300  # noqa: PLR2004 (the successful statuses)


class SealedViews(dict[str, Any]):
    """An application's view functions. Flask takes one out at the moment it dispatches, and here that is checked."""

    def __init__(self, app: Flask) -> None:
        super().__init__(app.view_functions)

    def __getitem__(self, endpoint: str) -> Any:
        view = super().__getitem__(endpoint)
        try:
            asked = current_request()
        except RuntimeError:
            # Nothing is being served: somebody reads the table.
            return view
        exchange = asked.environ.get(KEY)
        if isinstance(exchange, FlaskExchange):
            exchange.dispatch(asked, endpoint, view)
        return view

    def get(self, endpoint: str, default: Any = None) -> Any:
        """The same for a dispatch that is not Flask's own."""
        try:
            return self[endpoint]
        except KeyError:
            return default


def current_request() -> Request:
    """The request that is being served, itself and no proxy of it. Raises `RuntimeError` when none is."""
    found: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 (documented)
    return found


def _compare_body(request: Request, judged: io.BytesIO) -> None:
    if request.environ.get("wsgi.input") is not judged:
        _broken("the request body was exchanged after the request was judged")
    held = vars(request)
    cached = held.get("_cached_data")
    if cached is not None:
        if cached != judged.getvalue():
            _broken("the request body was changed after the request was judged")
    elif judged.tell() and "form" not in held:
        _broken("a layer inside the fence has read the request body and left nothing of it to the view")


def _broken(what: str) -> Never:
    msg = (
        f"{what}; the view was not run. Look for a function between the fence's hook and the view, or a layer around "
        "wsgi_app, that rewrites requests"
    )
    raise SealBrokenError(msg)
