"""The admitted action as its handler sees it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from afmiddleware.errors import AFError, GrammarError, MoneyError
from afmiddleware.grammar.amounts import to_minor
from afmiddleware.model.outcome import End, Outcome, Settlement

if TYPE_CHECKING:
    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.actor import Actor
    from afmiddleware.model.receipt import ReceiptRef
    from afmiddleware.model.verdict import Verdict
    from afmiddleware.plan import Admission


_LONGEST: Final = 512
_CLIENT_ERROR: Final = 400


class Action:
    """One admitted action, from its admission to its end.

    What the handler says here wins over what its answer's status says. Where a request holds several actions, this
    one stands for all of them and `calls` are they, each with the `call_id` by which a handler finds its own.
    """

    __slots__ = ("_admission", "_calls", "_reference", "_said")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._said: Outcome | None = None
        self._reference = ""
        others = admission.others
        # Not itself where it is alone: a request must not leave a cycle behind for the collector.
        self._calls = (_alone(admission), *map(Action, others)) if others else ()

    @property
    def calls(self) -> tuple[Action, ...]:
        """The actions of the request, one of each call in its body."""
        return self._calls or (self,)

    @property
    def admission(self) -> Admission:
        """What was admitted."""
        return self._admission

    @property
    def call_id(self) -> str | int | None:
        """The id of the JSON-RPC call, `None` where there is no call or it is a notification."""
        call = self._admission.call
        return call.id if call is not None else None

    @property
    def id(self) -> str:
        """The decision's id: that of its reservation too, for `Fence.settle` and `Fence.release`."""
        return self._admission.id

    @property
    def actor(self) -> Actor:
        """Who acts."""
        return self._admission.actor

    @property
    def event(self) -> ActionEvent | None:
        """The action that was judged; `None` when a refused request passes in observe mode without one."""
        return self._admission.event

    @property
    def verdict(self) -> Verdict:
        """What was decided."""
        return self._admission.verdict

    @property
    def receipt(self) -> ReceiptRef | None:
        """Where the receipt of the admission stands in the log."""
        return self._admission.receipt

    def settle(self, amount: str) -> None:
        """Say what was really spent, in major units of the action's currency (`12.50`).

        Less than was reserved gives the rest back; more is booked over any cap and flagged. Of a refund it is what was
        given back, which is counted for no more than was captured. Raises `MoneyError` when
        the text is not an exact amount, or when the action has no amount to settle.
        """
        self._check_alone()
        event = self._admission.event
        money = self._admission.refunds or (event.amount if event is not None else None)
        if money is None:
            msg = "this action reserved no money, so there is nothing to settle"
            raise MoneyError(msg)
        try:
            captured = to_minor(amount, money.exponent)
        except GrammarError as error:
            raise MoneyError(str(error)) from None
        self._said = Outcome(settlement=Settlement.CAPTURE, captured=captured)

    def refer(self, reference: str) -> None:
        """Say what a later refund will call this action, when it is captured: `refunds: {of: body.booking_id}`.

        Raises `AFError` for a text that is empty or longer than 512 characters.
        """
        self._check_alone()
        if not 0 < len(reference) <= _LONGEST:
            msg = f"a reference has 1 to {_LONGEST} characters"
            raise AFError(msg)
        self._reference = reference

    def release(self) -> None:
        """Say that the action was not performed: what was reserved is given back."""
        self._check_alone()
        self._said = Outcome(settlement=Settlement.RELEASE)

    def outcome(
        self,
        status: int,
        end: End,
        *,
        told: int | None = None,
        captured: int | None = None,
    ) -> Outcome:
        """How the action ended: what the handler said, else what its answer's status means.

        2xx and 3xx capture, 4xx release, anything else is unknown and keeps the money counted; a route's `on_outcome`
        may say otherwise for a class of statuses. `told` is what the action's own part of the answer means as a
        status, 0 for nothing; `captured` is what the answer says was spent.
        """
        said = self._said
        if said is not None:
            return Outcome(said.settlement, end, status, said.captured, reference=self._reference)
        settlement = self._meaning(status, end) if told is None else self._meaning(told, End.OK)
        if end is End.NOT_REACHED:
            settlement = Settlement.RELEASE
        return Outcome(settlement, end, status, captured, reference=self._reference)

    def given_back(self, status: int, end: End) -> int:
        """What an answer with `status` gives back of the reservation, in minor units; below 0 what is spent beyond it.

        It is 0 as long as that depends on more than the status and what the handler has said.
        """
        if self._said is None and self._admission.settles is None and end is End.OK and status < _CLIENT_ERROR:
            return 0
        event = self._admission.event
        if self._calls or event is None or event.amount is None or self._admission.refunds is not None:
            return 0
        told = self.outcome(status, end)
        kept = 0 if told.settlement is Settlement.RELEASE else told.captured
        return 0 if kept is None else event.amount.minor - kept

    def _check_alone(self) -> None:
        if self._calls:
            msg = "this request holds several actions: take the one of your call from current_action().calls"
            raise AFError(msg)

    def _meaning(self, status: int, end: End) -> Settlement:
        if end is End.NOT_REACHED:
            return Settlement.RELEASE
        if end is not End.OK:
            return Settlement.UNKNOWN
        kind = status // 100
        settles = self._admission.settles
        if settles is not None and kind in settles:
            return settles[kind]
        if kind in (2, 3):
            return Settlement.CAPTURE
        return Settlement.RELEASE if kind == 4 else Settlement.UNKNOWN  # noqa: PLR2004 (a status class)


def _alone(admission: Admission) -> Action:
    """One of several actions, by itself."""
    return Action(replace(admission, others=()))


_current: ContextVar[Action | None] = ContextVar("afmiddleware.action", default=None)
"""The action that runs in this context; set by the middleware around the handler."""


def enter(action: Action) -> Action | None:
    """Make `action` the current one of this context; returns the one before it, for `leave`."""
    before = _current.get()
    _current.set(action)
    return before


def leave(before: Action | None) -> None:
    """Let the action that `enter` returned be the current one again."""
    _current.set(before)


def current_action() -> Action:
    """The action the calling handler was admitted for. Raises `AFError` outside of one."""
    action = _current.get()
    if action is None:
        msg = "no admitted action runs here: is the fence installed, and is this route public?"
        raise AFError(msg)
    return action
