"""What every test folder shares: fixtures, which live in tests/support beside what they hand out, and the report."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.workermanage import WorkerController

from tests.support.brokers import driver, pool
from tests.support.longest_first import longest_first
from tests.support.mariadb import mariadb
from tests.support.pools import make_master
from tests.support.postgresql import postgresql
from tests.support.rabbitmq import lent_rabbitmq, node_of_module, own_rabbitmq, rabbitmq
from tests.support.site import running, site
from tests.support.sleeping import process
from tests.support.trixie import node, rabbit_4

settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(
    "shared machine"
)  # how long an example takes says something about the machine, not about the code

__all__ = [
    "driver",
    "lent_rabbitmq",
    "make_master",
    "mariadb",
    "node",
    "node_of_module",
    "own_rabbitmq",
    "pool",
    "postgresql",
    "process",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_runtest_makereport",
    "rabbit_4",
    "rabbitmq",
    "running",
    "site",
]

_DEFAULTS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


def pytest_configure() -> None:
    """A run in the background, or under nohup, ignores these; daemons and programs under test must not inherit that.

    Compiled tests are kept in any environment (PYTHONDONTWRITEBYTECODE), or each worker of each run would compile all
    again. What a test starts goes by its environment: it may load a module that changes within a second.
    """
    sys.dont_write_bytecode = False
    for number, handler in _DEFAULTS.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Let each worker of a run know what is handed out: whole files, or tests one by one."""
    node.workerinput["whole_files"] = node.config.getoption("dist") == "loadfile"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long files first where a worker gets whole files; else last, as then tests are handed out two at a time."""
    whole_files = getattr(config, "workerinput", {"whole_files": True})["whole_files"]
    place = longest_first(str(Path(__file__).parent))
    items.sort(key=place if whole_files else lambda item: -place(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tests log texts that are no Unicode; what was captured must still travel between the processes of a run."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report
