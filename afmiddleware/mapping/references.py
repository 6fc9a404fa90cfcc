"""What an action is called by later: the reference in its answer, `reference: {from: response.body.id}`."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from afmiddleware.errors import GrammarError
from afmiddleware.grammar.paths import parse_source
from afmiddleware.mapping.extract import MAX_TEXT, compile_source, refuse, text_of
from afmiddleware.mapping.view import RequestView
from afmiddleware.model.entry import Refund
from afmiddleware.model.http import HttpFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.mapping.bindings import Binding
    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.money import Money

ReadReference = Callable[[Any], str]
"""From the parsed answer to the reference. Raises `MappingError`."""

_NO_REQUEST: Final = HttpFacts(method="", path="")
_NO_PARAMS: Final[Mapping[str, object]] = MappingProxyType({})


def compile_reference(entry: Any) -> ReadReference | None:
    """Make the reader of a `reference:` map. Raises `GrammarError` for an entry that is not well formed."""
    if entry is None:
        return None
    place = parse_source(entry.from_, ("response.body",))
    if place.many:
        msg = f"{place.label} names every place of a list, which is no reference"
        raise GrammarError(msg)
    get, label = compile_source(place), place.label

    def read(document: Any) -> str:
        text = text_of(get(RequestView(_NO_REQUEST, _NO_PARAMS, document)), label)
        return text if len(text) <= MAX_TEXT else refuse(label, f"is longer than {MAX_TEXT} characters")

    return read


def refund_of(event: ActionEvent | None, usual: Money | None = None) -> Refund | None:
    """What an event gives back, in the currency of `usual` where it names no amount.

    Nobody knows whether an anonymous caller spent it, so for one it is nothing.
    """
    if event is None or event.refunds is None or event.actor.anonymous:
        return None
    key, money = reference_key(event.actor.id, event.refunds), event.amount
    if money is not None:
        return Refund(key, money.minor, money.currency, money.exponent)
    return Refund(key) if usual is None else Refund(key, -1, usual.currency, usual.exponent)


def refunded_in(event: ActionEvent | None, binding: Binding | None) -> Money | None:
    """What an admitted event gives back, zero of its currency where only the answer says; `None` where nothing is."""
    if event is None or event.refunds is None:
        return None
    return event.amount or (binding.refunds if binding is not None else None)


def reference_key(actor: str, reference: str, *, refund: bool = False) -> str:
    """The name of a caller's reference. Neither can be read from it; of a `refund` it is another name."""
    parts = (part.encode("utf-8", "surrogatepass") for part in (actor, reference))
    kind = "refunded" if refund else "reference"
    return f"{kind}:{sha256(b''.join(b'%d:%b' % (len(part), part) for part in parts)).hexdigest()}"
