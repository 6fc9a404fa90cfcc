"""The policy in front of every application under attack, and the folder it lives in."""

from __future__ import annotations

import secrets
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

from afmiddleware.cli.common import policy_at
from afmiddleware.fence import system_clock
from afmiddleware.identity.api_keys import new_key
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.open import open_for_reading, open_for_tools
from afmiddleware.receipts.canonical import strict_parse

HERE = Path(__file__).parent

LAYERS = (
    "tests.corpus.apps.layers.AsgiLayer",
    "tests.corpus.apps.layers.WsgiLayer",
    "tests.corpus.apps.flask_app.rewrite",
    "tests.corpus.apps.django_layer.Layer",
)
"""The layers that some variants of the applications have inside their fence, by the names the audits give them."""


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An endpoint, as `endpoints.yaml` describes it."""

    name: str
    route: dict[str, Any]
    only: tuple[str, ...] = ()
    unit: str = ""
    names: str = ""
    digest: bool = False

    @property
    def public(self) -> bool:
        return bool(self.route.get("public"))

    @property
    def key(self) -> str:
        return str(self.route["route"])


@cache
def endpoints() -> dict[str, Endpoint]:
    found = yaml.safe_load((HERE / "endpoints.yaml").read_text(encoding="utf-8"))["endpoints"]
    return {one.name: one for one in msgspec.convert(found, list[Endpoint])}


class Intent(msgspec.Struct, frozen=True):
    """An admission in the ledger: the receipt's body, and the private values it discloses."""

    body: dict[str, Any]
    told: dict[str, Any]


class Site:
    """A folder with the policy of a family of applications, its ledger, a key, and what the handlers noted."""

    def __init__(self, folder: Path, family: str) -> None:
        self.folder = folder
        self.policy = folder / "fence.yaml"
        self.marks = folder / "marks"
        self.marks.touch()
        whole = {
            "version": 1,
            "service": "target",
            "currency": "USD",
            "ledger": "sqlite:///fence.db",
            "identity": {"api_keys": {"store": "ledger"}},
            "routes": [
                one.route
                for one in endpoints().values()
                if family.partition("-")[0] in (one.only or (family.partition("-")[0],))
            ],
            "rules": {"allow": [{"capability": "**", "identity": "token"}]},
            "limits": [{"name": "cap", "spend": "90000000000000 USD", "window": "total", "per": "actor"}],
            "inner_middleware": [*LAYERS],
        }
        self.policy.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
        # Read once: it is asked for its ledger after every act.
        self._read = policy_at(str(self.policy))
        self.key = self._new_key("agent")

    def _new_key(self, account: str) -> str:
        ledger = open_for_tools(*self._read)
        try:
            text, record = new_key(account, secrets.token_bytes, now=system_clock())
            ledger.put_api_key(record)
        finally:
            ledger.close()
        return text

    def intents(self, after: int = 0) -> dict[int, Intent]:
        """The admissions that the ledger holds, by their sequence numbers, those after `after`."""
        return {int(body["seq"]): Intent(body, told) for body, told in self._receipts("intent", after)}

    def outcomes(self) -> dict[str, str]:
        """How admissions were settled, by their ids."""
        return {str(body["id"]): str(body["settlement"]) for body, _ in self._receipts("outcome")}

    def _receipts(self, kind: str, after: int = 0) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        ledger = open_for_reading(*self._read)
        try:
            return [
                (strict_parse(one.receipt.body), {name: value for name, (_, value) in one.receipt.disclosed.items()})
                for one in ledger.receipts(Filter(kind=kind, after=after))
            ]
        finally:
            ledger.close()
