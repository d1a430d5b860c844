"""`${VAR}` from the environment and from `env_file`: which goes first, when the file is read, what is said of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.config import secrets
from supervisor.config.load import load, load_daemon, load_queues
from supervisor.errors import ConfigError
from supervisor.system.secret_file import Exposure

TEXT = """
[daemon]
state_dir = "${STATE}"
runtime_dir = "run"
env_file = "secrets.env"
[broker]
url = "${RABBITMQ_URL}"
[pools.mail]
queue = "${QUEUE:-mail}"
handler = "a:run"
"""
SECRET = "amqp://mailer:correct-horse@rabbit/"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration, and `secrets.env` beside it; no variable of theirs is in the environment."""
    for name in ("STATE", "RABBITMQ_URL", "QUEUE", "FOLDER"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "preforkd.toml"
    path.write_text(TEXT)
    write_env(tmp_path / "secrets.env", f"STATE=state\nRABBITMQ_URL={SECRET}\nEXTRA=1\n")
    return path


def write_env(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


def refusal(file: Path, env_file: str | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        load(str(file), env_file)
    assert SECRET not in str(error.value)
    assert "correct-horse" not in str(error.value)
    return str(error.value)


def test_the_variables_of_the_file_fill_in_the_configuration_and_are_kept_for_children(file: Path) -> None:
    config = load(str(file))

    assert config.daemon.state_dir == str(file.parent / "state")
    assert config.broker.urls == (SECRET,)
    assert config.daemon.env_file == str(file.parent / "secrets.env")
    assert config.variables == {"STATE": "state", "RABBITMQ_URL": SECRET, "EXTRA": "1"}


def test_the_environment_goes_before_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE", "elsewhere")
    monkeypatch.setenv("EXTRA", "")

    config = load(str(file))

    assert config.daemon.state_dir == str(file.parent / "elsewhere")
    assert config.variables == {"RABBITMQ_URL": SECRET}, "a variable that is set to nothing is set"


def test_a_file_that_is_named_on_the_command_line_replaces_the_configured_one(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.env"
    write_env(other, "STATE=there\nRABBITMQ_URL=amqp://rabbit/\n")

    config = load(str(file), str(other))

    assert config.daemon.env_file == str(other)
    assert config.variables == {"STATE": "there", "RABBITMQ_URL": "amqp://rabbit/"}
    assert load_daemon(str(file), str(other)).state_dir == str(tmp_path / "there")


def test_the_path_of_the_file_takes_variables_of_the_environment_only(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(TEXT.replace("secrets.env", "${FOLDER}/secrets.env"))
    assert "daemon.env_file" in refusal(file)
    assert "FOLDER is not set" in refusal(file)

    monkeypatch.setenv("FOLDER", str(file.parent))
    assert load(str(file)).broker.urls == (SECRET,)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (None, "secrets.env: cannot be read: No such file or directory"),
        ('STATE=s\nRABBITMQ_URL="x"\n', "secrets.env line 2, RABBITMQ_URL: the value begins with a quote"),
        ("RABBITMQ_URL=x\nSTATE = s\n", "secrets.env line 2: a blank before the ="),
        (f"RABBITMQ_URL={SECRET}\n", "STATE is not set, and "),
        (f"RABBITMQ_URL={SECRET}\n", "secrets.env does not have it, either"),
    ],
)
def test_an_error_names_file_line_and_variable(file: Path, env: str | None, said: str) -> None:
    (file.parent / "secrets.env").unlink()
    if env is not None:
        write_env(file.parent / "secrets.env", env)
    assert said in refusal(file)


def test_a_bad_file_of_the_command_line_is_named_by_its_option(file: Path, tmp_path: Path) -> None:
    assert f"--env-file: {tmp_path}/none: cannot be read" in refusal(file, str(tmp_path / "none"))


def test_bytes_that_are_no_text_are_refused(file: Path) -> None:
    (file.parent / "secrets.env").write_bytes(b"STATE=\xff\n")
    assert "it is not UTF-8" in refusal(file)


def test_a_file_that_all_users_may_write_to_is_refused(file: Path) -> None:
    (file.parent / "secrets.env").chmod(0o602)
    assert "all users may write to" in refusal(file)


def test_the_file_follows_the_rule_of_all_files_with_secrets(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, int]] = []

    def exposed(path: Path, found: os.stat_result, uid: int, owner: int | None) -> Exposure:
        asked.append((path, uid))
        return Exposure("it is exposed", "hide it")

    monkeypatch.setattr(secrets, "exposure", exposed)
    assert 'daemon.env_file = "secrets.env": it is exposed (hide it)' in refusal(file)
    assert asked == [(file.parent / "secrets.env", os.geteuid())]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
def test_root_reads_no_file_that_another_user_could_replace(file: Path) -> None:
    os.chown(file.parent / "secrets.env", 12345, -1)
    assert "uid 12345" in refusal(file)


@pytest.mark.parametrize("value", ["3", "[]", '"~no-such-user/x"'])
def test_a_path_that_is_none_is_a_problem_of_its_key(file: Path, value: str) -> None:
    file.write_text(TEXT.replace('"secrets.env"', value))
    assert "daemon.env_file" in refusal(file)


# ---- only what is needed --------------------------------------------------------------------------------------------


def test_a_key_is_read_without_the_variables_of_others(file: Path) -> None:
    (file.parent / "secrets.env").unlink()

    assert load_daemon(str(file), keys=("runtime_dir",)).runtime_dir == str(file.parent / "run")
    assert load_queues(str(file)) == {"mail": "mail"}
    with pytest.raises(ConfigError, match=r"STATE is not set, and env_file cannot be used: .*No such file"):
        load_daemon(str(file), keys=("state_dir",))


def test_a_path_that_is_not_known_is_no_obstacle_before_a_variable_is_needed(file: Path) -> None:
    file.write_text(TEXT.replace("secrets.env", "${FOLDER}/secrets.env"))

    assert load_daemon(str(file), keys=("runtime_dir",)).runtime_dir == str(file.parent / "run")
    with pytest.raises(ConfigError, match=r"STATE is not set, and env_file cannot be used: .*FOLDER is not set"):
        load_daemon(str(file), keys=("state_dir",))


def test_a_queue_has_its_variable_from_the_file(file: Path) -> None:
    write_env(file.parent / "secrets.env", "QUEUE=letters\n")
    assert load_queues(str(file)) == {"mail": "letters"}


def test_a_variable_of_a_queue_is_asked_for(file: Path) -> None:
    file.write_text(TEXT.replace("${QUEUE:-mail}", "${QUEUE}"))
    with pytest.raises(ConfigError, match=r"pools.mail.queue.*QUEUE is not set"):
        load_queues(str(file))
