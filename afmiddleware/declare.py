"""Declaring in code what a handler's requests are. A declaration enforces nothing: the fence does, at its audit.

    @app.post("/v1/bookings")
    @capability("flights.book", amount=body("price"), currency=body("currency"), resource="flight:{body.flight_id}")
    async def book(booking: Booking): ...

It stands on a function, a method, a class view, a router or a mounted application, above or below other decorators.
The narrowest one counts: a method's own before that of its class, an endpoint's own before that of its router.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from afmiddleware.errors import ConfigError, GrammarError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from afmiddleware.model.money import Money

T = TypeVar("T")

_CANNOT: Final = "this cannot carry a capability: put it on the function or the class"
_PLAIN_WRAPPERS: Final = {
    ("rest_framework.decorators", "api_view.<locals>.decorator.<locals>.handler"): "func",
}
"""Functions without `__wrapped__` that only call another one: module and name, and the variable that holds it."""
ATTRIBUTE: Final = "__afm_capability__"


class Place(msgspec.Struct, frozen=True):
    """A place of the request, as `body("price")` and its like name it. `text` is the source as fence.yaml spells it."""

    text: str
    options: Mapping[str, str] = {}


Value = str | Place | Callable[..., Any]
"""A text as the file has it, a place of the request, or a callable of the request."""


class Declaration(msgspec.Struct, frozen=True):
    """What `capability` was given: `fields` are the keys of an entry under `routes:`, `where` is its file and line."""

    fields: Mapping[str, Any]
    where: str = ""


def capability(  # noqa: PLR0913 (the keys of a route)
    name: str,
    /,
    *,
    amount: Value | Money | None = None,
    currency: Value | None = None,
    resource: Value | None = None,
    recipient: Value | None = None,
    category: Value | None = None,
    network: Value | None = None,
    **more: Any,
) -> Callable[[T], T]:
    """Declare the capability of a handler, and where the parts of its action are found.

    The keyword arguments are the keys of a route in fence.yaml: `amount`, `currency`, `resource`, `recipient`,
    `category`, `network`, and by `more` all others, such as `on_outcome="keep"`. A value is a place (`body("price")`),
    a text as the file has it (`"flight:{body.flight_id}"`, `"0.02 USD"`), a map, or a callable of the request. They
    are checked with the file's own checks when the application starts; mistakes then name the line of this declaration.

    What is decorated is returned as it is. Raises `ConfigError` for a second, different declaration on it, and
    `TypeError` for what cannot carry one.
    """
    told = {
        "capability": name,
        "amount": amount,
        "currency": currency,
        "resource": resource,
        "recipient": recipient,
        "category": category,
        "network": network,
        **more,
    }
    declaration = Declaration({key: value for key, value in told.items() if value is not None}, _caller())

    def declare(target: T) -> T:
        if inspect.ismethod(target):
            raise TypeError(_CANNOT)
        first = _own(target)
        if first is not None and first.fields != declaration.fields:
            raise ConfigError([f"{declaration.where}: this handler has a capability already, from {first.where}"])
        try:
            setattr(target, ATTRIBUTE, declaration)
        except AttributeError:
            raise TypeError(_CANNOT) from None
        return target

    return declare


def body(path: str, **options: str) -> Place:
    """A member of the JSON body: `body("items[0].price")`. `options` are those of the file, such as `unit="minor"`."""
    return Place(f"body{path}" if path.startswith("[") else f"body.{path}", options)


def query(name: str, **options: str) -> Place:
    """A parameter of the query."""
    return Place(f"query.{name}", options)


def path(name: str, **options: str) -> Place:
    """A parameter of the path."""
    return Place(f"path.{name}", options)


def header(name: str, **options: str) -> Place:
    """A header of the request."""
    return Place(f"header.{name}", options)


def form(name: str, **options: str) -> Place:
    """A field of the form in the body."""
    return Place(f"form.{name}", options)


def cookie(name: str, **options: str) -> Place:
    """A cookie."""
    return Place(f"cookie.{name}", options)


def fixed(value: str | Money) -> str:
    """The same value for every request: a text, or a price such as `"0.02 USD"`. Raises `GrammarError` for a brace."""
    text = str(value)
    if "{" in text or "}" in text:
        msg = f"{text[:60]!r} holds a brace: a fixed value reads nothing from the request"
        raise GrammarError(msg)
    return text


def declared(endpoint: object, method: str = "") -> Declaration | None:
    """What was declared on an endpoint, `None` when nothing was.

    Looks through `functools.partial`, `__wrapped__` and bound methods, into the class behind the function that
    Flask's and Django's `as_view()` make, and at the method that answers `method` (`GET` also for `HEAD`). A class
    does not inherit the declaration of its base, for what it runs may be something else; an inherited method keeps
    its own.
    """
    seen: set[int] = set()
    here: Any = endpoint
    while here is not None and id(here) not in seen:
        seen.add(id(here))
        if inspect.isclass(here):
            return _of_method(here, method, {}) or _own(here)
        found = _own(here)
        view = _view_class(here)
        if view is not None:
            return _of_method(view, method, getattr(here, "actions", None) or {}) or found or _own(view)
        if found is not None:
            return found
        here = _beneath(here)
    return None


def first_declared(holders: Iterable[object]) -> Declaration | None:
    """The declaration on the first of several routers or applications that carries one itself."""
    return next((found for holder in holders if (found := _own(holder)) is not None), None)


def location(handler: object) -> str:
    """File and line of a handler's code, empty where it has none of its own."""
    here: Any = inspect.unwrap(handler) if callable(handler) else handler
    while isinstance(here, functools.partial):
        here = inspect.unwrap(here.func)
    code = getattr(here, "__code__", None)
    return _shown(code.co_filename, code.co_firstlineno) if code is not None else ""


