"""A policy compiled for deciding, and what the spine answers to whoever asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from afmiddleware.identity.address import address_key, peer_of
from afmiddleware.identity.agents import Marks
from afmiddleware.identity.proxies import Proxies
from afmiddleware.lanes import Lanes
from afmiddleware.limits.full import FullRates
from afmiddleware.limits.keys import row_key
from afmiddleware.model.action import ActionEvent
from afmiddleware.model.actor import Actor
from afmiddleware.model.codes import POLICY_ALLOWED
from afmiddleware.model.entry import Claim
from afmiddleware.model.http import Target
from afmiddleware.model.limit import NO_BALANCES, Balances, Charge, Limit
from afmiddleware.model.money import Money
from afmiddleware.model.outcome import Answer, Settlement
from afmiddleware.model.receipt import ReceiptRef
from afmiddleware.model.verdict import Verdict
from afmiddleware.policy.rules import Draw, falls_on, sha256
from afmiddleware.receipts.redact import Redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from afmiddleware.identity.app_user import FromApp
    from afmiddleware.identity.certificates import Certificates
    from afmiddleware.identity.needs import Need
    from afmiddleware.identity.outcome import Absent, Invalid, Ok, Unavailable
    from afmiddleware.identity.sessions import Sessions
    from afmiddleware.identity.signatures import Signatures
    from afmiddleware.limits.select import Limits
    from afmiddleware.mapping.bindings import Binding
    from afmiddleware.mapping.messages import Call
    from afmiddleware.mapping.references import ReadReference
    from afmiddleware.mapping.settle import ReadSettle
    from afmiddleware.mapping.view import RequestView
    from afmiddleware.model.http import HttpFacts
    from afmiddleware.policy.compiled import Policy

USUAL_MARKS: Final = Marks()
_NOBODY: Final = Actor(id="address:unknown")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a decision needs that the policy file says.

    `file` is the digest of the file and its lists, hex SHA-256; `digest` covers what is declared in code too.
    """

    digest: str
    file: str
    environment: str
    observe: bool
    bindings: Mapping[str, Binding]
    policy: Policy
    limits: Limits
    identify: Callable[[HttpFacts, int], Generator[Need, Any, Absent | Ok | Invalid | Unavailable]]
    recall: Callable[[HttpFacts, int], Ok | None]
    """`identify` for a credential that was good a moment ago: asks for nothing, and `None` says nothing."""
    unmapped: str = "deny"
    """What becomes of an endpoint without a binding: `deny`, `allow` (as if it were public) or `observe`."""
    client: Callable[[HttpFacts], str] = peer_of
    """The address of the client, empty when it is not known: what strangers are told apart by."""
    unclear: Callable[[HttpFacts], bool] = Proxies().unclear
    """Whether it cannot be told who of proxy and client has written where a request comes from."""
    certificates: Certificates | None = None
    """Knows the clients that have shown a certificate, where the policy names any."""
    signatures: Signatures | None = None
    """Checks what agents have signed, where the policy knows any."""
    observes_signatures: bool = False
    """Whether a signature is only marked in the record, and changes nothing."""
    marks: Marks = USUAL_MARKS
    """What marks the request of a signed-in user as that of an agent."""
    from_app: FromApp | None = None
    """How a user whom the application has signed in becomes an actor, if at all."""
    guesses: Limit | None = None
    """How many API keys that nobody knows are looked up for one address."""
    sessions: Sessions | None = None
    """Which session a request belongs to."""
    plugins: tuple[Callable[[RequestView], Any], ...] = ()
    """The service's own authenticators, asked in turn where the credentials that the policy knows say nothing."""
    keeps_fields: bool = True
    """Whether receipts keep what was extracted beside the amount: recipient, resource, category, network."""
    keep_payload: Callable[[Mapping[str, Any]], str | None] | None = None
    """What receipts keep of the values of a body, if anything."""
    redaction: Redaction | None = None
    """What receipts never keep; `None` where there is nothing to look for."""
    full: FullRates = msgspec.field(default_factory=FullRates)
    """Which rates were full a moment ago."""
    lanes: Lanes = msgspec.field(default_factory=Lanes)
    """What is the same for many requests, as far as it was asked for."""
    share: int = 0
    """For how many hundredths of a percent of the known callers nothing is blocked."""
    draw: Draw = sha256
    """What those are chosen by."""
    observing: Plan | None = None
    """The same plan where nothing is blocked, once it was needed."""
    enforcing: Plan | None = None
    """The plan that this one is the observing side of, if it is one."""

    def __post_init__(self) -> None:
        # A plan that is made from another one must not believe what was worked out for that.
        msgspec.structs.force_setattr(self, "lanes", Lanes())
        msgspec.structs.force_setattr(self, "observing", None)
        msgspec.structs.force_setattr(self, "enforcing", None)

    def facing(self, actor: Actor) -> Plan:
        """The plan as it is for an actor: of a share of them it only observes. Nobody unproven is among them."""
        if not self.share:
            return self
        if actor.anonymous or not falls_on(self.share, "mode", actor.id, self.draw):
            return self.enforcing or self
        if self.enforcing is not None:
            return self
        return self.unblocking()

    def unblocking(self) -> Plan:
        """The same plan where it only observes."""
        if self.observe:
            return self
        if self.observing is None:
            observing = replace(self, observe=True)
            msgspec.structs.force_setattr(observing, "enforcing", self)
            msgspec.structs.force_setattr(self, "observing", observing)
        return self.observing or self


