"""The text of every policy that decided is kept in the ledger, and what it decided can be decided once more."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from afmiddleware import ActionEvent, ActionRefused, Fence, Money
from afmiddleware.cli import cli
from afmiddleware.config.load import load
from afmiddleware.errors import ReceiptError
from afmiddleware.former import former_policies
from afmiddleware.ledger.memory import KEPT_TEXTS
from afmiddleware.model.entry import InForce
from afmiddleware.model.policy_text import PolicyText
from afmiddleware.policy_file import MOST_KEPT, digest_of_text
from afmiddleware.testing import FrozenClock
from tests.ledger.conftest import sqlite

if TYPE_CHECKING:
    from pathlib import Path

    from afmiddleware.ledger.base import Ledger
    from afmiddleware.policy.replay import Replay

A, B, C = "aa" * 32, "bb" * 32, "ab" * 32
POLICY = """
version: 1
service: shop
ledger: {ledger}
reload: "off"
receipts: {{mac_key: "${{TEST_MAC}}"}}
lists: {{banned: {{file: banned.txt}}, few: [x]}}
rules: {{allow: [shop.**], deny: [{{capability: shop.**, when: {{actor.id: {{in: $banned}}}}}}, {denied}]}}
"""
MAC = "5a" * 32


def put(ledger: Ledger, policy: str, file: str, text: str | None) -> None:
    kept = PolicyText(file, text, {"banned": "x\n"}) if text is not None else None
    ledger.commit(InForce(policy, "enforce", file=file, text=kept))


def test_a_text_is_found_by_the_digest_or_its_beginning(ledger: Ledger):
    put(ledger, A, A, "a policy")
    assert ledger.policy(A) == ledger.policy("aa" * 4) == PolicyText(A, "a policy", {"banned": "x\n"})
    assert ledger.policy("cc") is None
    put(ledger, C, C, "another")
    assert ledger.policy("a") is None
    assert ledger.policy("ab") == PolicyText(C, "another", {"banned": "x\n"})


def test_it_is_kept_once_and_as_it_came_first(ledger: Ledger):
    put(ledger, A, A, "a policy")
    put(ledger, B, B, "b")
    put(ledger, A, A, "something else")
    found = ledger.policy(A)
    assert found is not None
    assert found.text == "a policy"


def test_with_bindings_in_code_it_is_found_under_both_digests(ledger: Ledger):
    put(ledger, B, A, None)
    assert ledger.policy(B) is None
    put(ledger, C, A, "a policy")
    found = ledger.policy(A)
    assert found is not None
    for policy in (B, C):
        of = ledger.policy(policy)
        assert of is not None
        assert replace(of, proof=b"") == found


def test_of_one_that_may_not_decide_it_is_kept_too(ledger: Ledger):
    """What only observes decides by it all the same."""
    ledger.commit(InForce(A, "enforce", "activate", file=A))
    put(ledger, B, B, "b")
    assert ledger.policy(B) is not None


def test_a_text_outlives_its_process(tmp_path: Path, clock: FrozenClock):
    with closing(sqlite(tmp_path, clock)) as ledger:
        put(ledger, A, A, "a policy")
    with closing(sqlite(tmp_path, clock)) as ledger:
        assert ledger.policy(A) is not None
    with closing(sqlite3.connect(tmp_path / "fence.db")) as database, database:
        database.execute("DROP TABLE policy")
    with closing(sqlite(tmp_path, clock)) as ledger:
        # As in a file of an older version that is only read.
        assert ledger.policy(A) is None


def test_a_ledger_in_memory_keeps_the_last(clock: FrozenClock):
    from afmiddleware.ledger.memory import MemoryLedger
    from afmiddleware.receipts.keys import ReceiptKeys

    ledger = MemoryLedger(ReceiptKeys.derive(bytes(32)), clock, bytes)
    digests = [f"{number:064x}" for number in range(KEPT_TEXTS + 2)]
    for one in digests:
        put(ledger, one, one, one)
    assert [ledger.policy(one) is None for one in digests] == [True] * 2 + [False] * KEPT_TEXTS


def written(folder: Path, denied: str, *banned: str) -> Path:
    file = folder / "fence.yaml"
    file.write_text(POLICY.format(ledger="sqlite:///fence.db", denied=denied), "utf-8")
    (folder / "banned.txt").write_text("".join(f"{one}\n" for one in banned), "utf-8")
    return file


def acts(fence: Fence, *actors: str) -> list[str]:
    told = []
    for actor in actors:
        event = ActionEvent.create(
            actor=actor, resource="shop", action="pay", environment="live", amount=Money.parse("1 USD")
        )
        try:
            with fence.action(event) as running:
                told.append(running.verdict.code)
        except ActionRefused as error:
            told.append(error.verdict.code)
    return told


def test_every_receipt_is_decided_once_more_by_the_policy_that_decided_it(tmp_path: Path):
    clock, env = FrozenClock(), {"TEST_MAC": MAC}
    first = Fence.from_file(written(tmp_path, "none", "local:mallory"), env=env, clock=clock)
    assert acts(first, "alice", "mallory") == ["policy.allowed", "policy.denied"]
    written(tmp_path, "none", "local:alice")
    assert first.reload()
    assert acts(first, "alice", "mallory") == ["policy.denied", "policy.allowed"]
    first.close()
    third = Fence.from_file(written(tmp_path, "shop.**"), env=env, clock=clock)
    assert acts(third, "alice") == ["policy.denied"]
    found = third.replay()
    assert (found.total, found.reproduced, found.undecidable) == (5, 5, {})
    kept = third.ledger.policy(third.plan.digest)
    assert kept is not None
    # As it was written: what a secret is, is not in it.
    assert "${TEST_MAC}" in kept.text
    assert MAC not in kept.text
    assert kept.lists == {"banned": ""}
    # By one that is named, all are decided by that.
    assert third.plan.policy is not None
    other = written(tmp_path, "none")
    other.write_text(other.read_text("utf-8").replace('receipts: {mac_key: "${TEST_MAC}"}\n', ""), "utf-8")
    assert third.replay(other).newly_allowed == 3
    third.close()


def test_what_was_not_kept_is_undecidable(tmp_path: Path):
    def policy(more: str) -> str:
        return f"version: 1\nservice: s\nledger: sqlite:///fence.db\nrules: {{allow: [shop.**{more}]}}\n"

    made = Fence(load(policy("")), base=tmp_path, clock=FrozenClock())
    assert acts(made, "alice") == ["policy.allowed"]
    # Its own policy it has.
    assert made.replay().reproduced == 1
    made.close()
    (tmp_path / "fence.yaml").write_text(policy(", a.b"), "utf-8")
    fence = Fence.from_file(tmp_path / "fence.yaml", env={}, clock=FrozenClock())
    assert acts(fence, "alice") == ["policy.allowed"]
    found = fence.replay()
    assert (found.reproduced, found.undecidable) == (1, {"the policy that decided not kept": 1})
    fence.close()


@pytest.mark.parametrize(("length", "kept"), [(MOST_KEPT // 2, True), (MOST_KEPT, False)])
def test_a_very_long_policy_is_not_kept(tmp_path: Path, length: int, kept: bool):
    file = written(tmp_path, "none", "x" * 99)
    (tmp_path / "banned.txt").write_text("# " + "x" * length + "\n", "utf-8")
    fence = Fence.from_file(file, env={"TEST_MAC": MAC}, clock=FrozenClock())
    assert acts(fence, "alice") == ["policy.allowed"]
    fence.receipts.verify()
    assert (fence.ledger.policy(fence.plan.digest) is not None) == kept
    fence.close()


def test_what_is_kept_is_what_decides_and_nothing_newer(tmp_path: Path):
    file = written(tmp_path, "none")
    fence = Fence.from_file(file, env={"TEST_MAC": MAC}, clock=FrozenClock())
    assert fence.file is not None
    assert fence.file.kept(fence.config, fence.base, fence.plan.file) is not None
    (tmp_path / "banned.txt").write_text("local:alice\n", "utf-8")
    assert fence.file.kept(fence.config, fence.base, fence.plan.file) is None
    (tmp_path / "banned.txt").unlink()
    assert fence.file.kept(fence.config, fence.base, fence.plan.file) is None
    fence.close()


def forge(folder: Path, digest: str, kept: PolicyText) -> None:
    """Put another row in the place of what is kept under a digest, past the ledger."""
    row = zlib.compress(msgspec.msgpack.encode(kept))
    with closing(sqlite3.connect(folder / "fence.db")) as database, database:
        changed = database.execute("INSERT OR REPLACE INTO policy VALUES (?, ?)", (digest, row))
        assert changed.rowcount == 1


def decided(folder: Path) -> tuple[str, PolicyText]:
    """A ledger in which another policy than the present file's has decided; its digest, and what is kept of it."""
    first = Fence.from_file(written(folder, "none"), env={"TEST_MAC": MAC}, clock=FrozenClock())
    assert acts(first, "alice") == ["policy.allowed"]
    first.receipts.verify()
    digest = first.plan.digest
    text = first.ledger.policy(digest)
    assert text is not None
    first.close()
    written(folder, "none, a.b")
    return digest, text


