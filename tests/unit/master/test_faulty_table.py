"""The table of the master's system calls is complete: a new call without its errors is noticed here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.faulty_calls import AT_THE_START_ONLY, CALLS, CANNOT_FAIL, PATH_METHODS, REAPING
from tests.support.source_tree import ROOT

MODULES = ("os", "signal", "socket", "fcntl", "select", "resource", "mmap", "setproctitle", "io", "shutil", "time")
KNOWN = {*CALLS, *AT_THE_START_ONLY, *CANNOT_FAIL, *REAPING, "os.path.samestat", "os.path.lexists", "time.sleep"}
NO_CALLS = ("time.time", "time.monotonic", "time.clock", "time.strftime", "time.gmtime", "time.localtime", "os.environ")


def modules_of_the_master() -> set[Path]:
    """The master's own files, and all they import of ours, through however many others."""
    found, waiting = set[Path](), sorted((ROOT / "supervisor/master").rglob("*.py"))
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += imported_by(path)
    return found


def imported_by(path: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("supervisor"):
            for name in ("", *(f"/{alias.name}" for alias in node.names)):
                module = ROOT / (node.module.replace(".", "/") + name + ".py")
                if module.exists():
                    yield module


def calls(path: Path) -> Iterator[str]:
    """Names like `os.open` of what a file calls."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.partition(".")[0] in MODULES and "(" not in name:
                yield name


def test_every_call_that_the_master_can_make_is_in_the_table() -> None:
    used = {name for path in modules_of_the_master() for name in calls(path)}
    unknown = {name for name in used if name not in KNOWN and not name.startswith(NO_CALLS)}
    assert unknown == set(), "add them to tests/support/faulty_calls.py, with the errors of their manual page"


def test_every_call_in_the_table_can_be_made_to_fail() -> None:
    assert set(PATH_METHODS.values()) <= set(CALLS)
    assert all(errors for errors in CALLS.values())


def test_the_table_has_no_call_without_a_caller() -> None:
    used = {name for path in modules_of_the_master() for name in calls(path)} | set(PATH_METHODS.values())
    assert {*CALLS, *AT_THE_START_ONLY} <= used
