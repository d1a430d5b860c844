"""The memory limit of a real cgroup, as `check` and `scale` see it of a daemon that runs in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.memory_groups import memory_group
from tests.support.site import Site, make_site

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="making a cgroup needs root")]

LIMIT_MIB = 300


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Site]:
    """A site whose daemon runs in the group; the test and its commands run outside."""
    with memory_group(LIMIT_MIB << 20) as group, make_site(tmp_path) as site:
        start = ["sh", "-c", f'ulimit -n 256; echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *site.command("start")]
        subprocess.run(start, env=site.environment, check=True, timeout=60, capture_output=True)
        yield site


def test_check_names_the_limit_of_the_running_daemon(limited: Site) -> None:
    said = limited.ok("check")

    assert "all workers at max_memory need 256MiB (1 x 256MiB), and preforkd's own processes about 56MiB" in said
    assert f"has {LIMIT_MIB}MiB: lower workers or max_memory" in said
    assert "pools.mail.kill_memory: 1GiB: the container or service (/sys/fs/cgroup/" in said


@pytest.mark.parametrize(("answer", "why"), [("n\n", "the answer was no"), ("", "--yes asks nothing")])
def test_scale_asks_before_workers_that_do_not_fit(limited: Site, answer: str, why: str) -> None:
    done = limited.cli("scale", "mail", "900", stdin=answer)

    assert "899 more worker(s) of pool mail need about " in done.stdout
    assert f"left of {LIMIT_MIB}MiB. Start them?" in done.stdout
    assert done.returncode == 130
    assert "nothing was changed" in done.stderr
    assert why in done.stderr
    assert len(limited.status()["pools"]["mail"]["workers"]) == 1


def test_scale_asks_nothing_where_they_fit_or_that_is_said(limited: Site) -> None:
    assert "1 -> 2 workers" in limited.ok("scale", "mail", "2")
    assert "2 -> 1 workers" in limited.ok("scale", "mail", "1", "--yes")


def test_after_a_yes_the_daemon_gets_the_order(limited: Site) -> None:
    """It refuses this one, for its descriptors."""
    done = limited.cli("scale", "mail", "900", stdin="y\n")

    assert "Start them? [y/N]" in done.stdout
    assert done.returncode == 1
    assert "ulimit -n" in done.stderr
