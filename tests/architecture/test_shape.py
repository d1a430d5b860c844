"""The shape of the code: lengths, parameters, nesting, and a few things that are never written.

The figures are measured on code bases known for being readable (CONTRIBUTING.md); a docstring is not length.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from statistics import median, quantiles

from tests.support.longest_first import LONGEST
from tests.support.source_tree import CODE, ROOT, Function, functions, nodes, sources, tree

MAX_FILE_LINES = 400
MEDIAN_FILE_LINES = 150
MAX_FUNCTION_LINES = 60
MEDIAN_FUNCTION_LINES = 8
P90_FUNCTION_LINES = 25
MAX_PARAMETERS = 8
MAX_NESTING = 3
MAX_HEAD_LINES = 12
SLEEPS = ("time.sleep", "sleep", "asyncio.sleep")

DRAWINGS = {Path("supervisor/scoreboard/layout.py")}
"""Files whose head draws something, and may be longer: the bytes of a slot file."""

_BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match, ast.AsyncFor, ast.AsyncWith)

FILES = sources(*CODE)
TEST_FILES = [path for path in sources("tests") if not path.name.endswith("_handlers.py")]
"""All but the handlers that tests run: those hang on purpose."""


def test_a_file_can_be_read_in_one_sitting() -> None:
    assert [f"{path}: {_count(path)} lines" for path in FILES if _count(path) > MAX_FILE_LINES] == []


def test_a_file_says_at_its_head_what_it_is() -> None:
    heads = {path: ast.get_docstring(tree(path)) or "" for path in FILES}

    assert [str(path) for path, head in heads.items() if not head] == [], (
        "one sentence at least: what this is, which process runs it, what it must never do"
    )
    long = {path for path, head in heads.items() if len(head.splitlines()) > MAX_HEAD_LINES}
    assert sorted(map(str, long - DRAWINGS)) == []


def test_functions_are_short() -> None:
    assert _named(lambda function: _length(function) > MAX_FUNCTION_LINES) == []


def test_functions_have_few_parameters() -> None:
    assert _named(lambda function: _parameters(function) > MAX_PARAMETERS) == []


def test_functions_are_flat() -> None:
    assert _named(lambda function: _nesting(function) > MAX_NESTING) == []


def test_what_is_caught_is_named() -> None:
    caught = [(path, node) for path in FILES for node in nodes(path) if isinstance(node, ast.ExceptHandler)]

    assert [f"{path}:{node.lineno}" for path, node in caught if node.type is None] == [], "a bare except"
    broad = [
        (p, node.lineno) for p, node in caught if _is_broad(node.type) and not isinstance(node.body[-1], ast.Raise)
    ]
    assert [f"{path}:{line}" for path, line in broad if "#" not in "".join(_lines(path)[line - 1 : line + 1])] == [], (
        "broad, without a reason"
    )


def test_no_function_changes_module_state() -> None:
    assert [f"{p}:{node.lineno}" for p in FILES for node in nodes(p) if isinstance(node, ast.Global)] == []


def test_nothing_is_left_over() -> None:
    words = ("TODO", "FIXME", "XXX", "breakpoint(")

    assert [f"{path}: {word}" for path in FILES for word in words if word in "\n".join(_lines(path))] == []


def test_files_are_short_as_a_rule() -> None:
    assert median(_count(path) for path in FILES) <= MEDIAN_FILE_LINES


def test_functions_are_short_as_a_rule() -> None:
    lengths = [_length(function) for path in FILES for function in functions(path)]

    assert median(lengths) <= MEDIAN_FUNCTION_LINES
    assert quantiles(lengths, n=10)[-1] <= P90_FUNCTION_LINES


def test_tests_wait_for_something_and_never_sleep() -> None:
    named = [path for path in TEST_FILES if "sleep" in (ROOT / path).read_text()]
    calls = [(path, node) for path in named for node in nodes(path) if isinstance(node, ast.Call)]

    assert [f"{path}:{call.lineno}" for path, call in calls if ast.unparse(call.func) in SLEEPS] == []


def test_test_modules_have_names_of_their_own() -> None:
    names = [path.name for path in sources("tests") if path.name.startswith("test_")]

    assert sorted({name for name in names if names.count(name) > 1}) == [], "pytest needs unique names"


def test_files_that_are_begun_first_exist() -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []


@cache
def _lines(path: Path) -> list[str]:
    return (ROOT / path).read_text().splitlines()


def _count(path: Path) -> int:
    return len(_lines(path))


def _named(over_limit: Callable[[Function], bool]) -> list[str]:
    return [
        f"{p}:{function.lineno} {function.name}" for p in FILES for function in functions(p) if over_limit(function)
    ]


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
    """How deep blocks stand in each other; `elif` is no deeper than its `if`, a function within begins again."""
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
