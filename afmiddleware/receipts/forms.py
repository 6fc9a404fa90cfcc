"""Forms of receipts: what the bodies of many receipts have in common is put into canonical text once.

A form is made from a body and the names of its blanks, by the encoder that writes every other receipt, so its text is
what `canonical.encode` gives for the body filled in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET
from msgspec.structs import replace

from afmiddleware.model.receipt import Form
from afmiddleware.receipts.canonical import encode
from afmiddleware.receipts.chain import VERSION

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from afmiddleware.model.receipt import Body

CHAIN: Final = ("kid", "log", "oprev", "oseq", "owner", "prev", "seq", "ts")
"""The blanks that are filled in where a receipt is put into the log, in canonical order."""

_NUMBERS: Final = frozenset({"oseq", "seq", "ts"})


def form_of(
    kind: str,
    body: Body,
    blanks: Sequence[str],
    private: Sequence[str] = (),
    amounts: Collection[int] = (),
) -> Form:
    """The form of bodies that are like `body` but for the members `blanks`, which are texts, and those of the chain.

    `private` names the members stored as commitments. `amounts` are the places in `charges` whose `n` is blank too.
    Raises `ReceiptError` when `body` has no canonical form.
    """
    body = replace(body, kind=kind, v=VERSION)
    open_ = {*blanks, *CHAIN}
    return Form(
        text=_cut(body, open_, private, amounts),
        back=_cut(replace(body, clock_back=True), open_, private, amounts),
        private=tuple(private),
        capability=body.capability,
        verdict=getattr(body, "verdict", ""),
        code=getattr(body, "code", ""),
    )


def quoted(text: str) -> str:
    """A text as it stands between the quotes of a blank. Raises `ReceiptError` for a lone surrogate."""
    return text if text.isascii() and text.isalnum() else encode({"_": text}).decode()[6:-2]


def _cut(body: Body, open_: set[str], private: Sequence[str], amounts: Collection[int]) -> tuple[str, ...]:
    pieces = ["{"]

    def blank(before: str, after: str) -> None:
        pieces[-1] += before
        pieces.extend(("", after))

    for name in body.__struct_fields__:
        value = getattr(body, name)
        if value is UNSET:
            continue
        pieces[-1] += ("," if len(pieces) > 1 or pieces[-1] != "{" else "") + f'"{name}":'
        if name == "c":
            for place, member in enumerate(private):
                blank(f'{"," if place else "{"}"{member}":"', '"')
            pieces[-1] += "}" if private else "{}"
        elif name == "charges":
            for place, charge in enumerate(value):
                pieces[-1] += "," if place else "["
                if place in amounts:
                    blank(f'{{"limit":{_text(charge["limit"])},"n":"', f'","unit":{_text(charge["unit"])}}}')
                else:
                    pieces[-1] += encode(charge).decode()
            pieces[-1] += "]" if value else "[]"
        elif name in open_:
            quote = "" if name in _NUMBERS else '"'
            blank(quote, quote)
        else:
            pieces[-1] += _text(value)
    pieces[-1] += "}"
    return tuple(pieces)


def _text(value: object) -> str:
    return encode({"_": value}).decode()[5:-1]  # type: ignore[dict-item]
