"""A receipt as a person reads it: what was asked, what was decided and why, by whom, when, and where it stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from afmiddleware.cli.common import many
from afmiddleware.grammar.amounts import to_major
from afmiddleware.model.codes import CODES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afmiddleware.receipts.verify import StoredReceipt

_PLACE: Final = ("v", "log", "seq", "ts", "kind", "prev", "owner", "oseq", "oprev", "kid", "c", "clock_back")
_DECIDED: Final = (
    *("id", "capability", "verdict", "code", "rule", "limit", "amount", "currency", "exponent", "route", "tier"),
    *("proof", "mode", "environment", "category", "network", "flags", "charges", "policy"),
)
_ENDED: Final = (
    "id",
    "capability",
    "captured",
    "currency",
    "exponent",
    "overrun",
    "end",
    "settlement",
    "status",
    "ref",
)
_ORDERED: Final = ("id", "value", "override")
_COUNTED: Final = ("id", "since", "until", "counts")
_MICRO: Final = 1_000_000


def lines(stored: StoredReceipt, body: dict[str, Any]) -> Iterator[str]:
    """The lines that show one receipt. Values that callers choose are written so that no terminal obeys them."""
    disclosed = {name: value for name, (_, value) in sorted(stored.receipt.disclosed.items())}
    yield f"receipt {stored.receipt.seq}, {when(body['ts'])}: {shown(body['kind'])}"
    kind = body["kind"]
    known: tuple[str, ...]
    if "verdict" in body:
        told, known = _decision(body, disclosed), _DECIDED
        disclosed = {name: value for name, value in disclosed.items() if name not in _SAID}
    elif kind == "outcome":
        told, known = _outcome(body), _ENDED
    elif kind == "aggregate":
        told, known = _aggregate(body), _COUNTED
    else:
        # Only a cap has a value, and may override the policy's.
        known = _ORDERED if kind == "operation" and body["operation"] != "cap" else ("id",)
        told = [("decision", body.get("id", ""))]
    rest = [(name, value) for name, value in body.items() if name not in (*known, *_PLACE)]
    rest += [(name, value) for name, value in disclosed.items() if value is not None]
    gone = sorted(set(body.get("c", {})) - stored.receipt.disclosed.keys())
    rest += [("redacted", ", ".join(gone)), ("leaf", stored.receipt.leaf.hex())]
    rest += [("owner", f"{body['owner']}, its receipt {body['oseq']}"), ("log", body["log"])]
    if body.get("clock_back"):
        rest.append(("clock", "the host's clock had gone back; this is the last time it had"))
    for name, value in (*told, *rest):
        if value not in ("", [], None):
            yield f"  {name:12} {shown(value)}"


_SAID: Final = ("actor", "recipient", "resource", "credential", "on_behalf_of", "peer")


def _decision(body: dict[str, Any], disclosed: dict[str, str | None]) -> list[tuple[str, object]]:
    code = body["code"]
    why = CODES[code].title if code in CODES else ""
    act = body["capability"]
    if body.get("amount"):
        act += f", {money(body['amount'], body)}"
    for word, name in (("to", "recipient"), ("on", "resource")):
        if disclosed.get(name):
            act += f" {word} {disclosed[name]}"
    who = disclosed.get("actor") or ""
    if disclosed.get("on_behalf_of"):
        who += f" for {disclosed['on_behalf_of']}"
    told: list[tuple[str, object]] = [
        ("verdict", {"allow": "allowed", "refuse": "refused"}.get(body["verdict"], body["verdict"])),
        ("why", f"{why} ({code})" if why else code),
        ("rule", body.get("rule", "")),
        ("limit", body.get("limit", "")),
        ("action", act),
        ("route", body.get("route", "")),
        ("actor", f"{who}, {body['tier']}" if who and body.get("tier") else who),
        ("credential", disclosed.get("credential")),
        ("peer", disclosed.get("peer")),
    ]
    told += [(name, body.get(name, "")) for name in ("category", "network", "proof")]
    told += [("flags", ", ".join(body.get("flags", [])))]
    told += [("charged", "; ".join(_charge(one, body) for one in body.get("charges", [])))]
    if body.get("mode") == "observe":
        told.append(("mode", "observe: nothing was blocked"))
    return [*told, ("environment", body.get("environment", "")), ("policy", body.get("policy", "")), _id(body)]


def _outcome(body: dict[str, Any]) -> list[tuple[str, object]]:
    ended = {"capture": "stays spent", "release": "given back", "unknown": "not known: stays counted"}
    kept = money(body["captured"], body) if body.get("captured") else ""
    over = f", {money(body['overrun'], body)} of it beyond what was reserved" if body.get("overrun") else ""
    settled = body["settlement"]
    return [
        ("ended", f"{body['end']}, status {body['status']}" if body.get("status") else body["end"]),
        ("settled", f"{settled} ({ended[settled]})" if settled in ended else settled),
        ("captured", f"{kept}{over}" if kept else ""),
        ("action", body.get("capability", "")),
        _id(body),
        ("intent", body.get("ref", "")),
    ]


def _aggregate(body: dict[str, Any]) -> list[tuple[str, object]]:
    told: list[tuple[str, object]] = [("from", when(body["since"])), ("until", when(body["until"]))]
    told.append(("refused", sum(one["n"] for one in body["counts"])))
    return told + [("", f"{one['n']:>8}  {one['code']}  {one['route']}") for one in body["counts"]]


def _id(body: dict[str, Any]) -> tuple[str, object]:
    return ("decision", body.get("id", ""))


def _charge(one: dict[str, str], body: dict[str, Any]) -> str:
    return f"{one['limit']} {money(one['n'], body) if one['unit'] == 'spend' else one['n']}"


def about(body: dict[str, Any]) -> str:
    """In a few words what a receipt without a reason code says, for a list."""
    kind = body["kind"]
    if kind == "operation":
        return shown(" ".join(one for one in (body["operation"], body["name"], body["value"]) if one not in ("", "0")))
    if kind == "policy":
        return f"{body['cause']}: {body['policy'][:16]}, {body['mode']}"
    if kind == "aggregate":
        return f"{many(sum(one['n'] for one in body['counts']), 'refusal')} counted"
    if kind == "redaction":
        return shown(f"{', '.join(body['fields'])} of {many(len(body['seqs']), 'receipt')}: {body['reason']}")
    if kind == "rotation":
        return f"{body['new_key'][:16]} signs"
    if kind == "epoch":
        return shown(f"goes on from {body['old_log']} at {body['old_size']}")
    return str(body.get("settlement", ""))


def money(minor: str, body: dict[str, Any]) -> str:
    """An amount in major units, with its currency."""
    return f"{to_major(int(minor), body['exponent'])} {body['currency']}"


def when(at: int) -> str:
    """A time in microseconds since the epoch as RFC 3339 writes it, with all its digits."""
    whole = datetime.fromtimestamp(at // _MICRO, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{at % _MICRO:06}Z"


def shown(value: object) -> str:
    """A value without what a terminal would obey: callers choose some of these texts."""
    text = str(value)
    return text if text.isprintable() else repr(text)
