"""Which endpoint is judged: the one that Flask matched, spelled as a policy spells it."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.views import MethodView, View
from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter, Rule

from afmiddleware.model.http import Target
from afmiddleware_flask.resolver import Resolver


class Thing(MethodView):
    def get(self, **_values: Any) -> str:
        return ""

    def put(self, **_values: Any) -> str:
        return ""


class OwnHead(Thing):
    def head(self, **_values: Any) -> str:
        return ""


class Everything(View):
    methods = ("GET", "POST", "OPTIONS")

    def dispatch_request(self, **_values: Any) -> str:
        return ""


class Hex(BaseConverter):
    regex = "[0-9a-f]+"

    def to_python(self, value: str) -> int:
        return int(value, 16)


def view(**_values: Any) -> str:
    return ""


@pytest.fixture(scope="module")
def app() -> Flask:
    app = Flask("resolved", static_folder=None)
    app.static_folder = "files"
    app.url_map.converters["hex"] = Hex
    app.add_url_rule("/plain", "plain", view)
    app.add_url_rule("/plain", "plain-post", view, methods=["POST"])
    app.add_url_rule("/number/<int:id>", "number", view)
    app.add_url_rule("/hex/<hex:id>", "hex", view)
    app.add_url_rule("/rest/<path:rest>", "rest", view)
    app.add_url_rule("/list/", "list", view)
    app.add_url_rule("/loose/", "loose", view, strict_slashes=False)
    app.add_url_rule("/page", "page", view, defaults={"number": 1})
    app.add_url_rule("/page/<int:number>", "page", view)
    app.add_url_rule("/head", "head", view, methods=["HEAD"])
    app.add_url_rule("/asks", "asks", view, methods=["OPTIONS", "POST"])
    app.add_url_rule("/silent", "silent", view, methods=["POST"], provide_automatic_options=False)
    app.add_url_rule("/things/<id>", view_func=Thing.as_view("thing"))
    app.add_url_rule("/heads/<id>", view_func=OwnHead.as_view("own-head"))
    app.add_url_rule("/everything", view_func=Everything.as_view("everything"))
    app.view_functions["any"] = view
    app.url_map.add(Rule("/any", endpoint="any"))
    app.url_map.add(Rule("/old/<id>", endpoint="plain", redirect_to="plain"))
    inner = Blueprint("inner", "inner", url_prefix="/inner")
    inner.add_url_rule("/x/<id>", "x", view)
    outer = Blueprint("outer", "outer", url_prefix="/outer/<where>")
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    app.add_url_rule("/files/<path:filename>", "static", app.send_static_file)
    return app


def resolved(app: Flask, method: str, path: str, **more: Any) -> Target | None:
    with app.test_request_context(path, method=method, **more) as context:
        return Resolver(app).resolve(context.request)


@pytest.mark.parametrize(
    ("method", "path", "key", "params"),
    [
        ("GET", "/plain", "GET /plain", {}),
        ("HEAD", "/plain", "GET /plain", {}),
        ("POST", "/plain", "POST /plain", {}),
        ("GET", "/number/7", "GET /number/{id:int}", {"id": 7}),
        ("GET", "/hex/ff", "GET /hex/{id:hex}", {"id": 255}),
        ("GET", "/rest/a/b", "GET /rest/{rest:path}", {"rest": "a/b"}),
        ("GET", "/list/", "GET /list/", {}),
        ("GET", "/loose", "GET /loose/", {}),
        ("GET", "/page", "GET /page", {"number": 1}),
        ("GET", "/page/2", "GET /page/{number:int}", {"number": 2}),
        ("HEAD", "/head", "HEAD /head", {}),
        ("OPTIONS", "/asks", "OPTIONS /asks", {}),
        ("PUT", "/things/7", "PUT /things/{id}", {"id": "7"}),
        ("HEAD", "/things/7", "GET /things/{id}", {"id": "7"}),
        ("HEAD", "/heads/7", "HEAD /heads/{id}", {"id": "7"}),
        ("OPTIONS", "/everything", "OPTIONS /everything", {}),
        ("BREW", "/any", "BREW /any", {}),
        ("GET", "/outer/here/inner/x/7", "GET /outer/{where}/inner/x/{id}", {"where": "here", "id": "7"}),
        ("GET", "/files/a/b.css", "GET /files/{filename:path}", {"filename": "a/b.css"}),
    ],
)
def test_what_is_judged(app: Flask, method: str, path: str, key: str, params: dict[str, object]) -> None:
    target = resolved(app, method, path)
    assert target is not None
    assert (target.key, target.method, dict(target.params)) == (key, key.partition(" ")[0], params)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/nothing", id="404"),
        pytest.param("DELETE", "/plain", id="405"),
        pytest.param("GET", "/head", id="405 for a rule of HEAD alone"),
        pytest.param("GET", "/list", id="the redirect to the path with its slash"),
        pytest.param("GET", "/outer//inner", id="the redirect of two slashes"),
        pytest.param("GET", "/page/1", id="the redirect to the path of the default"),
        pytest.param("GET", "/old/7", id="a rule that redirects"),
        pytest.param("OPTIONS", "/plain", id="OPTIONS of a view without one"),
        pytest.param("OPTIONS", "/silent", id="OPTIONS where it is switched off"),
        pytest.param("GET", "/number/x", id="a value that the converter refuses"),
    ],
)
def test_what_flask_answers_by_itself(app: Flask, method: str, path: str) -> None:
    assert resolved(app, method, path) is None


def test_a_rule_of_a_subdomain_is_another_endpoint() -> None:
    app = Flask("hosts", static_folder=None, subdomain_matching=True)
    app.config["SERVER_NAME"] = "example.com:8000"
    app.add_url_rule("/x", "api", view, subdomain="api")
    app.add_url_rule("/x", "tenant", view, subdomain="<tenant>")
    app.add_url_rule("/y", "main", view)
    keys = [
        target.key if (target := resolved(app, "GET", path, base_url=f"http://{host}:8000")) else None
        for host, path in [("api.example.com", "/x"), ("t.example.com", "/x"), ("example.com", "/y")]
    ]
    assert keys == ["GET //api.example.com/x", "GET //{tenant}.example.com/x", "GET /y"]


def test_a_rule_of_a_host_is_another_endpoint() -> None:
    app = Flask("hosts", static_folder=None, host_matching=True)
    app.add_url_rule("/x", "api", view, host="api.example.com")
    app.add_url_rule("/x", "tenant", view, host="<tenant>.example.org")
    keys = [
        target.key if (target := resolved(app, "GET", "/x", base_url=f"http://{host}")) else None
        for host in ("api.example.com", "t.example.org", "elsewhere.example")
    ]
    assert keys == ["GET //api.example.com/x", "GET //{tenant}.example.org/x", None]


def test_a_rule_behind_an_answer_of_flask_is_not_dispatched(app: Flask) -> None:
    with app.test_request_context("/plain") as context:
        context.request.routing_exception = NotFound()
        assert Resolver(app).resolve(context.request) is None
