"""A stranger verifies bundles with one file and a public key, and is never deceived and never crashes it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from afmiddleware.errors import ReceiptError
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.receipts import standalone
from afmiddleware.receipts.bundle import read_export, to_json
from afmiddleware.receipts.checkpoint import Checkpoint, KeySigner, rotation_text, sign, verifier_key
from afmiddleware.receipts.merkle import Frontier, extend
from afmiddleware.receipts.notary import SigningKey
from afmiddleware.receipts.verify import StoredReceipt
from tests.unit.receipts.conftest import KEYS, draft, honest, write

SIGNER = KeySigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = KeySigner(Ed25519PrivateKey.from_private_bytes(bytes(32)))
LOG, HEAD = write(
    [
        draft("intent", "d1"),
        draft("intent", "d2", "key:b"),
        draft("outcome", "d1"),
        draft("refusal", "d3"),
        draft("outcome", "d2", "key:b"),
        draft("intent", "d4", "key:b"),
    ]
)


class Kept:
    """A ledger of the receipts above, as an export reads one."""

    def __init__(self, log: list[StoredReceipt] = LOG, signer: KeySigner = SIGNER) -> None:
        self.log = log
        self.signer = signer
        self.leaves = [one.receipt.leaf for one in log]

    def receipts(self, wanted: Any) -> Iterator[StoredReceipt]:
        return iter(self.log[wanted.after :])

    def nodes(self, level: int, first: int, count: int) -> list[bytes]:
        return self.leaves[first : first + count] if not level else []

    def checkpoints(self, after: int = 0) -> Iterator[tuple[int, str]]:
        for size in (2, len(self.log)):
            frontier, _ = extend(Frontier(), self.leaves[:size])
            yield size, sign(Checkpoint(HEAD.log, size, frontier.root()), self.signer)[0]

    def checkpoint(self) -> str:
        return list(self.checkpoints())[-1][1]

    def signing_keys(self) -> list[SigningKey]:
        return [SigningKey(0, self.signer.public)]


def log_of(kept: Kept) -> ReceiptLog:
    return ReceiptLog(kept, KEYS)  # type: ignore[arg-type]


def whole(kept: Kept | None = None, owner: str = "") -> bytes:
    return b"".join(log_of(kept or Kept()).export(KEYS.pseudonym(owner) if owner else ""))


def proof(*seqs: int) -> bytes:
    return to_json(log_of(Kept()).prove([LOG[seq - 1] for seq in seqs]))


def checked(data: bytes, *trusted: bytes) -> dict[str, Any]:
    return standalone.verify(io.BytesIO(data), list(trusted) or [SIGNER.public])


BUNDLES = {"whole": whole(), "owner": whole(owner="key:b"), "proof": proof(1, 3, 6)}


@pytest.mark.parametrize(("name", "count"), [("whole", 6), ("owner", 3), ("proof", 3)])
def test_an_honest_bundle_holds(name: str, count: int):
    assert checked(BUNDLES[name])["receipts"] == count
    with pytest.raises(standalone.UnknownKeyError, match="no key that you trust"):
        checked(BUNDLES[name], OTHER.public)
    # That a bundle does not hold is said whoever signed it.
    with pytest.raises(standalone.TamperedError):
        checked(BUNDLES[name].replace(b"payments", b"paymants", 1), OTHER.public)


@pytest.mark.parametrize("name", list(BUNDLES))
def test_every_flipped_byte_is_refused_or_changes_nothing(name: str):
    data = BUNDLES[name]
    bodies = [one["body"] for one in receipts(data)]
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            checked(changed)
        except (standalone.TamperedError, standalone.UnreadableError):
            continue
        # What is said of the operator's own (its HMAC) is nobody else's to check.
        assert {one["body"] for one in receipts(changed)} <= set(bodies)


def receipts(data: bytes) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in data.splitlines()]
    return lines[0]["receipts"] if "receipts" in lines[0] else [line for line in lines if "body" in line]


def test_a_bundle_that_is_cut_anywhere_is_refused():
    for data in BUNDLES.values():
        for end in range(0, len(data) - 1, 7):
            with pytest.raises((standalone.TamperedError, standalone.UnreadableError)):
                checked(data[:end])


def lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


@pytest.mark.parametrize("name", ["whole", "owner"])
def test_a_missing_a_doubled_and_a_moved_receipt_are_named(name: str):
    given_ = lines(BUNDLES[name])
    places = [place for place, line in enumerate(given_) if b'"body"' in line]
    for place in places:
        less = [*given_[:place], *given_[place + 1 :]]
        less[-1] = json.dumps(json.loads(given_[-1]) | {"end": len(places) - 1}).encode() + b"\n"
        more = [*given_[: place + 1], given_[place], *given_[place + 1 :]]
        more[-1] = json.dumps(json.loads(given_[-1]) | {"end": len(places) + 1}).encode() + b"\n"
        for bad in (less, more):
            if name == "owner" and bad is less and place == places[-1]:
                continue  # the last of one owner: only a later export or its own Agent-Receipt tells
            with pytest.raises(standalone.TamperedError):
                checked(b"".join(bad))
    first, second = places[:2]
    given_[first], given_[second] = given_[second], given_[first]
    with pytest.raises(standalone.TamperedError):
        checked(b"".join(given_))


def test_a_value_that_was_taken_out_of_a_whole_log_is_named():
    told = [json.loads(line) for line in lines(BUNDLES["whole"])]
    del told[1]["disclosed"]["recipient"]
    with pytest.raises(standalone.TamperedError, match="receipt 1: the value of 'recipient' was removed"):
        checked(b"".join(json.dumps(one).encode() + b"\n" for one in told))


def test_a_made_up_older_key_vouches_for_nothing():
    """Whoever appoints the trusted key may be anybody: what such a key signed is not taken."""
    forged = Kept(honest()[0][:3], OTHER)
    told = [json.loads(line) for line in lines(whole(forged))]
    proof_ = OTHER._key.sign(rotation_text(HEAD.log, OTHER.public, SIGNER.public))
    told[0]["keys"].append({"key": verifier_key(HEAD.log, SIGNER.public), "after": 1000, "proof": proof_.hex()})
    data = b"".join(json.dumps(one).encode() + b"\n" for one in told)
    with pytest.raises(standalone.TamperedError):
        checked(data)
    assert checked(data, OTHER.public)["receipts"] == 3


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(BUNDLES)), st.data())
def test_whatever_is_done_to_a_bundle_it_is_refused_or_says_the_same(name: str, data: st.DataObject):
    """Structure-aware: values of the JSON are replaced, moved and removed."""
    told = [json.loads(line) for line in lines(BUNDLES[name])]
    bodies = [one["body"] for one in receipts(BUNDLES[name])]
    for _ in range(data.draw(st.integers(1, 3))):
        where: Any = told
        for _ in range(4):
            keys = list(where) if isinstance(where, dict) else list(range(len(where)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(where[key], dict | list) and data.draw(st.booleans()):
                where = where[key]
                continue
            what = data.draw(st.sampled_from(["drop", "value", "copy"]))
            if what == "drop":
                del where[key]
            elif what == "copy":
                where[key] = where[data.draw(st.sampled_from(keys))]
            else:
                scalar = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("\ud800")
                where[key] = data.draw(
                    st.recursive(
                        scalar,
                        lambda inner: (
                            st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
                        ),
                        max_leaves=4,
                    )
                )
            break
    changed = b"".join(json.dumps(one).encode() + b"\n" for one in told)
    try:
        checked(changed)
    except (standalone.TamperedError, standalone.UnreadableError):
        return
    # A part of a proof is a proof; nothing is taken that was never recorded.
    assert {one["body"] for one in receipts(changed)} <= set(bodies)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 5000), st.integers(0, 300))
def test_noise_never_crashes_the_verifier_or_the_importer(noise: bytes, at: int, width: int):
    for data in BUNDLES.values():
        changed = data[:at] + noise + data[at + width :]
        with suppress(standalone.TamperedError, standalone.UnreadableError):
            checked(changed)
        with suppress(ReceiptError):
            list(read_export(lines(changed)))


def test_it_runs_alone(tmp_path: Path):
    """Only this file and a key, in a Python that knows no afmiddleware and has no network."""
    copied = tmp_path / "verify.py"
    copied.write_bytes(Path(standalone.__file__).read_bytes())
    (tmp_path / "key").write_text(verifier_key(HEAD.log, SIGNER.public))
    (tmp_path / "bundle").write_bytes(BUNDLES["whole"])
    closed = "import sys, socket, runpy; socket.socket = None; sys.modules['afmiddleware'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [
        sys.executable,
        "-I",
        "-c",
        closed,
        str(copied),
        str(tmp_path / "bundle"),
        "--public-key",
        str(tmp_path / "key"),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "whole: 6 receipts of log afm-test, signed at size 6\n"), ran.stderr
    (tmp_path / "key").write_text(verifier_key(HEAD.log, OTHER.public))
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (5, "unauthenticated: the log is signed by no key that you trust\n")
    (tmp_path / "key").write_text(verifier_key(HEAD.log, SIGNER.public))
    (tmp_path / "bundle").write_bytes(BUNDLES["whole"].replace(b"payments", b"paymants", 1))
    assert subprocess.run(command, capture_output=True, check=False).returncode == 3
    (tmp_path / "bundle").write_bytes(b"{}")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 5
