"""An export becomes a ledger of its own, byte for byte, or nothing at all."""

from __future__ import annotations

import io
import json
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afmiddleware.config.ledger_url import parse_postgres
from afmiddleware.errors import ReceiptError
from afmiddleware.ledger.archive import import_export
from afmiddleware.ledger.archive_sqlite import SqliteShelf
from afmiddleware.ledger.base import Filter, Reader
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.ledger.open import open_shelf
from afmiddleware.ledger.sqlite import SqliteReader
from afmiddleware.ledger.sqlite_file import Location
from afmiddleware.model import Record
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.receipts.notary import redaction
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import ending, entry, sqlite
from tests.ledger.servers import POSTGRES, SECRET, postgres, schema

KEYS = ReceiptKeys.derive(SECRET)


@cache
def exported(count: int = 6) -> tuple[bytes, bytes, tuple[object, ...]]:
    """An export, the public key it is signed by, and the receipts that were exported."""
    with TemporaryDirectory() as folder, closing(sqlite(Path(folder), FrozenClock())) as ledger:
        for number in range(count):
            one = entry(f"d{number}", owner=f"key:{number % 2}")
            held = ledger.commit(one)
            if number % 2:
                ledger.commit(ending(one, held))  # type: ignore[arg-type]
        ledger.commit(Record(redaction(["actor"], [1], "gdpr.erasure", "dpo"), erase=("actor",), erase_in=(1,)))
        public = ledger.signing_keys()[-1].public
        return b"".join(ReceiptLog(ledger, KEYS).export()), public, content(ledger)


def content(ledger: Reader) -> tuple[object, ...]:
    """All that a stranger could check in a ledger."""
    head = ledger.head()
    return (
        head,
        ledger.frontier(),
        tuple((one.receipt, tuple(sorted(one.columns.items()))) for one in ledger.receipts(Filter())),
        tuple(ledger.checkpoints()),
        tuple(ledger.signing_keys()),
        tuple(tuple(ledger.nodes(level, 0, 1000)) for level in (0, 8)),
    )


def imported(folder: Path, data: bytes, public: bytes, keys: ReceiptKeys | None = KEYS) -> tuple[object, ...]:
    place = folder / "archive.db"
    import_export(io.BytesIO(data), lambda: SqliteShelf(place), [public])
    with closing(SqliteReader(Location.of(place))) as reader:
        assert ReceiptLog(reader, keys).verify(trusted=(public,)).status == "unanchored"
        return content(reader)


@pytest.mark.parametrize("count", [1, 6, 1200])
def test_what_is_read_back_is_what_was_exported(tmp_path: Path, count: int) -> None:
    data, public, was = exported(count)
    assert imported(tmp_path, data, public) == was
    assert [one.name for one in tmp_path.iterdir() if "import" in one.name] == []


def test_an_archive_is_never_continued(tmp_path: Path) -> None:
    data, public, _ = exported()
    imported(tmp_path, data, public)
    (tmp_path / "archive.db").rename(tmp_path / "fence.db")
    with pytest.raises(ReceiptError, match="is an archive: it is read and verified, and never continued"):
        sqlite(tmp_path, FrozenClock())


def test_nothing_is_imported_over_a_ledger(tmp_path: Path) -> None:
    data, public, _ = exported()
    with closing(sqlite(tmp_path, FrozenClock())) as ledger:
        ledger.commit(entry("mine"))
        before = content(ledger)
    with pytest.raises(ReceiptError, match=r"there is a ledger at .* already"):
        import_export(io.BytesIO(data), lambda: SqliteShelf(tmp_path / "fence.db"), [public])
    with closing(SqliteReader(Location.of(tmp_path / "fence.db"))) as reader:
        assert content(reader) == before


def _counted(lines: list[bytes], more: int) -> bytes:
    """The last line of the export, with another number of checkpoints."""
    told = json.loads(lines[-1])
    return json.dumps(told | {"checkpoints": told["checkpoints"] + more}).encode() + b"\n"


def _without_a_checkpoint(lines: list[bytes]) -> list[bytes]:
    at = next(at for at, line in enumerate(lines) if line.startswith(b'{"checkpoint":'))
    return [*lines[:at], *lines[at + 1 :]]


def _stamped(lines: list[bytes], mac: str) -> list[bytes]:
    """The export with another HMAC in its first receipt, which no public key tells."""
    told = json.loads(lines[1])
    return [lines[0], json.dumps(told | {"mac": mac}).encode() + b"\n", *lines[2:]]


