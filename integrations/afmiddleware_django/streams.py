"""Streamed answers: their pieces are made while the action is the current one, and their last one ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from afmiddleware.current import Action, enter, leave
from afmiddleware.model.outcome import End

if TYPE_CHECKING:
    from django.http.response import HttpResponseBase

Finish = Callable[[End], None]


def follow(response: HttpResponseBase, action: Action, finish: Finish, *, bodiless: bool) -> None:
    """Have `finish` called once the answer has left, or will not. Nobody need ask a `bodiless` one for its pieces."""
    pieces: Any = response.streaming_content  # type: ignore[attr-defined]  # the caller knows that it streams
    kind = _AsyncPieces if response.is_async else _Pieces  # type: ignore[attr-defined]
    # Django calls the `close` of what it streams when it closes the response.
    response.streaming_content = kind(pieces, action, finish, bodiless)  # type: ignore[attr-defined]


class _Pieces:
    __slots__ = ("_action", "_finish", "_next", "_whole")

    def __init__(self, pieces: Iterator[bytes], action: Action, finish: Finish, whole: bool) -> None:  # noqa: FBT001 (made here)
        self._next = iter(pieces).__next__
        self._action = action
        self._finish = finish
        self._whole = whole

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        # Pieces are made while they are asked for, and the server's thread may serve others in between.
        outer = enter(self._action)
        try:
            return self._next()
        except StopIteration:
            self._whole = True
            raise
        except BaseException:
            self._finish(End.ERROR)
            raise
        finally:
            leave(outer)

    def close(self) -> None:
        """The server is done with the answer."""
        self._finish(End.OK if self._whole else End.CLIENT_GONE)


class _AsyncPieces:
    __slots__ = ("_action", "_finish", "_next", "_whole")

    def __init__(self, pieces: AsyncIterator[bytes], action: Action, finish: Finish, whole: bool) -> None:  # noqa: FBT001 (made here)
        self._next = aiter(pieces).__anext__
        self._action = action
        self._finish = finish
        self._whole = whole

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        outer = enter(self._action)
        try:
            return await self._next()
        except StopAsyncIteration:
            self._whole = True
            raise
        except GeneratorExit:
            raise
        except Exception:
            self._finish(End.ERROR)
            raise
        finally:
            leave(outer)

    def close(self) -> None:
        """The server is done with the answer."""
        self._finish(End.OK if self._whole else End.CLIENT_GONE)
