"""Verdicts as HTTP: problems (RFC 9457), limit headers (draft-ietf-httpapi-ratelimit-headers-10), receipts.

Nothing here shows a credential, another caller's numbers, the payload or the policy file's path; caps are shown only
to callers above anonymous.
"""

from __future__ import annotations

import binascii
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from afmiddleware.identity.challenge import challenge
from afmiddleware.model.codes import (
    AMOUNT_UNRESOLVABLE,
    CODES,
    CURRENCY_MISMATCH,
    LEDGER_UNAVAILABLE,
    REQUEST_AMBIGUOUS,
    REQUEST_HEADER_MISMATCH,
    REQUEST_MEDIA_TYPE,
    REQUEST_TOO_LARGE,
    REQUEST_UNKNOWN_METHOD,
)
from afmiddleware.model.limit import Unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afmiddleware.model.limit import Balances, Limit
    from afmiddleware.model.receipt import ReceiptRef
    from afmiddleware.model.verdict import Verdict
    from afmiddleware.plan import Admission, Refused, Reply, Told

RawHeaders = list[tuple[bytes, bytes]]
_SECOND = 1_000_000
_ROUNDS_UP = _SECOND - 1
_EXPOSED = b"Agent-Receipt, Agent-Budget, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate"
_REFUSED = -32000
_INVALID_REQUEST, _UNKNOWN_METHOD, _INVALID_PARAMS, _INTERNAL, _HEADER_MISMATCH = -32600, -32601, -32602, -32603, -32020
_RPC_CODES = MappingProxyType(
    {
        REQUEST_AMBIGUOUS: _INVALID_REQUEST,
        REQUEST_TOO_LARGE: _INVALID_REQUEST,
        REQUEST_MEDIA_TYPE: _INVALID_REQUEST,
        REQUEST_UNKNOWN_METHOD: _UNKNOWN_METHOD,
        REQUEST_HEADER_MISMATCH: _HEADER_MISMATCH,
        AMOUNT_UNRESOLVABLE: _INVALID_PARAMS,
        CURRENCY_MISMATCH: _INVALID_PARAMS,
        LEDGER_UNAVAILABLE: _INTERNAL,
    },
)
"""Codes of JSON-RPC 2.0 section 5.1 and of MCP; every other refusal is a server error, told apart by its data."""
_encode = msgspec.json.Encoder().encode


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The problem object of a refusal. Absent members are left out."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    decision_id: str
    remediation: tuple[str, ...]
    capability: str = ""
    rule: str = ""
    limit: str = ""
    remaining: str = ""
    resets_at: str = ""
    retry_after: int = 0


def problem(refused: Refused | Told) -> Problem:
    """The problem object that says why the action did not run, and what a machine can do about it."""
    verdict = refused.verdict
    code = CODES[verdict.code]
    return Problem(
        type=f"urn:afm:problem:{verdict.code}",
        title=code.title,
        status=code.status,
        detail=verdict.reason,
        instance=f"urn:afm:decision:{refused.id}",
        code=verdict.code,
        decision_id=refused.id,
        remediation=code.remediation,
        capability=verdict.capability,
        rule=verdict.rule,
        limit=verdict.limit,
        remaining=verdict.remaining,
        resets_at=_instant(verdict.resets_at),
        retry_after=verdict.retry_after,
    )


def refusal(refused: Refused, now: int, vary: bytes, *, cross_origin: bool) -> tuple[int, RawHeaders, bytes]:
    """Status, headers and body of a refusal, or of the answer that the same request got before.

    `vary` names the request headers the decision read.
    """
    if refused.answer is not None:
        kept = refused.answer
        standing = limit_headers(refused.balances, now, shown=not refused.actor.anonymous)
        length = (b"content-length", str(len(kept.body)).encode())
        return kept.status, [*kept.headers, length, (b"idempotency-replayed", b"true"), *standing], kept.body
    told = problem(refused)
    answers = _errors(refused.reply) if refused.reply is not None else None
    body = _encode(told if answers is None else answers)
    headers: RawHeaders = [
        (b"content-type", b"application/problem+json" if answers is None else b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"vary", vary),
    ]
    asks = challenge(refused.verdict)
    if asks:
        headers.append((b"www-authenticate", asks.encode("ascii")))
    if refused.verdict.retry_after:
        headers.append((b"retry-after", str(refused.verdict.retry_after).encode()))
    headers += limit_headers(refused.balances, now, shown=not refused.actor.anonymous)
    if cross_origin:
        headers.append((b"access-control-expose-headers", _EXPOSED))
    return told.status, headers, body


class RpcError(msgspec.Struct, frozen=True):
    """The error of one JSON-RPC call, with the problem object as its data."""

    code: int
    message: str
    data: Problem


class RpcAnswer(msgspec.Struct, frozen=True):
    """The answer to one call. `id` is null where no call could be read."""

    id: str | int | None
    error: RpcError
    jsonrpc: str = "2.0"


