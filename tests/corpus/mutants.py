"""Copies of the product in which one safe rule is switched off."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import msgspec
import yaml

from tests.corpus.stacks import ROOT

HERE = Path(__file__).parent


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text that stands once in a file, and what stands there instead."""

    file: str
    old: str
    new: str


class Mutation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One safe rule, or a part of one, switched off; and which cases must notice on which stack.

    In the cases `ran` a handler must even run for what nobody admitted.
    """

    rule: str
    says: str
    stack: str
    edits: tuple[Edit, ...]
    red: tuple[str, ...] = ()
    ran: tuple[str, ...] = ()

    def stale(self) -> list[str]:
        """The edits whose text is no longer there, or there more than once."""
        return [
            f"{edit.file}: {edit.old!r}"
            for edit in self.edits
            if (ROOT / edit.file).read_text(encoding="utf-8").count(edit.old) != 1
        ]

    def make(self, folder: Path) -> Path:
        """A copy of the product with the edits. Raises `ValueError` where one is stale."""
        if stale := self.stale():
            raise ValueError(stale)
        for name in ("afmiddleware", "integrations"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for edit in self.edits:
            file = folder / edit.file
            file.write_text(file.read_text(encoding="utf-8").replace(edit.old, edit.new), encoding="utf-8")
        return folder


@cache
def mutations() -> list[Mutation]:
    """Every mutation."""
    return msgspec.convert(yaml.safe_load((HERE / "mutations.yaml").read_text(encoding="utf-8")), list[Mutation])
