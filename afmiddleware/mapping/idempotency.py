"""The Idempotency-Key header: one retryable request, whatever happens to its answer on the way."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from afmiddleware.errors import MappingError
from afmiddleware.model.entry import Claim

if TYPE_CHECKING:
    from afmiddleware.model.actor import Actor
    from afmiddleware.model.http import HttpFacts

KEPT_FOR: Final = 24 * 3600 * 1_000_000
"""How long a key and its answer are kept, in microseconds."""

_BARE = re.compile(rb"[\x21\x23-\x7e]{1,255}")
_QUOTED = re.compile(rb'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"')


def idempotency_key(facts: HttpFacts, *, required: bool) -> str:
    """The key of a request, empty when there is none; quoted (a structured-field string, RFC 9651) or bare.

    Raises `MappingError`: `idempotency.missing` when one is `required`, `request.ambiguous` for two, or for none that
    can be read.
    """
    values = facts.all(b"idempotency-key")
    if not values:
        if required:
            code, why = "idempotency.missing", "This endpoint needs an Idempotency-Key, a new one for each new action."
            raise MappingError(code, why)
        return ""
    value = values[0].strip()
    quoted = _QUOTED.fullmatch(value)
    if len(values) > 1 or (quoted is None and _BARE.fullmatch(value) is None):
        code, why = "request.ambiguous", "The Idempotency-Key is not one key of 1 to 255 visible characters."
        raise MappingError(code, why)
    return re.sub(rb"\\(.)", rb"\1", quoted[1]).decode("ascii") if quoted is not None else value.decode("ascii")


def claim_of(actor: Actor, endpoint: str, key: str, fingerprint: str) -> Claim:
    """The claim of a caller's key at an endpoint. Neither the caller nor the key can be read from it.

    Several callers that nobody knows may share an address, so a key of theirs is also that of the request: another's
    request under the same key is neither refused for it nor answered with its answer.
    """
    names = (actor.id, endpoint, key, fingerprint) if actor.anonymous else (actor.id, endpoint, key)
    parts = (part.encode("utf-8", "surrogatepass") for part in names)
    name = sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()
    return Claim(name, fingerprint, KEPT_FOR)
