"""System checks, with stable ids.

| id | what |
|---|---|
| afmiddleware.E001 | the setting AFMIDDLEWARE is missing or wrong |
| afmiddleware.E002 | the policy is wrong; one a problem, each with its line |
| afmiddleware.E003 | FenceMiddleware is not in MIDDLEWARE, or twice |
| afmiddleware.E004 | FenceMiddleware stands behind what must be behind it (CSRF, middlewares with a process_view) |
| afmiddleware.E005 | a cache in MIDDLEWARE answers without a decision |
| afmiddleware.E006 | SealMiddleware is not the last |
| afmiddleware.E007 | an unknown middleware stands between the fence and the views |
| afmiddleware.E008 | the policy binds an endpoint that the project does not have |
| afmiddleware.E009 | a binding means several endpoints, or stands in the policy and in the code |
| afmiddleware.E010 | a declaration in the code is wrong |
| afmiddleware.E011 | the URLconf holds a node of an unknown kind, or cannot be read |
| afmiddleware.W001 | (--deploy) a view that may change something is not mapped, so that it is always refused |
| afmiddleware.W002 | an unknown middleware is named in the policy, and SealMiddleware is not there |
| afmiddleware.W003 | (--deploy) the policy is in observe mode: nothing is refused |
"""

from __future__ import annotations

from typing import Any, Final

from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Caution

from afmiddleware.errors import ConfigError
from afmiddleware.mapping import coverage as audited
from afmiddleware.mapping.coverage import STOPS
from afmiddleware_django.audit import Examined, examine
from afmiddleware_django.layers import SEAL, has_seal, misplaced
from afmiddleware_django.settings import read_settings

TAG: Final = "afmiddleware"

_IDS: Final = {
    audited.INNER_MIDDLEWARE: "afmiddleware.E007",
    audited.NO_ENDPOINT: "afmiddleware.E008",
    audited.AMBIGUOUS: "afmiddleware.E009",
    audited.DECLARED_TWICE: "afmiddleware.E009",
    audited.DECLARATION: "afmiddleware.E010",
    audited.MISREAD: "afmiddleware.E010",
    audited.UNKNOWN_NODE: "afmiddleware.E011",
    audited.ROUTER: "afmiddleware.E011",
    audited.UNMAPPED: "afmiddleware.W001",
}


def settings_and_order(**_told: Any) -> list[CheckMessage]:
    """The setting, and the place of the fence among the middlewares."""
    found: list[CheckMessage] = []
    try:
        read_settings()
    except ConfigError as error:
        found += [Error(problem, id="afmiddleware.E001") for problem in error.problems]
    return found + [Error(one.text, hint=one.hint, id=one.id) for one in misplaced()]


def policy_and_project(**_told: Any) -> list[CheckMessage]:
    """What stops the start: mistakes in the policy, and where policy and project do not fit each other."""
    try:
        read_settings()
    except ConfigError:
        # Said by the first check.
        return []
    try:
        examined = examine()
    except ConfigError as error:
        return [Error(problem, id="afmiddleware.E002") for problem in error.problems]
    found: list[CheckMessage] = [
        Error(str(finding), id=_IDS[finding.id]) for finding in examined.report.findings if finding.id in STOPS
    ]
    return found + _unsealed(examined)


def coverage(**_told: Any) -> list[CheckMessage]:
    """What is merely denied, and what a deployment should know."""
    try:
        examined = examine()
    except ConfigError:
        return []
    found: list[CheckMessage] = [
        Caution(str(finding), id=_IDS[finding.id]) for finding in examined.report.findings if finding.id not in STOPS
    ]
    if examined.config.mode == "observe":
        text = "The policy is in observe mode: every request passes, and what would have been refused is recorded."
        found.append(Caution(text, id="afmiddleware.W003"))
    return found


def _unsealed(examined: Examined) -> list[CheckMessage]:
    named = [name for name in examined.listing.layers if name in examined.config.inner_middleware]
    if not named or has_seal():
        return []
    text = f"{', '.join(named)} may change what was judged, which is found only after the view has run."
    return [Caution(text, hint=f"MIDDLEWARE.append({SEAL!r})", id="afmiddleware.W002")]
