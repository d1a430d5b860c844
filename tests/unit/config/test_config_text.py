"""A configuration as editors of all systems write it, and what is no configuration at all."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from supervisor.config.load import load, load_daemon
from supervisor.errors import ConfigError

TEXT = '[daemon]\nstate_dir = "s"\nruntime_dir = "r"\n[pools.a]\nqueue = "a"\nhandler = "a:run"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "preforkd.toml"


def refusal(file: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load(str(file))
    return str(error.value)


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_mark_and_the_line_ends_of_windows_do_no_harm(file: Path, mark: bytes, newline: bytes) -> None:
    file.write_bytes(mark + TEXT.encode().replace(b"\n", newline))
    assert load(str(file)).pools["a"].queue == "a"
    assert load_daemon(str(file)).state_dir.endswith("/s")


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_url_file_may_have_them_too(file: Path, mark: bytes) -> None:
    (file.parent / "url").write_bytes(mark + b"amqp://u:p@h/v\r\n")
    file.write_text(f'{TEXT}[broker]\nurl_file = "url"\n')
    assert load(str(file)).broker.urls == ("amqp://u:p@h/v",)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_another_encoding_is_named(file: Path, encoding: str) -> None:
    mark = codecs.BOM_UTF16_BE if encoding.endswith("be") else b""
    file.write_bytes(mark + TEXT.encode(encoding))
    assert "not UTF-8 but UTF-" in refusal(file)


def test_a_pipe_is_refused_and_not_waited_for(file: Path) -> None:
    os.mkfifo(file)
    assert "is no regular file" in refusal(file)
    with pytest.raises(ConfigError, match="is no regular file"):
        load_daemon(str(file))


def test_a_device_a_loop_of_links_and_a_huge_file_are_refused(file: Path) -> None:
    assert "is no regular file" in refusal(Path("/dev/zero"))
    file.symlink_to(file)
    assert "Too many levels of symbolic links" in refusal(file)
    file.unlink()
    file.write_bytes(b"#" * 5_000_000)
    assert "more than 4 MiB" in refusal(file)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("timeout = 1e300", "longer than 3650d"),
        ('max_age = "99999999999d"', "longer than 3650d"),
        ('kill_memory = "99999999999TiB"', "no machine has more"),
        (f"max_attempts = {10**30}", "more than 64 bits"),
        (f"queue_arguments = {{ x = [{10**30}] }}", "more than 64 bits"),
        ('path = ["a\\u0000b"]', "a path holds no NUL"),
        ("w\\u043erkers = 4", "not TOML"),
        ('"w\\u043erkers" = 4', 'did you mean "workers"?'),
        ('"\\u001b[2J" = 4', "there is no such key"),
        ("workers = 1\nworkers = 2", "line 8"),
    ],
)
def test_odd_values_are_named_with_their_place(file: Path, line: str, said: str) -> None:
    file.write_text(TEXT + line + "\n")
    assert said in refusal(file)
    assert "\x1b" not in refusal(file)


def test_a_variable_that_is_not_utf8_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODD_HOST", "h\udcff")
    file.write_text(f'{TEXT}[broker]\nurl = "amqp://${{ODD_HOST}}"\n')
    assert "the environment variable ODD_HOST is not UTF-8" in refusal(file)


def test_the_daemon_is_found_although_the_rest_of_the_file_is_wrong(file: Path) -> None:
    file.write_text(TEXT.replace("queue", "quueue") + '[broker]\nurl = "${NOT_SET_ANYWHERE}"\n')
    assert load_daemon(str(file)).runtime_dir.endswith("/r")
    file.write_text('[daemon]\nruntime_dir = "${NOT_SET_ANYWHERE}"\n')
    with pytest.raises(ConfigError, match="NOT_SET_ANYWHERE is not set"):
        load_daemon(str(file))
