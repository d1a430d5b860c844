"""The daemon's children that belong to no pool, the web page and the hooks, and what they are told. Master only.

They leave at the very end of a stop. Events for the hooks are bounded: a hooks process that reads slowly, or is not
there, costs nothing. What finds no room is dropped and counted, and the next thing the process reads is how many there
were.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from supervisor.config.schema import BrokerConfig, Config, HooksConfig, WebConfig
from supervisor.control.results import SidecarStatus
from supervisor.link.frames import VERSION, Happened, Letters, Missed, StartSidecar
from supervisor.master.exits.history import History
from supervisor.master.pool.children import SIDECARS, Children, ChildSpec, Kind
from supervisor.master.pool.exit_records import ExitRecord
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.pools import Pools
from supervisor.master.pool.wire import Wire
from supervisor.master.sidecars.sidecar import Sidecar
from supervisor.master.stop.phases import CLOSE_S, HURRY_S, StopPhase
from supervisor.master.stop.stopping import DaemonStop
from supervisor.master.stop.terminations import Terminations
from supervisor.scoreboard.words import Intent
from supervisor.system.clock import rfc3339, wall_s
from supervisor.system.reactor import Reactor

MAX_WAITING = 500
MAX_PENDING_BYTES = 64 * 1024
_STACK_CHARACTERS = 4000


class EventBuffer:
    """Events that wait for the hooks process. `dropped`: how many found no room since the daemon started."""

    def __init__(self) -> None:
        self._waiting: deque[Happened] = deque()
        self._missed: dict[str, int] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, happened: Happened) -> None:
        """Take an event, or count it."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(happened)
        else:
            self.miss(happened.hook, 1)

    def miss(self, hook: str, count: int) -> None:
        """So many events of a hook were not even named."""
        if count:
            self._missed[hook] = self._missed.get(hook, 0) + count
            self.dropped += count

    def hand_over(self, wire: Wire) -> None:
        """Send as much as the process is likely to take."""
        while self._waiting and wire.pending_bytes < MAX_PENDING_BYTES:
            wire.send(self._waiting.popleft())
        if self._missed and wire.pending_bytes < MAX_PENDING_BYTES:
            wire.send(Missed(self._missed))
            self._missed = {}

    def clear(self) -> None:
        """Drop all events: no process reads them any more."""
        self._waiting.clear()
        self._missed = {}


class Sidecars:
    """All of them, by kind: a duty that keeps them as the configuration in force and the stop of the daemon ask for."""

    does = "keep the sidecars"
    due_s = float("inf")

    def __init__(
        self,
        pools: Pools,
        stop: DaemonStop,
        history: History,
        children: Children,
        reactor: Reactor,
        terminations: Terminations,
    ) -> None:
        self.by_kind = {kind: Sidecar(kind, history, children, reactor) for kind in SIDECARS}
        self._pools = pools
        self._stop = stop
        self._terminations = terminations
        self._event_buffer = EventBuffer()
        self._config: Config | None = None

    # ---- what is wanted -------------------------------------------------------------------------------------------

    def follow_config(self, config: Config, now_s: float) -> None:
        """Have those started, stopped or replaced whose settings are others than before."""
        if config is self._config:
            return
        self._config = config
        for kind, sidecar in self.by_kind.items():
            if sidecar.follow_config(_first_frame(kind, config), config):
                self._send_away(sidecar.spec, "reload", CLOSE_S, now_s)
        if self.by_kind[Kind.HOOKS].first is None:
            self._event_buffer.clear()

    def turn(self, now_s: float) -> None:
        """Bring them to what is wanted, then send what waits for them."""
        stop = self._stop.current
        if stop is None:
            self.follow_config(self._pools.config, now_s)
        elif stop.phase is StopPhase.GONE:
            self._end_all(stop.requested_by, HURRY_S if stop.now else CLOSE_S, now_s)
        for pool in self._pools.values():
            self._tell_dead_letters(pool)
        self._flush()

    def _end_all(self, requested_by: str, grace_s: float, now_s: float) -> None:
        """End all of them; kill those still alive after `grace_s`. A second call can only shorten that."""
        for sidecar in self.by_kind.values():
            sidecar.follow_config(None)
            self._send_away(sidecar.spec, requested_by, grace_s, now_s)

    @property
    def gone(self) -> bool:
        """Whether none is there any more."""
        return all(sidecar.spec.child is None for sidecar in self.by_kind.values())

    def _send_away(self, spec: ChildSpec, requested_by: str, grace_s: float, now_s: float) -> None:
        if spec.child is None:
            return
        if spec.kind is Kind.HOOKS and spec.child.wire is not None and spec.child.intent is Intent.NONE:
            self._event_buffer.hand_over(spec.child.wire)
        self._terminations.ask(spec.child, requested_by, now_s, grace_s)

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
        """An event of this hook; dropped where no hooks are configured."""
        if self._hooks is not None:
            self._event_buffer.put(Happened(hook, facts))

    def _tell_dead_letters(self, pool: Pool) -> None:
        reported = pool.consumer_channel.take(Letters)
        where = {"at": rfc3339(wall_s()), "pool": pool.name, "queue": pool.config.queue}
        for letters in reported if self._hooks is not None else ():
            for facts in letters.named:
                self._event_buffer.put(Happened("dead", facts | where))
            self._event_buffer.miss("dead", letters.more)

    def _flush(self) -> None:
        for spec in (sidecar.spec for sidecar in self.by_kind.values()):
            if spec.child is not None and spec.child.wire is not None:
                if spec.kind is Kind.HOOKS and spec.ready:
                    self._event_buffer.hand_over(spec.child.wire)
                spec.child.wire.flush()

    @property
    def _hooks(self) -> HooksConfig | None:
        first = self.by_kind[Kind.HOOKS].first
        return first.hooks if first is not None else None

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
