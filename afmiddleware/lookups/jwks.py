"""The keys of an issuer, read in the background and served from memory.

Readers take an immutable snapshot and never wait while there is one that is not too old. A failed fetch keeps the
snapshot; a key id nobody knows causes at most one fetch in a cool-down, whoever asks and however often.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from afmiddleware.errors import ConfigError, IdentityUnavailableError
from afmiddleware.identity.keyset import KeySet, read_keyset
from afmiddleware.lookups.fetch import FetchError, fetch_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from afmiddleware.identity.needs import NeedKeySet

SOFT_SECONDS: Final = 300.0
HARD_SECONDS: Final = 86_400.0
COOLDOWN_SECONDS: Final = 30.0
COLD_WAIT_SECONDS: Final = 1.5
MAX_BACK_OFF_SECONDS: Final = 300.0
_WELL_KNOWN: Final = {"oidc": "/.well-known/openid-configuration", "rfc8414": "/.well-known/oauth-authorization-server"}
_log = logging.getLogger("afmiddleware.identity")


class FixedKeys:
    """Keys that stand in the policy or in a file beside it; they change only with it."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def snapshot(self) -> KeySet:
        """The keys."""
        return self._keys

    def wanted(self, _kid: str) -> Future[KeySet]:
        """The keys again: nothing more can be had."""
        done: Future[KeySet] = Future()
        done.set_result(self._keys)
        return done

    def close(self) -> None:
        """Nothing to let go of."""


class FetchedKeys:
    """Keys behind a URL. `timer` counts seconds; `fetch` reads a URL's JSON document or raises `FetchError`.

    `read` makes keys of the document in place of `read_keyset`.
    """

    def __init__(  # noqa: PLR0913 (what the policy says of an issuer, and what is injected)
        self,
        issuer: str,
        url: str,
        algorithms: tuple[str, ...],
        *,
        discovery: str = "",
        timer: Callable[[], float],
        fetch: Callable[[str], Any],
        read: Callable[[object, int], KeySet] | None = None,
    ) -> None:
        self._issuer = issuer
        self._read = read or partial(_read, algorithms)
        self._url = url
        self._discovery = discovery
        self._timer = timer
        self._fetch = fetch
        self._keys: KeySet | None = None
        self._read_at = 0.0
        self._tried_at = -COOLDOWN_SECONDS
        self._failures = 0
        self._lock = threading.Lock()
        self._under_way: Future[KeySet] | None = None
        self._pid = os.getpid()

    def snapshot(self) -> KeySet | None:
        """The keys as last read, `None` when there are none or they are too old to be believed. Never waits."""
        keys = self._believed()
        if keys is not None and self._timer() - self._read_at > SOFT_SECONDS:
            self._refresh(self._pause())
        return keys

    def wanted(self, kid: str) -> Future[KeySet]:
        """The keys after one more look for `kid`, unless somebody looked within the cool-down."""
        done: Future[KeySet] = Future()
        keys = self.snapshot()
        if keys is not None and kid in keys.keys:
            done.set_result(keys)
            return done
        under_way = self._refresh(self._pause() if keys is None else COOLDOWN_SECONDS)
        if keys is not None:
            # A stranger's key id must not make anybody wait longer than the fetch that is under way anyway.
            return under_way if under_way is not None else _done(keys)
        if under_way is not None:
            return under_way
        done.set_exception(IdentityUnavailableError(f"the keys of {self._issuer} cannot be read", retry_after=5))
        return done

    def close(self) -> None:
        """The fetching thread is a daemon and ends by itself within its time-out."""

    def _believed(self) -> KeySet | None:
        """The keys as last read, unless that is too long ago."""
        return self._keys if self._timer() - self._read_at <= HARD_SECONDS else None

    def _pause(self) -> float:
        """How long after the last attempt the next one may be, in seconds: doubling with failures, with jitter."""
        if not self._failures:
            return 0.0
        return min(2.0 ** min(self._failures - 1, 16), MAX_BACK_OFF_SECONDS) * (0.5 + random.random() / 2)  # noqa: S311

    def _refresh(self, pause: float) -> Future[KeySet] | None:
        """The fetch under way, started now when the last attempt is at least `pause` seconds ago."""
        if self._pid != os.getpid():
            # After a fork the thread is not here, and the lock may have been held when it happened.
            self._pid, self._lock, self._under_way = os.getpid(), threading.Lock(), None
        with self._lock:
            if self._under_way is not None:
                return self._under_way
            if self._timer() - self._tried_at < pause:
                return None
            self._tried_at = self._timer()
            answer: Future[KeySet] = Future()
            # Many wait for it, so none of them may cancel it.
            answer.set_running_or_notify_cancel()
            thread = threading.Thread(target=self._run, args=(answer,), name="afmiddleware-keys", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                _log.warning("the keys of %s are not read: %s", self._issuer, error)
                self._failures += 1
                return None
            self._under_way = answer
            return answer

    def _run(self, answer: Future[KeySet]) -> None:
        before = self._keys
        try:
            keys = self._read(self._document(), (before.generation if before else 0) + 1)
        except Exception as error:  # noqa: BLE001 (whatever it was, those who wait must hear of it)
            why = error if isinstance(error, (FetchError, ValueError)) else type(error).__name__
            _log.warning("the keys of %s were not read: %s", self._issuer, why)
            with self._lock:
                self._failures += 1
                self._under_way = None
            believed = self._believed()
            if believed is not None:
                answer.set_result(believed)
            else:
                answer.set_exception(IdentityUnavailableError(f"the keys of {self._issuer} cannot be read"))
            return
        for reason in keys.dropped:
            _log.warning("a key of %s is left out: %s", self._issuer, reason)
        if before is not None and _same(before, keys):
            keys = msgspec.structs.replace(keys, generation=before.generation)
        with self._lock:
            self._keys, self._read_at, self._failures, self._under_way = keys, self._timer(), 0, None
        answer.set_result(keys)

    def _document(self) -> Any:
        if not self._discovery:
            return self._fetch(self._url)
        found = self._fetch(self._url)
        if not isinstance(found, dict) or found.get("issuer") != self._issuer:
            msg = "the discovery document names another issuer"
            raise FetchError(msg)
        where = found.get("jwks_uri")
        if not isinstance(where, str) or not _beside(where, self._issuer):
            msg = "the discovery document has no jwks_uri on the issuer's host; if that is right, set jwks_uri instead"
            raise FetchError(msg)
        return self._fetch(where)


class KeySources:
    """The key source of every issuer. A request waits at most `cold_wait` seconds for keys that are being fetched."""

    def __init__(self, sources: Mapping[str, FixedKeys | FetchedKeys], cold_wait: float = COLD_WAIT_SECONDS) -> None:
        self.sources = sources
        self._cold_wait = cold_wait

    def wait(self, need: NeedKeySet) -> KeySet:
        """The keys of an issuer, waiting a moment for a fetch. Raises `IdentityUnavailableError`."""
        try:
            return self.sources[need.issuer].wanted(need.kid).result(self._cold_wait)
        except FutureTimeoutError:
            raise _slow(need.issuer) from None

    async def await_(self, need: NeedKeySet) -> KeySet:
        """`wait` without blocking the event loop."""
        wanted = asyncio.wrap_future(self.sources[need.issuer].wanted(need.kid))
        try:
            # Shielded: one caller's time-out must not cancel the fetch that others wait for.
            return await asyncio.wait_for(asyncio.shield(wanted), self._cold_wait)
        except TimeoutError:
            raise _slow(need.issuer) from None

    def close(self) -> None:
        """Let go of every source."""
        for source in self.sources.values():
            source.close()


def discovery_url(issuer: str, profile: str) -> str:
    """Where the metadata of an issuer is: appended for `oidc`, put before the path for `rfc8414`."""
    if profile == "oidc":
        return issuer.rstrip("/") + _WELL_KNOWN["oidc"]
    scheme, _, rest = issuer.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}{_WELL_KNOWN['rfc8414']}{slash}{path}".rstrip("/")


