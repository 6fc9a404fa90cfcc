"""The log's keys may come from a callable: none of them is ever in a file, and a wrong one stops the start."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from afmiddleware import ActionEvent, ActionRefused
from afmiddleware.config.load import load
from afmiddleware.errors import ReceiptError
from afmiddleware.fence import Fence
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.model import Record
from afmiddleware.model.entry import InForce
from afmiddleware.receipts.checkpoint import CallSigner
from afmiddleware.receipts.notary import redaction
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import entry, sqlite

POLICY = "version: 1\nservice: s\nledger: sqlite:///fence.db\nrules: {allow: [x.y.z]}\n"
EVENT = ActionEvent.create(actor="agent-7", resource="x", action="y", environment="z")
KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()


class Service:
    """A key management service: it may be away."""

    def __init__(self, key: Ed25519PrivateKey = KEY) -> None:
        self.key = key
        self.away = False

    def sign(self, data: bytes) -> bytes:
        if self.away:
            raise ConnectionError("the key service is away")
        return self.key.sign(data)


def fence_with(folder: Path, service: Service, secret: bytes = bytes(range(32))) -> Fence:
    return Fence(load(POLICY), base=folder, signer=CallSigner(PUBLIC, service.sign), mac_key=lambda: secret)


def act(fence: Fence) -> str:
    try:
        with fence.action(EVENT):
            return "done"
    except ActionRefused as refused:
        return refused.verdict.code


def test_no_key_is_in_a_file_and_the_log_is_signed_and_authentic(tmp_path: Path) -> None:
    with closing(fence_with(tmp_path, Service())) as fence:
        assert act(fence) == "done"
        report = fence.receipts.verify(trusted=(PUBLIC,))
        assert (report.status, report.authenticity[:2]) == ("unanchored", "ok")
    assert {one.name for one in tmp_path.iterdir()} <= {"fence.db", "fence.db-wal", "fence.db-shm", "fence.db.lock"}
    with closing(fence_with(tmp_path, Service())) as fence:
        assert act(fence) == "done"


def test_a_service_that_is_away_refuses_and_nothing_is_lost(tmp_path: Path) -> None:
    service = Service()
    with closing(fence_with(tmp_path, service)) as fence:
        assert act(fence) == "done"
        service.away = True
        assert act(fence) == "ledger.unavailable"
        service.away = False
        assert act(fence) == "done"
        assert fence.receipts.verify(trusted=(PUBLIC,)).code == ""


def test_another_key_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ReceiptError, match="does not sign with the key"):
        fence_with(tmp_path, Service(Ed25519PrivateKey.generate()))
    with closing(fence_with(tmp_path, Service())) as fence:
        act(fence)
    with pytest.raises(ReceiptError, match="is not the one the receipt log"):
        fence_with(tmp_path, Service(), bytes(32))
    other = Ed25519PrivateKey.generate()
    signer = CallSigner(other.public_key().public_bytes_raw(), other.sign)
    with pytest.raises(ReceiptError, match="restore that one"):
        Fence(load(POLICY), base=tmp_path, signer=signer, mac_key=lambda: bytes(range(32)))
    # A policy that names no key does not make one over this log.
    with pytest.raises(ReceiptError, match="is missing: restore it, or copy it from a host that writes this log"):
        Fence(load(POLICY), base=tmp_path)
    assert not (tmp_path / "fence.db.key").exists()


def test_what_is_redacted_is_in_no_file_while_a_server_still_runs(tmp_path: Path) -> None:
    with closing(sqlite(tmp_path, FrozenClock())) as server:
        for number in range(3):
            server.commit(entry(f"d{number}"))
            server.commit(InForce(f"policy-{number}", "enforce", by="jane-roe-4711"))
        # The server's own connection is open, so the write-ahead log stays: here with the values in it.
        assert b"jane-roe-4711" in files(tmp_path)
        with closing(sqlite(tmp_path, FrozenClock())) as tool:
            found = tuple(one.receipt.seq for one in tool.receipts(Filter(kind="policy")))
            tool.commit(Record(redaction(["by"], found, "gdpr.erasure", "dpo"), erase=("by",), erase_in=found))
            assert b"jane-roe-4711" not in files(tmp_path)
        server.commit(entry("d9"))
        assert ReceiptLog(server, server.keys).verify().code == ""


def files(folder: Path) -> bytes:
    """The database, its write-ahead log and its index."""
    return b"".join((folder / f"fence.db{more}").read_bytes() for more in ("", "-wal", "-shm"))
