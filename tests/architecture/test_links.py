"""Links between the project's pages: each leads to a file that exists, and to a heading that the file has."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.source_tree import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def links(page: Path) -> list[tuple[Path, str]]:
    """The target of each link of a page that stays within the project, and the heading it names ("" for none)."""
    found = _LINK.findall(page.read_text())
    return [((page.parent / path).resolve() if path else page, heading) for path, heading in found]


def headings(page: Path) -> set[str]:
    """The names by which a page's headings are linked, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_link_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target.name}#{heading}"
        for page in PAGES
        for target, heading in links(page)
        if not target.exists() or (heading and heading not in headings(target))
    ]

    assert broken == []


def test_the_pages_for_newcomers_link_the_glossary() -> None:
    glossary = ROOT / "docs/glossary.md"
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docs/architecture.md")]

    assert [page.name for page in pages if glossary not in dict(links(page))] == []


def test_decisions_are_numbered_without_gap_or_repetition() -> None:
    numbers = sorted(int(page.name[:4]) for page in (ROOT / "docs/decisions").glob("[0-9]*.md"))

    assert numbers == list(range(1, len(numbers) + 1))
