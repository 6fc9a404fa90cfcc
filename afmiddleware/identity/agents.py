"""Who is judged on a route for agents only. Whoever hides gains nothing: all pass for agents but people signed in.

Research: headers declare an agent, names in User-Agent hint at one; none of them proves that there is none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from afmiddleware.identity.outcome import Ok

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afmiddleware.identity.outcome import Identified
    from afmiddleware.model.http import HttpFacts

ALL: Final = "all"
AGENTS: Final = "agents"
PROVEN_AGENTS: Final = "proven_agents"

_DECLARING: Final = frozenset(
    {b"signature-agent", b"signature-input", b"agent-session", b"agent-dry-run", b"x-claude-code-session-id"},
)
_MCP: Final = frozenset({b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"mcp-session-id"})
_NAMES: Final = (
    r"chatgpt-user|oai-searchbot|gptbot|claude-user|claudebot|claude-code|google-agent|perplexity-user"
    r"|perplexitybot|bytespider|python-requests|python-httpx|aiohttp|\bcurl/|\bwget/|go-http-client|node-fetch|axios/"
)


class Marks:
    """The marks of agents: headers that only agents send, and names in User-Agent.

    With `builtin` the names that are known here, besides those of `names`; with `mcp` the headers of MCP.
    """

    def __init__(self, *, builtin: bool = True, names: Sequence[str] = (), mcp: bool = True) -> None:
        known = [*([_NAMES] if builtin else []), *map(re.escape, names)]
        self._names = re.compile("|".join(known).encode("utf-8"), re.IGNORECASE) if known else None
        self._headers = _DECLARING | (_MCP if mcp else frozenset())

    def on(self, facts: HttpFacts) -> bool:
        """Whether a request bears one."""
        names = self._names
        for name, value in facts.headers:
            if name in self._headers or (names is not None and name == b"user-agent" and names.search(value)):
                return True
        return False


def is_person(found: Identified, applies_to: str) -> bool:
    """Whether a request to a route for `agents` or `proven_agents` passes unjudged.

    It does for a user that the application itself has signed in, and for nobody else: not without a session, and not
    with a credential of the policy's. On a route for `agents` a session that comes with the marks of an agent is judged
    too; on one for `proven_agents` it passes.
    """
    if applies_to == ALL or not isinstance(found, Ok) or not found.actor.signed_in:
        return False
    return applies_to == PROVEN_AGENTS or not found.actor.marked


def marked(found: Identified, facts: HttpFacts, marks: Marks) -> Identified:
    """The same, with a mark on a signed-in user whose request bears those of an agent."""
    if isinstance(found, Ok) and found.actor.signed_in and marks.on(facts):
        return replace(found, actor=replace(found.actor, marked=True))
    return found
