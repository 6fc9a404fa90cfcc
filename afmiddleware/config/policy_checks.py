"""What only the whole file tells of its lists, schedules and actors. What is of the wrong type the schema reports."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from afmiddleware.config.conditions import money_fault
from afmiddleware.errors import GrammarError, MoneyError
from afmiddleware.grammar.durations import parse_rate
from afmiddleware.grammar.lists import make_words
from afmiddleware.grammar.quoting import quoted
from afmiddleware.grammar.schedules import parse_period
from afmiddleware.model.money import Money

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_AT_ONCE: Final = re.compile(r"[0-9]{1,7}", re.ASCII)

Fault = tuple[tuple[str | int, ...], str]
"""Where in the file, and what is wrong there."""


def named(root: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The entries of a section whose keys are the file's own names, nothing where there is no map."""
    found = root.get(section)
    return found if isinstance(found, dict) else {}


def known_lists(root: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the lists, and of those that are normalized."""
    lists = named(root, "lists")
    normalized = {name for name, entry in lists.items() if isinstance(entry, dict) and "normalize" in entry}
    return frozenset(lists), frozenset(normalized)


def list_faults(root: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with `lists`."""
    for name, entry in named(root, "lists").items():
        if not isinstance(entry, dict):
            continue
        if "values" in entry and "file" in entry:
            yield ("lists", name, "file"), "a list has values or a file, not both; keep one"
        elif "values" not in entry and "file" not in entry:
            yield ("lists", name), "a list needs its values or a file; write one of them"
        values = entry.get("values")
        for place, value in enumerate(values if isinstance(values, list) else ()):
            try:
                make_words([value] if isinstance(value, str) else [], str(entry.get("normalize", "")))
            except GrammarError as error:
                yield ("lists", name, "values", place), f"{error}; correct it, or remove normalize"


def schedule_faults(root: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with `schedules`."""
    for name, entry in named(root, "schedules").items():
        if not isinstance(entry, dict):
            continue
        if "open" not in entry and "closed" not in entry:
            yield (
                ("schedules", name),
                "a schedule needs open hours or closed periods; write open: [Mon-Fri 09:00-17:00]",
            )
        closed = entry.get("closed")
        for place, period in enumerate(closed if isinstance(closed, list) else ()):
            first, last = (period.get("from"), period.get("to")) if isinstance(period, dict) else (None, None)
            if isinstance(first, str) and isinstance(last, str):
                try:
                    parse_period(first, last)
                except GrammarError as error:
                    # A day that is none is reported where it stands.
                    if "before it begins" in str(error):
                        yield ("schedules", name, "closed", place), str(error)


def actor_faults(root: Mapping[str, Any], exponents: Mapping[str, int]) -> Iterator[Fault]:
    """What is wrong with `actors`: a name without its kind, a cap of no limit, one of another kind or too wide."""
    found = root.get("limits")
    limits = {
        limit["name"]: limit
        for limit in (found if isinstance(found, list) else ())
        if isinstance(limit, dict) and isinstance(limit.get("name"), str)
    }
    for name, entry in named(root, "actors").items():
        if ":" not in name and "*" not in name:
            said = f"write key:{name[:64]} for whoever has its API keys, or jwt:..., local:..., address:..."
            yield ("actors", name), f"{quoted(name)} is no actor; {said}"
        if not isinstance(entry, dict):
            continue
        for limit, cap in named(entry, "limits").items():
            where = ("actors", name, "limits", limit)
            if limit not in limits:
                near = get_close_matches(limit, limits)
                hint = f"did you mean {near[0]!r}?" if near else "declare it under limits"
                yield where, f"{quoted(limit)} names no limit; {hint}"
            elif isinstance(cap, str):
                fault = _cap_fault(limits[limit], cap, exponents, override=entry.get("override") == "true")
                if fault:
                    yield where, fault


def _cap_fault(limit: Mapping[str, Any], cap: str, exponents: Mapping[str, int], *, override: bool) -> str | None:
    per = limit.get("per", "actor")
    if "actor" not in (per if isinstance(per, list) else [per]):
        return "this limit is not counted by the actor, so it has no cap for one; use a limit per: actor"
    if limit.get("style") == "pacing":
        return "a paced rate has no cap for one actor; use a limit without style"
    try:
        if "rate" in limit:
            (asked, period), (most, whole) = parse_rate(cap), parse_rate(str(limit["rate"]))
            if period != whole:
                return f"the limit counts {limit['rate']}; write the same period"
            wider = asked > most
        elif "concurrent" in limit:
            if _AT_ONCE.fullmatch(cap) is None:
                return f"{quoted(cap)} is not a number of requests at once; write digits"
            wider = int(cap) > int(str(limit["concurrent"]))
        else:
            fault = money_fault(cap, exponents)
            if fault:
                return fault
            if isinstance(limit.get("spend"), dict):
                return None  # What a claim says is not known here, and the narrower counts.
            money, bound = Money.parse(cap, exponents), Money.parse(str(limit.get("spend")), exponents)
            if money.currency != bound.currency:
                return f"the limit is in {bound.currency}; write the same currency"
            wider = money.minor > bound.minor
    except (GrammarError, MoneyError) as error:
        return str(error)
    except ValueError:
        return None  # The limit's own number is none, which is said where it stands.
    too_wide = "the cap is wider than the limit itself; write override: true beside limits, or less"
    return too_wide if wider and not override else None
