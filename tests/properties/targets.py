"""Applications with the five endpoints behind a fence, and drivers that hand them requests as servers do."""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request as WsgiRequest
from werkzeug.wrappers import Response as WsgiResponse

from afmiddleware.config.load import load
from afmiddleware.current import current_action
from afmiddleware.errors import AFError
from afmiddleware.fence import Fence
from tests.properties.attacks import POLICY, Acted, Sent

Send = Callable[[Sent], list[Acted]]


def fence() -> Fence:
    return Fence(load(POLICY, "random.yaml"))


def event() -> Any:
    try:
        return current_action().event
    except AFError:
        return None


def number(value: Any) -> Decimal:
    """What a handler that trusts its framework pays: a double for a JSON number with a point."""
    return Decimal(str(value))


def starlette(acted: list[Acted]) -> Starlette:
    """The application, noting its acts."""

    def note(request: Request, name: str, **more: Any) -> JSONResponse:
        known: dict[str, Any] = {"resource": None, "amount": None, "to": None}
        acted.append(Acted(name=name, method=request.method, event=event(), **(known | more)))
        return JSONResponse({})

    async def pay(request: Request) -> JSONResponse:
        payment = await request.json()
        return note(request, "pay", amount=number(payment["amount"]), to=payment["to"])

    async def order(request: Request) -> JSONResponse:
        return note(request, "order", resource=f"order:{request.path_params['id']}")

    async def file(request: Request) -> JSONResponse:
        return note(request, "file", resource=f"file:{request.path_params['path']}")

    async def transfer(request: Request) -> JSONResponse:
        query = request.query_params
        return note(request, "transfer", amount=number(query["amount"]).scaleb(-2), to=query["to"])

    async def form(request: Request) -> JSONResponse:
        # Starlette's own form reader needs another library; the standard one reads alike, with the last of a name.
        fields = dict(parse_qsl((await request.body()).decode("latin-1"), keep_blank_values=True))
        return note(request, "form", amount=number(fields["amount"]), to=fields["to"])

    return Starlette(
        routes=[
            Route("/pay", pay, methods=["POST"]),
            Route("/orders/{id}", order),
            Route("/files/{path:path}", file),
            Route("/transfer", transfer, methods=["POST"]),
            Route("/form", form, methods=["POST"]),
        ]
    )


def asgi(app: Any, acted: list[Acted]) -> Send:
    """Hands requests to an ASGI application, as uvicorn does."""

    async def one(sent: Sent) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": sent.method,
            "path": unquote(sent.path.decode("latin-1")),
            "raw_path": sent.path,
            "query_string": sent.query,
            "root_path": "",
            "scheme": "http",
            "headers": [(b"host", b"random.example"), *sent.headers, *length(sent)],
            "client": ("203.0.113.9", 4000),
            "server": ("random.example", 80),
        }
        messages = [
            {"type": "http.request", "body": piece, "more_body": more}
            for piece, more in zip(split(sent), [True] * (sent.pieces - 1) + [not sent.whole], strict=True)
        ]

        async def receive() -> Any:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(_message: Any) -> None:
            await anyio.lowlevel.checkpoint()

        await app(scope, receive, send)

    def send(sent: Sent) -> list[Acted]:
        acted.clear()
        anyio.run(failing(one), sent)
        return [*acted]

    return send


def failing(run: Callable[[Sent], Awaitable[None]]) -> Callable[[Sent], Awaitable[None]]:
    """The same, but what a handler raises is the server's to log: it has acted, or it has not."""

    async def quiet(sent: Sent) -> None:
        try:
            await run(sent)
        except (KeyError, ValueError, ArithmeticError, UnicodeError):
            return

    return quiet


def wsgi(app: Any, acted: list[Acted]) -> Send:
    """Hands requests to a WSGI application, as gunicorn does."""

    def send(sent: Sent) -> list[Acted]:
        acted.clear()
        environ: dict[str, Any] = {
            "REQUEST_METHOD": sent.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(sent.path).decode("latin-1"),
            "QUERY_STRING": sent.query.decode("latin-1"),
            "RAW_URI": (sent.path + b"?" + sent.query).decode("latin-1"),
            "SERVER_NAME": "random.example",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "203.0.113.9",
            "HTTP_HOST": "random.example",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(sent.body if sent.whole else sent.body[:-1]),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in (*sent.headers, *length(sent)):
            environ[name.decode().upper().replace("-", "_")] = value.decode("latin-1")
        answer = app(environ, lambda *_told: lambda _data: None)
        try:
            for _ in answer:
                pass
        finally:
            if hasattr(answer, "close"):
                answer.close()
        return [*acted]

    return send


def werkzeug(acted: list[Acted]) -> Any:
    """The application as a plain WSGI callable with Werkzeug's router and request."""
    rules = Map(
        [
            Rule("/pay", endpoint="pay", methods=["POST"]),
            Rule("/orders/<id>", endpoint="order", methods=["GET"]),
            Rule("/files/<path:path>", endpoint="file", methods=["GET"]),
            Rule("/transfer", endpoint="transfer", methods=["POST"]),
            Rule("/form", endpoint="form", methods=["POST"]),
        ]
    )

    def application(environ: Any, start_response: Any) -> Any:
        request = WsgiRequest(environ)
        try:
            name, values = rules.bind_to_environ(environ).match()
            acted.append(noted(request, name, values))
        except HTTPException as error:
            return error.get_response(environ)(environ, start_response)
        except (KeyError, ValueError, ArithmeticError):
            return WsgiResponse(status=500)(environ, start_response)
        return WsgiResponse("{}")(environ, start_response)

    return application


def noted(request: WsgiRequest, name: str, values: Any) -> Acted:
    """What a handler acts on that reads a request as Werkzeug and Flask give it."""
    resource = amount = to = None
    if name in {"order", "file"}:
        resource = f"{name}:{values['id' if name == 'order' else 'path']}"
    elif name == "pay":
        payment = json.loads(request.get_data())
        amount, to = number(payment["amount"]), payment["to"]
    elif name == "transfer":
        amount, to = number(request.args["amount"]).scaleb(-2), request.args["to"]
    else:
        # The query comes first here.
        amount, to = number(request.values["amount"]), request.values["to"]
    return Acted(name=name, method=request.method, resource=resource, amount=amount, to=to, event=event())


def length(sent: Sent) -> list[tuple[bytes, bytes]]:
    return [(b"content-length", str(len(sent.body)).encode())] if sent.body else []


def split(sent: Sent) -> list[bytes]:
    """The body in its pieces; of one that does not end, the last byte is missing."""
    body = sent.body if sent.whole else sent.body[:-1]
    size = len(body) // sent.pieces
    return [
        *(body[place * size : (place + 1) * size] for place in range(sent.pieces - 1)),
        body[(sent.pieces - 1) * size :],
    ]
