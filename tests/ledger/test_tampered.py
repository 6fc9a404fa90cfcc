"""A stored log under attack, in every ledger that has tables: each change is named, with its place, or changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from afmiddleware.config.ledger_url import parse_postgres
from afmiddleware.errors import AFError
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.ledger.sqlite import SqliteReader
from afmiddleware.ledger.sqlite_file import Location
from afmiddleware.model import Held
from afmiddleware.receipts.anchor import Anchor
from afmiddleware.receipts.chain import Head, OwnerHead, append, leaf_hash
from afmiddleware.receipts.checkpoint import Checkpoint, KeySigner, sign
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.receipts.merkle import Frontier, extend
from afmiddleware.receipts.verify import Report
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import DENY, ending, entry, sqlite
from tests.ledger.servers import SECRET, admin, postgres, schema

KEYS = ReceiptKeys.derive(SECRET)
OTHER = ReceiptKeys.derive(bytes(32))
COLUMNS = "seq, body, leaf, mac, kind, decision, capability, verdict, code, ts, disclosed"


class Attacked:
    """A closed ledger of eight receipts, whose tables can be changed behind its back."""

    def __init__(self, kind: str, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._url = stack.enter_context(schema()) if kind == "postgres" else ""
        self._schema = parse_postgres(self._url).schema if self._url else ""
        self.connection: Any
        if self._url:
            with closing(self.open()) as ledger:
                fill(ledger)
            self.connection = stack.enter_context(admin())
            self.connection.execute(f'SET search_path TO "{self._schema}"')
        else:
            with closing(self.open()) as ledger:
                fill(ledger)
            self.connection = sqlite3.connect(folder / "fence.db", isolation_level=None)
            stack.callback(self.connection.close)

    def open(self) -> Any:
        return postgres(self._url, FrozenClock()) if self._url else sqlite(self._folder, FrozenClock())

    def do(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        found = self.connection.execute(statement.replace("?", "%s") if self._url else statement, values)
        return list(found) if found.description else []

    def verify(self, anchor: Anchor | None = None) -> Report:
        if self._url:
            from afmiddleware.ledger.postgres import PostgresReader

            reader: Any = PostgresReader(parse_postgres(self._url))
        else:
            reader = SqliteReader(Location.of(self._folder / "fence.db"))
        with closing(reader):
            try:
                return ReceiptLog(reader, KEYS).verify(anchor)
            except AFError as error:
                return Report(status="unreadable", log="", checked=0, code="unreadable", reason=str(error))

    def leaves(self) -> list[bytes]:
        return [leaf for (leaf,) in self.do("SELECT leaf FROM receipt ORDER BY seq")]


def fill(ledger: Any) -> None:
    for number in range(3):
        one = entry(f"d{number}", owner=f"key:{number % 2}", amount=100 + number)
        held = ledger.commit(one)
        assert isinstance(held, Held)
        ledger.commit(ending(one, held))
    for number in range(2):
        ledger.commit(entry(f"r{number}", owner="key:0", verdict=DENY))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service("postgresql"))])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def attacked(kind: str, tmp_path: Path) -> Iterator[Attacked]:
    with ExitStack() as stack:
        one = Attacked(kind, tmp_path, stack)
        assert (one.verify().status, one.verify().checked) == ("unanchored", 8)
        yield one


def swap(log: Attacked) -> None:
    for old, new in ((2, 99), (3, 2), (99, 3)):
        log.do("UPDATE receipt SET seq = ? WHERE seq = ?", new, old)


def forge(log: Attacked) -> None:
    """A refusal in the middle, with every hash right and every number after it moved on, made without the key."""
    leaves = log.leaves()
    name, ts = log.do("SELECT log, ts FROM head")[0]
    record = entry("forged", owner="key:0").record(DENY)
    receipt = append(record, Head(name, 3, leaves[2], ts), OwnerHead(2, leaves[1]), OTHER, ts, bytes).receipt(OTHER)
    for seq in range(8, 3, -1):
        log.do("UPDATE receipt SET seq = ? WHERE seq = ?", seq + 1, seq)
    row = (
        4,
        receipt.body,
        receipt.leaf,
        receipt.mac,
        "refusal",
        "forged",
        "payments.pay",
        "refuse",
        "policy.denied",
        ts,
        None,
    )
    log.do(f"INSERT INTO receipt ({COLUMNS}) VALUES ({', '.join('?' * 11)})", *row)
    log.do("UPDATE head SET size = 9, frontier = ?", extend(Frontier(), log.leaves())[0].pack())


def rewrite(log: Attacked, keys: ReceiptKeys, signer: KeySigner | None) -> None:
    """The whole log told anew: somebody paid less. With the log's own key only what is kept outside can tell."""
    (name,) = log.do("SELECT log FROM head")[0]
    rows = log.do(f"SELECT {COLUMNS} FROM receipt ORDER BY seq")
    frontier, prev, ended = Frontier(), bytes(32), dict[str, str]()
    heads: dict[bytes, bytes] = {}
    log.do("DELETE FROM checkpoint")
    for seq, body, leaf, *_ in rows:
        changed = bytes(body).replace(b'"captured":"100"', b'"captured":"1"')
        # Every link of the chain anew.
        for old, new in (*heads.items(), *((bytes.fromhex(a), bytes.fromhex(b)) for a, b in ended.items())):
            changed = changed.replace(old.hex().encode(), new.hex().encode())
        made = leaf_hash(changed)
        heads[bytes(leaf)] = made
        prev = made
        log.do("UPDATE receipt SET body = ?, leaf = ?, mac = ? WHERE seq = ?", changed, made, keys.mac(made), seq)
        frontier, _ = extend(frontier, [made])
        if signer is not None:
            log.do("INSERT INTO checkpoint VALUES (?, ?)", seq, sign(Checkpoint(name, seq, frontier.root()), signer)[0])
    log.do("UPDATE head SET leaf = ?, frontier = ?", prev, frontier.pack())