def fetcher(*, allow_private: bool) -> Callable[[str], Any]:
    """`fetch_json` under one rule about addresses."""
    return lambda url: fetch_json(url, allow_private=allow_private)


def keys_from_file(path: Path, algorithms: tuple[str, ...]) -> FixedKeys:
    """The keys in a JWKS file. Raises `ConfigError` when it cannot be read or holds none that can be used."""
    try:
        document = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError) as error:
        msg = f"{path}: the JWKS file cannot be read: {error}"
        raise ConfigError([msg]) from error
    return fixed_keys(document, algorithms, str(path))


def fixed_keys(document: object, algorithms: tuple[str, ...], where: str) -> FixedKeys:
    """The keys of a JWKS document at hand. Raises `ConfigError` when it holds none that can be used."""
    try:
        keys = read_keyset(document, algorithms)
    except ValueError as error:
        msg = f"{where}: {error}"
        raise ConfigError([msg]) from error
    if not keys.keys:
        why = "; ".join(keys.dropped) or "it is empty"
        msg = f"{where}: no key in it can be used: {why}"
        raise ConfigError([msg])
    return FixedKeys(keys)


def _beside(url: str, issuer: str) -> bool:
    """Whether a URL is on the host of an issuer, and protected as well as it is."""
    try:
        there, here = urlsplit(url), urlsplit(issuer)
    except ValueError:
        return False
    return there.scheme in ("https", here.scheme) and there.hostname == here.hostname


def _read(algorithms: tuple[str, ...], document: object, generation: int) -> KeySet:
    return read_keyset(document, algorithms, generation)


def _same(one: KeySet, other: KeySet) -> bool:
    return _contents(one) == _contents(other)


def _contents(keys: KeySet) -> dict[str, tuple[Any, ...]]:
    return {kid: (key.algorithm, key.public.key, key.begins, key.ends) for kid, key in keys.keys.items()}


def _done(keys: KeySet) -> Future[KeySet]:
    done: Future[KeySet] = Future()
    done.set_result(keys)
    return done


def _slow(issuer: str) -> IdentityUnavailableError:
    return IdentityUnavailableError(f"the keys of {issuer} are not here yet", retry_after=2)
