"""The web page in a real browser, on a real daemon with faults: it lives, it tells the causes, it can be acted on, and
nothing that a message carries becomes anything but text. One browser and one daemon for all of it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from selenium.webdriver.common.keys import Keys

from supervisor.brokers import open_admin
from supervisor.config.schema import BrokerConfig
from supervisor.messages.message import Properties, Publication
from tests.support.browser import Browser, chromium
from tests.support.daemon import Daemon, daemon
from tests.support.rabbitmq import free_port
from tests.support.waiting import eventually

TOKEN = "correct-horse-battery-staple"
ENTER_TOKEN = "Enter the token that allows actions"
SETTINGS = 'workers = 3\nmax_attempts = 1\ntimeout = "1s"\nmax_timeout = "5m"\ntimeout_header = "limit"'
HOSTILE = '<img src=x onerror="window.hacked=1">\u202e</pre><script>window.hacked=1</script>'
UNHEARD_OF = b'{"do": "something unheard of"}'  # the handler raises KeyError
DEAD = ("shown", "locked", "refused", "retried", "dropped", "keyboard")


class Site(NamedTuple):
    """A daemon, and a browser that looks at its page."""

    daemon: Daemon
    url: str
    browser: Browser

    def publish(self, message_id: str, body: bytes, **headers: Any) -> None:
        """Send a body that need not be an order."""
        publication = Publication("", "email", Properties(message_id=message_id, headers=headers or None), body)
        with open_admin(BrokerConfig(), str(self.daemon.state_dir)) as admin:
            assert admin.publish([publication], 10, lambda total: None).sent == 1

    def hold(self, message_id: str, name: str) -> None:
        """Send a message that runs until `release(name)`."""
        self.publish(message_id, json.dumps({"do": "until", "arguments": [name]}).encode(), limit="5m")

    def release(self, name: str) -> None:
        """What a message waits for has happened."""
        (self.daemon.marks / name).touch()

    def wait_dead(self, message_id: str) -> None:
        """Wait until a message was given up."""
        eventually(self.daemon.has("message.dead", message_id=message_id), f"{message_id} is dead")

    def look(self) -> None:
        """Have the page show the dead messages."""
        self.browser.click("Look")
        self.browser.sees(".letters", "oldest first")

    def shows_dead(self, text: str) -> bool:
        """Whether the page, which has looked before, shows this of a dead message when it looks again."""
        self.browser.click("Look again")
        self.browser.sees(".letters", "oldest first")
        self.browser.run("document.querySelectorAll('.letter-list details').forEach((item) => (item.open = true))")
        return text in self.browser.text(".letter-list")

    def begun(self, message_id: str) -> int:
        """How many times the handler has begun with a message."""
        return [line.split(" ")[0] for line in self.daemon.marked("begun")].count(message_id)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    token, port = folder / "token", free_port()
    token.write_text(TOKEN)
    token.chmod(0o600)
    web = f'[web]\nlisten = "127.0.0.1:{port}"\ntoken_file = "{token}"'
    with chromium(folder / "profile") as browser, daemon(folder, SETTINGS, web) as running:
        eventually(lambda: running.status()["sidecars"][0]["state"] == "ready", "the web process is ready")
        site = Site(running, f"http://127.0.0.1:{port}/", browser)
        for message_id in DEAD:  # before anybody looks: what was looked at is kept for some seconds
            site.publish(message_id, UNHEARD_OF)
        site.publish(HOSTILE, f"{HOSTILE}{'x' * 1_000_000}".encode(), note=HOSTILE)
        site.daemon.send("kill", signal.SIGSEGV, message_id="crash-0")
        for message_id in (*DEAD, HOSTILE, "crash-0"):
            site.wait_dead(message_id)
        yield site


@pytest.fixture
def page(site: Site) -> Iterator[Browser]:
    """The page, just opened. Whatever a test does with it, the console stays silent, unless it says what it expects."""
    site.browser.looks(1280, "light")
    site.browser.open(site.url)
    site.browser.complaints()
    site.browser.sees("#fresh", "live")
    site.browser.sees(".exits h3", "Last exits")
    yield site.browser
    assert site.browser.complaints() == []


def enter_token(page: Browser, token: str) -> None:
    page.click(ENTER_TOKEN)
    page.press(token, Keys.ENTER)


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


# ---- what it shows --------------------------------------------------------------------------------------------------


def test_the_first_line_says_that_all_is_well_and_each_process_is_there(page: Browser, site: Site) -> None:
    page.sees("#headline", "All is well")

    rows = page.text(".processes tbody th").splitlines()
    assert rows == ["forkserver", "consumer", "email/0", "email/1", "email/2"]
    page.sees(".processes", str(site.daemon.worker()["pid"]))
    page.sees(".processes", "connected")


def test_the_page_follows_what_happens_without_being_loaded_again(page: Browser, site: Site) -> None:
    page.run("window.loadedOnce = true; document.querySelector('.pool button').focus()")
    done = site.daemon.pool()["counters"]["done"]

    site.hold("held-1", "go-1")
    page.sees("tr.state-running .message", "held-1")
    eventually(lambda: re.search(r"[1-9]\.\d s of 5 min", page.text(".meter-text")), "its time goes on, of its limit")
    assert page.count(".meter.good > span") == 1
    site.release("go-1")

    eventually(lambda: "running" not in page.text(".processes .pill"), "it is shown as finished")
    page.sees(".pool .facts", f"done\n{done + 1}")
    page.sees(".times", "within")
    assert page.run("return window.loadedOnce")
    assert page.focused() == "Pause email", "the keyboard's focus must stay"


def test_the_plot_shows_the_causes_of_faults_as_they_happen(page: Browser, site: Site) -> None:
    os.kill(site.daemon.worker(2)["pid"], signal.SIGKILL)
    site.daemon.exit(cause="killed")
    site.daemon.send("kill", signal.SIGSEGV, message_id="crash-1")
    site.daemon.send("leave_hard", 0, message_id="exit-1")
    site.daemon.send("sleep", 1000, message_id="timeout-1")

    for cause in ("crash", "unexpected_exit", "timeout", "killed"):
        eventually(lambda cause=cause: page.count(f".plot .part[data-cause={cause}]"), f"{cause} is in the plot")
        records = len(site.daemon.exits(cause=cause))
        page.sees(f".legend [data-cause={cause}]", f"{cause.replace('_', ' ')} {records}")
    assert re.search(r"\d crash", str(page.run("return document.querySelector('.plot > svg').ariaLabel")))
    page.sees(".exits > table", "timeout-1")
    page.sees(".exits > table", "SIGSEGV")
    page.sees("#concerns", "exits in the last 10 minutes:")
    page.click("timeout-1", ".exits")
    page.sees(".exits .whole", "daemon_handlers.py")
    page.run("document.querySelector('.plot summary').click()")
    page.sees(".plot table", "unexpected exit")


def test_exits_can_be_narrowed_down_to_a_cause(page: Browser, site: Site) -> None:
    site.daemon.send("kill", signal.SIGSEGV, message_id="crash-2")
    page.sees(".exits > table", "crash-2")

    page.run(
        "const select = document.querySelectorAll('.exits .filters select')[1]; select.value = 'crash';"
        "select.dispatchEvent(new Event('change'))"
    )

    crashes = len(site.daemon.exits(cause="crash"))
    eventually(lambda: page.count(".exits > table tbody tr") == crashes, "only crashes are left")


def test_trouble_is_said_in_the_first_line_and_in_the_title(page: Browser, site: Site) -> None:
    site.daemon.ask("pause", pool="email", by="an operator")
    page.sees("#headline", "Worth a look: email")
    page.sees("#concerns", "the pool is paused by an operator")
    eventually(lambda: page.driver.title == "Worth a look: email | preforkd", "the title says so, too")

    site.daemon.ask("resume", pool="email")
    page.sees("#headline", "All is well")


def test_the_page_says_how_old_it_is_while_no_daemon_answers_and_goes_on_by_itself(page: Browser, site: Site) -> None:
    (web,) = site.daemon.status()["sidecars"]
    os.kill(web["pid"], signal.SIGSTOP)
    try:
        site.hold("held-2", "go-2")
        os.kill(web["pid"], signal.SIGKILL)
        page.sees("#banner", "No connection")
        page.sees("#fresh", "not live")
    finally:
        site.release("go-2")

    page.sees("#fresh", "live")
    eventually(lambda: page.text("#banner") == "", "the banner goes away")
    assert all("ERR_" in line for line in page.complaints())


# ---- what can be done -----------------------------------------------------------------------------------------------


def test_a_dead_message_is_shown_with_its_diagnosis(page: Browser, site: Site) -> None:
    site.look()

    page.run(
        "const all = [...document.querySelectorAll('.letter-list details')];"
        "all.find((item) => item.innerText.includes('shown')).open = true"
    )
    page.sees(".letter-list details[open]", "KeyError: 'something unheard of'")
    page.sees(".letter-list details[open]", "Traceback")
    page.sees(".withheld", "shown with the token")
    assert '{"do"' not in page.text(".letter-list")

    enter_token(page, TOKEN)
    page.click("Look again")
    page.sees(".letter-list details[open]", '{"do": "something unheard of"}')
    assert page.count(".withheld") == 0


def test_without_a_token_nothing_can_be_done_and_the_page_says_why(page: Browser, site: Site) -> None:
    site.look()

    retry = page.button("Retry locked")
    assert retry.get_attribute("aria-disabled") == "true"
    assert "token" in str(retry.get_attribute("title"))
    page.click("Retry locked")
    page.sees("#dialog[open]", "token_file")  # it asks for it instead
    page.press(Keys.ESCAPE)
    assert site.begun("locked") == 1


def test_a_wrong_token_is_refused_and_forgotten(page: Browser, site: Site) -> None:
    site.look()

    enter_token(page, "a token that is wrong")
    page.click("Retry refused")

    page.sees("#failed", "the token was forgotten")
    page.button(ENTER_TOKEN)
    assert site.begun("refused") == 1
    assert all("401" in line for line in page.complaints())


def test_a_dead_message_is_retried_with_the_token(page: Browser, site: Site) -> None:
    site.look()

    enter_token(page, TOKEN)
    page.click("Retry retried")

    page.sees("#said", "one message moved back to email")
    eventually(lambda: site.begun("retried") == 2, "it runs again")
    eventually(lambda: site.shows_dead("Former round 1"), "its second letter tells how the first round ended")
    assert TOKEN not in str(page.run("return document.documentElement.outerHTML"))


def test_a_dead_message_is_dropped_only_after_a_question(page: Browser, site: Site) -> None:
    site.look()
    enter_token(page, TOKEN)

    page.click("Drop dropped")
    page.sees("#dialog[open]", "for good")
    assert page.focused() == "Cancel"
    page.press(Keys.ENTER)
    eventually(lambda: page.count("#dialog[open]") == 0, "the question is gone")
    assert "dropped" in page.text(".letter-list")

    page.click("Drop dropped")
    page.click("Drop", "#dialog")
    page.sees("#said", "one message deleted")
    eventually(lambda: "dropped" not in page.text(".letter-list"), "it is gone")


def test_pools_are_paused_scaled_and_reloaded_from_the_page(page: Browser, site: Site) -> None:
    enter_token(page, TOKEN)

    page.click("Pause email")
    page.sees("#headline", "Worth a look: email")
    assert site.daemon.pool()["paused"]
    page.click("Resume email")
    page.sees("#headline", "All is well")

    page.click("Scale email")
    page.press(Keys.ARROW_UP, Keys.ENTER)
    page.sees("#said", "4 workers instead of 3")
    page.sees(".notes", "scaled to 4 workers")

    page.click("Reload…")
    page.click("Reload", "#dialog")
    eventually(lambda: site.daemon.pool()["wanted"] == 3, "the configuration counts again")
    page.sees("#headline", "All is well")


# ---- themes, widths, access -------------------------------------------------------------------------------


def test_what_messages_carry_is_text_and_nothing_else(page: Browser, site: Site) -> None:
    site.hold(f"held {HOSTILE}", "go-3")
    page.sees("tr.state-running .message", '<img src=x onerror="window.hacked=1">\\u{202e}')
    site.release("go-3")
    enter_token(page, TOKEN)
    site.look()

    page.run("document.querySelectorAll('.letter-list details').forEach((item) => (item.open = true))")
    page.sees(".letter-list details[open]", "note: <img src=x")
    page.sees(".letter-list details[open]", "Beginning of the body")
    assert page.count("main img, main script, body > img") == 0
    assert page.run("return window.hacked") is None
    assert "\u202e" not in page.text("body")


def test_a_message_is_retried_by_keyboard_alone(page: Browser, site: Site) -> None:
    page.walk_to(ENTER_TOKEN, Keys.TAB)
    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press(Keys.ENTER)
    page.press(TOKEN, Keys.ENTER)
    page.walk_to("Look", Keys.TAB)
    page.press(Keys.ENTER)
    page.sees(".letter-list", "keyboard")
    page.walk_to("Retry keyboard", Keys.TAB)
    page.press(Keys.ENTER)

    page.sees("#said", "moved back")
    eventually(lambda: site.begun("keyboard") == 2, "it runs again")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_all_users_can_read_and_use_it(page: Browser, site: Site, width: int, scheme: str) -> None:
    page.looks(width, scheme)
    site.look()
    page.run("document.querySelectorAll('details').forEach((item) => (item.open = true))")
    page.run("document.querySelectorAll('.exits .more').forEach((button) => button.click())")
    page.sees(".letter-list details[open]", "SIGSEGV")

    assert page.findings() == []
    assert page.run("return document.documentElement.scrollWidth") <= width, "it has to be scrolled sideways"
    page.click(ENTER_TOKEN)
    assert page.findings() == []


def test_a_thousand_workers_are_summed_up_with_the_busiest_first(page: Browser, site: Site) -> None:
    worker = {**site.daemon.worker(), "state": "idle"}
    workers = [{**worker, "name": f"email/{slot}", "slot": slot} for slot in range(1000)]
    workers[777] |= {"state": "running", "message_id": "long", "attempt": 1, "elapsed_s": 9.0, "limit_s": 10.0}
    workers[900] |= {"state": "held"}

    rows, summary, took_ms = page.driver.execute_async_script(
        """const [pool, done] = arguments;
        Promise.all([import("/static/dom.js"), import("/static/pool-view.js")]).then(([dom, { poolView }]) => {
          const view = { age: 0, rate: null, wide: false, widen() {}, actions: { reason: "" } };
          const place = document.createElement("div");
          const begun = performance.now();
          dom.patch(place, poolView("email", pool, view));
          const heads = [...place.querySelectorAll(".processes tbody th")].map((head) => head.textContent);
          done([heads, place.querySelector(".chips").textContent, performance.now() - begun]);
        });""",
        {**site.daemon.pool(), "workers": workers},
    )

    assert rows[:4] == ["forkserver", "consumer", "email/900", "email/777"]
    assert len(rows) == 2 + 24
    assert summary == "1,000 workers: 1 held1 running998 idle"
    assert took_ms < 200


STATUS = {"state": "running", "pools": {}, "exits": []}


@pytest.mark.parametrize(
    ("changes", "headline"),
    [
        ({}, "All is well"),
        ({"state": "held", "why": "broken"}, "Needs attention: email"),
        ({"state": "degraded"}, "Needs attention: email"),
        ({"consumer": {"state": "backoff", "connection": {}}}, "Worth a look: email"),
        ({"consumer": {"connection": {"state": "blocked"}}}, "Needs attention: email"),
        ({"symptoms": [{"text": "the queue is shared", "degrades": False}]}, "Worth a look: email"),
        ({"symptoms": [{"text": "copies are refused", "degrades": True}]}, "Needs attention: email"),
        ({"workers": [{"state": "held"}, {"state": "idle"}]}, "Needs attention: email"),
        ({"measures": {"ledger": {"rows": 95, "keep_max": 100}}}, "Worth a look: email"),
        ({"state": "starting", "consumer": {"connection": {"state": "connecting"}}}, "In transition: email"),
    ],
)
def test_the_headline_names_the_worst(site: Site, changes: dict[str, Any], headline: str) -> None:
    pool = {"state": "ok", "why": "", "workers": [], "consumer": {}, "forkserver": {}} | changes

    said = site.browser.driver.execute_async_script(
        'const [status, done] = arguments; import("/static/concerns.js")'
        ".then(({ concerns, headline }) => done(headline(concerns(status)).text))",
        STATUS | {"pools": {"email": pool}},
    )

    assert said == headline


def test_where_reading_needs_the_token_the_page_asks_for_it(page: Browser, site: Site) -> None:
    port = free_port()
    web = f'[web]\nlisten = "0.0.0.0:{port}"\ntoken_file = "{site.daemon.directory / "token"}"'
    site.daemon.configure(SETTINGS, web)
    site.daemon.ask("reload", wait=False)
    eventually(lambda: answers(port), "the web process listens there")

    page.open(f"http://127.0.0.1:{port}/")
    page.sees("#banner", "Locked")
    assert page.text("#pools") == ""
    enter_token(page, TOKEN)

    page.sees("#fresh", "live")
    page.sees(".processes", "email/0")
    assert page.text("#banner") == ""
    assert all("401" in line or "ERR_" in line for line in page.complaints())
