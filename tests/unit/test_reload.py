"""Another policy while requests run: noticed however the file is changed, whole or not at all, and on record."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from afmiddleware import ActionEvent
from afmiddleware.errors import ActionRefusedError, ConfigError
from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.model import Actor, Money, Tier
from afmiddleware.pep.asgi import FenceMiddleware
from afmiddleware.policy_file import PolicyFile
from afmiddleware.receipts.canonical import strict_parse
from afmiddleware.testing import FrozenClock, mint_es256_issuer
from afmiddleware.watch import RETRY_AFTER, Watcher

POLICY = """
version: 1
service: shop
ledger: memory
reload: "off"
{more}
routes:
  - {{route: POST /pay, capability: shop.pay, amount: 1 USD}}
rules:
  allow: [shop.*]
{rules}
limits:
  - {{name: daily, spend: 100 USD, window: day, per: actor}}
"""
DENY = "  deny: [shop.pay]"


def policy(rules: str = "", more: str = "") -> str:
    return POLICY.format(rules=rules, more=more)


def action(minor: int = 100, actor: str = "key:a") -> ActionEvent:
    return ActionEvent(actor=Actor(id=actor, tier=Tier.TOKEN), capability="shop.pay", amount=Money(minor, "USD", 2))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "fence.yaml").write_text(policy(), "utf-8")
    return tmp_path / "fence.yaml"


@pytest.fixture
def fence(file: Path) -> Iterator[Fence]:
    made = Fence.from_file(file, env={}, clock=FrozenClock())
    yield made
    made.close()


def in_place(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")


def renamed(file: Path, text: str) -> None:
    """As editors and configuration tools do it."""
    (file.parent / "fence.yaml.new").write_text(text, "utf-8")
    (file.parent / "fence.yaml.new").replace(file)


def removed_first(file: Path, text: str) -> None:
    file.unlink()
    file.write_text(text, "utf-8")


def same_size_and_time(file: Path, text: str) -> None:
    """Another file under the name, which looks like the one before but for being another."""
    before = file.stat()
    (file.parent / "other").write_text(text.ljust(before.st_size), "utf-8")
    os.utime(file.parent / "other", ns=(before.st_atime_ns, before.st_mtime_ns))
    (file.parent / "other").replace(file)


@pytest.mark.parametrize("change", [in_place, renamed, removed_first, same_size_and_time])
def test_a_change_is_noticed(fence: Fence, file: Path, change: Callable[[Path, str], None]) -> None:
    watcher = Watcher(fence, "watch")
    assert not watcher.look()
    assert fence.decide(action()).authorized
    before = fence.plan.digest
    change(file, policy(DENY))
    assert not watcher.look()
    assert watcher.look()
    assert fence.decide(action()).code == "policy.denied"
    assert fence.standing.digest == fence.plan.digest != before
    assert fence.standing.healthy
    assert not watcher.look()


def test_what_is_written_in_place_at_the_old_size_and_time_is_noticed(fence: Fence, file: Path) -> None:
    in_place(file, policy("  deny: [shop.buy]"))
    fence.reload()
    watcher = Watcher(fence, "watch")
    before = file.stat()
    in_place(file, policy("  deny: [shop.pay]"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_ino, file.stat().st_size) == (before.st_ino, before.st_size)
    assert [watcher.look(), watcher.look()] == [False, True]
    assert fence.decide(action()).code == "policy.denied"


def test_a_config_map_is_switched(tmp_path: Path) -> None:
    """As Kubernetes does it: the file is a link into a folder that is a link, which is renamed over."""

    def put(name: str, text: str, banned: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "fence.yaml").write_text(text, "utf-8")
        (tmp_path / name / "banned.txt").write_text(banned, "utf-8")
        (tmp_path / "..new").symlink_to(name)
        (tmp_path / "..new").replace(tmp_path / "..data")

    listed = "  deny: [{capability: shop.pay, when: {actor.id: {in: $banned}}}]"
    more = "lists: {banned: {file: banned.txt}}"
    put("..1", policy(listed, more), "key:b\n")
    (tmp_path / "fence.yaml").symlink_to("..data/fence.yaml")
    (tmp_path / "banned.txt").symlink_to("..data/banned.txt")
    fence = Fence.from_file(tmp_path / "fence.yaml", env={}, clock=FrozenClock())
    watcher = Watcher(fence, "watch")
    assert fence.decide(action()).authorized
    put("..2", policy(listed, more), "key:a\n")
    shutil.rmtree(tmp_path / "..1")
    assert [watcher.look(), watcher.look()] == [False, True]
    assert fence.decide(action()).code == "policy.denied"
    fence.close()


def test_a_file_that_is_being_written_is_left_alone(fence: Fence, file: Path) -> None:
    watcher = Watcher(fence, "watch")
    before = fence.plan
    whole = policy(DENY, "metadata: {v: 2}")
    for cut in range(0, len(whole), 50):
        file.write_text(whole[:cut], "utf-8")
        assert not watcher.look()
        assert fence.plan is before
    file.write_text(whole, "utf-8")
    assert [watcher.look(), watcher.look()] == [False, True]


def test_a_list_of_its_own_file_is_watched(file: Path) -> None:
    listed = policy(
        "  deny: [{capability: shop.pay, when: {actor.id: {in: $banned}}}]", "lists: {banned: {file: b.txt}}"
    )
    (file.parent / "b.txt").write_text("key:b\n", "utf-8")
    file.write_text(listed, "utf-8")
    fence = Fence.from_file(file, env={}, clock=FrozenClock())
    watcher = Watcher(fence, "watch")
    assert fence.decide(action()).authorized
    (file.parent / "b.txt").write_text("key:b\nkey:a\n", "utf-8")
    assert [watcher.look(), watcher.look()] == [False, True]
    assert not fence.decide(action()).authorized
    fence.close()


def test_a_broken_file_keeps_the_last_good_policy_and_says_so_once(
    fence: Fence, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher(fence, "watch")
    before = fence.plan
    file.write_text(policy("  alow: [shop.*]"), "utf-8")
    with caplog.at_level(logging.CRITICAL):
        assert not any(watcher.look() for _ in range(3 * RETRY_AFTER))
    assert fence.plan is before
    assert fence.decide(action()).authorized
    assert not fence.standing.healthy
    assert "alow" in fence.standing.problems[0]
    assert fence.standing.failed_at
    assert len([one for one in caplog.records if "stays in force" in one.message]) == 1
    file.write_text(policy(DENY), "utf-8")
    assert [watcher.look(), watcher.look()] == [False, True]
    assert fence.standing.healthy


ISSUER = mint_es256_issuer()
ISSUED = "issuer: 'https://a.example', audience: a, algorithms: [ES256]"
SIGNS = "public_origins: ['https://b.example'], web_bot_auth: {agents: [{origin: 'https://a.example'"


@pytest.mark.parametrize("looks", [2, 3, 4, 9])
@pytest.mark.parametrize(
    ("more", "name", "content"),
    [
        ("lists: {banned: {file: b.txt}}", "b.txt", "x\n"),
        (f"identity: {{jwt: {{issuers: [{{{ISSUED}, jwks_file: b.json}}]}}}}", "b.json", json.dumps(ISSUER.jwks)),
        (f"identity: {{{SIGNS}, jwks_file: b.json}}]}}}}", "b.json", json.dumps(ISSUER.jwks)),
    ],
    ids=["a list", "the keys of an issuer", "the keys of an agent"],
)
def test_what_a_wrong_policy_lacked_is_looked_for(
    fence: Fence, file: Path, looks: int, more: str, name: str, content: str
) -> None:
    watcher = Watcher(fence, "watch")
    file.write_text(policy(DENY, more), "utf-8")
    assert not any(watcher.look() for _ in range(looks))
    assert name in fence.standing.problems[0]
    (file.parent / name).write_text(content, "utf-8")
    assert [watcher.look(), watcher.look()] == [False, True]
    assert fence.standing.healthy


def test_a_wrong_policy_is_tried_once_in_a_while(fence: Fence, file: Path) -> None:
    watcher = Watcher(fence, "watch")
    (file.parent / "folder").mkdir()
    file.write_text(policy(DENY, "lists: {banned: {file: folder/b.txt}}"), "utf-8")
    assert not any(watcher.look() for _ in range(4))
    fence.tried = None
    watcher.look()
    (file.parent / "folder" / "b.txt").write_text("x\n", "utf-8")
    assert any(watcher.look() for _ in range(RETRY_AFTER + 1))


def test_a_missing_file_changes_nothing(fence: Fence, file: Path) -> None:
    watcher = Watcher(fence, "watch")
    file.unlink()
    assert [watcher.look(), watcher.look()] == [False, False]
    assert "there is no policy file" in fence.standing.problems[0]
    assert fence.decide(action()).authorized


@pytest.mark.parametrize(
    ("more", "named"),
    [("ledger: sqlite:///other.db", "ledger"), ('receipts: {anchor: {file: "anchor.json"}}', "receipts.anchor")],
)
def test_what_a_process_keeps_is_not_changed_in_passing(fence: Fence, file: Path, more: str, named: str) -> None:
    text = policy(DENY).replace("ledger: memory\n", f"{more}\n" if named == "ledger" else f"ledger: memory\n{more}\n")
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=f"{named} is kept by a running process; restart it"):
        fence.reload()
    assert fence.decide(action()).authorized


def test_counters_survive_where_the_limit_is_the_same(fence: Fence, file: Path) -> None:
    with fence.action(action(8000)):
        pass
    file.write_text(policy().replace("100 USD", "90 USD"), "utf-8")
    assert fence.reload()
    assert fence.decide(action(1001)).code == "spend.exceeded"
    assert fence.decide(action(1000)).authorized
    file.write_text(policy().replace("window: day", "window: month"), "utf-8")
    assert fence.reload()
    assert fence.decide(action(10000)).authorized


def test_what_was_admitted_ends_under_the_policy_that_admitted_it(fence: Fence, file: Path) -> None:
    old = fence.plan.digest
    with fence.action(action(500)) as running:
        file.write_text(policy(DENY), "utf-8")
        assert fence.reload()
        running.settle("3.00")
    with pytest.raises(ActionRefusedError), fence.action(action()):
        pass
    bodies = [strict_parse(one.receipt.body) for one in fence.ledger.receipts(Filter())]
    assert [(one["kind"], one.get("policy")) for one in bodies] == [
        ("intent", old),
        ("policy", fence.plan.digest),
        ("refusal", fence.plan.digest),
        ("outcome", None),
    ]
    assert bodies[3]["captured"] == "300"
    assert (bodies[1]["old_policy"], bodies[1]["cause"], bodies[1]["generation"]) == (old, "reload", 2)


def test_the_same_policy_again_changes_nothing(fence: Fence) -> None:
    digest = fence.plan.digest
    with fence.action(action()):
        pass
    assert not fence.reload()
    with fence.action(action()):
        pass
    kinds = [strict_parse(one.receipt.body)["kind"] for one in fence.ledger.receipts(Filter())]
    assert "policy" not in kinds
    assert fence.plan.digest == digest


def test_a_fence_without_a_file_cannot_be_read_again() -> None:
    from afmiddleware.config.load import load

    fence = Fence(load(policy()), clock=FrozenClock())
    with pytest.raises(ConfigError, match="not made from a file"):
        fence.reload()
    fence.close()


def test_sighup_reads_the_file_at_the_next_look(fence: Fence, file: Path) -> None:
    before = signal.getsignal(signal.SIGHUP)
    heard: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _frame: heard.append(number))
    try:
        watcher = Watcher(fence, "signal")
        file.write_text(policy(DENY), "utf-8")
        assert not any(watcher.look() for _ in range(3))
        os.kill(os.getpid(), signal.SIGHUP)
        assert heard == [signal.SIGHUP]
        assert watcher.look()
        assert not fence.decide(action()).authorized
        watcher.close()
        os.kill(os.getpid(), signal.SIGHUP)
        assert len(heard) == 2
        assert not watcher.look()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.anyio
async def test_a_request_has_one_policy_and_its_routes(fence: Fence, file: Path) -> None:
    """The table of routes is made anew before the policy decides; a policy no table can hold is refused."""
    more = "  - {route: POST /new, capability: shop.new}"
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/pay" and not seen:
            seen.append(1)
            in_place(file, policy(DENY).replace("rules:", f"{more}\nrules:"))
            assert fence.reload()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    transport = httpx.ASGITransport(FenceMiddleware(app, fence=fence))
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        assert (await client.post("/new")).json()["code"] == "route.unmapped"
        first = await client.post("/pay")
        assert (first.status_code, "agent-receipt" in first.headers) == (200, True)
        assert (await client.post("/pay")).json()["code"] == "policy.denied"
        assert (await client.post("/new")).status_code == 200
        in_place(file, policy().replace("POST /pay,", "'POST /pay/{a}{b}',"))
        with pytest.raises(ConfigError, match="split between in several ways"):
            fence.reload()
        assert (await client.post("/new")).status_code == 200


@pytest.mark.anyio
async def test_a_policy_that_does_not_fit_the_application_is_refused(file: Path) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Route

    from afmiddleware import capability
    from afmiddleware_fastapi import install

    @capability("shop.declared")
    async def declared(_request: Any) -> Any:
        from starlette.responses import PlainTextResponse

        return PlainTextResponse("ok")

    fence = Fence.from_file(file, env={}, clock=FrozenClock())
    app = Starlette(routes=[Route("/pay", declared_nothing, methods=["POST"]), Route("/d", declared, methods=["POST"])])
    install(app, fence=fence)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        assert (await client.post("/d")).status_code == 200
        first = fence.plan.digest
        in_place(file, policy().replace("POST /pay", "POST /gone"))
        with pytest.raises(ConfigError, match="POST /gone"):
            fence.reload()
        assert (await client.post("/pay")).status_code == 200
        in_place(file, policy("  deny: [shop.declared]"))
        assert fence.reload()
        # Declared in code, denied in the file: the binding was kept, and the digest covers it.
        assert (await client.post("/d")).json()["code"] == "policy.denied"
        assert fence.plan.digest not in (first, fence.config.digest)


async def declared_nothing(_request: Any) -> Any:
    from starlette.responses import PlainTextResponse

    return PlainTextResponse("ok")


def test_marks_of_what_is_not_there(tmp_path: Path) -> None:
    from afmiddleware.config.load import load

    assert PolicyFile(tmp_path / "none.yaml", {}).marks(load(policy()), tmp_path) == (None,)
    assert PolicyFile(tmp_path / "none.yaml", {"AFM_POLICY": "/x"}).place == Path("/x")
