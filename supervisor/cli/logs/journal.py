"""The log as entries of systemd's journal, read by journalctl(1): it knows journals, their rights and rotation.

Whatever journalctl says on stderr (that a user may not see all entries) goes to the user.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from supervisor.cli.logs.lines import Line, line_of_entry
from supervisor.errors import StateError

_COMMAND = ("journalctl", "--output=json", "--all", "--no-pager")
_ANY_UNIT = ("--identifier=preforkd",)
_UNIT = re.compile(r"(?P<above>.*)/(?P<unit>[^/]+\.service)(?:/.*)?")
_USER_MANAGER = re.compile(r"/user@\d+\.service(?:/|$)")

UNIT = "preforkd.service"

Entry = dict[str, Any]


def matches_of(cgroups: str) -> tuple[str, ...]:
    """The options of journalctl for the unit of a process. `cgroups`: its /proc/PID/cgroup (cgroups(7))."""
    paths = [line.split(":", 2)[2] for line in cgroups.splitlines() if line.count(":") >= 2]
    found = next(filter(None, (_UNIT.fullmatch(path) for path in paths)), None)
    if found is None or _USER_MANAGER.search(f"/{found['unit']}"):  # systemd-cat in a session
        return _ANY_UNIT
    option = "user-unit" if _USER_MANAGER.search(found["above"]) else "unit"
    return (f"--{option}={found['unit']}",)


class Journal:
    """The entries that `matches` (options of journalctl) select."""

    def __init__(self, matches: tuple[str, ...]) -> None:
        self.name = f"the journal ({shlex.join(['journalctl', *matches])})"
        self._matches = matches
        self._cursor = ""

    def newest_at_s(self) -> float | None:
        """When the last entry was logged (wall clock); None if there is none, or no journal."""
        try:
            with self._entries("--reverse", quiet=True) as entries:
                return next((int(entry["__REALTIME_TIMESTAMP"]) / 1e6 for entry in entries), None)
        except StateError:
            return None

    def last(self, count: int, wanted: Callable[[Line], bool], to_follow: bool) -> Iterable[Line]:
        """The last `count` entries (0: all) that are `wanted`. Raises StateError if journalctl cannot run or fails."""
        if count == 0:
            return filter(wanted, self._everything())
        with self._entries("--reverse") as entries:
            found = filter(wanted, map(line_of_entry, self._noting_newest(entries)))
            return list(islice(found, count))[::-1]

    def follow(self) -> Iterator[Line]:
        """Entries that come after those of `last`, until journalctl ends. Raises StateError as `last`."""
        after = [f"--after-cursor={self._cursor}"] if self._cursor else []
        with self._entries("--follow", "--no-tail", *after) as entries:
            yield from map(line_of_entry, entries)

    def close(self) -> None:
        """Nothing is open between two calls."""

    def _everything(self) -> Iterator[Line]:
        with self._entries() as entries:
            for entry in entries:
                self._cursor = entry["__CURSOR"]
                yield line_of_entry(entry)

    def _noting_newest(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            self._cursor = self._cursor or entry["__CURSOR"]
            yield entry

    @contextmanager
    def _entries(self, *options: str, quiet: bool = False) -> Iterator[Iterator[Entry]]:
        command = [*_COMMAND, *self._matches, *options]
        silent = subprocess.DEVNULL if quiet else None
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=silent)
        except OSError as error:
            raise StateError(
                f"journalctl cannot be run: {error.strerror}; on the machine of the daemon, "
                f"`{shlex.join(['journalctl', *self._matches])}` shows its log"
            ) from error
        with process:
            try:
                yield _decoded(process)
            finally:
                process.kill()


def _decoded(process: subprocess.Popen[bytes]) -> Iterator[Entry]:
    assert process.stdout is not None
    yield from map(json.loads, process.stdout)
    if process.wait() != 0:
        raise StateError(f"journalctl ended with {process.returncode}; its reason is above")
