"""The cases as data, and what every driver of them shares: callers, the policy's folder, and what is compared."""

from __future__ import annotations

import base64
import io
import json
import re
import secrets
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml

from afmiddleware.config.load import limits_of, load
from afmiddleware.config.schema import Config
from afmiddleware.fence import Fence
from afmiddleware.identity.api_keys import new_key
from afmiddleware.ledger.base import Filter
from afmiddleware.limits.keys import row_key
from afmiddleware.model import Actor
from afmiddleware.receipts import standalone
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.testing import FrozenClock, mint_es256_issuer

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

HERE = Path(__file__).parent
SECRET = b"\3" * 32
"""The receipts' secret, under which half of the callers is `key` and not `agent`."""

CAPS = {
    "number": 20, "zero": 0, "true": True, "half": 20.5, "below": -5, "exact": "20.505", "words": "as much as you like",
    "empty": "", "list": ["20"], "euros": "20 EUR", "huge": "9" * 40, "plus": "+20", "nan": "NaN", "e": "2e3",
}  # fmt: skip
"""What a token may say in the claim `most`."""


class Case(msgspec.Struct, frozen=True):
    """One case: the policy, what came before, the request, what is expected."""

    id: str
    policy: str
    before: list[dict[str, Any]]
    request: dict[str, Any]
    expect: dict[str, Any]


class Seen(msgspec.Struct, kw_only=True):
    """What a driver saw of one request."""

    status: int
    code: str = ""
    rule: str = ""
    limit: str = ""
    challenge: bool = False
    wait: bool = False
    headers: dict[str, str] = {}
    told: dict[str, Any] = {}
    content: bytes = b""


@cache
def config_of(policy: str) -> Config:
    return load(policy, "case.yaml")


@cache
def cases() -> list[Case]:
    found = []
    for file in sorted((HERE / "cases").glob("*.yaml")):
        whole = yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (safe)
        for one in whole["cases"]:
            request = {key: value for key, value in one.items() if key not in ("id", "before", "expect")}
            before = [each for each in one.get("before", []) for _ in range(each.get("repeat", 1))]
            found.append(Case(one["id"], whole["policy"], before, request, one["expect"]))
    return found


def paired(**ways: Any) -> list[ParameterSet]:
    """Two ways to drive the cases, each with one of the two ledgers; crossed with the other one too under `-m slow`."""
    ledgers = ["memory", "sqlite:///fence.db"]
    return [
        pytest.param(
            way, ledger, id=f"{name}-{ledger.partition(':')[0]}", marks=[pytest.mark.slow] if at != place else []
        )
        for at, (name, way) in enumerate(ways.items())
        for place, ledger in enumerate(ledgers)
    ]


def told_of(headers: list[tuple[bytes, bytes]], content: bytes) -> dict[str, Any]:
    """The problem object of a refusal, out of a JSON-RPC error too; nothing for the answer of a handler."""
    media = {name.lower(): value for name, value in headers}.get(b"content-type", b"")
    if not content or media not in (b"application/problem+json", b"application/json"):
        return {}
    if media == b"application/problem+json":
        return dict(json.loads(content))
    try:
        told = json.loads(content)
    except ValueError:
        return {}  # an answer of a handler that is no JSON
    answers = told if isinstance(told, list) else [told]
    # The handlers of these tests answer no error of their own with data in it.
    refused = [one["error"]["data"] for one in answers if isinstance(one, dict) and "data" in one.get("error", {})]
    if isinstance(told, dict) and "dry_run" in told:
        return told
    first: dict[str, Any] = next((one for one in refused if one["code"] != "request.batch_refused"), {})
    return {**first, "ids": [one["id"] for one in answers]} if first else {}


def answer_to(headers: Mapping[str, str]) -> tuple[int, str, bytes]:
    """What the handlers of these tests answer to a request with `headers`: status, media type and body."""
    body = base64.b64decode(headers.get("x-reply", base64.b64encode(b"{}")))
    return int(headers.get("x-answer", "200")), headers.get("x-reply-media", "application/json"), body


