"""One drill: publish, inject the faults that are due, wait until every message is settled, collect the records.

Runs in the command line's process. Faults follow the number of effects, not the clock, so that a seed means the same on
any machine. After each fault the drill waits for the record that it must leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from supervisor.brokers import open_admin
from supervisor.brokers.names import dead_queue, parked_queue
from supervisor.control.results import WorkerStatus
from supervisor.drill.audit import Evidence
from supervisor.drill.handler import ANNOUNCED, EFFECTS
from supervisor.drill.instance import Instance, kill, wait_a_little
from supervisor.drill.plan import DrillPlan, OuterFault, Strike
from supervisor.errors import PreforkdError
from supervisor.messages.message import Properties, Publication
from supervisor.system.clock import monotonic_s

STALLED_S = 60.0
_WINDOW = 500

Progress = Callable[[int, str], None]
"""Called with the number of effects so far, and a text about the last fault ("" for none)."""


class Drill:
    """The run of one plan against one instance. `progress` is called after every change."""

    def __init__(self, instance: Instance, plan: DrillPlan, progress: Progress) -> None:
        self._instance = instance
        self._plan = plan
        self._progress = progress
        self._faulty = {order.id for order in plan.orders if order.fault is not None}
        self._struck: list[tuple[OuterFault, int]] = []
        self._effects = self._published = 0
        self._ahead = max(100, len(plan.orders) // 20)
        self._moved_s = monotonic_s()
        self._act: dict[OuterFault, Callable[[], int]] = {
            OuterFault.KILL_WORKER: self._kill_worker,
            OuterFault.KILL_CONSUMER: lambda: self._kill_child("consumer"),
            OuterFault.KILL_FORKSERVER: lambda: self._kill_child("forkserver"),
            OuterFault.KILL_MASTER: self._kill_master,
            OuterFault.CUT_CONNECTION: self._cut_connection,
        }

    def run(self) -> Evidence:
        """Run the plan, and stop the daemon. Raises PreforkdError if no message is handled for `STALLED_S`."""
        self._instance.check_broker()
        self._instance.start()
        for strike in self._plan.strikes:
            self._publish(strike.due + self._ahead)
            self._wait(lambda strike=strike: self._seen() >= strike.due, f"effect {strike.due}")  # type: ignore[misc]
            self._strike(strike)
        self._publish(len(self._plan.orders))
        self._wait(self._all_settled, "every message to be settled")
        self._instance.stop()
        return self._evidence()

    # ---- the work -------------------------------------------------------------------------------------------------

    def _publish(self, up_to: int) -> None:
        """Publish the plan's messages up to this number, a few more than the next fault needs."""
        orders = self._plan.orders[self._published : up_to]
        queue, config = self._instance.queue, self._instance.config
        messages = (
            Publication("", queue, Properties(message_id=order.id, delivery_mode=2), msgspec.json.encode(order))
            for order in orders
        )
        with open_admin(config.broker, config.daemon.state_dir) as admin:
            report = admin.publish(messages, _WINDOW, lambda total: None)
        if report.failed:
            raise PreforkdError(f"publishing failed: {report.failed[0][1]}")
        self._published += report.sent

    def _seen(self) -> int:
        """The number of effects; notes the time of its last change."""
        effects = self._instance.count_effects()
        if effects != self._effects:
            self._effects, self._moved_s = effects, monotonic_s()
            self._progress(effects, "")
        return effects

    def _all_settled(self) -> bool:
        self._seen()
        pool = self._instance.pool()
        counters = pool.counters if pool is not None else {}
        settled = sum(counters.get(name, 0) for name in ("done", "dead", "parked"))
        return settled >= len(self._plan.orders)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        self._moved_s = monotonic_s()
        while not condition():
            if monotonic_s() - self._moved_s > STALLED_S:
                folder = self._instance.folder
                raise PreforkdError(
                    f"no effect for {STALLED_S:.0f} s while waiting for {what}; logs and state are in {folder}"
                )
            wait_a_little()

    # ---- strikes --------------------------------------------------------------------------------------------------

    def _strike(self, strike: Strike) -> None:
        pid = self._act[strike.fault]()
        self._struck.append((strike.fault, pid))
        self._progress(self._effects, f"{strike.fault} at effect {self._effects}" + (f" (pid {pid})" if pid else ""))

    def _kill_worker(self) -> int:
        """Kill a worker whose message orders no fault: otherwise the cause on record would be ambiguous."""
        pid = self._kill_first(self._innocent_workers)
        self._wait_for_record(pid)
        return pid

    def _kill_child(self, kind: str) -> int:
        def candidates() -> list[int]:
            pool = self._instance.pool()
            child = None if pool is None else pool.consumer if kind == "consumer" else pool.forkserver
            return [child.pid] if child is not None and child.pid else []

        pid = self._kill_first(candidates)
        self._wait_for_record(pid)
        return pid

    def _kill_master(self) -> int:
        """Kill the master while no worker commits an ordered fault: the worker's cause would be `lost`."""

        def calm() -> bool:
            workers = self._workers()
            return bool(workers) and not any(worker.message_id in self._faulty for worker in workers)

        self._wait(calm, "the ordered faults under way to be over")
        pid = self._instance.pids[-1]
        self._instance.kill_master()
        return pid

    def _cut_connection(self) -> int:
        before = self._disconnections()

        def noticed() -> bool:
            self._instance.cut_connection()  # in vain while it is not connected
            return self._disconnections() > before

        self._wait(noticed, "the cut to be noticed")
        return 0

    def _kill_first(self, candidates: Callable[[], Iterable[int]]) -> int:
        killed: list[int] = []

        def one() -> bool:
            killed.extend([pid for pid in candidates() if pid and kill(pid)][:1])
            return bool(killed)

        self._wait(one, "a process to kill")
        return killed[0]

    def _innocent_workers(self) -> list[int]:
        workers = sorted(self._workers(), key=lambda worker: worker.state != "running")
        return [worker.pid for worker in workers if worker.pid and worker.message_id not in self._faulty][:1]

    def _workers(self) -> list[WorkerStatus]:
        pool = self._instance.pool()
        return pool.workers if pool is not None else []

    def _wait_for_record(self, pid: int) -> None:
        def recorded() -> bool:
            return any(record["pid"] == pid for record in self._instance.exits())

        self._wait(recorded, f"the exit record of pid {pid}")

    def _disconnections(self) -> int:
        return sum(line.get("event") == "consumer.disconnected" for line in self._instance.log())

    # ---- the end --------------------------------------------------------------------------------------------------

    def _evidence(self) -> Evidence:
        instance = self._instance
        return Evidence(
            sent=[order.id for order in self._plan.orders],
            effects=list(instance.lines_of(EFFECTS)),
            announced=list(instance.lines_of(ANNOUNCED)),
            struck=self._struck,
            exits=list(instance.exits()),
            log=list(instance.log()),
            dead=instance.ids_in(dead_queue(instance.queue)),
            parked=instance.ids_in(parked_queue(instance.queue)),
        )
