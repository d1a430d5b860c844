"""One of the daemon's children that belong to no pool: web page or hooks. Owner of its child spec. Master only.

It is started, recorded, backed off and held like other children, but nothing depends on it: whatever it does, no pool,
no message and no readiness notices.
"""

from __future__ import annotations

import logging

from supervisor.config.schema import Config, PoolConfig
from supervisor.link.frames import Build, Refused, Serving, SidecarReport, StartSidecar
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.master.exits.history import History
from supervisor.master.pool.children import Child, Children, ChildSpec, Kind
from supervisor.master.pool.reports import other_build
from supervisor.master.pool.restarts import BOOT_TRIES, Intensity, in_trouble
from supervisor.master.pool.spawn import spawn
from supervisor.master.pool.starts import join
from supervisor.system import posix
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor

_READY = {Kind.WEB: Event.WEB_READY, Kind.HOOKS: Event.HOOKS_READY}


class Sidecar:
    """`first`: the frame that it is started with, None while it is not wanted."""

    boot_tries = BOOT_TRIES

    def __init__(self, kind: Kind, history: History, children: Children, reactor: Reactor) -> None:
        self.spec = ChildSpec("", kind)
        self.specs = [self.spec]
        self.config = PoolConfig(name="", queue="", handler="")  # it is started again as a pool by default
        self.intensity = Intensity()
        self.first: StartSidecar | None = None
        self._history = history
        self._children = children
        self._reactor = reactor
        self._configs: tuple[Config, ...] = ()
        self._generation = 0

    def follow_config(self, first: StartSidecar | None, *configs: Config) -> bool:
        """Take the settings of the next start; whether they are others than before. `configs`: where they are from, and
        the variables of its environment."""
        new, old = ([config.variables for config in each] for each in (configs, self._configs))
        changed = first != self.first or (first is not None and new != old)
        self.first, self._configs = first, configs
        if changed:
            self.spec.forgive()
        return changed

    def start(self) -> None:
        """Start it. Raises StateError when the machine has no process or descriptor left."""
        spec = self.spec
        assert self.first is not None  # it is wanted
        started, now_s = spawn(spec.kind, self.first, [], self._configs), monotonic_s()
        # a number need not be kept on disk: a child without a record is not told apart from another by it
        self._generation = max(self._generation, self._history.recorded(spec.name)) + 1
        child = Child("", spec.kind, None, started.pid, posix.start_ticks(started.pid) or 0, self._generation, now_s)
        spec.started(child)
        self._children.add(child)
        join(child, started, SidecarReport, self._reactor, self.hear)

    def hear(self, report: Build | Serving | Refused) -> None:
        """Take a report of the process."""
        spec = self.spec
        if isinstance(report, Build):
            spec.report(other_build(spec, report))
        elif isinstance(report, Refused):
            spec.report(report.reason)
        elif spec.child is not None and spec.child.ready_s is None:
            spec.child.became_ready(monotonic_s())
            if not in_trouble(spec):
                spec.report("")
            log(_READY[spec.kind], f"{spec.name} is ready {report.what}", pid=spec.child.pid, what=report.what)

    # ---- owner of its child spec ----------------------------------------------------------------------------------

    def disconnect(self, child: Child) -> None:
        """It is dead: read what it still said."""
        child.disconnect()

    def spec_of(self, child: Child) -> ChildSpec:
        """The one child spec."""
        return self.spec

    def wants(self, spec: ChildSpec) -> bool:
        """Whether its settings ask for it."""
        return self.first is not None

    def held(self, spec: ChildSpec, newly: bool) -> None:
        """Report a hold: no pool has a symptom of it."""
        if newly:
            log(Event.SIDECAR_HELD, f"{spec.name} is held: {spec.why}", level=logging.ERROR, why=spec.why)
