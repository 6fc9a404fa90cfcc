"""A first fence.yaml for an application: its routes as they are, closed by default, guesses marked. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from afmiddleware.grammar.capability import MAX_CAPABILITY
from afmiddleware.grammar.templates import normal
from afmiddleware.mapping.coverage import ANY_METHOD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from afmiddleware.mapping.coverage import Endpoint

_VERBS: Final = {
    "GET": "read",
    "QUERY": "read",
    "POST": "create",
    "PUT": "update",
    "PATCH": "update",
    "DELETE": "delete",
}
_PARAMETER = re.compile(r"\{[^{}]*\}|<[^<>]*>|\(\?P<[^()]*\)|[\\^$?+*]")
_VERSION = re.compile(r"v[0-9]+")
_PUBLIC = re.compile(r"/(?:docs|redoc|openapi\.json|docs/oauth2-redirect|static|favicon\.ico|robots\.txt)(?:[/{<].*)?")
_HEALTH = re.compile(r"/(?:health|healthz|healthcheck|livez|readyz|ready|live|ping)/?")
_AMOUNTS: Final = ("amount", "total", "total_amount", "price", "cost", "value", "sum", "payment_amount")
_MINOR: Final = ("amount_cents", "amount_minor", "cents", "price_cents", "total_cents", "amount_in_cents")
_CURRENCIES: Final = ("currency", "currency_code")
_RECIPIENTS: Final = ("recipient", "payee", "to", "to_account", "destination", "beneficiary", "iban")


class Guess(msgspec.Struct, frozen=True):
    """Where a route's money may be: sources such as `body.amount`, empty where nothing looks like it.

    `idempotency` is whether an Idempotency-Key is `optional` or `required`; with `omitted` the application lets the
    currency be left out.
    """

    amount: str = ""
    minor: bool = False
    currency: str = ""
    recipient: str = ""
    idempotency: str = ""
    omitted: bool = False


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the routes: what it is, and what somebody has to look at."""

    route: str
    capability: str = ""
    guess: Guess = Guess()
    note: str = ""


def lines_of(endpoints: Sequence[Endpoint], document: Any) -> list[Line]:
    """The routes of an application, in its own order. `document` is its OpenAPI description, if it has one.

    Left out is what answers by itself (`OPTIONS`, `HEAD`), what code declares, and what cannot be judged.
    """
    found: dict[str, Line] = {}
    for endpoint in endpoints:
        if endpoint.declaration is not None or endpoint.kind not in ("http", "mount"):
            continue
        methods = [endpoint.method] if endpoint.method != ANY_METHOD else ["GET", "POST"]
        if endpoint.kind == "mount":
            methods = ["GET"]
        # Django's have no slash before them.
        spelled = endpoint.template if endpoint.template.startswith("/") else normal(endpoint.template)
        rooted = msgspec.structs.replace(endpoint, template=spelled)
        for method in methods:
            if method in _VERBS:
                line = _line(method, rooted, document)
                found.setdefault(line.route, line)
    return list(found.values())


def compose(  # noqa: PLR0913 (what a policy is made of)
    service: str,
    lines: Sequence[Line],
    *,
    layers: Iterable[str] = (),
    skipped: Iterable[str] = (),
    anonymous_reads: bool = False,
    packs: Sequence[Mapping[str, Sequence[str]]] = (),
) -> str:
    """The text of the policy. `packs` are lines of further rules and limits, by section, as in `PACKS`."""
    money = any(line.guess.amount for line in lines)
    limited = _beginnings(packs, "spends")
    text = [
        "# A first policy: what changes something is closed until you open it. Lines marked REVIEW are guesses.",
        "# Check it with `afmiddleware check --app ...`; try it with `mode: observe`, which blocks nothing.",
        "version: 1",
        f"service: {json.dumps(service)}",
        "mode: enforce",
        "ledger: sqlite:///fence.db",
        *(["currency: USD                      # REVIEW: of amounts that name none"] if money else []),
        "",
        "identity:",
        "  api_keys: {store: ledger}        # make one with: afmiddleware keys new ACCOUNT",
    ]
    if layers := list(layers):
        text += ["", "# REVIEW: these stand between the fence and the handlers; keep those that change no request."]
        text += ["inner_middleware:", *(f"  - {json.dumps(one)}" for one in layers)]
    if lines:
        text += ["", "routes:", *(one for line in lines for one in _entry(line))]
    text += [f"# not here: {one}" for one in skipped]
    text += ["", "rules:                             # deny > require_approval > allow > default deny"]
    rules = _section("deny", [], packs)
    rules += _section("require_approval", [], packs)
    rules += _section("allow", _allowed(lines, _beginnings(packs, "proven"), anonymous_reads=anonymous_reads), packs)
    # A section of comments alone would be no section.
    text += rules if any(not one.lstrip().startswith("#") for one in rules) else ["  deny: []", *rules]
    own = ["    - {name: burst, rate: 60/minute, per: actor}"]
    if any(line.guess.amount and not line.capability.startswith(limited) for line in lines):
        own.append("    - {name: daily, spend: 100 USD, window: day, per: actor}      # REVIEW")
    text += ["", "limits:", *(one[2:] for one in own), *(one[2:] for pack in packs for one in pack.get("limits", ()))]
    return "\n".join(text) + "\n"


def _section(name: str, own: Sequence[str], packs: Sequence[Mapping[str, Sequence[str]]]) -> list[str]:
    entries = [*own, *(one for pack in packs for one in pack.get(name, ()))]
    if not any(not one.lstrip().startswith("#") for one in entries):
        return [f"  # {name}:", *entries] if entries else []
    return [f"  {name}:", *entries]


