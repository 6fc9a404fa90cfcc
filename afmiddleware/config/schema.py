"""What fence.yaml may say. Field names are the file's own; every scalar arrives as text and is typed here.

A validator's `ValueError` is the sentence that the author of the file reads, so it says what was expected.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from afmiddleware.grammar.capability import check_capability, check_pattern
from afmiddleware.grammar.durations import parse_duration, parse_rate
from afmiddleware.grammar.paths import parse_source, parse_template
from afmiddleware.model.tier import Tier

NOT_SUPPORTED: Final = "is not supported yet by this version"
_ALGORITHMS: Final = {"RS256": "RS", "RS384": "RS", "RS512": "RS", "PS256": "RS", "PS384": "RS", "PS512": "RS", "ES256": "EC"}
_ALGORITHMS.update({"ES384": "EC", "EdDSA": "EdDSA"})
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "WEBSOCKET")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_ROUTE = re.compile(r"([A-Z]+) (/\S*)")
_ASSET = re.compile(r"[A-Z0-9.]{2,12}", re.ASCII)

T = TypeVar("T")


class Model(BaseModel):
    """The base of everything in the file: unknown keys are errors, and nothing changes once read."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False, arbitrary_types_allowed=True)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        msg = "a text is expected here, not " + _kind(value)
        raise ValueError(msg)  # noqa: TRY004 (pydantic collects ValueError)
    return value


def _kind(value: Any) -> str:
    return {dict: "a map", list: "a list", type(None): "nothing"}.get(type(value), "this")


def _items(value: Any) -> Any:
    if not isinstance(value, list):
        msg = "a list is expected here, not " + (f"the text {value!r}" if isinstance(value, str) else _kind(value))
        raise ValueError(msg)  # noqa: TRY004
    return value


def _checked(check: Any) -> AfterValidator:
    """A validator from a function that raises `ValueError` (as `GrammarError` is) or returns something else."""

    def run(value: T) -> T:
        check(value)
        return value

    return AfterValidator(run)


def _boolean(value: Any) -> bool:
    if value in (True, "true"):
        return True
    if value in (False, "false"):
        return False
    msg = "write true or false"
    raise ValueError(msg)


def _whole(value: Any) -> int:
    text = _text(value)
    if not re.fullmatch(r"0|[1-9][0-9]{0,11}", text):
        msg = f"{text[:40]!r} is not a whole number"
        raise ValueError(msg)
    return int(text)


Text = Annotated[str, BeforeValidator(_text)]
Boolean = Annotated[bool, BeforeValidator(_boolean)]
Whole = Annotated[int, BeforeValidator(_whole)]


def _one_of(*words: str, later: tuple[str, ...] = ()) -> AfterValidator:
    def check(value: str) -> None:
        if value in later:
            msg = f"{value} {NOT_SUPPORTED}"
            raise ValueError(msg)
        if value not in words:
            msg = f"{value[:40]!r} is not known here: use {', '.join(words)}"
            raise ValueError(msg)

    return _checked(check)


def _name(value: str) -> None:
    if _NAME.fullmatch(value) is None:
        msg = f"{value[:40]!r} is not a name: a-z, 0-9, - and _, at most 64 characters"
        raise ValueError(msg)


def _header(value: str) -> None:
    if _HEADER.fullmatch(value) is None:
        msg = f"{value[:40]!r} is not a header name"
        raise ValueError(msg)


def _url(value: str) -> None:
    parts = urlsplit(value)
    secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not secure or not parts.hostname or parts.username is not None or parts.fragment:
        msg = f"{value[:80]!r} is not an https URL (plain http is for loopback only)"
        raise ValueError(msg)


def _zone(value: str) -> None:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        msg = f"{value[:40]!r} is not an IANA time zone such as Europe/Amsterdam"
        raise ValueError(msg) from None


def _duration(value: Any) -> int:
    return value if isinstance(value, int) else parse_duration(_text(value))


Seconds = Annotated[int, BeforeValidator(_duration), Field(json_schema_extra={"type": "string", "examples": ["10s"]})]


class Asset(Model):
    """A currency beyond ISO 4217."""

    exponent: Annotated[Whole, Field(le=18)]


