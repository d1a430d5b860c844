"""The architecture as tables: who may import whom, who must not and why, and where each outside library lives."""

from __future__ import annotations

import ast
from collections import deque
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

from supervisor.cli.catalogue import COMMANDS
from tests.support.source_tree import CODE, imported, module_name, nodes, sources

PATHS = {module_name(path): path for path in sources(*CODE)}

LAYERS: list[tuple[str, ...]] = [
    ("cli", "__main__"),
    ("drill", "client", "outbox"),  # a test of the whole daemon; a library for the processes of users
    ("master", "forkserver", "consumer", "worker", "web", "hooks"),  # processes: never each other
    ("brokers", "ledger", "fleet", "scoreboard", "link", "control", "metrics", "inbox"),
    ("config", "logs", "messages", "system", "vocabulary"),
]
"""From top to bottom; everything may import what is below it. `vocabulary` is every loose file of `supervisor/`."""

PROCESSES = LAYERS[2]

CONSUMER_ROOMS = ("settlement", "observe", "workers", "turn")
"""The folders of the consumer: each may import those before it. The settlement is pure and knows none of the others."""

MASTER_ROOMS = ("host", "pool", "limits", "stop", "startup", "exits", "reload", "sidecars", "control")
"""The folders of the master, in the same way, with the one file beside them that they may import."""

BECOMES = {"supervisor.forkserver.__main__": ("worker", "a fork of the forkserver goes on as a worker")}
"""The one place where a process may import another, and why."""

MUST_NOT: list[tuple[str, str, str]] = [
    ("master", "brokers", "the master must live when a broker misbehaves; consumers talk to brokers"),
    ("master", "ledger", "a full disk or a damaged database must not stop supervision"),
    ("master", "fleet", "an outage of PostgreSQL must not stop supervision"),
    ("master", "metrics", "the master tells; the process that asks draws, with an extra's library"),
    ("master", "fleet", "an outage of PostgreSQL must not stop supervision"),
    ("worker", "fleet", "a crashing handler must not be able to speak for its host"),
    ("forkserver", "fleet", "forks would share the connection"),
    ("fleet", "ledger", "the ledger of a fleet is one of the ledgers; the schema knows none of them"),
    ("worker", "brokers", "a worker's death must never touch a broker connection (I7)"),
    ("worker", "ledger", "a crashing handler must not be able to damage the record of messages"),
    *(
        (process, "fleet", "its store is the consumer's")
        for process in ("worker", "forkserver", "hooks", "web", "client")
    ),
    ("fleet", "ledger", "the host's ledger builds on the fleet's, not the other way"),
    ("client", "inbox", "programs without a database pay nothing"),
    ("worker", "inbox", "user code imports it, and workers without it pay nothing"),
    ("forkserver", "brokers", "forks would share the connection"),
    ("forkserver", "ledger", "SQLite's locks do not survive a fork"),
    ("hooks", "brokers", "what runs commands and posts to the network has no business with the queue"),
    ("hooks", "ledger", "nor with the record of messages"),
    *(
        ("client", process, "a library in the process of a web application: nothing of the daemon runs there")
        for process in (
            "master",
            "forkserver",
            "consumer",
            "worker",
            "web",
            "hooks",
            "ledger",
            "fleet",
            "link",
            "control",
        )
    ),
    ("link", "brokers", "frames are read by processes that must not load a broker's client"),
]
"""(package, what it must not reach even through others, why). Layers alone do not catch `master -> ledger`."""

LIBRARIES: dict[str, tuple[tuple[str, ...], str]] = {
    "pika": (("supervisor/brokers/amqp/*.py",), "14 MB, a thread for name lookups: only the consumer may pay for it"),
    "sqlite3": (("supervisor/ledger/sqlite*.py", "supervisor/brokers/embedded/*.py"), "one file per database"),
    "psycopg": (("supervisor/fleet/*.py",), "an extra: 25 MiB that only consumers and commands of a fleet carry"),
    "mmap": (("supervisor/scoreboard/*.py",), "layout and write order of shared memory are proven there only"),
    "psutil": (
        ("supervisor/system/processes.py",),
        "one definition of private memory; 2 MiB that workers do not carry",
    ),
    "click": (("supervisor/cli/*.py",), "the daemon has no command line"),
    "rich": (("supervisor/cli/*.py",), "the daemon draws nothing; slow to import"),
    "termios": (
        ("supervisor/cli/top/display.py",),
        "one place takes the terminal over and gives it back on every way out",
    ),
    "prometheus_client": (("supervisor/metrics/*.py",), "an extra: everything else works without it"),
    "pythonjsonlogger": (("supervisor/logs/structured.py",), "one schema of log lines"),
    "starlette": (("supervisor/web/*.py",), "HTTP is spoken by a child that nothing depends on"),
    "uvicorn": (("supervisor/web/*.py",), "as starlette"),
    "opentelemetry": (("supervisor/worker/tracing.py",), "who does not have it, or does not want it, pays nothing"),
    "django": (
        ("supervisor/inbox/django/*.py", "supervisor/outbox/django/*.py"),
        "an app that only Django imports: handlers with another library do not have it",
    ),
    "tomllib": (("supervisor/config/*.py",), "one reader of configuration"),
    "ctypes": (
        (
            *("supervisor/system/posix.py", "supervisor/system/kill_timer.py"),
            *("supervisor/ledger/kernel_aio.py", "supervisor/drill/handler.py"),
        ),
        "system calls that Python lacks are declared here, and those that bring structures along; the drill's handler "
        "crashes with it",
    ),
}
"""Each outside library, the files that may import it, and why only those."""

FORKS = ("supervisor/forkserver/*.py", "supervisor/cli/daemonize.py")
"""Files that may call os.fork: everything else starts programs, so that no descriptor or secret is inherited."""


