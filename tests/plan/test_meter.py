"""Measuring calls, and an estimate one can believe."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.plan.dry_run import FEW, MOST_WINDOWS, Ahead, Estimate, Meter, estimate


def meter(calls: Iterable[float], size: int = 0) -> Meter:
    """Measure calls that took so many seconds, each of which brought ``size`` bytes."""
    made = Meter()
    for seconds in calls:
        made.add(seconds, size)
    return made


def seconds(lists: Meter, fetches: Meter, ahead: Ahead, **options: float) -> float:
    got = estimate(lists, fetches, ahead, **{"concurrency": 1, **options})  # type: ignore[arg-type]
    assert got is not None
    return got.seconds


def test_windows_are_few_and_hold_every_call() -> None:
    """However many calls, the windows are few, about equal, and add up to all."""
    made = meter([1.0] * 10_000, 3)
    assert 2 <= len(made.windows) <= MOST_WINDOWS
    assert sum(one.calls for one in made.windows) == made.calls == 10_000
    assert sum(one.bytes for one in made.windows) == made.bytes == 30_000
    assert max(one.calls for one in made.windows) == made.size


def test_without_a_measurement_there_is_no_estimate() -> None:
    """Better none than an invented one."""
    assert estimate(Meter(), Meter(), Ahead(5, 0, 0), concurrency=1) is None
    assert estimate(meter([1]), Meter(), Ahead(5, 1, 1), concurrency=1) is None


def test_nothing_to_do_takes_no_time() -> None:
    """An empty helpdesk is moved at once."""
    assert estimate(Meter(), Meter(), Ahead(0, 0, 0), concurrency=8) == Estimate(0, 0, 0)


def test_requests_and_bytes_both_cost() -> None:
    """100 fetches and 20 lists of 0.1 s, and 1 MB at 0.1 MB a second, two at a time."""
    got = seconds(
        meter([0.1] * 10), meter([0.2] * 10, 10_000), Ahead(120, 100, 1_000_000), concurrency=2
    )
    assert got == pytest.approx((120 * 0.1 + 1_000_000 * 1e-5) / 2)


def test_without_lists_the_sample_knows_the_latency() -> None:
    """Leftovers alone have no list to learn from: what a fetch took, a fetch takes."""
    got = seconds(Meter(), meter([0.2] * 10, 10), Ahead(50, 50, 500))
    assert got == pytest.approx(10.0)


def test_slow_lists_do_not_make_bytes_cost_less_than_nothing() -> None:
    """Lists slower than fetches leave no negative time for the bytes."""
    got = seconds(meter([9.0]), meter([0.1] * 10, 10), Ahead(2, 2, 10**9))
    assert got == pytest.approx(18.0)


def test_a_limit_of_requests_a_second_is_a_floor() -> None:
    """1,000 requests at 2 a second take 500 s on the fastest server."""
    got = estimate(meter([0.001] * 9), Meter(), Ahead(1000, 0, 0), concurrency=8, per_second=2.0)
    assert got == Estimate(500, 500, 500)


def test_a_steady_server_has_a_small_spread() -> None:
    """Equal calls leave the least spread that is ever told."""
    got = estimate(meter([0.5] * 100), Meter(), Ahead(100, 0, 0), concurrency=1)
    assert got is not None
    assert (got.low, got.high) == pytest.approx((50 / (1 + FEW), 50 * (1 + FEW)))


def test_a_server_with_slow_hours_has_a_wide_spread() -> None:
    """A walk that was slow for half of its time says that a run may be so, too."""
    quick_then_slow = meter([0.1] * 5000 + [0.3] * 5000)
    mixed = meter([0.1, 0.3] * 5000)
    ahead = Ahead(10_000, 0, 0)
    wide = estimate(quick_then_slow, Meter(), ahead, concurrency=1)
    narrow = estimate(mixed, Meter(), ahead, concurrency=1)
    assert wide is not None
    assert narrow is not None
    assert wide.seconds == pytest.approx(narrow.seconds) == pytest.approx(2000)
    assert wide.low < 1100
    assert wide.high > 3900
    assert narrow.high < 2500


def test_uneven_fetches_widen_what_bytes_may_take() -> None:
    """What bytes cost is less sure where some fetches took far longer than others."""
    even = meter([1.0] * 16, 1000)
    uneven = meter([0.1, 1.9] * 8, 1000)
    lists, ahead = meter([0.05] * 16), Ahead(1000, 1000, 10**6)
    sure = estimate(lists, even, ahead, concurrency=1)
    unsure = estimate(lists, uneven, ahead, concurrency=1)
    assert sure is not None
    assert unsure is not None
    assert sure.seconds == pytest.approx(unsure.seconds)
    assert unsure.high - unsure.low > 2 * (sure.high - sure.low)


METERS = st.lists(st.floats(0.001, 100), min_size=1, max_size=40).map(
    lambda calls: meter(calls, 1000)
)


@settings(deadline=None, max_examples=100)
@given(METERS, METERS, st.integers(0, 10**6), st.integers(0, 10**12), st.integers(1, 64))
def test_more_to_do_never_takes_less(
    lists: Meter, fetches: Meter, todo: int, size: int, concurrency: int
) -> None:
    """Ordered, finite, not negative, growing with work and bytes, falling with concurrency."""

    def expected(todo: int, size: int, concurrency: int) -> Estimate:
        got = estimate(lists, fetches, Ahead(todo, todo, size), concurrency=concurrency)
        assert got is not None
        return got

    here = expected(todo, size, concurrency)
    assert 0 <= here.low <= here.seconds <= here.high < float("inf")
    assert expected(todo + 1, size, concurrency).seconds >= here.seconds
    assert expected(todo, size + 1000, concurrency).seconds >= here.seconds
    assert expected(todo, size, concurrency + 1).seconds <= here.seconds