def _own(target: Any) -> Declaration | None:
    """The declaration on this very object, and not on its class."""
    found = getattr(target, "__dict__", {}).get(ATTRIBUTE)
    return found if isinstance(found, Declaration) else None


def _beneath(target: Any) -> Any:
    """What a wrapper is around; of an object that is called, its class's `__call__`."""
    if isinstance(target, (functools.partial, functools.partialmethod)):
        return target.func
    if inspect.ismethod(target):
        return target.__func__
    place = (getattr(target, "__module__", ""), getattr(target, "__qualname__", ""))
    if place in _PLAIN_WRAPPERS and inspect.isfunction(target):
        return inspect.getclosurevars(target).nonlocals.get(_PLAIN_WRAPPERS[place])
    wrapped = getattr(target, "__wrapped__", None)
    if wrapped is not None or inspect.isroutine(target):
        return wrapped
    called = getattr(type(target), "__call__", None)  # noqa: B004 (wanted is the function, not whether there is one)
    return called if inspect.isfunction(called) else None


def _view_class(target: Any) -> type | None:
    """The class whose methods answer: Flask and Django call it `view_class`, Django REST framework `cls`."""
    for name in ("view_class", "cls"):
        found = getattr(target, "__dict__", {}).get(name)
        if inspect.isclass(found):
            return found
    return None


def _of_method(view: type, method: str, actions: Mapping[str, str]) -> Declaration | None:
    """The declaration on the method of a class that answers an HTTP method; `actions` are those of a view set."""
    for name in ("head", "get") if method == "HEAD" else (method.lower(),):
        answers = getattr(view, actions.get(name, name), None) if name.isidentifier() else None
        if answers is not None:
            return declared(answers)
    return None


def _caller() -> str:
    """File and line of whoever called the caller of this."""
    frame = inspect.currentframe()
    for _ in range(2):
        frame = frame.f_back if frame is not None else None
    if frame is None:
        return "<unknown>"
    return _shown(frame.f_code.co_filename, frame.f_lineno)


def _shown(name: str, line: int) -> str:
    """A place in a file, as an editor opens it; relative to the working folder where it is below that."""
    file = Path(name)
    try:
        file = file.relative_to(Path.cwd())
    except (ValueError, OSError):
        return f"{file}:{line}"
    return f"{file}:{line}"
