"""Names of pools and queues as arguments: which pool a name means, and what is said if it means none or two."""

from __future__ import annotations

import pytest

from supervisor.cli.names import Ambiguous, pool_of
from supervisor.errors import like_a_pool, no_such_pool

QUEUES = {"email": "newc.email", "sms": "sms", "push": "newc/push"}


@pytest.mark.parametrize(
    ("name", "pool"),
    [
        ("email", "email"),
        ("newc.email", "email"),
        ("sms", "sms"),
        ("newc/push", "push"),
        ("newc.emai", None),
        ("EMAIL", None),
        ("", None),
    ],
)
def test_a_pool_has_its_own_name_and_its_queues(name: str, pool: str | None) -> None:
    assert pool_of(name, QUEUES) == pool


def test_a_name_of_two_pools_is_an_error_that_names_both() -> None:
    queues = {"email": "newc.email", "old": "email"}

    with pytest.raises(Ambiguous) as caught:
        pool_of("email", queues)

    assert str(caught.value) == (
        "'email' means pool email (queue newc.email) and pool old (queue email): "
        "for pool email say newc.email, for pool old say old"
    )
    assert (pool_of("newc.email", queues), pool_of("old", queues)) == ("email", "old"), "as it was told"


def test_pools_that_have_each_others_queue_cannot_be_told_apart() -> None:
    with pytest.raises(Ambiguous, match="for pool a give it another name in the configuration"):
        pool_of("a", {"a": "b", "b": "a"})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("emial", " (did you mean 'email'?)"),
        ("newc.emial", " (did you mean 'newc.email'?)"),
        ("orders", ""),
        ("email", ""),
    ],
)
def test_a_similar_pool_or_queue_is_proposed(name: str, hint: str) -> None:
    assert like_a_pool(name, QUEUES) == hint
    assert no_such_pool(name, QUEUES) == f"there is no pool {name!r}; there are email, sms, push{hint}"


def test_without_pools_nothing_is_proposed() -> None:
    assert no_such_pool("email", {}) == "there is no pool 'email'; there are none"
