"""A long run of mixed requests from four processes: at its end the counters are the sum of the receipts, to the cent."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from afmiddleware.ledger.base import Filter
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.verify import verify
from tests.ledger import soak
from tests.ledger.servers import schema

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger

ROOT = Path(__file__).parents[2]
LEDGERS = ["sqlite", pytest.param("postgres", marks=pytest.mark.service("postgresql"))]


def owed(ledger: Ledger) -> Counter[str]:
    """What counts for each owner by the receipts alone, in cents."""
    counts: dict[str, tuple[str, int]] = {}
    for stored in ledger.receipts(Filter()):
        body = strict_parse(stored.receipt.body)
        name, owner = str(body.get("id", "")), str(body["owner"])
        if body["kind"] in ("outcome", "resolution", "refund") and body["captured"] != "":
            counts[name] = owner, int(str(body["captured"]))
    for name, hold in ledger.holds("held"):
        counts[name] = ledger.keys.pseudonym(hold.owner), hold.amount
    found: Counter[str] = Counter()
    for owner, amount in counts.values():
        found[owner] += amount
    return found


def check(ledger: Ledger) -> Counter[str]:
    found = owed(ledger)
    actors = [f"key:{number}" for number in range(soak.ACTORS)]
    rows = ledger.rows([f"actor:{actor}" for actor in actors] + ["global"])
    for actor in actors:
        row = rows.get(f"actor:{actor}")
        cells = row.cells if row is not None else {}
        for limit in (soak.LIFE, soak.TIGHT):
            counted = cells[limit.cell].total if limit.cell in cells else 0
            assert counted == found[ledger.keys.pseudonym(actor)], (actor, limit.name)
    assert rows["global"].cells[soak.OURS.cell].total == sum(found.values())
    report = verify(ledger.receipts(Filter()), ledger.head(), ledger.keys, None)
    assert report.code == ""
    assert report.open == len([*ledger.holds("held")])
    return Counter(str(stored.columns["kind"]) for stored in ledger.receipts(Filter()))


def soaked(kind: str, folder: Path, requests: int) -> Counter[str]:
    with ExitStack() as stack:
        where = str(folder) if kind == "sqlite" else stack.enter_context(schema())
        first = soak.opened(where)
        stack.callback(first.close)
        command = [sys.executable, "-m", "tests.ledger.soak", where]
        running = [
            stack.enter_context(subprocess.Popen([*command, f"p{n}", str(requests // 4)], cwd=ROOT)) for n in range(4)
        ]
        assert [one.wait() for one in running] == [0] * 4
        return check(first)


@pytest.mark.parametrize("kind", LEDGERS)
def test_a_short_run_of_mixed_requests(kind: str, tmp_path: Path) -> None:
    kinds = soaked(kind, tmp_path, 1600)
    assert {"intent", "refusal", "outcome", "resolution", "refund"} <= kinds.keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", LEDGERS)
def test_a_hundred_thousand_mixed_requests(kind: str, tmp_path: Path) -> None:
    kinds = soaked(kind, tmp_path, 100_000)
    assert kinds["intent"] > 50_000
    assert kinds["refund"] > 500
