"""The Merkle tree over the leaves of a log (RFC 6962 section 2): its root, and proofs against it.

The tree grows by its frontier, the roots of the complete subtrees from left to right, so that appending reads nothing.
Proofs read complete nodes: a ledger keeps the leaves and, of every eighth level, the nodes (`TILE`), so that a proof
takes a few short ranges however long the log is.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from afmiddleware.errors import ReceiptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

HASH: Final = 32
TILE: Final = 8
"""Of how many levels one is stored; a stored node covers 256 of the level below it."""

EMPTY_ROOT: Final = sha256(b"").digest()
_WIDTH: Final = 1 << TILE
_MAX_SIZE: Final = 1 << 62


class Node(msgspec.Struct, frozen=True, gc=False):
    """A complete node: the root over the leaves from `index << level` on, `1 << level` of them."""

    level: int
    index: int
    hash: bytes


class Frontier(msgspec.Struct, frozen=True, gc=False):
    """A tree of `size` leaves, as the roots of its complete subtrees, the largest first."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    @classmethod
    def unpack(cls, size: int, packed: bytes) -> Frontier:
        """Read what `pack` made. Raises `ReceiptError` when it is not of a tree of `size` leaves."""
        if not 0 <= size < _MAX_SIZE or len(packed) != HASH * size.bit_count():
            msg = f"the frontier of the tree is not one of {size} leaves"
            raise ReceiptError(msg)
        return cls(size, tuple(packed[at : at + HASH] for at in range(0, len(packed), HASH)))

    def pack(self) -> bytes:
        """The hashes after one another, 32 bytes each."""
        return b"".join(self.hashes)

    def root(self) -> bytes:
        """The Merkle tree hash."""
        if not self.hashes:
            return EMPTY_ROOT
        *left, node = self.hashes
        for one in reversed(left):
            node = node_hash(one, node)
        return node


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return sha256(b"\1" + left + right).digest()


def extend(frontier: Frontier, leaves: Iterable[bytes]) -> tuple[Frontier, list[Node]]:
    """Append leaves; with the nodes that became complete and are to be stored.

    It goes level by level: what became complete on one, after the node that waited there for its right sibling, is
    taken in pairs; the one that is left over waits.
    """
    row = [*leaves]
    old, size = frontier.size, frontier.size + len(row)
    waiting = [*frontier.hashes]
    kept: list[bytes] = []
    stored: list[Node] = []
    level = 0
    while row:
        if old >> level & 1:
            row.insert(0, waiting.pop())
        if len(row) & 1:
            kept.append(row.pop())
        row = [sha256(b"\1" + left + right).digest() for left, right in zip(row[::2], row[1::2], strict=True)]
        level += 1
        if level % TILE == 0:
            stored += [Node(level, index, node) for index, node in enumerate(row, old >> level)]
    return Frontier(size, (*waiting, *reversed(kept))), stored


class Tiles:
    """Complete nodes, read as rows of 256.

    `read(level, first, count)` gives the stored nodes of a level from index `first` on (level 0: the leaves). What was
    read is kept, so make one for a proof or for a few.
    """

    def __init__(self, read: Callable[[int, int, int], Sequence[bytes]]) -> None:
        self._read = read
        self._rows: dict[tuple[int, int], Sequence[bytes]] = {}

    def node(self, level: int, index: int) -> bytes:
        """One complete node. Raises `ReceiptError` when the ledger does not have what it is made of."""
        above = level % TILE
        first = index << above
        row = self._row(level - above, first // _WIDTH)
        at = first % _WIDTH
        hashes = row[at : at + (1 << above)]
        if len(hashes) != 1 << above:
            msg = f"the ledger does not keep the tree's nodes from {first} on at level {level - above}"
            raise ReceiptError(msg)
        while len(hashes) > 1:
            hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
        return hashes[0]

    def _row(self, level: int, number: int) -> Sequence[bytes]:
        row = self._rows.get((level, number))
        if row is None:
            row = self._rows[level, number] = self._read(level, number * _WIDTH, _WIDTH)
        return row


def inclusion(index: int, size: int, node: Callable[[int, int], bytes]) -> list[bytes]:
    """The path from the leaf at `index` (from 0) to the root of the first `size` leaves (RFC 6962 section 2.1.1)."""
    if not 0 <= index < size:
        msg = f"a tree of {size} leaves has none at {index}"
        raise ReceiptError(msg)
    path: list[bytes] = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            path.append(_range(middle, end, node))
            end = middle
        else:
            path.append(_range(first, middle, node))
            first = middle
    return path[::-1]


def consistency(old: int, new: int, node: Callable[[int, int], bytes]) -> list[bytes]:
    """The proof that the first `old` leaves of a tree of `new` are a tree of `old` (RFC 6962 section 2.1.2)."""
    if not 0 < old <= new:
        msg = f"a tree of {new} leaves has no beginning of {old}"
        raise ReceiptError(msg)
    path: list[bytes] = []
    first, end, whole = 0, new, True
    while end != old:
        middle = first + _split(end - first)
        if old <= middle:
            path.append(_range(middle, end, node))
            end = middle
        else:
            path.append(_range(first, middle, node))
            first, whole = middle, False
    if not whole:
        path.append(_range(first, end, node))
    return path[::-1]


def root_of(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that a path leads to, `None` when it cannot be the path of that leaf (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size or any(len(one) != HASH for one in path):
        return None
    node, at, last = leaf, index, size - 1
    for one in path:
        if not last:
            return None
        if at & 1 or at == last:
            node = node_hash(one, node)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            node = node_hash(node, one)
        at >>= 1
        last >>= 1
    return node if not last else None


def consistent(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether a path proves that the tree of `old` leaves is the beginning of that of `new` (RFC 9162, 2.1.4.2)."""
    if not 0 < old <= new or any(len(one) != HASH for one in path):
        return False
    if old == new:
        return not path and old_root == new_root
    left = list(path)
    if not old & (old - 1):
        left.insert(0, old_root)
    if not left:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at >>= 1
        last >>= 1
    one = two = left[0]
    for node in left[1:]:
        if not last:
            return False
        if at & 1 or at == last:
            one, two = node_hash(node, one), node_hash(node, two)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            two = node_hash(two, node)
        at >>= 1
        last >>= 1
    return one == old_root and two == new_root and not last


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _range(first: int, end: int, node: Callable[[int, int], bytes]) -> bytes:
    """The hash over the leaves from `first` to before `end`, which the tree's own splits have cut out."""
    count = end - first
    if not count & (count - 1):
        level = count.bit_length() - 1
        return node(level, first >> level)
    level = _split(count).bit_length() - 1
    return node_hash(node(level, first >> level), _range(first + (1 << level), end, node))
