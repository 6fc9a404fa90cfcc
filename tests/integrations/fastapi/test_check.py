"""`afmiddleware check --app`: the endpoints of a real application with their capabilities, and what is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from afmiddleware.cli import main

POLICY = """
version: 1
service: s
ledger: sqlite:///fence.db
routes:
  - {route: GET /health, public: true}
  - {route: "GET /items/<int:item>", capability: items.read}
rules: {allow: [{capability: "**", identity: token}]}
"""
APP = """
from fastapi import FastAPI
from afmiddleware import body, capability
from starlette.middleware.gzip import GZipMiddleware

app = FastAPI(openapi_url=None)

@app.get("/health")
def health(): ...

@app.get("/items/{item}")
def read(item: int): ...

@app.post("/pay")
@capability("payments.pay", amount=body("amount"))
def pay(sent: dict): raise AssertionError("the audit runs nothing")

def make(): return app
wrapped = GZipMiddleware(GZipMiddleware(app))
nothing = 5
async def plain(scope, receive, send): ...
"""
FINE = [
    ("GET /health", "public", "shop_app.health", "fence.yaml:6"),
    ("GET /items/{item}", "items.read", "shop_app.read", "fence.yaml:7"),
    ("POST /pay", "payments.pay", "shop_app.pay", "shop_app.py:15"),
]


class Ran(msgspec.Struct, frozen=True):
    code: int
    out: str
    err: str


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ran]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "fence.yaml").write_text(POLICY)
    (tmp_path / "shop_app.py").write_text(APP)

    def run(app: str, *arguments: str) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main(["check", "--app", app, *arguments])
        printed = capsys.readouterr()
        code = ended.value.code
        return Ran(code if isinstance(code, int) else 0, printed.out, printed.err)

    yield run
    sys.modules.pop("shop_app", None)


@pytest.mark.parametrize("place", ["shop_app:app", "shop_app:make()", "shop_app:wrapped"])
def test_every_endpoint_with_its_capability(check: Callable[..., Ran], place: str) -> None:
    ran = check(place)
    assert (ran.code, ran.err) == (0, "")
    for row in FINE:
        assert any(all(text in line for text in row) for line in ran.out.splitlines()), row
    assert (
        ran.out.splitlines()[-1]
        == f"{place}: 3 endpoints, 3 mapped, 0 unmapped; 0 findings, of which 0 stop the start."
    )
    told = json.loads(check(place, "--json").out)
    assert told["ok"]
    assert [tuple(one.values()) for one in told["endpoints"]] == [(*row, []) for row in FINE]
    assert (told["findings"], told["app"]) == ([], place)


def test_an_application_without_its_fence_is_told(check: Callable[..., Ran], tmp_path: Path) -> None:
    unfenced = "note: no fence stands in shop_app:app as it is imported here"
    assert unfenced in check("shop_app:app").out
    sys.modules.pop("shop_app", None)
    fence = """
from afmiddleware_fastapi import FenceMiddleware
app.add_middleware(FenceMiddleware, policy="fence.yaml")
"""
    (tmp_path / "shop_app.py").write_text(APP + fence)
    assert "note:" not in check("shop_app:app").out


ODD = """
from starlette.routing import BaseRoute, Match
class Odd(BaseRoute):
    def matches(self, scope): return Match.NONE, {}
app.router.routes.append(Odd())
"""
OWN = """
from starlette.applications import Starlette
from starlette.middleware import Middleware
class Own:
    def __init__(self, app): self.app = app
app.mount("/sub", Starlette(middleware=[Middleware(Own)]))
"""
CHANGES: dict[str, tuple[str, str, str, bool]] = {
    "a mutating endpoint": ('@app.delete("/items/{item}")\ndef remove(item: int): ...\n', "", "coverage.unmapped", False),
    "a reading endpoint": ('@app.get("/more")\ndef more(): ...\n', "", "", False),
    "a mapping without an endpoint": ("", "  - {route: GET /gone, capability: gone.read}\n", "coverage.no_endpoint", True),
    "declared and in the file": ("", "  - {route: POST /pay, capability: pay.it}\n", "coverage.declared_twice", True),
    "a wrong declaration": (
        '@app.post("/x")\n@capability("No")\ndef x(): ...\n', "", "coverage.declaration", True,
    ),
    "an unknown node": (
        ODD,
        "", "coverage.unknown_node", True,
    ),
    "a mounted app with its own middleware": (
        OWN,
        "", "coverage.inner_middleware", True,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "routes", "finding", "stops"), CHANGES.values(), ids=CHANGES)
def test_what_is_not_covered_is_found(
    check: Callable[..., Ran], tmp_path: Path, code: str, routes: str, finding: str, *, stops: bool
) -> None:
    (tmp_path / "shop_app.py").write_text(APP + code)
    (tmp_path / "fence.yaml").write_text(POLICY.replace("rules:", routes + "rules:"))
    ran = check("shop_app:app")
    assert ran.code == (1 if finding else 0)
    assert [line.partition(": ")[0] for line in ran.err.splitlines()] == ([finding] if finding else [])
    told = json.loads(check("shop_app:app", "--json").out)
    assert told["ok"] == (not finding)
    assert [(one["id"], one["stops"]) for one in told["findings"]] == ([(finding, stops)] if finding else [])


def test_an_unmapped_endpoint_is_listed_as_such(check: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "shop_app.py").write_text(APP + '@app.get("/more")\ndef more(): ...\n')
    told = json.loads(check("shop_app:app", "--json").out)
    assert told["endpoints"][-1]["capability"] == "unmapped"


def test_an_application_nobody_can_ask(check: Callable[..., Ran], tmp_path: Path) -> None:
    ran = check("shop_app:plain")
    assert (ran.code, ran.err) == (0, "")
    assert "the policy's own table" in ran.out
    assert "2 endpoints, 2 mapped" in ran.out
    (tmp_path / "fence.yaml").write_text(POLICY.replace("GET /health", "GET //host/health"))
    ran = check("shop_app:plain")
    assert (ran.code, ran.err.startswith("fence.yaml:6: route GET //host/health names a host")) == (1, True)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("shop_app", "names no application"),
        ("nowhere_to_be_found:app", "cannot be imported"),
        ("shop_app:nope", "has no attribute 'nope'"),
        ("shop_app:nothing", "is no application: int"),
    ],
)
def test_what_is_not_there_is_a_mistake_of_the_caller(check: Callable[..., Ran], place: str, text: str) -> None:
    ran = check(place)
    assert ran.code == 2
    assert text in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("deny", "is always refused"),
        ("allow", "runs for everybody"),
        ("observe", "is only recorded (unmapped: observe)"),
        ("deny\nmode: observe", "is refused as soon as the policy enforces"),
        ("deny\nmode: observe 25%", "is always refused"),
    ],
)
def test_what_becomes_of_an_unmapped_endpoint_is_said(
    check: Callable[..., Ran], tmp_path: Path, word: str, said: str
) -> None:
    (tmp_path / "shop_app.py").write_text(APP + '@app.delete("/all")\ndef remove(): ...\n')
    (tmp_path / "fence.yaml").write_text(f"{POLICY}unmapped: {word}\n")
    ran = check("shop_app:app")
    assert ran.code == 1
    assert said in ran.out + ran.err


def test_what_code_declares_is_linted_too(check: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "fence.yaml").write_text(POLICY.replace(", identity: token", ""))
    ran = check("shop_app:app", "--strict")
    assert ran.code == 1
    said = "money.without_identity: the allow rule allow[1] lets anybody use POST /pay, which moves money"
    assert said in ran.err
