"""What is wrong with agents, proxies and client certificates, as far as no single value of the file can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from afmiddleware.grammar.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from afmiddleware.config.mapping_checks import Fault

_KEYS: Final = ("directory", "jwks", "jwks_file")
_OF_PROXIES: Final = ("trusted_proxies", "header", "max_hops", "trust_unix")
PRIVATE: Final = frozenset({"d", "k", "p", "q"})
"""Members of a JSON Web Key that only a private or a symmetric one has (RFC 7518, section 6)."""


def agent_faults(file: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong under `identity`, each with its path in the file."""
    identity = file.get("identity")
    if isinstance(identity, dict):
        yield from _agents(identity)
        yield from _proxy(identity)
        yield from _clients(identity)


def jwks_faults(jwks: Any) -> Iterator[Fault]:
    """What is wrong with a key set that stands in the file, each with its path in the set."""
    keys = jwks.get("keys") if isinstance(jwks, dict) else None
    if isinstance(jwks, dict) and (not isinstance(keys, list) or not keys):
        yield (), "a key set has a list of keys; write {keys: [...]}"
    for place, key in enumerate(keys if isinstance(keys, list) else ()):
        if isinstance(key, dict) and not PRIVATE.isdisjoint(key):
            yield ("keys", place), "this key is a secret; remove it, and write the public key only"


def _agents(identity: Mapping[str, Any]) -> Iterator[Fault]:
    settings, where = identity.get("web_bot_auth"), ("identity", "web_bot_auth")
    if not isinstance(settings, dict):
        return
    if not identity.get("public_origins"):
        yield where, "a signature is for one origin, and the file names none; write public_origins: [https://...]"
    seen: set[str] = set()
    for place, agent in _listed(settings.get("agents")):
        path = (*where, "agents", place)
        origin = agent.get("origin")
        if isinstance(origin, str) and origin in seen:
            yield (*path, "origin"), f"the agent {quoted(origin)} stands twice; keep one of them"
        elif isinstance(origin, str):
            seen.add(origin)
        sources = [name for name in _KEYS if name in agent]
        for name in sources[1:]:
            yield (*path, name), f"an agent has one source of keys, here {sources[0]}; keep one"
        for inside, text in jwks_faults(agent.get("jwks")):
            yield (*path, "jwks", *inside), text


def _proxy(identity: Mapping[str, Any]) -> Iterator[Fault]:
    proxy, where = identity.get("proxy"), ("identity", "proxy")
    if not isinstance(proxy, dict):
        return
    if proxy.get("mode") != "trusted":
        for name in _OF_PROXIES:
            if name in proxy:
                yield (*where, name), f"{name} is said of mode: trusted only; write that, or remove {name}"
    elif not proxy.get("trusted_proxies") and proxy.get("trust_unix") != "true":
        yield where, "no proxy is named, so none could be trusted; write trusted_proxies: [...]"


def _clients(identity: Mapping[str, Any]) -> Iterator[Fault]:
    settings, where = identity.get("client_cert"), ("identity", "client_cert")
    if not isinstance(settings, dict):
        return
    proxy = identity.get("proxy")
    if not isinstance(proxy, dict) or proxy.get("mode") != "trusted":
        yield where, "whoever sends the header would be believed; name your proxies under proxy: {mode: trusted, ...}"
    if "verified_value" in settings and "verified_header" not in settings:
        yield (*where, "verified_value"), "it is the value of verified_header; write that, or remove this one"
    seen: set[str] = set()
    for place, client in _listed(settings.get("clients")):
        path = (*where, "clients", place)
        known = [name for name in ("thumbprint", "uri") if name in client]
        if len(known) != 1:
            yield path, "a client is known by its thumbprint or by its uri; write one of them"
        for name in known:
            if client[name] in seen:
                yield (*path, name), "another client is known by this; keep one of them"
            elif isinstance(client[name], str):
                seen.add(client[name])


def _listed(value: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for place, entry in enumerate(value if isinstance(value, list) else ()):
        if isinstance(entry, dict):
            yield place, entry
