"""Bindings: which endpoint is which capability, and how its requests become action events."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from afmiddleware.errors import ConfigError, GrammarError, MappingError, MoneyError
from afmiddleware.grammar.capability import check_capability
from afmiddleware.grammar.currencies import ISO_4217
from afmiddleware.grammar.formulas import Formula, formula_of
from afmiddleware.grammar.paths import Source
from afmiddleware.grammar.templates import normal, parameters
from afmiddleware.mapping.amounts import compile_formula
from afmiddleware.mapping.extract import ReadMoney, ReadText, compile_text
from afmiddleware.mapping.forms import URLENCODED
from afmiddleware.model.codes import AMOUNT_UNRESOLVABLE
from afmiddleware.model.money import Money
from afmiddleware.model.outcome import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from afmiddleware.mapping.view import RequestView

T = TypeVar("T")

BODY_CAP: Final = 1024 * 1024
"""The largest body that is read, in bytes, unless the route says otherwise."""

_SETTLEMENTS: Final[Mapping[str, Settlement]] = MappingProxyType(
    {settlement.value: settlement for settlement in Settlement} | {"keep": Settlement.CAPTURE},
)
_IN_BODY: Final = frozenset({"body", "form", "request"})
_ANYTHING: Final = Source("request")
"""What a callable may read."""
_TEXT_FIELDS: Final = ("resource", "recipient", "category", "network")


class Fields(msgspec.Struct, frozen=True, gc=False):
    """What the extractors of a binding found. `None` is a field the binding does not have."""

    amount: Money | None = None
    resource: str | None = None
    recipient: str | None = None
    category: str | None = None
    network: str | None = None


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """One entry under `routes:`, compiled.

    `key` is `POST /v1/bookings/{id}` as the policy spells it. `line` is its line in the policy file, `where` the file
    and line of a declaration in code. `needs_body` says that the body is read, up to `body_cap` bytes, before the
    decision; `needs_payload` that rules read it; `forms` which kinds of form it is, `None` for JSON. With
    `shares_query` a form that comes along is read too, lest it holds what the query holds. `settles` maps the first
    digit of the answer's status to what becomes of the reserved money, where the route departs from the usual. `read`
    raises `MappingError` for values that are missing or not well formed.
    """

    key: str
    capability: str = ""
    public: bool = False
    line: int = 0
    where: str = ""
    needs_body: bool = False
    needs_payload: bool = False
    shares_query: bool = False
    forms: frozenset[str] | None = None
    body_cap: int = BODY_CAP
    settles: Mapping[int, Settlement] | None = None
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
    return bindings


def _compile_route(
    key: str,
    route: RouteSource,
    currency: str,
    exponents: Mapping[str, int],
    reads_payload: Callable[[str], bool],
) -> Binding:
    if route.public:
        return Binding(key=key, public=True, line=route.line, read=_nothing)
    capability = check_capability(route.capability or "")
    sources: list[Source] = []
    amount, used = _amount_reader(getattr(route, "amount", None), getattr(route, "currency", None), currency, exponents)
    sources += used
    texts: list[ReadText | None] = []
    for field in _TEXT_FIELDS:
        value = getattr(route, field, None)
        if callable(value):
            sources.append(_ANYTHING)
            texts.append(_called(value, str))
            continue
        template = _template(value)
        if template is None:
            texts.append(None)
            continue
        read_text, used = compile_text(template)
        sources += used
        texts.append(read_text)
    _check_params(route.template, sources)
    needs_payload = reads_payload(capability)
    kinds = {source.kind for source in sources}
    forms = _forms(getattr(route, "media", None), kinds)
    return Binding(
        key=key,
        capability=capability,
        line=route.line,
        needs_body=needs_payload or not kinds.isdisjoint(_IN_BODY),
        needs_payload=needs_payload,
        shares_query="query" in kinds,
        forms=forms,
        body_cap=getattr(route, "max_body", None) or BODY_CAP,
        settles=_settles(getattr(route, "on_outcome", None)),
        read=_reader(amount, texts),
    )


def _reader(amount: ReadMoney | None, texts: Sequence[ReadText | None]) -> Callable[[RequestView], Fields]:
    resource, recipient, category, network = texts
    if amount is None and not any(texts):
        return _nothing

    def read(view: RequestView) -> Fields:
        return Fields(
            amount(view) if amount else None,
            resource(view) if resource else None,
            recipient(view) if recipient else None,
            category(view) if category else None,
            network(view) if network else None,
        )

    return read


def _nothing(_view: RequestView) -> Fields:
    return _NO_FIELDS


_NO_FIELDS: Final = Fields()


def _amount_reader(
    amount: Any,
    currency: Any,
    default: str,
    exponents: Mapping[str, int],
) -> tuple[ReadMoney | None, tuple[Source, ...]]:
    if amount is None:
        return None, ()
    if callable(amount):
        return _called(amount, Money), (_ANYTHING,)
    if isinstance(amount, (str, Money)):
        price = amount if isinstance(amount, Money) else Money.parse(amount, exponents)
        return (lambda _view: price), ()
    formula = amount if isinstance(amount, Formula) else formula_of(amount)
    code = _source(currency) or default
    if not code and not formula.price and not formula.table:
        msg = "an amount needs a currency: give the route or the file one"
        raise GrammarError(msg)
    return compile_formula(formula, code, exponents)


def _forms(media: Sequence[str] | None, kinds: set[str]) -> frozenset[str] | None:
    """Which kinds of form a route accepts: those it lists, else urlencoded ones where the mapping reads a form."""
    listed = frozenset(media or ()) - {"json"}
    if "form" not in kinds and not listed:
        return None
    if "body" in kinds or "json" in (media or ()):
        msg = "a route reads JSON or a form, not both: use body sources and json, or form sources and a kind of form"
        raise GrammarError(msg)
    return listed or frozenset({URLENCODED})


def _called(function: Callable[[RequestView], Any], kind: type[T]) -> Callable[[RequestView], T]:
    """A callable of the request as an extractor: it gives a value of `kind`, or the request is refused."""

    def read(view: RequestView) -> T:
        found = function(view)
        if not isinstance(found, kind):
            raise MappingError(AMOUNT_UNRESOLVABLE, "an extractor of the service found no value in the request")
        return found

    return read


def _template(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return f"{{{_source(value)}}}"


def _source(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    found = getattr(value, "from_", None)
    return None if found is None else str(found)


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
