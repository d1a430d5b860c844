"""Text from outside, made harmless for a terminal. Imports nothing: probes print, too, and must cost little."""

from __future__ import annotations


def shown(value: object) -> str:
    """Text from outside (message ids, reasons, headers) on one line, without what would command a terminal."""
    return "".join(char if char.isprintable() else _escaped(char) for char in str(value))


def block(text: str) -> str:
    """Like `shown`, but line ends and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", errors="backslashreplace").decode()
