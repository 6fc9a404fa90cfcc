"""The seals of a ledger: every commit is signed, every receipt is proven, and no change of them goes unnamed."""

from __future__ import annotations

import sqlite3
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from afmiddleware.errors import LedgerError, ReceiptError
from afmiddleware.fence import undo
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.ledger.sqlite import SqliteLedger, SqliteReader
from afmiddleware.ledger.sqlite_file import Location
from afmiddleware.model import Draft, Held, Record
from afmiddleware.model.receipt import OPERATOR, Value
from afmiddleware.pep.respond import receipt_field
from afmiddleware.receipts.bundle import read_had, to_json
from afmiddleware.receipts.checkpoint import Checkpoint, KeySigner, check, parse, sign
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.receipts.merkle import consistent, root_of
from afmiddleware.receipts.notary import rotation
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import ending, entry, opened, sqlite
from tests.ledger.servers import SECRET

if TYPE_CHECKING:
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.receipts.verify import Report, StoredReceipt


KEYS = ReceiptKeys.derive(SECRET)


def fill(ledger: Ledger, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        one = entry(f"d{number:04}", owner=f"key:{number % 3}")
        held = ledger.commit(one)
        assert isinstance(held, Held)
        if number % 2:
            ledger.commit(ending(one, held))


@pytest.fixture
def kept(tmp_path: Path, clock: FrozenClock) -> Path:
    """A closed SQLite ledger with some receipts."""
    ledger = sqlite(tmp_path, clock)
    fill(ledger, 8)
    ledger.close()
    return tmp_path


def report(folder: Path, **parts: object) -> Report:
    reader = SqliteReader(Location.of(folder / "fence.db"))
    try:
        return ReceiptLog(reader, KEYS).verify(**parts)  # type: ignore[arg-type]
    finally:
        reader.close()


def at(log: ReceiptLog, seq: int) -> StoredReceipt:
    found = log.at(seq)
    assert found is not None
    return found


def edit(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "fence.db", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "kind", ["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.service("postgresql"))]
)
def test_every_receipt_is_proven_by_the_public_key_alone(kind: str, tmp_path: Path, clock: FrozenClock):
    with opened(kind, tmp_path, clock) as ledger:
        fill(ledger, 300)
        log = ReceiptLog(ledger, KEYS)
        (key,) = ledger.signing_keys()
        point = check(ledger.checkpoint(), ledger.head().log, [key.public])
        assert point.size == ledger.head().size == 450 == len(log)
        for seq in (1, 2, 200, 256, 257, 449, 450):
            one = log.at(seq)
            assert one is not None
            proof = log.prove([one])
            path = [b64decode(step) for step in proof.receipts[0].path]
            assert root_of(one.receipt.leaf, seq - 1, point.size, path) == point.root
        found = log.verify(trusted=(key.public,))
        assert (found.status, found.checked, found.signed) == ("unanchored", 450, 450)


def test_each_commit_has_one_checkpoint_and_one_follows_from_the_other(kept: Path):
    reader = SqliteReader(Location.of(kept / "fence.db"))
    notes = list(reader.checkpoints())
    assert [size for size, _ in notes] == list(range(1, 13))
    first, last = parse(notes[4][1]).checkpoint, parse(notes[-1][1]).checkpoint
    path = ReceiptLog(reader).grown(first.size, last.size)
    assert consistent(first.size, first.root, last.size, last.root, path)
    reader.close()


def test_the_answer_carries_the_signed_root(tmp_path: Path, clock: FrozenClock):
    ledger = sqlite(tmp_path, clock)
    held = ledger.commit(entry("d1"))
    assert isinstance(held, Held)
    assert held.receipt is not None
    assert held.receipt.seal is not None
    field = receipt_field(held.receipt).decode()
    (had,) = read_had(f"Agent-Receipt: {field}\n")
    point = parse(ledger.checkpoint()).checkpoint
    assert (had.log, had.seq, had.leaf, had.size, had.root) == (
        point.origin,
        1,
        held.receipt.leaf,
        point.size,
        point.root,
    )
    assert held.receipt.seal.signature == parse(ledger.checkpoint()).signatures[0][2]
    ledger.close()


TAMPERINGS: list[tuple[tuple[str, ...], str]] = [
    (("UPDATE checkpoint SET note = replace(note, '\n7\n', '\n6\n') WHERE size = 7",), "checkpoint.unsigned"),
    (("UPDATE checkpoint SET note = '' WHERE size = 7",), "checkpoint.malformed"),
    (
        ("UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE size = 6) WHERE size = 7",),
        "checkpoint.mismatch",
    ),
    (("DELETE FROM checkpoint",), "checkpoint.missing"),
    (("DELETE FROM checkpoint WHERE size = 12",), "checkpoint.missing"),
    (("UPDATE head SET frontier = zeroblob(64)",), "tree.mismatch"),
    (("DELETE FROM signing_key",), "signer.missing"),
    (("UPDATE signing_key SET after = 3",), "signer.missing"),
    (("UPDATE signing_key SET public = zeroblob(32)",), "checkpoint.unsigned"),
    (("INSERT INTO signing_key VALUES (randomblob(32), 5, randomblob(64))",), "signer.unproven"),
    (("INSERT INTO checkpoint SELECT 40, note FROM checkpoint WHERE size = 12",), "checkpoint.ahead"),
    (
        (
            "DELETE FROM receipt WHERE seq > 10",
            "UPDATE head SET size = 10, leaf = (SELECT leaf FROM receipt WHERE seq = 10)",
        ),
        "tree.mismatch",
    ),
]


@pytest.mark.parametrize(("statements", "code"), TAMPERINGS)
def test_every_change_of_a_seal_is_named(kept: Path, statements: tuple[str, ...], code: str):
    assert report(kept).status == "unanchored"
    edit(kept, *statements)
    found = report(kept)
    assert (found.status, found.code) == ("tampered", code)


def test_a_stored_node_that_was_changed_is_named(tmp_path: Path, clock: FrozenClock):
    ledger = sqlite(tmp_path, clock)
    fill(ledger, 200)
    ledger.close()
    edit(tmp_path, "UPDATE node SET hash = zeroblob(32)")
    assert (report(tmp_path).code, report(tmp_path).seq) == ("tree.mismatch", 256)


def test_a_log_signed_by_another_key_is_not_the_one_trusted(kept: Path):
    ours = KeySigner.read((kept / "fence.db.signing.pem").read_bytes()).public
    assert report(kept, trusted=(ours,)).status == "unanchored"
    assert report(kept, trusted=(bytes(32),)).code == "signer.foreign"


def test_a_receipt_that_was_given_out_anchors_the_log(kept: Path):
    reader = SqliteReader(Location.of(kept / "fence.db"))
    log = ReceiptLog(reader)
    had = read_had(to_json(log.prove([at(log, 12)])).decode())
    reader.close()
    assert report(kept, had=had).status == "whole"
    edit(
        kept,
        "DELETE FROM receipt WHERE seq > 11",
        "DELETE FROM checkpoint WHERE size > 11",
        "UPDATE head SET size = 11, leaf = (SELECT leaf FROM receipt WHERE seq = 11), frontier = x''",
    )
    assert report(kept).status == report(kept, had=had).status == "tampered"


def test_two_signed_roots_of_one_size_are_evidence(kept: Path):
    signer = KeySigner.read((kept / "fence.db.signing.pem").read_bytes())
    reader = SqliteReader(Location.of(kept / "fence.db"))
    log = ReceiptLog(reader)
    proof = log.prove([at(log, 3)])
    reader.close()
    other, _ = sign(Checkpoint(proof.log, 12, bytes(32)), signer)
    proof.checkpoint = other
    found = report(kept, had=read_had(to_json(proof).decode()))
    assert (found.status, found.code, found.seq) == ("tampered", "checkpoint.equivocation", 12)
    assert [check(note, proof.log, [signer.public]).size for note in found.evidence] == [12, 12]


def rotate(folder: Path, clock: FrozenClock) -> tuple[KeySigner, KeySigner]:
    place = folder / "fence.db.signing.pem"
    old = KeySigner.read(place.read_bytes())
    new = KeySigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    ledger = SqliteLedger(Location.of(folder / "fence.db"), clock, undo, secret=SECRET)
    draft, proof = rotation(ledger.head().log, old, new.public)
    ledger.commit(Record(draft, new_key=new.public, proof=proof))
    ledger.close()
    return old, new


def test_a_key_is_rotated_on_record_and_the_old_one_is_retired(kept: Path, clock: FrozenClock):
    old, new = rotate(kept, clock)
    ledger = SqliteLedger(Location.of(kept / "fence.db"), clock, undo, secret=SECRET, signer=new)
    fill(ledger, 3, start=100)
    assert check(ledger.checkpoint(), ledger.head().log, [new.public]).size == 17
    ledger.close()
    for trusted in ((old.public,), (new.public,), ()):
        assert report(kept, trusted=trusted).status == "unanchored"
    # The retired key signs a newer checkpoint: the signature holds, the time does not.
    reader = SqliteReader(Location.of(kept / "fence.db"))
    point = parse(reader.checkpoint()).checkpoint
    reader.close()
    note, _ = sign(point, old)
    edit(kept, f"UPDATE checkpoint SET note = '{note}' WHERE size = {point.size}")
    assert (report(kept).code, report(kept).seq) == ("checkpoint.unsigned", point.size)


def test_a_key_without_its_record_is_named(kept: Path, clock: FrozenClock):
    rotate(kept, clock)
    edit(kept, "DELETE FROM signing_key WHERE after > 0")
    assert report(kept).code == "signer.unrecorded"


def test_a_retired_key_does_not_start_a_ledger(kept: Path, clock: FrozenClock):
    rotate(kept, clock)
    with pytest.raises(ReceiptError, match="restore that one"):
        sqlite(kept, clock)


def test_a_missing_signing_key_is_never_made_anew_over_a_log(kept: Path, clock: FrozenClock):
    (kept / "fence.db.signing.pem").unlink()
    with pytest.raises(ReceiptError, match="is missing: restore it, or copy it from a host that writes this log"):
        sqlite(kept, clock)
    assert not (kept / "fence.db.signing.pem").exists()


def test_a_signing_key_is_readable_by_its_owner_alone(kept: Path):
    assert (kept / "fence.db.signing.pem").stat().st_mode & 0o777 == 0o600


def test_redaction_on_record_is_told_from_a_missing_value(kept: Path, clock: FrozenClock):
    ledger = sqlite(kept, clock)
    body: dict[str, Value] = {"id": "", "fields": ["actor"], "seqs": [1, 2], "reason": "gdpr.erasure", "by": "ops"}
    ledger.commit(Record(Draft(kind="redaction", owner=OPERATOR, body=body), erase=("actor",), erase_in=(1, 2)))
    one = ReceiptLog(ledger).at(1)
    assert one is not None
    assert "actor" not in one.receipt.disclosed
    assert "payload" in one.receipt.disclosed
    ledger.close()
    assert report(kept).status == "unanchored"
    edit(kept, "UPDATE receipt SET disclosed = NULL WHERE seq = 1")
    assert (report(kept).code, report(kept).seq) == ("disclosure.missing", 1)


def test_a_ledger_of_the_first_version_is_given_its_tree(tmp_path: Path, clock: FrozenClock, kept: Path):
    edit(
        kept,
        "DROP TABLE node",
        "DROP TABLE checkpoint",
        "DROP TABLE signing_key",
        "DROP TABLE revocation",
        "DROP TABLE policy",
        "ALTER TABLE head DROP COLUMN frontier",
        "ALTER TABLE head DROP COLUMN signer",
        "PRAGMA user_version = 2",
    )
    (kept / "fence.db.signing.pem").unlink()
    ledger = sqlite(kept, clock)
    fill(ledger, 1, start=50)
    assert ledger.checkpoint() == ""
    ledger.close()
    assert (report(kept).status, report(kept).signed) == ("unanchored", 0)
    signer = KeySigner(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    ledger = SqliteLedger(Location.of(kept / "fence.db"), clock, undo, secret=SECRET, signer=signer)
    fill(ledger, 1, start=60)
    ledger.close()
    assert (report(kept).status, report(kept).signed) == ("unanchored", 14)


def test_a_ledger_in_memory_keeps_its_key_and_records_no_other(clock: FrozenClock) -> None:
    with opened("memory", Path(), clock) as ledger:
        fill(ledger, 3)
        size = ledger.head().size
        draft, proof = rotation(ledger.head().log, KeySigner(Ed25519PrivateKey.generate()), bytes(32))
        with pytest.raises(LedgerError, match="is signed by the key it began with"):
            ledger.commit(Record(draft, new_key=bytes(32), proof=proof))
        assert ledger.head().size == size
        assert ReceiptLog(ledger, ledger.keys).verify().code == ""
