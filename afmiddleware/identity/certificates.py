"""Clients that have shown a certificate to a proxy which is believed: `Client-Cert` (RFC 9440), or nginx's own form.

From anybody else the header is what a client writes itself, and means nothing.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from afmiddleware.identity.certificate import ClientCertificate
from afmiddleware.identity.jose import digest64
from afmiddleware.identity.outcome import Absent, Identified, Invalid, Ok
from afmiddleware.model.actor import Actor
from afmiddleware.model.codes import REQUEST_AMBIGUOUS
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from afmiddleware.model.http import HttpFacts

MAX_CERTIFICATE: Final = 16384
_BYTES = re.compile(rb":([A-Za-z0-9+/]*={0,2}):")
_SECOND: Final = 1_000_000


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """A client that is known by its certificate: by its thumbprint (`x5t#S256`), or by a URI in it (SPIFFE)."""

    name: str
    thumbprint: str = ""
    uri: str = ""
    tier: Tier = Tier.VERIFIED
    scopes: frozenset[str] = frozenset()


class Certificates:
    """Reads what a proxy says of a client's certificate, and knows `clients` by it.

    `believes` says whether a request comes from such a proxy. `header` (lower case) holds the certificate, as a
    structured field (RFC 9440), or with `pem` as percent-encoded PEM. Where `verified` is given, that header has to
    hold that value: some proxies pass on certificates that did not verify.
    """

    def __init__(
        self,
        clients: Sequence[Client],
        believes: Callable[[HttpFacts], bool],
        *,
        header: bytes = b"client-cert",
        pem: bool = False,
        verified: tuple[bytes, bytes] | None = None,
    ) -> None:
        self._by_thumbprint = {client.thumbprint: client for client in clients if client.thumbprint}
        self._by_uri = {client.uri: client for client in clients if client.uri}
        self._believes = believes
        self._header = header
        self._verified = verified
        self._read = lru_cache(maxsize=1024)(_from_pem if pem else _from_field)

    def shown(self, facts: HttpFacts) -> ClientCertificate | None:
        """The certificate of a request, for tokens that are bound to one; `None` when none is believed."""
        found = self._found(facts)
        return found.certificate if isinstance(found, _Read) else None

    def seen(self, facts: HttpFacts) -> bool:
        """Whether a proxy says something of a certificate."""
        return facts.first(self._header) is not None and self._believes(facts)

    def check(self, facts: HttpFacts, now: int) -> Identified:
        """Which client has shown a certificate; absent when none, or one that nobody is known by."""
        found = self._found(facts)
        if not isinstance(found, _Read):
            return found
        if not found.begins * _SECOND <= now <= found.ends * _SECOND:
            return Invalid("the client certificate is not valid now")
        shown = found.certificate
        client = self._by_thumbprint.get(shown.thumbprint)
        if client is None:
            client = next((self._by_uri[uri] for uri in shown.uris if uri in self._by_uri), None)
        return Ok(_actor(client, shown)) if client is not None else Absent(("certificate:unlisted",))

    def _found(self, facts: HttpFacts) -> _Read | Absent | Invalid:
        lines = facts.all(self._header)
        if not lines or not self._believes(facts):
            return Absent()
        if len(lines) > 1:
            return Invalid("two client certificates", REQUEST_AMBIGUOUS)
        if self._verified is None and b"transfer-encoding" in facts.fields:
            # It may be a trailer, which no proxy has looked at (`Proxies.unclear`).
            return Invalid("a client certificate beside a chunked body, and no verified_header to tell whose it is")
        if self._verified is not None and facts.all(self._verified[0]) != [self._verified[1]]:
            return Invalid("a client certificate that the proxy did not verify")
        try:
            return self._read(lines[0])
        except ValueError:
            return Invalid("a client certificate that cannot be read")


class _Read(msgspec.Struct, frozen=True):
    """A certificate, and its time in seconds since the epoch."""

    certificate: ClientCertificate
    begins: int
    ends: int


def _from_field(line: bytes) -> _Read:
    """Read `:base64 of DER:`, a structured-field byte sequence. Raises `ValueError`."""
    match = _BYTES.fullmatch(line.strip(b" "))
    if match is None or len(line) > MAX_CERTIFICATE:
        raise ValueError
    try:
        return _read(x509.load_der_x509_certificate(b64decode(match.group(1), validate=True)))
    except binascii.Error as error:
        raise ValueError from error


def _from_pem(line: bytes) -> _Read:
    """Read percent-encoded PEM (nginx: `$ssl_client_escaped_cert`). Raises `ValueError`."""
    if len(line) > MAX_CERTIFICATE:
        raise ValueError
    return _read(x509.load_pem_x509_certificate(unquote_to_bytes(line)))


def _read(certificate: x509.Certificate) -> _Read:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError from error
    return _Read(
        ClientCertificate(
            thumbprint=digest64(certificate.public_bytes(Encoding.DER)),
            uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
            names=tuple(names.get_values_for_type(x509.DNSName)),
            subject=certificate.subject.rfc4514_string(),
        ),
        int(certificate.not_valid_before_utc.timestamp()),
        int(certificate.not_valid_after_utc.timestamp()),
    )


def _actor(client: Client, shown: ClientCertificate) -> Actor:
    return Actor(
        id=f"cert:{client.name}",
        tier=client.tier,
        proof="possession",
        scopes=client.scopes,
        account=client.name,
        agent=client.name,
        credential=f"x5t:{shown.thumbprint}",
    )
