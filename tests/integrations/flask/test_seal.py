"""The view that runs is the one that was judged, with what was judged, or none runs."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import Flask, Response, current_app, g, request

from afmiddleware.model.http import Target
from afmiddleware_flask.seal import current_request
from tests.integrations.flask.fenced import POLICY, Tried, code_of


@pytest.fixture
def tried(tmp_path: Path) -> Any:
    tried = Tried(tmp_path)
    yield tried
    tried.fence.close()


def allowing(folder: Path, *names: str) -> Tried:
    return Tried(folder, f"{POLICY}inner_middleware: [{', '.join(names)}]\n")


def named(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def change_rule() -> None:
    request.url_rule = next(rule for rule in current_app.url_map.iter_rules() if rule.endpoint == "keep")


def change_rule_of_404() -> None:
    if request.url_rule is None:
        change_rule()
        request.routing_exception = None
        request.view_args = {}


def change_method() -> None:
    request.method = "PUT"


def change_arguments() -> None:
    request.view_args = {"id": "other"}


def change_view() -> None:
    current_app.view_functions["pay"] = current_app.view_functions["keep"]


def change_query() -> None:
    request.query_string = b"amount=5"


def change_input() -> None:
    request.environ["wsgi.input"] = io.BytesIO(b'{"amount": "90.00"}')


def change_cached_body() -> None:
    current_request()._cached_data = b'{"amount": "90.00"}'


def eat_body() -> None:
    request.stream.read()


@pytest.mark.parametrize(
    "layer",
    [change_rule, change_method, change_view, change_query, change_input, change_cached_body, eat_body],
)
def test_a_function_before_the_view_that_changes_what_was_judged_is_caught(
    tmp_path: Path, layer: Callable[[], None]
) -> None:
    tried = allowing(tmp_path, named(layer))
    app = tried.app()
    app.before_request(layer)
    answer = tried.client(app).post("/pay", json={"amount": "4.00"})
    assert (answer.status_code, code_of(answer)) == (500, "request.unsealed")
    assert tried.ran == []
    assert tried.settled() == [("release", "not_reached")]
    assert tried.spent() == 0


def test_the_arguments_of_the_view_are_those_that_were_judged(tmp_path: Path) -> None:
    tried = allowing(tmp_path, named(change_arguments))
    app = tried.app()
    app.before_request(change_arguments)
    answer = tried.client(app).get("/read/7")
    assert (answer.status_code, tried.ran) == (500, [])


def test_a_404_that_becomes_a_view_is_caught(tmp_path: Path) -> None:
    tried = allowing(tmp_path, named(change_rule_of_404))
    app = tried.app()
    app.before_request(change_rule_of_404)
    answer = tried.client(app).post("/nothing", json={"amount": "4.00"})
    assert (answer.status_code, code_of(answer), tried.ran) == (500, "request.unsealed", [])


def test_a_public_route_that_becomes_another_is_caught(tmp_path: Path) -> None:
    tried = allowing(tmp_path, named(change_rule))
    app = tried.app()
    app.before_request(change_rule)
    answer = tried.client(app).get("/health")
    assert (answer.status_code, tried.ran) == (500, [])


def test_an_error_handler_cannot_hide_a_broken_seal(tmp_path: Path) -> None:
    tried = allowing(tmp_path, named(change_rule))
    app = tried.app()
    app.before_request(change_rule)
    app.register_error_handler(Exception, lambda _error: ("all is well", 200))
    answer = tried.client(app).post("/pay", json={"amount": "4.00"})
    assert (answer.status_code, code_of(answer)) == (500, "request.unsealed")


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(
            lambda target, app: msgspec.structs.replace(target, endpoint=app.view_functions["health"]), id="view"
        ),
        pytest.param(lambda target, _app: msgspec.structs.replace(target, params={"id": "1"}), id="arguments"),
    ],
)
def test_a_resolver_that_lies_is_caught(tried: Tried, lie: Callable[[Target, Flask], Target]) -> None:
    app = tried.app()
    client = tried.client(app)
    resolver = app.extensions["afmiddleware"].resolver
    honest = resolver.resolve
    resolver.resolve = lambda asked: lie(honest(asked), app)
    answer = client.get("/read/7")
    assert (answer.status_code, code_of(answer), tried.ran) == (500, "request.unsealed", [])


def test_a_resolver_that_sees_nothing_is_caught(tried: Tried) -> None:
    app = tried.app()
    client = tried.client(app)
    app.extensions["afmiddleware"].resolver.resolve = lambda _asked: None
    answer = client.post("/pay", json={"amount": "4.00"})
    assert (answer.status_code, code_of(answer), tried.ran) == (500, "request.unsealed", [])


def test_reading_the_table_of_views_breaks_nothing(tmp_path: Path) -> None:
    def reader() -> None:
        g.docs = [current_app.view_functions[rule.endpoint].__doc__ for rule in current_app.url_map.iter_rules()]

    tried = allowing(tmp_path, named(reader))
    app = tried.app()
    app.before_request(reader)
    client = tried.client(app)
    assert client.post("/pay", json={"amount": "4.00"}).status_code == 200
    assert client.options("/pay").status_code == 200
    assert client.get("/nothing").status_code == 404
    assert [name for name, _, _ in tried.ran] == ["pay"]


def test_a_function_that_reads_the_body_leaves_it_to_the_view(tmp_path: Path) -> None:
    def reader() -> None:
        request.get_json()

    tried = allowing(tmp_path, named(reader))
    app = tried.app()
    app.before_request(reader)
    assert tried.client(app).post("/pay", json={"amount": "4.00"}).status_code == 200
    assert tried.ran == [("pay", {}, b'{"amount": "4.00"}')]


def test_a_function_that_answers_itself_gives_the_money_back(tmp_path: Path) -> None:
    def login() -> Response:
        return Response("log in first", 401)

    tried = allowing(tmp_path, named(login))
    app = tried.app()
    app.before_request(login)
    assert tried.client(app).post("/keep", json={"amount": "4.00"}).status_code == 401
    assert (tried.ran, tried.settled(), tried.spent()) == ([], [("release", "not_reached")], 0)


def test_a_request_around_the_wrapper_is_refused(tried: Tried) -> None:
    app = tried.app()
    client = tried.client(app)
    app.wsgi_app = app.extensions["afmiddleware"].inner  # type: ignore[method-assign]
    answer = client.post("/pay", json={"amount": "4.00"})
    assert (answer.status_code, code_of(answer), tried.ran) == (500, "request.unsealed", [])


def test_in_observe_mode_a_request_around_the_wrapper_passes_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tried = Tried(tmp_path, f"mode: observe\n{POLICY}")
    app = tried.app()
    client = tried.client(app)
    app.wsgi_app = app.extensions["afmiddleware"].inner  # type: ignore[method-assign]
    assert client.post("/pay", json={"amount": "4.00"}).status_code == 200
    assert "did not come in through the fence" in caplog.text


def test_a_layer_inside_that_answers_itself_is_refused(tmp_path: Path) -> None:
    tried = allowing(tmp_path, f"{__name__}.Cache")
    app = tried.app()
    app.wsgi_app = Cache(app.wsgi_app)  # type: ignore[method-assign]
    client = tried.client(app)
    assert client.get("/read/7").status_code == 200
    answer = client.get("/read/7?cached")
    assert (answer.status_code, code_of(answer)) == (500, "request.unsealed")
    assert len(tried.ran) == 1


def test_a_layer_inside_sees_no_ambiguous_request(tmp_path: Path) -> None:
    tried = allowing(tmp_path, f"{__name__}.Cache")
    app = tried.app()
    layer = app.wsgi_app = Cache(app.wsgi_app)  # type: ignore[method-assign]
    answer = tried.client(app).get("/read/7%2F8")
    assert (answer.status_code, code_of(answer)) == (400, "request.ambiguous")
    assert layer.seen == 0


class Cache:
    """A WSGI layer that answers some requests by itself."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.seen = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.seen += 1
        if environ["QUERY_STRING"] == "cached":
            start_response("200 OK", [("Content-Length", "0")])
            return []
        return self.app(environ, start_response)


