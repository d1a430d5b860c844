"""The age of a consumer's connection, as `status` shows it."""

from __future__ import annotations

from supervisor.master.control.status import _connection
from tests.support.statuses import snapshot


def test_the_age_of_a_connection_is_that_of_now() -> None:
    """A consumer with no news sends none: its last snapshot may be hours old."""
    told = snapshot(1000.0, state="connected", since_s=0.1)
    assert _connection(told, 4600.0).since_s == 3600.1
    assert _connection(told, 900.0).since_s == 0.1, "the wall clock was set back"
    assert _connection(None, 900.0).since_s == 0.0
