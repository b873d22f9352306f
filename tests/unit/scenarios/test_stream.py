"""Seeded streams: the same byte at the same offset however it is asked for, and every damage is found."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios.stream import CHUNK, Check, Stream

LENGTH = 3 * CHUNK + 1000
WHOLE = Stream(7, "send").bytes(0, LENGTH)


def check(data: bytes, length: int = LENGTH, pieces: int = 10_000) -> Check:
    """Feed a check with data in pieces."""
    checked = Check(Stream(7, "send"), length)
    for start in range(0, len(data), pieces):
        checked.update(memoryview(data)[start : start + pieces])
    return checked


@given(st.integers(0, LENGTH), st.integers(0, 2 * CHUNK))
@settings(max_examples=50, deadline=None)
def test_any_slice_is_the_same(offset, length):
    length = min(length, LENGTH - offset)
    assert Stream(7, "send").bytes(offset, length) == WHOLE[offset : offset + length]


@given(st.integers(500, 3 * CHUNK))
@settings(max_examples=20, deadline=None)
def test_whole_in_any_pieces(pieces):
    checked = check(WHOLE, pieces=pieces)
    assert (checked.first_difference, checked.bytes) == (None, LENGTH)
    assert checked.sha256 == hashlib.sha256(WHOLE).hexdigest()


def test_seeds_and_names_make_other_streams():
    starts = {Stream(seed, name).bytes(0, 64) for seed in (1, 2, 12) for name in ("send", "receive")}
    assert len(starts) == 6


def test_no_chunk_repeats():
    """Whole chunks could be exchanged unseen if two were alike."""
    data = Stream(1, "send").bytes(0, 200 * CHUNK)
    assert len({data[start : start + CHUNK] for start in range(0, len(data), CHUNK)}) == 200


@pytest.mark.parametrize("at", [0, 31, 32, CHUNK - 1, CHUNK, 2 * CHUNK + 17, LENGTH - 1])
def test_one_changed_byte_is_found_at_its_offset(at):
    data = bytearray(WHOLE)
    data[at] ^= 1
    assert check(bytes(data)).first_difference == at


@given(st.integers(0, 2 * CHUNK), st.integers(1, CHUNK))
@settings(max_examples=50, deadline=None)
def test_lost_bytes_are_found(at, count):
    checked = check(WHOLE[:at] + WHOLE[at + count :])
    assert checked.first_difference is not None
    # Not before the gap, and soon after it.
    assert at <= checked.first_difference < at + 64


@given(st.integers(1, 2 * CHUNK), st.integers(1, CHUNK))
@settings(max_examples=50, deadline=None)
def test_repeated_bytes_are_found(at, count):
    again = WHOLE[max(0, at - count) : at]
    checked = check(WHOLE[:at] + again + WHOLE[at:])
    assert checked.first_difference is not None
    assert at <= checked.first_difference < at + 64


def test_swapped_chunks_are_found():
    swapped = WHOLE[CHUNK : 2 * CHUNK] + WHOLE[:CHUNK] + WHOLE[2 * CHUNK :]
    assert check(swapped).first_difference == 0


def test_bytes_after_the_end_are_found():
    assert check(WHOLE + b"x").first_difference == LENGTH
    assert check(WHOLE, length=LENGTH - 1).first_difference == LENGTH - 1


def test_a_short_stream_differs_by_its_count_only():
    checked = check(WHOLE[:-5])
    assert (checked.first_difference, checked.bytes) == (None, LENGTH - 5)