class ApiKeys(Model):
    """API keys are accepted, and kept in the ledger."""

    store: Annotated[Text, _one_of("ledger")] = "ledger"
    header: Annotated[Text, _checked(_header)] = "X-API-Key"


class Issuer(Model):
    """An issuer of JSON Web Tokens, and where its keys are."""

    issuer: Annotated[Text, _checked(_url)]
    audience: Annotated[Text, Field(min_length=1)]
    algorithms: Annotated[tuple[Annotated[Text, _one_of(*_ALGORITHMS)], ...], BeforeValidator(_items), Field(min_length=1)]
    jwks: dict[str, Any] | None = None
    jwks_file: Text | None = None
    jwks_uri: Annotated[Text, _checked(_url)] | None = None
    discovery: Annotated[Text, _one_of("oidc", "rfc8414")] | None = None
    typ: Annotated[tuple[Text, ...], BeforeValidator(_items)] = ()
    require: Annotated[tuple[Text, ...], BeforeValidator(_items)] = ("exp", "iat", "iss", "aud", "sub")
    leeway_s: Annotated[Whole, Field(le=300)] = 10
    max_lifetime_s: Annotated[Whole, Field(ge=1)] = 86400
    allow_private: Boolean = False

    def problem(self) -> str:
        """What is wrong with the issuer as a whole; empty when nothing is."""
        sources = [name for name in ("jwks", "jwks_file", "jwks_uri", "discovery") if getattr(self, name) is not None]
        if len(sources) != 1:
            found = f"it has {' and '.join(sources)}" if sources else "it has none"
            return f"an issuer has one source of keys, jwks, jwks_file, jwks_uri or discovery: {found}"
        if len({_ALGORITHMS[name] for name in self.algorithms}) > 1:
            return "algorithms of one issuer are of one family: RS and PS, ES, or EdDSA"
        return ""


class Jwt(Model):
    """JSON Web Tokens are accepted."""

    issuers: Annotated[tuple[Issuer, ...], BeforeValidator(_items), Field(min_length=1)]


class Proxy(Model):
    """Who says where a request comes from."""

    mode: Annotated[Text, _one_of("direct", later=("server", "trusted"))] = "direct"


class Identity(Model):
    """How callers prove who they are. Nothing here means that every caller is anonymous."""

    api_keys: ApiKeys | None = None
    jwt: Jwt | None = None
    proxy: Proxy = Proxy()


class From(Model):
    """A value taken from the request."""

    from_: Annotated[Text, _checked(parse_source), Field(alias="from")]


class AmountFrom(From):
    """An amount taken from the request, in major units (12.50) or minor ones (1250)."""

    unit: Annotated[Text, _one_of("major", "minor")] = "major"


def _shape(value: Any) -> str:
    return "map" if isinstance(value, dict) else "text"


def _template(value: str) -> None:
    parse_template(value)


Amount = Annotated[Annotated[Text, Tag("text")] | Annotated[AmountFrom, Tag("map")], Discriminator(_shape)]
Value = Annotated[
    Annotated[Text, _checked(_template), Tag("text")] | Annotated[From, Tag("map")],
    Discriminator(_shape),
]


def _on_outcome(value: Any) -> Any:
    if value == "keep":
        return {"4xx": "keep", "5xx": "keep"}
    if not isinstance(value, dict):
        msg = "write keep, or a map such as {4xx: release, 5xx: unknown}"
        raise ValueError(msg)  # noqa: TRY004
    for status, what in value.items():
        if status not in ("2xx", "3xx", "4xx", "5xx"):
            msg = f"{status!r} is not a class of statuses: use 2xx, 3xx, 4xx or 5xx"
            raise ValueError(msg)
        if what not in ("capture", "release", "unknown", "keep"):
            msg = f"{what!r} is not known here: use capture, release, unknown or keep"
            raise ValueError(msg)
    return value


def _route(value: str) -> None:
    match = _ROUTE.fullmatch(value)
    if match is None or match.group(1) not in _METHODS:
        msg = f"{value[:80]!r} is not a route: a method and the framework's template, such as POST /v1/bookings/{{id}}"
        raise ValueError(msg)


