"""The handler of daemons under test: does what the message says, and leaves marks by which the test sees it."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import supervisor
from supervisor import Message


def mark(name: str, line: object) -> None:
    """Write a line that the test can wait for."""
    with (Path(os.environ["MARKS"]) / name).open("a") as marks:
        marks.write(f"{line}\n")


def run(message: Message) -> None:
    """Do what `do` says."""
    order = json.loads(message.body)
    mark("begun", f"{message.id} {message.attempt} {os.getpid()}")
    if message.maybe_duplicate:
        mark("maybe_duplicate", message.id)
    _DEEDS[order["do"]](*order["arguments"])
    mark("done", message.id)


def refuse_to_boot() -> None:
    """An `init` that fails."""
    raise RuntimeError("no database here")


def wait_for_boot() -> None:
    """An `init` that takes until the test says so."""
    _until("boot")


def _leave(status: int) -> None:
    sys.exit(status)


def _leave_hard(status: int) -> None:
    os._exit(status)


def _kill(signum: int) -> None:
    os.kill(os.getpid(), signum)


def _become(*command: str) -> None:
    os.execvp(command[0], command)


def _become_deaf(*command: str) -> None:
    """A program that ignores the time limit's timer, as it may have been started to."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    _become(*command)


def _until(name: str) -> None:
    while not (Path(os.environ["MARKS"]) / name).exists():
        time.sleep(0.01)


def _talk_nonsense() -> None:
    """Write into the worker's own link, once; then wait to be ended for it."""
    if not (Path(os.environ["MARKS"]) / "talked").exists():
        mark("talked", os.getpid())
        for descriptor in _links():
            os.write(descriptor, b"\x09\0\0\0\x91\xa7Outcome")
        time.sleep(1000)


def _links() -> list[int]:
    """The descriptors of this process that are connected to its pool's link socket."""
    found = []
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        try:
            peer = socket.socket(fileno=os.dup(descriptor)).getpeername()
        except OSError:
            continue
        found += [descriptor] if str(peer).endswith("email.sock") else []
    return found


def _let_another_talk_nonsense() -> None:
    """A program of its own says hello as this worker, and then nonsense."""
    (link,) = (descriptor for descriptor in _links())
    path = socket.socket(fileno=os.dup(link)).getpeername()
    subprocess.run([sys.executable, "-c", _IMPOSTOR, path, str(os.getpid())], check=True)


_IMPOSTOR = """
import socket, sys
from supervisor.link import frames
from supervisor.link.channel import Channel
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
channel = Channel(sock, frames.ConsumerFrame)
for generation in range(1, 10):
    channel.send(frames.Hello(frames.VERSION, 0, generation, int(sys.argv[2]), []))
channel.flush()
sock.setblocking(True)
sock.sendall(b"\\x01\\0\\0\\0\\xc1")
assert sock.recv(1) == b""
"""


def _hang_in_c() -> None:
    sum(range(10**12))  # one call into C that keeps the interpreter and looks at no signal


def _ignore_the_timer() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    time.sleep(1000)


def _ignore_everything() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        time.sleep(1000)


def _until_untimed(name: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    _until(name)


def _eat(mebibytes: int) -> None:
    block = bytearray(mebibytes << 20)
    for index in range(0, len(block), 4096):
        block[index] = 1
    time.sleep(1000)


def _spawn_group() -> None:
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    supervisor.record_group(child.pid)
    mark("spawned", child.pid)


def _spawn_group_and_die() -> None:
    _spawn_group()
    os._exit(9)


def _spawn_group_and_wait() -> None:
    _spawn_group()
    time.sleep(1000)


def _daemonize() -> None:
    """Leave a grandchild in a session of its own, whose parent is gone."""
    subprocess.run(["sh", "-c", f"setsid sleep 1000 & echo $! >> {os.environ['MARKS']}/spawned"], check=True)


def _daemonize_and_die() -> None:
    _daemonize()
    os._exit(9)


def _abandon(*command: str) -> None:
    """Leave a process behind, in a session of its own and without our environment, and die."""
    script = 'env -i setsid "$@" >&- 2>&- & echo $!'
    answer = subprocess.run(["sh", "-c", script, "sh", *command], check=True, stdout=subprocess.PIPE)
    pid = int(answer.stdout)
    with suppress(FileNotFoundError):  # hidden (hidepid): it is another user's by then
        while Path(f"/proc/{pid}/comm").read_text() != Path(command[-2]).name + "\n":
            time.sleep(0.01)  # until it has left our process group, with which it would end
    mark("spawned", pid)
    os._exit(9)


def _tell_environment() -> None:
    mark("environment", " ".join(sorted(os.environ)))


def _poison() -> None:
    """Leave something behind in the process that makes each `unless_poisoned` fail."""
    _left_behind.append("a broken connection")


def _complain() -> None:
    """Log and print a line each, then fail."""
    logging.getLogger("daemon_handlers").warning("a line of the handler")
    print("a printed line")  # noqa: T201  (that is what is tested)
    _fail()


def _fail() -> None:
    raise ValueError("as ordered")


def _unless_poisoned() -> None:
    if _left_behind:
        raise ConnectionError(_left_behind[0])


def _write_to(path: str) -> None:
    with Path(path).open("w") as file:
        file.write("written")


def _nothing() -> None:
    pass


_left_behind: list[str] = []

_DEEDS: dict[str, Any] = {
    "complain": _complain,
    "fail": _fail,
    "poison": _poison,
    "unless_poisoned": _unless_poisoned,
    "nothing": _nothing,
    "write_to": _write_to,
    "leave": _leave,
    "leave_hard": _leave_hard,
    "kill": _kill,
    "become": _become,
    "talk_nonsense": _talk_nonsense,
    "let_another_talk_nonsense": _let_another_talk_nonsense,
    "abandon": _abandon,
    "become_deaf": _become_deaf,
    "until": _until,
    "until_untimed": _until_untimed,
    "sleep": time.sleep,
    "hang_in_c": _hang_in_c,
    "ignore_the_timer": _ignore_the_timer,
    "ignore_everything": _ignore_everything,
    "eat": _eat,
    "daemonize": _daemonize,
    "daemonize_and_die": _daemonize_and_die,
    "spawn_group_and_die": _spawn_group_and_die,
    "spawn_group_and_wait": _spawn_group_and_wait,
    "tell_environment": _tell_environment,
}
