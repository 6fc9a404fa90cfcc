"""What a judged action asks of the ledger: its charges, and the receipt of whatever is decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from afmiddleware.errors import LedgerFullError, LedgerUnavailableError, ReceiptError
from afmiddleware.lanes import owner_of
from afmiddleware.mapping.references import refund_of
from afmiddleware.model.codes import LEDGER_UNAVAILABLE
from afmiddleware.model.entry import Entry
from afmiddleware.model.receipt import PRIVATE, DecisionBody, Draft, Filled
from afmiddleware.model.tier import Tier
from afmiddleware.model.verdict import Verdict
from afmiddleware.plan import guess_charge
from afmiddleware.receipts.forms import form_of, quoted
from afmiddleware.receipts.redact import WITHHELD, betrays, text_of

if TYPE_CHECKING:
    from afmiddleware.lanes import Lane
    from afmiddleware.mapping.bindings import Binding
    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.limit import Charge
    from afmiddleware.model.receipt import Form
    from afmiddleware.plan import Asked, Plan
    from afmiddleware.receipts.redact import Redaction

_UNRECORDED: Final = "The action cannot be recorded now, so it does not run."
_TIERS: Final = tuple(tier.label for tier in Tier)


def entry_of(  # noqa: PLR0913 (what the entry is made of)
    plan: Plan,
    lane: Lane,
    asked: Asked,
    event: ActionEvent | None,
    verdict: Verdict,
    spends: tuple[Charge, ...],
    *,
    rates: tuple[Charge, ...] | None = None,
    binding: Binding | None = None,
    dry: bool = False,
) -> Entry:
    """The entry of one action, at the endpoint of `binding` if it came over HTTP. `rates` are those of its lane."""
    counted = rates_of(plan, lane, asked, event) if rates is None else rates
    actor = asked.actor
    return Entry(
        id=asked.id,
        owner=lane.owner,
        verdict=verdict,
        record=lambda final: draft_of(plan, lane, asked, event, final, counted, spends),
        rates=counted,
        spends=tuple(map(_asked_of, spends)) if asked.dry else spends,
        slots=lane.slots(event, asked.address),
        guarded=plan.limits.guarded,
        claim=asked.claim,
        on_unknown=binding.on_unknown if binding is not None else None,
        on_expiry=binding.on_expiry if binding is not None else None,
        money=event.amount if event is not None and event.refunds is None else None,
        refund=refund_of(event, binding.refunds if binding is not None else None),
        capability=asked.capability,
        quiet=actor.anonymous,
        counted=asked.route,
        observe=plan.observe,
        dry=dry,
        trial=asked.dry,
        actor=actor.id if actor.anonymous else "",
        named=plan.limits.named,
        policy="" if dry else plan.file,
    )


def _asked_of(charge: Charge) -> Charge:
    """What a dry run asks of a limit. Of money that others spend too it learns only whether any is left.

    Otherwise whoever asks about ever other amounts would find out what they have spent, and spend nothing.
    """
    limit = charge.limit
    return charge if limit.own or charge.amount > limit.cap else replace(charge, amount=min(charge.amount, 1))


def rates_of(plan: Plan, lane: Lane, asked: Asked, event: ActionEvent | None) -> tuple[Charge, ...]:
    """What a judged request is charged under the rate limits, and under the one on guessing when it was a guess."""
    rates = lane.rates(event, asked.address)
    return (*rates, *guess_charge(plan, asked.peer)) if asked.guess else rates


def turned_away(plan: Plan, asked: Asked, verdict: Verdict) -> Entry:
    """The entry of what falls under no binding: nothing is charged, but a guess is counted.

    Its record is a refusal even where the plan observes and it passes: nobody concludes what was never admitted.
    """
    return Entry(
        id=asked.id,
        owner=owner_of(asked.actor),
        verdict=verdict,
        record=lambda final: _plain(plan, asked, None, final, (), unbound=True),
        rates=guess_charge(plan, asked.peer) if asked.guess else (),
        quiet=asked.actor.anonymous,
        counted=asked.route,
        trial=asked.dry,
    )


def unrecorded(error: LedgerUnavailableError | ReceiptError, capability: str) -> Verdict:
    """The refusal of what cannot be recorded."""
    full = isinstance(error, LedgerFullError)
    return Verdict(
        authorized=False,
        code=error.code if isinstance(error, LedgerUnavailableError) else LEDGER_UNAVAILABLE,
        reason="There is no room for another counter." if full else _UNRECORDED,
        capability=capability,
        retry_after=error.retry_after if isinstance(error, LedgerUnavailableError) else 0,
    )


def draft_of(  # noqa: PLR0913 (what a receipt says)
    plan: Plan,
    lane: Lane,
    asked: Asked,
    event: ActionEvent | None,
    final: Verdict,
    rates: tuple[Charge, ...],
    spends: tuple[Charge, ...],
) -> Draft:
    """The receipt of a decision: an `intent` when the handler is about to run, else a `refusal` or a `dry_run`.

    Refusals differ in what they say, so each is written whole; intents differ in a few blanks.
    """
    unusual = asked.dry or asked.flags or plan.redaction is not None
    if event is None or unusual or not (final.authorized or plan.observe):
        return _plain(plan, asked, event, final, rates + spends)
    money = event.amount
    amount = (str(money.minor),) if money is not None else ()
    form = _form(plan, asked, event, final, rates, spends)
    body = Filled(form, asked.id, _private(plan, asked, event), amount, (*amount * len(spends), quoted(asked.id)))
    return Draft("intent", lane.owner, body)


def _form(  # noqa: PLR0913 (what a receipt says)
    plan: Plan,
    asked: Asked,
    event: ActionEvent,
    final: Verdict,
    rates: tuple[Charge, ...],
    spends: tuple[Charge, ...],
) -> Form:
    """The form of intents that say the same, whoever's they are: which limits charge is a matter of the capability."""
    money, actor, lanes = event.amount, asked.actor, plan.lanes
    currency, exponent = (money.currency, money.exponent) if money is not None else ("", 0)
    said = (
        asked.route,
        asked.capability,
        final,
        actor.tier,
        actor.proof,
        currency,
        exponent,
        event.category,
        event.network,
        len(rates),
        len(spends),
    )
    form = lanes.forms.get(said)
    if form is None:
        body = _body(plan, asked, event, final, rates + spends)
        if money is None:
            form = form_of("intent", body, ("id",), PRIVATE)
        else:
            form = form_of("intent", body, ("amount", "id"), PRIVATE, range(len(rates), len(rates) + len(spends)))
        lanes.remember(said, form)
    return form


