"""The ranges of the dependencies: preforkd works at their lower and at their upper end, and beside an application."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.environments import Environment
from tests.support.source_tree import ROOT, imported, sources

pytestmark = pytest.mark.timeout(600)

LOWEST = ROOT / "requirements-lowest.txt"
_TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "aiosmtpd", "opentelemetry-sdk")
_RUN_TIME_EXTRAS = ("metrics", "web", "otel", "fleet")
_MODULES = {"python-json-logger": "pythonjsonlogger", "opentelemetry-api": "opentelemetry"}

_USERS = (
    *("brokers", "cli", "config", "control", "fleet", "link", "logs", "messages", "metrics", "system", "web"),
    "worker",
)
USERS = tuple(f"tests/unit/{folder}" for folder in _USERS)
"""The unit tests of code that imports a library, or reads and writes what one has made."""


def requirements() -> dict[str, str]:
    """Every dependency at run time, extras included, with its range as pyproject.toml says it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra in _RUN_TIME_EXTRAS for line in project["optional-dependencies"][extra]]
    found = (re.fullmatch(r"([\w-]+(?:\[\w+\])?)(>=.*)", line) for line in project["dependencies"] + extras)
    return {match[1]: match[2] for match in found if match is not None}


def test_the_lower_bounds_are_those_of_the_constraints_file() -> None:
    pins = dict(line.split("==") for line in LOWEST.read_text().splitlines() if "==" in line and line[0] != "#")
    assert {name: pins.get(name.partition("[")[0]) for name in requirements()} == {
        name: range.removeprefix(">=").split(",")[0] for name, range in requirements().items()
    }


def test_an_upper_bound_has_its_reason() -> None:
    reasons = (ROOT / "docs/decisions/0001-dependencies.md").read_text()
    bounded = [name for name, range in requirements().items() if "<" in range]
    assert [name for name in bounded if f"| {name} |" not in reasons.partition("Upper bounds")[2]] == []


@pytest.mark.parametrize("end", ["lowest", "newest"])
def test_what_uses_a_library_works_at_both_ends_of_its_range(end: str, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    constraints = ["--constraint", str(LOWEST)] if end == "lowest" else []
    environment.install(*constraints, *(f"{name}{range}" for name, range in requirements().items()), *_TOOLS)
    environment.import_from(ROOT)
    told = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *USERS, cwd=ROOT, timeout_s=500)
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr
    drill = environment.run("-m", "supervisor", "drill", "--messages", "300", cwd=tmp_path)
    assert "lost=0 duplicated=0" in drill.stdout, drill.stdout + drill.stderr


def test_every_library_has_tests_that_use_it() -> None:
    folders = {path.split("/")[2] for path in USERS}
    code = {path for path in sources("supervisor") if path.parts[1] in folders or path.parts[1] == "scoreboard"}
    used = {name.split(".")[0] for path in code for name in imported(path)}
    names = {name.partition("[")[0] for name in requirements()}
    assert {_MODULES.get(name, name.replace("-", "_")) for name in names} <= used


APPLICATIONS = {
    "of 2023": ["click==8.1.7", "psutil==5.9.8", "rich==13.7.1", "msgspec==0.18.6", "prometheus-client==0.20.0"],
    "of today": ["click==8.5.1", "psutil==7.2.2", "rich==15.0.0", "starlette==1.10.0", "uvicorn==0.54.0"],
}


@pytest.mark.parametrize("age", APPLICATIONS)
def test_an_application_keeps_its_own_versions(age: str, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    environment.install("--dry-run", f"{ROOT}[web,metrics,otel]", *APPLICATIONS[age])
