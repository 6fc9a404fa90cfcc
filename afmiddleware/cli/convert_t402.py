"""A policy of t402's agent-policy as a fence.yaml: the same limits and lists, and stricter where that fails open. Pure.

Both its shapes are read: the flat one that its MCP tools take, and the full one of its source. What it stores and
enforces nowhere (yearly and lifetime limits, custom rules) is enforced here, or named in a comment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from afmiddleware.cli.convert import Sheet, flow_map
from afmiddleware.cli.foreign import Policy402, fits
from afmiddleware.errors import ConfigError, GrammarError
from afmiddleware.grammar.amounts import to_major
from afmiddleware.grammar.currencies import ISO_4217
from afmiddleware.grammar.schedules import parse_day

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_DECIMALS: Final = 18
"""What an asset has at most, as in fence.yaml."""

_WINDOWS: Final = {
    "hourly": ("hour", ""),
    "daily": ("day", ""),
    "weekly": ("week", "sunday"),
    "monthly": ("month", ""),
    "yearly": ("year", "stricter: stored there, and never enforced"),
    "lifetime": ("total", "stricter: stored there, and never enforced"),
}
_KNOWN: Final = frozenset(
    {
        "enabled", "limits", "timeRules", "merchantRules", "networkRules", "categoryRules", "requireApproval",
        "approvalConfig",
    },
)  # fmt: skip
_NOTED: Final = frozenset(
    {
        "id", "name", "description", "version", "parentId", "priority", "status", "effectiveFrom", "effectiveUntil",
        "createdAt", "updatedAt", "createdBy", "metadata", "rules", "approval",
    },
)  # fmt: skip
_DAYS: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_HOURS_OF_A_DAY: Final = 24


def from_t402(document: Any, capability: str = "payments.**") -> str:
    """Convert a policy of t402's agent-policy, which judges payments alone: here those are what `capability` covers.

    Raises `ConfigError` for what is no such policy.
    """
    told = _flat(document)
    sheet = Sheet(str(document.get("name", "service")), "USD")
    sheet.head.append("timezone: UTC")
    money = _Money()
    entry: dict[str, Any] = {"capability": capability}
    when: dict[str, Any] = {}
    sections: dict[str, list[str]] = {"lists": [], "schedules": []}
    if document.get("parentId"):
        # There a policy without its parent was dropped in silence.
        sheet.remark(
            "deny",
            f"its parent {str(document['parentId'])[:80]!r} is not in here; convert it too, and keep the narrower",
        )
    if told.get("enabled") is False:
        sheet.add("deny", {"capability": capability}, "the policy was not enabled")
    _times(sections["schedules"], when, _map(told, "timeRules"))
    _lists(sheet, sections["lists"], when, told, capability)
    limits = _map(told, "limits")
    if "perTransaction" in limits:
        entry["max_amount"] = money.text(limits["perTransaction"])
    for name, (window, note) in _WINDOWS.items():
        if name in limits:
            line: dict[str, Any] = {"name": name, "spend": money.text(limits[name]), "window": window}
            line |= {"week_start": note} if window == "week" else {}
            if note.startswith("stricter"):
                sheet.limits.append(f"  # {note}")
            sheet.limits.append(f"  - {flow_map({**line, 'capability': capability})}")
    _approvals(sheet, money, told, capability)
    if None not in when.values():
        sheet.add("allow", entry | ({"when": when} if when else {}))
    else:
        what = ", ".join(name for name, wanted in when.items() if wanted is None)
        sheet.remark("allow", f"nothing is allowed: a list of {what} was required, and is empty")
    custom = _map(document, "rules").get("custom") or []
    for rule in custom if isinstance(custom, list) else (custom,):
        sheet.remark("deny", f"custom rules were never enforced; say this in a rule: {str(rule)[:200]!r}")
    sheet.head += money.assets() + [line for name, lines in sections.items() if lines for line in (f"{name}:", *lines)]
    return sheet.text("a policy of t402")


class _Money:
    """Amounts in minor units, each symbol with one number of decimals."""

    def __init__(self) -> None:
        self._decimals: dict[str, int] = {}

    def text(self, told: Any) -> str:
        value = told.get("value") if isinstance(told, dict) else None
        symbol, decimals = str((told or {}).get("symbol") or "USDT"), (told or {}).get("decimals", 6)
        if not isinstance(value, (str, int)) or not str(value).isascii() or not str(value).isdecimal():
            raise ConfigError([f"{value!r:.40} is no whole number of minor units"])
        if self._decimals.setdefault(symbol, decimals) != decimals or type(decimals) is not int:
            raise ConfigError([f"{symbol} is written with {decimals!r:.10} and with {self._decimals[symbol]} decimals"])
        if not 0 <= decimals <= MOST_DECIMALS:
            raise ConfigError([f"{symbol} is written with {decimals!r:.10} decimals; it can have {MOST_DECIMALS}"])
        if ISO_4217.get(symbol, decimals) != decimals:
            raise ConfigError([f"{symbol} has {ISO_4217[symbol]} decimals, not {decimals}"])
        return f"{to_major(int(value), decimals)} {symbol}"

    def assets(self) -> list[str]:
        found = {name: {"exponent": str(one)} for name, one in self._decimals.items() if name not in ISO_4217}
        return [f"assets: {flow_map(found)}"] if found else []


def _flat(document: Any) -> dict[str, Any]:
    """The flat shape of either. What neither has is refused: a misspelt key was dropped there in silence."""
    if not isinstance(document, dict) or not (_KNOWN | {"rules"}) & set(document):
        raise ConfigError(["this is no policy of t402: it has none of limits, rules, merchantRules and the like"])
    unknown = sorted(set(document) - _KNOWN - _NOTED)
    if unknown:
        raise ConfigError([f"a policy of t402 has no {unknown[0]!r:.60}"])
    told = {name: document[name] for name in _KNOWN & set(document)}
    rules = _map(document, "rules")
    for name in ("time", "merchant", "network", "category"):
        if name in rules:
            told[f"{name}Rules"] = rules[name]
    if "approval" in document:
        told["approvalConfig"] = document["approval"]
    fits(told, Policy402, "policy of t402")
    return told


def _map(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = told.get(name) or {}
    if not isinstance(found, dict):
        raise ConfigError([f"{name} is no map"])
    return found


def _lists(sheet: Sheet, lists: list[str], when: dict[str, Any], told: Mapping[str, Any], capability: str) -> None:
    """Lists of whom, where and what for. A blocked one is asked before an allowed one there, and a deny wins here."""
    for field, name, allowed, blocked in (
        ("recipient", "merchantRules", "whitelist", "blacklist"),
        ("network", "networkRules", "allowedNetworks", "blockedNetworks"),
        ("category", "categoryRules", "allowedCategories", "blockedCategories"),
    ):
        rules = _map(told, name)
        for kind in (allowed, blocked):
            values = rules.get(kind) or ()
            if values:
                words = flow_map({"values": [str(one) for one in values], "normalize": "lower"})
                lists.append(f"  {field}_{'allowed' if kind == allowed else 'blocked'}: {words}")
        if rules.get(blocked):
            sheet.add("deny", {"capability": capability, "when": {field: {"in": f"${field}_blocked"}}})
        if rules.get(allowed):
            when[field] = {"in": f"${field}_allowed"}
        elif rules.get("requireWhitelist") is True:
            when[field] = None


def _times(schedules: list[str], when: dict[str, Any], rules: Mapping[str, Any]) -> None:
    """Hours were always those of UTC there, whatever the zone said; a window that could never match is left out."""
    hours = []
    for window in rules.get("allowedWindows") or ():
        start, end, days = window.get("startHour"), window.get("endHour"), window.get("days") or ()
        if type(start) is int and type(end) is int and 0 <= start < end <= _HOURS_OF_A_DAY and days:
            hours.append(f"{','.join(_DAYS[day] for day in days)} {start:02}:00-{end:02}:00")
    closed = [_period(one) for one in rules.get("blockedPeriods") or ()]
    if rules.get("allowedWindows") and not hours:
        when["time"] = None
    elif hours or closed:
        when["time"] = {"in": "payment_hours"}
        if closed:
            schedules.append("  # stricter: a blocked period blocks the whole of its first and of its last day")
        if rules.get("timezone", "UTC") != "UTC":
            schedules.append(f"  # the hours were those of UTC there, though it said {str(rules['timezone'])[:40]!r}")
        entry = {"open": hours} | ({"closed": closed} if closed else {}) if hours else {"closed": closed}
        schedules.append(f"  payment_hours: {flow_map(entry)}")


def _period(told: Any) -> dict[str, Any]:
    try:
        first, last = (str(told[name])[:10] for name in ("start", "end"))
        parse_day(first)
        parse_day(last)
    except (KeyError, TypeError, GrammarError):
        raise ConfigError([f"a blocked period has a start and an end, not {told!r:.80}"]) from None
    found: dict[str, Any] = {"from": first, "to": last}
    return found | ({"reason": str(told["reason"])[:300]} if told.get("reason") else {})


def _approvals(sheet: Sheet, money: _Money, told: Mapping[str, Any], capability: str) -> None:
    thresholds: Sequence[Any] = _map(told, "approvalConfig").get("thresholds") or ()
    for place, one in enumerate(thresholds):
        approvers = ", ".join(map(str, one.get("approvers") or ()))[:200]
        needed = f"{one.get('requiredApprovers', 1)} of {approvers}"
        entry = {"capability": capability, "when": {"amount": {"gte": money.text(one.get("amount"))}}}
        sheet.add("require_approval", {"id": f"approval-{place + 1}", **entry}, f"approved by {needed!r}")
    if told.get("requireApproval") is True:
        sheet.add("require_approval", {"capability": capability}, "everything needed an approval")