class Route(Model):
    """One endpoint, and what capability a request to it is."""

    line: Annotated[int, Field(exclude=True)] = 0
    route: Annotated[Text, _checked(_route)]
    public: Boolean = False
    capability: Annotated[Text, _checked(check_capability)] | None = None
    resource: Value | None = None
    amount: Amount | None = None
    currency: Value | None = None
    recipient: Value | None = None
    category: Value | None = None
    network: Value | None = None
    on_outcome: Annotated[dict[str, str], BeforeValidator(_on_outcome)] | None = None

    @property
    def method(self) -> str:
        """The method, in capitals."""
        return self.route.partition(" ")[0]

    @property
    def template(self) -> str:
        """The template, as the framework spells it."""
        return self.route.partition(" ")[2]

    def problem(self) -> str:
        """What is wrong with the route as a whole; empty when nothing is."""
        if self.public == (self.capability is not None):
            return "a route is either public: true or has a capability"
        if self.method == "WEBSOCKET" and not self.public:
            return "a WebSocket can only be public: its messages are not judged"
        read = [name for name in ("resource", "amount", "currency", "recipient", "category", "network")]
        if self.public and any(getattr(self, name) is not None for name in read):
            return "a public route is not judged, so it reads no amount, resource or the like"
        return ""


_FIELDS: Final = (
    "amount", "currency", "resource", "recipient", "network", "category", "environment", "method", "route", "actor.id",
    "actor.tier", "actor.scopes", "actor.depth",
)  # fmt: skip
_LATER_FIELDS: Final = ("time", "risk", "actor.tenant", "actor.roles")
_OPERATORS: Final = (
    "eq", "ne", "in", "not_in", "gt", "gte", "lt", "lte", "contains", "starts_with", "ends_with", "under", "exists",
)  # fmt: skip


def _when(value: Any) -> Any:
    """Conditions as a list of maps of field to operators; a bare value is `eq`."""
    alternatives = [value] if isinstance(value, dict) else value
    if not isinstance(alternatives, list) or not alternatives or not all(isinstance(one, dict) for one in alternatives):
        msg = "write a map of fields, or a list of such maps (or)"
        raise ValueError(msg)
    return [{field: _test(field, test) for field, test in one.items()} for one in alternatives]


def _test(field: str, test: Any) -> Any:
    if field in _LATER_FIELDS:
        msg = f"the field {field} {NOT_SUPPORTED}"
        raise ValueError(msg)
    if field not in _FIELDS and not field.startswith("payload."):
        msg = f"{field!r} is not a field of conditions: use {', '.join(_FIELDS)} or payload.<path>"
        raise ValueError(msg)
    if not isinstance(test, dict):
        return {"eq": _text(test)}
    for operator, literal in test.items():
        if operator == "matches":
            msg = f"the operator matches {NOT_SUPPORTED}"
            raise ValueError(msg)
        if operator not in _OPERATORS:
            msg = f"{operator!r} is not an operator: use {', '.join(_OPERATORS)}"
            raise ValueError(msg)
        if operator in ("in", "not_in") and any(str(one).startswith("$") for one in _items(literal)):
            msg = f"a list by name ($...) {NOT_SUPPORTED}; write its values"
            raise ValueError(msg)
    return test


def _rule(value: Any) -> Any:
    return {"capability": value} if isinstance(value, str) else value


class Rule(Model):
    """A deny rule."""

    line: Annotated[int, Field(exclude=True)] = 0
    id: Annotated[Text, Field(min_length=1, max_length=64)] = ""
    capability: Annotated[Text, _checked(check_pattern)]
    when: Annotated[list[dict[str, dict[str, Any]]], BeforeValidator(_when)] | None = None
    reason: Annotated[Text, Field(max_length=300)] | None = None


class AllowRule(Rule):
    """An allow rule, with what it demands."""

    identity: Annotated[Text, _checked(Tier.parse)] | None = None
    scopes: Annotated[tuple[Text, ...], BeforeValidator(_items), Field(min_length=1)] | None = None
    max_amount: Text | None = None


_Deny = Annotated[Rule, BeforeValidator(_rule)]
_Allow = Annotated[AllowRule, BeforeValidator(_rule)]


class Rules(Model):
    """What is denied and what is allowed; a deny wins, and what no rule allows is denied."""

    deny: Annotated[tuple[_Deny, ...], BeforeValidator(_items)] = ()
    allow: Annotated[tuple[_Allow, ...], BeforeValidator(_items)] = ()


