"""What users need in their own tests: a fence in memory, a clock that stands still, tokens and proofs of their own."""

from __future__ import annotations

import json
import os
import secrets
import time
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm, get_default_algorithms

from afmiddleware.fence import Fence
from afmiddleware.identity.jose import digest64, thumbprint
from afmiddleware.policy_file import read_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class FrozenClock:
    """A clock that moves only when it is told to. Call it for the time in microseconds since the epoch."""

    def __init__(self, now: int = 1_795_262_400_000_000) -> None:
        self._now = now

    def __call__(self) -> int:
        """The time in microseconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move by so many seconds; a negative number turns the clock back."""
        self._now += round(seconds * 1_000_000)

    def at(self, now: int) -> None:
        """Set the time, in microseconds since the epoch."""
        self._now = now


class TestIssuer(msgspec.Struct, frozen=True):
    """An authorization server in a variable: its JWKS, and ES256 tokens it signs."""

    __test__ = False

    issuer: str
    audience: str
    jwks: Mapping[str, Any]
    private_key: ec.EllipticCurvePrivateKey
    kid: str
    clock: Callable[[], int]

    def mint(self, headers: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """A token valid for five minutes. `claims` add to and replace the usual ones; `None` leaves one out."""
        now = self.clock() // 1_000_000
        usual = {"iss": self.issuer, "aud": self.audience, "sub": "agent-1", "iat": now, "exp": now + 300}
        told = {name: value for name, value in (usual | claims).items() if value is not None}
        kid = {"kid": self.kid, **(headers or {})}
        return jwt.PyJWT().encode(told, self.private_key, algorithm="ES256", headers=kid)


def mint_es256_issuer(
    issuer: str = "https://as.example.com",
    audience: str = "https://api.example.com",
    *,
    kid: str = "test-1",
    clock: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> TestIssuer:
    """Make an issuer with a fresh P-256 key. Put its `jwks` into the policy inline or as a file."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(ECAlgorithm.to_jwk(private_key.public_key()))
    jwks = {"keys": [{**public, "kid": kid, "alg": "ES256", "use": "sig"}]}
    return TestIssuer(issuer, audience, jwks, private_key, kid, clock)


def fence_for_tests(policy: str | os.PathLike[str], **parts: Any) -> Fence:
    """A fence over a policy file, on a ledger in memory that is gone with it. `parts` are those of `Fence`.

    Raises `ConfigError` with every problem of the policy.
    """
    config, base = read_policy(policy, {**os.environ, "AFM_LEDGER": "memory", "AFM_POLICY": ""})
    return Fence(config.model_copy(update={"rates": None}), base=base, **parts)


class DpopKey(msgspec.Struct, frozen=True):
    """The key of a client, and proofs that it holds it (DPoP, RFC 9449).

    A token is bound to it by the claim `cnf={"jkt": key.thumbprint}`, and comes as `Authorization: DPoP <token>`
    beside the header `DPoP: <proof>`.
    """

    private_key: Any
    jwk: Mapping[str, Any]
    algorithm: str
    clock: Callable[[], int]

    @classmethod
    def make(cls, clock: Callable[[], int] = lambda: time.time_ns() // 1000) -> DpopKey:
        """A fresh P-256 key."""
        private = ec.generate_private_key(ec.SECP256R1())
        return cls(private, json.loads(ECAlgorithm.to_jwk(private.public_key())), "ES256", clock)

    @property
    def thumbprint(self) -> str:
        """What a token that is bound to this key has in `cnf.jkt` (RFC 7638)."""
        return thumbprint(self.jwk)

    def proof(
        self,
        method: str,
        url: str,
        token: str,
        headers: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """A proof for one request with `token`. `claims` and `headers` add to the usual ones; `None` leaves one out."""
        usual = {
            "jti": secrets.token_urlsafe(12),
            "htm": method,
            "htu": url,
            "iat": self.clock() // 1_000_000,
            "ath": digest64(token.encode("ascii")),
        }
        told = {name: value for name, value in (usual | claims).items() if value is not None}
        head = {"typ": "dpop+jwt", "alg": self.algorithm, "jwk": self.jwk, **(headers or {})}
        parts = [{name: value for name, value in head.items() if value is not None}, told]
        signing = b".".join(_base64(json.dumps(part).encode("utf-8")) for part in parts)
        algorithm = get_default_algorithms()[self.algorithm]
        return b".".join([signing, _base64(algorithm.sign(signing, self.private_key))]).decode("ascii")


def _base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
