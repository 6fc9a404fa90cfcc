"""Asking an authorization server about a token (RFC 7662), a few at a time and each token once."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from base64 import b64encode
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus

from afmiddleware.errors import IdentityUnavailableError
from afmiddleware.lookups.fetch import TIMEOUT, FetchError, Form, fetch_document

if TYPE_CHECKING:
    from afmiddleware.identity.needs import NeedIntrospection

THREADS: Final = 4
MAX_WAITING: Final = 64
WAIT_SECONDS: Final = TIMEOUT + 1.0
_log = logging.getLogger("afmiddleware.identity")


class Introspector:
    """Asks one endpoint as one client. Raises `IdentityUnavailableError` when it does not answer, or is asked too much.

    While it answers slowly, at most `MAX_WAITING` tokens wait for it; whoever comes on top is told at once.
    """

    def __init__(self, endpoint: str, client_id: str, secret: bytes, *, allow_private: bool = False) -> None:
        self._endpoint = endpoint
        # RFC 6749 section 2.3.1: both are encoded as in a form before they are joined.
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
        self._authorization = f"Basic {b64encode(pair.encode('ascii')).decode('ascii')}"
        self._allow_private = allow_private
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._asked: dict[bytes, Future[Any]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def wait(self, need: NeedIntrospection) -> Any:
        """What the server says of a token, blocking."""
        try:
            return self._ask(need.token).result(WAIT_SECONDS)
        except FutureTimeoutError:
            raise self._silent() from None

    async def await_(self, need: NeedIntrospection) -> Any:
        """`wait` without blocking the event loop."""
        asked = asyncio.wrap_future(self._ask(need.token))
        try:
            # Shielded: one caller's time-out must not cancel what others wait for.
            return await asyncio.wait_for(asyncio.shield(asked), WAIT_SECONDS)
        except TimeoutError:
            raise self._silent() from None

    def close(self) -> None:
        """Ask nobody any more."""
        pool = self._pool
        if pool is not None and self._pid == os.getpid():
            pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, token: str) -> Future[Any]:
        """The answer for a token, which is asked for once however many wait for it."""
        if self._pid != os.getpid():
            # After a fork the threads are not here.
            self._reset()
        mark = sha256(token.encode("ascii")).digest()
        with self._lock:
            found = self._asked.get(mark)
            if found is not None:
                return found
            if len(self._asked) >= MAX_WAITING:
                raise IdentityUnavailableError("too many tokens wait for introspection", retry_after=1)
            if self._pool is None:
                self._pool = ThreadPoolExecutor(THREADS, "afmiddleware-introspection")
            try:
                asked = self._pool.submit(self._fetch, token)
            except RuntimeError as error:
                raise IdentityUnavailableError("introspection has ended") from error
            self._asked[mark] = asked
        asked.add_done_callback(lambda _done: self._asked.pop(mark, None))
        return asked

    def _fetch(self, token: str) -> Any:
        form = Form({"token": token, "token_type_hint": "access_token"}, self._authorization)
        try:
            return fetch_document(self._endpoint, allow_private=self._allow_private, form=form).value
        except FetchError as error:
            _log.warning("a token was not introspected at %s: %s", self._endpoint, error)
            wait = max(1, min(round(error.retry_after), 60))
            raise IdentityUnavailableError("the token cannot be introspected now", retry_after=wait) from None

    def _silent(self) -> IdentityUnavailableError:
        return IdentityUnavailableError("the token was not introspected in time", retry_after=2)
