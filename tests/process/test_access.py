"""What keeps a user from a file is found with that user's rights, and the command that is told opens it."""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.errors import StateError
from supervisor.system.access import obstacle
from supervisor.system.accounts import Account, account_of, acting_as, own_account

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")]

UID, GID, FURTHER = 12345, 12346, 12347
THEM = Account(UID, GID, [GID, FURTHER])


@pytest.fixture
def file() -> Iterator[Path]:
    """`way/file` in a folder that all users may pass; root's, and readable for all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        (folder / "way").mkdir(mode=0o755)
        (folder / "way" / "file").write_text("text")
        (folder / "way" / "file").chmod(0o644)
        yield folder / "way" / "file"


def given(path: Path, uid: int, gid: int, mode: int) -> None:
    os.chown(path, uid, gid)
    path.chmod(mode)


def access_list(path: Path, uid: int, right: int) -> None:
    """One entry for a user beside the mode, as `setfacl -m u:UID:RIGHT` makes it (acl(5), version 2)."""
    entries = [(0x01, 6, -1), (0x02, right, uid), (0x04, 4, -1), (0x10, 7, -1), (0x20, 4, -1)]
    packed = b"".join(struct.pack("<HHI", tag, bits, who & 0xFFFFFFFF) for tag, bits, who in entries)
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)


# ---- what stands in the way ----------------------------------------------------------------------------------------

Case = tuple[Callable[[Path], None], str, str]

CLOSED: dict[str, Case] = {
    "root's own file": (lambda file: file.chmod(0o600), "may not read it", "chmod o+r {file}"),
    "a file of the group, closed to it": (
        lambda file: given(file, 0, GID, 0o604),
        "may not read it",
        "chmod g+r {file}",
    ),
    "a file of a further group, closed to it": (
        lambda file: given(file, 0, FURTHER, 0o604),
        "may not read it",
        "chmod g+r {file}",
    ),
    "the user's own file, closed to itself": (
        lambda file: given(file, UID, 0, 0o044),
        "may not read it",
        "chmod u+r {file}",
    ),
    "a folder on the way": (
        lambda file: file.parent.chmod(0o700),
        "may not pass {way}, which leads to {file}",
        "chmod o+x {way}",
    ),
    "a folder that only lists": (
        lambda file: file.parent.chmod(0o744),
        "may not pass {way}, which leads to {file}",
        "chmod o+x {way}",
    ),
    "a folder of the group, closed to it": (
        lambda file: given(file.parent, 0, GID, 0o705),
        "may not pass {way}, which leads to {file}",
        "chmod g+x {way}",
    ),
}


@pytest.mark.parametrize("case", CLOSED)
def test_a_closed_place_is_named_and_the_command_opens_it(file: Path, case: str) -> None:
    close, told, command = CLOSED[case]
    close(file)
    named = {"file": str(file), "way": str(file.parent)}

    found = obstacle(file, "r", THEM)

    assert found is not None
    assert (str(found), found.command()) == (f"user {UID} {told.format(**named)}", command.format(**named))
    subprocess.run(["sh", "-ec", found.command()], check=True)
    assert obstacle(file, "r", THEM) is None


OPEN: dict[str, Callable[[Path], None]] = {
    "a file for all": lambda file: None,
    "a file of the primary group": lambda file: given(file, 0, GID, 0o640),
    "a file of a further group": lambda file: given(file, 0, FURTHER, 0o640),
    "the user's own file": lambda file: given(file, UID, 0, 0o400),
    "a folder that can only be passed": lambda file: file.parent.chmod(0o711),
    "a folder of a further group": lambda file: given(file.parent, 0, FURTHER, 0o710),
}


@pytest.mark.parametrize("case", OPEN)
def test_an_open_file_has_no_obstacle(file: Path, case: str) -> None:
    OPEN[case](file)
    assert obstacle(file, "r", THEM) is None


def test_an_access_list_counts_in_both_directions(file: Path) -> None:
    file.chmod(0o640)
    access_list(file, UID, 4)
    assert obstacle(file, "r", THEM) is None
    access_list(file, UID, 0)
    file.chmod(0o644)

    found = obstacle(file, "r", THEM)

    assert found is not None
    assert found.command() == f"setfacl -m u:{UID}:r {file}", "the mode gives what the list refuses"


def test_links_are_followed_to_what_is_closed(file: Path) -> None:
    link = file.parents[1] / "link"
    link.symlink_to("way/../way/file")
    assert obstacle(link, "r", THEM) is None
    file.chmod(0o600)
    assert str(obstacle(link, "r", THEM)) == f"user {UID} may not read {file}, which leads to {link}"
    file.parent.chmod(0o700)
    assert str(obstacle(link, "r", THEM)) == f"user {UID} may not pass {file.parent}, which leads to {link}"


def test_a_secret_is_given_to_the_users_group_alone(file: Path) -> None:
    file.chmod(0o600)

    found = obstacle(file, "r", THEM)

    assert found is not None
    assert found.command(secret=True) == f"chgrp {GID} {file} && chmod g+r {file}"
    subprocess.run(["sh", "-ec", found.command(secret=True)], check=True)
    assert obstacle(file, "r", THEM) is None
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_closed_tree_is_opened_as_a_whole(file: Path) -> None:
    (file.parent / "more").mkdir(mode=0o700)
    (file.parent / "more" / "file").touch(mode=0o600)
    file.chmod(0o600)
    file.parent.chmod(0o700)

    found = obstacle(file, "r", THEM)

    assert found is not None
    subprocess.run(["sh", "-ec", found.command(tree=file.parent)], check=True)
    assert obstacle(file, "r", THEM) is None
    assert obstacle(file.parent / "more" / "file", "r", THEM) is None


def test_odd_names_are_quoted_in_the_command(file: Path) -> None:
    odd = file.rename(file.parent / "a file; rm -rf $HOME")
    odd.chmod(0o600)

    found = obstacle(odd, "r", THEM)

    assert found is not None
    subprocess.run(["sh", "-ec", found.command()], check=True)
    assert obstacle(odd, "r", THEM) is None


@pytest.mark.parametrize(
    ("right", "mode", "verb"), [("x", 0o644, "run"), ("rx", 0o711, "list"), ("rx", 0o744, "list"), ("x", 0o700, "run")]
)
def test_programs_are_run_and_folders_listed(file: Path, right: str, mode: int, verb: str) -> None:
    place = file if right == "x" else file.parent
    place.chmod(mode)

    found = obstacle(place, right, THEM)

    assert str(found) == f"user {UID} may not {verb} it"
    assert found is not None
    subprocess.run(["sh", "-ec", found.command()], check=True)
    assert obstacle(place, right, THEM) is None


@pytest.mark.parametrize(("name", "error"), [("none", "No such file"), ("file/none", "Not a directory")])
def test_what_no_right_would_mend_has_no_command(file: Path, name: str, error: str) -> None:
    found = obstacle(file.parent / name, "r", THEM)

    assert found is not None
    assert f"cannot be read: {error}" in str(found)
    assert found.command() == ""


def test_a_circle_of_links_and_a_pipe_hold_nothing_up(file: Path) -> None:
    circle, pipe = file.parent / "circle", file.parent / "pipe"
    circle.symlink_to(circle)
    os.mkfifo(pipe, 0o644)
    pipe.chmod(0o644)
    assert "too many links" in str(obstacle(circle, "r", THEM))
    assert obstacle(pipe, "r", THEM) is None


# ---- accounts -----------------------------------------------------------------------------------------------------


def test_root_has_its_rights_again_after_acting_as_another(file: Path) -> None:
    before = own_account()
    file.chmod(0o600)
    with pytest.raises(PermissionError), acting_as(THEM):
        assert own_account() == THEM
        file.read_text()
    assert own_account() == before
    assert file.read_text() == "text"


def test_an_account_without_a_name_is_called_by_its_numbers() -> None:
    assert (THEM.name, THEM.group) == (str(UID), str(GID))
    assert (account_of("nobody").name, account_of("nobody").group) == ("nobody", "nogroup")


@pytest.mark.parametrize(
    ("names", "key"), [(("no-such-user",), "daemon.user"), (("nobody", "no-such"), "daemon.group")]
)
def test_an_unknown_name_is_refused_with_its_key(names: tuple[str, ...], key: str) -> None:
    with pytest.raises(StateError, match=f"{key}: there is no .* make it"):
        account_of(*names)


def test_an_account_without_a_shell_is_one_like_others() -> None:
    """The unit's user has /usr/sbin/nologin: no shell is needed to have a user's rights."""
    assert obstacle(Path("/etc/passwd"), "r", account_of("nobody")) is None
    found = obstacle(Path("/etc/shadow"), "r", account_of("nobody"))
    assert found is not None
    assert str(found) == "user nobody may not read it"
