"""`test` holds a policy to its cases; `diff` tells what another policy would change."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from tests.unit.cli.conftest import written

POLICY = """version: 1
service: shop
environment: live
ledger: memory
rules:
  deny: [{id: no-bomb, capability: pay.*, when: {payload.n: {gt: 5}}, reason: Too many.}]
  require_approval: [{id: big, capability: pay.*, when: {amount: {gte: 100 USD}}}]
  allow: [{id: pay, capability: pay.*, max_amount: 500 USD, when: {environment: live}}]
"""
CASES = """
cases:
  - name: small
    event: {capability: pay.out, actor: key:a, amount: 5 USD}
    expect: {verdict: allow, rule: pay, code: policy.allowed, flags: [], approvals: []}
  - name: large
    event: {capability: pay.out, actor: {id: "key:a", tier: verified}, amount: 100 USD, at: 2026-11-23T12:00:00Z}
    expect: {verdict: require_approval, rule: big, approvals: [default]}
  - name: too many
    event: {capability: pay.out, amount: 5 USD, payload: {n: 5.01}}
    expect: {verdict: deny, reason: Too many.}
  - event: {capability: pay.out, actor: "address:192.0.2.0/24", amount: 501 EUR}
    expect: {verdict: deny, code: currency.mismatch}
"""


@pytest.fixture
def cases(tmp_path):
    place = tmp_path / "cases.yaml"
    place.write_text(CASES, encoding="utf-8")
    return place


def test_cases_that_hold(afm, tmp_path, cases):
    policy = written(tmp_path, text=POLICY)
    ran = afm("test", cases, "--policy", policy, "--junit", tmp_path / "out.xml")
    assert (ran.code, ran.out, ran.err) == (0, "4 of 4 cases are as expected.\n", "")
    suite = ET.fromstring((tmp_path / "out.xml").read_bytes())  # noqa: S314 (we wrote it)
    assert (suite.get("tests"), suite.get("failures")) == ("4", "0")
    assert [case.get("name") for case in suite] == ["small", "large", "too many", "case 4"]


def test_a_case_that_does_not_hold(afm, tmp_path, cases):
    policy = written(tmp_path, text=POLICY.replace("100 USD", "200 USD"))
    ran = afm("test", cases, "--policy", policy, "--junit", tmp_path / "out.xml")
    assert ran.code == 1
    assert ran.err.startswith("FAILED large: verdict is 'allow', not 'require_approval'; rule is 'pay', not 'big'")
    assert ran.out == "3 of 4 cases are as expected.\n"
    suite = ET.fromstring((tmp_path / "out.xml").read_bytes())  # noqa: S314 (we wrote it)
    assert suite.get("failures") == "1"
    assert suite[1][0].text == "Rule pay allows pay.out."
    assert afm("test", cases, "--policy", policy, "--json").json["failed"] == 1


def test_diff_tells_what_is_newly_allowed_first(afm, tmp_path, cases):
    old = written(tmp_path, text=POLICY)
    new = tmp_path / "new.yaml"
    new.write_text(
        POLICY.replace("100 USD", "5 USD")
        .replace("gt: 5", "gt: 9")
        .replace("  require", "  require")
        .replace("500 USD", "900 USD")
    )
    assert afm("diff", old, old, "--cases", cases).code == 0
    ran = afm("diff", old, new, "--cases", cases)
    assert ran.code == 1
    assert ran.out.splitlines() == [
        "changed too many (pay.out): deny (policy.denied, no-bomb) -> require_approval (approval.required, big)",
        "changed small (pay.out): allow (policy.allowed, pay) -> require_approval (approval.required, big)",
        "2 of 4 cases change, 0 are newly allowed.",
    ]
    told = afm("diff", new, old, "--cases", cases, "--json").json
    assert (told["total"], told["changed"], told["newly_allowed"]) == (4, 2, 1)
    assert [one["name"] for one in told["changes"]] == ["small", "too many"]
    assert afm("diff", new, old, "--cases", cases).out.startswith("NEWLY ALLOWED small (pay.out): require_approval")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ": a file of cases holds a list of cases"),
        ("cases: []", ": a file of cases holds a list of cases"),
        ("case: []", ": a file of cases has the key cases alone, not case"),
        ("cases:\n- {event: {capability: a.b}, expect: deny}\n-\n  event: {}\n  expect: deny", ":4: case 2: an event needs a capability"),
        ("# one\n- {event: {capability: a.b}, expect: deny}\n- x", ":3: case 2: a case is a map"),
        ("- {event: {capability: a.b}, expect: deny}\n- {event: ]}", ":2: this is not YAML: expected the node content, but found ']'"),
        ("- \x07", ": this is not YAML: unacceptable character"),
        ('- "\\U00110000"', ": this is not YAML: a number or an escape in it is too large"),
        (f"- {'1' * 5000}", ": case 1: a case is a map of name, event and expect"),
        ("[" * 3000, ": this is not YAML: a number or an escape in it is too large, or its lists and maps are nested too deep"),
        ("- {name: x, event: {capability: a.b}}", ":1: x: expect is a map of some of"),
        ("- {name: x, evnt: {capability: a.b}}", ":1: x: a case is a map of name, event and expect"),
        ("- x", ":1: case 1: a case is a map"),
        ("- {event: {capability: a.b}, expect: {verdict: allowed}}", ":1: case 1: the verdict is one of allow, deny, require_approval"),
        ("- {event: {capability: a.b}, expect: {result: allow}}", ":1: case 1: expect is a map"),
        ("- {event: {capability: A.b}, expect: {verdict: deny}}", ":1: case 1: 'A.b' is not a capability"),
        ("- {event: {}, expect: {verdict: deny}}", "an event needs a capability"),
        ("- {event: [], expect: {verdict: deny}}", "an event is a map of"),
        ("- {event: {capability: a.b, amuont: 5 USD}, expect: {verdict: deny}}", "has no member 'amuont'"),
        ("- {event: {capability: a.b, amount: 5}, expect: {verdict: deny}}", "amount is a text"),
        ("- {event: {capability: a.b, actor: {id: a, scopes: pay}}, expect: {verdict: deny}}", "actor.scopes is a list of texts"),
        ("- [", ":1: this is not YAML"),
    ],
)  # fmt: skip
def test_cases_that_are_none(afm, tmp_path, text, said):
    place = tmp_path / "cases.yaml"
    place.write_text(text, encoding="utf-8")
    ran = afm("test", place, "--policy", written(tmp_path, text=POLICY))
    assert ran.code == 2
    assert ran.err.startswith(f"{place}:")
    assert said in ran.err


def test_a_file_that_is_not_there(afm, tmp_path):
    ran = afm("test", tmp_path / "none.yaml", "--policy", written(tmp_path, text=POLICY))
    assert ran.code == 2
    assert "cannot be read: No such file" in ran.err


@pytest.mark.parametrize(
    ("written_as", "wanted"),
    [
        ("NO", "NO"), ("yes", "yes"), ("off", "off"), ("true", "true"), ("10:00", "10:00"), ("0x12", "0x12"), ("010", "010"),
        ("1_000", "1_000"), ("2026-11-23", "2026-11-23"), ("7", "7"), ("7.50", "7.5"), ("1.5e+3", "1500"), (".nan", ".nan"),
        ("9" * 5000, "9" * 5000),
    ],
)  # fmt: skip
def test_what_a_case_says_is_what_it_means(afm, tmp_path, written_as, wanted):
    rules = f'{{allow: [{{id: no, capability: pay.*, when: {{payload.n: "{wanted}"}}}}]}}'
    policy = written(tmp_path, text=f"version: 1\nservice: s\nledger: memory\nrules: {rules}\n")
    cases = tmp_path / "cases.yaml"
    expect = "{verdict: allow, rule: no}" if len(wanted) < 5000 else "deny"  # more digits than any number has here
    cases.write_text(f"- {{event: {{capability: pay.out, payload: {{n: {written_as}}}}}, expect: {expect}}}\n", "utf-8")
    assert afm("test", cases, "--policy", policy).code == 0
