"""A policy compiled for deciding, and what the spine answers to whoever asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from afmiddleware.model.action import ActionEvent
from afmiddleware.model.actor import Actor
from afmiddleware.model.http import Target
from afmiddleware.model.limit import Balance
from afmiddleware.model.outcome import Settlement
from afmiddleware.model.receipt import ANONYMOUS, ReceiptRef
from afmiddleware.model.verdict import Verdict
from afmiddleware.receipts.record import decision

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from afmiddleware.identity.needs import Need
    from afmiddleware.identity.outcome import Absent, Invalid, Ok, Unavailable
    from afmiddleware.limits.select import Limits
    from afmiddleware.mapping.bindings import Binding
    from afmiddleware.mapping.messages import Call
    from afmiddleware.mapping.settle import ReadSettle
    from afmiddleware.model.http import HttpFacts
    from afmiddleware.model.limit import Charge
    from afmiddleware.model.receipt import Draft
    from afmiddleware.policy.compiled import Policy


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a decision needs that the policy file says. `digest` is the hex SHA-256 of the file's text."""

    digest: str
    environment: str
    observe: bool
    bindings: Mapping[str, Binding]
    policy: Policy
    limits: Limits
    identify: Callable[[HttpFacts, int], Generator[Need, Any, Absent | Ok | Invalid | Unavailable]]
    recall: Callable[[HttpFacts, int], Ok | None]
    """`identify` for a credential that was good a moment ago: asks for nothing, and `None` says nothing."""
    keeps_fields: bool = True
    """Whether receipts keep what was extracted beside the amount: recipient, resource, category, network."""
    payload_hash: Callable[[ActionEvent], str | None] | None = None
    """What receipts keep of the body, if anything."""


class Asked(msgspec.Struct, kw_only=True, gc=False):
    """What is known of who asks for what; it fills up as a decision proceeds.

    `request` is the hex SHA-256 that binds the receipt to the exact request.
    """

    id: str
    actor: Actor
    route: str = ""
    capability: str = ""
    peer: str = ""
    request: str = ""


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """Not the fence's business: a public endpoint (`target`), or none at all, which the framework answers itself.

    `body` is what was read to know that there is no action in it, and what the handler has to be given.
    """

    target: Target | None = None
    body: bytes | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one call of a refused request. `call` is `None` where no call could be read."""

    id: str
    verdict: Verdict
    call: Call | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """How a refusal is told in JSON-RPC: every call in its order, and whether they came in a batch."""

    told: tuple[Told, ...] = ()
    batch: bool = False


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The handler does not run. With a `reply` it is told as JSON-RPC errors."""

    id: str
    verdict: Verdict
    actor: Actor
    balances: tuple[Balance, ...] = ()
    reply: Reply | None = None


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """The handler may run, for exactly this.

    `body` is what was judged, `None` when it was not read. `observed` is true when the verdict is a refusal that the
    mode lets pass. `receipt` is `None` only then, when nothing could be recorded. `settle` reads from the answer what
    was really spent. `others` are the further actions of the same request; with `rpc` the request holds calls, and
    `call` is this action's.
    """

    id: str
    verdict: Verdict
    capability: str
    actor: Actor
    target: Target | None = None
    event: ActionEvent | None = None
    receipt: ReceiptRef | None = None
    balances: tuple[Balance, ...] = ()
    body: bytes | None = None
    observed: bool = False
    settles: Mapping[int, Settlement] | None = None
    settle: ReadSettle | None = None
    others: tuple[Admission, ...] = ()
    rpc: bool = False
    call: Call | None = None


def admission_draft(
    plan: Plan,
    asked: Asked,
    event: ActionEvent | None,
    final: Verdict,
    charges: tuple[Charge, ...],
) -> Draft:
    """The receipt of a decision: an intent when the handler is about to run, else a refusal."""
    actor = asked.actor
    kept = event if event is not None and plan.keeps_fields else None
    hashed = plan.payload_hash
    passes = final.authorized or plan.observe
    return decision(
        id=asked.id,
        owner=owner_of(actor),
        passes=passes,
        verdict=final,
        capability=asked.capability,
        actor=actor,
        route=asked.route,
        money=event.amount if event is not None else None,
        charges=charges if passes else (),
        policy=plan.digest,
        mode="observe" if plan.observe else "enforce",
        environment=plan.environment,
        category=(kept.category if kept is not None else None) or "",
        network=(kept.network if kept is not None else None) or "",
        private={
            "actor": actor.id,
            "credential": actor.credential or None,
            "on_behalf_of": actor.on_behalf_of or None,
            "payload": hashed(event) if hashed is not None and event is not None else None,
            "peer": asked.peer or None,
            "recipient": kept.recipient if kept is not None else None,
            "request": asked.request or None,
            "resource": kept.resource if kept is not None else None,
        },
    )


def owner_of(actor: Actor) -> str:
    """Whose receipts an actor's join: its own, or those that nobody has proven to be theirs."""
    return ANONYMOUS if actor.anonymous else actor.id
