"""From the text of a policy file to a `Config`, or to all its problems at once."""

from __future__ import annotations

import difflib
import hashlib
import re
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import BaseModel, ValidationError

from afmiddleware.config.later import not_yet
from afmiddleware.config.schema import NOT_SUPPORTED, Config
from afmiddleware.config.tree import Path, Place, Problem, Tree, read_tree
from afmiddleware.errors import ConfigError, GrammarError, MoneyError
from afmiddleware.grammar.currencies import ISO_4217
from afmiddleware.grammar.durations import parse_duration, parse_rate
from afmiddleware.model.limit import Limit, Unit, Window
from afmiddleware.model.money import Money, exponent_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NUMBERED: Final = (("routes",), ("limits",), ("rules", "deny"), ("rules", "allow"))
_OURS: Final = frozenset({"line", "digest", "source"})
_SECRET = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def load(text: str, source: str = "fence.yaml", env: Mapping[str, str] | None = None) -> Config:
    """Read and check a policy. Raises `ConfigError`, each problem as `source:line:column: what is wrong`.

    `env` is where `${NAME}` is read from; no value that this release reads may hold one.
    """
    tree = read_tree(text)
    problems = tree.problems
    if not problems and not isinstance(tree.value, dict):
        problems.append(Problem(1, 1, "a policy is a map; start with: version: 1"))
    config: Config | None = None
    if not problems:
        problems.extend(_inline_variables(tree, env or {}))
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        config = _validated(tree, digest, source, problems)
    if config is not None:
        _check_whole(config, tree, problems)
    if problems or config is None:
        raise ConfigError([f"{source}:{one.line}:{one.column}: {one.text}" for one in sorted(set(problems))])
    return config


def limits_of(config: Config) -> tuple[Limit, ...]:
    """The limits of a checked policy as values."""
    return tuple(_limit(config, place) for place in range(len(config.limits)))


def _validated(tree: Tree, digest: str, source: str, problems: list[Problem]) -> Config | None:
    for path in tree.keys:
        # These names are filled in by the loader, so in a file they are as unknown as any other.
        if path[-1] in _OURS and len(path) > 0 and path[0] != "metadata" and (len(path) == 1 or path[-2] != "jwks"):
            problems.append(_unknown(path, tree))
    value = {**tree.value, "digest": digest, "source": source}
    for where in _NUMBERED:
        _number(value, where, tree)
    try:
        return Config.model_validate(value)
    except ValidationError as error:
        problems.extend(_translated(error, tree))
        return None


def _number(value: dict[str, Any], where: Path, tree: Tree) -> None:
    """Tell every entry of a list its line, and every rule its id."""
    holder: Any = value
    for part in where[:-1]:
        inner = holder.get(part)
        if not isinstance(inner, dict):
            return
        holder[part] = inner = dict(inner)
        holder = inner
    entries = holder.get(where[-1])
    if not isinstance(entries, list):
        return
    numbered: list[Any] = []
    for place, entry in enumerate(entries):
        line = tree.places[(*where, place)][0]
        if where[0] == "rules" and isinstance(entry, str):
            entry = {"capability": entry}  # noqa: PLW2901 (a rule in short)
        if isinstance(entry, dict):
            extra: dict[str, Any] = {"line": line}
            if where[0] == "rules" and not entry.get("id"):
                extra["id"] = f"{where[1]}[{place + 1}]"
            entry = {**entry, **extra}  # noqa: PLW2901
        numbered.append(entry)
    holder[where[-1]] = numbered


def _translated(error: ValidationError, tree: Tree) -> Iterable[Problem]:
    for one in error.errors(include_url=False):
        path = _known_path(one["loc"], tree)
        kind = one["type"]
        if kind == "extra_forbidden":
            yield _unknown((*path, one["loc"][-1]) if path[-1:] != one["loc"][-1:] else path, tree)
            continue
        line, column = _place(path, tree)
        if kind == "missing":
            where = _spelled(path)
            yield Problem(line, column, f"{where} needs {one['loc'][-1]!r}" if where else f"{one['loc'][-1]!r} is needed")
            continue
        yield Problem(line, column, f"{_label(path)}{_sentence(one)}")


def _sentence(one: Any) -> str:
    """What a pydantic error means to the author of the file."""
    kind, context = one["type"], one.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "a map is expected here"
    if kind in ("list_type", "tuple_type"):
        return "a list is expected here"
    if kind in ("too_short", "string_too_short"):
        return "it may not be empty"
    if kind == "string_too_long":
        return f"it has more than {context['max_length']} characters"
    if kind == "less_than_equal":
        return f"it may not be more than {context['le']}"
    if kind == "greater_than_equal":
        return f"it may not be less than {context['ge']}"
    return "this is not what is expected here"


