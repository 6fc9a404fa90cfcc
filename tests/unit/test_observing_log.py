"""Who runs a fence that does not refuse is told so, once."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest

from afmiddleware import Fence
from afmiddleware.config.load import load
from afmiddleware.errors import ActionRefusedError
from afmiddleware.model import ActionEvent

POLICY = """
version: 1
service: shop
ledger: memory
mode: {mode}
identity: {{api_keys: {{store: ledger}}}}
rules:
  deny: [{{capability: "*"}}]
"""


@pytest.mark.parametrize(
    ("mode", "told"), [("enforce", []), ("observe", ["mode observe"]), ("observe 25%", ["mode observe 25%"])]
)
def test_the_mode_is_said_with_the_first_decision(caplog: pytest.LogCaptureFixture, mode: str, told: list[str]) -> None:
    fence = Fence(load(POLICY.format(mode=mode), "fence.yaml"))
    event = ActionEvent.create(actor="key:bot", resource="orders", action="buy")
    assert not caplog.messages
    for _ in range(3):
        with suppress(ActionRefusedError), fence.action(event):
            pass
    fence.close()
    said = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert [one.split(":")[0] for one in said] == told
