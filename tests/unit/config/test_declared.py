"""What is declared in code is read as the file's routes are."""

from __future__ import annotations

from typing import Any

import pytest

from afmiddleware.config.declared import declared_routes, digest_with
from afmiddleware.config.load import load
from afmiddleware.declare import Declaration, body
from afmiddleware.model.money import Money

CONFIG = load("version: 1\nservice: s\n")


def made(**fields: Any) -> Any:
    [route], problems = declared_routes(
        CONFIG, [("POST /pay", Declaration({"capability": "a.b", **fields}, "app.py:3"))]
    )
    return problems or route


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"public": False}, "public", False),
        ({"max_body": 100, "amount": body("price")}, "max_body", 100),
        ({"amount": Money(250, "USD", 2)}, "amount", "2.50 USD"),
        ({"media": ("json",), "amount": body("price")}, "media", ("json",)),
        ({"on_outcome": {"4xx": "keep"}}, "on_outcome", {"4xx": "keep"}),
    ],
)
def test_a_value_of_python_is_that_of_the_file(fields: dict[str, Any], name: str, value: object) -> None:
    assert getattr(made(**fields), name) == value


def test_a_place_is_that_of_the_file_with_its_options_and_a_function_is_taken_as_it_is() -> None:
    route = made(amount=body("price", unit="minor"), recipient=test_a_value_of_python_is_that_of_the_file)
    assert (route.amount.from_, route.amount.unit) == ("body.price", "minor")
    assert route.recipient is test_a_value_of_python_is_that_of_the_file


def test_what_is_wrong_names_the_line_of_the_declaration() -> None:
    assert made(public=True) == [
        "app.py:3: POST /pay: capability: a public route has no capability; remove it, or public"
    ]
    assert made(line=4) == ["app.py:3: POST /pay: line: unknown key 'line'"]


def test_the_digest_covers_what_is_declared_and_not_where() -> None:
    def digest(where: str, **fields: Any) -> str:
        return digest_with("00", [("POST /pay", Declaration(fields, where))])

    assert (
        digest("a.py:1", capability="a.b") == digest("b.py:9", capability="a.b") != digest("a.py:1", capability="a.c")
    )
    assert digest_with("00", []) == "00"


def test_the_digest_covers_by_which_code_a_value_is_found() -> None:
    class Finder:
        def __call__(self, view: Any) -> str:
            return str(view)

    def digest(call: Any) -> str:
        return digest_with("00", [("POST /pay", Declaration({"capability": "a.b", "recipient": call}, "app.py:3"))])

    assert digest(made) == digest(made) != digest(test_what_is_wrong_names_the_line_of_the_declaration)
    assert digest(Finder()) == digest(Finder()) != digest(made)


def test_a_wrong_declaration_leaves_the_others_right() -> None:
    wrong: dict[str, Any] = {"public": True, "capability": "a.b"}
    right = {"capability": "a.c"}
    several = [wrong, right, right, wrong]
    routes, problems = declared_routes(
        CONFIG, [(f"POST /{place}", Declaration(fields, f"app.py:{place}")) for place, fields in enumerate(several)]
    )
    assert [route and route.route for route in routes] == [None, "POST /1", "POST /2", None]
    assert [one.partition(": ")[0] for one in problems] == ["app.py:0", "app.py:3"]


def test_an_unknown_key_inside_a_declaration_is_named() -> None:
    assert made(amount={"from": "body.price", "unti": "minor"}) == [
        "app.py:3: POST /pay: unknown key 'unti' in amount; did you mean 'unit'?"
    ]


def test_what_is_declared_for_agents_needs_a_session_of_the_application() -> None:
    declared = [("POST /pay", Declaration({"capability": "a.b", "applies_to": "agents"}, "app.py:3"))]
    [said] = declared_routes(CONFIG, declared)[1]
    assert said.startswith("app.py:3: POST /pay: applies_to: without a session of the application's own")
    known = load("version: 1\nservice: s\nidentity: {from_app: true}\n")
    [route], problems = declared_routes(known, declared)
    assert problems == []
    assert route is not None
    assert route.applies_to == "agents"