class Asked(msgspec.Struct, kw_only=True, gc=False):
    """What is known of who asks for what; it fills up as a decision proceeds.

    `request` is the hex SHA-256 that binds the receipt to the exact request. `flags` are marks for the record. With
    `signs` the actor has signed one body alone, and the function says whether it is this one.
    """

    id: str
    actor: Actor
    flags: tuple[str, ...] = ()
    signs: Callable[[bytes], bool] | None = None
    route: str = ""
    capability: str = ""
    peer: str = ""
    request: str = ""
    now: int = 0
    """When it was asked, in microseconds since the epoch."""
    claim: Claim | None = None
    dry: bool = False
    """Whether it is only asked what would happen (`Agent-Dry-Run`)."""
    guess: bool = False
    """Whether the credential may have been made up."""

    def address(self) -> str:
        """The prefix that stands for where the caller is; empty outside of HTTP."""
        return address_key(self.peer) if self.peer else ""


def guess_charge(plan: Plan, peer: str) -> tuple[Charge, ...]:
    """What one guess from an address is charged."""
    if plan.guesses is None:
        return ()
    key = row_key("address", _NOBODY, "", None, lambda: address_key(peer))
    return (Charge(plan.guesses, key, 1),)


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


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked about in a dry run. Where the policy only observes, a refusal would pass all the same."""

    event: ActionEvent | None = None
    observe: bool = False


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The handler does not run. With a `reply` it is told as JSON-RPC errors.

    With an `answer` it ran before, for the same request under the same Idempotency-Key, and answered this. With `dry`
    it was only asked what would happen, so the verdict may as well authorise it.
    """

    id: str
    verdict: Verdict
    actor: Actor
    balances: Balances = NO_BALANCES
    reply: Reply | None = None
    answer: Answer | None = None
    dry: DryRun | None = None


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """The handler may run, for exactly this.

    `body` is what was judged, `None` when it was not read. `observed` is true when the verdict is a refusal that the
    mode lets pass. `receipt` is `None` only then, when nothing could be recorded. `settle` reads from the answer what
    was really spent. `others` are the further actions of the same request; with `rpc` the request holds calls, and
    `call` is this action's. `refunds` is what the action gives back, `reference` reads from the answer what a later
    refund calls it. With `claimed` the answer is kept for who asks again with the same Idempotency-Key.
    """

    id: str
    verdict: Verdict
    capability: str
    actor: Actor
    target: Target | None = None
    event: ActionEvent | None = None
    receipt: ReceiptRef | None = None
    balances: Balances = NO_BALANCES
    body: bytes | None = None
    observed: bool = False
    settles: Mapping[int, Settlement] | None = None
    settle: ReadSettle | None = None
    others: tuple[Admission, ...] = ()
    rpc: bool = False
    call: Call | None = None
    claimed: bool = False
    claim: str = ""
    refunds: Money | None = None
    reference: ReadReference | None = None


def unjudged(plan: Plan, decision: str, actor: Actor, reply: Reply | None = None) -> Refused:
    """What is told of a dry run of something that is not the fence's to judge, and would run."""
    verdict = Verdict(authorized=True, code=POLICY_ALLOWED, reason="Nothing in this request is judged.")
    return Refused(id=decision, verdict=verdict, actor=actor, reply=reply, dry=DryRun(observe=plan.observe))
