"""An entry of the policy means the endpoint it stands for in any framework's spelling, and never two."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from afmiddleware.config.load import load
from afmiddleware.declare import Declaration
from afmiddleware.errors import ConfigError
from afmiddleware.fence import Fence
from afmiddleware.mapping.coverage import (
    AMBIGUOUS,
    DECLARED_TWICE,
    INNER_MIDDLEWARE,
    NO_ENDPOINT,
    ROUTER,
    STOPS,
    UNKNOWN_NODE,
    UNMAPPED,
    Endpoint,
    Listing,
    key_of,
)


def fence(*routes: str, inner: str = "[]") -> Fence:
    text = f"version: 1\nservice: s\nledger: memory\ninner_middleware: {inner}\n"
    entries = "".join(f'  - {{route: "{route}", capability: c.n{place}}}\n' for place, route in enumerate(routes))
    return Fence(load(text + (f"routes:\n{entries}" if routes else "")))


def listing(*keys: str, **more: Any) -> Listing:
    return Listing(endpoints=tuple(endpoint(key) for key in keys), **more)


def endpoint(key: str, capability: str = "", **more: Any) -> Endpoint:
    method, _, template = key.partition(" ")
    declaration = Declaration({"capability": capability}, "app.py:7") if capability else None
    return Endpoint(method=method, template=template, name=f"app.{template}", declaration=declaration, **more)


def capabilities(core: Fence, *keys: str) -> list[str | None]:
    """What the adapter's own keys are bound to, as a request is judged."""
    found = [core.plan.bindings.get(key_of(*key.split(" ", 1))) for key in keys]
    return [None if one is None else one.capability for one in found]


FITS: list[tuple[list[str], list[str], list[str | None]]] = [
    # what the file says, what the application has, what each is bound to
    (["GET /x/{id}"], ["GET /x/{id}"], ["c.n0"]),
    (["GET /x/{id}"], ["GET /x/<id>"], ["c.n0"]),
    (["GET /x/{id}"], ["GET /x/<int:id>"], ["c.n0"]),
    (["GET /x/{id}"], ["GET x/<int:id>"], ["c.n0"]),
    (["GET /x/{id}"], ["GET ^x/(?P<id>[0-9]+)$"], ["c.n0"]),
    (["GET /x/<int:id>"], ["GET /x/{id}"], ["c.n0"]),
    (["GET /x/<int:id>"], ["GET /x/{id:int}"], ["c.n0"]),
    (["GET /x/<uuid:id>"], ["GET /x/{id:int}"], ["c.n0"]),
    (["GET /f/{p:path}"], ["GET f/<path:p>"], ["c.n0"]),
    (["GET ^a/(x|y)$"], ["GET ^a/(x|y)$"], ["c.n0"]),
    # The very spelling comes first, and leaves the others unmapped.
    (["GET /x/{id:int}"], ["GET /x/{id}", "GET /x/<int:id>"], [None, "c.n0"]),
    (["GET /x/{id}"], ["GET /x/{id}", "GET /x/<int:id>"], ["c.n0", None]),
    (["GET /x/{id}", "GET /x/{id:int}"], ["GET /x/<id>", "GET /x/<int:id>"], ["c.n0", "c.n1"]),
    (["GET /x/{id:int}", "GET /x/{id}"], ["GET /x/<id>", "GET /x/<int:id>"], ["c.n1", "c.n0"]),
    # Each method is an endpoint of its own.
    (["GET /x/{id}", "POST /x/{id:int}"], ["GET /x/<int:id>", "POST /x/<id>"], ["c.n0", "c.n1"]),
    # Where every method is dispatched, those of the file are bound.
    (["POST /x/{id}"], ["* /x/<int:id>"], [None]),
]


@pytest.mark.parametrize(("routes", "keys", "expected"), FITS)
def test_an_entry_means_the_endpoint_however_it_is_spelled(
    routes: list[str], keys: list[str], expected: list[str | None]
) -> None:
    core = fence(*routes)
    core.adopt(listing(*keys))
    assert capabilities(core, *keys) == expected


def test_every_method_under_one_node() -> None:
    core = fence("POST /x/{id}")
    core.adopt(listing("* /x/<int:id>"))
    assert capabilities(core, "POST /x/<int:id>", "GET /x/<int:id>") == ["c.n0", None]


UNFIT: list[tuple[list[str], list[str], str, str]] = [
    (["GET /x/{id}"], ["GET /x/<int:id>", "GET /x/<uuid:id>"], AMBIGUOUS, "would mean GET /x/{id:int} and"),
    (["GET /x/{id:int}", "GET /x/{id:uuid}"], ["GET /x/{id}"], AMBIGUOUS, "both mean GET /x/{id}"),
    (["GET /x/{id}"], ["GET ^x/(?P<id>[0-9]+)$", "GET ^x/(?P<id>[a-z]+)$"], AMBIGUOUS, "another name"),
    (["GET /x/{id}"], ["GET /x/{key}"], NO_ENDPOINT, "did you mean GET /x/{key}?"),
    (["GET /x/{id}"], ["POST /x/{id}"], NO_ENDPOINT, "did you mean POST /x/{id}?"),
    (["GET /x/{id}"], ["GET /x/{id:path}"], NO_ENDPOINT, "did you mean"),
    (["GET /x"], ["GET /x/"], NO_ENDPOINT, "did you mean GET /x/?"),
    (["GET /x"], [], NO_ENDPOINT, "has no endpoint GET /x"),
    (["HEAD /x"], ["GET /x"], NO_ENDPOINT, "did you mean GET /x?"),
]


