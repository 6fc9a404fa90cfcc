"""Forms: a body that is filled in has the very bytes that the encoder gives it."""

from __future__ import annotations

import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.errors import ReceiptError
from afmiddleware.model.outcome import End, Outcome, Settlement
from afmiddleware.model.receipt import DecisionBody, Draft, Filled
from afmiddleware.receipts.chain import Head, OwnerHead, append
from afmiddleware.receipts.forms import form_of, quoted
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.receipts.record import outcome

KEYS = ReceiptKeys.derive(bytes(range(32)))
HEAD = Head("afm-1", 6, bytes(range(32)), 900)
PRIVATE = ("actor", "recipient")
plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def body(*, category: str, rule: str, flags: tuple[str, ...], amount: str, charges: int, id: str) -> DecisionBody:  # noqa: A002
    listed = [{"limit": "burst%", "n": "1", "unit": "rate"}]
    listed += [{"limit": f"day{n}", "n": amount, "unit": "spend"} for n in range(charges)]
    return DecisionBody(
        amount=amount, capability="pay", category=category, charges=listed, code="policy.allowed", currency="USD",
        environment="%s", exponent=2, flags=flags, id=id, limit="", mode="enforce", network="", policy="ab",
        proof="bearer", route="POST /pay/{id}", rule=rule, tier="token", verdict="allow",
    )  # fmt: skip


@given(
    category=plain,
    rule=plain,
    flags=st.lists(plain, max_size=2).map(tuple),
    amount=st.integers(0, 2**53 - 1).map(str),
    charges=st.integers(0, 3),
    id=plain,
    recipient=st.none() | plain,
    now=st.sampled_from([1000, 899]),
)
def test_an_intent_from_a_form_is_the_intent_written_whole(
    category, rule, flags, amount, charges, id, recipient, now  # noqa: A002
) -> None:  # fmt: skip
    said = {"category": category, "rule": rule, "flags": flags, "charges": charges}
    private = {"actor": "key:a", "recipient": recipient}
    whole = append(
        Draft("intent", "key:a", body(**said, amount=amount, id=id), private), HEAD, OwnerHead(), KEYS, now, bytes
    )
    form = form_of("intent", body(**said, amount="0", id="x"), ("amount", "id"), PRIVATE, range(1, 1 + charges))
    filled = Filled(form, id, (*private.values(),), (amount,), (*[amount] * charges, quoted(id)))
    made = append(Draft("intent", "key:a", filled), HEAD, OwnerHead(), KEYS, now, bytes)
    assert made.body == whole.body == rfc8785.dumps(json.loads(made.body))
    assert ("clock_back" in json.loads(made.body)) == (now < HEAD.ts)
    assert made.receipt(KEYS) == whole.receipt(KEYS)


@pytest.mark.parametrize("captured", [0, 500, None])
@pytest.mark.parametrize("currency", ["USD", ""])
@pytest.mark.parametrize("settlement", [*Settlement])
@pytest.mark.parametrize("overrun", [0, 7])
def test_an_outcome_has_canonical_bytes(captured, currency, settlement, overrun) -> None:
    booked = Outcome(settlement, End.OK, 201, captured)
    draft = outcome("d1", "key:a", "pay", bytes(32), currency, 2, booked, overrun)
    written = append(draft, HEAD, OwnerHead(3, bytes(32)), KEYS, 1000, bytes)
    told = json.loads(written.body)
    assert written.body == rfc8785.dumps(told)
    assert (told["id"], told["kind"], told["status"], told["ref"]) == ("d1", "outcome", 201, "00" * 32)
    assert told["captured"] == ("" if captured is None or not currency else str(captured))
    assert told.get("overrun") == (str(overrun) if overrun else None)
    assert (told["oseq"], told["seq"], told["settlement"]) == (4, 7, settlement.value)


def test_what_has_no_utf_8_form_makes_no_form_and_fills_none() -> None:
    with pytest.raises(ReceiptError):
        form_of("intent", body(category="\ud800", rule="", flags=(), amount="1", charges=0, id="d"), ("id",))
    with pytest.raises(ReceiptError):
        quoted("\udfff")
