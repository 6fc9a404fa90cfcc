"""The page on identity holds: its policy is read, its authenticator lets in whom it says, its test does what it shows."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from afmiddleware import CredentialError, RequestView
from afmiddleware.config.load import load
from afmiddleware.model.http import HttpFacts

PAGE = (Path(__file__).parents[2] / "docs" / "identity.md").read_text(encoding="utf-8")
START = "version: 1\nservice: s\n"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_policies_are_read() -> None:
    keys, tokens, *more = blocks("yaml")
    first = load(START + keys + "".join(more), env={"INTROSPECTION_SECRET": "x"}).identity
    assert (first.sessions.max_live, first.introspection is not None) == (5, True)
    assert load(START + tokens).identity.jwt is not None


def test_the_authenticator_is_one() -> None:
    (text,) = [block for block in blocks("python") if "async def partner" in block]

    async def find(ticket: str) -> str | None:
        return "acme" if ticket == "good" else None

    told: dict[str, Any] = {"tickets": SimpleNamespace(find=find)}
    exec(text.partition("fence = ")[0], told)  # noqa: S102 (what the page shows)

    def ask(*headers: tuple[bytes, bytes]) -> Any:
        view = RequestView(HttpFacts(method="GET", path="/", headers=headers), {})
        return asyncio.run(told["partner"](view))

    assert ask() is None
    assert ask((b"x-ticket", b"good")).id == "partner:acme"
    with pytest.raises(CredentialError):
        ask((b"x-ticket", b"bad"))


def test_the_test_of_ones_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = [block for block in blocks("python") if "fence_for_tests" in block]
    policy = (
        "identity: {jwt: {issuers: [{issuer: 'https://as.example.com', audience: 'https://api.example.com',"
        " algorithms: [ES256], jwks_file: jwks.json}]}}\n"
    )
    (tmp_path / "fence.yaml").write_text(START + policy, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    before, _, after = text.partition("fence = ")
    told: dict[str, Any] = {}
    exec(before, told)  # noqa: S102
    (tmp_path / "jwks.json").write_text(json.dumps(told["issuer"].jwks), encoding="utf-8")
    exec(f"fence = {after}", told)  # noqa: S102
    facts = HttpFacts(method="GET", path="/", headers=[(b"authorization", f"Bearer {told['token']}".encode())])
    flow = told["fence"].plan.identify(facts, told["clock"]())
    with pytest.raises(StopIteration) as end:
        flow.send(None)
    assert end.value.value.detail == "expired"
    told["fence"].close()
    assert not list(tmp_path.glob("fence.db*"))
