"""What the fence serves itself: the log's public keys, a receipt with its proof, and the caller's budget.

Known here once, whatever the framework: an adapter asks `wanted`, finds out who asks with `caller`, and sends what
`serve` answers. A receipt is shown to its owner and to operators; to anybody else it does not exist.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from afmiddleware.callers import identify
from afmiddleware.errors import LedgerUnavailableError, ReceiptError
from afmiddleware.flow import refused
from afmiddleware.identity.address import anonymous
from afmiddleware.identity.outcome import Invalid, Ok, Unavailable
from afmiddleware.pep.budget import budget_of
from afmiddleware.pep.respond import refusal
from afmiddleware.plan import Refused
from afmiddleware.receipts.bundle import to_json
from afmiddleware.receipts.canonical import parse
from afmiddleware.receipts.checkpoint import jwk

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
_GOOD_FOR: Final = b"public, max-age=300"


def wanted(fence: Fence, path: str) -> bool:
    """Whether the fence serves this path itself. Everything else under the prefix is the application's."""
    if not path.startswith(fence.prefix):
        return False
    rest = path[len(fence.prefix) :]
    return rest in ("keys", "budget") or _RECEIPT.fullmatch(rest) is not None


def caller(fence: Fence, facts: HttpFacts) -> Flow[Identified | None]:
    """Who asks; nobody is asked for the keys, which are public."""
    if facts.path == f"{fence.prefix}keys":
        return None
    return (yield from identify(fence.plan, facts, fence.clock()))


def serve(fence: Fence, facts: HttpFacts, found: Identified | None) -> Answer:
    """Answer a request for a path that is `wanted`. It reads the ledger, so it may block."""
    if facts.method not in ("GET", "HEAD"):
        status, headers, body = _problem(405, "Method Not Allowed")
        return status, [*headers, (b"allow", b"GET, HEAD")], body
    try:
        status, headers, body = _keys(fence) if found is None else _own(fence, facts, found)
    except LedgerUnavailableError as error:
        status, headers, body = _refusal(fence, facts, "ledger.unavailable", "Try again later.", error.retry_after)
    return status, headers, b"" if facts.method == "HEAD" else body


def _keys(fence: Fence) -> Answer:
    keys = [jwk(key.public) for key in fence.ledger.signing_keys()]
    return _answer(b"application/jwk-set+json", json.dumps({"keys": keys}).encode(), _GOOD_FOR)


def _own(fence: Fence, facts: HttpFacts, found: Identified) -> Answer:
    if isinstance(found, Unavailable):
        return _refusal(fence, facts, "identity.unavailable", "The key source cannot be reached.", found.retry_after)
    if isinstance(found, Invalid):
        return _refusal(fence, facts, "identity.invalid", "The credential is not good.")
    if not isinstance(found, Ok) or found.actor.anonymous:
        return _refusal(fence, facts, "identity.required", "This is shown to its owner.")
    if facts.path == f"{fence.prefix}budget":
        return _answer(
            b"application/json", budget_of(fence, found.actor, fence.plan.client(facts)), b"private, no-store"
        )
    return _receipt(fence, facts, found)


def _receipt(fence: Fence, facts: HttpFacts, found: Ok) -> Answer:
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
    verdict = refused(code, said, retry_after=retry_after)
    now = fence.clock()
    asked = Refused(id=fence.new_id(now), verdict=verdict, actor=anonymous(facts))
    return refusal(asked, now, fence.vary, cross_origin=facts.first(b"origin") is not None)
