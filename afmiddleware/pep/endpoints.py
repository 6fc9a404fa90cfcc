"""What the fence serves itself: public keys, receipts with their proof, the caller's budget, sessions, its readiness.

Known here once, whatever the framework: an adapter asks `wanted`, finds out who asks with `caller`, and sends what
`serve` answers. A receipt is shown to its owner and to operators; to anybody else it does not exist.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from afmiddleware.callers import identify, note
from afmiddleware.errors import LedgerUnavailableError, ReceiptError
from afmiddleware.identity.outcome import Invalid, Ok, Unavailable
from afmiddleware.mapping.screen import screen
from afmiddleware.pep.budget import budget_of
from afmiddleware.pep.minting import mint
from afmiddleware.pep.passage import guessed, refused_by, too_often, unrecorded
from afmiddleware.pep.respond import instant
from afmiddleware.plan import Refused
from afmiddleware.receipts.bundle import to_json
from afmiddleware.receipts.canonical import parse
from afmiddleware.receipts.checkpoint import jwk

if TYPE_CHECKING:
    from collections.abc import Callable

    from afmiddleware.effects import Flow
    from afmiddleware.fence import Fence
    from afmiddleware.identity.app_user import AppUser
    from afmiddleware.identity.outcome import Identified
    from afmiddleware.model.http import HttpFacts
    from afmiddleware.pep.respond import RawHeaders
    from afmiddleware.receipts.verify import StoredReceipt

Answer = tuple[int, "RawHeaders", bytes]
OPERATOR: Final = "fence:operator"
"""The scope that makes a caller an operator: every receipt is shown to it."""

COUNTED: Final = "Refusals of callers without a good credential are counted together, not recorded one by one."
SOON: Final = "No receipt has this decision yet; refusals of callers without a good credential are counted in a moment."
_RECEIPT = re.compile(r"receipts/([0-9a-f]{64})", re.ASCII)
_DECISION = re.compile(r"decisions/([0-9a-f]{32})", re.ASCII)
_SEQ = re.compile(rb"seq=([1-9][0-9]{0,17})")
_GOOD_FOR: Final = b"public, max-age=300"
_PRIVATE: Final = b"private, no-store"
_ANYBODY: Final = ((b"access-control-allow-origin", b"*"),)


def wanted(fence: Fence, path: str) -> bool:
    """Whether the fence serves this path itself. Everything else under the prefix is the application's."""
    if fence.resource is not None and fence.resource.part(path, fence.plan.bindings) is not None:
        return True
    if not path.startswith(fence.prefix):
        return False
    rest = path[len(fence.prefix) :]
    if rest == "sessions":
        return fence.plan.sessions is not None and fence.plan.sessions.mints
    return (
        rest in ("keys", "budget", "ready")
        or _RECEIPT.fullmatch(rest) is not None
        or _DECISION.fullmatch(rest) is not None
    )


def caller(
    fence: Fence, facts: HttpFacts, known: Callable[[], AppUser | None] | None = None
) -> Flow[Identified | None]:
    """Who asks; nobody is asked for what is public, or in two ways. `known` asks whom the application has signed in."""
    if (
        facts.path in (f"{fence.prefix}keys", f"{fence.prefix}ready")
        or not facts.path.startswith(fence.prefix)
        or screen(facts) is not None
    ):
        return None
    plan, now = fence.plan, fence.clock()
    found = yield from identify(plan, facts, now, known)
    found = found if plan.sessions is None else plan.sessions.within(found, facts, now)
    note(found, "the fence's own endpoints", plan.client(facts))
    return found


def serve(fence: Fence, facts: HttpFacts, found: Identified | None) -> Answer:
    """Answer a request for a path that is `wanted`. It reads the ledger, so it may block."""
    unclear = screen(facts)
    if unclear is not None:
        return _refusal(fence, facts, unclear.code, str(unclear))
    if not facts.path.startswith(fence.prefix):
        return _metadata(fence, facts)
    minting = facts.path == f"{fence.prefix}sessions"
    allowed = ("POST",) if minting else ("GET", "HEAD")
    if facts.method not in allowed:
        status, headers, body = _problem(405, "Method Not Allowed")
        return status, [*headers, (b"allow", ", ".join(allowed).encode())], b"" if facts.method == "HEAD" else body
    if facts.path == f"{fence.prefix}ready":
        status, headers, body = _ready(fence)
        return status, headers, b"" if facts.method == "HEAD" else body
    actor = found.actor if isinstance(found, Ok) and not found.actor.anonymous else None
    try:
        if (refused := too_often(fence, facts, actor)) is not None:
            status, headers, body = refused_by(fence, facts, refused)
        else:
            status, headers, body = _keys(fence) if found is None else _own(fence, facts, found)
    except LedgerUnavailableError as error:
        status, headers, body = _refusal(fence, facts, "ledger.unavailable", "Try again later.", error.retry_after)
    return status, headers, b"" if facts.method == "HEAD" else body


