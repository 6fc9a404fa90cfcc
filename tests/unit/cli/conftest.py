"""The command line as its users meet it: arguments in; text, an exit code and files out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from afmiddleware import ActionEvent, ActionRefused, Fence, Money
from afmiddleware.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POLICY = """version: 1
service: shop
ledger: sqlite:///fence.db
identity:
  api_keys: {store: ledger}
routes:
  - {route: POST /pay, capability: payments.pay.live, amount: {from: body.amount}}
rules:
  allow:
    - {capability: payments.pay.live, identity: token, max_amount: 20 USD}
    - shop.look.live
limits:
  - {name: daily, spend: 25 USD, window: day}
"""


SECRET = "5a" * 32
"""What `AFM_RECEIPT_KEY` holds where a policy reads the secret of its receipts from there."""


class Ran(msgspec.Struct, frozen=True):
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def afm(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs `afmiddleware` with these arguments."""

    def run(*arguments: object) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main([str(one) for one in arguments])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        code = ended.value.code
        return Ran(code if isinstance(code, int) else 0, printed.out, printed.err)

    return run


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy file whose ledger is not made yet."""
    return written(tmp_path)


def written(folder: Path, more: str = "", text: str = POLICY) -> Path:
    """A policy file in `folder`."""
    place = folder / "fence.yaml"
    place.write_text(text + more, encoding="utf-8")
    return place


def acted(policy: Path, *amounts: str, recipient: str = "acme") -> list[str]:
    """Let an agent pay each of these amounts; what became of them, `done` or the code of a refusal."""
    fence = Fence.from_file(policy, env={"AFM_RECEIPT_KEY": SECRET})
    try:
        return [_paid(fence, amount, recipient) for amount in amounts]
    finally:
        fence.close()


def _paid(fence: Fence, amount: str, recipient: str) -> str:
    event = ActionEvent.create(
        actor="agent-7",
        resource="payments",
        action="pay",
        environment="live",
        payload={"note": "tickets"},
        recipient=recipient,
        amount=Money.parse(amount),
    )
    try:
        with fence.action(event):
            return "done"
    except ActionRefused as refused:
        return refused.verdict.code