def _unknown(path: Path, tree: Tree) -> Problem:
    line, column = tree.keys.get(path) or _place(path, tree)
    if not_yet(path):
        return Problem(line, column, f"{_spelled(path)} {NOT_SUPPORTED}; remove it")
    name = str(path[-1])
    near = difflib.get_close_matches(name, _siblings(path[:-1]), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return Problem(line, column, f"unknown key {name!r}{hint}")


def _siblings(path: Path) -> list[str]:
    """The keys that are known in the map at `path`."""
    model: Any = Config
    for part in path:
        if isinstance(part, str):
            field = next((one for name, one in model.model_fields.items() if (one.alias or name) == part), None)
            model = _model_in(field.annotation) if field is not None else None
        if model is None:
            return []
    return [field.alias or name for name, field in model.model_fields.items() if name not in _OURS]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation such as `tuple[Annotated[Route, ...], ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def _known_path(loc: tuple[int | str, ...], tree: Tree) -> Path:
    """The part of a pydantic location that is in the file: union tags and what is missing fall out."""
    path: Path = ()
    for part in loc:
        if (*path, part) in tree.places:
            path = (*path, part)
    return path


def _place(path: Path, tree: Tree) -> Place:
    while path not in tree.places:
        path = path[:-1]
    return tree.places[path]


def _spelled(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _label(path: Path) -> str:
    where = _spelled(path)
    return f"{where}: " if where else ""


def _inline_variables(tree: Tree, env: Mapping[str, str]) -> Iterable[Problem]:
    """`${NAME}` belongs where a secret does, and nothing this release reads inline is one."""
    for path, place in tree.places.items():
        value: Any = tree.value
        for part in path:
            value = value[part]
        match = _SECRET.search(value) if isinstance(value, str) else None
        if match is not None and path[0] != "metadata":
            known = "" if match.group(1) in env else " (and it is not set)"
            yield Problem(*place, f"{_label(path)}${{{match.group(1)}}} is not read here{known}: only secrets are")


def _check_whole(config: Config, tree: Tree, problems: list[Problem]) -> None:
    """What no single value can tell: names that stand twice, amounts and their currencies."""
    say = _Say(tree, problems)
    for name, asset in config.assets.items():
        if ISO_4217.get(name, asset.exponent) != asset.exponent:
            say(("assets", name), f"{name} is an ISO 4217 currency with {ISO_4217[name]} digits")
    _try(say, ("currency",), lambda: exponent_of(config.currency, config.exponents))
    for place, route in enumerate(config.routes):
        say(("routes", place), route.problem())
        if isinstance(route.amount, str):
            price = route.amount
            _try(say, ("routes", place, "amount"), lambda price=price: Money.parse(price, config.exponents))
        if isinstance(route.currency, str):
            code = route.currency
            _try(say, ("routes", place, "currency"), lambda code=code: exponent_of(code, config.exponents))
    for kind, rules in (("deny", config.rules.deny), ("allow", config.rules.allow)):
        for place, rule in enumerate(rules):
            cap = getattr(rule, "max_amount", None)
            if cap is not None:
                _try(say, ("rules", kind, place, "max_amount"), lambda cap=cap: Money.parse(cap, config.exponents))
            _check_amounts(say, ("rules", kind, place, "when"), rule.when or (), config)
    for place, limit in enumerate(config.limits):
        said = limit.problem()
        say(("limits", place), said)
        if not said:
            _try(say, ("limits", place, "spend"), lambda place=place: _limit(config, place))
    for place, issuer in enumerate(config.identity.jwt.issuers if config.identity.jwt else ()):
        say(("identity", "jwt", "issuers", place), issuer.problem())
    _check_twice(config, say)


def _check_amounts(say: _Say, path: Path, when: Iterable[dict[str, dict[str, Any]]], config: Config) -> None:
    for test in (one["amount"] for one in when if "amount" in one):
        for operator, literal in test.items():
            if operator in ("contains", "starts_with", "ends_with", "under"):
                say(path, f"amount has no operator {operator}")
            elif operator != "exists":
                for text in literal if isinstance(literal, list) else [literal]:
                    _try(say, path, lambda text=text: Money.parse(str(text), config.exponents))


def _check_twice(config: Config, say: _Say) -> None:
    groups: tuple[tuple[Path, list[str], str], ...] = (
        (("routes",), [route.route for route in config.routes], "the endpoint {} is bound"),
        (("limits",), [limit.name for limit in config.limits], "a limit called {} stands"),
        (("rules", "deny"), [rule.id for rule in config.rules.deny], "a rule with the id {} stands"),
        (("rules", "allow"), [rule.id for rule in config.rules.allow], "a rule with the id {} stands"),
    )
    seen_rules: dict[str, int] = {}
    for where, names, sentence in groups:
        seen = seen_rules if where[0] == "rules" else {}
        for place, name in enumerate(names):
            line = say.tree.places[(*where, place)][0]
            if name in seen:
                say((*where, place), sentence.format(repr(name)) + f" already on line {seen[name]}")
            seen.setdefault(name, line)


class _Say:
    """Notes a problem at a path of the file, if there is one."""

    def __init__(self, tree: Tree, problems: list[Problem]) -> None:
        self.tree = tree
        self._problems = problems

    def __call__(self, path: Path, text: str) -> None:
        if text:
            self._problems.append(Problem(*_place(path, self.tree), f"{_label(path)}{text}"))


def _try(say: _Say, path: Path, make: Any) -> None:
    try:
        make()
    except (GrammarError, MoneyError) as error:
        say(path, str(error))


def _limit(config: Config, place: int) -> Limit:
    entry = config.limits[place]
    if entry.rate is not None:
        cap, seconds = parse_rate(entry.rate)
        return Limit(
            name=entry.name,
            unit=Unit.RATE,
            cap=cap,
            window=Window("rolling", seconds),
            per=entry.per,
            capability=entry.capability or "",
            cell=f"{entry.name}/r{seconds}",
            line=entry.line,
        )
    money = Money.parse(entry.spend or "", config.exponents)
    kind, _, length = (entry.window or "").partition(" ")
    seconds = parse_duration(length) if length else 0
    return Limit(
        name=entry.name,
        unit=Unit.SPEND,
        cap=money.minor,
        window=Window(kind, seconds, config.timezone),
        per=entry.per,
        capability=entry.capability or "",
        currency=money.currency,
        exponent=money.exponent,
        cell=f"{entry.name}/{kind}{seconds or ''}/{money.currency}",
        line=entry.line,
    )
