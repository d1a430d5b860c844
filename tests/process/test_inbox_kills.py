"""Workers killed at random around their inbox, over and over: no second effect, no lost publication.

PREFORKD_SOAK=<seed> kills 10,000 on each database (some four minutes each), and prints what came of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.system.clock import monotonic_s
from tests.support.inbox_site import NOT_HAPPENED, NOT_KNOWN, InboxSite, inbox_site, new_database

SOAK = os.environ.get("PREFORKD_SOAK", "")
KILLS = 10_000 if SOAK else 40
BATCH = 500 if SOAK else 30
WORKERS = 8 if SOAK else 4


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_random_kills_cause_no_second_effect_and_lose_no_publication(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    server = None if kind == "sqlite" else request.getfixturevalue(kind)
    began_s = monotonic_s()
    with inbox_site(tmp_path, [new_database(kind, tmp_path, server)], WORKERS) as site:
        while (kills := site.kills()) < KILLS:
            first = len(site.sent)
            site.send_orders({f"m{number}": {"seed": SOAK} for number in range(first, first + BATCH)})
            site.settle(600.0)
        audit = site.audit()
        told = _told(site, kills) | {
            "seconds": round(monotonic_s() - began_s),
            **{k: len(v) for k, v in audit._asdict().items()},
        }
    for name, value in told.items():
        record_property(name, value)
    sys.stdout.write(f"{kind}: " + ", ".join(f"{value} {name}" for name, value in told.items()) + "\n")
    assert audit.clean, audit


def _told(site: InboxSite, kills: int) -> dict[str, object]:
    letters = site.letters().values()
    return {
        "kills": kills,
        "messages": len(site.sent),
        "effects": sum(map(len, site.effects().values())),
        "letters without an effect": sum(NOT_HAPPENED in letter.reason for letter in letters),
        "letters without an answer": sum(NOT_KNOWN in letter.reason for letter in letters),
        "letters of exceptions": sum(letter.cause == "failed" for letter in letters),
    }
