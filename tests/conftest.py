"""What every test folder shares: fixtures, which live in tests/support beside what they hand out, and the report."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.pools import make_master
from tests.support.rabbitmq import own_rabbitmq, rabbitmq

settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(
    "shared machine"
)  # how long an example takes says something about the machine, not about the code

__all__ = ["make_master", "own_rabbitmq", "pytest_runtest_makereport", "rabbitmq"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tests log texts that are no Unicode; what was captured must still travel between the processes of a run."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report