def _plain(  # noqa: PLR0913 (what a receipt says)
    plan: Plan,
    asked: Asked,
    event: ActionEvent | None,
    final: Verdict,
    charges: tuple[Charge, ...],
    *,
    unbound: bool = False,
) -> Draft:
    passes = final.authorized or (plan.observe and not unbound)
    kind = "dry_run" if asked.dry else "intent" if passes else "refusal"
    taken: dict[str, Any] = {}
    if plan.redaction is not None and event is not None:
        event, taken = _clean(plan.redaction, event)
    private: dict[str, str | None] = dict(zip(PRIVATE, _private(plan, asked, event), strict=True))
    body = _body(plan, asked, event, final, charges)
    if plan.redaction is None:
        return Draft(kind, owner_of(asked.actor), body, private)
    betrayed = {name for name in ("recipient", "resource") if betrays(private[name], taken)}
    # It is always there, so that it does not tell whether something was taken out.
    private[WITHHELD] = text_of(taken) if taken else None
    return Draft(kind, owner_of(asked.actor), body, private, plan.redaction.members | betrayed | {WITHHELD})


def _clean(redaction: Redaction, event: ActionEvent) -> tuple[ActionEvent, dict[str, Any]]:
    """An event without what its receipt never keeps, and that."""
    kept, taken = redaction.split(event.payload)
    category, network = (None if betrays(one, taken) else one for one in (event.category, event.network))
    return replace(event, payload=kept, category=category, network=network), taken


def _private(plan: Plan, asked: Asked, event: ActionEvent | None) -> tuple[str | None, ...]:
    """The values of `PRIVATE`, `None` for what is absent."""
    actor = asked.actor
    recipient = resource = payload = None
    if event is not None:
        if plan.keeps_fields:
            recipient, resource = event.recipient, event.resource
        if plan.keep_payload is not None and event.payload:
            payload = plan.keep_payload(event.payload)
    return (
        actor.id,
        actor.credential or None,
        actor.on_behalf_of or None,
        payload,
        asked.peer or None,
        recipient,
        asked.request or None,
        resource,
    )


def _body(
    plan: Plan,
    asked: Asked,
    event: ActionEvent | None,
    final: Verdict,
    charges: tuple[Charge, ...],
) -> DecisionBody:
    actor, observe = asked.actor, plan.observe
    amount = event.amount if event is not None else None
    category = network = ""
    if event is not None and plan.keeps_fields:
        category, network = event.category or "", event.network or ""
    return DecisionBody(
        amount="" if amount is None else str(amount.minor),
        capability=asked.capability,
        category=category,
        charges=[
            {
                "limit": charge.limit.name,
                "n": str(charge.amount),
                "unit": "spend" if charge.limit.currency else "rate",
            }
            for charge in charges
        ]
        if (final.authorized or observe) and not asked.dry
        else [],
        code=final.code,
        currency="" if amount is None else amount.currency,
        environment=plan.environment,
        exponent=0 if amount is None else amount.exponent,
        flags=(*final.flags, *asked.flags) if asked.flags else final.flags,
        id=asked.id,
        limit=final.limit,
        mode="observe" if observe else "enforce",
        network=network,
        policy=plan.digest,
        proof=actor.proof,
        route=asked.route,
        rule=final.rule,
        tier=_TIERS[actor.tier],
        verdict="allow" if final.authorized else "refuse",
    )
