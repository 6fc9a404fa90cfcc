"""The policies that decided what a ledger has receipts of: found by their digest, and compiled to decide once more."""

from __future__ import annotations

from functools import lru_cache
from hmac import compare_digest
from pathlib import Path
from typing import TYPE_CHECKING, Final

from afmiddleware.assemble import assemble
from afmiddleware.config.identity_schema import Identity
from afmiddleware.config.load import load
from afmiddleware.errors import ConfigError, ReceiptError
from afmiddleware.grammar.lists import entries_of
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.log import records_in
from afmiddleware.model.policy_text import pairing
from afmiddleware.policy.replay import replay, replay_each
from afmiddleware.policy_file import digest_of_text, read_policy

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from afmiddleware.config.schema import Config
    from afmiddleware.fence import Fence
    from afmiddleware.ledger.base import Reader
    from afmiddleware.model.policy_text import PolicyText
    from afmiddleware.policy.compiled import Policy
    from afmiddleware.policy.replay import Replay

_COMPILED: Final = 16


def former_policies(ledger: Reader, sign: Callable[[bytes], bytes] | None = None) -> Callable[[str], Policy | None]:
    """Finds a policy by the digest that receipts name; `None` for one whose text was not kept, or cannot be read now.

    `sign` authenticates bytes with a key of the ledger's, by which shares of the callers are chosen; without it they
    are chosen otherwise than they were, and where code declares bindings nothing tells which text it was. What is
    found raises `ReceiptError` for a text in the ledger that is not the one that decided.
    """

    @lru_cache(maxsize=_COMPILED)
    def found(digest: str) -> Policy | None:
        kept = ledger.policy(digest) if digest else None
        if kept is None or not _is_of(kept, digest, sign):
            return None
        try:
            config = _config(kept)
            plan, keys = assemble(config, Path()) if sign is None else assemble(config, Path(), sign)
        except ConfigError:
            return None
        keys.close()
        return plan.policy

    return found


def check_text(kept: PolicyText) -> None:
    """Raise `ReceiptError` for a kept text that is another than the digest says which it is kept under."""
    if digest_of_text(kept.text, kept.lists) != kept.file:
        msg = f"the text of the policy {kept.file[:16]} in the ledger is not the one that decided: it was changed there"
        raise ReceiptError(msg)


def _is_of(kept: PolicyText, digest: str, sign: Callable[[bytes], bytes] | None) -> bool:
    """Whether it can be told that a kept text is that of a policy. Raises `ReceiptError` where it is not."""
    check_text(kept)
    if kept.file == digest:
        return True
    if sign is None or not kept.proof:
        return False
    if not compare_digest(kept.proof, sign(pairing(digest, kept.file))):
        msg = f"the policy {digest[:16]} in the ledger has the text of another: it was changed there"
        raise ReceiptError(msg)
    return True


def replayed(fence: Fence, candidate: str | os.PathLike[str] | None) -> Replay:
    """What `Fence.replay` answers."""
    records = records_in(fence.ledger.receipts(Filter()))
    if candidate is not None:
        config, base = read_policy(candidate, {})
        return replay(assemble(config.model_copy(update={"identity": Identity()}), base)[0].policy, records)
    now, former = fence.plan, former_policies(fence.ledger, fence.sign)
    return replay_each(lambda digest: now.policy if digest == now.digest else former(digest), records)


def _config(kept: PolicyText) -> Config:
    """A kept policy with its lists in it, and without what finds out who asks: that is on record."""
    config = load(kept.text, f"policy {kept.file[:16]}", secrets=False)
    lists = {
        name: entry
        if entry.file is None
        else entry.model_copy(update={"file": None, "values": tuple(entries_of(kept.lists[name]))})
        for name, entry in config.lists.items()
    }
    return config.model_copy(update={"identity": Identity(), "lists": lists})
