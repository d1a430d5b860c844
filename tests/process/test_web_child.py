"""The web child in a daemon's life: started, replaced, refused and ended like others, and never felt by a pool."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from supervisor.control.client import ControlClient
from supervisor.link.frames import Refused
from tests.support.daemon import ROOT, Daemon, daemon
from tests.support.waiting import eventually
from tests.support.web import TOKEN, Browser, token_file, web_child

SETTINGS = "workers = 1"


def web_settings(listen: str, token: str = "") -> str:
    """`[web]`, to stand after [daemon]."""
    return f'[web]\nlisten = "{listen}"\ntoken_file = "{token}"\n'


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("web_daemon")
    with daemon(directory, SETTINGS, web_settings("127.0.0.1:0", token_file(directory))) as under_test:
        yield under_test


def sidecar(under_test: Daemon) -> dict[str, Any]:
    """The web child in the status; {} while there is none."""
    found: list[dict[str, Any]] = [each for each in under_test.status()["sidecars"] if each["kind"] == "web"]
    return found[0] if found else {}


def ready(under_test: Daemon, other_than: int = 0) -> tuple[int, Browser]:
    """The pid of the web child, and a browser for it, once it serves."""

    def pid_of_ready() -> int:
        web = sidecar(under_test)
        return web["pid"] if web and web["state"] == "ready" and web["pid"] != other_than else 0

    pid = eventually(pid_of_ready, "the web child is ready")
    (line,) = eventually(
        lambda: [line for line in under_test.events("web.ready") if line["pid"] == pid], "its address is in the log"
    )
    host, _, port = line["what"].removeprefix("on http://").rpartition(":")
    return pid, Browser(host, int(port))


def answers(under_test: Daemon) -> bool:
    """Whether the web child that is ready serves; it may be replaced just now."""
    with suppress(ConnectionRefusedError):
        return ready(under_test)[1].get("/healthz").status == 200
    return False


def reload(under_test: Daemon) -> None:
    """Reload, and wait until all is replaced."""
    with ControlClient(under_test.runtime_dir) as client:
        client.ask("reload", wait=True)
        client.next_answer(30.0)


def workers(under_test: Daemon) -> list[int]:
    """Their pids: the same as long as nothing has happened to them."""
    return [worker["pid"] for worker in under_test.pool()["workers"]]


def test_a_daemon_with_a_page_serves_it(served: Daemon) -> None:
    pid, browser = ready(served)

    assert browser.get("/").status == 200
    assert browser.get("/readyz").status == 200
    assert browser.get("/api/status").json["sidecars"][0]["pid"] == pid
    assert Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"preforkd: web")


def test_neither_token_nor_password_is_to_be_seen_from_outside(served: Daemon) -> None:
    pid, _ = ready(served)

    assert TOKEN not in str(served.status())
    assert TOKEN.encode() not in Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()


def test_killed_it_comes_back_and_no_pool_notices(served: Daemon) -> None:
    pid, _ = ready(served)
    before = workers(served)

    os.kill(pid, signal.SIGKILL)

    _, browser = ready(served, other_than=pid)
    assert browser.get("/healthz").status == 200
    assert workers(served) == before
    assert served.exit(kind="web", pid=pid)["cause"] == "killed"
    assert browser.get("/api/exits?limit=1").json["exits"][0]["pid"] == pid


def test_while_it_stands_still_everything_else_goes_on(served: Daemon) -> None:
    pid, browser = ready(served)
    with closing(browser.connect()) as sock:
        sock.sendall(b"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        os.kill(pid, signal.SIGSTOP)
        try:
            served.send("nothing", message_id="meanwhile")
            eventually(lambda: "meanwhile" in served.marked("done"), "messages flow")
            assert served.status()["state"] == "running"
        finally:
            os.kill(pid, signal.SIGCONT)
    eventually(lambda: browser.get("/healthz").status == 200, "and it answers again")


def test_a_reload_replaces_it_where_its_settings_changed(served: Daemon) -> None:
    pid, browser = ready(served)
    assert browser.post("/api/reload").status in (200, 202)
    eventually(lambda: served.status()["reload"] is None, "the reload is over")
    assert ready(served)[0] == pid

    served.configure(SETTINGS, web_settings("127.0.0.1:0"))
    reload(served)

    _, browser = ready(served, other_than=pid)
    assert browser.post("/api/reload").status == 403


def test_one_that_cannot_start_says_why_and_the_daemon_runs_on(served: Daemon) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        served.configure(SETTINGS, web_settings(f"127.0.0.1:{taken.getsockname()[1]}"))
        reload(served)
        why = eventually(lambda: sidecar(served).get("why"), "it says why")

    assert "Address already in use" in why
    assert served.status()["state"] == "running"
    served.configure(SETTINGS, web_settings("127.0.0.1:0"))
    reload(served)
    eventually(lambda: answers(served), "it serves again")


def test_it_is_the_last_to_leave_and_leaves_cleanly(served: Daemon) -> None:
    """The last test of the daemon that they share."""
    pid, browser = ready(served)
    with browser.events() as events:
        next(events)
        assert served.stop() == 0
        assert [data["state"] for name, data in events if name == "status"][-1:] in (["stopping"], [])

    assert served.exit(kind="web", pid=pid)["cause"] == "clean_stop"
    assert served.exits()[-1]["kind"] == "web"


# ---- alone ----------------------------------------------------------------------------------------------------------


def test_on_an_address_of_others_even_looking_needs_the_token(tmp_path: Path) -> None:
    with web_child(tmp_path, tmp_path, tmp_path, listen="0.0.0.0:0", token_file=token_file(tmp_path)) as child:
        browser = Browser("127.0.0.1", child.browser.port)

        assert browser.get("/").status == 200
        assert browser.get("/readyz").json == {"ready": False}
        assert browser.get("/api/exits").status == 401
        assert browser.get("/api/exits", Authorization=f"Bearer {TOKEN}").status == 200
        assert child.quit() == 0


def test_a_token_that_others_may_change_is_refused(tmp_path: Path) -> None:
    token = token_file(tmp_path)
    Path(token).chmod(0o666)
    with web_child(tmp_path, tmp_path, tmp_path, token_file=token) as child:
        assert isinstance(child.report, Refused)
        assert "chmod o-w" in child.report.reason


@pytest.mark.parametrize(("listen", "word"), [("0.0.0.0:0", "token_file"), ("no-such-host.invalid:1", "listen")])
def test_where_it_cannot_listen_it_says_so_and_leaves(tmp_path: Path, listen: str, word: str) -> None:
    with web_child(tmp_path, tmp_path, tmp_path, listen=listen) as child:
        assert isinstance(child.report, Refused)
        assert word in child.report.reason
        assert child.process.wait(20) == os.EX_CONFIG


def test_without_the_extra_it_names_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError('no', name='uvicorn')")
    with web_child(tmp_path, tmp_path, tmp_path, path=f"{tmp_path}:{ROOT}") as child:
        assert isinstance(child.report, Refused)
        assert "pip install '.[web]'" in child.report.reason
        assert child.process.wait(20) == os.EX_CONFIG


def test_it_does_not_outlive_its_master(tmp_path: Path) -> None:
    with web_child(tmp_path, tmp_path, tmp_path) as child:
        child.channel.close()

        assert child.process.wait(20) == os.EX_OK
