"""Path parameters that FastAPI converts after routing: what the policy reads must be what the handler gets.

`/orders/007` reaches a handler that declares `order: int` as 7. An event for `order:007` would then be for something
else than what is acted on, so a parameter with another spelling than its value's own cannot be read: a binding that
reads it refuses the request, and one that does not is not concerned.
"""

from __future__ import annotations

import datetime as dt
import enum
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class OtherSpelling:
    """Stands for a value that has another spelling than the handler's; no extractor takes it."""

    __slots__ = ()


OTHER_SPELLING: Final = OtherSpelling()


class TypedParams(dict[str, Any]):
    """The router's path parameters, read with the eyes of the handler. It equals the plain ones."""

    __slots__ = ("_types",)

    def __init__(self, params: Mapping[str, Any], types: Mapping[str, tuple[TypeAdapter[Any], ...]]) -> None:
        dict.__init__(self, params)
        self._types = types

    def __getitem__(self, name: str) -> Any:
        value = dict.__getitem__(self, name)
        return value if all(is_own(one, value) for one in self._types.get(name, ())) else OTHER_SPELLING

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or what stands for one with another spelling."""
        try:
            return self[name]
        except KeyError:
            return default


def types_of(dependant: Any) -> Mapping[str, tuple[TypeAdapter[Any], ...]]:
    """What a handler and its dependencies convert path parameters to, plain texts left out.

    `dependant` is what FastAPI knows of a handler, `None` for any other; nothing is converted for those.
    """
    found: dict[str, tuple[TypeAdapter[Any], ...]] = {}
    annotated: Any = Annotated
    for field in _fields(dependant):
        info = field.field_info
        if info.annotation is not str or info.metadata:
            adapter: TypeAdapter[Any] = TypeAdapter(annotated[info.annotation, info])
            found[field.alias] = (*found.get(field.alias, ()), adapter)
    return found


def _fields(dependant: Any) -> Iterator[Any]:
    if dependant is None:
        return
    yield from dependant.path_params
    for inner in dependant.dependencies:
        yield from _fields(inner)


def is_own(adapter: TypeAdapter[Any], text: object) -> bool:
    """Whether a text is how its value is written. One that FastAPI will refuse is not acted on, so it may be read."""
    try:
        value = adapter.validate_python(text)
    except ValidationError:
        return True
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, bool):
        return str(text) == ("true" if value else "false")
    if isinstance(value, (dt.date, dt.time)):
        return str(text) == value.isoformat()
    return str(text) == str(value)
