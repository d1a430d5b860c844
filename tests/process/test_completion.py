"""Shell completion with a real daemon: in a real bash, and by the variables with which zsh and fish ask."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.master.host.pidfile import PID_FILE, find_holder
from tests.support.shells import with_command
from tests.support.site import Site, make_site
from tests.support.tmux import tmux
from tests.support.waiting import eventually

OTHER = '[pools.post]\nqueue = "newc.mail"\nhandler = "site_handler:run"\npath = ["."]\nworkers = 2\nmax_attempts = 1\n'


def prepare(site: Site) -> None:
    """Make `preforkd` a command that finds the site by itself, and write its script for bash."""
    site.environment["PREFORKD_CONFIG"] = str(site.config)
    site.environment["PATH"] = f"{with_command(site.folder)}:{os.environ['PATH']}"
    (site.folder / "completion.bash").write_text(site.ok("completion", "bash"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Its pools: `mail` (queue mail), `post` (queue newc.mail) with dead letters, one with an odd id."""
    with make_site(tmp_path_factory.mktemp("completion")) as site:
        site.config.write_text(site.config.read_text() + OTHER)
        prepare(site)
        site.ok("start")
        site.ok("publish", "post", "--id-prefix", "ORDER:1", "--count", "3", stdin="fail\n")
        for prefix in ("with space", "$(touch hacked)", "-option", "*"):
            site.ok("publish", "post", f"--id-prefix={prefix}", stdin="crash\n")
        site.wait_for_pool_counter("post", "dead", 7)
        assert site.log_path.exists()
        yield site


