"""`explain` and `simulate` say what would happen and why, and charge nothing."""

from __future__ import annotations

import re

import pytest

from afmiddleware import ActionEvent, Fence, Money
from tests.unit.cli.conftest import acted, written

POLICY = """version: 1
service: shop
environment: live
timezone: Europe/Amsterdam
ledger: sqlite:///fence.db
identity: {jwt: {issuers: [{issuer: "https://a.example", audience: a, algorithms: [ES256], jwks_file: not-here.json}]}}
lists: {vendors: [acme, globex]}
schedules: {office: {open: Mon-Fri 09:00-17:00}}
rules:
  risk: {critical: deny, medium: warn}
  deny:
    - {id: no-evil, capability: payments.**, when: [{recipient: {eq: evil}}, {payload.note: {contains: bomb}}]}
    - {id: new, capability: payments.**, observe: true}
  require_approval:
    - {id: big, capability: payments.**, when: {amount: {gte: 15 USD}}, approval: finance}
  allow:
    - {id: pay, capability: payments.*, identity: verified, scopes: [pay], roles: [clerk], max_amount: 20 USD, currency: USD,
       when: {recipient: {in: $vendors}, time: {in: office}}}
    - {id: live, capability: payments.pay.live, max_amount: 20 USD}
limits:
  - {name: daily, spend: 25 USD, window: day}
  - {name: burst, rate: 30/minute}
  - {name: at-once, concurrent: 2}
"""
MIDNIGHT = re.compile(r", some is free again at 20[0-9-]{8}T2[23]:00:00Z")
MONDAY = "2026-11-23T12:00:00Z"
GOOD = (
    "--capability", "payments.out", "--actor", "key:a", "--tier", "verified", "--scope", "pay", "--role", "clerk",
    "--amount", "5 USD", "--recipient", "acme", "--at", MONDAY,
)  # fmt: skip


@pytest.fixture
def policy(tmp_path):
    return written(tmp_path, text=POLICY)


def test_an_allowed_action_is_explained(afm, policy):
    ran = afm("explain", *GOOD, "--policy", policy)
    assert ran.code == 0
    lines = MIDNIGHT.sub(" until midnight", ran.out).splitlines()
    assert lines == [
        "ALLOWED policy.allowed: Rule pay allows payments.out. [observed:new]",
        f"  deny no-evil ({policy}:12, payments.**): condition false",
        "      no  recipient eq evil, seen acme",
        "      or",
        "      no  payload.note contains bomb, seen (absent)",
        f"  deny new ({policy}:13, payments.**): observes",
        f"  require_approval big ({policy}:15, payments.**): condition false",
        "      no  amount gte 15 USD, seen 5.00 USD",
        f"  allow pay ({policy}:17, payments.*): applies",
        "      yes recipient in $vendors, seen acme",
        "      yes time in office, seen 2026-11-23T12:00:00Z",
        "      yes demands identity verified, the action has verified",
        "      yes demands scopes pay, the action has pay",
        "      yes demands roles clerk, the action has clerk",
        "      yes demands currency USD, the action has 5.00 USD",
        "      yes demands max_amount 20.00 USD, the action has 5.00 USD",
        f"  limit burst ({policy}:22): 0 of 30 used, 1 asked: fits",
        f"  limit daily ({policy}:21): 0.00 USD of 25.00 USD used, 5.00 USD asked: fits until midnight",
        f"  limit at-once ({policy}:23): 0 of 2 used, 1 asked: fits",
    ]


def test_what_is_refused_says_which_demand_failed(afm, policy):
    ran = afm("explain", *GOOD, "--tier", "token", "--policy", policy)
    assert ran.code == 1
    assert ran.out.startswith("REFUSED identity.tier: payments.out needs the identity tier verified")
    assert "allow pay" in ran.out
    assert "demand not met" in ran.out
    assert "NO  demands identity verified, the action has token" in ran.out


