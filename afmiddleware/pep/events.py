"""Server-sent events out of a stream of bytes (WHATWG HTML, section 9.2), as far as their data goes."""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventStream:
    """Splits a stream into events. An event of more than `cap` bytes is passed over."""

    __slots__ = ("_cap", "_data", "_line", "_size", "_too_long")

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._line: list[bytes] = []
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
        held = b"\r" if text.endswith(b"\r") else b""
        *lines, rest = _LINE_END.split(text[: len(text) - len(held)])
        self._line = [rest + held] if rest or held else []
        events = []
        for line in lines:
            if line:
                self._take(line)
                continue
            if self._data and not self._too_long:
                events.append(b"\n".join(self._data))
            self._data, self._size, self._too_long = [], 0, False
        return events

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._cap:
            self._line, self._data, self._too_long = [], [], True
        else:
            self._line.append(piece)

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._size += len(value)
            if self._size > 2 * self._cap:
                self._data, self._too_long = [], True
            elif not self._too_long:
                self._data.append(value.removeprefix(b" "))
