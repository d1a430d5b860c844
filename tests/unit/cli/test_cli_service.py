"""The printed unit is the shipped one, with the paths of the installation that prints it."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.cli.service import hidden, program, unit
from supervisor.master.stop.phases import Stop
from tests.support.source_tree import ROOT

SHIPPED = (ROOT / "etc" / "preforkd.service").read_text()
CONFIG = Path("/etc/preforkd/preforkd.toml")


def settings(text: str) -> dict[str, str]:
    """The unit's settings; the last one of a name."""
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def seconds(text: str) -> float:
    """`90s` -> 90."""
    return float(text.removesuffix("s"))


def test_the_unit_in_etc_is_what_an_installation_in_opt_prints() -> None:
    assert unit("/opt/preforkd/bin/preforkd", CONFIG) == SHIPPED


def test_program_and_configuration_are_those_of_the_installation() -> None:
    text = unit("/srv/env/bin/preforkd", Path("/srv/app.toml"))

    assert "ExecStart=/srv/env/bin/preforkd run\n" in text
    assert "ExecReload=/srv/env/bin/preforkd reload\n" in text
    assert "Environment=PREFORKD_CONFIG=/srv/app.toml\n" in text
    assert "/opt/preforkd/bin" not in text
    assert "/etc/preforkd/preforkd.toml" not in text


def test_the_unit_calls_us_as_we_were_called_and_keeps_links(tmp_path: Path) -> None:
    (tmp_path / "preforkd-1.0" / "bin").mkdir(parents=True)
    (tmp_path / "current").symlink_to("preforkd-1.0")
    called = tmp_path / "current" / "bin" / "preforkd"

    assert program(called, Path("/usr/bin/python3")) == str(called)
    assert program(Path("/x/supervisor/__main__.py"), Path("/usr/bin/python3")) == "/usr/bin/python3 -P -m supervisor"


def test_what_lies_in_a_home_directory_is_named() -> None:
    visible, at_home, of_root = Path("/opt/preforkd"), Path("/home/ann/env"), Path("/root/.pyenv/bin/python3")

    assert hidden([visible, at_home, of_root]) == [at_home, of_root]


def test_systemd_waits_longer_than_a_drain_may_take() -> None:
    stop = Stop("systemctl stop", 0.0, 60.0)  # 60 s: the default of stop_timeout

    assert seconds(settings(SHIPPED)["TimeoutStopSec"]) > stop.deadline_s


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("Type", "notify", "a start is over when there are workers that consume"),
        ("KillMode", "mixed", "SIGTERM to workers would end handlers' own programs in mid-message"),
        ("OOMPolicy", "continue", "one worker killed by the kernel must not stop the others"),
        ("Restart", "on-failure", "a killed master must come back, a stopped one must not"),
        ("RestartPreventExitStatus", "78", "a bad configuration stays bad"),
        ("NotifyAccess", "main", "no handler's program may speak for the daemon"),
        ("User", "preforkd", "nothing needs root"),
    ],
)
def test_what_the_unit_promises(name: str, value: str, why: str) -> None:
    assert settings(SHIPPED)[name] == value, why
