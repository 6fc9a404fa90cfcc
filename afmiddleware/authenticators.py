"""From the identity section of a policy to what checks credentials, and the sources of keys behind it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from afmiddleware.config.identity_schema import client_secret
from afmiddleware.errors import ConfigError
from afmiddleware.identity.agents import Marks
from afmiddleware.identity.api_keys import PREFIX, ApiKeys
from afmiddleware.identity.app_user import FromApp
from afmiddleware.identity.binding import Proofs
from afmiddleware.identity.certificates import Certificates, Client
from afmiddleware.identity.claims import ClaimNames
from afmiddleware.identity.identify import Authenticators, no_certificate
from afmiddleware.identity.introspection import Asking, Introspection
from afmiddleware.identity.jose import media_type
from afmiddleware.identity.nonces import Nonces
from afmiddleware.identity.origin import Origins
from afmiddleware.identity.proxies import Proxies
from afmiddleware.identity.revocations import Revocations
from afmiddleware.identity.sessions import Sessions
from afmiddleware.identity.tokens import Issuer, Tokens
from afmiddleware.lookups.directories import directories
from afmiddleware.lookups.introspection import Introspector
from afmiddleware.lookups.jwks import (
    FetchedKeys,
    FixedKeys,
    KeySources,
    KeyTimes,
    discovery_url,
    document_in,
    fetcher,
    fixed_keys,
)
from afmiddleware.model.limit import Limit, Unit, Window
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from afmiddleware.config.identity_schema import AgentDetection, Identity
    from afmiddleware.config.identity_schema import Claims as ClaimsEntry
    from afmiddleware.config.identity_schema import FromApp as FromAppEntry
    from afmiddleware.config.identity_schema import Introspection as IntrospectionEntry
    from afmiddleware.config.identity_schema import Issuer as IssuerEntry
    from afmiddleware.config.schema import Config
    from afmiddleware.model.http import HttpFacts

GUESSES: Final = 20
_USUAL = ("exp", "iat", "iss", "aud", "sub")
_AT_JWT = (*_USUAL, "client_id", "jti")
"""What RFC 9068 section 2.2 demands of an access token."""


def proxies(identity: Identity) -> Proxies:
    """What tells where requests come from."""
    entry = identity.proxy
    if entry.mode != "trusted":
        return Proxies(server=entry.mode == "server")
    header = entry.header.lower().encode("ascii")
    return Proxies(entry.trusted_proxies, header=header, max_hops=entry.max_hops, trust_unix=entry.trust_unix)


def certificates(identity: Identity, believes: Callable[[HttpFacts], bool]) -> Certificates | None:
    """What knows clients by their certificates, if the policy speaks of any."""
    entry = identity.client_cert
    if entry is None:
        return None
    clients = [
        Client(
            name=one.name,
            thumbprint=one.thumbprint or "",
            uri=one.uri or "",
            tier=Tier.parse(one.tier),
            scopes=frozenset(one.scopes),
        )
        for one in entry.clients
    ]
    verified = entry.verified_header
    return Certificates(
        clients,
        believes,
        header=entry.header.lower().encode("ascii"),
        pem=entry.form == "nginx",
        verified=(verified.lower().encode("ascii"), entry.verified_value.encode()) if verified is not None else None,
    )


def authenticators(  # noqa: PLR0913 (what credentials are checked by)
    identity: Identity,
    keys: KeySources,
    sign: Callable[[bytes], bytes],
    whence: Proxies,
    known: Certificates | None,
    caps: tuple[str, ...] = (),
) -> Authenticators:
    """What checks the credentials of requests. `sign` authenticates bytes with a key of the ledger's.

    `caps` are the claims that limits take their caps from.
    """
    origins = Origins(identity.public_origins)
    proofs = Proofs(origins, Nonces(sign) if identity.dpop.nonce else None)
    api_keys = None
    if identity.api_keys is not None:
        said = identity.api_keys
        api_keys = ApiKeys(
            time.monotonic, threading.Lock(), imported=said.imported, prefix=said.prefix, fresh=said.cache_s
        )
    tokens, revoked = None, Revocations(time.monotonic)
    if identity.jwt is not None:
        issuers = [_issuer(entry, keys, caps) for entry in identity.jwt.issuers]
        longest = identity.limits.authorization_bytes
        tokens = Tokens(issuers, time.monotonic, revoked=revoked, proofs=proofs, longest=longest)
    header = identity.api_keys.header.lower().encode("ascii") if identity.api_keys is not None else b"x-api-key"
    asking = identity.introspection
    introspection = (
        Introspection(_asking(asking, caps), time.monotonic, threading.Lock(), revoked=revoked, proofs=proofs)
        if asking is not None
        else None
    )
    shown = known.shown if known is not None else no_certificate
    return Authenticators(
        api_keys,
        header,
        tokens,
        client=whence.client,
        certificate=shown,
        introspection=introspection,
        longest=identity.limits.authorization_bytes,
    )


def key_prefix(identity: Identity) -> str:
    """What new API keys begin with."""
    return identity.api_keys.prefix if identity.api_keys is not None else PREFIX


def introspector(identity: Identity, base: Path, source: str) -> Introspector | None:
    """Who asks the authorization server about opaque tokens, if anybody. Raises `ConfigError`."""
    entry = identity.introspection
    if entry is None:
        return None
    held = entry.client_secret
    if held.secret is not None:
        secret = held.secret.get_secret_value()
    else:
        place = base / (held.file or "")
        try:
            secret = client_secret(place.read_text("utf-8"))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it holds no secret"
            raise ConfigError([f"{source}: the client's secret {place} cannot be read: {why}"]) from None
    return Introspector(entry.endpoint, entry.client_id, secret, allow_private=entry.allow_private)


def sessions_of(identity: Identity, sign: Callable[[bytes], bytes], limits: Iterable[Limit]) -> Sessions:
    """How it is told which session a request belongs to."""
    said = identity.sessions
    return Sessions(
        sign,
        sources=said.sources,
        header=said.header.lower().encode("ascii"),
        window=said.window,
        ttl=said.ttl * 1_000_000,
        counted=any("session" in limit.per.split("+") for limit in limits),
    )


def mint_limits(identity: Identity) -> tuple[Limit, ...]:
    """How many sessions one caller may mint: in an hour, and while they live."""
    said = identity.sessions
    return (
        _mints("sessions-minted", said.mint_per_hour, 3600),
        _mints("sessions-live", said.max_live, said.ttl),
    )


def _mints(name: str, cap: int, seconds: int) -> Limit:
    return Limit(name=name, unit=Unit.RATE, cap=cap, window=Window("rolling", seconds), cell=f"~{name}/r{seconds}")


def _asking(entry: IntrospectionEntry, caps: tuple[str, ...]) -> Asking:
    return Asking(
        issuer=entry.issuer,
        audience=entry.audience or "",
        claims=_claim_names(entry.claims, caps),
        tier=Tier.parse(entry.tier),
        fresh=entry.positive_ttl_s,
        leeway=entry.leeway_s,
        binding=entry.require_binding,
    )


def fields_read(identity: Identity) -> bytes:
    """The request headers that say who asks, as `Vary` lists them."""
    names = ["Authorization"]
    if identity.api_keys is not None:
        names.append(identity.api_keys.header)
    if identity.from_app is not None:
        names.append("Cookie")
    if identity.web_bot_auth is not None:
        names += ["Signature-Input", "Signature", "Signature-Agent"]
    if identity.client_cert is not None:
        names.append(identity.client_cert.header)
    return ", ".join(names).encode("ascii")


def guess_limit(identity: Identity) -> Limit | None:
    """How many keys and opaque tokens that nobody knows are looked up for one address."""
    if identity.api_keys is None and identity.introspection is None:
        return None
    return Limit(
        name="guesses",
        unit=Unit.RATE,
        cap=identity.api_keys.guesses_per_minute if identity.api_keys is not None else GUESSES,
        window=Window("rolling", 60),
        per="address",
        cell="~guesses/r60",
    )


def from_app(entry: FromAppEntry | None) -> FromApp | None:
    """How a user whom the application has signed in becomes an actor, if at all."""
    return FromApp(tier=Tier.parse(entry.tier), id=entry.id) if entry is not None else None


def marks(entry: AgentDetection) -> Marks:
    """What marks a request as that of an agent."""
    return Marks(builtin=entry.user_agents == "builtin", names=entry.names, mcp=entry.mcp_headers)


def key_sources(config: Config, base: Path, before: KeySources | None = None) -> KeySources:
    """Where the keys of every issuer and every agent come from. Raises `ConfigError`.

    What was fetched for a policy `before` is kept where it would be fetched in the same way.
    """
    sources: dict[str, FixedKeys | FetchedKeys] = {}
    for entry in config.identity.jwt.issuers if config.identity.jwt is not None else ():
        if entry.issuer in sources:
            raise ConfigError([f"line {entry.line}: the issuer {entry.issuer} stands twice; keep one of them"])
        sources[entry.issuer] = _key_source(entry, base)
    sources |= directories(config, base)
    for name, made in sources.items():
        stands = before.sources.get(name) if before is not None else None
        if isinstance(made, FetchedKeys) and isinstance(stands, FetchedKeys) and made.like(stands):
            sources[name] = stands
    return KeySources(sources)


def _issuer(entry: IssuerEntry, keys: KeySources, caps: tuple[str, ...]) -> Issuer:
    typ = tuple(media_type(typ) for typ in entry.typ)
    required = _AT_JWT if typ == ("at+jwt",) else _USUAL
    return Issuer(
        name=entry.issuer,
        audience=entry.audience,
        algorithms=entry.algorithms,
        snapshot=keys.sources[entry.issuer].snapshot,
        typ=typ,
        require=entry.require if entry.require is not None else required,
        leeway=entry.leeway_s,
        max_lifetime=entry.max_lifetime_s,
        claims=_claim_names(entry.claims, caps),
        tier=Tier.parse(entry.tier),
        binding=entry.require_binding,
        strict_audience=entry.strict_audience,
        missing_kid=entry.allow_missing_kid,
    )


def _claim_names(entry: ClaimsEntry, caps: tuple[str, ...]) -> ClaimNames:
    return ClaimNames(
        account=entry.account,
        agent=entry.agent or "",
        session=entry.session,
        scopes=entry.scopes,
        roles=entry.roles,
        tenant=entry.tenant or "",
        caps=caps,
    )


def _key_source(entry: IssuerEntry, base: Path) -> FixedKeys | FetchedKeys:
    where = f"line {entry.line}: keys of {entry.issuer}"
    if entry.jwks is not None:
        return fixed_keys(entry.jwks, entry.algorithms, where)
    if entry.jwks_file is not None:
        maker = f"afmiddleware token mint --issuer {entry.issuer}"
        return fixed_keys(document_in(base / entry.jwks_file, where, maker), entry.algorithms, where)
    discovery, keys = entry.discovery or "", entry.keys
    return FetchedKeys(
        entry.issuer,
        discovery_url(entry.issuer, discovery) if discovery else entry.jwks_uri or "",
        entry.algorithms,
        made_of=(entry.discovery, entry.jwks_uri, entry.algorithms, entry.allow_private, entry.jwks_hosts, entry.keys),
        discovery=discovery,
        hosts=entry.jwks_hosts,
        times=KeyTimes(
            soft=keys.soft_ttl_s,
            hard=keys.hard_ttl_s,
            cold_wait=keys.cold_wait_s,
            cooldown=keys.unknown_kid_cooldown_s,
        ),
        timer=time.monotonic,
        fetch=fetcher(allow_private=entry.allow_private),
    )
