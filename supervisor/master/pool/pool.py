"""One pool as the master has it: its settings, slots and child specs, and the objects for all else that it has.

Child reports: `reports.py`; starts: `starts.py`; ends: `exits/exit_handler.py`.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from supervisor.config.schema import Config, PoolConfig
from supervisor.link.frames import Incarnation
from supervisor.master.host import files
from supervisor.master.pool.children import Child, Children, ChildSpec, Kind, Plan
from supervisor.master.pool.consumer_channel import ConsumerChannel, DelayedNotices, Intake
from supervisor.master.pool.endpoints import Endpoints
from supervisor.master.pool.generations import Generations
from supervisor.master.pool.owner import ExitAccount
from supervisor.master.pool.restarts import BOOT_TRIES, Intensity
from supervisor.master.pool.slot_files import Slots
from supervisor.scoreboard.board import Board
from supervisor.symptoms import Symptoms


class Pool:
    """Raises StateError when a directory, slot or socket of it cannot be used.

    `floor`: the youngest generation that the exit history knows. `surviving`: slots still held by workers of a former
    daemon. `services`: forkservers and consumer, also a forkserver whose place another one has taken.
    `delayed_notices`: exit notices that wait for orphans of their worker. `symptoms`: faults that the master itself
    notices. `plan`: children wanted beside the configuration in a reload. `leaving`: a reload has removed the pool.
    """

    def __init__(self, config: Config, pool: PoolConfig, children: Children, floor: int) -> None:
        self.name = pool.name
        self.whole_config = config
        self.config = pool
        self.children = children
        self.dir = Path(config.daemon.state_dir) / "pools" / pool.name
        files.make_directory(self.dir / "stacks")
        with ExitStack() as undo:
            self.slots = Slots(self.dir / "slots", pool.workers, pool.name)
            undo.callback(self.slots.close)
            self.board = Board(self.dir / "board")
            undo.callback(self.board.close)
            self.generations = Generations(self.dir, max(floor, self.slots.youngest))
            self.endpoints = Endpoints(Path(config.daemon.runtime_dir) / f"{pool.name}.sock")
            undo.pop_all()
        self.symptoms = Symptoms(pool=pool.name)
        self.workers = [ChildSpec(pool.name, Kind.WORKER, slot, due_s=0.0) for slot in range(pool.workers)]
        self.forkserver = ChildSpec(pool.name, Kind.FORKSERVER, due_s=0.0)
        self.consumer = ChildSpec(pool.name, Kind.CONSUMER, due_s=0.0)
        self.surviving: dict[int, Incarnation] = {}
        self.account, self.intensity, self.holds = ExitAccount(), Intensity(), 0
        self.services: dict[int, Child] = {}  # by pid
        self.consumer_channel = ConsumerChannel()
        self.delayed_notices = DelayedNotices()
        self.was_ready = False
        self.intake = Intake()
        self.plan = Plan()
        self.leaving = False

    @property
    def specs(self) -> list[ChildSpec]:
        """All places where a child is wanted."""
        return [self.forkserver, self.consumer, *self.workers]

    @property
    def ready(self) -> bool:
        """Whether all children are ready and the pool consumes; slots that cannot be filled yet do not count."""
        return self.manned and self.consumer.ready

    @property
    def manned(self) -> bool:
        """Whether forkserver and workers are ready."""
        wanted, blocked = self.workers[: self.config.workers], (*self.surviving, *self.delayed_notices)
        return self.forkserver.ready and all(spec.ready for spec in wanted if spec.slot not in blocked)

    def wants(self, spec: ChildSpec) -> bool:
        """Whether a child is wanted there; a reload itself starts the candidate."""
        if self.leaving or spec is self.plan.candidate:
            return False
        if self.plan.on_trial:
            return spec is self.forkserver or (spec.slot is not None and spec.slot == self.plan.canary)
        return spec.slot is None or spec.slot < self.config.workers or spec.slot in self.beyond

    @property
    def beyond(self) -> set[int]:
        """Slots beyond the wanted number of workers that are to be filled all the same."""
        canary = () if self.plan.canary is None else (self.plan.canary,)
        return {*self.plan.spares, *canary, *self.delayed_notices.stand_ins}

    def worker(self, slot: int) -> ChildSpec | None:
        """The child spec with this slot; None beyond the last one."""
        return self.workers[slot] if slot < len(self.workers) else None

    def spec_of(self, child: Child) -> ChildSpec | None:
        """The place that a child has; None for a forkserver whose place another one has taken."""
        if child.slot is not None:
            return self.workers[child.slot]
        services = (self.forkserver, self.consumer, self.plan.candidate)
        return next((spec for spec in services if spec is not None and spec.child is child), None)

    def follow_plan(self, plan: Plan) -> None:
        """Want what this plan says from now on."""
        self.plan = plan

    def go_over_to(self, forkserver: ChildSpec, config: Config) -> Child | None:
        """Put this forkserver and these settings in charge; forgive all deaths. Returns the former forkserver."""
        former = self.forkserver
        self.whole_config, self.config = config, config.pools[self.name]
        forkserver.succeed(former)
        self.forkserver = forkserver
        for spec in (*self.workers, self.consumer):
            spec.forgive()
        return former.child

    def leave(self) -> None:
        """Want no children any more: a reload has removed the pool."""
        self.leaving = True

    def note_ready(self) -> None:
        """Remember whether all children have been ready at once."""
        self.was_ready = self.was_ready or self.ready

    def resize(self, settings: PoolConfig) -> None:
        """Take settings with another number of workers. Raises StateError (full disk), with the former in force."""
        self.slots.grow(settings.workers)
        self.config = settings
        self.make_room()

    def held_by_survivor(self, worker: Incarnation) -> None:
        """A worker of a former daemon still has its slot."""
        self.surviving[worker.slot] = worker

    def survivor_gone(self, slot: int) -> None:
        """The slot of a worker of a former daemon is free."""
        del self.surviving[slot]

    def make_room(self) -> None:
        """Have a child spec for each wanted worker, and no empty ones beyond. Raises StateError (full disk)."""
        count = max([self.config.workers, *(slot + 1 for slot in self.beyond)])
        self.slots.grow(count)
        for number in range(len(self.workers), count):
            self.workers.append(ChildSpec(self.name, Kind.WORKER, number))
        for spec in self.workers:
            if spec.empty and spec.due_s is None and self.wants(spec):
                spec.start_at(0.0)
        while len(self.workers) > count and self.workers[-1].empty:
            self.workers.pop()
        self.close_unused_slots()

    def close_unused_slots(self) -> None:
        """Give back the descriptors of slots without a child spec; their files stay."""
        self.slots.close_unused({*range(len(self.workers)), *self.beyond, *self.delayed_notices, *self.surviving})

    @property
    def boot_tries(self) -> int:
        """One at the start: the command or the service manager that starts the daemon waits for the answer."""
        return BOOT_TRIES if self.was_ready else 1

    def held(self, spec: ChildSpec, newly: bool) -> None:
        """Count a hold."""
        self.holds += 1

    def enter(self, spec: ChildSpec, child: Child) -> None:
        """Take a new child into the books."""
        spec.started(child)
        self.children.add(child)
        if child.slot is None:
            self.services[child.pid] = child

    def disconnect(self, child: Child) -> None:
        """This child is dead: read what it still said, and expect nothing of it any more."""
        child.disconnect()
        self.services.pop(child.pid, None)
        if child.kind is Kind.CONSUMER:
            self.consumer_channel.close()

    def flush(self, now_s: float) -> None:
        """Let what was queued leave; exit notices that were not confirmed in time are repeated."""
        self.consumer_channel.repeat_exit_notices(now_s)
        for child in self.services.values():
            if child.wire is not None:
                child.wire.flush()

    def judge_crashes(self, now_s: float) -> None:
        """Notice that its children crash often, or heal that symptom. `now_s`: CLOCK_MONOTONIC."""
        for rate in self.account.crash_rates:
            rate.judge(self.config, self.symptoms, now_s)

    def close(self) -> None:
        """Give back descriptors and the link socket's path."""
        for child in self.services.values():
            child.disconnect()
        self.endpoints.close()
        self.board.close()
        self.slots.close()
