"""The project's own sources as syntax trees, for tests that hold the code to its rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("supervisor", "workers")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> list[Path]:
    """All Python files below these folders of the project, relative to its root."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file (relative to the root)."""
    return ast.parse((ROOT / path).read_text(), filename=str(path))


@cache
def nodes(path: Path) -> list[ast.AST]:
    """Every node of a file's syntax tree."""
    return list(ast.walk(tree(path)))


def functions(path: Path) -> Iterator[Function]:
    """Every function and method of a file, nested ones included."""
    return (node for node in nodes(path) if isinstance(node, Function))


def module_name(path: Path) -> str:
    """`supervisor/link/frames.py` -> `supervisor.link.frames`; a package's __init__ -> the package."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imported(path: Path) -> frozenset[str]:
    """The modules that a file imports anywhere in it, except under `if TYPE_CHECKING`."""
    skipped = {id(inner) for node in nodes(path) if _for_types_only(node) for inner in ast.walk(node)}
    names: set[str] = set()
    for node in nodes(path):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {_module_of(node.module, alias.name) for alias in node.names}
    return frozenset(names)


@cache
def _module_of(package: str, name: str) -> str:
    """What `from package import name` loads: a module of that name where there is one."""
    base = ROOT.joinpath(*package.split("."), name)
    return f"{package}.{name}" if base.is_dir() or base.with_suffix(".py").is_file() else package


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
