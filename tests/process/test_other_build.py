"""Another build of preforkd is put on disk under a running daemon: it is refused by name, and nothing else happens."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.errors import ControlError
from tests.support.daemon import cleaned_up
from tests.support.replaced import Replaced
from tests.support.waiting import eventually

REFUSED = "preforkd on disk is another one"


@pytest.fixture
def replaced(tmp_path: Path) -> Iterator[Replaced]:
    under_test = Replaced(tmp_path)
    under_test.deploy("one")
    with cleaned_up(under_test, start=True):
        yield under_test


def swap_two_fields(replaced: Replaced) -> None:
    fields = ["    slot: Number\n", "    generation: Number\n", "    pid: Pid\n"]
    told = '    """The worker is forked; the process is now the master\'s own child."""\n\n'
    replaced.change("link/frames.py", told + "".join(fields), told + "".join([fields[1], fields[0], fields[2]]))


def add_a_field(replaced: Replaced) -> None:
    replaced.change("link/frames.py", "    seconds: Seconds\n", "    seconds: Seconds\n    loaded: int = 0\n")


def rename_a_frame(replaced: Replaced) -> None:
    for path in ("link/frames.py", "master/pool/reports.py", "forkserver/__main__.py"):
        replaced.change(path, "Imported", "Brought")


def change_a_setting(replaced: Replaced) -> None:
    replaced.change("config/schema.py", "    hold_retry_s: float = 60.0\n", '    hold_retry_s: str = "60"\n')


def rename_the_first_frame(replaced: Replaced) -> None:
    for path in replaced.tree.rglob("*.py"):
        path.write_text(path.read_text().replace("StartForkserver", "StartForking"))


@pytest.mark.parametrize(
    "change", [swap_two_fields, add_a_field, rename_a_frame, change_a_setting, rename_the_first_frame]
)
def test_a_reload_to_another_build_is_refused_by_name_and_the_daemon_goes_on(
    replaced: Replaced, change: object
) -> None:
    before, connection = replaced.specs(), replaced.connection()
    change(replaced)  # type: ignore[operator]
    with pytest.raises(ControlError, match=REFUSED) as refusal:
        replaced.reload()
    assert re.search(r"release \S+, frames [0-9a-f]{8}\).*preforkd restart", str(refusal.value))
    replaced.send("x", message_id="m")
    eventually(lambda: replaced.runs() == {"m": "one"}, "the old code goes on")
    assert (replaced.specs(), replaced.connection()) == (before, connection)
    assert {exit_["cause"] for exit_ in replaced.exits(kind="forkserver")} == {"boot_failed"}


def test_a_consumer_of_another_build_is_not_put_to_work_and_status_says_why(replaced: Replaced) -> None:
    workers = replaced.specs()
    swap_two_fields(replaced)
    os.kill(replaced.connection()[0], signal.SIGKILL)
    eventually(lambda: REFUSED in replaced.pool()["consumer"]["why"], "status says why")
    assert replaced.specs() == workers
    assert replaced.stop() == 0
