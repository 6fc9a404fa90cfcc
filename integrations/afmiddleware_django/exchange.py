"""One request on its way through Django: what was judged, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from django.http import HttpResponse

from afmiddleware.current import Action, enter, leave
from afmiddleware.errors import SealBrokenError
from afmiddleware.flow import admit
from afmiddleware.identity.app_user import AppUser, signed_in
from afmiddleware.mapping.screen import screen
from afmiddleware.model.http import HttpFacts
from afmiddleware.model.outcome import End, Outcome
from afmiddleware.pep.passage import cross_origin, refused_by, unsealed
from afmiddleware.pep.respond import admitted
from afmiddleware.pep.settle import Settling, settling_of
from afmiddleware.plan import Admission, Refused
from afmiddleware_django.body import HeldBody, forget
from afmiddleware_django.resolver import target_of
from afmiddleware_django.streams import follow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from afmiddleware.effects import Flow
    from afmiddleware.fence import Fence
    from afmiddleware.model.http import Target
    from afmiddleware.model.outcome import Outcome
    from afmiddleware.plan import Pass
    from afmiddleware_django.resolver import Resolver

KEY: Final = "_afmiddleware_exchange"
"""The attribute of a request under which its exchange stands."""
_SUCCESS: Final = range(200, 300)
_FAILURE: Final = 500
_NOT_ALLOWED: Final = 405
_LISTS: Final = ("access-control-expose-headers", "link")
"""Headers of ours that the project may have set too: both hold."""


class Judged:
    """What was judged, to be compared with what is about to run, or has run."""

    __slots__ = ("args", "body", "kwargs", "method", "query", "target")

    def __init__(self, request: HttpRequest, target: Target | None, body: bytes | None) -> None:
        match = request.resolver_match
        self.target = target
        self.method = request.method
        self.args: tuple[object, ...] = tuple(match.args) if match is not None else ()
        self.kwargs: Mapping[str, object] = dict(match.kwargs) if match is not None else {}
        self.query = request.META.get("QUERY_STRING", "")
        self.body = body

    def difference(self, request: HttpRequest) -> str:
        """What of the request was changed after it was judged; empty when nothing was."""
        match = request.resolver_match
        if request.method != self.method:
            return "the method was changed after the request was judged"
        if match is None or tuple(match.args) != self.args or match.kwargs != self.kwargs:
            return "the view's arguments are not those that were judged"
        if request.META.get("QUERY_STRING", "") != self.query:
            return "the query was changed after the request was judged"
        if self.body is not None and vars(request).get("_body") is not self.body:
            return "the request body was changed after the request was judged"
        return ""


class Exchange:
    """One request, from the moment it comes in until its answer has left. The end is recorded exactly once."""

    __slots__ = (
        "_admission",
        "_answers_itself",
        "_broken",
        "_done",
        "_entered",
        "_outer",
        "_refused",
        "_screened",
        "action",
        "decided",
        "facts",
        "failed",
        "fence",
        "held",
        "judged",
        "plan",
        "reached",
        "request",
        "settling",
        "user",
    )

    def __init__(self, fence: Fence, request: HttpRequest, facts: HttpFacts, held: HeldBody | None) -> None:
        self.fence = fence
        # One policy for the whole request, whatever is loaded meanwhile.
        self.plan = fence.plan
        self.request = request
        self.facts = facts
        self.held = held
        self.decided = False
        self.failed = False
        self.judged: Judged | None = None
        self.user: Any = None
        self.reached: bool | None = None
        """Whether the view is entered, `None` while nobody stands where that can be seen."""
        self._answers_itself = False
        self._refused: HttpResponse | None = None
        self._broken: SealBrokenError | None = None
        self._admission: Admission | None = None
        self.action: Action | None = None
        self.settling: Settling | None = None
        self._outer: Action | None = None
        self._entered = False
        self._done = False
        self._screened = False

    def ambiguous(self) -> Flow[Pass | Refused | Admission] | None:
        """The refusal of a request that can be read in more than one way; `None` for a clear one."""
        if screen(self.facts) is None:
            return None
        # In observe mode it passes, and is not judged again.
        self.decided = self.plan.observe
        return self._admit(_nothing, screened=False)

    def judge(self, resolver: Resolver, view: Callable[..., Any], kwargs: Mapping[str, object]) -> Flow[Any]:
        """Decide on the view that Django matched. Raises `SealBrokenError` when it is not the one that is judged."""
        request = self.request
        match = request.resolver_match
        if self.decided:
            msg = "one request was dispatched twice"
            raise SealBrokenError(msg, entered=True)
        if match is None or match.func is not view or match.kwargs != kwargs:
            msg = "a middleware has exchanged the view that Django matched"
            raise SealBrokenError(msg)
        place = resolver.place(request, match)
        if place.view is not view or place.route != match.route:
            msg = "another view than the one that is judged would run"
            raise SealBrokenError(msg)
        target = target_of(place, request, match)
        self.decided = True
        self._answers_itself = target is None
        self._screened = request.method == self.facts.method
        if not self._screened:
            self.facts = _with_method(self.facts, request.method or "")
        self.judged = Judged(request, target, None)
        return self._admit(lambda: target, screened=self._screened)

    def again(self) -> Flow[Any]:
        """Decide once more what was judged, from the start, by the policy that is in force now."""
        self.plan = self.fence.plan
        target = self.judged.target if self.judged is not None else None
        return self._admit(lambda: target, screened=self._screened)

    def conclude(self, passage: Pass | Refused | Admission) -> HttpResponse | None:
        """A refusal's answer, `None` for what passes: that has its body back, and is the current action."""
        if isinstance(passage, Refused):
            self._refused = self.answer_of(passage)
            return self._refused
        body = self.held.give(self.request) if self.held is not None else None
        if self.judged is not None:
            self.judged.body = body
        if isinstance(passage, Admission):
            forget(self.request, "GET")
            self._admission = passage
            self.action = Action(passage)
            self.settling = settling_of(self.action)
            self._outer = enter(self.action)
            self._entered = True
        return None

    def broken(self, error: SealBrokenError) -> HttpResponse:
        """The answer where something else than what was judged would run, or has run."""
        self._broken = error
        self._refused = self.answer_of(unsealed(self.fence, self.facts, error))
        return self._refused

    def answer_of(self, refused: Refused) -> HttpResponse:
        """A refusal as Django's own response, so that the project's CORS layer dresses it."""
        status, headers, content = refused_by(self.fence, self.facts, refused)
        return HttpResponse(b"" if self.request.method == "HEAD" else content, status=status, headers=texts(headers))

    def answer(self, response: HttpResponseBase, *, watched: bool) -> HttpResponseBase:
        """The way back: the headers of an admitted action, and its end. `watched` when unknown layers are inside."""
        error = self._broken or self._difference(response, watched=watched)
        if error is not None:
            self.finish(End.ERROR if error.entered else End.NOT_REACHED, response.status_code)
            return self._refused if error is self._broken and self._refused is not None else self.broken(error)
        action, settling = self.action, self.settling
        if action is None:
            return response
        if settling is not None:
            settling.start(response.status_code, [(name.encode(), value.encode()) for name, value in response.items()])
        crossing = cross_origin(self.facts)
        status, now = response.status_code, self.fence.clock()
        own = admitted(action, status, self._known_end(status), now, cross_origin=crossing, prefix=self.fence.prefix)
        for name, value in texts(own).items():
            stands = response.headers.get(name) if name in _LISTS else None
            response.headers[name] = f"{stands}, {value}" if stands else value
        if response.streaming:
            follow(response, self)
        elif settling is not None:
            settling.feed(cast("HttpResponse", response).content)
        return response

    def complete(self, response: HttpResponseBase) -> None:
        """The end of an answer that was whole when the view returned it."""
        if not response.streaming:
            (self.finish_now if self.waits else self.finish)(End.OK, response.status_code)

    async def acomplete(self, response: HttpResponseBase) -> None:
        """`complete` without blocking the event loop."""
        if not response.streaming:
            await self.afinish(End.OK, response.status_code)

    @property
    def waits(self) -> bool:
        """Whether the end of the answer waits until the outcome is recorded."""
        return self.settling is not None and self.settling.waits

    def finish(self, end: End, status: int = 0) -> None:
        """Record how an admitted action ended, without waiting. The first word counts."""
        for admission, outcome in self._outcomes(end, status):
            self.fence.conclude(admission, outcome)

    def finish_now(self, end: End, status: int = 0) -> None:
        """`finish`, and wait until it is recorded."""
        for admission, outcome in self._outcomes(end, status):
            self.fence.conclude_now(admission, outcome)

    async def afinish(self, end: End, status: int = 0) -> None:
        """`finish`, and wait where somebody waits for it, without blocking the event loop."""
        for admission, outcome in self._outcomes(end, status):
            if self.waits:
                await self.fence.aconclude(admission, outcome)
            else:
                self.fence.conclude(admission, outcome)

    def _outcomes(self, end: End, status: int) -> list[tuple[Admission, Outcome]]:
        admission, action = self._admission, self.action
        if self._done or admission is None or action is None:
            return []
        self._done = True
        known = self._known_end(status)
        if known is End.NOT_REACHED or end is End.OK:
            end = known
        if self.settling is None:
            return [(admission, action.outcome(status, end))]
        return self.settling.outcomes(end)

    def _known_end(self, status: int) -> End:
        """How the handler ended, as far as its answer tells."""
        if self.reached is False and status not in _SUCCESS:
            return End.NOT_REACHED
        return End.ERROR if self.failed and status >= _FAILURE else End.OK

    def leave(self) -> None:
        """The action is no longer the current one."""
        if self._entered:
            self._entered = False
            leave(self._outer)

    def _difference(self, response: HttpResponseBase, *, watched: bool) -> SealBrokenError | None:
        """Why an answer does not come from what was judged."""
        if self.plan.observe or self._refused is not None:
            return None
        status, method = response.status_code, self.request.method
        if self._answers_itself and status != _NOT_ALLOWED and method != "OPTIONS":
            return SealBrokenError("a view has answered a method that it does not serve", entered=True)
        if not watched:
            return None
        if not self.decided:
            if status in _SUCCESS and method != "OPTIONS":
                msg = "a middleware inside the fence answered although Django's router was not reached"
                return SealBrokenError(msg, entered=True)
            return None
        difference = self.judged.difference(self.request) if self.judged is not None and self.reached is None else ""
        return SealBrokenError(difference, entered=True) if difference else None

    def _known(self) -> AppUser | None:
        """Whom Django's authentication has signed in; in async code its user was looked up before."""
        return signed_in(getattr(self.request, "user", None) if self.user is None else self.user)

    def _admit(self, resolve: Callable[[], Target | None], *, screened: bool) -> Flow[Pass | Refused | Admission]:
        fence = self.fence
        now = fence.clock()
        return admit(self.plan, self.facts, resolve, now, fence.new_id, self._known, screened=screened)


def _nothing() -> None:
    return None


def _with_method(facts: HttpFacts, method: str) -> HttpFacts:
    return HttpFacts(
        method=method,
        path=facts.path,
        raw_path=facts.raw_path,
        query=facts.query,
        headers=facts.headers,
        scheme=facts.scheme,
        peer=facts.peer,
    )


def texts(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers as Django keeps them: one line a name."""
    found: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found
