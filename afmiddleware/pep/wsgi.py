"""The fence as WSGI middleware (PEP 3333). What a framework's adapter adds is its router (`Router`).

A response streams through untouched but for its headers; the request body is held back only when the decision read it,
and the application then receives exactly those bytes, as `wsgi.input` with `CONTENT_LENGTH`.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol

from afmiddleware.current import Action, enter, leave
from afmiddleware.drivers import run
from afmiddleware.errors import ClientGoneError, ConfigError, SealBrokenError, StalePolicyError
from afmiddleware.fence import Fence
from afmiddleware.flow import admit
from afmiddleware.model.outcome import End
from afmiddleware.pep.endpoints import caller, serve, wanted
from afmiddleware.pep.environ import Body, check_processes, facts_of
from afmiddleware.pep.passage import outdated, refused_by, unsealed, unusable
from afmiddleware.pep.respond import admitted
from afmiddleware.pep.settle import Settling, settling_of
from afmiddleware.pep.wsgi_table import TableRouter
from afmiddleware.performing import Begun, FenceIo
from afmiddleware.plan import Admission, Refused

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from afmiddleware.identity.app_user import AppUser
    from afmiddleware.model.http import HttpFacts, Target
    from afmiddleware.pep.endpoints import Answer
    from afmiddleware.plan import Pass, Plan

_NO_BODY: Final = frozenset({204, 304})
"""Statuses whose answer has no body, so that nobody need ask for one."""


class Routing(Protocol):
    """One request on its way through a router."""

    def resolve(self) -> Target | None:
        """The endpoint that will run, or `None` when the application answers by itself. Raises `MappingError`."""
        ...


class Router(Protocol):
    """What the fence asks of a router."""

    def begin(self, environ: WSGIEnvironment, plan: Plan, /) -> Routing:
        """Look at one request, which `plan` decides; nothing is resolved yet."""
        ...


class FenceMiddleware:
    """Decide every request before it reaches `app`, any WSGI application: `FenceMiddleware(app, policy="fence.yaml")`.

    Raises `ConfigError` with every problem of the policy. Here the routes are those of the policy's own table
    (`pep.table`), with its weaker promise; a framework's package asks the framework's router instead. A `fence` that
    exists already may be given in place of `policy`.
    """

    def __init__(
        self,
        app: WSGIApplication,
        policy: str | os.PathLike[str] | None = None,
        *,
        fence: Fence | None = None,
    ) -> None:
        self.app = app
        self.fence = fence if fence is not None else Fence.from_file(policy)
        self._router: Router | None = None
        self._starting = threading.Lock()

    def make_router(self, environ: WSGIEnvironment) -> Router:
        """Find the application's router and audit it. Raises `ConfigError` when the application cannot be fenced."""
        del environ
        return TableRouter(self.fence)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = Exchange(self.fence, environ, start_response)
        if (answer := exchange.served()) is not None:
            return answer
        try:
            router = self._router or self._start(environ)
            exchange.plan = self.fence.plan
        except ConfigError as error:
            return exchange.refuse(unusable(self.fence, exchange.facts, error))
        try:
            passage = exchange.decide(lambda: router.begin(environ, exchange.plan).resolve())
        except ClientGoneError as error:
            return exchange.cut_off(error)
        return exchange.refuse(passage) if isinstance(passage, Refused) else exchange.run(self.app)

    def _start(self, environ: WSGIEnvironment) -> Router:
        with self._starting:
            if self._router is None:
                check_processes(self.fence, environ)
                self._router = self.make_router(environ)
            return self._router


