"""A policy file is read whole or not at all, and says the same on every machine."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel

from afmiddleware.config.conditions import OPERATORS, PAYLOAD_OPERATORS
from afmiddleware.config.load import limits_of, load
from afmiddleware.config.policy_schema import observing
from afmiddleware.config.schema import Config
from afmiddleware.errors import ConfigError
from afmiddleware.model.limit import Unit, Window


def models(annotation: object) -> set[type[BaseModel]]:
    """The models in an annotation, and those in their fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}.union(*(models(field.annotation) for field in annotation.model_fields.values()))
    return set[type[BaseModel]]().union(*map(models, get_args(annotation)))


FULL = Path(__file__).with_name("full.yaml").read_text(encoding="utf-8")
KEY = "00ff" * 16
ENV = {"AFM_RECEIPT_KEY": KEY}
START = "version: 1\nservice: s\n"


@pytest.fixture(scope="module")
def full():
    return load(FULL, "full.yaml", ENV)


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(FULL.splitlines(), 1) if text in line)


def test_the_smallest_policy_denies_everything():
    config = load(START)
    assert (config.routes, config.rules.allow, config.unmapped, config.mode) == ((), (), "deny", "enforce")
    assert (config.timezone, config.currency, config.ledger) == ("UTC", "USD", "sqlite:///fence.db")


def test_scalars_mean_what_they_say(full):
    assert full.metadata["draft"] == "NO"
    assert full.metadata["reviewed"] == "2026-11-01"
    assert load(START + "environment: 0x12\n").environment == "0x12"
    assert load(START + "environment: 10:00\n").environment == "10:00"
    assert full.rules.allow[2].when == [{"payload.count": {"lte": "2.50"}, "recipient": {"eq": "acme"}}]


def test_every_entry_knows_its_line(full):
    assert [route.line for route in full.routes][:4] == [
        line_of("/health"),
        line_of("/live"),
        line_of("/v1/flights"),
        line_of("route: POST /v1/bookings"),
    ]
    assert full.rules.deny[1].line == line_of("no-wipe")
    assert full.rules.allow[0].line == line_of("- flights.search")
    assert full.limits[-1].line == line_of("name: own")
    assert full.identity.jwt.issuers[0].line == line_of("issuer: https://as.example.com")


def test_rules_without_an_id_are_called_by_their_place(full):
    assert [rule.id for rule in full.rules.deny] == ["deny[1]", "no-wipe", "deny[3]", "deny[4]", "deny[5]", "deny[6]"]
    assert [rule.id for rule in full.rules.allow] == ["allow[1]", "allow[2]", "small", "allow[4]", "allow[5]"]
    assert [rule.id for rule in full.rules.require_approval] == ["require_approval[1]", "big"]


def test_routes_say_their_method_and_template(full):
    route = full.routes[3]
    assert (route.method, route.template) == ("POST", "/v1/bookings/{id}")
    assert (route.amount.from_, route.amount.unit) == ("body.items[0].price", "major")
    assert full.routes[4].on_outcome == {"4xx": "keep", "5xx": "keep"}
    assert full.routes[5].on_outcome is None


def test_limits_become_values(full):
    rate, hourly, daily, total = (limits_of(full)[place] for place in (0, 3, 4, 5))
    assert (rate.unit, rate.cap, rate.window.seconds, rate.cell) == (Unit.RATE, 30, 60, "burst/r60")
    assert (hourly.cap, hourly.cell) == (50000, "hourly/rolling3600/USD")
    assert hourly.window == Window("rolling", 3600, "Europe/Amsterdam")
    assert (daily.cap, daily.window.kind, daily.per, daily.cell) == (250050, "day", "global", "daily/day/USD")
    assert (total.cap, total.exponent, total.cell) == (100000_000000, 6, "lifetime/total/USDC")
    assert [limit.line for limit in limits_of(full)] == [entry.line for entry in full.limits]


def test_a_raised_cap_keeps_its_counter_and_another_window_does_not():
    def cell(text):
        return limits_of(load(START + f"limits: [{{name: a, {text}}}]\n"))[0].cell

    assert cell("rate: 1/minute") == cell("rate: 9/minute") != cell("rate: 1/hour")
    assert cell("spend: 1 USD, window: day") == cell("spend: 2 USD, window: day")
    cells = [cell(f"spend: 1 {code}, window: {window}") for code in ("USD", "EUR") for window in ("day", "rolling 1d")]
    assert len(set(cells)) == len(cells)


