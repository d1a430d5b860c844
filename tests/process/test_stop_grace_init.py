"""preforkd as the init of a pid namespace, as in a container: what its log and `check` say of the platform's time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.site import Site, make_site

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a namespace")]

DOUBT = "Kubernetes kills after 30s unless terminationGracePeriodSeconds says more, and a stop may take 49s"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Its stop_timeout is 20 s."""
    with make_site(tmp_path) as made:
        made.environment["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
        yield made


def as_init(site: Site, *words: str, **environment: str) -> str:
    """What a command says that is pid 1; `run` fails there, after it has said what it has to say."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", *site.command(*words)]
    variables = site.environment | environment
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_the_log_of_a_start_names_a_grace_that_is_too_short(site: Site) -> None:
    (site.folder / "site_handler.py").write_text("import no_such_module_anywhere\n")

    assert DOUBT in as_init(site, "run")
    assert DOUBT not in as_init(site, "run", PREFORKD_STOP_GRACE="50s")


def test_check_names_it_too(site: Site) -> None:
    assert f"warning  daemon.stop_timeout: {DOUBT}" in as_init(site, "check")
    assert "PREFORKD_STOP_GRACE = 40s: a stop may take 49s" in as_init(site, "check", PREFORKD_STOP_GRACE="40s")
    assert "warning  daemon.stop_timeout" not in site.ok("check"), "not the init"
