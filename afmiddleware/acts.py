"""The spine for requests that hold any number of actions: calls in a body, and what functions of the service find.

All actions of a request are judged, each by itself, and then committed together: all of them are admitted, or none is.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from afmiddleware.callers import check_body
from afmiddleware.effects import Call, Commit, Flow, ReadBody
from afmiddleware.entries import entry_of, unrecorded
from afmiddleware.errors import LedgerUnavailableError, MappingError, ReceiptError
from afmiddleware.grammar.capability import check_capability
from afmiddleware.lanes import Lane
from afmiddleware.limits.together import stand_down
from afmiddleware.mapping.event import request_digest, to_event, view_of
from afmiddleware.mapping.extract import MAX_TEXT, refuse, text_of
from afmiddleware.mapping.idempotency import claim_of, idempotency_key
from afmiddleware.mapping.protocols import Act, Acts, CallError, to_acts
from afmiddleware.mapping.references import refunded_in
from afmiddleware.model.action import ActionEvent
from afmiddleware.model.codes import AMOUNT_UNRESOLVABLE, POLICY_ALLOWED, REQUEST_AMBIGUOUS, REQUEST_BATCH_REFUSED
from afmiddleware.model.entry import Held
from afmiddleware.model.money import Money
from afmiddleware.model.risk import check_risk
from afmiddleware.model.verdict import Verdict
from afmiddleware.plan import Admission, Asked, DryRun, Pass, Plan, Refused, Reply, Told, unjudged

if TYPE_CHECKING:
    from afmiddleware.mapping.bindings import Binding
    from afmiddleware.model.entry import Entry
    from afmiddleware.model.http import HttpFacts, Target
    from afmiddleware.model.limit import Charge

Decide = Callable[[Plan, Lane, Asked, ActionEvent, Verdict | None], tuple[Verdict, tuple["Charge", ...]]]

_TEXTS: Final = ("resource", "recipient", "category", "network", "refunds")
MAX_ACTS: Final = 1000
"""The most actions that a function of the service may make of one request."""

_ONE_KEY: Final = "An Idempotency-Key cannot stand for several actions of one request."
_NOTHING: Final = "an extractor of the service found no value in the request"


def judge_acts(  # noqa: PLR0913 (what is known of a request)
    plan: Plan,
    asked: Asked,
    facts: HttpFacts,
    target: Target,
    binding: Binding,
    unproven: Verdict | None,
    decide: Decide,
) -> Flow[Pass | Refused | Admission]:
    """Read and decide a request that may hold any number of actions. `decide` judges one of them."""
    rpc = binding.protocol is not None
    if binding.implied and unproven is None:
        # The side channels of a transport: nothing is called there, and what comes along is not read.
        return Pass(target=target) if not asked.dry else unjudged(plan, asked.id, asked.actor)
    body: bytes | None = None
    found = Acts(())
    unread: CallError | None = None
    key = ""
    verdict = unproven
    if unproven is None or (plan.observe and not binding.implied):
        try:
            body = yield from ReadBody(binding.body_cap)
            check_body(asked, body)
            found = yield from _acts(plan, facts, target, binding, body, asked)
            key = _key(facts, binding, found)
        except CallError as error:
            asked.capability = error.capability
            unread = error
            verdict = verdict or _unreadable(error, error.capability)
        except MappingError as error:
            verdict = verdict or _unreadable(error, binding.capability)
            plan = plan.facing(asked.actor)
        else:
            if not found.acts:
                return Pass(target=target, body=body) if not asked.dry else unjudged(plan, asked.id, asked.actor)
    asked.request = request_digest(facts, target, body)
    if key and unproven is None and not asked.dry:
        asked.claim = claim_of(asked.actor, target.key, key, asked.request)
    judged: list[tuple[Act | None, Verdict, tuple[Charge, ...]]] = [
        (act, *decide(plan, _lane(plan, asked, act.event.capability), asked, act.event, verdict)) for act in found.acts
    ]
    if not judged:
        judged = [(None, verdict or Verdict(authorized=False, code=AMOUNT_UNRESOLVABLE, reason=_NOTHING), ())]
    asks = [_asked(asked, act, place) for place, (act, _, _) in enumerate(judged)]
    entries = [
        entry_of(
            plan,
            _lane(plan, ask, ask.capability),
            ask,
            act.event if act is not None else None,
            verdict,
            spends,
            binding=binding,
        )
        for ask, (act, verdict, spends) in zip(asks, judged, strict=True)
    ]
    held = yield from _commit(_one_crowd(entries), asked)
    if held.replay is not None:
        return Refused(id=asked.id, verdict=held.verdict, actor=asked.actor, balances=held.balances, answer=held.replay)
    answers = (held, *held.others)
    if asked.dry or (not plan.observe and not all(one.verdict.authorized for one in answers)):
        refused = _refused(asks, [act for act, _, _ in judged], answers, found if rpc else None)
        if asked.dry:
            refused = replace(refused, dry=DryRun(observe=plan.observe))
        return refused if unread is None else replace(refused, reply=_reply_of_unread(refused, unread))
    admissions = [
        _admission(ask, act, one, target, binding) for ask, (act, _, _), one in zip(asks, judged, answers, strict=True)
    ]
    return replace(admissions[0], body=body, balances=held.balances, others=tuple(admissions[1:]), rpc=rpc)


def _acts(  # noqa: PLR0913 (what is known of a request)
    plan: Plan,
    facts: HttpFacts,
    target: Target,
    binding: Binding,
    body: bytes,
    asked: Asked,
) -> Flow[Acts]:
    if binding.protocol is not None:
        return to_acts(binding.protocol, binding, facts, target, body, asked.actor, plan.environment)
    event = to_event(binding, facts, target, body, asked.actor, plan.environment)
    view = view_of(binding, facts, target, body, asked.actor)
    many: list[ActionEvent] | None = None
    for field, function in binding.extractors:
        value = yield from Call(function, view)
        if field == "amount" and type(value) is list:
            many = value
        elif field != "amount":
            event = replace(event, **{field: _text(value, field)})
        elif isinstance(value, Money):
            event = replace(event, amount=value)
        else:
            raise MappingError(AMOUNT_UNRESOLVABLE, _NOTHING)
    if many is None:
        return Acts((_act(event, binding),))
    if not many or len(many) > MAX_ACTS:
        raise MappingError(AMOUNT_UNRESOLVABLE, _NOTHING)
    return Acts(tuple(_act(_proven(one, event), binding) for one in many))


def _key(facts: HttpFacts, binding: Binding, found: Acts) -> str:
    """The request's idempotency key, where one is read. Raises `MappingError`."""
    key = idempotency_key(facts, required=binding.idempotency == "required") if binding.idempotency else ""
    if key and len(found.acts) > 1:
        raise MappingError(REQUEST_AMBIGUOUS, _ONE_KEY)
    return key


