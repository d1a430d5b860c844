"""Facts about the entries of the index: nothing that was put into chunks and filters is missed there."""

from __future__ import annotations

import random

import pytest

from supervisor.ledger import entries
from supervisor.ledger.base import Damaged
from supervisor.ledger.entries import chunk_count, chunk_of, entry, fingerprints, in_chunks, pack, passing, probes

RNG = random.Random(7)
KEYS = [RNG.randbytes(24) for _ in range(4096)]
LEVELS = range(4)


def test_keys_of_one_id_have_one_fingerprint_and_others_have_others() -> None:
    id = RNG.randbytes(16)
    assert len(set(fingerprints([id + RNG.randbytes(8) for _ in range(10)]))) == 1
    assert len(set(fingerprints(KEYS))) == len(KEYS)
    assert max(fingerprints([b"\xff" * 24])) == 2**entries.FINGERPRINT_BITS - 1
    assert fingerprints([]) == []


@pytest.mark.parametrize("level", LEVELS)
def test_every_entry_is_in_the_chunk_of_its_fingerprint_with_its_record(level: int) -> None:
    first_seq = 3 * 2**28 - 2000  # its records' numbers outgrow what an entry has room for
    known = dict(zip(fingerprints(KEYS), range(first_seq, first_seq + len(KEYS)), strict=True))
    made = sorted(entry(fingerprint, seq) for fingerprint, seq in known.items())
    chunks = {number: pack(some) for number, some in in_chunks(made, level, 0, chunk_count(level))}
    assert sum(len(chunk) for chunk in chunks.values()) == 8 * len(KEYS)
    for fingerprint, seq in known.items():
        chunk = chunks[chunk_of(fingerprint, level)]
        assert list(entries.records_of(fingerprint, chunk, first_seq)) == [seq]


def test_all_records_of_a_fingerprint_are_found_and_none_of_its_neighbours() -> None:
    chunk = pack([entry(6, 3), entry(7, 1), entry(7, 4), entry(8, 2)])
    assert list(entries.records_of(7, chunk, 1)) == [1, 4]
    assert list(entries.records_of(5, chunk, 1)) == list(entries.records_of(9, chunk, 1)) == []


@pytest.mark.parametrize("level", LEVELS)
def test_every_entry_passes_its_filter_and_few_others_do(level: int) -> None:
    known = fingerprints(KEYS)
    bits = entries.filter_of((entry(fingerprint, 1) for fingerprint in known), level, 0, chunk_count(level))
    assert passing(probes(known, level), bits) == known
    unknown = fingerprints([RNG.randbytes(24) for _ in range(10_000)])
    assert len(passing(probes(unknown, level), bits)) < 100


def test_a_filter_made_in_parts_is_the_one_made_at_once() -> None:
    level, count = 1, chunk_count(1)
    made = sorted(entry(fingerprint, 1) for fingerprint in fingerprints(KEYS))
    shares = dict(in_chunks(made, level, 0, count))
    parts = [entries.filter_of(shares.get(number, ()), level, number, 1) for number in range(count)]
    assert b"".join(parts) == entries.filter_of(made, level, 0, count)


def test_a_chunk_that_was_cut_is_not_read_as_another() -> None:
    with pytest.raises(Damaged):
        entries.unpack(pack([1, 2, 3])[:-3])
