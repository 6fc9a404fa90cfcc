"""Policies of other products as a fence.yaml: equivalent where the languages agree, stricter where they do not.

Whatever cannot be said exactly becomes a comment beside the stricter rule. Pure: values in, text out.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from afmiddleware.errors import ConfigError
from afmiddleware.policy.patterns import covers

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECTIONS = {"deny": "deny", "block": "deny", "require_approval": "require_approval", "allow": "allow", "warn": "allow"}
_COMPARED = {"gt": "gt", "gte": "gte", "lt": "lt", "lte": "lte"}
_HTTP = re.compile(r"(GET|POST|PUT|PATCH|DELETE|OPTIONS|HEAD) (/\S*)")
_PRESET = {"require_approval": "require_approval", "deny": "deny", "block": "deny", "warn": "warn"}


class Sheet:
    """A fence.yaml in the making: lines of each section, in order."""

    def __init__(self, service: str, currency: str) -> None:
        self.head = [
            "version: 1",
            f"service: {_quoted(service)}",
            f"currency: {currency}",
            "ledger: sqlite:///fence.db",
        ]
        self.routes: list[str] = []
        self.rules: dict[str, list[str]] = {"deny": [], "require_approval": [], "allow": []}
        self.risk: dict[str, str] = {}
        self.limits: list[str] = []

    def add(self, section: str, entry: Mapping[str, Any], note: str = "") -> None:
        if note:
            self.rules[section].append(f"    # {note}")
        self.rules[section].append(f"    - {flow_map(entry)}")

    def text(self, origin: str) -> str:
        lines = [f"# Converted from {origin}. Read the comments: they mark where this is stricter.", *self.head]
        if self.routes:
            lines += ["routes:", *self.routes]
        if self.risk or any(not line.lstrip().startswith("#") for found in self.rules.values() for line in found):
            lines.append("rules:")
        if self.risk:
            lines.append(f"  risk: {flow_map(self.risk)}")
        for section, found in self.rules.items():
            if any(not line.lstrip().startswith("#") for line in found):
                lines += [f"  {section}:", *found]
            else:
                lines += found
        if any(not line.lstrip().startswith("#") for line in self.limits):
            lines += ["limits:", *self.limits]
        return "\n".join(lines) + "\n"


def from_actionfence(document: Any) -> str:
    """Convert a guard-policy.json of ActionFence. Raises `ConfigError`.

    There the longest name decides alone; here every deny wins and any allow is enough, so what a narrower name demands
    beyond a wider one becomes denials.
    """
    actions = document.get("actions") if isinstance(document, dict) else None
    if not isinstance(actions, dict) or not actions or not all(isinstance(rule, dict) for rule in actions.values()):
        raise ConfigError(["this is no guard policy of ActionFence: it has no map of actions"])
    default = document.get("default_rule", "deny")
    if default not in {"allow", "deny"}:
        raise ConfigError([f"default_rule is {default!r}; it is allow or deny"])
    spends = document.get("spend_limits", {})
    sheet = Sheet(str(document.get("service", "service")), spends.get("currency", "USD"))
    names = {name: _capability(name, sheet) for name in actions}
    if len(set(names.values())) < len(names):
        raise ConfigError(["two names of actions become the same capability; rename one of them"])
    wide = ["**"] if default == "allow" else []
    wide += [names[name] for name, rule in actions.items() if rule.get("allowed") is True]
    for name, rule in actions.items():
        _action(sheet, names[name], rule, spends.get("currency", "USD"), wide, names, actions)
    if default == "allow":
        sheet.add("allow", {"capability": "**"}, "default_rule was allow")
    _actionfence_limits(sheet, document, spends)
    return sheet.text("a guard policy of ActionFence")


def _action(  # noqa: PLR0913 (one action among all)
    sheet: Sheet,
    capability: str,
    rule: Mapping[str, Any],
    currency: str,
    wide: list[str],
    names: Mapping[str, str],
    actions: Mapping[str, Any],
) -> None:
    if rule.get("allowed") is not True:
        opened = [
            name
            for name, one in names.items()
            if one != capability and covers(capability, one) and actions[name].get("allowed") is True
        ]
        note = f"stricter: {', '.join(opened)} was allowed all the same; here a deny wins" if opened else ""
        sheet.add("deny", {"capability": capability}, note)
        return
    entry: dict[str, Any] = {"capability": capability}
    tier = rule.get("identity", "any")
    if tier != "any":
        entry["identity"] = tier
    cap = f"{rule['max_spend']} {rule.get('currency', currency)}" if "max_spend" in rule else ""
    if cap:
        entry["max_amount"] = cap
    sheet.add(
        "allow", entry, "stricter: an action without an amount passed this cap; here it is refused" if cap else ""
    )
    if any(one != capability and covers(one, capability) for one in wide):
        if tier != "any":
            sheet.add(
                "deny", {"capability": capability, "when": {"actor.tier": {"lt": tier}}}, "a wider rule allows it too"
            )
        if cap:
            sheet.add("deny", {"capability": capability, "when": {"amount": {"gt": cap}}}, "a wider rule allows it too")
    if rule.get("requires_human_approval") is True:
        sheet.add("require_approval", {"capability": capability})


def _capability(name: str, sheet: Sheet) -> str:
    http = _HTTP.fullmatch(name)
    if http is None:
        prefix = name.endswith("*")
        word = re.sub(r"[^a-z0-9_]+", "_", name.removesuffix("*").lower())
        return word + "*" if prefix else word.strip("_") or "_"
    method, path = http.group(1), re.sub(r":([A-Za-z_][A-Za-z0-9_]*)", r"{\1}", http.group(2))
    word = re.sub(r"[^a-z0-9]+", "_", path.lower()).strip("_") or "root"
    capability = f"{method.lower()}.{word}"
    if "*" in path:
        return f"{method.lower()}.{word}*"
    sheet.routes.append(f"  - {flow_map({'route': f'{method} {path}', 'capability': capability})}")
    return capability


def _actionfence_limits(sheet: Sheet, document: Mapping[str, Any], spends: Mapping[str, Any]) -> None:
    rates, currency = document.get("rate_limits", {}), spends.get("currency", "USD")
    for key, name, period in (
        ("requests_per_minute", "requests", "minute"),
        ("transactions_per_day", "transactions", "day"),
    ):
        if rates.get(key):
            sheet.limits.append(f"  - {flow_map({'name': name, 'rate': f'{rates[key]}/{period}'})}")
    if "session_max" in spends:
        sheet.limits.append("  # stricter: a session ends with its credential's session, not after idle minutes")
        entry = {
            "name": "session",
            "spend": f"{spends['session_max']} {currency}",
            "window": "session",
            "per": "session",
        }
        sheet.limits.append(f"  - {flow_map(entry)}")
    if "daily_max" in spends:
        entry = {"name": "daily", "spend": f"{spends['daily_max']} {currency}", "window": "day"}
        sheet.limits.append(f"  - {flow_map(entry)}")
    window = spends.get("window")
    if isinstance(window, dict):
        span = f"rolling {window['duration_minutes']}m"
        entry = {"name": "window", "spend": f"{window['max_amount']} {currency}", "window": span}
        sheet.limits.append(f"  - {flow_map(entry)}")
    breaker = document.get("circuit_breaker")
    if isinstance(breaker, dict):
        most = f"{breaker['global_max_spend']} {breaker.get('currency', currency)}"
        entry = {"name": "breaker", "spend": most, "window": "total", "per": "global", "on_exceed": "trip"}
        if breaker.get("action") == "alert_only":
            sheet.limits.append("  # stricter: this breaker only alerted; here it stops what would pass it")
        sheet.limits.append(f"  - {flow_map(entry)}")


def from_capfence(document: Any, currency: str = "USD") -> str:
    """Convert a policy.yaml of CapFence, whose `extends` are merged already. Raises `ConfigError`.

    A condition that cannot be said makes a denial or an approval unconditional, and leaves an allow rule out.
    """
    if not isinstance(document, dict):
        raise ConfigError(["this is no policy of CapFence: it is not a map"])
    sheet = Sheet(str(document.get("policy_name", "service")), currency)
    entries = [
        (section, one) for section in ("deny", "require_approval", "allow") for one in document.get(section) or ()
    ]
    entries += [(_SECTIONS.get(str(one.get("action")), "deny"), one) for one in document.get("rules") or ()]
    for section, one in entries:
        _capfence_rule(sheet, section, {"capability": one} if isinstance(one, str) else dict(one), currency)
    for level, told in (document.get("risk_levels") or {}).items():
        action = str(told.get("action") if isinstance(told, dict) else told)
        if action in _PRESET:
            sheet.risk[str(level)] = _PRESET[action]
    return sheet.text("a policy of CapFence")


def _capfence_rule(sheet: Sheet, section: str, told: dict[str, Any], currency: str) -> None:
    told = {key: value for key, value in told.items() if key not in {"id", "description", "action", "threshold"}}
    name = str(told.pop("capability", "*"))
    parts = name.split(".")
    # There a name of fewer than three parts stands for all that begins so.
    full = 3
    capability = "**" if set(name) <= {"*", "."} else name if len(parts) >= full else f"{name}.**"
    when: dict[str, dict[str, Any]] = {}
    lost = [key for key, value in told.items() if not _capfence_condition(when, key, value, currency)]
    entry: dict[str, Any] = {"capability": capability} | ({"when": when} if when else {})
    if not lost:
        sheet.add(section, entry)
    elif section == "allow":
        sheet.rules[section].append(
            f"    # stricter: left out, for {', '.join(lost)} names no field of the payload: {flow_map(entry)}"
        )
    else:
        note = f"stricter: without {', '.join(lost)}, which names no field of the payload; write payload.<path>"
        sheet.add(section, {"capability": capability} | ({"when": when} if when else {}), note)


def _capfence_condition(when: dict[str, dict[str, Any]], key: str, value: Any, currency: str) -> bool:
    """Add a condition; false when our language cannot say it."""
    subject, _, operator = key.rpartition("_")
    plain = isinstance(value, (str, int)) and not isinstance(value, bool) and "*" not in str(value)
    if subject == "amount" and operator in _COMPARED and plain:
        when.setdefault("amount", {})[operator] = f"{value} {currency}"
    elif subject == "caller_depth" and operator in _COMPARED and plain:
        when.setdefault("actor.depth", {})[operator] = str(value)
    elif key == "environment" and isinstance(value, list):
        when["environment"] = {"in": [str(one) for one in value]}
    elif key in {"environment", "tenant", "user_role", "risk_level"} and plain:
        field, word = {
            "environment": ("environment", "eq"),
            "tenant": ("actor.tenant", "eq"),
            "user_role": ("actor.roles", "contains"),
            "risk_level": ("risk", "eq"),
        }[key]
        when[field] = {word: str(value)}
    else:
        return False
    return True


def flow_map(entry: Mapping[str, Any]) -> str:
    """A map on one line. JSON's texts are YAML's, and plain words need no quotes."""
    return "{" + ", ".join(f"{key}: {_value(value)}" for key, value in entry.items()) + "}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return flow_map(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./ -]*", text) else json.dumps(text, ensure_ascii=False)
