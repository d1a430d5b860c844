"""The web child beside a real daemon: each endpoint, each refusal, and events as they happen."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

import pytest

from supervisor.brokers import open_admin
from supervisor.config.schema import BrokerConfig
from supervisor.messages.message import Properties, Publication
from supervisor.web.connections import IDLE_S, MAX_CONNECTIONS
from tests.support.daemon import Daemon, daemon
from tests.support.descriptors import descriptors
from tests.support.waiting import eventually
from tests.support.web import TOKEN, Browser, WebChild, token_file, web_child

HOSTILE_ID = "<img src=x onerror=alert(1)>\u202e"


class Place(NamedTuple):
    """What the tests of this module share."""

    daemon: Daemon
    child: WebChild
    browser: Browser


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("web")
    settings = 'workers = 2\nmax_attempts = 1\nrestart_backoff = ["50ms", "100ms"]'
    with (
        daemon(directory, settings) as under_test,
        web_child(directory, under_test.state_dir, under_test.runtime_dir, token_file=token_file(directory)) as child,
    ):
        yield Place(under_test, child, child.browser)


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A web child whose daemon is not there, and without a token file."""
    directory = tmp_path_factory.mktemp("silent")
    with web_child(directory, directory, directory) as child:
        yield child.browser


BEARER = {"Authorization": f"Bearer {TOKEN}"}


def dead_letter(place: Place, message_id: str) -> dict[str, Any]:
    """Make a message fail for good, and wait until the page shows it."""
    place.daemon.send("no such deed", message_id=message_id)

    def shown() -> list[dict[str, Any]]:
        found = place.browser.get("/api/pools/email/letters", **BEARER).json["letters"]
        return [letter for letter in found if letter["id"] == message_id]

    (letter,) = eventually(shown, f"{message_id} is among the dead letters")
    return letter


# ---- looking --------------------------------------------------------------------------------------------------------


def test_it_tells_where_it_listens_and_that_it_lives(place: Place) -> None:
    assert place.browser.get("/healthz").json == {"ok": True}
    assert place.child.process.poll() is None


def test_the_page_and_its_parts_are_there(place: Place) -> None:
    page = place.browser.get("/")

    assert page.headers["content-type"].startswith("text/html")
    assert place.browser.get("/static/app.js").headers["content-type"].startswith("text/javascript")
    assert place.browser.get("/static/../server.py").status == 404
    assert place.browser.get("/static/%2e%2e/server.py").status == 404


def test_the_status_is_the_daemons(place: Place) -> None:
    status = place.browser.get("/api/status").json

    assert status["pid"] == place.daemon.status()["pid"]
    assert status["pools"]["email"]["wanted"] == 2


def test_metrics_are_drawn_for_prometheus(place: Place) -> None:
    answer = place.browser.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b'preforkd_build_info{version="' in answer.body


def test_a_daemon_that_consumes_is_ready(place: Place) -> None:
    answer = place.browser.get("/readyz")

    assert (answer.status, answer.json) == (200, {"ready": True, "why": []})


def test_a_paused_pool_is_not_ready_and_says_so(place: Place) -> None:
    assert place.browser.post("/api/pools/email/pause").json == {"changed": True}
    answer = eventually(lambda: (a := place.browser.get("/readyz")).status == 503 and a, "it is not ready")
    assert answer.json["why"][0].startswith("pool email: its consumer is paused")
    assert place.browser.get("/api/status").json["pools"]["email"]["paused"]["by"] == "web (127.0.0.1)"

    assert place.browser.post("/api/pools/email/resume").json == {"changed": True}
    eventually(lambda: place.browser.get("/readyz").status == 200, "it is ready again")


def test_an_exit_is_listed_plotted_and_told(place: Place) -> None:
    with place.browser.events() as events:
        name, status = next(events)
        assert (name, status["state"]) == ("status", "running")
        pid = place.daemon.worker()["pid"]
        os.kill(pid, signal.SIGKILL)

        record = next(data for name, data in events if name == "exit")
        restarted = next(data for name, data in events if name == "status")

    assert (record["pid"], record["cause"]) == (pid, "killed")
    assert restarted["exits"]
    newest = place.browser.get("/api/exits?pool=email&cause=killed&limit=1").json["exits"]
    assert newest == [record]
    assert place.browser.get("/api/exits?pool=other").json == {"exits": []}
    series = place.browser.get("/api/exits/series?minutes=10&buckets=5").json
    assert series["bucket_s"] == 120
    assert sum(series["causes"]["killed"]) >= 1


