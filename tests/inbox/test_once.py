"""Facts about `once` on real databases, in every way in which a handler may reach one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from supervisor import Message, Reject, Retry
from supervisor.inbox import InboxBusy, InboxError, InboxGivenUp, InboxPartial, clean
from supervisor.messages.inbox_run import InboxRun
from supervisor.scoreboard.words import OutcomeKind
from supervisor.worker.handler_call import DONE, collected
from tests.support.inbox_ways import InDjango, Plain, Use, Way

Attempt = Callable[..., Message]


def fault(message: Message) -> str:
    """Why the worker would not take the run for done."""
    return message.inbox_run().fault()


def had(use: Use, message: Message, *bodies: bytes) -> bool:
    """Run a message as a handler does, and commit."""
    with use.once(message) as first:
        if first:
            use.effect(message)
            for body in bodies:
                message.publish(body, routing_key="audit", headers={"n": 1.0})
    use.commit()
    assert fault(message) == ""
    return bool(first)


# ---- what holds in every way ----------------------------------------------------------------------------------------


def test_an_effect_happens_once_and_its_publications_come_again(way: Way, attempt: Attempt) -> None:
    one, two = attempt(), attempt()

    with way.use() as use:
        assert had(use, one, b"a", b"b")
    with way.use() as use:
        assert not had(use, two)

    assert way.place.effects(one.id) == 1
    assert [publication.body for publication in two.publications] == [b"a", b"b"]
    assert collected(two) == (DONE, one.publications)


def test_the_next_round_is_a_message_of_its_own(dialect_way: Way, attempt: Attempt) -> None:
    with dialect_way.use() as use:
        assert [had(use, attempt()), had(use, attempt()), had(use, attempt(attempt=1, round=2))] == [True, False, True]


def test_a_rollback_leaves_neither_effect_nor_row(way: Way, attempt: Attempt) -> None:
    with way.use() as use:
        with use.once(attempt()) as first:
            assert first
            use.effect(attempt())
        use.rollback()
        assert had(use, again := attempt())

    assert way.place.effects(again.id) == 1


def test_an_exception_leaves_the_block_as_it_is_and_a_handler_that_swallows_it_is_not_done(
    way: Way, attempt: Attempt
) -> None:
    message = attempt()
    with way.use() as use:
        with pytest.raises(ZeroDivisionError), use.once(message):
            use.effect(message)
            _ = 1 / 0
        use.rollback()

    assert "ZeroDivisionError: division by zero" in fault(message)
    assert way.place.effects(message.id) == 0


def test_an_uncommitted_transaction_is_told_and_a_later_one_is_not(way: Way, attempt: Attempt) -> None:
    message = attempt()
    with way.use() as use:
        with use.once(message):
            use.effect(message)
        assert "still open" in fault(message)
        use.commit()
        assert fault(message) == ""
        use.run("SELECT * FROM effects")
        assert fault(message) == "", "a read after the commit begins a transaction in some drivers"
    assert fault(message) == "", "the connection is closed"


def test_a_handler_that_closes_its_connection_without_a_commit_is_not_done(way: Way, attempt: Attempt) -> None:
    message = attempt()
    use = way.opened()
    with use.once(message):
        use.effect(message)
    use.close()

    assert collected(message)[0].kind is OutcomeKind.FAILED
    with pytest.raises(InboxError, match=r"closed without a commit after the `once` block|was rolled back"):
        fault(message)
    assert way.place.effects(message.id) == 0
    with way.use() as again:
        assert had(again, attempt()), "the next attempt has the effect"


def test_a_handler_that_commits_and_then_closes_its_connection_is_done(way: Way, attempt: Attempt) -> None:
    message = attempt()
    use = way.opened()
    with use.once(message):
        use.effect(message)
    use.commit()
    use.run("SELECT * FROM effects")
    use.close()

    assert collected(message)[0] is DONE
    assert way.place.effects(message.id) == 1


def test_a_commit_in_the_middle_of_a_block_is_told_to_the_next_attempt(way: Way, attempt: Attempt) -> None:
    one, two = attempt(), attempt()
    with way.use() as use:
        if isinstance(use, InDjango):
            pytest.skip("Django has no commit inside of atomic()")
        with use.once(one):
            use.effect(one)
            use.commit()
            way_out = pytest.raises(InboxPartial, match=r"attempt 1 on .* middle of its `once` block")
            with way.use() as other, way_out as raised, other.once(two):
                pass
        use.commit()

    assert isinstance(raised.value, Reject)
    assert "middle of its `once` block" in fault(two)
    assert fault(one) == "", "it has come to its end after all"


def test_a_rollback_in_the_middle_of_a_block_is_an_error(way: Way, attempt: Attempt) -> None:
    message = attempt()
    with way.use() as use:
        if isinstance(use, InDjango):
            pytest.skip("Django has no rollback inside of atomic()")
        with pytest.raises(InboxError, match="rolled back inside of the block"), use.once(message):
            use.rollback()
            use.effect(message)
        assert "rolled back inside of the block" in fault(message)


def test_a_run_that_only_asks_writes_nothing(way: Way, attempt: Attempt) -> None:
    asking = attempt(inbox=InboxRun(given_up="it was killed"))
    with way.use() as use:
        with pytest.raises(InboxGivenUp, match="no earlier attempt of it has committed") as raised, use.once(asking):
            use.effect(asking)
        use.rollback()
        assert isinstance(raised.value, Reject)
        assert had(use, attempt(), b"a")
        assert not had(use, late := attempt(inbox=InboxRun(given_up="it was killed")))

    assert [publication.body for publication in late.publications] == [b"a"]
    assert way.place.effects(asking.id) == 1


def test_publications_before_the_block_are_refused(dialect_way: Way, attempt: Attempt) -> None:
    message = attempt()
    message.publish(b"early", routing_key="audit")
    with dialect_way.use() as use:
        with pytest.raises(InboxError, match="before the block"), use.once(message):
            pass
        use.rollback()
        assert had(use, attempt()), "nothing was written"


def test_publications_that_cannot_be_sent_are_refused_at_the_end_of_the_block(way: Way, attempt: Attempt) -> None:
    message = attempt()
    with way.use() as use:
        with pytest.raises(ValueError, match="what no publish has made"), use.once(message):
            message.publications.append("text")  # type: ignore[arg-type]
        use.rollback()
        assert had(use, attempt())


def test_a_second_block_of_a_run_is_refused_and_the_run_is_not_done(dialect_way: Way, attempt: Attempt) -> None:
    message = attempt()
    with dialect_way.use() as use:
        assert had(use, message)
        with pytest.raises(InboxError, match="use it once in a run"), use.once(message):
            pass
    assert "use it once in a run" in fault(message)


# ---- connections that cannot be used --------------------------------------------------------------------------------


def test_autocommit_is_refused_and_nothing_is_written(driver_way: Way, attempt: Attempt) -> None:
    assert driver_way.autocommit is not None
    use, message = driver_way.autocommit(), attempt()
    try:
        with pytest.raises(InboxError, match="in autocommit and has no transaction"), use.once(message):
            use.effect(message)
    finally:
        use.close()
    assert driver_way.place.effects(message.id) == 0
    assert "autocommit" in fault(message)
    with driver_way.use() as use:
        assert had(use, attempt())


def test_a_transaction_that_was_begun_in_autocommit_is_accepted(driver_way: Way, attempt: Attempt) -> None:
    assert driver_way.autocommit is not None
    use, message = driver_way.autocommit(), attempt()
    try:
        use.run("BEGIN")
        with use.once(message) as first:
            use.effect(message)
        assert first and "still open" in fault(message)
        use.run("COMMIT")
        assert fault(message) == ""
        assert driver_way.place.effects(message.id) == 1
    finally:
        use.close()


def test_a_closed_connection_is_refused(driver_way: Way, attempt: Attempt) -> None:
    with driver_way.use() as use:
        pass
    with pytest.raises(InboxError, match="the connection is closed"), use.once(attempt()):
        pass


def test_a_missing_table_is_an_error_that_names_database_and_command(way: Way, attempt: Attempt) -> None:
    with way.use() as use:
        hidden = "ALTER TABLE preforkd_inbox RENAME TO hidden"
        way.place.ask(hidden)
        try:
            with pytest.raises(InboxError) as raised, use.once(attempt()):
                pass
            use.rollback()
        finally:
            way.place.ask("ALTER TABLE hidden RENAME TO preforkd_inbox")
    name = getattr(way.place, "name", "inbox.db")
    assert f"preforkd inbox sql --dialect {way.place.dialect.name}" in str(raised.value)
    assert way.place.dialect.title in str(raised.value) and f'{name}"' in str(raised.value)


def test_a_table_without_its_first_row_is_an_error_that_names_the_command(dialect_way: Way, attempt: Attempt) -> None:
    with dialect_way.use() as use:
        use.run("DELETE FROM preforkd_inbox WHERE round = 0")
        with pytest.raises(InboxError, match=r"first row.*preforkd inbox sql"), use.once(attempt()):
            pass
        use.rollback()


def test_another_database_than_at_an_earlier_attempt_is_refused(dialect_way: Way, attempt: Attempt) -> None:
    recorded: list[bytes] = []
    with dialect_way.use() as use:
        assert had(use, attempt(inbox=InboxRun(record=recorded.append)))
        elsewhere = attempt(inbox=InboxRun(former=b"x" * 16))
        with pytest.raises(InboxError, match=recorded[0].hex()), use.once(elsewhere):
            pass
        use.rollback()
        assert not had(use, attempt(inbox=InboxRun(former=recorded[0])))
    assert len(recorded[0]) == 16


@pytest.mark.parametrize("given", [None, "text", object()])
def test_an_object_that_is_no_connection_is_refused_with_a_list(given: object) -> None:
    with pytest.raises(InboxError, match=r"once: .*psycopg, psycopg2, PyMySQL, mysqlclient or sqlite3"):
        Plain(given).once(Message(b"")).__enter__()
    with pytest.raises(InboxError, match="clean: this is no connection that it can use"):
        clean(given, timedelta(days=1))


def test_errors_of_the_inbox_say_what_follows() -> None:
    assert issubclass(InboxBusy, Retry) and issubclass(InboxPartial, Reject) and issubclass(InboxGivenUp, Reject)
    assert not issubclass(InboxError, Retry | Reject)
