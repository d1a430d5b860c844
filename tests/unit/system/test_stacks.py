"""Texts of exceptions are short, valid UTF-8, whatever was raised."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.system.stacks import REASON_BYTES, STACK_BYTES, reason_of, sendable, stack_of, text_of, users_frames


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


@given(st.text(st.characters(codec=None), max_size=3000))
def test_any_text_becomes_short_and_valid(text: str) -> None:
    error = raised(ValueError(text))
    assert len(reason_of(error).encode()) <= REASON_BYTES
    assert len(text_of(error).encode()) <= REASON_BYTES
    assert len(stack_of(error).encode()) <= STACK_BYTES


def test_a_short_stack_is_whole() -> None:
    stack = stack_of(raised(ValueError("no user")))
    assert stack.startswith("Traceback (most recent call last):")
    assert stack.endswith("ValueError: no user\n")


def test_of_a_long_stack_the_end_is_kept_and_the_cut_is_told() -> None:
    stack = stack_of(raised(ValueError("x" * STACK_BYTES + " the end")))
    assert stack.startswith("[… cut …]\n")
    assert stack.endswith(" the end\n")


def test_of_a_long_reason_the_beginning_is_kept() -> None:
    assert reason_of(ValueError("no user " + "x" * 5000)).startswith("ValueError: no user xxx")


def test_an_own_class_is_named_with_its_module() -> None:
    class Oops(Exception):
        pass

    assert reason_of(Oops("bad")) == f"{__name__}.{Oops.__qualname__}: bad"


def test_text_without_surrogates_is_left_alone() -> None:
    assert sendable("grüße ☃") == "grüße ☃"
    assert sendable("\udc80") == "\\udc80"


def test_of_a_dump_the_frames_above_the_handlers_call_are_left_out_of_each_thread() -> None:
    ours = '  File "/supervisor/worker/handler_call.py", line 9 in call\n'
    ours += '  File "/supervisor/worker/loop.py", line 1 in x\n'
    theirs = '  File "/srv/app.py", line 3 in send\n'
    alarm = '  File "/supervisor/worker/life.py", line 2 in _time_is_over\n'
    alarm += '  File "/supervisor/worker/limits.py", line 7 in _ring\n'
    dump = f"Thread 0x1:\n{theirs}\nCurrent thread 0x2:\n{alarm}{theirs}{ours}\nExtension modules: x\n"
    assert users_frames(dump) == dump.replace(ours, "").replace(alarm, "")
