"""Where the daemon's log goes: a running daemon says it; otherwise the configuration and what is found there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from supervisor.cli.invocation import LOG_NAME, Invocation
from supervisor.cli.logs.journal import UNIT, Journal, matches_of
from supervisor.cli.logs.lines import Line
from supervisor.cli.logs.log_file import LogFile
from supervisor.control.results import LogStatus
from supervisor.errors import StateError
from supervisor.logs.target import JOURNAL, STDERR, TERMINAL

_RELAY = "preforkd-log"
_STREAMS = (Path("/dev"), Path("/proc"))


class Log(Protocol):
    """A log that can be read. `name`: for messages."""

    name: str

    def last(self, count: int, wanted: Callable[[Line], bool], to_follow: bool) -> Iterable[Line]:
        """The last `count` lines (0: all) that are `wanted`, oldest first."""

    def follow(self) -> Iterator[Line]:
        """The lines after those of `last`, as they are logged."""

    def close(self) -> None:
        """Close what is open."""


def find_log(invocation: Invocation, unit: str | None) -> Log:
    """The log of the daemon, or of a systemd `unit`. Raises StateError if there is none that can be read."""
    if unit is not None:
        return Journal((f"--unit={unit}",))
    status = invocation.status()
    if status is not None and status.log is not None:
        return _of_daemon(status.pid, status.log)
    return _of_configuration(invocation)


def _of_daemon(pid: int, log: LogStatus) -> Log:
    if log.file != STDERR:
        return _of_file(Path(log.file))
    if log.reader == JOURNAL:
        return Journal(matches_of(_text(Path(f"/proc/{pid}/cgroup"))))
    if (path := _behind_stderr(pid)) is not None:
        return _of_file(path)
    where = "a terminal" if log.reader == TERMINAL else "a pipe"
    raise StateError(
        f"the log of the daemon (pid {pid}) goes to its stderr, {where}, and cannot be read again: "
        "see the program that started it (`docker logs`, `kubectl logs`), or name a `file` in [log]"
    )


def _of_configuration(invocation: Invocation) -> Log:
    """The log of the last daemon, or of one that does not answer."""
    file = invocation.log.file
    if file != STDERR:
        return _of_file(Path(file))
    own, journal = invocation.state_dir / LOG_NAME, Journal((f"--unit={UNIT}",))
    in_file_s, in_journal_s = _changed_at_s(own), journal.newest_at_s()
    if in_file_s is None and in_journal_s is None:
        raise StateError(
            f"there is no log: no daemon runs, `preforkd start` has left none in {own}, and the journal has none of "
            f"{UNIT}; --unit names another unit, `file` in [log] a file"
        )
    if in_file_s is not None and in_file_s >= (in_journal_s or 0.0):
        return LogFile(own)
    return journal


def _of_file(path: Path) -> LogFile:
    """Raises StateError for a file that is another one in each process, such as /dev/stderr."""
    for _ in range(40):  # links, as many as the kernel follows
        if any(stream in path.parents for stream in _STREAMS):
            raise StateError(
                f"the log goes to {path}, and cannot be read again: see the program that started the daemon "
                "(`docker logs`, `kubectl logs`), or name another `file` in [log]"
            )
        try:
            followed = path.parent / path.readlink()
        except OSError:  # no link, or not there
            break
        path = followed
    return LogFile(path)


def _behind_stderr(master: int) -> Path | None:
    """The file to which the master's log relay writes; None if that is none, or not to be known."""
    with suppress(OSError):
        for child in _text(Path(f"/proc/{master}/task/{master}/children")).split():
            if _text(Path(f"/proc/{child}/comm")).strip() == _RELAY:
                path = Path(f"/proc/{child}/fd/2").readlink()
                return path if path.is_file() else None
    return None


def _changed_at_s(path: Path) -> float | None:
    with suppress(OSError):
        return path.stat().st_mtime
    return None


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""
