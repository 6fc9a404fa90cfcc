"""What users need in their own tests: a clock that stands still, and tokens of an issuer of their own."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

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
