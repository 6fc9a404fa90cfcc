"""Verdicts as HTTP: problems (RFC 9457), limit headers (draft-ietf-httpapi-ratelimit-headers-10), receipts.

Nothing here shows a credential, another caller's numbers, the payload or the policy file's path; caps are shown only
to callers above anonymous.
"""

from __future__ import annotations

import binascii
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from afmiddleware.identity.challenge import challenge
from afmiddleware.model.codes import CODES
from afmiddleware.model.limit import Unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afmiddleware.model.limit import Balance, Limit
    from afmiddleware.model.receipt import ReceiptRef
    from afmiddleware.model.verdict import Verdict
    from afmiddleware.plan import Admission, Refused

RawHeaders = list[tuple[bytes, bytes]]
_SECOND = 1_000_000
_EXPOSED = b"Agent-Receipt, Agent-Budget, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate"
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


def problem(refused: Refused) -> Problem:
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
    """Status, headers and body of a refusal. `vary` names the request headers the decision read."""
    told = problem(refused)
    body = _encode(told)
    headers: RawHeaders = [
        (b"content-type", b"application/problem+json"),
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


def admitted(admission: Admission, now: int, *, cross_origin: bool) -> RawHeaders:
    """The headers that an admitted response carries besides the handler's own."""
    headers = limit_headers(admission.balances, now, shown=not admission.actor.anonymous)
    if admission.receipt is not None:
        headers.append((b"agent-receipt", receipt_field(admission.receipt)))
    if cross_origin:
        headers.append((b"access-control-expose-headers", _EXPOSED))
    return headers


def receipt_field(receipt: ReceiptRef) -> bytes:
    """`Agent-Receipt`: a structured-field dictionary (RFC 9651) of log, sequence number and leaf hash.

    Where the batch is signed already also the number of receipts, the root and the signature of its checkpoint.
    """
    leaf = binascii.b2a_base64(receipt.leaf, newline=False)
    said = b'log="%b", seq=%d, leaf=:%b:' % (receipt.log.encode(), receipt.seq, leaf)
    seal = receipt.seal
    if seal is None or not seal.size:
        return said
    root = binascii.b2a_base64(seal.root, newline=False)
    return said + b", size=%d, root=:%b:, sig=:%b:" % (
        seal.size,
        root,
        binascii.b2a_base64(seal.signature, newline=False),
    )


def limit_headers(balances: Sequence[Balance], now: int, *, shown: bool) -> RawHeaders:
    """`RateLimit` and `RateLimit-Policy` for the rates; `Agent-Budget` for the spends when `shown`."""
    policies, rates, budgets = [], [], []
    for balance in balances:
        limit, at = balance.limit, balance.resets_at
        rated, policy, scale, said, reset = _words(limit)
        left = max(limit.cap - balance.used, 0)
        text = said % (divmod(left, scale) if scale else left)
        if at:
            text += reset % max(-((now - at) // _SECOND), 0)
        if rated:
            policies.append(policy)
            rates.append(text)
        elif shown:
            budgets.append(text)
    headers: RawHeaders = []
    if rates:
        headers.append((b"ratelimit-policy", ", ".join(policies).encode("ascii")))
        headers.append((b"ratelimit", ", ".join(rates).encode("ascii")))
    if budgets:
        headers.append((b"agent-budget", ", ".join(budgets).encode("ascii")))
    return headers


@lru_cache(maxsize=4096)
def _words(limit: Limit) -> tuple[bool, str, int, str, str]:
    """What of a limit's header items never changes: what is left goes into the fourth, the seconds into the last.

    The third splits what is left into what stands before and after the decimal point.
    """
    if limit.unit is Unit.RATE:
        policy = f'"{limit.name}";q={limit.quota or limit.cap};w={limit.window.seconds}'
        return True, policy, 0, f'"{limit.name}";r=%d', ";t=%d"
    digits = f"%d.%0{limit.exponent}d" if limit.exponent else "%d"
    said = f'"{limit.name}";remaining="{digits}";currency="{limit.currency}"'
    return False, "", 10**limit.exponent if limit.exponent else 0, said, ";reset=%d"


def _instant(at: int) -> str:
    return datetime.fromtimestamp(at / _SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""


def websocket_close_reason(verdict: Verdict) -> str:
    """The reason of a refused WebSocket handshake: the code alone (at most 123 bytes, RFC 6455)."""
    return verdict.code
