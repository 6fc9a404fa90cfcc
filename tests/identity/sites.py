"""One application in every framework, behind one policy, on a real server: it answers who the caller is taken to be."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from django.core.handlers.wsgi import WSGIHandler
from django.http import JsonResponse
from django.urls import path
from fastapi import FastAPI
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from afmiddleware import current_action
from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from afmiddleware_fastapi import install
from afmiddleware_flask import AgentFence
from tests.identity.server import API, CLIENT, AuthorizationServer, Served
from tests.integrations.django.project import configure, project

STACKS = ("fastapi", "flask", "django")
POLICY = """
version: 1
service: identity
ledger: {ledger}
identity:
  public_origins: [{api}]
  api_keys: {{imported: true, guesses_per_minute: {guesses}{keys}}}
{settings}
  jwt:
    issuers:
      - {{issuer: "{url}", audience: {api}, algorithms: [ES256], discovery: oidc, typ: [at+jwt], jwks_hosts: [localhost]}}
      - {{issuer: "{url}/strict", audience: {api}, algorithms: [ES256], discovery: oidc, strict_audience: true}}
  introspection:
    {{endpoint: "{url}/introspect", issuer: "{url}", client_id: {client}, client_secret: {{file: client}}, audience: {api}}}
  sessions: {{mint_per_hour: 8, max_live: 5}}
routes:
  - {{route: GET /who, capability: shop.who}}
  - {{route: POST /pay, capability: shop.pay, amount: {{from: body.amount}}}}
rules:
  allow: [shop.who, {{capability: shop.pay, identity: token}}]
limits:
  - {{name: session, spend: 10 USD, window: session, per: session}}
  - {{name: daily, spend: 25 USD, window: day, per: actor}}
{limits}
"""


configure()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site:
    """The application behind a fence. `keys` are more settings of API keys, `limits` is one more, `settings` are more lines of identity.

    `send` goes over a socket from the address `source`, header by header as it is given.
    """

    def __init__(
        self,
        stack: str,
        folder: Path,
        server: AuthorizationServer,
        ledger: str = "memory",
        guesses: int = 1000,
        keys: str = "",
        limits: str = "",
        settings: str = "",
        **parts: Any,
    ) -> None:
        (folder / "client").write_text(CLIENT[1], encoding="utf-8")
        known = {"ledger": ledger, "api": API, "url": server.url, "client": CLIENT[0], "guesses": guesses}
        text = POLICY.format(
            **known, keys=keys and f", {keys}", limits=limits and f"  - {limits}", settings=settings and f"  {settings}"
        )
        self.server = server
        self.fence = Fence(load(text), base=folder, **parts)
        self.port, self._stop = getattr(self, f"_{stack}")()

    def send(
        self,
        *headers: tuple[str, str],
        method: str = "GET",
        where: str = "/who",
        body: bytes = b"",
        source: str = "127.0.0.1",
        timeout: float = 30.0,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout, (source, 0))
        try:
            connection.putrequest(method, where, skip_host=True, skip_accept_encoding=True)
            if not any(name.lower() == "host" for name, _ in headers):
                connection.putheader("Host", "api.example.com")
            for name, value in headers:
                connection.putheader(name, value)
            if body or method == "POST":
                connection.putheader("Content-Type", "application/json")
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def raw(self, request: bytes, source: str = "127.0.0.1") -> bytes:
        """Send bytes in one piece, and read the answer until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), 30, (source, 0)) as connection:
            connection.sendall(request)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)

    def bearer(self, token: str, *more: tuple[str, str], **request: Any) -> Answer:
        return self.send(("Authorization", f"Bearer {token}"), *more, **request)

    def pay(self, amount: str, *headers: tuple[str, str]) -> Answer:
        return self.send(*headers, method="POST", where="/pay", body=json.dumps({"amount": amount}).encode())

    def close(self) -> None:
        self._stop()
        self.fence.close()

    def keys_of(self, name: str = "") -> Any:
        """The keys of a source, the first issuer's unless named, for a test that moves their time."""
        return self.fence._resolver._keys.sources[name or self.server.url]

    def checks(self) -> Any:
        """What checks the credentials."""
        return self.fence.plan.identify.__self__  # type: ignore[attr-defined]

    def _fastapi(self) -> tuple[int, Any]:
        app = FastAPI(openapi_url=None)

        @app.get("/who")
        async def view() -> dict[str, Any]:
            return told()

        @app.post("/pay")
        async def pay() -> dict[str, Any]:
            return told()

        install(app, fence=self.fence)
        served = Served(app)
        return served.port, served.stop

    def _flask(self) -> tuple[int, Any]:
        app = Flask("identity", static_folder=None)
        AgentFence(app, fence=self.fence)
        app.add_url_rule("/who", "who", told, methods=["GET"])
        app.add_url_rule("/pay", "pay", told, methods=["POST"])
        return threaded(app)

    def _django(self) -> tuple[int, Any]:
        def view(_request: Any) -> JsonResponse:
            return JsonResponse(told())

        context = project([path("who", view), path("pay", view)], self.fence)
        context.__enter__()
        port, stop = threaded(WSGIHandler())

        def end() -> None:
            stop()
            context.__exit__(None, None, None)

        return port, end


def told() -> dict[str, Any]:
    action = current_action()
    assert action is not None
    actor = action.actor
    names = ("id", "proof", "account", "agent", "on_behalf_of", "session", "credential", "depth")
    return {"tier": actor.tier.label, "scopes": sorted(actor.scopes), **{name: getattr(actor, name) for name in names}}


class Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 (its name there)
        """Nothing: the tests look at what the fence logs."""


def threaded(app: Any) -> tuple[int, Any]:
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        thread.join(30)
        server.server_close()

    return server.server_port, stop


def header_lines(*values: str, name: str = "Authorization") -> Sequence[tuple[str, str]]:
    return [(name, value) for value in values]
