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
from cachetools import TTLCache

from afmiddleware.errors import ConfigError, IdentityUnavailableError
from afmiddleware.identity.keyset import KeySet, read_keyset
from afmiddleware.lookups.fetch import Document, FetchError, fetch_document

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from afmiddleware.identity.needs import NeedKeySet

SOFT_SECONDS: Final = 300.0
HARD_SECONDS: Final = 86_400.0
COOLDOWN_SECONDS: Final = 30.0
COLD_WAIT_SECONDS: Final = 1.5
MAX_BACK_OFF_SECONDS: Final = 300.0
MIN_SOFT: Final = 60.0
MAX_SOFT: Final = 3600.0
DISCOVERY_SECONDS: Final = 86_400.0
UNKNOWN_SECONDS: Final = 60.0
REMEMBERED_UNKNOWN: Final = 256
MAX_WAITING: Final = 4
"""How many requests wait for a fetch that looks for a key id nobody knows yet, while there are other keys."""

_WELL_KNOWN: Final = {"oidc": "/.well-known/openid-configuration", "rfc8414": "/.well-known/oauth-authorization-server"}
_log = logging.getLogger("afmiddleware.identity")


class FixedKeys:
    """Keys that stand in the policy or in a file beside it; they change only with it."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    cold_wait = COLD_WAIT_SECONDS

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


class KeyTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How long fetched keys are believed, in seconds; `config.identity_schema.KeyTimes` says what each is."""

    soft: float = SOFT_SECONDS
    hard: float = HARD_SECONDS
    cold_wait: float = COLD_WAIT_SECONDS
    cooldown: float = COOLDOWN_SECONDS


USUAL: Final = KeyTimes()


