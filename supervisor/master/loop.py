"""The master's loop. PROCESS: owns all other processes; nothing else does.

`run()` is for ever, `turn()` is one pass: wait, obey, bury the dead, judge, announce, start what is due, tell. It must
never block, and never touch broker, ledger or user code: whatever goes wrong there must find somebody able to act.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import supervisor
from supervisor.clock import monotonic_s, rfc3339, wall_s
from supervisor.config.schema import Config
from supervisor.control.protocol import Pending
from supervisor.control.server import ControlServer
from supervisor.errors import ControlError, StateError
from supervisor.events import Event
from supervisor.link.frames import CloseConnection
from supervisor.logs import log
from supervisor.master import status
from supervisor.master.burial import Undertaker
from supervisor.master.children import Children, Kind, Seat
from supervisor.master.deadlines import Deadlines
from supervisor.master.deadman import Deadman
from supervisor.master.deaths import Registrar
from supervisor.master.herald import Herald, PoolFacts
from supervisor.master.history import SAVE_S, History
from supervisor.master.inquiries import Inquiry
from supervisor.master.limits import Limits
from supervisor.master.notify import Notifier
from supervisor.master.oom import OomWatch, group_counter
from supervisor.master.pool import Pool
from supervisor.master.recovery import POLL_S, Foreigner, Services, lost_services, lost_worker, take_stock
from supervisor.master.reports import hear_bell
from supervisor.master.restarts import back_off_s
from supervisor.master.shutdown import Phase, Stop
from supervisor.master.signals import Signals
from supervisor.master.starts import can_start, start
from supervisor.master.stopping import Stopping
from supervisor.posix import signal_name
from supervisor.reactor import Reactor

_FAR_S = 3600.0


class Master:
    """One daemon. Made once the locks are held; raises StateError when state cannot be used."""

    def __init__(
        self, config: Config, on_ready: Callable[[], None] | None, stale_s: float, notifier: Notifier | None
    ) -> None:
        now_s = monotonic_s()
        self._config = config
        self._on_ready = on_ready
        self._started_s, self._started_at_s = now_s, wall_s()
        self._reactor = Reactor()
        self._signals = Signals(self._reactor)
        self._children = Children()
        state_dir = Path(config.daemon.state_dir)
        self._history = History(state_dir)
        self._services = Services(state_dir)
        self._pools = {
            name: Pool(config, pool, self._children, self._history.youngest(name))
            for name, pool in config.pools.items()
        }
        self._undertaker = Undertaker(self._pools.values(), self._children)
        membership = Path("/proc/self/cgroup").read_text()
        self._registrar = Registrar(self._pools, self._history, OomWatch(group_counter(membership)))
        self._limits = Limits(list(self._pools.values()), Deadlines(now_s))
        self._deadman = Deadman(now_s, stale_s)
        self._herald = Herald(notifier, now_s, stale_s) if notifier else None
        self._foreigners: list[Foreigner] = []
        self._stopping: Stopping | None = None
        self._asked: list[Pending] = []
        self._states: dict[str, str] = {}
        self._ready = False
        self.failure: tuple[str, int] | None = None
        for pool in self._pools.values():
            self._reactor.add_handler(pool.bell_read, self._bell(pool), self._reactor.READ)
        control_path = Path(config.daemon.runtime_dir) / "control.sock"
        self._server = ControlServer(control_path, self._reactor, self._answer)

    def run(self) -> int:
        """Supervise until a stop is complete; the exit status."""
        log(Event.DAEMON_STARTED, f"preforkd {supervisor.__version__} started", state_dir=self._config.daemon.state_dir)
        self._take_over()
        while self._stopping is None or self._stopping.stop.phase is not Phase.GONE:
            self.turn()
        self._finish(self._stopping)
        return self.failure[1] if self.failure else 0

    def turn(self) -> None:
        """One pass."""
        self._wait()
        self._obey_signals()
        self._bury_the_dead()
        self._judge()
        self._follow_foreigners()
        self._announce()
        self._start_what_is_due()
        self._proceed_with_stop()
        self._tell()

    # ---- wait -----------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        now_s = monotonic_s()
        self._reactor.poll(max(0.0, min(self._due_times(now_s)) - now_s))

    def _due_times(self, now_s: float) -> Iterable[float]:
        yield now_s + _FAR_S
        yield self._limits.due_s
        yield self._deadman.due_s
        if self._herald is not None:
            yield self._herald.due_s
        if self._history.unsaved:
            yield now_s + SAVE_S
        if self._foreigners:
            yield now_s + POLL_S
        if self._stopping is not None:
            if self._stopping.stop.due_s > now_s:  # what is late is waited for: its end wakes us
                yield self._stopping.stop.due_s
            return
        for pool in self._pools.values():
            yield pool.verdicts_due_s
            yield from (seat.due_s for seat in pool.seats if seat.due_s is not None and self._may_start(pool, seat))

    # ---- obey -----------------------------------------------------------------------------------------------------

    def _obey_signals(self) -> None:
        for number in self._signals.take():
            self._stop(signal_name(number), None, now=self._stopping is not None)

    def _answer(self, request: dict[str, Any]) -> dict[str, Any] | Pending:
        """Carry out a request of the control socket (docs/control-protocol.md)."""
        verbs: dict[str, Callable[[dict[str, Any]], dict[str, Any] | Pending]] = {
            "status": lambda request: self.status(),
            "ping": lambda request: {"pid": os.getpid(), "version": supervisor.__version__},
            "stop": self._stop_requested,
            "find": lambda request: Inquiry(self._pools.values(), str(request.get("message_id")), self._reactor).answer,
            "cut_connection": self._cut_connection,
        }
        return verbs[request["verb"]](request)

    def _stop_requested(self, request: dict[str, Any]) -> dict[str, Any] | Pending:
        self._stop("preforkd stop", request.get("timeout_s"), now=bool(request.get("now")))
        answer = {"stopping": True, "pid": os.getpid()}
        if not request.get("wait"):
            return answer
        self._asked.append(Pending(first=answer))
        return self._asked[-1]

    def _cut_connection(self, request: dict[str, Any]) -> dict[str, Any]:
        pool = self._pools.get(str(request.get("pool")))
        if pool is None:
            raise ControlError(f"there is no pool {request.get('pool')!r}; there are {', '.join(self._pools)}")
        pool.send(Kind.CONSUMER, CloseConnection())
        return {}

    def _stop(self, requested_by: str, timeout_s: float | None, now: bool) -> None:
        now_s = monotonic_s()
        if self._stopping is not None:
            if now:
                self._stopping.stop.hurry(now_s)
            return
        limit_s = self._config.daemon.stop_timeout_s if timeout_s is None else timeout_s
        log(Event.DAEMON_STOPPING, f"stopping ({requested_by})", requested_by=requested_by, now=now, timeout_s=limit_s)
        self._registrar.stopping = True
        stop = Stop(requested_by, now_s, limit_s, now)
        self._stopping = Stopping(stop, list(self._pools.values()), self._children)

    # ---- bury, judge ----------------------------------------------------------------------------------------------

    def _bury_the_dead(self) -> None:
        corpses = self._undertaker.bury()
        for corpse in corpses:
            self._limits.forget(corpse.child)
        self._registrar.register(corpses)

    def _judge(self) -> None:
        now_s = monotonic_s()
        self._limits.judge(now_s)
        self._deadman.judge(self._pools.values(), now_s)

    def _take_over(self) -> None:
        """Put in order what a former daemon left, before anybody is started."""
        until_s = monotonic_s() + self._config.daemon.stop_timeout_s
        # fail-point: master.start-unaware: what a former daemon left is not looked at
        lost = lost_services(self._services.former(), self._history)
        for pool in self._pools.values():
            dead, living = take_stock(pool, self._history, until_s)
            lost += dead
            self._foreigners += living
        # fail-point: master.start-stock-taken: the lost are found, no record is written
        self._registrar.publish(lost)
        # fail-point: master.start-recorded: the lost are on record, nobody is started
        for pool in self._pools.values():
            pool.verdicts.clear()  # a consumer takes everybody for dead who is not named alive in its first frame

    def _follow_foreigners(self) -> None:
        for foreigner in list(self._foreigners):
            if foreigner.gone:
                self._foreigners.remove(foreigner)
                del foreigner.pool.foreign[foreigner.number]
                self._registrar.publish([lost_worker(foreigner.pool, foreigner.number, foreigner.identity)])
            elif monotonic_s() >= foreigner.until_s:
                foreigner.end()

    # ---- start ----------------------------------------------------------------------------------------------------

    def _start_what_is_due(self) -> None:
        if self._stopping is not None:
            return
        now_s = monotonic_s()
        for pool in self._pools.values():
            for seat in pool.seats:
                if seat.due_s is not None and now_s >= seat.due_s and self._may_start(pool, seat):
                    self._start(pool, seat, now_s)
        self._remember_services()

    def _may_start(self, pool: Pool, seat: Seat) -> bool:
        return seat.empty and can_start(pool, seat) and seat.slot not in pool.foreign

    def _remember_services(self) -> None:
        seats = [seat for pool in self._pools.values() for seat in (pool.forkserver, pool.consumer)]
        self._services.remember(seat.child for seat in seats if seat.child is not None)

    def _start(self, pool: Pool, seat: Seat, now_s: float) -> None:
        try:
            start(pool, seat, self._reactor)
        except StateError as error:
            seat.deaths += 1
            seat.ordered, seat.why = None, str(error)
            delay_s = back_off_s(seat.deaths + 1, pool.config.restart_backoff_s, 0.0)
            seat.due_s = now_s + delay_s
            logging.getLogger(__name__).error("%s: %s; trying again in %.1f s", seat.name, error, delay_s)

    # ---- tell -----------------------------------------------------------------------------------------------------

    def _announce(self) -> None:
        """Tell the log about pools that changed, and who started us when everything is up, or why it never will be."""
        if self._stopping is not None:
            return
        for pool in self._pools.values():
            self._announce_state(pool)
            if pool.failure is not None and not self._ready:
                self.failure = pool.failure
                log(Event.POOL_HELD, pool.failure[0], level=logging.ERROR, pool=pool.name, why=pool.failure[0])
                self._stop("failed start", None, now=True)
                return
            pool.failure = None
        if not self._ready and all(pool.ready for pool in self._pools.values()):
            self._ready = True
            log(Event.DAEMON_READY, "ready", took_s=round(monotonic_s() - self._started_s, 3))
            if self._on_ready is not None:
                self._on_ready()

    def _announce_state(self, pool: Pool) -> None:
        state = status.pool_state(pool, False, self._ready)
        former, self._states[pool.name] = self._states.get(pool.name, "starting"), state
        event = _STATE_EVENTS.get(state)
        if state == former or event is None or (event is Event.POOL_RECOVERED and former == "starting"):
            return
        level = logging.INFO if event is Event.POOL_RECOVERED else logging.ERROR
        log(event, f"pool {pool.name} is {state}", level=level, pool=pool.name, why=status.pool_why(pool))

    def _proceed_with_stop(self) -> None:
        if self._stopping is not None:
            self._stopping.proceed(monotonic_s())

    def _tell(self) -> None:
        now_s = monotonic_s()
        for pool in self._pools.values():
            pool.flush(now_s)
        # fail-point: master.told: the turn's frames are sent
        self._history.flush()
        self._history.save(now_s)
        if self._herald is not None and self._herald.is_due(self._state, now_s):
            self._herald.tell(self._state, self._facts(), self._stopping.stop if self._stopping else None, now_s)

    def _facts(self) -> list[PoolFacts]:
        exits = self._history.counts()
        return [status.pool_facts(pool, self._state_of(pool), exits) for pool in self._pools.values()]

    # ---- end, status ----------------------------------------------------------------------------------------------

    def _finish(self, stopping: Stopping) -> None:
        """Everybody is gone: report, and leave nothing behind but state."""
        # fail-point: master.stop-alone: everybody is gone, the locks are held
        report = stopping.report(monotonic_s())
        self._remember_services()
        log(Event.DAEMON_STOPPED, "stopped", requested_by=stopping.stop.requested_by, **report)
        for pending in self._asked:
            pending.complete(report)
        self._reactor.poll(0.0)
        self._server.close()
        for pool in self._pools.values():
            self._reactor.remove_handler(pool.bell_read)
            pool.close()
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
            "config": self._config.source,
            "state_dir": self._config.daemon.state_dir,
            "runtime_dir": self._config.daemon.runtime_dir,
            "pools": {
                pool.name: status.pool_status(pool, self._state_of(pool), now_s) for pool in self._pools.values()
            },
            "exits": self._history.counts(),
        }

    @property
    def _state(self) -> str:
        return "stopping" if self._stopping is not None else "running" if self._ready else "starting"

    def _state_of(self, pool: Pool) -> str:
        return status.pool_state(pool, self._stopping is not None, self._ready)

    def _bell(self, pool: Pool) -> Callable[[int, int], None]:
        return lambda fd, events: hear_bell(pool)


_STATE_EVENTS = {"degraded": Event.POOL_DEGRADED, "held": Event.POOL_HELD, "ok": Event.POOL_RECOVERED}
