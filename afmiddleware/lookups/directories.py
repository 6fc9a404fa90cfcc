"""The agents of a policy and where their keys are: read in the background, like the keys of an issuer."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from afmiddleware.errors import ConfigError
from afmiddleware.grammar.origins import origin_of
from afmiddleware.identity.directory import ALGORITHMS, WELL_KNOWN, read_directory
from afmiddleware.identity.origin import Origins
from afmiddleware.lookups.jwks import FetchedKeys, FixedKeys, document_in, fetcher, usable
from afmiddleware.model.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from afmiddleware.config.identity_schema import AgentEntry, WebBotAuth
    from afmiddleware.config.schema import Config
    from afmiddleware.identity.signatures import Signatures

Source = FixedKeys | FetchedKeys


def directories(config: Config, base: Path) -> dict[str, Source]:
    """The key source of every agent. Raises `ConfigError` for keys in the policy that cannot be used."""
    settings = config.identity.web_bot_auth
    agents = settings.agents if settings is not None else ()
    return {source_name(agent): _source(agent, base) for agent in agents}


def signatures(config: Config, sources: Mapping[str, Source]) -> Signatures | None:
    """What checks the signatures of a policy's agents. Raises `ConfigError` when its library is not installed."""
    settings = config.identity.web_bot_auth
    return _signatures(config, settings, sources) if settings is not None else None


def source_name(agent: AgentEntry) -> str:
    """What the keys of an agent are called among all sources of keys."""
    return f"agent:{origin_of(agent.origin)}"


def _signatures(config: Config, settings: WebBotAuth, sources: Mapping[str, Source]) -> Signatures:
    try:
        from afmiddleware.identity.signatures import Agent, Signatures  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError as error:
        if error.name not in ("http_message_signatures", "http_sf"):
            raise
        msg = f"{config.source}: web_bot_auth needs another package; install afmiddleware[agents]"
        raise ConfigError([msg]) from error
    agents = [
        Agent(
            origin=origin_of(entry.origin),
            source=source_name(entry),
            snapshot=sources[source_name(entry)].snapshot,
            name=entry.name,
            tier=Tier.parse(entry.tier),
            scopes=frozenset(entry.scopes),
        )
        for entry in settings.agents
    ]
    return Signatures(
        agents,
        Origins(config.identity.public_origins),
        max_window=settings.max_window_s,
        longest_input=config.identity.limits.signature_input_bytes,
        longest_agent=config.identity.limits.signature_agent_bytes,
        coverage="all" if settings.coverage == "all" else "unsafe",
        replay="all" if settings.replay == "all" else "off" if settings.replay == "off" else "unsafe",
    )


def _source(agent: AgentEntry, base: Path) -> Source:
    where = f"line {agent.line}: keys of {agent.origin}"
    if agent.jwks is not None:
        return usable(partial(read_directory, agent.jwks), where)
    if agent.jwks_file is not None:
        return usable(partial(read_directory, document_in(base / agent.jwks_file, where)), where)
    return FetchedKeys(
        agent.origin,
        agent.directory or f"{origin_of(agent.origin)}{WELL_KNOWN}",
        ALGORITHMS,
        timer=time.monotonic,
        fetch=fetcher(allow_private=agent.allow_private),
        made_of=(agent.origin, agent.directory, agent.allow_private),
        read=read_directory,
    )