def cut(log: Attacked) -> None:
    """The last three receipts are gone, with all that knew of them."""
    leaves = log.leaves()[:5]
    frontier, _ = extend(Frontier(), leaves)
    (ts,) = log.do("SELECT ts FROM receipt WHERE seq = 5")[0]
    log.do("DELETE FROM receipt WHERE seq > 5")
    log.do("DELETE FROM checkpoint WHERE size > 5")
    log.do("UPDATE head SET size = 5, leaf = ?, ts = ?, frontier = ?", leaves[-1], ts, frontier.pack())


def stranger(log: Attacked) -> None:
    """A receipt of another log that was made with the same key."""
    record = entry("d9", owner="key:0").record(DENY)
    leaves = log.leaves()
    head = Head("afm-0000000000000000", 7, leaves[6], 1)
    made = append(record, head, OwnerHead(5, leaves[6]), KEYS, 1, bytes).receipt(KEYS)
    log.do("UPDATE receipt SET body = ?, leaf = ?, mac = ? WHERE seq = 8", made.body, made.leaf, made.mac)
    log.do("UPDATE head SET leaf = ?", made.leaf)


def one(statement: str, *values: object) -> Callable[[Attacked], None]:
    return lambda log: (log.do(statement, *values), None)[1]


ATTACKS: dict[str, tuple[Callable[[Attacked], None], int, str]] = {
    "first deleted": (one("DELETE FROM receipt WHERE seq = 1"), 1, "seq.gap"),
    "middle deleted": (one("DELETE FROM receipt WHERE seq = 4"), 4, "seq.gap"),
    "last deleted": (one("DELETE FROM receipt WHERE seq = 8"), 8, "head.mismatch"),
    "all deleted": (one("DELETE FROM receipt"), 1, "head.mismatch"),
    "two swapped": (swap, 2, "seq.mismatch"),
    "one repeated": (
        one(f"INSERT INTO receipt SELECT seq + 8, {COLUMNS.partition(', ')[2]} FROM receipt WHERE seq = 1"),
        9,
        "seq.mismatch",
    ),
    "one forged": (forge, 4, "mac.mismatch"),
    "rewritten without the key": (lambda log: rewrite(log, OTHER, None), 1, "mac.mismatch"),
    "HMACs stripped": (one("UPDATE receipt SET mac = ?", b""), 1, "mac.missing"),
    "HMACs of another key": (one("UPDATE receipt SET mac = ? WHERE seq = 5", OTHER.mac(bytes(32))), 5, "mac.mismatch"),
    "signatures stripped": (one("UPDATE checkpoint SET note = substr(note, 1, 70)"), 1, "checkpoint.malformed"),
    "checkpoints stripped": (one("DELETE FROM checkpoint"), 1, "checkpoint.missing"),
    "keys and checkpoints stripped": (
        lambda log: (log.do("DELETE FROM checkpoint"), log.do("DELETE FROM signing_key"), None)[2],
        8,
        "signer.missing",
    ),
    "kind column": (one("UPDATE receipt SET kind = 'refusal' WHERE seq = 1"), 1, "column.mismatch"),
    "decision column": (one("UPDATE receipt SET decision = 'd9' WHERE seq = 2"), 2, "column.mismatch"),
    "verdict column": (one("UPDATE receipt SET verdict = 'allow' WHERE seq = 7"), 7, "column.mismatch"),
    "time column": (one("UPDATE receipt SET ts = ts + 1 WHERE seq = 3"), 3, "column.mismatch"),
    "of another log": (stranger, 8, "log.foreign"),
    "leaves emptied": (one("UPDATE receipt SET leaf = ?", b""), 1, "leaf.mismatch"),
    "a value removed": (one("UPDATE receipt SET disclosed = NULL WHERE seq = 1"), 1, "disclosure.missing"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_named_with_its_place(attacked: Attacked, name: str) -> None:
    attack, seq, code = ATTACKS[name]
    if name == "keys and checkpoints stripped":
        attack(attacked)
        # Without any key the log says it is unsigned: who knows its key can tell, and an anchor that holds a signature.
        assert attacked.verify().signed == 0
        (name,), last = attacked.do("SELECT log FROM head")[0], attacked.leaves()[-1]
        assert attacked.verify(Anchor(name, 8, last)).status == "whole"
        found = attacked.verify(Anchor(name, 8, last, "the signed note"))
        assert (found.status, found.seq, found.code) == ("tampered", 8, "checkpoint.missing")
        return
    attack(attacked)
    found = attacked.verify()
    assert (found.status, found.seq, found.code) == ("tampered", seq, code), found


def test_a_log_cut_off_with_all_that_knows_of_it_is_told_by_the_anchor_alone(attacked: Attacked) -> None:
    leaves = attacked.leaves()
    (name,) = attacked.do("SELECT log FROM head")[0]
    cut(attacked)
    assert (attacked.verify().status, attacked.verify().checked) == ("unanchored", 5)
    assert attacked.verify(Anchor(name, 5, leaves[4])).status == "whole"
    found = attacked.verify(Anchor(name, 8, leaves[7]))
    assert (found.status, found.code, found.seq) == ("tampered", "anchor.behind", 6)


def test_a_log_told_anew_with_its_keys_is_told_by_the_anchor_alone(attacked: Attacked) -> None:
    leaves = attacked.leaves()
    (name,) = attacked.do("SELECT log FROM head")[0]
    signer = KeySigner(Ed25519PrivateKey.generate())
    attacked.do("UPDATE signing_key SET public = ?", signer.public)
    rewrite(attacked, KEYS, signer)
    assert attacked.verify().status == "unanchored"
    found = attacked.verify(Anchor(name, 8, leaves[7]))
    assert (found.status, found.code) == ("tampered", "anchor.mismatch")


def test_an_owners_end_that_was_changed_is_named_at_its_next_receipt(attacked: Attacked) -> None:
    from afmiddleware.limits.rows import pack, unpack_row

    for key, data in attacked.do("SELECT key, data FROM counter"):
        row = unpack_row(bytes(data))
        if row.oseq:
            attacked.do("UPDATE counter SET data = ? WHERE key = ?", pack(replace(row, oseq=row.oseq - 1)), key)
    with closing(attacked.open()) as ledger:
        ledger.commit(entry("next", owner="key:0", verdict=DENY))
    found = attacked.verify()
    assert (found.status, found.seq, found.code) == ("tampered", 9, "owner.gap")


FLIPPED = {
    "receipt": (*COLUMNS.split(", "),),
    "head": ("log", "size", "leaf", "ts", "frontier"),
    "checkpoint": ("size", "note"),
    "signing_key": ("public", "after", "proof"),
}


def flips(value: Any, step: int) -> Iterator[Any]:
    """A value with one bit of one byte changed, at every `step`th byte."""
    if isinstance(value, int):
        yield from (value ^ 1, value ^ 1 << 20)
        return
    data = value.encode() if isinstance(value, str) else bytes(value)
    for at in range(0, len(data), step):
        # Of a text that is still one.
        other = data[:at] + bytes([data[at] ^ (1 if isinstance(value, str) else 1 << at % 8)]) + data[at + 1 :]
        yield other.decode("utf-8", "replace") if isinstance(value, str) else other


def flip_everything(attacked: Attacked, step: int) -> None:
    done = 0
    for table, columns in FLIPPED.items():
        place = {"receipt": "seq", "checkpoint": "size", "signing_key": "after", "head": "id"}[table]
        for column in columns:
            for key, value in attacked.do(f"SELECT {place}, {column} FROM {table}"):
                for changed in flips(value, step) if value is not None else ():
                    if table == "receipt" and column == "seq" and 1 <= changed <= 8:
                        continue  # taken: the table itself refuses it
                    if table == "checkpoint" and column == "size" and 1 <= changed <= 8:
                        continue
                    attacked.do(f"UPDATE {table} SET {column} = ? WHERE {place} = ?", changed, key)
                    found = attacked.verify()
                    same = table == "receipt" and column == "disclosed" and _same(changed, value)
                    assert same or found.status in ("tampered", "unreadable"), (table, column, key, changed, found)
                    moved = changed if column == place else key
                    attacked.do(f"UPDATE {table} SET {column} = ? WHERE {place} = ?", value, moved)
                    done += 1
    assert attacked.verify().status == "unanchored"
    assert done > 100


def _same(changed: bytes, value: bytes) -> bool:
    from afmiddleware.ledger.stored import _values

    return _values(changed) == _values(value)


def test_some_flipped_bytes_are_named(attacked: Attacked) -> None:
    flip_everything(attacked, 61)


@pytest.mark.slow
def test_every_flipped_byte_is_named(attacked: Attacked) -> None:
    flip_everything(attacked, 1)


def test_a_log_without_its_head_is_not_read(attacked: Attacked) -> None:
    attacked.do("DELETE FROM head")
    assert attacked.verify().status == "unreadable"
