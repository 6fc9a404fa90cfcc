"""What is packed is the same when it is unpacked, whatever it is, and says when it can be forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.ledger.memory_cold import WARM, Packing, forgettable_keys
from afmiddleware.limits.cells import Cell, add, new_cell
from afmiddleware.limits.cold import Names, freeze_hold, freeze_row, stamp, thaw_hold, thaw_row
from afmiddleware.limits.rows import Hold, Line, More, Row, Slot, Trip, forgettable
from afmiddleware.model import Limit, Unit, Window

NOW = 1_795_300_000_000_000
WINDOWS = (Window("rolling", 60), Window("rolling", 3600), Window("pacing", 1), Window("day", 0, "Europe/Amsterdam"))
KINDS = st.tuples(st.sampled_from(WINDOWS), st.sampled_from([Unit.RATE, Unit.SPEND]))
NUMBERS = st.integers(0, 2**62)


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    window, unit = draw(KINDS)
    limit = Limit(name="n", unit=unit, cap=9, quota=9, window=window)
    cell = new_cell(limit, NOW + draw(st.integers(-(10**12), 10**12)))
    for amount in draw(st.lists(NUMBERS, max_size=3)):
        add(cell, amount)
    return cell


MORES = st.none() | st.builds(
    More,
    busy=st.dictionaries(st.text(max_size=3), st.dictionaries(NUMBERS, NUMBERS, max_size=2), max_size=2),
    trips=st.dictionaries(st.text(max_size=3), st.builds(Trip, NUMBERS, st.text(max_size=3), NUMBERS), max_size=2),
    frozen=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
)
ROWS = st.builds(Row, st.dictionaries(st.text(max_size=5), cells(), max_size=4), NUMBERS, st.binary(max_size=32), MORES)
LINES = st.builds(Line, st.text(max_size=9), st.text(max_size=5), NUMBERS, NUMBERS, st.sampled_from(WINDOWS), NUMBERS)
HOLDS = st.builds(
    Hold,
    st.text(max_size=9),
    st.sampled_from(["held", "unknown"]),
    NUMBERS,
    st.just("USD"),
    st.just(2),
    st.binary(max_size=32),
    NUMBERS,
    st.lists(LINES, max_size=4),
    slots=st.lists(st.builds(Slot, st.text(max_size=3), st.text(max_size=3), NUMBERS), max_size=2),
    claim=st.none() | st.tuples(st.text(max_size=3), st.text(max_size=3), NUMBERS),
)


@given(ROWS, st.integers(-(10**13), 10**13))
def test_a_row_is_itself_again(row, later):
    names = Names()
    packed = freeze_row(row, names)
    assert thaw_row(packed, names) == row
    assert (packed[:8] <= stamp(NOW + later)) is forgettable(row, NOW + later)


@given(st.lists(HOLDS, max_size=3))
def test_a_reservation_is_itself_again(holds):
    names = Names()
    packed = [freeze_hold(hold, names) for hold in holds]
    assert [thaw_hold(one, names) for one in packed] == holds


def packing(rows: dict[str, Row]) -> Packing[Row]:
    names = Names()
    found = Packing(rows, lambda row: freeze_row(row, names), lambda data: thaw_row(data, names))
    for _ in range(len(rows)):
        found.cool()
    return found


def test_what_is_packed_is_there_as_before():
    rows = {f"key{n}": Row({}, n + 1) for n in range(WARM + 50)}
    found = packing(dict(rows))
    assert len(found.cold) == 50
    assert len(found) == len(rows) == len(list(found)) == len(found.keys())
    assert {"key3", "none"} - found.keys() == {"none"}
    assert dict(found.items()) == rows
    assert list(found.values())[-1] in rows.values()
    assert len(found.cold) == 50
    assert "key0" in found
    assert found.get("none") is None
    assert found["key0"] is found["key0"] is found.get("key0")
    assert found.setdefault("key1", Row({})).oseq == 2
    assert found.pop("key2").oseq == 3
    assert found.pop("key2", None) is None
    del found["key3"]
    assert "key3" not in found
    assert len(found.cold) == 46
    assert len(found) == len(rows) - 2


def test_what_is_changed_after_it_was_packed_stays_changed():
    found = packing({f"key{n}": Row({}, 1) for n in range(WARM + 9)})
    found["key0"].oseq = 77
    for _ in range(WARM):
        found.setdefault(f"more{len(found)}", Row({}))
        found.cool()
    assert "key0" in found.cold
    assert found["key0"].oseq == 77


def test_only_what_says_nothing_is_forgotten():
    rows = {f"key{n}": Row({"c": Cell(NOW + n, 1, 1, [])}) for n in range(WARM + 9)}
    for n in (0, WARM + 8):
        rows[f"key{n}"].oseq = 1
    found = packing(rows)
    assert forgettable_keys(found, NOW + 4) == [f"key{n}" for n in range(1, 5)]
    assert set(forgettable_keys(found, NOW + WARM + 9)) == {f"key{n}" for n in range(1, WARM + 8)}
