"""A pool by its own name and by its queue's, in every command that takes either, on a real daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.site import Site, make_site

OTHER = '[pools.post]\nqueue = "newc.mail"\nhandler = "site_handler:run"\npath = ["."]\nworkers = 1\nmax_attempts = 1\n'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Its pool `post` has the queue newc.mail, with a dead letter in it."""
    with make_site(tmp_path_factory.mktemp("names")) as site:
        site.config.write_text(site.config.read_text() + OTHER)
        site.ok("start")
        site.ok("publish", "post", "--id-prefix", "bad-", stdin="fail\nexit 7\n")
        site.wait_for_pool_counter("post", "dead", 2)
        yield site


@pytest.mark.parametrize("name", ["post", "newc.mail"])
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["dead", "list", "{}"], "bad-0"),
        (["dead", "show", "{}", "bad-0"], "as ordered"),
        (["why", "{}"], "pool post is ok"),
        (["why", "{}/0"], "post/0 idle"),
        (["exits", "--pool", "{}"], "post/0"),
        (["pause", "{}"], "pool post"),
        (["resume", "{}"], "pool post"),
        (["retry", "{}"], "pool post: no child is held"),
        (["scale", "{}", "1"], "pool post: 1 -> 1 workers"),
        (["pending", "list", "{}"], "there are none in pool post"),
        (["pending", "drop", "{}", "--all", "--yes"], "0 message(s) of pool post dropped"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_command_takes_both_names(site: Site, name: str, argv: list[str], said: str) -> None:
    assert said in site.ok(*(word.format(name) for word in argv))


def test_a_dead_letter_is_retried_and_dropped_by_the_name_of_the_pool(site: Site) -> None:
    site.ok("publish", "newc.mail", "--id-prefix", "again-", stdin="fail\nfail\n")
    site.wait_for_pool_counter("post", "dead", 4)

    assert "1 message(s) moved from newc.mail.dead back to newc.mail" in site.ok("dead", "retry", "post", "again-0")
    assert "1 message(s) deleted from newc.mail.dead" in site.ok("dead", "drop", "post", "again-1")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["pause", "pots"], "there is no pool 'pots'; there are mail, post (did you mean 'post'?)"),
        (["scale", "newc.mial", "2"], "did you mean 'newc.mail'?"),
        (["exits", "--pool", "pots"], "(did you mean 'post'?); and no exit of one is on record"),
        (["why", "pots"], "(did you mean 'post'?); and no trace of a message"),
        (["dead", "list", "newc.mial"], "(did you mean 'newc.mail'?)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_name_that_is_no_pool_brings_the_one_that_is_like_it(site: Site, argv: list[str], said: str) -> None:
    failed = site.cli(*argv)

    assert failed.returncode == 1
    assert said in failed.stderr


def test_a_name_of_two_pools_is_refused_by_every_command(tmp_path: Path) -> None:
    with make_site(tmp_path) as site:
        text = site.config.read_text().replace('queue = "mail"', 'queue = "old"')
        site.config.write_text(text + OTHER.replace("newc.mail", "mail"))
        site.ok("start")

        for argv in (
            *(["pause", "mail"], ["resume", "mail"], ["retry", "mail"], ["scale", "mail", "2"], ["why", "mail"]),
            *(["pending", "list", "mail"], ["pending", "drop", "mail", "--all", "--yes"], ["exits", "--pool", "mail"]),
            *(["dead", "list", "mail"], ["dead", "drop", "mail", "--all", "--yes"], ["publish", "mail"]),
        ):
            refused = site.cli(*argv)
            assert (refused.returncode, refused.stdout) == (2, ""), argv
            assert "'mail' means pool mail (queue old) and pool post (queue mail)" in refused.stderr
        assert json.loads(site.ok("status", "--json"))["pools"]["mail"]["paused"] is None
        assert "pool mail is paused" in site.ok("pause", "old")
