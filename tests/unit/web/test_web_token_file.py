"""The token file: what is refused, in words that help, and that a new one counts at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.config.schema import WebConfig
from supervisor.config.sidecar_rules import MIN_TOKEN_CHARACTERS
from supervisor.errors import StateError
from supervisor.web.token_file import FixedToken, TokenFile, token_of
from tests.support.nobody import a_public_folder

GOOD = "k" * MIN_TOKEN_CHARACTERS


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    """A token file."""
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("text", [GOOD, GOOD + "\n", f"  {GOOD}\r\n"])
def test_the_token_is_the_line_without_its_end(tmp_path: Path, text: str) -> None:
    token = TokenFile(written(tmp_path / "token", text))

    assert token.accepts(f"Bearer {GOOD}")
    assert not token.accepts(f"Bearer {GOOD}k")


@pytest.mark.parametrize("text", ["", "\n", GOOD[1:], f"{GOOD} {GOOD}", f"{GOOD}\n{GOOD}", GOOD + "é"])
def test_what_is_no_token_is_refused_with_a_way_to_make_one(tmp_path: Path, text: str) -> None:
    with pytest.raises(StateError, match=r"at least 16 characters.*urandom"):
        TokenFile(written(tmp_path / "token", text))


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o666])
def test_a_file_that_others_may_read_is_refused(mode: int) -> None:
    with a_public_folder() as folder, pytest.raises(StateError, match="chmod"):
        TokenFile(written(folder / "token", GOOD, mode))


def test_the_token_of_the_configuration_itself_is_compared_in_the_same_way() -> None:
    token = token_of(WebConfig("127.0.0.1:0", token=GOOD))

    assert isinstance(token, FixedToken)
    assert token.accepts(f"Bearer {GOOD}")
    assert not token.accepts(f"Bearer {GOOD}k")
    assert not token.accepts(GOOD)


def test_there_may_be_no_token(tmp_path: Path) -> None:
    assert token_of(WebConfig("127.0.0.1:0")) is None
    file = written(tmp_path / "token", GOOD)
    assert isinstance(token_of(WebConfig("127.0.0.1:0", str(file))), TokenFile)


def test_a_missing_file_and_no_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="No such file"):
        TokenFile(tmp_path / "token")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(StateError, match="not a file"):
        TokenFile(tmp_path / "pipe")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "token", GOOD)
    os.chown(path, 12345, -1)

    with pytest.raises(StateError, match="uid 12345"):
        TokenFile(path)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_the_file_of_the_user_that_will_read_it_is_accepted_from_root(tmp_path: Path) -> None:
    path = written(tmp_path / "token", GOOD)
    os.chown(path, 12345, -1)

    assert TokenFile(path, 12345).accepts(f"Bearer {GOOD}")
    os.chown(path, 0, -1)
    with pytest.raises(StateError, match=r"preforkd's user \(uid 12345\) may not read it: chown 12345"):
        TokenFile(path, 12345)
    os.chown(path, 12345, -1)
    with pytest.raises(StateError, match=r"chown it to preforkd's user \(uid 54321\)"):
        TokenFile(path, 54321)


def test_a_new_token_counts_at_once(tmp_path: Path) -> None:
    token = TokenFile(written(tmp_path / "token", GOOD))

    written(tmp_path / "other", "n" * 20).rename(tmp_path / "token")

    assert not token.accepts(f"Bearer {GOOD}")
    assert token.accepts("Bearer " + "n" * 20)


def test_a_token_that_is_gone_lets_no_request_in(tmp_path: Path) -> None:
    token = TokenFile(written(tmp_path / "token", GOOD))
    (tmp_path / "token").unlink()

    with pytest.raises(StateError):
        token.accepts(f"Bearer {GOOD}")
