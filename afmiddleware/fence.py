"""The fence: one policy, one ledger, assembled. The clock, the ids and the keys come in here and nowhere else."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from msgspec.structs import replace

from afmiddleware.anchoring import open_anchored
from afmiddleware.assemble import adopt, assemble, audited
from afmiddleware.authenticators import fields_read, introspector, key_prefix, mint_limits
from afmiddleware.block import ActionContext
from afmiddleware.config.ledger_url import shown
from afmiddleware.drivers import arun, run
from afmiddleware.errors import ConfigError, LedgerUnavailableError, ReceiptError
from afmiddleware.flow import admit_event, conclusion
from afmiddleware.former import replayed
from afmiddleware.identity.resource import WELL_KNOWN
from afmiddleware.keys import Keys
from afmiddleware.ledger.chance import Ids
from afmiddleware.ledger.log import ReceiptLog
from afmiddleware.ledger.steady import SteadyClock
from afmiddleware.mapping.coverage import Listing, merge
from afmiddleware.model.entry import Closed, Conclusion, Entry, Held, InForce, Settle
from afmiddleware.model.outcome import End, Outcome, Settlement
from afmiddleware.offers import challenges, protected_resource
from afmiddleware.performing import AsyncFenceIo, FenceIo
from afmiddleware.plan import Admission, Plan
from afmiddleware.policy.explain import Explanation, explain, stands
from afmiddleware.policy_file import PolicyFile
from afmiddleware.readiness import Readiness
from afmiddleware.receipts.redact import Redaction
from afmiddleware.reload import Standing, candidate
from afmiddleware.renewal import Renewal
from afmiddleware.resolve import Resolver
from afmiddleware.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from afmiddleware.config.schema import Config
    from afmiddleware.errors import StalePolicyError
    from afmiddleware.identity.needs import Need
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.lookups.jwks import KeySources
    from afmiddleware.mapping.coverage import Report
    from afmiddleware.mapping.view import RequestView
    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.verdict import Verdict
    from afmiddleware.policy.replay import Replay
    from afmiddleware.receipts.checkpoint import Signer

_log = logging.getLogger("afmiddleware")


def system_clock() -> int:
    """The host's clock in microseconds since the epoch."""
    return time.time_ns() // 1000


