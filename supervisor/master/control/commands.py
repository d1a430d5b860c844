"""What operators ask: a table of verbs of the control socket (docs/control-protocol.md), and signals. Master only.

A verb changes the books or tells a consumer, and answers at once; the duties act on it in their turn.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial

import msgspec

import supervisor
from supervisor.config.load import check
from supervisor.control import results
from supervisor.control.probes import probed
from supervisor.control.protocol import Pending, Request, Result
from supervisor.errors import ConfigError, ControlError, PreforkdError, no_such_pool
from supervisor.link.frames import CloseConnection, Find, FindGone, Found, Frame, Reconfigure
from supervisor.master.control.status import DaemonStatus
from supervisor.master.host.signals import Signals
from supervisor.master.pool.consumer_channel import ConsumerChannel
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.pools import Pools
from supervisor.master.reload.reload import Reloads
from supervisor.master.stop.stopping import DaemonStop
from supervisor.system.clock import monotonic_s
from supervisor.system.posix import signal_name
from supervisor.system.reactor import Reactor

TIMEOUT_S = 3.0
"""How long consumers have for an answer."""

Verb = Callable[[Request], Result | Pending]


class Commands:
    """All verbs, and a duty that obeys signals. Verbs for a pool raise ControlError for one that is not there, or is
    leaving."""

    does = "obey signals"
    due_s = float("inf")

    def __init__(
        self,
        pools: Pools,
        reloads: Reloads,
        stop: DaemonStop,
        status: DaemonStatus,
        signals: Signals,
        reactor: Reactor,
    ) -> None:
        self._pools = pools
        self._reloads = reloads
        self._stopping = stop
        self._signals = signals
        self._reactor = reactor
        self._verbs: dict[str, Verb] = {
            "status": lambda request: status.show(),
            "ping": lambda request: {"pid": os.getpid(), "version": supervisor.__version__},
            "probe": lambda request: probed(str(request.get("kind", "")), status.show),
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

    def turn(self, now_s: float) -> None:
        """Stop or reload if a signal asks for it; a second stop ends what still runs."""
        for number in self._signals.take():
            if number == signal.SIGHUP:
                with suppress(PreforkdError):  # the log has it; a signal has no answer
                    self._reloads.ask("SIGHUP", {})
            else:
                limit_s = self._pools.config.daemon.stop_timeout_s
                self._stopping.request(signal_name(number), limit_s, now=self._stopping.under_way)

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
        if changed := pool.intake.paused is None:
            pool.intake.pause(str(request.get("by") or "the control socket"))
        return results.Changed(changed=changed)

    def _resume(self, request: Request) -> Result:
        pool = self._pool(request)
        if changed := pool.intake.paused is not None:
            pool.intake.resume()
        return results.Changed(changed=changed)

    def _retry(self, request: Request) -> Result:
        """Start at once the children that are held or wait for a restart."""
        if self._stopping.under_way:
            raise ControlError("the daemon is stopping: it starts no process")
        pool, now_s = self._pool(request), monotonic_s()
        waiting = [spec for spec in pool.specs if spec.empty and spec.due_s is not None and pool.wants(spec)]
        tried = [spec.name for spec in waiting if spec.held or (spec.due_s is not None and spec.due_s > now_s)]
        for spec in waiting:
            spec.start_at(now_s)
        return results.Tried(tried=tried)

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
        return results.Scaled(workers=wanted, former=former, prefetch=settings.prefetch)

    def _reload(self, request: Request) -> Result | Pending:
        first = {"reloading": True, "pid": os.getpid()}
        pending = self._reloads.ask("preforkd reload", first)
        return pending if request.get("wait") else first

    def _pool(self, request: Request) -> Pool:
        name = str(request.get("pool", ""))
        pool = self._pools.get(name)
        if pool is None or pool.plan.on_trial:
            known = {pool.name: pool.config.queue for pool in self._pools.values() if not pool.plan.on_trial}
            raise ControlError(no_such_pool(name, known))
        if pool.leaving:
            raise ControlError(f"pool {name} is leaving: the last reload removed it from the configuration")
        return pool


class Inquiry:
    """A question about messages to the consumers of these pools: the master has no ledger, and goes on with its work.

    `answer` is completed when all have spoken, or time is over: a consumer that does not answer (stopped, just being
    replaced) is named. `ask` makes the question's frame from the number that its answer carries.
    """

    def __init__(self, pools: Collection[Pool], ask: Callable[[int], Frame], reactor: Reactor) -> None:
        self.answer = Pending()
        self._reactor = reactor
        self._found: dict[str, results.FoundInPool] = {}
        self._timer = reactor.call_later(TIMEOUT_S, self._complete)
        self._open: dict[str, tuple[ConsumerChannel, int]] = {}
        for pool in pools:
            number = pool.consumer_channel.inquire(partial(self._hear, pool.name), ask)
            self._open[pool.name] = (pool.consumer_channel, number)

    def _hear(self, pool: str, frame: Found) -> None:
        self._found[pool] = results.FoundInPool(traces=frame.traces, why=frame.why, total=frame.total)
        del self._open[pool]
        if not self._open:
            self._reactor.remove_timeout(self._timer)
            self._complete()

    def _complete(self) -> None:
        for name, (channel, number) in self._open.items():
            channel.cancel_inquiry(number)
            why = f"its consumer did not answer within {TIMEOUT_S:g} s"
            self._found[name] = results.FoundInPool(traces=[], why=why)
        self._open.clear()
        self.answer.complete(results.Found(pools=self._found))
