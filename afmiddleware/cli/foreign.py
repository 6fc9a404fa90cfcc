"""The shapes of other products' policies, as their own schemas say: a key or a value that they refuse is refused here.

A misspelt key that was dropped in silence would make the converted policy wider than what its author wrote.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from afmiddleware.errors import ConfigError

Number = Annotated[int, Meta(ge=0)] | Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?$")]
"""An amount: whole, or the digits that stand in the file."""
Code = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
Count = Annotated[int, Meta(ge=0)]
Named = Annotated[str, Meta(min_length=1)]


class _Closed(msgspec.Struct, forbid_unknown_fields=True):
    """The base of maps whose keys are all known."""


class GuardAction(_Closed):
    """What ActionFence says of one action."""

    allowed: bool
    identity: Literal["any", "token", "verified"] = "any"
    max_spend: Number | msgspec.UnsetType = msgspec.UNSET
    currency: Code | msgspec.UnsetType = msgspec.UNSET
    requires_human_approval: bool = False
    schema_hash: str | msgspec.UnsetType = msgspec.UNSET


class GuardRates(_Closed):
    """ActionFence's `rate_limits`; 0 is unlimited."""

    requests_per_minute: Count = 0
    transactions_per_day: Count = 0


class GuardWindow(_Closed):
    """ActionFence's rolling window."""

    max_amount: Number
    duration_minutes: Annotated[int, Meta(ge=1)]


class GuardSpends(_Closed):
    """ActionFence's `spend_limits`."""

    session_max: Number | msgspec.UnsetType = msgspec.UNSET
    daily_max: Number | msgspec.UnsetType = msgspec.UNSET
    window: GuardWindow | msgspec.UnsetType = msgspec.UNSET
    currency: Code | msgspec.UnsetType = msgspec.UNSET
    session_timeout_minutes: Number | msgspec.UnsetType = msgspec.UNSET


class GuardBreaker(_Closed):
    """ActionFence's `circuit_breaker`."""

    global_max_spend: Number
    action: Literal["block_all", "alert_only"]
    currency: Code | msgspec.UnsetType = msgspec.UNSET


class GuardPolicy(_Closed, rename={"schema": "$schema"}):
    """A guard-policy.json of ActionFence."""

    service: Named
    version: Named | int
    actions: Annotated[dict[Named, GuardAction], Meta(min_length=1)]
    default_rule: Literal["allow", "deny"] = "deny"
    rate_limits: GuardRates | msgspec.UnsetType = msgspec.UNSET
    spend_limits: GuardSpends | msgspec.UnsetType = msgspec.UNSET
    circuit_breaker: GuardBreaker | msgspec.UnsetType = msgspec.UNSET
    schema_enforcement: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    regulations: list[str] | msgspec.UnsetType = msgspec.UNSET
    schema: str | msgspec.UnsetType = msgspec.UNSET


Entries = list[Named | dict[str, Any]] | None
Action = Literal["allow", "deny", "block", "require_approval", "warn"]


class CapRisk(_Closed):
    """What CapFence says of one level of risk."""

    action: Action


class CapPolicy(_Closed):
    """A policy.yaml of CapFence. What stands in a rule beside its capability are conditions, known or not."""

    deny: Entries = None
    require_approval: Entries = None
    allow: Entries = None
    rules: list[dict[str, Any]] | None = None
    risk_levels: dict[Literal["low", "medium", "high", "critical"], CapRisk | Action] | None = None
    extends: str | list[str] | None = None
    version: str | int | None = None
    policy_name: str | None = None
    description: str | None = None
    enforcement_mode: str | None = None
    approval_timeout_seconds: int | str | None = None


class Money402(msgspec.Struct):
    """An amount of t402, in minor units. What they are is looked at where they become ours."""

    value: Any
    decimals: Any = 6
    symbol: str | None = None


class Limits402(_Closed, rename="camel"):
    """t402's `limits`."""

    per_transaction: Money402 | None = None
    hourly: Money402 | None = None
    daily: Money402 | None = None
    weekly: Money402 | None = None
    monthly: Money402 | None = None
    yearly: Money402 | None = None
    lifetime: Money402 | None = None


class Window402(msgspec.Struct, rename="camel"):
    """Days, 0 being Sunday, and whole hours."""

    start_hour: Any = None
    end_hour: Any = None
    days: list[Annotated[int, Meta(ge=0, le=6)]] | None = None


class Times402(_Closed, rename="camel"):
    """t402's `timeRules`."""

    allowed_windows: list[Window402] | None = None
    blocked_periods: list[dict[str, Any]] | None = None
    timezone: str | None = None


class Merchants402(_Closed, rename="camel"):
    """t402's `merchantRules`."""

    whitelist: list[str] | None = None
    blacklist: list[str] | None = None
    require_whitelist: bool = False


class Networks402(_Closed, rename="camel"):
    """t402's `networkRules`."""

    allowed_networks: list[str] | None = None
    blocked_networks: list[str] | None = None


class Categories402(_Closed, rename="camel"):
    """t402's `categoryRules`."""

    allowed_categories: list[str] | None = None
    blocked_categories: list[str] | None = None


class Threshold402(msgspec.Struct, rename="camel"):
    """From which amount how many of whom have to approve."""

    amount: Money402
    approvers: list[str] | None = None


class Approvals402(msgspec.Struct):
    """t402's `approvalConfig`."""

    thresholds: list[Threshold402] | None = None


class Policy402(_Closed, rename="camel"):
    """A policy of t402 in its flat shape."""

    enabled: bool = True
    limits: Limits402 | None = None
    time_rules: Times402 | None = None
    merchant_rules: Merchants402 | None = None
    network_rules: Networks402 | None = None
    category_rules: Categories402 | None = None
    require_approval: bool = False
    approval_config: Approvals402 | None = None


_PLACE: Final = re.compile(r" - at `\$?(.*)`$")


def fits(document: Any, shape: Any, what: str) -> None:
    """Raises `ConfigError` naming the place, where a document has not the shape that the product gives its policies."""
    try:
        msgspec.convert(document, shape)
    except msgspec.ValidationError as error:
        place = _PLACE.search(str(error))
        said = _PLACE.sub("", str(error))
        where = f" at {place.group(1).lstrip('.')}" if place is not None and place.group(1) else ""
        raise ConfigError([f"this is no {what}{where}: {said[:1].lower()}{said[1:]}"]) from None
