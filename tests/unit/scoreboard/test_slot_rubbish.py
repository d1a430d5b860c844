"""A slot file with anything in it: a reader without a mapping gets an answer, and never an exception."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from supervisor.errors import StateError
from supervisor.scoreboard import layout
from supervisor.scoreboard.mapping import set_aside
from supervisor.scoreboard.slot import Slot, slot_numbers

ROUNDS = 2000 if os.environ.get("PREFORKD_SOAK") else 60


def read_everything(slot: Slot) -> None:
    """All that master and consumer ever ask a slot."""
    identity = slot.identity()
    generation = identity.generation if identity else 1
    slot.running(), slot.group(), slot.leaving(generation), slot.intent(generation), slot.handled
    slot.marks_complete_since(generation), slot.owner(), slot.fault(), slot.damage, slot.is_at_its_path()
    slot.cells(slot.tail), slot.cells(0)


def spoiled(dice: random.Random, path: Path) -> bytes:
    """A slot file with rubbish somewhere, some of it sealed as if it had been meant."""
    data = bytearray(path.read_bytes())
    for _ in range(dice.randrange(1, 6)):
        start = dice.choice([0, 64, 128, 192, 256, 264, 512, 640, 1024, 1536, dice.randrange(len(data))])
        rubbish = dice.randbytes(dice.choice([1, 8, 100, 512]))
        if dice.random() < 0.6:
            rubbish = layout.seal(dice.getrandbits(64), rubbish)
        if dice.random() < 0.3:  # a word with a generation that is there, and a code that is not
            rubbish = (1 << 8 | 200).to_bytes(8, "little")
        data[start : start + len(rubbish)] = rubbish
    return bytes(data[: dice.choice([len(data), len(data), dice.randrange(len(data))])])


def test_rubbish_in_a_slot_raises_nothing_in_its_readers(tmp_path: Path) -> None:
    worker = Slot(tmp_path / "0.slot")
    assert worker.take(os.getpid(), 1, 1)
    for seed in range(ROUNDS):
        path = tmp_path / f"{seed}.slot"
        path.write_bytes(spoiled(random.Random(seed), tmp_path / "0.slot"))
        slot = Slot(path, make=False, mapped=False)
        read_everything(slot)
        slot.write_intent(layout.Intent.STOP, 1)
        slot.close()


def test_a_file_that_ends_where_a_reader_reads_is_as_if_nothing_had_been_written(tmp_path: Path) -> None:
    worker = Slot(tmp_path / "0.slot")
    assert worker.take(os.getpid(), 1, 1)
    reader = Slot(tmp_path / "0.slot", make=False, mapped=False)
    assert reader.identity() is not None
    os.truncate(tmp_path / "0.slot", 0)
    assert reader.identity() is None
    assert "0 bytes instead of" in reader.fault()
    read_everything(reader)


def test_a_slot_that_is_not_to_be_made_is_left_where_it_is_when_its_ring_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "0.slot"
    Slot(path).close()
    data = bytearray(path.read_bytes())
    data[64:72], data[128:136] = (5).to_bytes(8, "little"), (900).to_bytes(8, "little")
    path.write_bytes(data)
    slot = Slot(path, make=False)
    assert "contradict each other" in slot.damage
    assert path.read_bytes() == bytes(data)
    assert [entry.name for entry in tmp_path.iterdir()] == ["0.slot"]


def test_only_numbers_as_we_write_them_name_slots(tmp_path: Path) -> None:
    for name in ("0.slot", "12.slot", "old.slot", "007.slot", "²³.slot", "3.slot.damaged", "4"):
        (tmp_path / name).touch()
    assert slot_numbers(tmp_path) == [0, 12]


def test_a_slot_that_is_missing_is_an_error_that_names_it(tmp_path: Path) -> None:
    Slot(tmp_path / "0.slot").close()
    set_aside(tmp_path / "0.slot")
    with pytest.raises(StateError, match=r"0\.slot"):
        Slot(tmp_path / "0.slot", make=False, mapped=False)
