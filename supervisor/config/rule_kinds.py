"""What a rule of one section is, and the kinds of rules that many keys share. Pure.

`rules.py` asks the rules; `address_rules.py`, `pool_rules.py` and `sidecar_rules.py` have those of a subject.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from supervisor.config.report import did_you_mean

Judge = Callable[[Any], str]
"""The problem of a section; "" for none."""


class Rule(msgspec.Struct, frozen=True):
    """`keys`: the keys that it reads; the first is reported. `hint`: what to do about it."""

    keys: tuple[str, ...]
    judge: Judge
    hint: str | Judge = ""


def when(broken: Callable[[Any], object], reason: str) -> Judge:
    """The judge that gives this reason for a section that is `broken`."""
    return lambda section: reason if broken(section) else ""


def one_of(name: str, *words: str) -> Rule:
    """The value is one of these words."""
    reason = f"must be one of {', '.join(words)}"
    return Rule(
        (name,),
        lambda section: "" if getattr(section, name) in words else reason,
        lambda section: did_you_mean(getattr(section, name), words),
    )


def between(name: str, least: float, most: float) -> Rule:
    """The value is a number from `least` to `most`."""
    return Rule(
        (name,),
        lambda section: "" if least <= getattr(section, name) <= most else f"must be from {least:,} to {most:,}",
    )


def at_least(name: str, least: int) -> Rule:
    """The value is a number of `least` or more."""
    return Rule((name,), when(lambda section: getattr(section, name) < least, f"must be at least {least}"))


def above_zero(name: str) -> Rule:
    """The duration is more than 0."""
    return Rule((name,), when(lambda section: getattr(section, f"{name}_s") <= 0, "must be more than 0"))


def given(name: str) -> Rule:
    """The value is not empty."""
    return Rule((name,), when(lambda section: not getattr(section, name), "must not be empty"))


def count_within(name: str) -> Rule:
    """Both the number and the duration are more than 0."""
    return Rule((name,), when(lambda section: min(getattr(section, name)) <= 0, "both must be more than 0"))


def raised(check: Callable[..., object], *values: Any) -> str:
    """The text of the ValueError that `check(*values)` raises; "" for none."""
    try:
        check(*values)
    except ValueError as error:
        return str(error)
    return ""