def test_who_has_the_key_has_the_hmacs_checked_too(tmp_path: Path) -> None:
    data, public, was = exported()
    forged = b"".join(_stamped(data.splitlines(keepends=True), "ab" * 32))
    place = tmp_path / "archive.db"
    with pytest.raises(ReceiptError, match="line 2: its HMAC was not made with the log's key"):
        import_export(io.BytesIO(forged), lambda: SqliteShelf(place), [public], keys=KEYS)
    assert [*tmp_path.iterdir()] == []
    import_export(io.BytesIO(data), lambda: SqliteShelf(place), [public], keys=KEYS)
    with closing(SqliteReader(Location.of(place))) as reader:
        assert content(reader) == was


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [*lines[:3], *lines[4:]], r"line 4: "),
        (lambda lines: [lines[0], lines[1].replace(rb"\"seq\":1,", rb"\"seq\":2,"), *lines[2:]], r"line 2: "),
        (lambda lines: [*lines[:-1], lines[-2], _counted(lines, 1)], r"line \d+: the checkpoint"),
        (lambda lines: lines[:-1], r"the export is cut off"),
        (lambda lines: [*lines[:-1], lines[-1][:-3]], r"line \d+: "),
        (lambda lines: [*lines, b"{}\n"], r"something stands after the end"),
        (lambda lines: [*lines[:4], b"not json\n", *lines[4:]], r"line 5: a line is not JSON"),
        (lambda lines: [*lines[:4], b"x" * (1 << 21) + b"\n", *lines[4:]], r"line 5: "),
        (lambda lines: [lines[0].replace(b'"owner":""', b'"owner":"0"'), *lines[1:]], r"line \d+: "),
        (lambda _lines: [], r"line 0: "),
        (_without_a_checkpoint, r"the end counts other lines than are there"),
        (lambda lines: _stamped(lines, ""), r"line 2: the receipt has no HMAC"),
        (lambda lines: _stamped(lines, "00" * 32), r"line 2: the receipt has no HMAC"),
        (lambda lines: _stamped(lines, "ab" * 31), r"line 2: the receipt has no HMAC"),
    ],
)
def test_a_bad_line_is_named_and_leaves_nothing(tmp_path: Path, change: object, said: str) -> None:
    data, public, _ = exported()
    lines = data.splitlines(keepends=True)
    with pytest.raises(ReceiptError, match=said):
        imported(tmp_path, b"".join(change(lines)), public)  # type: ignore[operator]
    assert [*tmp_path.iterdir()] == []


def test_an_export_of_one_owner_or_of_a_stranger_is_refused(tmp_path: Path) -> None:
    data, public, _ = exported()
    with pytest.raises(ReceiptError, match="signed by no key that you trust"):
        imported(tmp_path, data, bytes(32))
    with closing(sqlite(tmp_path, FrozenClock())) as ledger:
        ledger.commit(entry("d1", owner="key:1"))
        mine = b"".join(ReceiptLog(ledger, KEYS).export(KEYS.pseudonym("key:1")))
        key = ledger.signing_keys()[-1].public
        proof = json.dumps({"format": "afmiddleware-receipt-proof/1"}).encode()
    with pytest.raises(ReceiptError, match="only an export of a whole log"):
        imported(tmp_path, mine, key)
    with pytest.raises(ReceiptError, match="line 1: "):
        imported(tmp_path, proof, public)


def test_a_file_that_changes_between_its_two_readings_is_refused(tmp_path: Path) -> None:
    data, public, _ = exported()
    at = data.index(b'"mac":"') + 7
    other = data[:at] + b"00000000" + data[at + 8 :]

    class Changing(io.BytesIO):
        def seek(self, at: int, whence: int = 0) -> int:
            self.__init__(other)  # type: ignore[misc]
            return at

    with pytest.raises(ReceiptError, match="was changed while it was read"):
        import_export(Changing(data), lambda: SqliteShelf(tmp_path / "archive.db"), [public])
    assert [*tmp_path.iterdir()] == []


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An export in which something was changed: bytes, lines, or the values inside a line."""
    data, _, _ = exported()
    lines = data.splitlines(keepends=True)
    at = draw(st.integers(0, len(lines) - 1))
    what = draw(st.sampled_from(["flip", "drop", "double", "swap", "cut", "insert", "member"]))
    if what == "flip":
        place = draw(st.integers(0, len(data) - 1))
        return data[:place] + bytes([data[place] ^ (1 << draw(st.integers(0, 7)))]) + data[place + 1 :]
    if what == "cut":
        return data[: draw(st.integers(0, len(data) - 1))]
    if what == "drop":
        del lines[at]
    elif what == "double":
        lines.insert(at, lines[at])
    elif what == "swap":
        to = draw(st.integers(0, len(lines) - 1))
        lines[at], lines[to] = lines[to], lines[at]
    elif what == "insert":
        lines.insert(at, draw(st.binary(max_size=40)) + b"\n")
    else:
        told = json.loads(lines[at])
        value = draw(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
        )
        told[draw(st.sampled_from([*told, "more"]))] = value
        lines[at] = json.dumps(told).encode() + b"\n"
    return b"".join(lines)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged())
def test_whatever_is_changed_is_refused_or_harmless(data: bytes) -> None:
    _, public, was = exported()
    with TemporaryDirectory() as folder:
        try:
            found = imported(Path(folder), data, public, None)
        except ReceiptError:
            assert [*Path(folder).iterdir()] == []
        else:
            # White space in a line, or the operator's HMAC, which no stranger can check.
            assert [one[0].body for one in found[2]] == [one[0].body for one in was[2]]  # type: ignore[attr-defined]


@pytest.mark.service("postgresql")
def test_an_archive_on_a_server_has_the_same_root(tmp_path: Path) -> None:
    from afmiddleware.ledger.postgres import PostgresReader

    data, public, was = exported()
    with schema() as url:
        bad = data.replace(b'"end":', b'"end":1')
        with pytest.raises(ReceiptError, match="line "):
            import_export(io.BytesIO(bad), lambda: open_shelf(url, tmp_path), [public])
        import_export(io.BytesIO(data), lambda: open_shelf(url, tmp_path), [public])
        with closing(PostgresReader(parse_postgres(url))) as reader:
            assert content(reader) == was
        with pytest.raises(ReceiptError, match="there is a ledger in the schema"):
            import_export(io.BytesIO(data), lambda: open_shelf(url, tmp_path), [public])
        with pytest.raises(ReceiptError, match="is an archive"):
            postgres(url)
    assert POSTGRES
