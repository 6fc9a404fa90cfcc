"""The MCP package's own client, which knows nothing but a URL, gets a token and is let in."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from mcp.client import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from pydantic import AnyUrl
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route

from afmiddleware.config.load import load
from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.testing import TestIssuer, mint_es256_issuer
from afmiddleware_fastapi import install
from tests.integrations.mcp.travel import running

pytestmark = pytest.mark.anyio
BACK = "http://127.0.0.1:1/back"


def authorization_server(issuer: TestIssuer) -> Starlette:
    """A whole OAuth server as far as a client can tell: whoever registers is let in, for the resource it asks for."""
    resources: list[str] = []

    async def metadata(_request: Request) -> JSONResponse:
        base = issuer.issuer
        return JSONResponse(
            {
                "issuer": base,
                "authorization_endpoint": f"{base}/authorize",
                "token_endpoint": f"{base}/token",
                "registration_endpoint": f"{base}/register",
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none"],
            }
        )

    async def register(request: Request) -> JSONResponse:
        return JSONResponse({**await request.json(), "client_id": "c1"}, status_code=201)

    async def authorize(request: Request) -> RedirectResponse:
        resources.append(request.query_params["resource"])
        return RedirectResponse(f"{BACK}?code=abc&state={request.query_params['state']}")

    async def token(_request: Request) -> JSONResponse:
        minted = issuer.mint(aud=resources[-1], sub="agent", scope="tools")
        return JSONResponse({"access_token": minted, "token_type": "Bearer", "expires_in": 300, "scope": "tools"})

    return Starlette(
        routes=[
            Route("/.well-known/oauth-authorization-server", metadata),
            Route("/register", register, methods=["POST"]),
            Route("/authorize", authorize),
            Route("/token", token, methods=["POST"]),
        ]
    )


class Memory:
    """What a client keeps."""

    def __init__(self) -> None:
        self.tokens: Any = None
        self.info: Any = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.info

    async def set_client_info(self, info: Any) -> None:
        self.info = info


async def test_a_client_that_knows_only_the_url(tmp_path: Any) -> None:
    ours, theirs = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    api = f"http://127.0.0.1:{ours.getsockname()[1]}"
    issuer = mint_es256_issuer(f"http://127.0.0.1:{theirs.getsockname()[1]}", f"{api}/mcp")
    (tmp_path / "jwks.json").write_text(json.dumps(issuer.jwks), encoding="utf-8")
    policy = f"""
version: 1
service: tools
ledger: memory
identity:
  public_origins: [{api}]
  jwt: {{issuers: [{{issuer: {issuer.issuer}, audience: {api}/mcp, algorithms: [ES256], jwks_file: jwks.json}}]}}
routes: [{{route: POST /mcp, protocol: mcp, capability: "mcp.{{tool}}"}}]
rules: {{allow: [{{capability: mcp.*, identity: verified, scopes: [tools]}}]}}
"""
    fence = Fence(load(policy), base=tmp_path)
    mcp = MCPServer("tools")
    done: list[str] = []

    @mcp.tool()
    def act(what: str) -> str:
        """Do something."""
        done.append(what)
        return "done"

    app = mcp.streamable_http_app(json_response=True, stateless_http=True)
    install(app, fence=fence)
    seen: dict[str, str] = {}

    async def redirect(url: str) -> None:
        seen["url"] = url
        async with httpx2.AsyncClient() as browser:
            answer = await browser.get(url)
        seen["back"] = answer.headers["location"]

    async def callback() -> AuthorizationCodeResult:
        query = parse_qs(urlsplit(seen["back"]).query)
        return AuthorizationCodeResult(code=query["code"][0], state=query["state"][0])

    with running(app, ours), running(authorization_server(issuer), theirs):
        about = OAuthClientMetadata(
            client_name="agent", redirect_uris=[AnyUrl(BACK)], token_endpoint_auth_method="none"
        )
        way = OAuthClientProvider(f"{api}/mcp", about, Memory(), redirect, callback)
        async with httpx2.AsyncClient(auth=way, timeout=30) as http:
            transport = streamable_http_client(f"{api}/mcp", http_client=http)
            async with Client(transport, mode="auto") as agent:
                answer = await agent.call_tool("act", {"what": "it"})
    assert not answer.is_error
    assert done == ["it"]
    # It was told by the refusal and the metadata alone: which resource, which scope.
    asked = parse_qs(urlsplit(seen["url"]).query)
    assert asked["resource"] == [f"{api}/mcp"]
    assert asked["scope"] == ["tools"]
    bodies: list[Any] = [strict_parse(one.receipt.body) for one in fence.ledger.receipts(Filter(kind="intent"))]
    assert [(one["capability"], one["tier"]) for one in bodies] == [("mcp.act", "verified")]