class FetchedKeys:
    """Keys behind a URL. `timer` counts seconds; `fetch` reads a URL's JSON document or raises `FetchError`.

    With `discovery` the URL is that of the issuer's metadata, which is read once a day and names where the keys are:
    on the issuer's own host, or on one of `hosts`. Two that are `made_of` the same fetch the same keys.
    `read` makes keys of the document in place of `read_keyset`.
    """

    def __init__(  # noqa: PLR0913 (what the policy says of an issuer, and what is injected)
        self,
        issuer: str,
        url: str,
        algorithms: tuple[str, ...],
        *,
        discovery: str = "",
        hosts: Collection[str] = (),
        times: KeyTimes = USUAL,
        timer: Callable[[], float],
        fetch: Callable[[str, str], Document],
        made_of: object = None,
        read: Callable[[object, int], KeySet] | None = None,
    ) -> None:
        self.made_of = made_of
        self._issuer = issuer
        self._read = read or partial(_read, algorithms)
        self._url = url
        self._discovery = discovery
        self._hosts = hosts
        self._times = times
        self._timer = timer
        self._fetch = fetch
        self._keys: KeySet | None = None
        self._read_at = 0.0
        self._fresh_for = times.soft
        self._tried_at = -times.cooldown
        self._failures = 0
        self._told_to_wait = 0.0
        self._found = ("", 0.0)
        self._etag = ""
        self._unknown: TTLCache[str, bool] = TTLCache(REMEMBERED_UNKNOWN, UNKNOWN_SECONDS, timer)
        self._asked: set[str] = set()
        self._waiting = 0
        self._lock = threading.Lock()
        self._under_way: Future[KeySet] | None = None
        self._pid = os.getpid()

    @property
    def cold_wait(self) -> float:
        """How long a request waits for keys that are being fetched, in seconds."""
        return self._times.cold_wait

    def like(self, other: FetchedKeys) -> bool:
        """Whether both would fetch the same keys in the same way."""
        return self.made_of is not None and self.made_of == other.made_of

    def snapshot(self) -> KeySet | None:
        """The keys as last read, `None` when there are none or they are too old to be believed. Never waits."""
        keys = self._believed()
        if keys is not None and self._timer() - self._read_at > self._fresh_for:
            self._refresh(self._pause)
        return keys

    def wanted(self, kid: str) -> Future[KeySet]:
        """The keys after one more look for `kid`, unless somebody looked within the cool-down.

        While there are keys, a few wait for the fetch and everybody else is told at once what is known: key ids that
        strangers make up must not hold up the threads that others need.
        """
        keys = self.snapshot()
        if keys is not None and (kid in keys.keys or kid in self._unknown):
            return _done(keys)
        under_way = self._refresh(self._pause if keys is None else lambda: self._times.cooldown)
        if keys is not None:
            return under_way if under_way is not None and self._may_wait(kid) else _done(keys)
        if under_way is not None:
            return under_way
        done: Future[KeySet] = Future()
        done.set_exception(IdentityUnavailableError(f"the keys of {self._issuer} cannot be read", retry_after=5))
        return done

    def close(self) -> None:
        """The fetching thread is a daemon and ends by itself within its time-out."""

    def _may_wait(self, kid: str) -> bool:
        with self._lock:
            if len(self._asked) < REMEMBERED_UNKNOWN:
                self._asked.add(kid)
            self._waiting += 1
            return self._waiting <= MAX_WAITING

    def _believed(self) -> KeySet | None:
        """The keys as last read, unless that is too long ago."""
        return self._keys if self._timer() - self._read_at <= self._times.hard else None

    def _pause(self) -> float:
        """How long after the last attempt the next one may be, in seconds: doubling with failures, with jitter."""
        if not self._failures:
            return 0.0
        pause = min(2.0 ** min(self._failures - 1, 16), MAX_BACK_OFF_SECONDS) * (0.5 + random.random() / 2)  # noqa: S311
        return max(pause, self._told_to_wait)

    def _refresh(self, pause: Callable[[], float]) -> Future[KeySet] | None:
        """The fetch under way, started now when the last attempt is at least `pause` seconds ago.

        That is asked once it is certain that no fetch is under way, whose end would change it.
        """
        if self._pid != os.getpid():
            # After a fork the thread is not here, and the lock may have been held when it happened.
            self._pid, self._lock, self._under_way = os.getpid(), threading.Lock(), None
        with self._lock:
            if self._under_way is not None:
                return self._under_way
            if self._timer() - self._tried_at < max(pause(), self._told_to_wait):
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
            document = self._document()
            if document.unchanged and before is not None:
                keys = before
            else:
                keys = self._read(document.value, (before.generation if before else 0) + 1)
        except Exception as error:  # noqa: BLE001 (whatever it was, those who wait must hear of it)
            self._failed(answer, error)
            return
        if keys is not before:
            for reason in keys.dropped:
                _log.warning("a key of %s is left out: %s", self._issuer, reason)
        if before is not None and _same(before, keys):
            keys = msgspec.structs.replace(keys, generation=before.generation)
        soft = self._times.soft if document.max_age is None else min(max(document.max_age, MIN_SOFT), MAX_SOFT)
        with self._lock:
            self._keys, self._read_at, self._failures, self._under_way = keys, self._timer(), 0, None
            self._etag, self._fresh_for, self._told_to_wait = document.etag, min(soft, self._times.hard), 0.0
            self._settle(keys)
        answer.set_result(keys)

    def _failed(self, answer: Future[KeySet], error: Exception) -> None:
        why = error if isinstance(error, (FetchError, ValueError)) else type(error).__name__
        _log.warning("the keys of %s were not read: %s", self._issuer, why)
        with self._lock:
            self._failures += 1
            self._under_way = None
            self._told_to_wait = min(error.retry_after, MAX_BACK_OFF_SECONDS) if isinstance(error, FetchError) else 0.0
            self._found = ("", 0.0)
            self._settle(None)
        believed = self._believed()
        if believed is not None:
            answer.set_result(believed)
        else:
            answer.set_exception(IdentityUnavailableError(f"the keys of {self._issuer} cannot be read"))

    def _settle(self, keys: KeySet | None) -> None:
        """A fetch has ended: what was looked for and is not there is not looked for again for a while."""
        for kid in self._asked:
            if keys is not None and kid not in keys.keys:
                self._unknown[kid] = True
        self._asked, self._waiting = set(), 0

    def _document(self) -> Document:
        etag = self._etag if self._keys is not None else ""
        if not self._discovery:
            return self._fetch(self._url, etag)
        known, found_at = self._found
        where: Any = known
        if not known or self._timer() - found_at > DISCOVERY_SECONDS:
            found = self._fetch(self._url, "").value
            if not isinstance(found, dict) or found.get("issuer") != self._issuer:
                msg = "the discovery document names another issuer"
                raise FetchError(msg)
            where = found.get("jwks_uri")
            if not isinstance(where, str) or not _beside(where, self._issuer, self._hosts):
                msg = "the discovery document has no jwks_uri on the issuer's host; if that is right, set jwks_hosts"
                raise FetchError(msg)
            self._found = (where, self._timer())
        return self._fetch(where, etag)


