"""The bytes of a slot: what is written is read again, what is torn is never taken for whole."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.link.frames import RunId
from supervisor.scoreboard import layout
from supervisor.scoreboard.words import Cell, Identity, Intent, LeavingReason, LimitSource, OutcomeKind, Running

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
SECONDS = st.floats(allow_nan=False)
DATABASES = st.just(b"") | st.binary(min_size=16, max_size=16)
RUNS = st.builds(RunId, st.binary(max_size=layout.KEY_BYTES), U64, U64)

RUNNING = Running(7, RunId(b"k" * 24, 1, 2), "order-4711", 1.7e9, 10.0, 40.0, LimitSource.MESSAGE, False)
CELL = Cell(6, RunId(b"k" * 24, 1, 2), 3, OutcomeKind.RETRY, 2.5, 0.25, "try later")
DATABASE = b"0123456789abcdef"
IDENTITY = Identity(4711, 123456, 9, "c841139a-ff5c-4208-8da8-037b1bf7babf", True, 5, 77)


@given(
    st.builds(
        Running,
        number=U64,
        run=RUNS,
        message_id=st.text(max_size=60),
        started_at_s=SECONDS,
        started_s=SECONDS,
        deadline_s=SECONDS,
        source=st.sampled_from(LimitSource),
        publishing=st.booleans(),
        database=DATABASES,
    )
)
def test_a_running_mark_is_read_as_it_was_written(running: Running) -> None:
    assert layout.decode_running(layout.encode_running(running)) == running


@given(
    st.builds(
        Cell,
        index=U64,
        run=RUNS,
        generation=U32,
        kind=st.sampled_from(OutcomeKind),
        delay_s=st.none() | SECONDS,
        elapsed_s=SECONDS,
        text=st.text(alphabet="aé€😀\n", max_size=90),
        database=DATABASES,
    )
)
def test_a_cell_is_read_as_it_was_written(cell: Cell) -> None:
    assert layout.decode_cell(layout.encode_cell(cell).ljust(layout.CELL_BYTES, b"?"), cell.index) == cell


@given(U32, U64, U32, st.booleans(), U32, U64)
def test_an_identity_is_read_as_it_was_written(
    pid: int, ticks: int, generation: int, ready: bool, since: int, base: int
) -> None:
    who = Identity(pid, ticks, generation, "c841139a-ff5c-4208-8da8-037b1bf7babf", ready, since, base)
    assert layout.decode_identity(layout.encode_identity(who)) == who


def test_fields_do_not_overlap_and_the_words_are_aligned() -> None:
    fields = [(0, len(layout.HEADER))]
    fields += [
        (word * 8, word * 8 + 8) for word in (layout.HEAD, layout.TAIL, layout.INTENT, layout.LEAVING, layout.GROUP)
    ]
    fields += [(copy.start, copy.stop) for copy in (*layout.IDENTITY, *layout.RUNNING)]
    fields += [(layout.cell_at(index), layout.cell_at(index) + layout.CELL_BYTES) for index in range(layout.CELLS)]
    fields.sort()
    assert all(end <= start for (_, end), (start, _) in pairwise(fields))
    assert fields[-1][1] == layout.FILE_BYTES


def test_the_longest_records_fit_into_their_copies() -> None:
    longest = Running(
        2**64 - 1, RunId(b"k" * 32, 2**64 - 1, 2**64 - 1), "x" * 999, 1.0, 1.0, 1.0, LimitSource.POOL, True
    )
    assert (
        len(layout.seal(2**64 - 1, layout.encode_running(longest))) <= layout.RUNNING[0].stop - layout.RUNNING[0].start
    )
    assert (
        len(layout.seal(2**64 - 1, layout.encode_identity(IDENTITY)))
        <= layout.IDENTITY[0].stop - layout.IDENTITY[0].start
    )


@pytest.mark.parametrize(
    "payload", [layout.encode_running(RUNNING), layout.encode_identity(IDENTITY)], ids=["running", "identity"]
)
def test_any_damaged_byte_of_one_copy_leaves_the_other_one_to_be_read(payload: bytes) -> None:
    older = layout.seal(1, b"older")
    younger = layout.seal(2, payload)
    for position in range(len(younger)):
        for flipped in (0x01, 0x80, 0xFF):
            torn = bytearray(younger)
            torn[position] ^= flipped
            assert layout.newest((bytes(torn), older)) == (1, b"older")


@pytest.mark.parametrize(
    "payload", [layout.encode_running(RUNNING), layout.encode_identity(IDENTITY)], ids=["running", "identity"]
)
def test_a_copy_cut_off_anywhere_leaves_the_other_one_to_be_read(payload: bytes) -> None:
    before = layout.seal(0, bytes(reversed(payload)) + b"more")
    younger = layout.seal(2, payload)
    for written in range(len(younger)):
        torn = younger[:written] + before[written:]
        assert layout.newest((torn, layout.seal(1, b"older"))) == (1, b"older")
        assert layout.newest((younger[:written].ljust(512, b"\0"), layout.seal(1, b"older"))) == (1, b"older")


def test_the_younger_of_two_whole_copies_counts() -> None:
    assert layout.newest((layout.seal(4, b"four"), layout.seal(3, b"three"))) == (4, b"four")
    assert layout.newest((layout.seal(4, b"four"), layout.seal(5, b"five"))) == (5, b"five")


def test_a_first_record_cut_off_is_no_record_and_no_damage() -> None:
    torn = layout.seal(1, layout.encode_running(RUNNING))[:40].ljust(512, b"\0")
    assert layout.newest((bytes(512), torn)) is None
    assert not layout.broken((bytes(512), torn))


def test_two_copies_written_and_unreadable_are_damage() -> None:
    assert layout.broken((b"\x01" * 512, b"\x02" * 512))
    assert not layout.broken((b"\x01" * 512, layout.seal(1, b"whole").ljust(512, b"\0")))
    assert not layout.broken((bytes(512), bytes(512)))


def test_any_damaged_byte_of_a_cell_makes_it_unreadable() -> None:
    data = layout.encode_cell(msgspec.structs.replace(CELL, database=DATABASE))
    for position in range(len(data)):
        torn = bytearray(data)
        torn[position] ^= 0x55
        assert layout.decode_cell(bytes(torn).ljust(layout.CELL_BYTES, b"\0"), CELL.index) is None


def test_a_cell_of_an_earlier_lap_is_not_taken_for_this_one() -> None:
    data = layout.encode_cell(CELL).ljust(layout.CELL_BYTES, b"\0")
    assert layout.cell_at(CELL.index) == layout.cell_at(CELL.index + layout.CELLS)
    assert layout.decode_cell(data, CELL.index + layout.CELLS) is None


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    text = "ValueError: no such order\n" + "  frame\n" * 400 + "the last line"
    cell = Cell(0, RunId(b"k", 1, 1), 1, OutcomeKind.FAILED, None, 0.1, text, b"d" * 16)
    data = layout.encode_cell(cell)
    read = layout.decode_cell(data, 0)
    assert len(data) == layout.CELL_BYTES
    assert read is not None
    assert read.text.startswith("ValueError: no such order\n")
    assert read.text.endswith("the last line")
    assert read.database == cell.database


def test_a_mark_without_a_database_has_the_bytes_of_former_versions() -> None:
    """A slot file of before the inbox is read, and an older build reads this one."""
    mark = layout.encode_running(RUNNING)
    assert mark == layout.encode_running(msgspec.structs.replace(RUNNING, database=b"d" * 16))[:-16]
    cell = layout.encode_cell(CELL)
    assert len(cell) == layout._CRC.size + layout._CELL.size + len(CELL.text)
    assert layout._CELL.unpack_from(cell, layout._CRC.size)[0] == len(CELL.text)


def test_a_text_cut_within_a_character_stays_readable() -> None:
    read = layout.decode_cell(layout.encode_cell(Cell(0, CELL.run, 1, CELL.kind, None, 0.1, "€" * 999)), 0)
    assert read is not None
    assert set(read.text) == {"€", " ", "."}


def test_text_that_is_no_unicode_is_kept_readable() -> None:
    read = layout.decode_cell(layout.encode_cell(Cell(0, CELL.run, 1, CELL.kind, None, 0.1, "bad \udcff")), 0)
    assert read is not None
    assert read.text == "bad \\udcff"


def test_a_long_message_id_is_cut() -> None:
    long = Running(1, CELL.run, "é" * 300, 1.0, 1.0, 0.0, LimitSource.POOL, False)
    assert layout.decode_running(layout.encode_running(long)).message_id == "é" * 127


def test_a_key_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="key of 33 bytes"):
        layout.encode_running(Running(1, RunId(b"k" * 33, 1, 1), "", 1.0, 1.0, 0.0, LimitSource.POOL, False))


@given(U32, U32, st.sampled_from(Intent))
def test_an_intent_holds_for_one_generation_only(meant: int, asked: int, intent: Intent) -> None:
    found = layout.intent_of(layout.intent_word(intent, meant), asked)
    assert found == (intent if asked == meant else Intent.NONE)


@given(U32, U32, st.sampled_from(LeavingReason))
def test_a_leaving_mark_holds_for_one_generation_only(meant: int, asked: int, reason: LeavingReason) -> None:
    assert layout.leaving_of(layout.leaving_word(reason, meant), asked) == (reason if asked == meant else None)


def test_an_empty_word_is_no_workers_leaving_mark() -> None:
    assert layout.leaving_of(0, 0) is None


@given(st.integers(1, 2**22), st.integers(0, 2**40 - 1))
def test_a_group_is_read_as_it_was_written(pgid: int, ticks: int) -> None:
    assert layout.group_of(layout.group_word(pgid, ticks)) == (pgid, ticks)


def test_group_zero_is_no_group() -> None:
    assert layout.group_of(layout.group_word(0, 99)) is None


def test_outcomes_and_reasons_keep_the_codes_that_slots_on_disk_have() -> None:
    assert [kind for _code, kind in sorted(layout._KINDS.items())] == [
        *("done", "failed", "retry", "reject", "soft_timeout", "publish_failed", "in_doubt")
    ]
    assert [reason for _code, reason in sorted(layout._LEAVINGS.items())] == [
        *("stop", "messages", "age", "memory", "timeout", "boot_failed", "failed", "spoiled", "failing")
    ]
    assert min(layout._KINDS) == min(layout._LEAVINGS) == 1