def _act(event: ActionEvent, binding: Binding) -> Act:
    return Act(event=event, settles=binding.settles, settle=binding.settle)


def _proven(made: Any, event: ActionEvent) -> ActionEvent:
    """An event that a function made, with what only the fence knows: who acts, where and by which route."""
    if not isinstance(made, ActionEvent):
        raise MappingError(AMOUNT_UNRESOLVABLE, _NOTHING)
    try:
        check_capability(made.capability)
        if made.risk is not None:
            check_risk(made.risk)
    except ValueError:
        raise MappingError(AMOUNT_UNRESOLVABLE, _NOTHING) from None
    known = {name: getattr(event, name) for name in ("actor", "environment", "method", "route")}
    texts = {name: _text(value, name) for name in _TEXTS if (value := getattr(made, name)) is not None}
    return replace(made, **known, **texts, payload=made.payload or event.payload)


def _text(value: Any, field: str) -> str:
    """A text that a function of the service found, held to what is held a text of the request to."""
    label = f"the {field} of an extractor"
    if not isinstance(value, str):
        raise MappingError(AMOUNT_UNRESOLVABLE, _NOTHING)
    text = text_of(str(value), label)
    return text if len(text) <= MAX_TEXT else refuse(label, f"is longer than {MAX_TEXT} characters")


