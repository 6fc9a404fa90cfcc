"""People whom the application has signed in, through Starlette, Flask-Login and Django: actors, and not agents."""

from __future__ import annotations

import secrets
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.urls import path
from flask import Flask
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from afmiddleware.identity.api_keys import new_key
from afmiddleware.ledger.base import Filter
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware_fastapi import install
from afmiddleware_flask import AgentFence
from tests.integrations.django.project import FENCE, SEAL, project

flask_login = pytest.importorskip("flask_login")

POLICY = """
version: 1
service: people
ledger: memory
identity: {api_keys: {store: ledger}, from_app: {tier: verified}}
routes:
  - {route: POST /all, capability: people.all}
  - {route: POST /agents, capability: people.agents, applies_to: agents}
  - {route: POST /proven, capability: people.proven, applies_to: proven_agents}
rules: {allow: [{capability: people.*, identity: token}]}
limits: [{name: calls, rate: 100/day, per: actor}]
"""

PERSON = {"x-session": "alice", "user-agent": "Mozilla/5.0 Firefox/143.0"}
DRIVEN = {"x-session": "alice", "user-agent": "ChatGPT-User/1.0"}


class User(BaseUser):
    is_authenticated = True

    @property
    def display_name(self) -> str:
        return "alice"


class Backend(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        return (AuthCredentials(["shop"]), User()) if conn.headers.get("x-session") == "alice" else None


def starlette(fence: Fence) -> Any:
    routes = [Route(one, lambda _request: PlainTextResponse("ran"), methods=["POST"]) for one in PATHS]
    app = Starlette(routes=routes, middleware=[Middleware(AuthenticationMiddleware, backend=Backend())])
    install(app, fence=fence)
    return httpx.ASGITransport(app, client=("203.0.113.9", 1))


def flask(fence: Fence) -> Any:
    app = Flask("people", static_folder=None)
    login = flask_login.LoginManager(app)

    @login.request_loader
    def load_user(request: Any) -> Any:
        user = flask_login.UserMixin()
        user.id = "alice"
        return user if request.headers.get("x-session") == "alice" else None

    AgentFence(app, fence=fence)
    for one in PATHS:
        app.add_url_rule(one, one, lambda: "ran", methods=["POST"])
    return httpx.WSGITransport(app, remote_addr="203.0.113.9")


PATHS = ("/all", "/agents", "/proven")


@pytest.fixture(params=["starlette", "flask", "django sync", "django async"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    fence = Fence(load(POLICY), base=tmp_path)
    key, record = new_key("agent", secrets.token_bytes, now=fence.clock())
    fence.ledger.put_api_key(record)

    def send(where: str, headers: dict[str, str], *, agent: bool = False) -> Any:
        sent = {**headers, "authorization": f"Bearer {key}"} if agent else headers
        return SENDERS[request.param](fence, where, sent)

    person = "app:7" if request.param.startswith("django") else "app:alice"
    return SimpleNamespace(fence=fence, send=send, person=person)


def over_asgi(transport: Any, where: str, headers: dict[str, str]) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.post(where, headers=headers)

    return anyio.run(ask)


def over_wsgi(transport: Any, where: str, headers: dict[str, str]) -> httpx.Response:
    with httpx.Client(transport=transport, base_url="http://x") as client:
        return client.post(where, headers=headers)


class DjangoBackend:
    """Django's own session names user 7, and this is who that is."""

    def get_user(self, user_id: int) -> Any:
        return SimpleNamespace(is_authenticated=True, pk=user_id)

    async def aget_user(self, user_id: int) -> Any:
        return self.get_user(user_id)


SESSIONS = {
    "MIDDLEWARE": [
        FENCE,
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        SEAL,
    ],
    "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
    "AUTHENTICATION_BACKENDS": [f"{__name__}.DjangoBackend"],
}


def django(kind: str) -> Any:
    def view(_request: Any) -> HttpResponse:
        return HttpResponse("ran")

    async def aview(_request: Any) -> HttpResponse:
        return HttpResponse("ran")

    def send(fence: Fence, where: str, headers: dict[str, str]) -> httpx.Response:
        sent = {name: value for name, value in headers.items() if name != "x-session"}
        patterns = [path(one[1:], view if kind == "sync" else aview) for one in PATHS]
        with project(patterns, fence, **SESSIONS):
            if "x-session" in headers:
                session = SessionStore()
                session[SESSION_KEY], session[BACKEND_SESSION_KEY] = "7", SESSIONS["AUTHENTICATION_BACKENDS"][0]
                session.save()
                sent["cookie"] = f"sessionid={session.session_key}"
            if kind == "sync":
                return over_wsgi(httpx.WSGITransport(WSGIHandler(), remote_addr="203.0.113.9"), where, sent)
            asgi: Any = ASGIHandler()
            return over_asgi(httpx.ASGITransport(asgi, client=("203.0.113.9", 1)), where, sent)

    return send


SENDERS: dict[str, Any] = {
    "starlette": lambda fence, where, headers: over_asgi(starlette(fence), where, headers),
    "flask": lambda fence, where, headers: over_wsgi(flask(fence), where, headers),
    "django sync": django("sync"),
    "django async": django("async"),
}


def decided(fence: Fence) -> list[tuple[Any, Any]]:
    found = []
    for one in fence.ledger.receipts(Filter()):
        body: Any = strict_parse(one.receipt.body)
        if body["kind"] in ("intent", "refusal"):
            found.append((one.receipt.disclosed["actor"][1], body["proof"]))
    return found


def test_a_signed_in_person_is_an_actor_where_all_are_judged(client: Any) -> None:
    assert client.send("/all", PERSON).text == "ran"
    assert decided(client.fence) == [(client.person, "session")]
    assert client.send("/all", {}).status_code == 401


def test_a_person_is_not_judged_on_a_route_for_agents_and_all_others_are(client: Any) -> None:
    assert client.send("/agents", PERSON).text == "ran"
    assert decided(client.fence) == []
    # Hiding what one is loosens nothing.
    assert client.send("/agents", {}).status_code == 401
    assert client.send("/agents", {"user-agent": PERSON["user-agent"]}).status_code == 401
    assert client.send("/agents", DRIVEN).text == "ran"
    assert client.send("/agents", PERSON, agent=True).text == "ran"
    assert decided(client.fence) == [(client.person, "session"), ("key:agent", "bearer")]


def test_a_declared_agent_with_a_session_passes_where_only_proven_ones_are_judged(client: Any) -> None:
    assert client.send("/proven", DRIVEN).text == "ran"
    assert decided(client.fence) == []
    assert client.send("/proven", {}).status_code == 401
    assert client.send("/proven", PERSON, agent=True).text == "ran"
    assert decided(client.fence) == [("key:agent", "bearer")]


def test_a_bad_credential_is_not_mended_by_a_session(client: Any) -> None:
    for where in PATHS:
        assert client.send(where, {**PERSON, "authorization": "Bearer afk_live_x"}).status_code == 401
    assert "Cookie" in client.send("/all", {}).headers["vary"]
