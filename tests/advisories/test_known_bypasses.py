"""One test for each way in which something of this kind is known to have failed in the field."""

from __future__ import annotations

import sys
import threading

import pytest
from msgspec.structs import replace

from afmiddleware.errors import GrammarError, LedgerUnavailableError
from afmiddleware.grammar.amounts import minor_from_text, to_minor
from afmiddleware.identity.keyset import read_keyset
from afmiddleware.identity.outcome import Invalid
from afmiddleware.identity.tokens import Issuer, Tokens
from afmiddleware.ledger.memory import MemoryLedger
from afmiddleware.mapping.screen import screen
from afmiddleware.model import Held, HttpFacts, Settlement, Window
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.testing import FrozenClock, mint_es256_issuer
from tests.ledger.conftest import DENY, ending, entry, rate, spend


def ledger() -> MemoryLedger:
    return MemoryLedger(ReceiptKeys.derive(bytes(32)), FrozenClock(), bytes)


@pytest.mark.parametrize("text", ["-5", "-0", "+5", "1e3", "NaN", "Infinity", "5\n", "٥", "5_000", ""])
def test_an_amount_below_zero_or_without_value_is_no_credit(text: str) -> None:
    """A negative cost raised what remained of a limit, and NaN passed every comparison."""
    with pytest.raises(GrammarError):
        to_minor(text, 2)
    with pytest.raises(GrammarError):
        minor_from_text(text)


def test_the_first_requests_of_an_unknown_caller_race_for_one_budget() -> None:
    """Parallel first requests of a caller without a row each saw an empty budget."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(10):
            assert raced(16) == 5
    finally:
        sys.setswitchinterval(before)


def raced(workers: int) -> int:
    """How many of so many first requests of 1 USD, all at once, get past a cap of 5 USD."""
    books = ledger()
    admitted: list[bool] = []

    def work(worker: int) -> None:
        held = books.commit(entry(f"d{worker}", spend(500, Window("day")), rate(100), amount=100))
        assert isinstance(held, Held)
        admitted.append(held.verdict.authorized)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(admitted)


def test_a_refused_request_eats_none_of_the_longer_budget() -> None:
    """Limits asked one after another stayed charged when a later one refused."""
    books = ledger()
    long, short = spend(1000, Window("total"), "long"), spend(100, Window("day"), "short")
    held = books.commit(entry("d1", long, short, amount=500))
    assert isinstance(held, Held)
    assert held.verdict.limit == "short"
    row = books.rows(["actor:key:a"])["actor:key:a"]
    assert row.cells["long/total/USD"].total == 0


def test_a_release_that_is_sent_twice_credits_once() -> None:
    """A release after a release made the counter negative, which is budget out of nothing."""
    books, limit = ledger(), spend(1000, Window("total"))
    begun, other = entry("d1", limit, amount=400), entry("d2", limit, amount=600)
    held = books.commit(begun)
    books.commit(other)
    assert isinstance(held, Held)
    for _ in range(3):
        books.commit(ending(begun, held, Settlement.RELEASE))
    assert books.rows(["actor:key:a"])["actor:key:a"].cells["budget/total/USD"].total == 600


def test_one_token_has_one_spelling() -> None:
    """A padded spelling of a revoked token was another text, and so was not revoked."""

    clock = FrozenClock()
    server = mint_es256_issuer(clock=clock)
    keys = read_keyset(server.jwks, ("ES256",))
    issuer = Issuer(name=server.issuer, audience=server.audience, algorithms=("ES256",), snapshot=lambda: keys)
    tokens = Tokens([issuer], lambda: 0.0)
    token = server.mint()
    for spelling in (token + "=", token + "==", token + "\n", " " + token, token.replace(".", "..", 1)):
        checking = tokens.check(spelling, clock())
        with pytest.raises(StopIteration) as end:
            next(checking)
        assert isinstance(end.value.value, Invalid)


@pytest.mark.parametrize("path", ["/a%2fb", "/a/../b", "//a", "/a%0a", "/a%5cb", "/a;/..;/b", "/%2e%2e/a"])
def test_gate_and_router_cannot_read_a_path_differently(path: str) -> None:
    """Gates that normalised, or did not, judged one path while the router ran another."""
    from urllib.parse import unquote

    facts = HttpFacts(method="GET", path=unquote(path), raw_path=path.encode(), headers=((b"host", b"x"),))
    fault = screen(facts)
    assert fault is not None
    assert fault.code == "request.ambiguous"


def test_callers_nobody_knows_cannot_take_the_room_of_known_ones() -> None:
    """A flood from many addresses filled the table of counters, and known callers were refused."""
    books = MemoryLedger(ReceiptKeys.derive(bytes(32)), FrozenClock(), bytes, max_rows=1000)
    refused = 0
    for number in range(1500):
        stranger = entry(f"s{number}", rate(5), owner=f"address:2001:db8:{number:x}::/64", verdict=DENY, quiet=True)
        try:
            books.commit(stranger)
        except LedgerUnavailableError:
            refused += 1
    assert refused > 0
    held = books.commit(entry("known", rate(5), spend(1000, Window("day")), amount=100))
    assert isinstance(held, Held)
    assert held.verdict.authorized


def test_what_a_caller_invents_does_not_grow_the_counts() -> None:
    """Refusals were counted under names that the caller had chosen, without end."""
    books = MemoryLedger(ReceiptKeys.derive(bytes(32)), FrozenClock(), bytes)
    for number in range(2000):
        invented = replace(entry(f"s{number}", verdict=DENY, quiet=True), counted=f"METHOD{number} /x")
        books.commit(invented)
    books._books.flush_turned_away()
    written = strict_parse(books._books.written[-1].body)["counts"]
    assert len(written) <= 501
    assert sum(one["n"] for one in written) == 2000


def test_a_counter_that_is_driven_over_every_bound_stays_above_its_cap() -> None:
    """A total beyond 64 bits could not be stored, and nothing was counted any more."""
    books, limit = ledger(), spend(100, Window("total"))
    for number in range(3000):
        books.commit(entry(f"d{number}", limit, amount=2**53 - 1, observe=True))
    row = books.rows(["actor:key:a"])["actor:key:a"]
    assert row.cells["budget/total/USD"].total >= 2**60
    assert not books.commit(entry("last", limit, amount=1)).verdict.authorized  # type: ignore[union-attr]
