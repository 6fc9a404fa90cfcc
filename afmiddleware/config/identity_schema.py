"""What fence.yaml may say under `identity:`: how callers prove who they are."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from afmiddleware.config.mapped import Line, Model
from afmiddleware.config.texts import (
    SOME,
    Boolean,
    Checked,
    Fraction,
    Text,
    Whole,
    Word,
    check_header,
    check_host,
    check_origin,
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

    With `imported` also those of another make, whose SHA-256 digests were imported. From one address
    `guesses_per_minute` unknown keys are looked up.
    """

    store: Annotated[Word, one_of("ledger")] = "ledger"
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


class AgentEntry(Model):
    """An agent that signs its requests, by the origin under which it publishes its keys."""

    line: Line = 0
    origin: Annotated[Word, Checked(check_origin, examples=["https://chatgpt.com"])]
    name: Text | Literal[""] = ""
    tier: Annotated[Word, one_of("anonymous", "token", "verified")] = "verified"
    scopes: Annotated[tuple[Text, ...], BeforeValidator(list_of)] = ()
    directory: Annotated[Word, Checked(check_url)] | None = None
    jwks: dict[str, Any] | None = None
    jwks_file: Text | None = None
    allow_private: Boolean = False


class WebBotAuth(Model):
    """Agents that sign their requests are known by it. `observe` marks the record and changes nothing."""

    mode: Annotated[Word, one_of("observe", "enforce")] = "observe"
    trust: Annotated[Word, one_of("allowlist", later=("open",))] = "allowlist"
    agents: Annotated[tuple[AgentEntry, ...], BeforeValidator(some_of), SOME]
    max_window_s: Annotated[Whole, Field(ge=1, le=86400)] = 3600
    coverage: Annotated[Word, one_of("unsafe", "all")] = "unsafe"
    replay: Annotated[Word, one_of("unsafe", "all", "off")] = "unsafe"


class Dpop(Model):
    """What a proof of possession (RFC 9449) must hold: with `nonce`, one that was handed out lately."""

    nonce: Boolean = False


class Proxy(Model):
    """Who says where a request comes from."""

    mode: Annotated[Word, one_of("direct", later=("server", "trusted"))] = "direct"


def _from_app(value: Any) -> Any:
    return {} if value == "true" or value is True else value


class FromApp(Model):
    """A user whom the application has signed in is an actor. `id` is the attribute of the user that names it."""

    tier: Annotated[Word, one_of("token", "verified")] = "token"
    id: Text | Literal[""] = ""


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
    web_bot_auth: WebBotAuth | None = None
    dpop: Dpop = Dpop()
    from_app: Annotated[FromApp, BeforeValidator(_from_app)] | None = None
    proxy: Proxy = Proxy()
