"""What is wrong with a route whose body holds calls, and with `settle:`, as far as no single value can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from afmiddleware.config.conditions import money_fault
from afmiddleware.config.mapping_checks import FIELDS, amount_faults, names_its_currency, sources_in
from afmiddleware.errors import GrammarError
from afmiddleware.grammar.capability import check_segment
from afmiddleware.grammar.quoting import cut, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from afmiddleware.config.mapping_checks import Fault

_ELSEWHERE: Final = (*FIELDS, "media", "settle", "reference", "refunds")
_HOLDERS: Final = {"jsonrpc": "{method}", "mcp": "{tool}"}
_METHOD_KINDS: Final = ("params", "query", "path", "header", "cookie")
_TOOL_KINDS: Final = ("arguments", "query", "path", "header", "cookie")


def protocol_faults(route: Mapping[str, Any], exponents: Mapping[str, int]) -> Iterator[Fault]:
    """What is wrong with a route, each with its path inside the route."""
    protocol, capability = route.get("protocol"), route.get("capability")
    template = capability if isinstance(capability, str) else ""
    if protocol is None:
        yield from _plain_faults(route, template)
    elif isinstance(protocol, str) and protocol in _HOLDERS:
        yield from _own_faults(route, protocol, template)
        named = protocol == "jsonrpc" and "{method}" in template
        yield from _calls(route, "methods", _METHOD_KINDS, exponents, made=named)
        yield from _calls(route, "tools", _TOOL_KINDS, exponents, made="{tool}" in template)
        for name, entry in _entries(route, "methods") if "{tool}" in template else ():
            if "capability" not in entry:
                yield ("methods", name), "this method needs a capability; the route's is made of the name of a tool"


def _plain_faults(route: Mapping[str, Any], template: str) -> Iterator[Fault]:
    for name in ("methods", "tools", "max_batch"):
        if name in route:
            yield (name,), f"{name} belongs to a route with a protocol; add protocol: jsonrpc or mcp, or remove it"
    if "{" in template:
        yield ("capability",), "a placeholder belongs to a route with a protocol; add protocol: jsonrpc or mcp"
    yield from settle_faults(route, "response.body")


def _own_faults(route: Mapping[str, Any], protocol: str, template: str) -> Iterator[Fault]:
    if not str(route.get("route", "")).startswith("POST "):
        yield ("route",), f"calls of {protocol} come in the body of a POST; write POST"
    if "idempotency" in route:
        yield ("idempotency",), "an Idempotency-Key is not read where a body holds calls; remove idempotency"
    for name in _ELSEWHERE:
        if name in route:
            if name in ("reference", "refunds"):
                yield (name,), f"{name} is not read where a body holds calls; remove it"
                continue
            where = "methods" if protocol == "jsonrpc" else "tools"
            yield (name,), f"{name} is that of a call here; write it under {where}, or remove it"
    if protocol == "jsonrpc" and "tools" in route:
        yield ("tools",), "tools belong to protocol: mcp; write methods"
    for holder in _HOLDERS.values():
        if holder in template and holder != _HOLDERS[protocol]:
            yield ("capability",), f"{holder} is not known to {protocol}; write {_HOLDERS[protocol]}"


def settle_faults(entry: Mapping[str, Any], kind: str) -> Iterator[Fault]:
    """What is wrong with the `settle:` of an entry whose answer is read as `kind`."""
    settle = entry.get("settle")
    if not isinstance(settle, dict):
        return
    if "amount" not in entry and "refunds" not in entry:
        yield ("settle",), "there is no amount to settle; add amount, or remove settle"
    currency = settle.get("currency")
    named = currency.get("from") if isinstance(currency, dict) else None
    for path, text in ((("settle", "from"), settle.get("from")), (("settle", "currency", "from"), named)):
        if isinstance(text, str) and text.startswith(("response.body", "result")):
            if not text.startswith(kind):
                yield path, f"the answer is read as {kind} here; write {kind}.<path>"
            elif "[*]" in text:
                yield path, f"{cut(text)} names every place of a list, which is no amount; name one place"


def _calls(
    route: Mapping[str, Any],
    key: str,
    kinds: tuple[str, ...],
    exponents: Mapping[str, int],
    *,
    made: bool,
) -> Iterator[Fault]:
    """The faults of the entries under `methods` or `tools`; `made` when their names make capabilities."""
    for name, entry in _entries(route, key):
        here = (key, name)
        if made and "capability" not in entry and not _is_segment(name):
            yield here, f"{quoted(name)} is not one segment of a capability; give this one a capability of its own"
        amount = entry.get("amount")
        if (
            isinstance(amount, str)
            and amount.strip()
            and amount.isprintable()
            and (wrong := money_fault(amount, exponents))
        ):
            yield (*here, "amount"), wrong
        if isinstance(amount, dict):
            for path, text in amount_faults(amount, exponents, kinds):
                yield (*here, "amount", *path), text
        if "currency" in entry and (amount is None or names_its_currency(amount)):
            yield (*here, "currency"), "a currency belongs to an amount that is read; add one, or remove it"
        for field in FIELDS:
            yield from (
                ((*here, field, *path), text) for path, text in _foreign(entry.get(field), kinds) if field != "currency"
            )
        yield from (((*here, *path), text) for path, text in settle_faults(entry, "result"))


def _foreign(value: Any, kinds: tuple[str, ...]) -> Iterator[Fault]:
    """Sources of a kind that such a call has not."""
    for path, source in sources_in(value, ("params", "arguments")):
        if source.kind not in kinds:
            yield path, f"{source.label} is not there; write {kinds[0]}.<path>"


def _entries(route: Mapping[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    found = route.get(key)
    for name, entry in found.items() if isinstance(found, dict) else ():
        if isinstance(entry, dict):
            yield name, entry


def _is_segment(name: str) -> bool:
    try:
        check_segment(name)
    except GrammarError:
        return False
    return True
