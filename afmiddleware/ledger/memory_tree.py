"""The tree of a log in memory: it grows when somebody asks, and is signed when somebody asks."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from afmiddleware.receipts.checkpoint import KeySigner
from afmiddleware.receipts.merkle import TILE, Frontier, extend
from afmiddleware.receipts.notary import seal

if TYPE_CHECKING:
    from afmiddleware.receipts.checkpoint import Signer

_WAITING: Final = 4096
_ROW: Final = 1 << TILE


class MemoryTree:
    """The leaves of the receipts that are kept and some before them, and every stored node.

    `add` only remembers new ones, but once in some thousand times. Without a `signer` the key is
    one of this process.
    """

    def __init__(self, kept: int, signer: Signer | None) -> None:
        self._signer = signer or KeySigner(Ed25519PrivateKey.generate())
        self.public = self._signer.public
        self._waiting: list[bytes] = []
        self._frontier = Frontier()
        # A proof needs the leaves of a whole row of 256.
        self._kept: deque[bytes] = deque(maxlen=kept + _ROW)
        self._nodes: dict[int, list[bytes]] = {}
        self._note = (-1, "")

    def add(self, leaves: list[bytes]) -> None:
        """Take the leaves of a commit."""
        self._waiting += leaves
        if len(self._waiting) >= _WAITING:
            self.grown()

    def grown(self) -> Frontier:
        """The tree with every leaf in it."""
        if self._waiting:
            self._frontier, nodes = extend(self._frontier, self._waiting)
            for node in nodes:
                self._nodes.setdefault(node.level, []).append(node.hash)
            self._kept += self._waiting
            self._waiting.clear()
        return self._frontier

    def sign(self, log: str) -> str:
        """The signed checkpoint of the whole log, empty without receipts; signed once for one size."""
        size = self.grown().size
        if size and self._note[0] != size:
            self._note = (size, seal(log, self._frontier, (), self._signer, None).note)
        return self._note[1]

    def nodes(self, level: int, first: int, count: int) -> list[bytes]:
        """What is kept of a level. Leaves that are not kept any more are missing, and with them what follows."""
        size = self.grown().size
        if level:
            return self._nodes.get(level, [])[first : first + count]
        gone = size - len(self._kept)
        if first < gone:
            return []
        return [self._kept[at] for at in range(first - gone, min(first + count, size) - gone)]
