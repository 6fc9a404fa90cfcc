"""What fence.yaml may say under `identity:`: how callers prove who they are."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, SecretBytes

from afmiddleware.config.mapped import Line, Model
from afmiddleware.config.texts import (
    SOME,
    Boolean,
    Checked,
    Fraction,
    Seconds,
    Text,
    Whole,
    Word,
    check_header,
    check_host,
    check_key_prefix,
    check_name,
    check_network,
    check_origin,
    check_realm,
    check_thumbprint,
    check_url,
    list_of,
    one_of,
    some_of,
)

FAMILIES: Final = {
    "RS256": "RS and PS",
    "RS384": "RS and PS",
    "RS512": "RS and PS",
    "PS256": "RS and PS",
    "PS384": "RS and PS",
    "PS512": "RS and PS",
    "ES256": "ES",
    "ES384": "ES",
    "EdDSA": "EdDSA",
}
"""The algorithms of tokens, and which go together: an issuer's keys are of one kind."""


class ApiKeys(Model):
    """API keys are accepted, and kept in the ledger.

    New ones begin with `prefix`. With `imported` also those of another make, whose SHA-256 digests were imported. From
    one address `guesses_per_minute` unknown keys are looked up. A key that was good is believed for `cache_s` seconds.
    """

    store: Annotated[Word, one_of("ledger")] = "ledger"
    prefix: Annotated[Word, Checked(check_key_prefix, pattern="^[a-z][a-z0-9]{1,11}$", examples=["acme"])] = "afk"
    cache_s: Annotated[Whole, Field(le=60)] = 5
    header: Annotated[Word, Checked(check_header)] = "x-api-key"
    imported: Boolean = False
    guesses_per_minute: Annotated[Whole, Field(ge=1, le=1_000_000)] = 20


class Claims(Model):
    """Which claims say what of a caller: names, or paths of names joined by dots."""

    account: Text = "sub"
    agent: Text | None = None
    session: Text = "sid"
    scopes: Text = "scope"
    roles: Text = "roles"
    tenant: Text | None = None


class KeyTimes(Model):
    """How long fetched keys are believed, in seconds.

    After `soft_ttl_s` they are read again in the background, unless their answer said when (`Cache-Control`); after
    `hard_ttl_s` without success they are believed no more. A request waits at most `cold_wait_s` for the first keys;
    key ids that nobody knows cause one fetch in `unknown_kid_cooldown_s`.
    """

    soft_ttl_s: Annotated[Whole, Field(ge=10, le=86_400)] = 300
    hard_ttl_s: Annotated[Whole, Field(ge=60, le=30 * 86_400)] = 86_400
    cold_wait_s: Annotated[Fraction, Field(le=10)] = 1.5
    unknown_kid_cooldown_s: Annotated[Whole, Field(ge=1, le=3600)] = 30


class Issuer(Model):
    """An issuer of JSON Web Tokens, and where its keys are.

    `require` are the claims that must be there; left out, they are those of its kind of token (RFC 9068 for `at+jwt`).
    A discovery document may name keys on its own host, and on `jwks_hosts`.
    """

    line: Line = 0
    issuer: Annotated[Word, Checked(check_url)]
    audience: Text
    algorithms: Annotated[
        tuple[Annotated[Word, one_of(*FAMILIES)], ...],
        BeforeValidator(some_of),
        SOME,
    ]
    jwks: dict[str, Any] | None = None
    jwks_file: Text | None = None
    jwks_uri: Annotated[Word, Checked(check_url)] | None = None
    discovery: Annotated[Word, one_of("oidc", "rfc8414")] | None = None
    jwks_hosts: Annotated[tuple[Annotated[Word, Checked(check_host)], ...], BeforeValidator(list_of)] = ()
    typ: Annotated[tuple[Text, ...], BeforeValidator(list_of)] = ()
    require: Annotated[tuple[Text, ...], BeforeValidator(list_of)] | None = None
    leeway_s: Annotated[Whole, Field(le=300)] = 10
    max_lifetime_s: Annotated[Whole, Field(ge=1)] = 86400
    allow_private: Boolean = False
    claims: Claims = Claims()
    tier: Annotated[Word, one_of("token", "verified")] = "verified"
    require_binding: Annotated[Word, one_of("none", "dpop", "mtls", "any")] = "none"
    strict_audience: Boolean = False
    allow_missing_kid: Boolean = False
    keys: KeyTimes = KeyTimes()


