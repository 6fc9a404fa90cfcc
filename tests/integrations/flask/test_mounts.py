"""Several applications behind one door: dispatchers inside and outside the fence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from tests.integrations.flask.fenced import Tried, code_of

POLICY = """
routes:
  - {route: GET /health, public: true}
  - {route: "GET /admin/stats/{id}", capability: a.stats, resource: "stat:{path.id}", amount: 1 USD}
  - {route: "POST /admin/deep/pay", capability: a.pay, amount: {from: body.amount}}
  - {route: "GET /raw/{path:path}", capability: a.raw, resource: "raw:{path.path}", amount: 2 USD}
rules: {allow: [a.*]}
limits:
  - {name: cap, spend: 100 USD, window: total, per: global}
"""


@pytest.fixture
def tried(tmp_path: Path) -> Iterator[Tried]:
    tried = Tried(tmp_path, POLICY)
    yield tried
    tried.fence.close()


def admin_of(tried: Tried) -> Flask:
    admin = Flask("admin", static_folder=None)
    admin.get("/stats/<int:id>")(tried.view("stats"))
    admin.get("/unmapped")(tried.view("unmapped"))
    deep = Flask("deep", static_folder=None)
    deep.post("/pay")(tried.view("pay"))
    admin.wsgi_app = DispatcherMiddleware(admin.wsgi_app, {"/deep": deep})  # type: ignore[method-assign]
    return admin


def whole_of(tried: Tried) -> Any:
    def raw(environ: Any, start_response: Any) -> Any:
        tried.ran.append(("raw", {"path": environ["PATH_INFO"]}, b""))
        return Response("raw")(environ, start_response)

    return raw


@pytest.fixture
def client(tried: Tried) -> Any:
    app = Flask("main", static_folder=None)
    app.get("/health")(tried.view("health"))
    mounts = {"/admin": admin_of(tried), "/raw": whole_of(tried)}
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, mounts)  # type: ignore[method-assign]
    return tried.client(app)


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "ran"),
    [
        ("GET", "/health", {}, 200, [("health", {}, b"")]),
        ("GET", "/admin/stats/7", {}, 200, [("stats", {"id": 7}, b"")]),
        ("HEAD", "/admin/stats/7", {}, 200, [("stats", {"id": 7}, b"")]),
        ("POST", "/admin/deep/pay", {"json": {"amount": "4"}}, 200, [("pay", {}, b'{"amount": "4"}')]),
        ("GET", "/raw/a/b", {}, 200, [("raw", {"path": "/a/b"}, b"")]),
        ("GET", "/admin/unmapped", {}, 403, []),
        ("POST", "/admin/deep/pay", {"json": {"amount": "400"}}, 403, []),
        ("POST", "/raw/a", {}, 403, []),
        ("GET", "/raw/a%2Fb", {}, 400, []),
        ("GET", "/admin//stats/7", {}, 400, []),
        ("GET", "/admin/nothing", {}, 404, []),
        ("GET", "/stats/7", {}, 404, []),
    ],
)
def test_every_application_behind_the_door_is_judged(
    tried: Tried, client: Any, method: str, path: str, more: dict[str, Any], status: int, ran: list[Any]
) -> None:
    answer = client.open(path, method=method, **more)
    assert (answer.status_code, tried.ran) == (status, ran)


def test_what_is_mounted_is_settled_once(tried: Tried, client: Any) -> None:
    for path in ("/admin/stats/7", "/raw/x"):
        client.get(path)
    assert tried.settled() == [("capture", "ok")] * 2
    assert [one["capability"] for one in tried.receipts() if one["kind"] == "intent"] == ["a.stats", "a.raw"]
    assert tried.spent() == 300


@pytest.mark.parametrize("first", ["/health", "/admin/stats/7"])
def test_applications_under_a_dispatcher_outside_share_one_fence(tmp_path: Path, first: str) -> None:
    tried = Tried(tmp_path, "\n".join(line for line in POLICY.splitlines() if "/raw" not in line))
    main, admin = Flask("main", static_folder=None), admin_of(tried)
    main.get("/health")(tried.view("health"))
    tried.extension.init_app(main)
    tried.extension.init_app(admin, mount="/admin")
    client = Client(DispatcherMiddleware(main, {"/admin": admin}), Response)
    assert client.get(first, buffered=True).status_code == 200
    assert client.get("/admin/stats/7", buffered=True).status_code == 200
    assert client.post("/admin/deep/pay", json={"amount": "400"}).status_code == 403
    assert client.get("/admin/unmapped").status_code == 403


def test_an_application_fenced_by_itself_inside_another_is_judged_once(tmp_path: Path) -> None:
    tried = Tried(tmp_path, "\n".join(line for line in POLICY.splitlines() if "/raw" not in line))
    main, admin = Flask("main", static_folder=None), admin_of(tried)
    main.get("/health")(tried.view("health"))
    tried.extension.init_app(admin, mount="/admin")
    main.wsgi_app = DispatcherMiddleware(main.wsgi_app, {"/admin": admin})  # type: ignore[method-assign]
    client = tried.client(main)
    assert client.get("/admin/stats/7").status_code == 200
    assert tried.settled() == [("capture", "ok")]


def test_an_application_beside_the_fence_stops_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tried = Tried(
        tmp_path, "\n".join(line for line in POLICY.splitlines() if "/admin" not in line and "raw" not in line)
    )
    main = Flask("main", static_folder=None)
    main.get("/health")(tried.view("health"))
    client = tried.client(main)
    mounts = {"/admin": admin_of(tried), "/raw": whole_of(tried)}
    main.wsgi_app = DispatcherMiddleware(main.wsgi_app, mounts)  # type: ignore[method-assign]
    assert code_of(client.get("/health")) == "policy.unavailable"
    assert "mounted at /admin stands beside the fence" in caplog.text
    assert "mounted at /raw stands beside the fence" in caplog.text


def test_a_view_that_hands_on_to_another_fenced_application_is_judged_twice(tmp_path: Path) -> None:
    tried = Tried(tmp_path, POLICY.replace("GET /health, public: true", "GET /health, capability: a.health"))
    main, admin = Flask("main", static_folder=None), admin_of(tried)
    main.wsgi_app = DispatcherMiddleware(main.wsgi_app, {"/raw": whole_of(tried)})  # type: ignore[method-assign]
    tried.extension.init_app(admin, mount="/admin")

    @main.get("/health")
    def health() -> Any:
        return Response.from_app(admin, {**request.environ, "PATH_INFO": "/stats/7", "RAW_URI": "", "REQUEST_URI": ""})

    answer = tried.client(main).get("/health")
    assert answer.status_code == 200
    assert sorted(one["capability"] for one in tried.receipts() if one["kind"] == "intent") == ["a.health", "a.stats"]
    assert tried.settled() == [("capture", "ok")] * 2


def test_a_view_that_hands_on_to_a_mounted_application_without_a_door_is_refused(tried: Tried, client: Any) -> None:
    main = client.application
    mounts = main.extensions["afmiddleware"].inner.mounts
    main.view_functions["health"] = lambda: Response.from_app(
        mounts["/admin"], {**request.environ, "SCRIPT_NAME": "/admin", "PATH_INFO": "/stats/7"}
    )
    answer = client.get("/health")
    assert (answer.status_code, code_of(answer), tried.ran) == (500, "request.unsealed", [])


class Layer:
    """A layer that the policy names."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.app(environ, start_response)


