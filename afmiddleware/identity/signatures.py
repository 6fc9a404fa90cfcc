"""Agents that sign their requests: Web Bot Auth over HTTP message signatures (RFC 9421), behind a policy of our own.

The library rebuilds what was signed and verifies it. Everything else is decided here: which agents are known at all,
what a signature has to cover, for how long it may be good, and that it is used once. Source of the profile:
draft-ietf-webbotauth-httpsig-protocol; RFC 9530 for what binds the body.
"""

# The library's public names are re-exported without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import msgspec
from http_message_signatures import (
    HTTPMessageSignaturesException,
    HTTPMessageVerifier,
    HTTPSignatureAlgorithm,
    HTTPSignatureKeyResolver,
)
from http_message_signatures.algorithms import ECDSA_P256_SHA256, ECDSA_P384_SHA384, ED25519, RSA_PSS_SHA512
from http_message_signatures.digests import ContentDigest

from afmiddleware.errors import IdentityUnavailableError
from afmiddleware.identity.needs import Need, NeedKeySet, NeedOnce
from afmiddleware.identity.outcome import Absent, Identified, Invalid, Ok, Unavailable
from afmiddleware.identity.signature_fields import (
    MAX_AGENT,
    MAX_INPUT,
    TAG,
    SignatureError,
    SignatureInput,
    read_agent,
    read_input,
)
from afmiddleware.identity.together import UNATTRIBUTED, UNLISTED, VERIFIED
from afmiddleware.model.actor import Actor
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from afmiddleware.identity.keyset import Key, KeySet
    from afmiddleware.identity.origin import Origins
    from afmiddleware.model.http import HttpFacts

EARLY: Final = 30
"""By how many seconds the clock of a signer may be ahead."""
LATE: Final = 5
"""By how many seconds it may be behind."""
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SECOND: Final = 1_000_000
_NONCE_MARGIN: Final = 300
"""For how many seconds longer than a signature is good its nonce is kept: the clocks of hosts differ."""
_MAX_NONCE: Final = 256
_MAX_KEYID: Final = 128
_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")
_ALGORITHMS: Final[dict[str, type[HTTPSignatureAlgorithm]]] = {
    "EdDSA": ED25519,
    "ES256": ECDSA_P256_SHA256,
    "ES384": ECDSA_P384_SHA384,
    "PS512": RSA_PSS_SHA512,
}

