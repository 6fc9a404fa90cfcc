"""Client certificates that a proxy passes on, through FastAPI, Flask and Django."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from afmiddleware.identity.jose import digest64
from afmiddleware.testing import FrozenClock, mint_es256_issuer
from tests.integrations.agents.sites import ROUTES, STACKS, Site

PROXY, CLIENT = "10.0.0.1", "203.0.113.9"
BEGAN = datetime.fromtimestamp(FrozenClock()() // 1_000_000, UTC) - timedelta(days=1)


def certificate() -> bytes:
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "agent")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(BEGAN).not_valid_after(BEGAN + timedelta(days=9))
    return builder.sign(key, None).public_bytes(Encoding.DER)


DER, OTHER = certificate(), certificate()


def field(der: bytes) -> tuple[str, str]:
    return "client-cert", f":{b64encode(der).decode()}:"


@pytest.fixture(params=STACKS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    issuer = mint_es256_issuer(clock=FrozenClock())
    (tmp_path / "jwks.json").write_text(json.dumps(issuer.jwks), encoding="utf-8")
    policy = f"""
identity:
  proxy: {{mode: trusted, trusted_proxies: [10.0.0.0/8]}}
  client_cert:
    verified_header: x-verified
    clients: [{{name: partner, thumbprint: {digest64(DER)}}}]
  jwt: {{issuers: [{{issuer: {issuer.issuer}, audience: {issuer.audience}, algorithms: [ES256], jwks_file: jwks.json}}]}}
{ROUTES}
rules: {{allow: [{{capability: shop.*, identity: verified}}]}}
"""

    def made(peer: str = PROXY) -> Any:
        one: Any = Site(request.param, policy, tmp_path, peer=peer)
        one.issuer = issuer
        return one

    return made


GOOD = ("x-verified", "SUCCESS")


def test_a_client_is_known_by_its_certificate(site: Any) -> None:
    one = site()
    assert one.send("GET", "/read", [field(DER), GOOD]).status_code == 200
    (said,) = one.decided()
    assert (said["actor"], said["tier"], said["proof"]) == ("cert:partner", "verified", "possession")


def test_nobody_else_may_say_so(site: Any) -> None:  # 75
    answer = site(CLIENT).send("GET", "/read", [field(DER), GOOD])
    assert (answer.status_code, answer.json()["code"]) == (401, "identity.required")


@pytest.mark.parametrize("more", [[], [("x-verified", "FAILED:expired")], [("x-verified", "NONE")]])
def test_what_the_proxy_did_not_verify(site: Any, more: Any) -> None:  # 75
    answer = site().send("GET", "/read", [field(DER), *more])
    assert (answer.status_code, answer.json()["code"]) == (401, "identity.invalid")


def test_a_certificate_that_nobody_is_known_by(site: Any) -> None:
    assert site().send("GET", "/read", [field(OTHER), GOOD]).json()["code"] == "identity.required"


def test_a_token_that_is_bound_to_a_certificate(site: Any) -> None:
    one = site()
    token = one.issuer.mint(sub="agent", cnf={"x5t#S256": digest64(OTHER)})
    bearer = ("authorization", f"Bearer {token}")
    assert one.send("GET", "/read", [bearer, field(OTHER), GOOD]).status_code == 200
    # And now that it was good a moment ago: not without the certificate, and not with another.
    assert one.send("GET", "/read", [bearer]).status_code == 401
    assert one.send("GET", "/read", [bearer, field(DER), GOOD]).status_code == 401
    assert one.send("GET", "/read", [bearer, field(OTHER)]).status_code == 401
    assert site(CLIENT).send("GET", "/read", [bearer, field(OTHER), GOOD]).status_code == 401
