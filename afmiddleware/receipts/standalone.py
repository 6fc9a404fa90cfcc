"""Verify receipts with a public key and nothing else: `python standalone.py BUNDLE --public-key KEY`.

One file, the standard library and `cryptography`; copy it wherever it is needed. It imports nothing of afmiddleware: it
is a second opinion, by docs/receipt-format.md. Exit 0: all holds. 3: tampered. 5: unreadable, or by nobody known.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import IO, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

PROOF, EXPORT = "afmiddleware-receipt-proof/1", "afmiddleware-receipts/1"
ZERO = "0" * 64
MAX_INTEGER, MAX_LINE = 2**53 - 1, 1 << 20
KEY = re.compile(r"[a-z0-9_]+")
DEPTH, HASH, LINES = 10, 32, 4


class UnreadableError(Exception):
    """The bundle is not one: it is of another format, damaged or cut off."""


class UnknownKeyError(UnreadableError):
    """All of the bundle holds, and no trusted key signed it: nothing tells who wrote it."""


class TamperedError(Exception):
    """The bundle can be read, and something in it does not hold."""


def tampered_if(bad: object, what: str) -> None:
    """Raise for what does not hold."""
    if bad:
        raise TamperedError(what)


def unreadable_if(bad: object, what: str) -> None:
    """Raise for what cannot be read."""
    if bad:
        raise UnreadableError(what)


def verify(lines: IO[bytes], trusted: list[bytes]) -> dict[str, Any]:
    """Verify a bundle against trusted public keys (32 bytes each); what was found. Raises the errors above."""
    told = load(lines.readline(MAX_LINE))
    if told.get("format") == PROOF:
        unreadable_if(lines.read(1), "something stands after the proof")
        return verify_proof(told, trusted)
    unreadable_if(told.get("format") != EXPORT, "neither a proof nor an export of receipts")
    return verify_export(told, lines, trusted)


def verify_proof(told: dict[str, Any], trusted: list[bytes]) -> dict[str, Any]:
    """Check a proof: every receipt leads to the root of the one signed checkpoint."""
    unreadable_if(set(told) != {"format", "log", "checkpoint", "keys", "receipts"}, "the proof has other members")
    log = text(told, "log")
    keys = trusted_keys(key_chain(log, told["keys"]), trusted)
    size, root = checkpoint(text(told, "checkpoint"), log, keys)
    receipts = told["receipts"]
    unreadable_if(not isinstance(receipts, list) or not receipts, "the proof has no receipts")
    for one in receipts:
        leaf, body = receipt(one, log)
        in_tree(one, leaf, body["seq"], size, root)
    known_signer(keys, trusted)
    return {"log": log, "size": size, "receipts": len(receipts)}


def verify_export(header: dict[str, Any], lines: IO[bytes], trusted: list[bytes]) -> dict[str, Any]:
    """Check an export: of the whole log that nothing is missing, of one owner that none of its receipts is."""
    unreadable_if(set(header) != {"format", "log", "size", "owner", "checkpoint", "keys"}, "the header has others")
    log, owner = text(header, "log"), text(header, "owner")
    keys = key_chain(log, header["keys"])
    size, root = checkpoint(text(header, "checkpoint"), log, trusted_keys(keys, trusted))
    tampered_if(header["size"] != size, "the header counts other receipts than its checkpoint")
    state, ended = State(), False
    while line := lines.readline(MAX_LINE):
        told = load(line)
        unreadable_if(ended, "something stands after the end")
        if set(told) == {"checkpoint"}:
            covered, its_root = checkpoint(text(told, "checkpoint"), log, keys)
            if owner or covered != state.size or its_root != state.root():
                raise TamperedError(f"the checkpoint of {covered} receipts is not that of the receipts before it")
            state.notes += 1
        elif set(told) == {"end", "checkpoints"}:
            ended, counted = True, (told["end"], told["checkpoints"])
            unreadable_if(counted != (state.count, state.notes), "the end counts other lines than are there")
        else:
            leaf, body = receipt(told, log)
            state.take(told, leaf, body, owner)
            if owner:
                in_tree(told, leaf, body["seq"], size, root)
    unreadable_if(not ended, "the export is cut off")
    other = not owner and (state.size != size or state.root() != root)
    tampered_if(other, f"{state.size} receipts are there, and not those {size} that were signed")
    if state.missing:
        seq, names = min(state.missing.items())
        raise TamperedError(f"receipt {seq}: the value of {min(names)!a} was removed without a record of it")
    known_signer(keys, trusted)
    return {"log": log, "size": size, "receipts": state.count, "owner": owner}


class State:
    """What is carried from receipt to receipt: the tree's frontier, the chain, and each owner's."""

    def __init__(self) -> None:
        self.frontier: list[tuple[int, bytes]] = []
        self.size = self.count = self.notes = self.ts = 0
        self.leaf = ZERO
        self.owners: dict[str, tuple[int, str]] = {}
        self.open: set[str] = set()
        self.missing: dict[int, set[str]] = {}

    def take(self, told: dict[str, Any], leaf: bytes, body: dict[str, Any], owner: str) -> None:
        """Check a receipt against those before it."""
        seq = body["seq"]
        if owner:
            tampered_if(body["owner"] != owner, f"receipt {seq} belongs to somebody else")
        elif seq != self.size + 1 or body["prev"] != self.leaf or body["ts"] < self.ts:
            raise TamperedError(f"receipt {self.size + 1} is missing, or {seq} does not follow it")
        oseq, before = self.owners.get(body["owner"], (0, ZERO))
        if body["oseq"] != oseq + 1 or body["oprev"] != before:
            raise TamperedError(f"receipt {seq}: its owner's receipt {oseq + 1} is missing before it")
        self.owners[body["owner"]] = (oseq + 1, leaf.hex())
        if body["kind"] in ("intent", "carried"):
            self.open.add(leaf.hex())
        elif body["kind"] == "outcome":
            tampered_if(body.get("ref") not in self.open, f"receipt {seq} ends no intent that is open")
            self.open.remove(body["ref"])
        missing = set(body.get("c", {})) - set(told.get("disclosed", {})) - set(body.get("withheld", []))
        if missing and not owner:
            self.missing[seq] = missing
        if body["kind"] == "redaction":
            for one in body["seqs"]:
                if left := self.missing.pop(one, set()) - set(body["fields"]):
                    self.missing[one] = left
        self.count, self.size, self.leaf, self.ts = self.count + 1, seq, leaf.hex(), body["ts"]
        self.grow(leaf)

    def grow(self, leaf: bytes) -> None:
        """Append a leaf to the tree (RFC 6962)."""
        level, node = 0, leaf
        while self.frontier and self.frontier[-1][0] == level:
            node = node_hash(self.frontier.pop()[1], node)
            level += 1
        self.frontier.append((level, node))

    def root(self) -> bytes:
        """The Merkle tree hash of the leaves so far."""
        node = self.frontier[-1][1] if self.frontier else hashlib.sha256(b"").digest()
        for _, left in reversed(self.frontier[:-1]):
            node = node_hash(left, node)
        return node


def receipt(told: Any, log: str) -> tuple[bytes, dict[str, Any]]:
    """Check a receipt by itself: canonical bytes, its log, its number, its disclosed values. Its leaf and its body."""
    if not isinstance(told, dict) or not {"body", "seq"} <= set(told) <= {"body", "seq", "disclosed", "path", "mac"}:
        raise UnreadableError("a receipt has other members than it may have")
    body = load_body(told)
    seq = body.get("seq")
    kinds = {"log": str, "seq": int, "ts": int, "kind": str, "prev": str, "owner": str, "oseq": int, "oprev": str}
    for name, kind in kinds.items():
        tampered_if(type(body.get(name)) is not kind, f"receipt {seq!r:.20}: {name} is missing or of another type")
    if body.get("v") != 1 or body["log"] != log or body["seq"] != told["seq"] or body["seq"] < 1:
        raise TamperedError(f"receipt {told['seq']!r:.20} is of another log, version or number than it says")
    listed = [(body.get("fields"), str), (body.get("seqs"), int)] if body["kind"] == "redaction" else []
    listed.append((body.get("withheld", []), str))
    if not all(isinstance(all_, list) and all(type(one) is kind for one in all_) for all_, kind in listed):
        raise TamperedError(f"receipt {seq}: what is redacted or withheld cannot be read")
    tampered_if(body["kind"] == "outcome" and type(body.get("ref")) is not str, f"receipt {seq}: an outcome of nothing")
    commitments, disclosed = body.get("c", {}), told.get("disclosed", {})
    unreadable_if({type(commitments), type(disclosed)} != {dict}, f"receipt {seq}: its values cannot be read")
    for name, one in disclosed.items():
        if not isinstance(one, dict) or set(one) != {"salt", "value"}:
            raise UnreadableError(f"receipt {seq}: a value cannot be read")
        same = name in commitments and commitments[name] == commitment(name, one["salt"], one["value"])
        tampered_if(not same, f"receipt {seq}: the value of {name[:40]!a} is not the one that was recorded")
    return hashlib.sha256(b"\0" + told["body"].encode()).digest(), body


def load_body(told: dict[str, Any]) -> dict[str, Any]:
    """The body of a receipt, when its bytes are the canonical ones of what they say (RFC 8785)."""
    data = told["body"]
    try:
        body = load(data.encode())
    except (AttributeError, UnicodeEncodeError) as error:
        raise UnreadableError("the body of a receipt is no text") from error
    subset(body, DEPTH)
    canonical = json.dumps(body, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
    tampered_if(canonical != data, "the body of a receipt is not canonical")
    return body


def subset(value: Any, depth: int) -> None:
    """Only what a body may hold: texts, booleans, integers within 2^53, arrays and objects with plain names."""
    tampered_if(depth < 0, "the body of a receipt is too deep")
    if isinstance(value, dict):
        for name, one in value.items():
            tampered_if(not KEY.fullmatch(name), "the body of a receipt has a member that it may not have")
            subset(one, depth - 1)
    elif isinstance(value, list):
        for one in value:
            subset(one, depth - 1)
    else:
        good = isinstance(value, str | bool) or (type(value) is int and abs(value) <= MAX_INTEGER)
        tampered_if(not good, "the body of a receipt has a value that it may not have")


def commitment(name: str, salt: Any, value: Any) -> str:
    """SHA-256("afm/c1" || salt || u16 length of name || name || 0x01 || value); 0x00 for an absent value."""
    if not isinstance(salt, str) or not re.fullmatch("[0-9a-f]{32}", salt) or not isinstance(value, str | None):
        return ""
    label = name.encode("utf-8", "surrogatepass")
    said = b"\0" if value is None else b"\1" + value.encode("utf-8", "surrogatepass")
    named = len(label).to_bytes(4, "big")[2:] + label
    return hashlib.sha256(b"afm/c1" + bytes.fromhex(salt) + named + said).hexdigest()


def in_tree(told: dict[str, Any], leaf: bytes, seq: int, size: int, root: bytes) -> None:
    """Check a receipt's path to the root (RFC 9162, section 2.1.3.2)."""
    path = told.get("path", [])
    unreadable_if(not isinstance(path, list), f"receipt {seq}: its path cannot be read")
    node, at, last = leaf, seq - 1, size - 1
    good = at <= last
    for step in path:
        hashed = unbase64(step)
        good = good and len(hashed) == HASH and last > 0
        if at & 1 or at == last:
            node = node_hash(hashed, node)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = node_hash(node, hashed)
        at, last = at >> 1, last >> 1
    tampered_if(not good or last or node != root, f"receipt {seq} is not in the signed tree")


