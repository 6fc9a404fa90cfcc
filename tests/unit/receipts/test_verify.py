"""What was done to a stored log is named, with its place; what is honest verifies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from afmiddleware.errors import ReceiptError
from afmiddleware.model.receipt import Draft
from afmiddleware.receipts.canonical import encode, strict_parse
from afmiddleware.receipts.chain import NO_LEAF, Head, OwnerHead, append, leaf_hash
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.receipts.verify import Anchor, Report, StoredReceipt, verify

KEYS = ReceiptKeys.derive(bytes(range(32)))
OTHER = ReceiptKeys.derive(bytes(32))
Log = list[StoredReceipt]
Private = dict[str, tuple[bytes, str | None]]
START = Head("afm-test", 0, NO_LEAF, 0)


def drawing() -> Callable[[int], bytes]:
    numbers = count()
    return lambda size: hashlib.shake_256(str(next(numbers)).encode()).digest(size)


def write(drafts: list[Draft], keys: ReceiptKeys = KEYS, head: Head = START, step: int = 10) -> tuple[Log, Head]:
    """A log of drafts; an outcome draft refers to the intent with its id."""
    draw, now = drawing(), 0
    owners: dict[str, OwnerHead] = {}
    leaves: dict[str, str] = {}
    log: Log = []
    for draft in drafts:
        now += step
        body = dict(draft.body)
        name = str(body["id"])
        if draft.kind == "outcome":
            body["ref"] = leaves[name]
        draft = replace(draft, body=body)  # noqa: PLW2901 (with its reference)
        receipt, head, owners[draft.owner] = append(
            draft, head, owners.get(draft.owner, OwnerHead(0, b"")), keys, now, draw
        )
        leaves.setdefault(name, receipt.leaf.hex())
        names = ("capability", "verdict", "code")
        columns: dict[str, str | int] = {"kind": draft.kind, "decision": name, "ts": head.ts}
        columns |= {column: str(body.get(column, "")) for column in names}
        log.append(StoredReceipt(receipt=receipt, columns=columns))
    return log, head


def draft(kind: str, name: str, owner: str = "key:a", **more: str) -> Draft:
    body = {"id": name, "capability": "payments.pay", "verdict": "allow", "code": "policy.allowed", "amount": "500"}
    if kind == "outcome":
        body = {"id": name, "capability": "payments.pay"}
    private = {"actor": owner, "recipient": "acme", "payload": None} if kind != "outcome" else {}
    return Draft(kind=kind, owner=owner, body=body | more, private=private)


def honest() -> tuple[Log, Head]:
    return write(
        [
            draft("intent", "d1"),
            draft("intent", "d2", "key:b"),
            draft("outcome", "d1"),
            draft("refusal", "d3"),
            draft("outcome", "d2", "key:b"),
            draft("intent", "d4", "key:b"),
        ],
    )


def check(log: Log, head: Head, keys: ReceiptKeys | None = KEYS, anchor: Anchor | None = None) -> Report:
    return verify(log, head, keys, anchor)


def mark(log: Log, size: int) -> Anchor:
    return Anchor(START.log, size, log[size - 1].receipt.leaf)


def with_body(log: Log, place: int, change: Callable[[bytes], bytes], *, rehash: bool = False) -> Log:
    """The log with one body changed; with `rehash` as somebody without the key would hide it."""
    one = log[place]
    body = change(one.receipt.body)
    receipt = replace(one.receipt, body=body)
    if rehash:
        receipt = replace(receipt, leaf=leaf_hash(body))
    return [*log[:place], replace(one, receipt=receipt), *log[place + 1 :]]


def test_an_honest_log_is_whole_with_an_anchor_and_unanchored_without() -> None:
    log, head = honest()
    whole = check(log, head, anchor=mark(log, 4))
    assert (whole.status, whole.exit_code, whole.checked, whole.open) == ("whole", 0, 6, 1)
    bare = check(log, head)
    assert (bare.status, bare.exit_code) == ("unanchored", 4)
    assert "not checked" in check(log, head, keys=None).authenticity


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda body: body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


def test_every_changed_byte_of_a_body_is_named() -> None:
    log, head = honest()
    size = len(log[2].receipt.body)
    for place in range(size):
        flipped = with_body(log, 2, flip(place))
        report = check(flipped, head)
        assert (report.status, report.seq) == ("tampered", 3), place


def resequenced(log: Log) -> Log:
    return [replace(one, receipt=replace(one.receipt, seq=place)) for place, one in enumerate(log, 1)]


ATTACKS: list[tuple[str, Callable[[Log, Head], tuple[Log, Head]], int, str]] = [
    (
        "edited and hashed again",
        lambda log, head: (with_body(log, 1, lambda b: b.replace(b'"500"', b'"100"'), rehash=True), head),
        2,
        "mac.mismatch",
    ),
    ("first deleted", lambda log, head: (log[1:], head), 1, "seq.gap"),
    ("middle deleted", lambda log, head: (log[:2] + log[3:], head), 3, "seq.gap"),
    ("middle deleted, numbered again", lambda log, head: (resequenced(log[:2] + log[3:]), head), 3, "seq.mismatch"),
    ("last deleted", lambda log, head: (log[:-1], head), 6, "head.mismatch"),
    ("all deleted", lambda _, head: ([], head), 1, "head.mismatch"),
    ("two swapped", lambda log, head: (resequenced([log[0], log[2], log[1], *log[3:]]), head), 2, "seq.mismatch"),
    ("one duplicated", lambda log, head: (resequenced([*log[:2], log[1], *log[2:]]), head), 3, "seq.mismatch"),
    ("one repeated in place", lambda log, head: ([*log[:2], log[1], *log[2:]], head), 3, "seq.duplicate"),
    (
        "authentication stripped",
        lambda log, head: ([replace(log[0], receipt=replace(log[0].receipt, mac=b"")), *log[1:]], head),
        1,
        "mac.missing",
    ),
    (
        "column edited",
        lambda log, head: ([replace(log[0], columns=dict(log[0].columns) | {"verdict": "refuse"}), *log[1:]], head),
        1,
        "column.mismatch",
    ),
    (
        "value altered",
        lambda log, head: (_disclosed(log, lambda d: d | {"recipient": (d["recipient"][0], "other")}), head),
        1,
        "disclosure.mismatch",
    ),
    (
        "absent value made present",
        lambda log, head: (_disclosed(log, lambda d: d | {"payload": (d["payload"][0], "")}), head),
        1,
        "disclosure.mismatch",
    ),
    (
        "values swapped",
        lambda log, head: (_disclosed(log, lambda d: d | {"actor": d["recipient"]}), head),
        1,
        "disclosure.mismatch",
    ),
    (
        "value removed",
        lambda log, head: (_disclosed(log, lambda d: {k: v for k, v in d.items() if k != "actor"}), head),
        1,
        "disclosure.missing",
    ),
]


def _disclosed(log: Log, change: Callable[[Private], Private]) -> Log:
    receipt = replace(log[0].receipt, disclosed=change(dict(log[0].receipt.disclosed)))
    return [replace(log[0], receipt=receipt), *log[1:]]


@pytest.mark.parametrize(("attack", "seq", "code"), [row[1:] for row in ATTACKS], ids=[row[0] for row in ATTACKS])
def test_tampering_is_named(attack: Callable[[Log, Head], tuple[Log, Head]], seq: int, code: str) -> None:
    log, head = attack(*honest())
    report = check(log, head)
    assert (report.status, report.exit_code, report.seq, report.code) == ("tampered", 3, seq, code)
    assert report.reason


def test_a_log_cut_off_with_its_head_is_caught_by_the_anchor_alone() -> None:
    log, head = honest()
    cut, shorter = log[:4], Head(head.log, 4, log[3].receipt.leaf, 40)
    assert check(cut, shorter).status == "unanchored"
    report = check(cut, shorter, anchor=mark(log, 6))
    assert (report.status, report.code) == ("tampered", "anchor.behind")
    nothing = check([], Head(head.log, 0, NO_LEAF, 0), anchor=mark(log, 6))
    assert (nothing.status, nothing.code) == ("tampered", "anchor.behind")


def test_a_log_written_anew_with_the_key_is_caught_by_the_anchor() -> None:
    log, _ = honest()
    forged, head = write([draft("refusal", f"f{n}") for n in range(6)])
    assert check(forged, head).status == "unanchored"
    assert check(forged, head, anchor=mark(log, 4)).code == "anchor.mismatch"


def test_a_log_written_anew_without_the_key_is_not_authentic() -> None:
    forged, head = write([draft("refusal", f"f{n}") for n in range(3)], OTHER)
    report = check(forged, head)
    assert (report.seq, report.code, report.authenticity) == (1, "mac.mismatch", "failed")


def test_a_receipt_of_another_log_with_the_same_key_is_foreign() -> None:
    log, head = honest()
    foreign, _ = write([draft("intent", "d1")], head=Head("afm-other", 0, NO_LEAF, 0))
    assert check([foreign[0], *log[1:]], head).code == "log.foreign"


def test_an_outcome_ends_one_intent_once() -> None:
    log, head = write([draft("intent", "d1"), draft("outcome", "d1"), draft("outcome", "d1")])
    report = check(log, head)
    assert (report.seq, report.code) == (3, "outcome.orphan")


def test_a_clock_that_runs_backwards_is_recorded_and_harms_nothing() -> None:
    log, head = write([draft("refusal", f"d{n}") for n in range(3)], step=-3_600_000_000)
    later = strict_parse(log[2].receipt.body)
    assert later["clock_back"] is True
    assert check(log, head).code == ""


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.booleans(), st.integers(-5, 50)), max_size=25))
def test_honest_logs_of_any_shape_verify(shape: list[tuple[str, bool, int]]) -> None:
    drafts = []
    for number, (owner, ends, _) in enumerate(shape):
        drafts.append(draft("intent", f"d{number}", owner))
        if ends:
            drafts.append(draft("outcome", f"d{number}", owner))
    log, head = write(drafts, step=shape[0][2] if shape else 1)
    report = check(log, head)
    assert (report.code, report.checked, report.open) == ("", len(drafts), sum(not ends for _, ends, _ in shape))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"a":1.5}', id="float"),
        pytest.param(b'{"a":1e2}', id="exponent"),
        pytest.param(b'{"a":-0}', id="negative zero"),
        pytest.param(b'{"a":null}', id="null"),
        pytest.param(b'{"a":[null]}', id="null inside"),
        pytest.param(b'{"a":NaN}', id="NaN"),
        pytest.param(b'{"a":1,"a":1}', id="duplicate key"),
        pytest.param(b'{"b":1,"a":1}', id="order"),
        pytest.param(b'{"a": 1}', id="space"),
        pytest.param(b'{"a":"\\u0041"}', id="needless escape"),
        pytest.param(b'{"a":9007199254740992}', id="too large"),
        pytest.param(b'{"a":"\\ud800"}', id="lone surrogate"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"a":1}x', id="trailing"),
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_only_canonical_bytes_are_read(data: bytes) -> None:
    with pytest.raises(ReceiptError):
        strict_parse(data)


VALUES = st.recursive(
    st.one_of(st.text(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.from_regex("[a-z_]{1,8}", fullmatch=True), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.from_regex("[a-z0-9_]{1,10}", fullmatch=True), VALUES, max_size=8))
def test_canonical_bytes_are_those_of_rfc_8785(body: dict[str, Any]) -> None:
    data = encode(body)
    assert data == rfc8785.dumps(body)
    assert strict_parse(data) == body


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"log":"a","size":0,"leaf":"00"}', '{"log":"a","size":1,"leaf":"zz"}', '{"log":1}', "\ud800"],
)
def test_what_is_no_anchor_is_refused(text: str) -> None:
    with pytest.raises(ReceiptError):
        Anchor.parse(text)


def test_an_anchor_reads_what_it_writes() -> None:
    anchor = Anchor("afm-x", 7, bytes(range(32)))
    assert Anchor.parse(anchor.text()) == anchor
