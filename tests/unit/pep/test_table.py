"""The table of routes lists canonical paths, and nothing that would have to be bent into one."""

from __future__ import annotations

from typing import Any

import pytest

from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError
from afmiddleware.fence import Fence
from afmiddleware.pep.asgi_table import TableRouter
from afmiddleware.pep.table import UNLISTED, RouteTable


def fence(*routes: str) -> Fence:
    entries = "".join(
        f'  - {{route: "{route}", ' + ("public: true}\n" if "WEBSOCKET" in route else f"capability: c.n{place}}}\n")
        for place, route in enumerate(routes)
    )
    return Fence(load(f"version: 1\nservice: s\nledger: memory\nroutes:\n{entries}".replace("\\", "\\\\")))


def table(*routes: str) -> RouteTable:
    return RouteTable(fence(*routes).plan.bindings)


ROUTES = (
    "GET /",
    "GET /health",
    "POST /v1/bookings",
    "GET /v1/bookings/{id}",
    "DELETE /v1/bookings/<int:number>",
    "GET /v1/bookings/mine",
    "GET /dir/",
    "GET /n/{n:int}",
    "GET /f/{f:float}",
    "GET /u/{u:uuid}",
    "GET /s/{s:slug}",
    "GET /files/{p:path}",
    "GET /x/{a}-{b}.json",
    "POST /re/<string(length=2):id>",
    "GET ^re/(?P<id>[0-9]+)/$",
    "HEAD /health",
    "WEBSOCKET /ws/{room}",
    "GET /ws/{room}",
    "GET /grüße",
)

LISTED: list[tuple[str, str, str, dict[str, Any]]] = [
    ("GET", "/", "GET /", {}),
    ("HEAD", "/", "GET /", {}),
    ("GET", "/health", "GET /health", {}),
    ("HEAD", "/health", "HEAD /health", {}),
    ("POST", "/v1/bookings", "POST /v1/bookings", {}),
    ("GET", "/v1/bookings/7", "GET /v1/bookings/{id}", {"id": "7"}),
    ("HEAD", "/v1/bookings/7", "GET /v1/bookings/{id}", {"id": "7"}),
    ("GET", "/v1/bookings/mine", "GET /v1/bookings/mine", {}),
    ("DELETE", "/v1/bookings/7", "DELETE /v1/bookings/{number:int}", {"number": 7}),
    ("GET", "/dir/", "GET /dir/", {}),
    ("GET", "/n/0", "GET /n/{n:int}", {"n": 0}),
    ("GET", "/f/1.50", "GET /f/{f:float}", {"f": "1.50"}),
    ("GET", "/s/a_B-9", "GET /s/{s:slug}", {"s": "a_B-9"}),
    ("GET", "/files/a/b.txt", "GET /files/{p:path}", {"p": "a/b.txt"}),
    ("GET", "/x/1-2.json", "GET /x/{a}-{b}.json", {"a": "1", "b": "2"}),
    ("POST", "/re/nl", "POST /re/{id}", {"id": "nl"}),
    ("GET", "/re/7/", "GET /re/{id}/", {"id": "7"}),
    ("WEBSOCKET", "/ws/1", "WEBSOCKET /ws/{room}", {"room": "1"}),
    ("GET", "/ws/1", "GET /ws/{room}", {"room": "1"}),
    ("GET", "/grüße", "GET /grüße", {}),
]

UNLISTED_REQUESTS = [
    # a redirect of one kind or another, in both directions
    ("GET", "/dir"),
    ("GET", "/health/"),
    ("GET", "//health"),
    ("GET", "/v1//bookings/7"),
    ("GET", "/v1/bookings//7"),
    ("GET", "/v1/bookings/7/"),
    ("GET", "health"),
    ("GET", ""),
    # another method
    ("POST", "/health"),
    ("OPTIONS", "/health"),
    ("OPTIONS", "/v1/bookings"),
    ("get", "/health"),
    ("HEAD", "/v1/bookings"),
    ("WEBSOCKET", "/health"),
    ("POST", "/ws/1"),
    ("WEBSOCKET", "/ws/1/2"),
    # another path
    ("GET", "/HEALTH"),
    ("GET", "/healt"),
    ("GET", "/health\n"),
    ("GET", "/health\x00"),
    ("GET", "/v1/bookings/7\n"),
    ("GET", "/v1/bookings/a\\b"),
    ("GET", "/files/a\nb"),
    ("GET", "/files/"),
    ("GET", "/files//a"),
    # another spelling of the same number
    ("DELETE", "/v1/bookings/07"),
    ("DELETE", "/v1/bookings/+7"),
    ("DELETE", "/v1/bookings/-7"),
    ("DELETE", "/v1/bookings/٧"),
    ("DELETE", "/v1/bookings/1e3"),
    ("GET", "/f/1"),
    ("GET", "/f/01.5"),
    ("GET", "/u/7"),
    # several ways to split it
    ("GET", "/x/1-2-3.json"),
    ("GET", "/x/1--2.json"),
]


@pytest.mark.parametrize(("method", "path", "key", "params"), LISTED)
def test_listed(method: str, path: str, key: str, params: dict[str, Any]) -> None:
    made = table(*ROUTES)
    found = made.find(method, path)
    assert (found.key, found.params) == (key, params)
    assert made.lists(found)
    assert key in made.bindings
    assert found.method == key.partition(" ")[0]


@pytest.mark.parametrize(("method", "path"), UNLISTED_REQUESTS)
def test_unlisted(method: str, path: str) -> None:
    made = table(*ROUTES)
    found = made.find(method, path)
    assert found.template == UNLISTED
    assert found.key not in made.bindings
    assert not made.lists(found)


def test_what_is_not_listed_has_few_names() -> None:
    made = table("GET /x")
    assert {made.find(method, f"/{method}").key for method in ("GET", "BREW", "BAKE")} == {
        "GET (no route)",
        "* (no route)",
    }


UNFIT = [
    ("GET //api.example.com/x", "names a host"),
    ("GET ^v1/(a|b)$", "is not a plain template"),
    ("GET ^v1/x/?$", "is not a plain template"),
    ("GET /x/{a b}", "is not a plain template"),
    ("GET /x/{a", "is not a plain template"),
    ("GET /x/<a", "is not a plain template"),
    ("GET /x//y", "no canonical path"),
    ("GET /x/{a:path}/{b:path}", "split between in several ways"),
    ("GET /x/{a}{b}", "split between in several ways"),
    ("GET /x/{a:own}", "a converter that a table of routes does not know, own"),
]


@pytest.mark.parametrize(("route", "text"), UNFIT)
def test_what_a_table_cannot_hold_is_named_with_its_line(route: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TableRouter(fence("GET /fine", route))
    (problem,) = caught.value.problems
    assert problem.startswith(f"fence.yaml:6: route {route} ")
    assert text in problem


def test_two_entries_for_the_same_paths() -> None:
    with pytest.raises(ConfigError, match=r"means the same paths as GET /x/\{a\}"):
        table("GET /x/{a}", "GET /x/{b}")
    table("GET /x/{a}", "POST /x/{b}", "GET /x/{a:int}", "GET /x/{a:path}")


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        table(*(route for route, _ in UNFIT))
    assert len(caught.value.problems) == len(UNFIT)
