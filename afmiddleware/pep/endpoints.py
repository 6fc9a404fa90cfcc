"""What the fence serves itself: the log's public keys, a receipt with its proof, and sessions for callers.

Known here once, whatever the framework: an adapter asks `wanted`, finds out who asks with `caller`, and sends what
`serve` answers. A receipt is shown to its owner and to operators; to anybody else it does not exist.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from afmiddleware.callers import identify
from afmiddleware.errors import LedgerUnavailableError, ReceiptError
from afmiddleware.flow import refused
from afmiddleware.identity.address import anonymous
from afmiddleware.identity.outcome import Invalid, Ok, Unavailable
from afmiddleware.model.codes import LEDGER_UNAVAILABLE, POLICY_ALLOWED
from afmiddleware.model.entry import Entry, Order
from afmiddleware.model.limit import Charge
from afmiddleware.model.verdict import Verdict
from afmiddleware.pep.respond import refusal
from afmiddleware.plan import Refused
from afmiddleware.receipts.bundle import to_json
from afmiddleware.receipts.canonical import parse
from afmiddleware.receipts.checkpoint import jwk
from afmiddleware.receipts.record import operation

if TYPE_CHECKING:
    from afmiddleware.effects import Flow
    from afmiddleware.fence import Fence
    from afmiddleware.identity.outcome import Identified
    from afmiddleware.model.http import HttpFacts
    from afmiddleware.pep.respond import RawHeaders
    from afmiddleware.receipts.verify import StoredReceipt

Answer = tuple[int, "RawHeaders", bytes]
OPERATOR: Final = "fence:operator"
"""The scope that makes a caller an operator: every receipt is shown to it."""

_RECEIPT = re.compile(r"receipts/([0-9a-f]{64})")
_SEQ = re.compile(rb"seq=([1-9][0-9]{0,17})")
_MINTED: Final = ("session.refused", "session.mint")
_GOOD_FOR: Final = b"public, max-age=300"


def wanted(fence: Fence, path: str) -> bool:
    """Whether the fence serves this path itself. Everything else under the prefix is the application's."""
    if not path.startswith(fence.prefix):
        return False
    rest = path[len(fence.prefix) :]
    return rest in ("keys", "sessions") or _RECEIPT.fullmatch(rest) is not None


def caller(fence: Fence, facts: HttpFacts) -> Flow[Identified | None]:
    """Who asks; nobody is asked for the keys, which are public."""
    if facts.path == f"{fence.prefix}keys":
        return None
    return (yield from identify(fence.plan, facts, fence.clock()))


def serve(fence: Fence, facts: HttpFacts, found: Identified | None) -> Answer:
    """Answer a request for a path that is `wanted`. It reads the ledger, so it may block."""
    if facts.path == f"{fence.prefix}sessions":
        return mint(fence, facts, found)
    if facts.method not in ("GET", "HEAD"):
        status, headers, body = _problem(405, "Method Not Allowed")
        return status, [*headers, (b"allow", b"GET, HEAD")], body
    try:
        status, headers, body = _keys(fence) if found is None else _receipt(fence, facts, found)
    except LedgerUnavailableError as error:
        status, headers, body = _refusal(fence, facts, "ledger.unavailable", "Try again later.", error.retry_after)
    return status, headers, b"" if facts.method == "HEAD" else body


def _keys(fence: Fence) -> Answer:
    keys = [jwk(key.public) for key in fence.ledger.signing_keys()]
    return _answer(b"application/jwk-set+json", json.dumps({"keys": keys}).encode(), _GOOD_FOR)


def _receipt(fence: Fence, facts: HttpFacts, found: Identified) -> Answer:
    if not isinstance(found, Ok) or found.actor.anonymous:
        return _unknown(fence, facts, found, "A receipt is shown to its owner.")
    wanted_leaf = _RECEIPT.fullmatch(facts.path[len(fence.prefix) :])
    query = _SEQ.fullmatch(facts.query)
    if wanted_leaf is None or (facts.query and query is None):
        return _problem(404, "Not Found")
    one = fence.receipts.by_leaf(bytes.fromhex(wanted_leaf.group(1)), int(query.group(1)) if query else 0)
    owner = fence.receipts.pseudonym(found.actor.id)
    if one is None or not (OPERATOR in found.actor.scopes or _owner(one) == owner):
        return _problem(404, "Not Found")
    decision = str(one.columns["decision"])
    shown = [other for other in fence.receipts.decision(decision) if _owner(other) == _owner(one)] or [one]
    try:
        proof = fence.receipts.prove(shown)
    except ReceiptError:
        return _problem(404, "Not Found")
    return _answer(b"application/json", to_json(proof), b"private, no-store")


