"""What a flow may ask of its surroundings.

`answer = yield from Commit(entry)` has the exact type of the answer; the two drivers call `by` with something that does
it, in sync or in async code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from afmiddleware.identity.needs import Need
    from afmiddleware.model.entry import Conclusion, Entry, Held

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Io(Protocol):
    """What a surrounding must be able to do, in sync code."""

    def read_body(self, cap: int) -> bytes:
        """The whole request body. Raises `MappingError` over `cap` bytes, `ClientGoneError` when it is cut off."""
        ...

    def resolve(self, need: Need) -> Any:
        """Look up what identity needs. Raises `IdentityUnavailableError`."""
        ...

    def call(self, function: Callable[[Any], Any], view: Any) -> Any:
        """Ask a function of the service. Raises `MappingError` when it fails."""
        ...

    def commit(self, entry: Entry) -> Held:
        """Commit and wait. Raises `LedgerUnavailableError`."""
        ...

    def post(self, item: Entry | Conclusion) -> None:
        """Commit without waiting."""
        ...


class AsyncIo(Protocol):
    """The same in async code; nothing here may block the event loop."""

    def read_body(self, cap: int) -> Awaitable[bytes]: ...
    def resolve(self, need: Need) -> Awaitable[Any]: ...
    def call(self, function: Callable[[Any], Any], view: Any) -> Awaitable[Any]: ...
    def commit(self, entry: Entry) -> Awaitable[Held]: ...
    def post(self, item: Entry | Conclusion) -> Awaitable[None]: ...


class Effect(Generic[T_co]):
    """Something a flow needs done: `answer = yield from SomeEffect(...)`."""

    __slots__ = ()

    def __iter__(self) -> Generator[Effect[Any], Any, T_co]:
        return cast("T_co", (yield self))

    def by(self, io: Any) -> Any:
        """Have it done by an `Io` (the answer) or an `AsyncIo` (an awaitable of it)."""
        raise NotImplementedError


Flow = Generator[Effect[Any], Any, T]


class ReadBody(Effect[bytes]):
    """Read the request body, up to `cap` bytes."""

    __slots__ = ("cap",)

    def __init__(self, cap: int) -> None:
        self.cap = cap

    def by(self, io: Any) -> Any:
        return io.read_body(self.cap)


class Resolve(Effect[Any]):
    """Look up something identity needs that is not in memory."""

    __slots__ = ("need",)

    def __init__(self, need: Need) -> None:
        self.need = need

    def by(self, io: Any) -> Any:
        return io.resolve(self.need)


class Call(Effect[Any]):
    """Ask a function of the service, sync or async, about a request."""

    __slots__ = ("function", "view")

    def __init__(self, function: Callable[[Any], Any], view: Any) -> None:
        self.function = function
        self.view = view

    def by(self, io: Any) -> Any:
        return io.call(self.function, self.view)


class Commit(Effect["Held"]):
    """Charge and record, all or nothing, and wait until it is durable."""

    __slots__ = ("entry",)

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def by(self, io: Any) -> Any:
        return io.commit(self.entry)


class Post(Effect[None]):
    """Record without waiting."""

    __slots__ = ("item",)

    def __init__(self, item: Entry | Conclusion) -> None:
        self.item = item

    def by(self, io: Any) -> Any:
        return io.post(self.item)