NAMED = f"inner_middleware: ['{__name__}.Layer']\n"


def test_a_layer_around_a_mounted_application_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tried = Tried(tmp_path, "\n".join(line for line in POLICY.splitlines() if "/raw" not in line))
    main = Flask("main", static_folder=None)
    main.get("/health")(tried.view("health"))
    mounts: Any = {"/admin": Layer(admin_of(tried))}
    main.wsgi_app = DispatcherMiddleware(main.wsgi_app, mounts)  # type: ignore[method-assign]
    assert code_of(tried.client(main).get("/health")) == "policy.unavailable"
    assert f"{__name__}.Layer" in caplog.text


def test_an_application_fenced_by_itself_behind_a_named_layer_is_judged_once(tmp_path: Path) -> None:
    policy = "\n".join(line for line in POLICY.splitlines() if "/raw" not in line)
    tried = Tried(tmp_path, f"{policy}\n{NAMED}")
    main, admin = Flask("main", static_folder=None), admin_of(tried)
    main.get("/health")(tried.view("health"))
    tried.extension.init_app(admin, mount="/admin")
    inner = DispatcherMiddleware(main.wsgi_app, {"/admin": admin})
    main.wsgi_app = Layer(inner)  # type: ignore[method-assign]
    client = tried.client(main)
    assert client.get("/admin/stats/7").status_code == 200
    assert client.get("/admin/unmapped").status_code == 403
    assert tried.settled() == [("capture", "ok")]
