"""The request body before and after it is judged: read once, and given back whole."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Protocol

from afmiddleware.errors import ClientGoneError, MappingError, SealBrokenError
from afmiddleware.mapping.body import too_large

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http import HttpRequest


class Source(Protocol):
    """Where the bytes come from: `pep.environ.Body` for WSGI, `Spooled` for ASGI."""

    judged: io.BytesIO | None

    def read(self, cap: int) -> bytes:
        """The whole body. Raises `MappingError` over `cap` bytes, `ClientGoneError` when it is cut off."""
        ...


class Spooled:
    """The body under ASGI, which Django has received whole, in memory or in a temporary file."""

    __slots__ = ("_file", "judged")

    def __init__(self, file: Any) -> None:
        self._file = file
        self.judged: io.BytesIO | None = None

    def read(self, cap: int) -> bytes:
        if self.judged is None:
            self._file.seek(0)
            body = self._file.read(cap + 1)
            self._file.seek(0)
            if len(body) > cap:
                raise too_large(cap)
            self.judged = io.BytesIO(body)
        return self.judged.getvalue()


class HeldBody:
    """Stands as the request's stream until the request is judged.

    A middleware that reads before then reads a copy, and the body is still there for the decision and for the view.
    Nothing is read from the server before somebody asks. `cap` says how much may be held then, in bytes.
    """

    def __init__(self, request: HttpRequest, source: Source, cap: Callable[[], int]) -> None:
        self._stream: Any = request._stream  # noqa: SLF001 (Django has no public name)
        self._source = source
        self._cap = cap
        self._copy: Any = None
        self._fault: MappingError | None = None
        request._stream = self  # type: ignore[assignment]  # noqa: SLF001

    def read(self, *size: int) -> bytes:
        """Part of the copy."""
        found: bytes = self._open().read(*size)
        return found

    def readline(self, *size: int) -> bytes:
        """A line of the copy."""
        found: bytes = self._open().readline(*size)
        return found

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._open())

    def close(self) -> None:
        """Close the stream; a copy that was read before stays."""
        self._stream.close()

    def take(self, cap: int) -> bytes:
        """The whole body for the decision. Raises as `Source.read`."""
        if self._fault is not None:
            raise self._fault
        body = self._source.read(cap)
        if len(body) > cap:
            raise too_large(cap)
        return body

    def give(self, request: Any) -> bytes | None:
        """Hand the body to the view: exactly what was judged, or the untouched stream; returns what was judged."""
        judged = self._source.judged
        if judged is None or self._fault is not None:
            if self._copy is None:
                request._stream = self._stream  # noqa: SLF001
            return None
        body = judged.getvalue()
        self._stream.close()
        # As Django does when it reads a body: `body`, `POST`, `FILES`, `read` and DRF's parsers all start from here.
        request._body = body  # noqa: SLF001
        request._stream = io.BytesIO(body)  # noqa: SLF001
        request._read_started = True  # noqa: SLF001
        meta = request.META
        meta["CONTENT_LENGTH"] = str(len(body))
        meta.pop("HTTP_TRANSFER_ENCODING", None)
        # What a middleware has parsed or replaced before is parsed again, from what was judged.
        forget(request, "_post", "_files")
        return body

    def _open(self) -> Any:
        if self._copy is None:
            try:
                self._copy = io.BytesIO(self._source.read(self._cap()))
            except MappingError as error:
                self._fault = error
                self._copy = self._stream
            except ClientGoneError as error:
                msg = "the request body cannot be read"
                raise OSError(msg) from error
        return self._copy


def forget(request: Any, *names: str) -> None:
    """Let Django read again what it keeps of a request: a middleware may have put something else there."""
    held = vars(request)
    for name in names:
        held.pop(name, None)


def lost(request: Any) -> bool:
    """Whether somebody before the fence has read the body, so that it cannot be judged."""
    return bool(getattr(request, "_read_started", False))


def too_early() -> SealBrokenError:
    """Why a body that was read before the fence cannot be judged."""
    return SealBrokenError(
        "a middleware before the fence has read the request body; put FenceMiddleware before it in MIDDLEWARE",
    )
