"""From a checked policy to a plan: everything compiled, and the sources of keys behind identity."""

from __future__ import annotations

import hashlib
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from afmiddleware.authenticators import (
    authenticators,
    certificates,
    from_app,
    guess_limit,
    key_sources,
    marks,
    proxies,
    sessions_of,
)
from afmiddleware.config.declared import declared_routes, digest_with
from afmiddleware.config.load import limits_of
from afmiddleware.config.overlays import overlays_of, schedules_of
from afmiddleware.config.policy_schema import observing
from afmiddleware.errors import ConfigError, LedgerError
from afmiddleware.limits.select import Limits
from afmiddleware.lookups.directories import signatures
from afmiddleware.lookups.lists import digest_of, read_lists
from afmiddleware.mapping.bindings import compile_bindings
from afmiddleware.mapping.coverage import (
    AMBIGUOUS,
    ANY_METHOD,
    DECLARATION,
    DECLARED_TWICE,
    EVERY,
    STOPS,
    Finding,
    fit,
    gaps,
    key_of,
    report,
)
from afmiddleware.plan import Plan
from afmiddleware.policy.actors import ActorSet
from afmiddleware.policy.compiled import Policy, compile_policy
from afmiddleware.policy.rules import Draw, sha256
from afmiddleware.receipts.redact import Redaction, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from afmiddleware.config.policy_schema import Rules
    from afmiddleware.config.schema import Config, Route
    from afmiddleware.declare import Declaration
    from afmiddleware.grammar.lists import Words
    from afmiddleware.grammar.schedules import Schedule
    from afmiddleware.identity.outcome import Ok
    from afmiddleware.lookups.jwks import KeySources
    from afmiddleware.mapping.bindings import Binding
    from afmiddleware.mapping.coverage import Endpoint, Listing, Report
    from afmiddleware.model.http import HttpFacts

_LINE = re.compile(r"line (\d+): ")


class _Sources(msgspec.Struct, frozen=True):
    """What bindings and rules are compiled from."""

    routes: tuple[Route, ...]
    rules: Rules
    currency: str
    assets: Mapping[str, int]
    lists: Mapping[str, Words] = {}
    schedules: Mapping[str, Schedule] = {}
    frozen: ActorSet | None = None
    draw: Draw = sha256


def _unsigned(_message: bytes) -> bytes:
    msg = "a plan without a ledger hands out nothing that has to be signed"
    raise LedgerError(msg)


def assemble(
    config: Config,
    base: Path,
    sign: Callable[[bytes], bytes] = _unsigned,
    before: KeySources | None = None,
) -> tuple[Plan, KeySources]:
    """Compile a policy whose files are relative to `base`.

    `sign` authenticates bytes with a key of the ledger's, for what is handed out to callers and comes back. Keys that
    were fetched for the policy `before` go on being believed where they would be fetched in the same way. Raises
    `ConfigError` with every problem found.
    """
    problems: list[str] = []
    lists = _collect(problems, lambda: read_lists(config, base)) or {}
    disabled = [name for name, entry in config.actors.items() if not entry.enabled]
    sources = _Sources(
        config.routes,
        config.rules,
        config.currency,
        config.exponents,
        {name: one.words for name, one in lists.items()},
        schedules_of(config),
        ActorSet(disabled) if disabled else None,
        sha256 if sign is _unsigned else sign,
    )
    if problems:
        raise ConfigError(problems)
    policy = _collect(problems, lambda: compile_policy(sources))
    reads = policy.reads_payload if policy is not None else _reads_nothing
    bindings = _collect(problems, lambda: compile_bindings(sources, reads))
    keys = _collect(problems, lambda: key_sources(config, base, before))
    if policy is None or bindings is None or keys is None:
        raise ConfigError([_LINE.sub(rf"{_escaped(config.source)}:\1: ", problem, count=1) for problem in problems])
    digests = {name: one.digest for name, one in lists.items()}
    plan = _plan(config, policy, bindings, keys, digest_of(config.digest, digests), sign)
    return _with_agents(plan, config, keys), keys


def adopt(plan: Plan, config: Config, listing: Listing) -> tuple[Plan, list[Finding]]:
    """Fit a freshly assembled plan to the application that `listing` tells of, declarations in its code included.

    Returns the plan, and what is wrong but stops nothing. Raises `ConfigError` with every problem that must stop the
    start.
    """
    findings, fitted = audit(plan, config, listing)
    stops = [finding for finding in findings if finding.id in STOPS]
    if stops:
        raise ConfigError([str(finding) for finding in stops])
    return fitted, findings


def audited(plan: Plan, config: Config, listing: Listing) -> Report:
    """The coverage audit of an application under a freshly assembled plan."""
    findings, fitted = audit(plan, config, listing)
    return report(fitted.bindings, listing, findings, config.source)


def declared_in(config: Config, listing: Listing) -> list[Route]:
    """The routes that are declared in an application's code, those that are wrong left out."""
    return [route for route in declared_routes(config, [*_declared(listing)[0].items()])[0] if route is not None]


