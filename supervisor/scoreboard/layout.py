"""The bytes of a slot file, and how its fields are written and read. Pure: no files, no clock, no process.

Native byte order. Words (u64) are aligned, so a load never sees half a store. The writer is named behind each field.
A field longer than a word is written alternately in two copies, or published by a word that is written after it:

    offset  bytes
         0     16  header       magic "prefslot", u32 version, u32 size of the file
        64      8  head         worker    outcomes ever marked: the ring holds cells [tail, head)
       128      8  tail         consumer  outcomes that are durable in the ledger
       192      8  intent       master    generation << 8 | Intent
       256      8  leaving      worker    generation << 8 | code of the LeavingReason
       264      8  group        worker    pgid << 40 | start ticks of its leader (a pid has 22 bits)
       272      8  end          worker    CLOCK_BOOTTIME in ns at which the kernel kills it for its run, 0 for never
       512    128  identity A   worker    records, see below
       640    128  identity B
      1024    512  running  A   worker
      1536    512  running  B
      4096  32768  ring         worker    64 cells of 512 bytes; cell i lies at 4096 + (i mod 64) * 512

    record   = u32 crc32 of the rest | u32 payload length | u64 sequence | payload
    identity = u32 pid | u32 generation | u64 start ticks | u32 since | u64 base | u8 ready | 36 bytes boot id
    running  = u64 number, round, attempt | f64 started (wall), started, deadline | u8 source, publishing, key length,
               id length | 32 bytes key | message id | 16 bytes database of its inbox, if known
    cell     = u32 crc32 of the rest | u16 text length (top bit: a database follows) | u8 kind, key length | u64 index
               | u32 generation | u64 round, attempt | f64 delay (nan: none), elapsed | 32 bytes key | text
               | 16 bytes database of its inbox, if known

A record with an even sequence goes to A, one with an odd sequence to B: a writer's death leaves the other copy whole.
A cell is written before the head that publishes it, and is reused only once the tail has passed it.

Every run ends in exactly one cell: run number n owns cell n - 1, and has ended once head >= n. So the end of a run
costs one cell and one word, and the running record is never erased.
"""

from __future__ import annotations

import struct
from math import nan
from zlib import crc32

from supervisor.link.frames import RunId
from supervisor.scoreboard.words import Cell, Identity, Intent, LeavingReason, LimitSource, OutcomeKind, Running

CELLS = 64
CELL_BYTES = 512
RING = 4096
FILE_BYTES = RING + CELLS * CELL_BYTES
HEADER = b"prefslot" + struct.pack("=II", 1, FILE_BYTES)

