"""Symptoms: said once, shown until healed."""

from __future__ import annotations

import pytest

from supervisor import symptoms
from supervisor.consumer.observe.health import Health
from supervisor.logs.events import Event
from supervisor.symptoms import Symptoms


def test_a_symptom_is_logged_once_until_it_is_healed(caplog: pytest.LogCaptureFixture) -> None:
    seen = Symptoms(pool="email")

    for text in ("2 consumers", "3 consumers"):
        seen.notice(Event.QUEUE_SHARED, text)
    seen.heal(Event.QUEUE_SHARED)
    seen.heal(Event.QUEUE_SHARED)
    seen.notice(Event.QUEUE_SHARED, "4 consumers")

    assert [record.message for record in caplog.records] == ["2 consumers", "4 consumers"]


def test_the_text_is_the_last_one_and_since_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, times = Symptoms(), iter((5.0, 6.0, 7.0))
    monkeypatch.setattr(symptoms, "wall_s", lambda: next(times))

    seen.notice(Event.QUEUE_SHARED, "2 consumers")
    seen.notice(Event.CONSUMER_STARVED, "nothing comes")
    seen.notice(Event.QUEUE_SHARED, "3 consumers", degrades=True)

    assert [(each.name, each.text, each.degrades, each.since) for each in seen.present] == [
        ("queue.shared", "3 consumers", True, 5.0),
        ("consumer.starved", "nothing comes", False, 6.0),
    ]


def test_what_one_part_of_the_consumer_notices_stays_until_that_part_heals_it() -> None:
    health = Health("mail")

    health.notice(Event.LEDGER_SLOW, "the disk is slow")
    health.connection("connected")
    health.fed()
    assert [each.name for each in health.present] == ["ledger.slow"]

    health.heal(Event.LEDGER_SLOW)
    assert health.present == []
