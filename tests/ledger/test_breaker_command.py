"""Breakers are seen and closed by a command, whatever they count by, on every ledger that a command can open."""

from __future__ import annotations

import shlex
from contextlib import ExitStack, closing

import pytest

from afmiddleware import ActionEvent, ActionRefused, Fence, Money
from afmiddleware.model import Actor, Tier
from tests.ledger.servers import schema
from tests.unit.cli.conftest import POLICY, afm, written

__all__ = ["afm"]


@pytest.mark.parametrize("ledger", ["sqlite:///fence.db", pytest.param("", marks=pytest.mark.service("postgresql"))])
@pytest.mark.parametrize(
    ("per", "whose"),
    [("tenant", "tenant acme"), ("[recipient, tenant]", "tenant acme, key:a"), ("actor", "actor key:a")],
)
def test_a_breaker_of_any_key_is_seen_and_closed(afm, tmp_path, ledger, per, whose):
    """One that counted per tenant could neither be seen nor closed."""
    with ExitStack() as stack:
        place = ledger or stack.enter_context(schema())
        limit = f"  - {{name: stop, spend: 9 USD, window: day, per: {per}, on_exceed: trip}}\n"
        policy = written(tmp_path, limit, text=POLICY.replace("sqlite:///fence.db", place))
        actor = Actor(id="key:a", account="a", tenant="acme", tier=Tier.TOKEN)

        def pay(amount: str) -> str:
            with closing(Fence.from_file(policy, env={})) as fence:
                try:
                    with fence.action(
                        ActionEvent(capability="payments.pay.live", actor=actor, amount=Money.parse(amount))
                    ):
                        return "ran"
                except ActionRefused as refused:
                    return refused.verdict.code

        assert [pay("10 USD"), pay("1 USD")] == ["breaker.open"] * 2
        seen = afm("breaker", "status", "--policy", policy, "--json")
        (one,) = seen.json
        assert (seen.code, one["breaker"], one["state"], one["of"]) == (1, "stop", "open", whose)
        assert f"open of {whose} since" in afm("breaker", "status", "--policy", policy).out
        assert afm(*shlex.split(one["reset"])[1:]).code == 0
        assert pay("1 USD") == "ran"
        assert afm("breaker", "status", "--policy", policy).code == 0
