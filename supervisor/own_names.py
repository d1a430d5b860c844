"""preforkd's two import names, `supervisor` and `workers`, belong to other projects, too: which file hides which."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_SUPERVISOR = Path(__file__).resolve().parent
_WORKERS = _SUPERVISOR.parent / "workers"


def conflict(module: str, path: Iterable[str]) -> str:
    """What hides what, where a pool names `module`; "" without a conflict.

    `path`: the folders in which Python looks for it, in order.
    """
    top, _, rest = module.partition(".")
    if top == "workers" and (_WORKERS / f"{rest}.py").is_file():
        other = _first(top, rest, path, _WORKERS)
        return f"{other} hides preforkd's own {module}; name supervisor.{module} for preforkd's" if other else ""
    if top == "supervisor" and not _is_ours(rest):
        other = _first(top, rest, path, _SUPERVISOR)
        return f"preforkd's own package {_SUPERVISOR} hides {other}; rename that package" if other else ""
    return ""


def _is_ours(rest: str) -> bool:
    """Whether `supervisor.rest` is a module of preforkd."""
    inner = _SUPERVISOR.joinpath(*rest.split("."))
    return inner.is_dir() or inner.with_suffix(".py").is_file() or rest.split(".")[0] == "workers"


def _first(top: str, rest: str, path: Iterable[str], ours: Path) -> Path | None:
    """The first file on `path` that Python takes for `top.rest` or its package; None if that is `ours`.

    A folder without `__init__.py` is a part of a namespace package: it hides only the modules that it has itself.
    """
    inner = rest.replace(".", "/")
    for folder in path:
        package = Path(folder, top)
        if package.resolve() == ours:
            return None
        for file in (package / "__init__.py", package.with_suffix(".py"), package / f"{inner}.py"):
            if file.is_file():
                return file
    return None
