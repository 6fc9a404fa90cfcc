"""A service's own authenticator lets in whom it names, and nobody when it fails."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from afmiddleware import Actor, CredentialError, Fence, IdentityUnavailableError, RequestView, Tier
from afmiddleware.config.load import load
from afmiddleware.drivers import arun, run
from afmiddleware.flow import admit
from afmiddleware.model.http import HttpFacts, Target
from afmiddleware.plan import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

POLICY = """
version: 1
service: s
ledger: memory
identity: {api_keys: {store: ledger}}
routes: [{route: GET /a, capability: a.read}]
rules: {allow: [{capability: a.read, identity: token}]}
"""
TARGET = Target(key="GET /a", method="GET", template="/a")
PARTNER = Actor(id="partner:acme", tier=Tier.TOKEN, proof="bearer", account="acme")


def partner(view: RequestView) -> Actor | None:
    ticket = view.header("x-ticket")
    if ticket is None:
        return None
    if ticket != "good":
        raise CredentialError("no such ticket")
    return PARTNER


async def async_partner(view: RequestView) -> Actor | None:
    return partner(view)


def asked(plugins: list[Any], *headers: tuple[str, str], driver: str = "sync") -> str:
    """The code that a request ends in, or who it was admitted as."""
    import asyncio

    fence = Fence(load(POLICY), authenticators=plugins)
    try:
        facts = HttpFacts(
            method="GET",
            path="/a",
            raw_path=b"/a",
            headers=[(b"host", b"a.example"), *((name.encode(), value.encode()) for name, value in headers)],
            peer="203.0.113.7",
        )
        flow = admit(fence.plan, facts, lambda: TARGET, fence.clock(), fence.new_id)
        passage = run(flow, fence.io) if driver == "sync" else asyncio.run(arun(flow, fence.aio))
    finally:
        fence.close()
    return passage.verdict.code if isinstance(passage, Refused) else passage.actor.id  # type: ignore[union-attr]


@pytest.mark.parametrize("driver", ["sync", "async"])
@pytest.mark.parametrize("function", [partner, async_partner])
def test_whom_a_function_names_is_let_in(function, driver):
    assert asked([function], ("x-ticket", "good"), driver=driver) == "partner:acme"
    assert asked([function], ("x-ticket", "bad"), driver=driver) == "identity.invalid"
    assert asked([function], driver=driver) == "identity.required"


def test_a_credential_of_the_policys_stands_above_it():
    # A bad key stays a bad key, whatever a function says.
    assert asked([partner], ("x-ticket", "good"), ("x-api-key", "afk_live_nonsense")) == "identity.invalid"
    # A scheme that the policy does not know is for the functions.
    assert asked([partner], ("x-ticket", "good"), ("authorization", "Basic eDp5")) == "partner:acme"
    assert asked([partner], ("authorization", "Basic eDp5")) == "identity.invalid"


def test_functions_are_asked_in_turn_and_the_first_that_knows_is_believed():
    def never(_view: RequestView) -> Actor | None:
        raise AssertionError

    assert asked([lambda _view: None, partner, never], ("x-ticket", "good")) == "partner:acme"


def fails(error: BaseException) -> Callable[[RequestView], Any]:
    def function(_view: RequestView) -> Any:
        raise error

    return function


def answers(value: Any) -> Callable[[RequestView], Any]:
    return lambda _view: value


@pytest.mark.parametrize("driver", ["sync", "async"])
@pytest.mark.parametrize(
    ("function", "code"),
    [
        (fails(IdentityUnavailableError("down")), "identity.unavailable"),
        (fails(RuntimeError("x-secret")), "identity.unavailable"),
        (fails(KeyError("x-secret")), "identity.unavailable"),
        (answers("partner:acme"), "identity.unavailable"),
        (answers(True), "identity.unavailable"),
        (answers(Actor(id="acme", tier=Tier.TOKEN, proof="bearer")), "identity.unavailable"),
        (answers(Actor(id="address:1.2.3.4/32", tier=Tier.TOKEN, proof="bearer")), "identity.unavailable"),
        (answers(Actor(id="partner:a\nb", tier=Tier.TOKEN, proof="bearer")), "identity.unavailable"),
        (answers(Actor(id="partner:acme")), "identity.unavailable"),
    ],
)
def test_a_function_that_fails_lets_nobody_in(function, code, driver, caplog):
    with caplog.at_level(logging.WARNING):
        assert asked([function], ("x-ticket", "good"), driver=driver) == code
    assert "x-secret" not in caplog.text


def test_a_header_that_is_there_twice_is_ambiguous():
    assert asked([partner], ("x-ticket", "good"), ("x-ticket", "bad")) == "request.ambiguous"