def test_a_table_of_views_that_was_replaced_stops_every_request(tried: Tried) -> None:
    app = tried.app()
    client = tried.client(app)
    app.view_functions = dict(app.view_functions)
    answer = client.post("/pay", json={"amount": "4.00"})
    assert (answer.status_code, code_of(answer), tried.ran) == (500, "request.unsealed", [])


class GettingDispatch(Flask):
    """Dispatches in a way of its own, to what is not judged when it is asked to."""

    def dispatch_request(self) -> Any:
        if "other" in request.args:
            change_rule()
        view: Any = self.view_functions.get(str(request.endpoint))
        return view()


def test_a_dispatch_of_its_own_is_sealed_too(tmp_path: Path) -> None:
    tried = allowing(tmp_path, f"{__name__}.GettingDispatch.dispatch_request")
    app = GettingDispatch("own", static_folder=None)
    for name in ("pay", "keep"):
        app.post(f"/{name}")(tried.view(name))
    app.get("/read/<id>")(tried.view("read"))
    app.get("/health")(tried.view("health"))
    client = tried.client(app)
    assert client.post("/keep", json={"amount": "4.00"}).status_code == 200
    assert tried.settled() == [("capture", "ok")]
    answer = client.post("/pay?other", json={"amount": "4.00"})
    assert (answer.status_code, code_of(answer)) == (500, "request.unsealed")
    assert [name for name, _, _ in tried.ran] == ["keep"]
