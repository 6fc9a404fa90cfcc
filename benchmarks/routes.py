"""The cost of a decision by the number of routes and rules: 10 000 of each against 10.

Measured is the decision alone: behind the fence stands an application that answers at once, so that the framework's own
search through its routes, which grows with their number, is not in the figures.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from rich.console import Console
from rich.table import Table
from starlette.routing import Route

from afmiddleware import Fence
from afmiddleware.config.load import load
from afmiddleware.fence import system_clock
from afmiddleware.identity.api_keys import new_key
from afmiddleware.pep.asgi import FenceMiddleware as GenericFence
from afmiddleware_fastapi import FenceMiddleware
from benchmarks.overhead import scope

if TYPE_CHECKING:
    from collections.abc import Callable

FEW, MANY = 10, 10_000
ALLOWED = 1.3
_ROUTERS = 100

POLICY = """
version: 1
service: bench
ledger: memory
identity: {{api_keys: {{store: ledger}}}}
routes:
{routes}
rules:
  deny:
{denied}
  allow:
{allowed}
limits:
  - {{name: burst, rate: 100000000/minute, per: actor}}
"""


def routes(rounds: int, requests: int) -> None:
    """Print microseconds per decision, and the ratio of many routes to few."""
    with tempfile.TemporaryDirectory() as folder:
        kinds: dict[str, Callable[[Fence, int], tuple[Any, Any]]] = {
            "FastAPI, one router": _flat,
            f"FastAPI, {_ROUTERS} included routers": _included,
            "table of fence.yaml, any ASGI app": _generic,
        }
        sides = []
        for count in (FEW, MANY):
            fence, key = _fence(count, Path(folder))
            sides.append([(make(fence, count), count, key) for make in kinds.values()])
        times = asyncio.run(_measure(sides, rounds, requests))
    table = Table("the router asked", f"us, {FEW} routes", f"us, {MANY} routes", "ratio", f"at most {ALLOWED}")
    for place, name in enumerate(kinds):
        few, many = times[0][place], times[1][place]
        ratio = median(a / b for a, b in zip(many, few, strict=True))
        said = "holds" if ratio <= ALLOWED else "EXCEEDED"
        table.add_row(name, f"{median(few):.1f}", f"{median(many):.1f}", f"{ratio:.2f}", said)
    Console().print(table)


def _fence(count: int, base: Path) -> tuple[Fence, str]:
    mapped = "\n".join(f'  - {{route: "{_template(place)}", capability: c.n{place}}}' for place in range(count))
    text = POLICY.format(
        routes="\n".join(f"{line[:-1]}, resource: '{{path.item}}'}}" for line in mapped.splitlines()),
        denied="\n".join(f"    - d.n{place}" for place in range(count)),
        allowed="\n".join(f"    - {{capability: c.n{place}, identity: token}}" for place in range(count)),
    )
    fence = Fence(load(text, "routes.yaml"), base=base)
    key, record = new_key("bench", lambda size: bytes(range(size)), now=system_clock())
    fence.ledger.put_api_key(record)
    return fence, key


def _template(place: int) -> str:
    return f"GET /g{place % _ROUTERS}/r{place}/{{item}}"


async def _handler(_request: Any) -> None:
    raise AssertionError


async def _answer(_scope: Any, _receive: Any, send: Any) -> None:
    """The application behind the fence: it answers before its router is asked."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _flat(fence: Fence, count: int) -> tuple[Any, Any]:
    app = FastAPI(openapi_url=None)
    app.router.routes += [Route(_template(place).partition(" ")[2], _handler) for place in range(count)]
    return FenceMiddleware(_answer, fence=fence), app


def _included(fence: Fence, count: int) -> tuple[Any, Any]:
    app = FastAPI(openapi_url=None)
    for group in range(min(count, _ROUTERS)):
        router = APIRouter()
        for place in range(group, count, _ROUTERS):
            router.routes.append(Route(f"/r{place}/{{item}}", _handler))
        app.include_router(router, prefix=f"/g{group}")
    return FenceMiddleware(_answer, fence=fence), app


def _generic(fence: Fence, count: int) -> tuple[Any, Any]:
    del count
    return GenericFence(_answer, fence=fence), None


async def _measure(sides: list[list[Any]], rounds: int, requests: int) -> list[list[list[float]]]:
    times: list[list[list[float]]] = [[[] for _ in side] for side in sides]
    for side in sides:
        for one in side:
            await _drive(one, requests)
    for number in range(rounds):
        order = [(which, place) for place in range(len(sides[0])) for which in range(len(sides))]
        for which, place in order if number % 2 == 0 else reversed(order):
            before = time.process_time()
            await _drive(sides[which][place], requests)
            times[which][place].append((time.process_time() - before) / requests * 1e6)
    return times


async def _drive(one: Any, requests: int) -> None:
    (fence, app), count, key = one

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(sent: Any) -> None:
        if sent["type"] == "http.response.start" and sent["status"] != 200:
            raise AssertionError(sent)

    # The last route of the last group is asked for as often as the first.
    for number in range(requests):
        place = (number * 7919) % count
        head = scope("GET", f"/g{place % _ROUTERS}/r{place}/item-{number}", key)
        head["headers"] = [pair for pair in head["headers"] if not pair[0].startswith(b"content-")]
        if app is not None:
            head["app"] = app
        await fence(head, receive, send)
