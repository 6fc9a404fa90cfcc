"""What a policy says and hardly means is found, and what it means is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmiddleware.assemble import assemble
from afmiddleware.cli.check import doubts_of
from afmiddleware.config.load import load
from afmiddleware.grammar.capability import matches
from afmiddleware.policy.lint import IDS, IN_MEMORY
from afmiddleware.policy.patterns import covers, meets

START = "version: 1\nservice: s\nledger: sqlite:///fence.db\n"
ROUTES = """routes:
  - {route: POST /pay, capability: pay.out, amount: {from: body.amount}, recipient: {from: body.to}}
  - {route: GET /look, capability: shop.look}
"""
GOOD = """rules:
  deny: [{capability: pay.out, when: {recipient: {in: [evil]}}}]
  require_approval: [{capability: "pay.*", when: {amount: {gte: 5 USD}}}]
  allow: [shop.look, {capability: pay.out, identity: token}]
limits: [{name: day, spend: 5 USD, window: day}, {name: hour, spend: 1 USD, window: rolling 60m}, {name: r, rate: 5/day}]
"""


def found(text: str, tmp_path, start: str = START) -> list[tuple[str, int]]:
    config = load(start + text)
    plan, _ = assemble(config, tmp_path)
    return [(one.id, one.line) for one in doubts_of(config, plan, config.routes)]


def test_a_good_policy_has_no_findings(tmp_path):
    assert found(ROUTES + GOOD, tmp_path) == []


PEOPLE = "identity: {from_app: true, agent_detection: {%s}}\n"
CASES = {
    "a refusal of what no route is, by its whole name": (
        ROUTES
        + "rules: {deny: [{capability: pay.uot}], require_approval: [{capability: shop.lock}],"
        + " allow: ['shop.*', {capability: pay.out, identity: token}]}",
        [("rule.names_nothing", 7), ("rule.names_nothing", 7)],
    ),
    "a refusal of an actor whose kind is not said": (
        ("rules: {deny: [{capability: '**', when: {actor.id: acct}}, {capability: '*', when: {actor.id: {in: ['key:a', b]}}}],"
        " allow: [{capability: pay.out, identity: token}]}"),
        [("rule.names_nothing", 4), ("rule.names_nothing", 4)],
    ),
    "a refusal of what code may do without a route": (
        ROUTES
        + "rules: {deny: [{capability: pay.in, when: {amount: 5 USD}}, {capability: 'admin.*'}, {capability: '*.delete'}],"
        + " allow: ['shop.*', pay.in, {capability: pay.out, identity: token}]}",
        [],
    ),
    "a refusal of a method that the route makes a capability of": (
        ("routes: [{route: POST /rpc, protocol: jsonrpc, capability: 'rpc.{method}', max_batch: 2}]\n"
        "rules: {deny: [{capability: rpc.drop}], allow: ['rpc.*']}"),
        [],
    ),
    "what is allowed for what no route maps": (
        ("routes: [{route: POST /a, capability: a.b, recipient: {from: body.to}}, {route: POST /c, capability: a.c}]\n"
        "rules: {allow: [{capability: 'a.*', identity: token, when: {category: travel}},"
        " {capability: 'a.*', identity: token, when: [{category: travel}, {network: x, recipient: me}]}]}"),
        [("rule.never_holds", 5), ("rule.never_holds", 5)],
    ),
    "what is allowed for what some route maps": (
        ("routes: [{route: POST /a, capability: a.b, recipient: {from: body.to}}, {route: POST /c, capability: a.c}]\n"
        "rules: {allow: [{capability: 'a.*', identity: token, when: {recipient: me}},"
        " {capability: 'a.*', identity: token, when: {category: {exists: false}}},"
        " {capability: a.c, identity: token, when: [{recipient: me}, {method: POST}]}, {capability: b.d, when: {risk: low}}]}"),
        [],
    ),
    "a cap on what has no amount": (
        ("routes: [{route: POST /back, capability: pay.back, refunds: {of: body.id}}, {route: GET /a, capability: pay.look}]\n"
        "rules: {allow: [{capability: 'pay.*', identity: token, max_amount: 5 USD}]}"),
        [("route.never_allowed", 4)],
    ),
    "a currency of what has no amount": (
        ("routes: [{route: POST /back, capability: pay.back}]\n"
        "rules: {allow: [{capability: 'pay.*', identity: token, currency: USD}]}"),
        [("route.never_allowed", 4)],
    ),
    "a cap beside a rule without one": (
        ("routes: [{route: POST /back, capability: pay.back}]\n"
        "rules: {allow: [{capability: 'pay.*', identity: token, max_amount: 5 USD}, {capability: pay.back, identity: token}]}"),
        [],
    ),
    "agents that are not looked for": (
        PEOPLE % "user_agents: off"
        + "routes: [{route: GET /a, capability: a.b, applies_to: agents}]\n"
        + "rules: {deny: [{capability: a.b, applies_to: agents}], allow: [a.b]}",
        [("rule.agents_unmarked", 5), ("rule.agents_unmarked", 6)],
    ),
    "agents that are not looked for beside what is for all": (
        PEOPLE % "user_agents: off"
        + "routes: [{route: GET /a, capability: a.b}, {route: GET /b, capability: a.c, applies_to: all}]\n"
        + "rules: {deny: [{capability: a.b, when: {recipient: {exists: true}}}], allow: ['a.*']}",
        [],
    ),
    "clients of MCP that are not looked for": (
        PEOPLE % "mcp_headers: false" + "rules: {deny: [{capability: a.b, applies_to: agents}]}",
        [("rule.agents_unmarked", 5)],
    ),
    "agents that are not looked for where it matters little": (
        PEOPLE % "user_agents: off" + "rules: {allow: [{capability: a.b, applies_to: agents}]}",
        [],
    ),
    "more agents to look for": (
        PEOPLE % "names: [house-bot]" + "rules: {deny: [{capability: a.b, applies_to: agents}]}",
        [],
    ),
    "a denial that is escaped without a credential": (
        "rules: {deny: [{capability: 'pay.*', when: {actor.id: 'key:evil'}}], allow: [pay.out]}",
        [("rule.caller_may_hide", 4)],
    ),
    "an approval that is escaped without a credential": (
        "rules: {require_approval: [{capability: pay.out, when: {actor.depth: {gt: 0}}}], allow: ['**']}",
        [("rule.caller_may_hide", 4)],
    ),
    "a denial that nobody escapes who is allowed": (
        "rules: {deny: [{capability: 'pay.*', when: {actor.id: 'key:evil'}}], allow: [{capability: pay.out, identity: token}]}",
        [],
    ),
    "a denial of what another rule opens": (
        "rules: {deny: [{capability: pay.out, when: {actor.id: 'key:evil'}}], allow: [shop.look]}",
        [],
    ),
    "a denial that holds for whoever hides": (
        "rules: {deny: [{capability: pay.out, when: {actor.tenant: {ne: t1}, actor.tier: {lt: verified}, actor.roles: {exists: false}}}], allow: [pay.out]}",
        [],
    ),
    "allow under a deny": ("rules: {deny: ['pay.**'], allow: [pay.out]}", [("rule.unreachable", 4)]),
    "approval under a deny": (
        "rules:\n  deny: [pay.out]\n  require_approval: [pay.out]\n  allow: ['pay.*']",
        [("rule.unreachable", 6)],
    ),
    "a deny under a wider one": ("rules:\n  deny:\n  - {capability: pay.out}\n  - 'pay.**'", [("rule.unreachable", 6)]),
    "a deny with a condition under the same without": (
        "rules:\n  deny:\n  - {capability: pay.out, when: {recipient: x}}\n  - pay.out",
        [("rule.unreachable", 6)],
    ),
    "the same deny twice": ("rules:\n  deny:\n  - pay.out\n  - pay.out", [("rule.unreachable", 7)]),
    "denials beside each other": ("rules:\n  deny:\n  - pay.out\n  - pay.in\n  - 'ship.**'", []),
    "an observed deny hides nothing": (
        "rules: {deny: [{capability: 'pay.**', observe: true}], allow: [pay.out]}",
        [],
    ),
    "a conditional deny hides nothing": (
        "rules: {deny: [{capability: '**', when: {recipient: x}}], allow: [pay.out]}",
        [],
    ),
    "allow under an open allow": ("rules: {allow: ['pay.*', {capability: pay.out, identity: token}]}", [("rule.shadowed", 4)]),
    "allow after one that demands": ("rules: {allow: [{capability: 'pay.*', identity: token}, pay.out]}", []),
    "an approval of nothing": ("rules: {require_approval: [pay.out], allow: [ship.out]}", [("approval.opens_nothing", 4)]),
    "an approval of another literal than the pattern has": (
        "rules: {require_approval: ['pay.o*'], allow: ['pay.in']}",
        [("approval.opens_nothing", 4)],
    ),
    "an approval of something": ("rules: {require_approval: ['pay.o*'], allow: ['*.out']}", []),
    "an empty list": (
        "lists: {a: []}\nrules: {allow: [{capability: a.b, when: {recipient: {in: $a}}}]}",
        [("rule.never_holds", 5)],
    ),
    "in and not in": (
        "rules: {allow: [{capability: a.b, when: {recipient: {in: [x, y], not_in: [x, y, z]}}}]}",
        [("rule.never_holds", 4)],
    ),
    "in and not in a list": (
        "lists: {a: [x]}\nrules: {allow: [{capability: a.b, when: {recipient: {eq: x, not_in: $a}}}]}",
        [("rule.never_holds", 5)],
    ),
    "absent and equal": (
        "rules: {allow: [{capability: a.b, when: {recipient: {exists: false, eq: x}}}]}",
        [("rule.never_holds", 4)],
    ),
    "one alternative may hold": (
        "rules: {allow: [{capability: a.b, when: [{recipient: {eq: x, ne: x}}, {recipient: y}]}]}",
        [],
    ),
    "a field that is not mapped": (
        ROUTES + "rules: {deny: [{capability: '**', when: {recipient: evil}}], allow: [shop.look, {capability: pay.out, identity: token}]}",
        [("rule.field_unmapped", 7)],
    ),
    "an amount of what only reads": (
        ROUTES + "rules: {deny: [{capability: '**', when: {amount: {gte: 5 USD}}}], allow: [shop.look, {capability: pay.out, identity: token}]}",
        [],
    ),
    "an amount of what changes something": (
        "routes: [{route: POST /out, capability: shop.out}]\nrules: {deny: [{capability: '**', when: {amount: {gte: 5 USD}}}], allow: [shop.out]}",
        [("rule.field_unmapped", 5)],
    ),
    "absence is asked for": (
        ROUTES + "rules: {deny: [{capability: '**', when: [{recipient: evil}, {recipient: {exists: false}}]}], allow: [shop.look, {capability: pay.out, identity: token}]}",
        [],
    ),
    "what the caller may leave out": (
        "rules: {deny: [{capability: a.b, when: {payload.force: true}}]}",
        [("rule.caller_may_omit", 4)],
    ),
    "and what it may not": (
        "rules: {deny: [{capability: a.b, when: [{payload.force: true}, {payload.force: {exists: false}}]}]}",
        [],
    ),
    "proven agents may more": (
        "rules: {deny: [{capability: pay.*, when: {actor.id: 'key:a'}}], allow: [{capability: '**', applies_to: proven_agents}]}",
        [],
    ),
    "a route that nothing allows": (
        "routes: [{route: GET /look, capability: shop.look}]\nrules: {allow: [pay.out]}",
        [("route.never_allowed", 4)],
    ),
    "money for anybody": (
        ROUTES + "rules: {allow: ['**']}",
        [("money.without_identity", 7)],
    ),
    "money under a condition on the tier": (
        ROUTES + "rules: {allow: [shop.look, {capability: pay.out, when: {actor.tier: {gte: token}}}]}",
        [],
    ),
    "a limit of nothing": (
        ROUTES + "rules: {allow: [shop.look, {capability: pay.out, identity: token}]}\n"
        "limits:\n  - {name: a, rate: 1/day, capability: ship.*}\n  - {name: b, spend: 1 USD, window: day, capability: shop.*}",
        [("limit.never_binds", 9), ("limit.never_binds", 10)],
    ),
    "a limit above another": (
        ("limits:\n  - {name: a, spend: 5 USD, window: day}\n  - {name: b, spend: 6 USD, window: day, capability: pay.*}\n"
        "  - {name: c, spend: 9 USD, window: total}\n  - {name: d, spend: 9 USD, window: day, per: global}\n"
        "  - {name: e, spend: 9 EUR, window: day}\n  - {name: f, spend: 5 USD, window: day}"),
        [("limit.never_binds", 6), ("limit.never_binds", 10)],
    ),
    "a risk that nothing has": (
        "routes: [{route: GET /look, capability: shop.look, risk: low}]\nrules:\n  allow: [shop.look]\n  risk:\n    low: warn\n    high: deny",
        [("risk.unused", 9)],
    ),
    "a risk where no routes are told": ("rules: {allow: [shop.look], risk: {high: deny}}", []),
    "a field that one route of several does not map": (
        ROUTES + "rules: {deny: [{capability: 'shop.*', when: {recipient: evil}}], allow: [shop.look, {capability: pay.out, identity: token}]}",
        [("rule.field_unmapped", 7)],
    ),
    "a limit of something": (
        ROUTES + "rules: {allow: [shop.look, {capability: pay.out, identity: token}]}\nlimits: [{name: a, rate: 1/day, capability: shop.*}]",
        [],
    ),
    "names that nothing uses": (
        ("lists: {a: [x], b: [x]}\nschedules: {c: {open: daily 00:00-12:00}, d: {open: daily 00:00-12:00}, e: {open: daily 00:00-12:00}}\n"
        "rules: {allow: [{capability: a.b, when: {recipient: {in: $a}, time: {in: [c, d]}}}]}"),
        [("name.unused", 0), ("name.unused", 0)],
    ),
    "a session's budget alone": (
        ("rules: {allow: ['**']}\nlimits:\n  - {name: s, spend: 1 USD, window: session, per: session}\n"
        "  - {name: j, spend: 9 JPY, window: day, per: actor}"),
        [("limit.session_alone", 6)],
    ),
    "a cap in a currency that nothing is paid in": (
        "rules: {allow: [{capability: a.b, identity: token, max_amount: 5 EUR}]}",
        [("money.other_currency", 4)],
    ),
    "a demanded currency that nothing is paid in": (
        ROUTES + "rules: {allow: [shop.look, {capability: pay.out, identity: token, currency: [EUR, CHF]}]}",
        [("money.other_currency", 7)],
    ),
    "a currency that some limit is in": (
        "rules: {allow: [{capability: a.b, identity: token, max_amount: 5 EUR}]}\nlimits: [{name: e, spend: 9 EUR, window: day}]",
        [],
    ),
    "a threshold that is in another currency than the route": (
        ("routes: [{route: POST /p, capability: a.b, amount: {from: body.x}, currency: EUR}]\n"
        "rules:\n  deny: [{capability: 'a.*', when: {amount: {gt: 9 USD}}}]\n  allow: [{capability: a.b, identity: token, max_amount: 5 EUR}]"),
        [("money.other_currency", 6)],
    ),
    "a cap in the currency of another capability": (
        ("routes: [{route: POST /p, capability: a.b, amount: 5 USD}, {route: POST /q, capability: c.d, amount: 5 EUR}]\n"
        "rules: {allow: [{capability: a.b, identity: token, max_amount: 5 EUR}, {capability: c.d, identity: token}]}"),
        [("money.other_currency", 5)],
    ),
    "a threshold for one currency of several": (
        ("routes: [{route: POST /p, capability: a.b, amount: {from: body.x}}]\n"
        "rules:\n  deny: [{capability: 'a.*', when: {currency: EUR, amount: {gt: 9 EUR}}}, {capability: a.b, when: {amount: {exists: false}}}]\n"
        "  allow: [{capability: a.b, identity: token}]"),
        [],
    ),
    "a currency that the request names": (
        ("routes: [{route: POST /p, capability: a.b, amount: {from: body.x}, currency: {from: body.c}}]\n"
        "rules: {allow: [{capability: a.b, identity: token, max_amount: 5 EUR}]}\nlimits: [{name: j, spend: 9 JPY, window: day}]"),
        [],
    ),
    "prices in another currency than the file's": (
        ("routes:\n  - {route: POST /p, capability: a.b, amount: 5 EUR}\n  - {route: POST /q, capability: a.c, amount: {price: 5 CHF, times: body.n}}\n"
        "  - {route: POST /r, capability: a.d, amount: {table: body.p, prices: {x: 5 EUR}}}\n"
        "rules:\n  allow:\n    - {capability: a.b, identity: token, max_amount: 5 EUR}\n    - {capability: a.c, identity: token, max_amount: 5 CHF}\n"
        "    - {capability: a.d, identity: token, max_amount: 5 USD}\nlimits: [{name: e, spend: 9 EUR, window: day}, {name: u, spend: 9 USD, window: day}]"),
        [("money.other_currency", 12), ("money.other_currency", 13)],
    ),
    "a stop that stops nobody": (
        "mode: observe 5%\nactors:\n  'key:a': {enabled: true}\n  'key:b': {enabled: false}",
        [("actor.only_observed", 7)],
    ),
    "a route that is open only for some of its calls": (
        ("routes: [{route: GET /h, public: true}, {route: POST /rpc, protocol: jsonrpc, capability: 'rpc.{method}', methods: {look: {}}}]\n"
        "rules: {allow: [rpc.look]}"),
        [],
    ),
    "money that anybody could move and nobody may": (
        ROUTES + "rules: {deny: ['pay.*'], allow: [shop.look, {id: open, capability: '**'}]}",
        [],
    ),
    "a session's rate alone": ("rules: {allow: ['**']}\nlimits: [{name: s, rate: 5/day, per: session}]", []),
    "a session's budget of everything under its caller's of something": (
        ("rules: {allow: ['**']}\nlimits:\n  - {name: s, spend: 1 USD, window: session, per: session}\n"
        "  - {name: d, spend: 9 USD, window: day, per: actor, capability: 'pay.*'}"),
        [("limit.session_alone", 6)],
    ),
    "two limits of the same on one line": (
        "limits: [{name: a, rate: 5/day}, {name: b, rate: 5/day}, {name: c, rate: 5/hour}]",
        [("limit.never_binds", 4)],
    ),
    "a stop that stops": ("actors: {'key:b': {enabled: false}}", []),
    "a session's budget under its caller's": (
        ("rules: {allow: ['**']}\nlimits:\n  - {name: s, spend: 1 USD, window: session, per: session, capability: pay.out}\n"
        "  - {name: d, spend: 9 USD, window: day, per: actor, capability: 'pay.*'}"),
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "told"), CASES.values(), ids=CASES.keys())
def test_findings(text, told, tmp_path):
    assert found(text + "\n", tmp_path) == told


def test_a_finding_names_what_it_is_about(tmp_path):
    config = load(
        START + "lists: {nobody: {file: nobody.txt}}\n"
        "rules: {deny: [{capability: a.b, when: {recipient: {in: $nobody}}}]}\n"
        "limits: [{name: a, rate: 5/day}, {name: b, rate: 5/day}]\n"
    )
    (tmp_path / "nobody.txt").write_text("")
    plan, _ = assemble(config, tmp_path)
    assert [one.text for one in doubts_of(config, plan, config.routes)] == [
        "the deny rule deny[1] never holds: the list nobody is empty; correct it, or remove the rule",
        "the limit b never refuses, since a is reached before it; remove one",
    ]


def test_every_id_has_a_case():
    assert {name for _, told in CASES.values() for name, _ in told} == set(IDS) - {IN_MEMORY}


SEGMENT = st.sampled_from(["a", "b", "ab", "*", "a*", "*b"])
PATTERN = st.builds(
    lambda segments, rest: ".".join([*segments, *(["**"] if rest or not segments else [])]),
    st.lists(SEGMENT, max_size=3),
    st.booleans(),
)
CAPABILITY = st.lists(st.sampled_from(["a", "b", "ab", "cab"]), min_size=1, max_size=4).map(".".join)


@given(PATTERN, PATTERN, CAPABILITY)
def test_what_is_said_of_two_patterns_is_true(one, other, capability):
    if covers(one, other) and matches(other, capability):
        assert matches(one, capability)
    if matches(one, capability) and matches(other, capability):
        assert meets(one, other)
        assert meets(other, one)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [("**", "a.*"), ("a.**", "a"), ("a.**", "a.b.**"), ("*.b", "a*.b"), ("a*.c", "ab.c"), ("a.*", "a.b")],
)
def test_what_covers(wide, narrow):
    assert covers(wide, narrow)
    assert not covers(narrow, wide)


@pytest.mark.parametrize(
    ("one", "other"), [("a*", "b"), ("a", "b"), ("a.b", "a"), ("a.b.**", "a"), ("*.a*", "a.b"), ("a.*", "*.b.c")]
)
def test_what_does_not_meet(one, other):
    assert not meets(one, other)
    assert not meets(other, one)


@pytest.mark.parametrize("url", ["memory", '"memory:"'])
def test_a_ledger_in_memory_is_told(tmp_path, url):
    assert found(GOOD, tmp_path, START.replace("sqlite:///fence.db", url)) == [(IN_MEMORY, 0)]
    assert found(GOOD, tmp_path) == []
