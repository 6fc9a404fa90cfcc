"""Every exception this package raises. One root; callers catch by width."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afmiddleware.model.verdict import Verdict


class AFError(Exception):
    """The root of all errors of this package."""


class GrammarError(AFError, ValueError):
    """A small-language text (amount, capability, duration, rate) is not well formed."""


class MoneyError(AFError, ValueError):
    """An amount cannot be represented exactly, or two currencies were mixed."""


class ConfigError(AFError):
    """The policy file, or the application it is meant for, is wrong. Nothing was started.

    `problems` holds one text a problem, each with `file:line:column` where there is a place.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class MappingError(AFError):
    """A request cannot be turned into an action event. `code` is one of the stable reason codes."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(f"{code}: {detail}")


class ClientGoneError(AFError):
    """The client left before its request was complete; there is nobody to answer."""


class StalePolicyError(AFError):
    """The ledger has decided nothing, because another policy is in force than the one that was asked by.

    `policy` is the digest of the file and lists it was asked by, `generation` and `active` are the number and digest
    of what is in force; while that is `pinned` it is the only one. `observe` says that nothing was to be blocked.
    """

    def __init__(self, policy: str, generation: int, active: str, *, pinned: bool, observe: bool) -> None:
        self.policy = policy
        self.generation = generation
        self.active = active
        self.pinned = pinned
        self.observe = observe
        super().__init__(f"the policy {policy[:16]} is superseded by {active[:16]} (generation {generation})")


class LedgerError(AFError):
    """The ledger failed."""


class LedgerUnavailableError(LedgerError):
    """The commit could not be made, or its outcome is not known. The handler must not run.

    `retry_after` is in whole seconds; `code` is the reason code that a caller is told.
    """

    code = "ledger.unavailable"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class LedgerFullError(LedgerUnavailableError):
    """The ledger has no room for the counters of an entry. What it counts already goes on."""

    code = "ledger.full"


class ReceiptError(AFError):
    """A receipt log cannot be read, or a key does not belong to it."""


class IdentityUnavailableError(AFError):
    """A source of keys cannot be reached, so it cannot be told whether a credential is good."""

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class CredentialError(AFError):
    """A credential is there and is not good: raised by a service's own authenticator, answered with 401.

    The text is for the log; the caller is not told.
    """


class SealBrokenError(AFError):
    """The application is about to run something other than what was judged.

    `entered` is true when a handler may have run already.
    """

    def __init__(self, message: str, *, entered: bool = False) -> None:
        self.entered = entered
        super().__init__(message)


class ActionRefusedError(AFError):
    """An action was not admitted. `verdict` says why; nothing has run and no money is charged."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        super().__init__(f"{verdict.code}: {verdict.reason}")
