"""The pages that lead from nothing to a running service, typed word for word on a bare machine with a real systemd."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import Machine, booted_machine
from tests.support.pages import blocks
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

CHECKOUT = "/share/checkout"
PREFORKD = "/opt/preforkd/bin/preforkd"
CONFIG = "/etc/preforkd/preforkd.toml"
UNIT = "preforkd.service"
_NOT_IN_A_CHECKOUT = shutil.ignore_patterns(".git", ".venv*", "*.egg-info", "build", "dist", "__pycache__", ".*_cache")
_BLANKS_AND_COMMENT = re.compile(r"\s+# .*$")


class Typed:
    """A page's lines as they were typed on `machine`, each with its output; the first that fails ends the test."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.said: dict[str, str] = {}
        shutil.copytree(ROOT, machine.share / "checkout", ignore=_NOT_IN_A_CHECKOUT, symlinks=True)

    def types(self, line: str) -> str:
        """Type a line, wait until a message that it has published is done, and give back the output."""
        done = self.machine.types(line, CHECKOUT)
        evidence = self.machine.run("journalctl", "--no-pager", "--lines=40", "--unit", UNIT).stdout
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}\n{evidence}"
        self.said[_BLANKS_AND_COMMENT.sub("", line)] = done.stdout + done.stderr
        if " publish " in line:
            eventually(lambda: " 1 done" in self.show("StatusText"), "the message is done")
        return done.stdout

    def types_all(self, page: str, *titles: str) -> None:
        """Type all lines of the first shell block below each of these titles."""
        text = (ROOT / page).read_text()
        for title in titles:
            line_of_title = text[: text.index(f"\n{title}\n")].count("\n") + 2
            block = next(block for block in blocks(ROOT / page, "sh") if block.line > line_of_title)
            for line in filter(None, block.text.splitlines()):
                self.types(line)

    def show(self, name: str) -> str:
        """A property of the unit."""
        return self.machine.ok("systemctl", "show", "--value", "--property", name, UNIT).strip()

    def journal(self, *matches: str) -> list[str]:
        """The texts of the unit's entries since it was last started."""
        invocation = f"_SYSTEMD_INVOCATION_ID={self.show('InvocationID')}"
        lines = self.machine.ok("journalctl", "--output=json", "--no-pager", invocation, *matches).splitlines()
        return [json.loads(line)["MESSAGE"] for line in lines]

    def called(self, words: str) -> str:
        """The output of the line that has these words."""
        return next(said for line, said in self.said.items() if words in line)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typed]:
    """A machine on which docs/operations.md was typed, up to its `systemctl stop`."""
    with booted_machine(tmp_path_factory.mktemp("operations"), bare=True) as machine:
        typed = Typed(machine)
        typed.types_all("docs/operations.md", "## Install", "### As a systemd service")
        yield typed


# ---- word for word ------------------------------------------------------------------------------------------------


def test_the_page_of_operations_leads_to_a_service_that_runs_a_message(installed: Typed) -> None:
    assert f"wrote {CONFIG}" in installed.called(" init ")
    assert installed.called(" check").endswith("0 error(s), 0 warning(s)\n")
    assert installed.called(" service ") == "", "the unit is in its file, and there is nothing to warn of"
    assert installed.called(" publish ") == "published 1 message(s) to default\n"
    status = installed.called("systemctl status")
    assert "Active: active (running)" in status
    assert 'Status: "default: 2/2 workers, 1 done' in status
    journal = installed.journal()
    assert any("hello" in text for text in journal)
    assert any(text.startswith("reload") for text in journal), journal
    assert (installed.show("ActiveState"), installed.show("Result")) == ("inactive", "success")


def test_the_readme_leads_to_a_service_that_runs_a_message(tmp_path: Path) -> None:
    with booted_machine(tmp_path, bare=True) as machine:
        typed = Typed(machine)
        typed.types_all("README.md", "## As a service")

        assert typed.called(" check").endswith("0 error(s), 0 warning(s)\n")
        assert typed.show("ActiveState") == "active"
        assert typed.called(" why ")
        assert any("hello" in text for text in typed.journal())
        machine.ok("systemctl", "stop", UNIT)
        assert typed.show("Result") == "success"


