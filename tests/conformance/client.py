"""One request of the data, sent through an ASGI application, and what came back."""

from __future__ import annotations

from typing import Any

import httpx

from tests.conformance.harness import Scene, Seen, told_of
from tests.conformance.test_cases_core import seen_of


async def send(client: httpx.AsyncClient, scene: Scene, request: dict[str, Any]) -> Seen:
    method, path, query, headers, body = scene.parts(request)
    url = httpx.URL("http://api.example.com").copy_with(raw_path=f"{path}?{query}".encode() if query else path.encode())
    answer = await client.send(httpx.Request(method, url, headers=headers, content=body))
    told = told_of(answer.headers.raw, answer.content)
    if told:
        assert answer.headers["cache-control"] == "no-store"
        assert told["status"] == answer.status_code
        assert str(scene.fence.config.source) not in answer.text
    seen = seen_of(answer.status_code, answer.headers.raw, b"")
    for name in ("code", "rule", "limit"):
        setattr(seen, name, told.get(name, ""))
    seen.told, seen.content = told, answer.content
    return scene.note(seen)
