"""Whatever stands in the fields of a signature: no request with a changed one is let in, and none makes the fence stumble."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("http_message_signatures")

from afmiddleware.config.load import load
from afmiddleware.drivers import run
from afmiddleware.fence import Fence
from afmiddleware.flow import admit
from afmiddleware.model.http import HttpFacts, Target
from afmiddleware.plan import Admission, Refused
from afmiddleware.testing import FrozenClock
from tests.signing import Signer

API = "https://api.example.com"
NAMES = ("signature-input", "signature", "signature-agent", "content-digest")
BODY = b'{"amount": "5.00"}'
TEXT = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=120)
# What the fields are made of, so that many of the texts can be read.
WORDS = st.sampled_from(
    [
        "sig1", "sig2", "=", "(", ")", '"@method"', '"@authority"', '"@path"', '"@query"', '"content-digest"', '"@status"',
        '"signature-agent"', ';key="sig1"', ";created=1", ";created=1795262400", ";expires=1795262500", ";expires=-1",
        ';keyid="x"', ';nonce="n"', ';tag="web-bot-auth"', ';alg="ed25519"', ';alg="hmac-sha256"', ", ", ";", ":AA==:", "::",
        '"https://agent.example"', '"http://agent.example"', "?1", "1.5", "@1795262400", "@99999999999999", ";req", ";bs",
        ";sf", ";tr", '"@query-param";name="a"', "sha-256=:AAAA:", "\\", "%", '%"%ff"', "999999999999999", "*",
    ],
)  # fmt: skip
GRAMMAR = st.lists(WORDS, max_size=30).map("".join)


class Door:
    """A fence that knows one agent, and one request of it that is good."""

    def __init__(self, folder: Path) -> None:
        self.clock = FrozenClock()
        self.agent = Signer()
        (folder / "agent.json").write_text(json.dumps(self.agent.jwks), encoding="utf-8")
        policy = f"""
version: 1
service: s
ledger: memory
identity:
  public_origins: [{API}]
  web_bot_auth: {{mode: enforce, agents: [{{origin: {self.agent.origin}, jwks_file: agent.json}}]}}
routes: [{{route: POST /pay, capability: pay, amount: {{from: body.amount, unit: major}}}}]
rules: {{allow: [{{capability: pay, identity: verified}}]}}
"""
        self.fence = Fence(load(policy), base=folder, clock=self.clock)

    def good(self) -> dict[str, str]:
        return dict(self.agent.sign("POST", f"{API}/pay", BODY, now=self.clock() // 1_000_000))

    def admits(self, headers: Any, body: bytes = BODY) -> bool:
        """Whether a request is admitted; one that is not has to be refused in order."""
        lines = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        known = [(b"host", b"api.example.com"), (b"content-type", b"application/json")]
        known.append((b"content-length", str(len(body)).encode()))
        facts = HttpFacts(method="POST", path="/pay", raw_path=b"/pay", headers=(*known, *lines), peer="203.0.113.9")
        fence, now = self.fence, self.clock()
        target = Target(key="POST /pay", method="POST", template="/pay")
        io = _Io(fence, body)
        passage = run(admit(fence.plan, facts, lambda: target, now, fence.new_id), io)
        if isinstance(passage, Admission):
            assert passage.body == body
            return True
        assert isinstance(passage, Refused)
        assert passage.verdict.code in ("identity.required", "identity.invalid", "request.ambiguous")
        return False


class _Io:
    def __init__(self, fence: Fence, body: bytes) -> None:
        self._body = body
        self.commit, self.post, self.resolve = fence.commit, fence.post, fence.resolve

    def read_body(self, cap: int) -> bytes:
        return self._body

    def call(self, function: Any, view: Any) -> Any:
        raise AssertionError(function)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Door:
    return Door(tmp_path_factory.mktemp("door"))


QUIET = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_the_good_request_is_let_in(door: Door) -> None:
    """Else nothing below would mean anything."""
    assert door.admits(door.good().items())


@QUIET
@given(st.sampled_from(NAMES), TEXT | GRAMMAR)
def test_one_field_made_up(door: Door, name: str, value: str) -> None:
    good = door.good()
    if value != good[name]:
        assert not door.admits((good | {name: value}).items())


@QUIET
@given(st.lists(st.tuples(st.sampled_from(NAMES), TEXT | GRAMMAR), max_size=6))
def test_all_fields_made_up(door: Door, headers: list[tuple[str, str]]) -> None:
    assert not door.admits(headers)


@QUIET
@given(st.sampled_from(NAMES[:3]), st.integers(0, 999), st.sampled_from(["", "%sx", "!", '"', ";", ",", "0", "="]))
def test_a_character_changed_put_in_or_left_out(door: Door, name: str, permille: int, made: str) -> None:
    good = door.good()
    value = good[name]
    # The last character of a signature holds bits that mean nothing, and so may a blank around a member.
    place = (len(value) - 4) * permille // 1000
    changed = value[:place] + made.replace("%s", value[place]) + value[place + 1 :]
    if changed != value:
        assert not door.admits((good | {name: changed}).items())


@QUIET
@given(st.sampled_from(NAMES), TEXT | GRAMMAR, st.booleans())
def test_a_line_more(door: Door, name: str, value: str, before: bool) -> None:
    good = list(door.good().items())
    lines = [(name, value), *good] if before else [*good, (name, value)]
    # A further member that says nothing of an agent changes nothing of what was signed, and another signature beside it
    # is not ours to judge.
    if door.admits(lines):
        assert name in ("signature-input", "signature", "signature-agent")


@QUIET
@given(st.binary(max_size=80))
def test_another_body(door: Door, body: bytes) -> None:
    if body != BODY:
        assert not door.admits(door.good().items(), body)