def package_of(module: str) -> str:
    """The part of the architecture a module belongs to: `supervisor.link.frames` -> `link`."""
    parts = module.split(".")
    if parts[0] != "supervisor":
        return parts[0]
    path = PATHS.get(module)
    loose = path is not None and path.parent == Path("supervisor")
    return "__main__" if module == "supervisor.__main__" else "vocabulary" if loose else parts[1]


def known_imports(module: str) -> frozenset[str]:
    """The modules of the project that this one imports."""
    return frozenset(imported(PATHS[module]) & PATHS.keys())


@cache
def loaded_with(module: str) -> frozenset[str]:
    """What this module imports, and the packages whose `__init__` runs before that."""
    modules = known_imports(module)
    parents = {".".join(parts[:end]) for m in modules for parts in [m.split(".")] for end in range(1, len(parts))}
    return modules | (parents & PATHS.keys())


def path_to(start: str, package: str) -> list[str]:
    """A chain of imports from a module into a package, [] where there is none."""
    queue, seen = deque([[start]]), {start}
    while queue:
        chain = queue.popleft()
        if package_of(chain[-1]) == package:
            return chain
        for name in sorted(loaded_with(chain[-1]) - seen):
            seen.add(name)
            queue.append([*chain, name])
    return []


def test_every_package_has_its_layer() -> None:
    packages = {package_of(module) for module in PATHS if module.startswith("supervisor")}

    assert packages == {package for layer in LAYERS for package in layer}


def test_imports_go_downwards_only() -> None:
    levels = {package: level for level, packages in enumerate(LAYERS) for package in packages}

    assert [
        f"{module} imports {name}, which is above it"
        for module in PATHS
        if module.startswith("supervisor")
        for name in known_imports(module)
        if levels[package_of(name)] < levels[package_of(module)]
    ] == []


@pytest.mark.parametrize(("process", "folders"), [("consumer", CONSUMER_ROOMS), ("master", MASTER_ROOMS)])
def test_the_folders_of_a_process_import_in_one_direction(process: str, folders: tuple[str, ...]) -> None:
    rooms = {room: level for level, room in enumerate(folders)}
    places = {module: module.split(".")[2] for module in PATHS if module.startswith(f"supervisor.{process}.")}

    assert {place for place in places.values() if place in rooms} == set(folders)
    assert [
        f"{module} imports {name}"
        for module, room in places.items()
        for name in known_imports(module)
        if room in rooms and name in places and rooms.get(places[name], len(rooms)) > rooms[room]
    ] == []


def test_processes_never_import_each_other() -> None:
    assert [
        f"{module} imports {name}"
        for module in PATHS
        if package_of(module) in PROCESSES
        for name in known_imports(module)
        if package_of(name) in PROCESSES
        if package_of(name) not in (package_of(module), *BECOMES.get(module, ())[:1])
    ] == []


@pytest.mark.parametrize(("package", "forbidden", "why"), MUST_NOT)
def test_what_must_not_be_reached_is_not_reached(package: str, forbidden: str, why: str) -> None:
    for module in PATHS:
        if package_of(module) == package:
            chain = path_to(module, forbidden)
            assert not chain, f"{' -> '.join(chain)}: {why}"


def test_nothing_in_the_daemon_imports_the_ready_made_handlers() -> None:
    over_limit = [
        m for m in PATHS if m.startswith("supervisor") for name in imported(PATHS[m]) if name.startswith("workers")
    ]

    assert over_limit == [], "a user's own folder `workers` may stand beside ours: handlers are found by name only"


def test_a_ledger_is_opened_by_its_factory_alone() -> None:
    """What is not in the interface (`ledger/base.py`) is not there for the rest of the program."""
    assert [
        f"{module} imports {name}"
        for module in PATHS
        if module.startswith("supervisor") and package_of(module) != "ledger"
        for name in known_imports(module)
        if name.startswith("supervisor.ledger.sqlite")
    ] == []


def test_there_are_no_import_cycles() -> None:
    left = {module: set(known_imports(module) - {module}) for module in PATHS}
    while free := [module for module, names in left.items() if not names]:
        left = {module: names - set(free) for module, names in left.items() if module not in free}

    assert left == {}, "these import each other, or what does"


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_each_library_lives_in_its_place(library: str) -> None:
    allowed, why = LIBRARIES[library]
    users = [str(path) for path in sources(*CODE) if any(name.split(".")[0] == library for name in imported(path))]

    assert [user for user in users if not any(fnmatch(user, pattern) for pattern in allowed)] == [], why
    assert users, f"no module uses {library} any more: remove its row"


def test_only_the_forkserver_and_the_daemonizer_fork() -> None:
    forks = {
        str(path)
        for path in sources(*CODE)
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and node.attr in ("fork", "forkpty") and ast.unparse(node.value) == "os"
    }

    assert [path for path in sorted(forks) if not any(fnmatch(path, pattern) for pattern in FORKS)] == []


def test_the_handler_api_imports_nothing_heavy() -> None:
    reached = {name for module in _closure("supervisor.api") for name in imported(PATHS[module])}

    assert reached & {"pika", "sqlite3", "click", "rich", "psutil", "mmap"} == set()


def test_the_process_that_becomes_the_master_carries_no_other_command() -> None:
    commands = {f"supervisor.cli.{entry.where.partition(':')[0]}" for entry in COMMANDS.values()}

    assert _closure("supervisor.cli.start") & commands == {"supervisor.cli.start"}


def _closure(module: str) -> set[str]:
    reached, queue = {module}, deque([module])
    while queue:
        fresh = loaded_with(queue.popleft()) - reached
        reached |= fresh
        queue.extend(fresh)
    return reached