def test_what_is_refused_tells_its_limits_all_the_same(afm, policy):
    """An approval would not help where the money does not fit."""
    denied = ("--recipient", "evil")
    for options, used in (((), "25.01 USD"), (denied, "25.01 USD")):
        ran = afm("explain", *GOOD, "--amount", used, *options, "--policy", policy, "--json")
        assert ran.json["verdict"]["code"] == ("policy.denied" if options else "amount.over_action_cap")
        told = {one["name"]: (one["asked"], one["fits"]) for one in ran.json["limits"]}
        assert told == {"burst": ("1", True), "daily": ("25.01 USD", False), "at-once": ("1", True)}
    asked = afm("simulate", *GOOD, "--amount", "16 USD", "--policy", policy)
    assert asked.out.startswith("REFUSED approval.required")
    assert "daily: 0.00 USD of 25.00 USD used, 16.00 USD asked" in asked.out
    assert "at-once: 0 of 2 used, 1 asked" in asked.out


def test_what_cannot_be_judged_says_why(afm, policy):
    ran = afm("explain", *GOOD, "--amount", "5 EUR", "--policy", policy, "--json")
    assert ran.code == 1
    big = next(rule for rule in ran.json["rules"] if rule["id"] == "big")
    assert big["outcome"] == "cannot be judged"
    assert big["when"][0][0]["holds"] is None
    assert big["when"][0][0]["why"] == "A rule for this action is in another currency."


def test_risk_is_a_rule_like_others(afm, policy):
    ran = afm("explain", *GOOD, "--risk", "critical", "--policy", policy)
    assert ran.out.startswith("REFUSED policy.denied: Rule risk.critical denies payments.out.")
    assert f"  deny risk.critical ({policy}:10, **): applies" in ran.out


def test_a_capability_without_rules_says_so(afm, policy):
    ran = afm("explain", "--capability", "shop.look", "--policy", policy)
    assert ran.out.splitlines()[:2] == [
        "REFUSED policy.unmatched: No rule allows shop.look.",
        "  no rule names this capability, so it is denied",
    ]


def test_simulate_is_short_and_charges_nothing(afm, policy):
    ran = [afm("simulate", *GOOD, "--amount", "14 USD", "--policy", policy) for _ in range(5)][-1]
    assert ran.code == 0
    assert MIDNIGHT.sub(" until midnight", ran.out).splitlines() == [
        "ALLOWED policy.allowed: Rule pay allows payments.out. [observed:new]",
        "  burst: 0 of 30 used, 1 asked",
        "  daily: 0.00 USD of 25.00 USD used, 14.00 USD asked until midnight",
        "  at-once: 0 of 2 used, 1 asked",
    ]
    assert afm("simulate", *GOOD, "--amount", "15 USD", "--policy", policy, "--json").json["verdict"]["approvals"] == [
        "finance"
    ]


def test_what_receipts_withhold_is_not_shown(afm, tmp_path):
    text = """version: 1
service: shop
ledger: memory
receipts: {redact: [payload.email, payload.people.*.name, recipient, actor]}
rules:
  allow:
    - capability: shop.buy
      when: {payload.email: {contains: "@"}, payload.people: {contains: ann}, payload.token: x, payload.card: {exists: true},
             payload.card.number: {exists: true}, payload.size: "7", recipient: bob, actor.id: "key:a", payload.fax: {exists: false}}
"""
    payload = (
        '{"email": "a@example.com", "people": [{"name": "ann"}], "token": "x", "size": 7, '
        '"card": {"number": "4242424242424242"}}'
    )
    asked = ("--capability", "shop.buy", "--actor", "key:a", "--recipient", "bob", "--payload", payload)
    ran = afm("explain", *asked, "--policy", written(tmp_path, text=text))
    assert ran.code == 0
    seen = dict(re.findall(r"yes (\S+) .* seen (\S+)", ran.out))
    assert seen.pop("payload.size") == "7"
    assert seen.pop("payload.fax") == "(absent)"
    assert set(seen.values()) == {"(redacted)"}
    assert sorted(seen) == [
        "actor.id", "payload.card", "payload.card.number", "payload.email", "payload.people", "payload.token", "recipient",
    ]  # fmt: skip
    for value in ("example.com", "4242", "seen ann", "seen bob"):
        assert value not in ran.out


