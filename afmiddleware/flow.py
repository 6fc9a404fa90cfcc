"""The spine: what happens to a request, written once for sync and async.

The generators yield what they need done (`effects.py`) and are sent the answer; a failure comes in by `throw`, so
failing closed is written here and nowhere else. `drivers.py` performs the effects. Nothing is yielded in a `finally`:
a flow that is closed half-way has nothing left to do, because a reservation that is not concluded stays counted.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from afmiddleware.acts import judge_acts
from afmiddleware.callers import check_body, identify, identity_verdict, note
from afmiddleware.effects import Commit, Flow, Post, ReadBody
from afmiddleware.entries import entry_of, rates_of, turned_away, unrecorded
from afmiddleware.errors import LedgerUnavailableError, MappingError, ReceiptError
from afmiddleware.identity.address import stranger
from afmiddleware.identity.agents import is_person
from afmiddleware.identity.outcome import Invalid, Ok
from afmiddleware.identity.together import flags_of
from afmiddleware.mapping.event import reads_body, request_digest, to_event
from afmiddleware.mapping.idempotency import claim_of, idempotency_key
from afmiddleware.mapping.references import reference_key, refunded_in
from afmiddleware.mapping.screen import screen
from afmiddleware.model.entry import Conclusion, Held
from afmiddleware.model.verdict import Verdict
from afmiddleware.plan import Admission, Asked, DryRun, Pass, Plan, Refused, unjudged

if TYPE_CHECKING:
    from collections.abc import Callable

    from afmiddleware.identity.app_user import AppUser
    from afmiddleware.lanes import Lane
    from afmiddleware.mapping.bindings import Binding
    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.http import HttpFacts, Target
    from afmiddleware.model.limit import Charge
    from afmiddleware.model.outcome import Outcome


def admit(  # noqa: PLR0913 (what a request is known by)
    plan: Plan,
    facts: HttpFacts,
    resolve: Callable[[], Target | None],
    now: int,
    new_id: Callable[[int], str],
    known: Callable[[], AppUser | None] | None = None,
    *,
    screened: bool = False,
) -> Flow[Pass | Refused | Admission]:
    """Decide an HTTP request before its handler runs.

    `resolve` asks the framework's router, only for an unambiguous request (`screened`: found so before); `None` means
    that no endpoint will run. A dry run is never admitted: it ends in what is told of it. `now` is in microseconds
    since the epoch, `new_id` makes the decision's id. `known` asks whom the application has signed in, for a policy
    that takes its word.
    """
    # Screened already: it is ?1 or ?0, but where a policy that observes lets anything pass.
    dry = facts.fields.get(b"agent-dry-run", b"?0") != b"?0"
    fault = None if screened else screen(facts)
    if fault is not None:
        client = plan.client(facts)
        nobody = Asked(id=new_id(now), actor=stranger(client), peer=client, now=now, dry=dry)
        return (yield from _turn_away(plan, nobody, refused(fault.code, fault.detail)))
    target = resolve()
    if target is None:
        return Pass()
    binding = plan.bindings.get(target.key)
    if binding.public if binding is not None else plan.unmapped == "allow":
        return Pass(target=target) if not dry else unjudged(plan, new_id(now), stranger(plan.client(facts)))
    spends = binding is not None and binding.spends
    found = plan.recall(facts, now) or (yield from identify(plan, facts, now, known, spends=spends))
    if plan.sessions is not None:
        found = plan.sessions.within(found, facts, now)
    client = plan.client(facts)
    actor = found.actor if isinstance(found, Ok) else stranger(client)
    if binding is not None and is_person(found, binding.applies_to):
        return Pass(target=target) if not dry else unjudged(plan, new_id(now), actor)
    asked = Asked(id=new_id(now), actor=actor, route=target.key, peer=client, now=now, dry=dry, flags=flags_of(found))
    asked.signs = found.signs if isinstance(found, Ok) else None
    plan = plan.facing(actor)
    note(found, asked.id, client)
    asked.guess = isinstance(found, Invalid) and found.guess
    if binding is None:
        unmapped = refused("route.unmapped", f"{target.key} is not mapped to a capability.")
        ruling = plan.unblocking() if plan.unmapped == "observe" else plan
        return (yield from _turn_away(ruling, asked, unmapped, target))
    asked.capability = binding.capability
    asked.route = binding.key
    unproven = None if isinstance(found, Ok) else identity_verdict(found, binding)
    if dry and unproven is None and actor.anonymous:
        unproven = refused("identity.required", "A dry run is for who says who it is.", capability=binding.capability)
    if binding.protocol is not None or binding.extractors:
        return (yield from judge_acts(plan, asked, facts, target, binding, unproven, _decide))
    return (yield from _judge(plan, asked, facts, target, binding, unproven))


def admit_event(
    plan: Plan,
    event: ActionEvent,
    now: int,
    decision: str,
    *,
    dry: bool = False,
) -> Flow[Refused | Admission]:
    """Decide an action that did not come over HTTP. With `dry` nothing is charged or recorded."""
    asked = Asked(id=decision, actor=event.actor, capability=event.capability, now=now)
    plan = plan.facing(event.actor)
    lane = plan.lanes.of(plan, "", event.capability, event.actor)
    verdict, spends = _decide(plan, lane, asked, event, None, tell=dry)
    return (yield from _settle_on(plan, lane, asked, event, verdict, spends, dry=dry))


def conclusion(admission: Admission, outcome: Outcome) -> Conclusion | None:
    """The end of an admission, to be handed to the ledger without waiting; `None` when nothing was recorded."""
    if admission.receipt is None:
        return None
    key, named = "", outcome.reference
    if named and not admission.actor.anonymous:
        key = reference_key(admission.actor.id, named, refund=admission.refunds is not None)
    return Conclusion(admission.id, outcome, admission.claim, key)


def refused(code: str, reason: str, *, capability: str = "", retry_after: int = 0) -> Verdict:
    """A refusal that no rule of the policy made."""
    return Verdict(authorized=False, code=code, reason=reason, capability=capability, retry_after=retry_after)


def _judge(  # noqa: PLR0913 (what is known of a request)
    plan: Plan,
    asked: Asked,
    facts: HttpFacts,
    target: Target,
    binding: Binding,
    unproven: Verdict | None,
) -> Flow[Refused | Admission]:
    """Read, extract and decide a request whose binding is known."""
    lane = plan.lanes.of(plan, asked.route, asked.capability, asked.actor)
    verdict = unproven or lane.early
    body: bytes | None = None
    event: ActionEvent | None = None
    spends: tuple[Charge, ...] = ()
    key = ""
    if verdict is None and not plan.observe and plan.full.holds(lane.rates(None, asked.address), asked.now):
        # The commit says which and until when; to be refused by it, nothing has to be read.
        verdict = refused("rate.exceeded", "A rate limit is reached.", capability=binding.capability, retry_after=1)
    if verdict is None or plan.observe:
        try:
            if binding.idempotency:
                key = idempotency_key(facts, required=binding.idempotency == "required")
            if key or asked.signs is not None or reads_body(binding, facts):
                body = yield from ReadBody(binding.body_cap)
                check_body(asked, body)
            event = to_event(binding, facts, target, body, asked.actor, plan.environment)
        except MappingError as error:
            verdict = verdict or refused(error.code, error.detail, capability=binding.capability)
            # It may have turned out that the request is not this actor's, nor of the share for whom nothing is blocked.
            plan = plan.facing(asked.actor)
            lane = plan.lanes.of(plan, asked.route, asked.capability, asked.actor)
        else:
            verdict, spends = _decide(plan, lane, asked, event, verdict)
    asked.request = request_digest(facts, target, body)
    if key and unproven is None and not asked.dry:
        asked.claim = claim_of(asked.actor, target.key, key, asked.request)
    return (yield from _settle_on(plan, lane, asked, event, verdict, spends, target=target, body=body, binding=binding))


def _decide(  # noqa: PLR0913 (what an action is decided by)
    plan: Plan,
    lane: Lane,
    asked: Asked,
    event: ActionEvent,
    verdict: Verdict | None,
    *,
    tell: bool = False,
) -> tuple[Verdict, tuple[Charge, ...]]:
    """The policy's verdict (unless there is one already) and what the action would be charged.

    What is refused is charged nothing; `tell` says what it would be, for whoever asks why.
    """
    verdict = verdict or plan.policy.decide(event, asked.now)
    if not verdict.authorized and not plan.observe and not tell:
        return verdict, ()
    try:
        return verdict, lane.spends(event, asked.address)
    except MappingError as error:
        return (refused(error.code, error.detail, capability=event.capability) if verdict.authorized else verdict), ()


def _settle_on(  # noqa: PLR0913 (what the entry is made of)
    plan: Plan,
    lane: Lane,
    asked: Asked,
    event: ActionEvent | None,
    verdict: Verdict,
    spends: tuple[Charge, ...],
    *,
    target: Target | None = None,
    binding: Binding | None = None,
    body: bytes | None = None,
    dry: bool = False,
) -> Flow[Refused | Admission]:
    """Make the one commit, and answer what it decided. A commit that cannot be made refuses."""
    actor = asked.actor
    rates = rates_of(plan, lane, asked, event)
    entry = entry_of(plan, lane, asked, event, verdict, spends, rates=rates, binding=binding, dry=dry)
    try:
        held = yield from Commit(entry)
    except (LedgerUnavailableError, ReceiptError) as error:
        held = Held(verdict=unrecorded(error, asked.capability))
    if not held.verdict.authorized:
        plan.full.note(rates, held.verdict, asked.now)
    if asked.dry:
        trial = DryRun(event=event, observe=plan.observe)
        return Refused(id=asked.id, verdict=held.verdict, actor=actor, balances=held.balances, dry=trial)
    if held.replay is not None:
        return Refused(id=asked.id, verdict=held.verdict, actor=actor, balances=held.balances, answer=held.replay)
    if not held.verdict.authorized and not plan.observe:
        return Refused(id=asked.id, verdict=held.verdict, actor=actor, balances=held.balances)
    return Admission(
        id=asked.id,
        verdict=held.verdict,
        capability=asked.capability,
        actor=actor,
        target=target,
        event=event,
        receipt=held.receipt,
        balances=held.balances,
        body=body,
        observed=not held.verdict.authorized,
        settles=binding.settles if binding is not None else None,
        settle=binding.settle if binding is not None else None,
        claimed=asked.claim is not None and held.verdict.authorized,
        claim=asked.claim.key if asked.claim is not None else "",
        refunds=refunded_in(event, binding),
        reference=binding.reference if binding is not None else None,
    )


def _turn_away(plan: Plan, asked: Asked, verdict: Verdict, target: Target | None = None) -> Flow[Pass | Refused]:
    """Refuse what falls under no binding: nothing is charged, and nobody waits for the record."""
    # Without a ledger it is refused all the same, and nothing is charged.
    with suppress(LedgerUnavailableError, ReceiptError):
        yield from Post(turned_away(plan, asked, verdict))
    if asked.dry:
        return Refused(id=asked.id, verdict=verdict, actor=asked.actor, dry=DryRun(observe=plan.observe))
    return Pass(target=target) if plan.observe else Refused(id=asked.id, verdict=verdict, actor=asked.actor)