def bash(site: Site, line: str, *, words: list[str] | None = None, before: str = "", **environment: str) -> list[str]:
    """What bash offers for a line with the cursor at its end, quoted as it inserts it.

    `words`: with COMP_WORDS alone, as an older script gives them. `before`: run before that.
    """
    if words is None:
        variables = 'COMP_LINE="$1"; COMP_POINT=${#1}; COMP_WORDS=($1); COMP_CWORD=0'
    else:
        variables = f'shift; COMP_WORDS=("$@"); COMP_CWORD={len(words) - 1}; COMP_LINE=; COMP_POINT=0'
    script = f"""
        {before}
        source completion.bash
        [[ $(complete -p preforkd) == *' -F _preforkd_completion '* ]] || exit 9
        {variables}
        _preforkd_completion preforkd
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", line, *(words or [])],
        env=site.environment | environment,
        cwd=site.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [word for word in done.stdout.splitlines() if word]


def by_protocol(site: Site, shell: str, words: str, current: str) -> list[str]:
    """What the script of another shell is answered: lines in the form of that shell."""
    variables = {"_PREFORKD_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": current}
    done = site.cli(**variables)
    assert (done.returncode, done.stderr) == (0, "")
    return [line for line in done.stdout.splitlines() if line]


# ---- bash -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("preforkd st", ["start", "stop", "status"]),
        ("preforkd --config x.toml res", ["restart", "resume"]),
        ("preforkd dead ", ["drop", "list", "retry", "show"]),
        ("preforkd pause ", ["mail", "post", "newc.mail"]),
        ("preforkd scale po", ["post"]),
        ("preforkd publish newc", ["newc.mail"]),
        ("preforkd exits --pool po", ["post"]),
        ("preforkd exits --cause boot", ["boot_failed"]),
        ("preforkd stop --n", ["--now"]),
        ("preforkd status --conf", ["--config"]),
        ("preforkd dead show post ORDER:1", ["12", "11", "10"]),
        ("preforkd dead retry newc.mail ORDER:10 ORDER:1", ["12", "11"]),
        ("preforkd dead drop --parked post ", []),
        ("preforkd dead list mail extra ", []),
        ("preforkd pending drop post ", []),
        ("preforkd why post/", ["post/0", "post/1"]),
        ("preforkd why newc.mail/1", ["newc.mail/1"]),
        ("preforkd completion ", ["bash", "zsh", "fish"]),
        ("preforkd why --message with", [r"with\ space0"]),
        ("preforkd why '$(", ["$(touch hacked)0"]),
        (r"preforkd why \$", [r"\$\(touch\ hacked\)0"]),
        ("preforkd why -", ["--message", "--config", "--env-file", "-h", "--help"]),
        ("preforkd why -- -", []),
        (r"preforkd why \*", [r"\*0"]),
    ],
)
def test_bash_is_offered_what_fits(site: Site, line: str, offered: list[str]) -> None:
    assert sorted(bash(site, line)) == sorted(offered)
    assert not (site.folder / "hacked").exists()


def test_where_colons_split_no_words_they_are_kept(site: Site) -> None:
    assert bash(site, "preforkd dead show post ORDER:12", before="COMP_WORDBREAKS=${COMP_WORDBREAKS//:}") == [
        "ORDER:12"
    ]


def test_words_without_a_line_are_understood(site: Site) -> None:
    assert bash(site, "", words=["preforkd", "pause", "po"]) == ["post"]
    assert bash(site, "", words=["preforkd", "re"]) == ["restart", "reload", "resume", "retry"]


def test_a_message_that_runs_is_offered(site: Site) -> None:
    os.mkfifo(site.folder / "gate")
    site.ok("publish", "mail", "--id-prefix", "RUN-", stdin="wait gate\n")
    site.wait_until_running("RUN-0")
    try:
        assert bash(site, "preforkd why RU") == ["RUN-0"]
    finally:
        (site.folder / "gate").write_text("go on")


def test_tab_completes_in_an_interactive_bash(site: Site) -> None:
    with tmux(site.folder, site.config, width=100) as terminal:
        terminal.runs("bash --norc")
        terminal.runs("PS1='$ '; bind 'set enable-bracketed-paste off'; clear")
        terminal.runs(f'export PREFORKD_CONFIG={site.config}; eval "$(preforkd completion bash)"; clear')
        terminal.at_prompt()
        terminal.types("preforkd dead show newc", "Tab")
        terminal.shows("preforkd dead show newc.mail")
        terminal.types("ORDER:1", "Tab", "Tab")
        terminal.shows("10", "11", "12")
        terminal.types("2", "Tab", "--js", "Tab")
        terminal.shows("preforkd dead show newc.mail ORDER:12 --json")


# ---- zsh and fish ---------------------------------------------------------------------------------------------------


def test_zsh_is_offered_names_with_their_meaning(site: Site) -> None:
    assert by_protocol(site, "zsh", "preforkd pause po", "2") == ["plain", "post", "pool, queue newc.mail"]
    assert by_protocol(site, "zsh", "preforkd dead show post ORDER:12", "4") == ["plain", r"ORDER\:12", "failed"]
    assert by_protocol(site, "zsh", "preforkd st", "1")[:3] == [
        "plain",
        "start",
        "Start the daemon, and return when it is ready",
    ]


def test_fish_is_offered_names_with_their_meaning(site: Site) -> None:
    assert by_protocol(site, "fish", "preforkd pause po", "po") == ["plain,post\tpool, queue newc.mail"]
    assert "plain,ORDER:12\tfailed" in by_protocol(site, "fish", "preforkd dead show post ", "")


# ---- nothing to ask, and nothing that answers -----------------------------------------------------------------------


def test_a_stopped_daemon_holds_up_no_prompt(site: Site) -> None:
    holder = find_holder(site.folder / "run" / PID_FILE)
    assert holder is not None
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        assert bash(site, "preforkd pause po") == ["post"], "the configuration knows it"
        assert by_protocol(site, "fish", "preforkd pending drop post ", "") == []
    finally:
        os.kill(holder.pid, signal.SIGCONT)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Site]:
    """A configuration without a daemon."""
    with make_site(tmp_path) as site:
        prepare(site)
        yield site


def test_without_a_daemon_the_configuration_is_enough(elsewhere: Site) -> None:
    assert bash(elsewhere, "preforkd pause ") == ["mail"]
    assert bash(elsewhere, "preforkd pause ", PREFORKD_CONFIG="/nowhere") == []
    assert bash(elsewhere, f"preforkd pause --config {elsewhere.config} ", PREFORKD_CONFIG="/nowhere") == ["mail"]


@pytest.mark.parametrize(
    "text", ["no toml at all", "", "[pools]\nmail = 7\n", '[daemon]\nruntime_dir = "${NO_SUCH}"\n']
)
def test_a_file_with_mistakes_is_passed_over_in_silence(elsewhere: Site, text: str) -> None:
    elsewhere.config.write_text(text)

    for shell, current in (("zsh", "2"), ("fish", "")):
        assert by_protocol(elsewhere, shell, "preforkd pause ", current) == []
    assert bash(elsewhere, "preforkd st") == ["start", "stop", "status"]


def test_a_socket_that_accepts_and_says_nothing_is_given_up(elsewhere: Site) -> None:
    (elsewhere.folder / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(elsewhere.folder / "run" / "control.sock"))
        silent.listen(8)
        assert bash(elsewhere, "preforkd pause ") == ["mail"]


def test_a_socket_that_is_dead_or_full_is_given_up(elsewhere: Site) -> None:
    (elsewhere.folder / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as other:
        full.bind(str(elsewhere.folder / "run" / "control.sock"))
        assert bash(elsewhere, "preforkd pause ") == ["mail"], "nothing listens"
        full.listen(0)
        other.setblocking(False)
        other.connect(str(elsewhere.folder / "run" / "control.sock"))
        assert bash(elsewhere, "preforkd pause ") == ["mail"], "the backlog is full"


def test_a_log_and_a_history_that_are_pipes_hold_up_no_prompt(elsewhere: Site) -> None:
    (elsewhere.folder / "state").mkdir()
    for name in ("preforkd.log", "exits.jsonl"):
        os.mkfifo(elsewhere.folder / "state" / name)

    assert bash(elsewhere, "preforkd dead show mail ") == []
    assert bash(elsewhere, "preforkd why ") == ["mail"]


def test_words_that_are_nonsense_are_no_error(elsewhere: Site) -> None:
    for variables in (
        {"COMP_WORDS": "preforkd 'open", "COMP_CWORD": "1"},
        {"COMP_WORDS": "preforkd", "COMP_CWORD": "many"},
        {"COMP_CWORD": "1"},
        {"COMP_WORDS": "", "COMP_CWORD": "7"},
    ):
        for shell in ("bash", "zsh", "fish"):
            done = elsewhere.cli(_PREFORKD_COMPLETE=f"{shell}_complete", **variables)
            assert (done.returncode, done.stderr) == (0, "")


def test_a_shell_that_has_stopped_reading_sees_no_error(elsewhere: Site) -> None:
    read, write = os.pipe()
    os.close(read)
    variables = {"_PREFORKD_COMPLETE": "fish_complete", "COMP_WORDS": "preforkd st", "COMP_CWORD": "st"}

    done = subprocess.run(
        elsewhere.command(), env=elsewhere.environment | variables, stdout=write, stderr=subprocess.PIPE, timeout=60
    )

    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_other_instruction_of_the_protocol_prints_our_script(elsewhere: Site) -> None:
    done = elsewhere.cli(_PREFORKD_COMPLETE="bash_source")

    assert done.returncode == 0
    assert done.stdout.rstrip("\n") == elsewhere.ok("completion", "bash").rstrip("\n")
    eventually(lambda: not elsewhere.processes(), "it left nothing behind")
