"""What runs is what was judged: with resolvers that lie, and with middlewares that change the request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.http import HttpResponse
from django.test import Client
from django.urls import path

from afmiddleware.errors import ConfigError
from afmiddleware_django.resolver import Place, Resolver
from afmiddleware_django.tree import Leaf
from tests.conformance import wsgi
from tests.integrations.django import layers
from tests.integrations.django.fenced import POLICY, Door, Tried
from tests.integrations.django.project import FENCE, SEAL

HERE = "tests.integrations.django.layers"


def inside(folder: Path, layer: type, *more: str) -> tuple[Tried, list[str]]:
    """A project with a layer behind the fence that its policy vouches for."""
    name = f"{HERE}.{layer.__name__}"
    return Tried(folder, inner=[name]), [FENCE, name, *more]


def lied_to(door: Door, monkeypatch: pytest.MonkeyPatch, lie: Any) -> None:
    honest = Resolver.place
    monkeypatch.setattr(Resolver, "place", lambda self, request, match: lie(honest(self, request, match)))


def other(_request: Any, **_values: Any) -> HttpResponse:
    return HttpResponse("")


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(lambda _place: Place(Leaf(route="health", template="health", view=other)), id="another endpoint"),
        pytest.param(
            lambda place: Place(Leaf(route="health", template="health", view=place.view)),
            id="the view of another route",
        ),
        pytest.param(
            lambda place: Place(Leaf(route=place.route, template=place.template, view=other)), id="another view"
        ),
    ],
)
def test_a_resolver_that_lies_is_caught(tried: Tried, kind: str, lie: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with tried.door(kind) as door:
        lied_to(door, monkeypatch, lie)
        answer = door.json("POST", "/pay", {"amount": "4.00"})
    assert (answer.status, answer.code, tried.ran, tried.spent()) == (500, "request.unsealed", [], 0)


def test_a_resolver_that_sees_no_such_method_is_caught(
    tried: Tried, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Place, "judged", lambda *_: None)
    with tried.door(kind) as door:
        answer = door.json("POST", "/pay", {"amount": "4.00"})
    assert (answer.status, answer.code) == (500, "request.unsealed")


@pytest.mark.parametrize(
    ("layer", "method", "target"),
    [
        (layers.OtherMethod, "GET", "/read/7"),
        (layers.OtherArguments, "GET", "/read/7"),
        (layers.OtherQuery, "GET", "/read/7"),
        (layers.OtherBody, "POST", "/pay"),
    ],
)
@pytest.mark.parametrize("sealed", [True, False])
def test_a_change_after_the_decision_is_caught(
    kind: str, layer: type, method: str, target: str, sealed: bool, tmp_path: Path
) -> None:
    tried, middleware = inside(tmp_path, layer, *([SEAL] if sealed else []))
    with tried.door(kind, MIDDLEWARE=middleware) as door:
        answer = door.json(method, target, {"amount": "4.00"})
    assert (answer.status, answer.code) == (500, "request.unsealed")
    # With the seal the view has not run; without it that is found when it has.
    assert tried.settled() == ([("release", "not_reached")] if sealed else [("unknown", "error")])
    assert (len(tried.ran) == 0) or not sealed
    assert tried.spent() == (0 if sealed or method == "GET" else 400)


def test_the_seal_lets_pass_what_was_judged(kind: str, tmp_path: Path) -> None:
    tried, middleware = inside(tmp_path, layers.ReadsBody, SEAL)
    with tried.door(kind, MIDDLEWARE=middleware) as door:
        assert door.json("POST", "/pay", {"amount": "4.00"}).status == 200
        assert door.send("GET", "/health").status == 200
        assert door.send("GET", "/nothing").status == 404
        assert door.send("DELETE", "/pay").status == 405
        assert door.send("OPTIONS", "/pay").status == 200
    assert [name for name, _, _ in tried.ran] == ["pay", "health"]
    assert tried.settled() == [("capture", "ok")]


def test_a_method_changed_before_routing_is_what_is_judged(kind: str, tmp_path: Path) -> None:
    tried, middleware = inside(tmp_path, layers.EarlyMethod, SEAL)
    with tried.door(kind, MIDDLEWARE=middleware) as door:
        assert door.send("GET", "/pay", headers=[("x-method", "DELETE")]).status == 405
        assert door.send("GET", "/read/7", headers=[("x-method", "POST")]).status == 405
        answer = door.send(
            "GET", "/pay", b'{"amount": "4"}', [("x-method", "POST"), ("content-type", "application/json")]
        )
        assert answer.status == 200
    assert tried.spent() == 400


def test_a_query_exchanged_before_routing_does_not_reach_the_view(kind: str, tmp_path: Path) -> None:
    tried, middleware = inside(tmp_path, layers.EarlyQuery, SEAL)
    seen: list[str | None] = []

    def read(request: Any) -> HttpResponse:
        seen.append(request.GET.get("amount"))
        return HttpResponse("")

    with tried.door(kind, tried.patterns(read=read), MIDDLEWARE=middleware) as door:
        assert door.send("GET", "/read/7?amount=1").status == 200
    assert seen == ["1"]


def test_a_match_exchanged_before_the_decision_is_caught(kind: str, tried: Tried) -> None:
    with tried.door(kind, MIDDLEWARE=[f"{HERE}.OtherMatch", FENCE]) as door:
        answer = door.json("POST", "/pay", {"amount": "4.00"})
    assert (answer.status, answer.code, tried.ran) == (500, "request.unsealed", [])


def test_a_request_exchanged_for_another_is_refused(kind: str, tmp_path: Path) -> None:
    tried, middleware = inside(tmp_path, layers.Copy)
    with tried.door(kind, MIDDLEWARE=middleware) as door:
        answer = door.json("POST", "/pay", {"amount": "4.00"})
    assert (answer.status, answer.code, tried.ran) == (500, "request.unsealed", [])


def test_a_layer_inside_that_answers_itself_is_refused(kind: str, tmp_path: Path) -> None:
    tried, middleware = inside(tmp_path, layers.Answers)
    with tried.door(kind, MIDDLEWARE=middleware) as door:
        assert door.send("GET", "/read/7").status == 200
        answer = door.send("GET", "/read/7?cached")
    assert (answer.status, answer.code, len(tried.ran)) == (500, "request.unsealed", 1)


def test_a_layer_inside_sees_no_ambiguous_request(kind: str, tmp_path: Path) -> None:
    tried, middleware = inside(tmp_path, layers.Answers)
    with tried.door(kind, MIDDLEWARE=middleware) as door:
        answer = door.send("GET", "/read/7%2F8?cached")
    assert (answer.status, answer.code) == (400, "request.ambiguous")


@pytest.mark.parametrize("sealed", [True, False])
def test_a_view_that_another_layer_answers_for_gives_the_money_back(kind: str, sealed: bool, tmp_path: Path) -> None:
    tried, middleware = inside(tmp_path, layers.Login, *([SEAL] if sealed else []))
    with tried.door(kind, MIDDLEWARE=middleware) as door:
        assert door.json("POST", "/pay", {"amount": "4.00"}).status == 401
        assert tried.spent() == 0
        assert door.json("POST", "/keep", {"amount": "4.00"}).status == 401
    assert tried.ran == []
    # `keep` keeps what reached the view, and only the seal sees that it did not.
    assert tried.spent() == (0 if sealed else 400)


def test_what_nobody_judged_does_not_run(kind: str, tried: Tried) -> None:
    patterns = [*tried.patterns(), path("new", tried.view("new").as_view()), path("any", other)]
    with tried.door(kind, patterns) as door:
        for method, target in [("POST", "/new"), ("POST", "/any"), ("OPTIONS", "/any"), ("BREW", "/any")]:
            answer = door.send(method, target)
            assert (answer.status, answer.code) == (403, "route.unmapped"), (method, target)
        assert door.send("GET", "/nothing").status == 404
    assert tried.ran == []


def test_an_unknown_layer_that_nobody_vouches_for_stops_the_start(kind: str, tried: Tried) -> None:
    layered = tried.door(kind, MIDDLEWARE=[FENCE, f"{HERE}.OtherMethod"])
    with pytest.raises(ConfigError, match="OtherMethod stands between the fence and the handlers"), layered:
        pass


def test_observe_lets_everything_pass(kind: str, tmp_path: Path) -> None:
    name = f"{HERE}.OtherArguments"
    tried = Tried(tmp_path, "mode: observe\n" + POLICY, inner=[name])
    with tried.door(kind, MIDDLEWARE=[FENCE, name, SEAL]) as door:
        assert door.send("GET", "/read/7").status == 200
        assert door.send("GET", "/read/a%2Fb").status == 404
        assert door.send("GET", "/read/a%5Cb").status == 200
        assert door.json("POST", "/pay", {"amount": "x"}).status == 200
    assert len(tried.ran) == 3


def test_a_ledger_in_memory_serves_no_second_process(tried: Tried) -> None:
    with tried.door("wsgi") as door:
        environ = wsgi.environ_of("GET", "/health", [("host", "api.example.com")], b"") | {"wsgi.multiprocess": True}
        status, _, content = wsgi.call(door.app, environ)
    assert (status, json.loads(content)["code"], tried.ran) == (503, "policy.unavailable", [])


def test_a_ledger_in_memory_serves_djangos_test_client(tried: Tried) -> None:
    """Which says that several processes run, as no server would for one."""
    with tried.door("wsgi"):
        answer = Client().post("/pay", {"amount": "10.00"}, "application/json")
    assert (answer.status_code, tried.spent()) == (200, 1000)


def test_a_redirect_for_a_missing_slash_is_djangos_own(tried: Tried, kind: str) -> None:
    middleware = [FENCE, "django.middleware.common.CommonMiddleware"]
    patterns = [*tried.patterns(), path("slashed/", tried.view("slashed").as_view())]
    with tried.door(kind, patterns, MIDDLEWARE=middleware, APPEND_SLASH=True) as door:
        assert door.send("GET", "/slashed").status == 301
        assert door.send("GET", "/slashed/").status == 405
        assert door.send("POST", "/slashed/").code == "route.unmapped"
    assert tried.ran == []


def test_the_admin_is_one_endpoint(tmp_path: Path, kind: str) -> None:
    public = POLICY.replace("rules:", '  - {route: "GET /admin/{path:path}", public: true}\nrules:')
    tried = Tried(tmp_path, public)
    middleware = [
        FENCE,
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
    patterns = [*tried.patterns(), path("admin/", admin.site.urls)]
    with tried.door(kind, patterns, MIDDLEWARE=middleware) as door:
        assert door.send("GET", "/admin/login/").status == 200
        assert door.send("GET", "/admin/").status == 302
        assert door.send("POST", "/admin/login/").code == "route.unmapped"
