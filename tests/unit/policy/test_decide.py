"""What the rules decide, and which reason they give."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from afmiddleware.mapping.body import parse_json
from afmiddleware.model.action import ActionEvent
from afmiddleware.model.actor import Actor
from afmiddleware.model.codes import CODES
from afmiddleware.model.money import Money
from afmiddleware.model.tier import Tier
from afmiddleware.policy.compiled import Policy, compile_policy
from afmiddleware.policy.rules import falls_on


def rule(capability: str = "payments.*", /, **changes: Any) -> SimpleNamespace:
    values: dict[str, Any] = {"id": capability, "capability": capability, "reason": None, "line": 7}
    return SimpleNamespace(**(values | changes))


def policy(allow: Any = (), deny: Any = ()) -> Policy:
    config: Any = SimpleNamespace(rules=SimpleNamespace(allow=list(allow), deny=list(deny)), assets={"USDC": 6})
    return compile_policy(config)


ANONYMOUS = Actor(id="address:192.0.2.0/24")
TOKEN = Actor(
    id="key:acct", tier=Tier.TOKEN, scopes=frozenset({"read"}), roles=frozenset({"ops"}), tenant="t1", depth=1
)
VERIFIED = Actor(id="jwt:i|s", tier=Tier.VERIFIED, scopes=frozenset({"pay", "read"}))


def event(actor: Actor = TOKEN, amount: str | None = None, /, body: bytes = b"{}", **changes: Any) -> ActionEvent:
    values: dict[str, Any] = {
        "capability": "payments.transfer",
        "actor": actor,
        "amount": None if amount is None else Money.parse(amount, {"USDC": 6}),
        "payload": parse_json(body),
    }
    return ActionEvent(**(values | changes))


def when(*alternatives: dict[str, Any], **fields: Any) -> Any:
    return list(alternatives) if alternatives else fields


ALLOWED, DENIED, UNMATCHED = "policy.allowed", "policy.denied", "policy.unmatched"
TIER, SCOPE, REQUIRED = "identity.tier", "identity.scope", "identity.required"
CAP, NO_AMOUNT, MISMATCH = "amount.over_action_cap", "amount.unresolvable", "currency.mismatch"
ANY = rule("payments.*")
OVER_100 = {"amount": {"gt": "100 USD"}}

DECISIONS: dict[str, tuple[Any, Any, ActionEvent, str]] = {
    # name: allow, deny, event, code
    "nothing matches": ((), (), event(), UNMATCHED),
    "another capability": ((rule("flights.*"),), (), event(), UNMATCHED),
    "allowed": ((ANY,), (), event(), ALLOWED),
    "allowed exactly": ((rule("payments.transfer"),), (), event(), ALLOWED),
    "allowed by a rest pattern": ((rule("payments.**"),), (), event(), ALLOWED),
    "allowed by any": ((rule("**"),), (), event(), ALLOWED),
    "one segment is not two": ((rule("*"),), (), event(), UNMATCHED),
    "part of a segment": ((rule("*.trans*"),), (), event(), ALLOWED),
    "deny beats allow": ((ANY,), (ANY,), event(), DENIED),
    "deny of an action": ((ANY,), (rule("*.transfer"),), event(), DENIED),
    "deny without allow": ((), (ANY,), event(), DENIED),
    "deny of another capability": ((ANY,), (rule("*.delete"),), event(), ALLOWED),
    "deny condition holds": ((ANY,), (rule(when=when(**OVER_100)),), event(TOKEN, "100.01 USD"), DENIED),
    "deny condition does not hold": ((ANY,), (rule(when=when(**OVER_100)),), event(TOKEN, "100 USD"), ALLOWED),
    "deny condition, no amount": ((ANY,), (rule(when=when(**OVER_100)),), event(), ALLOWED),
    "deny condition, another currency": ((ANY,), (rule(when=when(**OVER_100)),), event(TOKEN, "1 EUR"), MISMATCH),
    "another currency, but denied anyway": ((ANY,), (rule(when=when(**OVER_100)), ANY), event(TOKEN, "1 EUR"), DENIED),
    "another currency, the other half false": (
        (ANY,),
        (rule(when=when(**OVER_100, recipient={"eq": "evil"})),),
        event(TOKEN, "1 EUR", recipient="acme"),
        ALLOWED,
    ),
    "another currency, the other half true": (
        (ANY,),
        (rule(when=when(**OVER_100, recipient={"eq": "evil"})),),
        event(TOKEN, "1 EUR", recipient="evil"),
        MISMATCH,
    ),
    "another currency, guarded": (
        (ANY,),
        (rule(when=when(**OVER_100, currency={"eq": "USD"})),),
        event(TOKEN, "1 EUR"),
        ALLOWED,
    ),
    "or: the second holds": (
        (ANY,),
        (rule(when=when({"recipient": {"eq": "evil"}}, OVER_100)),),
        event(TOKEN, "200 USD", recipient="acme"),
        DENIED,
    ),
    "or: none holds": (
        (ANY,),
        (rule(when=when({"recipient": {"eq": "evil"}}, OVER_100)),),
        event(TOKEN, "2 USD", recipient="acme"),
        ALLOWED,
    ),
    "or: one in doubt, the other true": (
        (ANY,),
        (rule(when=when(OVER_100, {"recipient": {"eq": "evil"}})),),
        event(TOKEN, "2 EUR", recipient="evil"),
        DENIED,
    ),
    "or: one in doubt, the other false": (
        (ANY,),
        (rule(when=when({"recipient": {"eq": "evil"}}, OVER_100)),),
        event(TOKEN, "2 EUR", recipient="acme"),
        MISMATCH,
    ),
    "and: both hold": (
        (ANY,),
        (rule(when=when(recipient={"eq": "evil"}, **OVER_100)),),
        event(TOKEN, "200 USD", recipient="evil"),
        DENIED,
    ),
    "two bounds on one field": (
        (rule(when=when(amount={"gte": "5 USD", "lt": "10 USD"})),),
        (),
        event(TOKEN, "5 USD"),
        ALLOWED,
    ),
    "two bounds, above": (
        (rule(when=when(amount={"gte": "5 USD", "lt": "10 USD"})),),
        (),
        event(TOKEN, "10 USD"),
        UNMATCHED,
    ),
    "amount eq": ((rule(when=when(amount={"eq": "5 USD"})),), (), event(TOKEN, "5.00 USD"), ALLOWED),
    "amount ne": ((rule(when=when(amount={"ne": "5 USD"})),), (), event(TOKEN, "5.00 USD"), UNMATCHED),
    "amount exists": ((ANY,), (rule(when=when(amount={"exists": "true"})),), event(TOKEN, "0 USD"), DENIED),
    "amount does not exist": ((ANY,), (rule(when=when(amount={"exists": "false"})),), event(), DENIED),
    "amount of an asset": (
        (rule(when=when(amount={"lt": "0.000002 USDC"})),),
        (),
        event(TOKEN, "0.000001 USDC"),
        ALLOWED,
    ),
    "allow condition in another currency": (
        (rule(when=when(amount={"lt": "5 EUR"})),),
        (),
        event(TOKEN, "1 USD"),
        MISMATCH,
    ),
    "allow in two currencies": (
        (rule(when=when(amount={"lt": "5 EUR"})), rule(when=when(amount={"lt": "5 USD"}))),
        (),
        event(TOKEN, "1 USD"),
        ALLOWED,
    ),
    "tier met": ((rule(identity="token"),), (), event(TOKEN), ALLOWED),
    "tier exceeded": ((rule(identity="token"),), (), event(VERIFIED), ALLOWED),
    "tier too low": ((rule(identity="verified"),), (), event(TOKEN), TIER),
    "tier as a value": ((rule(identity=Tier.VERIFIED),), (), event(TOKEN), TIER),
    "anonymous where a tier is needed": ((rule(identity="token"),), (), event(ANONYMOUS), REQUIRED),
    "anonymous where a scope is needed": ((rule(scopes=["pay"]),), (), event(ANONYMOUS), REQUIRED),
    "anonymous where nothing is needed": ((ANY,), (), event(ANONYMOUS), ALLOWED),
    "scope held": ((rule(scopes=["pay"]),), (), event(VERIFIED), ALLOWED),
    "both scopes held": ((rule(scopes=["pay", "read"]),), (), event(VERIFIED), ALLOWED),
    "one scope missing": ((rule(scopes=["pay", "read"]),), (), event(TOKEN), SCOPE),
    "role held": ((rule(roles=["ops"]),), (), event(TOKEN), ALLOWED),
    "role missing": ((rule(roles=["ops"]),), (), event(VERIFIED), SCOPE),
    "under the cap": ((rule(max_amount="500 USD"),), (), event(TOKEN, "499.99 USD"), ALLOWED),
    "at the cap": ((rule(max_amount="500 USD"),), (), event(TOKEN, "500 USD"), ALLOWED),
    "over the cap": ((rule(max_amount="500 USD"),), (), event(TOKEN, "500.01 USD"), CAP),
    "cap as a value": ((rule(max_amount=Money(50000, "USD", 2)),), (), event(TOKEN, "500.01 USD"), CAP),
    "cap of zero": ((rule(max_amount="0 USD"),), (), event(TOKEN, "0.01 USD"), CAP),
    "zero under a cap of zero": ((rule(max_amount="0 USD"),), (), event(TOKEN, "0 USD"), ALLOWED),
    "cap without an amount": ((rule(max_amount="500 USD"),), (), event(), NO_AMOUNT),
    "cap in another currency": ((rule(max_amount="500 USD"),), (), event(TOKEN, "1 EUR"), MISMATCH),
    "caps in two currencies": (
        (rule(max_amount="500 USD"), rule(max_amount="450 EUR")),
        (),
        event(TOKEN, "1 EUR"),
        ALLOWED,
    ),
    "the second allow is satisfied": ((rule(identity="verified"), rule(identity="token")), (), event(TOKEN), ALLOWED),
    "nearest: the tier that passes": (
        (rule(identity="verified"), rule(identity="token", scopes=["pay"])),
        (),
        event(TOKEN),
        SCOPE,
    ),
    "nearest: the cap beats the tier": (
        (rule(identity="verified"), rule(identity="token", max_amount="5 USD")),
        (),
        event(TOKEN, "6 USD"),
        CAP,
    ),
    "nearest: the tier when a condition does not hold": (
        (rule(when=when(recipient={"eq": "acme"})), rule(identity="verified")),
        (),
        event(TOKEN, recipient="globex"),
        TIER,
    ),
    "no step-up where it would not help": (
        (rule(when=when(recipient={"eq": "acme"})), rule(identity="verified", when=when(recipient={"eq": "acme"}))),
        (),
        event(TOKEN, recipient="globex"),
        UNMATCHED,
    ),
    "condition false under allow": (
        (rule(when=when(recipient={"in": ["acme"]})),),
        (),
        event(recipient="evil"),
        UNMATCHED,
    ),
    "condition on an absent field": ((rule(when=when(recipient={"in": ["acme"]})),), (), event(), UNMATCHED),
    "negation on an absent field": ((rule(when=when(recipient={"not_in": ["evil"]})),), (), event(), UNMATCHED),
    "absent, asked for": ((rule(when=when(recipient={"exists": False})),), (), event(), ALLOWED),
    "payload text": (
        (ANY,),
        (rule(when={"payload.command": {"contains": "rm -rf"}}),),
        event(body=b'{"command": "sudo rm -rf /"}'),
        DENIED,
    ),
    "payload text inside a list": (
        (ANY,),
        (rule(when={"payload.command": {"contains": "rm -rf"}}),),
        event(body=b'{"command": ["sh", "rm -rf /"]}'),
        DENIED,
    ),
    "payload absent": ((ANY,), (rule(when={"payload.command": {"contains": "rm -rf"}}),), event(), ALLOWED),
    "payload null is absent": ((ANY,), (rule(when={"payload.n": {"gt": "5"}}),), event(body=b'{"n": null}'), ALLOWED),
    "payload of the wrong kind under deny": (
        (ANY,),
        (rule(when={"payload.n": {"gt": "5"}}),),
        event(body=b'{"n": "many"}'),
        NO_AMOUNT,
    ),
    "payload of the wrong kind under allow": (
        (rule(when={"payload.n": {"lt": "5"}}),),
        (),
        event(body=b'{"n": [1]}'),
        NO_AMOUNT,
    ),
    "payload number as text": ((ANY,), (rule(when={"payload.n": {"gt": "5"}}),), event(body=b'{"n": "6"}'), DENIED),
    "payload deep": ((rule(when={"payload.a[1].b": {"eq": "x"}}),), (), event(body=b'{"a": [0, {"b": "x"}]}'), ALLOWED),
    "actor tier": ((rule(when={"actor.tier": {"gte": "verified"}}),), (), event(TOKEN), UNMATCHED),
    "actor tier in": ((rule(when={"actor.tier": {"in": ["token"]}}),), (), event(TOKEN), ALLOWED),
    "actor id": ((ANY,), (rule(when={"actor.id": {"starts_with": "key:"}}),), event(TOKEN), DENIED),
    "actor tenant absent": ((rule(when={"actor.tenant": {"eq": "t1"}}),), (), event(VERIFIED), UNMATCHED),
    "actor roles": ((rule(when={"actor.roles": {"contains": "ops"}}),), (), event(TOKEN), ALLOWED),
    "actor roles are whole words": ((rule(when={"actor.roles": {"contains": "op"}}),), (), event(TOKEN), UNMATCHED),
    "actor scopes in": ((rule(when={"actor.scopes": {"in": ["pay", "x"]}}),), (), event(VERIFIED), ALLOWED),
    "actor scopes not in": ((ANY,), (rule(when={"actor.scopes": {"not_in": ["pay"]}}),), event(TOKEN), DENIED),
    "actor without roles": ((rule(when={"actor.roles": {"not_in": ["ops"]}}),), (), event(VERIFIED), UNMATCHED),
    "actor roles exist": ((rule(when={"actor.roles": {"exists": True}}),), (), event(VERIFIED), UNMATCHED),
    "actor depth": ((ANY,), (rule(when={"actor.depth": {"gt": "0"}}),), event(TOKEN), DENIED),
    "environment": ((rule(when={"environment": {"eq": "production"}}),), (), event(environment="staging"), UNMATCHED),
    "network": ((ANY,), (rule(when={"network": {"in": ["eip155:56"]}}),), event(network="eip155:56"), DENIED),
    "method and route": (
        (rule(when={"method": {"eq": "POST"}, "route": {"ends_with": "/pay"}}),),
        (),
        event(method="POST", route="POST /pay"),
        ALLOWED,
    ),
    "resource and category": (
        (rule(when={"resource": {"under": "/a"}, "category": {"ne": "x"}}),),
        (),
        event(resource="/a/b", category="y"),
        ALLOWED,
    ),
    "currency alone": ((rule(when={"currency": {"in": ["USD", "EUR"]}}),), (), event(TOKEN, "1 JPY"), UNMATCHED),
    "risk absent": ((rule(when={"risk": {"eq": "low"}}),), (), event(), UNMATCHED),
}


@pytest.mark.parametrize(("allow", "deny", "happened", "code"), DECISIONS.values(), ids=DECISIONS.keys())
def test_decisions(allow: Any, deny: Any, happened: ActionEvent, code: str) -> None:
    verdict = policy(allow, deny).decide(happened)
    assert verdict.code == code
    assert verdict.authorized == (code == ALLOWED)
    assert verdict.capability == "payments.transfer"
    assert verdict.reason
    assert verdict.code in CODES


@pytest.mark.parametrize(("allow", "deny", "happened", "code"), DECISIONS.values(), ids=DECISIONS.keys())
def test_an_early_refusal_is_never_of_what_would_be_allowed(
    allow: Any, deny: Any, happened: ActionEvent, code: str
) -> None:
    early = policy(allow, deny).may_refuse_early(happened.capability, happened.actor)
    assert early is None or (not early.authorized and code != ALLOWED)


EARLY: dict[str, tuple[Any, Any, Actor, str | None]] = {
    "no rule": ((), (), TOKEN, UNMATCHED),
    "unconditional deny": ((ANY,), (ANY,), TOKEN, DENIED),
    "deny with a condition": ((ANY,), (rule(when=OVER_100),), TOKEN, None),
    "every tier too high": ((rule(identity="verified"), rule(identity="verified", when=OVER_100)), (), TOKEN, TIER),
    "anonymous": ((rule(identity="token", max_amount="5 USD"),), (), ANONYMOUS, REQUIRED),
    "scope": ((rule(scopes=["pay"]),), (), TOKEN, SCOPE),
    "one of two is open": ((rule(scopes=["pay"]), rule(when=OVER_100)), (), TOKEN, None),
    "open": ((ANY,), (), ANONYMOUS, None),
}


@pytest.mark.parametrize(("allow", "deny", "actor", "code"), EARLY.values(), ids=EARLY.keys())
def test_early_refusals(allow: Any, deny: Any, actor: Actor, code: str | None) -> None:
    early = policy(allow, deny).may_refuse_early("payments.transfer", actor)
    assert (early.code if early else None) == code


def test_the_verdict_names_the_rule_and_its_line() -> None:
    rules = policy(
        [rule(id="pay", line=12)], [rule("*.delete", id="no-delete", line=3, reason="Nothing is deleted here.")]
    )
    allowed = rules.decide(event())
    assert (allowed.rule, allowed.line) == ("pay", 12)
    denied = rules.decide(event(capability="users.delete"))
    assert (denied.rule, denied.line, denied.reason) == ("no-delete", 3, "Nothing is deleted here.")


def test_the_first_satisfied_rule_in_the_file_is_named() -> None:
    rules = [rule("**", id="a"), rule("payments.transfer", id="b"), rule("payments.*", id="c")]
    assert policy(rules).decide(event()).rule == "a"
    assert policy(rules[1:]).decide(event()).rule == "b"
    assert policy(rules[:0:-1]).decide(event()).rule == "c"


NEARER: list[list[SimpleNamespace]] = [
    [rule(id="tier", identity="verified"), rule(id="proof", applies_to="proven_agents")],
    [rule(id="scope", scopes=["pay"])],
    [rule(id="role", roles=["boss"])],
    [rule(id="currency", max_amount="5 EUR"), rule(id="doubt", when={"payload.n": {"gt": "5"}})],
    [rule(id="cap", max_amount="5 USD")],
]
"""Allow rules that do not allow, from the farthest to the nearest, those side by side that are as near."""
NEARER_TO_NOBODY = [[NEARER[0][0], NEARER[0][1], NEARER[1][0], NEARER[2][0]], *NEARER[3:]]
"""The same for a caller without a credential, who is told no more than to show one."""


@pytest.mark.parametrize(("actor", "ladder"), [(TOKEN, NEARER), (ANONYMOUS, NEARER_TO_NOBODY)])
def test_the_rule_that_came_nearest_gives_the_reason_and_the_first_of_equals(actor: Actor, ladder: Any) -> None:
    happened = event(actor, "6 USD", body=b'{"n": []}')
    steps = [(place, one) for place, step in enumerate(ladder) for one in step]
    for place, one in steps:
        for other_place, other in steps:
            nearest = one if place >= other_place else other
            assert policy([one, other]).decide(happened).rule == nearest.id, (one.id, other.id)


def test_what_a_rule_demands_of_the_amount_is_told() -> None:
    capped, priced = (policy([made]).decide(event()) for made in (rule(max_amount="5 USD"), rule(currency=["USD"])))
    assert "is allowed up to an amount, and this action has none" in capped.reason
    assert "is allowed with an amount, and this action has none" in priced.reason


def test_a_share_of_the_callers_is_as_large_as_it_says() -> None:
    drawn = [[falls_on(share, "rule", f"key:{number}") for number in range(30_000)] for share in (0, 1, 9_999, 10_000)]
    none, few, most, whole = map(sum, drawn)
    assert (none, whole) == (0, 30_000)
    assert 0 < few < 15
    assert 29_985 < most < 30_000


def test_reasons_hold_no_payload_and_no_cap_for_anonymous_callers() -> None:
    rules = policy([rule(max_amount="123.45 USD", when={"payload.note": {"starts_with": "a"}})])
    over = rules.decide(event(TOKEN, "999 USD", body=b'{"note": "as3cret"}'))
    assert over.code == CAP
    assert "123.45 USD" in over.reason
    assert "s3cret" not in over.reason
    for amount in ("999 USD", "1 EUR"):
        hidden = rules.decide(event(ANONYMOUS, amount, body=b'{"note": "as3cret"}'))
        assert "123" not in hidden.reason
        assert "USD" not in hidden.reason
    doubt = rules.decide(event(TOKEN, "1 USD", body=b'{"note": ["s3cret"]}'))
    assert doubt.code == NO_AMOUNT
    assert "s3cret" not in doubt.reason
