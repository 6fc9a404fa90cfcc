"""The places a policy names for the mark of its log: a file, a program, a URL, a log line, standard output."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from afmiddleware.errors import ReceiptError
from afmiddleware.ledger.anchor import AnchorError, AnchorFile
from afmiddleware.ledger.anchors import Anchors
from afmiddleware.ledger.open import check_place, make_way, no_undo, not_in_memory, open_for_fence, open_ledger
from afmiddleware.ledger.receipt_key import check_signer
from afmiddleware.lookups.fetch import FetchError, fetch_json, post_json
from afmiddleware.model.entry import Closed
from afmiddleware.receipts.anchor import Anchor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from afmiddleware.config.receipts_schema import AnchorEntry, Receipts
    from afmiddleware.config.schema import Config
    from afmiddleware.ledger.anchor import Place
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.model.entry import Conclusion, Entry, Held, NewEpoch
    from afmiddleware.receipts.checkpoint import Signer

LOGGER: Final = "afmiddleware.anchor"
"""The logger of the marks: level INFO, with the attributes `afm.log`, `afm.size`, `afm.leaf` and `afm.checkpoint`."""

_SECONDS: Final = 10.0
_MAX_MARK: Final = 1 << 16
_log = logging.getLogger(LOGGER)


def anchors_of(receipts: Receipts, base: Path) -> Anchors | None:
    """The anchors that a policy names; `base` is its folder. Raises `ReceiptError` for a token that cannot be read."""
    entry = receipts.anchor
    if entry is None:
        return None
    return Anchors(_places(entry, base), entry.every, required=entry.required, patience=entry.patience)


def open_anchored(  # noqa: PLR0913 (what a ledger is made of)
    config: Config,
    base: Path,
    clock: Callable[[], int],
    undo: Callable[[Entry, Held], Conclusion],
    signer: Signer | None = None,
    mac_key: Callable[[], bytes] | None = None,
) -> Ledger:
    """Open the ledger of a policy for a fence, compared with its anchors, which it feeds. Raises as `open_ledger`.

    `signer` and `mac_key` stand in for the keys that the policy names.
    """
    if signer is not None:
        check_signer(signer)
    secret = mac_key() if mac_key is not None else None
    return open_for_fence(config, base, clock, undo, signer, anchors_of(config.receipts, base), secret)


def open_for_changes(config: Config, base: Path, clock: Callable[[], int]) -> Ledger:
    """Open the ledger of a policy for a command that settles, or sets what the operator may.

    Raises as `check_place` and `open_ledger` do.
    """
    check_place(config, base)
    return open_ledger(config, base, clock, no_undo, anchors=anchors_of(config.receipts, base))


def renew(config: Config, base: Path, clock: Callable[[], int], item: NewEpoch) -> tuple[Closed, str]:
    """Put a new log in the place of the ledger's, and take its mark to every anchor.

    No anchor is asked: it is they who have seen more. What is found in the ledger is copied first; the answer says
    where to. Raises as `open_ledger` does, and `AnchorError` when a place does not take the new mark.
    """
    not_in_memory(config)
    anchors = anchors_of(config.receipts, base)
    with closing(open_ledger(config, base, clock, no_undo)) as ledger:
        head, held, copy = make_way(config, base)
        found = (head.log, head.size, head.leaf.hex())
        closed = ledger.commit(replace(item, found=found, open=held))
        now, note = ledger.head(), ledger.checkpoint()
    if not isinstance(closed, Closed):
        raise TypeError(closed)
    for place in anchors.places if anchors is not None else ():
        place.put(Anchor(now.log, now.size, now.leaf, note))
    return closed, copy


def _places(entry: AnchorEntry, base: Path) -> list[Place]:
    found: list[Place] = []
    if entry.file is not None:
        found.append(AnchorFile(base / entry.file))
    if entry.command is not None or entry.read_command is not None:
        found.append(AnchorCommand(entry.command or (), entry.read_command or ()))
    if entry.url is not None or entry.read_url is not None:
        token = _token(entry, base)
        found.append(AnchorUrl(entry.url or "", entry.read_url or "", token, allow_private=entry.allow_private))
    if entry.log:
        found.append(AnchorLog())
    if entry.stdout:
        found.append(AnchorStdout())
    return found


def _token(entry: AnchorEntry, base: Path) -> str:
    if entry.token is None:
        return ""
    if entry.token.secret is not None:
        token = entry.token.secret.get_secret_value().decode("utf-8", "replace")
    else:
        place = base / (entry.token.file or "")
        try:
            token = place.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"the token {place} of the anchor cannot be read: {type(error).__name__}"
            raise ReceiptError(msg) from None
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        msg = "the token of the anchor is not one: it holds spaces or more than ASCII"
        raise ReceiptError(msg)
    return token


class AnchorCommand:
    """A program that is given the mark, one line of JSON, on its standard input, and one that prints the last mark.

    No shell reads the arguments. A program that fails, or takes more than ten seconds, has not kept the mark.
    """

    def __init__(self, command: Sequence[str], read: Sequence[str]) -> None:
        self._command = [*command]
        self._read = [*read]
        self.readable = bool(read)
        self.name = f"command {(self._command or self._read)[0]}"

    def put(self, mark: Anchor) -> None:
        """Run the program."""
        if self._command:
            _run(self._command, mark.text() + "\n")

    def get(self) -> Anchor | None:
        """What the other program prints; nothing is no mark."""
        text = _run(self._read, "").strip()
        return Anchor.parse(text) if text else None


class AnchorUrl:
    """A server that takes the mark by POST, and gives the last one back by GET: `{}` where it has none.

    HTTPS, or plain HTTP on this host; no redirect is followed and no address of another private network is reached
    unless the policy allows that; three seconds in all.
    """

    def __init__(self, url: str, read: str, token: str, *, allow_private: bool) -> None:
        self._url = url
        self._read = read
        self._token = token
        self._private = allow_private
        self.readable = bool(read)
        # The path may hold a capability: only the host is shown.
        self.name = f"url {urlsplit(url or read).netloc}"

    def put(self, mark: Anchor) -> None:
        """POST the mark."""
        if not self._url:
            return
        try:
            post_json(self._url, mark.text().encode(), token=self._token, allow_private=self._private)
        except FetchError as error:
            raise AnchorError(str(error)) from error

    def get(self) -> Anchor | None:
        """GET the last mark."""
        try:
            told = fetch_json(self._read, allow_private=self._private)
        except FetchError as error:
            raise AnchorError(str(error)) from error
        return Anchor.parse(json.dumps(told)) if told else None


class AnchorLog:
    """A log line a mark, for a collector such as OpenTelemetry's: the members are attributes of the record."""

    name = f"log {LOGGER}"
    readable = False

    def put(self, mark: Anchor) -> None:
        """Log the mark. Nobody keeps what a level filters out, so that is a fault."""
        if not _log.isEnabledFor(logging.INFO):
            raise AnchorError(f"the logger {LOGGER} takes no INFO lines")
        told = {
            "afm.log": mark.log,
            "afm.size": mark.size,
            "afm.leaf": mark.leaf.hex(),
            "afm.checkpoint": mark.checkpoint,
        }
        _log.info("anchor %s size %d leaf %s", mark.log, mark.size, mark.leaf.hex(), extra=told)

    def get(self) -> Anchor | None:
        """A log is not read back."""
        return None


class AnchorStdout:
    """A line of JSON a mark on standard output, `{"afm_anchor": {...}}`, for whoever collects a container's output."""

    name = "stdout"
    readable = False

    def put(self, mark: Anchor) -> None:
        """Print the mark."""
        try:
            sys.stdout.write(f'{{"afm_anchor":{mark.text()}}}\n')
            sys.stdout.flush()
        except (OSError, ValueError) as error:
            raise AnchorError(type(error).__name__) from error

    def get(self) -> Anchor | None:
        """Output is not read back."""
        return None


def _run(command: Sequence[str], text: str) -> str:
    """Run a program of the policy; what it printed. Its words are shown to nobody: they may hold anything."""
    try:
        ran = subprocess.run(  # noqa: S603 (the operator's own file names it; no shell)
            command, input=text.encode(), capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise AnchorError(f"it took more than {_SECONDS:.0f} s") from error
    except OSError as error:
        raise AnchorError(f"it cannot be started: {error.strerror}") from error
    if ran.returncode:
        raise AnchorError(f"it ended with {ran.returncode}")
    if len(ran.stdout) > _MAX_MARK:
        raise AnchorError("it printed more than a mark")
    return ran.stdout.decode("utf-8", "replace")
