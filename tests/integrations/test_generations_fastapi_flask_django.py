"""A request that is at its commit when another process puts another policy in force, in every framework.

It is decided again from the start: other bindings, another cap of the body, the same bytes for the handler.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path
from fastapi import FastAPI, Request
from flask import Flask
from flask import request as flask_request
from starlette.responses import Response

from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.memory import MemoryLedger
from afmiddleware.pep.asgi import FenceMiddleware as AsgiFence
from afmiddleware.pep.wsgi import FenceMiddleware as WsgiFence
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.testing import DpopKey, FrozenClock, mint_es256_issuer
from afmiddleware_fastapi import install
from afmiddleware_flask import AgentFence
from tests.integrations.django.project import project

POLICY = """
version: 1
service: shop
ledger: memory
reload: signal
mode: {mode}
routes:
  - {{route: {route}, capability: shop.pay, amount: {{from: body.{field}}}, max_body: {cap}}}
  - {{route: GET /open, public: true}}
rules: {{allow: [{{capability: shop.*, max_amount: {most} USD}}]}}
"""


def policy(
    field: str = "amount", most: int = 100, mode: str = "enforce", cap: int = 60, route: str = "POST /pay"
) -> str:
    return POLICY.format(field=field, most=most, mode=mode, cap=cap, route=route)


BODY = json.dumps({"amount": "5.00", "total": "50.00", "note": "x" * 20}).encode()


Ask = Callable[..., httpx.Response]


class Site:
    """A fence in an application under test, and another one that is quicker to see a change."""

    def __init__(self, folder: Path, text: str) -> None:
        self.clock = FrozenClock()
        self.ledger = MemoryLedger(ReceiptKeys.derive(bytes(32)), self.clock, bytes)
        self.files = [folder / "here.yaml", folder / "there.yaml"]
        for file in self.files:
            file.write_text(text, "utf-8")
        self.here, self.there = (
            Fence.from_file(file, env={}, ledger=self.ledger, clock=self.clock) for file in self.files
        )
        self.got: list[bytes] = []
        self.ask: Ask = lambda _body, **_headers: httpx.Response(500)

    def change(self, text: str, *, here: bool = True) -> None:
        for file in self.files if here else self.files[1:]:
            file.write_text(text, "utf-8")
        self.there.reload()

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [strict_parse(one.receipt.body) for one in self.ledger.receipts(Filter(kind=kind))]


def over_asgi(app: Any) -> Ask:
    async def ask(body: bytes, more: dict[str, str]) -> httpx.Response:
        async def pieces() -> Any:
            yield body[:7]
            yield body[7:]

        headers = {"content-type": "application/json", "content-length": str(len(body)), **more}
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api.example.com") as client:
            return await client.post("/pay", content=pieces(), headers=headers)

    return lambda body, **more: anyio.run(ask, body, more)


def over_wsgi(app: Any) -> Ask:
    def ask(body: bytes, **more: str) -> httpx.Response:
        with httpx.Client(transport=httpx.WSGITransport(app), base_url="http://api.example.com") as client:
            return client.post("/pay", content=body, headers={"content-type": "application/json", **more})

    return ask


@contextmanager
def asgi_table(site: Site) -> Iterator[None]:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        site.got.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    site.ask = over_asgi(AsgiFence(app, fence=site.here))
    yield


@contextmanager
def wsgi_table(site: Site) -> Iterator[None]:
    def app(environ: Any, start: Any) -> list[bytes]:
        site.got.append(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        start("200 OK", [])
        return [b""]

    site.ask = over_wsgi(WsgiFence(app, fence=site.here))
    yield


@contextmanager
def in_fastapi(site: Site) -> Iterator[None]:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/pay")
    async def pay(request: Request) -> Response:
        site.got.append(await request.body())
        return Response()

    @app.get("/open")
    async def anybody() -> Response:
        return Response()

    install(app, fence=site.here)
    site.ask = over_asgi(app)
    yield


@contextmanager
def in_flask(site: Site) -> Iterator[None]:
    app = Flask(__name__, static_folder=None)

    @app.post("/pay")
    def pay() -> str:
        site.got.append(flask_request.get_data())
        return ""

    @app.get("/open")
    def anybody() -> str:
        return ""

    AgentFence(app, fence=site.here)
    site.ask = over_wsgi(app)
    yield


def in_django(handler: Any, over: Any) -> Any:
    @contextmanager
    def made(site: Site) -> Iterator[None]:
        def pay(request: HttpRequest) -> HttpResponse:
            site.got.append(request.body)
            return HttpResponse()

        def anybody(_request: HttpRequest) -> HttpResponse:
            return HttpResponse()

        with project([path("pay", pay), path("open", anybody)], site.here):
            site.ask = over(handler())
            yield

    return made


STACKS = {
    "asgi": asgi_table,
    "wsgi": wsgi_table,
    "fastapi": in_fastapi,
    "flask": in_flask,
    "django": in_django(WSGIHandler, over_wsgi),
    "async django": in_django(ASGIHandler, over_asgi),
}


@pytest.fixture(params=STACKS.values(), ids=[*STACKS])
def stack(request: pytest.FixtureRequest) -> Any:
    return request.param


@contextmanager
def running(stack: Any, folder: Path, text: str) -> Iterator[Site]:
    """An application that has decided one request, and another process of it."""
    site = Site(folder, text)
    event = _event()
    with ExitStack() as exits:
        exits.callback(site.here.close)
        exits.callback(site.there.close)
        exits.enter_context(stack(site))
        with site.there.action(event):
            pass
        site.ask(BODY)
        site.got.clear()
        yield site


def _event() -> Any:
    from afmiddleware import ActionEvent
    from afmiddleware.model import Actor, Money, Tier

    return ActionEvent(actor=Actor(id="key:a", tier=Tier.TOKEN), capability="shop.pay", amount=Money(100, "USD", 2))


def test_what_the_new_policy_denies_is_denied_at_the_next_request(stack: Any, tmp_path: Path):
    with running(stack, tmp_path, policy(cap=200)) as site:
        site.change(policy(cap=200, most=4))
        answer = site.ask(BODY)
        assert (answer.status_code, answer.json()["code"]) == (403, "amount.over_action_cap")
        assert site.got == []
        assert site.here.plan.digest == site.there.plan.digest


def test_the_new_bindings_judge_the_body_that_was_read(stack: Any, tmp_path: Path):
    with running(stack, tmp_path, policy(cap=200)) as site:
        before = len(site.bodies("intent"))
        site.change(policy("total", cap=200))
        assert site.ask(BODY).status_code == 200
        assert site.got == [BODY]
        [told] = site.bodies("intent")[before:]
        assert (told["amount"], told["policy"]) == ("5000", site.there.plan.digest)


@pytest.mark.parametrize(("before", "after", "status"), [(60, 200, 200), (200, 60, 413)])
def test_the_new_cap_of_the_body_holds(stack: Any, tmp_path: Path, before: int, after: int, status: int):
    assert 60 < len(BODY) < 200
    with running(stack, tmp_path, policy(cap=before)) as site:
        site.change(policy(cap=after))
        answer = site.ask(BODY)
        assert answer.status_code == status, answer.text
        assert site.got == ([BODY] if status == 200 else [])


def test_a_route_that_the_new_policy_lacks_is_not_open(stack: Any, tmp_path: Path):
    with running(stack, tmp_path, policy(cap=200)) as site:
        site.change(policy(cap=200, route="GET /pay") if stack in (asgi_table, wsgi_table) else unmapped())
        answer = site.ask(BODY)
        assert (answer.status_code, answer.json()["code"]) == (403, "route.unmapped")
        assert site.got == []


def unmapped() -> str:
    return "\n".join(line for line in policy(cap=200).splitlines() if "/pay" not in line)


def test_a_file_that_is_behind_answers_503(stack: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with running(stack, tmp_path, policy(cap=200)) as site:
        site.change(policy(cap=200, most=4), here=False)
        size = site.ledger.head().size
        for _ in range(2):
            answer = site.ask(BODY)
            assert (answer.status_code, answer.json()["code"]) == (503, "policy.unavailable")
            assert answer.headers["retry-after"] == "5"
        assert site.got == []
        assert site.ledger.head().size == size
        assert not site.here.standing.healthy
        assert len([one for one in caplog.records if one.levelno == logging.CRITICAL]) == 1
        site.files[0].write_text(policy(cap=200, most=4), "utf-8")
        site.clock.advance(1)
        assert site.ask(BODY).status_code == 403


def test_what_only_observes_passes(stack: Any, tmp_path: Path):
    with running(stack, tmp_path, policy(cap=200, mode="observe")) as site:
        site.change(policy(cap=200, most=4), here=False)
        assert site.ask(BODY).status_code == 200
        assert site.got == [BODY]
        assert site.bodies("intent")[-1]["flags"] == ["policy:superseded"]


def test_from_observing_to_enforcing_at_the_next_request(stack: Any, tmp_path: Path):
    with running(stack, tmp_path, policy(cap=200, mode="observe")) as site:
        site.change(policy(cap=200, most=4))
        assert site.ask(BODY).status_code == 403
        site.change(policy(cap=200, most=4, mode="observe"))
        assert site.ask(BODY).status_code == 200
        assert site.got == [BODY]


ISSUER = mint_es256_issuer(clock=FrozenClock())
KNOWN = """
identity:
  public_origins: ["https://api.example.com"]
  jwt: {issuers: [{issuer: "https://as.example.com", audience: "https://api.example.com", algorithms: [ES256], jwks_file: j.json}]}
