"""Routes whose body holds calls: JSON-RPC 2.0 and MCP. Every call in a body is an action of its own."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from afmiddleware.errors import GrammarError, MappingError
from afmiddleware.grammar.capability import check_capability, check_segment
from afmiddleware.grammar.paths import CALL_KINDS, MISSING
from afmiddleware.mapping.body import check_length, check_media, parse_json, too_large
from afmiddleware.mapping.fields import Fields, compile_fields, no_fields
from afmiddleware.mapping.mcp import HOUSEKEEPING, TOOL_CALL, check_headers, tool_of
from afmiddleware.mapping.messages import Call, read_calls
from afmiddleware.mapping.settle import ReadSettle, compile_settle
from afmiddleware.mapping.view import RequestView
from afmiddleware.model.action import ActionEvent
from afmiddleware.model.codes import REQUEST_AMBIGUOUS, REQUEST_UNKNOWN_METHOD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from afmiddleware.grammar.paths import Source
    from afmiddleware.mapping.bindings import Binding
    from afmiddleware.model.actor import Actor
    from afmiddleware.model.http import HttpFacts, Target
    from afmiddleware.model.outcome import Settlement

JSONRPC: Final = "jsonrpc"
MCP: Final = "mcp"
MAX_BATCH: Final = 50
"""The most messages of one body, unless the route says otherwise."""

_NO_PAYLOAD: Final[Mapping[str, Any]] = MappingProxyType({})
_PARAMS_KINDS: Final = tuple(kind for kind in CALL_KINDS if kind != "arguments")
_TOOL_KINDS: Final = tuple(kind for kind in CALL_KINDS if kind != "params")


class CallRule(msgspec.Struct, frozen=True, kw_only=True):
    """What one method or tool is. `capability` is empty where the route's own template makes it."""

    capability: str = ""
    settles: Mapping[int, Settlement] | None = None
    settle: ReadSettle | None = None
    read: Callable[[RequestView], Fields] = no_fields


class Protocol(msgspec.Struct, frozen=True, kw_only=True):
    """How the bodies of a route are read.

    `kind` is `jsonrpc` or `mcp`. `before` and `after` stand around the placeholder of the capability; with `named` they
    are there, and a method (or tool) that is not listed is the capability that its name makes, otherwise it is refused.
    """

    kind: str
    before: str
    after: str
    named: bool
    methods: Mapping[str, CallRule]
    tools: Mapping[str, CallRule]
    max_batch: int
    reads_payload: Callable[[str], bool]


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """One action of a request, and how it ends. `call` is the message it came in, where it came in one."""

    event: ActionEvent
    call: Call | None = None
    settles: Mapping[int, Settlement] | None = None
    settle: ReadSettle | None = None


class Acts(msgspec.Struct, frozen=True):
    """All actions of a request. `batch` is whether the body is a list of messages; `idle` are those that do nothing."""

    acts: tuple[Act, ...]
    batch: bool = False
    idle: tuple[Call, ...] = ()


class CallError(MappingError):
    """A call cannot be turned into an action event, so none of its request can. `at` is its place among `calls`."""

    def __init__(self, error: MappingError, calls: tuple[Call, ...], at: int, *, batch: bool, capability: str) -> None:
        super().__init__(error.code, error.detail)
        self.calls = calls
        self.at = at
        self.batch = batch
        self.capability = capability


def compile_protocol(
    route: Any,
    currency: str,
    exponents: Mapping[str, int],
    reads_payload: Callable[[str], bool],
    settles: Callable[[Any], Mapping[int, Settlement] | None],
) -> tuple[Protocol, list[Source]]:
    """Compile a route with a `protocol:`. Raises `GrammarError` and `MoneyError` for one that is not well formed."""
    kind = str(route.protocol)
    holder = "{tool}" if kind == MCP else "{method}"
    template = route.capability or ""
    before, named, after = template.partition(holder)
    check_capability(before + "x" * bool(named) + after)
    sources: list[Source] = []

    def rules(entries: Mapping[str, Any] | None, kinds: tuple[str, ...], *, open_: bool) -> dict[str, CallRule]:
        made = {}
        for name, entry in (entries or {}).items():
            read, used = compile_fields(entry, currency, exponents, kinds)
            sources.extend(used)
            own = getattr(entry, "capability", None) or ""
            capability = check_capability(own or (before + check_segment(name) + after if named else template))
            if not own and named and not open_:
                msg = f"the method {name} needs a capability of its own: the route's is made of a tool's name"
                raise GrammarError(msg)
            made[name] = CallRule(
                capability=capability,
                settles=settles(getattr(entry, "on_outcome", None) or getattr(route, "on_outcome", None)),
                settle=compile_settle(getattr(entry, "settle", None), "result"),
                read=read,
            )
        return made

    methods = rules(getattr(route, "methods", None), _PARAMS_KINDS, open_=kind == JSONRPC)
    tools = rules(getattr(route, "tools", None), _TOOL_KINDS, open_=True)
    protocol = Protocol(
        kind=kind,
        before=before,
        after=after,
        named=bool(named),
        methods=methods,
        tools=tools,
        max_batch=getattr(route, "max_batch", None) or MAX_BATCH,
        reads_payload=reads_payload,
    )
    return protocol, sources


