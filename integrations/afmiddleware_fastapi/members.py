"""What a class that FastAPI reads a request into has for members, and under which keys pydantic looks for each."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, get_args, get_origin, get_type_hints

from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MARKS: Final = ("__required_keys__", "_field_defaults")
"""What a `TypedDict` has, of `typing` or `typing_extensions`, and what a named tuple."""
_QUALIFIERS: Final = frozenset({"Required", "NotRequired", "ReadOnly"})

Place = tuple[str | int, ...]
"""Keys and indexes, from the outermost object inwards."""


class Member(NamedTuple):
    """A member of a class. `places` is where pydantic looks for it; what stands in the first of them counts."""

    name: str
    annotation: Any
    metadata: Sequence[Any]
    places: tuple[Place, ...]


def members_of(kind: Any) -> Iterator[Member]:
    """The members of a pydantic model, a dataclass, a `TypedDict` or a named tuple; of anything else none."""
    if not isinstance(kind, type):
        return
    said: Mapping[str, Any] = settings_of(kind)
    fields = kind.model_fields if issubclass(kind, BaseModel) else vars(kind).get("__pydantic_fields__")
    if fields is not None:
        for name, info in fields.items():
            yield Member(name, info.annotation, info.metadata, places_of(name, info.validation_alias, said))
    elif dataclasses.is_dataclass(kind) or any(hasattr(kind, mark) for mark in _MARKS):
        for name, annotation in _hints(kind).items():
            yield Member(name, annotation, (), places_of(name, _alias(kind, name, annotation), said))


def settings_of(kind: Any) -> Mapping[str, Any]:
    """The pydantic settings of a class."""
    found: Mapping[str, Any] = getattr(kind, "model_config", None) or getattr(kind, "__pydantic_config__", None) or {}
    return found


def places_of(name: str, alias: str | AliasPath | AliasChoices | None, said: Mapping[str, Any]) -> tuple[Place, ...]:
    """Where a member is looked for, in pydantic's order."""
    if alias is None or said.get("validate_by_alias") is False:
        return ((name,),)
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    places = tuple((one,) if isinstance(one, str) else tuple(one.path) for one in choices)
    by_name = said.get("validate_by_name", said.get("populate_by_name", False))
    return (*places, (name,)) if by_name and (name,) not in places else places


def _hints(kind: type) -> dict[str, Any]:
    try:
        return {name: _unqualified(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
    except NameError:
        # Names that only the class's own scope knows: FastAPI has read them, and here nothing is known of them.
        return {}


def _unqualified(hint: Any) -> Any:
    """The type in `Required[...]` and its like."""
    return get_args(hint)[0] if str(getattr(get_origin(hint), "_name", "")) in _QUALIFIERS else hint


def _alias(kind: type, name: str, annotation: Any) -> Any:
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    infos = [one for one in (*metadata, getattr(kind, name, None)) if isinstance(one, FieldInfo)]
    return next((one.validation_alias for one in infos if one.validation_alias is not None), None)
