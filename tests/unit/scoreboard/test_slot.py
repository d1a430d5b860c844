"""What the marks in one slot say to any reader, also when the writer dies at any byte of any store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.errors import StateError
from supervisor.scoreboard import layout, mapping
from supervisor.scoreboard.slot import Slot
from supervisor.scoreboard.words import Intent, LeavingReason, LimitSource, OutcomeKind, Running
from supervisor.system import posix
from tests.support.slots import (
    OpenSlot,
    assert_seeded,
    assert_seeded_cell,
    dies_after,
    mark_seeded,
    mark_seeded_outcome,
    opened_slots,
    run_id,
)

DATABASE = b"0123456789abcdef"


@pytest.fixture
def open_slot() -> Iterator[OpenSlot]:
    with opened_slots() as opener:
        yield opener


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0.slot"


def taken(slot: Slot, generation: int = 1) -> Slot:
    assert slot.take(4711, 99, generation)
    return slot


def forge_other_boot(path: Path) -> None:
    """Make a slot file look as if it had been written before a reboot."""
    data = bytearray(path.read_bytes().replace(posix.boot_id().encode(), b"00000000-0000-0000-0000-000000000000"))
    for copy in layout.IDENTITY:
        record = layout._RECORD.unpack_from(data, copy.start)
        if record[1]:
            payload = bytes(data[copy.start + 16 : copy.start + 16 + record[1]])
            sealed = layout.seal(record[2], payload)
            data[copy.start : copy.start + len(sealed)] = sealed
    path.write_bytes(data)


def overwrite(path: Path, where: slice | int, data: bytes) -> None:
    start = where.start if isinstance(where, slice) else where
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


# ---- identity, intent, leaving, group -----------------------------------------------------------------------------


def test_a_new_slot_belongs_to_no_worker(open_slot: OpenSlot, path: Path) -> None:
    slot = open_slot(path)
    assert (slot.identity(), slot.running(), slot.group(), slot.handled) == (None, None, None, 0)
    assert slot.cells(0) == []
    assert path.stat().st_size == layout.FILE_BYTES
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_blocks_of_a_slot_are_allocated_at_once(open_slot: OpenSlot, path: Path) -> None:
    open_slot(path)
    assert path.stat().st_blocks * 512 >= layout.FILE_BYTES


def test_all_processes_read_the_slots_owner(open_slot: OpenSlot, path: Path) -> None:
    worker, master = open_slot(path), open_slot(path)
    taken(worker, 7)
    identity = master.identity()
    assert identity is not None
    assert (identity.pid, identity.start_ticks, identity.generation, identity.ready) == (4711, 99, 7, False)
    assert identity.boot_id == posix.boot_id()
    worker.mark_ready()
    ready = master.identity()
    assert ready is not None
    assert (ready.ready, ready.generation) == (True, 7)


def test_a_leaving_mark_is_its_generations_own(open_slot: OpenSlot, path: Path) -> None:
    worker, master = open_slot(path), open_slot(path)
    taken(worker, 7).mark_leaving(LeavingReason.MEMORY)
    assert master.leaving(7) is LeavingReason.MEMORY
    assert master.leaving(8) is None


def test_an_intent_is_its_generations_own(open_slot: OpenSlot, path: Path) -> None:
    worker, master = open_slot(path), open_slot(path)
    master.write_intent(Intent.TIMEOUT_KILL, 7)
    assert worker.intent(7) is Intent.TIMEOUT_KILL
    assert worker.intent(8) is Intent.NONE


def test_a_group_is_on_record_until_forgotten_or_the_slot_is_taken_again(open_slot: OpenSlot, path: Path) -> None:
    worker, master = open_slot(path), open_slot(path)
    taken(worker).record_group(800, 12345)
    assert master.group() == (800, 12345)
    worker.record_group(0, 0)
    assert master.group() is None
    worker.record_group(801, 12345)
    taken(open_slot(path), 2)
    assert master.group() is None


def test_only_the_owner_may_mark(open_slot: OpenSlot, path: Path) -> None:
    slot = open_slot(path)
    with pytest.raises(RuntimeError, match="only the worker"):
        slot.mark_leaving(LeavingReason.STOP)
    with pytest.raises(RuntimeError, match="no run has begun"):
        taken(slot).mark_outcome(OutcomeKind.DONE, None, 0.0, "")


# ---- runs and outcomes --------------------------------------------------------------------------------------------


def test_a_run_is_visible_until_its_outcome_is_marked(open_slot: OpenSlot, path: Path) -> None:
    worker, master = taken(open_slot(path)), open_slot(path)
    mark_seeded(worker, 5)
    running = master.running()
    assert running is not None
    assert assert_seeded(running) == 5
    assert running.number == 1
    assert mark_seeded_outcome(worker, 5) == 0
    assert master.running() is None


def test_more_time_and_publishing_change_the_run_in_place(open_slot: OpenSlot, path: Path) -> None:
    worker, master = taken(open_slot(path)), open_slot(path)
    mark_seeded(worker, 5)
    worker.mark_extended(99.0)
    extended = master.running()
    assert extended is not None
    assert (extended.number, extended.deadline_s, extended.source) == (1, 99.0, LimitSource.EXTENDED)
    worker.mark_publishing()
    publishing = master.running()
    assert publishing is not None
    assert (publishing.number, publishing.deadline_s, publishing.publishing) == (1, 0.0, True)
    mark_seeded_outcome(worker, 5)
    assert master.running() is None


def test_an_outcome_says_whose_it_was(open_slot: OpenSlot, path: Path) -> None:
    worker, consumer = taken(open_slot(path), 9), open_slot(path)
    mark_seeded(worker, 5)
    mark_seeded_outcome(worker, 5)
    (cell,) = consumer.cells(0)
    assert assert_seeded_cell(cell) == 5
    assert (cell.index, cell.generation) == (0, 9)


def test_the_ring_wraps_around_as_often_as_needed(open_slot: OpenSlot, path: Path) -> None:
    worker, consumer = taken(open_slot(path)), open_slot(path)
    for seed in range(layout.CELLS * 3 + 5):
        mark_seeded(worker, seed)
        assert mark_seeded_outcome(worker, seed) == seed
        assert [assert_seeded_cell(cell) for cell in consumer.cells(consumer.tail)] == [seed]
        consumer.advance_tail(seed + 1)
    assert worker.handled == layout.CELLS * 3 + 5


def test_a_full_ring_has_no_free_cell_until_the_consumer_takes_one(open_slot: OpenSlot, path: Path) -> None:
    worker, consumer = taken(open_slot(path)), open_slot(path)
    for seed in range(layout.CELLS):
        assert worker.free_cell()
        mark_seeded(worker, seed)
        mark_seeded_outcome(worker, seed)
    assert not worker.free_cell()
    consumer.advance_tail(1)
    assert worker.free_cell()
    assert [assert_seeded_cell(cell) for cell in consumer.cells(1)] == list(range(1, layout.CELLS))


@pytest.mark.parametrize("tail", [0, 3])
def test_the_tail_goes_neither_back_nor_past_the_head(open_slot: OpenSlot, path: Path, tail: int) -> None:
    worker = taken(open_slot(path))
    for seed in range(2):
        mark_seeded(worker, seed)
        mark_seeded_outcome(worker, seed)
    worker.advance_tail(1)
    with pytest.raises(ValueError, match="tail"):
        worker.advance_tail(tail)


def test_handled_counts_the_present_owners_outcomes(open_slot: OpenSlot, path: Path) -> None:
    worker = taken(open_slot(path), 1)
    mark_seeded(worker, 1)
    mark_seeded_outcome(worker, 1)
    mark_seeded(worker, 2)
    assert open_slot(path).handled == 1
    successor = taken(open_slot(path), 2)
    assert successor.handled == 0  # the in_doubt cell is not its work
    mark_seeded(successor, 3)
    mark_seeded_outcome(successor, 3)
    assert open_slot(path).handled == 1


# ---- taking over --------------------------------------------------------------------------------------------------


def test_a_left_over_run_becomes_in_doubt_when_the_slot_is_taken(open_slot: OpenSlot, path: Path) -> None:
    mark_seeded(taken(open_slot(path), 1), 5)
    successor = taken(open_slot(path), 2)
    assert successor.running() is None
    (cell,) = successor.cells(0)
    assert (cell.kind, cell.generation, cell.index) == (OutcomeKind.IN_DOUBT, 1, 0)
    assert assert_seeded_cell(cell) == 5


def test_the_database_of_an_inbox_is_in_the_mark_and_in_the_cell_of_its_run(open_slot: OpenSlot, path: Path) -> None:
    worker = taken(open_slot(path), 1)
    for seed in (1, 2, 3):
        mark_seeded(worker, seed)
        if seed != 2:
            worker.mark_inbox(run_id(seed), DATABASE)
        worker.mark_extended(50.0)
        worker.mark_publishing()
        running = open_slot(path).running()
        assert running is not None
        assert running.database == (b"" if seed == 2 else DATABASE)
        if seed < 3:
            mark_seeded_outcome(worker, seed)
    cells = taken(open_slot(path), 2).cells(0)
    assert [cell.database for cell in cells] == [DATABASE, b"", DATABASE]
    assert cells[2].kind is OutcomeKind.IN_DOUBT


def test_the_inbox_of_a_run_that_is_over_is_not_marked(open_slot: OpenSlot, path: Path) -> None:
    worker = taken(open_slot(path), 1)
    mark_seeded(worker, 1)
    with pytest.raises(RuntimeError, match="is over"):
        worker.mark_inbox(run_id(2), DATABASE)
    with pytest.raises(ValueError, match="has 16 bytes, not 5"):
        worker.mark_inbox(run_id(1), b"short")


def test_a_finished_run_is_not_in_doubt(open_slot: OpenSlot, path: Path) -> None:
    worker = taken(open_slot(path), 1)
    mark_seeded(worker, 5)
    mark_seeded_outcome(worker, 5)
    assert [cell.kind for cell in taken(open_slot(path), 2).cells(0)] == [OutcomeKind.FAILED]


def test_a_left_over_run_finds_a_cell_even_in_the_fullest_ring(open_slot: OpenSlot, path: Path) -> None:
    worker = taken(open_slot(path), 1)
    for seed in range(layout.CELLS - 1):
        mark_seeded(worker, seed)
        mark_seeded_outcome(worker, seed)
    assert worker.free_cell()
    mark_seeded(worker, 63)
    cells = taken(open_slot(path), 2).cells(0)
    assert [assert_seeded_cell(cell) for cell in cells] == list(range(layout.CELLS))


def test_a_taker_that_dies_at_any_byte_leaves_the_run_in_doubt_exactly_once(open_slot: OpenSlot, path: Path) -> None:
    mark_seeded(taken(open_slot(path), 1), 5)
    before = path.read_bytes()
    master = open_slot(path)
    units = 0
    dying = open_slot(path)
    while dies_after(dying, units, lambda: dying.take(4712, 100, 2)):
        identity, running = master.identity(), master.running()
        assert identity is not None
        if identity.generation == 2:
            assert running is None
        if running is None:
            assert [cell.kind for cell in master.cells(0)] == [OutcomeKind.IN_DOUBT]
        cells = taken(open_slot(path), 3).cells(0)
        assert [(cell.kind, cell.generation) for cell in cells] == [(OutcomeKind.IN_DOUBT, 1)]
        overwrite(path, 0, before)
        units += 1
    assert units > 100


MARKS: dict[str, Callable[[Slot], object]] = {
    "running": lambda slot: mark_seeded(slot, 8),
    "outcome": lambda slot: mark_seeded_outcome(slot, 7),
    "inbox": lambda slot: slot.mark_inbox(run_id(7), DATABASE),
    "extended": lambda slot: slot.mark_extended(500.0),
    "publishing": lambda slot: slot.mark_publishing(),
}


@pytest.mark.parametrize("name", MARKS)
def test_a_worker_that_dies_at_any_byte_of_a_mark_has_made_it_or_not(
    open_slot: OpenSlot, path: Path, name: str
) -> None:
    worker, reader = taken(open_slot(path)), open_slot(path)
    mark_seeded(worker, 6)
    mark_seeded_outcome(worker, 6)
    mark_seeded(worker, 7)
    sequence, before = worker._running_sequence, path.read_bytes()
    run, without = worker._run, (reader.running(), reader.cells(0))
    MARKS[name](worker)
    made = reader.running(), reader.cells(0)
    assert made != without
    units = 0
    seen = []
    while True:
        overwrite(path, 0, before)
        worker._running_sequence, worker._run = sequence, run
        died = dies_after(worker, units, lambda: MARKS[name](worker))
        seen.append((reader.running(), reader.cells(0)))
        if not died:
            break
        units += 1
    assert seen[:-1] == [without] * units
    assert seen[-1] == made


# ---- what the absence of a mark proves ----------------------------------------------------------------------------


def test_a_slot_vouches_for_every_generation_it_has_seen(open_slot: OpenSlot, path: Path) -> None:
    consumer = open_slot(path)
    assert not consumer.marks_complete_since(3)
    for generation in (3, 4, 5):
        taken(open_slot(path), generation)
    assert [generation for generation in range(8) if consumer.marks_complete_since(generation)] == [3, 4, 5]


def test_a_slot_of_another_boot_proves_nothing(open_slot: OpenSlot, path: Path) -> None:
    taken(open_slot(path), 3)
    forge_other_boot(path)
    consumer = open_slot(path)
    identity = consumer.identity()
    assert identity is not None
    assert identity.boot_id == "00000000-0000-0000-0000-000000000000"
    assert not consumer.damage
    assert not consumer.marks_complete_since(3)


def test_a_new_owner_does_not_vouch_for_what_was_before_the_boot(open_slot: OpenSlot, path: Path) -> None:
    mark_seeded(taken(open_slot(path), 3), 5)
    forge_other_boot(path)
    successor = taken(open_slot(path), 4)
    assert [cell.kind for cell in successor.cells(0)] == [OutcomeKind.IN_DOUBT]
    assert not successor.marks_complete_since(3)
    assert successor.marks_complete_since(4)


# ---- damage -------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_damage_at_its_making_only(open_slot: OpenSlot, path: Path) -> None:
    assert open_slot(path).damage == f"{path}: was missing and has been created"
    assert not open_slot(path).damage


@pytest.mark.parametrize(
    ("where", "data", "says"),
    [
        (slice(0, 8), b"sqlite 3", "is not a file of this version"),
        (slice(8, 12), b"\xff\0\0\0", "is not a file of this version"),
        (slice(layout.FILE_BYTES, None), b"more", f"has {layout.FILE_BYTES + 4} bytes instead of {layout.FILE_BYTES}"),
        (slice(layout.HEAD * 8, None), b"\x50", "head 80 and tail 0 contradict"),
        (slice(layout.TAIL * 8, None), b"\x02", "head 1 and tail 2 contradict"),
    ],
    ids=["magic", "version", "size", "head", "tail"],
)
def test_what_is_no_slot_is_set_aside_and_made_again(
    open_slot: OpenSlot, path: Path, where: slice, data: bytes, says: str
) -> None:
    worker = taken(open_slot(path), 3)
    mark_seeded(worker, 1)
    mark_seeded_outcome(worker, 1)
    overwrite(path, where, data)
    found = path.read_bytes()
    fresh = open_slot(path)
    assert says in fresh.damage
    assert "set aside as 0.slot.damaged" in fresh.damage
    assert path.with_name("0.slot.damaged").read_bytes() == found
    assert (fresh.identity(), fresh.cells(0), fresh.marks_complete_since(3)) == (None, [], False)
    assert taken(fresh, 4).marks_complete_since(4)


def test_a_truncated_file_is_never_mapped(open_slot: OpenSlot, path: Path) -> None:
    open_slot(path)
    path.write_bytes(path.read_bytes()[:2000])
    fresh = open_slot(path)
    assert "has 2000 bytes" in fresh.damage
    mark_seeded(taken(fresh), 1)


def test_a_lost_running_mark_is_damage_until_a_new_owner_stands_for_its_own(open_slot: OpenSlot, path: Path) -> None:
    worker = taken(open_slot(path), 3)
    mark_seeded(worker, 1)
    worker.mark_extended(50.0)
    for copy in layout.RUNNING:
        overwrite(path, copy.start + 20, b"\xde\xad\xbe\xef")
    consumer = open_slot(path)
    assert "running mark are broken" in consumer.damage
    assert consumer.running() is None
    assert not consumer.marks_complete_since(3)
    successor = taken(open_slot(path), 4)
    assert not open_slot(path).damage
    assert [generation for generation in (3, 4) if successor.marks_complete_since(generation)] == [4]


def test_a_taker_that_dies_before_it_wiped_the_damage_leaves_it_visible(open_slot: OpenSlot, path: Path) -> None:
    worker = taken(open_slot(path), 3)
    mark_seeded(worker, 1)
    worker.mark_extended(50.0)
    for copy in layout.RUNNING:
        overwrite(path, copy.start + 20, b"\xde\xad\xbe\xef")
    before, units = path.read_bytes(), 0
    reader, dying = open_slot(path), open_slot(path)
    while dies_after(dying, units, lambda: dying.take(4712, 100, 4)):
        assert not reader.marks_complete_since(3)
        assert not taken(open_slot(path), 5).marks_complete_since(3)
        overwrite(path, 0, before)
        units += 3
    assert reader.marks_complete_since(4)


def test_a_lost_identity_is_damage(open_slot: OpenSlot, path: Path) -> None:
    worker = taken(open_slot(path), 3)
    worker.mark_ready()
    mark_seeded(worker, 1)
    for copy in layout.IDENTITY:
        overwrite(path, copy.start + 20, b"\xde\xad\xbe\xef")
    assert "identity are broken" in open_slot(path).damage
    successor = taken(open_slot(path), 4)
    assert [(cell.kind, cell.generation) for cell in successor.cells(0)] == [(OutcomeKind.IN_DOUBT, 0)]
    assert not successor.marks_complete_since(3)


def test_an_unreadable_cell_is_left_out_and_does_not_stop_the_others(open_slot: OpenSlot, path: Path) -> None:
    worker = taken(open_slot(path))
    for seed in range(3):
        mark_seeded(worker, seed)
        mark_seeded_outcome(worker, seed)
    overwrite(path, layout.cell_at(1) + 30, b"\xde\xad\xbe\xef")
    assert [cell.index for cell in open_slot(path).cells(0)] == [0, 2]


# ---- errors -------------------------------------------------------------------------------------------------------


def test_only_the_master_makes_slot_files(path: Path) -> None:
    with pytest.raises(StateError, match="deleted"):
        Slot(path, make=False)
    path.write_bytes(b"something else")
    with pytest.raises(StateError, match=r"has 14 bytes.*restart preforkd"):
        Slot(path, make=False)
    assert path.read_bytes() == b"something else"


def test_a_folder_in_place_of_a_slot_is_an_error_that_names_it(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StateError, match=r"0\.slot: cannot be mapped"):
        Slot(path)


def test_a_symbolic_link_in_place_of_a_slot_is_refused(tmp_path: Path, path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match=r"0\.slot: cannot be mapped"):
        Slot(path)


def test_nothing_unfinished_is_left_beside_a_slot(open_slot: OpenSlot, path: Path) -> None:
    open_slot(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["0.slot"]


def test_a_running_mark_says_what_was_asked(open_slot: OpenSlot, path: Path) -> None:
    worker = taken(open_slot(path))
    mark_seeded(worker, 2)
    running = worker.running()
    assert isinstance(running, Running)
    assert running.source is LimitSource.POOL
    assert not running.publishing


def test_a_slot_restored_with_holes_gets_its_blocks_back(open_slot: OpenSlot, path: Path) -> None:
    open_slot(path)
    header = path.read_bytes()[:16]
    path.write_bytes(header)
    with path.open("r+b") as file:
        file.truncate(layout.FILE_BYTES)
    assert path.stat().st_blocks * 512 < layout.FILE_BYTES
    assert not open_slot(path).damage
    assert path.stat().st_blocks * 512 >= layout.FILE_BYTES


def test_a_slot_that_another_process_has_made_meanwhile_is_kept(open_slot: OpenSlot, path: Path) -> None:
    open_slot(path)
    theirs = path.stat().st_ino
    mapping._create(path, layout.HEADER, layout.FILE_BYTES)
    assert path.stat().st_ino == theirs
