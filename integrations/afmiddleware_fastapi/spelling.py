"""Query, header, cookie, form and body values that FastAPI converts: what the policy reads is what the handler gets.

`?to=007` reaches a handler that declares `to: int` as 7, and a rule about `7` would not see it. A text whose spelling
is not that of the value FastAPI will make of it is refused where the policy reads it; that holds for the declared types
and their constraints, model settings included, and not for what a validator function of the application does.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, Union, get_args, get_origin

from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, RootModel, TypeAdapter

from afmiddleware_fastapi.members import Member, Place, members_of, places_of, settings_of
from afmiddleware_fastapi.typed import is_own

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from afmiddleware.grammar.paths import Path, Source

_PLACES: Final = {"query": "query_params", "header": "header_params", "cookie": "cookie_params"}
UNIONS: Final = (Union, types.UnionType)
_TEXT_SETTINGS: Final = ("str_strip_whitespace", "str_to_lower", "str_to_upper")


class Reading(NamedTuple):
    """A value that the handler reads from a place of the request. `first` is the place that counts before that."""

    annotation: Any
    metadata: Sequence[Any]
    owner: Any = None
    first: Place = ()


class Spelling:
    """Knows what one handler declares. Asked with a place of the request and the text that stands there."""

    def __init__(self, dependant: Any) -> None:
        self._dependant = dependant
        self._known: dict[Source, tuple[TypeAdapter[Any], ...]] = {}

    def __call__(self, source: Source, text: str) -> bool:
        found = self._known.get(source)
        if found is None:
            # The policy names the sources, so there are few.
            readings = read_at(self._dependant, source)
            found = self._known[source] = tuple(adapter for one in readings for adapter in _adapters(one))
        return all(is_own(adapter, text) for adapter in found)

    def misread(self, source: Source) -> str:
        """The place that counts for the handler where the policy reads `source`, empty when it is the same.

        A model that knows a value by several names takes it from the first of them.
        """
        readings = [*read_at(self._dependant, source)]
        if not readings or not all(one.first for one in readings):
            return ""
        return f"{source.kind}.{'.'.join(map(str, readings[0].first))}"


def spelling_of(dependant: Any) -> Spelling | None:
    """What a handler and its dependencies make of a request besides its path; `None` when nothing is declared."""
    declared = any(declared_in(dependant, where) for where in (*_PLACES.values(), "body_params"))
    return Spelling(dependant) if declared else None


def read_at(dependant: Any, source: Source) -> Iterator[Reading]:
    """The values that a handler takes from a place of the request: none where it takes no such, or nobody knows."""
    kind = source.kind
    place = _PLACES.get(kind)
    if place is not None:
        for field in declared_in(dependant, place):
            yield from _at(field, (source.name,), header=kind == "header")
        return
    fields = declared_in(dependant, "body_params")
    whole = is_whole(fields)
    for field in fields:
        form = is_form(field)
        if form != (kind == "form"):
            continue
        if form:
            yield from _at(field, (source.name,))
        elif whole:
            yield from _reach(field.field_info.annotation, source.path)
        else:
            yield from _at(field, source.path)


def _at(field: Any, path: Path, *, header: bool = False) -> Iterator[Reading]:
    """The types at a path that begins with the parameter's name, or with that of a field of a parameter model."""
    info = field.field_info
    alias = info.validation_alias
    own = Member(field.name, info.annotation, (info,), places_of(field.name, alias or field.alias, {}))
    found = [*_of_member(own, path, None, header=header)]
    if not found and next(members_of(info.annotation), None) is not None:
        found = [*_reach(info.annotation, path, header=header)]
    yield from found


def _reach(annotation: Any, path: Path, *, header: bool = False) -> Iterator[Reading]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _reach(inner[0], path, header=header)
    elif origin in UNIONS:
        for arm in inner:
            yield from _reach(arm, path, header=header)
    elif type(annotation).__name__ == "TypeAliasType":
        yield from _reach(annotation.__value__, path, header=header)
    elif isinstance(annotation, type) and issubclass(annotation, RootModel):
        yield from _reach(annotation.model_fields["root"].annotation, path)
    elif origin in (list, set, frozenset, tuple, dict) and inner:
        value = inner[-1] if origin is dict else inner[0]
        if len(path) > 1:
            yield from _reach(value, path[1:])
        else:
            yield Reading(value, ())
    else:
        for member in members_of(annotation):
            yield from _of_member(member, path, annotation, header=header)


def _of_member(member: Member, path: Path, owner: Any, *, header: bool) -> Iterator[Reading]:
    """How a member is read from a path that leads to it, by whichever of its names."""
    places = tuple((_field(place, member.name),) for place in member.places) if header else member.places
    name = (_field((member.name,), member.name),) if header else (member.name,)
    for place in (*places, name):
        if path[: len(place)] == place:
            first = places[0] if place != places[0] else ()
            rest = path[len(place) :]
            if not rest:
                yield Reading(member.annotation, member.metadata, owner, first)
            else:
                for one in _reach(member.annotation, rest):
                    yield one._replace(first=first or ((*place, *one.first) if one.first else ()))
            return


def _field(place: Place, name: str) -> str:
    """A header by the name that a policy gives it. FastAPI makes hyphens of the underscores of a parameter's name."""
    text = str(place[0])
    return (text.replace("_", "-") if text == name else text).lower()


def _adapters(reading: Reading) -> Iterator[TypeAdapter[Any]]:
    annotation, metadata = reading.annotation, reading.metadata
    said = settings_of(reading.owner)
    settings = ConfigDict(**{name: said[name] for name in _TEXT_SETTINGS if said.get(name)})  # type: ignore[typeddict-item]
    if annotation is str and not settings and not any(getattr(one, "metadata", one) for one in metadata):
        return
    annotated: Any = Annotated
    kind = annotated[annotation, *metadata] if metadata else annotation
    try:
        yield TypeAdapter(kind, config=settings or None)
    except PydanticSchemaGenerationError:
        return
    except PydanticUserError:
        # A type with settings of its own takes no others.
        yield TypeAdapter(kind)


def is_form(field: Any) -> bool:
    """Whether a body parameter is one of a form, and not of a document."""
    return type(field.field_info).__name__ in ("Form", "File")


def is_whole(fields: Sequence[Any]) -> bool:
    """Whether the body parameters are one, and the document is that one: not an object that has it as a member."""
    return len({field.name for field in fields}) == 1 and not getattr(fields[0].field_info, "embed", None)


def declared_in(dependant: Any, where: str) -> list[Any]:
    """The parameters of one kind of a handler and all that it depends on, as FastAPI keeps them."""
    if dependant is None:
        return []
    found = list(getattr(dependant, where))
    for inner in dependant.dependencies:
        found += declared_in(inner, where)
    return found
