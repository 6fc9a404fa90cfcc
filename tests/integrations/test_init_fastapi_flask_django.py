"""`afmiddleware init` for real applications: what it writes passes `check --app`, and is closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from afmiddleware.config.load import load

APPS = {
    "fastapi": """
from decimal import Decimal
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from afmiddleware import capability

class Pay(BaseModel):
    amount: Decimal
    currency: str
    to: str

app = FastAPI()
app.mount("/static", StaticFiles(directory="."), name="static")

@app.get("/v1/flights")
def flights(): ...
@app.post("/v1/payments/{id:path}")
def pay(id: str, asked: Pay): ...
@app.post("/declared")
@capability("shop.declared")
def declared(): ...
@app.websocket("/ws")
async def socket(w): ...
""",
    "starlette": """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

async def answer(request): return PlainTextResponse("ok")

inner = [Route("/x/{n:int}", answer, methods=["DELETE"])]
app = Starlette(routes=[Route("/a", answer), Route("/b", answer, methods=["POST", "PUT"]), Mount("/in", routes=inner)])
""",
    "flask": """
from flask import Flask

app = Flask(__name__)
app.before_request(lambda: None)

@app.get("/v1/flights")
def flights(): ...
@app.route("/v1/bookings/<int:number>", methods=["PUT", "DELETE"])
def booking(number): ...
""",
}


def afm(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AFM_", "DJANGO_"))}
    return subprocess.run(
        [sys.executable, "-m", "afmiddleware", *arguments],
        cwd=folder,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("framework", list(APPS))
def test_a_first_policy_fits_and_is_closed(framework: str, tmp_path: Path) -> None:
    (tmp_path / "made_app.py").write_text(APPS[framework], "utf-8")
    made = afm(tmp_path, "init", "--app", "made_app:app")
    assert (made.returncode, made.stderr) == (0, "")
    policy = load((tmp_path / "fence.yaml").read_text("utf-8"))
    routes: dict[str, Any] = {one.route: one for one in policy.routes}
    checked = afm(tmp_path, "check", "--app", "made_app:app")
    assert checked.returncode == 0, checked.stderr
    assert "0 findings" in checked.stdout
    assert all(one.capability.endswith(".read") and one.identity == "token" for one in policy.rules.allow)
    if framework == "fastapi":
        pay = routes["POST /v1/payments/{id:path}"]
        assert (pay.capability, str(pay.amount.from_), str(pay.recipient.from_)) == (
            "payments.create",
            "body.amount",
            "body.to",
        )
        assert routes["GET /docs"].public
        assert "POST /declared" not in routes
    elif framework == "starlette":
        assert set(routes) == {"GET /a", "POST /b", "PUT /b", "DELETE /in/x/{n:int}"}
    else:
        assert routes["DELETE /v1/bookings/<int:number>"].capability == "bookings.delete"
        assert "made_app.<lambda>" in policy.inner_middleware


def test_a_first_policy_of_a_django_project(tmp_path: Path) -> None:
    shop = Path(__file__).parents[2] / "sample_apps" / "django_shop"
    (tmp_path / "old.yaml").write_text("version: 1\nservice: x\nledger: memory\n", "utf-8")
    environment = {"DJANGO_SETTINGS_MODULE": "django_shop.settings", "AFM_POLICY": str(tmp_path / "old.yaml")}
    made = afm(
        shop.parent,
        "init",
        "--app",
        "django_shop.wsgi:application",
        "--output",
        str(tmp_path / "f.yaml"),
        **environment,
    )
    assert made.returncode == 0, made.stderr
    policy = load((tmp_path / "f.yaml").read_text("utf-8"))
    assert {one.capability for one in policy.routes if one.capability} >= {"flights.read", "bookings.create"}
    checked = afm(
        shop.parent,
        "check",
        "--app",
        "django_shop.wsgi:application",
        "--policy",
        str(tmp_path / "f.yaml"),
        **environment,
    )
    assert checked.returncode == 0, checked.stderr


FENCED = {
    "fastapi": """
from fastapi import FastAPI
from afmiddleware_fastapi import install

app = FastAPI()
install(app, policy="fence.yaml")

@app.post("/pay")
def pay(): ...
""",
    "flask": """
from flask import Flask
from afmiddleware_flask import AgentFence

app = Flask(__name__)
@app.post("/pay")
def pay(): ...
AgentFence(app, policy="fence.yaml")
""",
    "django": """
import sys
from types import ModuleType
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import path

def pay(request): ...
def tracing(get_response): return get_response

urlpatterns = [path("pay", pay)]
if not settings.configured:
    settings.configure(
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["afmiddleware_django"],
        MIDDLEWARE=["afmiddleware_django.middleware.FenceMiddleware", "made_app.tracing"],
        AFMIDDLEWARE={"policy": "fence.yaml"},
    )
app = get_wsgi_application()
""",
}


@pytest.mark.parametrize("framework", list(FENCED))
def test_an_application_whose_fence_asks_for_the_file_that_is_not_there_yet(framework: str, tmp_path: Path) -> None:
    (tmp_path / "made_app.py").write_text(FENCED[framework], "utf-8")
    made = afm(tmp_path, "init", "--app", "made_app:app")
    assert made.returncode == 0, made.stderr
    assert "POST" in (tmp_path / "fence.yaml").read_text("utf-8")
    checked = afm(tmp_path, "check", "--app", "made_app:app")
    assert checked.returncode == 0, checked.stderr
