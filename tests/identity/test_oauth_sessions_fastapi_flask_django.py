"""Sessions through real servers of every framework: no name opens a fresh budget. Numbers are cases of the index."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.identity.sites import Site

PREFIX = "/.well-known/agent-fence/"


def caller(site: Site, account: str) -> tuple[str, str]:
    return ("X-API-Key", site.fence.keys.create(account).text)


def minted(site: Site, who: tuple[str, str]) -> Any:
    return site.send(who, method="POST", where=f"{PREFIX}sessions")


def spent(pay: Callable[[], Any]) -> tuple[int, Any]:
    """How often one dollar was paid until it was refused, and the refusal."""
    for count in range(100):
        answer = pay()
        if answer.status != 200:
            return count, answer
    raise AssertionError


def test_a_thousand_new_names_open_no_budget(site: Site) -> None:  # 77
    who = caller(site, f"labels-{site.port}")
    answers = [site.pay("1", who, ("Agent-Session", f"mine-{n}")) for n in range(1000)]
    assert [answer.status for answer in answers] == [200] * 10 + [403] * 990
    assert {answer.json["limit"] for answer in answers[10:]} == {"session"}


def test_minted_sessions_stop_at_the_callers_own_budget(site: Site) -> None:  # 77
    who = caller(site, f"mints-{site.port}")
    total = spent(lambda: site.pay("1", who))[0]
    for _ in range(4):
        handle = minted(site, who).json["session"]
        total += spent(lambda handle=handle: site.pay("1", who, ("Agent-Session", handle)))[0]  # type: ignore[misc]
    assert total == 25


def test_a_session_is_its_callers_alone(site: Site) -> None:  # 78
    alice, bob = caller(site, f"alice-{site.port}"), caller(site, f"bob-{site.port}")
    answer = minted(site, alice)
    assert (answer.status, answer.headers["cache-control"]) == (201, "private, no-store")
    handle = answer.json["session"]
    assert site.pay("1", alice, ("Agent-Session", handle)).json["session"].startswith("minted:")
    for who, text in ((bob, handle), (alice, handle[:-2] + "AA"), (alice, "afs1.x.y")):
        refused = site.pay("1", who, ("Agent-Session", text))
        assert (refused.status, refused.json["code"]) == (403, "session.invalid")
    assert site.send(("Agent-Session", handle)).status == 403
    assert site.pay("1", alice, ("Agent-Session", handle), ("Agent-Session", handle)).status == 400
    assert site.pay("1", alice, ("Agent-Session", "two words")).status == 400


def test_leaving_the_session_out_gains_nothing(site: Site) -> None:  # 79
    who = caller(site, f"forgets-{site.port}")
    assert spent(lambda: site.pay("1", who))[0] == 10
    assert site.pay("1", who).status == 403
    claims = site.server.mint(sub=f"claims-{site.port}", sid="s-1")
    assert spent(lambda: site.pay("1", ("Authorization", f"Bearer {claims}")))[0] == 10
    # The issuer's own word opens another, up to the caller's own budget.
    other = site.server.mint(sub=f"claims-{site.port}", sid="s-2")
    assert site.pay("1", ("Authorization", f"Bearer {other}")).status == 200


def test_only_so_many_are_minted(site: Site) -> None:  # 80
    who = caller(site, f"floods-{site.port}")
    answers = [minted(site, who) for _ in range(8)]
    assert [answer.status for answer in answers] == [201] * 5 + [429] * 3
    assert int(answers[-1].headers["retry-after"]) > 0
    # Another key of the account is the same caller.
    assert minted(site, caller(site, f"floods-{site.port}")).status == 429


def test_who_may_not_mint(site: Site) -> None:
    assert site.send(method="POST", where=f"{PREFIX}sessions").status == 401
    assert minted(site, ("Authorization", "Bearer afk_live_nonsense")).status == 401
    got = site.send(caller(site, "gets"), where=f"{PREFIX}sessions")
    assert (got.status, got.headers["allow"]) == (405, "POST")


WORKER = """
import sys
from afmiddleware import ActionEvent, ActionRefused, Actor, Fence, Money, Tier
from msgspec.structs import replace
fence = Fence.from_file(sys.argv[1])
actor = Actor(id="key:acme", tier=Tier.TOKEN, proof="bearer", session="minted:one")
event = ActionEvent.create(actor="x", resource="shop", action="pay", environment="here")
event = replace(event, actor=actor, amount=Money(100, "USD", 2))
count = 0
for _ in range(10):
    try:
        with fence.action(event):
            count += 1
    except ActionRefused:
        pass
fence.close()
print(count)
"""
POLICY = """
version: 1
service: s
rules: {allow: [shop.pay.here]}
limits: [{name: session, spend: 10 USD, window: session, per: session}]
"""


def test_one_session_from_four_processes(tmp_path: Path) -> None:  # 81
    policy = tmp_path / "fence.yaml"
    policy.write_text(POLICY, encoding="utf-8")
    command = [sys.executable, "-c", WORKER, str(policy)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    counts = [int(process.communicate(timeout=120)[0]) for process in running]
    assert sum(counts) == 10
