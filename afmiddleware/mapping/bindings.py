"""Bindings: which endpoint is which capability, and how its requests become action events."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from afmiddleware.errors import ConfigError, GrammarError, MoneyError
from afmiddleware.grammar.capability import check_capability
from afmiddleware.grammar.currencies import ISO_4217
from afmiddleware.grammar.templates import normal, parameters
from afmiddleware.mapping.fields import compile_fields, extractors, no_fields
from afmiddleware.mapping.forms import URLENCODED
from afmiddleware.mapping.protocols import MCP, compile_protocol
from afmiddleware.mapping.references import ReadReference, compile_reference
from afmiddleware.mapping.settle import ReadSettle, compile_settle
from afmiddleware.model.entry import Keep
from afmiddleware.model.money import Money, exponent_of
from afmiddleware.model.outcome import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from afmiddleware.grammar.paths import Source
    from afmiddleware.mapping.fields import Extractor, Fields
    from afmiddleware.mapping.protocols import Protocol as CallProtocol
    from afmiddleware.mapping.view import RequestView

BODY_CAP: Final = 1024 * 1024
"""The largest body that is read, in bytes, unless the route says otherwise."""

_SETTLEMENTS: Final[Mapping[str, Settlement]] = MappingProxyType(
    {settlement.value: settlement for settlement in Settlement} | {"keep": Settlement.CAPTURE},
)
_IN_BODY: Final = frozenset({"body", "form"})


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """One entry under `routes:`, compiled.

    `key` is `POST /v1/bookings/{id}` as the policy spells it. `line` is its line in the policy file, `where` the file
    and line of a declaration in code. `needs_body` says that the body is read, up to `body_cap` bytes, before the
    decision; `needs_payload` that rules read it; `forms` which kinds of form it is, `None` for JSON. With
    `shares_query` a form that comes along is read too, lest it holds what the query holds. `settles` maps the first
    digit of the answer's status to what becomes of the reserved money, where the route departs from the usual; `settle`
    reads from the answer what was really spent; `idempotency` is `optional` or
    `required` where an Idempotency-Key is read; `on_unknown` and `on_expiry` say how long money stays counted that
    nobody settles. `refunds` is zero in the currency of what the route gives back of an
    earlier action, `None` where it gives back nothing; `reference` reads from the answer what a later refund calls the
    action by. `read` raises `MappingError` for values that are missing or not well formed; `extractors` are the
    fields that functions of the service are asked for. With a `protocol` the body holds calls, each an action of its
    own. `applies_to` says who is judged at all (`identity.agents`). `implied` marks what belongs to another binding and
    need not be there; `spends` what has an amount. `sources` are the places that the fields are read from.
    """

    key: str
    capability: str = ""
    risk: str | None = None
    public: bool = False
    line: int = 0
    where: str = ""
    needs_body: bool = False
    needs_payload: bool = False
    shares_query: bool = False
    forms: frozenset[str] | None = None
    body_cap: int = BODY_CAP
    settles: Mapping[int, Settlement] | None = None
    settle: ReadSettle | None = None
    idempotency: str = ""
    on_unknown: Keep | None = None
    on_expiry: Keep | None = None
    extractors: tuple[tuple[str, Extractor], ...] = ()
    protocol: CallProtocol | None = None
    refunds: Money | None = None
    reference: ReadReference | None = None
    applies_to: str = "all"
    implied: bool = False
    spends: bool = False
    sources: tuple[Source, ...] = ()
    read: Callable[[RequestView], Fields]


class RouteSource(Protocol):
    """What a binding is compiled from: an entry under `routes` of the configuration."""

    @property
    def method(self) -> str: ...
    @property
    def template(self) -> str: ...
    @property
    def public(self) -> bool: ...
    @property
    def capability(self) -> str | None: ...
    @property
    def line(self) -> int: ...


class RoutesSource(Protocol):
    """What all bindings are compiled from."""

    @property
    def routes(self) -> Sequence[RouteSource]: ...
    @property
    def currency(self) -> str | None: ...
    @property
    def assets(self) -> Mapping[str, int]: ...


def compile_bindings(config: RoutesSource, reads_payload: Callable[[str], bool]) -> dict[str, Binding]:
    """Compile the routes of a configuration to bindings by the normal form of their key (`grammar.templates`).

    `reads_payload` tells whether a rule condition that can apply to a capability reads the body
    (`Policy.reads_payload`). Raises `ConfigError` with every problem at once.
    """
    exponents = {**ISO_4217, **config.assets}
    bindings: dict[str, Binding] = {}
    problems: list[str] = []
    for route in config.routes:
        key = f"{route.method} {route.template}"
        try:
            binding = _compile_route(key, route, config.currency or "", exponents, reads_payload)
        except (GrammarError, MoneyError) as error:
            problems.append(f"line {route.line}: route {key}: {error}")
        else:
            first = bindings.setdefault(f"{route.method} {normal(route.template)}", binding)
            if first is not binding:
                problems.append(f"line {route.line}: route {key}: the endpoint is bound already at line {first.line}")
    if problems:
        raise ConfigError(problems)
    for key, binding in [*bindings.items()]:
        if binding.protocol is not None and binding.protocol.kind == MCP:
            # Part of the transport: the stream of the server's messages, and the end of a session. No call is in them.
            for method in ("GET", "DELETE"):
                template = key.partition(" ")[2]
                side = msgspec.structs.replace(binding, key=f"{method} {template}", needs_body=False, implied=True)
                bindings.setdefault(side.key, side)
    return bindings


def _compile_route(
    key: str,
    route: RouteSource,
    currency: str,
    exponents: Mapping[str, int],
    reads_payload: Callable[[str], bool],
) -> Binding:
    if route.public:
        return Binding(key=key, public=True, line=route.line, read=no_fields)
    settles = _settles(getattr(route, "on_outcome", None))
    applies_to = getattr(route, "applies_to", None) or "all"
    body_cap = getattr(route, "max_body", None) or BODY_CAP
    if getattr(route, "protocol", None):
        protocol, sources = compile_protocol(route, currency, exponents, reads_payload, _settles)
        _check_params(route.template, sources)
        return Binding(
            key=key,
            capability=route.capability or "",
            risk=getattr(route, "risk", None),
            line=route.line,
            needs_body=True,
            body_cap=body_cap,
            settles=settles,
            on_unknown=_keep(getattr(route, "on_unknown", None)),
            on_expiry=_keep(getattr(route, "on_expiry", None)),
            protocol=protocol,
            applies_to=applies_to,
            spends=True,
            read=no_fields,
        )
    capability = check_capability(route.capability or "")
    read, sources = compile_fields(route, currency, exponents)
    asked = extractors(route)
    _check_params(route.template, sources)
    needs_payload = reads_payload(capability)
    kinds = {source.kind for source in sources}
    forms = _forms(getattr(route, "media", None), kinds)
    return Binding(
        key=key,
        capability=capability,
        risk=getattr(route, "risk", None),
        line=route.line,
        needs_body=needs_payload or bool(asked) or not kinds.isdisjoint(_IN_BODY),
        needs_payload=needs_payload,
        shares_query="query" in kinds,
        forms=forms,
        body_cap=body_cap,
        settles=settles,
        settle=compile_settle(getattr(route, "settle", None), "response.body"),
        idempotency=getattr(route, "idempotency", None) or "",
        on_unknown=_keep(getattr(route, "on_unknown", None)),
        on_expiry=_keep(getattr(route, "on_expiry", None)),
        refunds=_refunds(route, currency, exponents),
        reference=compile_reference(getattr(route, "reference", None)),
        extractors=asked,
        applies_to=applies_to,
        spends=getattr(route, "amount", None) is not None or any(field == "amount" for field, _ in asked),
        sources=(*sources,),
        read=read,
    )


def _forms(media: Sequence[str] | None, kinds: set[str]) -> frozenset[str] | None:
    """Which kinds of form a route accepts: those it lists, else urlencoded ones where the mapping reads a form."""
    listed = frozenset(media or ()) - {"json"}
    if "form" not in kinds and not listed:
        return None
    if "body" in kinds or "json" in (media or ()):
        msg = "a route reads JSON or a form, not both: use body sources and json, or form sources and a kind of form"
        raise GrammarError(msg)
    return listed or frozenset({URLENCODED})


def _keep(value: Any) -> Keep | None:
    return Keep(value.keep_for * 1_000_000, value.then) if value is not None else None


def _refunds(route: RouteSource, default: str, exponents: Mapping[str, int]) -> Money | None:
    """Nothing, in the currency that a refund is in where its request names no amount."""
    if getattr(route, "refunds", None) is None:
        return None
    given = getattr(route, "currency", None)
    currency = given if isinstance(given, str) else default
    return Money(0, currency, exponent_of(currency, exponents))


def _settles(value: Any) -> Mapping[int, Settlement] | None:
    if not value:
        return None
    chosen = dict.fromkeys(range(1, 6), "keep") if value == "keep" else value
    try:
        return MappingProxyType({int(str(status)[0]): _SETTLEMENTS[str(what)] for status, what in chosen.items()})
    except (KeyError, ValueError):
        msg = f"on_outcome maps 2xx, 3xx, 4xx and 5xx to {', '.join(_SETTLEMENTS)}"
        raise GrammarError(msg) from None


def _check_params(template: str, sources: Sequence[Source]) -> None:
    known = parameters(template)
    for source in sources:
        if source.kind == "path" and source.name not in known:
            msg = f"{source.label} names no parameter of {template}"
            raise GrammarError(msg)
