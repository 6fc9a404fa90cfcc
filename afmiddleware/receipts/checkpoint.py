"""Checkpoints: a log's size and Merkle root, signed with Ed25519 so that anybody can check them.

The text is that of C2SP tlog-checkpoint inside a C2SP signed-note, with the log's id as origin and as the name of the
key. Lines of signatures that nobody here knows (of a witness, of another algorithm) are kept and ignored.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from afmiddleware.errors import ReceiptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ED25519: Final = b"\x01"
_KEY: Final = 32
_SIGNATURE: Final = 64
_MAX_NOTE: Final = 1 << 16
_NOTE = re.compile(
    r"([^\n\x00-\x1f ]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n((?:[^\n]+\n)*)\n((?:\u2014 [^\n]+\n)+)"
)
_LINE = re.compile(r"\u2014 ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")


class Checkpoint(msgspec.Struct, frozen=True):
    """The first `size` receipts of the log `origin` have the Merkle root `root` (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """What is signed: origin, size and root in base64, a line each."""
        return f"{self.origin}\n{self.size}\n{_b64(self.root)}\n"


class Signed(msgspec.Struct, frozen=True):
    """A checkpoint with its signatures: key name, key id (4 bytes) and signature. `text` is what they are over."""

    checkpoint: Checkpoint
    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...]


class Signer(Protocol):
    """What signs checkpoints; a key management service may stand behind it."""

    public: bytes
    """The raw public key, 32 bytes."""

    def sign(self, data: bytes) -> bytes:
        """The Ed25519 signature over `data`, 64 bytes."""
        ...


