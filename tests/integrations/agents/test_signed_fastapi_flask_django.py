"""Agents that sign their requests, through FastAPI, Flask and Django. Numbers are cases of the research."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("http_message_signatures")

from tests.integrations.agents.sites import API, ROUTES, STACKS, Site
from tests.signing import DIGEST, Signer

BODY = b'{"amount": "5.00"}'


class Signed(Site):
    """A site that knows one agent."""

    def __init__(
        self,
        stack: str,
        base: Path,
        mode: str = "enforce",
        more: str = "",
        ledger: str = "memory",
        whole: str = "",
        origin: str = "https://agent.example",
    ) -> None:
        self.agent = Signer(origin)
        (base / "agent.json").write_text(json.dumps(self.agent.jwks), encoding="utf-8")
        identity = (
            f"identity:\n  public_origins: [{API}]\n  api_keys: {{store: ledger}}\n"
            f"  web_bot_auth: {{mode: {mode}, agents: [{{origin: {self.agent.origin}, jwks_file: agent.json}}]{more}}}\n"
        )
        rules = "rules: {allow: [{capability: shop.*, identity: verified}]}\nlimits: [{name: calls, rate: 100/day}]\n"
        super().__init__(stack, whole + identity + ROUTES + rules, base, ledger)

    def signed(self, method: str, where: str, body: bytes = b"", sent: bytes | None = None, **changes: Any) -> Any:
        headers = self.agent.sign(method, f"{API}{where}", body, now=self.now, **changes)
        return self.send(method, where, headers, body if sent is None else sent)


@pytest.fixture(params=STACKS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Signed:
    return Signed(request.param, tmp_path)


def test_an_agent_acts_under_its_own_name(site: Signed) -> None:
    assert site.signed("POST", "/pay", BODY).status_code == 200
    assert site.ran == [BODY]
    (one,) = site.decided()
    assert (one["actor"], one["tier"], one["proof"]) == ("wba:https://agent.example", "verified", "possession")
    assert one["credential"] == f"keyid:{site.agent.keyid}"
    assert one["flags"] == ["signature:verified"]


def test_who_signs_nothing_is_nobody(site: Signed) -> None:
    assert site.send("POST", "/pay", body=BODY).status_code == 401
    assert site.ran == []


@pytest.mark.parametrize("sent", [b'{"amount": "500.00"}', b'{"amount": "5.00"} ', b"{}"])
def test_another_body_than_the_signed_one_reaches_nobody(site: Signed, sent: bytes) -> None:  # 56
    answer = site.signed("POST", "/pay", BODY, sent)
    assert (answer.status_code, answer.json()["code"]) == (401, "identity.invalid")
    assert site.ran == []
    # It is not counted against the agent, whose request it is not.
    assert site.fence.ledger.rows(["actor:wba:https://agent.example"]) == {}


def test_a_body_that_comes_unsigned_reaches_nobody(site: Signed) -> None:
    assert site.signed("DELETE", "/drop").status_code == 200
    headers = site.agent.sign("DELETE", f"{API}/drop", now=site.now)
    assert site.send("DELETE", "/drop", headers, b'{"all": true}').status_code == 401
    assert site.ran == [b""]


@pytest.mark.parametrize("stack", ["fastapi", "django async"])
def test_a_body_that_no_header_announces_reaches_nobody(stack: str, tmp_path: Path) -> None:
    site = Signed(stack, tmp_path)
    assert site.signed("GET", "/read").status_code == 200
    headers = site.agent.sign("GET", f"{API}/read", now=site.now)
    answer = site.send("GET", "/read", headers, b'{"all": true}', announced=False)
    assert (answer.status_code, answer.json()["code"]) == (401, "identity.invalid")
    assert site.ran == [b""]


@pytest.mark.parametrize("stack", STACKS)
def test_a_forged_body_is_of_no_share_that_is_only_observed(stack: str, tmp_path: Path) -> None:
    origins = (f"https://agent{number}.example" for number in range(20))
    sites = (Signed(stack, tmp_path, whole="mode: observe 90%\n", origin=origin) for origin in origins)
    # For an agent of the share even an amount that cannot be read blocks nothing.
    site = next(site for site in sites if site.signed("POST", "/pay", b'{"amount": "x"}').status_code == 200)
    site.ran.clear()
    answer = site.signed("POST", "/pay", BODY, b'{"amount": "500.00"}')
    assert (answer.status_code, answer.json()["code"]) == (401, "identity.invalid")
    assert site.ran == []


@pytest.mark.parametrize(
    ("method", "where", "body", "changes"),
    [
        ("POST", "/pay", BODY, {"lacks": ("@method",)}),  # 55
        ("POST", "/pay", BODY, {"lacks": ("@path",)}),
        ("POST", "/pay", BODY, {"lacks": (DIGEST,)}),
        ("POST", "/pay", BODY, {"lacks": ("@authority",)}),
        ("POST", "/pay", BODY, {"nonce": None}),
        ("GET", "/report", b"", {"lacks": ("@path",)}),
        ("GET", "/report", b"", {"nonce": None}),
        ("GET", "/read", b"", {"values": {"@authority": "evil.example"}}),  # 52
        ("GET", "/read", b"", {"values": {"@path": "/report"}}),
        ("GET", "/read", b"", {"values": {"@method": "POST"}}),
        ("GET", "/read?x=1", b"", {"values": {"@query": "?x=2"}}),
        ("GET", "/read", b"", {"expires": None}),  # 50
        ("GET", "/read", b"", {"expires": 1, "created": 0}),
        ("GET", "/read", b"", {"agent": 'sig1="http://agent.example"'}),
        ("GET", "/read", b"", {"keyid": '"other"'}),
        ("GET", "/read", b"", {"alg": '"hmac-sha256"'}),  # 63
    ],
)
def test_negative_classes(site: Signed, method: str, where: str, body: bytes, changes: dict[str, Any]) -> None:
    assert site.signed(method, where, body).status_code == 200
    ran = len(site.ran)
    answer = site.signed(method, where, body, **changes)
    assert (answer.status_code, answer.json()["code"]) == (401, "identity.invalid")
    assert len(site.ran) == ran


@pytest.mark.parametrize("mode", ["enforce", "observe"])
@pytest.mark.parametrize("stack", STACKS)
def test_why_a_signature_is_not_good_is_told_to_operators(
    stack: str, mode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Signed(stack, tmp_path, mode=mode)
    caplog.set_level("INFO", "afmiddleware.identity")
    changes: dict[str, dict[str, Any]] = {
        "@path is not covered": {"lacks": ("@path",)},
        "expired": {"created": site.now - 900, "expires": site.now - 600},
        "good for longer than a signature may be": {"expires": site.now + 86_400},
        "it does not verify": {"values": {"@method": "PUT"}},
    }
    sent = []
    for why, change in changes.items():
        caplog.clear()
        headers = site.agent.sign("POST", f"{API}/pay", BODY, now=site.now, **change)
        sent += [value.split(":")[1] for name, value in headers if name == "signature"]
        answer = site.send("POST", "/pay", headers, BODY)
        assert answer.status_code == 401
        assert why not in answer.text
        assert f"the credential from 203.0.113.9 is refused: {why}" in caplog.text
        assert not any(signature in caplog.text for signature in sent)
    if mode == "enforce":
        caplog.clear()
        assert site.signed("POST", "/pay", BODY, b'{"amount": "9.00"}').status_code == 401
        assert "is refused: the body is not the one that was signed" in caplog.text


def test_a_signature_is_replayed_once_at_most(site: Signed) -> None:  # 57
    headers = site.agent.sign("POST", f"{API}/pay", BODY, now=site.now)
    assert [site.send("POST", "/pay", headers, BODY).status_code for _ in range(3)] == [200, 401, 401]
    assert site.ran == [BODY]


def test_two_signatures_of_agents_are_one_too_many(site: Signed) -> None:  # 61
    one, two = (site.agent.sign("GET", f"{API}/read", now=site.now, label=label) for label in ("sig1", "sig2"))
    headers = {name: f"{value}, {dict(two)[name]}" for name, value in one}
    answer = site.send("GET", "/read", headers.items())
    assert (answer.status_code, answer.json()["code"]) == (400, "request.ambiguous")


def test_an_agent_that_nobody_listed_is_anonymous(site: Signed) -> None:  # 60
    stranger = Signer("https://stranger.example")
    answer = site.send("GET", "/read", stranger.sign("GET", f"{API}/read", now=site.now))
    assert (answer.status_code, answer.json()["code"]) == (401, "identity.required")


def test_a_key_and_a_signature_are_an_account_and_its_agent(site: Signed) -> None:
    import secrets

    from afmiddleware.identity.api_keys import new_key

    key, record = new_key("acct", secrets.token_bytes, now=site.clock())
    site.fence.ledger.put_api_key(record)
    headers = [("authorization", f"Bearer {key}"), *site.agent.sign("GET", f"{API}/read", now=site.now)]
    answer = site.send("GET", "/read", headers)
    # The signature does not lift the key to a higher tier: it is not the account's.
    assert (answer.status_code, answer.json()["code"]) == (403, "identity.tier")
    (one,) = site.decided()
    assert (one["actor"], one["on_behalf_of"], one["tier"]) == ("key:acct", "acct", "token")
    # A good key beside a bad signature, remembered or not, is refused.
    for _ in range(2):
        bad = [("authorization", f"Bearer {key}"), *site.agent.sign("GET", f"{API}/read", now=site.now - 4000)]
        assert site.send("GET", "/read", bad).json()["code"] == "identity.invalid"


@pytest.mark.parametrize("stack", STACKS)
def test_observing_marks_the_record_and_changes_nothing(stack: str, tmp_path: Path) -> None:
    site = Signed(stack, tmp_path, mode="observe")
    import secrets

    from afmiddleware.identity.api_keys import new_key

    site.fence.ledger.put_api_key((made := new_key("acct", secrets.token_bytes, now=site.clock()))[1])
    key = ("authorization", f"Bearer {made[0]}")
    periods: list[dict[str, Any]] = [{}, {"expires": site.now - 100, "created": site.now - 200}]
    for changes in periods:
        headers = site.agent.sign("POST", f"{API}/pay", BODY, now=site.now, **changes)
        assert site.send("POST", "/pay", headers, BODY).json()["code"] == "identity.required"
        assert site.send("POST", "/pay", [key, *headers], BODY).json()["code"] == "identity.tier"
    assert [one["flags"] for one in site.decided()] == [["signature:verified"], ["signature:invalid"]]


@pytest.mark.parametrize("stack", ["fastapi", "flask"])
def test_of_many_replays_at_once_one_runs(stack: str, tmp_path: Path) -> None:  # 57
    from concurrent.futures import ThreadPoolExecutor

    site = Signed(stack, tmp_path, ledger="sqlite:///fence.db")
    assert site.send("GET", "/read").status_code == 401
    headers = site.agent.sign("POST", f"{API}/pay", BODY, now=site.now)
    with ThreadPoolExecutor(16) as pool:
        answers = [*pool.map(lambda _: site.send("POST", "/pay", headers, BODY).status_code, range(60))]
    site.fence.close()
    assert sorted(answers) == [200, *[401] * 59]
    assert site.ran == [BODY]


def test_what_a_client_says_of_its_host_selects_nothing(site: Signed) -> None:  # 53, 54
    headers = site.agent.sign("POST", "https://evil.example/pay", BODY, now=site.now)
    spoofed = [("host", "evil.example"), ("x-forwarded-host", "evil.example"), ("forwarded", "host=evil.example")]
    assert site.send("POST", "/pay", [*headers, *spoofed], BODY).status_code == 401
    assert site.ran == []


@pytest.mark.parametrize("stack", STACKS)
def test_how_long_the_fields_of_a_signature_may_be(stack: str, tmp_path: Path) -> None:  # 64
    sizes = "}\n  limits: {signature_input_bytes: 600, signature_agent_bytes: 64"
    site = Signed(stack, tmp_path, more=sizes)
    assert site.signed("POST", "/pay", BODY).status_code == 200
    longer: list[dict[str, Any]] = [
        {"nonce": "a" * 600},
        {"agent": f'sig1="{site.agent.origin}", sig2="https://{"a" * 64}.example"'},
    ]
    for long in longer:
        answer = site.signed("POST", "/pay", BODY, **long)
        assert (answer.status_code, answer.json()["code"]) == (400, "request.ambiguous")
    assert site.ran == [BODY]
