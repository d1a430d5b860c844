"""The site, built as `make docs` builds it: every warning is an error, and a reader gets to every page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import PAGES
from tests.support.source_tree import ROOT

_HREF = re.compile(r'href="([^"#:]*)(?:#([^"]+))?"')


def build(folder: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build the pages of a copy of the project, or of the project itself."""
    command = [str(ROOT / ".ci/docs"), sys.prefix, str(target)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    done = build(ROOT, target)
    assert (done.returncode, done.stderr) == (0, "")
    return target


def test_every_page_is_on_the_site_and_in_its_navigation(site: Path) -> None:
    pages = {str(page.relative_to(ROOT).with_suffix(".html")) for page in PAGES}

    assert [page for page in sorted(pages) if not (site / page).is_file()] == []
    start = site / "docs/index.html"
    found = {(start.parent / path).resolve() for path, _ in _HREF.findall(start.read_text()) if path.endswith(".html")}
    decisions = {page for page in pages if page.startswith("docs/decisions/0")}
    assert {page for page in pages - decisions - {"docs/index.html"} if (site / page).resolve() not in found} == set()


def test_every_link_of_the_built_pages_leads_somewhere(site: Path) -> None:
    broken = [
        f"{page.relative_to(site)}: {path}#{anchor}"
        for page in site.rglob("*.html")
        for path, anchor in _HREF.findall(page.read_text())
        if not leads_somewhere(page, path, anchor)
    ]

    assert broken == []


def leads_somewhere(page: Path, path: str, anchor: str) -> bool:
    """Whether the file is there, and where a page is named with an anchor, the anchor in it."""
    target = (page.parent / path.partition("?")[0]).resolve() if path else page
    if not target.is_file():
        return False
    return not anchor or target.suffix != ".html" or f'id="{anchor}"' in target.read_text()


def test_the_root_of_the_site_leads_to_its_first_page(site: Path) -> None:
    assert 'url=docs/index.html"' in (site / "index.html").read_text()


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    copy = tmp_path / "project"
    (copy / "docs").mkdir(parents=True)
    (copy / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (copy / "docs/conf.py").write_text((ROOT / "docs/conf.py").read_text() + "\nNAVIGATION.clear()\n")
    (copy / "docs/index.md").write_text("# One\n[two](#two) [three](three.md) [four](#one)\n")

    done = build(copy, tmp_path / "site")

    assert done.returncode != 0
    assert "'two'" in done.stderr
    assert "'three.md'" in done.stderr
    assert "'one'" not in done.stderr
