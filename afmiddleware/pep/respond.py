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

from afmiddleware.limits.charge import amount_text
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
    from collections.abc import Iterable, Iterator, Sequence

    from afmiddleware.current import Action
    from afmiddleware.model.limit import Balance, Balances, Limit
    from afmiddleware.model.outcome import End
    from afmiddleware.model.receipt import ReceiptRef
    from afmiddleware.model.verdict import Verdict
    from afmiddleware.plan import DryRun, Refused, Reply, Told

RawHeaders = list[tuple[bytes, bytes]]
_SECOND = 1_000_000
_ROUNDS_UP = _SECOND - 1
_OK = 200
_EXPOSED = (
    b"Agent-Receipt, Agent-Budget, Agent-Dry-Run, Link, RateLimit, RateLimit-Policy, Retry-After, "
    b"WWW-Authenticate, Accept-Signature, DPoP-Nonce"
)
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


class Left(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a limit had left when a dry run was asked: requests, or money such as `12.50 USD`."""

    limit: str
    remaining: str
    resets_at: str = ""


class Preview(Problem, frozen=True, kw_only=True):
    """What would happen. With the `mode` observe a refusal would pass all the same; `amount` is in major units."""

    authorized: bool
    dry_run: bool
    mode: str
    amount: str = ""
    currency: str = ""
    flags: tuple[str, ...] = ()
    limits: tuple[Left, ...] = ()


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
        resets_at=instant(verdict.resets_at),
        retry_after=verdict.retry_after,
    )


def refusal(
    refused: Refused,
    now: int,
    vary: bytes,
    *,
    cross_origin: bool,
    asks: Sequence[tuple[bytes, bytes]] = (),
) -> tuple[int, RawHeaders, bytes]:
    """Status, headers and body of a refusal, or of the answer that the same request got before.

    `vary` names the request headers the decision read, `asks` are the headers that tell what credential would help.
    """
    told = problem(refused) if refused.dry is None else _preview(refused, refused.dry, refused)
    if refused.answer is not None:
        kept = refused.answer
        standing = limit_headers(refused.balances, now, shown=not refused.actor.anonymous)
        length = (b"content-length", str(len(kept.body)).encode())
        return kept.status, [*kept.headers, length, (b"idempotency-replayed", b"true"), *standing], kept.body
    answers = _errors(refused.reply, refused) if refused.reply is not None else None
    body = _encode(told if answers is None else answers)
    headers: RawHeaders = [
        (
            b"content-type",
            b"application/problem+json" if answers is None and told.status != _OK else b"application/json",
        ),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"vary", vary),
    ]
    headers += asks
    if refused.verdict.nonce:
        headers.append((b"dpop-nonce", refused.verdict.nonce.encode("ascii")))
    if refused.verdict.retry_after:
        headers.append((b"retry-after", str(refused.verdict.retry_after).encode()))
    headers += limit_headers(refused.balances, now, shown=not refused.actor.anonymous)
    if refused.dry is not None:
        # Whoever does not find this in the answer has reached something that knows no dry run, and has done it.
        headers.append((b"agent-dry-run", b"?1"))
    if cross_origin:
        headers.append((b"access-control-expose-headers", _EXPOSED))
    return told.status, headers, body


def _preview(told: Refused | Told, dry: DryRun, refused: Refused) -> Preview:
    """What is told of a dry run, or of one call of it; the limits' numbers only to callers above anonymous."""
    plain, verdict = msgspec.structs.asdict(problem(told)), told.verdict
    if verdict.authorized:
        plain["type"] = "about:blank"
    elif dry.observe:
        plain["status"] = _OK
    money = dry.event.amount if dry.event is not None else None
    return Preview(
        **plain,
        authorized=verdict.authorized,
        dry_run=True,
        mode="observe" if dry.observe else "enforce",
        amount=money.major if money is not None else "",
        currency=money.currency if money is not None else "",
        flags=verdict.flags,
        limits=() if refused.actor.anonymous or told is not refused else tuple(_left(refused.balances)),
    )


def _left(balances: Iterable[Balance]) -> Iterator[Left]:
    """How the limits stand, but for those that count others too."""
    for balance in balances:
        limit = balance.limit
        if limit.told:
            yield Left(limit.name, amount_text(limit, balance.remaining), instant(balance.resets_at))


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


def _errors(reply: Reply, refused: Refused) -> RpcAnswer | list[RpcAnswer] | None:
    """A refusal, or a dry run, as JSON-RPC answers; `None` where only notifications came, to which there is none."""
    answers = [
        RpcAnswer(
            id=told.call.id if told.call is not None else None,
            error=_error(told, refused),
        )
        for told in reply.told
        if told.call is None or told.call.id is not None
    ]
    if not answers:
        return None
    return answers if reply.batch else answers[0]


def _error(told: Told, refused: Refused) -> RpcError:
    """Never a result, not for what a dry run would allow either: nobody may take it for done."""
    code = _RPC_CODES.get(told.verdict.code, _REFUSED)
    if refused.dry is None:
        return RpcError(code, told.verdict.reason, problem(told))
    return RpcError(code, f"Dry run: {told.verdict.reason}", _preview(told, refused.dry, refused))


def admitted(  # noqa: PLR0913 (what an answer differs in)
    action: Action,
    status: int,
    end: End,
    now: int,
    *,
    cross_origin: bool,
    prefix: str = "",
) -> RawHeaders:
    """The headers that an admitted response with `status` carries besides the handler's own.

    `prefix` is where the fence serves receipts: a caller that may read its own there is told where it stands.
    """
    admission = action.admission
    balances, back = admission.balances, action.given_back(status, end)
    if back and admission.event is not None and admission.event.amount is not None:
        balances = balances.given_back(back, admission.event.amount.currency)
    headers = limit_headers(balances, now, shown=not admission.actor.anonymous)
    if admission.receipt is not None:
        others = [other.receipt.leaf for other in admission.others if other.receipt is not None]
        headers.append((b"agent-receipt", receipt_field(admission.receipt, others)))
        if prefix and not admission.actor.anonymous:
            headers.append((b"link", receipt_link(prefix, admission.receipt)))
    if cross_origin:
        headers.append((b"access-control-expose-headers", _EXPOSED))
    return headers


def receipt_link(prefix: str, receipt: ReceiptRef) -> bytes:
    """`Link` (RFC 8288) to the proof of a receipt, where the fence serves it."""
    return b'<%breceipts/%b?seq=%d>; rel="receipt"' % (prefix.encode(), receipt.leaf.hex().encode(), receipt.seq)


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
    if layout.rates:
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
    """What never changes in the limit headers. What is left of a limit that counts other callers too is not said."""
    policies, rates, budgets = [], [], []
    of_rates, of_budget = [], []
    for place, limit in enumerate(limits):
        if limit.wide:
            continue
        if limit.unit is Unit.RATE:
            policies.append(f'"{limit.name}";q={limit.quota or limit.cap};w={limit.window.seconds}')
            if not limit.told:
                continue
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


def instant(at: int) -> str:
    """A time in microseconds since the epoch as RFC 3339 in UTC, empty for 0."""
    return datetime.fromtimestamp(at / _SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""


def websocket_close_reason(verdict: Verdict) -> str:
    """The reason of a refused WebSocket handshake: the code alone (at most 123 bytes, RFC 6455)."""
    return verdict.code