def replayed_in(folder: Path) -> Replay:
    with closing(Fence.from_file(folder / "fence.yaml", env={"TEST_MAC": MAC}, clock=FrozenClock())) as fence:
        return fence.replay()


def test_nothing_is_decided_by_a_text_that_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    digest, kept = decided(tmp_path)
    assert replayed_in(tmp_path).reproduced == 1
    forge(tmp_path, digest, replace(kept, text=kept.text.replace("none", "shop.**")))
    with pytest.raises(ReceiptError, match="was changed there"):
        replayed_in(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEST_MAC", MAC)
    for command in (["replay", "fence.db"], ["policy", "show", digest[:16]]):
        told = CliRunner().invoke(cli, command)
        assert told.exit_code
        assert "was changed there" in str(told.exception) + told.output
    forge(tmp_path, digest, replace(kept, lists={"banned": "local:alice\n"}))
    with pytest.raises(ReceiptError, match="was changed there"):
        replayed_in(tmp_path)
    with closing(sqlite3.connect(tmp_path / "fence.db")) as database, database:
        database.execute("UPDATE policy SET data = x'00'")
    with pytest.raises(ReceiptError, match="cannot be read"):
        replayed_in(tmp_path)


def test_nothing_is_decided_by_the_text_of_another_policy(tmp_path: Path):
    digest, kept = decided(tmp_path)
    other = kept.text.replace("none", "shop.**")
    lie = PolicyText(digest_of_text(other, kept.lists), other, kept.lists)
    forge(tmp_path, lie.file, lie)
    # As it is kept of a policy with bindings in code, without the proof that only the ledger's key makes.
    forge(tmp_path, digest, PolicyText(lie.file))
    assert replayed_in(tmp_path).undecidable == {"the policy that decided not kept": 1}
    forge(tmp_path, digest, PolicyText(lie.file, proof=bytes(32)))
    with pytest.raises(ReceiptError, match="has the text of another"):
        replayed_in(tmp_path)


def test_a_policy_with_bindings_in_code_is_proven_by_the_key(ledger: Ledger):
    text = "version: 1\nservice: s\n"
    file = digest_of_text(text, {})
    ledger.commit(InForce(B, "enforce", file=file, text=PolicyText(file, text)))
    assert former_policies(ledger, ledger.keys.sign)(B) is not None
    assert former_policies(ledger)(B) is None
    assert former_policies(ledger)(file) is not None


def test_a_row_that_would_fill_the_memory_is_not_unpacked(tmp_path: Path):
    digest, _ = decided(tmp_path)
    pack = zlib.compressobj()
    row = b"".join(pack.compress(bytes(1 << 20)) for _ in range(80)) + pack.flush()
    with closing(sqlite3.connect(tmp_path / "fence.db")) as database, database:
        database.execute("UPDATE policy SET data = ? WHERE digest = ?", (row, digest))
    with pytest.raises(ReceiptError, match="cannot be read"):
        replayed_in(tmp_path)
