"""Which methods a view answers, as far as that can be told without calling it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MADE_BY_A_CLASS: Final = frozenset(
    {
        ("django.views.generic.base", "View.as_view.<locals>.view"),
        ("rest_framework.viewsets", "ViewSetMixin.as_view.<locals>.view"),
    },
)
_DISPATCH: Final = frozenset(
    {("django.views.generic.base", "View.dispatch"), ("rest_framework.views", "APIView.dispatch")},
)
_NOT_ALLOWED: Final = frozenset(
    {
        ("django.views.generic.base", "View.http_method_not_allowed"),
        ("rest_framework.views", "APIView.http_method_not_allowed"),
    },
)
_OPTIONS: Final = frozenset(
    {("django.views.generic.base", "View.options"), ("rest_framework.views", "APIView.options")},
)
_HEAD: Final = frozenset({("django.views.generic.base", "RedirectView.head")})
_DECORATING_DISPATCH: Final = ("django.utils.decorators", "_multi_decorate.<locals>._wrapper")
_DECORATORS: Final = "django.views.decorators."
_LISTING_METHODS: Final = "require_http_methods.<locals>.decorator.<locals>.inner"
_MIDDLEWARE_ON_A_VIEW: Final = "make_middleware_decorator.<locals>._make_decorator.<locals>._decorator.<locals>."


class Methods(msgspec.Struct, frozen=True):
    """The methods that reach code of the project, `None` for every one. HEAD is apart: see `own_head`.

    Where they are known, Django itself answers all others: 405, and OPTIONS with the list of methods.
    """

    known: frozenset[str] | None = None
    own_head: bool = False


def methods_of(view: Callable[..., Any]) -> Methods:
    """The methods of a view.

    They are known of class views (Django's, and the views and view sets of Django REST framework) that dispatch in the
    usual way, and below `require_http_methods`. A function view runs for every method, also one that does not exist.
    """
    here: Any = view
    listed: frozenset[str] | None = None
    while origin(here)[0].startswith(_DECORATORS) and hasattr(here, "__wrapped__"):
        if origin(here)[1] == _LISTING_METHODS:
            names = frozenset(inspect.getclosurevars(here).nonlocals["request_method_list"])
            listed = names if listed is None else listed & names
        here = here.__wrapped__
    known = _of_class(here)
    if listed is None:
        return known
    both = listed if known.known is None else listed & known.known
    return Methods(both, own_head=known.own_head or ("HEAD" in both and "GET" not in both))


def origin(function: object) -> tuple[str, str]:
    """The module and the name of the code that really runs: decorators copy the name of what they are around."""
    code = getattr(function, "__code__", None)
    if code is None:
        return "", ""
    return str(getattr(function, "__globals__", {}).get("__name__", "")), str(code.co_qualname)


def middlewares_on(view: Callable[..., Any]) -> list[type]:
    """Middleware classes that `decorator_from_middleware` has put around this one view."""
    found: list[type] = []
    here: Any = view
    while here is not None:
        if origin(here)[1].startswith(_MIDDLEWARE_ON_A_VIEW):
            held = inspect.getclosurevars(here).nonlocals
            if "middleware" not in held and "_pre_process_request" in held:
                held = inspect.getclosurevars(held["_pre_process_request"]).nonlocals
            found.append(type(held.get("middleware", here)))
        here = getattr(here, "__wrapped__", None)
    return found


def _of_class(view: Any) -> Methods:
    told = getattr(view, "__dict__", {})
    made: Any = told.get("view_class") or told.get("cls")
    if not inspect.isclass(made) or origin(view) not in _MADE_BY_A_CLASS or not _dispatches_plainly(made):
        return Methods()
    arguments: dict[str, Any] = told.get("view_initkwargs") or told.get("initkwargs") or {}
    names: Iterable[str] = arguments.get("http_method_names", getattr(made, "http_method_names", ()))
    actions: dict[str, str] = told.get("actions") or {}
    handlers = {name: getattr(made, actions.get(name, name), None) for name in names}
    known = {name.upper() for name, handler in handlers.items() if handler is not None}
    if handlers.get("options") is not None and origin(handlers["options"]) in _OPTIONS:
        known.discard("OPTIONS")
    head, get = handlers.get("head"), handlers.get("get")
    own_head = head is not None and head is not get and origin(head) not in _HEAD
    if get is not None and "head" in names:
        known.add("HEAD")
    return Methods(frozenset(known), own_head=own_head)


def _dispatches_plainly(made: type) -> bool:
    if origin(getattr(made, "http_method_not_allowed", None)) not in _NOT_ALLOWED:
        # Code of the project answers for the methods that have no handler.
        return False
    dispatch: Any = getattr(made, "dispatch", None)
    while origin(dispatch) == _DECORATING_DISPATCH:
        decorators = inspect.getclosurevars(dispatch).nonlocals.get("decorators", (None,))
        if not all(origin(one)[0].startswith(_DECORATORS) for one in decorators):
            return False
        dispatch = getattr(dispatch, "__wrapped__", None)
    return origin(dispatch) in _DISPATCH
