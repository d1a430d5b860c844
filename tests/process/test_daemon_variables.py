"""`env_file` with a real daemon: who has its variables, what a reload takes up, and commands in a shell without it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.cli.catalogue import COMMANDS
from tests.support.site import Site, make_site
from tests.support.waiting import eventually

HANDLER = """
import json, os
from pathlib import Path

HERE = Path(__file__).parent

def run(message):
    seen = {name: os.environ[name] for name in ("API_KEY", "MAIL_URL", "STATE", "OWN") if name in os.environ}
    (HERE / f"seen-{message.text()}.json").write_text(json.dumps(seen))
"""
PASSWORD = "correct-horse"
API_KEY = "battery-staple"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site whose state directory and broker come from variables of `site.env`."""
    with make_site(tmp_path) as made:
        (tmp_path / "site_handler.py").write_text(HANDLER)
        text = (
            made.config.read_text()
            .replace('"state"', '"${STATE}"')
            .replace("[broker]", 'env_file = "site.env"\n[broker]')
        )
        made.config.write_text(text + '[pools.mail.environment]\nOWN = "of the pool"\n')
        write_env(made, STATE="state", API_KEY=API_KEY, OWN="of the file")
        yield made


def write_env(site: Site, name: str = "site.env", **variables: str) -> None:
    path = site.folder / name
    path.touch(mode=0o600)
    path.write_text("".join(f"{key}={value}\n" for key, value in variables.items()))


def seen(site: Site, text: str) -> dict[str, str]:
    """The variables that a handler sees."""
    site.ok("publish", "mail", stdin=f"{text}\n")
    note = site.folder / f"seen-{text}.json"
    eventually(note.exists, "the handler has run")
    found: dict[str, str] = json.loads(note.read_text())
    return found


def test_handlers_have_the_variables_and_the_pools_own_go_first(site: Site) -> None:
    site.ok("start")

    assert seen(site, "a") == {"API_KEY": API_KEY, "STATE": "state", "OWN": "of the pool"}


def test_a_handler_does_not_have_the_brokers_url_from_the_file(site: Site) -> None:
    """The broker cannot be reached, so the handler module tells what it sees at its import."""
    (site.folder / "site_handler.py").write_text(
        "import json, os\nfrom pathlib import Path\n"
        "seen = Path(__file__).with_name('seen.new')\nseen.write_text(json.dumps(dict(os.environ)))\n"
        "seen.rename(seen.with_suffix('.json'))\ndef run(message): pass\n"
    )
    site.config.write_text(site.config.read_text().replace("embedded:", "${MAIL_URL}"))
    url = f"amqp://mailer:{PASSWORD}@127.0.0.1:1/"
    write_env(site, STATE="state", API_KEY=API_KEY, MAIL_URL=url, MAIL_PASSWORD=PASSWORD)

    started = site.cli("start", "--timeout", "1s")  # it goes on starting
    eventually((site.folder / "seen.json").exists, "the handler is imported")
    eventually(lambda: "consumer.disconnected" in site.log_path.read_text(), "the failed connection is told")

    environment = json.loads((site.folder / "seen.json").read_text())
    assert environment["API_KEY"] == API_KEY
    assert PASSWORD not in "".join(environment.values())
    said = [site.cli(*words) for words in (("status",), ("status", "--json"), ("why", "mail"), ("exits",))]
    told = "".join(each.stdout + each.stderr for each in [started, *said]) + site.log_path.read_text()
    assert "connecting" in told
    assert PASSWORD not in told
    assert API_KEY not in told


def test_a_reload_takes_up_new_values_and_names_the_key(site: Site) -> None:
    site.ok("start")
    consumer = site.status()["pools"]["mail"]["consumer"]["pid"]
    write_env(site, STATE="state", API_KEY="new")

    said = site.ok("reload")

    assert "[daemon] changed: env_file" in said
    assert seen(site, "b")["API_KEY"] == "new"
    assert site.status()["pools"]["mail"]["consumer"]["pid"] == consumer, "its connection is not concerned"


def test_a_reload_with_a_bad_line_changes_nothing(site: Site) -> None:
    site.ok("start")
    write_env(site, STATE="state", API_KEY=f'"{API_KEY}"')

    refused = site.cli("reload")

    assert refused.returncode == 78
    assert "site.env line 2, API_KEY: the value begins with a quote" in refused.stderr
    assert API_KEY not in refused.stderr + site.log_path.read_text()
    write_env(site, STATE="state", API_KEY="not loaded yet")
    assert seen(site, "c")["API_KEY"] == API_KEY


def test_the_file_of_the_command_line_is_read_again_by_a_reload(site: Site) -> None:
    write_env(site, "other.env", STATE="state", API_KEY="of the other")
    site.ok("--env-file", str(site.folder / "other.env"), "start")
    assert seen(site, "d")["API_KEY"] == "of the other"

    write_env(site, "other.env", STATE="state", API_KEY="new")
    site.ok("reload")

    assert seen(site, "e")["API_KEY"] == "new"


def test_check_names_the_variables_and_gives_them_to_the_import(site: Site) -> None:
    (site.folder / "site_handler.py").write_text(f"import os\nassert os.environ['API_KEY'] == {API_KEY!r}\n" + HANDLER)

    said = site.ok("check")

    assert "site.env adds STATE, API_KEY, OWN to the environment" in said
    assert API_KEY not in said


# ---- another shell --------------------------------------------------------------------------------------------------