def test_the_digest_is_that_of_the_exact_text(full):
    assert full.digest == hashlib.sha256(FULL.encode()).hexdigest()
    assert full.source == "full.yaml"
    assert load(FULL + "# more\n", env=ENV).digest != full.digest


def test_json_and_yaml_are_the_same_policy(full):
    document = yaml.load(FULL, yaml.BaseLoader)  # noqa: S506 (it makes texts, lists and maps only)
    document["metadata"]["smile"] = "\N{GRINNING FACE}"
    text = json.dumps(document, indent=1)
    assert "\\ud83d" in text
    read = load(text, "full.yaml", ENV)
    assert read.metadata.pop("smile") == "\N{GRINNING FACE}"
    without = {"digest", "line", "risk_lines"}
    assert _plain(read, without) == _plain(full, without)


def _plain(value, without):
    if hasattr(value, "model_fields_set"):
        fields = type(value).model_fields
        return {name: _plain(getattr(value, name), without) for name in fields if name not in without}
    if isinstance(value, tuple):
        return [_plain(one, without) for one in value]
    return {name: _plain(one, without) for name, one in value.items()} if isinstance(value, dict) else value


def test_bytes_are_read_as_utf_8():
    assert load("version: 1\nservice: caf\u00e9\n".encode()).service == "caf\u00e9"
    with pytest.raises(ConfigError, match=r"^x.yaml:2:11: the text is not UTF-8; save the file as UTF-8$"):
        load(b"version: 1\nservice: a\xff\n", "x.yaml")


def test_a_file_is_bounded():
    with pytest.raises(ConfigError, match="1:1: the file is larger than 4194304 bytes"):
        load(START + "# " + "x" * (4 << 20))
    with pytest.raises(ConfigError, match="1:1: the file is larger than 4194304 bytes"):
        load(START + "# " + "\u00e9" * (2 << 20))
    whole = (4 << 20) - len(START) - 3
    assert load(f"{START}# {'x' * whole}\n").service == "s"
    for text in ("[" * 100_000, "a: " * 100_000, "{a: " * 100_000, "- " * 100_000):
        with pytest.raises(ConfigError):
            load(text)


def test_every_problem_is_told_at_once_in_the_order_of_the_file():
    text = """version: 1
currency: USX
currency: EUR
timezone: Mars/Olympus
routes:
  - {route: get /a, capability: A, amount: {unit: cents}}
  - {route: GET /b, public: true, amount: *x}
rules:
  require_approval: [{capability: A.b}]
  allow:
    - {capability: a.b, max_amount: 5 FOO, when: {amount: {gt: 5}, recipiant: x}}
limits:
  - {name: A, rate: often}
  - {name: b, spend: 1 USD}
nonsense: !tag x
"""
    with pytest.raises(ConfigError) as caught:
        load(text, "f")
    places = [tuple(map(int, one.split(":")[1:3])) for one in caught.value.problems]
    assert places == sorted(places)
    told = [re.sub(r"^f:\d+:\d+: ", "", one) for one in caught.value.problems]
    for part in (
        "the key 'service' is missing",
        "unknown currency 'USX'",
        "stands here twice",
        "not an IANA time zone",
        "'get' is not a method",
        "'A' is not a capability",
        "an amount has one of from, sum, table with prices, or price with times",
        "'cents'",
        "a public route is not judged",
        "the alias *x",
        "'A.b' is not a capability pattern",
        "unknown currency 'FOO'",
        "'5' has no currency",
        "'recipiant' is not a field",
        "'A' is not a name",
        "'often' is not a rate",
        "a spend needs a window",
        "unknown key 'nonsense'",
        "the tag !tag",
    ):
        assert any(part in one for one in told), part
    assert len(told) == 19


def test_problems_speak_of_the_file_and_not_of_the_parser():
    mistakes = Path(__file__).with_name("mistakes.txt").read_text(encoding="utf-8").lower()
    for word in (
        "pydantic",
        "input should",
        "validation error",
        "nonetype",
        "traceback",
        "http://errors",
        "value error",
    ):
        assert word not in mistakes


def test_a_secret_comes_from_the_environment_and_is_never_shown(full):
    assert full.receipts.mac_key.secret.get_secret_value() == bytes.fromhex(KEY)
    assert full.receipts.mac_key.file is None
    assert KEY not in repr(full)
    assert "secret" not in full.model_dump()["receipts"]["mac_key"]
    with pytest.raises(ConfigError) as caught:
        load(FULL, env={"AFM_RECEIPT_KEY": "hunter2"})
    assert "hunter2" not in str(caught.value)
    in_a_file = load(START + "receipts: {mac_key: {file: keys/mac}}\n").receipts.mac_key
    assert in_a_file is not None
    assert (in_a_file.file, in_a_file.secret) == ("keys/mac", None)


