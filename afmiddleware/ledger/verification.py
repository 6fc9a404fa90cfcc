"""The check of a whole ledger, with what the policy says of its key and its anchor."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from afmiddleware.errors import LedgerUnavailableError, ReceiptError
from afmiddleware.ledger.anchor import GO_ON, read_anchor
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.ledger.open import keys_for_reading, open_for_reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afmiddleware.config.schema import Config
    from afmiddleware.ledger.anchors import Anchors
    from afmiddleware.ledger.base import Reader
    from afmiddleware.receipts.seals import Had
    from afmiddleware.receipts.verify import Report

NO_ANCHOR: Final = "none"


def verify_ledger(  # noqa: PLR0913 (what a log is checked against)
    config: Config,
    base: Path,
    anchor: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    trusted: tuple[bytes, ...] = (),
    had: Sequence[Had] = (),
    anchors: Anchors | None = None,
) -> Report:
    """Verify the log of a policy's ledger against its key and its anchor. Raises `AFError` when it cannot be read.

    `base` is the policy's folder, `anchors` those of the policy; `anchor` names a file instead of them, or is
    `NO_ANCHOR` where whoever asks does without one. `trusted` are public keys the log must be signed by, `had` is what
    was given out.
    """
    with closing(_opened(config, base, None if anchor else anchors)) as ledger:
        if anchor and anchor != NO_ANCHOR and not Path(anchor).is_file():
            msg = f"there is no anchor at {anchor}"
            raise ReceiptError(msg)
        if anchor:
            seen = read_anchor(Path(anchor)) if anchor != NO_ANCHOR else None
        else:
            seen = anchors.newest() if anchors is not None else None
        keys = keys_for_reading(config, base)
        report = ReceiptLog(ledger, keys).verify(seen, trusted=trusted, had=had, progress=progress)
    if anchor == NO_ANCHOR and report.status == "unanchored":
        return replace(report, status="whole", completeness="not checked (no anchor)")
    return report


def _opened(config: Config, base: Path, anchors: Anchors | None) -> Reader:
    """The ledger to be verified. One that is gone or empty is told with what the policy's anchors have seen of it."""
    ledger: Reader | None = None
    try:
        ledger = open_for_reading(config, base)
        ledger.head()
    except (ReceiptError, LedgerUnavailableError) as error:
        if ledger is not None:
            ledger.close()
        seen = [(place, mark) for place, mark in anchors.marks() if mark is not None] if anchors is not None else []
        if not seen:
            raise
        place, mark = max(seen, key=lambda one: one[1].size)
        told = f"the anchor {place.name} has seen {mark.size} receipts of the log {mark.log}"
        msg = f"{error}; {told}. If that log is lost, restore its newest copy; {GO_ON}"
        raise type(error)(msg) from error
    return ledger