def test_the_documented_exposure_is_the_measured_one(installed: Typed) -> None:
    documented = re.search(
        r"systemd-analyze security preforkd` of systemd (\d+) gives ([\d.]+) of 10",
        (ROOT / "docs/operations.md").read_text(),
    )
    assert documented is not None
    table = installed.machine.ok("systemd-analyze", "security", "--no-pager", UNIT)
    print(table)  # noqa: T201
    measured = re.search(r"Overall exposure level for \S+: ([\d.]+)", table)
    assert measured is not None
    if f"systemd {documented[1]} " not in installed.machine.ok("systemctl", "--version"):
        assert float(measured[1]) <= 2.5, "another release counts otherwise"
        return
    assert measured[1] == documented[2]


def test_what_init_writes_is_roots_and_its_group_reads_it(installed: Typed) -> None:
    stat = ("stat", "--format=%U:%G %a")
    assert installed.machine.ok(*stat, "/etc/preforkd", CONFIG).splitlines() == [
        "root:preforkd 750",
        "root:preforkd 640",
    ]


# ---- what goes wrong ----------------------------------------------------------------------------------------------


def mended_by_its_own_words(installed: Typed, told: str) -> None:
    """Type the command that stands behind the last `: ` or in brackets of a line, and start the service."""
    command = told.rpartition("(")[2].rstrip(")") if told.endswith(")") else told.rpartition(": ")[2]
    installed.types(command)
    installed.types("systemctl reset-failed preforkd")  # systemd counts starts: these tests make many
    installed.types("systemctl start preforkd")
    assert installed.show("ActiveState") == "active"
    installed.types("systemctl stop preforkd")


@pytest.mark.parametrize(
    ("damage", "closed"),
    [
        (f"chgrp root {CONFIG}", CONFIG),
        (f"chmod 600 {CONFIG}", CONFIG),
        ("chmod 700 /etc/preforkd", "/etc/preforkd"),
    ],
)
def test_a_configuration_that_the_user_cannot_read_is_told_with_its_remedy(
    installed: Typed, damage: str, closed: str
) -> None:
    installed.types(damage)

    assert installed.machine.types("systemctl start preforkd", CHECKOUT).returncode != 0

    assert (installed.show("ExecMainStatus"), installed.show("NRestarts")) == ("78", "0")
    told = next(text for text in installed.journal("PRIORITY=3") if "cannot be read" in text)
    assert f"user preforkd may not {'pass' if closed == '/etc/preforkd' else 'read'} " in told
    assert closed in told
    (advice,) = installed.journal("PRIORITY=5", "_COMM=preforkd")
    assert "systemd does not start this service again after exit status 78" in advice
    checked = installed.machine.types(f"{PREFORKD} --config {CONFIG} check", CHECKOUT)
    assert checked.returncode == 78
    assert f"error    {CONFIG}: user preforkd may not" in checked.stdout
    printed = installed.machine.types(f"{PREFORKD} service", CHECKOUT)
    assert f"warning: {CONFIG}: user preforkd may not" in printed.stderr
    mended_by_its_own_words(installed, told)


def test_an_environment_of_a_closed_umask_is_named_before_the_service_fails(installed: Typed) -> None:
    installed.types("chmod -R go-rwx /opt/preforkd-0.1.0")

    checked = installed.machine.types(f"{PREFORKD} --config {CONFIG} check", CHECKOUT)

    assert checked.returncode != 0
    told = next(line for line in checked.stdout.splitlines() if line.startswith("error    python: "))
    assert "chmod -R o+rX /opt/preforkd-0.1.0" in told
    mended_by_its_own_words(installed, told.partition(", or keep it")[0])


def test_a_file_without_a_user_is_tried_as_the_units_user_too(installed: Typed) -> None:
    other = "/etc/preforkd/other.toml"
    installed.types(f"sed '/^user = /d' {CONFIG} > {other} && chmod 600 {other}")

    checked = installed.machine.types(f"{PREFORKD} --config {other} check", CHECKOUT).stdout

    assert "warning  daemon.user: handlers will run as root" in checked
    told = "the unit of `preforkd service` runs as preforkd: user preforkd may not read it: chgrp preforkd"
    assert f"warning  {other}: {told} {other} && chmod g+r {other}" in checked
