"""Output as a page shows it, compared with what a command has printed: times, pids and folders differ."""

from __future__ import annotations

import re

_ANY = "…"
"""In a page: any text within a line; alone on a line: any number of lines."""

_VARIABLE = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"), "TIME"),
    (re.compile(r"\b0x[0-9a-f]+"), "ADDRESS"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "ID"),
    (re.compile(r"\b\d+(\.\d+)?(ms|s|MiB|%)(?![\w-])"), "AMOUNT"),
    (re.compile(r"\bpid \d+"), "pid N"),
    (re.compile(r"(?<=/\d  )\d+\b"), "N"),
    (re.compile(r"(?<=/…  )\d+\b"), "N"),
    (re.compile(r"preforkd \d\S*"), "preforkd VERSION"),
)


def shows(shown: str, printed: str, folder: str, folder_shown: str) -> bool:
    """Whether `printed` is what a page shows. `folder`: where commands ran; `folder_shown`: its name in the page."""
    lines = [_pattern(line) for line in _plain(shown).splitlines()]
    return re.fullmatch("".join(lines), _plain(printed.replace(folder, folder_shown))) is not None


def _plain(text: str) -> str:
    """The text without what differs from run to run, one blank between words, no blanks at the ends of lines."""
    for pattern, word in _VARIABLE:
        text = pattern.sub(word, text)
    return "".join(" ".join(line.split()) + "\n" for line in text.splitlines())


def _pattern(line: str) -> str:
    if line == _ANY:
        return r"(?:.*\n)*"
    return re.escape(line).replace(re.escape(_ANY), ".*") + r"\n"