class KeySources:
    """The key source of every issuer. A request waits only a moment for keys that are being fetched."""

    def __init__(self, sources: Mapping[str, FixedKeys | FetchedKeys]) -> None:
        self.sources = sources

    def wait(self, need: NeedKeySet) -> KeySet:
        """The keys of an issuer, waiting a moment for a fetch. Raises `IdentityUnavailableError`."""
        try:
            source = self._source(need.issuer)
            return source.wanted(need.kid).result(source.cold_wait)
        except FutureTimeoutError:
            raise _slow(need.issuer) from None

    async def await_(self, need: NeedKeySet) -> KeySet:
        """`wait` without blocking the event loop."""
        source = self._source(need.issuer)
        wanted = asyncio.wrap_future(source.wanted(need.kid))
        try:
            # Shielded: one caller's time-out must not cancel the fetch that others wait for.
            return await asyncio.wait_for(asyncio.shield(wanted), source.cold_wait)
        except TimeoutError:
            raise _slow(need.issuer) from None

    def _source(self, issuer: str) -> FixedKeys | FetchedKeys:
        found = self.sources.get(issuer)
        if found is None:
            # A request that began under the policy before.
            msg = f"{issuer} is no issuer of the policy any more"
            raise IdentityUnavailableError(msg, retry_after=1)
        return found

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


def fetcher(*, allow_private: bool) -> Callable[[str, str], Document]:
    """`fetch_document` under one rule about addresses."""
    return lambda url, etag: fetch_document(url, allow_private=allow_private, etag=etag)


def document_in(path: Path, where: str, maker: str = "") -> object:
    """The JSON document in a file that a policy names at `where`. Raises `ConfigError`.

    `maker` is the command that makes one for development.
    """
    try:
        return msgspec.json.decode(path.read_bytes())
    except OSError as error:
        made = f", or make them for development: {maker}" if maker and isinstance(error, FileNotFoundError) else ""
        msg = f"{where}: the file {path} cannot be read: {error.strerror}; write the public keys there{made}"
    except msgspec.MsgspecError:
        msg = f'{where}: the file {path} is not JSON; write a key set, {{"keys": [...]}}'
    raise ConfigError([msg])


def fixed_keys(document: object, algorithms: tuple[str, ...], where: str) -> FixedKeys:
    """The keys of a JWKS document at hand. Raises `ConfigError` when it holds none that can be used."""
    return usable(lambda: read_keyset(document, algorithms), where)


def usable(read: Callable[[], KeySet], where: str) -> FixedKeys:
    """The keys that `read` makes of what stands at `where`. Raises `ConfigError` when it makes none."""
    try:
        keys = read()
    except ValueError as error:
        msg = f"{where}: {error}"
        raise ConfigError([msg]) from error
    if not keys.keys:
        why = "; ".join(keys.dropped) or "it is empty"
        msg = f"{where}: no key in it can be used: {why}"
        raise ConfigError([msg])
    return FixedKeys(keys)


def _beside(url: str, issuer: str, hosts: Collection[str]) -> bool:
    """Whether a URL is on the host of an issuer or one of `hosts`, and protected as well as it is."""
    try:
        there, here = urlsplit(url), urlsplit(issuer)
    except ValueError:
        return False
    return there.scheme in ("https", here.scheme) and there.hostname in {here.hostname, *hosts}


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
