"""The master's loop. PROCESS: owns all other processes; nothing else does.

`run()` is for ever, `turn()` is one pass: wait, obey, bury the dead, judge, announce, start what is due, tell. It must
never block, and never touch broker, ledger or user code: whatever goes wrong there must find somebody able to act.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import supervisor
from supervisor.config.schema import Config, DaemonConfig, PoolConfig
from supervisor.control.protocol import Pending
from supervisor.control.server import ControlServer
from supervisor.errors import PreforkdError
from supervisor.logs import structured
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master import startup
from supervisor.master.control import status
from supervisor.master.control.commands import Commands, Verb
from supervisor.master.control.sd_notify import Notifier
from supervisor.master.control.systemd_status import PoolFacts, StatusNotifier
from supervisor.master.duties import Duties
from supervisor.master.exits.handling import ExitHandler
from supervisor.master.exits.history import SAVE_S, History
from supervisor.master.exits.oom import OomWatch, group_counter
from supervisor.master.exits.reaper import ReapedChild, Reaper
from supervisor.master.exits.recovery import Services
from supervisor.master.exits.surviving_workers import Survivors
from supervisor.master.host.log_relay import LogRelay
from supervisor.master.host.signalling import note_unkillable
from supervisor.master.host.signals import Signals
from supervisor.master.limits.enforcement import Enforcement
from supervisor.master.pool import intake
from supervisor.master.pool.children import Children, Kind
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.reports import hear_readiness
from supervisor.master.pool.spawner import Spawner
from supervisor.master.pool.state_changes import PoolStates
from supervisor.master.reload.reload import ReloadContext, Reloads
from supervisor.master.reload.scaling import adjust
from supervisor.master.sidecars.sidecars import Sidecars
from supervisor.master.startup import Started
from supervisor.master.stop.phases import CLOSE_S, HURRY_S, Phase, Stop
from supervisor.master.stop.stopping import Stopping
from supervisor.master.stop.terminations import Terminations
from supervisor.system.clock import monotonic_s, rfc3339, wall_s
from supervisor.system.posix import signal_name, usage
from supervisor.system.reactor import Reactor

OnReady = Callable[[Mapping[str, str]], None]
"""Told once that the daemon is ready, with the pools that are held nevertheless, and why."""

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
        relay: LogRelay | None = None,
    ) -> None:
        now_s = monotonic_s()
        self._on_ready = on_ready
        self._started_s, self._started_at_s = now_s, wall_s()
        self._reactor = Reactor()
        self._signals = Signals(self._reactor)
        self._children = Children()
        self._duties = Duties()
        state_dir = Path(config.daemon.state_dir)
        self._history = History(state_dir)
        self._services = Services(state_dir)
        self._pools: dict[str, Pool] = {}
        self._sidecars = Sidecars(self._history, self._children, self._reactor)
        self._spawner = Spawner(self._pools, self._reactor)
        for settings in config.pools.values():
            self._make_pool(config, settings)
        self._terminations = Terminations()
        self._reloads = Reloads(
            config,
            read_again,
            ReloadContext(
                self._pools,
                self._children,
                self._reactor,
                self._terminations,
                self._admit,
                self._part_with,
                relay.configure if relay else partial(structured.configure, process="master"),
            ),
        )
        self._commands = Commands(self._pools, self._reloads, self._reactor)
        self._reaper = Reaper(self._pools.values(), self._children)
        if relay is not None:
            relay.watch(self._reactor, self._reaper.ignore)
        membership = Path("/proc/self/cgroup").read_text()
        oom = OomWatch(group_counter(membership))
        self._exit_handler = ExitHandler(self._pools, self._history, oom, self._sidecars, self._spawner.replace_workers)
        self._enforcement = Enforcement(self._pools.values(), self._terminations, self._duties, stale_s, now_s)
        self._notifier = StatusNotifier(notifier, now_s, stale_s) if notifier else None
        self._survivors = Survivors(self._history, self._exit_handler)
        self._pool_states = PoolStates(self._sidecars)
        self._stopping: Stopping | None = None
        self._asked: list[Pending] = []
        self._ready = False
        self.failure: tuple[str, int] | None = None
        control_path = Path(config.daemon.runtime_dir) / "control.sock"
        self._server = ControlServer(control_path, self._reactor, self._answer)

    def run(self) -> int:
        """Supervise until a stop is complete; the exit status."""
        log(Event.DAEMON_STARTED, f"preforkd {supervisor.__version__} started", state_dir=self._daemon.state_dir)
        self._sidecars.follow_config(self._reloads.config, monotonic_s())
        self._survivors.take_over(self._services.former(), self._pools.values(), self._patience_s)
        while self._stopping is None or self._stopping.stop.phase is not Phase.GONE or not self._sidecars.gone:
            self.turn()
        self._finish(self._stopping)
        return self.failure[1] if self.failure else 0

    def turn(self) -> None:
        """One pass."""
        self._duties.carry_out(
            self._wait,
            self._obey_signals,
            self._reap_children,
            self._judge,
            self._follow_survivors,
            self._reload_and_scale,
            self._announce,
            self._start_what_is_due,
            self._proceed_with_stop,
            self._tell,
        )

    # ---- wait -----------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        now_s = monotonic_s()
        self._reactor.poll(max(0.0, min(self._due_times(now_s)) - now_s))

    def _due_times(self, now_s: float) -> Iterable[float]:
        yield now_s + _FAR_S
        yield self._reaper.due_s
        yield from self._enforcement.due_times()
        yield self._sidecars.kill_due_s
        yield self._reloads.due_s
        if self._notifier is not None:
            yield self._notifier.due_s
        if self._history.unsaved:
            yield now_s + SAVE_S
        yield self._survivors.due_s
        if self._stopping is not None:
            yield from self._stopping.due_times(now_s)
            return
        yield from (pool.consumer_channel.due_s for pool in self._pools.values())
        yield from self._spawner.due_times()
        yield self._sidecars.start_due_s

    # ---- obey -----------------------------------------------------------------------------------------------------

    def _obey_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGHUP:
                self._reload_by_signal()
            else:
                self._stop(signal_name(number), None, now=self._stopping is not None)

    def _reload_by_signal(self) -> None:
        with suppress(PreforkdError):  # the log has it; there is nobody else to tell
            self._reloads.ask("SIGHUP", {})

    def _answer(self, request: dict[str, Any]) -> dict[str, Any] | Pending:
        """Carry out a request of the control socket (docs/control-protocol.md)."""
        own: dict[str, Verb] = {
            "status": lambda request: self.status(),
            "ping": lambda request: {"pid": os.getpid(), "version": supervisor.__version__},
            "stop": self._stop_requested,
        }
        return (own | self._commands.verbs)[request["verb"]](request)

    def _stop_requested(self, request: dict[str, Any]) -> dict[str, Any] | Pending:
        self._stop("preforkd stop", request.get("timeout_s"), now=bool(request.get("now")))
        answer = {"stopping": True, "pid": os.getpid()}
        if not request.get("wait"):
            return answer
        self._asked.append(Pending(first=answer))
        return self._asked[-1]

    def _stop(self, requested_by: str, timeout_s: float | None, now: bool) -> None:
        now_s = monotonic_s()
        if self._stopping is not None:
            if now:
                self._stopping.stop.hurry(now_s)
            return
        limit_s = self._daemon.stop_timeout_s if timeout_s is None else timeout_s
        log(Event.DAEMON_STOPPING, f"stopping ({requested_by})", requested_by=requested_by, now=now, timeout_s=limit_s)
        self._exit_handler.stopping = True
        self._reloads.stop()
        stop = Stop(requested_by, now_s, limit_s, now)
        self._stopping = Stopping(stop, list(self._pools.values()), self._children)

    # ---- bury, judge ----------------------------------------------------------------------------------------------

    def _reap_children(self) -> None:
        self._register(self._reaper.reap())

    def _register(self, reaped_children: list[ReapedChild]) -> None:
        for reaped in reaped_children:
            self._enforcement.forget(reaped.child)
        self._exit_handler.register(reaped_children)
        self._exit_handler.release(self._reaper.released())
        for pool in self._pools.values():
            if self._stopping is not None or pool.leaving:
                self._exit_handler.release_all(pool)

    def _judge(self) -> None:
        now_s = monotonic_s()
        self._enforcement.judge(now_s)
        self._sidecars.judge(now_s)

    def _follow_survivors(self) -> None:
        self._survivors.turn(monotonic_s())

    # ---- reload, scale --------------------------------------------------------------------------------------------

    def _reload_and_scale(self) -> None:
        if self._stopping is None:
            now_s = monotonic_s()
            self._reloads.turn(now_s)
            adjust(self._pools.values(), self._terminations, now_s)
            self._duties.for_each(self._pools.values(), intake.follow)
            self._sidecars.follow_config(self._reloads.config, now_s)

    def _make_pool(self, config: Config, settings: PoolConfig) -> Pool:
        pool = Pool(config, settings, self._children, self._history.youngest(settings.name))
        self._pools[pool.name] = pool
        self._reactor.add_handler(pool.readiness_read, lambda fd, events: hear_readiness(pool), self._reactor.READ)
        return pool

    def _admit(self, config: Config, settings: PoolConfig) -> Pool:
        """A pool that a reload adds; a former daemon may have had it, too."""
        pool = self._make_pool(config, settings)
        self._survivors.admit(pool, self._patience_s)
        return pool

    def _part_with(self, pool: Pool) -> None:
        """A pool that a reload removed, and that nobody is in any more."""
        self._reactor.remove_handler(pool.readiness_read)
        pool.close()
        del self._pools[pool.name]
        self._pool_states.forget(pool)
        self._survivors.forget(pool)

    # ---- start ----------------------------------------------------------------------------------------------------

    def _start_what_is_due(self) -> None:
        if self._stopping is not None:
            return
        now_s = monotonic_s()
        self._spawner.start_what_is_due(now_s)
        self._sidecars.start_what_is_due(now_s)
        self._remember_services()

    def _remember_services(self) -> None:
        self._services.remember(child for child in self._children if child.kind is not Kind.WORKER)

    # ---- tell -----------------------------------------------------------------------------------------------------

    def _announce(self) -> None:
        """Tell the log about pools that changed, and who started us when everything is up, or why it never will be."""
        if self._stopping is not None:
            return
        now_s = monotonic_s()
        for pool in self._pools.values():
            note_unkillable(pool, now_s)
            pool.was_ready = pool.was_ready or pool.ready
            self._pool_states.announce(pool, self._state_of(pool))
        if not self._ready and (started := startup.outcome(self._pools.values())) is not None:
            self._conclude_start(started)

    def _conclude_start(self, started: Started) -> None:
        if started.failed:
            self.failure = (started.reason, started.status)
            self._stop("failed start", None, now=False)
            return
        self._ready = True
        self._reloads.refuses = ""
        took_s = round(monotonic_s() - self._started_s, 3)
        log(Event.DAEMON_READY, "ready", took_s=took_s, held=list(started.held))
        if self._on_ready is not None:
            self._on_ready(started.held)

    def _proceed_with_stop(self) -> None:
        if self._stopping is None:
            return
        self._stopping.proceed(now_s := monotonic_s())
        stop = self._stopping.stop
        if stop.phase is Phase.GONE:
            self._sidecars.stop(stop.requested_by, HURRY_S if stop.now else CLOSE_S, now_s)

    def _tell(self) -> None:
        now_s = monotonic_s()

        def write_to_its_children(pool: Pool) -> None:
            pool.flush(now_s)

        self._duties.for_each(self._pools.values(), write_to_its_children)
        self._sidecars.flush(self._pools.values())
        # fail-point: master.told: the turn's frames are sent
        self._history.flush()
        self._history.save(now_s)
        if self._notifier is not None and self._notifier.is_due(self._state, now_s):
            self._notifier.tell(self._state, self._facts(), self._stopping.stop if self._stopping else None, now_s)

    def _facts(self) -> list[PoolFacts]:
        exits = self._history.counts()
        return [status.pool_facts(pool, self._state_of(pool), exits) for pool in self._pools.values()]

    # ---- end, status ----------------------------------------------------------------------------------------------

    def _finish(self, stopping: Stopping) -> None:
        """Everybody is gone: report, and leave nothing behind but state."""
        # fail-point: master.stop-alone: everybody is gone, the locks are held
        self._register(self._reaper.give_up())
        report = stopping.report(monotonic_s())
        self._remember_services()
        log(Event.DAEMON_STOPPED, "stopped", requested_by=stopping.stop.requested_by, **report)
        for pending in self._asked:
            pending.complete(report)
        self._reactor.poll(0.0)
        self._server.close()
        self._sidecars.close()
        for pool in list(self._pools.values()):
            self._part_with(pool)
        self._signals.close()
        self._history.close()
        self._reactor.close()

    def status(self) -> dict[str, Any]:
        """The status object of docs/control-protocol.md."""
        now_s = monotonic_s()
        return {
            "version": supervisor.__version__,
            "pid": os.getpid(),
            "state": self._state,
            "started_at": rfc3339(self._started_at_s),
            "uptime_s": round(now_s - self._started_s, 3),
            **usage(os.getpid())._asdict(),
            "config": self._reloads.config.source,
            "state_dir": self._daemon.state_dir,
            "runtime_dir": self._daemon.runtime_dir,
            "reload": self._reloads.status(),
            "pools": {
                pool.name: status.pool_status(pool, self._state_of(pool), now_s) for pool in self._pools.values()
            },
            "sidecars": self._sidecars.status(),
            "exits": self._history.counts(),
        }

    @property
    def _state(self) -> str:
        if self._stopping is not None:
            return "stopping"
        if not self._ready:
            return "starting"
        return "reloading" if self._reloads.under_way else "running"

    def _state_of(self, pool: Pool) -> str:
        return status.pool_state(pool, self._stopping is not None)

    @property
    def _patience_s(self) -> float:
        return self._daemon.stop_timeout_s

    @property
    def _daemon(self) -> DaemonConfig:
        return self._reloads.config.daemon
