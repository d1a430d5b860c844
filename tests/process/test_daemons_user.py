"""What `init`, `check` and `service` of root do for the user that the daemon has: real files, a real other user."""

from __future__ import annotations

import grp
import os
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from supervisor.config.load import load
from tests.support.nobody import NOBODY, a_public_folder, needs_root, public_path, public_python

pytestmark = [pytest.mark.root, needs_root]

AS_ANOTHER = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")
CONFIG = """
[daemon]
state_dir = "{state}"
runtime_dir = "/run/preforkd-of-a-test"
user = "nobody"
env_file = "env"
[broker]
url_file = "url"
tls = {{ ca_file = "ca.pem" }}
[web]
token_file = "token"
[pools.email]
queue = "email"
handler = "myapp.email:send"
init = "prepare:connect"
path = ["code"]
"""


class Desk:
    """A folder of root's with a configuration, the files named in it, and code; all of it as it should be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "preforkd.toml"
        self.package = folder / "code" / "myapp"
        self.package.mkdir(parents=True)
        secrets = {
            "url": "amqp://user:secret-word@127.0.0.1:1/",
            "token": "0123456789abcdef",
            "env": "A=1\n",
            "ca.pem": "",
        }
        for name, text in {**secrets, "preforkd.toml": CONFIG.format(state=folder / "state")}.items():
            (folder / name).write_text(text)
            os.chown(folder / name, 0, grp.getgrnam("nogroup").gr_gid)
            (folder / name).chmod(0o640)
        (folder / "code" / "prepare.py").write_text("def connect(): ...\n")
        (self.package / "__init__.py").touch()
        (self.package / "email.py").write_text("def send(message): ...\n")
        for path in (folder / "code").rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (folder / "code").chmod(0o755)

    def preforkd(self, *arguments: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run preforkd in the folder, with a Python that every user may run."""
        return subprocess.run(
            [*prefix, public_python(), "-P", "-m", "supervisor", *arguments],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": public_path(), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def faults(self) -> dict[str, str]:
        """The errors of `check` by subject, those of the broker left out: there is none."""
        found = self.preforkd("--config", str(self.config), "check")
        lines = [line.removeprefix("error    ") for line in found.stdout.splitlines() if line.startswith("error ")]
        told = dict(line.split(": ", 1) for line in lines)
        told.pop("broker.url", None)
        return told

    def change(self, old: str, new: str) -> None:
        """Change the configuration."""
        self.config.write_text(self.config.read_text().replace(old, new))


@pytest.fixture
def desk() -> Iterator[Desk]:
    with a_public_folder() as folder:
        yield Desk(folder.resolve())


# ---- check ----------------------------------------------------------------------------------------------------------

Case = tuple[Callable[[Desk], object], str, str]

CLOSED: dict[str, Case] = {
    "the configuration": (lambda desk: desk.config.chmod(0o600), "{folder}/preforkd.toml", "chmod g+r"),
    "a configuration of root's group": (
        lambda desk: os.chown(desk.config, 0, 0),
        "{folder}/preforkd.toml",
        "chgrp nogroup {folder}/preforkd.toml && chmod g+r",
    ),
    "url_file": (lambda desk: os.chown(desk.folder / "url", 0, 0), "broker.url_file", "chgrp nogroup {folder}/url"),
    "ca_file": (lambda desk: os.chown(desk.folder / "ca.pem", 0, 0), "broker.tls.ca_file", "chgrp nogroup"),
    "token_file": (lambda desk: os.chown(desk.folder / "token", 0, 0), "web.token_file", "chgrp nogroup"),
    "env_file": (lambda desk: os.chown(desk.folder / "env", 0, 0), "daemon.env_file", "chgrp nogroup"),
    "a handler's module": (
        lambda desk: (desk.package / "email.py").chmod(0o600),
        "pools.email.handler",
        "chmod -R o+rX {folder}/code/myapp",
    ),
    "a handler's package": (
        lambda desk: desk.package.chmod(0o700),
        "pools.email.handler",
        "chmod -R o+rX {folder}/code/myapp",
    ),
    "the module of init": (
        lambda desk: (desk.folder / "code" / "prepare.py").chmod(0o600),
        "pools.email.handler",
        "chmod o+r {folder}/code/prepare.py",
    ),
    "the folder of the code": (
        lambda desk: (desk.folder / "code").chmod(0o700),
        "pools.email.handler",
        "chmod o+rx {folder}/code",
    ),
}


def test_check_finds_no_fault_where_there_is_none(desk: Desk) -> None:
    assert desk.faults() == {}


@pytest.mark.parametrize("case", CLOSED)
def test_check_names_a_closed_file_and_its_command_mends_it(desk: Desk, case: str) -> None:
    close, subject, command = CLOSED[case]
    close(desk)

    told = desk.faults()

    assert list(told) == [subject.format(folder=desk.folder)]
    (text,) = told.values()
    assert "user nobody may not " in text
    assert command.format(folder=desk.folder) in text
    subprocess.run(["sh", "-ec", text.rpartition(": ")[2].partition(", or keep it")[0]], check=True)
    assert desk.faults() == {}


def test_a_closed_folder_above_the_code_is_named_once(desk: Desk) -> None:
    below = desk.folder / "home"
    below.mkdir(mode=0o700)
    shutil.move(desk.folder / "code", below / "code")
    desk.change('path = ["code"]', 'path = ["home/code"]')

    (text,) = desk.faults().values()

    assert f"user nobody may not pass {below}, which leads to {below}/code: chmod o+x {below}" in text
    assert "or keep it elsewhere (/opt, /srv, /etc)" in text


def test_a_user_that_does_not_exist_is_named_with_the_command_that_makes_it(desk: Desk) -> None:
    desk.change('"nobody"', '"no-such-user"')
    assert "useradd --system no-such-user" in desk.faults()["daemon.user"]


def test_the_state_directory_is_one_that_a_start_makes(desk: Desk) -> None:
    found = desk.preforkd("--config", str(desk.config), "check").stdout
    assert f"ok       daemon.state_dir: {desk.folder}/state will be made at the start" in found


# ---- service --------------------------------------------------------------------------------------------------------


def settings(unit: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))