def test_live_counts_from_the_ledger(afm, tmp_path):
    text = POLICY.replace("jwks_file: not-here.json", "jwks: {keys: [{kty: EC, crv: P-256, kid: k, x: 8w, y: 8w}]}")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("identity")) + "\n"
    policy = written(tmp_path, text=text)
    assert acted(policy, "14 USD") == ["done"]
    asked = ("--capability", "payments.pay.live", "--actor", "local:agent-7", "--amount", "14 USD", "--policy", policy)
    ran = afm("simulate", *asked, "--live")
    assert ran.code == 1
    assert "spend.exceeded" in ran.out
    assert "daily: 14.00 USD of 25.00 USD used, 14.00 USD asked" in ran.out
    assert afm("simulate", *asked).code == 0


def test_who_runs_now_is_told_while_it_runs(tmp_path):
    text = "\n".join(line for line in POLICY.splitlines() if not line.startswith("identity")) + "\n"
    policy = written(tmp_path, text=text)
    fence = Fence.from_file(policy, env={})
    event = ActionEvent.create(
        actor="agent-7", resource="payments", action="pay", environment="live", amount=Money.parse("1 USD")
    )
    with fence.action(event), fence.action(event):
        told = {one.name: one for one in fence.explain(event).limits}
        assert (told["at-once"].used, told["at-once"].fits, told["at-once"].resets_at) == ("2", False, "")
        assert told["burst"].used == "2"
        assert told["burst"].resets_at
        assert fence.decide(event).code == "concurrency.exceeded"
    assert {one.name: one.used for one in fence.explain(event).limits}["at-once"] == "0"
    fence.close()


ROUTES = """version: 1
service: shop
routes:
  - {route: GET /health, public: true}
  - {route: GET /flights, capability: flights.search}
  - {route: POST /bookings, capability: flights.book}
  - {route: POST /rpc, protocol: jsonrpc, capability: "rpc.{method}", methods: {Ping: {capability: rpc.net.ping}}}
  - {route: POST /mcp, protocol: mcp, capability: "mcp.{tool}"}
rules: {allow: [flights.*, jobs.clean]}
"""


@pytest.mark.parametrize("command", ["simulate", "explain"])
def test_a_capability_that_no_route_has_is_no_plain_denial(afm, tmp_path, command):
    policy = written(tmp_path, text=ROUTES)
    for mistyped, nearest in {
        "flights.bok": "flights.book", "flight.search": "flights.search", "x.y": "mcp.{tool}", "rpc.net.pong": "rpc.net.ping",
    }.items():  # fmt: skip
        ran = afm(command, "--capability", mistyped, "--policy", policy)
        assert ran.err == f"note: no route of {policy} is {mistyped}; the nearest is {nearest}\n"
        assert ran.code == (0 if mistyped == "flights.bok" else 1)
    for right in ("flights.book", "rpc.anything", "rpc.net.ping", "mcp.search", "jobs.clean"):
        assert afm(command, "--capability", right, "--policy", policy).err == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--capability", "A.b"], "'A.b' is not a capability"),
        (["--capability", "a.b", "--amount", "5"], "'5' names no currency"),
        (["--capability", "a.b", "--tier", "king"], "'king' is not an identity tier"),
        (["--capability", "a.b", "--risk", "HIGH"], "'HIGH' is not a level of risk"),
        (["--capability", "a.b", "--at", "noon"], "'noon' is not a time"),
        (["--capability", "a.b", "--at", "2026-11-23T12:00:00"], "names no zone"),
        (["--capability", "a.b", "--payload", "{"], "Invalid value for --payload: '{' is not JSON"),
        (["--capability", "a.b", "--payload", "[]"], "payload is a map"),
        (["--capability", "a.b", "--actor", ""], "an actor needs an id"),
        (["--capability", "a.b", "--actor", "bot"], "bot is no actor: write key:bot for whoever has its API keys"),
        (["--capability", "a.b", "--depth", "-1"], "actor.depth is a whole number"),
    ],
)
def test_options_that_describe_no_event(afm, policy, options, said):
    ran = afm("simulate", *options, "--policy", policy)
    assert ran.code == 2
    assert said in ran.err
