"""API keys in Python: what `afmiddleware keys` does, for a service's own pages and scripts."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from afmiddleware.identity.api_keys import PREFIX, imported_key, new_key
from afmiddleware.ledger.orders import key_change, use_row
from afmiddleware.model.api_key import ApiKeyRecord
from afmiddleware.model.entry import Closed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from afmiddleware.ledger.base import Ledger, Reader
    from afmiddleware.model.entry import Record

DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NewKey(NamedTuple):
    """A key that was just made. `text` is the key itself: it is not kept, and cannot be had again."""

    text: str
    record: ApiKeyRecord


class Keys:
    """The API keys in a ledger: `fence.keys`. Limits, spend and receipts hang on the account, never on a key.

    Every change leaves a receipt; `by` and `reason` stand in it only as commitments. Running processes refuse a revoked
    key within five seconds (`api_keys.cache_s`). New keys begin with `prefix`. All raise `LedgerUnavailableError`.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Callable[[], int],
        draw: Callable[[int], bytes] = os.urandom,
        *,
        prefix: str = PREFIX,
    ) -> None:
        self._prefix = prefix
        self._ledger = ledger
        self._clock = clock
        self._draw = draw

    def create(  # noqa: PLR0913 (what a record holds)
        self,
        account: str,
        *,
        label: str = "",
        scopes: Sequence[str] = (),
        roles: Sequence[str] = (),
        tenant: str = "",
        agent: str = "",
        begins: datetime | None = None,
        expires: datetime | None = None,
        networks: Sequence[str] = (),
        by: str = "",
        reason: str = "",
    ) -> NewKey:
        """Make a key of an account (1 to 128 letters, digits and `. _ @ + -`).

        `networks` are the addresses it may come from (`10.0.0.0/8`), none for all; `agent` names the agent it is given
        to, if it is one. Raises `ValueError` for a time without a zone, and for names that cannot stand in receipts.
        """
        text, record = new_key(
            account,
            self._draw,
            now=self._clock(),
            label=label,
            scopes=tuple(scopes),
            expires=_at(expires),
            prefix=self._prefix,
            begins=_at(begins),
            roles=tuple(roles),
            tenant=tenant,
            agent=agent,
            networks=tuple(networks),
        )
        self._ledger.commit(key_change("key.new", record, by, reason))
        return NewKey(text, record)

    def rotate(self, key_id: str, *, overlap: timedelta = DAY, by: str = "", reason: str = "") -> NewKey:
        """Make the key that takes the place of another, which stays good for `overlap` longer, and no longer.

        The new key has all that the old one had, its end too. Raises `KeyError` when there is no such key, and
        `ValueError` when it is revoked, has been rotated already, or is of another make.
        """
        old = self.get(key_id)
        if old is None:
            raise KeyError(key_id[:21])
        now = self._clock()
        if old.revoked or old.rotated_to or (old.expires and old.expires <= now):
            msg = f"the key {old.id} is revoked, at its end or rotated already; make a new one"
            raise ValueError(msg)
        text, record = new_key(
            old.account,
            self._draw,
            now=now,
            label=old.label,
            scopes=old.scopes,
            expires=old.expires,
            prefix=self._prefix,
            begins=old.begins,
            roles=old.roles,
            tenant=old.tenant,
            agent=old.agent,
            networks=old.networks,
        )
        self._ledger.commit(key_change("key.new", record, by, reason))
        end = now + max(overlap, timedelta(0)) // _MICROSECOND
        ending = replace(old, expires=min(end, old.expires or end), rotated_to=record.id)
        if not self._changed(key_change("key.rotate", ending, by, reason, over=old)):
            self._ledger.commit(key_change("key.revoke", replace(record, revoked=now), by, reason))
            msg = f"the key {old.id} was revoked or rotated by somebody else at the same time"
            raise ValueError(msg)
        return NewKey(text, record)

    def revoke(self, key_id: str, *, by: str = "", reason: str = "") -> ApiKeyRecord:
        """Revoke a key for good; a revoked one stays as it is. Raises `KeyError` when there is no such key."""
        while True:
            found = self.get(key_id)
            if found is None:
                raise KeyError(key_id[:21])
            if found.revoked:
                return found
            record = replace(found, revoked=self._clock())
            if self._changed(key_change("key.revoke", record, by, reason, over=found)):
                return record

    def _changed(self, change: Record) -> bool:
        """Whether a change was made, and not over what another has changed in the meantime."""
        closed = self._ledger.commit(change)
        return isinstance(closed, Closed) and closed.booked

    def import_digest(  # noqa: PLR0913 (what a record holds)
        self,
        digest: bytes,
        account: str,
        *,
        label: str = "",
        scopes: Sequence[str] = (),
        roles: Sequence[str] = (),
        tenant: str = "",
        agent: str = "",
        expires: datetime | None = None,
        networks: Sequence[str] = (),
        by: str = "",
        reason: str = "",
    ) -> ApiKeyRecord:
        """Take over a key of another make by the SHA-256 of its text (32 bytes), so that its holder keeps it.

        Such keys are accepted where the policy says `api_keys: {imported: true}`. The digest of what a person chose, or
        of anything else that can be guessed, protects nothing. Raises `ValueError` as `create`.
        """
        record = imported_key(
            digest,
            account,
            now=self._clock(),
            label=label,
            scopes=tuple(scopes),
            roles=tuple(roles),
            tenant=tenant,
            agent=agent,
            expires=_at(expires),
            networks=tuple(networks),
        )
        self._ledger.commit(key_change("key.import", record, by, reason))
        return record

    def get(self, key_id: str) -> ApiKeyRecord | None:
        """The record of a key by its id, also of one that is revoked."""
        return self._ledger.api_key(key_id)

    def used(self, key_ids: Iterable[str]) -> dict[str, datetime]:
        """When each of these keys was last good, to about a minute; what was never used is not in it."""
        return last_used(self._ledger, key_ids)

    def all(self) -> list[ApiKeyRecord]:
        """Every record, the oldest first."""
        return self._ledger.api_keys()


def last_used(ledger: Reader, key_ids: Iterable[str]) -> dict[str, datetime]:
    """When each of these keys was last good, as `Keys.used` says it. Raises `LedgerUnavailableError`."""
    rows = ledger.rows([use_row(key_id) for key_id in key_ids])
    found = {key.removeprefix(use_row("")): row.more.used for key, row in rows.items() if row.more is not None}
    return {key_id: _EPOCH + at * _MICROSECOND for key_id, at in found.items() if at}


def _at(time: datetime | None) -> int:
    if time is None:
        return 0
    if time.tzinfo is None:
        msg = f"{time.isoformat()} has no time zone; write one such as datetime.now(UTC)"
        raise ValueError(msg)
    return round(time.timestamp() * 1_000_000)