def test_exits_from_before_hooks_listened_are_no_events(place: Place) -> None:
    earlier = place.daemon.worker()["pid"]
    os.kill(earlier, signal.SIGKILL)
    place.daemon.exit(pid=earlier)

    with place.browser.events() as events:
        assert next(events)[0] == "status"
        pid = eventually(lambda: place.daemon.worker()["pid"], "it is replaced")
        os.kill(pid, signal.SIGKILL)
        first = next(data for name, data in events if name == "exit")

    assert first["pid"] == pid


# ---- letters --------------------------------------------------------------------------------------------------------


def test_a_dead_message_is_shown_with_its_diagnosis_and_retried(place: Place) -> None:
    letter = dead_letter(place, "l1")
    assert (letter["cause"], letter["attempts"]) == ("failed", 1)
    assert "KeyError" in letter["reason"]
    assert "Traceback" in letter["stack"]
    assert '"do"' in letter["body_preview"]
    assert letter["headers"] == {}

    answer = place.browser.post("/api/pools/email/letters/retry", {"ids": ["l1", "gone"]})

    assert (answer.status, answer.json) == (200, {"moved": 1, "missing": ["gone"]})
    runs = lambda: [line.split()[0] for line in place.daemon.marked("begun")].count("l1")  # noqa: E731
    eventually(lambda: runs() == 2, "it ran again")


def test_a_dropped_message_is_gone(place: Place) -> None:
    dead_letter(place, HOSTILE_ID)

    assert place.browser.post("/api/pools/email/letters/drop", {"ids": [HOSTILE_ID]}).json == {
        "dropped": 1,
        "missing": [],
    }
    again = place.browser.post("/api/pools/email/letters/drop", {"ids": [HOSTILE_ID]})
    assert (again.status, again.json["missing"]) == (404, [HOSTILE_ID])


def test_looking_again_soon_takes_nothing_out_of_the_queue(place: Place) -> None:
    first = eventually(
        lambda: place.browser.get("/api/pools/email/letters?kind=parked").json, "there is a queue for parked messages"
    )

    assert place.browser.get("/api/pools/email/letters?kind=parked").json["at"] == first["at"]


def test_parked_and_dead_messages_are_apart(place: Place) -> None:
    assert place.browser.get("/api/pools/email/letters?kind=parked").json["total"] == 0


# ---- acting ---------------------------------------------------------------------------------------------------------


def test_the_number_of_workers_is_set(place: Place) -> None:
    assert place.browser.post("/api/pools/email/scale", {"workers": 3}).json["workers"] == 3
    eventually(lambda: len(place.daemon.pool()["workers"]) == 3, "there are three")
    assert place.browser.post("/api/pools/email/scale", {"workers": 2}).json["former"] == 3


def test_a_reload_says_what_it_changed(place: Place) -> None:
    answer = place.browser.post("/api/reload")

    assert answer.status in (200, 202)
    eventually(lambda: place.daemon.status()["reload"] is None, "the reload is over")


def test_a_bad_configuration_changes_nothing_and_is_explained(place: Place) -> None:
    good = place.daemon.config_path.read_text()
    place.daemon.config_path.write_text(good + "\n[nonsense]\n")
    try:
        answer = place.browser.post("/api/reload")
    finally:
        place.daemon.config_path.write_text(good)

    assert answer.status == 422
    assert "nonsense" in answer.json["error"]


def test_who_asked_for_what_is_in_the_log_and_the_token_is_not(place: Place) -> None:
    place.browser.post("/api/pools/email/resume")
    place.browser.post("/api/pools/email/letters/drop", {"ids": ["absent"]})
    place.browser.post("/api/pools/email/resume", token="guess-guess-guess")

    resumed, dropped = place.child.log("web.action")[-2:]
    assert (resumed["action"], resumed["by"], resumed["pool"]) == ("resume", "127.0.0.1", "email")
    assert (dropped["action"], dropped["ids"]) == ("drop", ["absent"])
    text = place.child.log_path.read_text()
    assert TOKEN not in text
    assert "guess-guess-guess" not in text


