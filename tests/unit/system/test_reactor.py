"""The reactor: one pass over descriptors (pipes stand in for sockets), timers, callbacks; and what pika asks of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from pika.adapters.utils.selector_ioloop_adapter import AbstractSelectorIOLoop, SelectorIOServicesAdapter

from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


class Pipe:
    """Both ends of a pipe, closed at the end of the test."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._open = {self.read, self.write}

    def close(self, fd: int) -> None:
        if fd in self._open:
            self._open.remove(fd)
            os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close(pipe.read)
    pipe.close(pipe.write)


# ---- descriptors --------------------------------------------------------------------------------------------------


def test_a_readable_descriptor_calls_its_handler(reactor: Reactor, pipe: Pipe) -> None:
    calls: list[tuple[int, int]] = []
    reactor.add_handler(pipe.read, lambda fd, events: calls.append((fd, events)), Reactor.READ)
    os.write(pipe.write, b"x")

    reactor.poll(1.0)
    assert calls == [(pipe.read, Reactor.READ)]


def test_a_removed_handler_is_not_called(reactor: Reactor, pipe: Pipe) -> None:
    calls: list[int] = []
    reactor.add_handler(pipe.read, lambda fd, _events: calls.append(fd), Reactor.READ)
    os.write(pipe.write, b"x")
    reactor.remove_handler(pipe.read)
    reactor.remove_handler(pipe.read)

    reactor.poll(0.0)
    assert calls == []


def test_a_handler_may_remove_another_one_of_the_same_pass(reactor: Reactor) -> None:
    first, second = Pipe(), Pipe()
    calls: list[int] = []

    def once(fd: int, _events: int) -> None:
        calls.append(fd)
        for other in (first.read, second.read):
            reactor.remove_handler(other)

    for one in (first, second):
        reactor.add_handler(one.read, once, Reactor.READ)
        os.write(one.write, b"x")
    reactor.poll(1.0)

    assert len(calls) == 1
    for one in (first, second):
        one.close(one.read)
        one.close(one.write)


def test_a_hang_up_is_readable_so_that_the_end_of_a_stream_is_seen(reactor: Reactor, pipe: Pipe) -> None:
    calls: list[int] = []
    reactor.add_handler(pipe.read, lambda _fd, events: calls.append(events), Reactor.READ)
    pipe.close(pipe.write)

    reactor.poll(1.0)
    assert calls[0] & Reactor.READ


def test_other_events_can_be_waited_for(reactor: Reactor, pipe: Pipe) -> None:
    calls: list[int] = []
    reactor.add_handler(pipe.write, lambda _fd, events: calls.append(events), Reactor.READ)
    reactor.poll(0.0)
    reactor.update_handler(pipe.write, Reactor.WRITE)

    reactor.poll(1.0)
    assert calls == [Reactor.WRITE]


def test_waiting_for_nothing_is_refused(reactor: Reactor, pipe: Pipe) -> None:
    reactor.add_handler(pipe.read, lambda _fd, _events: None, Reactor.READ)

    with pytest.raises(ValueError, match="remove_handler"):
        reactor.update_handler(pipe.read, 0)


def test_an_error_in_a_handler_leaves_and_the_reactor_goes_on(reactor: Reactor, pipe: Pipe) -> None:
    def fail(_fd: int, _events: int) -> None:
        os.read(pipe.read, 1)
        raise RuntimeError("from the handler")

    reactor.add_handler(pipe.read, fail, Reactor.READ)
    os.write(pipe.write, b"x")
    with pytest.raises(RuntimeError, match="from the handler"):
        reactor.poll(1.0)

    calls: list[str] = []
    reactor.add_callback(lambda: calls.append("on"))
    reactor.poll(1.0)
    assert calls == ["on"]


# ---- time ---------------------------------------------------------------------------------------------------------


def test_timers_fire_in_the_order_of_their_time(reactor: Reactor) -> None:
    fired: list[str] = []
    reactor.call_later(0.02, lambda: fired.append("late"))
    reactor.call_later(0.0, lambda: fired.append("soon"))
    while len(fired) < 2:
        reactor.poll(1.0)

    assert fired == ["soon", "late"]


def test_a_timer_does_not_fire_early(reactor: Reactor) -> None:
    fired: list[float] = []
    started_s = monotonic_s()
    reactor.call_later(0.03, lambda: fired.append(monotonic_s()))
    while not fired:
        reactor.poll(1.0)

    assert fired[0] - started_s >= 0.03


def test_a_cancelled_timer_does_not_fire_nor_wake(reactor: Reactor) -> None:
    fired: list[int] = []
    timer = reactor.call_later(0.0, lambda: fired.append(1))
    reactor.remove_timeout(timer)
    reactor.remove_timeout(timer)
    reactor.poll(0.0)

    assert fired == []


def test_a_pass_ends_with_its_time(reactor: Reactor) -> None:
    reactor.call_later(3600.0, lambda: None)
    started_s = monotonic_s()
    reactor.poll(0.01)

    assert monotonic_s() - started_s < 60


