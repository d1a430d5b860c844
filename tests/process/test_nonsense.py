"""A child that talks nonsense is ended with a record that says so; everything else goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.daemon import ROOT, cleaned_up, daemon
from tests.support.replaced import Replaced
from tests.support.waiting import eventually

NOT_UNDERSTOOD = "said something that cannot be understood"

LIAR = """
import socket, sys, time
sys.path.insert(0, {root!r})
from tests.support.frame_fuzz import FrameFuzz
from supervisor.link import frames
from supervisor.link.channel import receive_with_descriptors
sock = socket.socket(fileno=int(sys.argv[1]))
receive_with_descriptors(sock, frames.{first}, {descriptors})
for payload in FrameFuzz(frames.{says}, time.monotonic_ns()).payloads(1000):
    sock.sendall(payload)
sock.recv(1)
"""


def lie(replaced: Replaced, module: str, first: str, descriptors: int, says: str) -> None:
    """Who is started from this module from now on talks nonsense."""
    code = LIAR.format(root=str(ROOT), first=first, descriptors=descriptors, says=says)
    begin = 'if __name__ == "__main__":\n'
    replaced.change(f"{module}/__main__.py", begin, f"{begin}    exec({code!r})\n")


def test_a_consumer_is_ended_with_the_reason_and_another_pool_works_on(tmp_path: Path) -> None:
    under_test = Replaced(tmp_path)
    under_test.pools = under_test.another("lying", 'workers = 1\nrestart_backoff = ["10ms", "100ms"]')
    under_test.configure("workers = 1")
    under_test.deploy("one")
    with cleaned_up(under_test, start=True):
        lie(under_test, "consumer", "StartConsumer", 1, "ConsumerReport")
        os.kill(under_test.status()["pools"]["lying"]["consumer"]["pid"], signal.SIGKILL)
        over_limit = {"pool": "lying", "kind": "consumer", "cause": "crash", "signal": "SIGKILL"}
        eventually(lambda: len(under_test.exits(**over_limit)) >= 3, "it is ended again and again")
        assert all(exit_["requested_by"].startswith(f"{NOT_UNDERSTOOD}: ") for exit_ in under_test.exits(**over_limit))
        assert under_test.events("frame.refused", pool="lying")
        under_test.send("x", message_id="m")
        eventually(lambda: under_test.runs() == {"m": "one"}, "the other pool works")
        assert under_test.stop() == 0
        assert under_test.processes() == []


def test_a_forkserver_is_ended_with_the_reason_and_its_workers_work_on(tmp_path: Path) -> None:
    under_test = Replaced(tmp_path)
    under_test.configure('workers = 1\nrestart_backoff = ["10ms", "100ms"]')
    under_test.deploy("one")
    with cleaned_up(under_test, start=True):
        workers = under_test.specs()
        lie(under_test, "forkserver", "StartForkserver", 1, "ForkReport")
        under_test.kill_forkserver()
        eventually(
            lambda: NOT_UNDERSTOOD in "".join(exit_["requested_by"] for exit_ in under_test.exits(kind="forkserver")),
            "it is ended",
        )
        under_test.send("x", message_id="m")
        eventually(lambda: under_test.runs() == {"m": "one"}, "its worker works")
        assert under_test.specs() == workers
        assert under_test.stop() == 0


def test_a_sidecar_is_ended_with_the_reason_backed_off_and_held(tmp_path: Path) -> None:
    under_test = Replaced(tmp_path)
    under_test.pools = '[hooks]\non_hold = "true"\n'
    under_test.configure("workers = 1")
    under_test.deploy("one")
    lie(under_test, "hooks", "StartSidecar", 0, "SidecarReport")
    with cleaned_up(under_test, start=True):
        over_limit = {"kind": "hooks", "cause": "crash"}
        eventually(lambda: len(under_test.exits(**over_limit)) >= 3, "it is ended again and again")
        assert all(exit_["requested_by"].startswith(NOT_UNDERSTOOD) for exit_ in under_test.exits(**over_limit))
        assert under_test.exits(**over_limit)[2]["restart_in_s"] > 0
        (sidecar,) = under_test.status()["sidecars"]
        assert NOT_UNDERSTOOD in sidecar["why"]
        assert under_test.stop() == 0


def test_a_worker_is_ended_with_the_reason_and_its_message_runs_again(tmp_path: Path) -> None:
    with daemon(tmp_path, 'workers = 1\nretry_delays = ["100ms"]') as under_test:
        under_test.send("talk_nonsense", message_id="m")
        ended = under_test.exit(kind="worker", message_id="m", attempt=1)
        assert (ended["cause"], ended["signal"], ended["run"]) == ("crash", "SIGKILL", "in_doubt")
        assert ended["requested_by"].startswith(f"{NOT_UNDERSTOOD}: a frame 'Outcome' cannot be read")
        eventually(lambda: under_test.marked("done") == ["m"], "the second attempt ends well")
        assert under_test.pool()["consumer"]["connection"]["opened"] == 1


def test_what_another_process_says_on_the_link_socket_costs_no_worker_its_life(tmp_path: Path) -> None:
    """A program that a handler has started can open the socket, too, and name its worker."""
    with daemon(tmp_path, "workers = 1") as under_test:
        before = under_test.worker()["pid"]
        under_test.send("let_another_talk_nonsense", message_id="m")
        eventually(lambda: under_test.marked("done") == ["m"], "the message is done")
        eventually(under_test.has("frame.refused"), "it is turned away")
        assert under_test.worker()["pid"] == before
        assert under_test.exits() == []
