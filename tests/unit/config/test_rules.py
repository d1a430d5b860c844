"""What values must satisfy, one row a rule: a line of the file, and what is said about it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from supervisor.brokers.names import DELAY_LADDER_S, retry_queue
from supervisor.config.load import interpret
from supervisor.config.pool_rules import LONGEST_DELAY_S
from supervisor.config.schema import Config
from supervisor.errors import ConfigError

POOL = '[pools.email]\nqueue = "email"\nhandler = "myapp.email:send"\n'


def read(text: str) -> Config:
    return interpret(tomllib.loads(text), Path("/etc/preforkd/preforkd.toml"), {})


def only_problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    (problem,) = caught.value.problems
    return str(problem)


def pool(line: str) -> str:
    name = line.partition(" =")[0]
    kept = "".join(known + "\n" for known in POOL.splitlines() if known.partition(" =")[0] != name)
    return kept + line


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('queue = ""', "must not be empty"),
        ('queue = "amq.x"', "belong to the broker"),
        (f'queue = "{"q" * 240}"', "not be longer than 239 bytes"),
        ('handler = ""', 'must be "module:function"'),
        ('handler = "myapp/email.py:send"', 'must be "module:function"'),
        ('handler = "myapp.email:send()"', 'did you mean "myapp.email:send"?'),
        ('handler = "my app:send"', 'must be "module:function"'),
        ('init = "myapp"', 'must be "module:function"'),
        ('middleware = ["myapp.Locale"]', "'myapp.Locale' must be \"module:Class\", each only once"),
        ('middleware = ["myapp.Locale"]', 'did you mean "myapp:Locale"?'),
        ('middleware = ["m:A", "m:B", "m:A"]', "'m:A' must be \"module:Class\", each only once"),
        ('middleware = "m:A"', "expected array, got str"),
        ("workers = 0", "must be from 1 to 10,000"),
        ("workers = 10001", "must be from 1 to 10,000"),
        ("prefetch = 0", "must be from 1 to 65,535"),
        ("prefetch = 65536", "must be from 1 to 65,535"),
        ("timeout = 0", "must be more than 0"),
        ('soft_timeout = "30s"', 'must be below timeout = 30s ("" turns it off)'),
        ('max_timeout = "29s"', "must not be below timeout = 30s (lower timeout, or set max_timeout to at least 30s)"),
        (
            'timeout = "10m"\nmax_timeout = "5m"',
            'max_timeout = "5m": must not be below timeout = 10m (lower timeout, or set max_timeout to at least 10m)',
        ),
        ("kill_grace = 0", "must be more than 0"),
        ("max_attempts = 0", "must be at least 1"),
        ("retry_delays = []", "must name at least one delay"),
        ("retry_delays = [0]", "more than 0 and at most 7d"),
        ('retry_delays = ["8d"]', "more than 0 and at most 7d"),
        ('on_crash = "prak"', 'must be one of retry, park, inbox (did you mean "park"?)'),
        ("max_messages = -1", "must be at least 0"),
        ("max_age = -1", "must not be negative"),
        ('max_memory = "1GiB"', "must be below kill_memory"),
        ('kill_memory = "1MiB"', "max_memory = 256MiB (default): must be below kill_memory"),
        ('restart_backoff = ["2s", "1s"]', "not above the second"),
        ('restart_backoff = ["0s", "1s"]', "must be more than 0"),
        ('restart_intensity = [0, "1s"]', "both must be more than 0"),
        ("restart_intensity = [1, 0]", "both must be more than 0"),
        ("hold_retry = 0", "must be more than 0"),
        ('missing_id = "dead-letter"', 'did you mean "dead_letter"?'),
        ("consumer_priority = 2147483648", "must be from"),
        ('queue_arguments = { "x-queue-type" = "stream" }', "use a quorum or classic queue"),
        ('queue_arguments = { "x-message-ttl" = inf }', "not finite"),
        ('queue_arguments = { "x-since" = 2026-01-01 }', "'x-since' has a value of a type that AMQP does not have"),
        (f'queue_arguments = {{ "{"k" * 256}" = 1 }}', "AMQP allows 255"),
        (f'bindings = [{{ exchange = "x", routing_key = "{"é" * 128}" }}]', "256 bytes in UTF-8, AMQP allows 255"),
        (f'bindings = [{{ exchange = "{"x" * 256}" }}]', "bindings[0].exchange"),
        ('bindings = [{ exchange = "" }]', "bindings[0].exchange"),
    ],
)
def test_a_pool_that_cannot_work_is_refused(line: str, said: str) -> None:
    assert said in only_problem(pool(line))


@pytest.mark.parametrize(
    "line",
    [
        'handler = "_m.x1:Ärger"',
        f'queue = "{"q" * 239}"',
        'soft_timeout = "29s"',
        'max_timeout = "30s"',
        'kill_memory = ""',
        'max_memory = ""',
        'retry_delays = ["7d"]',
        "consumer_priority = -5",
        'queue_arguments = { "x-queue-type" = "quorum", "x-max-length" = 5, "x-ratio" = 0.5, "x-list" = ["a", true] }',
        'init = ""',
    ],
)
def test_a_pool_at_the_edge_is_accepted(line: str) -> None:
    assert read(pool(line)).pools["email"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[daemon]\nstate_dir = ""', "daemon.state_dir"),
        ('[daemon]\nruntime_dir = ""', "daemon.runtime_dir"),
        ('[daemon]\ngroup = "mail"', "needs a user, too"),
        ('[log]\nlevel = "warn"', 'did you mean "warning"?'),
        ('[log]\nformat = "text"', "must be one of auto, json, console"),
        ('[log]\nfile = ""', "must not be empty"),
        ("[broker]\nurl = []", "must not be empty"),
        ('[broker]\nurl = ["embedded:", "amqp://h"]', "cannot be in a list with others"),
        ('[broker]\nurl = "redis://h"', 'must be "embedded:", "amqp://…" or "amqps://…"'),
        ('[broker]\nurl = "amqp://"', "names no host"),
        ('[broker]\nurl = "amqp://h:port"', "the port is no number"),
        ('[broker]\nurl = "amqp://h:99999"', "the port is no number"),
        ('[broker]\nurl = "amqp://[::1"', "brackets are for IPv6 hosts"),
        ('[broker]\nurl = "amqp://h/a/b"', "as %2F"),
        ('[broker]\nheartbeat = "500ms"', "whole seconds from 1s to 5m"),
        ('[broker]\nheartbeat = "1.5s"', "whole seconds from 1s to 5m"),
        ('[broker]\nheartbeat = "301s"', "whole seconds from 1s to 5m"),
        ("[broker]\nblocked_timeout = 0", "must be more than 0"),
        ("[broker]\nack_timeout = 0", "must be more than 0"),
        ('[broker.tls]\ncert_file = "c.pem"', "go together with key_file"),
        ('[broker.tls]\nkey_file = "c.pem"', "go together with key_file"),
        ('[ledger]\nsync = "of"', "must be one of full, normal"),
        ("[ledger]\nkeep = 0", "must be more than 0"),
        ("[ledger]\nkeep_max = 0", "must be at least 1"),
        ('[ledger]\ndedupe = "no"', "must be one of keep, redelivery"),
    ],
)
def test_a_section_that_cannot_work_is_refused(text: str, said: str) -> None:
    assert said in only_problem(f"{text}\n{POOL}")


@pytest.mark.parametrize("text", ["timeout = 30000", 'timeout = "6m"', 'timeout = "8h20m"'])
def test_max_timeout_follows_a_longer_timeout_where_it_is_left_out(text: str) -> None:
    settings = read(f"{POOL}{text}\n").pools["email"]
    assert settings.max_timeout_s == settings.timeout_s


@pytest.mark.parametrize(
    "url",
    [
        *("amqp://u:12#34@h", "amqp://u:12?34@h", "amqp://u:12/34@h", "amqp://u:pw#34@h", "amqp://u:12#34"),
        *("amqp://u:a b@h", "amqp://u:a\\tb@h", "amqp://u:a\\nb@h", "amqp://u:a\\u0000b@h", "amqp://u:a\\u202eb@h"),
        *("amqp:u:pw@h", "amqp:/u:pw@h", "amqp//u:pw@h", "amqp://u:pw@h:0", "amqp://u:pw@", "http://u:pw@h"),
    ],
)
def test_a_url_with_an_odd_character_is_refused_and_nothing_of_its_password_is_shown(url: str) -> None:
    said = only_problem(f'[broker]\nurl = "{url}"\n{POOL}')
    assert "broker.url" in said
    shown = said.partition(" = ")[2].partition('": ')[0]
    assert not [part for part in ("12", "34", "pw", "a b", "202e") if part in shown]


@pytest.mark.parametrize("url", ["embedded:", "amqp://h", "amqps://u:p%40@[::1]:5671/%2Fv", "amqp://h:1/"])
def test_a_url_of_a_known_kind_is_accepted(url: str) -> None:
    assert read(f'[broker]\nurl = "{url}"\n{POOL}').broker.urls == (url,)


def test_the_longest_delay_is_the_last_step_of_the_ladder() -> None:
    assert DELAY_LADDER_S[-1] == LONGEST_DELAY_S
    longest = "q" * 239
    assert all(len(retry_queue(longest, step_s)) <= 255 for step_s in DELAY_LADDER_S)


# ---- across sections ----------------------------------------------------------------------------------------------


def amqp(line: str) -> str:
    return f'[broker]\nurl = "amqp://h"\n{pool(line)}'


def test_a_prefetch_window_must_be_settled_within_the_ack_timeout() -> None:
    said = only_problem(amqp("workers = 1\nprefetch = 64"))
    assert said.startswith("pools.email.prefetch = 64: with 1 worker(s) at 30s each")
    assert "may take 32m, but" in said
    assert "ack_timeout = 30m (lower prefetch to 59 or less, or" in said
    assert read(amqp("workers = 1\nprefetch = 59"))


@pytest.mark.parametrize(
    ("lines", "prefetch"),
    [
        ("workers = 1", 59),
        ("workers = 2", 112),
        ("workers = 4", 112),
        ('workers = 1\ntimeout = "1s"', 112),
        ('workers = 2\ntimeout = "5m"', 10),
        ('workers = 2\ntimeout = "29m"\nmax_timeout = "29m"', 2),
    ],
)
def test_a_default_prefetch_is_as_much_as_the_ack_timeout_allows(lines: str, prefetch: int) -> None:
    assert read(amqp(lines)).pools["email"].prefetch == prefetch


def test_without_an_ack_timeout_the_default_prefetch_is_whole() -> None:
    assert read(pool("workers = 1")).pools["email"].prefetch == 112


@pytest.mark.parametrize("wrong", ['timeout = "0s"', "timeout = -1", "workers = 0", 'timeout = "soon"'])
def test_what_the_default_prefetch_is_fitted_to_may_be_wrong(wrong: str) -> None:
    assert wrong.split()[0] in only_problem(amqp(wrong))


def test_the_window_counts_whole_rounds_of_all_workers() -> None:
    assert read(amqp("workers = 2\nprefetch = 118"))
    assert "lower prefetch to 118 or less" in only_problem(amqp("workers = 2\nprefetch = 119"))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('timeout = "1h"\nprefetch = 1', 'timeout = "1h": one run may take 3600 s (1h), but the broker takes back'),
        ("timeout = 30000", "timeout = 30000: one run may take 30000 s (8h20m), but the broker takes back"),
        ("timeout = 30000", '(lower timeout (a number is seconds; for milliseconds write "30000ms"), or raise the'),
        ('timeout = "30000s"', "(lower timeout, or raise the broker's consumer_timeout and broker.ack_timeout)"),
        ("workers = 50\ntimeout = 30000\nmax_timeout = 30000", "pools.email.timeout = 30000: one run may take 30000 s"),
    ],
)
def test_a_timeout_beyond_the_ack_timeout_is_a_fault_of_the_timeout(lines: str, said: str) -> None:
    """Neither of prefetch, which may be at its default, nor of max_timeout, which follows."""
    assert said in only_problem(amqp(lines))


def test_a_limit_of_hours_is_shown_in_seconds_where_it_is_compared() -> None:
    assert "must be below timeout = 7200 s (2h)" in only_problem(pool('timeout = "2h"\nsoft_timeout = "3h"'))


def test_the_embedded_queue_has_no_ack_timeout() -> None:
    assert read(pool("workers = 1"))


def test_two_pools_cannot_share_a_queue() -> None:
    said = only_problem(POOL + POOL.replace("[pools.email]", "[pools.other]"))
    assert said.startswith('pools.other.queue = "email": pools.email has this queue already')


@pytest.mark.parametrize("name", ["a b", "a/b", "ä", "", ".."])
def test_a_pool_name_is_fit_for_files_and_logs(name: str) -> None:
    said = only_problem(POOL.replace("email]", f'"{name}"]'))
    assert "letters, digits, _ and - only" in said


def test_a_pool_cannot_have_the_name_of_the_control_socket() -> None:
    said = only_problem(POOL.replace("email]", "control]"))
    assert said == "pools.control: the socket control.sock is the daemon's own (give the pool another name)"


def test_a_name_that_makes_the_path_of_a_socket_too_long_is_named() -> None:
    said = only_problem(POOL.replace("email]", "p" * 108 + "]"))
    assert said.endswith("(choose a shorter runtime_dir, or a shorter name than " + "p" * 108 + ")")


def test_a_socket_path_fits_into_107_bytes() -> None:
    fits = "/" + "r" * (107 - len("/control.sock") - 1)
    assert read(f'[daemon]\nruntime_dir = "{fits}"\n{POOL}')
    said = only_problem(f'[daemon]\nruntime_dir = "{fits}r"\n{POOL}')
    assert said.startswith("daemon.runtime_dir") and "than the 107 bytes" in said


def test_the_longest_pool_name_decides_the_socket_path() -> None:
    fits = "/" + "r" * (107 - len("/control.sock") - 1)
    said = only_problem(f'[daemon]\nruntime_dir = "{fits}"\n' + POOL.replace("[pools.email]", "[pools.longer-name]"))
    assert "longer-name.sock" in said


def test_a_value_that_is_wrong_already_is_not_judged_against_others() -> None:
    assert only_problem(pool('timeout = "30x"\nsoft_timeout = "40s"')).startswith("pools.email.timeout = ")
    assert only_problem(amqp("prefetch = 0")).startswith("pools.email.prefetch = 0: must be from")
