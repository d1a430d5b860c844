"""No text tells to install preforkd from a package index: there is no release on one (docs/releasing.md)."""

from __future__ import annotations

import re
import tomllib

import pytest

from supervisor.extras import install_hint
from tests.architecture.test_words import SUFFIXES
from tests.support.source_tree import ROOT

FOLDERS = ("supervisor", "workers", "docs", "etc", "benchmarks", "tests", ".ci")
_FROM_INDEX = re.compile(
    r"""(?:pip3?|uv|pipx|poetry)\s+(?:pip\s+)?(?:install|add)\b"""
    r"""(?:(?! in | of |[#;`)]).)*?[ "']preforkd(?![\w./-])(?!(?:\[[^]]*])?\s*@)"""
)
"""A command up to the name. What follows " in " or " of " is a sentence; `preforkd @ URL` names its source."""


def tells(text: str) -> list[str]:
    """The commands in a text that would ask an index for preforkd."""
    return [found.group() for found in _FROM_INDEX.finditer(text)]


def test_no_text_installs_from_an_index() -> None:
    pages = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file())]
    read = {str(page.relative_to(ROOT)): page for page in pages if page.suffix in {*SUFFIXES, "", ".yaml"}}
    del read["tests/architecture/test_install_texts.py"]
    assert {name: found for name, page in read.items() if (found := tells(page.read_text(errors="replace")))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "pip install preforkd",
        "venv/bin/pip install 'preforkd[web]'",
        'pip install --upgrade "preforkd[web,otel]" requests',
        "/opt/preforkd-0.1.0/bin/pip install preforkd==0.1.0",
        "uv pip install preforkd",
        "pipx install preforkd",
        "poetry add preforkd",
    ],
)
def test_what_would_ask_an_index_is_found(text: str) -> None:
    assert tells(text)


@pytest.mark.parametrize(
    "text",
    [
        "pip install .",
        "/opt/preforkd-0.1.0/bin/pip install '.[web]'",
        "pip install './preforkd-0.1.0-py3-none-any.whl[web]'",
        "pip install 'preforkd[web] @ git+https://git.example.org/preforkd.git'",
        "pip install -r requirements.txt   # for /opt/preforkd/bin",
    ],
)
def test_what_works_without_an_index_is_no_mistake(text: str) -> None:
    assert tells(text) == []


def test_each_extra_that_a_hint_names_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in ("metrics", "web", "otel", "fleet"):
        assert extra in extras
        assert tells(install_hint(extra)) == []
        assert f".[{extra}]" in install_hint(extra)
