"""One connection to the Redis that shares rates: what is checked of the server before anything is counted on it."""

from __future__ import annotations

import hashlib
import socket
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from afmiddleware.errors import LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afmiddleware.config.ledger_url import RedisUrl

LOOKED_AFTER: Final = 10.0
"""How often a connected server is asked whether it still keeps what it is told, in seconds."""

_RATES: Final = "rates.lua"
_EPOCH: Final = "epoch.lua"


class Script:
    """A Lua script of this package, by its digest."""

    def __init__(self, name: str) -> None:
        self.text = files("afmiddleware.ledger").joinpath(name).read_bytes()
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()


class Server:
    """A connection that is never made anew behind anybody's back, so that it is known which server answers.

    `connect` refuses a replica, a cluster, and a server that drops keys when its memory is full: that would reset a
    limit in silence. Every method raises `LedgerUnavailableError` and lets go of the connection then; the error's
    cause tells whether the server may have done what it was asked.
    """

    def __init__(self, url: RedisUrl, clock: Callable[[], int] | None = None) -> None:
        self.run = ""
        self._url = url
        self._clock = clock
        self._pool = redis.ConnectionPool.from_url(
            url.location,
            socket_timeout=url.timeout,
            socket_connect_timeout=url.timeout,
            # Whether to ask again is decided where it is known what was asked.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._connection: Any = None
        self._looked = 0.0
        self._dropped = ("", 0)
        self._rates, self._epoch = Script(_RATES), Script(_EPOCH)

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None

    def connect(self) -> None:
        """Connect to the server and look whether it can be trusted with counters."""
        self.close()
        try:
            connection = self._pool.connection_class(**self._pool.connection_kwargs)
            connection.connect()
        except (RedisError, OSError) as error:
            raise self._fault(error) from error
        self._connection = connection
        self.look()

    def look(self) -> None:
        """Check the server that is connected."""
        told = _facts(self._ask("INFO"))
        self._looked = time.monotonic()
        self.run = told.get("run_id", "")
        wrong = ""
        if told.get("role") != "master":
            wrong = "is a replica, which takes no writes; name the master"
        elif told.get("cluster_enabled") == "1":
            wrong = "is part of a cluster, where one script cannot reach every key; use a single server"
        elif (policy := told.get("maxmemory_policy", "noeviction")) != "noeviction":
            wrong = (
                f"drops keys when its memory is full (maxmemory-policy {policy}), which would reset limits in silence; "
                "set maxmemory-policy to noeviction"
            )
        before, self._dropped = self._dropped, (self.run, int(told.get("evicted_keys", "0")))
        if not wrong and before[0] == self.run and before[1] < self._dropped[1]:
            wrong = "has dropped keys because its memory was full"
        if wrong:
            self.close()
            raise EvictingError(f"the Redis {self._url.name} {wrong}")

    def look_after(self) -> None:
        """`look`, if that was not done for a while."""
        if time.monotonic() - self._looked >= LOOKED_AFTER:
            self.look()

    def now(self) -> int:
        """The time to go by in place of the server's own, 0 for that: for tests."""
        return self._clock() if self._clock is not None else 0

    def count(self, keys: Sequence[str], epoch: str, batch: bytes) -> bytes:
        """Run one batch; the answer is that of rates.lua."""
        answer: bytes = self._run(self._rates, keys, f"{epoch}:{self.run}:", batch)
        return answer

    def begin(self, key: str, known: str, new: str, *, lost: bool) -> str:
        """The id of the epoch on this server, see epoch.lua."""
        answer: bytes = self._run(self._epoch, [key], self.run, known, new, int(lost), self.now())
        return answer.decode("ascii", "replace")

    def ask(self, *command: object) -> Any:
        """Any other command."""
        return self._ask(*command)

    def close(self) -> None:
        """Let go of the connection. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def forget(self) -> None:
        """Let go of a connection that belongs to the process this one was forked from."""
        self._connection = None

    def _run(self, script: Script, keys: Sequence[str], *values: object) -> Any:
        try:
            return self._ask("EVALSHA", script.digest, len(keys), *keys, *values)
        except NoScriptError:
            # A server that was started anew, or told to forget its scripts, has run nothing.
            return self._ask("EVAL", script.text, len(keys), *keys, *values)

    def _ask(self, *command: Any) -> Any:
        connection = self._connection
        if connection is None:
            raise LedgerUnavailableError(f"the Redis {self._url.name} is not connected")
        try:
            connection.send_packed_command([hiredis.pack_command(command)])
            return connection.read_response(disable_decoding=True)
        except NoScriptError:
            raise
        except (RedisError, OSError) as error:
            self.close()
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> LedgerUnavailableError:
        said = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        if isinstance(error, redis.AuthenticationError):
            said = "it takes neither the name nor the password"
        elif isinstance(error, socket.gaierror):
            said = "there is no such host"
        return LedgerUnavailableError(f"the Redis {self._url.name} did not answer: {said}")


class EvictingError(LedgerUnavailableError):
    """The server may not keep what it is told. What it has counted so far may be gone."""


def _facts(told: object) -> dict[str, str]:
    text = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
    pairs = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in pairs}