class Jwt(Model):
    """JSON Web Tokens are accepted."""

    issuers: Annotated[tuple[Issuer, ...], BeforeValidator(some_of), SOME]


class ClientSecret(Model):
    """The secret of an OAuth client: a file that holds it, or the bytes themselves, read by the loader."""

    file: Text | None = None
    secret: Annotated[SecretBytes | None, Field(exclude=True)] = None


class Introspection(Model):
    """Opaque tokens are accepted on the word of their issuer (RFC 7662), asked at `endpoint` as `client_id`.

    Their actors are those of the issuer's signed tokens. With an `audience` a token must be for it. A good answer is
    believed for `positive_ttl_s`.
    """

    endpoint: Annotated[Word, Checked(check_url)]
    issuer: Annotated[Word, Checked(check_url)]
    client_id: Text
    client_secret: ClientSecret
    audience: Text | None = None
    claims: Claims = Claims()
    tier: Annotated[Word, one_of("token", "verified")] = "token"
    positive_ttl_s: Annotated[Whole, Field(ge=1, le=300)] = 30
    leeway_s: Annotated[Whole, Field(le=300)] = 10
    require_binding: Annotated[Word, one_of("none", "dpop", "mtls", "any")] = "none"
    allow_private: Boolean = False


class Sessions(Model):
    """What a limit per session counts by: a claim of the token, or a handle minted here, sent back in `header`.

    Each caller mints at most `mint_per_hour`, and has at most `max_live` that have not ended; a handle lives for `ttl`.
    Whoever names no session has one that lasts for `window`.
    """

    sources: Annotated[
        tuple[Annotated[Word, one_of("claim", "minted")], ...],
        BeforeValidator(some_of),
        SOME,
    ] = ("claim", "minted")
    header: Annotated[Word, Checked(check_header)] = "Agent-Session"
    mint_per_hour: Annotated[Whole, Field(ge=1, le=1_000_000)] = 10
    max_live: Annotated[Whole, Field(ge=1, le=1_000_000)] = 5
    ttl: Annotated[Seconds, Field(ge=60, le=30 * 86_400)] = 86_400
    window: Annotated[Word, one_of("hour", "day", "total")] = "day"


class AgentEntry(Model):
    """An agent that signs its requests, by the origin under which it publishes its keys."""

    line: Line = 0
    origin: Annotated[Word, Checked(check_origin, examples=["https://chatgpt.com"])]
    name: Word = ""
    tier: Annotated[Word, one_of("anonymous", "token", "verified")] = "verified"
    scopes: Annotated[tuple[Text, ...], BeforeValidator(list_of)] = ()
    directory: Annotated[Word, Checked(check_url)] | None = None
    jwks: dict[str, Any] | None = None
    jwks_file: Text | None = None
    allow_private: Boolean = False


def _check_trust(value: str) -> None:
    if value == "open":
        msg = "open would take whoever publishes a key for an agent, and fetch what strangers name; list the agents"
        raise ValueError(msg)
    one_of("allowlist").check(value)


class WebBotAuth(Model):
    """Agents that sign their requests are known by it. `observe` marks the record and changes nothing."""

    mode: Annotated[Word, one_of("observe", "enforce")] = "observe"
    trust: Annotated[Word, Checked(_check_trust, enum=["allowlist"])] = "allowlist"
    agents: Annotated[tuple[AgentEntry, ...], BeforeValidator(some_of), SOME]
    max_window_s: Annotated[Whole, Field(ge=1, le=86400)] = 3600
    coverage: Annotated[Word, one_of("unsafe", "all")] = "unsafe"
    replay: Annotated[Word, one_of("unsafe", "all", "off")] = "unsafe"


class Dpop(Model):
    """What a proof of possession (RFC 9449) must hold: with `nonce`, one that was handed out lately."""

    nonce: Boolean = False


class Proxy(Model):
    """Who says where a request comes from.

    `direct`: the connection. `server`: the same, after the server or a layer outside has put the client's address
    there. `trusted`: the `header` of the proxies named here, and of nobody else.
    """

    mode: Annotated[Word, one_of("direct", "server", "trusted")] = "direct"
    trusted_proxies: Annotated[
        tuple[Annotated[Word, Checked(check_network, examples=["10.0.0.0/8"])], ...],
        BeforeValidator(list_of),
    ] = ()
    header: Annotated[Word, Checked(check_header, examples=["x-forwarded-for", "forwarded"])] = "x-forwarded-for"
    max_hops: Annotated[Whole, Field(ge=1, le=32)] = 3
    trust_unix: Boolean = False