WITHOUT = {
    "status": (["status"], 0),
    "status --json": (["status", "--json"], 0),
    "status --probe": (["status", "--probe", "live"], 0),
    "top": (["top", "--once"], 0),
    "pause": (["pause", "mail"], 0),
    "resume": (["resume", "mail"], 0),
    "scale": (["scale", "mail", "1"], 0),
    "retry": (["retry", "mail"], 0),
    "exits": (["exits"], 0),
    "logs": (["logs"], 0),
    "logs of a pool": (["logs", "mail"], 0),
    "exits --pool": (["exits", "--pool", "mail"], 0),
    "why a pool": (["why", "mail"], 0),
    "why a worker": (["why", "mail/0"], 0),
    "why a message": (["why", "known"], 0),
    "pending": (["pending", "list", "mail"], 0),
    "metrics": (["metrics"], 0),
    "service": (["service"], 0),
    "completion": (["completion", "bash"], 0),
    "start of a running one": (["start"], 1),
    "dead list --help": (["dead", "list", "--help"], 0),
}
"""Commands that find the daemon, and ask it or its files: no broker, so no variable of the broker's."""

WITH = {
    "check": ["check"],
    "restart": ["restart"],
    "run": ["run"],
    "publish": ["publish", "mail"],
    "dead list": ["dead", "list", "mail"],
}
"""Commands that use the broker's URL."""


APART = {
    "init": "reads no configuration",
    "inbox": "as init",
    "drill": "has its own",
    "fleet": "tests/fleet: asks the store",
    "reload": "below",
    "stop": "below",
}


def test_every_command_is_in_one_of_the_tables() -> None:
    tabled = {words[0] for words, _code in WITHOUT.values()} | {words[0] for words in WITH.values()}
    assert tabled | set(APART) == set(COMMANDS)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running daemon that was given the broker's URL by its environment; later commands are not given it."""
    with make_site(tmp_path_factory.mktemp("elsewhere")) as made:
        made.config.write_text(made.config.read_text().replace('"embedded:"', '"${MAIL_URL}"'))
        made.environment["MAIL_URL"] = "embedded:"
        made.ok("start")
        made.ok("publish", "mail", "--id-prefix", "known", stdin="x\n")
        made.wait_for_counter("done", 1)
        del made.environment["MAIL_URL"]
        yield made


@pytest.mark.parametrize("name", WITHOUT)
def test_a_command_that_needs_no_broker_does_not_ask_for_its_variable(elsewhere: Site, name: str) -> None:
    words, code = WITHOUT[name]
    words = ["why", "known0"] if name == "why a message" else words

    done = elsewhere.cli(*words)

    assert "MAIL_URL" not in done.stdout + done.stderr
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize("name", WITH)
def test_a_command_that_uses_the_broker_names_the_variable(elsewhere: Site, name: str) -> None:
    done = elsewhere.cli(*WITH[name])

    assert done.returncode == 78
    assert "the environment variable MAIL_URL is not set" in done.stdout + done.stderr
    assert elsewhere.status()["state"] == "running"


@pytest.mark.parametrize("words", [["publish", "mail"], ["dead", "list", "mail"], ["why", "m0"]], ids=" ".join)
def test_a_command_about_messages_asks_for_no_variable_of_web_and_hooks(tmp_path: Path, words: list[str]) -> None:
    with make_site(tmp_path) as site:
        sidecars = '[web]\nlisten = "127.0.0.1:9750"\ntoken = "${WEB_TOKEN}"\n[hooks]\nwebhook = "${HOOK_URL}"\n'
        site.config.write_text(site.config.read_text() + sidecars)

        done = site.cli(*words)

        told = done.stdout + done.stderr
        assert "WEB_TOKEN" not in told
        assert "HOOK_URL" not in told
        assert done.returncode != 78, told


def test_reload_asks_the_daemon_which_has_the_variable(elsewhere: Site) -> None:
    assert "reloaded" in elsewhere.ok("reload")


def test_stop_and_the_commands_after_it_need_no_variable(tmp_path: Path) -> None:
    with make_site(tmp_path) as site:
        site.config.write_text(site.config.read_text().replace('"embedded:"', '"${MAIL_URL}"'))
        site.environment["MAIL_URL"] = "embedded:"
        site.ok("start")
        site.ok("publish", "mail", "--id-prefix", "m", stdin="x\n")
        site.wait_for_counter("done", 1)
        del site.environment["MAIL_URL"]

        assert "stopped pid" in site.ok("stop")
        assert "not running" in site.ok("stop")
        assert site.cli("status").returncode == 3
        assert "mail" in site.ok("exits")
        assert "mail" in site.ok("why", "mail")
        unknown = site.cli("why", "m0")
        assert "the ledgers could not be read" in unknown.stderr
        assert "MAIL_URL is not set" in unknown.stderr
        assert site.cli("exits", "--pool", "nail").returncode == 1
        assert "there are mail" in site.cli("exits", "--pool", "nail").stderr


def test_a_daemon_that_has_no_socket_yet_is_stopped_without_the_variable(tmp_path: Path) -> None:
    with make_site(tmp_path) as site:
        site.config.write_text(site.config.read_text().replace('"embedded:"', '"${MAIL_URL}"'))
        site.environment["MAIL_URL"] = "embedded:"
        site.ok("start")
        del site.environment["MAIL_URL"]
        (site.folder / "run" / "control.sock").unlink()

        assert "stopped pid" in site.ok("stop")
