"""The tree equals RFC 6962's for every small size, and no damaged proof is taken."""

from __future__ import annotations

from hashlib import sha256

import pytest

from afmiddleware.errors import ReceiptError
from afmiddleware.receipts.chain import leaf_hash
from afmiddleware.receipts.merkle import (
    EMPTY_ROOT,
    Frontier,
    Node,
    Tiles,
    consistency,
    consistent,
    extend,
    inclusion,
    root_of,
)

# The inputs and roots that the tests of Certificate Transparency implementations share.
CT_INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(str(n).encode()) for n in range(700)]
MOST = 130


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def tiles(leaves: list[bytes]) -> Tiles:
    """What a ledger stores of these leaves."""
    _, nodes = extend(Frontier(), leaves)
    levels: dict[int, list[bytes]] = {0: leaves}
    for node in nodes:
        levels.setdefault(node.level, []).append(node.hash)
    return Tiles(lambda level, first, count: levels.get(level, [])[first : first + count])


def test_ct_vectors():
    frontier = Frontier()
    for text, root in zip(CT_INPUTS, CT_ROOTS, strict=True):
        frontier, _ = extend(frontier, [leaf_hash(bytes.fromhex(text))])
        assert frontier.root().hex() == root


def test_ct_proofs():
    leaves = [leaf_hash(bytes.fromhex(text)) for text in CT_INPUTS]
    node = tiles(leaves).node
    assert [one.hex() for one in inclusion(0, 8, node)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert [one.hex() for one in consistency(6, 8, node)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


def test_every_size_has_the_root_of_the_definition():
    assert Frontier().root() == EMPTY_ROOT == mth([])
    frontier = Frontier()
    for size in range(1, len(LEAVES) + 1):
        frontier, _ = extend(frontier, [LEAVES[size - 1]])
        if size <= MOST or size % 97 == 0 or size in (255, 256, 257, 511, 512, 513):
            assert frontier.root() == mth(LEAVES[:size])
            assert Frontier.unpack(size, frontier.pack()) == frontier


def test_batches_and_single_appends_make_one_tree():
    whole, nodes = extend(Frontier(), LEAVES)
    part, first = extend(Frontier(), LEAVES[:301])
    part, second = extend(part, LEAVES[301:])
    assert (whole, nodes) == (part, first + second)
    assert nodes == [Node(8, 0, mth(LEAVES[:256])), Node(8, 1, mth(LEAVES[256:512]))]


def test_every_inclusion_proof_up_to_130_and_every_damaged_one():
    for size in range(1, MOST + 1):
        node, root = tiles(LEAVES[:size]).node, mth(LEAVES[:size])
        for index in range(size):
            path, leaf = inclusion(index, size, node), LEAVES[index]
            assert root_of(leaf, index, size, path) == root
            for bad in damaged(path):
                assert root_of(leaf, index, size, bad) != root
            assert root_of(LEAVES[-1], index, size, path) != root
            assert root_of(leaf, index + 1, size, path) != root or index + 1 == size == 1
            assert root_of(leaf, size, size, path) is None


def test_every_consistency_proof_up_to_130_and_every_damaged_one():
    for new in range(1, MOST + 1, 3):
        node, root = tiles(LEAVES[:new]).node, mth(LEAVES[:new])
        for old in range(1, new + 1):
            path, before = consistency(old, new, node), mth(LEAVES[:old])
            assert consistent(old, before, new, root, path)
            for bad in damaged(path):
                assert not consistent(old, before, new, root, bad)
            if old != new:
                assert not consistent(old, root, new, before, path)
                assert not consistent(old, before, new, mth(LEAVES[: new + 1]), path)
                assert not consistent(old, mth(LEAVES[1 : old + 1]), new, root, path)
            assert not consistent(new + 1, before, new, root, path)
            assert not consistent(0, before, new, root, path)


def damaged(path: list[bytes]) -> list[list[bytes]]:
    bad = [[*path, LEAVES[0]], [LEAVES[0], *path], [*path, b""], [*path, path[-1]] if path else [b"\0"]]
    if path:
        bad += [path[1:], path[:-1], [path[0][:-1], *path[1:]], [path[0] + b"\0", *path[1:]]]
        bad += [[*path[:at], bytes([path[at][0] ^ 1]) + path[at][1:], *path[at + 1 :]] for at in range(len(path))]
        bad += [[path[1], path[0], *path[2:]]] if len(path) > 1 else []
    return bad


def test_proofs_across_stored_levels():
    node, root = tiles(LEAVES).node, mth(LEAVES)
    for index in (0, 1, 255, 256, 300, 511, 512, 699):
        assert root_of(LEAVES[index], index, 700, inclusion(index, 700, node)) == root
    for old in (1, 255, 256, 257, 512, 600, 699):
        assert consistent(old, mth(LEAVES[:old]), 700, root, consistency(old, 700, node))


def test_a_proof_reads_few_rows_of_a_long_log():
    """Of 20 000 000 leaves that nobody has to hold: what is asked for is counted."""
    asked: list[tuple[int, int]] = []

    def read(level: int, first: int, count: int) -> list[bytes]:
        asked.append((level, first))
        return [bytes(32)] * count

    inclusion(12_345_678, 20_000_000, Tiles(read).node)
    assert len(asked) <= 8


def test_what_is_no_tree_is_refused():
    node = tiles(LEAVES[:4]).node
    for call in (
        lambda: inclusion(4, 4, node),
        lambda: inclusion(-1, 4, node),
        lambda: consistency(5, 4, node),
        lambda: consistency(0, 4, node),
        lambda: inclusion(0, 9, node),
        lambda: Frontier.unpack(3, bytes(32)),
        lambda: Frontier.unpack(-1, b""),
    ):
        with pytest.raises(ReceiptError):
            call()
