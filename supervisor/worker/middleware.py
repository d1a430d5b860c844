"""Calls the methods of a pool's middleware around its handler; to the worker the whole is one handler.

Runs in workers of pools with `middleware`. Every call into user code goes through `call`, below which alone the soft
limit may raise. An exception of a method ends the run as one of the handler does, with the name of the method. No
method may run in a child that a handler has forked: the run is its parent's. asyncio is imported with the first async
method.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from os import getpid
from typing import Any

from supervisor.api import Message, Reject, Retry
from supervisor.middleware_methods import METHODS
from supervisor.system.stacks import reason_of, stack_of
from supervisor.worker.handler_call import (
    EXITS,
    BlamedError,
    Handler,
    UndoneWorkError,
    call,
    handlers_frame,
    undone_work,
)

_log = logging.getLogger("preforkd.middleware")


class EventLoop:
    """The event loop of a worker, made for its first async method. Between two calls it stands still."""

    def __init__(self) -> None:
        self._loop: Any = None

    def complete(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` to its end, and return what it returns; the soft limit cancels it. Raises what it raises."""
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        task = self._loop.create_task(work)
        try:
            return call(self._loop.run_until_complete, task)
        except BaseException:  # as above
            if not task.done():  # the exception came in the loop's own code, between two steps of the task
                task.cancel()
                call(self._loop.run_until_complete, asyncio.wait([task]))  # type: ignore[arg-type]
                _ = task.cancelled() or task.exception()  # else asyncio logs that it was never retrieved
            raise


class Stage:
    """One middleware of a worker: its `name` in the configuration, and the object that was made for this worker."""

    def __init__(self, name: str, middleware: object, loop: EventLoop) -> None:
        self.name = name
        self._loop = loop
        self._methods = {name: method for name in METHODS if (method := getattr(middleware, name, None)) is not None}
        self._async = {name for name, method in self._methods.items() if inspect.iscoroutinefunction(method)}

    def do(self, name: str, message: Message, *more: object) -> None:
        """Call a method other than `around`, if it has it. Raises what the method raises, and UndoneWorkError."""
        method = self._methods.get(name)
        if method is None:
            return
        given = partial(method, message, *more[:-1]) if more else method
        returned = call(given, more[-1] if more else message)  # type: ignore[arg-type]
        if name in self._async:
            self._loop.complete(returned)  # type: ignore[arg-type]
        elif returned is not None and (why := undone_work(returned)):
            raise UndoneWorkError(why)

    def enter(self, message: Message) -> Callable[[BaseException | None], bool] | None:
        """Enter the context manager of `around`; returns the function that leaves it, None if it has none.

        That function takes the exception to be raised inside of it, and returns whether the exception is swallowed.
        Raises what user code raises, and TypeError if `around` returns another object.
        """
        around = self._methods.get("around")
        if around is None:
            return None
        manager = call(around, message)
        kind: Any = type(manager)
        if hasattr(kind, "__enter__") and hasattr(kind, "__exit__"):
            call(kind.__enter__, manager)  # type: ignore[arg-type]
            return partial(_leave, manager)
        if hasattr(kind, "__aenter__") and hasattr(kind, "__aexit__"):
            self._loop.complete(call(kind.__aenter__, manager))  # type: ignore[arg-type]
            return partial(self._leave_async, manager)
        raise TypeError(f"it returned an object of type {kind.__name__}, which is no context manager")

    def _leave_async(self, manager: Any, error: BaseException | None) -> bool:
        kind, trace = (None, None) if error is None else (type(error), error.__traceback__)
        return bool(self._loop.complete(type(manager).__aexit__(manager, kind, error, trace)))


def _leave(manager: Any, error: BaseException | None) -> bool:
    kind, trace = (None, None) if error is None else (type(error), error.__traceback__)
    return bool(call(partial(type(manager).__exit__, manager, kind, error), trace))  # type: ignore[arg-type]


class Chain:
    """The handler with the middleware around it, the first of `stages` outermost. Called as a handler is."""

    def __init__(self, handler: Handler, stages: Sequence[Stage]) -> None:
        self._handler = handler
        self._stages = stages
        self._pid = getpid()
        self._left_to_parent: list[object] = []

    def __call__(self, message: Message) -> None:
        """Run it. Raises the exception that ended the run; a BlamedError around it if a method of a middleware raised
        it, except for Retry and Reject."""
        run = _Run(self._handler, self._stages, message, self._pid)
        try:
            run.through(0)
        except EXITS:
            raise
        except BaseException as error:  # whatever it is, it is raised again
            if not run.is_over_here():
                run.tell_failed(error)
            if error is run.blamed and not isinstance(error, Retry | Reject):
                raise BlamedError(run.place) from error
            raise
        finally:
            if run.is_over_here():
                self._left_to_parent.append(run)


class _Run:
    """One run. `blamed`: the last exception that a method of a middleware raised by itself, at `place`.

    In a child that the handler has forked it is over at once. It is then kept until the child ends: a generator that
    is deleted runs its `finally`.
    """

    def __init__(self, handler: Handler, stages: Sequence[Stage], message: Message, pid: int) -> None:
        self._handler = handler
        self._stages = stages
        self._message = message
        self._pid = pid
        self._reached: list[Stage] = []
        self._leaves: list[Callable[[BaseException | None], bool] | None] = []
        self.blamed: BaseException | None = None
        self.place = ""

    def through(self, at: int) -> None:
        """Run the stages from number `at` on, and the handler. Raises what ends the run."""
        if at == len(self._stages):
            self._handle()
            return
        stage = self._stages[at]
        self._reached.append(stage)
        leave = self._named(stage, "around", partial(stage.enter, self._message))
        self._leaves.append(leave)
        try:
            self._named(stage, "before", partial(stage.do, "before", self._message))
            self.through(at + 1)
            if not self.is_over_here():
                self._named(stage, "after", partial(stage.do, "after", self._message))
        except BaseException as error:  # as a `with` does
            if leave is None or self.is_over_here():
                raise
            if not self._named(stage, "around", partial(leave, error), error):
                raise
        else:
            if leave is not None and not self.is_over_here():
                self._named(stage, "around", partial(leave, None))

    def is_over_here(self) -> bool:
        """Whether this process is a child that the handler has forked."""
        return getpid() != self._pid

    def tell_failed(self, error: BaseException) -> None:
        """Call `failed` of all reached stages, the innermost first. Their exceptions are logged: the reason stays.

        The traceback that they see begins in user code.
        """
        error = error.with_traceback(handlers_frame(error) or error.__traceback__)
        for stage in reversed(self._reached):
            try:
                stage.do("failed", self._message, error)
            except EXITS:
                raise
            except BaseException as another:  # noqa: BLE001  (user code; the run has its ending)
                text = "middleware %s.failed raised %s; the run keeps its own reason"
                stack = stack_of(another, handlers_frame(another))
                _log.error(text, stage.name, reason_of(another), extra={"stack": stack})

    def _handle(self) -> None:
        returned = call(self._handler, self._message)
        if returned is not None and (why := undone_work(returned)):
            raise UndoneWorkError(f"the handler {why}")

    def _named(self, stage: Stage, method: str, do: Callable[[], Any], given: BaseException | None = None) -> Any:
        """Do it, and note who raised. `given`: an exception that the method was given and may raise again."""
        try:
            return do()
        except BaseException as error:  # as above
            if error is not given:
                self.blamed, self.place = error, f"{stage.name}.{method}"
            raise
