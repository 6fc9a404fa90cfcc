"""What the fence serves itself: keys to everybody, a receipt to its owner and to nobody else."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from afmiddleware.fence import Fence
from afmiddleware.identity.api_keys import new_key
from afmiddleware.pep.asgi import FenceMiddleware
from afmiddleware.pep.endpoints import OPERATOR
from afmiddleware.pep.wsgi import FenceMiddleware as WsgiMiddleware
from afmiddleware.receipts.chain import leaf_hash
from afmiddleware.receipts.checkpoint import check, read_public
from afmiddleware.receipts.merkle import root_of
from afmiddleware.testing import FrozenClock

POLICY = """
version: 1
service: s
ledger: {ledger}
identity: {{api_keys: {{store: ledger}}}}
routes:
  - {{route: GET /look, capability: shop.look}}
rules: {{allow: [shop.*]}}
"""
PREFIX = "/.well-known/agent-fence/"


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"app"})


def drawing(name: str) -> Callable[[int], bytes]:
    return lambda size: name.encode().ljust(size, b"\1")


class Service:
    def __init__(self, folder: Path, ledger: str) -> None:
        place = folder / "fence.yaml"
        place.write_text(POLICY.format(ledger=ledger))
        self.fence = Fence.from_file(place, env={}, clock=FrozenClock())
        self.app = FenceMiddleware(app, fence=self.fence)
        self.keys: dict[str, str] = {"nobody": ""}
        for name, scopes in (("ann", ()), ("bob", ()), ("ops", (OPERATOR,))):
            self.keys[name], record = new_key(name, drawing(name), now=1, scopes=scopes)
            self.fence.ledger.put_api_key(record)

    def get(self, path: str, who: str = "nobody", method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        path, _, query = path.partition("?")
        headers = [(b"authorization", f"Bearer {self.keys.get(who, who)}".encode())] if who != "nobody" else []
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "headers": [(b"host", b"a.example"), *headers], "scheme": "http", "client": ("192.0.2.1", 1), "app": None,
        }  # fmt: skip
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], told, b"".join(one.get("body", b"") for one in sent[1:])


@pytest.fixture(params=["memory", "sqlite:///fence.db"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    one = Service(tmp_path, request.param)
    yield one
    one.fence.close()


def looked(service: Service, who: str = "ann") -> str:
    status, headers, _ = service.get("/look", who)
    assert status == 200
    leaf = headers["agent-receipt"].split("leaf=:")[1].split(":")[0]
    return f"{PREFIX}receipts/{base64.b64decode(leaf).hex()}"


def test_the_owner_checks_its_receipt_with_the_public_key_alone(service: Service):
    path = looked(service)
    status, headers, body = service.get(path, "ann")
    assert (status, headers["cache-control"]) == (200, "private, no-store")
    proof = json.loads(body)
    keys = json.loads(service.get(f"{PREFIX}keys")[2])
    point = check(proof["checkpoint"], proof["log"], [read_public(json.dumps(keys))])
    assert [json.loads(one["body"])["kind"] for one in proof["receipts"]][:1] == ["intent"]
    for one in proof["receipts"]:
        steps = [base64.b64decode(step) for step in one.get("path", [])]
        assert root_of(leaf_hash(one["body"].encode()), one["seq"] - 1, point.size, steps) == point.root
    assert path.endswith(leaf_hash(proof["receipts"][0]["body"].encode()).hex())


def test_the_outcome_is_found_beside_the_intent(service: Service):
    path = looked(service)
    service.fence.ledger.close()
    kinds = [json.loads(one["body"])["kind"] for one in json.loads(service.get(path, "ann")[2])["receipts"]]
    assert kinds == ["intent", "outcome"]


@pytest.mark.parametrize(
    ("who", "status"), [("ann", 200), ("ops", 200), ("bob", 404), ("nobody", 401), ("afm_bad", 401)]
)
def test_a_receipt_is_its_owners(service: Service, who: str, status: int):
    path = looked(service)
    found, headers, body = service.get(path, who)
    assert found == status
    if status != 200:
        assert b"shop.look" not in body
    if status == 401:
        assert headers["www-authenticate"].startswith("Bearer")


def test_a_sequence_number_finds_what_is_long_ago(service: Service):
    path = looked(service)
    assert service.get(f"{path}?seq=1", "ann")[0] == 200
    for query in ("seq=2", "seq=0", "seq=-1", "seq=x", "leaf=1", "seq=1&seq=1", "seq=999999999999999999"):
        assert service.get(f"{path}?{query}", "ann")[0] == 404


def test_what_is_not_there_is_not_there(service: Service):
    assert service.get(f"{PREFIX}receipts/{'0' * 64}", "ann")[0] == 404
    # Anything else under the prefix is the application's, and so denied: no route maps it.
    for path in (f"{PREFIX}receipts/{'0' * 63}", f"{PREFIX}receipts/", f"{PREFIX}keys/", f"{PREFIX}x"):
        assert service.get(path, "ann")[0] == 403


def test_keys_are_public_and_only_read(service: Service):
    status, headers, body = service.get(f"{PREFIX}keys")
    assert (status, headers["content-type"]) == (200, "application/jwk-set+json")
    assert {"kty": "OKP", "crv": "Ed25519"}.items() <= json.loads(body)["keys"][0].items()
    assert b'"d"' not in body
    assert service.get(f"{PREFIX}keys", method="POST")[0] == 405
    assert service.get(f"{PREFIX}keys", method="HEAD")[2] == b""


def test_wsgi_serves_the_same(service: Service):
    started: list[Any] = []
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": f"{PREFIX}keys", "QUERY_STRING": "", "SERVER_NAME": "a", "SERVER_PORT": "80",
        "wsgi.url_scheme": "http", "HTTP_HOST": "a.example", "REMOTE_ADDR": "192.0.2.1", "SERVER_PROTOCOL": "HTTP/1.1",
    }  # fmt: skip
    middleware = WsgiMiddleware(lambda *_: [b"app"], fence=service.fence)
    body = b"".join(middleware(environ, lambda status, headers, *_: started.append(status)))  # type: ignore[arg-type]
    assert started == ["200 OK"]
    assert body == service.get(f"{PREFIX}keys")[2]
