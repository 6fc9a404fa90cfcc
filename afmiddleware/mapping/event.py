"""One request to a bound endpoint becomes one action event."""

from __future__ import annotations

from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from afmiddleware.errors import MappingError
from afmiddleware.grammar.paths import MISSING
from afmiddleware.mapping.body import check_length, check_media, parse_json, too_large
from afmiddleware.mapping.forms import MULTIPART, URLENCODED, is_form, parse_form
from afmiddleware.mapping.view import RequestView
from afmiddleware.model.action import ActionEvent
from afmiddleware.model.codes import REQUEST_AMBIGUOUS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afmiddleware.mapping.bindings import Binding
    from afmiddleware.mapping.multipart import Form
    from afmiddleware.model.actor import Actor
    from afmiddleware.model.http import HttpFacts, Target

_EVERY_FORM: Final = frozenset({URLENCODED, MULTIPART})
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
    document, form = _parsed(binding, facts, body)
    found = binding.read(RequestView(facts, target.params, document, form=form, spelled=target.spelled))
    return ActionEvent(
        capability=binding.capability,
        actor=actor,
        environment=environment,
        amount=found.amount,
        resource=found.resource,
        recipient=found.recipient,
        category=found.category,
        network=found.network,
        risk=binding.risk,
        refunds=found.refunds,
        method=target.method,
        route=binding.key,
        payload=document if type(document) is dict else _NO_PAYLOAD,
    )


def reads_body(binding: Binding, facts: HttpFacts) -> bool:
    """Whether the body of this request has to be read before it can be judged."""
    return binding.needs_body or (binding.shares_query and is_form(facts))


def view_of(binding: Binding, facts: HttpFacts, target: Target, body: bytes | None, actor: Actor) -> RequestView:
    """The request as a function of the service sees it. Raises as `to_event` does."""
    document, form = _parsed(binding, facts, body)
    return RequestView(facts, target.params, document, form=form, actor=actor, spelled=target.spelled)


def _parsed(binding: Binding, facts: HttpFacts, body: bytes | None) -> tuple[Any, Form | None]:
    """The body as JSON and as a form: what is not there, or is not read, is `MISSING` and `None`."""
    if not reads_body(binding, facts):
        return MISSING, None
    if body is None:
        msg = f"{binding.key} needs the body to be read before it can be judged"
        raise ValueError(msg)
    if len(body) > binding.body_cap:
        raise too_large(binding.body_cap)
    if not body:
        # Nothing was sent, so nothing can be read in two ways, whatever the label says.
        check_length(facts, body)
        return MISSING, ()
    if binding.forms is not None or not binding.needs_body:
        form = parse_form(facts, body, binding.forms or _EVERY_FORM)
        return _fields(form) if binding.needs_payload else MISSING, form
    check_media(facts, body)
    document = parse_json(body)
    if binding.needs_payload and type(document) is not dict:
        raise MappingError(REQUEST_AMBIGUOUS, "the JSON body is not an object, so the rules cannot read it")
    return document, None


def _fields(form: Form) -> dict[str, str]:
    """The fields as rules read them. Raises `MappingError` when one is there twice."""
    fields = {name: value for name, value in form if value is not None}
    if len(fields) != len(form) and len({name for name, _ in form}) != len(form):
        raise MappingError(REQUEST_AMBIGUOUS, "the form holds a field more than once, so the rules cannot read it")
    return fields


def request_digest(facts: HttpFacts, target: Target, body: bytes | None) -> str:
    """The hex SHA-256 of what was asked: method, endpoint, path, query and the body, when that was read.

    Over UTF-8 text joined by NUL, which no part can hold, then 0x01 and the body when that was read.
    """
    head = f"{facts.method}\0{target.key}\0{facts.path}\0".encode("utf-8", "surrogatepass") + facts.query + b"\0"
    return sha256(head if body is None else head + b"\1" + body).hexdigest()
