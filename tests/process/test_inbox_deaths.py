"""`on_crash = "inbox"` on real databases: wherever a worker dies, its message has one effect, and what it published.

One daemon for each database, on the embedded queue. The points of death in user code are those of
tests/support/inbox_handlers.py; those in the worker are fail-points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.inbox_handlers import PLACES
from tests.support.inbox_site import (
    MAX_ATTEMPTS,
    NOT_HAPPENED,
    NOT_KNOWN,
    InboxSite,
    inbox_site,
    new_database,
)

KINDS = ("sqlite", "postgresql", "mariadb")
WORKER_POINTS = (
    *("worker.unbegun", "worker.running-marked", "worker.inbox-unmarked", "worker.inbox-marked"),
    *("worker.handler-over", "worker.publishing-marked"),
    *("worker.published", "worker.cell-written", "worker.outcome-marked", "worker.flushed"),
)

Sites = Callable[[str], InboxSite]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Sites]:
    """The daemon of this kind of database; it has another database of its kind, for mistakes."""
    with ExitStack() as stack:
        made: dict[str, InboxSite] = {}

        def site_of(kind: str) -> InboxSite:
            if kind not in made:
                folder = tmp_path_factory.mktemp(kind)
                server = None if kind == "sqlite" else request.getfixturevalue(kind)
                databases = [new_database(kind, folder, server) for _ in range(2)]
                made[kind] = stack.enter_context(inbox_site(folder, databases))
            return made[kind]

        yield site_of


every_kind = pytest.mark.parametrize("kind", KINDS)


def settled(site: InboxSite, id: str, *deeds: str, **order: Any) -> None:
    """This message has met its fate."""
    site.send_orders({id: {"deeds": deeds} | order})
    site.settle()


def check_done(site: InboxSite, *ids: str) -> None:
    """One effect each, and the publication that was stored with it."""
    effects, published, letters = site.effects(), site.published(), site.letters()
    for id in ids:
        assert id not in letters, letters[id]
        assert len(effects[id]) == 1
        assert published[id] == set(effects[id])


@every_kind
def test_a_death_anywhere_in_the_handler_leaves_one_effect_and_its_publication(kind: str, sites: Sites) -> None:
    site = sites(kind)
    orders = {f"one-{place}": {"deeds": [f"kill {place}"]} for place in PLACES}
    orders |= {
        f"each-{place}": {"deeds": [f"kill {place}", *(f"kill {other}" for other in PLACES[:2])]} for place in PLACES
    }
    orders |= {f"raise-{place}": {"deeds": [f"raise {place}", "kill committed"]} for place in PLACES}
    site.send_orders(orders)
    site.settle()
    check_done(site, *orders)
    attempts = dict(site.databases[0].ask("SELECT id, attempt FROM effects WHERE id LIKE 'one-%'"))
    assert attempts == {f"one-{place}": 1 if place == "committed" else 2 for place in PLACES}


@every_kind
def test_a_message_that_kills_its_worker_each_time_is_given_up_when_its_inbox_has_nothing(
    kind: str, sites: Sites
) -> None:
    site = sites(kind)
    settled(site, "killer", *["kill effect"] * (MAX_ATTEMPTS + 1))
    letter = site.letters()["killer"]
    assert (letter.cause, letter.signal, letter.attempts) == ("killed", "SIGKILL", MAX_ATTEMPTS + 2)
    assert letter.reason.endswith(
        f"then its inbox was asked: no earlier attempt of it has committed, so {NOT_HAPPENED}"
    )
    assert "killer" not in site.effects()
    assert "killer" not in site.published()


@every_kind
def test_a_message_whose_inbox_is_asked_and_has_it_is_done_and_published(kind: str, sites: Sites) -> None:
    site = sites(kind)
    settled(site, "asked", "kill committed", *["kill before"] * MAX_ATTEMPTS)
    check_done(site, "asked")


def test_a_letter_says_that_nothing_is_known_if_the_asking_run_dies(sites: Sites) -> None:
    site = sites("sqlite")
    settled(site, "hopeless", "kill committed", *["kill before"] * (MAX_ATTEMPTS + 1))
    letter = site.letters()["hopeless"]
    assert (letter.cause, letter.attempts) == ("killed", MAX_ATTEMPTS + 2)
    assert NOT_KNOWN in letter.reason
    assert len(site.effects()["hopeless"]) == 1


@every_kind
def test_an_attempt_on_another_database_fails_and_repeats_nothing(kind: str, sites: Sites) -> None:
    site = sites(kind)
    settled(site, "moved", "kill committed", other_at=2)
    check_done(site, "moved")
    assert site.databases[1].ask("SELECT id FROM effects") in ([], ())
    (failed,) = site.events("message.failed", message_id="moved", attempt=2)
    assert "only the first knows whether the message is done; connect to that database" in failed["reason"]


def test_a_run_that_swallows_the_error_of_its_inbox_is_not_done(sites: Sites) -> None:
    site = sites("sqlite")
    settled(site, "swallower", "kill committed", other_at=2, swallows=True)
    check_done(site, "swallower")
    (failed,) = site.events("message.failed", message_id="swallower", attempt=2)
    assert "the handler went on after `once` had failed" in failed["reason"]


@pytest.mark.parametrize("point", WORKER_POINTS)
def test_a_death_in_the_workers_own_code_leaves_one_effect_and_its_publication(point: str, sites: Sites) -> None:
    site = sites("sqlite")
    site.arm(point)
    settled(site, f"at {point}")
    assert site.fired().split()[0] == point
    check_done(site, f"at {point}")


@every_kind
def test_two_daemons_with_the_same_message_and_one_database_have_one_effect(
    kind: str, sites: Sites, tmp_path: Path
) -> None:
    """Two hosts, as far as the database can tell: neither knows of the other, and a message has one key at both."""
    one = sites(kind)
    with inbox_site(tmp_path, one.databases) as other:
        orders = {f"both-{number}": {"deeds": ["kill committed"] if number % 3 else []} for number in range(30)}
        for site in (one, other):
            site.send_orders(orders)
        for site in (one, other):
            site.settle()
            check_done(site, *orders)
