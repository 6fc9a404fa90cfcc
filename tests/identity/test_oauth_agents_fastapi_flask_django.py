"""Agents that sign their requests, through real servers of every framework. Numbers are cases of the index."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

pytest.importorskip("http_message_signatures")

from afmiddleware.ledger.base import Filter
from afmiddleware.lookups.jwks import SOFT_SECONDS
from afmiddleware.receipts.canonical import strict_parse
from tests.identity.server import API, AuthorizationServer
from tests.identity.sites import STACKS, Answer, Site
from tests.identity.test_oauth_servers_fastapi_flask_django import Later, refreshed
from tests.signing import DEFAULT, DIGEST, Signer

MEDIA = "application/http-message-signatures-directory+json"
BODY = b'{"amount": "1.00"}'
NEAR, OTHER = Signer("https://agent.example"), Signer("https://other.example")
FAR = Signer("https://far.example")


def settings(server: AuthorizationServer) -> str:
    agents = [f'{{origin: "{one.origin}", jwks_file: {place}.json}}' for place, one in enumerate((NEAR, OTHER))]
    agents.append(f'{{origin: "{FAR.origin}", directory: "{server.url}/directory"}}')
    return f"web_bot_auth: {{mode: enforce, agents: [{', '.join(agents)}]}}"


def at(stack: str, folder: Path, server: AuthorizationServer, ledger: str = "memory", **parts: Any) -> Site:
    """A site that knows three agents."""
    for place, one in enumerate((NEAR, OTHER)):
        (folder / f"{place}.json").write_text(json.dumps(one.jwks), encoding="utf-8")
    return Site(stack, folder, server, ledger, settings=settings(server), **parts)


@pytest.fixture(scope="module", params=STACKS)
def signed(
    request: pytest.FixtureRequest, server: AuthorizationServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    site = at(request.param, tmp_path_factory.mktemp("signed"), server)
    yield site
    site.close()


def made(method: str = "GET", where: str = "/who", body: bytes = b"", by: Signer = NEAR, **changes: Any) -> Any:
    """The headers of a request that is signed now; texts of time are seconds from now."""
    now = int(time.time())
    for name in ("created", "expires"):
        if isinstance(changes.get(name), str):
            changes[name] = now + int(changes[name])
    return by.sign(method, f"{API}{where}", body, now=now, **changes)


def get(site: Site, where: str = "/who", by: Signer = NEAR, **changes: Any) -> Answer:
    return site.send(*made(where=where, by=by, **changes), where=where)


def flags(site: Site) -> list[str]:
    """The marks in the last receipt of a decision."""
    bodies: list[Any] = [strict_parse(one.receipt.body) for one in site.fence.ledger.receipts(Filter())]
    return list([body for body in bodies if body["kind"] in ("intent", "refusal")][-1]["flags"])


def test_a_listed_agent_is_verified(signed: Site) -> None:
    answer = get(signed)
    assert (answer.status, answer.json["tier"], answer.json["proof"]) == (200, "verified", "possession")
    assert answer.json["id"] == "wba:https://agent.example"
    assert signed.send(*made("POST", "/pay", BODY), method="POST", where="/pay", body=BODY).status == 200


REFUSED: list[tuple[int, str, dict[str, Any]]] = [
    (50, "no request target", {"lacks": ("@authority",)}),
    (50, "no end", {"expires": None}),
    (50, "no beginning", {"created": None}),
    (50, "ended", {"created": "-100", "expires": "-20"}),
    (50, "from the future", {"created": "60", "expires": "120"}),
    (50, "an empty path", {"values": {"@path": ""}}),
    (50, "covers what is not there", {"components": (*DEFAULT, "date"), "values": {"date": "x"}}),
    (50, "covers one part twice", {"components": (*DEFAULT, "@method")}),
    (50, "covers no member of Signature-Agent", {"components": DEFAULT[:-1]}),
    (50, "two members, of which none is meant", {"agent": 'a="https://x.example", b="https://agent.example"'}),
    (50, "Signature-Agent over http", {"agent": 'sig1="http://agent.example"'}),
    (50, "Signature-Agent that cannot be read", {"agent": 'sig1="https://agent.example'}),
    (52, "signed for another site", {"values": {"@authority": "evil.example"}}),
    (58, "good for a week", {"expires": "604800"}),
    (59, "the key of another agent", {"by": OTHER, "agent": f'sig1="{NEAR.origin}"'}),
    (63, "a symmetric algorithm", {"alg": '"hmac-sha256"'}),
    (63, "RSA with a key that is Ed25519", {"alg": '"rsa-pss-sha512"'}),
]


@pytest.mark.parametrize(("case", "name", "changes"), REFUSED, ids=[f"{case} {name}" for case, name, _ in REFUSED])
def test_a_signature_that_is_not_good(signed: Site, case: int, name: str, changes: dict[str, Any]) -> None:
    told = {'signature-agent;key="sig1"': f'"{NEAR.origin}"'} if case == 59 else {}
    answer = get(signed, **{**changes, "values": {**told, **changes.get("values", {})}})
    assert (answer.status, answer.json["code"]) == (401, "identity.invalid"), (case, name, answer.body)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("signature-input", 'sig1=("@authority";created=1'),
        ("signature", "sig2=:AA==:"),
        ("signature", "sig1=:AA"),
    ],
)
def test_fields_that_cannot_be_read(signed: Site, field: str, value: str) -> None:  # 50
    headers = [(name, value if name == field else good) for name, good in made()]
    answer = signed.send(*headers)
    assert (answer.status, answer.json["code"]) == (401, "identity.invalid")


@pytest.mark.parametrize(
    ("agent", "flag"),
    [
        (None, "signature:unattributed"),  # 49
        (f'sig1="{NEAR.origin}/keys.json"', "signature:unattributed"),  # 51
        ('sig1="https://stranger.example"', "signature:unlisted"),  # 60
    ],
)
def test_whoever_it_cannot_be_told_of_is_anonymous(signed: Site, agent: str | None, flag: str) -> None:
    seen = len(signed.server.seen)
    answer = get(signed, agent=agent)
    assert (answer.status, answer.json["tier"]) == (200, "anonymous")
    assert flags(signed) == [flag]
    # Nobody was asked for keys.
    assert len(signed.server.seen) == seen


@pytest.mark.parametrize("tag", [None, '"other"'])
def test_a_signature_for_something_else_is_none(signed: Site, tag: str | None) -> None:  # 62
    answer = get(signed, tag=tag)
    assert (answer.status, answer.json["tier"]) == (200, "anonymous")
    assert flags(signed) == []


@pytest.mark.parametrize("lacks", ["@method", "@path", DIGEST])
def test_what_acts_is_covered_as_a_whole(signed: Site, lacks: str) -> None:  # 55
    headers = made("POST", "/pay", BODY, lacks=(lacks,))
    assert signed.send(*headers, method="POST", where="/pay", body=BODY).status == 401


@pytest.mark.parametrize("body", [b'{"amount": "1.01"}', BODY + b" ", b""])
def test_another_body_than_the_signed_one(signed: Site, body: bytes) -> None:  # 50, 56
    assert signed.send(*made("POST", "/pay", BODY), method="POST", where="/pay", body=body).status == 401


def test_a_nonce_is_used_once(signed: Site) -> None:  # 57
    headers = made("POST", "/pay", BODY)
    statuses = [signed.send(*headers, method="POST", where="/pay", body=BODY).status for _ in range(3)]
    assert statuses == [200, 401, 401]


def test_what_a_client_says_of_its_host_selects_nothing(signed: Site) -> None:  # 53, 54
    now = int(time.time())
    for spoofed in (("Host", "evil.example"), ("X-Forwarded-Host", "evil.example"), ("Forwarded", "host=evil.example")):
        headers = NEAR.sign("GET", "https://evil.example/who", now=now)
        assert signed.send(*headers, spoofed).status in (400, 401)
        assert signed.send(*made(), *([spoofed] if spoofed[0] != "Host" else [])).json["tier"] == "verified"


def test_fields_that_can_be_read_in_two_ways(signed: Site) -> None:  # 61, 64, 65
    one, two = (dict(made(label=label)) for label in ("sig1", "sig2"))
    both = [(name, f"{one[name]}, {two[name]}") for name in one]
    lines = [("Signature-Input", one["signature-input"]), *one.items()]
    long = [(name, value + f';x="{"a" * 9000}"' if name == "signature-input" else value) for name, value in one.items()]
    for headers in (both, lines, long):
        answer = signed.send(*headers)
        assert (answer.status, answer.json["code"]) == (400, "request.ambiguous")


@pytest.mark.parametrize("where", ["/who?", "/who?a=%2F&b", "/%77ho"])
def test_a_path_however_it_is_written(signed: Site, where: str) -> None:  # 67
    answer = get(signed, where)
    assert (answer.status, answer.json["tier"]) == (200, "verified")


@pytest.mark.parametrize("where", ["//who", "/who%2F", "/./who"])
def test_a_path_that_servers_read_in_several_ways_is_nobodys(signed: Site, where: str) -> None:  # 67
    assert get(signed, where).status in (400, 401)


@pytest.mark.parametrize("stack", STACKS)
def test_a_directory_that_cannot_be_reached(stack: str, server: AuthorizationServer, tmp_path: Path) -> None:  # 68
    server.directory = Response(json.dumps(FAR.jwks), media_type=MEDIA)
    site = at(stack, tmp_path, server)
    try:
        source = f"agent:{FAR.origin}"
        later = Later(site, source)
        assert get(site, by=FAR).json["tier"] == "verified"
        server.directory = Response(status_code=500)
        later(SOFT_SECONDS + 1)
        assert get(site, by=FAR).json["tier"] == "verified"
        refreshed(site, source)
        assert get(site, by=FAR).json["tier"] == "verified"
    finally:
        site.close()
    empty = tmp_path / "empty"
    empty.mkdir()
    site = at(stack, empty, server)
    try:
        answer = get(site, by=FAR)
        assert (answer.status, answer.json["code"]) == (503, "identity.unavailable")
        # Another credential that is good is enough, and what could not be told is marked.
        key = ("X-API-Key", site.fence.keys.create("acme").text)
        assert site.send(key, *made(by=FAR)).json["id"] == "key:acme"
        assert flags(site) == ["signature:unavailable"]
    finally:
        site.close()
        server.directory = None
