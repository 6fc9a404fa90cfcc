"""Query, header, cookie, form and body values that FastAPI converts: what the policy reads is what the handler gets.

`?to=007` reaches a handler that declares `to: int` as 7, and a rule about `7` would not see it. A text whose spelling
is not that of the value FastAPI will make of it is refused where the policy reads it; that holds for the declared types
and their constraints, model settings included, and not for what a validator function of the application does.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

from afmiddleware_fastapi.typed import is_own

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from afmiddleware.grammar.paths import Path, Source

_PLACES: Final = {"query": "query_params", "header": "header_params", "cookie": "cookie_params"}
_UNIONS: Final = (Union, types.UnionType)
_TEXT_SETTINGS: Final = ("str_strip_whitespace", "str_to_lower", "str_to_upper")


class Spelling:
    """Knows what one handler declares. Asked with a place of the request and the text that stands there."""

    def __init__(self, dependant: Any) -> None:
        self._dependant = dependant
        self._known: dict[Source, tuple[TypeAdapter[Any], ...]] = {}

    def __call__(self, source: Source, text: str) -> bool:
        found = self._known.get(source)
        if found is None:
            # The policy names the sources, so there are few.
            found = self._known[source] = tuple(_adapters(self._dependant, source))
        return all(is_own(adapter, text) for adapter in found)


def spelling_of(dependant: Any) -> Spelling | None:
    """What a handler and its dependencies make of a request besides its path; `None` when nothing is declared."""
    declared = any(_fields(dependant, where) for where in (*_PLACES.values(), "body_params"))
    return Spelling(dependant) if declared else None


def _adapters(dependant: Any, source: Source) -> Iterator[TypeAdapter[Any]]:
    place = _PLACES.get(source.kind)
    if place is not None:
        for field in _fields(dependant, place):
            yield from _at(field, (source.name,))
        return
    fields = _fields(dependant, "body_params")
    whole = len({field.name for field in fields}) == 1 and not getattr(fields[0].field_info, "embed", None)
    for field in fields:
        form = type(field.field_info).__name__ in ("Form", "File")
        if form != (source.kind == "form"):
            continue
        if form:
            yield from _at(field, (source.name,))
        elif whole:
            yield from _reach(field.field_info.annotation, source.path)
        else:
            yield from _at(field, source.path)


def _at(field: Any, path: Path) -> Iterator[TypeAdapter[Any]]:
    """The types at a path that begins with the parameter's name, or with that of a field of a parameter model."""
    info = field.field_info
    if path[:1] == (field.alias,):
        if len(path) > 1:
            yield from _reach(info.annotation, path[1:])
        else:
            yield from _leaf(info.annotation, (info,))
    elif _model(info.annotation) is not None:
        yield from _reach(info.annotation, path)


def _reach(annotation: Any, path: Path) -> Iterator[TypeAdapter[Any]]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _reach(inner[0], path)
    elif origin in _UNIONS:
        for arm in inner:
            yield from _reach(arm, path)
    elif (model := _model(annotation)) is not None:
        first, rest = path[0], path[1:]
        for name, info in model.model_fields.items():
            if first in (name, info.alias, info.validation_alias):
                if rest:
                    yield from _reach(info.annotation, rest)
                else:
                    yield from _leaf(info.annotation, info.metadata, model)
    elif origin in (list, set, frozenset, tuple, dict) and inner:
        value = inner[-1] if origin is dict else inner[0]
        if len(path) > 1:
            yield from _reach(value, path[1:])
        else:
            yield from _leaf(value, ())


def _leaf(annotation: Any, metadata: Sequence[Any], model: type[BaseModel] | None = None) -> Iterator[TypeAdapter[Any]]:
    config: dict[str, Any] = dict(model.model_config) if model is not None else {}
    settings = ConfigDict(**{name: config[name] for name in _TEXT_SETTINGS if config.get(name)})  # type: ignore[typeddict-item]
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


def _fields(dependant: Any, where: str) -> list[Any]:
    if dependant is None:
        return []
    found = list(getattr(dependant, where))
    for inner in dependant.dependencies:
        found += _fields(inner, where)
    return found


def _model(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
