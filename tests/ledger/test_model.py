"""The slow exact model of tests/properties, held against the ledgers that other processes share."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from afmiddleware.ledger.base import Ledger
from tests.ledger.conftest import sqlite
from tests.ledger.servers import postgres, rates, schema, shared
from tests.properties.test_limits import Limits


class Stored(Limits):
    """The model of one store; everything it makes is cleaned away."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        super().__init__()

    def noted(self) -> None:
        # What only looks writes nothing, so the store would not know that it has been this late.
        self.act(0, judged=False)

    def teardown(self) -> None:
        with self.stack:
            super().teardown()


class OnSqlite(Stored):
    def opened(self) -> Ledger:
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        ledger = sqlite(Path(folder), self.clock)
        self.stack.callback(ledger.close)
        return ledger


class OnPostgres(Stored):
    def opened(self) -> Ledger:
        ledger = postgres(self.stack.enter_context(schema()), self.clock)
        self.stack.callback(ledger.close)
        return ledger


class OnRedis(Stored):
    def opened(self) -> Ledger:
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        ledger = sqlite(Path(folder), self.clock, rates=rates(self.stack.enter_context(shared()), self.clock))
        self.stack.callback(ledger.close)
        return ledger


OnSqlite.TestCase.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
OnPostgres.TestCase.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
OnRedis.TestCase.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
TestSqlite = OnSqlite.TestCase
TestPostgres = pytest.mark.service("postgresql")(OnPostgres.TestCase)
TestRedis = pytest.mark.service("redis")(OnRedis.TestCase)
