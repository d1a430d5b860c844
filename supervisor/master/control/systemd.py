"""Notifications to systemd (sd_notify(3)): readiness, state, pings, progress of a stop.

Master only; decides from facts that others gather, and never waits for the service manager. A ping (WATCHDOG=1) says
that all pools consume, not only that the loop turns: pings end when the consumers of a pool make no progress although
the hang detector replaces them. More time for a stop or a reload is asked for in small pieces, only while it goes on,
and never beyond the stop's own limit. No child inherits the socket's address: a handler's program that speaks the
protocol, too, would speak for the daemon.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from supervisor.master.stop.phases import Stop

GRACE_S = 20.0
"""How long a pool that cannot consume (broker away) may keep the daemon from being called ready, its reason known."""

TICK_S = 5.0
_AGAIN_S = 1.0
_EXTENSION_TICKS = 3
_STALE_TIMES = 2  # times the limit of the hang detector
_REASON_CHARS = 200
_STATUS_BYTES = 3000  # systemd ignores datagrams of more than 4096
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """The way to the service manager. `watchdog_s`: how often it expects WATCHDOG=1, in seconds; None for never."""

    def __init__(self, address: str, watchdog_s: float | None = None) -> None:
        """`address`: a path, or a name in the abstract namespace with `@` in front."""
        self.watchdog_s = watchdog_s
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def send(self, lines: Iterable[str]) -> bool:
        """Send these `lines` (KEY=VALUE) as one datagram; False when it was not taken (full, gone)."""
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.sendto("\n".join(lines).encode(), self._address)
            return True
        return False


def take_notifier(environment: MutableMapping[str, str]) -> Notifier | None:
    """The notifier that the variables in `environment` ask for, None without them. Removes the variables."""
    address, watchdog_us, watchdog_pid = (environment.pop(name, "") for name in _VARIABLES)
    if not address.startswith(("/", "@")):
        return None
    watched = watchdog_us.isdecimal() and int(watchdog_us) > 0 and watchdog_pid in ("", str(os.getpid()))
    return Notifier(address, int(watchdog_us) / 1e6 if watched else None)


@dataclass(frozen=True)
class PoolFacts:
    """One pool. `manned`: forkserver and workers are there; `beat_s`: the consumer's progress; else as in `status`."""

    name: str
    state: str = "ok"
    why: str = ""
    manned: bool = True
    consuming: bool = True
    ready_workers: int = 1
    workers: int = 1
    busy: int = 0
    done: int = 0
    crashes: int = 0
    timeouts: int = 0
    consumer_alive: bool = True
    beat_s: float = 0.0

    @property
    def settled(self) -> bool:
        """Whether it consumes, or could but for a reason that is stated."""
        return self.manned and (self.consuming or bool(self.why))


