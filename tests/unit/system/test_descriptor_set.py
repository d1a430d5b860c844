"""Several descriptors and a timer behind one descriptor."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from supervisor.system.clock import boottime_s
from supervisor.system.descriptor_set import READ, WRITE, DescriptorSet
from supervisor.system.posix import readable
from tests.support.descriptors import descriptors

NEVER_S = float("inf")


@pytest.fixture
def several() -> Iterator[DescriptorSet]:
    several = DescriptorSet()
    yield several
    several.close()


def test_it_is_readable_while_one_of_its_descriptors_is_ready(several: DescriptorSet) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        several.watch(ours.fileno(), READ)
        assert not readable(several.fileno(), 0)
        theirs.send(b"x")
        assert readable(several.fileno(), 0)
        ours.recv(1)
        assert not readable(several.fileno(), 0)
        several.watch(ours.fileno(), READ | WRITE)
        assert readable(several.fileno(), 0)
        several.unwatch(ours.fileno())
        several.unwatch(ours.fileno())
        assert not readable(several.fileno(), 0)


def test_a_number_that_was_closed_and_given_again_can_be_watched_again(several: DescriptorSet) -> None:
    first = os.eventfd(1)
    several.watch(first, READ)
    os.close(first)
    assert os.eventfd(1) == first
    assert not readable(several.fileno(), 0)
    several.watch(first, READ)
    assert readable(several.fileno(), 0)
    os.close(first)


def test_it_is_readable_at_the_earliest_time_that_was_asked_for_and_quiet_after_another_is(
    several: DescriptorSet,
) -> None:
    several.wake_at(boottime_s() + 3600)
    several.wake_at(boottime_s() - 1)
    assert readable(several.fileno(), 30)
    several.wake_at(boottime_s() + 3600)
    assert not readable(several.fileno(), 0)
    several.wake_at(boottime_s() + 0.01)
    several.wake_at(boottime_s() + 3600)
    assert readable(several.fileno(), 30), "the earlier time counts"
    several.wake_at(NEVER_S)
    assert not readable(several.fileno(), 0)


def test_it_gives_its_descriptors_back() -> None:
    before = descriptors()
    DescriptorSet().close()
    assert descriptors() == before
