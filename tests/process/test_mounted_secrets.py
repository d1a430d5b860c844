"""Secrets on mounts of a container: read-only ones of its own have no other readers; all else is judged by its mode."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="mounts")]

_ASK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from supervisor.system.secret_file import exposure
path = Path(sys.argv[2])
found = exposure(path, path.stat(), 10001)
print("accepted" if found is None else found.reason)
"""
CONTAINER = ["unshare", "--mount", "--pid", "--fork", "--mount-proc"]
UNIT = ["unshare", "--mount"]
"""A service of systemd: mounts of its own, the machine's processes."""


def told(folder: Path, namespaces: list[str], options: str, mode: str = "0444", inner: str = "") -> str:
    """What is said of a file of root's with this mode, on a mount with these options; `inner`: a command between."""
    ask = f'{inner} "{sys.executable}" -c "$ASK" "{ROOT}" "{folder}/secret"'
    script = (
        f'mount -t tmpfs -o mode=755 none "{folder}" && touch "{folder}/secret" && chmod {mode} "{folder}/secret"'
        f' && mount -o remount,{options} "{folder}" && {ask}'
    )
    done = subprocess.run(
        [*namespaces, "sh", "-c", script], env=os.environ | {"ASK": _ASK}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def folder() -> Path:
    """A mount point that all users may enter: the namespace of a test takes its mount along."""
    return Path("/mnt")


@pytest.mark.parametrize("mode", ["0444", "0440", "0644", "0664"])
def test_a_read_only_mount_of_a_container_may_have_any_mode(folder: Path, mode: str) -> None:
    assert told(folder, CONTAINER, "ro", mode) == "accepted"


@pytest.mark.parametrize(
    ("namespaces", "options", "inner"),
    [
        (CONTAINER, "rw", ""),  # the application itself may have written it
        (UNIT, "ro", ""),  # ProtectSystem=strict: other users of the machine see the file
        (CONTAINER, "ro", "unshare --mount"),  # the same inside a container that is a whole system
    ],
)
def test_anywhere_else_the_mode_counts(folder: Path, namespaces: list[str], options: str, inner: str) -> None:
    assert told(folder, namespaces, options, "0444", inner) == f"all users may read {folder}/secret"
    assert told(folder, namespaces, options, "0600", inner) == "accepted"
