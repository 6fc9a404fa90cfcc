"""Attacks on a stored log beyond the table of test_verify: the end of it, its fields, and holders of the key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from afmiddleware.errors import ReceiptError
from afmiddleware.receipts.anchor import Anchor
from afmiddleware.receipts.canonical import encode, strict_parse
from afmiddleware.receipts.chain import NO_LEAF, Head, commitment, leaf_hash
from afmiddleware.receipts.verify import StoredReceipt, verify
from tests.unit.receipts.conftest import KEYS, OTHER, Log, check, draft, honest, mark, with_body, write


def with_receipt(log: Log, place: int, **changes: Any) -> Log:
    one = log[place]
    return [*log[:place], replace(one, receipt=replace(one.receipt, **changes)), *log[place + 1 :]]


def flipped(data: bytes, bit: int) -> bytes:
    at = bit // 8
    return data[:at] + bytes([data[at] ^ 1 << bit % 8]) + data[at + 1 :]


@pytest.mark.parametrize("bit", range(0, 256, 5))
@pytest.mark.parametrize(("field", "code"), [("leaf", "leaf.mismatch"), ("mac", "mac.mismatch")])
def test_a_flipped_bit_of_leaf_or_mac_is_named(field, code, bit) -> None:
    log, head = honest()
    changed = with_receipt(log, 3, **{field: flipped(getattr(log[3].receipt, field), bit)})
    report = check(changed, head)
    assert (report.status, report.seq, report.code) == ("tampered", 4, code)


@pytest.mark.parametrize(
    "mac", [b"", b"\0", bytes(31), bytes(32), bytes(64)], ids=["none", "short", "cut", "zeros", "long"]
)
def test_a_mac_of_no_key_is_named(mac) -> None:
    log, head = honest()
    report = check(with_receipt(log, 2, mac=mac), head)
    assert (report.seq, report.authenticity) == (3, "failed")


HEADS = [
    ("leaf", lambda head: replace(head, leaf=flipped(head.leaf, 7)), 6),
    ("leaf emptied", lambda head: replace(head, leaf=b""), 6),
    ("time forward", lambda head: replace(head, ts=head.ts + 1), 6),
    ("time back", lambda head: replace(head, ts=0), 6),
    ("counts more", lambda head: replace(head, size=7), 7),
    ("counts fewer", lambda head: replace(head, size=5), 5),
    ("set back", lambda head: replace(head, size=0, leaf=NO_LEAF, ts=0), 1),
]


@pytest.mark.parametrize(("change", "seq"), [row[1:] for row in HEADS], ids=[row[0] for row in HEADS])
def test_a_changed_head_is_named(change, seq) -> None:
    log, head = honest()
    report = check(log, change(head), anchor=mark(log, 4))
    assert (report.status, report.seq, report.code) == ("tampered", seq, "head.mismatch")


def test_a_head_set_back_to_an_honest_place_is_named() -> None:
    log, _ = honest()
    at_four = Head("afm-test", 4, log[3].receipt.leaf, 40)
    report = check(log, at_four, anchor=mark(log, 2))
    assert (report.status, report.seq, report.code) == ("tampered", 5, "head.mismatch")


def test_receipts_behind_the_end_are_checked_like_all_others() -> None:
    log, head = honest()
    last = log[-1]
    repeated = [*log, replace(last, receipt=replace(last.receipt, seq=7))]
    assert (check(repeated, head).seq, check(repeated, head).code) == (7, "seq.mismatch")
    forged, _ = write([draft("refusal", "f")], OTHER, Head("afm-test", 6, head.leaf, head.ts))
    assert (check([*log, *forged], head).seq, check([*log, *forged], head).code) == (7, "mac.mismatch")
    unkeyed = check([*log, *forged], head, keys=None)
    assert (unkeyed.seq, unkeyed.code) == (7, "head.mismatch")


def test_a_log_that_grew_while_it_was_read_is_whole() -> None:
    log, head = honest()
    seen = Head("afm-test", 4, log[3].receipt.leaf, 40)
    report = verify(log, seen, KEYS, mark(log, 4), head_now=lambda: head)
    assert (report.status, report.checked) == ("whole", 6)
    stuck = verify(log, seen, KEYS, mark(log, 4), head_now=lambda: replace(seen, size=5))
    assert (stuck.seq, stuck.code) == (6, "head.mismatch")


def test_an_empty_log_without_an_anchor_is_unanchored() -> None:
    report = check([], Head("afm-test", 0, NO_LEAF, 0))
    assert (report.status, report.exit_code, report.checked) == ("unanchored", 4, 0)


def test_an_empty_log_whose_head_names_a_receipt_is_named() -> None:
    assert check([], Head("afm-test", 0, bytes([1]) * 32, 0)).code == "head.mismatch"
    assert check([], Head("afm-test", 0, NO_LEAF, 5)).code == "head.mismatch"


@pytest.mark.parametrize("size", [1, 4, 6, 9])
def test_the_anchor_of_another_log_is_told_as_that(size) -> None:
    log, head = honest()
    report = check(log, head, anchor=Anchor("afm-other", size, bytes(32)))
    assert (report.status, report.code) == ("tampered", "anchor.foreign")


def test_a_forged_row_between_two_others_is_named_without_the_key() -> None:
    log, head = honest()
    forged, _ = write([draft("refusal", "f")], OTHER, Head("afm-test", 2, log[1].receipt.leaf, 20))
    moved = [replace(one, receipt=replace(one.receipt, seq=one.receipt.seq + 1)) for one in log[2:]]
    report = check([*log[:2], *forged, *moved], head)
    assert (report.seq, report.code) == (3, "mac.mismatch")


@pytest.mark.parametrize("size", [0, 3], ids=["without the key", "and without any MAC"])
def test_emptied_hashes_are_not_filled_in_again(size) -> None:
    log, head = honest()
    emptied = [replace(one, receipt=replace(one.receipt, leaf=b"", mac=one.receipt.mac[:size])) for one in log]
    report = check(emptied, head)
    assert (report.seq, report.code) == (1, "leaf.mismatch")


def test_stripped_macs_are_told_without_the_key_too() -> None:
    log, head = honest()
    report = check(with_receipt(log, 4, mac=b""), head, keys=None)
    assert (report.seq, report.code, report.authenticity) == (5, "mac.missing", "failed")


def sealed(change: Callable[[dict[str, Any]], bytes], *, short: bool) -> tuple[Log, Head]:
    """An honest log whose last body was changed by somebody with the key, up to the head."""
    log, head = honest(short=short)
    body = change(strict_parse(log[-1].receipt.body))
    leaf = leaf_hash(body)
    return with_receipt(log, 5, body=body, leaf=leaf, mac=KEYS.mac(leaf)), replace(head, leaf=leaf)


def _charged(body: dict[str, Any]) -> bytes:
    return encode(body | {"charges": [{"a": "1", "b": "2"}]})


def _twice(body: dict[str, Any]) -> bytes:
    return encode(body).replace(b'"c":{', f'"c":{{"actor":"{body["c"]["actor"]}",'.encode())


def _reversed(body: dict[str, Any]) -> bytes:
    turned = ",".join(f'"{name}":"{said}"' for name, said in reversed(body["c"].items()))
    return encode(body).replace(encode(body["c"]), f"{{{turned}}}".encode())


FORGERIES: list[tuple[str, Callable[[dict[str, Any]], bytes], str]] = [
    ("no JSON", lambda _: b"{", "body.malformed"),
    ("no object", lambda _: b"[]", "body.malformed"),
    ("nothing in it", lambda _: b'{"v":1}', "body.malformed"),
    ("a float", lambda b: encode(b | {"ts": 60.0}), "body.malformed"),
    ("a null", lambda b: encode(b | {"id": None}), "body.malformed"),
    ("true as a number", lambda b: encode(b | {"oseq": True}), "body.malformed"),
    ("text as a number", lambda b: encode(b | {"ts": "60"}), "body.malformed"),
    ("number as a text", lambda b: encode(b | {"id": 4}), "body.malformed"),
    ("commitments in an array", lambda b: encode(b | {"c": []}), "body.malformed"),
    ("a commitment that is none", lambda b: encode(b | {"c": {"actor": 1}}), "body.malformed"),
    ("no previous leaf", lambda b: encode({k: v for k, v in b.items() if k != "prev"}), "body.malformed"),
    ("a space", lambda b: encode(b).replace(b'"id":', b'"id": '), "body.not_canonical"),
    ("a key twice", lambda b: encode(b)[:-1] + b',"verdict":"refuse"}', "body.not_canonical"),
    ("a space among commitments", lambda b: encode(b).replace(b'"c":{', b'"c":{ '), "body.not_canonical"),
    ("a commitment twice", _twice, "body.not_canonical"),
    ("commitments out of order", _reversed, "body.not_canonical"),
    (
        "a charge out of order",
        lambda b: _charged(b).replace(b'{"a":"1","b":"2"}', b'{"b":"2","a":"1"}'),
        "body.not_canonical",
    ),
    ("a large number", lambda b: encode(b).replace(b'"ts":60', b'"ts":9007199254740993'), "body.malformed"),
    ("a later version", lambda b: encode(b | {"v": 2}), "body.version"),
    ("no version", lambda b: encode({k: v for k, v in b.items() if k != "v"}), "body.version"),
    ("another log", lambda b: encode(b | {"log": "afm-\x1b[2J"}), "log.foreign"),
    ("another place", lambda b: encode(b | {"seq": 5}), "seq.mismatch"),
    ("another receipt before", lambda b: encode(b | {"prev": "0" * 64}), "prev.mismatch"),
    ("an upper-case link", lambda b: encode(b | {"prev": b["prev"].upper()}), "prev.mismatch"),
    ("an earlier time", lambda b: encode(b | {"ts": b["ts"] - 11}), "ts.backwards"),
    ("another key", lambda b: encode(b | {"kid": OTHER.kid}), "mac.foreign"),
    ("a receipt of its owner left out", lambda b: encode(b | {"oseq": b["oseq"] + 1}), "owner.gap"),
    ("a receipt of its owner twice", lambda b: encode(b | {"oseq": b["oseq"] - 1}), "owner.gap"),
    ("another owner", lambda b: encode(b | {"owner": "0" * 32}), "owner.gap"),
    ("another receipt of its owner", lambda b: encode(b | {"oprev": "0" * 64}), "owner.prev"),
    ("another verdict", lambda b: encode(b | {"verdict": "refuse"}), "column.mismatch"),
    ("another kind", lambda b: encode(b | {"kind": "refusal"}), "column.mismatch"),
    ("another time", lambda b: encode(b | {"ts": b["ts"] + 1}), "column.mismatch"),
    ("a commitment left out", lambda b: encode(b | {"c": {}}), "disclosure.mismatch"),
    ("an endless name", lambda b: encode(b | {"c": b["c"] | {"n" * 70_000: "0" * 64}}), "disclosure.missing"),
    ("a commitment more", lambda b: encode(b | {"c": b["c"] | {"note": "0" * 64}}), "disclosure.missing"),
    ("another commitment", lambda b: encode(b | {"c": b["c"] | {"actor": "0" * 64}}), "disclosure.mismatch"),
]


@pytest.mark.parametrize(("change", "code"), [row[1:] for row in FORGERIES], ids=[row[0] for row in FORGERIES])
@pytest.mark.parametrize("short", [False, True], ids=["as every request's", "short"])
def test_what_a_holder_of_the_key_writes_must_still_fit(change, code, short) -> None:
    log, head = sealed(change, short=short)
    report = check(log, head, anchor=mark(log, 3))
    assert (report.status, report.seq, report.code) == ("tampered", 6, code)
    assert "".join(report.lines()).isprintable()
    assert len(report.reason) < 200


@pytest.mark.parametrize("ref", ["", "0" * 64, "zz"], ids=["nothing", "nobody", "no leaf"])
def test_an_outcome_of_no_intent_is_named(ref) -> None:
    log, head = write([draft("intent", "d1"), draft("outcome", "d1")])
    body = encode(strict_parse(log[1].receipt.body) | {"ref": ref})
    leaf = leaf_hash(body)
    log = with_receipt(log, 1, body=body, leaf=leaf, mac=KEYS.mac(leaf))
    report = check(log, replace(head, leaf=leaf))
    assert (report.seq, report.code) == (2, "outcome.orphan")


def test_an_outcome_of_a_refusal_is_named() -> None:
    log, head = write([draft("refusal", "d1"), draft("outcome", "d1")])
    assert (check(log, head).seq, check(log, head).code) == (2, "outcome.orphan")


def test_a_longer_salt_cannot_make_another_value_fit() -> None:
    """A caller chooses this value, and its inside looks like the end of a salt and a shorter value."""
    chosen = "x\x00\x09recipient\x01y"
    wanted = draft("refusal", "d1")
    log, head = write([replace(wanted, private={"recipient": chosen})])
    salt = log[0].receipt.disclosed["recipient"][0]
    longer = salt + b"\x00\x09recipient\x01x"
    assert commitment("recipient", longer, "y") == commitment("recipient", salt, chosen)
    report = check(with_receipt(log, 0, disclosed={"recipient": (longer, "y")}), head)
    assert (report.seq, report.code) == (1, "disclosure.mismatch")


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"actor": (bytes(15), "key:a")}, id="short salt"),
        pytest.param({"actor": (b"", None)}, id="no salt"),
        pytest.param({"actor": (bytes(16), "\ud800")}, id="lone surrogate"),
        pytest.param({"\ud800": (bytes(16), None)}, id="name without a form"),
        pytest.param({"n" * 70_000: (bytes(16), None)}, id="endless name"),
        pytest.param({"note\x1b": (bytes(16), "x")}, id="value of no member"),
    ],
)
def test_odd_disclosures_are_named_and_crash_nothing(changed) -> None:
    log, head = honest()
    disclosed = dict(log[0].receipt.disclosed) | changed
    report = check(with_receipt(log, 0, disclosed=disclosed), head)
    assert (report.seq, report.code) == (1, "disclosure.mismatch")
    assert len(report.reason) < 200
    assert report.reason.isprintable()


@pytest.mark.parametrize("column", ["kind", "decision", "capability", "verdict", "code", "ts"])
@pytest.mark.parametrize("value", ["", "forged", 7, None], ids=["empty", "text", "number", "missing"])
def test_every_column_must_say_what_the_body_says(column, value) -> None:
    log, head = honest()
    columns: dict[str, Any] = dict(log[1].columns) | {column: value}
    if value is None:
        del columns[column]
    report = check([log[0], replace(log[1], columns=columns), *log[2:]], head)
    assert (report.seq, report.code) == (2, "column.mismatch")
    assert column in report.reason


def test_a_row_that_cannot_be_read_is_named() -> None:
    log, head = honest()

    def rows() -> Iterator[StoredReceipt]:
        yield from log[:2]
        raise ReceiptError("receipt 3 cannot be read")

    report = verify(rows(), head, KEYS, None)
    assert (report.status, report.seq, report.code) == ("tampered", 3, "row.unreadable")


def test_the_three_answers_are_given_apart() -> None:
    log, head = honest()
    edited = check(with_body(log, 0, lambda body: body.replace(b"500", b"100")), head)
    assert (edited.integrity, edited.authenticity) == ("failed", "ok up to there")
    unsigned = check(with_receipt(log, 0, mac=bytes(32)), head)
    assert (unsigned.integrity, unsigned.authenticity) == ("ok up to there", "failed")
    shorter = check(log[:-1], head)
    assert (shorter.integrity, shorter.completeness) == ("ok up to there", "failed")
    assert shorter.lines()[0] == (
        "tampered at receipt 6: the log's head counts 6 receipts, 5 are there (head.mismatch)"
    )


def test_progress_tells_how_far_it_is() -> None:
    log, head = write([draft("refusal", f"d{number}") for number in range(2500)])
    seen: list[tuple[int, int]] = []
    assert verify(iter(log), head, KEYS, None, lambda done, size: seen.append((done, size))).checked == 2500
    assert seen == [(1000, 2500), (2000, 2500)]


LOG, HEAD = honest()
ANCHOR = mark(LOG, 5)


@st.composite
def one_change(draw: st.DrawFn) -> tuple[Log, Head]:
    """The honest log with one thing changed, by somebody without the key."""
    place = draw(st.integers(0, len(LOG) - 1))
    receipt = LOG[place].receipt
    what = draw(st.sampled_from(["body", "leaf", "mac", "drop", "swap", "repeat", "rehash", "salt", "graft"]))
    if what in ("body", "leaf", "mac"):
        data = getattr(receipt, what)
        return with_receipt(LOG, place, **{what: flipped(data, draw(st.integers(0, len(data) * 8 - 1)))}), HEAD
    if what == "rehash":
        body = flipped(receipt.body, draw(st.integers(0, len(receipt.body) * 8 - 1)))
        return with_receipt(LOG, place, body=body, leaf=leaf_hash(body)), HEAD
    if what == "salt" and receipt.disclosed:
        name = draw(st.sampled_from(sorted(receipt.disclosed)))
        salt, value = receipt.disclosed[name]
        changed = {**receipt.disclosed, name: (flipped(salt, draw(st.integers(0, 127))), value)}
        return with_receipt(LOG, place, disclosed=changed), HEAD
    other = draw(st.integers(0, len(LOG) - 1).filter(lambda at: at != place))
    rows = list(LOG)
    if what == "drop":
        del rows[place]
    elif what == "repeat":
        rows.insert(other, LOG[place])
    elif what == "graft":
        # Body, leaf and MAC of one receipt in the row of another.
        rows[other] = StoredReceipt(
            receipt=replace(receipt, seq=other + 1, disclosed=LOG[other].receipt.disclosed), columns=LOG[other].columns
        )
    else:
        rows[place], rows[other] = rows[other], rows[place]
    if draw(st.booleans()):
        rows = [replace(one, receipt=replace(one.receipt, seq=at)) for at, one in enumerate(rows, 1)]
    return rows, HEAD


@given(one_change())
def test_no_single_change_goes_unseen(changed) -> None:
    log, head = changed
    first = next((at for at, (one, was) in enumerate(zip(log, LOG, strict=False), 1) if one != was), None)
    report = check(log, head, anchor=ANCHOR)
    assert report.status == "tampered"
    assert report.code
    assert report.seq == (first or min(len(log), len(LOG)) + 1)