class StatusNotifier:
    """Speaks through `notifier`. `stale_s`: how long the hang detector lets a consumer stand still, in seconds."""

    def __init__(self, notifier: Notifier, started_s: float, stale_s: float) -> None:
        self._notifier = notifier
        self._started_s = started_s
        self._idle_limit_s = _STALE_TIMES * stale_s
        self._tick_s = TICK_S if notifier.watchdog_s is None else min(TICK_S, notifier.watchdog_s / 3)
        self._announced = "starting"
        self._heard = "starting"
        self._idle: dict[str, _Idle] = {}
        self.due_s = started_s

    def is_due(self, state: str, now_s: float) -> bool:
        """Whether `tell` is due: by the clock, or because `state`, the daemon's, has changed."""
        return state != self._heard or now_s >= self.due_s

    def tell(self, state: str, pools: Sequence[PoolFacts], stop: Stop | None, now_s: float) -> None:
        """Say how the daemon is. `state`: as `status` has it; `stop`: the stop under way, None for none."""
        said = self._stated(state, pools, now_s)
        lines = [f"STATUS={sentence(said, pools, stop, now_s)}"]
        if said != self._announced:
            lines += _announcement(said, now_s)
        if self._goes_on(pools, now_s):
            lines += ["WATCHDOG=1"] if self._notifier.watchdog_s is not None else []
            lines += self._more_time(said, stop, now_s)
        taken = self._notifier.send(lines)
        self._announced = said if taken else self._announced
        self._heard, self.due_s = state, now_s + (self._tick_s if taken else min(self._tick_s, _AGAIN_S))

    def _stated(self, state: str, pools: Sequence[PoolFacts], now_s: float) -> str:
        """Once it was called ready, a daemon that is still starting is called running."""
        if state != "starting" or self._announced == "running":
            return "running" if state == "starting" else state
        late = now_s - self._started_s >= GRACE_S
        return "running" if late and all(pool.settled for pool in pools) else state

    def _goes_on(self, pools: Sequence[PoolFacts], now_s: float) -> bool:
        """Whether every pool's consumers make progress, or none is there that could."""
        self._idle = {pool.name: self._idle.get(pool.name, _Idle(now_s)).after(pool, now_s) for pool in pools}
        return all(idle.idle_s < self._idle_limit_s for idle in self._idle.values())

    def _more_time(self, said: str, stop: Stop | None, now_s: float) -> list[str]:
        """A stop and a reload are waited for; each has an end of its own, the stop's is known."""
        piece_s = self._tick_s * _EXTENSION_TICKS
        more_s = min(piece_s, stop.deadline_s - now_s) if stop else piece_s if said == "reloading" else 0.0
        return [f"EXTEND_TIMEOUT_USEC={round(more_s * 1e6)}"] if more_s > 0 else []


@dataclass(frozen=True)
class _Idle:
    """How long the consumers of a pool, one after another, have lived without progress. Time without a consumer does
    not count."""

    looked_s: float
    beat_s: float = 0.0
    idle_s: float = 0.0

    def after(self, pool: PoolFacts, now_s: float) -> _Idle:
        """The same after another look; one that comes late (we did not run ourselves) counts as one tick."""
        if pool.beat_s != self.beat_s:
            return _Idle(now_s, pool.beat_s)
        passed_s = min(now_s - self.looked_s, 2 * TICK_S) if pool.consumer_alive else 0.0
        return _Idle(now_s, self.beat_s, self.idle_s + passed_s)


def sentence(state: str, pools: Sequence[PoolFacts], stop: Stop | None, now_s: float) -> str:
    """The line in `systemctl status`: `email: 4/4 workers, 1 200 done, 2 crashes`; pools in trouble come first.

    `state`: of the daemon; `stop`: the stop under way, None for none.
    """
    parts = [_phrase(pool) for pool in sorted(pools, key=lambda pool: pool.state == "ok")]
    if stop is not None:
        left_s = max(0.0, stop.due_s - now_s)
        parts.insert(0, f"{_count(sum(pool.busy for pool in pools), 'message')} still running, {left_s:.0f} s left")
    text = ("" if state == "running" else f"{state}: ") + "; ".join(parts)
    return text.encode()[:_STATUS_BYTES].decode(errors="ignore")


def _phrase(pool: PoolFacts) -> str:
    reason = " ".join(pool.why.split())[:_REASON_CHARS]
    trouble = "" if pool.state in ("ok", "starting", "stopping") else f"{pool.state}, "
    timeouts = f", {_count(pool.timeouts, 'timeout')}" if pool.timeouts else ""
    return (
        f"{pool.name}: {trouble}{pool.ready_workers}/{pool.workers} workers, {_grouped(pool.done)} done, "
        f"{_count(pool.crashes, 'crash', 'crashes')}{timeouts}{f' ({reason})' if reason else ''}"
    )


def _count(number: int, one: str, more: str = "") -> str:
    return f"{_grouped(number)} {one if number == 1 else more or one + 's'}"


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _announcement(state: str, now_s: float) -> list[str]:
    return {
        "running": ["READY=1"],
        "reloading": ["RELOADING=1", f"MONOTONIC_USEC={round(now_s * 1e6)}"],
        "stopping": ["STOPPING=1"],
    }.get(state, [])
