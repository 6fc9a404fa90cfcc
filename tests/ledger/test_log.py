"""`fence.receipts`, as docs/receipts.md shows it."""

from __future__ import annotations

import json
from typing import Any

from afmiddleware.ledger.base import Filter, Ledger
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.receipts.bundle import to_json
from afmiddleware.receipts.standalone import verify_proof
from tests.ledger.conftest import DENY, ending, entry


def test_receipts_are_walked_found_verified_and_proven(ledger: Ledger) -> None:
    begun = entry("d1", owner="key:a")
    ledger.commit(ending(begun, ledger.commit(begun)))  # type: ignore[arg-type]
    ledger.commit(entry("d2", owner="key:b", verdict=DENY))
    ledger.commit(entry("d3", owner="key:b"))
    log = ReceiptLog(ledger, ledger.keys)

    def found(actor: str = "", **wanted: Any) -> list[str]:
        return [str(one.columns["decision"]) for one in log.find(Filter(**wanted), actor=actor)]

    assert [one.receipt.seq for one in log] == [one.receipt.seq for one in log.find()] == [1, 2, 3, 4]
    assert len(log) == 4
    assert (found(kind="refusal"), found(kind="intent"), found(verdict="refuse")) == (["d2"], ["d1", "d3"], ["d2"])
    last = log.decision("d3")[0].receipt.seq
    assert (found(actor="key:b"), found(actor="key:b", after=last - 1), found(actor="key:c")) == (
        ["d2", "d3"],
        ["d3"],
        [],
    )
    assert len(found(capability="payments.pay")) == 4 > len(found(capability="payments.pay", kind="outcome"))
    assert [one.columns["kind"] for one in log.decision("d1")] == ["intent", "outcome"]
    assert log.at(2) is not None
    assert log.at(0) is log.at(5) is None
    report = log.verify()
    assert (report.status, report.exit_code, report.checked, report.open) == ("unanchored", 4, 4, 1)
    (key,) = ledger.signing_keys()
    proof = json.loads(to_json(log.prove(log.decision("d1"))))
    assert verify_proof(proof, [key.public])["receipts"] == 2
    lines = [json.loads(line) for line in log.export(log.pseudonym("key:b"))]
    assert [json.loads(one["body"])["id"] for one in lines[1:-1]] == ["d2", "d3"]