def _unreadable(error: MappingError, capability: str) -> Verdict:
    return Verdict(authorized=False, code=error.code, reason=error.detail, capability=capability)


def _lane(plan: Plan, asked: Asked, capability: str) -> Lane:
    return plan.lanes.of(plan, asked.route, capability, asked.actor)


def _asked(asked: Asked, act: Act | None, place: int) -> Asked:
    """Who asks for one of the actions. Ids beside the first follow from it, each as hard to guess."""
    capability = act.event.capability if act is not None else asked.capability
    if not place:
        return replace(asked, capability=capability)
    random = sha256(f"{asked.id}:{place}".encode("ascii")).hexdigest()
    return replace(asked, capability=capability, id=asked.id[:14] + random[: len(asked.id) - 14])


def _one_crowd(entries: list[Entry]) -> list[Entry]:
    """The entries with every limit on what runs at once on the first: a request runs once, whatever it holds."""
    slots = {(charge.limit.name, charge.key): charge for entry in entries for charge in entry.slots}
    if not slots:
        return entries
    return [replace(entries[0], slots=tuple(slots.values())), *(replace(entry, slots=()) for entry in entries[1:])]


def _commit(entries: list[Entry], asked: Asked) -> Flow[Held]:
    """Make the one commit; when it cannot be made, nothing is admitted."""
    try:
        return (yield from Commit(replace(entries[0], others=tuple(entries[1:]))))
    except (LedgerUnavailableError, ReceiptError) as error:
        verdict = unrecorded(error, asked.capability)
        return Held(verdict=verdict, others=tuple(Held(verdict=verdict) for _ in entries[1:]))


def _refused(
    asks: list[Asked],
    acts: list[Act | None],
    answers: tuple[Held, ...],
    calls: Acts | None,
) -> Refused:
    """The refusal of all actions, told by the first of them that was refused for its own sake; or of a dry run.

    `calls` are the messages they came in, if any; what acts on nothing does not run either.
    """
    verdicts = [one.verdict for one in answers]
    refusals = (place for place, one in enumerate(verdicts) if not one.authorized and one.code != REQUEST_BATCH_REFUSED)
    first = next(refusals, 0)
    told = [
        Told(id=ask.id, verdict=one.verdict, call=act.call if act is not None else None)
        for ask, act, one in zip(asks, acts, answers, strict=True)
    ]
    if calls is not None:
        idle = stand_down(Verdict(authorized=True, code=POLICY_ALLOWED))
        told += [Told(id=asks[first].id, verdict=idle, call=call) for call in calls.idle]
    return Refused(
        id=asks[first].id,
        verdict=answers[first].verdict,
        actor=asks[0].actor,
        balances=answers[0].balances,
        reply=Reply(told=tuple(told), batch=calls.batch) if calls is not None else None,
    )


def _reply_of_unread(refused: Refused, error: CallError) -> Reply:
    """What is told of calls of which one could not be read."""
    idle = stand_down(Verdict(authorized=True, code=POLICY_ALLOWED))
    told = [
        Told(id=refused.id, verdict=refused.verdict if place == error.at else idle, call=call)
        for place, call in enumerate(error.calls)
    ]
    return Reply(told=tuple(told), batch=error.batch)


def _admission(asked: Asked, act: Act | None, held: Held, target: Target, binding: Binding) -> Admission:
    return Admission(
        id=asked.id,
        verdict=held.verdict,
        capability=asked.capability,
        actor=asked.actor,
        target=target,
        event=act.event if act is not None else None,
        receipt=held.receipt,
        balances=held.balances,
        observed=not held.verdict.authorized,
        settles=act.settles if act is not None else binding.settles,
        settle=act.settle if act is not None else None,
        call=act.call if act is not None else None,
        claimed=asked.claim is not None and held.verdict.authorized,
        claim=asked.claim.key if asked.claim is not None else "",
        refunds=refunded_in(act.event if act is not None else None, binding),
        reference=binding.reference,
    )