class KeySigner:
    """Signs with a private key of this process."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw()

    @classmethod
    def read(cls, data: bytes) -> KeySigner:
        """Read a private key: PEM (PKCS #8) or 64 hexadecimal digits. Raises `ReceiptError`, never showing it."""
        try:
            if b"-----BEGIN" not in data:
                return cls(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(data.decode("ascii").strip())))
            key = load_pem_private_key(data, None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            msg = "the signing key is no Ed25519 private key in PEM; make one with: afmiddleware keys new --receipts"
            raise ReceiptError(msg)
        return cls(key)

    def sign(self, data: bytes) -> bytes:
        """The Ed25519 signature over `data`."""
        return self._key.sign(data)


class CallSigner:
    """Signs by a callable, for a key that never leaves its keeper."""

    def __init__(self, public: bytes, call: Callable[[bytes], bytes]) -> None:
        self.public = _checked(public)
        self.sign = call


def key_id(name: str, public: bytes) -> bytes:
    """The four bytes that name a key in a note."""
    return sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def key_name(public: bytes) -> str:
    """The name of a public key in JWKS and in receipts: its JWK thumbprint (RFC 7638, RFC 8037)."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": _b64url(public)}
    return _b64url(sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).digest())


def jwk(public: bytes) -> dict[str, str]:
    """A public key as a JSON Web Key (RFC 8037)."""
    return {"kty": "OKP", "crv": "Ed25519", "x": _b64url(public), "kid": key_name(public), "use": "sig", "alg": "EdDSA"}


def verifier_key(name: str, public: bytes) -> str:
    """A public key as C2SP writes it: name, key id and key, as `sumdb` tools and witnesses read it."""
    return f"{name}+{key_id(name, public).hex()}+{_b64(_ED25519 + public)}"


def read_publics(text: str) -> tuple[bytes, ...]:
    """The public keys in a file: one that `read_public` reads, a JWKS, or one in each line. Raises `ReceiptError`."""
    text = text.strip()
    if "-----BEGIN" in text:
        return (read_public(text),)
    try:
        several = json.loads(text)["keys"] if text.startswith("{") else None
        parts = [json.dumps(one) for one in several] if several else text.splitlines()
    except (ValueError, KeyError, TypeError):
        parts = [text]
    return tuple(read_public(one) for one in parts or [text])


def read_public(text: str) -> bytes:
    """A public key: PEM, C2SP verifier key, a JWK or a JWKS of one, or 64 hexadecimal digits. Raises `ReceiptError`."""
    try:
        return _checked(_public(text.strip()))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        msg = "not an Ed25519 public key: PEM, JWK, a C2SP verifier key, or 64 hexadecimal digits"
        raise ReceiptError(msg) from error


def sign(checkpoint: Checkpoint, signer: Signer) -> tuple[str, bytes]:
    """The signed note of a checkpoint, and the bare signature."""
    text = checkpoint.text()
    signature = signer.sign(text.encode())
    blob = key_id(checkpoint.origin, signer.public) + signature
    return f"{text}\n\u2014 {checkpoint.origin} {_b64(blob)}\n", signature


def parse(note: str) -> Signed:
    """Read a note, checking no signature. Raises `ReceiptError` for anything but a checkpoint."""
    found = _NOTE.fullmatch(note) if len(note) <= _MAX_NOTE else None
    if found is None:
        msg = "not a signed checkpoint"
        raise ReceiptError(msg)
    origin, size, root, _, lines = found.groups()
    signatures: list[tuple[str, bytes, bytes]] = []
    for line in lines.split("\n")[:-1]:
        parts = _LINE.fullmatch(line)
        blob = _unb64(parts.group(2)) if parts is not None else b""
        if parts is None or len(blob) <= 4:  # noqa: PLR2004 (the key id)
            msg = "not a signed checkpoint: a signature line cannot be read"
            raise ReceiptError(msg)
        signatures.append((parts.group(1), blob[:4], blob[4:]))
    text = note[: found.end(4)]
    return Signed(Checkpoint(origin, int(size), _unb64(root)), text, tuple(signatures))


def check(note: str, origin: str, publics: Iterable[bytes]) -> Checkpoint:
    """The checkpoint of a note, when it is one of `origin` and signed by one of `publics`. Raises `ReceiptError`."""
    signed = parse(note)
    if signed.checkpoint.origin != origin:
        msg = "the checkpoint belongs to another log"
        raise ReceiptError(msg)
    data = signed.text.encode()
    for public in publics:
        wanted = key_id(origin, public)
        for name, kid, signature in signed.signatures:
            if name == origin and kid == wanted and verifies(public, signature, data):
                return signed.checkpoint
    msg = "the checkpoint is not signed by a key of the log"
    raise ReceiptError(msg)


def verifies(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether an Ed25519 signature holds."""
    if len(signature) != _SIGNATURE:
        return False
    try:
        _public_key(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=16)
def _public_key(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)


def rotation_text(log: str, old: bytes, new: bytes) -> bytes:
    """What the old key of a log signs when the new one takes over."""
    return f"afmiddleware/rotation/1\n{log}\n{old.hex()}\n{new.hex()}\n".encode()


def _public(text: str) -> bytes:
    if "-----BEGIN" in text:
        key = load_pem_public_key(text.encode())
        return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else b""
    if text.startswith("{"):
        told: Any = json.loads(text)
        keys = told.get("keys")
        one: Any = keys[-1] if isinstance(keys, list) else told
        public: bytes = base64.urlsafe_b64decode(one["x"] + "=")
        return public if one["kty"] == "OKP" and one["crv"] == "Ed25519" else b""
    if text.count("+") >= 2:  # noqa: PLR2004 (name, id and key; the key may have a plus itself)
        name, kid, blob = text.split("+", 2)
        data = _unb64(blob)
        return data[1:] if data[:1] == _ED25519 and key_id(name, data[1:]).hex() == kid else b""
    return bytes.fromhex(text)


def _checked(public: bytes) -> bytes:
    if len(public) != _KEY:
        msg = f"a public key has {_KEY} bytes"
        raise ReceiptError(msg)
    return public


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    """Base64 with its padding and no spare bits; anything else raises `ReceiptError`."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if _b64(data) != text:
        msg = "not base64 as it is written"
        raise ReceiptError(msg)
    return data
