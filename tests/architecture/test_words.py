"""Plain words: metaphors and riddles that once made the tree hard to read do not come back (CONTRIBUTING.md, "Words").

Published names (events, fields, headers) are exempt, and the account `nobody`.
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

PUBLISHED = re.compile(
    r'stranger\.(?:unkillable|ended)|STRANGER_(?:ENDED|UNKILLABLE)|"bell"|\.bell\b'
    r"|\bNOBODY\b|support\.nobody|[ao][sf]_nobody|[\"'`]nobody(?:-here)?[\"'`]|user nobody"
)
"""Names that stay: log events, the suffix of a socket in the state directory, and the account `nobody`."""

_WORDS = re.compile(rf"(?<![a-z])(?:{'|'.join(BANNED)})(?![a-z])")


def pages() -> list[Path]:
    """Everything that users and newcomers read, relative to the root; the change log's releases excepted."""
    globs = (
        "*.md",
        "docs/**/*.md",
        "etc/**/*",
        "benchmarks/**/*",
        "supervisor/**/*",
        "workers/**/*.py",
        "tests/**/*.py",
    )
    found = {path.relative_to(ROOT) for pattern in globs for path in ROOT.glob(pattern)}
    return sorted(p for p in found if p.suffix in SUFFIXES and p != THIS and "__pycache__" not in p.parts)


THIS = Path(__file__).relative_to(ROOT)
SUFFIXES = {".md", ".py", ".toml", ".service", ".conf", ".logrotate", ".yml", ".json", ".js", ".html", ".css", ".sql"}


def words_in(text: str) -> list[str]:
    """The banned words of a text, published names left out."""
    return _WORDS.findall(PUBLISHED.sub("", text).lower())


def test_banned_words_do_not_come_back() -> None:
    counts = {str(page): words_in((ROOT / page).read_text()) for page in pages()}

    assert {page: words for page, words in counts.items() if words} == {}, "see BANNED for what to write instead"


def test_published_names_are_no_banned_words() -> None:
    assert words_in("`stranger.unkillable` is logged once, by the user `nobody`") == []
    assert words_in("The stranger is nobody's, and a verdict follows.") == ["stranger", "nobody", "verdict"]
