"""The target as a Flask application: views, a blueprint, a class, a second application behind a dispatcher."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import orjson
import pydantic_core
import ujson
from flask import Blueprint, Flask, Response, jsonify, request
from flask.views import MethodView
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from afmiddleware.fence import Fence
from afmiddleware.pep.wsgi import FenceMiddleware
from afmiddleware_flask import AgentFence
from tests.corpus.apps import acts
from tests.corpus.apps.acts import paid_calls
from tests.corpus.apps.layers import WsgiLayer

DONE = {"done": True}
READERS: dict[str, Callable[[bytes], Any]] = {
    "orjson": orjson.loads,
    "msgspec": msgspec.json.decode,
    "pydantic": pydantic_core.from_json,
    "ujson": ujson.loads,
}


def act(
    name: str,
    amount: object = None,
    *,
    body: bool = False,
    to: object = None,
    call: int = 0,
    params: dict[str, Any] | None = None,
) -> dict[str, bool]:
    acts.act(
        name,
        case=request.headers.get("x-case", ""),
        method=request.method,
        path=request.root_path.rstrip("/") + request.path,
        query=request.query_string,
        params=params or request.view_args,
        body=request.get_data() if body else None,
        amount=amount,
        to=to,
        call=call,
    )
    return DONE


def paid() -> Any:
    return request.get_json()["amount"]


def money(app: Flask) -> None:
    """What is paid from JSON bodies, queries and headers."""

    def pays(name: str, path: str, take: Callable[[], object], answer: Callable[[], Any] = lambda: DONE) -> None:
        def pay() -> Any:
            to = request.get_json()["to"] if name == "gift" else None
            act(name, take(), body=True, to=to)
            return answer()

        app.add_url_rule(path, name, pay, methods=["POST"])

    pays("pay", "/v1/payments", paid)
    pays("gift", "/v1/gifts", paid)
    pays("integer", "/v1/as/integer", lambda: int(paid()))
    pays("decimal", "/v1/as/decimal", lambda: Decimal(str(paid())))
    pays("broken", "/v1/broken", paid, broken)
    pays("declined", "/v1/declined", paid, lambda: ({}, 402))
    pays("stream", "/v1/stream", paid, lambda: Response(pieces()))
    pays("read-json", "/v1/read/json", lambda: request.get_json(force=True)["amount"])
    for reader, loads in READERS.items():
        pays(f"read-{reader}", f"/v1/read/{reader}", lambda loads=loads: loads(request.get_data())["amount"])  # type: ignore[misc]

    @app.post("/v1/transfers")
    def transfer() -> Any:
        return act("transfer", int(request.args["amount"]), to=request.args["to"])

    @app.post("/rpc")
    def rpc() -> Any:
        return jsonify(paid_calls(request.get_json(), partial(act, "rpc", body=True)))

    @app.post("/v1/tips")
    def tip() -> Any:
        return act("tip", Decimal(request.headers["x-amount"]))


def forms(app: Flask) -> None:
    """What is paid from forms. One view reads them as `request.values`, in which the query comes first."""

    def takes(name: str, path: str, kind: Callable[[str], object]) -> None:
        def take() -> Any:
            return act(name, kind((request.values if name == "either" else request.form)["amount"]))

        app.add_url_rule(path, name, take, methods=["POST"])

    takes("form", "/v1/forms", Decimal)
    takes("upload", "/v1/uploads", Decimal)
    takes("either", "/v1/either", Decimal)
    takes("form-integer", "/v1/as/form-integer", int)
    takes("form-decimal", "/v1/as/form-decimal", Decimal)


def broken() -> None:
    msg = "as asked"
    raise RuntimeError(msg)


def pieces() -> Iterator[bytes]:
    yield b"first"
    msg = "as asked, in the middle"
    raise RuntimeError(msg)


class Things(MethodView):
    def get(self) -> Any:
        return act("thing")


def rewrite() -> None:
    """A function between the fence's hook and the view, which changes what the view will see."""
    kind = request.headers.get("x-late")
    if kind == "method":
        request.environ["REQUEST_METHOD"] = request.method = "DELETE"
    elif kind == "query":
        request.environ["QUERY_STRING"] = "amount=5000&to=mallory"
        request.query_string = b"amount=5000&to=mallory"
    elif kind == "params":
        request.view_args = {"id": "other"}
    elif kind == "body":
        vars(request)["_cached_data"] = b'{"amount": 5000}'


def target(fence: Fence | None, *, layered: bool = False) -> Flask:
    """One application, with a fence or without."""
    app = Flask("target", static_folder=None)

    @app.get("/public/ping")
    def ping() -> Any:
        return act("ping")

    money(app)
    forms(app)
    orders = Blueprint("orders", "target", url_prefix="/v1/orders")
    orders.get("/<id>")(lambda id: act("order"))  # noqa: A006
    orders.delete("/<id>", endpoint="cancel")(lambda id: act("cancel"))  # noqa: A006
    app.register_blueprint(orders)
    app.get("/v1/wallet", endpoint="wallet")(lambda: act("wallet"))
    app.add_url_rule("/v1/things", view_func=Things.as_view("things"))
    app.get("/v1/numbers/<int:n>", endpoint="number")(lambda n: act("number"))
    app.get("/files/<path:path>", endpoint="file")(lambda path: act("file"))
    app.get("/v1/slashed/", endpoint="slashed")(lambda: act("slashed"))
    admin = Flask("admin", static_folder=None)
    admin.post("/payout", endpoint="payout")(lambda: act("payout", paid(), body=True))
    admin.get("/ping", endpoint="inner-ping")(lambda: act("inner-ping"))
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/admin": admin})  # type: ignore[method-assign]
    if layered:
        app.wsgi_app = WsgiLayer(app.wsgi_app)  # type: ignore[method-assign]
        app.before_request(rewrite)
    if fence is not None:
        AgentFence(app, fence=fence)
    return app


def create_generic() -> Any:
    """The same application behind the generic fence, which does not ask its router."""
    return FenceMiddleware(target(None), policy=os.environ["AFM_POLICY"])


def create() -> Any:
    """The applications of this process: the header `x-app` says which is meant."""
    fence = Fence.from_file(os.environ["AFM_POLICY"])
    main, layered = target(fence), target(fence, layered=True)

    def choose(environ: dict[str, Any], start_response: Any) -> Any:
        return (layered if environ.get("HTTP_X_APP") == "layered" else main)(environ, start_response)

    return choose
