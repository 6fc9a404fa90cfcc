"""A declaration is found whatever stands around it, changes nothing, and never speaks for something else."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

import afmiddleware
from afmiddleware.declare import (
    Place,
    body,
    capability,
    cookie,
    declared,
    first_declared,
    fixed,
    form,
    header,
    location,
    query,
)
from afmiddleware.declare import path as in_path
from afmiddleware.errors import ConfigError, GrammarError
from afmiddleware.model.money import Money


def handler() -> str:
    return "ran"


def fresh() -> Any:
    def inner(*args: Any, **more: Any) -> str:
        return "ran"

    return inner


def with_wraps(function: Any) -> Any:
    @functools.wraps(function)
    def outer(*args: Any, **more: Any) -> Any:
        return function(*args, **more)

    return outer


def with_wraps_that_copies_nothing(function: Any) -> Any:
    @functools.wraps(function, updated=())
    def outer(*args: Any, **more: Any) -> Any:
        return function(*args, **more)

    return outer


def name_of(endpoint: Any, method: str = "") -> str | None:
    found = declared(endpoint, method)
    return None if found is None else found.fields["capability"]


def test_it_returns_the_very_same_object_and_only_sets_an_attribute() -> None:
    function = fresh()
    before = dict(vars(function))
    assert capability("a.b")(function) is function
    assert vars(function).keys() - before.keys() == {"__afm_capability__"}
    assert function() == "ran"


ORDERS: list[list[Any]] = [
    [capability("a.b")],
    [capability("a.b"), with_wraps],
    [with_wraps, capability("a.b")],
    [capability("a.b"), with_wraps_that_copies_nothing],
    [capability("a.b"), with_wraps_that_copies_nothing, with_wraps, with_wraps_that_copies_nothing],
    [capability("a.b"), lambda function: functools.partial(function, 2)],
    [with_wraps, lambda function: functools.partial(function, 1), capability("a.b")],
    [capability("a.b"), lambda function: functools.partial(functools.partial(function, 1), x=2)],
    [capability("a.b"), staticmethod],
]


@pytest.mark.parametrize("order", ORDERS)
def test_any_order_of_decorators(order: list[Any]) -> None:
    endpoint = fresh()
    for decorate in order:
        endpoint = decorate(endpoint)
    assert name_of(endpoint) == "a.b"


def test_nothing_is_declared() -> None:
    assert declared(handler) is None
    assert declared(object()) is None
    assert declared(None) is None
    assert declared("GET") is None


def test_a_wrapper_that_hides_what_it_wraps_is_not_looked_through() -> None:
    marked = capability("a.b")(fresh())
    assert declared(lambda: [marked()]) is None


class View:
    @capability("things.read")
    def get(self) -> None: ...

    @with_wraps
    @capability("things.make")
    def post(self) -> None: ...

    def delete(self) -> None: ...


@capability("things.any")
class Marked(View):
    pass


class Inherits(Marked):
    pass


@pytest.mark.parametrize(
    ("view", "method", "expected"),
    [
        (View, "GET", "things.read"),
        (View, "HEAD", "things.read"),
        (View, "POST", "things.make"),
        (View, "DELETE", None),
        (View, "*", None),
        (View, "", None),
        (Marked, "GET", "things.read"),
        (Marked, "DELETE", "things.any"),
        (Marked, "*", "things.any"),
        (Inherits, "GET", "things.read"),
        (Inherits, "DELETE", None),
    ],
)
def test_the_method_speaks_before_its_class_and_a_class_for_itself_only(
    view: Any, method: str, expected: str | None
) -> None:
    assert name_of(view, method) == expected

    def as_view() -> None: ...

    as_view.view_class = view  # type: ignore[attr-defined]
    assert name_of(as_view, method) == expected
    assert name_of(with_wraps(as_view), method) == expected
    assert name_of(with_wraps_that_copies_nothing(as_view), method) == expected


def test_a_view_set_answers_with_other_names() -> None:
    class Things:
        @capability("things.list")
        def list(self) -> None: ...

    def view() -> None: ...

    view.cls = Things  # type: ignore[attr-defined]
    view.actions = {"get": "list"}  # type: ignore[attr-defined]
    assert name_of(view, "GET") == "things.list"
    assert name_of(view, "POST") is None


def test_what_stands_on_one_view_function_is_before_the_class_it_is_made_of() -> None:
    def view() -> None: ...

    view.view_class = Marked  # type: ignore[attr-defined]
    capability("things.here")(view)
    assert name_of(view, "DELETE") == "things.here"
    assert name_of(view, "GET") == "things.read"


def test_bound_methods_and_objects_that_are_called() -> None:
    class App:
        @capability("app.call")
        def __call__(self) -> None: ...

        @capability("app.run")
        def run(self) -> None: ...

    app = App()
    assert name_of(app) == "app.call"
    assert name_of(app.run) == "app.run"
    assert first_declared([app]) is None
    capability("app.this")(app)
    assert name_of(app) == "app.this"
    assert name_of(App()) == "app.call"
    assert first_declared([object(), app]) is declared(app)


def test_a_second_different_declaration_is_refused_with_both_places() -> None:
    function = capability("a.b")(fresh())
    capability("a.b")(function)
    with pytest.raises(ConfigError, match=r"test_declare\.py:\d+: this handler has .* from .*test_declare\.py:\d+"):
        capability("a.c")(function)
    with pytest.raises(ConfigError):
        capability("a.b", amount=body("x"))(with_wraps(function))


def test_what_cannot_carry_a_declaration() -> None:
    with pytest.raises(TypeError, match="function or the class"):
        capability("a.b")(View().get)


def test_the_place_is_the_line_of_the_declaration() -> None:
    here = location(test_the_place_is_the_line_of_the_declaration)
    line = int(here.rpartition(":")[2])
    made = capability("a.b")(fresh())
    found = declared(made)
    assert found is not None
    assert found.where == f"{here.rpartition(':')[0]}:{line + 3}"
    assert Path(found.where.rpartition(":")[0]).name == "test_declare.py"


def test_places_are_spelled_as_the_file_spells_them() -> None:
    made = [body("items[0].price"), body("[0].x"), query("q"), in_path("id"), header("X-A"), form("f"), cookie("c")]
    assert [one.text for one in made] == [
        "body.items[0].price", "body[0].x", "query.q", "path.id", "header.X-A", "form.f", "cookie.c",
    ]  # fmt: skip
    assert body("cents", unit="minor") == Place("body.cents", {"unit": "minor"})


def test_a_fixed_value_reads_nothing() -> None:
    assert fixed("0.02 USD") == "0.02 USD"
    assert fixed(Money(2, "USD", 2)) == "0.02 USD"
    with pytest.raises(GrammarError, match="brace"):
        fixed("flight:{body.id}")


def test_the_names_are_those_of_the_package() -> None:
    assert {"capability", "body", "query", "path", "header", "form", "cookie", "fixed"} <= set(afmiddleware.__all__)
    assert afmiddleware.capability is capability