def to_acts(  # noqa: PLR0913 (each is another party's knowledge)
    protocol: Protocol,
    binding: Binding,
    facts: HttpFacts,
    target: Target,
    body: bytes,
    actor: Actor,
    environment: str,
) -> Acts:
    """The actions of a request: none when all its messages are the protocol's own.

    Raises `MappingError`: `request.ambiguous`, `request.media_type`, `request.too_large`, `request.unknown_method`,
    `request.header_mismatch`, `amount.unresolvable`; a `CallError` once it is known which calls there are.
    """
    if len(body) > binding.body_cap:
        raise too_large(binding.body_cap)
    check_length(facts, body)
    check_media(facts, body)
    calls, batch = read_calls(parse_json(body), protocol.max_batch, answers=protocol.kind == MCP)
    acts: list[Act] = []
    idle: list[Call] = []
    view = RequestView(facts, target.params, actor=actor)
    about = ActionEvent(
        capability="", actor=actor, environment=environment, method=target.method, route=binding.key, risk=binding.risk
    )
    for at, call in enumerate(calls):
        capability = binding.capability
        try:
            if protocol.kind == MCP and not at:
                check_headers(facts, calls, batch=batch)
            rule, capability, document = _rule(protocol, call)
            if rule is None:
                idle.append(call)
            else:
                event = _event(protocol, rule, replace(about, capability=capability), view, document)
                acts.append(Act(event=event, call=call, settles=rule.settles or binding.settles, settle=rule.settle))
        except MappingError as error:
            raise CallError(error, calls, at, batch=batch, capability=capability) from None
    return Acts(tuple(acts), batch, tuple(idle))


def _event(protocol: Protocol, rule: CallRule, about: ActionEvent, view: RequestView, document: Any) -> ActionEvent:
    """The event of one call whose sources read `document`."""
    if document is not MISSING and type(document) is not dict and protocol.reads_payload(about.capability):
        raise MappingError(REQUEST_AMBIGUOUS, "the params are not an object, so the rules cannot read them")
    view.document = document
    found = rule.read(view)
    return replace(
        about,
        amount=found.amount,
        resource=found.resource,
        recipient=found.recipient,
        category=found.category,
        network=found.network,
        payload=document if type(document) is dict else _NO_PAYLOAD,
    )


_OPEN: Final = CallRule()


def _rule(protocol: Protocol, call: Call) -> tuple[CallRule | None, str, Any]:
    """The rule of a call, its capability and what its sources read; no rule for the protocol's own messages."""
    name, document, rule = call.method, call.params, protocol.methods.get(call.method)
    if protocol.kind == MCP and call.method == TOOL_CALL and rule is None:
        name, document = tool_of(call)
        rule = protocol.tools.get(name)
    elif protocol.kind == MCP and rule is None:
        if call.method in HOUSEKEEPING:
            return None, "", MISSING
        raise MappingError(REQUEST_UNKNOWN_METHOD, "the method is not one that this route knows")
    if rule is not None:
        return rule, rule.capability, document
    if not protocol.named:
        raise MappingError(REQUEST_UNKNOWN_METHOD, "the method is not one that this route knows")
    try:
        return _OPEN, check_capability(protocol.before + check_segment(name) + protocol.after), document
    except GrammarError:
        raise MappingError(REQUEST_AMBIGUOUS, "the name of the method is not one segment of a capability") from None
