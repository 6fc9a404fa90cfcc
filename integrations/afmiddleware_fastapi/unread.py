"""Places of a request that the policy reads and a handler, by what it declares, does not: most likely mistyped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_origin

from pydantic import BeforeValidator, PlainValidator, RootModel, WrapValidator

from afmiddleware.grammar.paths import EVERY
from afmiddleware_fastapi.members import members_of, settings_of
from afmiddleware_fastapi.spelling import UNIONS, declared_in, is_form, is_whole, read_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afmiddleware.grammar.paths import Path, Source

_WHOLE: Final = ("request_param_name", "http_connection_param_name")
"""Where FastAPI keeps that a handler or a dependency is given the request itself, so that it may read anything."""
_CREDENTIAL: Final = "fastapi.security.base.SecurityBase"
"""A dependency of this class is given the request, and looks for a credential in it and for nothing else."""
_DECLARED: Final = {"body": "body_params", "form": "body_params", "query": "query_params"}


def unread(dependant: Any, source: Source) -> tuple[str, ...] | None:
    """What a handler takes where the policy reads `source`, when it does not take that; `None` when it may.

    Only what is declared whole is judged: not what reads the request itself, a mapping, anything at all, or a model
    that lets other members be. Headers and cookies are left alone, since a server gives them to more than handlers.
    """
    where = _DECLARED.get(source.kind)
    if where is None or _given_whole(dependant) or next(read_at(dependant, source), None) is not None:
        return None
    fields = [one for one in declared_in(dependant, where) if is_form(one) == (source.kind == "form")]
    if source.kind != "body":
        opened = any(settings_of(kind).get("extra") == "allow" for one in fields for kind in _arms(_kind(one)))
        return None if opened else tuple(f"{source.kind}.{name}" for one in fields for name in _names(one))
    if is_whole(fields):
        known = _strays(_kind(fields[0]), source.path)
    else:
        members = {one.alias: one for one in fields}
        field = members.get(str(source.path[0]))
        known = (*members,) if field is None else _strays(_kind(field), source.path[1:], field.alias)
    return None if known is None else tuple(f"body{one}" if one.startswith("[") else f"body.{one}" for one in known)


def _given_whole(dependant: Any) -> bool:
    if any(f"{kind.__module__}.{kind.__name__}" == _CREDENTIAL for kind in type(dependant.call).__mro__):
        return False
    return any(getattr(dependant, name, None) for name in _WHOLE) or any(map(_given_whole, dependant.dependencies))


def _kind(field: Any) -> Any:
    return Any if any(map(_changes, field.field_info.metadata)) else field.field_info.annotation


def _names(field: Any) -> Iterator[str]:
    """What a parameter is called, or what the fields of a parameter model are."""
    inner = [str(one.places[0][0]) for one in members_of(field.field_info.annotation)]
    yield from inner or [field.alias]


def _arms(kind: Any) -> Iterator[Any]:
    """The types of a union, without what is written around them; `Any` for one that a function changes first."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from _arms(Any if any(map(_changes, inner[1:])) else inner[0])
    elif origin in UNIONS:
        for arm in inner:
            yield from _arms(arm)
    elif type(kind).__name__ == "TypeAliasType":
        yield from _arms(kind.__value__)
    elif isinstance(kind, type) and issubclass(kind, RootModel) and not _reads_itself(kind):
        yield from _arms(kind.model_fields["root"].annotation)
    elif kind is not type(None):
        yield kind


def _strays(kind: Any, path: Path, before: str = "") -> tuple[str, ...] | None:
    """The members where a path leaves what a type has; `None` where it does not, or that cannot be known."""
    found: list[str] = []
    for arm in _arms(kind):
        known = _leaves(arm, path, before)
        if known is None:
            return None
        found += known
    return tuple(dict.fromkeys(found)) if path else None


def _leaves(kind: Any, path: Path, before: str) -> tuple[str, ...] | None:
    origin, inner = get_origin(kind), get_args(kind)
    if not path or _reads_itself(kind):
        return None
    if origin in (list, set, frozenset) and inner:
        return _strays(inner[0], path[1:], _joined(before, path[:1])) if isinstance(path[0], int) else None
    members = [*members_of(kind)]
    if not members or settings_of(kind).get("extra") == "allow":
        return None
    for member in members:
        for place in (*member.places, (member.name,)):
            if path[: len(place)] == place:
                changed = any(map(_changes, member.metadata))
                return None if changed else _strays(member.annotation, path[len(place) :], _joined(before, place))
    return tuple(_joined(before, one.places[0]) for one in members)


def _reads_itself(kind: Any) -> bool:
    """Whether a function of the application sees what was sent before the members of a class do."""
    told = getattr(kind, "__pydantic_decorators__", None)
    checks = (*getattr(told, "model_validators", {}).values(), *getattr(told, "field_validators", {}).values())
    return any(one.info.mode != "after" for one in checks)


def _changes(metadata: Any) -> bool:
    return isinstance(metadata, BeforeValidator | PlainValidator | WrapValidator)


def _joined(before: str, steps: Path) -> str:
    """A path as the policy spells it, with what stands before it."""
    text = before
    for step in steps:
        text += ("[*]" if step == EVERY else f"[{step}]") if isinstance(step, int) else f".{step}" if text else step
    return text
