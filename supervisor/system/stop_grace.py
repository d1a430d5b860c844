"""How long the platform lets a daemon stop before it kills it, as far as that can be known from inside. Pure.

Used by the master at its start, and by `check`. A container does not know the time that its platform gives: the
platform's default is compared, unless the variable PREFORKD_STOP_GRACE names the real time. systemd is asked for more
time during a stop (sd_notify(3), EXTEND_TIMEOUT_USEC), but only where the unit has Type=notify.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from supervisor.quantities import read_seconds, show_seconds

VARIABLE = "PREFORKD_STOP_GRACE"
_INIT = 1


class _Platform(NamedTuple):
    """Who kills so long after SIGTERM, unless `setting` has another time."""

    name: str
    default_s: float
    setting: str


_KUBERNETES = _Platform("Kubernetes", 30.0, "terminationGracePeriodSeconds")
_DOCKER = _Platform("Docker", 10.0, "stop_grace_period of Compose, or `docker run --stop-timeout`,")
_PODMAN = _Platform("Podman", 10.0, "`podman run --stop-timeout`")
_OTHER = _Platform("a container's platform", 10.0, "its grace period")
_SYSTEMD = _Platform("systemd", 90.0, "TimeoutStopSec")


def stop_doubt(stop_timeout_s: float, cleanup_s: float, pid: int, environment: Mapping[str, str], root: Path) -> str:
    """Why a stop may be cut off by the platform; "" if it is not, or nothing is known.

    `cleanup_s`: how long a stop may take beyond its `stop_timeout`, in seconds. `pid`: of the daemon; the init of a
    container has 1. `root`: the folder in which container engines leave their marks, /.
    """
    needed = (
        f"a stop may take {show_seconds(stop_timeout_s + cleanup_s)} (stop_timeout = {show_seconds(stop_timeout_s)})"
    )
    if told := environment.get(VARIABLE, ""):
        try:
            grace_s = _seconds(told)
        except ValueError as error:
            return f"{VARIABLE} = {told}: {error}"
        least = f"lower stop_timeout by {show_seconds(stop_timeout_s + cleanup_s - grace_s)}, or raise both"
        return "" if grace_s >= stop_timeout_s + cleanup_s else f"{VARIABLE} = {told}: {needed}; {least}"
    platform = _platform(pid, environment, root)
    if platform is None or platform.default_s >= stop_timeout_s + cleanup_s:
        return ""
    return (
        f"{platform.name} kills after {show_seconds(platform.default_s)} unless {platform.setting} says more, and "
        f"{needed}: set it to more, and {VARIABLE} to the same time, or lower stop_timeout"
    )


def _seconds(text: str) -> float:
    """A duration, or a number of seconds. Raises ValueError."""
    return read_seconds(float(text) if text.strip().replace(".", "", 1).isdecimal() else text)


def _platform(pid: int, environment: Mapping[str, str], root: Path) -> _Platform | None:
    if pid != _INIT:
        by_systemd = environment.get("SYSTEMD_EXEC_PID") == str(pid) and "NOTIFY_SOCKET" not in environment
        return _SYSTEMD if by_systemd else None
    if "KUBERNETES_SERVICE_HOST" in environment:
        return _KUBERNETES
    if (root / "run/.containerenv").exists():
        return _PODMAN
    return _DOCKER if (root / ".dockerenv").exists() else _OTHER
