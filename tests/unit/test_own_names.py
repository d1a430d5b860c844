"""Who hides whom, where an application has a package named like one of preforkd's."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from supervisor.own_names import conflict
from tests.support.source_tree import ROOT

OURS = str(ROOT)


def site(folder: Path, *files: str) -> str:
    """An application's folder with these files."""
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(folder)


@pytest.mark.parametrize("hiding", ["workers/__init__.py", "workers.py", "workers/log.py"])
def test_a_file_of_the_application_hides_a_ready_made_handler(hiding: str, tmp_path: Path) -> None:
    told = conflict("workers.log", [site(tmp_path, hiding), OURS])
    assert told == f"{tmp_path / hiding} hides preforkd's own workers.log; name supervisor.workers.log for preforkd's"


@pytest.mark.parametrize(
    ("module", "files"),
    [
        ("workers.mail", ["workers/__init__.py", "workers/mail.py"]),
        ("workers.log", ["workers/mail.py"]),
        ("workers", ["workers/__init__.py"]),
        ("tasks.log", ["tasks/log.py"]),
        ("supervisor.workers.log", ["workers/__init__.py", "supervisor/__init__.py"]),
    ],
)
def test_another_module_of_the_application_hides_nothing(module: str, files: list[str], tmp_path: Path) -> None:
    assert conflict(module, [site(tmp_path, *files), OURS]) == ""


def test_an_application_behind_preforkd_on_the_path_hides_nothing(tmp_path: Path) -> None:
    assert conflict("workers.log", [OURS, site(tmp_path, "workers/__init__.py")]) == ""


@pytest.mark.parametrize("hidden", ["supervisor/__init__.py", "supervisor.py", "supervisor/tasks.py"])
def test_preforkd_hides_a_package_supervisor_of_the_application(hidden: str, tmp_path: Path) -> None:
    told = conflict("supervisor.tasks", [site(tmp_path, hidden), OURS])
    assert told == f"preforkd's own package {ROOT / 'supervisor'} hides {tmp_path / hidden}; rename that package"


@pytest.mark.parametrize("name", ["log", "command"])
def test_the_alias_is_the_same_file(name: str) -> None:
    alias, module = (find_spec(f"{prefix}workers.{name}") for prefix in ("supervisor.", ""))
    assert alias is not None
    assert module is not None
    assert alias.origin == module.origin == str(ROOT / f"workers/{name}.py")


def test_the_alias_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "workers" or name == "supervisor.workers.log"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(site(tmp_path, "workers/__init__.py"))
    assert importlib.import_module("workers").__file__ == str(tmp_path / "workers/__init__.py")
    assert importlib.import_module("supervisor.workers.log").__file__ == str(ROOT / "workers/log.py")
