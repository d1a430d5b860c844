"""Durations and sizes: what people write is understood, what they mistype is explained."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.quantities import read_bytes, read_seconds, show_bytes, show_seconds


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("7d", 604800.0),
        ("1h30m", 5400.0),
        ("1m 30s", 90.0),
        (" 2 S ", 2.0),
        ("0.5s", 0.5),
        (15, 15.0),
        (0.25, 0.25),
        (0, 0.0),
        ("0s", 0.0),
    ],
)
def test_a_duration_is_read_in_seconds(written: object, seconds: float) -> None:
    assert read_seconds(written) == pytest.approx(seconds)


@pytest.mark.parametrize("written", ["", "30", "s", "-1s", "1,5s", "s30", True, None, [], "1s;", "٣s"])
def test_what_is_no_duration_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ValueError, match='write "250ms"'):
        read_seconds(written)


@pytest.mark.parametrize("written", [-1, -0.5, float("nan"), float("inf"), "9" * 400 + "s"])
def test_a_duration_is_finite_and_not_negative(written: object) -> None:
    with pytest.raises(ValueError, match="must"):
        read_seconds(written)


def test_an_unknown_unit_of_time_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown unit 'e'"):
        read_seconds("1e3s")
    with pytest.raises(ValueError, match="unknown unit 'min': use one of ms, s, m, h, d"):
        read_seconds("5min")


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("256MiB", 256 * 1024**2),
        ("1GiB", 1024**3),
        ("1.5 GiB", 1024**3 * 3 // 2),
        ("500kB", 500_000),
        ("2tb", 2 * 10**12),
        ("12B", 12),
        (1024, 1024),
        (0, 0),
    ],
)
def test_a_size_is_read_in_bytes(written: object, size: int) -> None:
    assert read_bytes(written) == size


@pytest.mark.parametrize("written", ["", "256", "MiB", "-1MiB", True, 1.5, None, "1MiB2KiB"])
def test_what_is_no_size_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ValueError, match='write "256MiB"'):
        read_bytes(written)


def test_a_unit_that_could_mean_two_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown unit 'm': use one of B, kB"):
        read_bytes("256M")


def test_a_size_is_not_negative() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        read_bytes(-1)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (0.0004, "0.4ms"),
        (1.25, "1.25s"),
        (59.9999, "59.999s"),
        (60, "1m"),
        (90.7, "1m30s"),
        (3600, "1h"),
        (86_400 + 61, "1d"),
        (7 * 86_400, "7d"),
        (7 * 86_400 + 3 * 3600 + 59, "7d3h"),
        (-90, "-1m30s"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds: float, shown: str) -> None:
    assert show_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (1536, "1.5KiB"), (256 * 1024**2, "256MiB"), (3 * 1024**4, "3TiB")],
)
def test_a_size_is_shown_in_the_largest_unit_it_fills(size: int, shown: str) -> None:
    assert show_bytes(size) == shown


@given(st.floats(min_value=0.001, max_value=10**8))
def test_what_is_shown_is_read_back_rounded_down_by_less_than_a_unit(seconds: float) -> None:
    read = read_seconds(show_seconds(seconds))
    assert read == pytest.approx(seconds, rel=0.05)


@given(st.integers(min_value=0, max_value=2**50))
def test_a_shown_size_is_read_back_within_its_rounding(size: int) -> None:
    assert read_bytes(show_bytes(size)) == pytest.approx(size, rel=0.06)
