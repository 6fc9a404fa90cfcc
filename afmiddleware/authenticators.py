"""From the identity section of a policy to what checks credentials, and the sources of keys behind it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from afmiddleware.errors import ConfigError
from afmiddleware.identity.api_keys import ApiKeys
from afmiddleware.identity.app_user import FromApp
from afmiddleware.identity.binding import ALGORITHMS, Proofs
from afmiddleware.identity.certificates import Certificates, Client
from afmiddleware.identity.challenge import Challenges
from afmiddleware.identity.claims import ClaimNames
from afmiddleware.identity.identify import Authenticators
from afmiddleware.identity.jose import media_type
from afmiddleware.identity.nonces import Nonces
from afmiddleware.identity.origin import Origins
from afmiddleware.identity.proxies import Proxies
from afmiddleware.identity.resource import ProtectedResource, audience_path
from afmiddleware.identity.revocations import Revocations
from afmiddleware.identity.tokens import Issuer, Tokens
from afmiddleware.lookups.directories import directories
from afmiddleware.lookups.jwks import (
    FetchedKeys,
    FixedKeys,
    KeySources,
    KeyTimes,
    discovery_url,
    fetcher,
    fixed_keys,
    keys_from_file,
)
from afmiddleware.model.limit import Limit, Unit, Window
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from afmiddleware.config.identity_schema import Claims as ClaimsEntry
    from afmiddleware.config.identity_schema import FromApp as FromAppEntry
    from afmiddleware.config.identity_schema import Identity
    from afmiddleware.config.identity_schema import Issuer as IssuerEntry
    from afmiddleware.config.schema import Config
    from afmiddleware.model.http import HttpFacts

_USUAL = ("exp", "iat", "iss", "aud", "sub")
_AT_JWT = (*_USUAL, "client_id", "jti")
"""What RFC 9068 section 2.2 demands of an access token."""


def proxies(identity: Identity) -> Proxies:
    """What tells where requests come from."""
    entry = identity.proxy
    if entry.mode != "trusted":
        return Proxies()
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


def authenticators(
    identity: Identity,
    keys: KeySources,
    sign: Callable[[bytes], bytes],
    whence: Proxies,
    known: Certificates | None,
) -> Authenticators:
    """What checks the credentials of requests. `sign` authenticates bytes with a key of the ledger's."""
    origins = Origins(identity.public_origins)
    proofs = Proofs(origins, Nonces(sign) if identity.dpop.nonce else None)
    api_keys = None
    if identity.api_keys is not None:
        api_keys = ApiKeys(time.monotonic, threading.Lock(), imported=identity.api_keys.imported)
    tokens = None
    if identity.jwt is not None:
        issuers = [_issuer(entry, keys) for entry in identity.jwt.issuers]
        revoked = Revocations(time.monotonic)
        tokens = Tokens(issuers, time.monotonic, threading.Lock(), revoked=revoked, proofs=proofs)
    header = identity.api_keys.header.lower().encode("ascii") if identity.api_keys is not None else b"x-api-key"
    if known is None:
        return Authenticators(api_keys, header, tokens, client=whence.client)
    return Authenticators(api_keys, header, tokens, client=whence.client, certificate=known.shown)


def protected_resource(config: Config) -> ProtectedResource | None:
    """The service as clients of OAuth find it, where the policy says enough of it."""
    identity, settings = config.identity, config.identity.challenge
    issuers = identity.jwt.issuers if identity.jwt is not None else ()
    servers = settings.authorization_servers or tuple(issuer.issuer for issuer in issuers)
    if settings.resource_metadata == "off" or not identity.public_origins or not servers:
        return None
    scopes = sorted({scope for rule in config.rules.allow for scope in rule.scopes or ()})
    more: dict[str, Any] = {"resource_name": config.service}
    if scopes:
        more["scopes_supported"] = scopes
    if issuers:
        more["dpop_signing_alg_values_supported"] = list(ALGORITHMS)
    if identity.client_cert is not None:
        more["tls_client_certificate_bound_access_tokens"] = True
    audiences = {issuer.audience for issuer in issuers}
    path = audience_path(audiences.pop(), identity.public_origins) if len(audiences) == 1 else ""
    return ProtectedResource(Origins(identity.public_origins), servers, more, path)


def challenges(identity: Identity, resource: ProtectedResource | None) -> Challenges:
    """What whoever is refused is told to do."""
    issuers = identity.jwt.issuers if identity.jwt is not None else ()
    return Challenges(
        realm=identity.challenge.realm,
        resource=resource,
        key_header=identity.api_keys.header if identity.api_keys is not None else "",
        dpop=any(issuer.require_binding in ("dpop", "any") for issuer in issuers),
        signs=identity.web_bot_auth is not None and identity.web_bot_auth.mode == "enforce",
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
    """How many API keys that nobody knows are looked up for one address."""
    if identity.api_keys is None:
        return None
    return Limit(
        name="api-key-guesses",
        unit=Unit.RATE,
        cap=identity.api_keys.guesses_per_minute,
        window=Window("rolling", 60),
        per="address",
        cell="~guesses/r60",
    )


def from_app(entry: FromAppEntry | None) -> FromApp | None:
    """How a user whom the application has signed in becomes an actor, if at all."""
    return FromApp(tier=Tier.parse(entry.tier), id=entry.id) if entry is not None else None


def key_sources(config: Config, base: Path) -> KeySources:
    """Where the keys of every issuer and every agent come from. Raises `ConfigError`."""
    sources: dict[str, FixedKeys | FetchedKeys] = {}
    for entry in config.identity.jwt.issuers if config.identity.jwt is not None else ():
        if entry.issuer in sources:
            raise ConfigError([f"{config.source}: the issuer {entry.issuer} stands twice"])
        sources[entry.issuer] = _key_source(entry, base, config.source)
    return KeySources(sources | directories(config, base))


def _issuer(entry: IssuerEntry, keys: KeySources) -> Issuer:
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
        claims=_claim_names(entry.claims),
        tier=Tier.parse(entry.tier),
        binding=entry.require_binding,
        strict_audience=entry.strict_audience,
        missing_kid=entry.allow_missing_kid,
    )


def _claim_names(entry: ClaimsEntry) -> ClaimNames:
    return ClaimNames(
        account=entry.account,
        agent=entry.agent or "",
        session=entry.session,
        scopes=entry.scopes,
        roles=entry.roles,
        tenant=entry.tenant or "",
    )


def _key_source(entry: IssuerEntry, base: Path, source: str) -> FixedKeys | FetchedKeys:
    if entry.jwks is not None:
        return fixed_keys(entry.jwks, entry.algorithms, f"{source}: jwks of {entry.issuer}")
    if entry.jwks_file is not None:
        return keys_from_file(base / entry.jwks_file, entry.algorithms)
    discovery, keys = entry.discovery or "", entry.keys
    return FetchedKeys(
        entry.issuer,
        discovery_url(entry.issuer, discovery) if discovery else entry.jwks_uri or "",
        entry.algorithms,
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