def mint(fence: Fence, facts: HttpFacts, found: Identified | None) -> Answer:
    """Mint a session for who asks with POST, as many as the policy allows. It commits, so it may block."""
    sessions = fence.plan.sessions
    if facts.method != "POST":
        status, headers, body = _problem(405, "Method Not Allowed")
        return status, [*headers, (b"allow", b"POST")], b"" if facts.method == "HEAD" else body
    if sessions is None or not sessions.mints:
        return _problem(404, "Not Found")
    if not isinstance(found, Ok) or found.actor.anonymous:
        return _unknown(fence, facts, found, "A session is bound to its caller.")
    now, actor = fence.clock(), found.actor
    verdict = Verdict(authorized=True, code=POLICY_ALLOWED)
    entry = Entry(
        id=fence.new_id(now),
        owner=actor.id,
        verdict=verdict,
        record=lambda final: operation(actor.id, Order(what=_MINTED[final.authorized], key=f"actor:{actor.id}")),
        rates=tuple(Charge(limit, f"actor:{actor.id}", 1) for limit in fence.mint_limits),
        trial=True,
    )
    try:
        held = fence.commit(entry)
    except (LedgerUnavailableError, ReceiptError) as error:
        wait = error.retry_after if isinstance(error, LedgerUnavailableError) else 0
        return _refusal(fence, facts, LEDGER_UNAVAILABLE, "The session cannot be counted now.", wait)
    if not held.verdict.authorized:
        asked = Refused(id=entry.id, verdict=held.verdict, actor=actor, balances=held.balances)
        return refusal(asked, now, fence.vary, cross_origin=facts.first(b"origin") is not None)
    handle = sessions.mint(actor, now, os.urandom)
    ends = datetime.fromtimestamp(handle.ends // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = json.dumps({"session": handle.text, "expires": ends}).encode()
    _, headers, _ = _answer(b"application/json", body, b"private, no-store")
    return 201, headers, body


def _unknown(fence: Fence, facts: HttpFacts, found: Identified | None, why: str) -> Answer:
    """The refusal of whoever is not known well enough to be served."""
    if isinstance(found, Unavailable):
        said = "Whether the credential is good cannot be told now."
        return _refusal(fence, facts, "identity.unavailable", said, found.retry_after)
    if isinstance(found, Invalid):
        return _refused(fence, facts, replace(refused(found.code, "The credential is not good."), nonce=found.nonce))
    return _refusal(fence, facts, "identity.required", why)


def _owner(stored: StoredReceipt) -> str:
    return str(parse(stored.receipt.body).get("owner", ""))


def _answer(media: bytes, body: bytes, kept: bytes) -> Answer:
    length = str(len(body)).encode()
    headers = [(b"content-type", media), (b"content-length", length), (b"cache-control", kept)]
    return 200, [*headers, (b"x-content-type-options", b"nosniff")], body


def _problem(status: int, title: str) -> Answer:
    body = json.dumps({"type": "about:blank", "title": title, "status": status}).encode()
    media = (b"content-type", b"application/problem+json")
    return status, [media, (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")], body


def _refusal(fence: Fence, facts: HttpFacts, code: str, said: str, retry_after: int = 0) -> Answer:
    return _refused(fence, facts, refused(code, said, retry_after=retry_after))


def _refused(fence: Fence, facts: HttpFacts, verdict: Verdict) -> Answer:
    now = fence.clock()
    asked = Refused(id=fence.new_id(now), verdict=verdict, actor=anonymous(facts))
    return refusal(asked, now, fence.vary, cross_origin=facts.first(b"origin") is not None)
