"""One request to a bound endpoint becomes one action event."""

from __future__ import annotations

from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from afmiddleware.errors import MappingError
from afmiddleware.grammar.paths import MISSING
from afmiddleware.mapping.body import check_length, check_media, parse_json, too_large
from afmiddleware.mapping.view import RequestView
from afmiddleware.model.action import ActionEvent
from afmiddleware.model.codes import REQUEST_AMBIGUOUS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.mapping.bindings import Binding
    from afmiddleware.model.actor import Actor
    from afmiddleware.model.http import HttpFacts, Target

_NO_PAYLOAD: Final[Mapping[str, Any]] = MappingProxyType({})


def to_event(  # noqa: PLR0913 (each is another party's knowledge)
    binding: Binding,
    facts: HttpFacts,
    target: Target,
    body: bytes | None,
    actor: Actor,
    environment: str = "",
) -> ActionEvent:
    """Make the event of a request to a bound endpoint.

    `body` is what was received, `None` where it was not read, which a binding with `needs_body` does not allow.
    Raises `MappingError`: `request.ambiguous`, `request.media_type`, `request.too_large`, `amount.unresolvable`.
    """
    document = _document(binding, facts, body) if binding.needs_body else MISSING
    found = binding.read(RequestView(facts, target.params, document))
    return ActionEvent(
        capability=binding.capability,
        actor=actor,
        environment=environment,
        amount=found.amount,
        resource=found.resource,
        recipient=found.recipient,
        category=found.category,
        network=found.network,
        method=target.method,
        route=binding.key,
        payload=document if type(document) is dict else _NO_PAYLOAD,
    )


def _document(binding: Binding, facts: HttpFacts, body: bytes | None) -> Any:
    if body is None:
        msg = f"{binding.key} needs the body to be read before it can be judged"
        raise ValueError(msg)
    if len(body) > binding.body_cap:
        raise too_large(binding.body_cap)
    if not body:
        # Nothing was sent, so nothing can be read in two ways, whatever the label says.
        check_length(facts, body)
        return MISSING
    check_media(facts, body)
    document = parse_json(body)
    if binding.needs_payload and type(document) is not dict:
        raise MappingError(REQUEST_AMBIGUOUS, "the JSON body is not an object, so the rules cannot read it")
    return document


def request_digest(facts: HttpFacts, target: Target, body: bytes | None) -> str:
    """The hex SHA-256 of what was asked: method, endpoint, path, query and the body, when that was read.

    Over UTF-8 text joined by NUL, which no part can hold, then 0x01 and the body when that was read.
    """
    head = f"{facts.method}\0{target.key}\0{facts.path}\0".encode("utf-8", "surrogatepass") + facts.query + b"\0"
    return sha256(head if body is None else head + b"\1" + body).hexdigest()