def _metadata(fence: Fence, facts: HttpFacts) -> Answer:
    """The service as a protected resource, for whoever asks, from a page of any origin too."""
    if facts.method == "OPTIONS":
        return 204, [*_ANYBODY, (b"access-control-allow-methods", b"GET"), (b"access-control-allow-headers", b"*")], b""
    resource = fence.resource
    part = resource.part(facts.path, fence.plan.bindings) if resource is not None else None
    found = resource.document(facts, part) if resource is not None and part is not None else None
    if found is None or facts.method not in ("GET", "HEAD"):
        return _problem(404, "Not Found") if found is None else _problem(405, "Method Not Allowed")
    status, headers, body = _answer(b"application/json", json.dumps(found).encode(), _GOOD_FOR)
    return status, [*headers, *_ANYBODY, (b"vary", b"Host")], b"" if facts.method == "HEAD" else body


def _ready(fence: Fence) -> Answer:
    """For health checks, which have no credential and ask often. Why it is not ready is not told."""
    if fence.ready():
        return _answer(b"application/json", b'{"ready": true}', _PRIVATE)
    status, headers, body = _problem(503, "Service Unavailable")
    return status, [*headers, (b"retry-after", b"1")], body


def _keys(fence: Fence) -> Answer:
    keys = [jwk(key.public) for key in fence.ledger.signing_keys()]
    return _answer(b"application/jwk-set+json", json.dumps({"keys": keys}).encode(), _GOOD_FOR)


def _own(fence: Fence, facts: HttpFacts, found: Identified) -> Answer:
    if isinstance(found, Unavailable):
        return _refusal(fence, facts, "identity.unavailable", "The key source cannot be reached.", found.retry_after)
    if isinstance(found, Invalid):
        if found.guess:
            return refused_by(fence, facts, guessed(fence, facts, found.code, "The credential is not good."))
        asked = unrecorded(fence, facts, found.code, "The credential is not good.")
        return refused_by(fence, facts, replace(asked, verdict=replace(asked.verdict, nonce=found.nonce)))
    asking = found if isinstance(found, Ok) and not found.actor.anonymous else None
    rest = facts.path[len(fence.prefix) :]
    decision = _DECISION.fullmatch(rest)
    if decision is not None:
        return _decision(fence, facts, asking, decision.group(1))
    if asking is None:
        return _refusal(fence, facts, "identity.required", "This is shown to its owner.")
    if rest == "sessions":
        minted = mint(fence, asking, dry=facts.fields.get(b"agent-dry-run") == b"?1")
        if isinstance(minted, Refused):
            return refused_by(fence, facts, minted)
        _, headers, body = _answer(b"application/json", minted, _PRIVATE)
        return 201, headers, body
    if rest == "budget":
        return _answer(b"application/json", budget_of(fence, asking.actor, fence.plan.client(facts)), _PRIVATE)
    leaf, query = _RECEIPT.fullmatch(rest), _SEQ.fullmatch(facts.query)
    if leaf is None or (facts.query and query is None):
        return _problem(404, "Not Found")
    one = fence.receipts.by_leaf(bytes.fromhex(leaf.group(1)), int(query.group(1)) if query else 0)
    if one is None or not _shown_to(fence, asking, one):
        return _problem(404, "Not Found")
    found_with = fence.receipts.decision(str(one.columns["decision"]))
    return _proof(fence, [other for other in found_with if _owner(other) == _owner(one)] or [one])


def _decision(fence: Fence, facts: HttpFacts, asking: Ok | None, decision: str) -> Answer:
    """The receipts of a decision, to whom they belong; or that it has none because it was only counted."""
    stored = fence.receipts.decision(decision)
    if stored:
        if asking is None:
            return _refusal(fence, facts, "identity.required", "A decision's receipts are shown to their owner.")
        shown = [one for one in stored if _shown_to(fence, asking, one)]
        return _proof(fence, shown) if shown else _problem(404, "Not Found")
    told: dict[str, object] = {"decision_id": decision}
    counted = fence.receipts.counted(decision)
    if counted:
        window = parse(counted[0].receipt.body)
        since, until = instant(window["since"]), instant(window["until"])
        told |= {"recorded": "counted", "detail": COUNTED, "since": since, "until": until}
        if asking is not None and OPERATOR in asking.actor.scopes:
            told["aggregates"] = [{"seq": one.receipt.seq, "leaf": one.receipt.leaf.hex()} for one in counted]
    elif fence.receipts.is_counted_soon(decision, fence.clock()):
        told |= {"recorded": "soon", "detail": SOON}
    elif asking is None:
        return _refusal(fence, facts, "identity.required", "A decision's receipts are shown to their owner.")
    else:
        return _problem(404, "Not Found")
    return _answer(b"application/json", json.dumps(told).encode(), _PRIVATE)


def _shown_to(fence: Fence, asking: Ok, one: StoredReceipt) -> bool:
    return OPERATOR in asking.actor.scopes or _owner(one) == fence.receipts.pseudonym(asking.actor.id)


def _proof(fence: Fence, shown: list[StoredReceipt]) -> Answer:
    try:
        proof = fence.receipts.prove(shown)
    except ReceiptError:
        return _problem(404, "Not Found")
    return _answer(b"application/json", to_json(proof), _PRIVATE)


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
    return refused_by(fence, facts, unrecorded(fence, facts, code, said, retry_after=retry_after))
