"""Commands on a read-only root without /tmp, as in a hardened container: only the daemon's folders can be written."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.site import Site
from tests.support.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")]

_HIDE = (
    "mount --make-rprivate / && mount --bind {folder} /mnt && mount -o remount,bind,ro / && "
    "for place in /tmp /var/tmp /dev/shm; do mount -t tmpfs -o ro,size=4k none $place || exit 1; done; "
    '{more} cd / && exec "$@"'
)
"""Run by a shell of its own mount namespace: nothing can be written but below /mnt."""


def without_tmp(site: Site, *words: str, more: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `site` to its end, with the site's folder at /mnt."""
    command = [word.replace(str(site.folder), "/mnt") for word in site.command(*words)]
    kept = {name: value for name, value in site.environment.items() if name != "TMPDIR"}
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", _HIDE.format(folder=site.folder, more=more), "sh", *command],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


NOTHING = "mount -o remount,bind,ro /mnt;"


def make_state(site: Site) -> None:
    for name in ("state", "run"):
        (site.folder / name).mkdir(mode=0o700)


def test_check_tries_the_handler_in_the_daemons_own_folder(site: Site) -> None:
    make_state(site)
    done = without_tmp(site, "check")
    assert "ok       pools.mail.handler: site_handler:run imports in " in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
    assert list((site.folder / "state").iterdir()) == list((site.folder / "run").iterdir()) == []


def test_check_before_the_first_start_has_the_folder_around(site: Site) -> None:
    done = without_tmp(site, "check")
    assert "ok       pools.mail.handler: site_handler:run imports in " in done.stdout, done.stdout + done.stderr
    assert not list(site.folder.glob("preforkd-check-*"))


def test_check_says_what_to_do_where_nothing_can_be_written(site: Site) -> None:
    done = without_tmp(site, "check", more=NOTHING)
    assert "no folder for the test of the handler: no file can be written in $TMPDIR, /tmp, " in done.stdout
    assert ", /mnt/run, /mnt, /mnt/state, /mnt; name one in TMPDIR" in done.stdout
    assert "bug in preforkd" not in done.stdout + done.stderr
    assert done.returncode == 1


def test_a_drill_runs_in_the_daemons_own_folder(site: Site) -> None:
    make_state(site)
    done = without_tmp(site, "drill", "--messages", "200", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "folder /mnt/run/preforkd-drill-" in done.stdout
    assert list((site.folder / "run").iterdir()) == []


def test_a_drill_without_any_folder_says_what_to_do(site: Site) -> None:
    done = without_tmp(site, "drill", more=NOTHING)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no folder for the drill: no file can be written in $TMPDIR, /tmp, ")
    assert done.stderr.endswith("name one in TMPDIR\n")


def test_why_reads_the_ledger_of_a_killed_daemon(site: Site) -> None:
    """Its -wal file has rows, so a copy of both is read."""
    site.ok("start")
    site.ok("publish", "mail", "--id-prefix", "m", stdin="x\n")
    site.wait_for_counter("done", 1)
    os.kill(site.status()["pid"], 9)
    eventually(lambda: not site.processes(), "the daemon's children have gone with it")
    assert (site.folder / "state/pools/mail/ledger.db-wal").stat().st_size

    done = without_tmp(site, "why", "m0")

    assert "message  m0, queue mail: done" in done.stdout, done.stdout + done.stderr
