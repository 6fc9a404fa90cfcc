"""Streamed answers: their pieces are made while the action is the current one, and their last one ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from afmiddleware.current import enter, leave
from afmiddleware.model.outcome import End

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from django.http.response import HttpResponseBase

    from afmiddleware.current import Action
    from afmiddleware_django.exchange import Exchange

_NO_BODY: Final = frozenset({204, 304})


def follow(response: HttpResponseBase, exchange: Exchange) -> None:
    """Have the exchange finished once the answer has left, or will not."""
    streamed: Any = response
    kind = _AsyncPieces if streamed.is_async else _Pieces
    # Django calls the `close` of what it streams when it closes the response.
    streamed.streaming_content = kind(streamed.streaming_content, exchange, response.status_code)


class _Followed:
    """What is known of a stream. Nobody need ask an answer without a body for its pieces."""

    __slots__ = ("_ahead", "_exchange", "_status", "_whole")

    def __init__(self, exchange: Exchange, status: int) -> None:
        self._exchange = exchange
        self._status = status
        self._whole = exchange.request.method == "HEAD" or status in _NO_BODY
        # Where the end waits for the outcome, the last piece is held back until that is recorded.
        self._ahead: list[bytes] = []

    def close(self) -> None:
        """The server is done with the answer."""
        self._exchange.finish(End.OK if self._whole else End.CLIENT_GONE, self._status)

    def __del__(self) -> None:
        # A middleware outside the fence has put another answer in the place of this one, and closed nothing.
        self.close()

    def _enter(self) -> Action | None:
        # Pieces are made while they are asked for, and the server's thread may serve others in between.
        action = self._exchange.action
        return enter(action) if action is not None else None

    def _feed(self, piece: bytes) -> bytes | None:
        """The piece to hand out now, if any."""
        exchange = self._exchange
        if exchange.settling is None:
            return piece
        exchange.settling.feed(piece)
        if not exchange.waits:
            return piece
        self._ahead.append(piece)
        return self._ahead.pop(0) if len(self._ahead) > 1 else None


class _Pieces(_Followed):
    __slots__ = ("_next",)

    def __init__(self, pieces: Iterator[bytes], exchange: Exchange, status: int) -> None:
        super().__init__(exchange, status)
        self._next = iter(pieces).__next__

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        outer = self._enter()
        try:
            while True:
                try:
                    piece = self._feed(self._next())
                except StopIteration:
                    self._whole = True
                    if not self._ahead:
                        raise
                    self._exchange.finish_now(End.OK, self._status)
                    return self._ahead.pop()
                if piece is not None:
                    return piece
        except StopIteration:
            raise
        except BaseException:
            self._exchange.finish(End.ERROR, self._status)
            raise
        finally:
            leave(outer)


class _AsyncPieces(_Followed):
    __slots__ = ("_next",)

    def __init__(self, pieces: AsyncIterator[bytes], exchange: Exchange, status: int) -> None:
        super().__init__(exchange, status)
        self._next = aiter(pieces).__anext__

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        outer = self._enter()
        try:
            while True:
                try:
                    piece = self._feed(await self._next())
                except StopAsyncIteration:
                    self._whole = True
                    if not self._ahead:
                        raise
                    await self._exchange.afinish(End.OK, self._status)
                    return self._ahead.pop()
                if piece is not None:
                    return piece
        except StopAsyncIteration:
            raise
        except Exception:
            self._exchange.finish(End.ERROR, self._status)
            raise
        finally:
            leave(outer)
