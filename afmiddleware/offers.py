"""What the service tells whom it refuses: which credentials help, and where a client of OAuth gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afmiddleware.identity.binding import ALGORITHMS
from afmiddleware.identity.challenge import Challenges
from afmiddleware.identity.origin import Origins
from afmiddleware.identity.resource import ProtectedResource, audience_path

if TYPE_CHECKING:
    from afmiddleware.config.identity_schema import Identity
    from afmiddleware.config.schema import Config


def protected_resource(config: Config) -> ProtectedResource | None:
    """The service as clients of OAuth find it, where the policy says enough of it."""
    identity, settings = config.identity, config.identity.challenge
    issuers = identity.jwt.issuers if identity.jwt is not None else ()
    known = [issuer.issuer for issuer in issuers]
    if identity.introspection is not None and identity.introspection.issuer not in known:
        known.append(identity.introspection.issuer)
    servers = settings.authorization_servers or tuple(known)
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
    if identity.introspection is not None and identity.introspection.audience:
        audiences.add(identity.introspection.audience)
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
