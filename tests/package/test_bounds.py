"""The ranges of the dependencies: preforkd works at their lower and at their upper end, and beside an application."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.environments import Environment
from tests.support.source_tree import ROOT

pytestmark = pytest.mark.timeout(600)

LOWEST = ROOT / "requirements-lowest.txt"
_TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "aiosmtpd", "opentelemetry-sdk")
_RUN_TIME_EXTRAS = ("metrics", "web", "otel")


def requirements() -> dict[str, str]:
    """Every dependency at run time, extras included, with its range as pyproject.toml says it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra in _RUN_TIME_EXTRAS for line in project["optional-dependencies"][extra]]
    found = (re.fullmatch(r"([\w-]+)(>=.*)", line) for line in project["dependencies"] + extras)
    return {match[1]: match[2] for match in found if match is not None}


def test_the_lower_bounds_are_those_of_the_constraints_file() -> None:
    pins = dict(line.split("==") for line in LOWEST.read_text().splitlines() if "==" in line and line[0] != "#")
    assert {name: pins.get(name) for name in requirements()} == {
        name: range.removeprefix(">=").split(",")[0] for name, range in requirements().items()
    }


def test_an_upper_bound_has_its_reason() -> None:
    reasons = (ROOT / "docs/decisions/0001-dependencies.md").read_text()
    bounded = [name for name, range in requirements().items() if "<" in range]
    assert [name for name in bounded if f"| {name} |" not in reasons.partition("Upper bounds")[2]] == []


@pytest.mark.parametrize("end", ["lowest", "newest"])
def test_the_unit_tests_pass_at_both_ends_of_the_ranges(end: str, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    constraints = ["--constraint", str(LOWEST)] if end == "lowest" else []
    environment.install(*constraints, f"{ROOT}[web,otel]", *_TOOLS)
    environment.run("-m", "pip", "uninstall", "--yes", "--quiet", "preforkd", cwd=tmp_path)
    told = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit", cwd=ROOT, timeout_s=500)
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr


APPLICATIONS = {
    "of 2023": ["click==8.1.7", "psutil==5.9.8", "rich==13.7.1", "msgspec==0.18.6", "prometheus-client==0.20.0"],
    "of today": ["click==8.5.1", "psutil==7.2.2", "rich==15.0.0", "starlette==1.10.0", "uvicorn==0.54.0"],
}


@pytest.mark.parametrize("age", APPLICATIONS)
def test_an_application_keeps_its_own_versions(age: str, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    environment.install("--dry-run", f"{ROOT}[web,metrics,otel]", *APPLICATIONS[age])