def _errors(reply: Reply) -> RpcAnswer | list[RpcAnswer] | None:
    """A refusal as JSON-RPC answers; `None` where only notifications were refused, to which there is none."""
    answers = [
        RpcAnswer(
            id=told.call.id if told.call is not None else None,
            error=RpcError(_RPC_CODES.get(told.verdict.code, _REFUSED), told.verdict.reason, problem(told)),
        )
        for told in reply.told
        if told.call is None or told.call.id is not None
    ]
    if not answers:
        return None
    return answers if reply.batch else answers[0]


def admitted(admission: Admission, now: int, *, cross_origin: bool) -> RawHeaders:
    """The headers that an admitted response carries besides the handler's own."""
    headers = limit_headers(admission.balances, now, shown=not admission.actor.anonymous)
    if admission.receipt is not None:
        others = [other.receipt.leaf for other in admission.others if other.receipt is not None]
        headers.append((b"agent-receipt", receipt_field(admission.receipt, others)))
    if cross_origin:
        headers.append((b"access-control-expose-headers", _EXPOSED))
    return headers


def receipt_field(receipt: ReceiptRef, others: Sequence[bytes] = ()) -> bytes:
    """`Agent-Receipt`: a structured-field dictionary (RFC 9651) of log, sequence number and leaf hash.

    Where the batch is signed already also the number of receipts, the root and the signature of its checkpoint. Where
    a request holds several actions, `batch` lists the leaf hashes of the others, whose numbers follow.
    """
    leaf = binascii.b2a_base64(receipt.leaf, newline=False)
    field = b'log="%b", seq=%d, leaf=:%b:' % (receipt.log.encode(), receipt.seq, leaf)
    seal = receipt.seal
    if seal is not None and seal.size:
        root = binascii.b2a_base64(seal.root, newline=False)
        signature = binascii.b2a_base64(seal.signature, newline=False)
        field = b"%b, size=%d, root=:%b:, sig=:%b:" % (field, seal.size, root, signature)
    if not others:
        return field
    listed = b" ".join(b":%b:" % binascii.b2a_base64(other, newline=False) for other in others)
    return b"%b, batch=(%b)" % (field, listed)


def limit_headers(balances: Balances, now: int, *, shown: bool) -> RawHeaders:
    """`RateLimit` and `RateLimit-Policy` for the rates; `Agent-Budget` for the caller's own spends when `shown`."""
    layout = _layout(balances.limits, shown)
    headers: RawHeaders = []
    if layout.policy:
        headers.append((b"ratelimit-policy", layout.policy))
        headers.append((b"ratelimit", layout.rates % _numbers(layout.of_rates, balances, now)))
    if layout.budget:
        headers.append((b"agent-budget", layout.budget % _numbers(layout.of_budget, balances, now)))
    return headers


class _Said(NamedTuple):
    """Which numbers a header says of the limit at a `place`.

    What is left under its `cap`, split by `scale` before and after the decimal point unless that is 0, and with
    `resets` in how many seconds some comes back.
    """

    place: int
    cap: int
    scale: int
    resets: bool


class _Layout(NamedTuple):
    """The limit headers without their numbers. Empty is what is not sent."""

    policy: bytes
    rates: bytes
    of_rates: tuple[_Said, ...]
    budget: bytes
    of_budget: tuple[_Said, ...]


@lru_cache(maxsize=1024)
def _layout(limits: tuple[Limit, ...], shown: bool) -> _Layout:  # noqa: FBT001 (a part of the key)
    """What never changes in the limit headers. For a spend that counts other callers too nothing is said."""
    policies, rates, budgets = [], [], []
    of_rates, of_budget = [], []
    for place, limit in enumerate(limits):
        if limit.unit is Unit.RATE:
            policies.append(f'"{limit.name}";q={limit.quota or limit.cap};w={limit.window.seconds}')
            rates.append(f'"{limit.name}";r=%d' + (";t=%d" if limit.resets else ""))
            of_rates.append(_Said(place, limit.cap, 0, limit.resets))
        elif shown and limit.own:
            digits = f"%d.%0{limit.exponent}d" if limit.exponent else "%d"
            said = f'"{limit.name}";remaining="{digits}";currency="{limit.currency}"'
            budgets.append(said + (";reset=%d" if limit.resets else ""))
            scale = 10**limit.exponent if limit.exponent else 0
            of_budget.append(_Said(place, limit.cap, scale, limit.resets))
    policy, rate, budget = (", ".join(items).encode("ascii") for items in (policies, rates, budgets))
    return _Layout(policy, rate, tuple(of_rates), budget, tuple(of_budget))


def _numbers(said: tuple[_Said, ...], balances: Balances, now: int) -> tuple[int, ...]:
    used, resets = balances.used, balances.resets
    numbers: list[int] = []
    for place, cap, scale, ends in said:
        left = max(cap - used[place], 0)
        if scale:
            numbers += divmod(left, scale)
        else:
            numbers.append(left)
        if ends:
            numbers.append(max((resets[place] - now + _ROUNDS_UP) // _SECOND, 0))
    return tuple(numbers)


def _instant(at: int) -> str:
    return datetime.fromtimestamp(at / _SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""


def websocket_close_reason(verdict: Verdict) -> str:
    """The reason of a refused WebSocket handshake: the code alone (at most 123 bytes, RFC 6455)."""
    return verdict.code
