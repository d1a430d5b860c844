"""Middleware around a handler: in which order, with which exceptions, and what becomes of the run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any

import pytest

from supervisor.api import Message, Reject, Retry, SoftTimeout
from supervisor.scoreboard.words import OutcomeKind
from supervisor.worker import middleware
from supervisor.worker.handler_call import DONE, Ending, call, run_handler
from supervisor.worker.limits import interruptible
from supervisor.worker.middleware import Chain, EventLoop, Stage

Notes = list[str]

_BEFORE = ["A.enter", "A.before", "B.enter", "B.before"]
_IN_ORDER = [*_BEFORE, "handler", "B.after", "B.leave", "A.after", "A.leave"]


async def _turn() -> None:
    """One turn of the event loop."""
    loop = asyncio.get_running_loop()
    turned = loop.create_future()
    loop.call_soon(turned.set_result, None)
    await turned


class Plain:
    """Notes each call; raises `errors[method]`."""

    def __init__(self, name: str, notes: Notes, **errors: BaseException) -> None:
        self.name, self.notes, self.errors = name, notes, errors

    def note(self, method: str) -> None:
        self.notes.append(f"{self.name}.{method}")
        if method in self.errors:
            raise self.errors[method]

    def before(self, message: Message) -> None:
        self.note("before")

    def after(self, message: Message) -> None:
        self.note("after")

    def failed(self, message: Message, error: BaseException) -> None:
        self.notes.append(f"{self.name}.failed {error!r}")
        if "failed" in self.errors:
            raise self.errors["failed"]

    @contextmanager
    def around(self, message: Message) -> Iterator[None]:
        self.note("enter")
        try:
            yield
        except BaseException as error:
            self.notes.append(f"{self.name}.left by {type(error).__name__}")
            if "swallowed" in self.errors:
                return
            self.note("leave_failed")
            raise
        self.note("leave")


class Async(Plain):
    """The same, with async methods."""

    async def before(self, message: Message) -> None:  # type: ignore[override]
        await _turn()
        self.note("before")

    async def after(self, message: Message) -> None:  # type: ignore[override]
        await _turn()
        self.note("after")

    async def failed(self, message: Message, error: BaseException) -> None:  # type: ignore[override]
        await _turn()
        super().failed(message, error)

    @asynccontextmanager
    async def around(self, message: Message) -> AsyncIterator[None]:  # type: ignore[override]
        await _turn()
        with super().around(message):
            yield


@pytest.fixture(params=[Plain, Async])
def kind(request: pytest.FixtureRequest) -> type[Plain]:
    made: type[Plain] = request.param
    return made


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    if loop._loop is not None:
        loop._loop.close()


@pytest.fixture
def run(loop: EventLoop) -> Callable[..., Ending]:
    """Runs a handler with middleware: `run(handler, (name, object), …)`."""

    def run(handler: Callable[[Message], object], *named: tuple[str, object]) -> Ending:
        return run_handler(Chain(handler, [Stage(name, one, loop) for name, one in named]), Message(b"", id="m"))

    return run


def two(kind: type[Plain], notes: Notes, **errors: dict[str, BaseException]) -> list[tuple[str, Plain]]:
    return [(f"app:{name}", kind(name, notes, **errors.get(name, {}))) for name in ("A", "B")]


def handler_of(notes: Notes, error: BaseException | None = None) -> Callable[[Message], None]:
    def handle(message: Message) -> None:
        notes.append("handler")
        if error is not None:
            raise error.with_traceback(None)  # parameters of tests are raised more than once

    return handle


def test_the_first_is_outermost(kind: type[Plain], run: Callable[..., Ending]) -> None:
    notes: Notes = []

    assert run(handler_of(notes), *two(kind, notes)) is DONE
    assert notes == _IN_ORDER


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (ValueError("as ordered"), OutcomeKind.FAILED, "ValueError: as ordered"),
        (Retry(5, "later"), OutcomeKind.RETRY, "later"),
        (Reject("never"), OutcomeKind.REJECT, "never"),
        (SoftTimeout("over"), OutcomeKind.SOFT_TIMEOUT, "over"),
        (asyncio.CancelledError(), OutcomeKind.FAILED, "asyncio.exceptions.CancelledError"),
    ],
)
def test_an_exception_of_the_handler_passes_all_and_ends_the_run_as_without_them(
    kind: type[Plain], run: Callable[..., Ending], error: Exception, outcome: OutcomeKind, reason: str
) -> None:
    notes: Notes = []
    ending = run(handler_of(notes, error), *two(kind, notes))

    assert (ending.kind, ending.reason) == (outcome, reason)
    name = type(error).__name__
    assert notes[4:] == [
        *("handler", f"B.left by {name}", "B.leave_failed", f"A.left by {name}", "A.leave_failed"),
        *(f"B.failed {error!r}", f"A.failed {error!r}"),
    ]
    assert "in handle" in ending.stack
    assert "supervisor/worker" not in ending.stack, ending.stack


FAULTS: list[tuple[str, str, list[str]]] = [
    ("A", "enter", ["A.enter"]),
    ("A", "before", ["A.enter", "A.before"]),
    ("B", "enter", ["A.enter", "A.before", "B.enter"]),
    ("B", "before", ["A.enter", "A.before", "B.enter", "B.before"]),
    ("B", "after", ["A.enter", "A.before", "B.enter", "B.before", "handler", "B.after"]),
    ("A", "leave", _IN_ORDER),
]


@pytest.mark.parametrize(("who", "where", "begun"), FAULTS)
def test_an_exception_of_a_method_fails_the_run_with_its_name(
    kind: type[Plain], run: Callable[..., Ending], who: str, where: str, begun: list[str]
) -> None:
    notes: Notes = []
    error = KeyError("language")
    ending = run(handler_of(notes), *two(kind, notes, **{who: {where: error}}))

    method = "around" if where in ("enter", "leave") else where
    assert ending.kind is OutcomeKind.FAILED
    assert ending.reason == f"middleware app:{who}.{method}: KeyError: 'language'"
    assert "in note" in ending.stack
    assert notes[: len(begun)] == begun
    reached = ["A"] if begun[-1] in ("A.enter", "A.before") else ["B", "A"]
    assert [note for note in notes if ".failed" in note] == [f"{name}.failed {error!r}" for name in reached]


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (Retry(5, "later"), OutcomeKind.RETRY, "later"),
        (Reject("never"), OutcomeKind.REJECT, "never"),
        (SoftTimeout("over"), OutcomeKind.SOFT_TIMEOUT, "middleware app:B.before: over"),
    ],
)
def test_retry_and_reject_of_a_method_act_as_the_handlers(
    kind: type[Plain], run: Callable[..., Ending], error: Exception, outcome: OutcomeKind, reason: str
) -> None:
    notes: Notes = []
    ending = run(handler_of(notes), *two(kind, notes, B={"before": error}))

    assert (ending.kind, ending.reason) == (outcome, reason)
    assert ending.delay_s == (5 if outcome is OutcomeKind.RETRY else None)
    assert "handler" not in notes


def test_an_exception_in_failed_is_logged_and_the_run_keeps_its_reason(
    kind: type[Plain], run: Callable[..., Ending], caplog: pytest.LogCaptureFixture
) -> None:
    notes: Notes = []
    ending = run(handler_of(notes, ValueError("first")), *two(kind, notes, B={"failed": OSError("second")}))

    assert ending.reason == "ValueError: first"
    assert notes[-1] == "A.failed ValueError('first')"
    (record,) = caplog.records
    assert record.message == "middleware app:B.failed raised OSError: second; the run keeps its own reason"
    assert "in failed" in record.__dict__["stack"]


def test_failed_sees_a_traceback_that_begins_in_user_code(run: Callable[..., Ending]) -> None:
    class Looking:
        def failed(self, message: Message, error: BaseException) -> None:
            assert error.__traceback__ is not None
            found.append(error.__traceback__.tb_frame.f_code.co_name)

    found: Notes = []
    run(handler_of([], ValueError("x")), ("app:L", Looking()))
    assert found == ["handle"]


def test_an_around_may_swallow_an_exception_and_the_run_is_done(kind: type[Plain], run: Callable[..., Ending]) -> None:
    notes: Notes = []
    error = ValueError("as ordered")

    assert run(handler_of(notes, error), *two(kind, notes, B={"swallowed": error})) is DONE
    assert notes[-3:] == ["B.left by ValueError", "A.after", "A.leave"]


def test_an_around_that_raises_another_exception_is_to_blame(kind: type[Plain], run: Callable[..., Ending]) -> None:
    notes: Notes = []
    another = OSError("no commit")
    ending = run(handler_of(notes, ValueError("as ordered")), *two(kind, notes, B={"leave_failed": another}))

    assert ending.reason == "middleware app:B.around: OSError: no commit"
    assert "ValueError: as ordered" in ending.stack


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["before", "failed", "handler"])
def test_an_exit_leaves_the_run_open_wherever_it_comes_from(
    kind: type[Plain], run: Callable[..., Ending], error: BaseException, where: str
) -> None:
    notes: Notes = []
    handled = error if where == "handler" else ValueError("as ordered")
    with pytest.raises(type(error)):
        run(handler_of(notes, handled), *two(kind, notes, A={where: error}))
    assert "A.left by" in " ".join(notes) or where == "failed"
    assert ".failed" not in " ".join(notes) or where == "failed"


class Lazy:
    def before(self, message: Message) -> Any:
        return _turn()


class NoManager:
    def around(self, message: Message) -> Any:
        return 7


class Manager:
    """A context manager that is a class of its own, and raises again what it is given."""

    def around(self, message: Message) -> Manager:
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            raise error


def test_work_that_a_method_or_the_handler_leaves_undone_fails_the_run(run: Callable[..., Ending]) -> None:
    notes: Notes = []
    undone = "returned a coroutine that is never awaited; call asyncio.run in it"

    ending = run(handler_of(notes), ("app:Lazy", Lazy()))
    assert (ending.reason, ending.stack) == (f"middleware app:Lazy.before: {undone}", "")
    ending = run(lambda message: _turn(), ("app:A", Plain("A", notes)))
    assert (ending.kind, ending.reason, ending.stack) == (OutcomeKind.FAILED, f"the handler {undone}", "")
    assert notes[-1].startswith("A.failed UndoneWorkError")


def test_an_around_without_a_context_manager_fails_the_run(run: Callable[..., Ending]) -> None:
    ending = run(handler_of([]), ("app:NoManager", NoManager()))
    assert ending.reason.startswith("middleware app:NoManager.around: TypeError: it returned an object of type int")


def test_an_around_that_raises_again_what_it_was_given_is_not_to_blame(run: Callable[..., Ending]) -> None:
    assert run(handler_of([], ValueError("x")), ("app:Manager", Manager())).reason == "ValueError: x"


def test_publications_of_methods_belong_to_the_run(loop: EventLoop) -> None:
    class Publishing:
        def before(self, message: Message) -> None:
            message.publish(b"before", routing_key="audit")

        async def after(self, message: Message) -> None:
            message.publish(b"after", routing_key="audit")

    message = Message(b"")
    run_handler(Chain(lambda message: None, [Stage("app:P", Publishing(), loop)]), message)

    assert [one.body for one in message.publications] == [b"before", b"after"]


@pytest.mark.parametrize("error", [None, ValueError("of the child")])
def test_nothing_of_it_runs_in_a_child_that_the_handler_has_forked(
    loop: EventLoop, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """Nor does a generator's `finally`, which would run with its end."""
    notes: Notes = []

    def fork(message: Message) -> None:
        monkeypatch.setattr(middleware, "getpid", lambda: os.getppid())
        if error is not None:
            raise error

    chain = Chain(fork, [Stage(name, one, loop) for name, one in two(Plain, notes)])

    assert (run_handler(chain, Message(b"")) is DONE) is (error is None)
    assert notes == _BEFORE


