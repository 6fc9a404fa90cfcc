"""Random bytes are given to one caller only."""

from __future__ import annotations

from typing import Any

from afmiddleware.ledger.chance import Supply


class Watched(Supply):
    """Asked, as by another thread, whenever one of its fields has changed."""

    asked: list[bytes] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in ("_pid", "_left") and self.asked is not None and self._pid:
            found, self.asked = self.asked, None
            found.append(self(9))
            self.asked = found


def test_the_threads_of_a_child_get_nothing_of_its_parent_s() -> None:
    supply = Watched()
    supply(9)
    parents = set(supply._left[9])
    supply._pid -= 1
    supply.asked = asked = list[bytes]()
    assert supply(9) not in parents
    assert asked
    assert parents.isdisjoint(asked)
    assert len({*asked, *supply._left[9]}) == len(asked) + len(supply._left[9])
