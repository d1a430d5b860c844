"""The daemon's children that belong to no pool: the web page and the hooks. Master only.

They are started, recorded, backed off and held like others, but nothing depends on them: whatever they do, no pool,
no message and no readiness notices. What they are told is bounded (`outbox.py`); nobody waits for them before the very
end.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET

from supervisor.config.schema import BrokerConfig, Config, HooksConfig, WebConfig
from supervisor.control.results import SidecarStatus
from supervisor.errors import StateError
from supervisor.link.frames import VERSION, Build, Happened, Quit, Refused, Serving, SidecarReport, StartSidecar
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.exits.history import History
from supervisor.master.exits.records import ExitRecord
from supervisor.master.host.signalling import send
from supervisor.master.limits import boots
from supervisor.master.pool import protocol_errors
from supervisor.master.pool.children import SIDECARS, Child, Children, ChildSpec, Kind
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.reports import other_build
from supervisor.master.pool.restarts import BOOT_TRIES, Intensity, Replacement, in_trouble, progressed
from supervisor.master.pool.spawn import spawn
from supervisor.master.pool.wire import Wire
from supervisor.master.sidecars.event_buffer import EventBuffer
from supervisor.master.stop.phases import CLOSE_S
from supervisor.scoreboard.words import Intent
from supervisor.system import posix
from supervisor.system.clock import monotonic_s, rfc3339, wall_s
from supervisor.system.reactor import Reactor

_STACK_CHARACTERS = 4000
_BOOT_S = 60.0

_READY = {Kind.WEB: Event.WEB_READY, Kind.HOOKS: Event.HOOKS_READY}


@dataclass(frozen=True)
class _Patience:
    """When a sidecar is started again: as a pool by default."""

    restart_backoff_s: tuple[float, float] = (0.1, 30.0)
    restart_intensity: tuple[int, float] = (10, 60.0)
    hold_retry_s: float = 60.0


@dataclass
class Sidecar:
    """One of them, as the owner of its child spec. `first`: what it is started with, None while it is not wanted.
    `kill_due_s`: when it must have left."""

    spec: ChildSpec
    first: StartSidecar | None = None
    generation: int = 0
    intensity: Intensity = field(default_factory=Intensity)
    kill_due_s: float = float("inf")

    patience = _Patience()
    boot_tries = BOOT_TRIES

    @property
    def boot_due_s(self) -> float:
        """When it must be ready."""
        child = self.spec.child
        booting = child is not None and child.ready_s is None and child.intent is Intent.NONE
        return child.started_s + _BOOT_S if booting and child is not None else float("inf")

    def disconnect(self, child: Child, now_s: float) -> None:
        """It is dead: read what it still said."""
        self.kill_due_s = float("inf")
        child.disconnect()

    def spec_of(self, child: Child) -> ChildSpec:
        """The one child spec."""
        return self.spec

    def wants(self, spec: ChildSpec) -> bool:
        """Whether its settings ask for it."""
        return self.first is not None

    def dump_of(self, child: Child) -> str:
        """It dumps no stacks."""
        return ""

    def exited(self, record: ExitRecord) -> None:
        """Nothing depends on it."""

    def replaced(self, spec: ChildSpec, replacement: Replacement) -> None:
        """Report a hold; no pool has a symptom of it."""
        if replacement.newly:
            log(Event.SIDECAR_HELD, f"{spec.name} is held: {spec.why}", level=logging.ERROR, why=spec.why)


class Sidecars:
    """All of them. `follow_config` once before the first turn, and when the configuration may have changed."""

    def __init__(self, history: History, children: Children, reactor: Reactor) -> None:
        self._history = history
        self._children = children
        self._reactor = reactor
        self.by_kind = {kind: Sidecar(ChildSpec("", kind)) for kind in SIDECARS}
        self._event_buffer = EventBuffer()
        self._config: Config | None = None
        self._stopping = False

    # ---- what is wanted -------------------------------------------------------------------------------------------

    def follow_config(self, config: Config, now_s: float) -> None:
        """Start, stop or replace those whose settings are others than before."""
        if config is self._config or self._stopping:
            return
        self._config = config
        for kind, sidecar in self.by_kind.items():
            first = _first_frame(kind, config)
            if first != sidecar.first:
                sidecar.first = first
                sidecar.spec.forgive()
                self._send_away(sidecar, "reload", now_s + CLOSE_S)
        if self.by_kind[Kind.HOOKS].first is None:
            self._event_buffer.clear()

    def start_what_is_due(self, now_s: float) -> None:
        """Start who is wanted and due; never raises: it is tried again."""
        for sidecar in self.by_kind.values():
            spec, first = sidecar.spec, sidecar.first
            if first is None or not spec.empty or spec.due_s is None or now_s < spec.due_s:
                continue
            try:
                self._start(sidecar, first, now_s)
            except StateError as error:
                spec.not_started(now_s + _Patience.restart_backoff_s[1], str(error))
                logging.getLogger(__name__).error("%s: %s; trying again in a while", spec.name, error)

    def stop(self, requested_by: str, patience_s: float, now_s: float) -> None:
        """Let them leave for good; who has not left in time is killed. Asked again, it may only become shorter."""
        self._stopping = True
        for sidecar in self.by_kind.values():
            sidecar.first = None
            self._send_away(sidecar, requested_by, now_s + patience_s)
            if sidecar.spec.child is not None:
                sidecar.kill_due_s = min(sidecar.kill_due_s, now_s + patience_s)

    def judge(self, now_s: float) -> None:
        """Clear sidecars that have made progress, kill those that should have left."""
        for sidecar in self.by_kind.values():
            child = sidecar.spec.child
            if child is not None and child.ready_s is not None and progressed(now_s - child.ready_s, 0):
                sidecar.spec.clear()
            if child is not None and now_s >= sidecar.kill_due_s:
                sidecar.kill_due_s = float("inf")
                child.mark(Intent.STOP_KILL, child.requested_by)
                send(child, signal.SIGKILL, now_s)
            elif child is not None and now_s >= sidecar.boot_due_s:
                child.mark(Intent.BOOT_KILL, boots.REQUESTED_BY)
                send(child, signal.SIGKILL, now_s)

    @property
    def kill_due_s(self) -> float:
        """When `judge` is needed next (CLOCK_MONOTONIC)."""
        return min(min(sidecar.kill_due_s, sidecar.boot_due_s) for sidecar in self.by_kind.values())

    @property
    def start_due_s(self) -> float:
        """When `start_what_is_due` is needed next (CLOCK_MONOTONIC)."""
        wanted = (each.spec for each in self.by_kind.values() if each.first is not None and each.spec.empty)
        return min((spec.due_s for spec in wanted if spec.due_s is not None), default=float("inf"))

    @property
    def gone(self) -> bool:
        """Whether none is there any more."""
        return all(sidecar.spec.child is None for sidecar in self.by_kind.values())

    # ---- what they are told ---------------------------------------------------------------------------------------

    def tell_exit(self, record: ExitRecord) -> None:
        """A child has left: of interest if its cause is one of the wanted ones."""
        hooks = self._hooks
        if hooks is None or record.cause not in hooks.causes:
            return
        facts = record.fields() | {"at": record.at, "event": str(record.event)}
        facts["stack"] = record.stack[-_STACK_CHARACTERS:]
        self.tell("exit", facts)

    def tell(self, hook: str, facts: dict[str, Any]) -> None:
        """Something has happened that concerns this hook."""
        if self._hooks is not None:
            self._event_buffer.put(Happened(hook, facts))

    def flush(self, pools: Iterable[Pool]) -> None:
        """Take what consumers have told of letters, and let leave what can leave now."""
        for pool in pools:
            self._tell_letters(pool)
        for spec in (sidecar.spec for sidecar in self.by_kind.values()):
            if spec.child is not None and spec.child.wire is not None:
                if spec.kind is Kind.HOOKS and spec.ready:
                    self._event_buffer.hand_over(spec.child.wire)
                spec.child.wire.flush()

    def _tell_letters(self, pool: Pool) -> None:
        told = pool.consumer_channel.take_dead_letters()
        where = {"at": rfc3339(wall_s()), "pool": pool.name, "queue": pool.config.queue}
        for letters in told if self._hooks is not None else ():
            for facts in letters.named:
                self._event_buffer.put(Happened("dead", facts | where))
            self._event_buffer.miss("dead", letters.more)

    @property
    def _hooks(self) -> HooksConfig | None:
        first = self.by_kind[Kind.HOOKS].first
        return first.hooks if first is not None else None

    # ---- their life -----------------------------------------------------------------------------------------------

    def _start(self, sidecar: Sidecar, first: StartSidecar, now_s: float) -> None:
        """Raises StateError when the machine has no process or descriptor left."""
        spec = sidecar.spec
        urls = self._config.broker.urls if self._config is not None else ()
        started = spawn(spec.kind, first, [], urls)
        # a number need not be kept on disk: who has no record is not told apart from anybody by it
        sidecar.generation = max(sidecar.generation, self._history.recorded(spec.name)) + 1
        ticks = posix.start_ticks(started.pid) or 0
        child = Child("", spec.kind, None, started.pid, ticks, sidecar.generation, now_s)
        wire = Wire(
            started.sock,
            SidecarReport,
            self._reactor,
            lambda frame: self._hear(sidecar, frame),
            lambda reason: protocol_errors.end(child, reason),
            started.unsent,
        )
        child.connect(wire)
        spec.started(child)
        self._children.add(child)
        if started.failure:
            protocol_errors.end_unstarted(child, started.failure)

    def _hear(self, sidecar: Sidecar, report: Build | Serving | Refused) -> None:
        spec = sidecar.spec
        if isinstance(report, Build):
            spec.report(other_build(spec, report))
        elif isinstance(report, Refused):
            spec.report(report.reason)
        elif spec.child is not None and spec.child.ready_s is None:
            spec.child.became_ready(monotonic_s())
            if not in_trouble(spec):
                spec.report("")
            log(_READY[spec.kind], f"{spec.name} is ready {report.what}", pid=spec.child.pid, what=report.what)

    def _send_away(self, sidecar: Sidecar, requested_by: str, until_s: float) -> None:
        child = sidecar.spec.child
        if child is None or child.wire is None or child.intent is not Intent.NONE:
            return
        child.mark(Intent.STOP, requested_by)
        if sidecar.spec.kind is Kind.HOOKS:
            self._event_buffer.hand_over(child.wire)
        child.send(Quit())
        sidecar.kill_due_s = until_s

    # ---- status, end ----------------------------------------------------------------------------------------------

    def status(self) -> list[SidecarStatus]:
        """`sidecars` of docs/control-protocol.md: those that are wanted or still there."""
        present = [each for each in self.by_kind.values() if each.first is not None or each.spec.child is not None]
        return [self._status_of(each.spec) for each in present]

    def _status_of(self, spec: ChildSpec) -> SidecarStatus:
        here = "ready" if spec.ready else "starting"
        return SidecarStatus(
            kind=spec.kind,
            pid=spec.child.pid if spec.child is not None else None,
            state=here if spec.child is not None else "held" if spec.held else "backoff",
            restarts=spec.restarts,
            why=spec.why,
            waiting=len(self._event_buffer) if spec.kind is Kind.HOOKS else UNSET,
            dropped=self._event_buffer.dropped if spec.kind is Kind.HOOKS else UNSET,
        )

    def close(self) -> None:
        """Give back descriptors."""
        for sidecar in self.by_kind.values():
            if sidecar.spec.child is not None:
                sidecar.spec.child.disconnect()


def _first_frame(kind: Kind, config: Config) -> StartSidecar | None:
    """What it is started with: of secrets, its own only. None when it is not wanted."""
    if not _WANTED[kind](config):
        return None
    of_web = kind is Kind.WEB
    return StartSidecar(
        version=VERSION,
        web=config.web if of_web else WebConfig(),
        hooks=HooksConfig() if of_web else config.hooks,
        broker=config.broker if of_web else BrokerConfig(),
        log=config.log,
        state_dir=config.daemon.state_dir,
        runtime_dir=config.daemon.runtime_dir,
        source=config.source,
        master_pid=os.getpid(),
    )


_WANTED: dict[Kind, Callable[[Config], bool]] = {
    Kind.WEB: lambda config: bool(config.web.listen),
    Kind.HOOKS: lambda config: config.hooks.wanted,
}