def service(desk: Desk, *prefix: str) -> tuple[dict[str, str], str]:
    """The printed unit's settings, and the warnings about anything but the directories of a test."""
    done = desk.preforkd("--config", str(desk.config), "service", prefix=prefix)
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines(keepends=True) if "_dir: the unit can only read" not in line]
    return settings(done.stdout), "".join(warnings)


def test_the_unit_runs_as_the_configured_user_and_group(desk: Desk) -> None:
    unit, warnings = service(desk)
    assert ((unit["User"], unit["Group"]), warnings) == (("nobody", "nogroup"), "")
    desk.change('"nobody"', '"nobody"\ngroup = "daemon"')
    assert service(desk)[0]["Group"] == "daemon"


def test_without_a_user_the_unit_has_its_own_which_has_to_exist(desk: Desk) -> None:
    desk.change('user = "nobody"', "")
    unit, warnings = service(desk)
    assert (unit["User"], unit["Group"]) == ("preforkd", "preforkd")
    assert "there is no user 'preforkd'; make it (useradd --system preforkd)" in warnings


def test_service_warns_of_what_the_user_cannot_read(desk: Desk) -> None:
    desk.config.chmod(0o600)
    (desk.package / "email.py").chmod(0o600)

    warnings = service(desk)[1]

    assert f"warning: {desk.config}: user nobody may not read it: chmod g+r {desk.config}\n" in warnings
    assert f"warning: pools.email.handler: {desk.package}/email.py: user nobody may not read it: chmod -R" in warnings


def test_a_credential_of_systemd_need_not_be_readable(desk: Desk) -> None:
    desk.change('url_file = "url"', f'url_file = "${{CREDENTIALS_DIRECTORY:-{desk.folder}}}/url"')
    os.chown(desk.folder / "url", 0, 0)
    assert service(desk)[1] == ""
    assert desk.faults() == {}


