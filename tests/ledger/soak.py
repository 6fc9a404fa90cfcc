"""One process of the soak: a long run of mixed requests on a ledger that others use at the same time."""

from __future__ import annotations

import random
import sys
import threading
from pathlib import Path

from msgspec.structs import replace

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.fence import system_clock
from afmiddleware.ledger.base import Ledger
from afmiddleware.model import Charge, Held, Outcome, Settlement, Window
from afmiddleware.model.entry import Claim, Conclusion, Refund, Settle
from afmiddleware.model.outcome import Answer, End
from tests.ledger.conftest import DENY, crowd, entry, rate, spend, sqlite
from tests.ledger.servers import postgres

LIFE, OURS = spend(10**12, Window("total"), "life"), spend(10**13, Window("total"), "ours", per="global")
TIGHT, BURST, CROWD = spend(5_000_000, Window("total"), "tight"), rate(10**9), crowd(10_000)
ACTORS, THREADS = 40, 8
_DAY = 86_400_000_000


def opened(where: str) -> Ledger:
    """The ledger at a folder, or a URL."""
    if where.startswith("postgresql"):
        return postgres(where)
    return sqlite(Path(where), system_clock, deadline=60.0)


def run(where: str, name: str, requests: int) -> None:
    """Make so many requests."""
    ledger = opened(where)
    threads = [
        threading.Thread(target=_many, args=(ledger, f"{name}-{one}", requests // THREADS)) for one in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.close()


def _many(ledger: Ledger, name: str, requests: int) -> None:
    chance = random.Random(name)
    for number in range(requests):
        _one(ledger, chance, f"{name}-{number}")


def _one(ledger: Ledger, chance: random.Random, name: str) -> None:
    owner = f"key:{chance.randrange(ACTORS)}"
    begun = entry(name, BURST, LIFE, OURS, TIGHT, CROWD, amount=chance.randrange(2000), owner=owner)
    kind = chance.random()
    if kind < 0.1:
        begun = replace(begun, verdict=DENY)
    elif kind < 0.2:
        # Few keys, so that many of them are met again: in flight, answered, in doubt, or with another request.
        key = f"{owner}/{chance.randrange(50)}"
        begun = replace(begun, claim=Claim(key, str(chance.randrange(2)), _DAY))
    elif kind < 0.3:
        free = tuple(Charge(charge.limit, charge.key, 0) for charge in begun.spends)
        refund = Refund(f"reference:{owner}/{chance.randrange(200)}", chance.choice([-1, 300]), "USD", 2)
        begun = replace(begun, money=None, spends=free[:0], refund=refund)
    try:
        held = ledger.commit(begun)
        assert isinstance(held, Held)
        if held.receipt is None or not held.verdict.authorized:
            return
        how = chance.random()
        if how < 0.02:
            return  # Its process was killed: it stays held.
        settlement = Settlement.CAPTURE if how < 0.7 else Settlement.RELEASE if how < 0.85 else Settlement.UNKNOWN
        captured = chance.choice([None, None, chance.randrange(3000)]) if begun.money is not None else None
        answer = Answer(200, [], b"{}") if begun.claim is not None else None
        outcome = Outcome(settlement, End.OK, 200, captured, answer)
        reference = f"reference:{owner}/{chance.randrange(200)}" if begun.refund is None and how < 0.3 else ""
        ledger.post(Conclusion(name, outcome, begun.claim.key if begun.claim is not None else "", reference))
        if settlement is Settlement.UNKNOWN and chance.random() < 0.7:
            ledger.post(Settle(name, chance.choice([Settlement.CAPTURE, Settlement.RELEASE]), by="soak"))
    except LedgerUnavailableError:
        return  # Not admitted, or given back.


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
