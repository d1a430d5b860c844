"""From a file to a Config: where it is looked for, what is filled in, and everything wrong told at once."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from supervisor.config import location
from supervisor.config.load import interpret, load
from supervisor.config.schema import (
    Binding,
    BrokerConfig,
    Config,
    DaemonConfig,
    LedgerConfig,
    LogConfig,
    PoolConfig,
)
from supervisor.errors import ConfigError

MINIMAL = """
[pools.email]
queue = "email"
handler = "myapp.email:send"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the file under test; nothing else is found by searching."""
    monkeypatch.delenv("PREFORKD_CONFIG", raising=False)
    monkeypatch.setattr(location, "SEARCHED", ("preforkd.toml",))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "preforkd.toml"


def read(text: str, **environment: str) -> Config:
    return interpret(tomllib.loads(text), Path("/etc/preforkd/preforkd.toml"), environment)


def problems(text: str, **environment: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, **environment)
    assert caught.value.exit_code == 78
    return [str(problem) for problem in caught.value.problems]


# ---- finding ------------------------------------------------------------------------------------------------------


def test_a_named_file_comes_before_the_variable_and_the_working_directory(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, by_variable = tmp_path / "named.toml", tmp_path / "variable.toml"
    for path in (named, by_variable, file):
        path.write_text(MINIMAL)
    assert load(None).source == str(file)
    monkeypatch.setenv("PREFORKD_CONFIG", str(by_variable))
    assert load(None).source == str(by_variable)
    assert load("named.toml").source == str(named)


def test_a_named_file_that_is_not_there_is_not_replaced_by_another(file: Path) -> None:
    file.write_text(MINIMAL)
    with pytest.raises(ConfigError, match=r"there is no such file.*preforkd init"):
        load("other.toml")


def test_finding_nothing_says_where_it_looked_and_what_to_do(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"--config, \$PREFORKD_CONFIG, preforkd.toml.*preforkd init"):
        load(None)


def test_a_file_that_all_users_may_write_to_is_refused(file: Path) -> None:
    file.write_text(MINIMAL)
    file.chmod(0o666)
    with pytest.raises(ConfigError, match=r"all users may write to it.*chmod o-w"):
        load(None)
    file.chmod(0o644)
    load(None)


def test_a_url_file_that_all_users_may_write_to_is_refused(file: Path) -> None:
    file.write_text(f'{MINIMAL}\n[broker]\nurl_file = "url"\n')
    (file.parent / "url").write_text("amqp://host/")
    (file.parent / "url").chmod(0o602)
    with pytest.raises(ConfigError, match=r"broker.url_file.*all users may write to .*url.*chmod o-w"):
        load(None)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
def test_root_takes_no_orders_from_a_file_of_another_user(file: Path) -> None:
    file.write_text(MINIMAL)
    os.chown(file, 12345, 0)
    with pytest.raises(ConfigError, match=r"owner: it belongs to uid 12345, which could choose what root runs.*chown"):
        load(None)


def test_a_mistake_in_toml_is_shown_with_line_and_column(file: Path) -> None:
    file.write_text("[daemon]\nstate_dir = \n")
    with pytest.raises(ConfigError) as caught:
        load(None)
    assert [str(problem) for problem in caught.value.problems] == ["line 2, column 13: not TOML: Invalid value"]
    assert caught.value.source == str(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"\xff\xfe", "not UTF-8"), (b"a = " + b"[" * 5000, "nested too deeply"), (b"a = ", "not TOML")],
)
def test_what_is_no_toml_is_refused_without_a_traceback(file: Path, content: bytes, reason: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        load(None)


def test_a_folder_is_no_configuration(file: Path) -> None:
    file.mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(None)


# ---- reading ------------------------------------------------------------------------------------------------------


def test_the_least_file_gives_the_defaults_of_the_schema() -> None:
    pools = {"email": PoolConfig("email", "email", "myapp.email:send")}
    assert read(MINIMAL) == Config(
        "/etc/preforkd/preforkd.toml", DaemonConfig(), LogConfig(), BrokerConfig(), LedgerConfig(), pools
    )


def test_every_kind_of_value_is_read() -> None:
    pool = read(
        """
        [pools.email]
        queue = "email"
        handler = "myapp.email:send"
        timeout = "1m"
        soft_timeout = 50
        max_memory = "1MiB"
        retry_delays = ["100ms", 2]
        restart_backoff = ["1s", "1m"]
        restart_intensity = [3, "10s"]
        bindings = [{ exchange = "mail", routing_key = "mail.#" }, { exchange = "all" }]
        queue_arguments = { "x-queue-type" = "classic", "x-max-priority" = 5 }
        declare = false
        [pools.email.environment]
        A = "1"
        """
    ).pools["email"]
    assert (pool.timeout_s, pool.soft_timeout_s, pool.max_memory_bytes) == (60.0, 50.0, 1024**2)
    assert (pool.retry_delays_s, pool.restart_backoff_s) == ((0.1, 2.0), (1.0, 60.0))
    assert pool.restart_intensity == (3, 10.0)
    assert pool.bindings == (Binding("mail", "mail.#"), Binding("all", ""))
    assert pool.queue_arguments == {"x-queue-type": "classic", "x-max-priority": 5}
    assert (pool.declare, pool.environment) == (False, {"A": "1"})


@pytest.mark.parametrize("key", ["soft_timeout", "max_wait", "max_messages", "max_age", "max_memory", "kill_memory"])
@pytest.mark.parametrize("off", ['""', "0"])
def test_a_limit_is_turned_off_by_nothing_or_zero(key: str, off: str) -> None:
    pool = read(MINIMAL + f"{key} = {off}").pools["email"]
    assert [getattr(pool, key + unit) for unit in ("", "_s", "_bytes") if hasattr(pool, key + unit)] == [0]


def test_relative_paths_start_at_the_folder_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    config = read(
        """
        [daemon]
        state_dir = "state"
        runtime_dir = "/run/x"
        [log]
        file = "log/preforkd.log"
        [broker]
        url = "amqps://host"
        tls = { ca_file = "~/ca.pem" }
        [pools.email]
        queue = "email"
        handler = "a:b"
        path = [".", "/srv/myapp"]
        """
    )
    assert config.daemon.state_dir == "/etc/preforkd/state"
    assert config.daemon.runtime_dir == "/run/x"
    assert config.log.file == "/etc/preforkd/log/preforkd.log"
    assert config.broker.tls.ca_file == "/home/ann/ca.pem"
    assert config.pools["email"].path == ("/etc/preforkd", "/srv/myapp")


def test_a_home_folder_of_an_unknown_user_is_a_problem() -> None:
    (problem,) = problems('[daemon]\nstate_dir = "~nosuchuser/x"' + MINIMAL)
    assert problem.startswith('daemon.state_dir = "~nosuchuser/x": the home folder of ~ cannot be found')


def test_stderr_is_no_path() -> None:
    assert read('[log]\nfile = "-"' + MINIMAL).log.file == "-"


# ---- secrets ------------------------------------------------------------------------------------------------------


def test_urls_are_read_as_one_or_as_a_list() -> None:
    assert read('[broker]\nurl = "amqp://h"' + MINIMAL).broker.urls == ("amqp://h",)
    assert read('[broker]\nurl = ["amqp://a", "amqps://b"]' + MINIMAL).broker.urls == ("amqp://a", "amqps://b")


def test_a_url_file_holds_one_url_a_line(file: Path, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("amqp://u:geheim@a\n\namqp://u:geheim@b\n")
    file.write_text('[broker]\nurl_file = "url"' + MINIMAL)
    assert load(None).broker.urls == ("amqp://u:geheim@a", "amqp://u:geheim@b")


@pytest.mark.parametrize(
    ("line", "content", "problem"),
    [
        ('url_file = "url"', None, "cannot be read: No such file"),
        ('url_file = "url"', b" \n", "contains no URL"),
        ('url_file = "url"', b"\xff", "it is not UTF-8"),
        ("url_file = 3", b"", "expected a string"),
        ('url_file = "url"\nurl = "amqp://h"', b"amqp://h", "url is given, too"),
    ],
)
def test_a_url_file_that_cannot_serve_is_a_problem(
    file: Path, tmp_path: Path, line: str, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / "url").write_bytes(content)
    file.write_text(f"[broker]\n{line}" + MINIMAL)
    with pytest.raises(ConfigError, match=rf"1 problem\(s\)\n  broker.url_file.*{problem}"):
        load(None)


def test_no_problem_shows_a_secret(file: Path, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("http://u:geheim@a/b/c")
    texts = [
        '[broker]\nurl_file = "url"',
        '[broker]\nurl = "http://u:geheim@a"',
        '[broker]\nurl = ["amqp://u:geheim@a:port", "amqp://u:geheim@b"]',
        '[brokers]\nurl = "amqp://u:geheim@a"',
        'broker_url = "amqp://u:geheim@a"',
        '[broker]\npassword = "geheim"\nurls = ["amqp://u:geheim@a"]',
        MINIMAL + 'init = "x"\n[pools.email.environment]\nTOKEN = ["geheim"]',
    ]
    for text in texts:
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load(None)
        assert "geheim" not in str(caught.value)


# ---- problems -----------------------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    assert problems(
        """
        [deamon]
        [daemon]
        stop_timeout = "60x"
        timeout = 3
        [broker]
        heartbeat = 0
        [pools.email]
        queue = "email"
        handler = "myapp.email.send"
        timout = "3s"
        workers = 0
        retry_delays = []
        bindings = [{ exchnge = "x" }]
        [pools.email.environment]
        A = 3
        """
    ) == [
        'deamon: there is no such section (did you mean "daemon"?)',
        "daemon.stop_timeout = \"60x\": unknown unit 'x': use one of ms, s, m, h, d",
        "daemon.timeout = 3: there is no such key (it belongs in [pools.NAME])",
        "broker.heartbeat = 0: must be whole seconds from 1s to 5m",
        'pools.email.handler = "myapp.email.send": must be "module:function", such as "myapp.email:send" '
        '(did you mean "myapp.email:send"?)',
        'pools.email.timout = "3s": there is no such key (did you mean "timeout"?)',
        "pools.email.workers = 0: must be from 1 to 10,000",
        "pools.email.retry_delays = []: must name at least one delay",
        'pools.email.bindings[0].exchnge = "x": there is no such key (did you mean "exchange"?)',
        "pools.email.bindings[0].exchange: this key is required",
        "pools.email.environment.A = ***: expected a string (put quotes around the value)",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('state_dir = "s"', 'state_dir = "s": there is no such key outside of the sections (it belongs in [daemon])'),
        ("workers = 2", "workers = 2: there is no such key outside of the sections (it belongs in [pools.NAME])"),
        ("nonsense = 2", "nonsense = 2: there is no such key outside of the sections"),
    ],
)
def test_a_key_before_the_first_section_is_sent_home(line: str, problem: str) -> None:
    assert problems(line + MINIMAL) == [problem]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "pools: there is no pool"),
        ("[pools]", "pools: there is no pool"),
        ("pools = 3", "pools = 3: expected a table of keys, got int"),
        ("daemon = 3" + MINIMAL, "daemon = 3: expected a table"),
        ("broker = []" + MINIMAL, "broker = []: expected a table"),
        ("broker.tls = 1" + MINIMAL, "broker.tls = 1: expected a table"),
        ("[pools]\nemail = 3", "pools.email = 3: expected a table"),
        (MINIMAL + "environment = 3", "pools.email.environment = ***: expected a table"),
        (MINIMAL + "bindings = 3", "pools.email.bindings = 3: expected a list of tables"),
        (MINIMAL + "bindings = [3]", "pools.email.bindings[0] = 3: expected a table"),
    ],
)
def test_a_value_in_place_of_a_section_is_one_problem(text: str, problem: str) -> None:
    (only,) = problems(text)
    assert only.startswith(problem)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('workers = "4"', "expected int, got str"),
        ("workers = true", "expected int, got bool"),
        ("workers = 1.5", "expected int, got float"),
        ("exclusive = 1", "expected bool, got int"),
        ("init = 3", "expected str, got int"),
        ('path = "/srv"', "expected array, got str"),
        ("queue_arguments = 3", "expected object, got int"),
        ("timeout = []", "not a duration"),
        ('max_memory = "1M"', "unknown unit"),
        ('retry_delays = "1s"', "expected a list of durations"),
        ('retry_delays = ["1x"]', "unknown unit"),
        ('restart_backoff = ["1s"]', "expected a list of two durations"),
        ('restart_intensity = ["10", "60s"]', "expected int, got str"),
    ],
)
def test_a_value_of_the_wrong_type_says_what_is_expected(line: str, reason: str) -> None:
    (only,) = problems(MINIMAL + line)
    assert only.startswith(f"pools.email.{line.partition(' =')[0]} = ")
    assert reason in only


# ---- variables ----------------------------------------------------------------------------------------------------


def test_variables_are_filled_in_wherever_there_are_strings() -> None:
    config = read(
        MINIMAL
        + 'path = ["/srv/${APP}"]\n[pools.email.environment]\nPW = "${PW}!"\n[broker]\nurl = "amqp://u:${PW}@h"',
        APP="shop",
        PW="x$y",
    )
    assert config.pools["email"].path == ("/srv/shop",)
    assert config.pools["email"].environment == {"PW": "x$y!"}
    assert config.broker.urls == ("amqp://u:x$y@h",)


def test_a_filled_in_value_is_not_filled_in_again() -> None:
    assert read(MINIMAL + 'timeout_header = "${A}"', A="${B}").pools["email"].timeout_header == "${B}"


def test_a_doubled_dollar_is_a_plain_one_and_a_lone_one_stays() -> None:
    pool = read(MINIMAL + 'timeout_header = "$${A} $5 $"').pools["email"]
    assert pool.timeout_header == "${A} $5 $"


def test_an_unset_variable_is_a_problem_of_its_own_only() -> None:
    (only,) = problems(MINIMAL + 'max_memory = "${SIZE}"')
    assert only == (
        'pools.email.max_memory = "${SIZE}": the environment variable SIZE is not set (write $${ for a plain ${)'
    )


@pytest.mark.parametrize(
    ("environment", "value"), [({}, "else/where"), ({"DIR": ""}, "else/where"), ({"DIR": "here"}, "here/where")]
)
def test_a_default_stands_for_an_unset_or_empty_variable(environment: dict[str, str], value: str) -> None:
    pool = read(MINIMAL + 'timeout_header = "${DIR:-else}/where"', **environment).pools["email"]
    assert pool.timeout_header == value


def test_what_else_a_shell_would_understand_is_refused() -> None:
    (only,) = problems(MINIMAL + 'timeout_header = "${A:+x}"')
    assert '"A:+x" in ${...} is no variable name' in only


def test_problems_show_what_was_written_not_what_was_filled_in() -> None:
    (only,) = problems(MINIMAL + 'on_crash = "${SECRET}"', SECRET="hidden")
    assert 'on_crash = "${SECRET}": must be one of retry, park, inbox' in only
    assert "hidden" not in only


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
@pytest.mark.parametrize("what", ["the file", "its directory", "a link to it"])
def test_root_takes_no_orders_from_what_others_may_change(file: Path, what: str) -> None:
    """That group may be the daemon's user's own."""
    file.write_text(MINIMAL)
    if what == "the file":
        file.chmod(0o660)
        os.chown(file, 0, 12345)
    elif what == "its directory":
        file.parent.chmod(0o775)
    else:
        file.rename(file.parent / "real.toml")
        file.symlink_to("real.toml")
        os.chown(file, 12345, 12345, follow_symlinks=False)
    with pytest.raises(ConfigError, match=r"rights: .* could change or replace it, and so choose what root runs"):
        load(None)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
@pytest.mark.parametrize(
    "key",
    [
        *("[broker]\nurl_file", '[hooks]\non_exit = "true"\nwebhook_file'),
        '[broker]\nurl = "amqp://h"\n[fleet]\nname = "prod"\nurl_file',
    ],
)
@pytest.mark.parametrize("what", ["the file", "its directory", "a link to it", "its owner"])
def test_root_reads_no_secret_that_others_could_put_another_file_in_place_of(file: Path, key: str, what: str) -> None:
    folder = file.parent / "secrets"
    folder.mkdir()
    secret = folder / "url"
    secret.write_text(f"{'postgresql' if 'fleet' in key else 'amqp' if 'url_file' in key else 'https'}://host/\n")
    file.write_text(f'{MINIMAL}\n{key} = "secrets/url"\n')
    load(None)
    if what == "the file":
        secret.chmod(0o660)
    elif what == "its directory":
        os.chown(folder, 12345, -1)
    elif what == "its owner":
        os.chown(secret, 12345, -1)
    else:
        secret.rename(folder / "real")
        secret.symlink_to("/etc/shadow")
        os.chown(secret, 12345, 12345, follow_symlinks=False)
    with pytest.raises(
        ConfigError, match=r"_file.*could change or replace .*secrets/url, so that root reads"
    ) as caught:
        load(None)
    assert "root:" not in str(caught.value)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
def test_a_secret_may_belong_to_the_user_that_the_daemon_becomes(file: Path) -> None:
    secret = file.parent / "url"
    secret.write_text("amqp://host/\n")
    os.chown(secret, 65534, -1)
    file.write_text(f'[daemon]\nuser = "nobody"\n{MINIMAL}\n[broker]\nurl_file = "url"\n')
    assert load(None).broker.urls == ("amqp://host/",)
