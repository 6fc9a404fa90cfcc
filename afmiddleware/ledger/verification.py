"""The check of a whole ledger, with what the policy says of its key and its anchor."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from afmiddleware.errors import ReceiptError
from afmiddleware.ledger.anchor import read_anchor
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.open import keys_for_reading, open_for_reading
from afmiddleware.receipts.verify import Report, verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from afmiddleware.config.schema import Config


def verify_ledger(
    config: Config,
    base: Path,
    anchor: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Verify the log of a policy's ledger against its key and its anchor. Raises `AFError` when it cannot be read.

    `base` is the policy's folder; `anchor` names another anchor file than the policy does.
    """
    with closing(open_for_reading(config, base)) as ledger:
        mark = config.receipts.anchor
        place = Path(anchor) if anchor else base / mark.file if mark is not None else None
        if anchor and not Path(anchor).is_file():
            msg = f"there is no anchor at {anchor}"
            raise ReceiptError(msg)
        seen = read_anchor(place) if place is not None else None
        keys = keys_for_reading(config, base)
        return verify(ledger.receipts(Filter()), ledger.head(), keys, seen, progress, head_now=ledger.head)
