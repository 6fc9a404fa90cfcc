"""What the tests of identity share: a timer that stands still, tokens of any shape, and a way to answer needs."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from jwt.algorithms import ECAlgorithm

from afmiddleware.identity.keyset import KeySet, read_keyset
from afmiddleware.identity.needs import NoteUse
from afmiddleware.identity.tokens import Issuer, Tokens
from afmiddleware.model.http import HttpFacts
from afmiddleware.testing import FrozenClock, TestIssuer, mint_es256_issuer

if TYPE_CHECKING:
    from collections.abc import Generator

    from afmiddleware.identity.needs import Need
    from afmiddleware.identity.outcome import Identified

FREE = nullcontext()


class Timer:
    """A timer in seconds that moves only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Keys:
    """The keys of an issuer, exchanged by hand."""

    def __init__(self, now: KeySet | None) -> None:
        self.now = now

    def __call__(self) -> KeySet | None:
        return self.now


class Desk:
    """A token checker of one issuer, with everything it hangs on in reach."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FrozenClock()
        self.timer = Timer()
        self.issuer: TestIssuer = mint_es256_issuer(clock=self.clock)
        self.keys = Keys(read_keyset(self.issuer.jwks, ("ES256",), 1))
        named = {"name": self.issuer.issuer, "audience": self.issuer.audience, "algorithms": ("ES256",)}
        self.tokens = Tokens([Issuer(**(named | settings), snapshot=self.keys)], self.timer)

    def check(self, text: str, *answers: Any) -> Identified:
        """What a token comes to, when `answers` are what its needs are answered with."""
        return settled(self.tokens.check(text, self.clock()), *answers)[0]

    def signed(self, header: Any, payload: Any) -> str:
        """A token with a good signature over any header and payload: values, or the exact text."""
        return sealed(self.issuer, header, payload)

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = self.clock() // 1_000_000
        issuer = self.issuer
        usual = {"iss": issuer.issuer, "aud": issuer.audience, "sub": "agent-1", "iat": now, "exp": now + 300}
        return usual | changes


@pytest.fixture
def desk() -> Desk:
    return Desk()


def settled(
    flow: Generator[Need, Any, Identified],
    *answers: Any,
    always: Any = None,
) -> tuple[Identified, list[Need]]:
    """Run a flow to its end; the end, and what it asked for.

    What it only notes is no question. It is given `answers` in turn (errors are thrown in), or `always` the same, and must ask for all of them.
    """
    asked: list[Need] = []
    left = list(answers)
    try:
        need = next(flow)
        while True:
            if isinstance(need, NoteUse):
                # Told, not asked.
                need = flow.send(None)
                continue
            asked.append(need)
            assert left or always is not None, f"it asked for {need}, and nothing more was to be asked"
            answer = left.pop(0) if left else always
            need = flow.throw(answer) if isinstance(answer, BaseException) else flow.send(answer)
    except StopIteration as stop:
        assert not left, "it asked for less"
        end: Identified = stop.value
        return end, asked


def sealed(issuer: TestIssuer, header: Any, payload: Any) -> str:
    """A compact JWS signed with the issuer's key, of values or exact texts."""
    signing = f"{part(header)}.{part(payload)}"
    return f"{signing}.{encoded(ECAlgorithm(ECAlgorithm.SHA256).sign(signing.encode(), issuer.private_key))}"


def part(value: Any) -> str:
    return encoded(value.encode() if isinstance(value, str) else json.dumps(value).encode())


def encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def request(*headers: tuple[bytes, bytes], query: bytes = b"", peer: str = "203.0.113.7") -> HttpFacts:
    return HttpFacts(method="GET", path="/", headers=headers, query=query, peer=peer)