# ---- the soft limit -------------------------------------------------------------------------------------------------


class Watched:
    """Notes in which of its methods the soft limit may raise."""

    def __init__(self, found: set[str]) -> None:
        self.found = found

    def look(self, method: str) -> None:
        if interruptible(sys._getframe(), call.__code__):
            self.found.add(method)

    def before(self, message: Message) -> None:
        self.look("before")

    async def after(self, message: Message) -> None:
        await _turn()
        self.look("after")

    def failed(self, message: Message, error: BaseException) -> None:
        self.look("failed")

    def around(self, message: Message) -> AbstractContextManager[None]:
        self.look("around")
        return self._looking()

    @contextmanager
    def _looking(self) -> Iterator[None]:
        self.look("enter")
        try:
            yield
        finally:
            self.look("leave")


def test_the_soft_limit_may_raise_in_each_method_and_in_the_handler(run: Callable[..., Ending]) -> None:
    found: set[str] = set()
    watched = Watched(found)

    def handle(message: Message) -> None:
        watched.look("handler")

    run(handle, ("app:W", watched))
    run(handler_of([], ValueError("x")), ("app:W", watched))

    assert found == {"around", "before", "after", "failed", "enter", "leave", "handler"}


def test_an_async_method_that_the_soft_limit_ends_is_cancelled(
    loop: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit strikes in the loop's own code, where no frame of the method is."""
    cancelled: Notes = []

    class Endless:
        async def before(self, message: Message) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append("cancelled")
                raise

    loop.complete(_turn())

    def strike(*_timeout: object) -> list[object]:
        monkeypatch.undo()
        raise SoftTimeout("over")

    monkeypatch.setattr(loop._loop._selector, "select", strike)
    ending = run_handler(Chain(lambda message: None, [Stage("app:E", Endless(), loop)]), Message(b""))

    assert (ending.kind, ending.reason) == (OutcomeKind.SOFT_TIMEOUT, "middleware app:E.before: over")
    assert cancelled in ([], ["cancelled"])
    assert asyncio.all_tasks(loop._loop) == set()


def test_asyncio_is_not_imported_for_methods_that_are_not_async() -> None:
    code = """
import sys
from supervisor.api import Message
from supervisor.worker.middleware import Chain, EventLoop, Stage
class Plain:
    def before(self, message): print("before")
Chain(print, [Stage("a:Plain", Plain(), EventLoop())])(Message(b""))
sys.exit("asyncio" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