def _beginnings(packs: Sequence[Mapping[str, Sequence[str]]], of: str) -> tuple[str, ...]:
    return tuple(one for pack in packs for one in pack.get(of, ()))


def _allowed(lines: Sequence[Line], proven: tuple[str, ...], *, anonymous_reads: bool) -> list[str]:
    capabilities = dict.fromkeys(line.capability for line in lines if line.capability)
    money = {line.capability for line in lines if line.guess.amount}
    entries: list[str] = []
    for one in capabilities:
        if one.endswith(".read"):
            demand = "" if anonymous_reads and one not in money else ", identity: token"
            demand = ", identity: verified" if one.startswith(proven) else demand
            entries.append(f"    - {{capability: {one}{demand}}}")
    for one in capabilities:
        if not one.endswith(".read"):
            cap = ", max_amount: 50 USD" if one in money else ""
            entries.append(
                f"    # - {{capability: {one}, identity: verified{cap}}}      # REVIEW: remove the # to open it; "
                "API keys are `token`"
            )
    return entries


def _entry(line: Line) -> list[str]:
    if not line.capability:
        return [f"  - {{route: {json.dumps(line.route)}, public: true}}      # REVIEW: {line.note}"]
    guess = line.guess
    if guess == Guess():
        return [f"  - {{route: {json.dumps(line.route)}, capability: {line.capability}}}"]
    entry = [f"  - route: {json.dumps(line.route)}", f"    capability: {line.capability}"]
    if guess.amount:
        unit = ", unit: minor" if guess.minor else ""
        entry.append(f"    amount: {{from: {guess.amount}{unit}}}      # REVIEW: {_amount_review(line.capability)}")
    if guess.currency:
        why = "a request without it is refused" if guess.omitted else "guessed from its name"
        entry.append(f"    currency: {{from: {guess.currency}}}      # REVIEW: {why}")
    if guess.recipient:
        entry.append(f"    recipient: {{from: {guess.recipient}}}      # REVIEW: guessed from its name")
    if guess.idempotency == "required":
        entry.append("    idempotency: required      # REVIEW: as the description says")
    elif guess.idempotency:
        entry.append("    idempotency: optional      # REVIEW: required, if every caller sends an Idempotency-Key")
    return entry


def _amount_review(capability: str) -> str:
    if "refund" in capability:
        return "counts as spent; for a refund add refunds: {of: ...}, where the reference of the earlier action is"
    return "guessed from its name"


def _line(method: str, endpoint: Endpoint, document: Any) -> Line:
    route = f"{method} {endpoint.template}"
    if method == "GET" and _HEALTH.fullmatch(endpoint.template):
        return Line(route=route, note="looks like a health check")
    if method == "GET" and _PUBLIC.fullmatch(endpoint.template):
        return Line(route=route, note="documentation or static files")
    return Line(
        route=route, capability=_capability(method, endpoint.template), guess=_guess(method, endpoint, document)
    )


def _capability(method: str, template: str) -> str:
    """`POST /v1/bookings/{id}/cancel` is `bookings.cancel.create`."""
    words = [re.sub(r"[^a-z0-9]+", "_", one.lower()).strip("_") for one in _PARAMETER.sub("", template).split("/")]
    words = [one for one in words if one and not _VERSION.fullmatch(one) and one != "api"]
    verb = _VERBS[method]
    return ".".join([*words, verb])[-MAX_CAPABILITY:].lstrip("._") if words else f"root.{verb}"


def _guess(method: str, endpoint: Endpoint, document: Any) -> Guess:
    """Where an OpenAPI description (3.x) says that money comes in."""
    operation = _at(document, "paths", _PARAMETERS_OF.sub(r"{\1}", endpoint.template), method.lower())
    schema = _schema(document, _at(operation, "requestBody", "content", "application/json", "schema"))
    required = schema.get("required", ()) if isinstance(schema, Mapping) else ()
    named = {f"body.{name}": str(name) for name in _at(schema, "properties") or ()}
    fields = {source: name for source, name in named.items() if name in required}
    keyed = ""
    for parameter in _at(operation, "parameters") or ():
        place, name = (_at(parameter, "in"), str(_at(parameter, "name")))
        needed = bool(_at(parameter, "required"))
        if place == "query":
            named.setdefault(f"query.{name}", name)
        if place == "query" and needed:
            fields.setdefault(f"query.{name}", name)
        elif place == "header" and name.lower() == "idempotency-key":
            keyed = "required" if needed else "optional"
    if method in {"GET", "QUERY"}:
        # What is read costs nothing, whatever its filters are called.
        return Guess()
    minor = _first(fields, _MINOR)
    amount = minor or _first(fields, _AMOUNTS)
    # One that may be left out is read all the same: what says EUR must not be counted as USD.
    currency = _first(named, _CURRENCIES) if amount else ""
    return Guess(
        amount=amount,
        minor=bool(minor),
        currency=currency,
        omitted=bool(currency) and currency not in fields,
        recipient=_first(fields, _RECIPIENTS),
        idempotency=keyed or ("optional" if amount else ""),
    )


_PARAMETERS_OF = re.compile(r"\{([A-Za-z_]\w*):[^{}]*\}")


def _first(fields: Mapping[str, str], names: Sequence[str]) -> str:
    for name in names:
        for source, known in fields.items():
            if known.lower() == name:
                return source
    return ""


def _schema(document: Any, schema: Any) -> Any:
    """A schema with its reference followed; what is made of several others is not guessed at."""
    reference = schema.get("$ref") if isinstance(schema, Mapping) else None
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return schema
    return _at(document, *reference[2:].split("/"))


def _at(value: Any, *path: str) -> Any:
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value
