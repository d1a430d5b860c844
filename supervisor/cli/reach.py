"""What keeps the daemon's user from the files that it needs: Python, the configuration, secrets, the handlers' code.

For `check` and `service`. Each file is tried with the rights of that user; no user code runs, and nothing is changed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import NamedTuple

import supervisor
from supervisor.config.load import files_in
from supervisor.config.schema import Config, PoolConfig
from supervisor.system.access import Obstacle, obstacle
from supervisor.system.accounts import Account

PYTHON = "python"
"""The subject of an obstacle before Python or preforkd itself."""


UNIT_USER = "preforkd"
"""The user of the unit that `preforkd service` prints, where [daemon] names none."""


class Needed(NamedTuple):
    """A file that the daemon needs, and how. `subject`: the key that names it; `tree`, `secret` as in `Obstacle`."""

    subject: str
    path: Path
    right: str = "r"
    secret: bool = False
    tree: Path | None = None


def obstacles(files: Sequence[Needed], user: Account | None) -> Iterator[tuple[Needed, str]]:
    """Each file that the user may not reach, with the reason and the command that mends it; a place once a subject.

    `user`: None for this process; another one needs root.
    """
    seen: set[tuple[str, Path]] = set()
    for file in files:
        found = obstacle(file.path, file.right, user)
        if found is not None and (file.subject, found.place) not in seen:
            seen.add((file.subject, found.place))
            yield file, _told(file, found)


def _told(file: Needed, found: Obstacle) -> str:
    command = found.command(file.secret, file.tree)
    named = found.place != found.path or not command or file.subject == str(file.path)
    text = str(found) if named else f"{found.path}: {found}"
    if not command:
        return f"{text}; make the file, or correct its path"
    elsewhere = ", or keep it elsewhere (/opt, /srv, /etc)" if found.above else ""
    return f"{text}: {command}{elsewhere}"


def of_python() -> list[Needed]:
    """The interpreter, its configuration and all folders of modules, preforkd's own included."""
    prefix = Path(sys.prefix)
    entries = [Path(entry) for entry in sys.path if entry and Path(entry).exists()]
    return [
        Needed(PYTHON, Path(sys.executable), "x", tree=prefix),
        *(Needed(PYTHON, file, tree=prefix) for file in [prefix / "pyvenv.cfg"] if file.exists()),
        *(Needed(PYTHON, entry, "rx" if entry.is_dir() else "r", tree=prefix) for entry in entries),
        Needed(PYTHON, Path(supervisor.__file__), tree=prefix),
    ]


def of_configuration(source: Path, env_file: str | None = None) -> list[Needed]:
    """The configuration, and the files that it names. `env_file`: as for `load`. Raises ConfigError."""
    named = files_in(source, os.environ, env_file)
    return [Needed(str(source), source, secret=True), *(Needed(key, path, secret=True) for key, path in named.items())]


def of_code(config: Config) -> list[Needed]:
    """The folders and modules of the pools' handlers, as far as they are found without an import."""
    return [needed for pool in config.pools.values() for needed in _of_pool(pool)]


def _of_pool(pool: PoolConfig) -> Iterator[Needed]:
    key = f"pools.{pool.name}.handler"
    for folder in filter(os.path.exists, pool.path):
        yield Needed(key, Path(folder), "rx")
    for function in filter(None, (pool.handler, pool.init, *pool.middleware)):
        for file in _modules(function.partition(":")[0], [*pool.path, *sys.path]):
            package = file.parent if "." in function.partition(":")[0] else None
            yield Needed(key, file, tree=package)


def _modules(name: str, places: Sequence[str]) -> Iterator[Path]:
    """The files of a module and of the packages above it. Packages are searched, not imported: no user code runs."""
    searched: Sequence[str] | None = places
    for part in name.split("."):
        found: ModuleSpec | None = PathFinder.find_spec(part, searched)
        if found is None:
            return
        if found.origin and found.has_location:
            yield Path(found.origin)
        searched = list(found.submodule_search_locations or ())
