"""A limit of file size (RLIMIT_FSIZE, SIGXFSZ) for the master: it goes on, and what it could not write is not lost."""

from __future__ import annotations

import resource
from pathlib import Path

from tests.support.site import make_site
from tests.support.waiting import eventually


def test_a_master_at_its_limit_of_file_size_goes_on_and_writes_its_records_later(tmp_path: Path) -> None:
    with make_site(tmp_path) as site:
        site.ok("start")
        master = site.status()["pid"]
        former = resource.prlimit(master, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        for number in range(3):
            site.ok("publish", "mail", "--id-prefix", f"m{number}-", stdin="crash\n")
            site.wait_for_counter("dead", number + 1)
        assert site.exits() == [], "none could be written"
        eventually(lambda: "exit records cannot be written" in site.log_path.read_text(), "the log says so")
        assert site.status()["pid"] == master, "SIGXFSZ ends no master"
        resource.prlimit(master, resource.RLIMIT_FSIZE, former)
        eventually(lambda: len(site.exits()) == 3, "they are written once the limit is gone")
        assert {record["cause"] for record in site.exits()} == {"crash"}
        site.ok("stop")
