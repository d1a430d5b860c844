"""One pool as the master has it: its slots, the seats for its children, its bell, its link socket, its channels.

The listening link socket and the bell live as long as the master: workers and consumers come and go around them. What
the children say is in `reports.py`, how they are started in `starts.py`; what a death means is decided elsewhere.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from supervisor.config.schema import Config, PoolConfig
from supervisor.errors import StateError
from supervisor.link.frames import Incarnation, Spawned
from supervisor.logs.events import Cause
from supervisor.master.exits.delayed_notices import DelayedNotices
from supervisor.master.exits.records import ExitRecord
from supervisor.master.limits.crash_rate import SERVICES, CrashRate
from supervisor.master.pool import slot_files
from supervisor.master.pool.children import Child, Children, ChildSpec, Kind
from supervisor.master.pool.consumer_channel import ConsumerChannel
from supervisor.master.pool.generations import Generations
from supervisor.master.pool.plan import Plan
from supervisor.master.pool.restarts import BOOT_TRIES, Intensity, Patience
from supervisor.scoreboard.board import Board
from supervisor.symptoms import Symptoms
from supervisor.system import posix
from supervisor.system.clock import wall_s
from supervisor.system.stacks import users_frames

_BACKLOG = 1024
_STACK_BYTES = 16 * 1024

_logger = logging.getLogger("preforkd.pool")


@dataclass(frozen=True)
class Pausing:
    """A pool was paused: by whom, and when (wall clock)."""

    by: str
    at_s: float


class Pool:
    """Made once at the start; raises StateError when a directory, slot or socket of it cannot be used.

    `floor`: the youngest generation that the exit history knows. `slots` are all slot files there are, also those
    beyond the wanted number of workers. `foreign`: slots that are still held by a worker of a former daemon.
    `services`: forkservers and consumer, also a forkserver whose place another one has taken. `kept`: exit notices
    that wait for orphans of their worker. `cut_off`: ids of messages whose worker was killed by a stop. `symptoms`:
    what the master itself sees to be wrong. `restarts` and `holds` count for the pool's life here: seats come and go
    with its size. `idled`: no worker can run a message, so none is taken; `takes`: whether the consumer was last told
    to take messages.

    `plan`: what is wanted beside the configuration, during a reload. `leaving`: a reload has removed the pool.
    """

    def __init__(self, config: Config, pool: PoolConfig, children: Children, floor: int) -> None:
        self.whole_config = config
        self.config = pool
        self.children = children
        self.dir = Path(config.daemon.state_dir) / "pools" / pool.name
        for path in (self.dir / "slots", self.dir / "stacks"):
            _make_directory(path)
        with ExitStack() as undo:
            self.slots = slot_files.open_slots(self.dir / "slots", pool.workers, pool.name)
            undo.callback(self._close_slots)
            self.board = Board(self.dir / "board")
            undo.callback(self.board.close)
            self.link_path = Path(config.daemon.runtime_dir) / f"{pool.name}.sock"
            self.link = _listen(self.link_path)
            undo.callback(self.link.close)
            self.generations = Generations(self.dir, max(floor, self._youngest()))
            self.readiness_read, self.readiness_write = _notification()
            undo.pop_all()
        self.symptoms = Symptoms(pool=pool.name)
        self.crash_rate, self.service_crash_rate = CrashRate(), CrashRate(SERVICES)
        self.workers = [ChildSpec(pool.name, Kind.WORKER, slot, due_s=0.0) for slot in range(pool.workers)]
        self.forkserver = ChildSpec(pool.name, Kind.FORKSERVER, due_s=0.0)
        self.consumer = ChildSpec(pool.name, Kind.CONSUMER, due_s=0.0)
        self.foreign: dict[int, Incarnation] = {}
        self.intensity = Intensity()
        self.restarts = dict.fromkeys((Kind.WORKER, Kind.FORKSERVER, Kind.CONSUMER), 0)
        self.holds = 0
        self.services: dict[int, Child] = {}  # by pid
        self.consumer_channel = ConsumerChannel()
        self.kept = DelayedNotices()
        self.cut_off: list[str] = []
        self.was_ready = False
        self.paused: Pausing | None = None
        self.idled, self.takes = False, True
        self.consumes = pool.queue
        self.plan = Plan()
        self.leaving = False

    @property
    def name(self) -> str:
        """As in `[pools.NAME]`."""
        return self.config.name

    @property
    def specs(self) -> list[ChildSpec]:
        """All places where a child is wanted."""
        return [self.forkserver, self.consumer, *self.workers]

    @property
    def ready(self) -> bool:
        """Whether all children are ready and the pool consumes; seats that cannot be filled yet do not count."""
        return self.manned and self.consumer.ready

    @property
    def manned(self) -> bool:
        """Whether everybody is there who runs messages."""
        wanted = self.workers[: self.config.workers]
        return self.forkserver.ready and all(
            spec.ready for spec in wanted if spec.slot not in (*self.foreign, *self.kept)
        )

    @property
    def busy(self) -> bool:
        """Whether a worker may be running a message; certainly not when the consumer has just said so."""
        snapshot = self.consumer_channel.snapshot
        return snapshot is None or snapshot.in_flight > 0 or not self.consumer.ready

    def wants(self, spec: ChildSpec) -> bool:
        """Whether somebody is to be in this seat; the candidate's is filled by hand."""
        if self.leaving or spec is self.plan.candidate:
            return False
        if self.plan.on_trial:
            return spec is self.forkserver or (spec.slot is not None and spec.slot == self.plan.canary)
        return spec.slot is None or spec.slot < self.config.workers or spec.slot in self.beyond

    @property
    def beyond(self) -> set[int]:
        """Slots beyond the wanted number of workers that are to be filled all the same."""
        return {*self.plan.extra_slots, *self.kept.stand_ins}

    def source(self, spec: ChildSpec) -> ChildSpec:
        """The forkserver that a worker's seat is filled from."""
        candidate = self.plan.candidate
        return candidate if candidate is not None and spec.slot == self.plan.canary else self.forkserver

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

    def pause(self, by: str) -> None:
        """Take no messages until `resume`. `by`: who asked for it."""
        self.paused = Pausing(by, wall_s())

    def resume(self) -> None:
        """Take messages again."""
        self.paused = None

    def leave(self) -> None:
        """Want no children any more: a reload has removed the pool."""
        self.leaving = True

    def note_ready(self) -> None:
        """Remember whether all children have been ready at once."""
        self.was_ready = self.was_ready or self.ready

    def resize(self, settings: PoolConfig) -> None:
        """Take settings with another number of workers. Raises StateError (full disk), with the former in force."""
        self.open_slots(settings.workers)
        self.config = settings
        self.make_room()

    def make_room(self) -> None:
        """Have seats for everybody who is wanted, and no empty ones beyond. Raises StateError (full disk)."""
        count = max([self.config.workers, *(slot + 1 for slot in self.beyond)])
        self.open_slots(count)
        for number in range(len(self.workers), count):
            self.workers.append(ChildSpec(self.name, Kind.WORKER, number))
        for spec in self.workers:
            if spec.empty and spec.due_s is None and self.wants(spec):
                spec.start_at(0.0)
        while len(self.workers) > count and self.workers[-1].empty:
            self.workers.pop()
        self.close_unused_slots()

    def open_slots(self, count: int) -> None:
        """See that there are slot files for so many workers. Raises StateError with everything as it was before."""
        missing = [number for number in range(count) if number not in self.slots]
        self.slots |= slot_files.open_more(self.dir / "slots", missing, self.name)

    def close_unused_slots(self) -> None:
        """Give back the descriptors of slots that have no seat any more; their files stay."""
        used = {*range(len(self.workers)), *self.beyond, *self.kept, *self.foreign}
        for number in self.slots.keys() - used:
            self.slots.pop(number).close()

    def stacks(self, slot: int) -> Path:
        """Where a worker's stacks are dumped."""
        return self.dir / "stacks" / f"{slot}.txt"

    def dump_of(self, child: Child) -> str:
        """The stacks that a worker, or the forkserver started last, has dumped; "" for none."""
        forkservers = self.dir / "stacks" / "forkserver.txt"
        return (
            _beginning_of(forkservers) if child.slot is None else users_frames(_beginning_of(self.stacks(child.slot)))
        )

    @property
    def patience(self) -> Patience:
        """When dead children are replaced."""
        return self.config

    @property
    def boot_timeout_s(self) -> float:
        """How long an import or an `init` may take."""
        return self.config.boot_timeout_s

    @property
    def boot_tries(self) -> int:
        """One at the start: the command or the service manager that starts the daemon waits for the answer."""
        return BOOT_TRIES if self.was_ready else 1

    def exited(self, record: ExitRecord) -> None:
        """A child has ended: a stop may have cut off its message."""
        if record.cause is Cause.STOP_KILLED and record.message_id:
            self.cut_off.append(record.message_id)

    def replaced(self, record: ExitRecord, progressed: bool, died_s: float) -> None:
        """Count a dead child that is replaced. `died_s`: CLOCK_MONOTONIC."""
        self.restarts[record.kind] += 1
        for rate in (self.crash_rate,) if record.kind is Kind.WORKER else (self.crash_rate, self.service_crash_rate):
            rate.add(record, progressed, died_s)

    def held(self, spec: ChildSpec, newly: bool) -> None:
        """Count a hold."""
        self.holds += 1

    def seated(self, spec: ChildSpec, pid: int, generation: int, now_s: float) -> Child:
        """Take a new child into the books."""
        ticks = posix.start_ticks(pid) or 0
        slot_file = None if spec.slot is None else self.slots[spec.slot]
        child = Child(
            *(self.name, spec.kind, spec.slot, pid, ticks, generation, now_s), origin=spec.origin, slot_file=slot_file
        )
        spec.started(child)
        self.children.add(child)
        if child.slot is None:
            self.services[pid] = child
        return child

    def adopt(self, number: int, now_s: float) -> Child | None:
        """Take the worker that stands in this slot into the books; None when it is there already or not our child.

        The slot is the only proof needed: a worker writes its identity before its birth is reported by anybody. One of
        the present order may have its intermediate for a parent still, which is ending and leaves it to us. Where /proc
        cannot be read just now, the generation of the present order is proof enough: no other worker has it.
        """
        if number >= len(self.workers):
            return None
        identity = self.slots[number].identity()
        if identity is None or identity.pid in self.children:
            return None
        ordered = self.workers[number].ordered == identity.generation
        known = posix.is_the_one(identity.pid, identity.start_ticks)
        if known is False or (known is None and not ordered):
            return None
        if not ordered:  # a late child of an order that was void
            if not posix.is_child(identity.pid):
                return None
            self.consumer_channel.send(Spawned(Incarnation(number, identity.generation)))
        return self.seated(self.workers[number], identity.pid, identity.generation, now_s)

    def find_slot(self, pid: int) -> int | None:
        """The slot whose identity names this process; None for a stranger."""
        for number, slot in self.slots.items():
            identity = slot.identity()
            if identity is not None and identity.pid == pid:
                return number
        return None

    def alive(self) -> list[Incarnation]:
        """Everybody who is not known to be dead: our workers, the ordered ones, a former daemon's."""
        generations = {spec.slot: spec.child.generation if spec.child else spec.ordered for spec in self.workers}
        ours = [
            Incarnation(slot, generation)
            for slot, generation in generations.items()
            if slot is not None and generation is not None
        ]
        return [*ours, *self.foreign.values(), *self.kept.workers]

    def cancel_spawns(self, forkserver: Child, now_s: float) -> None:
        """This forkserver is dead: whom it had not forked, it never will; whom it had is in its slot."""
        for spec in self.workers:
            if spec.ordered is None or spec.slot is None or spec.origin != forkserver.generation:
                continue
            if self.adopt(spec.slot, now_s) is None:
                spec.not_started(now_s)

    def disconnect(self, child: Child, now_s: float) -> None:
        """This child is dead: read what it still said, and expect nothing of it any more."""
        child.disconnect()
        self.services.pop(child.pid, None)
        if child.kind is Kind.FORKSERVER:
            self.cancel_spawns(child, now_s)
        if child.kind is Kind.CONSUMER:
            self.consumer_channel.close()

    def flush(self, now_s: float) -> None:
        """Let what was queued leave; exit notices that were not confirmed in time are repeated."""
        self.consumer_channel.repeat_exit_notices(now_s)
        for child in self.services.values():
            if child.wire is not None:
                child.wire.flush()

    def close(self) -> None:
        """Give back descriptors and the link socket's path."""
        for child in self.services.values():
            child.disconnect()
        self.link.close()
        self.link_path.unlink(missing_ok=True)
        for descriptor in (self.readiness_read, self.readiness_write):
            os.close(descriptor)
        self.board.close()
        self._close_slots()

    def _close_slots(self) -> None:
        for slot in self.slots.values():
            slot.close()
        self.slots.clear()

    def _youngest(self) -> int:
        identities = [slot.identity() for slot in self.slots.values()]
        return max((identity.generation for identity in identities if identity), default=0)


def _beginning_of(dump: Path) -> str:
    with suppress(OSError), dump.open("rb") as text:
        return text.read(_STACK_BYTES).decode(errors="replace")
    return ""


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"{path}: this directory cannot be made: {error.strerror}; check the owner of state_dir"
        ) from error


def _notification() -> tuple[int, int]:
    """The pipe on which workers say that they are ready. Raises StateError."""
    try:
        return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise StateError(f"no pipe can be made: {error.strerror}; check the limits of this user") from error


def _listen(path: Path) -> socket.socket:
    """The pool's link socket, mode 0600. The daemon's locks are held: whatever is at `path` is stale."""
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise StateError(f"{path}: no socket can be made: {error.strerror}; check the limits of this user") from error
    try:
        path.unlink(missing_ok=True)
        os.fchmod(listener.fileno(), 0o600)  # on Linux bind(2) gives the path this mode: never wider, not even briefly
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StateError(
            f"{path}: the link socket cannot be made there: {error.strerror or error}; check runtime_dir"
        ) from error
    return listener
