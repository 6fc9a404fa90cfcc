"""Published signatures of others: RFC 9421, the Web Bot Auth draft and Cloudflare's implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from afmiddleware.identity.directory import ALGORITHMS, read_directory
from afmiddleware.identity.jose import thumbprint
from afmiddleware.identity.origin import Origins
from afmiddleware.identity.outcome import Absent, Identified, Ok
from afmiddleware.model.http import HttpFacts

signatures = pytest.importorskip("afmiddleware.identity.signatures")

VECTORS = Path(__file__).parent / "vectors"
AGENT = "https://signature-agent.test"
SECRET = {"d", "p", "q", "dp", "dq", "qi"}


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def rfc(section: str, kind: str) -> str:
    sections = {one["id"]: one for one in load("rfc9421.json")["sections"]}
    return next(
        str(block["unfolded"]) for block in sections[f"section-appendix.{section}"]["blocks"] if block["type"] == kind
    )


def public(jwk: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in jwk.items() if name not in SECRET}


KEYS = {"keys": [public(json.loads(rfc(section, "json"))) for section in ("b.1.2", "b.1.4")]}


def verified(url: str, headers: dict[str, str], created: int) -> Identified:
    keys = read_directory(KEYS, test_keys=True)
    agent = signatures.Agent(origin=AGENT, source="x", snapshot=lambda: keys)
    parts = urlsplit(url)
    checks = signatures.Signatures([agent], Origins([f"https://{parts.netloc}"]), max_window=2**40)
    lines = tuple((name.encode(), value.encode()) for name, value in headers.items())
    asked = HttpFacts(method="GET", path=parts.path or "/", raw_path=(parts.path or "/").encode(), headers=lines)
    flow = checks.check(asked, (created + 1) * 1_000_000, spends=False, observe=False)
    try:
        next(flow)
    except StopIteration as stop:
        found: Identified = stop.value
        return found
    raise AssertionError("nothing has to be looked up")


def fields(vector: dict[str, Any]) -> dict[str, str]:
    names = {"signature_input": "signature-input", "signature": "signature", "signature_agent": "signature-agent"}
    return {names[name]: vector[name] for name in names if name in vector}


@pytest.mark.parametrize("vector", load("cloudflare_v1.json") + load("cloudflare_v2.json"))
def test_cloudflare(vector: dict[str, Any]) -> None:  # 48, 49
    found = verified(vector["target_url"], fields(vector), vector["created_ms"] // 1000)
    if "signature_agent" in vector:
        assert isinstance(found, Ok)
    else:
        assert found == Absent(("signature:unattributed",))
    spoiled = fields(vector) | {"signature": vector["signature"].replace(":", ":AA", 1)}
    assert not isinstance(verified(vector["target_url"], spoiled, vector["created_ms"] // 1000), Ok)


@pytest.mark.parametrize("vector", load("webbotauth_draft.json")["vectors"], ids=lambda vector: vector["name"])
def test_the_draft(vector: dict[str, Any]) -> None:
    assert isinstance(verified(vector["url"], fields(vector), 1735689600), Ok)
    assert not isinstance(verified("https://example.org/", fields(vector), 1735689600), Ok)


def test_a_published_directory() -> None:
    document = json.loads(load("webbotauth_draft.json")["directory_response"]["body"])
    assert list(read_directory(document, test_keys=True).keys) == ["poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U"]


def test_keys_that_everybody_can_sign_with_are_no_keys() -> None:  # 66
    found = read_directory(KEYS)
    assert not found.keys
    assert sum("test key" in reason for reason in found.dropped) == 2


@pytest.mark.parametrize("vector", load("thumbprints.json"), ids=lambda vector: vector["name"])
def test_thumbprints(vector: dict[str, Any]) -> None:
    assert thumbprint(json.loads(vector["jwk"])) == vector["thumbprint"]


@pytest.mark.parametrize(
    ("section", "key"), [("b.2.1", "b.1.2"), ("b.2.2", "b.1.2"), ("b.2.3", "b.1.2"), ("b.2.6", "b.1.4")]
)
def test_the_rfc_itself(section: str, key: str) -> None:  # 47
    """No Web Bot Auth: what was signed is rebuilt and verified by the part that does that."""
    request = rfc("b.2", "http-message").partition("\n\n")[0].splitlines()
    lines = request[1:]
    try:
        lines += rfc(section, "http-message").splitlines()
    except StopIteration:
        pytest.skip("the section is not among the vectors")
    headers = tuple(
        (name.lower().encode(), value.strip().encode()) for name, _, value in (one.partition(":") for one in lines)
    )
    method, target, _ = request[0].split(" ")
    path, _, query = target.partition("?")
    asked = HttpFacts(method=method, path=path, raw_path=path.encode(), query=query.encode(), headers=headers)
    jwk = public(json.loads(rfc(key, "json")))
    (found,) = read_directory({"keys": [jwk]}, test_keys=True).keys.values()
    assert found.algorithm in ALGORITHMS
    label = dict(headers)[b"signature-input"].decode().partition("=")[0]
    verifier = signatures._Verifier(
        signature_algorithm=signatures._ALGORITHMS[found.algorithm], key_resolver=_AnyKey(found.public.key)
    )
    verifier.allow_label_only_selection = True
    message = signatures._Message(asked, f"https://example.com{target}")
    results = verifier.verify(message, max_age=None)
    assert [one.label for one in results] == [label]


class _AnyKey:
    """A key for every id."""

    def __init__(self, key: Any) -> None:
        self.key = key

    def resolve_public_key(self, key_id: str) -> Any:
        return self.key
