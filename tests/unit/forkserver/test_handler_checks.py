"""The text that a user gets for a handler that cannot be put to work; checked in this process, nothing is left."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.config.schema import PoolConfig
from supervisor.errors import BootError
from supervisor.forkserver.handler_import import _import, import_handlers


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a module `under_check`, forgotten afterwards with all that its import changes."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    yield tmp_path / "under_check.py"
    for name in [name for name in sys.modules if name == "under_check"]:
        del sys.modules[name]


def pool(module: Path, handler: str = "under_check:run", **options: Any) -> PoolConfig:
    return PoolConfig("email", "email", handler, path=(str(module.parent),), **options)


def test_a_handler_and_its_init_are_found(module: Path) -> None:
    module.write_text("def run(message): return 'ran'\ndef connect(): return 'connected'\n")
    handlers = import_handlers(pool(module, init="under_check:connect"))
    assert handlers.run is sys.modules["under_check"].run
    assert handlers.init is sys.modules["under_check"].connect


def test_without_an_init_there_is_none(module: Path) -> None:
    module.write_text("def run(message): pass\n")
    assert import_handlers(pool(module)).init is None


def test_an_init_that_wants_arguments_is_refused(module: Path) -> None:
    module.write_text("def run(message): pass\ndef connect(url): pass\n")
    with pytest.raises(BootError, match=r"init = 'under_check:connect': cannot be called with no arguments: it takes"):
        import_handlers(pool(module, init="under_check:connect"))


def test_a_builtin_may_be_a_handler_though_its_signature_is_unknown(module: Path) -> None:
    module.write_text("run = print\n")
    assert import_handlers(pool(module)).run is print


def test_a_missing_submodule_is_named_with_where_was_looked(module: Path) -> None:
    module.write_text("")
    with pytest.raises(BootError) as caught:
        import_handlers(pool(module, handler="under_check.mail:run"))
    text = str(caught.value)
    assert text.startswith("pools.email.handler = 'under_check.mail:run': there is no module 'under_check.mail'")
    assert str(module.parent) in text


def test_native_threads_are_named_too_and_the_cure_is_told(module: Path) -> None:
    hold = "threading.hold = threading.Event()"
    module.write_text(
        f"import _thread, threading\n{hold}\n_thread.start_new_thread(threading.hold.wait, ())\ndef run(m): pass\n"
    )
    try:
        with pytest.raises(BootError) as caught:
            import_handlers(pool(module))
    finally:
        threading.hold.set()  # type: ignore[attr-defined]
        del threading.hold  # type: ignore[attr-defined]
    assert "(not a Python thread)" in str(caught.value)
    assert "OPENBLAS_NUM_THREADS" in str(caught.value)
    assert "`init`" in str(caught.value)


LAZY = {
    "a class whose objects are called": (
        "class run:\n    def __init__(self, message): pass\n    def __call__(self): pass\n",
        "is a class whose objects are called",
    ),
    "an object whose call is async": (
        "class Task:\n    async def __call__(self, message): pass\nrun = Task()\n",
        "is an async or generator function",
    ),
    "a partial of a generator function": (
        "import functools\ndef _run(a, message): yield\nrun = functools.partial(_run, 1)\n",
        "is an async or generator function",
    ),
    "a bound generator method": (
        "class Task:\n    def go(self, message): yield\nrun = Task().go\n",
        "is an async or generator function",
    ),
}


@pytest.mark.parametrize("case", LAZY)
def test_what_would_run_nothing_when_it_is_called_is_refused(module: Path, case: str) -> None:
    source, reason = LAZY[case]
    module.write_text(source)
    with pytest.raises(BootError, match=reason):
        import_handlers(pool(module))


def test_a_class_that_works_when_it_is_made_may_be_a_handler(module: Path) -> None:
    module.write_text("class run:\n    def __init__(self, message): pass\n")
    assert import_handlers(pool(module)).run is sys.modules["under_check"].run


def test_a_module_that_is_not_found_tells_what_is_wrong_with_the_places_looked_in(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    with pytest.raises(BootError, match=r"none, which does not exist; and"):
        _import("pools.a.handler = 'no_such:run'", "no_such", (missing,))
    with pytest.raises(BootError, match=r"name the module without \.py"):
        _import("pools.a.handler = 'no_such.py:run'", "no_such.py", (str(tmp_path),))


# ---- middleware -----------------------------------------------------------------------------------------------------

_RUN = "def run(message): pass\n"
_CLASS = "class Locale:\n    def before(self, message): pass\n"


def test_classes_and_functions_that_make_middleware_are_found_in_their_order(module: Path) -> None:
    module.write_text(f"{_RUN}{_CLASS}def made(): return Locale()\n")
    handlers = import_handlers(pool(module, middleware=("under_check:made", "under_check:Locale")))
    found = sys.modules["under_check"]
    assert handlers.middleware == (("under_check:made", found.made), ("under_check:Locale", found.Locale))


BAD_MIDDLEWARE = {
    "no such module": ("", "no_such:Locale", r"middleware\[0\] = 'no_such:Locale': there is no module 'no_such'"),
    "no such class": (_CLASS, "under_check:Local", r"has no 'Local'; did you mean 'Locale'\?"),
    "an object": (f"{_CLASS}one = Locale()\n", "under_check:one", "is an object of type Locale; name its class"),
    "a misspelt method": (_CLASS.replace("before", "befor"), "under_check:Locale", "did you mean 'before'"),
    "a constructor with arguments": (
        f"{_CLASS}    def __init__(self, url): pass\n",
        "under_check:Locale",
        "cannot be called with no arguments: it takes",
    ),
    "a function with arguments": ("def made(url): pass\n", "under_check:made", "cannot be called with no arguments"),
    "an async function": ("async def made(): pass\n", "under_check:made", "is an async or generator function"),
}


@pytest.mark.parametrize("case", BAD_MIDDLEWARE)
def test_what_cannot_be_middleware_is_refused_with_its_place(module: Path, case: str) -> None:
    source, name, reason = BAD_MIDDLEWARE[case]
    module.write_text(_RUN + source)
    with pytest.raises(BootError, match=reason) as caught:
        import_handlers(pool(module, middleware=(name,)))
    assert str(caught.value).startswith(f"pools.email.middleware[0] = {name!r}: ")
