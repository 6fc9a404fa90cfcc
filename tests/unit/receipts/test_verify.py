"""What was done to a stored log is named, with its place; what is honest verifies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from afmiddleware.errors import ReceiptError
from afmiddleware.receipts.anchor import Anchor
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.chain import NO_LEAF, Head
from tests.unit.receipts.conftest import (
    OTHER,
    Log,
    Private,
    check,
    draft,
    honest,
    mark,
    with_body,
    write,
)


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
    "text",
    ["", "{}", "[]", '{"log":"a","size":0,"leaf":"00"}', '{"log":"a","size":1,"leaf":"zz"}', '{"log":1}', "\ud800"],
)
def test_what_is_no_anchor_is_refused(text: str) -> None:
    with pytest.raises(ReceiptError):
        Anchor.parse(text)


def test_an_anchor_reads_what_it_writes() -> None:
    anchor = Anchor("afm-x", 7, bytes(range(32)))
    assert Anchor.parse(anchor.text()) == anchor
