"""The audit at the first request: what stops the application, and what it is told to have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response
from flask.views import MethodView
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from afmiddleware import capability
from afmiddleware.errors import ConfigError
from afmiddleware.fence import Fence
from afmiddleware_flask import AgentFence
from afmiddleware_flask.audit import listing
from tests.integrations.flask.fenced import POLICY, Tried, code_of


@pytest.fixture
def tried(tmp_path: Path) -> Any:
    tried = Tried(tmp_path)
    yield tried
    tried.fence.close()


def before() -> None:
    pass


def preprocess(_endpoint: str | None, _values: dict[str, Any] | None) -> None:
    pass


class Layer:
    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.app(environ, start_response)


class OwnDispatch(Flask):
    def dispatch_request(self) -> Any:
        return super().dispatch_request()


def wrapped(app: Flask) -> None:
    app.wsgi_app = Layer(app.wsgi_app)  # type: ignore[method-assign]


def closed_over(app: Flask) -> None:
    inner = app.wsgi_app

    def layer(environ: Any, start_response: Any) -> Any:
        return inner(environ, start_response)

    app.wsgi_app = layer  # type: ignore[method-assign]


def patched(app: Flask) -> None:
    setattr(app, "dispatch_request", before)  # noqa: B010 (what a debug toolbar does)


def in_blueprint(register: Callable[[Blueprint], object]) -> Callable[[Flask], None]:
    def add(app: Flask) -> None:
        part = Blueprint("part", "part")
        register(part)
        app.register_blueprint(part)

    return add


def mounted(app: Flask) -> None:
    other = Flask("other", static_folder=None)
    other.before_request(before)
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/other": other})  # type: ignore[method-assign]


HERE = __name__


@pytest.mark.parametrize(
    ("add", "name"),
    [
        pytest.param(lambda app: app.before_request(before), f"{HERE}.before", id="before_request"),
        pytest.param(lambda app: app.url_value_preprocessor(preprocess), f"{HERE}.preprocess", id="preprocessor"),
        pytest.param(in_blueprint(lambda part: part.before_request(before)), f"{HERE}.before", id="of a blueprint"),
        pytest.param(
            in_blueprint(lambda part: part.before_app_request(before)),
            f"{HERE}.before",
            id="of the app, by a blueprint",
        ),
        pytest.param(
            in_blueprint(lambda part: part.url_value_preprocessor(preprocess)),
            f"{HERE}.preprocess",
            id="preprocessor of a blueprint",
        ),
        pytest.param(wrapped, f"{HERE}.Layer", id="a WSGI layer"),
        pytest.param(closed_over, f"{HERE}.closed_over.<locals>.layer", id="a WSGI layer that is a function"),
        pytest.param(patched, f"{HERE}.before", id="a dispatch_request put on the application"),
        pytest.param(mounted, f"{HERE}.before", id="in a mounted application"),
    ],
)
def test_what_stands_between_stops_the_application_unless_it_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, add: Callable[[Flask], None], name: str
) -> None:
    (tmp_path / "a").mkdir()
    strict, named = Tried(tmp_path / "a"), Tried(tmp_path, f"{POLICY}inner_middleware: ['{name}']\n")
    app = strict.app()
    add(app)
    answer = strict.client(app).get("/health")
    assert (answer.status_code, code_of(answer), strict.ran) == (503, "policy.unavailable", [])
    assert name in caplog.text
    app = named.app()
    add(app)
    answer = named.client(app).get("/read/7")
    assert code_of(answer) != "policy.unavailable"


def test_a_subclass_with_a_dispatch_of_its_own_stops(tried: Tried, caplog: pytest.LogCaptureFixture) -> None:
    app = OwnDispatch("own", static_folder=None)
    answer = tried.client(app).get("/health")
    assert code_of(answer) == "policy.unavailable"
    assert f"{HERE}.OwnDispatch.dispatch_request" in caplog.text


def test_a_function_before_the_hook_stops(tried: Tried, caplog: pytest.LogCaptureFixture) -> None:
    app = tried.app()
    client = tried.client(app)
    app.before_request_funcs[None].insert(0, before)
    assert code_of(client.get("/health")) == "policy.unavailable"
    assert "must be the first" in caplog.text


def test_functions_registered_before_the_fence_run_after_it(tmp_path: Path) -> None:
    tried = Tried(tmp_path, f"{POLICY}inner_middleware: ['{HERE}.before']\n")
    app = tried.app()
    app.before_request(before)
    tried.extension.init_app(app)
    assert app.before_request_funcs[None][1:] == [before]


def test_proxy_fix_is_known_as_harmless(tried: Tried) -> None:
    app = tried.app()
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    assert tried.client(app).get("/health").status_code == 200


def test_a_binding_without_an_endpoint_stops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tried = Tried(tmp_path, POLICY.replace("POST /pay,", "POST /pey,"))
    answer = tried.client(tried.app()).get("/health")
    assert code_of(answer) == "policy.unavailable"
    assert "no endpoint POST /pey; did you mean POST /pay" in caplog.text


def test_routes_that_come_after_the_fence_are_judged(tried: Tried) -> None:
    app = Flask("late", static_folder=None)
    tried.extension.init_app(app)
    for name in ("pay", "keep"):
        app.post(f"/{name}")(tried.view(name))
    app.get("/read/<int:id>")(tried.view("read"))
    app.get("/health")(tried.view("health"))
    app.post("/unmapped")(tried.view("unmapped"))
    client = app.test_client()
    assert code_of(client.post("/unmapped")) == "route.unmapped"
    assert client.get("/read/7").status_code == 200
    assert tried.ran == [("read", {"id": 7}, b"")]


def test_what_an_application_is_told_to_have(tried: Tried) -> None:
    app = tried.app()
    app.add_url_rule("/all", "all", tried.view("all"), methods=["GET", "POST"])
    app.add_url_rule("/static/<path:filename>", "static", tried.view("static"))
    other = Flask("other", static_folder=None)
    other.get("/in/<int:id>")(tried.view("in"))
    mounts: Any = {"/other": other, "/raw": Response("raw")}
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, mounts)  # type: ignore[method-assign]
    tried.extension.init_app(app)
    found = [(one.key, one.kind, one.methods) for one in listing(app).endpoints]
    assert found == [
        ("POST /pay", "http", ("POST",)),
        ("POST /keep", "http", ("POST",)),
        ("GET /read/{id}", "http", ("GET", "HEAD")),
        ("GET /health", "http", ("GET", "HEAD")),
        ("GET /all", "http", ("GET", "HEAD")),
        ("POST /all", "http", ("POST",)),
        ("GET /static/{filename:path}", "http", ("GET", "HEAD")),
        ("GET /other/in/{id:int}", "http", ("GET", "HEAD")),
        ("* /raw/{path:path}", "mount", ()),
    ]


def test_only_a_flask_application_can_be_listed() -> None:
    with pytest.raises(TypeError, match=r"pep\.wsgi"):
        listing(object())


class Declared(MethodView):
    def get(self, thing: str) -> str:
        return thing

    @capability("things.drop", resource="thing:{path.thing}")
    def delete(self, thing: str) -> str:
        return thing


def test_a_capability_declared_on_a_view_is_honoured(tmp_path: Path) -> None:
    policy = POLICY.replace("allow: [a.*]", "allow: [a.*, things.*]")
    tried = Tried(tmp_path, policy)
    app = tried.app()
    app.post("/declared")(capability("things.add", amount="1 USD")(tried.view("declared")))
    app.add_url_rule("/things/<thing>", view_func=Declared.as_view("things"))
    client = tried.client(app)
    assert client.post("/declared").status_code == 200
    assert client.delete("/things/7").status_code == 200
    assert code_of(client.get("/things/7")) == "route.unmapped"
    assert [one["capability"] for one in tried.receipts() if one["kind"] == "intent"] == ["things.add", "things.drop"]
    assert tried.spent() == 100


def test_a_capability_declared_twice_stops(tried: Tried, caplog: pytest.LogCaptureFixture) -> None:
    app = tried.app()
    app.view_functions["pay"] = capability("a.pay")(app.view_functions["pay"])
    assert code_of(tried.client(app).get("/health")) == "policy.unavailable"
    assert "POST /pay is declared here" in caplog.text


def test_one_application_has_one_fence(tried: Tried) -> None:
    app = tried.app()
    tried.extension.init_app(app)
    with pytest.raises(ConfigError, match="has a fence already; keep one AgentFence"):
        tried.extension.init_app(app)


def test_a_policy_that_is_wrong_is_told_before_anything_is_served(tmp_path: Path) -> None:
    (tmp_path / "fence.yaml").write_text("version: 1\nservice: x\nrutes: []\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="rutes"):
        AgentFence(Flask("wrong"), policy=tmp_path / "fence.yaml")


def test_the_policy_beside_the_process_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fence.yaml").write_text("version: 1\nservice: found\nledger: memory\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFM_POLICY", raising=False)
    extension = AgentFence()
    extension.init_app(Flask("default"))
    assert isinstance(extension.fence, Fence)
    assert extension.fence.config.service == "found"
    extension.fence.close()


def test_a_capability_of_a_blueprint_holds_for_its_views_unless_they_have_their_own(tmp_path: Path) -> None:
    tried = Tried(tmp_path, POLICY.replace("allow: [a.*]", "allow: [a.*, part.*]"))
    app = tried.app()
    outer, inner = Blueprint("outer", "outer", url_prefix="/outer"), Blueprint("inner", "inner", url_prefix="/inner")
    capability("part.outer")(outer)
    capability("part.inner")(inner)
    outer.get("/plain")(tried.view("plain"))
    outer.get("/own")(capability("part.own")(tried.view("own")))
    inner.get("/plain")(tried.view("plain"))
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    client = tried.client(app)
    for path in ("/outer/plain", "/outer/own", "/outer/inner/plain"):
        assert client.get(path).status_code == 200
    found = [one["capability"] for one in tried.receipts() if one["kind"] == "intent"]
    assert found == ["part.outer", "part.own", "part.inner"]


def test_a_capability_of_a_mounted_application(tmp_path: Path) -> None:
    tried = Tried(tmp_path, POLICY.replace("allow: [a.*]", "allow: [a.*, part.*]"))
    app, other = tried.app(), Flask("other", static_folder=None)
    other.get("/x")(tried.view("x"))
    capability("part.other")(other)
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/other": other})  # type: ignore[method-assign]
    assert tried.client(app).get("/other/x").status_code == 200
    assert [one["capability"] for one in tried.receipts() if one["kind"] == "intent"] == ["part.other"]


def test_a_class_view_is_named_by_its_class_and_found_by_its_method() -> None:
    app = Flask("named", static_folder=None)
    app.add_url_rule("/things/<thing>", view_func=Declared.as_view("things"))
    found = {one.method: (one.name, one.where) for one in listing(app).endpoints}
    assert found["DELETE"][0] == f"{HERE}.Declared"
    assert found["DELETE"][1].startswith(__file__)
    assert found["GET"][1] != found["DELETE"][1]


def test_files_are_denied_until_the_policy_maps_them(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("content", encoding="utf-8")

    def app() -> Flask:
        return Flask("files", static_folder=str(tmp_path / "files"), static_url_path="/static")

    policy = "\n".join(line for line in POLICY.splitlines() if "{route" not in line)
    closed = Tried(tmp_path, policy.replace("routes:", "routes: []"))
    assert code_of(closed.client(app()).get("/static/a.txt")) == "route.unmapped"
    mapped = '{route: "GET /static/<path:filename>", capability: a.file, resource: "file:{path.filename}"}'
    (tmp_path / "open").mkdir()
    opened = Tried(tmp_path / "open", policy.replace("routes:", f"routes: [{mapped}]"))
    client = opened.client(app())
    answer = client.get("/static/a.txt")
    assert (answer.status_code, answer.get_data()) == (200, b"content")
    assert opened.settled() == [("capture", "ok")]
    etag = answer.headers["ETag"]
    assert client.get("/static/a.txt", headers={"if-none-match": etag}).status_code == 304
    assert client.get("/static/a.txt", headers={"range": "bytes=0-1"}).get_data() == b"co"
    assert client.get("/static/../a.txt").status_code == 400
    assert opened.settled() == [("capture", "ok")] * 3


def test_a_ledger_in_memory_does_not_serve_several_processes(
    tried: Tried, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AFM_MEMORY_WORKERS", raising=False)
    client = tried.client(tried.app())
    assert code_of(client.get("/health", multiprocess=True)) == "policy.unavailable"
    assert "memory counts in one process only" in caplog.text


def test_a_rule_of_websockets_runs_only_where_the_policy_makes_it_public(tmp_path: Path) -> None:
    upgrade = {"connection": "Upgrade", "upgrade": "websocket"}
    public = POLICY.replace("routes:", "routes:\n  - {route: WEBSOCKET /ws, public: true}")
    (tmp_path / "public").mkdir()
    for folder, policy, status in ((tmp_path, POLICY, 403), (tmp_path / "public", public, 200)):
        tried = Tried(folder, policy)
        app = tried.app()
        app.add_url_rule("/ws", "ws", tried.view("ws"), websocket=True)
        assert [one.kind for one in listing(app).endpoints if one.key == "WEBSOCKET /ws"] == ["websocket"]
        client = tried.client(app)
        assert client.get("/ws", headers=upgrade).status_code == status
        assert client.get("/ws").status_code == 400
        assert len(tried.ran) == (status == 200)
