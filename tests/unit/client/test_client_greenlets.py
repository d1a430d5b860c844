"""The client is refused where a library has replaced threads or epoll. Stand-ins act as gevent and eventlet do."""

from __future__ import annotations

import _thread
import select
import sys
from types import ModuleType

import pytest

from supervisor.client import Client, ClientFailed


def take_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")


def replace_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start_new_thread() -> None: ...

    monkeypatch.setattr(_thread, "start_new_thread", start_new_thread)


@pytest.mark.parametrize("patch", [take_epoll, replace_threads])
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_a_client_is_refused_where_a_library_has_replaced_threads_or_epoll(
    monkeypatch: pytest.MonkeyPatch, patch: object, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, ModuleType(library))
    made_before = Client("amqp://127.0.0.1/")
    assert callable(patch)
    patch(monkeypatch)

    with pytest.raises(ClientFailed, match=f"^Client: {library} has replaced .*outbox"):
        Client("amqp://127.0.0.1/")
    with pytest.raises(ClientFailed, match=f"^publish: {library} has replaced .*--worker-class gthread") as refused:
        made_before.submit("orders", b"")
    assert not refused.value.maybe_published
    assert made_before.close() == []


def test_a_library_that_has_replaced_nothing_is_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gevent", ModuleType("gevent"))

    assert Client("amqp://127.0.0.1/").close() == []