def test_what_is_not_supported_may_be_absent_in_words():
    assert load(START + "rates: null\napprovals: null\nidentity: {order: ~}\n").service == "s"


def test_a_key_in_quotes_is_a_name_like_others():
    assert load(START + 'metadata: {"<<": a, "a b": c}\n').metadata == {"<<": "a", "a b": "c"}


@pytest.mark.parametrize("ledger", ["memory", '"memory:"', "sqlite:///a.db", "sqlite:////var/a.db"])
def test_ledgers(ledger):
    assert load(START + f"ledger: {ledger}\n").ledger == ledger.strip('"')


@pytest.mark.parametrize(
    ("field", "operator"),
    [(field, operator) for field, operators in OPERATORS.items() for operator in operators]
    + [("payload.a", operator) for operator in PAYLOAD_OPERATORS],
)
def test_every_operator_that_is_offered_is_one_that_rules_can_be_compiled_with(field, operator):
    from afmiddleware.config.overlays import schedules_of
    from afmiddleware.policy.compiled import compile_policy

    literal = {"amount": "5 USD", "actor.tier": "token", "risk": "low", "time": "office"}.get(field, "5")
    text = "true" if operator == "exists" else f"[{literal}]" if operator in {"in", "not_in"} else literal
    schedules = "schedules: {office: {open: daily 09:00-17:00}}\n"
    config = load(
        START + schedules + f"rules: {{deny: [{{capability: a.b, when: {{{field}: {{{operator}: {text}}}}}}}]}}\n"
    )

    source = SimpleNamespace(rules=config.rules, assets=config.exponents, schedules=schedules_of(config))
    assert compile_policy(source).reads_payload("a.b") is field.startswith("payload.")


def test_a_rule_that_does_not_observe_observes_nobody():
    rules = load(
        START + "rules: {deny: [{capability: a.b, observe: false}, {capability: a.c, observe: true}]}\n"
    ).rules.deny
    assert [one.observe for one in rules] == [0, 10_000]


@pytest.mark.parametrize(
    ("mode", "share"), [("enforce", 0), ("observe", 10_000), ("observe 25%", 2_500), ("observe 0.01%", 1)]
)
def test_how_many_callers_a_mode_only_observes(mode, share):
    assert observing(mode) == share


def test_the_secret_of_a_client_is_what_stands_between_the_blanks():
    client = "{endpoint: 'https://a.b/i', issuer: 'https://a.b', client_id: c, client_secret: '${S}'}"
    config = load(f"{START}identity: {{introspection: {client}}}\n", env={"S": " se cret\n"})
    assert config.identity.introspection is not None
    secret = config.identity.introspection.client_secret.secret
    assert secret is not None
    assert secret.get_secret_value() == b"se cret"
    assert "se cret" not in repr(config)
    for wrong in (" \n", "a\x07b"):
        with pytest.raises(ConfigError, match="does not hold a secret") as told:
            load(f"{START}identity: {{introspection: {client}}}\n", env={"S": wrong})
        assert "\x07" not in str(told.value)


def test_a_method_whose_name_makes_no_capability_may_have_any():
    rpc = "{route: POST /rpc, protocol: jsonrpc, capability: rpc.call, methods: {'Bad Name': {}}}"
    assert set(load(f"{START}routes: [{rpc}]\n").routes[0].methods or ()) == {"Bad Name"}


def test_a_paced_rate_becomes_a_value():
    text = "limits: [{name: p, rate: 600/minute, style: pacing, burst: 5}, {name: q, rate: 0/hour, style: pacing}]\n"
    paced, none = limits_of(load(START + text))
    assert (paced.unit, paced.cap, paced.quota, paced.window, paced.cell) == (
        Unit.RATE,
        5,
        600,
        Window("pacing", 60),
        "p/p600-60",
    )
    assert (none.cap, none.quota, none.cell) == (0, 0, "q/p0-3600")
    once = limits_of(load(START + "limits: [{name: o, rate: 1/day, style: pacing, counts: admitted}]\n"))[0]
    assert (once.cap, once.quota) == (1, 1)
    assert [one.admitted for one in (paced, none, once)] == [False, False, True]


def test_a_session_may_be_counted_beside_others():
    text = "limits: [{name: s, spend: 1 USD, window: session, per: [session, capability]}]\n"
    assert load(START + text).limits[0].per == "capability+session"


