"""How the actions of an admitted request end, by its answer: status, amount really spent, members of JSON-RPC answers.

The answer streams past untouched; of what says something (JSON, and server-sent events for calls) a bounded copy is
read. It belongs to no framework: an adapter tells `start`, `feed` and the end.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from afmiddleware.errors import MappingError
from afmiddleware.mapping.body import parse_json
from afmiddleware.model.outcome import Answer, End, Outcome
from afmiddleware.pep.events import EventStream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from afmiddleware.current import Action
    from afmiddleware.plan import Admission

ANSWER_CAP: Final = 1 << 20
"""The most of an answer, or of one server-sent event, that is read, in bytes. What is larger says nothing."""

KEPT_CAP: Final = 64 << 10
"""The largest answer that is kept for who asks again with the same Idempotency-Key, in bytes."""

_NOT_KEPT: Final = frozenset(
    {b"connection", b"content-length", b"date", b"keep-alive", b"set-cookie", b"transfer-encoding"},
)
_SERVER_ERROR: Final = 500
_CLIENT_ERROR: Final = 400
_log = logging.getLogger("afmiddleware")


def settling_of(action: Action) -> Settling | None:
    """What watches the answer of an admitted request, `None` where its status alone says how the one action ended."""
    admission = action.admission
    names = admission.reference is not None or admission.refunds is not None
    reads = admission.rpc or admission.settle is not None or bool(admission.others) or admission.claimed or names
    return Settling(action) if reads else None


class Settling:
    """The answer of one request, as it goes by. `waits` is whether its end waits until the outcome is recorded."""

    __slots__ = ("_action", "_events", "_headers", "_kept", "_members", "_parts", "_size", "status", "waits")

    def __init__(self, action: Action) -> None:
        self._action = action
        self._parts: list[bytes] | None = None
        self._size = 0
        self._events: EventStream | None = None
        self._members: dict[str, Any] = {}
        self.status = 0
        self._kept: bytearray | None = bytearray() if action.admission.claimed else None
        self._headers: list[tuple[bytes, bytes]] = []
        first = action.admission
        names = first.reference is not None or first.refunds is not None
        self.waits = first.claimed or names or any(call.admission.settle is not None for call in action.calls)

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The answer begins; header names are compared without regard to case."""
        self.status = status
        given = [(name.lower(), value) for name, value in headers]
        self._headers = [(name, value) for name, value in given if name not in _NOT_KEPT]
        fields = dict(given)
        if b"content-encoding" in fields:
            return
        media = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media == b"application/json" or (media.startswith(b"application/") and media.endswith(b"+json")):
            self._parts = []
        elif media == b"text/event-stream" and self._action.admission.rpc:
            self._events = EventStream(ANSWER_CAP)

    def feed(self, data: bytes) -> None:
        """A piece of the answer's body has come by."""
        if self._kept is not None:
            self._kept += data
            if len(self._kept) > KEPT_CAP:
                self._kept = None
        if self._events is not None:
            for event in self._events.feed(data):
                self._note(event)
        elif self._parts is not None and data:
            self._size += len(data)
            if self._size > ANSWER_CAP:
                self._parts = None
            else:
                self._parts.append(data)

    def lose(self) -> None:
        """The body goes by where it cannot be read."""
        self._parts = self._kept = None

    def outcomes(self, end: End) -> list[tuple[Admission, Outcome]]:
        """How each action ended, given how the answer did."""
        body = b"".join(self._parts) if self._parts is not None and end is End.OK else b""
        calls = self._action.calls
        if self._action.admission.rpc:
            for event in self._events.end() if self._events is not None else ():
                self._note(event)
            self._note(body)
            return [(call.admission, self._of_call(call, end)) for call in calls]
        document = _parsed(body)
        found = [(call.admission, self._of_answer(call, document, end)) for call in calls]
        if self._kept is not None and end is End.OK:
            admission, outcome = found[0]
            answer = Answer(self.status, self._headers, bytes(self._kept))
            found[0] = (admission, replace(outcome, answer=answer))
        return found

    def _note(self, body: bytes) -> None:
        """Remember the members that answer calls. Two answers to one call say nothing."""
        document = _parsed(body)
        for member in document if type(document) is list else [document]:
            if type(member) is dict and "method" not in member and ("result" in member) != ("error" in member):
                key = str(member.get("id"))
                self._members[key] = None if key in self._members else member

    def _of_call(self, call: Action, end: End) -> Outcome:
        message = call.admission.call
        if message is None or message.id is None or self.status >= _SERVER_ERROR:
            return call.outcome(self.status, end)
        member = self._members.get(str(message.id))
        if member is None:
            refused = _CLIENT_ERROR <= self.status < _SERVER_ERROR
            return call.outcome(self.status, end, told=None if refused else 0)
        result = member.get("result")
        if "error" in member or (type(result) is dict and result.get("isError") is True):
            return call.outcome(self.status, end, told=_CLIENT_ERROR)
        return call.outcome(self.status, end, told=200, captured=_captured(call.admission, result))

    def _of_answer(self, action: Action, document: Any, end: End) -> Outcome:
        admission = action.admission
        if not self.status or self.status >= _CLIENT_ERROR:
            return action.outcome(self.status, end)
        captured = _captured(admission, document) if admission.settle is not None else None
        outcome = action.outcome(self.status, end, captured=captured)
        named = _named(admission, document) if admission.reference is not None and not outcome.reference else ""
        return replace(outcome, reference=named) if named else outcome


def _captured(admission: Admission, document: Any) -> int | None:
    """What the answer says was spent, in minor units; `None`, which keeps the reservation, when it cannot be read.

    Of a refund that is what was given back, and nothing when it cannot be read.
    """
    money = admission.refunds or (admission.event.amount if admission.event is not None else None)
    if admission.settle is None or money is None:
        return None
    try:
        return admission.settle(document, money)
    except MappingError as error:
        _log.warning("the answer to %s does not settle it, so all is kept: %s", admission.id, error.detail)
        return None if admission.refunds is None else 0


def _named(admission: Admission, document: Any) -> str:
    """What the answer calls the action, empty when it cannot be read."""
    try:
        return admission.reference(document) if admission.reference is not None else ""
    except MappingError as error:
        _log.warning("the answer to %s has no reference, so no refund will find it: %s", admission.id, error.detail)
        return ""


def _parsed(body: bytes) -> Any:
    if not body:
        return None
    try:
        return parse_json(body)
    except MappingError:
        return None
