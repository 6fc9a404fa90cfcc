"""`WWW-Authenticate` (RFC 9110 section 11.6.1): what a refused caller may do to be let in.

Bearer is RFC 6750 section 3 with `resource_metadata` (RFC 9728 section 5.1), DPoP is RFC 9449 section 7.1; what a
signature has to cover is told by `Accept-Signature` (RFC 9421 section 5.1). Why a credential is bad is never told.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from afmiddleware.identity.binding import ALGORITHMS
from afmiddleware.model.codes import IDENTITY_INVALID, IDENTITY_NONCE, IDENTITY_PROOF, IDENTITY_REQUIRED

if TYPE_CHECKING:
    from afmiddleware.identity.resource import ProtectedResource
    from afmiddleware.model.http import HttpFacts
    from afmiddleware.model.verdict import Verdict

Lines = list[tuple[bytes, bytes]]
_ERRORS: Final = {
    IDENTITY_REQUIRED: "",
    IDENTITY_INVALID: "invalid_token",
    "identity.tier": "insufficient_scope",
    "identity.scope": "insufficient_scope",
}
_PROOFS: Final = {IDENTITY_PROOF: "invalid_dpop_proof", IDENTITY_NONCE: "use_dpop_nonce"}
_ALGS: Final = f'algs="{" ".join(ALGORITHMS)}"'
_SCOPE = re.compile(r"[!#-\[\]-~]+", re.ASCII).fullmatch
_PARTS: Final = '"@method" "@authority" "@path"'
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Challenges:
    """What the service accepts, as it tells whom it refuses.

    `key_header` is the header that carries API keys, empty where there are none. With `dpop` tokens have to be bound to
    a key; with `signs` agents may sign their requests.
    """

    def __init__(
        self,
        *,
        realm: str = "api",
        resource: ProtectedResource | None = None,
        key_header: str = "",
        dpop: bool = False,
        signs: bool = False,
    ) -> None:
        self._realm = realm
        self._resource = resource
        self._key_header = key_header
        self._dpop = dpop
        self._signs = signs

    def of(self, verdict: Verdict, facts: HttpFacts | None = None) -> Lines:
        """The headers of a refusal; none where a credential would not help."""
        code, realm = verdict.code, f'realm="{self._realm}"'
        if code in _PROOFS:
            return _lines(f'DPoP {realm}, error="{_PROOFS[code]}", {_ALGS}')
        error = _ERRORS.get(code)
        if error is None:
            return []
        parts = [realm, f'error="{error}"' if error else "", self._scope(verdict), self._metadata(facts)]
        told = ", ".join(part for part in parts if part)
        asks = [f"Bearer {told}"]
        if self._dpop:
            asks.append(f"DPoP {told}, {_ALGS}")
        if self._key_header and code == IDENTITY_REQUIRED:
            asks.append(f'ApiKey {realm}, header="{self._key_header}"')
        if not self._signs:
            return _lines(*asks)
        return [*_lines(*asks, f"Signature {realm}"), (b"accept-signature", _accepted(facts))]

    def _scope(self, verdict: Verdict) -> str:
        scopes = [scope for scope in verdict.scopes if _SCOPE(scope)]
        return f'scope="{" ".join(scopes)}"' if scopes else ""

    def _metadata(self, facts: HttpFacts | None) -> str:
        url = self._resource.url(facts) if self._resource is not None and facts is not None else ""
        return f'resource_metadata="{url}"' if url else ""


def _lines(*asks: str) -> Lines:
    # One line: not every client looks at a second.
    return [(b"www-authenticate", ", ".join(asks).encode("ascii"))]


def _accepted(facts: HttpFacts | None) -> bytes:
    """What a signature of this request would have to cover."""
    parts = _PARTS
    if facts is not None and facts.query:
        parts += ' "@query"'
    if facts is not None and facts.method not in _SAFE:
        parts += ' "content-digest"'
    return f'sig1=({parts} "signature-agent";key="sig1");created;expires;keyid;tag="web-bot-auth"'.encode("ascii")