_WINDOWS_LATER: Final = ("minute", "hour", "week", "month", "year", "session")


def _window(value: str) -> None:
    if value in _WINDOWS_LATER:
        msg = f"window: {value} {NOT_SUPPORTED}"
        raise ValueError(msg)
    if value in ("day", "total"):
        return
    word, _, length = value.partition(" ")
    if word != "rolling":
        msg = f"{value[:40]!r} is not a window: use day, total or rolling 60m"
        raise ValueError(msg)
    parse_duration(length)


_PER_LATER: Final = ("principal", "tenant", "session", "address", "recipient", "category", "network", "capability")


class LimitEntry(Model):
    """How often, or how much, in which window, for whom."""

    line: Annotated[int, Field(exclude=True)] = 0
    name: Annotated[Text, _checked(_name)]
    rate: Annotated[Text, _checked(parse_rate)] | None = None
    spend: Text | None = None
    window: Annotated[Text, _checked(_window)] | None = None
    per: Annotated[Text, _one_of("actor", "global", later=_PER_LATER)] = "actor"
    capability: Annotated[Text, _checked(check_pattern)] | None = None

    def problem(self) -> str:
        """What is wrong with the limit as a whole; empty when nothing is."""
        if (self.rate is None) == (self.spend is None):
            return "a limit has either a rate or a spend"
        if self.rate is not None and self.window is not None:
            return "a rate names its own window, such as 30/minute; leave window out"
        if self.spend is not None and self.window is None:
            return "a spend needs a window: day, total or rolling 60m"
        return ""


class KeyFile(Model):
    """A secret in a file."""

    file: Annotated[Text, Field(min_length=1)]


class AnchorEntry(Model):
    """Where the mark of the log is kept, and how often it is written."""

    file: Annotated[Text, Field(min_length=1)]
    every: Seconds = 10


class Receipts(Model):
    """What receipts keep of a request, and what they are authenticated with."""

    payload: Annotated[Text, _one_of("none", "hash", "fields", later=("full",))] = "fields"
    mac_key: KeyFile | None = None
    anchor: AnchorEntry | None = None


def _ledger(value: str) -> None:
    if value.startswith("postgresql://"):
        msg = f"a PostgreSQL ledger {NOT_SUPPORTED}"
        raise ValueError(msg)
    if value not in ("memory", "memory:") and not (value.startswith("sqlite:///") and len(value) > len("sqlite:///")):
        msg = f"{value[:60]!r} is not a ledger: use memory or sqlite:///path/to/fence.db"
        raise ValueError(msg)


def _currency(value: str) -> None:
    if _ASSET.fullmatch(value) is None:
        msg = f"{value[:20]!r} is not a currency code"
        raise ValueError(msg)


class Config(Model):
    """A whole policy file. `digest` is the hex SHA-256 of its text, `source` its name."""

    digest: Annotated[str, Field(exclude=True)] = ""
    source: Annotated[str, Field(exclude=True)] = ""
    version: Annotated[Text, _one_of("1")]
    service: Annotated[Text, Field(min_length=1)]
    environment: Text = ""
    timezone: Annotated[Text, _checked(_zone)] = "UTC"
    currency: Annotated[Text, _checked(_currency)] = "USD"
    mode: Annotated[Text, _one_of("enforce", "observe")] = "enforce"
    assets: dict[str, Asset] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    ledger: Annotated[Text, _checked(_ledger)] = "sqlite:///fence.db"
    identity: Identity = Identity()
    routes: Annotated[tuple[Route, ...], BeforeValidator(_items)] = ()
    unmapped: Annotated[Text, _one_of("deny", later=("allow", "observe"))] = "deny"
    inner_middleware: Annotated[tuple[Text, ...], BeforeValidator(_items)] = ()
    rules: Rules = Rules()
    limits: Annotated[tuple[LimitEntry, ...], BeforeValidator(_items)] = ()
    receipts: Receipts = Receipts()

    @property
    def exponents(self) -> dict[str, int]:
        """The currencies beyond ISO 4217, with the digits of their minor units."""
        return {name: asset.exponent for name, asset in self.assets.items()}


