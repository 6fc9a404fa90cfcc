"""Policy tests and comparisons: cases with what is expected of them, decided by one policy or by two. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from afmiddleware.grammar.quoting import cut, quoted
from afmiddleware.model.action import ActionEvent
from afmiddleware.model.codes import APPROVAL_REQUIRED
from afmiddleware.model.verdict import Verdict
from afmiddleware.policy.cases import CaseError, read_event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERDICTS: Final = ("allow", "deny", "require_approval")
EXPECTED: Final = ("verdict", "code", "rule", "reason", "flags", "approvals")
"""What may be expected of a verdict."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One event with what is expected. `now` is in microseconds since the epoch, `None` for the time of the run."""

    name: str
    event: ActionEvent
    now: int | None = None
    expect: Mapping[str, Any] = {}


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a case. `failures` are sentences; there are none where all is as expected."""

    name: str
    verdict: Verdict
    failures: tuple[str, ...] = ()


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A case that two policies decide differently, so that at most one allows it. `opens` when that is the new one.

    `reads` says that it comes by a method that changes nothing, and costs nothing.
    """

    name: str
    capability: str
    old: Verdict
    new: Verdict
    reads: bool = False

    @property
    def opens(self) -> bool:
        return self.new.authorized


def word_of(verdict: Verdict) -> str:
    """A verdict in a word: `allow`, `deny` or `require_approval`."""
    if verdict.authorized:
        return "allow"
    return "require_approval" if verdict.code == APPROVAL_REQUIRED else "deny"


def read_cases(document: Any, assets: Mapping[str, int], environment: str = "", *, needs: bool = True) -> list[Case]:
    """Read `{cases: [{name, event, expect}]}`, or such a list. With `needs` every case has to expect something.

    What is expected is a map of some of `EXPECTED`, or the verdict alone.
    Raises `CaseError` naming the case.
    """
    entries = document.get("cases") if isinstance(document, Mapping) else document
    unknown = sorted(map(str, set(document) - {"cases"})) if isinstance(document, Mapping) else []
    if unknown:
        raise CaseError(f"a file of cases has the key cases alone, not {cut(', '.join(unknown))}")
    if not isinstance(entries, list) or not entries:
        raise CaseError("a file of cases holds a list of cases; write cases: [{name: ..., event: ..., expect: ...}]")
    return [_case(entry, place + 1, assets, environment, needs=needs) for place, entry in enumerate(entries)]


def _case(entry: Any, place: int, assets: Mapping[str, int], environment: str, *, needs: bool) -> Case:
    name = str(entry.get("name", f"case {place}")) if isinstance(entry, Mapping) else f"case {place}"
    if isinstance(entry, Mapping) and isinstance(entry.get("expect"), str):
        entry = {**entry, "expect": {"verdict": entry["expect"]}}
    fault = _fault(entry, needs=needs)
    if fault:
        raise CaseError(f"{name}: {fault}", place)
    try:
        event, now = read_event(entry.get("event"), assets, environment)
    except CaseError as error:
        raise CaseError(f"{name}: {error}", place) from None
    return Case(name=name, event=event, now=now, expect=entry.get("expect", {}))


def _fault(entry: Any, *, needs: bool) -> str | None:
    if not isinstance(entry, Mapping) or set(entry) - {"name", "event", "expect"}:
        return "a case is a map of name, event and expect"
    expect = entry.get("expect", {})
    if not isinstance(expect, Mapping) or set(expect) - set(EXPECTED) or (needs and not expect):
        return f"expect is a map of some of {', '.join(EXPECTED)}"
    if expect.get("verdict", "deny") not in VERDICTS:
        return f"the verdict is one of {', '.join(VERDICTS)}, not {quoted(str(expect['verdict']))}"
    return None


def run_cases(cases: Sequence[Case], decide: Callable[[ActionEvent, int], Verdict], now: int) -> list[Result]:
    """Decide every case. `now` is the time of those that name none."""
    found = []
    for case in cases:
        verdict = decide(case.event, now if case.now is None else case.now)
        found.append(Result(name=case.name, verdict=verdict, failures=tuple(_failures(case.expect, verdict))))
    return found


def _failures(expect: Mapping[str, Any], verdict: Verdict) -> list[str]:
    seen = {
        "verdict": word_of(verdict),
        "code": verdict.code,
        "rule": verdict.rule,
        "reason": verdict.reason,
        "flags": list(verdict.flags),
        "approvals": list(verdict.approvals),
    }
    return [f"{name} is {seen[name]!r}, not {wanted!r}" for name, wanted in expect.items() if seen[name] != wanted]


def compare(
    cases: Sequence[Case],
    old: Callable[[ActionEvent, int], Verdict],
    new: Callable[[ActionEvent, int], Verdict],
    now: int,
) -> list[Change]:
    """The cases that two policies decide differently, those that the new one opens first."""
    found = []
    for case in cases:
        at = now if case.now is None else case.now
        before, after = old(case.event, at), new(case.event, at)
        # Two codes of one word differ too: another reason is another decision.
        if before.code != after.code:
            found.append(change_of(case.name, case.event, before, after))
    return sorted(found, key=weight)


def change_of(name: str, event: ActionEvent, old: Verdict, new: Verdict) -> Change:
    """What two policies decide of one event."""
    reads = event.method in {"GET", "HEAD", "QUERY"} and event.amount is None
    return Change(name=name, capability=event.capability, old=old, new=new, reads=reads)


_SAME: Final = ("", "")
_ORDER: Final = (
    ("deny", "allow"),
    ("require_approval", "allow"),
    ("deny", "require_approval"),
    _SAME,
    ("require_approval", "deny"),
    ("allow", "require_approval"),
    ("allow", "deny"),
)


def weight(change: Change) -> tuple[bool, bool, int]:
    """The order of changes: newly allowed ones first, what only reads last of them; what closes most last."""
    words = word_of(change.old), word_of(change.new)
    return not change.opens, change.opens and change.reads, _ORDER.index(words if words in _ORDER else _SAME)