@pytest.mark.parametrize(("routes", "keys", "kind", "text"), UNFIT)
def test_what_an_entry_cannot_mean_stops_the_start(routes: list[str], keys: list[str], kind: str, text: str) -> None:
    core = fence(*routes)
    assert kind in {one.id for one in core.audit(listing(*keys)).findings}
    with pytest.raises(ConfigError) as caught:
        core.adopt(listing(*keys))
    assert any(text in problem for problem in caught.value.problems)
    assert all(problem.startswith("fence.yaml:") or "another name" in problem for problem in caught.value.problems)


def test_hints_are_given_for_the_first_that_are_missing() -> None:
    core = fence(*(f"GET /old/{place}" for place in range(30)))
    findings = core.audit(listing(*(f"GET /new/{place}" for place in range(30)))).findings
    assert ["did you mean" in one.text for one in findings] == [True] * 20 + [False] * 10


def test_two_spellings_of_one_endpoint_in_the_file() -> None:
    with pytest.raises(ConfigError, match="bound already at line 6"):
        fence("GET /x/{id:int}", "GET /x/<int:id>")


def test_a_declaration_and_an_entry_in_another_spelling_are_two_bindings() -> None:
    core = fence("GET /x/{id}")
    here = Listing(endpoints=(endpoint("GET /x/<int:id>", "code.c"),))
    assert [one.id for one in core.audit(here).findings] == [DECLARED_TWICE]


def test_two_declarations_for_one_endpoint() -> None:
    core = fence()
    here = Listing(endpoints=(endpoint("GET /x", "a.b"), endpoint("GET /x", "a.c")))
    assert [one.id for one in core.audit(here).findings] == [AMBIGUOUS]


@pytest.mark.parametrize("keys", [("POST /x", "POST /x"), ("* /x", "* /x")])
def test_a_declaration_does_not_speak_for_another_handler_of_the_same_endpoint(keys: tuple[str, str]) -> None:
    core = fence()
    first, second = endpoint(keys[0]), endpoint(keys[1], "a.b")
    here = Listing(endpoints=(replace(first, name="app.other"), second))
    findings = core.audit(here).findings
    assert {one.id for one in findings} == {AMBIGUOUS}
    assert all("app.other, which declares nothing" in one.text for one in findings)
    with pytest.raises(ConfigError):
        core.adopt(here)


def test_a_declaration_where_every_method_is_dispatched_leaves_other_endpoints_alone() -> None:
    core = fence()
    core.adopt(Listing(endpoints=(endpoint("* /x", "a.b"), endpoint("POST /x", "a.c"))))
    assert capabilities(core, "GET /x", "POST /x", "DELETE /x", "FOO /x", "WEBSOCKET /x") == [
        "a.b", "a.c", "a.b", None, None,
    ]  # fmt: skip


def test_what_the_audit_finds_and_what_stops() -> None:
    core = fence("GET /x", inner="[known.Layer]")
    here = Listing(
        endpoints=(
            endpoint("GET /x"),
            endpoint("GET /docs"),
            endpoint("POST /x", where="app.py:9"),
            endpoint("* /any"),
            endpoint("WEBSOCKET /ws"),
            endpoint("* /odd", kind="unknown"),
        ),
        layers=("known.Layer", "other.Layer"),
        problems=("the router cannot be asked",),
    )
    report = core.audit(here)
    rows, findings = report.endpoints, report.findings
    assert [(one.id, one.id in STOPS) for one in findings] == [
        (ROUTER, True), (UNMAPPED, False), (UNMAPPED, False), (UNKNOWN_NODE, True), (INNER_MIDDLEWARE, True),
    ]  # fmt: skip
    assert str(findings[1]).startswith("app.py:9: POST /x (app./x)")
    assert [(one.endpoint, one.capability, one.bound) for one in rows] == [
        ("GET /x", "c.n0", "fence.yaml:6"),
        ("GET /docs", "unmapped", ""),
        ("POST /x", "unmapped", ""),
        ("* /any", "unmapped", ""),
        ("WEBSOCKET /ws", "unmapped", ""),
        ("* /odd", "unmapped", ""),
    ]


def test_of_an_endpoint_for_every_method_the_bound_ones_are_named() -> None:
    core = fence("POST /x", "PUT /x")
    some, whole = core.audit(Listing(endpoints=(endpoint("* /x"), endpoint("* /y", "a.b")))).endpoints
    assert (some.capability, some.methods) == ("c.n0, c.n1", ("POST", "PUT"))
    assert (whole.capability, whole.methods) == ("a.b", ())


def test_what_is_unmapped_is_said_at_the_start_and_does_not_stop_it(caplog: pytest.LogCaptureFixture) -> None:
    core = fence("GET /x")
    core.adopt(listing("GET /x", "POST /pay", "GET /docs"))
    assert [(one.levelname, "POST /pay" in one.message) for one in caplog.records] == [("WARNING", True)]


def test_what_several_applications_list_adds_up() -> None:
    core = fence("GET /x/{id}")
    core.adopt(listing("GET /x/<int:id>"))
    core.adopt(Listing(endpoints=(endpoint("POST /y", "a.b"),)))
    core.adopt(Listing(endpoints=(endpoint("POST /y", "a.b"),)))
    assert capabilities(core, "GET /x/<int:id>", "POST /y") == ["c.n0", "a.b"]


def test_a_public_endpoint_is_listed_as_such() -> None:
    core = Fence(load("version: 1\nservice: s\nledger: memory\nroutes: [{route: GET /health, public: true}]\n"))
    report = core.audit(listing("GET /health"))
    assert (report.endpoints[0].capability, report.findings) == ("public", ())
