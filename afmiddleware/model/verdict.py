"""What was decided, and why."""

from __future__ import annotations

import msgspec


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False, cache_hash=True):
    """A decision on one action event.

    `code` is one of the stable reason codes (`afmiddleware.codes`), `reason` is one sentence for a person, safe to
    show to the caller. `rule` is the id of the rule that decided and `line` its line in the policy file. `limit` names
    the limit that refused; `remaining` is what is left of it as text, `resets_at` when more is (microseconds since the
    epoch, 0 for never) and `retry_after` the same in whole seconds from the decision. `approvals` names those that are
    needed. `flags` are marks such as `risk:medium`, and `observed:<rule>` for a rule that would have refused.
    `scopes` are those that the rule demands of a caller that it does not know well enough, or that lacks one.
    `nonce` is what the caller has to put into its next proof of possession (RFC 9449 section 8).
    """

    authorized: bool
    code: str
    reason: str = ""
    capability: str = ""
    rule: str = ""
    line: int = 0
    limit: str = ""
    remaining: str = ""
    resets_at: int = 0
    retry_after: int = 0
    flags: tuple[str, ...] = ()
    approvals: tuple[str, ...] = ()
    nonce: str = ""
    scopes: tuple[str, ...] = ()