"""


def test_a_proof_that_may_be_used_once_is_good_for_the_request_that_is_decided_again(stack: Any, tmp_path: Path):
    (tmp_path / "j.json").write_text(json.dumps(ISSUER.jwks), "utf-8")
    with running(stack, tmp_path, policy(cap=200) + KNOWN) as site:
        key = DpopKey.make(site.clock)
        token = ISSUER.mint(cnf={"jkt": key.thumbprint})
        proof = key.proof("POST", "https://api.example.com/pay", token)
        site.change(policy("total", cap=200) + KNOWN)
        first = site.ask(BODY, authorization=f"DPoP {token}", dpop=proof)
        assert first.status_code == 200, first.text
        assert site.bodies("intent")[-1]["amount"] == "5000"
        again = site.ask(BODY, authorization=f"DPoP {token}", dpop=proof)
        assert (again.status_code, again.json()["code"]) == (401, "identity.proof")


def test_a_dry_run_is_told_what_the_new_policy_says(stack: Any, tmp_path: Path):
    (tmp_path / "j.json").write_text(json.dumps(ISSUER.jwks), "utf-8")
    with running(stack, tmp_path, policy(cap=200) + KNOWN) as site:
        asks = {"authorization": f"Bearer {ISSUER.mint()}", "agent-dry-run": "?1"}
        site.change(policy(cap=200, most=4) + KNOWN)
        assert site.ask(BODY, **asks).json()["code"] == "amount.over_action_cap"
        site.change(policy(cap=200, most=3) + KNOWN, here=False)
        # What is asked for would be answered so.
        told = site.ask(BODY, **asks)
        assert (told.status_code, told.json()["code"]) == (503, "policy.unavailable")
        assert site.got == []
