"""What tokens and proofs share: reading a compact JWS (RFC 7515) strictly, before anything in it is believed."""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TOKEN: Final = 8192
MAX_TEXT: Final = 256
REFUSED_HEADERS: Final = frozenset({"crit", "b64", "zip", "enc", "jku", "jwk", "x5u", "x5c"})
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_THUMBED: Final = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}


class BadCredentialError(Exception):
    """Why a credential is not good; the text is for the log, not for the caller, and holds nothing of the credential.

    `code` is one of the stable reason codes. `nonce` is what the caller has to put into its next proof, if anything.
    """

    def __init__(self, detail: str, code: str = "identity.invalid", *, nonce: str = "") -> None:
        self.code = code
        self.nonce = nonce
        super().__init__(detail)


def read_compact(text: str, most: int = MAX_TOKEN) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and payload of a compact JWS of at most `most` characters; nothing is verified yet.

    Raises `BadCredentialError` for anything but three parts of base64url without padding whose first two are JSON
    objects in which no member stands twice.
    """
    if len(text) > most:
        raise BadCredentialError("too long")
    parts = text.split(".")
    if len(parts) != 3 or not all(_SEGMENT.fullmatch(part) for part in parts):  # noqa: PLR2004 (a JWS)
        raise BadCredentialError("not three parts of base64url")
    return _object(parts[0], "header"), _object(parts[1], "payload")


def media_type(typ: object) -> str:
    """A `typ` in the form RFC 7515 section 4.1.9 compares: lower case, without `application/`."""
    return typ.lower().removeprefix("application/") if isinstance(typ, str) else ""


def is_name(value: object) -> bool:
    """Whether a claim can name somebody or something in limits, receipts and logs."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable()


def digest64(data: bytes) -> str:
    """The base64url SHA-256 of `data`, without padding."""
    return urlsafe_b64encode(sha256(data).digest()).rstrip(b"=").decode("ascii")


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """The base64url SHA-256 thumbprint of a public JWK (RFC 7638). Raises `ValueError` for a key of another kind."""
    members = _THUMBED.get(str(jwk.get("kty")))
    if members is None or not all(isinstance(jwk.get(name), str) for name in members):
        msg = "not a public key of a known kind"
        raise ValueError(msg)
    return digest64(json.dumps({name: jwk[name] for name in members}, separators=(",", ":")).encode("utf-8"))


def _object(part: str, what: str) -> dict[str, Any]:
    """A part of a token as an object without duplicate members."""
    try:
        data = urlsafe_b64decode(part + "=" * (-len(part) % 4))
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError, binascii.Error) as error:
        raise BadCredentialError(f"its {what} cannot be read ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise BadCredentialError(f"its {what} is no object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a member stands twice"
        raise ValueError(msg)
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(text)
