"""A reader of a how-to page: the page's files in a folder of their own, and a shell with `preforkd` in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support.pages import Block, blocks
from tests.support.shells import Shell, with_command
from tests.support.source_tree import ROOT


def write_files(page: str, folder: Path) -> list[str]:
    """Write each block of docs/how-to/PAGE.md whose first line is a comment with its file name. Returns the names."""
    named = [
        (name, block) for block in blocks(ROOT / f"docs/how-to/{page}.md", "python", "toml") if (name := file_of(block))
    ]
    for name, block in named:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text)
    return [name for name, _ in named]


def file_of(block: Block) -> str:
    """The file that a block stands for, "" for a fragment."""
    first = block.text.partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("# ") and first.endswith((".py", ".toml")) else ""


def reader_in(folder: Path, **variables: str) -> Shell:
    """A user who has followed a page in this folder; `python` is the tests' own."""
    path = f"{with_command(folder)}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return Shell(folder, os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)} | variables)
