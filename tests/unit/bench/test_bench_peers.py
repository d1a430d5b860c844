"""What is known of the peers without starting one."""

from __future__ import annotations

import pytest

from benchmarks.bench.options import Options
from benchmarks.bench.peers import APPS, environment, versions


def test_every_peer_has_a_pinned_version() -> None:
    assert {"celery", "dramatiq", "pika"} <= versions().keys()
    assert all(versions().values())


def test_a_peer_does_not_find_preforkd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere/with/supervisor")

    assert environment()["PYTHONPATH"] == str(APPS)


def test_a_quick_run_has_fewer_rounds() -> None:
    assert Options(APPS).rounds(5) == 5
    assert Options(APPS, quick=True).rounds(5) == 1
    assert Options(APPS, quick=True).rounds(5, 2) == 2
