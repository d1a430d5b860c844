"""The four languages between our processes: every word survives the wire, and only known words are understood."""

from __future__ import annotations

import typing
from typing import Any

import msgspec
import pytest

from supervisor.config.schema import (
    Binding,
    BrokerConfig,
    FleetConfig,
    HooksConfig,
    LedgerConfig,
    LogConfig,
    PoolConfig,
    TlsConfig,
    WebConfig,
)
from supervisor.link import frames
from supervisor.link.consumer_state import ConnectionStatus, Measurements, QueueStatus, Trace
from supervisor.link.frames import Frame, Incarnation, RunId
from supervisor.messages.message import Properties, Publication
from supervisor.symptoms import Symptom

CONNECTED = ConnectionStatus(state="connected")
SYMPTOM = Symptom("queue.shared", "queue 'mail' has 2 consumers", False, 1.5)
RUN = RunId(b"\x00\xff" * 12, 1, 2)
PROPERTIES = Properties(content_type="text/plain", headers={"n": 1, "s": "é", "b": b"\xff", "l": [1.5]}, priority=9)
POOL = PoolConfig(
    name="email",
    queue="mail",
    handler="app:send",
    path=("/srv/app",),
    retry_delays_s=(0.5, 60.0),
    restart_backoff_s=(0.25, 9.0),
    queue_arguments={"x-queue-type": "quorum", "x-max-length": 5},
    bindings=(Binding("mail", "mail.#"),),
    environment={"KEY": "value"},
)
BROKER = BrokerConfig(urls=("amqp://a", "amqps://b"), tls=TlsConfig(ca_file="/ca"))

SPOKEN: list[Frame] = [
    frames.Hello(frames.VERSION, 3, 7, 4711, [RUN]),
    frames.Outcome(9, RUN, "retry", 2.5, "later", "stack", 0.25),
    frames.Outcome(9, RUN, "done", None, "", "", 0.25),
    frames.Publish(RUN, [Publication("ex", "key", PROPERTIES, b"\x00body")]),
    frames.Returned([RUN, RUN]),
    frames.Bye("age"),
    frames.Welcome(),
    frames.Run(RUN, "id", PROPERTIES, b"", "ex", "key", True, False),
    frames.Recall(),
    frames.Published(RUN, False, "returned"),
    frames.StartForkserver(frames.VERSION, POOL, LogConfig(), "/pools/email", "/run/email.sock", 1),
    frames.Fork(3, 7),
    frames.Quit(),
    frames.Build(frames.VERSION, "0.1.0"),
    frames.Imported(0.5),
    frames.BootFailed("no such module", "stack"),
    frames.Forked(3, 7, 4711),
    frames.ForkFailed(3, 7, "EAGAIN"),
    frames.StartConsumer(
        *(frames.VERSION, POOL, BROKER, LedgerConfig(), LogConfig()), *("/s", "/s/p", "/r/l", 1, [Incarnation(3, 7)])
    ),
    frames.StartConsumer(
        *(frames.VERSION, POOL, BROKER, LedgerConfig(), LogConfig()),
        *("/s", "/s/p", "/r/l", 1, [], True, FleetConfig("postgresql://h/db", "prod")),
    ),
    frames.Spawned(Incarnation(3, 7)),
    frames.ExitNotice(Incarnation(3, 7), "crash", None, "SIGSEGV", "stack"),
    frames.Drain(),
    frames.Pause(),
    frames.Resume(),
    frames.Reconfigure(POOL, LogConfig(level="debug")),
    frames.Find(7, "order-1"),
    frames.Found(7, [Trace(state="done", round=1, attempt=1)], ""),
    frames.FindGone(8, ["order-1"], "alice"),
    frames.CloseConnection(),
    frames.ExitNoticeTaken(Incarnation(3, 7), "type 'resize'"),
    frames.Misunderstood(Incarnation(3, 7), 4711, "a frame cannot be read"),
    frames.Stalled(Incarnation(3, 7), 4, 30.5),
    frames.Consuming(),
    frames.Refused("wrong password"),
    frames.Drained(3, 2, ["id"]),
    frames.Snapshot(1.5, CONNECTED, QueueStatus(ready=4), {"done": 5}, 6, [SYMPTOM], Measurements(evicted_early=1)),
    frames.Letters([{"event": "message.dead", "message_id": "a", "status": None}], 3),
    frames.StartSidecar(
        *(frames.VERSION, WebConfig("127.0.0.1:0"), HooksConfig(causes=("crash",), rate=(3, 4.0))),
        *(BROKER, LogConfig(), "/s", "/r", "/etc/preforkd.toml", 1),
    ),
    frames.Happened("exit", {"event": "worker.exited", "status": None, "pid": 7}),
    frames.Missed({"exit": 3}),
    frames.Serving("on http://127.0.0.1:9750"),
]

LANGUAGES: dict[str, Any] = {
    "WorkerFrame": frames.WorkerFrame,
    "ConsumerFrame": frames.ConsumerFrame,
    "ForkOrder": frames.ForkOrder,
    "ForkReport": frames.ForkReport,
    "ConsumerOrder": frames.ConsumerOrder,
    "ConsumerReport": frames.ConsumerReport,
    "SidecarOrder": frames.SidecarOrder,
    "SidecarReport": frames.SidecarReport,
}


def languages_of(frame: Frame) -> list[Any]:
    return [union for union in LANGUAGES.values() if type(frame) in typing.get_args(union)]


def test_every_frame_there_is_has_an_example_here_and_belongs_to_a_language() -> None:
    assert {type(frame) for frame in SPOKEN} == set(Frame.__subclasses__())
    assert all(languages_of(frame) for frame in SPOKEN)


@pytest.mark.parametrize("frame", SPOKEN, ids=lambda frame: type(frame).__name__)
def test_a_frame_is_read_as_it_was_written(frame: Frame) -> None:
    for union in languages_of(frame):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(frame), type=union) == frame


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_frame_of_another_language_is_not_understood(name: str) -> None:
    words = typing.get_args(LANGUAGES[name])
    for frame in SPOKEN:
        if type(frame) not in words:
            with pytest.raises(msgspec.ValidationError):
                msgspec.msgpack.decode(msgspec.msgpack.encode(frame), type=LANGUAGES[name])


def test_a_frame_with_a_field_of_the_wrong_type_is_not_understood() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(["Fork", "three", 7]), type=frames.ForkOrder)
