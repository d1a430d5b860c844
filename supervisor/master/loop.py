"""The master's loop. PROCESS: owns all other processes; nothing else does.

`Master.run` repeats `turn`: wait for the earliest duty, then turn all duties in order. It must never block, and never
touch broker, ledger or user code: the master must be able to act when those fail.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import supervisor
from supervisor.config.schema import Config
from supervisor.control.server import ControlServer
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.control.commands import Commands
from supervisor.master.control.pool_states import PoolStates
from supervisor.master.control.status import DaemonStatus
from supervisor.master.control.systemd import Notifier, StatusNotifier
from supervisor.master.duties import Duty, EachPool, Failures, UntilStop
from supervisor.master.exits.exit_handler import ExitHandler, Reaping
from supervisor.master.exits.history import History
from supervisor.master.exits.oom import OomWatch, group_counter
from supervisor.master.exits.reaper import Reaper
from supervisor.master.exits.recovery import Services, Survivors
from supervisor.master.host.log_relay import LogRelay
from supervisor.master.host.signals import Signals
from supervisor.master.limits.boots import Boots, Probation
from supervisor.master.limits.hang_detector import HangDetector
from supervisor.master.limits.run_limits import RunLimits
from supervisor.master.limits.standstill import Standstill
from supervisor.master.pool.children import Children
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.pools import Pools
from supervisor.master.pool.slot_watch import SlotWatch
from supervisor.master.pool.starts import Spawner
from supervisor.master.pool.state import follow_intake
from supervisor.master.reload.reload import ReloadContext, Reloads
from supervisor.master.reload.scaling import Scaling
from supervisor.master.sidecars.sidecars import Sidecars
from supervisor.master.startup import DaemonStart, OnReady
from supervisor.master.stop.stopping import DaemonStop, Removals
from supervisor.master.stop.terminations import Terminations
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor

_FAR_S = 3600.0


class Master:
    """One daemon. Made once the locks are held; raises StateError when state cannot be used."""

    def __init__(
        self,
        config: Config,
        read_again: Callable[[], Config],
        on_ready: OnReady | None,
        stale_s: float,
        notifier: Notifier | None,
        relay: LogRelay,
    ) -> None:
        """`read_again()` gives the configuration as it is now, or raises ConfigError. `on_ready` is called once, when
        the daemon is ready. `stale_s`: how long a forkserver or consumer may stand still, in seconds. `notifier`: the
        way to systemd, None for none."""
        now_s, state_dir = monotonic_s(), Path(config.daemon.state_dir)
        self._reactor = Reactor()
        self._signals = Signals(self._reactor)
        self._children = Children()
        self._history = History(state_dir)
        self._services = Services(state_dir, self._children)
        self._terminations = Terminations(self._children)
        self._pools = Pools(config, self._children, self._history.youngest, self._reactor)
        self._failures = Failures()
        self._stop = DaemonStop(self._pools, self._children)
        named = (self._history, self._children, self._reactor, self._terminations)
        self._sidecars = Sidecars(self._pools, self._stop, *named)
        self._startup = DaemonStart(self._pools, self._stop, on_ready, now_s)
        self._spawner = Spawner(self._pools, self._sidecars.by_kind.values(), self._reactor)
        oom = OomWatch(group_counter(Path("/proc/self/cgroup").read_text()))
        others, tell = self._sidecars.by_kind, self._sidecars.tell_exit
        handler = ExitHandler(self._pools, self._history, oom, others, tell, self._spawner.replace_workers)
        self._survivors = Survivors(self._history, handler, self._pools)
        reaper = Reaper(self._pools.values(), self._children)
        self._reaping = Reaping(reaper, handler, self._pools.values(), self._stop)
        relay.watch(self._reactor, reaper.ignore)
        self._scaling = Scaling(self._pools.values(), self._terminations)
        self._removals = Removals(self._pools, self._children)
        acting = (self._terminations, self._scaling, self._removals, self._survivors)
        context = ReloadContext(self._pools, self._reactor, *acting, relay.configure)
        reloads = Reloads(read_again, context, self._startup, self._stop)
        speaker = None if notifier is None else StatusNotifier(notifier, now_s, stale_s)
        status = DaemonStatus(self._pools, self._sidecars, self._history, self._startup, reloads, self._stop, speaker)
        commands = Commands(self._pools, reloads, self._stop, status, self._signals, self._reactor)
        self._duties = [*self._in_order(commands, reloads, stale_s, now_s), status]
        self._server = ControlServer(Path(config.daemon.runtime_dir) / "control.sock", self._reactor, commands.answer)

    def _in_order(self, commands: Commands, reloads: Reloads, stale_s: float, now_s: float) -> list[Duty]:
        """All duties in the order of a turn: requests, exits, limits, reload and scale, starts, the stop, messages."""
        pools, sidecars = self._pools.values(), self._sidecars.by_kind.values()
        failures, stop = self._failures, self._stop
        return [
            commands,
            self._reaping,
            Probation(pools, sidecars),
            Boots(pools, sidecars),
            Standstill(pools),
            EachPool("watch the crash rates", pools, failures, Pool.judge_crashes, lambda pool: pool.account.due_s),
            RunLimits(pools, now_s),
            HangDetector(pools, now_s, stale_s),
            SlotWatch(pools, now_s),
            self._terminations,
            self._survivors,
            UntilStop(self._removals, stop),
            reloads,
            UntilStop(self._scaling, stop),
            UntilStop(EachPool("pause or resume the consumer", pools, failures, follow_intake), stop),
            UntilStop(PoolStates(self._pools, self._sidecars), stop),
            UntilStop(self._startup, stop),
            UntilStop(self._spawner, stop),
            stop,
            self._sidecars,
            UntilStop(self._services, stop),
            EachPool("write to its children", pools, failures, Pool.flush, lambda pool: pool.consumer_channel.due_s),
            self._history,
        ]

    def run(self) -> tuple[str, int]:
        """Supervise until a stop is complete. Returns why the start has failed, "" when it has not, and the status."""
        daemon = self._pools.config.daemon
        log(Event.DAEMON_STARTED, f"preforkd {supervisor.__version__} started", state_dir=daemon.state_dir)
        self._sidecars.follow_config(self._pools.config, monotonic_s())
        self._survivors.take_over(self._services.former(), daemon.stop_timeout_s)
        while not (self._stop.gone and self._sidecars.gone):
            self.turn()
        self._finish()
        return self._startup.failure or ("", 0)

    def turn(self) -> None:
        """One pass: wait for the earliest duty or an event, then turn all duties in order."""
        self._failures.attempt("wait", self._wait)
        for duty in self._duties:
            self._failures.attempt(duty.does, lambda duty=duty: duty.turn(monotonic_s()))  # type: ignore[misc]
        self._failures.pause()

    def _wait(self) -> None:
        due_s = min(duty.due_s for duty in self._duties)
        self._reactor.poll(min(_FAR_S, max(0.0, due_s - monotonic_s())))

    def _finish(self) -> None:
        """All children have ended: report, and leave nothing behind but state."""
        # fail-point: master.stop-alone: all children have ended, the locks are held
        self._reaping.finish()
        self._services.turn(monotonic_s())
        self._stop.finish()
        self._reactor.poll(0.0)
        self._server.close()
        self._sidecars.close()
        self._pools.close()
        self._signals.close()
        self._history.close()
        self._reactor.close()
