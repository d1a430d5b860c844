"""What a handler raises or returns -> how its run ended; what ends the process passes through."""

from __future__ import annotations

import pytest

from supervisor import Message, Reject, Retry, SoftTimeout
from supervisor.scoreboard.words import OutcomeKind
from supervisor.worker.handlers import DONE, Ending, run_handler


class Untellable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class OwnRetry(Retry):
    pass


RAISED = {
    "an exception": (ValueError("no user"), OutcomeKind.FAILED, None, "ValueError: no user"),
    "one without a text": (KeyError(), OutcomeKind.FAILED, None, "KeyError"),
    "one whose text fails": (
        Untellable(),
        OutcomeKind.FAILED,
        None,
        f"{__name__}.Untellable: (its text cannot be had: RuntimeError)",
    ),
    "Retry": (Retry(), OutcomeKind.RETRY, None, "Retry"),
    "Retry with a delay": (Retry(2.5, "busy"), OutcomeKind.RETRY, 2.5, "busy"),
    "Retry at once": (Retry(0), OutcomeKind.RETRY, 0, "Retry"),
    "a kind of Retry": (OwnRetry(1), OutcomeKind.RETRY, 1, "OwnRetry"),
    "Reject": (Reject("no address"), OutcomeKind.REJECT, None, "no address"),
    "SoftTimeout": (SoftTimeout("25 s"), OutcomeKind.SOFT_TIMEOUT, None, "25 s"),
}


def raising(error: BaseException) -> Ending:
    def handler(message: Message) -> None:
        raise error

    return run_handler(handler, Message(b""))


@pytest.mark.parametrize("case", RAISED)
def test_what_is_raised_gives_the_outcome(case: str) -> None:
    error, kind, delay_s, reason = RAISED[case]
    ending = raising(error)
    assert (ending.kind, ending.delay_s, ending.reason) == (kind, delay_s, reason)
    assert "in handler" in ending.stack
    assert "in run_handler" not in ending.stack


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_ends_a_process_is_no_outcome(error: BaseException) -> None:
    with pytest.raises(type(error)):
        raising(error)


@pytest.mark.parametrize("returned", [None, False, "failed", 1])
def test_whatever_is_returned_means_done(returned: object) -> None:
    assert run_handler(lambda message: returned, Message(b"")) is DONE


def test_a_coroutine_that_nobody_awaits_is_a_failure() -> None:
    async def send() -> None:
        raise AssertionError("must not run")

    ending = run_handler(lambda message: send(), Message(b""))
    assert ending.kind == OutcomeKind.FAILED
    assert ending.reason == "the handler returned a coroutine that nobody awaits; call asyncio.run in it"