def node_hash(left: bytes, right: bytes) -> bytes:
    """A node of the tree (RFC 6962)."""
    return hashlib.sha256(b"\1" + left + right).digest()


def key_chain(log: str, told: Any) -> list[tuple[int, bytes]]:
    """The log's keys, each with the size after which it signs and appointed by the one before it."""
    found: list[tuple[int, bytes]] = []
    unreadable_if(not isinstance(told, list), "the keys cannot be read")
    for one in told:
        if not isinstance(one, dict) or set(one) != {"key", "after", "proof"} or type(one["after"]) is not int:
            raise UnreadableError("a key cannot be read")
        public = read_key(text(one, "key"))
        if found:
            old = found[-1][1]
            said = f"afmiddleware/rotation/1\n{log}\n{old.hex()}\n{public.hex()}\n".encode()
            if one["after"] < found[-1][0] or not signed(old, text(one, "proof"), said):
                raise TamperedError("a key of the log was not appointed by the one before it")
        found.append((one["after"], public))
    return found


def trusted_keys(keys: list[tuple[int, bytes]], trusted: list[bytes]) -> list[tuple[int, bytes]]:
    """The keys from the first trusted one on, or all. One before it may have been made up, and vouches for nothing."""
    known = [place for place, (_, public) in enumerate(keys) if public in trusted]
    return keys[known[0] :] if known else keys