class Exchange:
    """One request and the way back of its answer: headers are added, the end is recorded exactly once.

    `decide` may be called while `run` has the application at work (that is how Flask's hook does it), or before.
    """

    __slots__ = (
        "_done",
        "_entered",
        "_outer",
        "_start",
        "action",
        "admission",
        "body",
        "environ",
        "fence",
        "plan",
        "settling",
        "status",
    )

    def __init__(self, fence: Fence, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self.fence = fence
        # One policy for the whole request, whatever is loaded meanwhile.
        self.plan = fence.plan
        self.environ = environ
        self.body: Body | None = None
        self.admission: Admission | None = None
        self.action: Action | None = None
        self.settling: Settling | None = None
        self.status = 0
        self._start = start_response
        self._outer: Action | None = None
        self._entered = False
        self._done = False

    @property
    def facts(self) -> HttpFacts:
        """The head of the request."""
        return (self.body or self._look()).facts

    def decide(
        self,
        resolve: Callable[[], Target | None],
        known: Callable[[], AppUser | None] | None = None,
    ) -> Pass | Refused | Admission:
        """Judge the request; an admitted one is the current action until `run` has returned.

        `known` asks whom the application has signed in. When the ledger knows of another policy it is judged again from
        the start, by `plan` as it is then.
        Raises `ClientGoneError` when the body was cut off: then nothing was decided and nothing is charged.
        """
        fence = self.fence
        body = self.body or self._look()
        io = _Io(fence, body)
        passage: Pass | Refused | Admission | None = None
        while passage is None:
            try:
                passage = run(admit(self.plan, body.facts, resolve, fence.clock(), fence.new_id, known), io)
            except StalePolicyError as error:
                if not fence.renew(error):
                    return outdated(fence, body.facts)
                self.plan = fence.plan
                io.again()
        if isinstance(passage, Admission):
            self.admission = passage
            self.action = Action(passage)
            self.settling = settling_of(self.action)
            self._outer = enter(self.action)
            self._entered = True
        return passage

    def look_anew(self, environ: WSGIEnvironment) -> None:
        """Judge what has become of the request on its way here."""
        self.environ = environ
        self.body = None

    def run(self, app: WSGIApplication) -> Iterable[bytes]:
        """Let the application answer."""
        try:
            answer = app(self.environ, self.start_response)
        except SealBrokenError as error:
            self.finish(End.ERROR if error.entered else End.NOT_REACHED)
            if self.status:
                raise
            return self.refuse(unsealed(self.fence, self.facts, error))
        except BaseException:
            self.finish(End.ERROR)
            raise
        finally:
            self._leave()
        return answer if self.admission is None else _Answer(self, answer)

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
        """Begin the answer, with the headers of an admitted action."""
        code = int(status[:3])
        self.check(code)
        self.status = code
        if self.settling is not None:
            self.settling.start(
                self.status, [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
            )
        if self.action is not None:
            crossing, fence = "HTTP_ORIGIN" in self.environ, self.fence
            end = End.OK if self.reached() else End.NOT_REACHED
            own = admitted(self.action, code, end, fence.clock(), cross_origin=crossing, prefix=fence.prefix)
            headers = [*headers, *texts(own)]
        return self._start(status, headers) if exc_info is None else self._start(status, headers, exc_info)

    def check(self, status: int) -> None:
        """Raise `SealBrokenError` for an answer that does not come from what was judged."""

    def reached(self) -> bool:
        """Whether the handler was entered, as far as this point can tell."""
        return True

    def finish(self, end: End) -> None:
        """Record how an admitted action ended. The first word counts."""
        if self._done or self.admission is None or self.action is None:
            return
        self._done = True
        if not self.reached():
            end = End.NOT_REACHED
        if self.settling is None:
            self.fence.conclude(self.admission, self.action.outcome(self.status, end))
            return
        # Who waits for the end of the answer then knows that it is recorded.
        conclude = self.fence.conclude_now if self.settling.waits and end is End.OK else self.fence.conclude
        for admission, outcome in self.settling.outcomes(end):
            conclude(admission, outcome)

    def refuse(self, passage: Refused) -> Iterable[bytes]:
        """Answer a refusal."""
        status, headers, content = refused_by(self.fence, self.facts, passage)
        self._start(status_line(status), texts(headers))
        return [] if self.environ["REQUEST_METHOD"] == "HEAD" else [content]

    def served(self) -> Iterable[bytes] | None:
        """Answer a request for one of the fence's own paths, `None` for any other."""
        own = self.own()
        if own is None:
            return None
        status, headers, content = own
        self._start(status_line(status), texts(headers))
        return [content]

    def own(self, known: Callable[[], AppUser | None] | None = None) -> Answer | None:
        """The answer of one of the fence's own endpoints, `None` for any other request."""
        fence, facts = self.fence, self.facts
        if not wanted(fence, facts.path):
            return None
        found = run(caller(fence, facts, known), _Io(fence, self.body or self._look()))
        return serve(fence, facts, found)

    def cut_off(self, _error: ClientGoneError) -> Iterable[bytes]:
        """Answer whoever is no longer there: WSGI has no other way to end a request."""
        self._start(status_line(400), [("Content-Length", "0")])
        return []

    def _look(self) -> Body:
        body = self.body = Body(self.environ, facts_of(self.environ))
        return body

    def _leave(self) -> None:
        if self._entered:
            self._entered = False
            leave(self._outer)


class _Io(FenceIo):
    """What the spine can have done while it decides a request."""

    __slots__ = ("_begun", "_body")

    def __init__(self, fence: Fence, body: Body) -> None:
        super().__init__(fence)
        self._begun = Begun(fence)
        self._body = body

    def again(self) -> None:
        super().again()
        self._begun = Begun(self._fence)

    def read_body(self, cap: int) -> bytes:
        body = self._body.read(cap)
        self._begun.check()
        return body


class _Answer:
    """The body of an admitted answer. The server asks for its pieces, and its `close` is the end of the action."""

    __slots__ = ("_ahead", "_answer", "_exchange", "_next", "_settling", "_whole")

    def __init__(self, exchange: Exchange, answer: Iterable[bytes]) -> None:
        self._exchange = exchange
        self._answer = answer
        self._next = iter(answer).__next__
        self._settling = exchange.settling
        self._ahead: list[bytes] = []
        self._whole = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        exchange = self._exchange
        # Pieces may be made while they are asked for, and the server's thread may serve others in between.
        outer = enter(exchange.action) if exchange.action is not None else None
        try:
            return self._next() if self._settling is None else self._watched(self._settling)
        except StopIteration:
            self._whole = True
            raise
        except BaseException:
            exchange.finish(End.ERROR)
            raise
        finally:
            leave(outer)

    def _watched(self, settling: Settling) -> bytes:
        """The next piece. Where the end waits for the outcome, the last piece is held back until that is recorded."""
        if not settling.waits:
            piece = self._next()
            settling.feed(piece)
            return piece
        while not self._whole:
            try:
                piece = self._next()
            except StopIteration:
                self._whole = True
                self._exchange.finish(End.OK)
                break
            settling.feed(piece)
            self._ahead.append(piece)
            if len(self._ahead) > 1:
                return self._ahead.pop(0)
        if self._ahead:
            return self._ahead.pop(0)
        raise StopIteration

    def close(self) -> None:
        exchange = self._exchange
        try:
            close = getattr(self._answer, "close", None)
            if close is not None:
                close()
        finally:
            whole = self._whole or exchange.status in _NO_BODY or exchange.environ.get("REQUEST_METHOD") == "HEAD"
            exchange.finish(End.OK if whole and exchange.status else End.CLIENT_GONE)


def status_line(status: int) -> str:
    """`403 Forbidden`, as WSGI wants it."""
    return f"{status} {HTTPStatus(status).phrase}"


def texts(headers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Headers as WSGI wants them."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
