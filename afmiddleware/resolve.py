"""Looking up what identity asks for: in the ledger, and behind the URLs of the policy."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from afmiddleware.errors import IdentityUnavailableError, LedgerUnavailableError
from afmiddleware.identity.needs import NeedIntrospection, NeedKey, NeedOnce, NeedRevocations, NoteUse
from afmiddleware.model.entry import Closed, KeyUse, Once

if TYPE_CHECKING:
    from afmiddleware.identity.needs import Need
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.lookups.introspection import Introspector
    from afmiddleware.lookups.jwks import KeySources


class Resolver:
    """Answers the needs of identity, in sync and in async code.

    Raises `IdentityUnavailableError` or `LedgerUnavailableError` when something cannot be told now.
    """

    def __init__(self, ledger: Ledger, keys: KeySources, introspector: Introspector | None = None) -> None:
        self._introspector = introspector
        self._ledger = ledger
        self._keys = keys

    def resolve(self, need: Need) -> Any:
        """Look up what identity needs, blocking."""
        if isinstance(need, NeedKey):
            return self._ledger.api_key(need.key_id)
        if isinstance(need, NoteUse):
            return self._note(need)
        if isinstance(need, NeedOnce):
            return _first(self._ledger.commit(Once(need.key, need.keep)))
        if isinstance(need, NeedRevocations):
            return self._ledger.revocations()
        if isinstance(need, NeedIntrospection):
            return self._asks().wait(need)
        return self._keys.wait(need)

    async def aresolve(self, need: Need) -> Any:
        """Look up what identity needs without blocking the event loop."""
        ledger = self._ledger
        if isinstance(need, NeedKey):
            return (
                ledger.api_key(need.key_id) if ledger.inline else await asyncio.to_thread(ledger.api_key, need.key_id)
            )
        if isinstance(need, NoteUse):
            return self._note(need)
        if isinstance(need, NeedOnce):
            return _first(await ledger.acommit(Once(need.key, need.keep)))
        if isinstance(need, NeedRevocations):
            return ledger.revocations() if ledger.inline else await asyncio.to_thread(ledger.revocations)
        if isinstance(need, NeedIntrospection):
            return await self._asks().await_(need)
        return await self._keys.await_(need)

    @property
    def keys(self) -> KeySources:
        """The sources of keys that are asked."""
        return self._keys

    def use(self, keys: KeySources) -> None:
        """Ask other sources of keys from here on. Those that both have go on as they are."""
        self._keys = keys

    def close(self) -> None:
        """Let go of every resource but the ledger."""
        self._keys.close()
        if self._introspector is not None:
            self._introspector.close()

    def _note(self, need: NoteUse) -> None:
        # Nobody is refused because it cannot be noted.
        with suppress(LedgerUnavailableError):
            self._ledger.post(KeyUse(need.key_id, need.at))

    def _asks(self) -> Introspector:
        if self._introspector is None:
            msg = "the policy names nobody to ask about opaque tokens"
            raise IdentityUnavailableError(msg)
        return self._introspector


def _first(answer: object) -> bool:
    return isinstance(answer, Closed) and answer.booked
