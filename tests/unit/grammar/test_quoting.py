"""A message shows as much of a text as fits into a line, and nothing of it that a terminal would act on."""

from __future__ import annotations

from afmiddleware.grammar.quoting import cut, quoted


def test_a_long_text_is_cut() -> None:
    assert (cut("a" * 80), cut("a" * 81)) == ("a" * 80, "a" * 80)
    assert (quoted("a" * 80), quoted("a" * 81)) == (f"'{'a' * 80}'", f"'{'a' * 80}'")
    assert quoted("\x1b[31m") == r"'\x1b[31m'"