def audit(plan: Plan, config: Config, listing: Listing) -> tuple[list[Finding], Plan]:
    """All that is wrong with the application under a freshly assembled plan, and the plan with what is right."""
    fitted = fit(plan.bindings, listing.endpoints, config.source)
    findings = list(fitted.findings)
    bindings = dict(fitted.bindings)
    entries, doubts = _declared(listing)
    findings += doubts
    sources = _Sources((), config.rules, config.currency, config.exponents)
    routes, problems = declared_routes(config, [*entries.items()])
    findings += [Finding(DECLARATION, problem) for problem in problems]
    for (key, declaration), route in zip(entries.items(), routes, strict=True):
        stands = bindings.get(key)
        if stands is not None:
            text = f"{key} is declared here, and bound at {config.source}:{stands.line}; keep one"
            findings.append(Finding(DECLARED_TWICE, text, declaration.where))
        elif route is not None:
            try:
                one = compile_bindings(replace(sources, routes=(route,)), plan.policy.reads_payload)
            except ConfigError as error:
                findings += [Finding(DECLARATION, _LINE.sub("", text), declaration.where) for text in error.problems]
            else:
                bindings |= {key: replace(binding, where=declaration.where) for key, binding in one.items()}
    observed = config.mode == "observe" and config.unmapped == "deny"
    findings += gaps(bindings, listing, config.inner_middleware, "observed" if observed else config.unmapped)
    return findings, replace(plan, bindings=bindings, digest=digest_with(plan.digest, [*entries.items()]))


def _declared(listing: Listing) -> tuple[dict[str, Declaration], list[Finding]]:
    """What is declared, by key; and where it cannot be told for which of several handlers."""
    entries: dict[str, Declaration] = {}
    findings: list[Finding] = []
    listed = {one.key for one in listing.endpoints if one.method != ANY_METHOD}
    for endpoint in listing.endpoints:
        declaration = endpoint.declaration
        if declaration is None:
            continue
        for key in _keys(endpoint, listed):
            first = entries.setdefault(key, declaration)
            if first.fields != declaration.fields:
                text = f"{key} is declared at {first.where} too, as something else; keep one"
                findings.append(Finding(AMBIGUOUS, text, declaration.where))
    for endpoint in listing.endpoints if entries else ():
        if endpoint.declaration is None:
            # One of the two is never reached, and which one only the framework knows.
            text = f"is also answered by {endpoint.name}, which declares nothing; keep one"
            both = (key for key in _keys(endpoint, listed) if key in entries)
            findings += [Finding(AMBIGUOUS, f"{key} {text}", entries[key].where) for key in both]
    return entries, findings


def _keys(endpoint: Endpoint, listed: Collection[str]) -> list[str]:
    """The keys that a declaration on an endpoint binds."""
    if endpoint.method != ANY_METHOD:
        return [endpoint.key]
    return [key for method in EVERY if (key := key_of(method, endpoint.template)) not in listed]


def _reads_nothing(_capability: str) -> bool:
    return False


def _plan(  # noqa: PLR0913 (what a plan is made of)
    config: Config,
    policy: Policy,
    bindings: Mapping[str, Binding],
    keys: KeySources,
    digest: str,
    sign: Callable[[bytes], bytes],
) -> Plan:
    limits = limits_of(config)
    whence = proxies(config.identity)
    known = certificates(config.identity, whence.believes)
    checks = authenticators(
        config.identity, keys, sign, whence, known, tuple(sorted({one.claim for one in limits if one.claim}))
    )
    return Plan(
        digest=digest,
        file=digest,
        environment=config.environment,
        observe=config.mode == "observe",
        share=0 if config.mode == "observe" else observing(config.mode),
        draw=sha256 if sign is _unsigned else sign,
        bindings=bindings,
        unmapped=config.unmapped,
        policy=policy,
        limits=Limits(limits, overlays_of(config)),
        identify=checks.identify,
        recall=checks.recall,
        client=whence.client,
        unclear=whence.unclear,
        certificates=known,
        marks=marks(config.identity.agent_detection),
        from_app=from_app(config.identity.from_app),
        guesses=guess_limit(config.identity),
        sessions=sessions_of(config.identity, sign, limits),
        keeps_fields=config.receipts.payload in ("fields", "full"),
        keep_payload=_KEEPS.get(config.receipts.payload),
        redaction=_redaction(config),
    )


def _with_agents(plan: Plan, config: Config, keys: KeySources) -> Plan:
    """The plan with those that prove more than a token does, if the policy knows any: they are not just recalled."""
    settings, recall = config.identity, plan.recall
    shown = [b"signature-input"] if settings.web_bot_auth is not None else []
    shown += [settings.client_cert.header.lower().encode("ascii")] if settings.client_cert is not None else []
    if not shown:
        return plan

    def unless_shown(facts: HttpFacts, now: int) -> Ok | None:
        return recall(facts, now) if facts.fields.keys().isdisjoint(shown) else None

    observes = settings.web_bot_auth is not None and settings.web_bot_auth.mode == "observe"
    checks = signatures(config, keys.sources)
    return replace(plan, recall=unless_shown, signatures=checks, observes_signatures=observes)


def _collect(problems: list[str], make: Callable[[], Any]) -> Any:
    try:
        return make()
    except ConfigError as error:
        problems.extend(error.problems)
        return None


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\")


def _hashed(payload: Mapping[str, Any]) -> str:
    """The hex SHA-256 of the body's values, enough to tell later whether a body at hand is the one that was judged."""
    return hashlib.sha256(msgspec.json.encode(dict(payload), order="sorted")).hexdigest()


_KEEPS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = MappingProxyType({"hash": _hashed, "full": text_of})


def _redaction(config: Config) -> Redaction | None:
    """What receipts never keep. Where they keep only what was extracted and the policy names nothing, nobody looks."""
    receipts = config.receipts
    return Redaction(receipts.redact) if receipts.redact or receipts.payload in _KEEPS else None
