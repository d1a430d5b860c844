"""What check says about the web page and the hooks, and what keeps a daemon from starting."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from supervisor import extras
from supervisor.cli import main
from supervisor.cli.check import Level, about_sidecars
from supervisor.config.schema import (
    BrokerConfig,
    Config,
    DaemonConfig,
    FleetConfig,
    HooksConfig,
    LedgerConfig,
    LogConfig,
    WebConfig,
)
from supervisor.errors import ConfigError

NOTHING = Config("f", DaemonConfig(), LogConfig(), BrokerConfig(), LedgerConfig(), {})


def said(**sections: object) -> list[tuple[Level, str, str]]:
    config = msgspec.structs.replace(NOTHING, **sections)
    return [(finding.level, finding.subject, finding.text) for finding in about_sidecars(config)]


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name in ("uvicorn", "psycopg") else object())


def test_what_is_off_needs_nothing(without_extra: None) -> None:
    assert said() == []
    assert extras.refuse_missing(NOTHING) is NOTHING


def test_a_web_page_without_its_extra_is_an_error_that_says_how(without_extra: None) -> None:
    (level, subject, text), *_ = said(web=WebConfig("127.0.0.1:9750"))
    assert (level, subject) == (Level.ERROR, "web.listen")
    assert "there is no uvicorn (pip install '.[web]' in a checkout of preforkd, or pip install './preforkd-" in text
    with pytest.raises(ConfigError, match="preforkd"):
        extras.refuse_missing(msgspec.structs.replace(NOTHING, web=WebConfig("127.0.0.1:9750")))


def test_a_fleet_without_its_extra_is_an_error_that_says_how(without_extra: None) -> None:
    ((level, subject, text),) = said(fleet=FleetConfig("postgresql://h/db", "prod"))
    assert (level, subject) == (Level.ERROR, "fleet")
    assert "there is no psycopg (pip install '.[fleet]' in a checkout of preforkd" in text


@pytest.mark.parametrize("verb", ["run", "start"])
def test_a_daemon_whose_extra_is_missing_does_not_start(
    verb: str, without_extra: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "preforkd.toml"
    path.write_text(
        f'[daemon]\nstate_dir = "{tmp_path}/s"\nruntime_dir = "{tmp_path}/r"\n[web]\nlisten = "127.0.0.1:0"\n'
        '[pools.email]\nqueue = "email"\nhandler = "workers.log:run"\n'
    )
    assert main(["--config", str(path), verb]) == os.EX_CONFIG
    assert ".[web]" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_token_file_is_looked_at(tmp_path: Path) -> None:
    token = tmp_path / "token"
    (level, subject, text), *_ = said(web=WebConfig("127.0.0.1:0", str(token)))
    assert (level, subject) == (Level.ERROR, "web.token_file")
    token.write_text("0123456789abcdef0123")
    token.chmod(0o600)
    assert [finding[:2] for finding in said(web=WebConfig("127.0.0.1:0", str(token)))] == [(Level.OK, "web.listen")]
    token.chmod(0o666)
    ((level, _subject, text),) = said(web=WebConfig("127.0.0.1:0", str(token)))
    assert (level, "chmod o-w" in text) == (Level.ERROR, True)


def test_a_token_of_the_file_itself_allows_actions() -> None:
    ((level, _subject, text),) = said(web=WebConfig("127.0.0.1:0", token="0123456789abcdef0123"))
    assert (level, "actions with the token in web.token" in text) == (Level.OK, True)
    assert "0123456789" not in text


def test_a_page_without_a_token_is_said_to_show_only() -> None:
    ((level, _subject, text),) = said(web=WebConfig("127.0.0.1:0"))
    assert (level, "without a token there are no actions" in text) == (Level.OK, True)


def test_a_hook_whose_program_is_not_there_is_an_error() -> None:
    found = said(hooks=HooksConfig(on_exit="sh -c true", on_dead="no-such-program --now"))
    assert [(level, subject) for level, subject, _text in found] == [
        (Level.OK, "hooks.on_exit"),
        (Level.ERROR, "hooks.on_dead"),
    ]
    assert "there is no program no-such-program" in found[1][2]


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("https://hooks.example.com/geheim", Level.OK),
        ("http://127.0.0.1:8080/geheim", Level.OK),
        ("http://hooks.example.com/geheim", Level.WARNING),
    ],
)
def test_a_webhook_in_the_clear_is_warned_of_and_its_path_is_not_shown(url: str, level: Level) -> None:
    ((found, subject, text),) = said(hooks=HooksConfig(webhook=url))
    assert (found, subject) == (level, "hooks.webhook")
    assert "geheim" not in text