def test_service_warns_of_directories_that_the_unit_cannot_write_to(desk: Desk) -> None:
    desk.change(str(desk.folder / "state"), "/srv/state")
    found = desk.preforkd("--config", str(desk.config), "service").stderr
    assert "daemon.state_dir: the unit can only read /srv/state: make it, and add ReadWritePaths=/srv/state" in found


def test_a_missing_configuration_is_told_with_its_remedy(desk: Desk) -> None:
    desk.config.unlink()
    assert f"warning: {desk.config}: file: there is no such file (`preforkd init` writes one)" in service(desk)[1]


def test_a_linked_configuration_stays_a_link_in_the_unit(desk: Desk) -> None:
    link = desk.folder / "current.toml"
    link.symlink_to(desk.config)
    desk.config.chmod(0o600)
    desk.config = link

    unit, warnings = service(desk)

    assert unit["Environment"] == f"PREFORKD_CONFIG={link}"
    assert f"user nobody may not read {desk.folder}/preforkd.toml, which leads to {link}: chmod g+r" in warnings


def test_another_user_is_told_that_only_root_can_try(desk: Desk) -> None:
    desk.change('"nobody"', '"daemon"')
    unit, warnings = service(desk, *AS_ANOTHER)
    assert unit["User"] == "daemon"
    assert "only root can test which files user daemon may read" in warnings


# ---- init -----------------------------------------------------------------------------------------------------------


def owned(path: Path) -> tuple[int, str, int]:
    found = path.stat()
    return found.st_uid, grp.getgrgid(found.st_gid).gr_name, stat.S_IMODE(found.st_mode)


def test_init_gives_the_file_to_the_users_group_whatever_the_umask(desk: Desk) -> None:
    arguments = ("init", "new/deep/preforkd.toml", "--user", "nobody")
    done = desk.preforkd(*arguments, prefix=("sh", "-c", 'umask 077; exec "$@"', "sh"))

    assert done.returncode == 0, done.stderr
    new = desk.folder / "new/deep/preforkd.toml"
    assert owned(new) == (0, "nogroup", 0o640)
    assert owned(new.parent) == (0, "nogroup", 0o750)
    assert load(str(new)).daemon.user == "nobody"
    read = subprocess.run([*AS_ANOTHER, "cat", str(new)], capture_output=True)
    assert read.returncode == 0, read.stderr


def test_init_twice_replaces_nothing_unless_forced_and_then_keeps_the_group(desk: Desk) -> None:
    desk.config.write_text("mine")
    again = desk.preforkd("init", "--user", "nobody")
    assert (again.returncode, desk.config.read_text()) == (1, "mine")
    assert "is there already; --force replaces it" in again.stderr
    assert desk.preforkd("init", "--user", "nobody", "--force").returncode == 0
    assert owned(desk.config) == (0, "nogroup", 0o640)


def test_init_says_what_a_service_needs_where_its_user_is_missing(desk: Desk) -> None:
    done = desk.preforkd("init", "alone.toml")
    assert done.returncode == 0
    assert not re.search(r"^user", (desk.folder / "alone.toml").read_text(), re.MULTILINE)
    assert "useradd --system --home-dir /var/lib/preforkd --shell /usr/sbin/nologin preforkd" in done.stderr


def test_init_refuses_users_that_it_cannot_serve(desk: Desk) -> None:
    unknown = desk.preforkd("init", "x.toml", "--user", "no-such-user")
    assert (unknown.returncode, "useradd --system no-such-user" in unknown.stderr) == (1, True)
    ordinary = desk.preforkd("init", "x.toml", "--user", "nobody", prefix=AS_ANOTHER)
    assert (ordinary.returncode, "--user is for root" in ordinary.stderr) == (2, True)
    assert not (desk.folder / "x.toml").exists()


def test_the_command_of_a_message_is_one_for_a_shell(desk: Desk) -> None:
    """Also where a name is odd."""
    odd = desk.folder / "it's here"
    shutil.move(desk.folder / "code", odd)
    odd.chmod(0o700)
    desk.change('path = ["code"]', 'path = ["it\'s here"]')
    text = desk.faults()["pools.email.handler"]
    assert shlex.split(text.rpartition(": ")[2]) == ["chmod", "o+rx", str(odd)]
