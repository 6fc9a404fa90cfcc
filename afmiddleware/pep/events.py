"""Server-sent events out of a stream of bytes (WHATWG HTML, section 9.2), as far as their data goes."""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventStream:
    """Splits a stream into events. An event of more than `cap` bytes is passed over."""

    __slots__ = ("_cap", "_data", "_held", "_line", "_size", "_too_long")

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._line: list[bytes] = []
        self._held = 0
        self._data: list[bytes] = []
        self._size = 0
        self._too_long = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of every event that ends in `piece`."""
        if b"\n" not in piece and b"\r" not in piece:
            self._keep(piece)
            return []
        text = b"".join([*self._line, piece])
        # Half of a line end may still come.
        half = b"\r" if text.endswith(b"\r") else b""
        *lines, rest = _LINE_END.split(text[: len(text) - len(half)])
        self._line, self._held = [], 0
        events = []
        for line in lines:
            if line:
                self._take(line)
                continue
            if self._data and not self._too_long:
                events.append(b"\n".join(self._data))
            self._data, self._size, self._too_long = [], 0, False
        self._keep(rest + half)
        return events

    def end(self) -> list[bytes]:
        """The data of the event that ends with the stream. One that is not ended does not count."""
        return self.feed(b"\n") if self._line and self._line[-1].endswith(b"\r") else []

    def waiting(self) -> int:
        """How many bytes wait for the end of their line or event."""
        return self._held + self._size

    def _keep(self, piece: bytes) -> None:
        if self._held + self._size + len(piece) > self._cap:
            self._line, self._held, self._data, self._size, self._too_long = [], 0, [], 0, True
        elif piece:
            self._line.append(piece)
            self._held += len(piece)

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name != b"data" or self._too_long:
            return
        self._size += len(value)
        if self._size > self._cap:
            self._data, self._size, self._too_long = [], 0, True
        else:
            self._data.append(value.removeprefix(b" "))
