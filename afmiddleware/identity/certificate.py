"""The certificate that a client has shown for its connection, as far as identity needs it."""

from __future__ import annotations

import msgspec


class ClientCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate whose private key the client has proven to hold: to this server, or to a proxy that is believed.

    `thumbprint` is the base64url SHA-256 of its DER bytes without padding, as `x5t#S256` has it (RFC 8705 section 3.1).
    `uris` and `names` are the URIs and DNS names of its subject alternative names, `subject` its distinguished name
    (RFC 4514).
    """

    thumbprint: str
    uris: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    subject: str = ""