def test_a_timer_that_sets_itself_again_does_not_hold_the_pass(reactor: Reactor) -> None:
    fired: list[int] = []

    def again() -> None:
        fired.append(1)
        reactor.call_later(0.0, again)

    reactor.call_later(0.0, again)
    reactor.poll(0.0)
    reactor.poll(0.0)
    assert 1 <= len(fired) <= 2


# ---- callbacks ----------------------------------------------------------------------------------------------------


def test_a_callback_of_another_thread_wakes_a_waiting_pass(reactor: Reactor) -> None:
    called: list[str] = []
    thread = threading.Thread(target=lambda: reactor.add_callback(lambda: called.append("there")))
    reactor.call_later(0.0, thread.start)
    while not called:
        reactor.poll(30.0)
    thread.join()

    assert called == ["there"]


def test_callbacks_added_by_callbacks_come_in_the_next_pass(reactor: Reactor) -> None:
    calls: list[str] = []

    def first() -> None:
        calls.append("first")
        reactor.add_callback(lambda: calls.append("second"))

    reactor.add_callback(first)
    reactor.poll(0.0)
    assert calls == ["first"]
    reactor.poll(0.0)
    assert calls == ["first", "second"]


def test_more_callbacks_than_the_wake_pipe_holds_are_all_called(reactor: Reactor) -> None:
    calls: list[int] = []
    for number in range(70_000):
        reactor.add_callback(partial(calls.append, number))
    reactor.poll(0.0)

    assert calls == list(range(70_000))


# ---- pika ---------------------------------------------------------------------------------------------------------


def test_the_reactor_has_all_that_pika_asks_of_a_loop(reactor: Reactor) -> None:
    asked = {name for name in vars(AbstractSelectorIOLoop) if not name.startswith("_")}

    assert {name for name in asked if not hasattr(reactor, name)} == set()


def test_pikas_adapter_reads_writes_and_forgets_through_the_reactor(reactor: Reactor, pipe: Pipe) -> None:
    adapter = SelectorIOServicesAdapter(reactor)
    seen: list[str] = []
    adapter.set_reader(pipe.read, lambda: seen.append(f"read {os.read(pipe.read, 9)!r}"))
    adapter.set_writer(pipe.write, lambda: seen.append("writable"))
    os.write(pipe.write, b"x")
    reactor.poll(1.0)
    assert sorted(seen) == ["read b'x'", "writable"]

    assert adapter.remove_reader(pipe.read)
    assert adapter.remove_writer(pipe.write)
    os.write(pipe.write, b"y")
    reactor.poll(0.0)
    assert len(seen) == 2


def test_pikas_adapter_sets_and_cancels_timers(reactor: Reactor) -> None:
    adapter = SelectorIOServicesAdapter(reactor)
    fired: list[str] = []
    adapter.call_later(0.0, lambda: fired.append("kept"))
    adapter.call_later(0.0, lambda: fired.append("cancelled")).cancel()
    while not fired:
        reactor.poll(1.0)

    assert fired == ["kept"]


def test_pikas_adapter_hears_the_end_of_a_stream(reactor: Reactor, pipe: Pipe) -> None:
    adapter = SelectorIOServicesAdapter(reactor)
    seen: list[bytes] = []
    adapter.set_reader(pipe.read, lambda: seen.append(os.read(pipe.read, 9)))
    pipe.close(pipe.write)
    reactor.poll(1.0)

    assert seen == [b""]
    adapter.remove_reader(pipe.read)


def test_a_callback_that_fails_keeps_no_other_from_its_turn(reactor: Reactor) -> None:
    called: list[str] = []

    def fail() -> None:
        raise OSError(5, "Input/output error")

    bad, good = Pipe(), Pipe()
    for pipe in (bad, good):
        os.write(pipe.write, b"x")
    reactor.add_handler(bad.read, lambda fd, events: fail(), reactor.READ)
    reactor.add_handler(good.read, lambda fd, events: called.append("descriptor"), reactor.READ)
    reactor.call_later(0.0, fail)
    reactor.call_later(0.0, lambda: called.append("timer"))
    reactor.add_callback(lambda: called.append("callback"))
    with pytest.raises(OSError, match="Input/output"):
        reactor.poll(0.0)
    assert called == ["descriptor", "timer", "callback"]
    for pipe in (bad, good):
        for descriptor in (pipe.read, pipe.write):
            os.close(descriptor)


def test_disowned_files_are_closed_to_their_peers_and_their_numbers_stay_taken(reactor: Reactor, pipe: Pipe) -> None:
    reactor.add_handler(pipe.read, lambda fd, events: None, reactor.READ)
    reactor.disown()

    with pytest.raises(BrokenPipeError):
        os.write(pipe.write, b"x")
    assert os.path.samestat(os.fstat(pipe.read), Path(os.devnull).stat())
    assert not os.get_inheritable(pipe.read)
