"""RabbitMQ 4.0 beside the machine's own server: Debian 13's package in a directory tree made by debootstrap.

Made once and kept in the user's cache; `RabbitNode(root=...)` runs it. Nothing outside that folder is touched.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.rabbitmq import RabbitNode, running_node
from tests.support.tools import cannot

_BUILD_TIMEOUT_S = 900

RELEASES = ("rabbitmq", "rabbit_4") if os.environ.get("PREFORKD_SOAK") else ("rabbitmq",)
"""The fixtures of nodes on which a test runs that is about what differs between RabbitMQ 3.10 and 4.0."""


class Unavailable(Exception):
    """There is no RabbitMQ 4.0 here; the text says what is missing."""


def rabbitmq_4_root() -> Path:
    """The tree, built when it is not there yet (about two minutes). Raises Unavailable."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "preforkd-tests"
    root = cache / "rabbitmq-4.0"
    if os.geteuid() != 0:
        raise Unavailable("RabbitMQ 4.0 runs in a chroot here: that needs root")
    if root.exists():
        return root
    if shutil.which("debootstrap") is None:
        raise Unavailable("RabbitMQ 4.0 is taken from Debian 13: apt-get install debootstrap, and try again")
    cache.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(cache / "rabbitmq-4.0.lock"):
        return root if root.exists() else _build(root, cache / "rabbitmq-4.0.unfinished")


@pytest.fixture(scope="session")
def rabbit_4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """One node of RabbitMQ 4.0 for the whole run, only where PREFORKD_SOAK is set: use unique queue names.

    Its interceptors change every message on its way, as some operators have them do: what comes back is not what was
    sent (https://www.rabbitmq.com/docs/message-interceptors).
    """
    if not os.environ.get("PREFORKD_SOAK"):
        pytest.skip("RabbitMQ 4.0 is built and run only where PREFORKD_SOAK is set")
    try:
        root = rabbitmq_4_root()
    except Unavailable as error:
        cannot(str(error))
    with running_node(tmp_path_factory.mktemp("rabbitmq-4"), _INTERCEPTORS, root=root) as node:
        yield node


@pytest.fixture(params=RELEASES)
def node(request: pytest.FixtureRequest) -> RabbitNode:
    """A node of each release in turn."""
    found: RabbitNode = request.getfixturevalue(request.param)
    return found


_INTERCEPTORS = """
message_interceptors.incoming.set_header_timestamp.overwrite = true
message_interceptors.incoming.set_header_routing_node.overwrite = true
"""


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Two runs that build the same tree destroy each other's."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(root: Path, unfinished: Path) -> Path:
    subprocess.run(["umount", unfinished / "proc"], capture_output=True)  # left mounted by a build that was killed
    shutil.rmtree(unfinished, ignore_errors=True)
    command = ["debootstrap", "--variant=minbase", "--include=rabbitmq-server", "trixie", str(unfinished)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S)
    if built.returncode != 0:
        raise Unavailable(f"debootstrap failed: {' / '.join(built.stdout.splitlines()[-3:])}")
    unfinished.rename(root)
    return root