def known_signer(keys: list[tuple[int, bytes]], trusted: list[bytes]) -> None:
    """Raise `UnknownKeyError` where none of the log's keys is trusted. Asked last: what does not hold is said first."""
    if not any(public in trusted for _, public in keys):
        raise UnknownKeyError("the log is signed by no key that you trust")


def checkpoint(note: str, log: str, keys: list[tuple[int, bytes]]) -> tuple[int, bytes]:
    """The size and the root of a signed checkpoint (C2SP tlog-checkpoint in a signed-note)."""
    head, split, lines = note.partition("\n\n")
    parts = (head + "\n").split("\n")
    if not split or len(parts) < LINES or not lines.endswith("\n") or not re.fullmatch("0|[1-9][0-9]{0,18}", parts[1]):
        raise UnreadableError("a checkpoint cannot be read")
    size, root = int(parts[1]), unbase64(parts[2])
    tampered_if(parts[0] != log or len(root) != HASH, "a checkpoint is of another log")
    public = [one for after, one in keys if after < size][-1:]
    tampered_if(not public, f"no key signs a log of {size} receipts")
    kid = hashlib.sha256(f"{log}\n".encode() + b"\x01" + public[0]).digest()[:4]
    for line in lines[:-1].split("\n"):
        dash, _, rest = line.partition(" ")
        name, _, blob = rest.partition(" ")
        unreadable_if(dash != "\u2014", "a line of a checkpoint's signatures cannot be read")
        data = unbase64(blob) if name == log else b""
        if data[:4] == kid and signed(public[0], data[4:], (head + "\n").encode()):
            return size, root
    raise TamperedError(f"the checkpoint of {size} receipts is not signed by the log's key")


