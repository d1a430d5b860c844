"""docs/architecture.md is true to the tree: each path that it names exists, and each room has its line."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.source_tree import ROOT

PAGE = (ROOT / "docs/architecture.md").read_text()
FOLDERS = PAGE.partition("## Folders\n")[2].partition("\n## ")[0]


def paths() -> set[str]:
    """Everything on the page in backquotes that ends like a file of Python or like a folder."""
    return {name for name in re.findall(r"`([\w./-]+(?:\.py|/))`", PAGE) if "." in name or "/" in name}


def test_every_path_on_the_page_exists() -> None:
    assert [path for path in sorted(paths()) if not any((base / path).exists() for base in bases(path))] == []


def test_every_folder_of_the_package_has_its_line() -> None:
    packages = {path.parent.relative_to(ROOT / "supervisor") for path in (ROOT / "supervisor").rglob("__init__.py")}

    assert [str(package) for package in sorted(packages - {Path()}) if f"`{package}/`" not in FOLDERS] == []


def test_the_page_is_read_for_paths() -> None:
    assert {"master/exits/causes.py", "consumer/settlement/", "errors.py"} <= paths()


def bases(path: str) -> tuple[Path, ...]:
    """Where a path of the page begins: in `supervisor/`, or in the project's folder with that name in front."""
    outside = path.startswith(("supervisor/", "tests/", "workers/", "etc/", "benchmarks/", "docs/"))
    return (ROOT,) if outside else (ROOT / "supervisor",)
