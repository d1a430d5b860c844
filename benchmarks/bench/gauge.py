"""How fast a queue is worked off, as the broker itself counts it: the same measure for every contestant, and exact.

A queue knows how many messages it holds, ready and unacknowledged together; a message leaves that count when the broker
has taken its ack. A small process inside the broker's Erlang node asks the queue every 5 ms (a question takes it 3 µs,
so all of them together 0.1 % of a core) and writes down time and count until nothing is left. Nothing has to be
believed that a contestant says of itself, prefetched messages are not taken for settled ones, and no management plugin
uses the processor that the contestants need.

The clock starts when a tenth is settled: all processes of a contestant are at work by then.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

WARM_UP = 0.1
_PERIOD_MS = 5
_TIMEOUT_S = 120.0

_COUNT = """
{ok, Queue} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%(queue)s">>)),
Count = case amqqueue:get_type(Queue) of
    rabbit_classic_queue ->
        fun() -> [{messages, N}] = rabbit_amqqueue:info(Queue, [messages]), N end;
    rabbit_quorum_queue ->
        Total = fun(State) -> rabbit_fifo:query_messages_total(State) end,
        fun() -> {ok, {_, N}, _} = ra:local_query(amqqueue:get_pid(Queue), Total), N end
end
"""

_WATCH = (
    "begin "
    + _COUNT
    + """,
Note = fun(N) -> {erlang:monotonic_time(microsecond), N} end,
Watch = fun Watch(Left, Notes) ->
    case Count() of
        N when N =:= 0; Left =:= 0 -> lists:reverse([Note(N) | Notes]);
        N -> timer:sleep(%(period)d), Watch(Left - 1, [Note(N) | Notes])
    end
end,
spawn(fun() ->
    Text = [io_lib:format("~b ~b~n", [Time, N]) || {Time, N} <- Watch(%(turns)d, [])],
    ok = file:write_file("%(path)s.new", Text),
    ok = file:rename("%(path)s.new", "%(path)s")
end) end"""
)


class Sample(NamedTuple):
    """How many messages were not settled yet."""

    at_us: int
    left: int


class Gauge:
    """Watches one queue until it is empty. `folder`: where the node can write."""

    def __init__(self, node: RabbitNode, folder: Path) -> None:
        self._node = node
        self._path = folder / "samples"

    def held(self, queue: str) -> int:
        """Messages in a queue, ready and unacknowledged."""
        return int(self._node.call(f"begin {_COUNT % {'queue': queue}}, Count() end"))

    def watch(self, queue: str) -> None:
        """Begin to count."""
        self._path.unlink(missing_ok=True)
        turns = round(_TIMEOUT_S * 1000 / _PERIOD_MS)
        self._node.call(_WATCH % {"queue": queue, "period": _PERIOD_MS, "turns": turns, "path": self._path})

    def rate(self, alive: Callable[[], None]) -> float:
        """Messages settled per second, as soon as all are. `alive` fails when there is nothing to wait for."""

        def over() -> bool:
            alive()
            return self._path.exists()

        eventually(over, "the queue is worked off", _TIMEOUT_S + 30)
        return rate([Sample(*map(int, line.split())) for line in self._path.read_text().splitlines()])


def rate(samples: list[Sample]) -> float:
    """From the first sample after the warm-up to the first one with nothing left; messages per second. Pure."""
    if samples[-1].left:
        raise AssertionError(f"{samples[-1].left} of {samples[0].left} messages were not settled in {_TIMEOUT_S:g} s")
    warm = (1 - WARM_UP) * samples[0].left
    first = next(sample for sample in samples if sample.left <= warm)
    last = next(sample for sample in samples if sample.left == 0)
    if first is last:
        raise AssertionError(f"{samples[0].left} messages are too few: they were settled between two samples")
    return first.left / (last.at_us - first.at_us) * 1e6
