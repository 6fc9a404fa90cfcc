"""What the policy names, and what is secret, is in no receipt; the commitment to it stays, and says that it is."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from afmiddleware import ActionEvent, Fence
from afmiddleware.config.load import load
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.ledger.sqlite import SqliteReader
from afmiddleware.ledger.sqlite_file import Location
from afmiddleware.receipts import standalone
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.chain import commitment
from afmiddleware.receipts.redact import Redaction, betrays, text_of

POLICY = """version: 1
service: s
ledger: sqlite:///fence.db
rules: {allow: [x.y.z]}
receipts: {payload: %s, redact: %s}
"""
PAYLOAD: dict[str, Any] = {
    "email": "jane@example.com",
    "note": "two seats",
    "card": {"holder": "Jane Roe", "expires": "12/29"},
    "items": [{"sku": "A1", "gift_for": "Joe Public"}, {"sku": "B2"}],
}


def acted(folder: Path, keeps: str, redact: str, **more: Any) -> tuple[dict[str, Any], dict[str, Any], Fence]:
    """The body and the disclosed values of an intent. The fence is closed."""
    fence = Fence(load(POLICY % (keeps, redact)), base=folder)
    made = {"payload": PAYLOAD, **more}
    with closing(fence):
        with fence.action(ActionEvent.create(actor="agent-7", resource="x", action="y", environment="z", **made)):
            pass
        one = next(fence.receipts.find(Filter(kind="intent"))).receipt
        assert fence.receipts.verify().status == "unanchored"
    return strict_parse(one.body), {name: value for name, (_, value) in one.disclosed.items()}, fence


def bytes_of(folder: Path) -> bytes:
    return b"".join(one.read_bytes() for one in folder.iterdir() if one.name.startswith("fence.db"))


def test_named_values_are_taken_out_of_the_payload_and_in_no_file(tmp_path: Path) -> None:
    body, told, _ = acted(
        tmp_path, "full", "[payload.email, payload.card.*, 'payload.items.*.gift_for']", recipient="jane@example.com"
    )
    assert json.loads(told["payload"]) == {
        "email": "(withheld)",
        "note": "two seats",
        "card": {"holder": "(withheld)", "expires": "(withheld)"},
        "items": [{"sku": "A1", "gift_for": "(withheld)"}, {"sku": "B2"}],
    }
    # What was made of such a value is withheld with it.
    assert "recipient" not in told
    assert body["withheld"] == ["recipient", "withheld"]
    found = bytes_of(tmp_path)
    for secret in (b"jane@", b"Jane Roe", b"12/29", b"Joe Public"):
        assert secret not in found
    assert b"two seats" in found


def test_members_can_be_withheld_whole_and_the_operator_can_still_check_a_claim(tmp_path: Path) -> None:
    body, told, fence = acted(tmp_path, "fields", "[recipient, actor]", recipient="acme")
    assert body["withheld"] == ["actor", "recipient", "withheld"]
    assert {"actor", "recipient", "withheld"}.isdisjoint(told)
    assert b"acme" not in bytes_of(tmp_path)
    salt = fence.ledger.keys.salt(body["log"], body["seq"], "recipient")
    assert body["c"]["recipient"] == commitment("recipient", salt, "acme")
    assert body["c"]["recipient"] != commitment("recipient", salt, "other")
    # An equal value in another receipt has another commitment.
    assert fence.ledger.keys.salt(body["log"], body["seq"] + 1, "recipient") != salt


def test_what_is_taken_out_tells_nothing_by_being_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with_it, _, _ = acted(tmp_path / "a", "full", "[payload.email]")
    without, _, _ = acted(tmp_path / "b", "full", "[payload.none]")
    assert with_it.keys() == without.keys()
    assert with_it["c"].keys() == without["c"].keys()
    assert with_it["withheld"] == without["withheld"]


def test_a_value_that_is_missing_and_not_withheld_is_still_named(tmp_path: Path) -> None:
    _, _, fence = acted(tmp_path, "full", "[recipient]", recipient="acme")
    connection = sqlite3.connect(tmp_path / "fence.db")
    connection.execute("UPDATE receipt SET disclosed = NULL WHERE seq = 1")
    connection.commit()
    connection.close()
    with closing(SqliteReader(Location.of(tmp_path / "fence.db"))) as reader:
        report = ReceiptLog(reader, fence.ledger.keys).verify()
    assert (report.status, report.code, report.seq) == ("tampered", "disclosure.missing", 1)


def test_an_export_with_withheld_values_is_verified_without_us(tmp_path: Path) -> None:
    _, _, fence = acted(tmp_path, "full", "[recipient, payload.email]", recipient="acme")
    with closing(SqliteReader(Location.of(tmp_path / "fence.db"))) as reader:
        log = ReceiptLog(reader, fence.ledger.keys)
        (tmp_path / "all.jsonl").write_bytes(b"".join(log.export()))
        public = reader.signing_keys()[-1].public
    with (tmp_path / "all.jsonl").open("rb") as lines:
        assert standalone.verify(lines, [public])["receipts"] == 2
    assert b"jane@" not in (tmp_path / "all.jsonl").read_bytes()


def test_the_hash_is_that_of_what_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = acted(tmp_path / "a", "hash", "[payload.email]")[1]
    other = acted(tmp_path / "b", "hash", "[payload.email]", payload=PAYLOAD | {"email": "joe@example.com"})[1]
    assert one["payload"] == other["payload"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "x"),
        ("set-cookie", "x"),
        ("access_token", "x"),
        ("refreshToken", "x"),
        ("client_secret", "x"),
        ("password", "x"),
        ("apiKey", "x"),
        ("X-API-Key", "x"),
        ("private_key", "x"),
        ("signature", "x"),
        ("cvc", "123"),
        ("cardNumber", "x"),
        ("note", "Bearer abcdefghijkl"),
        ("note", "afk_live_0123456789_abcdefghijklmnopqrst"),
        ("note", "acme_live_0123456789_abcdefghijklmnopqrst"),
        ("note", "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"),
        ("note", "-----BEGIN PRIVATE KEY-----\nMC4CAQ"),
        ("note", "pay with 4242 4242 4242 4242 please"),
        ("n", 4242424242424242),
    ],
)
def test_what_is_secret_is_stripped_by_default(name: str, value: Any) -> None:
    kept, taken = Redaction(()).split({"a": [{name: value}], "b": 1})
    assert kept == {"a": [{name: "(withheld)"}], "b": 1}
    assert taken == {f"a.0.{name}": value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokens_used", 12),
        ("author", "x"),
        ("note", "4242 4242 4242 4243"),
        ("order", "1234567890123456"),
        ("keyboard", "x"),
        ("span", "x"),
    ],
)
def test_what_only_looks_like_it_is_kept(name: str, value: Any) -> None:
    assert Redaction(()).split({name: value}) == ({name: value}, {})


def test_a_payload_that_is_too_long_is_left_out() -> None:
    assert text_of({"a": "x" * 70_000}) == "(left out: 70008 bytes)"


def test_a_text_made_of_what_was_taken_out_betrays_it() -> None:
    assert betrays("user:jane@example.com", {"email": "jane@example.com"})
    assert betrays("order-77", {"a": [{"b": 77}]})
    assert not betrays("order-78", {"a": 77, "b": None, "c": ""})
    assert not betrays(None, {"a": "x"})