Extent = Literal["unsafe", "all", "off"]
"""For which requests something is demanded: those that may change something, all, or none."""


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that is known by the origin under which it publishes its keys.

    `source` names its keys among all sources; `snapshot` gives them as last read, without waiting.
    """

    origin: str
    source: str
    snapshot: Callable[[], KeySet | None]
    name: str = ""
    tier: Tier = Tier.VERIFIED
    scopes: frozenset[str] = frozenset()


class Signatures:
    """Checks the signatures of `agents` on requests to `origins`.

    A signature is good for at most `max_window` seconds. What changes something has to be covered as a whole: method,
    authority, path, query, and the digest of its body; with `coverage` `all` every request has to. `replay` says of
    which requests the nonce is used up. `longest_input` and `longest_agent` are the most bytes of `Signature-Input` and
    `Signature-Agent`. Whoever is not among the agents has proven nothing, signature or not.
    """

    def __init__(  # noqa: PLR0913 (what the policy says of signatures)
        self,
        agents: Sequence[Agent],
        origins: Origins,
        *,
        max_window: int = 3600,
        coverage: Extent = "unsafe",
        replay: Extent = "unsafe",
        longest_input: int = MAX_INPUT,
        longest_agent: int = MAX_AGENT,
    ) -> None:
        self._longest_input = longest_input
        self._longest_agent = longest_agent
        self._agents = {agent.origin: agent for agent in agents}
        self._origins = origins
        self._max_window = max_window
        self._coverage = coverage
        self._replay = replay

    def check(self, facts: HttpFacts, now: int, *, spends: bool, observe: bool) -> Generator[Need, Any, Identified]:
        """Which agent has signed a request; absent when none of the known ones has.

        `spends` says that a request costs something whatever its method is. With `observe` no nonce is used up.
        """
        try:
            signed = read_input(facts, self._longest_input)
            origin = read_agent(facts, signed, self._longest_agent) if signed is not None else None
            if signed is None:
                return Absent()
            agent = self._agents.get(origin) if origin is not None else None
            if agent is None:
                return Absent((UNATTRIBUTED if origin is None else UNLISTED,))
            return (yield from self._checked(facts, now, signed, agent, spends=spends, observe=observe))
        except SignatureError as bad:
            return Invalid(str(bad), "request.ambiguous" if bad.ambiguous else "identity.invalid")
        except IdentityUnavailableError as error:
            return Unavailable(str(error), error.retry_after)

    def _checked(  # noqa: PLR0913 (what is known of a signature)
        self,
        facts: HttpFacts,
        now: int,
        signed: SignatureInput,
        agent: Agent,
        *,
        spends: bool,
        observe: bool,
    ) -> Generator[Need, Any, Ok]:
        acts = spends or facts.method not in SAFE
        ends = self._window(signed, now)
        _check_coverage(facts, signed, whole=acts or self._coverage == "all")
        nonce = _nonce(signed, demanded=self._replay == "all" or (acts and self._replay == "unsafe"))
        keyid = signed.parameters.get("keyid")
        if not isinstance(keyid, str) or not 0 < len(keyid) <= _MAX_KEYID:
            raise SignatureError("no usable keyid")
        keys = agent.snapshot()
        if keys is None or keyid not in keys.keys:
            keys = yield NeedKeySet(agent.source, keyid)
        key = keys.keys.get(keyid)
        if key is None:
            raise SignatureError("signed with a key that is not in the agent's directory")
        if not key.is_good(now):
            raise SignatureError("signed with a key outside of its time")
        covered = _verify(_Message(facts, self._url(facts)), signed.label, keyid, key)
        if nonce and not observe:
            mark = sha256(f"{agent.origin}\n{keyid}\n{nonce}".encode()).hexdigest()
            first = yield NeedOnce(f"signature:{mark}", (ends + LATE + _NONCE_MARGIN) * _SECOND - now)
            if not first:
                raise SignatureError("its nonce was used before")
        return Ok(_actor(agent, keyid), (VERIFIED,), signs=_body_rule(covered))

    def _window(self, signed: SignatureInput, now: int) -> int:
        """When a signature ends, in seconds; it has to be good now."""
        created, expires = signed.parameters.get("created"), signed.parameters.get("expires")
        if type(created) is not int or type(expires) is not int:
            raise SignatureError("created or expires is missing")
        if not 0 < expires - created <= self._max_window:
            raise SignatureError("good for longer than a signature may be")
        if now < (created - EARLY) * _SECOND:
            raise SignatureError("created in the future")
        if now > (expires + LATE) * _SECOND:
            raise SignatureError("expired")
        return expires

    def _url(self, facts: HttpFacts) -> str:
        """The URL that was asked for, as the client wrote it, under the origin that the policy names."""
        origin = self._origins.of(facts)
        if origin is None:
            raise SignatureError("the request came to no public origin")
        if facts.raw_path is not None:
            path = facts.raw_path.decode("latin-1")
        elif _PLAIN.issuperset(facts.path):
            path = facts.path
        else:
            raise SignatureError("the server does not say how the path was written")
        query = facts.query.decode("latin-1")
        return f"{origin}{path}?{query}" if query else f"{origin}{path}"


def _actor(agent: Agent, keyid: str) -> Actor:
    return Actor(
        id=f"wba:{agent.origin}",
        tier=agent.tier,
        proof="possession",
        scopes=agent.scopes,
        account=agent.origin,
        agent=agent.name or agent.origin,
        credential=f"keyid:{keyid}",
    )


def _check_coverage(facts: HttpFacts, signed: SignatureInput, *, whole: bool) -> None:
    """Raise `SignatureError` when something is not covered that another request could differ in."""
    target = signed.covers("@target-uri")
    wanted = [("@authority", target)]
    if whole:
        wanted += [("@method", False), ("@path", target), ("@query", target or not facts.query)]
    if _announces_body(facts):
        wanted.append(("content-digest", False))
    for name, otherwise in wanted:
        if not (otherwise or signed.covers(name)):
            raise SignatureError(f"{name} is not covered")


def _announces_body(facts: HttpFacts) -> bool:
    length = facts.first(b"content-length")
    return length not in (None, b"0") or facts.first(b"transfer-encoding") is not None


def _nonce(signed: SignatureInput, *, demanded: bool) -> str:
    """What may be used once, where that is demanded."""
    nonce = signed.parameters.get("nonce")
    if not demanded:
        return ""
    if not isinstance(nonce, str) or not 0 < len(nonce) <= _MAX_NONCE:
        raise SignatureError("no usable nonce")
    return nonce


def _body_rule(covered: str | None) -> Callable[[bytes], bool]:
    """What has to hold of the body: its digest, or that none comes, be it announced or (over HTTP/2) not."""
    if covered is not None:
        return lambda body: _digest_fits(covered, body)
    return _is_empty


def _is_empty(body: bytes) -> bool:
    return not body


def _digest_fits(digest: str, body: bytes) -> bool:
    try:
        ContentDigest.verify(digest, body)
    except HTTPMessageSignaturesException:
        return False
    return True


def _verify(message: _Message, label: str, keyid: str, key: Key) -> str | None:
    """Verify a signature; the value of `Content-Digest` that it covers as a whole. Raises `SignatureError`."""
    verifier = _Verifier(signature_algorithm=_ALGORITHMS[key.algorithm], key_resolver=_OneKey(keyid, key))
    try:
        (result,) = verifier.verify(message, max_age=None, expect_tag=TAG, expect_label=label)
    except (HTTPMessageSignaturesException, ValueError) as error:
        raise SignatureError(f"it does not verify ({type(error).__name__})") from None
    digest = result.covered_components.get('"content-digest"')
    return str(digest) if isinstance(digest, str) else None


class _Verifier(HTTPMessageVerifier):
    """The library's verifier without its clock: time is checked here, against the clock that was handed in."""

    def validate_created_and_expires(self, sig_input: Any, max_age: Any = None) -> None:
        del sig_input, max_age


class _OneKey(HTTPSignatureKeyResolver):
    """The one key that a signature may be verified with."""

    def __init__(self, keyid: str, key: Key) -> None:
        self._keyid = keyid
        self._key = key

    def resolve_public_key(self, key_id: str) -> Any:
        return self._key.public.key if key_id == self._keyid else None


class _Headers(Protocol):
    def items(self) -> Iterable[tuple[str, str]]: ...


class _Message:
    """A request as the library wants it."""

    def __init__(self, facts: HttpFacts, url: str) -> None:
        self.method = facts.method
        self.url = url
        self.headers: _Headers = _Lines(facts)


class _Lines:
    """The header lines in their order."""

    def __init__(self, facts: HttpFacts) -> None:
        self._lines = facts.headers

    def items(self) -> list[tuple[str, str]]:
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._lines]