def test_what_stands_in_no_file_has_no_line():
    """As what is declared in code: findings about it name the file as a whole."""
    lines = {
        model.__name__: model.model_fields["line"].default for model in models(Config) if "line" in model.model_fields
    }
    assert len(lines) > 5
    assert set(lines.values()) == {0}


def test_a_value_may_stand_as_deep_as_maps_and_lists_may():
    def nested(levels):
        return f"{START}metadata: {{a: {'[' * levels}x{']' * levels}}}\n"

    assert load(nested(62)).metadata["a"]
    with pytest.raises(ConfigError, match="nested deeper than 64 levels"):
        load(nested(63))


@pytest.mark.parametrize(
    ("limit", "cap", "more"),
    [
        ("rate: 5/day", "5/day", "6/day"),
        ("rate: 5/day, per: [actor, capability]", "5/day", "6/day"),
        ("concurrent: 5", "5", "6"),
        ("spend: 5 USD, window: day", "5 USD", "5.01 USD"),
    ],
)
def test_a_cap_for_one_actor_is_at_most_that_of_all_unless_it_overrides(limit, cap, more):
    def loaded(cap, override=""):
        actors = f"actors: {{'key:a': {{limits: {{n: {cap}}}{override}}}}}\n"
        return load(f"{START}limits: [{{name: n, {limit}}}]\n{actors}").actors["key:a"].limits

    assert loaded(cap) == {"n": cap}
    assert loaded(more, ", override: true") == {"n": more}
    with pytest.raises(ConfigError, match="the cap is wider than the limit itself"):
        loaded(more)


def test_an_actor_is_named_with_its_kind():
    with pytest.raises(ConfigError, match="'acct' is no actor; write key:acct for whoever has its API keys") as refused:
        load(f"{START}actors:\n  acct: {{enabled: false}}\n  'key:b': {{enabled: false}}\n  '*': {{enabled: true}}\n")
    assert len(refused.value.problems) == 1


def test_a_file_that_is_wrong_as_a_whole_is_read_to_its_end():
    with pytest.raises(ConfigError) as told:
        load("--- &all\nversion: 1\nservice: s\nservise: s\n", "x.yaml")
    assert [one.partition(": ")[2][:18] for one in told.value.problems] == ["the anchor &all is", "unknown key 'servi"]


def test_a_proxy_on_a_unix_socket_needs_no_address():
    proxy = load(START + "identity: {proxy: {mode: trusted, trust_unix: true}}\n").identity.proxy
    assert (proxy.trust_unix, proxy.trusted_proxies) == (True, ())
    with pytest.raises(ConfigError, match="trusted_proxies"):
        load(START + "identity: {proxy: {mode: trusted}}\n")


def test_a_breaker_stays_open_unless_it_is_told_when_to_probe():
    text = "limits: [{name: a, spend: 1 USD, window: day, on_exceed: trip}, {name: b, spend: 1 USD, window: day, on_exceed: trip, half_open: 5m}]\n"
    assert [(one.on_exceed, one.half_open, one.stops_free) for one in limits_of(load(START + text))] == [
        ("trip", 0, False),
        ("trip", 300, False),
    ]


def test_metadata_may_have_nothing_to_say():
    assert load(START + "metadata: {a: ~, b: null, c: '', d: [null]}\n").metadata == {
        "a": "~",
        "b": "null",
        "c": "",
        "d": ["null"],
    }
    with pytest.raises(ConfigError, match="environment has no value"):
        load(START + "environment: ~\n")


def test_a_claim_is_in_major_units_unless_it_says_minor():
    text = "identity: {jwt: {issuers: [{issuer: 'https://a.b', audience: a, algorithms: [ES256], discovery: oidc}]}}\n"
    text += "limits: [{name: a, spend: {from: claim.max}, window: day}, {name: b, spend: {from: claim.max, unit: minor}, window: day}]\n"
    assert [(one.claim, one.minor) for one in limits_of(load(START + text))] == [("max", False), ("max", True)]


def test_roles_and_scopes_are_looked_up_in_lists_that_are_compared_as_they_are():
    lists = "lists: {some: [Ops], more: {values: [Admin]}, own: {values: [x], normalize: lower}}\n"
    when = "[{actor.roles: {in: $some}}, {actor.scopes: {not_in: $more}}, {recipient: {in: $own}}]"
    assert (
        len(load(f"{START}{lists}rules: {{deny: [{{capability: a.b, when: {when}}}]}}\n").rules.deny[0].when or ()) == 3
    )