def test_where_there_are_too_many_the_longest_idle_make_room(place: Place) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS + 100):
            stack.enter_context(closing(place.browser.connect()))

        assert place.browser.get("/healthz").status == 200
        pid = place.child.process.pid
        soon_s = IDLE_S / 2  # before any of them is hung up on for saying nothing
        eventually(lambda: descriptors(pid) < MAX_CONNECTIONS + 50, "the first ones are gone", soon_s)


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("/api/pools/nope/pause", None, 404, "there are email"),
        ("/api/pools/nope/letters/retry", {"ids": ["x"]}, 404, "there are email"),
        ("/api/pools/email/scale", {"workers": 0}, 400, "workers"),
        ("/api/pools/email/scale", {"workers": "3"}, 400, "workers"),
        ("/api/pools/email/scale", {"workers": 3, "force": True}, 400, "force"),
        ("/api/pools/email/scale", b"{", 400, "openapi"),
        ("/api/pools/email/scale", b"[" * 100_000, 400, "openapi"),
        ("/api/pools/email/letters/drop", {"ids": []}, 400, "ids"),
        ("/api/pools/email/letters/drop", {"ids": ["x"], "kind": "alive"}, 400, "dead, parked"),
        ("/api/pools/email/letters/drop", {"ids": ["none"]}, 404, "look again"),
        ("/api/pools/email/letters/drop", b"x" * 600_000, 413, "524288"),
        ("/api/nothing", None, 404, "openapi"),
        ("/api/status", None, 405, "method"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(place: Place, path: str, body: Any, status: int, word: str) -> None:
    answer = place.browser.post(path, body)

    assert (answer.status, word in answer.json["error"]) == (status, True), answer.body


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/api/exits?limit=0",
            "/api/exits?limit=501",
            "/api/exits?limit=x",
            "/api/exits?limit=1e9",
            "/api/exits?limit=",
        ),
        *("/api/exits/series?minutes=-1", "/api/exits/series?buckets=0", "/api/exits?limit="),
        *("/api/pools/email/letters?kind=alive", "/api/pools/email/letters?limit=%D9%A3"),
    ],
)
def test_a_parameter_out_of_bounds_is_refused(place: Place, path: str) -> None:
    answer = place.browser.get(path)

    assert answer.status == 400
    assert " must be " in answer.json["error"]


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x"])
def test_without_the_token_nothing_is_done(place: Place, token: str | None) -> None:
    for path, body in (("/api/pools/email/pause", None), ("/api/pools/email/letters/drop", {"ids": ["l1"]})):
        assert place.browser.post(path, body, token=token).status == 401
    assert place.daemon.pool()["paused"] is None


def test_a_page_of_another_site_does_nothing(place: Place) -> None:
    assert place.browser.post("/api/pools/email/pause", Origin="http://evil.example").status == 403
    assert place.browser.get("/api/status", Host="evil.example").status == 421
    assert place.daemon.pool()["paused"] is None


def test_without_a_token_file_no_action_is_allowed(silent: Browser) -> None:
    answer = silent.post("/api/reload")

    assert answer.status == 403
    assert "[web] token_file" in answer.json["error"]


def test_a_daemon_that_is_not_there_is_told_everywhere(silent: Browser) -> None:
    for path in ("/api/status", "/api/pools/email/letters", "/metrics"):
        answer = silent.get(path)
        assert answer.status == 503, path
        assert "preforkd is not running" in answer.json["error"]
        assert answer.json["since"].startswith("20")
    assert silent.get("/readyz").json["ready"] is False
    answer = silent.get("/healthz")
    assert (answer.status, answer.json["ok"], "is not running" in answer.json["why"][0]) == (503, False, True)
    assert silent.get("/api/exits").json == {"exits": []}
    with silent.events() as events:
        name, told = next(events)
    assert (name, "not running" in told["error"]) == ("silent", True)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_other_users_of_the_machine_see_no_bodies_and_no_headers(place: Place, headers: dict[str, str]) -> None:
    body, name = b"card 4111", Properties(message_id="secret", headers={"customer": "Ada"})
    with open_admin(BrokerConfig(), str(place.daemon.state_dir)) as admin:
        admin.publish([Publication("", "email.dead", name, body)], 1, lambda total: None)

    def shown(**given: str) -> Any:
        found = place.browser.get("/api/pools/email/letters?limit=199", **given).json
        letter = next((each for each in found["letters"] if each["id"] == "secret"), None)
        return letter and (found["withheld"], letter["body_preview"], letter["headers"], letter["body_bytes"])

    assert eventually(lambda: shown(**BEARER), "it is shown") == (False, "card 4111", {"customer": "Ada"}, 9)
    assert shown(**headers) == (True, "", {}, 9)
    place.browser.post("/api/pools/email/letters/drop", {"ids": ["secret"]})


def test_a_message_that_was_not_given_up_is_no_dead_letter(place: Place) -> None:
    with open_admin(BrokerConfig(), str(place.daemon.state_dir)) as admin:
        admin.publish([Publication("", "email.dead", Properties(), b"\xff\x00" * 2000)], 1, lambda total: None)
    found = eventually(
        lambda: [
            each for each in place.browser.get("/api/pools/email/letters", **BEARER).json["letters"] if not each["id"]
        ],
        "the bare message is shown",
    )

    assert (found[0]["cause"], found[0]["body_bytes"], found[0]["body_preview"][:9]) == ("", 4000, "ff00ff00 ")
