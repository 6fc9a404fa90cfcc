"""An agent that signs requests, written against RFC 9421 alone: what it makes is not made by the library under test."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from afmiddleware.identity.jose import thumbprint

DIGEST = "content-digest"
DEFAULT = ("@method", "@authority", "@path", "@query", 'signature-agent;key="sig1"')


class Signer:
    """An agent with a key of its own. `sign` gives the headers to send along."""

    def __init__(self, origin: str = "https://agent.example", key: Ed25519PrivateKey | None = None) -> None:
        self.origin = origin
        self.key = key or Ed25519PrivateKey.generate()
        self.jwk: dict[str, Any] = json.loads(OKPAlgorithm.to_jwk(self.key.public_key()))
        self.keyid = thumbprint(self.jwk)
        self.jwks = {"keys": [{**self.jwk, "kid": self.keyid, "use": "sig"}]}
        self._count = 0

    def sign(
        self,
        method: str,
        url: str,
        body: bytes = b"",
        *,
        now: int,
        components: tuple[str, ...] | None = None,
        agent: str | None = "",
        label: str = "sig1",
        lacks: tuple[str, ...] = (),
        values: dict[str, str] | None = None,
        **changes: Any,
    ) -> list[tuple[str, str]]:
        """Headers for a request, signed at `now` (seconds). `changes` replace the parameters, `None` leaves one out."""
        self._count += 1
        digest = f"sha-256=:{b64encode(sha256(body).digest()).decode()}:"
        told = f'{label}="{self.origin}"' if agent == "" else agent
        parts = urlsplit(url)
        known = {
            "@method": method,
            "@authority": parts.netloc,
            "@scheme": parts.scheme,
            "@path": parts.path or "/",
            "@query": f"?{parts.query}",
            "@target-uri": url,
            DIGEST: digest,
            "signature-agent": told or "",
            f'signature-agent;key="{label}"': f'"{self.origin}"',
            **(values or {}),
        }
        wanted = components if components is not None else (*DEFAULT, *((DIGEST,) if body else ()))
        wanted = tuple(one.replace('key="sig1"', f'key="{label}"') for one in wanted if one not in lacks)
        given: dict[str, Any] = {
            "created": now,
            "expires": now + 300,
            "keyid": f'"{self.keyid}"',
            "nonce": f'"nonce-{self._count}"',
            "tag": '"web-bot-auth"',
        } | changes
        named = [_quoted(one) for one in wanted]
        params = "".join(f";{name}={value}" for name, value in given.items() if value is not None)
        line = f"({' '.join(named)}){params}"
        lines = [f"{name}: {known[one]}" for name, one in zip(named, wanted, strict=True)]
        base = "\n".join([*lines, f'"@signature-params": {line}'])
        made = b64encode(self.key.sign(base.encode())).decode()
        headers = [("signature-input", f"{label}={line}"), ("signature", f"{label}=:{made}:")]
        if told is not None:
            headers.append(("signature-agent", told))
        if body or DIGEST in wanted:
            headers.append((DIGEST, digest))
        return headers


def _quoted(component: str) -> str:
    name, semicolon, parameter = component.partition(";")
    return f'"{name}"{semicolon}{parameter}'
