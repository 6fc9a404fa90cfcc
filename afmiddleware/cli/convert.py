"""Policies of other products as a fence.yaml: equivalent where the languages agree, stricter where they do not.

Whatever cannot be said exactly becomes a comment beside the stricter rule. Pure: values in, text out.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from afmiddleware.cli.foreign import GuardPolicy, fits
from afmiddleware.errors import ConfigError
from afmiddleware.policy.patterns import covers

if TYPE_CHECKING:
    from collections.abc import Mapping

_HTTP = re.compile(r"(GET|POST|PUT|PATCH|DELETE|OPTIONS|HEAD) (/\S*)")


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
            self.remark(section, note)
        self.rules[section].append(f"    - {flow_map(entry)}")

    def remark(self, section: str, note: str) -> None:
        self.rules[section].append(f"    # {on_one_line(note)}")

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
    fits(document, GuardPolicy, "guard policy of ActionFence")
    actions, default = document["actions"], document.get("default_rule", "deny")
    spends = document.get("spend_limits", {})
    if "currency" not in spends and {"session_max", "daily_max", "window"} & set(spends):
        raise ConfigError(["this is no guard policy of ActionFence: its spend_limits need a currency"])
    sheet = Sheet(str(document.get("service", "service")), spends.get("currency", "USD"))
    names = {name: _capability(name, sheet) for name in actions}
    if sheet.routes and any("max_spend" in actions[name] for name in actions if _HTTP.fullmatch(name)):
        sheet.routes.insert(0, "  # code took the amounts there: map them, such as amount: {from: body.amount}")
    if len(set(names.values())) < len(names):
        raise ConfigError(["two names of actions become the same capability; rename one of them"])
    wide = ["**"] if default == "allow" else []
    wide += [names[name] for name, rule in actions.items() if rule.get("allowed") is True]
    for name, rule in actions.items():
        _action(sheet, names[name], rule, spends.get("currency", "USD"), wide, names, actions)
    if default == "allow":
        sheet.add("allow", {"capability": "**"}, "default_rule was allow")
    _actionfence_limits(sheet, document, spends, names)
    if document.get("regulations"):
        sheet.head.append(f"metadata: {flow_map({'regulations': document['regulations']})}")
    pinned = [name for name, rule in actions.items() if "schema_hash" in rule]
    if pinned:
        sheet.head.append(f"# not converted: the schemas that were pinned of {on_one_line(', '.join(pinned))}")
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
        freed = [
            name
            for name, one in names.items()
            if one != capability and covers(capability, one) and not actions[name].get("requires_human_approval")
        ]
        note = f"stricter: {', '.join(freed)} needed none there; here it does" if freed else ""
        sheet.add("require_approval", {"capability": capability}, note)


def _capability(name: str, sheet: Sheet) -> str:
    http = _HTTP.fullmatch(name)
    if http is None:
        prefix = name.endswith("*")
        word = re.sub(r"[^a-z0-9_]+", "_", name.removesuffix("*").lower())
        return word + "*" if prefix else word.strip("_") or "_"
    method, path = http.group(1), re.sub(r":([A-Za-z_][A-Za-z0-9_]*)", r"{\1}", http.group(2))
    word = re.sub(r"[^a-z0-9]+", "_", path.removesuffix("*").lower()).lstrip("_")
    if path.endswith("*"):
        # What stood before the star ends where it ended: /a/* is not /about.
        return f"{method.lower()}.{word}*"
    capability = f"{method.lower()}.{word.rstrip('_') or 'root'}"
    sheet.routes.append(f"  - {flow_map({'route': f'{method} {path}', 'capability': capability})}")
    return capability


def _actionfence_limits(
    sheet: Sheet, document: Mapping[str, Any], spends: Mapping[str, Any], names: Mapping[str, str]
) -> None:
    rates, currency = document.get("rate_limits", {}), spends.get("currency", "USD")
    if rates.get("requests_per_minute"):
        sheet.limits.append(f"  - {{name: requests, rate: {rates['requests_per_minute']}/minute}}")
    if rates.get("transactions_per_day"):
        _transactions(sheet, document["actions"], rates["transactions_per_day"], names)
    _spends(sheet, document, spends, currency)


def _transactions(sheet: Sheet, actions: Mapping[str, Any], most: int, names: Mapping[str, str]) -> None:
    """There only what has an amount or needs an approval is a transaction."""
    counted = [name for name, rule in actions.items() if "max_spend" in rule or rule.get("requires_human_approval")]
    entry = {"name": "transactions", "rate": f"{most}/day", "counts": "admitted"}
    if len(counted) == 1:
        entry["capability"] = names[counted[0]]
    else:
        sheet.limits.append("  # stricter: counted what has an amount or needs an approval; add a capability to say so")
    sheet.limits.append(f"  - {flow_map(entry)}")


def _spends(sheet: Sheet, document: Mapping[str, Any], spends: Mapping[str, Any], currency: str) -> None:
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


def on_one_line(text: str) -> str:
    """What may stand in a comment."""
    return " ".join(text.split())


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
