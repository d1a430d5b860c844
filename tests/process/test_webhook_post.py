"""Posting an event: what is told, what may be tried again, what will never work, and what is never said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from supervisor.hooks.post import post
from tests.support.receiver import Receiver, receiver

EVENT = {"hook": "exit", "message_id": "é"}


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (200, 0, ""),
        (404, 1, "the answer was 404 Not Found"),
        (429, os.EX_TEMPFAIL, "429"),
        (503, os.EX_TEMPFAIL, "the answer was 503"),
    ],
)
def test_an_answer_decides(there: Receiver, answer: int, status: int, said: str) -> None:
    there.answers = [answer]
    found, reason = post(f"{there.url}/geheim", json.dumps(EVENT), 5.0)
    assert found == status
    assert said in reason and "geheim" not in reason
    assert there.posted == ([EVENT] if answer == 200 else [])


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(there: Receiver, code: int) -> None:
    there.answers, there.location = [code], f"{there.url}/elsewhere"
    found, reason = post(f"{there.url}/geheim", json.dumps(EVENT), 5.0)
    assert (found, f"the answer was {code}" in reason) == (1, True)
    assert there.requests == ["/geheim"]


def test_a_broker_that_is_not_there_may_be_there_later() -> None:
    with receiver() as gone:
        url = gone.url
    found, reason = post(f"{url}/geheim", "{}", 5.0)
    assert (found, "no connection" in reason, "geheim" in reason) == (os.EX_TEMPFAIL, True, False)


def test_an_answer_that_does_not_come_is_given_up(there: Receiver) -> None:
    there.release.clear()
    found, reason = post(f"{there.url}/geheim", "{}", 0.2)
    assert (found, reason.startswith("no answer")) == (os.EX_TEMPFAIL, True)


def test_the_program_reads_its_order_and_says_how_it_went(there: Receiver) -> None:
    there.answers = [404]
    order = json.dumps({"url": f"{there.url}/geheim", "event": json.dumps(EVENT), "timeout_s": 5.0})
    command = [sys.executable, "-P", "-m", "supervisor.hooks.post"]
    done = subprocess.run(command, input=order.encode(), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"the answer was 404 Not Found"
