"""What fence.yaml may say. Field names are the file's own; every scalar arrives as text and is typed here.

What only the whole file can tell (names that stand twice, currencies, keys that exclude each other) is in `checks.py`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from afmiddleware.config.identity_schema import Identity
from afmiddleware.config.ledger_url import check_ledger, check_rates
from afmiddleware.config.mapped import (
    Amount,
    CallEntry,
    Code,
    Line,
    Model,
    OnOutcome,
    Price,
    ReferenceEntry,
    RefundsEntry,
    Settle,
    Value,
    check_route_capability,
    shape_of,
)
from afmiddleware.config.policy_schema import (
    MODES,
    ActorEntry,
    ListEntry,
    Rules,
    ScheduleEntry,
    check_actor,
    list_entry,
    observing,
)
from afmiddleware.config.receipts_schema import Receipts
from afmiddleware.config.texts import (
    SOME,
    Boolean,
    Checked,
    Seconds,
    Text,
    Whole,
    Word,
    check_currency,
    check_name,
    check_prefix,
    check_route,
    check_window,
    check_zone,
    list_of,
    one_of,
    some_of,
    text_of,
)
from afmiddleware.grammar.capability import check_pattern
from afmiddleware.grammar.durations import parse_rate
from afmiddleware.grammar.quoting import cut, quoted
from afmiddleware.model.limit import KEYS
from afmiddleware.model.risk import RISKS

MEDIA: Final = ("json", "urlencoded", "multipart")
MAX_BODY: Final = 64 * 1024 * 1024
WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_MAC_SECRET = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


class Asset(Model):
    """A currency beyond ISO 4217. `exponent` is how many digits its minor unit has."""

    exponent: Annotated[Whole, Field(le=18)]


class KeepEntry(Model):
    """How long money that nobody settles stays counted, and what becomes of it then."""

    keep_for: Seconds
    then: Annotated[Word, one_of("capture", "release")]


class Route(Model):
    """One endpoint, and what capability a request to it is.

    `on_outcome` says what becomes of the reserved money, by the class of the answer's status; `None` is the usual:
    4xx releases it, and after 5xx its outcome is unknown. `reference` is what a later action with `refunds`
    calls this one, and gives back. `media` are the kinds of body that are accepted where the
    mapping reads the body: json, or urlencoded and multipart; `max_body` is its most bytes. With a `protocol` the body
    holds calls, at most `max_batch`, each of which is an action; `methods` and `tools` say what it is.
    """

    line: Line = 0
    route: Annotated[Word, Checked(check_route, examples=["POST /v1/bookings/{id}"])]
    public: Boolean = False
    capability: Annotated[Word, Checked(check_route_capability)] | None = None
    protocol: Annotated[Word, one_of("jsonrpc", "mcp")] | None = None
    methods: dict[Text, CallEntry] | None = None
    tools: dict[Text, CallEntry] | None = None
    max_batch: Annotated[Whole, Field(ge=1, le=1000)] | None = None
    resource: Value | None = None
    amount: Amount | None = None
    currency: Code | None = None
    recipient: Value | None = None
    category: Value | None = None
    network: Value | None = None
    risk: Annotated[Word, one_of(*RISKS)] | None = None
    media: Annotated[tuple[Annotated[Word, one_of(*MEDIA)], ...], BeforeValidator(some_of), SOME] | None = None
    applies_to: Annotated[Word, one_of("all", "agents", "proven_agents")] = "all"
    max_body: Annotated[Whole, Field(ge=1, le=MAX_BODY)] | None = None
    settle: Settle | None = None
    on_outcome: OnOutcome | None = None
    idempotency: Annotated[Word, one_of("optional", "required")] | None = None
    on_unknown: KeepEntry | None = None
    on_expiry: KeepEntry | None = None
    reference: ReferenceEntry | None = None
    refunds: RefundsEntry | None = None

    @property
    def method(self) -> str:
        """The method, in capitals."""
        return self.route.partition(" ")[0]

    @property
    def template(self) -> str:
        """The template, as the framework spells it."""
        return self.route.partition(" ")[2]


def _pattern_or_empty(value: str) -> None:
    if value:
        check_pattern(value)


_ONE_KEY: Final = one_of(*KEYS)


def _per(value: Any) -> str:
    """The keys a limit counts by, as one text: their order means nothing, so it is always the same."""
    names = [value] if isinstance(value, str) else some_of(value)
    for name in names:
        _ONE_KEY.check(text_of(name))
    if len(set(names)) < len(names):
        msg = "a key stands twice; keep one of them"
        raise ValueError(msg)
    if "global" in names and len(names) > 1:
        msg = "global is one counter for all, so nothing can stand beside it; write per: global alone"
        raise ValueError(msg)
    return "+".join(sorted(names))


_PER_SCHEMA: Final = {
    "anyOf": [
        {"enum": list(KEYS)},
        {"type": "array", "items": {"enum": list(KEYS)}, "minItems": 1, "uniqueItems": True},
    ],
}


CLAIM: Final = "claim."
_CLAIM = re.compile(r"claim(?:\.[^\s.{}\[\]]{1,64}){1,8}")


def _check_claim(value: str) -> None:
    if _CLAIM.fullmatch(value) is None or not value.isprintable():
        msg = f"{quoted(value)} is not a claim of a token; write claim.<name>, such as claim.daily_max"
        raise ValueError(msg)


class ClaimedSpend(Model):
    """A cap that each caller's own token says: an amount in `currency`, the file's unless said."""

    from_: Annotated[Word, Checked(_check_claim, examples=["claim.daily_max"]), Field(alias="from")]
    unit: Annotated[Word, one_of("major", "minor")] = "major"
    currency: Annotated[Word, Checked(check_currency)] | None = None


Spend = Annotated[Annotated[Price, Tag("text")] | Annotated[ClaimedSpend, Tag("map")], Discriminator(shape_of)]


class LimitEntry(Model):
    """How often (`rate`), how many at once (`concurrent`), or how much (`spend`) in which `window`, for whom.

    An empty `capability` means every one.

    `per` is one of `KEYS`, or several joined by `+`. With `style: pacing` a rate is spaced evenly, and at most `burst`
    come at once. A spend that is to `trip` opens a circuit breaker, which lets a probe through every `half_open` and is
    closed by one that ends well, or by a reset; what is `free` passes it unless told otherwise.
    """

    line: Line = 0
    name: Annotated[Word, Checked(check_name)]
    rate: Annotated[Word, Checked(parse_rate, examples=["30/minute"])] | None = None
    spend: Spend | None = None
    window: Annotated[Word, Checked(check_window, examples=["day", "total", "rolling 60m"])] | None = None
    per: Annotated[str, BeforeValidator(_per), WithJsonSchema(_PER_SCHEMA)] = "actor"
    capability: Annotated[Word, Checked(_pattern_or_empty)] = ""
    style: Annotated[Word, one_of("pacing")] | None = None
    burst: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = None
    counts: Annotated[Word, one_of("judged", "admitted")] | None = None
    week_start: Annotated[Word, one_of(*WEEKDAYS)] | None = None
    concurrent: Annotated[Whole, Field(le=1_000_000)] | None = None
    on_exceed: Annotated[Word, one_of("refuse", "trip", "alert")] | None = None
    half_open: Seconds | None = None
    free: Annotated[Word, one_of("pass", "refuse")] | None = None


class EndpointsEntry(Model):
    """Where the fence serves its own endpoints: `prefix` is their path from the server's root down."""

    prefix: Annotated[Word, Checked(check_prefix, examples=["/.well-known/agent-fence/"])] = "/.well-known/agent-fence/"


