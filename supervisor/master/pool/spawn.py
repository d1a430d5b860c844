"""Starts all children but workers: posix_spawn of a module of ours with one end of a socket pair. Master only.

A fresh program instead of a bare fork: the child has nothing of the master's but its socket and what the first frame
brings, so no descriptor and no secret can leak by being forgotten. The first frame leaves with the descriptors the
child is to have (SCM_RIGHTS).
"""

from __future__ import annotations

import os
import site
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from supervisor.config.schema import Config
from supervisor.errors import StateError
from supervisor.link.channel import send_with_descriptors
from supervisor.link.frames import Frame, StartForkserver
from supervisor.logs.redaction import without_passwords
from supervisor.master.host.signals import TOUCHED
from supervisor.master.pool.children import Kind

MODULES: dict[Kind, str] = {kind: f"supervisor.{kind}" for kind in Kind if kind is not Kind.WORKER}
_CHILD_FD = 3


class Started(NamedTuple):
    """A process that was started: its pid, and our end of its channel, which does not block.

    `unsent`: the rest of its first frame, which the channel takes once the child reads. `failure`: why the first frame
    could not be sent, "" when it was. Such a child does nothing; it is to be entered into the books and ended at once.
    """

    pid: int
    sock: socket.socket
    unsent: bytes = b""
    failure: str = ""


def spawn(kind: Kind, first: Frame, descriptors: Sequence[int], configs: Sequence[Config] = ()) -> Started:
    """Start a child and hand it its first frame, without waiting for it to read.

    `configs`: their secrets are kept out of its environment, where all user code could read them; the variables of the
    last one are in it. The child leads a process group of its own: a Ctrl-C at the terminal reaches the master only.
    Raises StateError when the machine has no process or descriptor left.
    """
    ours: socket.socket | None = None
    try:
        ours, theirs = socket.socketpair()
        with theirs:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-m", MODULES[kind], str(_CHILD_FD)],
                _environment_of(first, configs),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), _CHILD_FD),
                ],
                setpgroup=0,
                setsigmask=(),
                setsigdef=TOUCHED,
            )
    except OSError as error:
        if ours is not None:
            ours.close()
        raise StateError(f"a {kind} cannot be started: {error.strerror}; check the limits of this user") from error
    # fail-point: master.start-spawned: a service lives and has no first frame
    return _with_first_frame(pid, ours, first, descriptors)


def _with_first_frame(pid: int, ours: socket.socket, first: Frame, descriptors: Sequence[int]) -> Started:
    ours.setblocking(False)  # a child that never reads (it hangs in its interpreter's start) must not keep us here
    try:
        unsent = send_with_descriptors(ours, first, descriptors)
    except OSError as error:
        with suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)  # nothing else may arrive as its first frame
        return Started(pid, ours, failure=error.strerror or str(error))
    # fail-point: master.start-first-frame-sent: a service can begin, the books do not have it
    return Started(pid, ours, unsent)


def _environment_of(first: Frame, configs: Sequence[Config]) -> dict[str, str]:
    """That of `env_file`, then ours, both without secrets, then the pool's, and the way to our own code where it is run
    from a checkout.

    A pool's variables are there when its interpreter starts: TZ, LD_PRELOAD or PYTHONHASHSEED count as if exported.
    """
    urls = [url for config in configs for url in config.secret_urls]
    tokens = [config.web.token for config in configs]
    variables = configs[-1].variables if configs else {}
    environment = without_passwords({**variables, **os.environ}, urls, tokens)
    if isinstance(first, StartForkserver):
        environment |= first.pool.environment
    root = Path(__file__).resolve().parents[3]
    if str(root) not in site.getsitepackages():
        former = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{former}{os.pathsep}{root}" if former else str(root)
    return environment
