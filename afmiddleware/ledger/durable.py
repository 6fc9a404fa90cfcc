"""What the ledgers that store have in common: one writer thread, marks outside, rates that may be counted elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afmiddleware.ledger.committer import Committer, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from afmiddleware.ledger.anchors import Anchors
    from afmiddleware.ledger.redis_rates import Rates
    from afmiddleware.limits.rows import Row
    from afmiddleware.model.entry import Closed, Conclusion, Entry, Held, Item


class Durable:
    """The half of a ledger that writes. Its other half is a reader of the same store."""

    inline = False
    anchors: Anchors | None
    _rates: Rates | None
    _stored: Callable[[list[str]], dict[str, Row]]
    _committer: Committer

    def _begin(
        self,
        open_writer: Callable[[], Writer],
        undo: Callable[[Entry, Held], Conclusion],
        stored: Callable[[list[str]], dict[str, Row]],
        rates: Rates | None,
        deadline: float,
    ) -> None:
        """Take items from here on; `stored` reads the counters of the store. The first item starts the thread."""
        self._rates, self._stored = rates, stored

        def writer() -> Writer:
            opened = open_writer()
            return opened if rates is None else rates.around(opened, stored)

        gate = self.anchors.gate if self.anchors is not None else None
        self._committer = Committer(writer, undo, gate=gate, deadline=deadline)

    def rows(self, keys: list[str]) -> dict[str, Row]:
        """The counters of `keys`, the shared ones among them."""
        found = self._stored(keys)
        return found if self._rates is None else self._rates.rows(found, keys)

    def commit(self, item: Item) -> Held | Closed:
        """Commit and wait."""
        return self._committer.commit(item)

    def acommit(self, item: Item) -> Coroutine[Any, Any, Held | Closed]:
        """Commit and wait without blocking the event loop."""
        return self._committer.acommit(item)

    def post(self, item: Item) -> None:
        """Commit without waiting."""
        self._committer.post(item)

    def _end(self) -> None:
        """Write what waits, then end the thread and let go of all but the store."""
        self._committer.close()
        if self.anchors is not None:
            self.anchors.close()
        if self._rates is not None:
            self._rates.close()