def _version(value: Any) -> int:
    text = text_of(value)
    if text == "1":
        return 1
    if text.isascii() and text.isdecimal() and text.lstrip("0") != "":
        msg = f"{cut(text)} is newer than this afmiddleware, which reads version 1; install a newer afmiddleware"
    else:
        msg = f"{quoted(text)} is not a version of policy files; write 1"
    raise ValueError(msg)


class Config(Model):
    """A whole policy file. `digest` is the hex SHA-256 of its text, `source` its name."""

    digest: Annotated[str, Field(exclude=True)] = ""
    source: Annotated[str, Field(exclude=True)] = ""
    version: Annotated[Literal[1], BeforeValidator(_version), WithJsonSchema({"enum": [1, "1"]})]
    service: Text
    environment: Word = ""
    timezone: Annotated[Word, Checked(check_zone)] = "UTC"
    currency: Annotated[Word, Checked(check_currency)] = "USD"
    mode: Annotated[Word, Checked(observing, pattern=MODES)] = "enforce"
    reload: Annotated[Word, one_of("watch", "signal", "off")] = "watch"
    assets: dict[Annotated[str, Checked(check_currency)], Asset] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    ledger: Annotated[Word, Checked(check_ledger)] = "sqlite:///fence.db"
    rates: Annotated[Word, Checked(check_rates, examples=["redis://127.0.0.1:6379/0"])] | None = None
    identity: Identity = Identity()
    routes: Annotated[tuple[Route, ...], BeforeValidator(list_of)] = ()
    unmapped: Annotated[Word, one_of("deny", "allow", "observe")] = "deny"
    inner_middleware: Annotated[tuple[Text, ...], BeforeValidator(list_of)] = ()
    endpoints: EndpointsEntry = EndpointsEntry()
    lists: dict[Annotated[str, Checked(check_name)], Annotated[ListEntry, BeforeValidator(list_entry)]] = Field(
        default_factory=dict,
    )
    schedules: dict[Annotated[str, Checked(check_name)], ScheduleEntry] = Field(default_factory=dict)
    rules: Rules = Rules()
    limits: Annotated[tuple[LimitEntry, ...], BeforeValidator(list_of)] = ()
    actors: dict[Annotated[str, Checked(check_actor)], ActorEntry] = Field(default_factory=dict)
    receipts: Receipts = Receipts()

    @property
    def exponents(self) -> dict[str, int]:
        """The currencies beyond ISO 4217, with the digits of their minor units."""
        return {name: asset.exponent for name, asset in self.assets.items()}


def mac_secret(text: str) -> bytes:
    """Read the secret of receipts from the text of an environment variable. Raises `ValueError`, never showing it."""
    if _MAC_SECRET.fullmatch(text.strip()) is None:
        msg = "does not hold 64 hexadecimal digits; make them with: openssl rand -hex 32"
        raise ValueError(msg)
    return bytes.fromhex(text.strip())
