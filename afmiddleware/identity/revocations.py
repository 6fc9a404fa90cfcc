"""Tokens that were taken back before their end: one, all of a subject or a client, or all under a key.

The ledger keeps the list; every process has a copy that is at most ten seconds old. An entry is needed only as long as
a token may live, so the list stays short by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from afmiddleware.errors import LedgerUnavailableError
from afmiddleware.identity.jose import BadCredentialError, is_name
from afmiddleware.identity.needs import Need, NeedRevocations

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from afmiddleware.model.revocation import Revocation

FRESH_SECONDS: Final = 5.0
OLD_SECONDS: Final = 10.0
_SECOND: Final = 1_000_000


class Revocations:
    """The list as this process knows it. `timer` counts seconds.

    Reads and writes are single atomic steps, so threads may share it without a lock.
    """

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._struck: Mapping[str, int] = {}
        self._read_at = -OLD_SECONDS * 2
        self._due_at = -1.0

    @property
    def outdated(self) -> bool:
        """Whether the copy is too old to be believed."""
        return self._timer() - self._read_at > OLD_SECONDS

    @property
    def due(self) -> bool:
        """Whether the list has to be read again, by whoever comes first."""
        return self._timer() > self._due_at

    def ask(self) -> bool:
        """`due`; and if so, whoever asked goes and reads it, while others use the copy for a moment longer."""
        if not self.due:
            return False
        self._due_at = min(self._timer() + FRESH_SECONDS, max(self._read_at + OLD_SECONDS, -1.0))
        return True

    def take(self, entries: Iterable[Revocation]) -> None:
        """Take over the list as it was just read."""
        self._struck = {entry.key: entry.before for entry in entries}
        self._read_at = self._timer()
        self._due_at = self._read_at + FRESH_SECONDS

    def strikes(self, marks: tuple[tuple[str, int], ...]) -> bool:
        """Whether a token with these marks was taken back."""
        struck = self._struck
        return bool(struck) and any(issued <= struck.get(key, -1) for key, issued in marks)


def check_standing(revoked: Revocations | None, marks: tuple[tuple[str, int], ...]) -> Generator[Need, Any, None]:
    """Raise `BadCredentialError` for a token that was taken back, and `LedgerUnavailableError` if it cannot be told."""
    if revoked is None:
        return
    if revoked.ask():
        try:
            revoked.take((yield NeedRevocations()))
        except LedgerUnavailableError:
            if revoked.outdated:
                raise
    if revoked.strikes(marks):
        raise BadCredentialError("revoked")


def marks_of(claims: Mapping[str, Any], issuer: str, kid: str) -> tuple[tuple[str, int], ...]:
    """What a token can be taken back by, and when it was issued: a second that has begun counts from its begin."""
    issued = claims.get("iat")
    at = issued * _SECOND if isinstance(issued, int) else 0
    named = (("jti", claims.get("jti")), ("sub", claims.get("sub")), ("kid", kid))
    clients = (("client", claims.get("client_id")), ("client", claims.get("azp")))
    marks = [(kind, name) for kind, name in (*named, *clients) if is_name(name)]
    return tuple((f"{kind}:{len(issuer)}:{issuer}|{name}", at) for kind, name in marks)
