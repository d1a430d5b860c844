"""The order in which a run begins the test files: the long ones first, so that no worker is alone with one at the end.

A file is one worker's (`--dist loadfile`), for the sake of its shared fixtures; what is not named here takes less than
some 15 s. The order is all that counts: no test may depend on it. Where tests are handed out one by one (`make check`),
the order is reversed: large pieces are handed out first, and pairs at the end.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

LONGEST = (
    "process/test_crash_points.py",
    "chaos/test_chaos.py",
    "systemd/test_service.py",
    "process/test_crash_points_together.py",
    "process/test_reload.py",
    "process/test_scale_pause.py",
    "process/test_cli_daemon.py",
    "process/test_bad_input_start.py",
    "docs/test_how_to_rabbitmq.py",
    "broker/test_inbox_two_daemons.py",
    "broker/test_incident_2_half_open.py",
    "browser/test_web_page.py",
    "broker/test_amqp_outages.py",
    "process/test_bad_input_messages.py",
    "process/test_cli_why.py",
    "broker/test_main_job.py",
    "process/test_master_watch.py",
    "process/test_boot_timeout.py",
    "broker/test_incident_3_short_connections.py",
    "unit/consumer/test_settlement_model.py",
    "broker/test_amqp_crash_points.py",
    "process/test_drill.py",
    "broker/test_incident_4_endless_timeout.py",
    "process/test_bad_input_disk.py",
    "process/test_odd_starts.py",
    "process/test_master_recovery.py",
    "process/test_master_notify.py",
    "broker/test_bad_broker.py",
    "process/test_worker_limits.py",
    "process/test_master_stop.py",
    "process/test_daemon_limits.py",
    "process/test_first_run.py",
    "process/test_cli_pending.py",
    "process/test_clocks.py",
    "process/test_master_reaping.py",
    "process/test_exits_table.py",
    "broker/test_reload_under_load.py",
)
"""Below tests/, the longest first, as measured with three workers on two processors (`--durations` tells)."""


def longest_first(folder: str) -> Callable[[pytest.Item], int]:
    """The key to sort by; `folder`: tests/, with everything below it."""
    places = {f"{folder}/{name}": place for place, name in enumerate(LONGEST)}
    return lambda item: places.get(str(item.path), len(LONGEST))
