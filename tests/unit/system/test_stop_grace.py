"""What is known from inside of the time that the platform gives for a stop, and what is said of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supervisor.system.stop_grace import stop_doubt
from tests.support.source_tree import ROOT

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


def doubt(root: Path, stop_timeout_s: float, pid: int = 1, **environment: str) -> str:
    return stop_doubt(stop_timeout_s, 29.0, pid, environment, root)


@pytest.mark.parametrize(
    ("marks", "environment", "said"),
    [
        ([], POD, "Kubernetes kills after 30s unless terminationGracePeriodSeconds says more"),
        ([".dockerenv"], {}, "Docker kills after 10s unless stop_grace_period of Compose"),
        ([".dockerenv"], POD, "Kubernetes kills after 30s"),
        (["run/.containerenv"], {}, "Podman kills after 10s unless"),
        ([], {}, "a container's platform kills after 10s unless"),
    ],
)
def test_the_init_of_a_container_is_told_of_its_platforms_default(
    tmp_path: Path, marks: list[str], environment: dict[str, str], said: str
) -> None:
    (tmp_path / "run").mkdir()
    for mark in marks:
        (tmp_path / mark).touch()
    found = doubt(tmp_path, 60.0, **environment)
    assert found.startswith(said)
    assert (
        "a stop may take 1m29s (stop_timeout = 1m): set it to more, and PREFORKD_STOP_GRACE to the same time" in found
    )


def test_a_stop_that_fits_into_the_default_is_no_doubt(tmp_path: Path) -> None:
    assert doubt(tmp_path, 1.0, **POD) == ""
    assert doubt(tmp_path, 1.1, **POD) != ""


def test_a_process_that_is_no_init_is_not_the_one_that_the_platform_stops(tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()
    assert doubt(tmp_path, 600.0, pid=7, **POD) == ""


@pytest.mark.parametrize("grace", ["95s", "1m29s", "89", "89.5"])
def test_a_grace_that_is_told_and_long_enough_is_no_doubt(tmp_path: Path, grace: str) -> None:
    assert doubt(tmp_path, 60.0, PREFORKD_STOP_GRACE=grace, **POD) == ""


@pytest.mark.parametrize("pid", [1, 7])
def test_a_grace_that_is_told_and_too_short_is_named_with_the_figures(tmp_path: Path, pid: int) -> None:
    assert doubt(tmp_path, 60.0, pid, PREFORKD_STOP_GRACE="30s") == (
        "PREFORKD_STOP_GRACE = 30s: a stop may take 1m29s (stop_timeout = 1m); lower stop_timeout by 59s, or raise both"
    )


def test_a_grace_that_is_none_is_named(tmp_path: Path) -> None:
    assert doubt(tmp_path, 60.0, PREFORKD_STOP_GRACE="soon").startswith("PREFORKD_STOP_GRACE = soon: not a duration")


@pytest.mark.parametrize(
    ("timeout_s", "environment", "doubted"),
    [
        (60.0, {"SYSTEMD_EXEC_PID": "7"}, False),
        (62.0, {"SYSTEMD_EXEC_PID": "7"}, True),
        (62.0, {"SYSTEMD_EXEC_PID": "7", "NOTIFY_SOCKET": "/run/systemd/notify"}, False),
        (62.0, {"SYSTEMD_EXEC_PID": "8"}, False),
    ],
)
def test_systemd_cuts_off_only_a_service_that_cannot_ask_for_more_time(
    tmp_path: Path, timeout_s: float, environment: dict[str, str], doubted: bool
) -> None:
    found = doubt(tmp_path, timeout_s, pid=7, **environment)
    assert ("systemd kills after 1m30s unless TimeoutStopSec says more" in found) == doubted


@pytest.mark.parametrize(
    ("file", "setting"),
    [("kubernetes/statefulset.yaml", "terminationGracePeriodSeconds"), ("container/compose.yaml", "stop_grace_period")],
)
def test_the_shipped_manifests_tell_the_time_that_they_set(file: str, setting: str) -> None:
    text = (ROOT / "etc" / file).read_text()
    (given,) = re.findall(rf"^ +{setting}: (\d+)s? *(?:#.*)?$", text, re.MULTILINE)
    (told,) = re.findall(r"PREFORKD_STOP_GRACE(?:, value)?: (\d+)s", text)
    assert given == told
    assert stop_doubt(60.0, 29.0, 1, {"PREFORKD_STOP_GRACE": f"{told}s"}, Path("/")) == ""
