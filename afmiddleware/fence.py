"""The fence: one policy, one ledger, assembled. The clock, the ids and the keys come in here and nowhere else."""

from __future__ import annotations

import atexit
import logging
import os
import time
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from msgspec.structs import replace

from afmiddleware.assemble import adopt, assemble, audited
from afmiddleware.authenticators import fields_read, introspector, mint_limits
from afmiddleware.block import ActionContext
from afmiddleware.config.identity_schema import Identity
from afmiddleware.config.ledger_url import check_ledger, shown
from afmiddleware.config.load import load
from afmiddleware.drivers import arun, run
from afmiddleware.errors import ClientGoneError, ConfigError, LedgerUnavailableError, ReceiptError
from afmiddleware.extractors import acall, call
from afmiddleware.flow import admit_event, conclusion
from afmiddleware.keys import Keys
from afmiddleware.ledger.base import Filter
from afmiddleware.ledger.log import ReceiptLog, records_in
from afmiddleware.ledger.open import open_for_fence
from afmiddleware.ledger.steady import HostClock
from afmiddleware.mapping.coverage import Listing, merge
from afmiddleware.model.entry import Closed, Conclusion, Entry, Held, InForce, Settle
from afmiddleware.model.outcome import End, Outcome, Settlement
from afmiddleware.plan import Admission, Plan
from afmiddleware.policy.explain import Explanation, explain, stands
from afmiddleware.policy.replay import Replay, replay
from afmiddleware.resolve import Resolver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from afmiddleware.config.schema import Config
    from afmiddleware.identity.needs import Need
    from afmiddleware.ledger.base import Ledger
    from afmiddleware.mapping.coverage import Report
    from afmiddleware.mapping.view import RequestView
    from afmiddleware.model.action import ActionEvent
    from afmiddleware.model.verdict import Verdict
    from afmiddleware.receipts.checkpoint import Signer

_log = logging.getLogger("afmiddleware")


def system_clock() -> int:
    """The host's clock in microseconds since the epoch."""
    return time.time_ns() // 1000


def _believed(clock: Callable[[], int]) -> Callable[[], int]:
    """The clock that the ledger counts by: that of the host only while it can be believed."""
    return HostClock(clock) if clock is system_clock else clock


def new_id(now: int) -> str:
    """A decision's id: the time it was made and 72 random bits, as 32 hexadecimal digits."""
    return f"{now:014x}{os.urandom(9).hex()}"