def signed(public: bytes, signature: bytes | str, data: bytes) -> bool:
    """Whether an Ed25519 signature (bytes, or hexadecimal digits) holds."""
    try:
        signature = bytes.fromhex(signature) if isinstance(signature, str) else signature
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def keys_in(file: str) -> list[str]:
    """The public keys in a file: those of a JWKS, a PEM or a JWK, or one in each line."""
    several = load(file.encode()).get("keys") if file.lstrip().startswith("{") else None
    if isinstance(several, list):
        return [json.dumps(one) for one in several]
    return [file] if file.lstrip()[:1] in "-{" else file.split()


def read_key(told: str) -> bytes:
    """A public key: PEM, a JWK, C2SP `name+id+key`, or 64 hexadecimal digits."""
    told = told.strip()
    try:
        if "-----BEGIN" in told:
            key = load_pem_public_key(told.encode())
            public = key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else b""
        elif told.startswith("{"):
            one = json.loads(told)
            public = base64.urlsafe_b64decode(one["x"] + "=") if one["crv"] == "Ed25519" else b""
        elif told.count("+") > 1:
            name, kid, blob = told.split("+", 2)
            data = unbase64(blob)
            good = hashlib.sha256(f"{name}\n".encode() + data).hexdigest()[:8] == kid and data[:1] == b"\1"
            public = data[1:] if good else b""
        else:
            public = bytes.fromhex(told)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UnreadableError("a public key cannot be read") from error
    unreadable_if(len(public) != HASH, "not an Ed25519 public key")
    return public


def load(data: bytes) -> dict[str, Any]:
    """An object of JSON in which no name stands twice."""
    try:
        told = json.loads(data, object_pairs_hook=once, parse_constant=unbase64)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("a line is not JSON") from error
    unreadable_if(not isinstance(told, dict), "a line is no object")
    return dict(told)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, when no name stands in it twice."""
    unreadable_if(len(dict(pairs)) != len(pairs), "a name stands twice")
    return dict(pairs)


def text(told: dict[str, Any], name: str) -> str:
    """A member that is a text."""
    unreadable_if(not isinstance(told.get(name), str), f"the member {name} is no text")
    return str(told[name])


def unbase64(told: Any) -> bytes:
    """Base64 as it is written, with its padding."""
    try:
        data = base64.b64decode(told, validate=True)
        same = base64.b64encode(data).decode() == told
    except (ValueError, TypeError) as error:
        raise UnreadableError("not base64") from error
    unreadable_if(not same, "not base64 as it is written")
    return data


def main(arguments: list[str] | None = None) -> int:
    """Verify a file; the exit code."""
    parser = argparse.ArgumentParser(description="Verify a proof or an export of receipts.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--public-key", type=Path, action="append", required=True, help="a file; may be given again")
    chosen = parser.parse_args(arguments)
    try:
        trusted = [read_key(one) for place in chosen.public_key for one in keys_in(place.read_text(encoding="utf-8"))]
        with chosen.bundle.open("rb") as lines:
            found = verify(lines, trusted)
    except TamperedError as error:
        sys.stdout.write(f"tampered: {error}\n")
        return 3
    except (UnreadableError, OSError, UnicodeDecodeError) as error:
        sys.stdout.write(f"{'unauthenticated' if isinstance(error, UnknownKeyError) else 'unreadable'}: {error}\n")
        return 5
    many = "receipt" if found["receipts"] == 1 else "receipts"
    sys.stdout.write(f"whole: {found['receipts']} {many} of log {found['log']}, signed at size {found['size']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