class CertifiedClient(Model):
    """A client that shows a certificate: known by the SHA-256 of that, or by a URI in it."""

    line: Line = 0
    name: Annotated[Word, Checked(check_name)]
    thumbprint: Annotated[Word, Checked(check_thumbprint)] | None = None
    uri: Text | None = None
    tier: Annotated[Word, one_of("anonymous", "token", "verified")] = "verified"
    scopes: Annotated[tuple[Text, ...], BeforeValidator(list_of)] = ()


class Challenge(Model):
    """What whoever is refused is told. `auto` serves the metadata where origins and issuers are known (RFC 9728)."""

    realm: Annotated[Word, Checked(check_realm)] = "api"
    resource_metadata: Annotated[Word, one_of("auto", "off")] = "auto"
    authorization_servers: Annotated[
        tuple[Annotated[Word, Checked(check_url)], ...],
        BeforeValidator(list_of),
    ] = ()


class ClientCert(Model):
    """Certificates that proxies have verified and pass on: as RFC 9440 has it, or percent-encoded PEM (`nginx`)."""

    form: Annotated[Word, one_of("rfc9440", "nginx")] = "rfc9440"
    header: Annotated[Word, Checked(check_header)] = "client-cert"
    verified_header: Annotated[Word, Checked(check_header)] | None = None
    verified_value: Text = "SUCCESS"
    clients: Annotated[tuple[CertifiedClient, ...], BeforeValidator(list_of)] = ()


class AgentDetection(Model):
    """What marks the request of a signed-in user as that of an agent, besides the headers that only agents send.

    `user_agents` are the known names in User-Agent, `names` more of them; `mcp_headers` are those of MCP.
    """

    user_agents: Annotated[Word, one_of("builtin", "off")] = "builtin"
    names: Annotated[tuple[Text, ...], BeforeValidator(list_of)] = ()
    mcp_headers: Boolean = True


class Sizes(Model):
    """How long what a caller shows may be, in bytes; what is longer is refused before anything reads it."""

    authorization_bytes: Annotated[Whole, Field(ge=256, le=65_536)] = 8192
    signature_input_bytes: Annotated[Whole, Field(ge=256, le=16_384)] = 4096
    signature_agent_bytes: Annotated[Whole, Field(ge=64, le=4096)] = 1024


def _from_app(value: Any) -> Any:
    return {} if value == "true" else value


class FromApp(Model):
    """A user whom the application has signed in is an actor. `id` is the attribute of the user that names it."""

    tier: Annotated[Word, one_of("token", "verified")] = "token"
    id: Word = ""


class Identity(Model):
    """How callers prove who they are. Nothing here means that every caller is anonymous.

    `public_origins` are where the service is reached, as its clients write it: what they sign is compared with them.
    """

    public_origins: Annotated[
        tuple[Annotated[Word, Checked(check_origin, examples=["https://api.example.com"])], ...],
        BeforeValidator(list_of),
    ] = ()
    api_keys: ApiKeys | None = None
    jwt: Jwt | None = None
    introspection: Introspection | None = None
    web_bot_auth: WebBotAuth | None = None
    client_cert: ClientCert | None = None
    challenge: Challenge = Challenge()
    dpop: Dpop = Dpop()
    sessions: Sessions = Sessions()
    from_app: Annotated[FromApp, BeforeValidator(_from_app)] | None = None
    proxy: Proxy = Proxy()
    agent_detection: AgentDetection = AgentDetection()
    limits: Sizes = Sizes()


def unlooked(said: AgentDetection) -> str:
    """The marks of agents that a policy does not look at, in words; empty when it looks at all."""
    return " and ".join(
        [*(["User-Agent"] if said.user_agents == "off" else []), *([] if said.mcp_headers else ["the headers of MCP"])]
    )


def client_secret(text: str) -> bytes:
    """Read a client's secret from the text of an environment variable. Raises `ValueError`, never showing it."""
    if not text.strip() or not text.strip().isprintable():
        msg = "does not hold a secret"
        raise ValueError(msg)
    return text.strip().encode("utf-8")
