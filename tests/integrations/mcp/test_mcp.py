"""The MCP package's own client and server, with the fence between them, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from mcp import MCPError
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from tests.integrations.mcp.travel import Site, flattened, served

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio

KINDS = {
    "2026, JSON answers": (True, True, "2026-07-28"),
    "2026, found out": (False, True, "auto"),
    "2025, sessions and events": (False, False, "legacy"),
    "2025, JSON answers": (True, True, "legacy"),
}


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Iterator[tuple[Site, Any]]:
    json_response, stateless, mode = request.param
    with served(json_response=json_response, stateless=stateless) as site:
        yield site, mode


@asynccontextmanager
async def client(site: Site, mode: Any, *, key: bool = True) -> AsyncGenerator[Client]:
    async with site.http(key=key) as http:
        transport = streamable_http_client(site.url, http_client=http)
        async with Client(transport, mode=mode) as opened:
            yield opened


async def test_tools_are_listed_called_and_settled_by_what_they_answer(kind: tuple[Site, Any]) -> None:
    site, mode = kind
    async with client(site, mode) as agent:
        assert {tool.name for tool in (await agent.list_tools()).tools} == {"book_flight", "search", "wipe"}
        booked = await agent.call_tool("book_flight", {"flight": "KL1", "price": 30})
        assert booked.structured_content == {"total": 29.0}
        failed = await agent.call_tool("book_flight", {"flight": "none", "price": 50})
        assert failed.is_error
        await agent.read_resource("note://a")
    assert [(one["capability"], one["amount"]) for one in site.bodies("intent")] == [
        ("mcp.book_flight", "3000"),
        ("mcp.book_flight", "5000"),
        ("mcp.read", ""),
    ]
    assert [(one["settlement"], one["captured"]) for one in site.bodies("outcome")] == [
        ("capture", "2900"),
        ("release", "0"),
        ("capture", ""),
    ]
    assert site.spent() == 2900
    assert site.acts == [("book_flight", "KL1", 30.0), ("book_flight", "none", 50.0), ("note", "a")]


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "rpc"),
    [
        ("wipe", {}, "policy.denied", -32000),
        ("book_flight", {"flight": "KL1", "price": 101}, "spend.exceeded", -32000),
        ("book_flight", {"flight": "KL1"}, "amount.unresolvable", -32602),
        ("Wipe", {}, "request.ambiguous", -32600),
        ("a.wipe", {}, "request.ambiguous", -32600),
    ],
)
async def test_a_refusal_reaches_the_agent_as_an_error_it_can_read(
    kind: tuple[Site, Any], tool: str, arguments: dict[str, Any], code: str, rpc: int
) -> None:
    site, mode = kind
    async with client(site, mode) as agent:
        with pytest.raises(MCPError) as caught:
            await agent.call_tool(tool, arguments)
        assert caught.value.error.code == rpc
        assert caught.value.error.data["code"] == code
        assert caught.value.error.data["instance"].startswith("urn:afm:decision:")
        # The session goes on.
        assert (await agent.call_tool("search", {"text": "x"})).is_error is False
    assert site.acts == [("search", "x")]
    assert site.spent() == 0


async def test_whoever_is_not_known_may_look_but_not_act(kind: tuple[Site, Any]) -> None:
    site, mode = kind
    async with client(site, mode, key=False) as stranger:
        assert (await stranger.list_tools()).tools
        with pytest.raises(MCPError) as caught:
            await stranger.call_tool("search", {"text": "x"})
        assert caught.value.error.data["code"] == "identity.required"
    assert site.acts == []


async def test_a_bad_credential_gets_no_further_than_the_door(kind: tuple[Site, Any]) -> None:
    site, mode = kind
    site.key = site.key[:-1] + ("0" if site.key[-1] != "0" else "1")
    with pytest.raises(BaseException) as caught:
        async with client(site, mode) as agent:
            await agent.list_tools()
    assert any(isinstance(one, MCPError) for one in flattened(caught.value))
    assert site.acts == []


CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search", "arguments": {"text": "x"}}}
ACCEPT = "application/json, text/event-stream"


@pytest.mark.parametrize(
    ("headers", "content", "status", "code"),
    [
        ({"mcp-method": "tools/list"}, json.dumps(CALL), 400, "request.header_mismatch"),
        ({"mcp-name": "book_flight"}, json.dumps(CALL), 400, "request.header_mismatch"),
        ({"mcp-protocol-version": "2025-06-18"}, json.dumps([CALL]), 400, "request.ambiguous"),
        ({}, json.dumps(CALL).replace('"search"', '"search", "name": "wipe"'), 400, "request.ambiguous"),
        ({}, json.dumps([CALL, {**CALL, "id": 2, "params": {"name": "wipe"}}]), 403, "policy.denied"),
        ({}, json.dumps({**CALL, "method": "prompts/get"}), 400, "request.unknown_method"),
    ],
)
async def test_a_server_never_sees_what_could_be_two_things(
    headers: dict[str, str], content: str, status: int, code: str
) -> None:
    with served(json_response=True, stateless=True) as site:
        async with site.http() as http:
            told = await http.post(
                site.url, headers={"accept": ACCEPT, "content-type": "application/json", **headers}, content=content
            )
        answers = told.json() if isinstance(told.json(), list) else [told.json()]
        assert told.status_code == status
        assert code in [one["error"]["data"]["code"] for one in answers]
        assert site.acts == []


async def test_the_stream_and_the_end_of_a_session_need_no_mapping_but_a_good_credential() -> None:
    with served(json_response=False, stateless=False) as site:
        hello = {
            "jsonrpc": "2.0",
            "id": 0,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        }
        async with site.http() as http:
            opened = await http.post(site.url, headers={"accept": ACCEPT}, json=hello)
            session = {"mcp-session-id": opened.headers["mcp-session-id"], "accept": "text/event-stream"}
            async with http.stream("GET", site.url, headers=session) as stream:
                assert stream.status_code == 200
                assert stream.headers["content-type"].startswith("text/event-stream")
            bad = await http.delete(site.url, headers={**session, "authorization": "Bearer afk_bad"})
            assert bad.status_code == 401
            ended = await http.delete(site.url, headers=session)
            assert ended.status_code == 200
            assert isinstance(ended, httpx2.Response)
        assert site.bodies("intent") == []
