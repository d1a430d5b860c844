"""What operators ask of pools through the control socket (docs/control-protocol.md): a table of verbs. Master only.

A verb changes the books or tells a consumer, and answers at once; the loop acts on it in its turn. What concerns the
daemon as a whole (stop, status) is in the loop itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from supervisor.config.load import check
from supervisor.control.protocol import Pending, Request, Result
from supervisor.errors import ConfigError, ControlError, no_such_pool
from supervisor.link.frames import CloseConnection, Find, FindGone, Reconfigure
from supervisor.master.control.inquiries import Inquiry
from supervisor.master.pool import intake
from supervisor.master.pool.pool import Pausing, Pool
from supervisor.master.reload.reload import Reloads
from supervisor.system.clock import monotonic_s, wall_s
from supervisor.system.reactor import Reactor

Verb = Callable[[Request], Result | Pending]


class Commands:
    """The verbs for pools. All raise ControlError for a pool that is not there, or is leaving."""

    def __init__(self, pools: dict[str, Pool], reloads: Reloads, reactor: Reactor) -> None:
        self._pools = pools
        self._reloads = reloads
        self._reactor = reactor
        self.verbs: dict[str, Verb] = {
            "find": self._find,
            "pending": self._pending,
            "cut_connection": self._cut_connection,
            "pause": self._pause,
            "resume": self._resume,
            "retry": self._retry,
            "scale": self._scale,
            "reload": self._reload,
        }

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
        changed = pool.paused is None
        if changed:
            pool.paused = Pausing(str(request.get("by") or "the control socket"), wall_s())
            intake.follow(pool)
        return {"changed": changed}

    def _resume(self, request: Request) -> Result:
        pool = self._pool(request)
        changed = pool.paused is not None
        if changed:
            pool.paused = None
            intake.follow(pool)
        return {"changed": changed}

    def _retry(self, request: Request) -> Result:
        """Start at once what is held or waits to be replaced."""
        if self._reloads.stopped:
            raise ControlError("the daemon is stopping: no process is started any more")
        pool, now_s = self._pool(request), monotonic_s()
        waiting = [spec for spec in pool.specs if spec.empty and spec.due_s is not None and pool.wants(spec)]
        tried = [spec.name for spec in waiting if spec.held or (spec.due_s is not None and spec.due_s > now_s)]
        for spec in waiting:
            spec.start_at(now_s)
        return {"tried": tried}

    def _scale(self, request: Request) -> Result:
        """Raises ControlError for a number that the configuration could not have either, StateError (full disk)."""
        pool, wanted = self._pool(request), request.get("workers")
        if not isinstance(wanted, int):
            raise ControlError("scale: workers is missing: how many are to run")
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
        pool.open_slots(wanted)
        pool.config = settings
        pool.make_room()
        pool.consumer_channel.send(Reconfigure(settings, config.log))
        return {"workers": wanted, "former": former, "prefetch": settings.prefetch}

    def _reload(self, request: Request) -> Result | Pending:
        first = {"reloading": True, "pid": os.getpid()}
        pending = self._reloads.ask("preforkd reload", first)
        return pending if request.get("wait") else first

    def _pool(self, request: Request) -> Pool:
        name = str(request.get("pool", ""))
        pool = self._pools.get(name)
        if pool is None or pool.on_trial:
            raise ControlError(no_such_pool(name, (pool.name for pool in self._pools.values() if not pool.on_trial)))
        if pool.leaving:
            raise ControlError(f"pool {name} is leaving: the last reload removed it from the configuration")
        return pool
