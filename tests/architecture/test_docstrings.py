"""The docstrings of public functions: they name parameters, and errors, that a caller cannot guess.

Counted are functions and methods outside `cli/` whose own name and whose class's name are public, and `__init__`. A
docstring names a parameter in backticks. The docstring of a class, and of an overridden method, counts for the method.
A parameter is plain, and needs no words, in two cases:

- Its type is a class outside `NEVER_PLAIN`, or a collection of one. A type that admits None is not plain.
- Its name carries a unit (`UNITS`), or is among the `KNOWN` words.

A function with a `raise` names each class raised, or says "raise" where the statement names none.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.source_tree import CODE, Function, nodes, sources, tree

BAR = (80, 100)
"""Percent of the parameters that are not plain and are named; of the functions with a `raise` that tell it."""

# fmt: off
NEVER_PLAIN = {
    "Any", "Awaitable", "Callable", "Literal", "Mapping", "MutableMapping", "NoReturn", "None", "Path",
    "bool", "bytearray", "bytes", "complex", "dict", "float", "int", "memoryview", "object", "str", "tuple",
}
"""Types that do not say what a value is for."""

COLLECTIONS = {
    "AbstractSet", "Collection", "Iterable", "Iterator", "Sequence", "Set", "deque", "frozenset", "list", "set", "type",
}
"""Types that are as plain as the type of their elements."""

UNITS = ("_s", "_ms", "_us", "_ns", "_bytes", "_kib", "_mib", "_path", "_dir", "_fd", "_pid", "_name", "_id", "_url")
"""Last parts of names that give a unit, or the kind of value."""

KNOWN = {
    "argv", "body", "config", "environ", "error", "exchange", "fd", "generation", "gid", "headers", "host",
    "message_id", "name", "path", "pgid", "pid", "pool", "port", "queue", "reason", "routing_key", "slot", "text",
    "uid", "version",
}
"""Names with one meaning in the whole tree."""
# fmt: on


class Documented(NamedTuple):
    """A public function; `text`: the docstrings of the function, of its class and of the method that it overrides."""

    where: str
    function: Function
    text: str


def _room(path: Path) -> str:
    """`supervisor/master` for all files below that folder; `supervisor` for the files in it."""
    return "/".join(path.parts[: min(2, len(path.parts) - 1)])


ROOMS = sorted({_room(path) for path in sources(*CODE)} - {"supervisor/cli"})


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_name_the_parameters_that_are_not_plain(room: str) -> None:
    needed = {
        f"{f.where}: {name}": _is_named(name, f.text) for f in _documented(room) for name in _not_plain(f.function)
    }

    assert _percent(needed) >= BAR[0], _missing(needed)


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_tell_the_errors_that_are_raised(room: str) -> None:
    told = {
        f"{f.where}: {', '.join(names)}": _tells(names, f.text)
        for f in _documented(room)
        if (names := _raised(f.function))
    }

    assert _percent(told) >= BAR[1], _missing(told)


def _percent(facts: dict[str, bool]) -> int:
    return 100 * sum(facts.values()) // len(facts) if facts else 100


def _missing(facts: dict[str, bool]) -> str:
    return "\n".join(where for where, holds in facts.items() if not holds)


@cache
def _documented(room: str) -> list[Documented]:
    return [function for path in sources(*CODE) if _room(path) == room for function in _public(path)]


def _public(path: Path) -> Iterator[Documented]:
    """The public functions of a file, and the methods of its public classes."""
    for node in tree(path).body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield Documented(f"{path}:{node.lineno} {node.name}", node, _text(node))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _methods(path, node)


def _methods(path: Path, owner: ast.ClassDef) -> Iterator[Documented]:
    for node in owner.body:
        if isinstance(node, Function) and (node.name == "__init__" or not node.name.startswith("_")):
            texts = [_text(node), _text(owner), *_inherited(owner, node.name)]
            yield Documented(f"{path}:{node.lineno} {owner.name}.{node.name}", node, "\n".join(texts))


def _inherited(owner: ast.ClassDef, method: str) -> Iterator[str]:
    """The docstrings of the method that this one overrides."""
    for base in owner.bases:
        for above in _classes().get(ast.unparse(base).split(".")[-1].split("[")[0], []):
            yield from (_text(node) for node in above.body if isinstance(node, Function) and node.name == method)
            yield from _inherited(above, method)


@cache
def _classes() -> dict[str, list[ast.ClassDef]]:
    found: dict[str, list[ast.ClassDef]] = {}
    for path in sources(*CODE):
        for node in nodes(path):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
    return found


def _text(node: Function | ast.ClassDef) -> str:
    return ast.get_docstring(node) or ""


def _not_plain(function: Function) -> list[str]:
    """The parameters that need words."""
    given = function.args
    every = (*given.posonlyargs, *given.args, *given.kwonlyargs)
    return [one.arg for one in every if one.arg not in ("self", "cls") and not _is_plain(one)]


def _is_plain(parameter: ast.arg) -> bool:
    name = parameter.arg
    return name in KNOWN or name.endswith(UNITS) or _is_class(parameter.annotation)


def _is_class(annotation: ast.expr | None) -> bool:
    match annotation:
        case ast.BinOp(left=left, right=right):
            return _is_class(left) and _is_class(right)
        case ast.Subscript(value=value, slice=inner):
            name = ast.unparse(value).split(".")[-1]
            return _is_class(inner) if name in COLLECTIONS else name not in NEVER_PLAIN
        case ast.Name() | ast.Attribute():
            return ast.unparse(annotation).split(".")[-1] not in NEVER_PLAIN | COLLECTIONS
    return False


def _is_named(parameter: str, text: str) -> bool:
    return re.search(rf"`\**{parameter}\b[^`]*`", text) is not None


def _raised(function: Function) -> list[str]:
    """The classes in the `raise` statements of a function; "raise" for a statement that names no class."""
    return sorted({_raised_class(node) for node in _own_nodes(function) if isinstance(node, ast.Raise)})


def _raised_class(node: ast.Raise) -> str:
    raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    name = ast.unparse(raised).split(".")[-1] if raised else ""
    return name if name[:1].isupper() else "raise"


def _tells(raised: list[str], text: str) -> bool:
    return all(name.lower() in text.lower() for name in raised)


def _own_nodes(function: Function) -> Iterator[ast.AST]:
    """The nodes of a function, without those of functions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
