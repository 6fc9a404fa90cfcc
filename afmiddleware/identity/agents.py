"""Who is judged on a route for agents only. Whoever hides gains nothing: all pass for agents but people signed in.

Research: headers declare an agent, names in User-Agent hint at one; none of them proves that there is none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from afmiddleware.identity.outcome import Ok

if TYPE_CHECKING:
    from afmiddleware.identity.outcome import Identified
    from afmiddleware.model.http import HttpFacts

ALL: Final = "all"
AGENTS: Final = "agents"
PROVEN_AGENTS: Final = "proven_agents"

_DECLARING: Final = (
    b"signature-agent",
    b"signature-input",
    b"agent-session",
    b"agent-dry-run",
    b"mcp-protocol-version",
    b"mcp-method",
    b"mcp-name",
    b"mcp-session-id",
    b"x-claude-code-session-id",
)
_NAMES = re.compile(
    rb"(?i)chatgpt-user|oai-searchbot|gptbot|claude-user|claudebot|claude-code|google-agent|perplexity-user"
    rb"|perplexitybot|bytespider|python-requests|python-httpx|aiohttp|\bcurl/|\bwget/|go-http-client|node-fetch|axios/",
)


def is_person(found: Identified, facts: HttpFacts, applies_to: str) -> bool:
    """Whether a request to a route for `agents` or `proven_agents` passes unjudged.

    It does for a user that the application itself has signed in, and for nobody else: not without a session, and not
    with a credential of the policy's. On a route for `agents` a session that comes with the marks of an agent is judged
    too; on one for `proven_agents` it passes.
    """
    if applies_to == ALL or not isinstance(found, Ok) or not found.actor.signed_in:
        return False
    return applies_to == PROVEN_AGENTS or not declares_agent(facts)


def marked(found: Identified, facts: HttpFacts) -> Identified:
    """The same, with a mark on a signed-in user whose request bears those of an agent."""
    if isinstance(found, Ok) and found.actor.signed_in and declares_agent(facts):
        return replace(found, actor=replace(found.actor, marked=True))
    return found


def declares_agent(facts: HttpFacts) -> bool:
    """Whether a request bears the marks of an agent: headers that only agents send, or a known name in User-Agent."""
    for name, value in facts.headers:
        if name in _DECLARING or (name == b"user-agent" and _NAMES.search(value) is not None):
            return True
    return False
