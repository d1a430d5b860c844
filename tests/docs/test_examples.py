"""Code blocks of all pages: preforkd itself reads the configurations, and its parser the commands; Python compiles."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import pytest

from supervisor.cli.program import preforkd
from supervisor.config.load import interpret
from tests.support.pages import PAGES, Block, all_blocks
from tests.support.source_tree import ROOT

SHELLS = ("sh", "console", "bash")
ENVIRONMENT = {
    "RABBITMQ_URL": "amqp://u:p@h/",
    "RABBITMQ_PASSWORD": "p",
    "SENTRY_DSN": "d",
    "DATABASE_URL": "d",
    "PARTITION": "0",
}
"""Variables that the pages' configurations name."""

_POOL = {"queue": "q", "handler": "workers.log:run"}
_SEPARATORS = set(";&|<>()")
_INLINE = re.compile(r"`(preforkd (?!on disk)[^`…]+)`")  # "preforkd on disk …" is the text of a reason


def _id(block: Block) -> str:
    return block.place


# ---- configurations -------------------------------------------------------------------------------------------------


def whole(tree: dict[str, Any]) -> dict[str, Any]:
    """A page's configuration with what it leaves out as known: a pool, and the required keys of its pools."""
    pools = {name: _POOL | pool for name, pool in tree.get("pools", {"default": {}}).items()}
    for number, name in enumerate(sorted(pools)):
        if "queue" not in tree.get("pools", {}).get(name, {}):
            pools[name] = pools[name] | {"queue": f"q{number}"}
    broker = {"broker": {"url": "amqp://h"} | tree.get("broker", {})} if "fleet" in tree else {}
    return tree | broker | {"pools": pools}


@pytest.mark.parametrize("block", all_blocks("toml"), ids=_id)
def test_a_configuration_on_a_page_is_one_that_preforkd_takes(block: Block, tmp_path: Path) -> None:
    tree = tomllib.loads(block.text)
    with_files(tree, tmp_path)

    interpret(whole(tree), tmp_path / "preforkd.toml", ENVIRONMENT)


def with_files(tree: dict[str, Any], folder: Path) -> None:
    """Let the files of secrets be there, which a configuration only names."""
    for section, key in (("broker", "url_file"), ("hooks", "webhook_file"), ("fleet", "url_file")):
        if key in tree.get(section, {}):
            scheme = "postgresql" if section == "fleet" else "amqp"
            secret = folder / section
            secret.write_text(f"{scheme}://user:password@host:5672/vhost\n")
            secret.chmod(0o600)
            tree[section][key] = str(secret)


# ---- commands -------------------------------------------------------------------------------------------------------


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of each `preforkd …` that a shell would run in this text."""
    for line in text.replace("\\\n", " ").splitlines():
        if "preforkd" in line:
            yield from _in_line(line)


def _in_line(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    for separator, words in groupby(lexer, lambda word: set(word) <= _SEPARATORS):
        command = list(words)
        if not separator and command[0].rsplit("/", 1)[-1] == "preforkd":
            yield command[1:]


def refusal(arguments: list[str]) -> str:
    """What preforkd's own parser says against these arguments; "" where it takes them."""
    try:
        _parse(preforkd, "preforkd", arguments, None)
    except click.exceptions.Exit:
        return ""  # --help, --version
    except click.UsageError as error:
        return error.format_message()
    return ""


def _parse(command: click.Command, name: str, arguments: list[str], parent: click.Context | None) -> None:
    context = command.make_context(name, list(arguments), parent=parent)
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        found, inner, rest = command.resolve_command(context, rest)
        assert inner is not None
        _parse(inner, str(found), rest, context)


@pytest.mark.parametrize("block", [b for b in all_blocks(*SHELLS) if "preforkd" in b.text], ids=_id)
def test_a_command_on_a_page_exists_with_its_options(block: Block) -> None:
    wrong = {shlex.join(found): refusal(found) for found in commands(block.text)}

    assert {command: why for command, why in wrong.items() if why} == {}


def test_a_command_within_a_sentence_exists_with_its_options() -> None:
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which speaks of former releases, too
    found = [(page.name, text) for page in pages for text in _INLINE.findall(page.read_text())]
    assert len(found) > 20
    wrong = [(page, refusal(arguments)) for page, text in found for arguments in commands(text)]

    assert [(page, why) for page, why in wrong if why.startswith("No such")] == []


def test_commands_are_found_wherever_they_stand_in_a_line() -> None:
    text = "preforkd start   # not preforkd stop\necho x | bin/preforkd publish q --files a; preforkd stop && ls\n"

    assert list(commands(text)) == [["start"], ["publish", "q", "--files", "a"], ["stop"]]


def test_a_wrong_command_or_option_is_refused() -> None:
    assert "No such command" in refusal(["begin"])
    assert "No such option" in refusal(["dead", "list", "email", "--every"])
    assert refusal(["dead", "retry", "email", "--all"]) == ""


# ---- Python ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", all_blocks("python"), ids=_id)
def test_python_on_a_page_compiles(block: Block) -> None:
    compile(block.text, block.place, "exec")


def test_blocks_are_found_with_their_place() -> None:
    assert any(block.page == ROOT / "README.md" for block in all_blocks("toml"))
    assert 'url = "amqp' in next(block.text for block in all_blocks("toml") if block.page == ROOT / "README.md")
