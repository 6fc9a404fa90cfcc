"""Checking a log of receipts against what a plain re-encoding with an HMAC would cost, and the memory it takes."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import tracemalloc
from itertools import count
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from afmiddleware.model.receipt import Draft, Receipt
from afmiddleware.receipts.chain import NO_LEAF, Head, OwnerHead, append
from afmiddleware.receipts.checkpoint import KeySigner
from afmiddleware.receipts.keys import ReceiptKeys
from afmiddleware.receipts.merkle import Frontier, extend
from afmiddleware.receipts.notary import SigningKey, seal
from afmiddleware.receipts.seals import Seals
from afmiddleware.receipts.verify import StoredReceipt, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afmiddleware.model.receipt import Value

KEYS = ReceiptKeys.derive(bytes(range(32)))
SIGNER = KeySigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
BATCH = 64
START = Head("afm-bench", 0, NO_LEAF, 0)


def receipts(size: int, rounds: int) -> None:
    """Print receipts per second of the full check and of the baseline, and the peak of memory at two sizes."""
    log = list(made(size))
    best = min(checked(log) for _ in range(rounds))
    plain = min(baseline([one.receipt for one in log]) for _ in range(rounds))
    print(f"verify     {size / best:>10,.0f} receipts/s  (whole check, a signature every {BATCH})")
    print(f"re-encode  {size / plain:>10,.0f} receipts/s  (json, hmac.new)")
    print(f"ratio      {plain / best:>10.2f}")
    small, large = peak(size // 10), peak(size)
    print(f"memory     {small / 1024:,.0f} KiB at {size // 10:,}, {large / 1024:,.0f} KiB at {size:,} receipts")


def made(size: int) -> Iterator[StoredReceipt]:
    """A log of refusals by a hundred owners, made as it is read."""
    numbers = count()
    head, owners = START, {f"key:{n}": OwnerHead() for n in range(100)}
    for number in range(size):
        owner = f"key:{number % 100}"
        body = {"id": f"{number:032x}", "capability": "payments.pay.live", "verdict": "refuse", "code": "policy.denied"}
        more: dict[str, Value] = {
            "route": "POST /pay",
            "amount": "1250",
            "currency": "USD",
            "exponent": 2,
            "tier": "token",
        }
        said: dict[str, Value] = {**body, **more}
        draft = Draft(kind="refusal", owner=owner, body=said, private={"payload": None, "recipient": "acme"})
        made = append(
            draft,
            head,
            owners[owner],
            KEYS,
            number + 1,
            lambda size: hashlib.shake_128(str(next(numbers)).encode()).digest(size),
        )
        receipt, head = made.receipt(KEYS), Head(head.log, made.seq, made.leaf, made.ts)
        owners[owner] = OwnerHead(made.oseq, made.leaf)
        columns: dict[str, str | int] = {"kind": "refusal", "decision": body["id"], "ts": head.ts}
        columns |= {name: body[name] for name in ("capability", "verdict", "code")}
        yield StoredReceipt(receipt=receipt, columns=columns)


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
    began = time.perf_counter()
    report = verify(log, head, KEYS, None, seals=seals)
    took = time.perf_counter() - began
    assert (report.status, report.signed) == ("unanchored", len(log))
    return took


def baseline(log: list[Receipt]) -> float:
    """Seconds of parsing, encoding and authenticating every body in the plainest way."""
    began = time.perf_counter()
    for one in log:
        again = json.dumps(json.loads(one.body), sort_keys=True, separators=(",", ":")).encode()
        hmac.new(b"k" * 32, hashlib.sha256(again).hexdigest().encode(), hashlib.sha256).hexdigest()
    return time.perf_counter() - began


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
