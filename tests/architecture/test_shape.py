"""The shape of the code: lengths, parameters, nesting, and a few things that are never written.

The figures are measured on code bases known for being readable (CONTRIBUTING.md); a docstring is not length.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, quantiles

import pytest

from tests.support.longest_first import LONGEST
from tests.support.source_tree import CODE, ROOT, Function, functions, sources, tree

MAX_FILE_LINES = 400
MEDIAN_FILE_LINES = 150
MAX_FUNCTION_LINES = 60
MEDIAN_FUNCTION_LINES = 8
P90_FUNCTION_LINES = 25
MAX_PARAMETERS = 8
MAX_NESTING = 3
MAX_HEAD_LINES = 12

DRAWINGS = {Path("supervisor/scoreboard/layout.py")}
"""Files whose head draws something, and may be longer: the bytes of a slot file."""

_BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match, ast.AsyncFor, ast.AsyncWith)

every_file = pytest.mark.parametrize("path", sources(*CODE), ids=str)
every_test_file = pytest.mark.parametrize(
    "path", [path for path in sources("tests") if not path.name.endswith("_handlers.py")], ids=str
)
"""All but the handlers that tests run: those hang on purpose."""


@every_file
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    assert _lines(path) <= MAX_FILE_LINES


@every_file
def test_a_file_says_at_its_head_what_it_is(path: Path) -> None:
    head = ast.get_docstring(tree(path))

    assert head, "one sentence at least: what this is, which process runs it, what it must never do"
    assert len(head.splitlines()) <= MAX_HEAD_LINES or path in DRAWINGS


@every_file
def test_functions_are_short(path: Path) -> None:
    assert _named(path, lambda function: _length(function) > MAX_FUNCTION_LINES) == []


@every_file
def test_functions_have_few_parameters(path: Path) -> None:
    assert _named(path, lambda function: _parameters(function) > MAX_PARAMETERS) == []


@every_file
def test_functions_are_flat(path: Path) -> None:
    assert _named(path, lambda function: _nesting(function) > MAX_NESTING) == []


@every_file
def test_what_is_caught_is_named(path: Path) -> None:
    lines = (ROOT / path).read_text().splitlines()
    handlers = [node for node in ast.walk(tree(path)) if isinstance(node, ast.ExceptHandler)]

    assert [node.lineno for node in handlers if node.type is None] == [], "a bare except"
    broad = [node.lineno for node in handlers if _is_broad(node.type) and not isinstance(node.body[-1], ast.Raise)]
    assert [line for line in broad if "#" not in "".join(lines[line - 1 : line + 1])] == [], "broad, without a reason"


@every_file
def test_no_function_changes_module_state(path: Path) -> None:
    assert [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Global)] == []


@every_file
def test_nothing_is_left_over(path: Path) -> None:
    text = (ROOT / path).read_text()

    assert [word for word in ("TODO", "FIXME", "XXX", "breakpoint(") if word in text] == []


def test_files_are_short_as_a_rule() -> None:
    assert median(_lines(path) for path in sources(*CODE)) <= MEDIAN_FILE_LINES


def test_functions_are_short_as_a_rule() -> None:
    lengths = [_length(function) for path in sources(*CODE) for function in functions(path)]

    assert median(lengths) <= MEDIAN_FUNCTION_LINES
    assert quantiles(lengths, n=10)[-1] <= P90_FUNCTION_LINES


@every_test_file
def test_tests_wait_for_something_and_never_sleep(path: Path) -> None:
    calls = [ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]

    assert [call for call in calls if call in ("time.sleep", "sleep", "asyncio.sleep")] == []


def test_test_modules_have_names_of_their_own() -> None:
    names = [path.name for path in sources("tests") if path.name.startswith("test_")]

    assert sorted({name for name in names if names.count(name) > 1}) == [], "pytest needs unique names"


def test_files_that_are_begun_first_exist() -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []


def _lines(path: Path) -> int:
    return len((ROOT / path).read_text().splitlines())


def _named(path: Path, guilty: Callable[[Function], bool]) -> list[str]:
    return [f"{path}:{function.lineno} {function.name}" for function in functions(path) if guilty(function)]


def _length(function: Function) -> int:
    """Lines from `def` to the end, the docstring left out."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is None:
        return lines
    return lines - ((first.end_lineno or first.lineno) - first.lineno + 1)


def _parameters(function: Function) -> int:
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def _nesting(node: ast.AST, depth: int = 0) -> int:
    """How deep blocks stand in each other; `elif` is no deeper than its `if`, a function within begins anew."""
    return max((depth, *(_nesting(child, depth + deeper) for child, deeper in _children(node))))


def _children(node: ast.AST) -> Iterator[tuple[ast.AST, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef | ast.Lambda):
            continue
        elif_ = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        yield child, int(isinstance(child, _BLOCKS) and not elif_)


def _is_broad(caught: ast.expr | None) -> bool:
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(isinstance(name, ast.Name) and name.id in ("Exception", "BaseException") for name in names)
