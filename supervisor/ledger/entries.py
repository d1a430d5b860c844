"""What the ledger's index is made of: one 64-bit number a row, and filters that tell which runs cannot have it. Pure.

An entry is a fingerprint (the first 36 bits of a message's id, which is a digest: evenly spread) and the record that
has the row. It says where to look, never what is so: the record itself decides, so two ids of one fingerprint, rows
since replaced and records since forgotten all do no harm. A run is the sorted entries of many rows. It lies in chunks,
each of an equal share of all fingerprints, some 128 entries; so merging runs goes chunk by chunk. With each chunk goes
a block of a Bloom filter: 16 bits an entry, three of them set for each.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence

from supervisor.ledger.base import Damaged

FINGERPRINT_BITS = 36
_SEQ_BITS = 64 - FINGERPRINT_BITS
_SEQ_MASK = (1 << _SEQ_BITS) - 1
"""A record's number is kept up to 268 million, and completed from the run's first: a run of two million rows spans some
eight million records at most."""

_FIRST_CHUNK_BITS = 5
MERGE_BITS = 3
"""A run of the next level is made of 2 ** MERGE_BITS of one, and has as many times their chunks."""

_BLOCK_BITS = 11
_IN_BLOCK = (1 << _BLOCK_BITS) - 1
_WORD_BYTES = 8
_WORDS_A_KEY = 3

Probe = tuple[int, int, int, int]
"""A fingerprint, the first bit of its block in a filter, and where the first of its own three is: byte and mask."""


def fingerprints(keys: Collection[bytes]) -> list[int]:
    """Those of `keys`, of 24 bytes each, in their order."""
    words = struct.unpack(f"<{_WORDS_A_KEY * len(keys)}Q", b"".join(keys))
    return [word >> _SEQ_BITS for word in words[::_WORDS_A_KEY]]


def entry(fingerprint: int, seq: int) -> int:
    """The entry of a row with this `fingerprint` in the record `seq`."""
    return (fingerprint << _SEQ_BITS) | (seq & _SEQ_MASK)


def chunk_count(level: int) -> int:
    """How many chunks a run of this `level` has."""
    return 1 << _chunk_bits(level)


def chunk_of(fingerprint: int, level: int) -> int:
    """The chunk of a run of this `level` that has this `fingerprint` if any has."""
    return fingerprint >> (FINGERPRINT_BITS - _chunk_bits(level))


def pack(entries: Sequence[int]) -> bytes:
    """The chunk of these sorted `entries`."""
    return struct.pack(f"<{len(entries)}Q", *entries)


def unpack(chunk: bytes) -> tuple[int, ...]:
    """The entries of `chunk`. Raises Damaged."""
    try:
        return struct.unpack(f"<{len(chunk) // _WORD_BYTES}Q", chunk)
    except struct.error as error:
        raise Damaged(f"a part of the index cannot be read: {error}") from error


def records_of(fingerprint: int, chunk: bytes, first_seq: int) -> Iterator[int]:
    """The records with rows of `fingerprint` that the `chunk` of a run names; `first_seq`: the run's first record."""
    entries = unpack(chunk)
    end = (fingerprint + 1) << _SEQ_BITS
    for place in range(bisect_left(entries, fingerprint << _SEQ_BITS), len(entries)):
        if entries[place] >= end:
            return
        yield first_seq + ((entries[place] - first_seq) & _SEQ_MASK)


def in_chunks(entries: Sequence[int], level: int, first: int, count: int) -> Iterator[tuple[int, Sequence[int]]]:
    """Sorted `entries` that belong into `count` chunks of this `level` from number `first`, by chunk; empty ones are
    left out."""
    shift = 64 - _chunk_bits(level)
    start = 0
    for number in range(first, first + count):
        end = bisect_left(entries, (number + 1) << shift, start)
        if end > start:
            yield number, entries[start:end]
        start = end


def filter_of(entries: Iterable[int], level: int, first: int, count: int) -> bytes:
    """The blocks of the filter for `count` chunks of this `level` from number `first`, whose `entries` these are."""
    shift, before = FINGERPRINT_BITS - _chunk_bits(level), first << _BLOCK_BITS
    flags = bytearray(count << _BLOCK_BITS)  # a byte for each bit: setting bits in place would take half as long again
    for number in entries:
        fingerprint = number >> _SEQ_BITS
        block = ((fingerprint >> shift) << _BLOCK_BITS) - before
        flags[block | (fingerprint & _IN_BLOCK)] = 1
        flags[block | ((fingerprint >> _BLOCK_BITS) & _IN_BLOCK)] = 1
        flags[block | _third(fingerprint)] = 1
    bits = sum(int.from_bytes(flags[bit::8], "little") << bit for bit in range(8))
    return bits.to_bytes((count << _BLOCK_BITS) >> 3, "little")


def filter_bytes(level: int) -> int:
    """How long the filter of a run of this `level` is."""
    return (chunk_count(level) << _BLOCK_BITS) >> 3


def probes(fingerprints: Iterable[int], level: int) -> list[Probe]:
    """What to ask the filters of this `level` for, to find `fingerprints`."""
    shift = FINGERPRINT_BITS - _chunk_bits(level)
    found: list[Probe] = []
    for fingerprint in fingerprints:
        block = (fingerprint >> shift) << _BLOCK_BITS
        bit = block | (fingerprint & _IN_BLOCK)
        found.append((fingerprint, block, bit >> 3, 1 << (bit & 7)))
    return found


def passing(probes: Iterable[Probe], bits: bytes) -> list[int]:
    """The fingerprints of `probes` that a run with the filter `bits` may have; one in 200 of the others passes, too."""
    return [
        fingerprint
        for fingerprint, block, byte, mask in probes
        if bits[byte] & mask
        and bits[(second := block | ((fingerprint >> _BLOCK_BITS) & _IN_BLOCK)) >> 3] & (1 << (second & 7))
        and bits[(third := block | _third(fingerprint)) >> 3] & (1 << (third & 7))
    ]


def _third(fingerprint: int) -> int:
    return ((fingerprint >> 5) * 7) & _IN_BLOCK


def _chunk_bits(level: int) -> int:
    return _FIRST_CHUNK_BITS + MERGE_BITS * level
