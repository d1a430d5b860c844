"""Plain words: metaphors and riddles that once made the tree hard to read do not come back (CONTRIBUTING.md, "Words").

Published names (events, fields, headers) are exempt, as are names of tests. `YET` lists the folders and pages that are
not rewritten yet. It only shrinks: one without such words leaves the list.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.source_tree import ROOT

BANNED = {
    r"nobody|no one": "name the process or person that does not, or use the passive",
    r"somebody|someone|everybody|everyone": "name the process or person",
    r"whoever|whomever|whose turn": "name the subject",
    r"anew": "again",
    r"of its like|its like|the like of": "an equal message",
    r"let be|lets be": "is ignored, is left alone",
    r"is at it|are at it": "name what it does",
    r"undertaker|bury|buries|buried|burial|corpses?": "reaper, reap, reaped child",
    r"verdicts?": "exit notice",
    r"seats?": "child spec, slot, child",
    r"twins?": "content match",
    r"strangers?": "orphaned descendant",
    r"foreigners?": "surviving worker",
    r"households?": "reload",
    r"cradles?|births?": "fork, double fork",
    r"letterbox|letterdesk": "dead-letter browser",
    r"hiring|hired?": "start, spawner",
    r"registrar|last words": "exit handler, last frames",
    r"dismissals?": "termination",
    r"dead-?man": "hang detector",
    r"condemned|guilty": "over its limit, the cause",
    r"bell": "readiness pipe, notification",
    r"patience(?:_s)?": "timeout, grace",
    r"amidst": "during, in the middle of",
}
"""Word (as a regular expression): what to write instead."""

PUBLISHED = re.compile(r'stranger\.(?:unkillable|ended)|STRANGER_(?:ENDED|UNKILLABLE)|\btest_\w+(?:\.py)?|"bell"')
"""Names that stay: log events, names of tests, and the suffix of a socket in the state directory."""

YET: frozenset[str] = frozenset()
"""Places that are not rewritten yet."""

_WORDS = re.compile("|".join(rf"(?<![A-Za-z])(?:{word})(?![A-Za-z])" for word in BANNED), re.IGNORECASE)


def pages() -> list[Path]:
    """Everything that users and newcomers read, relative to the root; the change log's releases excepted."""
    globs = ("*.md", "docs/**/*.md", "etc/**/*", "benchmarks/*.md", "supervisor/**/*", "workers/**/*.py")
    found = {path.relative_to(ROOT) for pattern in globs for path in ROOT.glob(pattern)}
    return sorted(p for p in found if p.suffix in SUFFIXES and "__pycache__" not in p.parts)


SUFFIXES = {".md", ".py", ".toml", ".service", ".conf", ".logrotate", ".yml", ".json", ".js", ".html", ".css"}


def words_in(text: str) -> list[str]:
    """The banned words of a text, published names left out."""
    return [found.lower() for found in _WORDS.findall(PUBLISHED.sub("", text))]


def test_banned_words_do_not_come_back() -> None:
    counts = {str(page): words_in((ROOT / page).read_text()) for page in pages() if place(page) not in YET}

    assert {page: words for page, words in counts.items() if words} == {}, "see BANNED for what to write instead"


def test_the_list_of_places_that_are_not_rewritten_yet_only_shrinks() -> None:
    left = {place(page) for page in pages() if words_in((ROOT / page).read_text())}

    assert YET - left == set(), "these have no banned words any more: take them out of YET"


def place(page: Path) -> str:
    """Where a page is: its folder for code, the page itself for text."""
    return str(page if page.suffix == ".md" or page.parts[0] == "etc" else page.parent)


def test_published_names_are_no_banned_words() -> None:
    assert words_in("`stranger.unkillable` is logged once; `test_a_stranger_is_left_alone`") == []
    assert words_in("The stranger is nobody's, and a verdict follows.") == ["stranger", "nobody", "verdict"]
