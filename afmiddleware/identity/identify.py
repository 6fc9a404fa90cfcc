"""From a request's headers to an actor: which credential is there, and is it good."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from afmiddleware.identity.address import peer_of
from afmiddleware.identity.api_keys import ApiKeys, prefixes
from afmiddleware.identity.binding import Shown
from afmiddleware.identity.outcome import Absent, Identified, Invalid, Ok, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from afmiddleware.identity.certificate import ClientCertificate
    from afmiddleware.identity.introspection import Introspection
    from afmiddleware.identity.needs import Need
    from afmiddleware.identity.tokens import Tokens
    from afmiddleware.model.http import HttpFacts

MAX_CREDENTIAL: Final = 8192
_BEARER = re.compile(rb"([Bb][Ee][Aa][Rr][Ee][Rr]|[Dd][Pp][Oo][Pp]) +([!-~]+)")


def no_certificate(_facts: HttpFacts) -> ClientCertificate | None:
    """No connection shows a certificate."""
    return None


_DOTS: Final = 2
_ABSENT: Final = Absent()


class Authenticators:
    """The ways a caller may prove who it is, as the policy allows them.

    `key_header` is the lower-case name of the header that also carries API keys. `certificate` tells what a client has
    shown for its connection, `client` its address. A credential has at most `longest` bytes.
    """

    def __init__(  # noqa: PLR0913 (the ways there are)
        self,
        api_keys: ApiKeys | None,
        key_header: bytes,
        tokens: Tokens | None,
        *,
        certificate: Callable[[HttpFacts], ClientCertificate | None] = no_certificate,
        client: Callable[[HttpFacts], str] = peer_of,
        introspection: Introspection | None = None,
        longest: int = MAX_CREDENTIAL,
    ) -> None:
        self._longest = longest
        self._prefixes = api_keys.prefixes if api_keys is not None else prefixes()
        self._in_query = tuple(one.encode("ascii") for one in self._prefixes)
        self._client = client
        self._introspection = introspection
        self._certificate = certificate
        self._api_keys = api_keys
        self._key_header = key_header
        self._tokens = tokens

    def recall(self, facts: HttpFacts, now: int) -> Ok | None:
        """Who makes a request, when its one credential was good a moment ago; `None` says nothing."""
        fields = facts.fields
        bearer = fields.get(b"authorization")
        if bearer is None or self._key_header in fields or facts.query or bearer[:7] != b"Bearer ":
            return None
        # A repeated header, whichever it is, is for `identify` to look at.
        if len(bearer) > self._longest or len(fields) != len(facts.headers):
            return None
        text = bearer[7:].decode("latin-1")
        if text.startswith(self._prefixes):
            return self._api_keys.recall(text, now, self._client(facts)) if self._api_keys is not None else None
        return self._tokens.recall(text, now) if self._tokens is not None else None

    def identify(self, facts: HttpFacts, now: int) -> Generator[Need, Any, Identified]:
        """Who makes a request. Absent is anonymous; present but bad is never anonymous."""
        bearer, key = None, None
        for name, value in facts.headers:
            if name == b"authorization":
                if bearer is not None:
                    return Invalid("two Authorization headers", "request.ambiguous")
                bearer = value
            elif name == self._key_header:
                if key is not None:
                    return Invalid("two API key headers", "request.ambiguous")
                key = value
        if facts.query and _holds_credential(facts.query, self._in_query):
            return Invalid("a credential in the query string", "request.ambiguous")
        found: Identified = _ABSENT
        if bearer is not None:
            found = yield from self._bearer(bearer, facts, now)
        if key is None or isinstance(found, (Invalid, Unavailable)):
            return found
        if b"," in key:
            return Invalid("two API keys in one header", "request.ambiguous")
        second = yield from self._api_key(key.decode("latin-1"), facts, now)
        if isinstance(found, Ok) and isinstance(second, Ok) and found.actor.id != second.actor.id:
            return Invalid("two credentials that disagree", "request.ambiguous")
        return found if isinstance(found, Ok) and isinstance(second, Ok) else second

    def _bearer(self, value: bytes, facts: HttpFacts, now: int) -> Generator[Need, Any, Identified]:
        if len(value) > self._longest:
            return Invalid("the Authorization header is too long")
        if b"\t" in value:
            return Invalid("a tab in the Authorization header", "request.ambiguous")
        if b"," in value:
            # A WSGI server joins two headers so; no credential of ours holds a comma.
            return Invalid("two Authorization headers in one", "request.ambiguous")
        match = _BEARER.fullmatch(value.strip(b" "))
        if match is None:
            return Invalid("not a bearer credential", foreign=True)
        scheme, text = match.group(1).lower().decode("ascii"), match.group(2).decode("ascii")
        keys, bearer = self._api_keys, scheme == "bearer"
        if bearer and text.startswith(self._prefixes):
            return (yield from self._api_key(text, facts, now))
        shown = Shown(scheme, facts, self._certificate(facts))
        if self._tokens is not None and text.count(".") == _DOTS:
            return (yield from self._tokens.check(text, now, shown))
        found: Identified = Invalid("a bearer token, and nobody is configured to say whose it is", foreign=True)
        if bearer and keys is not None and keys.takes(text):
            found = yield from self._api_key(text, facts, now)
            if isinstance(found, Ok):
                return found
        if self._introspection is not None:
            return (yield from self._introspection.check(text, now, shown))
        return (yield from self._tokens.check(text, now, shown)) if self._tokens is not None else found

    def _api_key(self, text: str, facts: HttpFacts, now: int) -> Generator[Need, Any, Identified]:
        if self._api_keys is None:
            return Invalid("an API key, and API keys are not configured")
        if len(text) > self._longest:
            return Invalid("the API key is too long")
        return (yield from self._api_keys.check(text, now, self._client(facts)))


def _holds_credential(query: bytes, keys: tuple[bytes, ...]) -> bool:
    """Whether a credential stands in a query string, where every log on the way would keep it.

    `keys` are how API keys begin.
    """
    plain = unquote_to_bytes(query) if b"%" in query else query
    if b"access_token" not in plain and not any(one in plain for one in keys):
        return False
    for pair in query.split(b"&"):
        name, _, value = (unquote_to_bytes(part) for part in pair.partition(b"="))
        if name == b"access_token" or name.startswith(keys) or value.startswith(keys):
            return True
    return False
