"""The index of patterns gives what asking each pattern would give."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.grammar.capability import matches
from afmiddleware.policy.patterns import PatternIndex

SEGMENT = st.sampled_from(["a", "b", "ab", "*", "a*", "*b"])
PATTERN = st.builds(
    lambda segments, rest: ".".join([*segments, *(["**"] if rest or not segments else [])]),
    st.lists(SEGMENT, max_size=3),
    st.booleans(),
)
CAPABILITY = st.lists(st.sampled_from(["a", "b", "ab", "cab"]), min_size=1, max_size=3).map(".".join)


@given(st.lists(PATTERN, max_size=12), CAPABILITY)
def test_find_agrees_with_asking_each(patterns: list[str], capability: str) -> None:
    index = PatternIndex((pattern, place) for place, pattern in enumerate(patterns))
    assert index.find(capability) == tuple(
        place for place, pattern in enumerate(patterns) if matches(pattern, capability)
    )


@pytest.mark.parametrize(
    ("pattern", "capability", "covers"),
    [
        ("payments.*", "payments.transfer", True),
        ("payments.*", "payments", False),
        ("payments.*", "payments.transfer.eu", False),
        ("payments.**", "payments", True),
        ("payments.**", "payments.transfer.eu", True),
        ("payments.**", "paymentsx", False),
        ("*.delete", "users.delete", True),
        ("*.delete", "users.delete.all", False),
        ("**", "anything.at.all", True),
        ("pay*.x", "payments.x", True),
        ("payments.transfer", "payments.transfer", True),
        ("payments.transfer", "payments.transfers", False),
    ],
)
def test_coverage(pattern: str, capability: str, covers: bool) -> None:
    assert bool(PatternIndex([(pattern, 1)]).find(capability)) is covers