class Fence:
    """A policy at work. Make one with `Fence.from_file`; one is enough for a process, and `close` ends it.

    `receipts` is the log of what was decided, `keys` are the API keys. `signer` signs the log in place of the policy's
    `signing_key`, for a key that never leaves its keeper (`receipts.checkpoint.CallSigner`). The fence serves its own
    endpoints under `prefix`. `authenticators` are functions of the service's own, sync or async, that find out who
    makes a request by a credential that the policy does not know (docs/identity.md).
    """

    def __init__(  # noqa: PLR0913 (what a fence is made of)
        self,
        config: Config,
        *,
        base: Path | None = None,
        ledger: Ledger | None = None,
        clock: Callable[[], int] = system_clock,
        new_id: Callable[[int], str] = new_id,
        signer: Signer | None = None,
        authenticators: Sequence[Callable[[RequestView], Any]] = (),
    ) -> None:
        self.config = config
        self.clock = clock
        self.new_id = new_id
        self.base = base = base or Path.cwd()
        plan, keys = assemble(config, base, self._sign)
        self.plan = replace(plan, plugins=tuple(authenticators))
        self.mint_limits = mint_limits(config.identity)
        self._assembled = self.plan
        self._told: Plan | None = None
        self._listing = Listing()
        self.vary = fields_read(config.identity)
        asks = introspector(config.identity, base, config.source)
        self.ledger = ledger or open_for_fence(config, base, _believed(clock), undo, signer)
        self._resolver = Resolver(self.ledger, keys, asks)
        self.receipts = ReceiptLog(self.ledger, self.ledger.keys)
        self.prefix = config.endpoints.prefix.removesuffix("/") + "/"
        self.keys = Keys(self.ledger, clock)
        self.inline = self.ledger.inline
        self.io = _Io(self)
        self.aio = _AsyncIo(self)
        self._at_exit = partial(_close_if_alive, weakref.ref(self))
        atexit.register(self._at_exit)
        ledgers = shown(config.ledger, config.rates)
        _log.info("policy %s, ledger %s, mode %s", config.digest[:16], ledgers, config.mode)

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
        config, base = read_policy(path, os.environ if env is None else env)
        return cls(config, base=base, **parts)

    def adopt(self, listing: Listing) -> None:
        """Fit the policy to an application, which an adapter does at its audit: `mapping.coverage` is the protocol.

        From here on the bindings declared in the application's code hold, the digest of the policy covers them, and
        an entry of the file means the endpoint it stands for however the framework spells it. What several
        applications list adds up. Raises `ConfigError` with every problem, and changes nothing then.
        """
        merged = merge(self._listing, listing)
        plan, findings = adopt(self._assembled, self.config, merged)
        for finding in findings:
            _log.warning("%s: %s", finding.id, finding)
        if plan.digest != self.plan.digest:
            _log.info("policy %s with the bindings declared in code", plan.digest[:16])
        self.plan, self._listing = plan, merged

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
        nothing, records nothing. Values of the payload are shown.
        """
        at = self.clock() if now is None else now
        told = explain(self.plan.policy, event, at, lambda _field: False)
        found = run(admit_event(self.plan, event, at, self.new_id(at), dry=True), self.io)
        limits = stands(found.balances, event, found.verdict.limit)
        return replace(told, verdict=found.verdict, limits=limits)

    def replay(self, candidate: str | os.PathLike[str] | None = None) -> Replay:
        """Decide every receipt of this fence's ledger once more, under its own policy or that of a candidate file.

        Charges nothing, records nothing. Raises `ConfigError` for a candidate that is wrong.
        """
        policy = self.plan.policy
        if candidate is not None:
            config, base = read_policy(candidate, {})
            policy = assemble(config.model_copy(update={"identity": Identity()}), base)[0].policy
        return replay(policy, records_in(self.ledger.receipts(Filter())))

    def action(self, event: ActionEvent) -> ActionContext:
        """A `with` or `async with` block that runs only when `event` is admitted, and settles it at the end.

        Raises `ActionRefusedError` before the block when it is not. An exception in the block leaves the outcome
        unknown, which keeps the money counted, unless the block called `settle` or `release`.
        """
        return ActionContext(self, event)

    def commit(self, entry: Entry) -> Held:
        """Make an entry's commit and wait for it."""
        if self._told is not self.plan:
            self._tell()
        return cast("Held", self.ledger.commit(entry))

    async def acommit(self, entry: Entry) -> Held:
        """Make an entry's commit and wait for it without blocking the event loop."""
        if self._told is not self.plan:
            self._tell()
        return cast("Held", await self.ledger.acommit(entry))

    def post(self, item: Entry | Conclusion) -> None:
        """Hand an item to the ledger without waiting."""
        if self._told is not self.plan:
            self._tell()
        self.ledger.post(item)

    def _tell(self) -> None:
        """Have the ledger record that another policy decides, before the first decision that it makes here."""
        plan, told = self.plan, self._told
        mode = "observe" if plan.observe else "enforce"
        self.ledger.post(InForce(plan.digest, mode, "start" if told is None else "reload"))
        self._told = plan

    def resolve(self, need: Need) -> Any:
        """Look up what identity needs, blocking."""
        return self._resolver.resolve(need)

    async def aresolve(self, need: Need) -> Any:
        """Look up what identity needs without blocking the event loop."""
        return await self._resolver.aresolve(need)

    def conclude(self, admission: Admission, outcome: Outcome) -> None:
        """Settle and record the end of an admitted action. A failing ledger is logged: the money stays counted."""
        item = conclusion(admission, outcome)
        if item is None:
            return
        try:
            self.ledger.post(item)
        except (LedgerUnavailableError, ReceiptError) as error:
            _unrecorded(admission, error)

    async def aconclude(self, admission: Admission, outcome: Outcome) -> None:
        """`conclude`, and wait until it is recorded, without blocking the event loop."""
        item = conclusion(admission, outcome)
        if item is None:
            return
        try:
            await self.ledger.acommit(item)
        except (LedgerUnavailableError, ReceiptError) as error:
            _unrecorded(admission, error)

    def conclude_now(self, admission: Admission, outcome: Outcome) -> None:
        """`conclude`, and wait until it is recorded."""
        item = conclusion(admission, outcome)
        if item is None:
            return
        try:
            self.ledger.commit(item)
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

    def _sign(self, message: bytes) -> bytes:
        return self.ledger.keys.sign(message)

    def close(self) -> None:
        """Write what waits, then let go of every resource. Idempotent."""
        atexit.unregister(self._at_exit)
        self._resolver.close()
        self.ledger.close()


def read_policy(path: str | os.PathLike[str] | None, env: Mapping[str, str]) -> tuple[Config, Path]:
    """Read and check a policy file; returns it with its folder. Raises `ConfigError` with every problem."""
    place = Path(env.get("AFM_POLICY") or path or "fence.yaml")
    try:
        text = place.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        msg = f"{place}: the policy file is not UTF-8"
        raise ConfigError([msg]) from None
    except OSError as error:
        msg = f"{place}: the policy file cannot be read: {error.strerror}"
        raise ConfigError([msg]) from None
    config = load(text, str(place), env)
    changes = {name: env[key] for name, key in (("ledger", "AFM_LEDGER"), ("mode", "AFM_MODE")) if env.get(key)}
    if changes.get("mode", "enforce") not in ("enforce", "observe"):
        msg = f"AFM_MODE is {changes['mode']!r}; it is enforce or observe"
        raise ConfigError([msg])
    if "ledger" in changes:
        try:
            check_ledger(changes["ledger"])
        except ValueError as error:
            msg = f"AFM_LEDGER: {error}"
            raise ConfigError([msg]) from None
    return config.model_copy(update=changes), place.resolve().parent


class _Io:
    """What the spine can have done outside of HTTP, blocking."""

    def __init__(self, fence: Fence) -> None:
        self.call = call
        self.commit = fence.commit
        self.post = fence.post
        self.resolve = fence.resolve

    def read_body(self, cap: int) -> bytes:
        raise ClientGoneError(f"there is no body to read ({cap} bytes at most)")


class _AsyncIo:
    """The same in async code."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self.call = acall
        self.commit = fence.acommit
        self.resolve = fence.aresolve

    async def read_body(self, cap: int) -> bytes:
        raise ClientGoneError(f"there is no body to read ({cap} bytes at most)")

    async def post(self, item: Entry | Conclusion) -> None:
        self._fence.post(item)


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
