"""What another policy would have decided of actions that were decided before. Pure.

A receipt keeps less than an event had: no payload, no scopes, no roles. Where the rules of a capability read anything
that was not kept, the action is counted as undecidable and never as reproduced. So are refusals that no rule made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from afmiddleware.model import codes
from afmiddleware.model.action import ActionEvent
from afmiddleware.model.actor import Actor
from afmiddleware.model.money import Money
from afmiddleware.model.tier import Tier
from afmiddleware.model.verdict import Verdict
from afmiddleware.policy.suite import Case, Change, change_of, weight, word_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from afmiddleware.policy.compiled import Policy

BY_RULES: Final = frozenset(
    {
        codes.POLICY_ALLOWED,
        codes.POLICY_DENIED,
        codes.POLICY_UNMATCHED,
        codes.APPROVAL_REQUIRED,
        codes.ACTOR_FROZEN,
        codes.IDENTITY_REQUIRED,
        codes.IDENTITY_TIER,
        codes.IDENTITY_SCOPE,
        codes.AMOUNT_OVER_ACTION_CAP,
        codes.CURRENCY_MISMATCH,
    },
)
"""The reason codes that only rules give."""

_NEVER_KEPT: Final = frozenset({"actor.scopes", "actor.roles", "actor.tenant", "actor.depth", "risk"})
_NO_POLICY: Final = "the policy that decided not kept"
_FIELDS: Final = frozenset({"recipient", "resource", "category", "network"})


def advice(missing: str) -> str:
    """What would have kept what is missing, as `Replay.undecidable` counts it."""
    if missing == _NO_POLICY:
        return "files of up to 4 MiB are kept (bindings in code: its key file is needed); --policy names another"
    if missing.startswith("decided by "):
        return "no rule decided that, so no rules can again"
    field = missing.removesuffix(" not kept")
    if field in _FIELDS:
        return "receipts.payload: fields keeps it, where the action has one"
    if field == "actor.id":
        return "kept unless receipts.redact names actor, or it was redacted"
    return "no setting keeps it for a replay; a trace of cases has it (docs/policy.md)"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """An action as it was decided. `unknown` are the fields of the event that were not kept."""

    name: str
    event: ActionEvent
    now: int
    verdict: Verdict
    unknown: frozenset[str] = frozenset()
    whole: bool = False
    """Whether all of the event was kept, the payload too."""
    lacks: str = ""
    """Why another policy could not decide it, where that is known already."""
    policy: str = ""
    """The digest of the policy that decided it."""


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """How a policy decides what was decided before. `undecidable` counts actions by what was missing."""

    total: int
    reproduced: int
    changes: tuple[Change, ...]
    undecidable: dict[str, int]

    @property
    def changed(self) -> int:
        return len(self.changes)

    @property
    def newly_allowed(self) -> int:
        return sum(change.opens for change in self.changes)

    @property
    def blocked(self) -> int:
        """How many were allowed and would not be."""
        return sum(change.old.authorized for change in self.changes)


def replay(policy: Policy, records: Iterable[Record]) -> Replay:
    """Decide records once more. Changes come with those that the policy opens first."""
    return replay_each(lambda _digest: policy, records)


def replay_each(policies: Callable[[str], Policy | None], records: Iterable[Record]) -> Replay:
    """Decide each record once more by the policy that `policies` finds for it, by the digest of the one that decided.

    Where it finds none the record is undecidable.
    """
    total = reproduced = 0
    changes: list[Change] = []
    undecidable: dict[str, int] = {}
    for record in records:
        total += 1
        verdict = _again(policies(record.policy), record)
        if isinstance(verdict, str):
            undecidable[verdict] = undecidable.get(verdict, 0) + 1
            continue
        told = record.verdict.code
        if verdict.code == told if told else word_of(verdict) == word_of(record.verdict):
            reproduced += 1
        else:
            changes.append(change_of(record.name, record.event, record.verdict, verdict))
    changes.sort(key=weight)
    return Replay(total=total, reproduced=reproduced, changes=tuple(changes), undecidable=undecidable)


def differences(old: Policy, new: Policy, records: Iterable[Record]) -> Replay:
    """What two policies decide differently of what was decided before; by which policy that was does not count."""

    def again() -> Iterator[Record]:
        for record in records:
            verdict = _again(old, record)
            yield replace(record, lacks=verdict) if isinstance(verdict, str) else replace(record, verdict=verdict)

    return replay(new, again())


def _again(policy: Policy | None, record: Record) -> Verdict | str:
    """What a policy decides of a record, or what keeps it from being decided again."""
    if policy is None:
        return _NO_POLICY
    return _missing(policy, record) or policy.decide(record.event, record.now)


def _missing(policy: Policy, record: Record) -> str | None:
    """What keeps a record from being decided again, `None` when nothing does."""
    if record.lacks:
        return record.lacks
    if record.whole:
        return None
    # A rule that allows stands beside the refusal of one whom the operator froze at run time, which no policy says.
    frozen = record.verdict.code == codes.ACTOR_FROZEN and record.verdict.rule
    if frozen or record.verdict.code not in BY_RULES:
        return f"decided by {record.verdict.code}"
    needed = reads(policy, record.event.capability)
    lacking = sorted(
        field for field in needed if field in record.unknown or field in _NEVER_KEPT or field.startswith("payload.")
    )
    if not lacking:
        return None
    return f"{'payload' if lacking[0].startswith('payload.') else lacking[0]} not kept"


def reads(policy: Policy, capability: str) -> frozenset[str]:
    """The fields that can sway the decision on a capability."""
    plan = policy.matching(capability)
    found = {"risk"} if policy.risk else set[str]()
    if policy.frozen is not None:
        found.add("actor.id")
    for rule, _ in (*plan.denies, *plan.approvals, *plan.allows):
        if rule.observe:
            found.add("actor.id")
        found.update(field for fields in rule.when for field in fields)
        if rule.scopes:
            found.add("actor.scopes")
        if rule.roles:
            found.add("actor.roles")
        if rule.priced:
            found.add("amount")
    if "currency" in found:
        found.add("amount")
    return frozenset(found)


def record_of(body: Mapping[str, Any], disclosed: Mapping[str, tuple[bytes, str | None]]) -> Record | None:
    """A receipt's record, `None` for one that is neither an intent nor a refusal.

    A field that a receipt has no value for may have been left out of it, so it counts as unknown.
    """
    if body.get("kind") not in {"intent", "refusal"}:
        return None
    private = {name: value for name, (_, value) in disclosed.items() if value is not None}
    unknown = {name for name in ("recipient", "resource") if name not in private}
    unknown |= {name for name in ("category", "network") if not body[name]}
    if not body["amount"] and body["kind"] == "refusal":
        unknown.add("amount")
    if "actor" not in private:
        unknown.add("actor.id")
    amount = Money(int(body["amount"]), body["currency"], body["exponent"]) if body["amount"] else None
    route = str(body["route"])
    event = ActionEvent(
        capability=body["capability"],
        actor=Actor(id=private.get("actor", ""), tier=Tier.parse(body["tier"])),
        environment=body["environment"],
        amount=amount,
        resource=private.get("resource"),
        recipient=private.get("recipient"),
        category=body["category"],
        network=body["network"],
        method=route.partition(" ")[0] if " " in route else "",
        route=route,
    )
    verdict = Verdict(
        authorized=body["verdict"] == "allow",
        code=body["code"],
        capability=body["capability"],
        rule=body["rule"],
    )
    return Record(
        name=body["id"],
        event=event,
        now=body["ts"],
        verdict=verdict,
        unknown=frozenset(unknown),
        policy=str(body.get("policy", "")),
    )


def record_of_case(case: Case, now: int) -> Record:
    """A traced event with what was decided of it: its `code`, or its `verdict` alone, which then is all that counts."""
    told = case.expect.get("verdict", "")
    usual = {"allow": codes.POLICY_ALLOWED, "require_approval": codes.APPROVAL_REQUIRED}
    code = case.expect.get("code") or usual.get(told, "")
    verdict = Verdict(
        authorized=code == codes.POLICY_ALLOWED,
        code=code,
        capability=case.event.capability,
        rule=str(case.expect.get("rule", "")),
    )
    return Record(
        name=case.name,
        event=case.event,
        now=now if case.now is None else case.now,
        verdict=verdict,
        whole=True,
    )
