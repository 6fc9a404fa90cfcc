"""What becomes of an admitted action: what its view says, how its answer ends, and who may read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, abort, stream_with_context
from flask.views import MethodView
from flask_cors import CORS
from werkzeug.exceptions import HTTPException

from afmiddleware import current_action
from afmiddleware.errors import AFError
from tests.conformance.wsgi import environ_of
from tests.integrations.flask.fenced import POLICY, Tried, admitted, code_of

PAY = {"amount": "4.00"}


@pytest.fixture
def tried(tmp_path: Path) -> Any:
    tried = Tried(tmp_path)
    yield tried
    tried.fence.close()


def raising() -> None:
    msg = "as asked"
    raise RuntimeError(msg)


def settling(amount: str) -> str:
    current_action().settle(amount)
    return "done"


def releasing() -> str:
    current_action().release()
    return "done"


def settling_and_raising() -> None:
    current_action().settle("1.00")
    raising()


def broken() -> Response:
    def rows() -> Iterator[str]:
        yield "first"
        raising()

    return Response(rows())


@pytest.mark.parametrize(
    ("path", "answer", "status", "ended", "spent"),
    [
        pytest.param("/pay", "done", 200, ("capture", "ok"), 400, id="2xx captures"),
        pytest.param("/pay", ("", 302), 302, ("capture", "ok"), 400, id="3xx captures"),
        pytest.param("/pay", ("", 204), 204, ("capture", "ok"), 400, id="an answer without a body"),
        pytest.param("/pay", lambda: settling("1.50"), 200, ("capture", "ok"), 150, id="less than was reserved"),
        pytest.param("/pay", lambda: settling("250.00"), 200, ("capture", "ok"), 25000, id="more, over the cap"),
        pytest.param("/pay", releasing, 200, ("release", "ok"), 0, id="the view's release"),
        pytest.param("/keep", releasing, 200, ("release", "ok"), 0, id="the view's release under keep"),
        pytest.param("/pay", settling_and_raising, 500, ("capture", "error"), 100, id="a settle before a failure"),
        pytest.param("/pay", lambda: abort(409), 409, ("release", "ok"), 0, id="4xx releases"),
        pytest.param("/keep", lambda: abort(409), 409, ("capture", "ok"), 400, id="4xx under keep"),
        pytest.param("/pay", ("", 503), 503, ("unknown", "ok"), 400, id="5xx keeps"),
        pytest.param("/keep", ("", 503), 503, ("capture", "ok"), 400, id="5xx captures under keep"),
        pytest.param("/pay", raising, 500, ("unknown", "error"), 400, id="an exception keeps"),
        pytest.param("/keep", raising, 500, ("unknown", "error"), 400, id="an exception under keep"),
    ],
)
def test_how_an_action_ends(
    tried: Tried, path: str, answer: Any, status: int, ended: tuple[str, str], spent: int
) -> None:
    app = Flask("settled", static_folder=None)
    for name in ("pay", "keep"):
        app.post(f"/{name}")(tried.view(name, answer))
    app.get("/read/<id>")(tried.view("read"))
    app.get("/health")(tried.view("health"))
    response = tried.client(app).post(path, json=PAY)
    assert response.status_code == status
    assert (tried.settled(), tried.spent()) == ([ended], spent)


def test_an_exception_that_leaves_flask_keeps_the_money(tried: Tried) -> None:
    app = tried.app()
    app.view_functions["pay"] = tried.view("pay", raising)
    app.testing = True
    with pytest.raises(RuntimeError):
        tried.client(app).post("/pay", json=PAY)
    assert (tried.settled(), tried.spent()) == ([("unknown", "error")], 400)


def test_a_broken_stream_keeps_the_money(tried: Tried) -> None:
    app = tried.app()
    app.view_functions["pay"] = broken
    with pytest.raises(RuntimeError):
        tried.client(app).post("/pay", json=PAY)
    assert (tried.settled(), tried.spent()) == ([("unknown", "error")], 400)


def test_an_error_handler_answers_for_what_the_view_raised(tried: Tried) -> None:
    app = tried.app()
    app.view_functions["pay"] = tried.view("pay", raising)
    app.register_error_handler(RuntimeError, lambda _error: ("sorry", 409))
    assert tried.client(app).post("/pay", json=PAY).status_code == 409
    assert tried.settled() == [("release", "ok")]


class Stream:
    """A server that stops after some pieces of an answer, as one does whose client has left."""

    def __init__(self, app: Flask, path: str, method: str = "POST") -> None:
        body = json.dumps(PAY).encode() if method == "POST" else b""
        headers = [("host", "x")]
        if body:
            headers += [("content-type", "application/json"), ("content-length", str(len(body)))]
        self.headers: list[tuple[str, str]] = []
        self.answer = app(environ_of(method, path, headers, body), self.start)

    def start(self, _status: str, headers: Any, _error: Any = None) -> Any:
        self.headers = headers
        return lambda _data: None


def pieces() -> Response:
    return Response(stream_with_context(str(current_action().actor.id) for _ in range(3)))


def test_a_stream_is_handed_on_piece_by_piece_and_ends_with_its_close(tried: Tried) -> None:
    app = tried.app()
    app.view_functions["pay"] = pieces
    tried.extension.init_app(app)
    stream = Stream(app, "/pay")
    assert "agent-receipt" in {name.lower() for name, _ in stream.headers}
    assert not admitted()
    parts = iter(stream.answer)
    assert next(parts) == b"address:203.0.113.9/32"
    assert (tried.settled(), admitted()) == ([], False)
    assert len(list(parts)) == 2
    assert tried.settled() == []
    stream.answer.close()  # type: ignore[attr-defined]
    stream.answer.close()  # type: ignore[attr-defined]
    assert (tried.settled(), tried.spent()) == ([("capture", "ok")], 400)


def test_a_client_that_leaves_a_stream_keeps_the_money_counted(tried: Tried) -> None:
    app = tried.app()
    app.view_functions["pay"] = pieces
    tried.extension.init_app(app)
    stream = Stream(app, "/pay")
    next(iter(stream.answer))
    stream.answer.close()  # type: ignore[attr-defined]
    assert (tried.settled(), tried.spent()) == ([("unknown", "client_gone")], 400)


def test_head_is_judged_as_get_and_needs_no_body(tried: Tried) -> None:
    app = tried.app()
    tried.extension.init_app(app)
    stream = Stream(app, "/read/7", "HEAD")
    stream.answer.close()  # type: ignore[attr-defined]
    assert tried.settled() == [("capture", "ok")]
    assert [one["capability"] for one in tried.receipts()] == ["a.read", "a.read"]


def test_the_view_knows_its_action_and_nobody_else_does(tried: Tried) -> None:
    seen: list[Any] = []

    def pay() -> str:
        seen.append(current_action())
        return "done"

    app = tried.app()
    app.view_functions["pay"] = pay
    app.view_functions["health"] = lambda: {"action": admitted()}
    client = tried.client(app)
    answer = client.post("/pay", json=PAY)
    assert seen[0].event.amount.minor == 400
    assert f"seq={seen[0].receipt.seq}," in answer.headers["Agent-Receipt"]
    assert client.get("/health").get_json() == {"action": False}
    with pytest.raises(AFError):
        current_action()


def test_an_async_view_knows_its_action(tried: Tried) -> None:
    pytest.importorskip("asgiref")

    async def pay() -> str:
        current_action().settle("1.00")
        return "done"

    app = tried.app()
    app.view_functions["pay"] = pay
    assert tried.client(app).post("/pay", json=PAY).status_code == 200
    assert tried.spent() == 100


def test_a_public_answer_passes_untouched(tried: Tried) -> None:
    answer = tried.client(tried.app()).get("/health", headers={"origin": "https://web.example"})
    assert sorted(name.lower() for name in answer.headers.keys()) == ["content-length", "content-type"]  # noqa: SIM118


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("POST", "/pay", {"json": {"amount": "400.00"}}, 403),
        ("POST", "/pay", {"data": "{"}, 415),
        ("GET", "/read/7%2F8", {}, 400),
        ("GET", "/unmapped", {}, 403),
        ("GET", "/nothing", {}, 404),
        ("POST", "/pay", {"json": PAY}, 200),
    ],
)
def test_a_browser_can_read_a_refusal_and_a_receipt(
    tried: Tried, method: str, path: str, more: dict[str, Any], status: int
) -> None:
    app = tried.app()
    app.get("/unmapped")(tried.view("unmapped"))
    CORS(app, origins=["https://web.example", "https://other.example"])
    answer = tried.client(app).open(path, method=method, headers={"origin": "https://web.example"}, **more)
    assert answer.status_code == status
    assert answer.headers["Access-Control-Allow-Origin"] == "https://web.example"
    assert "Origin" in ", ".join(answer.headers.getlist("Vary"))
    if status != 404:
        exposed = answer.headers["Access-Control-Expose-Headers"]
        assert "Agent-Receipt" in exposed


def test_a_preflight_passes_where_the_view_has_no_options_of_its_own(tried: Tried) -> None:
    asks = {"origin": "https://web.example", "access-control-request-method": "POST"}
    app = tried.app()
    CORS(app, origins=["https://web.example", "https://other.example"])
    answer = tried.client(app).options("/pay", headers=asks)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://web.example"
    assert (tried.ran, tried.receipts()) == ([], [])


def test_an_options_of_its_own_is_an_endpoint(tried: Tried) -> None:
    app = tried.app()
    app.add_url_rule("/asks", "asks", tried.view("asks"), methods=["OPTIONS"])
    answer = tried.client(app).options("/asks")
    assert (code_of(answer), tried.ran) == ("route.unmapped", [])


class Things(MethodView):
    """A view of several methods, of which the policy knows one."""

    def get(self, **_values: str) -> str:
        return "read"

    def delete(self, **_values: str) -> str:
        return "deleted"


@pytest.mark.parametrize(
    ("method", "status"), [("GET", 200), ("HEAD", 200), ("DELETE", 403), ("PUT", 405), ("OPTIONS", 200), ("BREW", 405)]
)
def test_each_method_of_a_class_view_is_judged_by_itself(tried: Tried, method: str, status: int) -> None:
    app = Flask("classes", static_folder=None)
    for name in ("pay", "keep"):
        app.post(f"/{name}")(tried.view(name))
    app.get("/health")(tried.view("health"))
    app.add_url_rule("/read/<id>", view_func=Things.as_view("things"))
    assert tried.client(app).open("/read/7", method=method).status_code == status


def test_a_refusal_shows_no_payload_no_token_and_no_path(tried: Tried) -> None:
    client = tried.client(tried.app())
    secret = {"authorization": "Bearer s3cret-t0ken"}
    hostile = '{"amount": "p4yload", "amount": "p4yload"}'
    for answer in (
        client.get("/read/7", headers=secret),
        client.post("/pay", data=hostile, content_type="application/json"),
        client.post("/pay", json={"amount": "p4yload"}),
        client.get("/p4yload/%2e%2e"),
    ):
        assert 400 <= answer.status_code < 500
        for hidden in ("s3cret-t0ken", "p4yload", "tried.yaml", "Traceback", "line"):
            assert hidden not in answer.get_data(as_text=True) + str(answer.headers)
    assert tried.ran == []


def test_redirects_and_errors_stay_flasks_own(tried: Tried) -> None:
    app = tried.app()
    app.get("/slashed/")(tried.view("slashed"))
    app.register_error_handler(HTTPException, lambda error: ({"mine": error.code}, error.code))
    client = tried.client(app)
    assert client.get("/nothing").get_json() == {"mine": 404}
    assert client.put("/pay").get_json() == {"mine": 405}
    assert client.get("/slashed").status_code == 308
    assert (tried.ran, tried.receipts()) == ([], [])


def test_observe_lets_everything_pass_and_charges_it(tmp_path: Path) -> None:
    tried = Tried(tmp_path, f"mode: observe\n{POLICY}")
    client = tried.client(tried.app())
    assert client.post("/pay", json={"amount": "400.00"}).status_code == 200
    assert client.post("/pay", data="{", content_type="application/json").status_code == 200
    assert [name for name, _, _ in tried.ran] == ["pay", "pay"]
    assert tried.spent() == 40000
