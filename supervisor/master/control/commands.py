"""What operators ask: a table of verbs of the control socket (docs/control-protocol.md), and signals. Master only.

A verb changes the books or tells a consumer, and answers at once; the duties act on it in their turn.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

import msgspec

import supervisor
from supervisor.config.load import check
from supervisor.control.protocol import Pending, Request, Result
from supervisor.control.results import Changed, Scaled, Tried
from supervisor.errors import ConfigError, ControlError, PreforkdError, no_such_pool
from supervisor.link.frames import CloseConnection, Find, FindGone, Reconfigure
from supervisor.master.control.daemon_status import DaemonStatus
from supervisor.master.control.inquiries import Inquiry
from supervisor.master.host.signals import Signals
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.pools import Pools
from supervisor.master.reload.reload import Reloads
from supervisor.master.stop.stopping import DaemonStop
from supervisor.system.clock import monotonic_s
from supervisor.system.posix import signal_name
from supervisor.system.reactor import Reactor

Verb = Callable[[Request], Result | Pending]


class Commands:
    """All verbs. Those for a pool raise ControlError for a pool that is not there, or is leaving."""

    def __init__(
        self, pools: Pools, reloads: Reloads, stop: DaemonStop, status: DaemonStatus, reactor: Reactor
    ) -> None:
        self._pools = pools
        self._reloads = reloads
        self._stopping = stop
        self._reactor = reactor
        self._verbs: dict[str, Verb] = {
            "status": lambda request: status.show(),
            "ping": lambda request: {"pid": os.getpid(), "version": supervisor.__version__},
            "stop": self._stop,
            "find": self._find,
            "pending": self._pending,
            "cut_connection": self._cut_connection,
            "pause": self._pause,
            "resume": self._resume,
            "retry": self._retry,
            "scale": self._scale,
            "reload": self._reload,
        }

    def answer(self, request: Request) -> Result | Pending:
        """Carry out a request of the control socket. Raises PreforkdError when it cannot be."""
        return self._verbs[request["verb"]](request)

    def _stop(self, request: Request) -> Result | Pending:
        timeout_s = request.get("timeout_s")
        limit_s = self._pools.config.daemon.stop_timeout_s if timeout_s is None else timeout_s
        self._stopping.request("preforkd stop", limit_s, now=bool(request.get("now")))
        first = {"stopping": True, "pid": os.getpid()}
        return self._stopping.tell_report(first) if request.get("wait") else first

    def _find(self, request: Request) -> Pending:
        message_id = str(request.get("message_id"))
        return Inquiry(self._pools.values(), lambda number: Find(number, message_id), self._reactor).answer

    def _pending(self, request: Request) -> Pending:
        """Tell of the failed messages of a pool that have not come back, or give some up."""
        drop = request.get("drop", [])
        if not all(isinstance(message_id, str) for message_id in drop):
            raise ControlError("pending: drop must be a list of message ids, each a text")
        named = None if request.get("all") else drop
        by = str(request.get("by") or "the control socket")
        pools = [self._pool(request)]
        return Inquiry(pools, lambda number: FindGone(number, named, by), self._reactor).answer

    def _cut_connection(self, request: Request) -> Result:
        self._pool(request).consumer_channel.send(CloseConnection())
        return {}

    def _pause(self, request: Request) -> Result:
        pool = self._pool(request)
        changed = pool.intake.paused is None
        if changed:
            pool.intake.pause(str(request.get("by") or "the control socket"))
        return Changed(changed=changed)

    def _resume(self, request: Request) -> Result:
        pool = self._pool(request)
        changed = pool.intake.paused is not None
        if changed:
            pool.intake.resume()
        return Changed(changed=changed)

    def _retry(self, request: Request) -> Result:
        """Start at once the children that are held or wait for a restart."""
        if self._stopping.under_way:
            raise ControlError("the daemon is stopping: it starts no process")
        pool, now_s = self._pool(request), monotonic_s()
        waiting = [spec for spec in pool.specs if spec.empty and spec.due_s is not None and pool.wants(spec)]
        tried = [spec.name for spec in waiting if spec.held or (spec.due_s is not None and spec.due_s > now_s)]
        for spec in waiting:
            spec.start_at(now_s)
        return Tried(tried=tried)

    def _scale(self, request: Request) -> Result:
        """Raises ControlError for a number that the configuration could not have either, StateError (full disk)."""
        pool, wanted = self._pool(request), request.get("workers")
        if not isinstance(wanted, int):
            raise ControlError("scale: workers is missing: give the number of workers")
        if self._reloads.trying:
            raise ControlError("a reload is under way and will set the number of workers: try again in a moment")
        settings = msgspec.structs.replace(pool.config, workers=wanted)
        config = pool.whole_config
        try:
            check(msgspec.structs.replace(config, pools={**config.pools, pool.name: settings}))
        except ConfigError as error:  # of the number asked for: the file is as good as it was
            reasons = "; ".join(problem.reason for problem in error.problems)
            raise ControlError(f"scale: {wanted} workers in pool {pool.name}: {reasons}") from error
        former = pool.config.workers
        pool.resize(settings)
        pool.consumer_channel.send(Reconfigure(settings, config.log))
        return Scaled(workers=wanted, former=former, prefetch=settings.prefetch)

    def _reload(self, request: Request) -> Result | Pending:
        first = {"reloading": True, "pid": os.getpid()}
        pending = self._reloads.ask("preforkd reload", first)
        return pending if request.get("wait") else first

    def _pool(self, request: Request) -> Pool:
        name = str(request.get("pool", ""))
        pool = self._pools.get(name)
        if pool is None or pool.plan.on_trial:
            raise ControlError(
                no_such_pool(name, (pool.name for pool in self._pools.values() if not pool.plan.on_trial))
            )
        if pool.leaving:
            raise ControlError(f"pool {name} is leaving: the last reload removed it from the configuration")
        return pool


class SignalCommands:
    """The duty that obeys signals to the master."""

    does = "obey signals"
    due_s = float("inf")

    def __init__(self, signals: Signals, pools: Pools, reloads: Reloads, stop: DaemonStop) -> None:
        self._signals = signals
        self._pools = pools
        self._reloads = reloads
        self._stop = stop

    def turn(self, now_s: float) -> None:
        """Stop or reload if a signal asks for it; a second stop ends what still runs."""
        for number in self._signals.take():
            if number == signal.SIGHUP:
                with suppress(PreforkdError):  # the log has it; a signal has no answer
                    self._reloads.ask("SIGHUP", {})
            else:
                limit_s = self._pools.config.daemon.stop_timeout_s
                self._stop.request(signal_name(number), limit_s, now=self._stop.under_way)
