"""Who acts."""

from __future__ import annotations

import msgspec

from afmiddleware.model.tier import Tier


class Actor(msgspec.Struct, frozen=True, kw_only=True, gc=False, cache_hash=True):
    """A caller as proven, never its credential.

    `id` is what limits and receipts hang on: `key:<account>`, `jwt:<issuer>|<subject>`, `address:<prefix>`,
    `app:<user>` or `local:<name>`. `proof` is `none`, `bearer`, `possession` or `session`.
    `credential` is the public id of the credential. `caps` are what its issuer says it may spend, by the names of
    claims, as texts. `marked` says that the request of a signed-in user bears the marks of an agent.
    """

    id: str
    tier: Tier = Tier.ANONYMOUS
    proof: str = "none"
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    account: str = ""
    agent: str = ""
    on_behalf_of: str = ""
    tenant: str = ""
    session: str = ""
    credential: str = ""
    depth: int = 0
    caps: tuple[tuple[str, str], ...] = ()
    marked: bool = False

    @property
    def signed_in(self) -> bool:
        """Whether this is a user whom the application itself has signed in."""
        return self.proof == "session"

    @property
    def anonymous(self) -> bool:
        """Whether nothing about the caller is proven."""
        return self.tier is Tier.ANONYMOUS
