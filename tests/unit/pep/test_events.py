"""Server-sent events, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.pep.events import EventStream


def read(stream: bytes, cuts: list[int], cap: int = 100) -> list[bytes]:
    events = EventStream(cap)
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    found = [one for start, end in pairwise(places) for one in events.feed(stream[start:end])]
    return [*found, *events.end()]


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\r\rdata:  b\r\r", [b"a", b" b"]),
        (b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b": hello\nevent: x\nid: 1\nretry: 3\n\n", []),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"dat: a\n\ndata : a\n\n", []),
        (b"\n\n\r\n", []),
        (b"data: " + b"x" * 101 + b"\n\ndata: b\n\n", [b"b"]),
        (b"".join(b"data: " + b"x" * 60 + b"\n" for _ in range(4)) + b"\ndata: b\n\n", [b"b"]),
        (b"data: a\r\n\r", [b"a"]),
    ],
)
@given(cuts=st.lists(st.integers(0, 400), max_size=12))
def test_events(stream: bytes, data: list[bytes], cuts: list[int]) -> None:
    assert read(stream, cuts) == data


def test_what_never_ends_is_not_kept() -> None:
    events = EventStream(1000)
    for _ in range(1000):
        assert events.feed(b"data: " + b"x" * 100) == []
    assert events.waiting() <= 1000
    assert events.feed(b"\n\ndata: b\n\n") == [b"b"]