HEAD, TAIL, INTENT, LEAVING, GROUP, END = (offset // 8 for offset in (64, 128, 192, 256, 264, 272))
"""Indices of the words, for `memoryview.cast("Q")`."""

IDENTITY = (slice(512, 640), slice(640, 768))
RUNNING = (slice(1024, 1536), slice(1536, 2048))
Record = tuple[int, bytes]
"""Sequence and payload."""

KEY_BYTES = 32
DATABASE_BYTES = 16
ID_BYTES = 255

_CRC = struct.Struct("=I")
_SEALED = struct.Struct("=IQ")
_RECORD = struct.Struct("=IIQ")
_IDENTITY = struct.Struct("=IIQIQ?36s")
_RUN = struct.Struct("=QQQdddB?BB32s")
_CELL = struct.Struct("=HBBQIQQdd32s")

TEXT_BYTES = CELL_BYTES - _CRC.size - _CELL.size - DATABASE_BYTES
_TEXT_HEAD, _TEXT_GAP = 128, b" ... "
_TEXT_TAIL = TEXT_BYTES - _TEXT_HEAD - len(_TEXT_GAP)
_DATABASE_FOLLOWS = 1 << 15

_KINDS = dict(enumerate(OutcomeKind, 1))
_KIND_CODES = {kind: code for code, kind in _KINDS.items()}
_LEAVINGS = dict(enumerate(LeavingReason, 1))
_LEAVING_CODES = {reason: code for code, reason in _LEAVINGS.items()}
_INTENTS = {int(intent): intent for intent in Intent}


# ---- records ------------------------------------------------------------------------------------------------------


def seal(sequence: int, payload: bytes) -> bytes:
    """The bytes of a record with this `payload`, for the copy that `sequence & 1` selects."""
    body = _SEALED.pack(len(payload), sequence) + payload
    return _CRC.pack(crc32(body)) + body


def unseal(copy: bytes) -> Record | None:
    """Sequence and payload of the bytes in `copy`; None if they are empty or damaged."""
    crc, length, sequence = _RECORD.unpack_from(copy)
    end = _RECORD.size + length
    if end > len(copy) or crc32(memoryview(copy)[_CRC.size : end]) != crc:
        return None
    return sequence, copy[_RECORD.size : end]


def newest(copies: tuple[bytes, bytes]) -> Record | None:
    """The newest undamaged record of the two `copies`; None if there is none."""
    return max((record for copy in copies if (record := unseal(copy))), default=None)


def broken(copies: tuple[bytes, bytes]) -> bool:
    """Whether both `copies` were written and neither can be read. A writer's death spoils only one."""
    return newest(copies) is None and all(any(copy) for copy in copies)


# ---- identity -----------------------------------------------------------------------------------------------------


def encode_identity(who: Identity) -> bytes:
    """The payload of an identity record."""
    boot = who.boot_id.encode()
    return _IDENTITY.pack(who.pid, who.generation, who.start_ticks, who.since, who.base, who.ready, boot)


def decode_identity(payload: bytes) -> Identity:
    """The identity record in `payload`. Raises struct.error or UnicodeDecodeError for other bytes."""
    pid, generation, start_ticks, since, base, ready, boot = _IDENTITY.unpack(payload)
    return Identity(pid, start_ticks, generation, boot.rstrip(b"\0").decode(), ready, since, base)


# ---- running ------------------------------------------------------------------------------------------------------


def encode_running(running: Running) -> bytes:
    """The payload of a running record; a message id is cut at 255 bytes.

    Raises ValueError for a key over 32 bytes, and for a database that has not 16.
    """
    run, name = running.run, running.message_id.encode("utf-8", "replace")[:ID_BYTES]
    return (
        _RUN.pack(
            running.number,
            run.round,
            run.attempt,
            running.started_at_s,
            running.started_s,
            running.deadline_s,
            running.source,
            running.publishing,
            _key_length(run.key),
            len(name),
            run.key,
        )
        + name
        + _checked_database(running.database)
    )


def decode_running(payload: bytes) -> Running:
    """The running record in `payload`. Raises struct.error or ValueError for other bytes."""
    number, round_, attempt, started_at_s, started_s, deadline_s, source, publishing, key_length, length, key = (
        _RUN.unpack_from(payload)
    )
    end = _RUN.size + length
    return Running(
        number=number,
        run=RunId(key[:key_length], round_, attempt),
        message_id=payload[_RUN.size : end].decode("utf-8", "ignore"),
        started_at_s=started_at_s,
        started_s=started_s,
        deadline_s=deadline_s,
        source=LimitSource(source),
        publishing=publishing,
        database=payload[end : end + DATABASE_BYTES],
    )


# ---- cells --------------------------------------------------------------------------------------------------------


def cell_at(index: int) -> int:
    """The offset in the file of the cell with ring index `index`."""
    return RING + index % CELLS * CELL_BYTES


def encode_cell(cell: Cell) -> bytes:
    """The bytes of a cell; of a long text both ends are kept.

    Raises ValueError for a key over 32 bytes, and for a database that has not 16.
    """
    run, text = cell.run, _clip(cell.text)
    body = (
        _CELL.pack(
            len(text) | (_DATABASE_FOLLOWS if cell.database else 0),
            _KIND_CODES[cell.kind],
            _key_length(run.key),
            cell.index,
            cell.generation,
            run.round,
            run.attempt,
            nan if cell.delay_s is None else cell.delay_s,
            cell.elapsed_s,
            run.key,
        )
        + text
        + _checked_database(cell.database)
    )
    return _CRC.pack(crc32(body)) + body


def decode_cell(data: bytes, index: int) -> Cell | None:
    """The cell in `data` with ring index `index`; None if the bytes are damaged or another cell's."""
    length, kind, key_length, own_index, generation, round_, attempt, delay_s, elapsed_s, key = _CELL.unpack_from(
        data, _CRC.size
    )
    start = _CRC.size + _CELL.size
    text_end = start + (length & ~_DATABASE_FOLLOWS)
    end = text_end + (DATABASE_BYTES if length & _DATABASE_FOLLOWS else 0)
    sound = end <= len(data) and crc32(memoryview(data)[_CRC.size : end]) == _CRC.unpack_from(data)[0]
    if not sound or own_index != index:
        return None
    return Cell(
        index=index,
        run=RunId(key[:key_length], round_, attempt),
        generation=generation,
        kind=_KINDS[kind],
        delay_s=None if delay_s != delay_s else delay_s,
        elapsed_s=elapsed_s,
        text=data[start:text_end].decode("utf-8", "ignore"),
        database=data[text_end:end],
    )


def _clip(text: str) -> bytes:
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= TEXT_BYTES:
        return data
    return data[:_TEXT_HEAD] + _TEXT_GAP + data[-_TEXT_TAIL:]


def _checked_database(database: bytes) -> bytes:
    if len(database) not in (0, DATABASE_BYTES):
        raise ValueError(f"the identity of a database has {DATABASE_BYTES} bytes, not {len(database)}")
    return database


def _key_length(key: bytes) -> int:
    if len(key) > KEY_BYTES:
        raise ValueError(f"a message key of {len(key)} bytes does not fit into a slot: at most {KEY_BYTES}")
    return len(key)


# ---- words --------------------------------------------------------------------------------------------------------


def intent_word(intent: Intent, generation: int) -> int:
    """The intent word for one generation; other generations read it as NONE."""
    return generation << 8 | intent


def intent_of(word: int, generation: int) -> Intent:
    """The intent for this generation in `word`, else NONE."""
    return _INTENTS.get(word & 0xFF, Intent.NONE) if word >> 8 == generation else Intent.NONE


def leaving_word(reason: LeavingReason, generation: int) -> int:
    """The word with which a generation records why it leaves."""
    return generation << 8 | _LEAVING_CODES[reason]


def leaving_of(word: int, generation: int) -> LeavingReason | None:
    """Why this generation leaves, from `word`; None if it has recorded no reason."""
    return _LEAVINGS.get(word & 0xFF) if word >> 8 == generation else None


def group_word(pgid: int, start_ticks: int) -> int:
    """The word for a process group: its `pgid` (0: none) and `start_ticks`, the start time of its leader."""
    return pgid << 40 | start_ticks if pgid else 0


def group_of(word: int) -> tuple[int, int] | None:
    """The process group in `word` as (pgid, start ticks of its leader); None if there is none."""
    return (word >> 40, word & (1 << 40) - 1) if word else None
