"""From the identity section of a policy to what checks credentials, and the sources of keys behind it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from afmiddleware.errors import ConfigError
from afmiddleware.identity.api_keys import ApiKeys
from afmiddleware.identity.app_user import FromApp
from afmiddleware.identity.binding import Proofs
from afmiddleware.identity.claims import ClaimNames
from afmiddleware.identity.identify import Authenticators
from afmiddleware.identity.jose import media_type
from afmiddleware.identity.nonces import Nonces
from afmiddleware.identity.origin import Origins
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

_USUAL = ("exp", "iat", "iss", "aud", "sub")
_AT_JWT = (*_USUAL, "client_id", "jti")
"""What RFC 9068 section 2.2 demands of an access token."""


def authenticators(identity: Identity, keys: KeySources, sign: Callable[[bytes], bytes]) -> Authenticators:
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
    return Authenticators(api_keys, header, tokens)


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