class Fence:
    """A policy at work. Make one with `Fence.from_file`; one is enough for a process, and `close` ends it.

    `receipts` is the log of what was decided, `keys` are the API keys; `ready()` and `await aready()` tell health
    checks whether anything can be admitted now. `signer` signs the log in place of the policy's
    `signing_key`, for a key that never leaves its keeper (`receipts.checkpoint.CallSigner`); `mac_key` gives the secret
    of the receipts (32 bytes or more) in place of the policy's, called once. The fence serves its own endpoints under
    `prefix`. `authenticators` are functions of the service's own, sync or async, that find out who makes a request by a
    credential that the policy does not know (docs/identity.md).
    """

    def __init__(  # noqa: PLR0913 (what a fence is made of)
        self,
        config: Config,
        *,
        base: Path | None = None,
        ledger: Ledger | None = None,
        clock: Callable[[], int] = system_clock,
        new_id: Callable[[int], str] | None = None,
        signer: Signer | None = None,
        mac_key: Callable[[], bytes] | None = None,
        authenticators: Sequence[Callable[[RequestView], Any]] = (),
        file: PolicyFile | None = None,
    ) -> None:
        self.config = config
        self.file = file
        self.clock = clock
        self.new_id = new_id or Ids()
        self.base = base = base or Path.cwd()
        plan, keys = assemble(config, base, self.sign)
        self.plan = replace(plan, plugins=tuple(authenticators))
        self.mint_limits = mint_limits(config.identity)
        self.standing = Standing(digest=plan.digest, since=clock())
        self.tried: tuple[Config, Path] | None = None
        self.fits: list[Callable[[Plan, str], object]] = []
        self._assembled = self.plan
        self._changing = threading.Lock()
        self._watcher: Watcher | None = None
        self._told: Plan | None = None
        self._renewal = Renewal(self)
        self._text = file.kept(config, base, plan.file) if file is not None else None
        self._listing: Listing | None = None
        self._face(config)
        asks = introspector(config.identity, base, config.source)
        believed = SteadyClock(clock) if clock is system_clock else clock
        self.ledger = ledger or open_anchored(config, base, believed, undo, signer, mac_key)
        self.readiness = Readiness(self)
        self.ready, self.aready = self.readiness.ask, self.readiness.aask
        self._resolver = Resolver(self.ledger, keys, asks)
        self.receipts = ReceiptLog(self.ledger, self.ledger.keys, self.ledger.anchors)
        self.keys = Keys(self.ledger, clock, prefix=key_prefix(config.identity))
        self.inline = self.ledger.inline
        self.io = FenceIo(self)
        self.aio = AsyncFenceIo(self)
        self._at_exit = partial(_close_if_alive, weakref.ref(self))
        atexit.register(self._at_exit)
        ledgers = shown(config.ledger, config.rates)
        _log.info("policy %s, ledger %s, mode %s", config.digest[:16], ledgers, config.mode)
        if file is not None and config.reload != "off":
            self._watcher = Watcher(self, config.reload)
            self._watcher.start()

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        **parts: Any,
    ) -> Self:
        """Read a policy file and put it to work.

        The environment wins: `AFM_POLICY` over `path`, `AFM_LEDGER` over `ledger`, `AFM_MODE` over `mode`. Relative
        paths in the file are relative to its folder. `parts` are the keyword arguments of `Fence`. Raises
        `ConfigError` with every problem when the file is missing, unreadable or wrong; nothing is started then.
        """
        file = PolicyFile(path, dict(os.environ if env is None else env))
        config, base = file.read()
        return cls(config, base=base, file=file, **parts)

    def adopt(self, listing: Listing) -> None:
        """Fit the policy to an application, which an adapter does at its audit: `mapping.coverage` is the protocol.

        From here on the bindings declared in the application's code hold, the digest of the policy covers them, and
        an entry of the file means the endpoint it stands for however the framework spells it. What several
        applications list adds up. Raises `ConfigError` with every problem, and changes nothing then.
        """
        with self._changing:
            merged = merge(self._listing or Listing(), listing)
            plan, findings = adopt(self._assembled, self.config, merged)
            for finding in findings:
                _log.warning("%s: %s", finding.id, finding)
            if plan.digest != self.plan.digest:
                _log.info("policy %s with the bindings declared in code", plan.digest[:16])
                self.standing = replace(self.standing, digest=plan.digest)
            self.plan, self._listing = plan, merged
            self.readiness.unfit = False

    def reload(self) -> bool:
        """Read the policy file again; whether another policy decides from here on. Blocks while it is compiled.

        What was admitted ends under the policy that admitted it, and counters go on where a limit keeps its
        name, window and currency. Raises `ConfigError` with every problem for a file that is wrong, does not fit the
        application, or changes what a running process keeps (its ledger, the keys of its receipts): the last good
        policy then stays in force, whole, and `standing` says so.
        """
        with self._changing:
            try:
                found = candidate(self)
            except ConfigError as error:
                if error.problems != self.standing.problems:
                    _log.critical("policy %s stays in force, the new one is wrong: %s", self.plan.digest[:16], error)
                self.standing = replace(self.standing, problems=tuple(error.problems), failed_at=self.clock())
                raise
            before, changed = self.plan, found.plan.digest != self.plan.digest
            self.tried = None
            self.config, self.base, self._assembled = found.config, found.base, found.assembled
            self._face(found.config)
            self.mint_limits = mint_limits(found.config.identity)
            self.keys = Keys(self.ledger, self.clock, prefix=key_prefix(found.config.identity))
            self._resolver.use(found.keys)
            if changed and self.file is not None:
                self._text = self.file.kept(found.config, found.base, found.plan.file)
            # One assignment: whoever decides has one plan or the other.
            self.plan = found.plan
            self.readiness.unfit = False
            since = self.clock() if changed else self.standing.since
            self.standing = Standing(digest=found.plan.digest, since=since)
            if changed:
                _log.warning("policy %s is in force from here on, mode %s", found.plan.digest[:16], found.config.mode)
            if changed and (self._told is not None or self._listing is not None):
                # Without waiting for a request: what it had is superseded for the other processes too.
                self._told = self._told or before
                with suppress(LedgerUnavailableError):
                    self._tell()
            return changed

    def forked(self) -> None:
        """Forget what a thread of the parent process was about, in a process that was forked off."""
        self._changing = threading.Lock()
        self._renewal = Renewal(self)

    @property
    def listing(self) -> Listing | None:
        """What the applications behind this fence have; `None` where none was adopted."""
        return self._listing

    @property
    def key_sources(self) -> KeySources:
        """Where the keys of issuers come from."""
        return self._resolver.keys

    def audit(self, listing: Listing) -> Report:
        """Every endpoint of an application with its capability, and all that is wrong. Changes nothing."""
        return audited(self._assembled, self.config, listing)

    def decide(self, event: ActionEvent) -> Verdict:
        """What would happen to `event` now, and why. Charges nothing, records nothing."""
        return run(admit_event(self.plan, event, now := self.clock(), self.new_id(now), dry=True), self.io).verdict

    async def adecide(self, event: ActionEvent) -> Verdict:
        """`decide` in async code."""
        flow = admit_event(self.plan, event, now := self.clock(), self.new_id(now), dry=True)
        return (await arun(flow, self.aio)).verdict

    def explain(self, event: ActionEvent, now: int | None = None) -> Explanation:
        """What would happen to `event`, and everything that leads to it: rules, conditions, demands and limits.

        `now`, in microseconds since the epoch, is for the rules alone: the limits are those of this moment. Charges
        nothing, records nothing. What receipts withhold (`receipts.redact`, secrets) is not shown.
        """
        at = self.clock() if now is None else now
        told = explain(self.plan.policy, event, at, (self.plan.redaction or Redaction(())).hides(event.payload))
        found = run(admit_event(self.plan, event, at, self.new_id(at), dry=True), self.io)
        return replace(told, verdict=found.verdict, limits=stands(found.balances, event, found.verdict.limit))

    def replay(self, candidate: str | os.PathLike[str] | None = None) -> Replay:
        """Decide every receipt of this fence's ledger once more: each under the policy that decided it, or a candidate.

        Without the `candidate` file a receipt is undecidable whose policy was not kept. Charges nothing, records
        nothing. Raises `ConfigError` for a candidate that is wrong.
        """
        return replayed(self, candidate)

    def action(self, event: ActionEvent) -> ActionContext:
        """A `with` or `async with` block that runs only when `event` is admitted, and settles it at the end.

        Raises `ActionRefusedError` before the block when it is not. An exception in the block leaves the outcome
        unknown, which keeps the money counted, unless the block called `settle` or `release`.
        """
        return ActionContext(self, event)

    def commit(self, entry: Entry) -> Held:
        """Make an entry's commit and wait for it. Raises `StalePolicyError`, after which `renew` is asked."""
        if self._told is not self.plan and not entry.dry:
            self._tell()
        if self._renewal.behind:
            return self._renewal.commit(self.ledger, entry)
        return cast("Held", self.ledger.commit(entry))

    async def acommit(self, entry: Entry) -> Held:
        """`commit` without blocking the event loop."""
        if self._told is not self.plan and not entry.dry:
            self._tell()
        if self._renewal.behind:
            return await self._renewal.acommit(self.ledger, entry)
        return cast("Held", await self.ledger.acommit(entry))

    def renew(self, error: StalePolicyError) -> bool:
        """Read the policy again, since another process has put another in force; whether to decide again.

        Once for all who ask, and not again within a second. Where the file here still says what is superseded, only
        what observes is to be decided again, and passes with the flag `policy:superseded`.
        """
        return self._renewal.renew(error)

    async def arenew(self, error: StalePolicyError) -> bool:
        """`renew` without blocking the event loop."""
        return await self._renewal.arenew(error)

    def post(self, item: Entry | Conclusion) -> None:
        """Hand an item to the ledger without waiting."""
        if self._told is not self.plan:
            self._tell()
        self.ledger.post(item)

    def _tell(self) -> None:
        """Have the ledger record that another policy decides, before the first decision that it makes here."""
        plan, told = self.plan, self._told
        mode = "observe" if plan.observe else "enforce"
        cause, before = ("start", "") if told is None else ("reload", told.file)
        text = self._text if self._text is not None and self._text.file == plan.file else None
        self.ledger.post(InForce(plan.digest, mode, cause, file=plan.file, before=before, text=text))
        self._told, self._text = plan, None
        if self.config.mode != "enforce":
            _log.warning("mode %s: what is only observed is let through, whatever the policy says", self.config.mode)

    def resolve(self, need: Need) -> Any:
        """Look up what identity needs, blocking."""
        return self._resolver.resolve(need)

    async def aresolve(self, need: Need) -> Any:
        """Look up what identity needs without blocking the event loop."""
        return await self._resolver.aresolve(need)

    def _face(self, config: Config) -> None:
        """What callers see besides decisions: the fence's own paths, and what is told to whom is refused."""
        self.vary = fields_read(config.identity)
        self.resource = protected_resource(config)
        self.challenges = challenges(config.identity, self.resource)
        self.prefix = config.endpoints.prefix.removesuffix("/") + "/"
        self.own_paths = (self.prefix, WELL_KNOWN) if self.resource is not None else (self.prefix,)

    def conclude(self, admission: Admission, outcome: Outcome) -> None:
        """Settle and record the end of an admitted action. A failing ledger is logged: the money stays counted."""
        self._conclude(admission, outcome, self.ledger.post)

    async def aconclude(self, admission: Admission, outcome: Outcome) -> None:
        """`conclude`, and wait until it is recorded, without blocking the event loop."""
        item = conclusion(admission, outcome)
        try:
            if item is not None:
                await self.ledger.acommit(item)
        except (LedgerUnavailableError, ReceiptError) as error:
            _unrecorded(admission, error)

    def conclude_now(self, admission: Admission, outcome: Outcome) -> None:
        """`conclude`, and wait until it is recorded."""
        self._conclude(admission, outcome, self.ledger.commit)

    def _conclude(self, admission: Admission, outcome: Outcome, give: Callable[[Conclusion], object]) -> None:
        item = conclusion(admission, outcome)
        try:
            if item is not None:
                give(item)
        except (LedgerUnavailableError, ReceiptError) as error:
            _unrecorded(admission, error)

    def settle(self, reservation: str, amount: str = "", *, by: str = "") -> Closed:
        """Say that an admitted action was performed, from anywhere: a worker, a payment provider's webhook, a command.

        `reservation` is the decision's id; `amount` what was really spent, in major units of its currency (`12.50`),
        empty for all that was reserved; `by` goes into the record. Idempotent: the answer says in which state the
        reservation is, and whether this call has booked it; an unknown id has no state. Raises `MoneyError` for an
        amount that is none, and `LedgerUnavailableError`.
        """
        return cast("Closed", self.ledger.commit(Settle(reservation, Settlement.CAPTURE, amount, by)))

    def release(self, reservation: str, *, by: str = "") -> Closed:
        """Say that an admitted action was not performed: its money is given back. Otherwise as `settle`."""
        return cast("Closed", self.ledger.commit(Settle(reservation, Settlement.RELEASE, "", by)))

    async def asettle(self, reservation: str, amount: str = "", *, by: str = "") -> Closed:
        """`settle` in async code."""
        return cast("Closed", await self.ledger.acommit(Settle(reservation, Settlement.CAPTURE, amount, by)))

    async def arelease(self, reservation: str, *, by: str = "") -> Closed:
        """`release` in async code."""
        return cast("Closed", await self.ledger.acommit(Settle(reservation, Settlement.RELEASE, "", by)))

    def sign(self, message: bytes) -> bytes:
        """Authenticate what is handed out to callers and comes back, with a key of the ledger's."""
        return self.ledger.keys.sign(message)

    def close(self) -> None:
        """Write what waits, then let go of every resource. Idempotent."""
        atexit.unregister(self._at_exit)
        if self._watcher is not None:
            self._watcher.close()
        self._resolver.close()
        self.ledger.close()


def _unrecorded(admission: Admission, error: Exception) -> None:
    _log.error("the outcome of %s was not recorded, its reservation stays held: %s", admission.id, error)


def _close_if_alive(fence: weakref.ref[Fence]) -> None:
    alive = fence()
    if alive is not None:
        alive.close()


def undo(entry: Entry, held: Held) -> Conclusion:
    """The end of an admission that nobody waited for: its handler never ran."""
    if held.receipt is None:
        msg = "only what has a receipt can be undone"
        raise ValueError(msg)
    return Conclusion(entry.id, Outcome(Settlement.RELEASE, End.NOT_REACHED))