class Scene:
    """A fence on a fresh ledger, with callers that have credentials for it."""

    def __init__(self, case: Case, folder: Path, ledger: str) -> None:
        self.clock = FrozenClock()
        issuer = mint_es256_issuer(clock=self.clock)
        (folder / "jwks.json").write_text(json.dumps(issuer.jwks), encoding="utf-8")
        config = config_of(case.policy).model_copy(update={"ledger": ledger})
        self.fence = Fence(config, base=folder, clock=self.clock, mac_key=lambda: SECRET)
        text, record = new_key("shop-key", secrets.token_bytes, now=self.clock())
        self.fence.ledger.put_api_key(record)
        past = self.clock() // 1_000_000 - 1000

        def token(**claims: Any) -> Callable[[], list[str]]:
            return lambda: [issuer.mint(**claims)]

        self._callers: dict[str, Callable[[], list[str]]] = {
            "anon": list,
            "key": lambda: [text],
            "agent": token(sub="agent", scope="pay"),
            "operator": token(sub="ops", scope="fence:operator"),
            "other-agent": token(sub="other", scope="pay"),
            "agent-without-scope": token(sub="agent"),
            "capped": token(sub="agent", most="20.50", cents=500, deep={"most": 7}),
            "capped-lower": token(sub="agent", most="10.00 USD"),
            **{f"capped-{name}": token(sub="agent", most=value) for name, value in CAPS.items()},
            "forged": lambda: [f"{text[:-1]}{'0' if text[-1] != '0' else '1'}"],
            "expired": token(sub="agent", iat=past, exp=past + 60),
            "both": lambda: [text, "other"],
        }
        self._last = {"receipt": "", "decision": ""}
        self._actors = {
            "key": "key:shop-key",
            "agent": f"jwt:{issuer.issuer}|agent",
            "agent-without-scope": f"jwt:{issuer.issuer}|agent",
            "capped": f"jwt:{issuer.issuer}|agent",
            "capped-lower": f"jwt:{issuer.issuer}|agent",
            "other-agent": f"jwt:{issuer.issuer}|other",
        }

    def parts(self, request: dict[str, Any]) -> tuple[str, str, str, list[tuple[str, str]], bytes]:
        """Method, path, query, headers and body of a request of the data, at the time it is sent."""
        self.clock.advance(request.get("after", 0))
        method, target = request["request"]
        for name, value in self._last.items():
            target = target.replace(f"<{name}>", value)
        path, _, query = target.partition("?")
        body: Any = request.get("body")
        content = b"x" * request["large"] if "large" in request else b""
        if "hex" in request:
            content = bytes.fromhex(request["hex"])
        if body is not None:
            content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        shown = self._callers[request.get("as", "anon")]()
        headers = [("host", "api.example.com"), *(("authorization", f"Bearer {one}") for one in shown)]
        if content:
            headers += [("content-type", media)] if (media := request.get("media", "application/json")) else []
            headers += [("content-length", str(len(content)))]
        if "answer" in request:
            headers.append(("x-answer", str(request["answer"])))
        if "reply" in request:
            headers.append(("x-reply", base64.b64encode(request["reply"].encode()).decode()))
            headers.append(("x-reply-media", request.get("reply-media", "application/json")))
        headers += [(name, value) for name, value in request.get("headers", [])]
        return method, path, query, headers, content

    def note(self, seen: Seen) -> Seen:
        """Remember what a later request may ask for: where a receipt stands, and the last decision."""
        link = re.fullmatch(r'<(.*)>; rel="receipt"', seen.headers.get("link", ""))
        if link is not None:
            self._last["receipt"] = link.group(1)
        self._last["decision"] = seen.told.get("decision_id", self._last["decision"])
        return seen

    def _check_proof(self, expect: dict[str, Any], seen: Seen) -> None:
        """What the fence has proven is what a stranger finds with the public key alone."""
        if "proof" in expect:
            keys = [key.public for key in self.fence.ledger.signing_keys()]
            assert standalone.verify(io.BytesIO(seen.content), keys)["receipts"] > 0
            bodies = [json.loads(one["body"]) for one in json.loads(seen.content)["receipts"]]
            # An outcome is written behind the answer, so it may be there or not.
            assert bodies[0]["kind"] == expect["proof"]
            assert {body["id"] for body in bodies} == {bodies[0]["id"]}
        for name, pattern in expect.get("says", {}).items():
            found = json.loads(seen.content).get(name)
            assert (found is None) if pattern is None else re.fullmatch(pattern, json.dumps(found)), (
                name,
                seen.content,
            )

    def check(self, case: Case, seen: Seen) -> None:  # noqa: C901 (one question a member)
        """Compare what was seen and what is in the ledger with what the case expects."""
        self._check_proof(case.expect, seen)
        expect = case.expect
        assert seen.status == expect["status"], seen
        for name in ("code", "rule", "limit"):
            if name in expect and (seen.code or name == "code"):
                assert getattr(seen, name) == expect[name]
        for name, pattern in expect.get("headers", {}).items():
            found = seen.headers.get(name)
            assert (found is None) if pattern is None else re.fullmatch(pattern, found or ""), (name, found)
        for name, value in expect.get("told", {}).items():
            assert seen.told.get(name) == value, (name, seen.told)
        for name in ("challenge", "wait"):
            if name in expect:
                assert getattr(seen, name) is expect[name]
        stored = list(self.fence.ledger.receipts(Filter()))
        bodies = [strict_parse(one.receipt.body) for one in stored]
        decisions = [place for place, body in enumerate(bodies) if body["kind"] in ("intent", "refusal", "dry_run")]
        last = bodies[decisions[-1]] if len(decisions) > len(case.before) else None
        kind = "none" if last is None else last["kind"]
        assert expect.get("receipt", kind) == kind
        if last is not None:
            disclosed = {name: value for name, (_, value) in stored[decisions[-1]].receipt.disclosed.items()}
            for name in ("capability", "rule"):
                assert expect.get(name, last[name]) == last[name]
            for name in ("recipient", "resource"):
                assert expect.get(name, disclosed[name]) == disclosed[name]
            if "amount" in expect:
                assert last["amount"] == str(expect["amount"])
        self._check_ends(expect, [body for body in bodies if body["kind"] == "outcome"])
        self._check_refunds(expect, [body for body in bodies if body["kind"] == "refund"])
        if "events" in expect:
            made = [body["capability"] for body in bodies if body["kind"] in ("intent", "refusal", "dry_run")]
            assert made[len(case.before) :] == expect["events"]
        for name, used in expect.get("used", {}).items():
            assert self._used(name, case.request.get("as", "anon")) == used, name

    def _check_ends(self, expect: dict[str, Any], ends: list[Any]) -> None:
        if "settled" in expect:
            wanted = expect["settled"] if isinstance(expect["settled"], list) else [expect["settled"]]
            assert [body["settlement"] for body in ends][-len(wanted) :] == wanted
        if "captured" in expect:
            assert ends[-1]["captured"] == str(expect["captured"])
            assert ends[-1].get("overrun", "") == str(expect.get("overrun", ""))

    def _check_refunds(self, expect: dict[str, Any], given: list[Any]) -> None:
        if "refunded" in expect:
            told = zip(given, expect["refunded"], strict=True)
            assert all({name: body[name] for name in wanted} == wanted for body, wanted in told), given

    def _used(self, name: str, caller: str) -> int:
        limit = next(one for one in limits_of(self.fence.config) if one.name == name)
        key = row_key(limit.per, Actor(id=self._actors.get(caller, "anonymous")), "", None, str)
        row = self.fence.ledger.rows([key]).get(key)
        cell = row.cells.get(limit.cell) if row is not None else None
        return cell.total if cell is not None else 0
