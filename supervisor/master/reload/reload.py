"""Reload: configuration and code are read again, tried beside the old ones, put in force, and the workers replaced.

Master only. One reload at a time: requests that arrive meanwhile are answered by the next one, which reads everything
again. Nothing changes before all canaries have passed; a failure before that leaves everything as it was. Then the new
settings are in force. The reload is over when each pool has its new workers and the removed pools are gone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from supervisor.config.schema import Config, LogConfig
from supervisor.control.protocol import Pending
from supervisor.control.results import Reloaded, ReloadStatus
from supervisor.errors import ConfigError, ControlError, PreforkdError
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.exits.recovery import Survivors
from supervisor.master.pool.children import Plan
from supervisor.master.pool.pools import Pools
from supervisor.master.reload.canary import Canary, trial_s
from supervisor.master.reload.changes import Changes, compare
from supervisor.master.reload.scaling import Scaling
from supervisor.master.startup import DaemonStart
from supervisor.master.stop.stopping import DaemonStop, Removals
from supervisor.master.stop.terminations import Terminations
from supervisor.system.clock import monotonic_s, rfc3339, wall_s
from supervisor.system.reactor import Reactor


class Stage(StrEnum):
    """How far a reload is; shown in `status`."""

    TRYING = "trying"
    REPLACING = "replacing"


@dataclass(frozen=True)
class ReloadContext:
    """The objects that a reload works on. `configure_log` takes up `[log]`, or raises StateError."""

    pools: Pools
    reactor: Reactor
    terminations: Terminations
    scaling: Scaling
    removals: Removals
    survivors: Survivors
    configure_log: Callable[[LogConfig], None]


class Reload:
    """One reload under way. Raises PreforkdError when it cannot begin; then nothing has changed. `requested_by`: for
    the log and the status."""

    def __init__(self, old: Config, new: Config, requested_by: str, context: ReloadContext) -> None:
        self.config = new
        self.changes: Changes = compare(old, new)
        self.requested_by = requested_by
        self.stage = Stage.TRYING
        self.started_s, self.started_at_s = monotonic_s(), wall_s()
        self._old = old
        self._context = context
        self._trials: list[Canary] = []
        self._left: tuple[int, ...] = ()
        self._moved_s = self.started_s
        try:
            self._begin()
        except PreforkdError:
            self.abandon()
            raise

    def proceed(self, now_s: float) -> bool:
        """Go on as far as possible now; True when it is over. Raises PreforkdError when it has failed."""
        if self.stage is Stage.TRYING:
            self._try(now_s)
            return False
        return self._replaced(now_s)

    def abandon(self) -> None:
        """End the children on trial: the old generation goes on as it was."""
        if self.stage is not Stage.TRYING:
            return
        for trial in self._trials:
            trial.abandon(self._context.terminations, monotonic_s())
        self._trials.clear()

    @property
    def due_s(self) -> float:
        """When time alone moves it (CLOCK_MONOTONIC)."""
        if self.stage is Stage.TRYING:
            return min((trial.due_s for trial in self._trials), default=0.0)
        return self._moved_s + self._limit_s()

    def waits_for(self) -> list[str]:
        """The names of the children whose readiness or end is waited for."""
        pools, scaling = self._context.pools.values(), self._context.scaling
        if self.stage is Stage.TRYING:
            return [f"{trial.pool.name}: new code" for trial in self._trials if not trial.passed]
        rolling = [pool for pool in pools if scaling.replaces_workers(pool)]
        old = [spec.name for pool in rolling for spec in scaling.outdated(pool)]
        new = [spec.name for pool in rolling for spec in pool.workers if spec.child and not spec.ready]
        return [*old, *new, *(f"pool {pool.name}" for pool in pools if pool.leaving)]

    # ---- trying ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        for name in self.changes.added:
            if name in self._context.pools:
                raise ControlError(f"pool {name} is still leaving since an earlier reload: try again when it is gone")
            pool = self._context.pools.add(self.config, self.config.pools[name])
            pool.follow_plan(Plan(on_trial=True, canary=0))
            self._context.survivors.admit(pool, self._old.daemon.stop_timeout_s)
        for name in self.config.pools:
            self._trials.append(Canary(self._context.pools[name], self.config, self._context.reactor, self.started_s))

    def _try(self, now_s: float) -> None:
        for trial in self._trials:
            trial.proceed(now_s)
        if all(trial.passed for trial in self._trials):
            self._commit(now_s)

    def _commit(self, now_s: float) -> None:
        """All have passed: put the new settings in force. Raises StateError when the log cannot be opened."""
        context = self._context
        for trial in self._trials:
            trial.pool.slots.grow(self.config.pools[trial.pool.name].workers)
        context.configure_log(self.config.log)
        self.stage = Stage.REPLACING
        self._moved_s = now_s
        for trial in self._trials:
            trial.promote(trial.pool.name in self.changes.reconnect, context.scaling, context.terminations, now_s)
        context.pools.put_in_force(self.config)
        for name in self.changes.removed:
            context.removals.begin(context.pools[name], "reload")

    # ---- replacing ------------------------------------------------------------------------------------------------

    def _replaced(self, now_s: float) -> bool:
        pools, scaling = list(self._context.pools.values()), self._context.scaling
        for pool in pools:
            held = next((spec for spec in pool.workers if spec.held), None)
            if held is not None and scaling.replaces_workers(pool):
                raise ControlError(f"{held.why}; the new workers of pool {pool.name} die too often, {_GOES_ON}")
        left = (
            sum(len(scaling.outdated(pool)) for pool in pools),
            sum(spec.ready for pool in pools for spec in pool.workers),
            sum(pool.leaving for pool in pools),
        )
        if left != self._left:
            self._left, self._moved_s = left, now_s
        if now_s - self._moved_s > self._limit_s():
            names = self.waits_for()
            obstacles = f" once there is an end to what {', '.join(names)} does" if names else ""
            raise ControlError(f"nothing has moved for {self._limit_s():g} s: {_GOES_ON}{obstacles}")
        return not any(scaling.replaces(pool) or pool.leaving for pool in pools)

    def _limit_s(self) -> float:
        """Handlers may take as long as their limits allow."""
        pools = [pool.config for pool in self._context.pools.values()]
        longest_s = max((trial_s(pool) + pool.max_timeout_s for pool in pools), default=0.0)
        return longest_s + self._old.daemon.stop_timeout_s


_GOES_ON = "the new settings are in force, and the remaining old workers go on; they are replaced when that is possible"


_STARTING = "the daemon is still starting: stop it and start it again, or wait until it is ready"
_STOPPING = "the daemon is stopping: it does not reload"


class Reloads:
    """Reloads one after another: a duty that ends with the start of a stop."""

    does = "reload"

    def __init__(
        self, read_again: Callable[[], Config], context: ReloadContext, startup: DaemonStart, stop: DaemonStop
    ) -> None:
        """`read_again()` gives the configuration as it is now, or raises ConfigError."""
        self._read_again = read_again
        self._context = context
        self._startup = startup
        self._stop = stop
        self._current: Reload | None = None
        self._answers: list[Pending] = []
        self._next: list[tuple[str, Pending]] = []
        self._failed = self._failed_before_turn = False

    def ask(self, requested_by: str, first: dict[str, Any]) -> Pending:
        """Reload now, or after the one under way. Raises PreforkdError when it fails at once.

        `requested_by`: for log and status; `first`: what is answered at once.
        """
        pending = Pending(first | {"queued": self._current is not None})
        if self._stop.under_way or not self._startup.ready:
            self._log_failure(refusal := ControlError(_STOPPING if self._stop.under_way else _STARTING), requested_by)
            raise refusal
        if self._current is not None:
            self._next.append((requested_by, pending))
            return pending
        self._begin(requested_by)
        self._answers = [pending]
        return pending

    def turn(self, now_s: float) -> None:
        """Go on with what is under way; the stop of the daemon ends it."""
        self._failed_before_turn, self._failed = self._failed, False
        if self._stop.under_way:
            self._abandon_all()
            return
        if self._current is None:
            return
        try:
            if self._current.proceed(now_s):
                self._done(self._current, now_s)
        except PreforkdError as error:
            self._fail(self._current, error)

    def _abandon_all(self) -> None:
        if self._current is not None:
            self._current.abandon()
            self._current = None
        for pending in [*self._answers, *(pending for _by, pending in self._next)]:
            pending.fail(ControlError(_STOPPING))
        self._answers, self._next = [], []

    @property
    def due_s(self) -> float:
        """When `turn` is needed next if nothing happens (CLOCK_MONOTONIC)."""
        if self._failed or self._failed_before_turn:
            return monotonic_s()
        return self._current.due_s if self._current else float("inf")

    @property
    def under_way(self) -> bool:
        """Whether there is a reload; also for the turn after one has failed at once, so that systemd hears of it."""
        return self._current is not None or self._failed or self._failed_before_turn

    @property
    def trying(self) -> bool:
        """Whether new code is on trial: the number of workers is not changed meanwhile."""
        return self._current is not None and self._current.stage is Stage.TRYING

    def status(self) -> ReloadStatus | None:
        """What `status` shows of a reload under way."""
        reload = self._current
        if reload is None:
            return None
        return ReloadStatus(
            stage=reload.stage,
            since=rfc3339(reload.started_at_s),
            requested_by=reload.requested_by,
            waits_for=reload.waits_for(),
        )

    # ---- the steps ------------------------------------------------------------------------------------------------

    def _begin(self, requested_by: str) -> None:
        try:
            self._current = Reload(self._context.pools.config, self._read_again(), requested_by, self._context)
        except PreforkdError as error:
            self._log_failure(error, requested_by)
            self._send_untried_away()
            raise

    def _done(self, reload: Reload, now_s: float) -> None:
        report = Reloaded(**reload.changes.facts(), took_s=round(now_s - reload.started_s, 3))
        log(Event.RELOAD_DONE, "reloaded", requested_by=reload.requested_by, **msgspec.structs.asdict(report))
        for pending in self._answers:
            pending.complete(report)
        self._go_on()

    def _fail(self, reload: Reload, error: PreforkdError) -> None:
        self._log_failure(error, reload.requested_by)
        reload.abandon()
        self._send_untried_away()
        for pending in self._answers:
            pending.fail(error)
        self._go_on()

    def _go_on(self) -> None:
        """Start one more reload for all requests that arrived meanwhile."""
        self._current = None
        waiting, self._next = self._next, []
        self._answers = [pending for _by, pending in waiting]
        if not waiting:
            return
        try:
            self._begin(waiting[0][0])
        except PreforkdError as error:
            for pending in self._answers:
                pending.fail(error)

    def _log_failure(self, error: PreforkdError, requested_by: str) -> None:
        self._failed = True
        if isinstance(error, ConfigError):
            log(Event.CONFIG_INVALID, str(error), level=logging.ERROR, problems=[str(one) for one in error.problems])
        text = f"the reload failed: {error}"
        log(Event.RELOAD_FAILED, text, level=logging.ERROR, requested_by=requested_by, why=str(error))

    def _send_untried_away(self) -> None:
        for pool in list(self._context.pools.values()):
            if pool.plan.on_trial and not pool.leaving:
                self._context.removals.begin(pool, "failed reload", at_once=True)
