"""Who is to blame when the broker closes a publishing channel: a table of ends, words and publications."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.brokers.amqp.suspects import LOSSES_BEFORE_ALONE, End, Taken, Unconfirmed, is_a_risk, sentence
from supervisor.messages.message import Properties, Publication


def sent(
    name: str, exchange: str = "", key: str = "q", body: bytes = b"", alone: bool = False, losses: int = 0, **more: Any
) -> Unconfirmed:
    """A publication on its way; its token stands for its name, a letter."""
    one = Unconfirmed(ord(name), Publication(exchange, key, Properties(**more), body), 0.0, losses)
    one.alone = alone
    return one


def names(entries: list[Unconfirmed]) -> str:
    return "".join(chr(entry.token) for entry in entries)


COMPANY = [
    sent("a"),
    sent("b", exchange="mail", key="x"),
    sent("c", exchange="mail", key="y", user_id="u"),
    sent("d", body=b"12345"),
    sent("e", expiration="soon", headers={"CC": "k"}),
]

WORDS = {
    "no exchange 'news' in vhost '/'": ("", "abcde"),
    "NOT_FOUND - no exchange 'mail' in vhost '/'": ("", "bc"),
    "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'u'": ("", "ade"),
    "ACCESS_REFUSED - access to topic 'y' in exchange 'mail' in vhost '/' refused": ("c", ""),
    "PRECONDITION_FAILED - user_id property set to 'u' but authenticated user was 'w'": ("c", ""),
    "PRECONDITION_FAILED - message size 5 is larger than configured max size 4": ("d", ""),
    "PRECONDITION_FAILED - invalid expiration 'soon': no_integer": ("e", ""),
    'PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"CC",longstr}': ("e", ""),
    "words of a later release": ("", "abcde"),
}


@pytest.mark.parametrize("words", WORDS)
def test_a_refusal_blames_those_of_whom_its_words_speak_and_only_a_single_one_at_once(words: str) -> None:
    over_limit, suspects = WORDS[words]

    found = sentence(End.REFUSED, words, COMPANY)

    assert (names(found.over_limit), names(found.alone)) == (over_limit, suspects)
    assert set(names(found.again)) == set("abcde") - set(over_limit) - set(suspects)
    assert found.lost == []


def test_a_broker_that_crashed_suspects_all_that_it_had_not_come_to() -> None:
    assert names(sentence(End.CRASHED, "", COMPANY).alone) == "abcde"
    assert names(sentence(End.CRASHED, "", COMPANY[:1]).alone) == "a"


@pytest.mark.parametrize("end", [End.CRASHED, End.REFUSED])
def test_a_publication_that_was_sent_alone_is_the_cause(end: End) -> None:
    found = sentence(end, "", [sent("a", alone=True)])

    assert (names(found.over_limit), found.alone, found.again, found.lost) == ("a", [], [], [])


def test_a_lost_connection_blames_no_publication() -> None:
    found = sentence(End.LOST, "", COMPANY)

    assert (found.over_limit, found.alone, found.again) == ([], [], [])
    assert names(found.lost) == "abcde"


@pytest.mark.parametrize("losses", range(LOSSES_BEFORE_ALONE + 1))
def test_a_lost_connection_blames_one_that_was_alone_and_had_been_there_each_time_before(losses: int) -> None:
    found = sentence(End.LOST, "", [sent("a", alone=True, losses=losses)])

    assert names(found.over_limit) == ("a" if losses >= LOSSES_BEFORE_ALONE else "")


@pytest.mark.parametrize("end", End)
def test_nothing_on_its_way_blames_nothing(end: End) -> None:
    assert sentence(end, "no exchange 'x'", []) == ([], [], [], [])


def test_what_the_broker_has_not_been_seen_to_take_is_a_risk() -> None:
    taken = Taken()
    to_mail, large = sent("a", exchange="mail").publication, sent("b", body=bytes(17 * 1024 * 1024)).publication
    assert is_a_risk(to_mail, "me", taken)
    assert is_a_risk(large, "me", taken)
    assert is_a_risk(sent("c", user_id="you").publication, "me", taken)

    taken.learn(to_mail)
    taken.learn(large)
    assert not is_a_risk(to_mail, "me", taken)
    assert not is_a_risk(large, "me", taken)


def test_copies_and_most_publications_are_no_risk() -> None:
    assert not is_a_risk(sent("a", body=bytes(1000)).publication, "me", Taken())
    assert not is_a_risk(sent("b", user_id="me").publication, "me", Taken())
