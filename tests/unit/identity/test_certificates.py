"""Client certificates: believed of a named proxy, of nobody else."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from afmiddleware.identity.certificates import Certificates, Client
from afmiddleware.identity.jose import digest64
from afmiddleware.identity.outcome import Absent, Invalid, Ok
from afmiddleware.identity.proxies import Proxies
from afmiddleware.model.http import HttpFacts
from afmiddleware.model.tier import Tier

NOW = datetime(2026, 11, 21, tzinfo=UTC)
PROXY = "10.0.0.1"
SPIFFE = "spiffe://example.org/agent"


def certificate(uri: str = SPIFFE, begins: datetime = NOW - timedelta(days=1), days: int = 30) -> x509.Certificate:
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "agent")])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), x509.DNSName("agent.example")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(begins).not_valid_after(begins + timedelta(days=days))
    return builder.add_extension(names, critical=False).sign(key, None)


ONE = certificate()
DER = ONE.public_bytes(Encoding.DER)
FIELD = b":" + b64encode(DER) + b":"
THUMBPRINT = digest64(DER)
BY_PRINT = Client(name="partner", thumbprint=THUMBPRINT, scopes=frozenset({"pay"}))
BY_URI = Client(name="workload", uri=SPIFFE, tier=Tier.TOKEN)


def checks(*clients: Client, **settings: Any) -> Certificates:
    return Certificates(clients, Proxies(["10.0.0.0/8"]).believes, **settings)


def facts(*lines: bytes, peer: str = PROXY, name: bytes = b"client-cert", more: Any = ()) -> HttpFacts:
    return HttpFacts(method="GET", path="/", headers=(*((name, line) for line in lines), *more), peer=peer)


def at(when: datetime = NOW) -> int:
    return int(when.timestamp()) * 1_000_000


def test_a_client_is_known_by_its_thumbprint_or_its_uri() -> None:
    found = checks(BY_PRINT).check(facts(FIELD), at())
    assert isinstance(found, Ok)
    actor = found.actor
    assert (actor.id, actor.proof, actor.tier, actor.scopes) == (
        "cert:partner",
        "possession",
        Tier.VERIFIED,
        frozenset({"pay"}),
    )
    assert actor.credential == f"x5t:{THUMBPRINT}"
    other = checks(BY_URI).check(facts(FIELD), at())
    assert isinstance(other, Ok)
    assert (other.actor.id, other.actor.tier) == ("cert:workload", Tier.TOKEN)


@pytest.mark.parametrize("peer", ["203.0.113.9", "", "garbage", "11.0.0.1"])
def test_from_anybody_else_it_means_nothing(peer: str) -> None:  # 75
    one = checks(BY_PRINT)
    assert one.check(facts(FIELD, peer=peer), at()) == Absent()
    assert one.shown(facts(FIELD, peer=peer)) is None


def test_a_certificate_that_the_proxy_did_not_verify() -> None:  # 75
    one = checks(BY_PRINT, verified=(b"x-client-verified", b"SUCCESS"))
    good = (b"x-client-verified", b"SUCCESS")
    assert isinstance(one.check(facts(FIELD, more=[good]), at()), Ok)
    for more in ([], [(b"x-client-verified", b"FAILED")], [(b"x-client-verified", b"")], [good, good]):
        assert isinstance(one.check(facts(FIELD, more=more), at()), Invalid)
        assert one.shown(facts(FIELD, more=more)) is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"::",
        b":AAAA:",
        DER[:40],
        FIELD[:-1],
        FIELD[1:],
        FIELD.replace(b":", b":!", 1),
        b":" + b"A" * 20000 + b":",
    ],
)
def test_what_cannot_be_read_is_refused(line: bytes) -> None:
    assert isinstance(checks(BY_PRINT).check(facts(line), at()), Invalid)
    assert checks(BY_PRINT).shown(facts(line)) is None


def test_two_certificates_are_ambiguous() -> None:
    found = checks(BY_PRINT).check(facts(FIELD, FIELD), at())
    assert isinstance(found, Invalid)
    assert found.code == "request.ambiguous"


def test_a_certificate_outside_of_its_time() -> None:
    for when in (NOW - timedelta(days=2), NOW + timedelta(days=31)):
        assert isinstance(checks(BY_PRINT).check(facts(FIELD), at(when)), Invalid)


def test_one_that_nobody_is_known_by_binds_tokens_alone() -> None:
    one = checks()
    assert one.check(facts(FIELD), at()) == Absent(("certificate:unlisted",))
    shown = one.shown(facts(FIELD))
    assert shown is not None
    assert (shown.thumbprint, shown.uris, shown.names, shown.subject) == (
        THUMBPRINT,
        (SPIFFE,),
        ("agent.example",),
        "CN=agent",
    )


def test_the_form_of_nginx() -> None:
    pem = quote_from_bytes(ONE.public_bytes(Encoding.PEM)).encode()
    one = checks(BY_PRINT, header=b"x-ssl-cert", pem=True)
    assert isinstance(one.check(facts(pem, name=b"x-ssl-cert"), at()), Ok)
    assert isinstance(one.check(facts(FIELD, name=b"x-ssl-cert"), at()), Invalid)
