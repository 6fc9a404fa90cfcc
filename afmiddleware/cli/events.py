"""Options that describe one action, and a fence that only looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from afmiddleware.cli.common import known_as, policy_at
from afmiddleware.config.identity_schema import Identity
from afmiddleware.fence import Fence
from afmiddleware.policy.cases import CaseError, read_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from afmiddleware.model.action import ActionEvent

F = TypeVar("F", bound="Callable[..., Any]")

_TEXTS = ("resource", "recipient", "category", "network", "environment", "risk", "method", "route", "at")


def event_options(function: F) -> F:
    """The options of an event; they arrive together as the keyword `event` of `read_options`."""
    for name in reversed(_TEXTS):
        text = "When it happens, such as 2026-11-23T12:00:00Z; now without it." if name == "at" else f"Its {name}."
        function = click.option(f"--{name}", default=None, help=text)(function)
    for option in (
        click.option("--payload", default=None, help="What conditions on payload.<path> read, as JSON."),
        click.option("--amount", default=None, help="What it costs, such as '12.50 USD'."),
        click.option("--depth", default=None, help="The length of its delegation chain."),
        click.option("--tenant", default=None, help="Its tenant."),
        click.option("--role", "roles", multiple=True, help="A role it has; may be given again."),
        click.option("--scope", "scopes", multiple=True, help="A scope it has; may be given again."),
        click.option("--tier", default=None, help="How it is known: anonymous, token or verified."),
        click.option(
            "--actor",
            default="local:someone",
            show_default=True,
            callback=known_as,
            help="Who acts, such as key:acct_42.",
        ),
        click.option("--capability", required=True, help="What is done, such as payments.transfer."),
    ):
        function = option(function)
    return function


def read_options(fence: Fence, options: dict[str, Any]) -> tuple[ActionEvent, int]:
    """The event that options describe, and its time. Raises `click.UsageError` for options that describe none."""
    actor = {"id": options["actor"]}
    actor |= {name: options[name] for name in ("tier", "tenant", "depth") if options[name] is not None}
    actor |= {name: list(options[name]) for name in ("scopes", "roles") if options[name]}
    told: dict[str, Any] = {"capability": options["capability"], "actor": actor}
    told |= {name: options[name] for name in ("amount", *_TEXTS) if options[name] is not None}
    try:
        if options["payload"] is not None:
            told["payload"] = _json(options["payload"])
        event, at = read_event(told, fence.config.exponents, fence.config.environment)
    except CaseError as error:
        raise click.UsageError(str(error)) from None
    return event, fence.clock() if at is None else at


def _json(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        said = f'{text[:40]!r} is not JSON ({error}); write it such as \'{{"note": "thanks"}}\''
        raise click.BadParameter(said, param_hint="--payload") from None


def looking_fence(policy: str, *, live: bool = False) -> Fence:
    """A fence of a policy file that counts from zero, or with `live` reads the policy's own ledger."""
    config, base = policy_at(policy)
    # Nobody proves who they are here, so keys of issuers are neither read nor fetched.
    changes: dict[str, Any] = {"identity": Identity()} | ({} if live else {"ledger": "memory", "rates": None})
    return Fence(config.model_copy(update=changes), base=base)
