"""What is worked out once says of no request what holds for another."""

from __future__ import annotations

from msgspec.structs import replace

from afmiddleware import Fence
from afmiddleware.config.load import load
from afmiddleware.drivers import run
from afmiddleware.flow import admit, conclusion
from afmiddleware.identity.api_keys import new_key
from afmiddleware.ledger.base import Filter
from afmiddleware.model.http import HttpFacts, Target
from afmiddleware.model.outcome import Outcome, Settlement
from afmiddleware.plan import Admission
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.testing import FrozenClock

POLICY = """
version: 1
service: s
mode: observe
ledger: memory
identity: {api_keys: {store: ledger}}
routes: [{route: GET /a, capability: a.read, category: {from: query.kind}}]
rules: {allow: [{capability: a.read, identity: token}]}
limits: [{name: burst, rate: 1000/minute, per: address}]
"""
TARGET = Target(key="GET /a", method="GET", template="/a")


def ask(fence: Fence, key: str, kind: str = "x") -> Admission:
    head = [(b"host", b"a.example"), (b"authorization", f"Bearer {key}".encode())]
    facts = HttpFacts(
        method="GET", path="/a", raw_path=b"/a", query=f"kind={kind}".encode(), headers=head, peer="203.0.113.7"
    )
    passage = run(admit(fence.plan, facts, lambda: TARGET, fence.clock(), fence.new_id), fence.io)
    assert isinstance(passage, Admission)
    return passage


def told(fence: Fence) -> list[dict[str, object]]:
    found = [strict_parse(one.receipt.body) for one in fence.ledger.receipts(Filter())]
    return [body for body in found if body["kind"] != "policy"]


def key(fill: int, *, broken: bool = False) -> str:
    text, _ = new_key("nobody", lambda size: bytes([fill]) * size, now=0)
    return text[:-1] + ("a" if text[-1] != "a" else "b") if broken else text


def test_a_guess_is_charged_in_the_receipt_of_a_guess_alone() -> None:
    """Both are refused alike, and only observed; but what is not even a key was never looked up."""
    fence = Fence(load(POLICY), clock=FrozenClock())
    ask(fence, key(1, broken=True))
    ask(fence, key(2))
    ask(fence, key(3, broken=True))
    charged = [[one["limit"] for one in body["charges"]] for body in told(fence)]  # type: ignore[attr-defined]
    assert charged == [["burst"], ["burst", "guesses"], ["burst"]]
    fence.close()


def test_a_receipt_says_what_its_own_request_said() -> None:
    fence = Fence(load(POLICY), clock=FrozenClock())
    text, record = new_key("acme", bytes, now=0)
    fence.ledger.put_api_key(record)
    kinds = ["x", "y", "x", "%25s", "z"]
    for kind in kinds:
        ask(fence, text, kind)
    assert [body["category"] for body in told(fence)] == ["x", "y", "x", "%s", "z"]
    assert len({str(body["owner"]) for body in told(fence)}) == 1
    fence.close()


def test_what_was_worked_out_for_one_plan_is_not_believed_of_another() -> None:
    fence = Fence(load(POLICY), clock=FrozenClock())
    text, record = new_key("acme", bytes, now=0)
    fence.ledger.put_api_key(record)
    ask(fence, text)
    fence.plan = replace(fence.plan, digest="ab" * 32)
    ask(fence, text)
    first, second = told(fence)
    assert first["policy"] != second["policy"] == "ab" * 32
    fence.close()


def test_outcomes_that_wait_are_there_for_whoever_looks() -> None:
    fence = Fence(load(POLICY), clock=FrozenClock())
    text, record = new_key("acme", bytes, now=0)
    fence.ledger.put_api_key(record)
    passages = [ask(fence, text) for _ in range(3)]
    for passage in passages:
        end = conclusion(passage, Outcome(Settlement.CAPTURE, status=200))
        assert end is not None
        fence.post(end)
    before = fence.ledger.head().size
    assert [body["kind"] for body in told(fence)] == ["intent"] * 3 + ["outcome"] * 3
    assert fence.ledger.head().size == before >= 6
    report = fence.receipts.verify()
    assert (report.integrity, report.status, report.open, report.code) == ("ok", "unanchored", 0, "")
    fence.close()
