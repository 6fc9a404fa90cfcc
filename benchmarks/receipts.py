"""Checking a log of receipts against what a plain re-encoding with an HMAC would cost, and the memory it takes."""

from __future__ import annotations

import gc
import hashlib
import hmac
import json
import time
import tracemalloc
from itertools import count
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from afmiddleware.errors import ReceiptError
from afmiddleware.model.receipt import DecisionBody, Draft, Receipt
from afmiddleware.receipts.chain import NO_LEAF, Head, OwnerHead, append
from afmiddleware.receipts.checkpoint import KeySigner
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.receipts.merkle import Frontier, extend
from afmiddleware.receipts.notary import SigningKey, seal
from afmiddleware.receipts.seals import Seals
from afmiddleware.receipts.verify import StoredReceipt, verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAC_KEY = bytes(range(32))
KEYS = ReceiptKeys("0123456789abcdef", MAC_KEY, *(bytes([n]) * 32 for n in range(3)))
SIGNER = KeySigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
BATCH = 64
PRIVATE: dict[str, str | None] = {
    "actor": None,
    "credential": "acct_42",
    "on_behalf_of": None,
    "payload": None,
    "peer": "203.0.113.9",
    "recipient": "acme",
    "request": None,
    "resource": None,
}
START = Head("afm-bench", 0, NO_LEAF, 0)


def receipts(size: int, rounds: int) -> None:
    """Print receipts per second of the full check and of the baseline, and the peak of memory at two sizes.

    The processor's time is taken, in turns; the ratio without private values is that of the same log without any.
    """
    ratio(min(size, 50_000), rounds, PRIVATE)
    ratio(min(size, 50_000), rounds, {})
    small, large = peak(size // 10), peak(size)
    print(f"memory     {small / 1024:,.0f} KiB at {size // 10:,}, {large / 1024:,.0f} KiB at {size:,} receipts")


def ratio(size: int, rounds: int, private: Mapping[str, str | None]) -> None:
    """Print how fast a log with these private values is checked."""
    log = list(made(size, private))
    plain = [one.receipt for one in log]
    gc.freeze()
    took = [(checked(log), baseline(plain)) for _ in range(rounds)]
    gc.unfreeze()
    best, base = (min(one) for one in zip(*took, strict=True))
    print(
        f"verify     {size / best:>10,.0f} receipts/s  (whole check, a signature every {BATCH}, {len(private)} values)"
    )
    print(f"re-encode  {size / base:>10,.0f} receipts/s  (json, hmac.new, hashlib)")
    print(f"ratio      {base / best:>10.2f}")


def made(size: int, values: Mapping[str, str | None] = PRIVATE) -> Iterator[StoredReceipt]:
    """A log of refusals by a hundred owners, as a service writes them, made as it is read."""
    numbers = count()
    head, owners = START, {f"key:{n}": OwnerHead() for n in range(100)}
    for number in range(size):
        owner = f"key:{number % 100}"
        private = {**values, "actor": owner, "request": f"{number:064x}"} if values else {}
        draft = Draft(kind="refusal", owner=owner, body=body_of(f"{number:032x}"), private=private)
        written = append(
            draft,
            head,
            owners[owner],
            KEYS,
            number + 1,
            lambda size: hashlib.shake_128(str(next(numbers)).encode()).digest(size),
        )
        receipt, head = written.receipt(KEYS), Head(head.log, written.seq, written.leaf, written.ts)
        owners[owner] = OwnerHead(written.oseq, written.leaf)
        columns: dict[str, str | int] = {"kind": "refusal", "decision": f"{number:032x}", "ts": head.ts}
        columns |= {"capability": "payments.pay.live", "verdict": "refuse", "code": "policy.denied"}
        yield StoredReceipt(receipt=receipt, columns=columns)


def body_of(decision: str) -> DecisionBody:
    """What is said of a refused payment."""
    return DecisionBody(
        amount="1250",
        capability="payments.pay.live",
        category="",
        charges=[],
        code="policy.denied",
        currency="USD",
        environment="production",
        exponent=2,
        flags=(),
        id=decision,
        limit="",
        mode="enforce",
        network="",
        policy="d" * 64,
        proof="key",
        route="POST /pay",
        rule="deny[1]",
        tier="token",
        verdict="refuse",
    )


def checked(log: list[StoredReceipt]) -> float:
    """Seconds of the full check."""
    notes: list[tuple[int, str]] = []
    nodes: dict[int, list[bytes]] = {}
    tree = Frontier()
    for start in range(0, len(log), BATCH):
        sealed = seal(START.log, tree, [one.receipt.leaf for one in log[start : start + BATCH]], SIGNER, None)
        tree = sealed.frontier
        notes.append((tree.size, sealed.note))
        for node in sealed.nodes:
            nodes.setdefault(node.level, []).append(node.hash)
    seals = Seals([SigningKey(0, SIGNER.public)], iter(notes), tree, lambda level, at, n: nodes[level][at : at + n])
    last = log[-1].receipt
    head = Head(START.log, len(log), last.leaf, len(log))
    began = time.process_time()
    report = verify(log, head, KEYS, None, seals=seals)
    took = time.process_time() - began
    assert (report.status, report.signed) == ("unanchored", len(log))
    return took


def baseline(log: list[Receipt]) -> float:
    """Seconds of a check as it is first written: parse, encode again and authenticate every body, hash every value.

    It sees no deletion, no exchange and no signature.
    """
    began = time.process_time()
    for one in log:
        told = json.loads(one.body)
        again = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        leaf = hashlib.sha256(b"\0" + again).digest()
        good = hmac.compare_digest(hmac.new(MAC_KEY, leaf, hashlib.sha256).digest(), one.mac)
        for name, (salt, value) in one.disclosed.items():
            label = name.encode()
            said = len(label).to_bytes(2, "big") + label + (b"\0" if value is None else b"\1" + value.encode())
            good = good and hashlib.sha256(b"afm/c1" + salt + said).hexdigest() == told["c"][name]
        if not good:
            msg = f"the baseline finds receipt {one.seq} to be another"
            raise ReceiptError(msg)
    return time.process_time() - began


def peak(size: int) -> int:
    """Bytes that a check of a log which nobody holds takes at most."""
    leaves = [one.receipt.leaf for one in made(size)]
    tree, _ = extend(Frontier(), leaves)
    head = Head(START.log, size, leaves[-1], size)
    del leaves, tree
    tracemalloc.start()
    verify(made(size), head, KEYS, None)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found
