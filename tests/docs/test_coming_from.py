"""The pages for users of other programs: what they name as ours exists; their handlers read the others' messages."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import supervisor
import supervisor.client
from supervisor.brokers.copy_headers import EXPIRES
from supervisor.cli.program import preforkd
from supervisor.config import schema
from supervisor.config.keys import keys_of
from supervisor.logs.events import Cause
from supervisor.messages.message import Properties
from tests.docs.test_examples import commands, refusal
from tests.support.how_to import file_of
from tests.support.pages import blocks
from tests.support.source_tree import ROOT

PAGES = sorted((ROOT / "docs/coming-from").glob("*.md"))
_SECTIONS = [found for found in vars(schema).values() if isinstance(found, type) and issubclass(found, msgspec.Struct)]
KEYS = {name for section in _SECTIONS if section is not schema.Config for name in keys_of(section)}
SECTIONS = {"[daemon]", "[log]", "[broker]", "[ledger]", "[web]", "[hooks]"}
API = set(supervisor.__all__) | set(supervisor.client.__all__)
NAMES_OF_QUEUES = {"<queue>.dead", "<queue>.parked", "<queue>.retry.<ms>"}


def ours(page: Path) -> list[str]:
    """The names in code font of a page's columns "preforkd", and of the rows' notes that name a section."""
    found: list[str] = []
    column = None
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            column = None
        elif "preforkd" in cells:
            column = cells.index("preforkd")
        elif column is not None:
            found += re.findall(r"`([^`]+)`", cells[column])
    return found


def exists(name: str) -> bool:
    """Whether it is a key, a section, a command, an attribute of a message, a name of the API, a cause, a queue or
    a publisher's header."""
    if name.startswith("preforkd "):
        why = [refusal(arguments) for arguments in commands(name)]
        return not [text for text in why if text.startswith("No such")]
    if name.startswith("message."):
        return hasattr(supervisor.Message(b""), name.removeprefix("message."))
    key = name.partition(" = ")[0]
    known = KEYS | SECTIONS | API | NAMES_OF_QUEUES | {str(cause) for cause in Cause} | {"message", EXPIRES}
    return key in known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_as_ours_exists(page: Path) -> None:
    names = ours(page)

    assert len(names) > 15
    assert [name for name in names if not exists(name)] == []


def test_a_name_that_does_not_exist_is_told() -> None:
    assert [
        name for name in ("workers", "preforkd stop", "message.attempt", "Retry", "timeout") if not exists(name)
    ] == []
    assert not any(map(exists, ("worker_count", "preforkd halt", "message.retries", "Requeue", "<queue>.failed")))
    assert "begin" not in preforkd.commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_parts_and_says_when_its_facts_were_read(page: Path) -> None:
    text = page.read_text()

    for heading in ("## Words", "## Options", "## What is missing", "## What gets better"):
        assert heading in text
    assert re.search(r"\]\(https?://", text.partition("\n## ")[0]), "a source at its head"
    assert re.search(r"read 20\d\d-\d\d-\d\d", text)


# ---- handlers -------------------------------------------------------------------------------------------------------

_CELERY = b'[["a@example.org"], {"subject": "hi"}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
_CELERY_HEADERS = {"lang": "py", "task": "shop.mail", "id": "16673084-0208-4faa-8a63-3bfe5e200230", "eta": None}
_DRAMATIQ = (
    b'{"queue_name":"default","actor_name":"mail","args":["a@example.org"],"kwargs":{"subject":"hi"},"options":{},'
    b'"message_id":"cb9787ee-914b-47d5-aa80-fb5407c6b2b2","message_timestamp":1796030323251}'
)
"""As Celery 5.7.0 and dramatiq 2.2.1 have published them to RabbitMQ."""

HANDLERS: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "celery": (_CELERY, _CELERY_HEADERS, "to a@example.org: hi\n"),
    "dramatiq": (_DRAMATIQ, {}, "to a@example.org: hi\n"),
    "rq": (b'{"to": "a@example.org"}', {}, "to a@example.org\n"),
}


def handler_of(page: str, folder: Path) -> Any:
    """The function `run` of the page's Python file."""
    (block,) = blocks(ROOT / f"docs/coming-from/{page}.md", "python")
    path = folder / file_of(block)
    path.write_text(block.text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.run


@pytest.mark.parametrize("page", HANDLERS)
def test_the_handler_of_a_page_runs_the_other_programs_message(
    page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body, headers, printed = HANDLERS[page]

    handler_of(page, tmp_path)(supervisor.Message(body, properties=Properties(headers=headers)))

    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    "page, body, headers", [("celery", _CELERY, {"task": "x"}), ("dramatiq", _DRAMATIQ.replace(b"mail", b"x"), {})]
)
def test_a_task_that_the_handler_does_not_know_is_rejected(
    page: str, body: bytes, headers: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(supervisor.Reject, match="x"):
        handler_of(page, tmp_path)(supervisor.Message(body, properties=Properties(headers=headers)))
