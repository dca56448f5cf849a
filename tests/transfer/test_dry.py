"""The dry run: the same path, nothing written, and an estimate one can believe."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.archive import Archive, Outcome, State, Work, open_archive, open_dry
from migrator.transfer import dry
from migrator.transfer.dry import LARGEST, Sampled, estimate_seconds
from migrator.transfer.fetch import Fetcher, Tried
from migrator.transfer.result import RunResult, Timing
from tests.transfer.doubles import Desk, pull, states


def work(number: int, size: int = 10) -> Work:
    return Work(number, 1, size, "name", 0)


class Fetching:
    """Fetches at once, with one outcome for all, in fake seconds."""

    def __init__(self, state: State = State.STORED) -> None:
        self.state = state
        self.fetched: list[int] = []

    async def __call__(self, asked: Work) -> Tried:
        self.fetched.append(asked.id)
        return Tried(Outcome(asked.id, self.state), received=asked.declared_size)


def sample(sampled: Sampled, works: list[Work]) -> list[Tried | None]:
    """Hand attachments to a sample, one after the other."""

    async def main() -> list[Tried | None]:
        return [await sampled(one) for one in works]

    return asyncio.run(main())


def test_a_sample_fetches_a_few_and_settles_none() -> None:
    """The answer is always None, so that no row is changed."""
    fetching = Fetching()
    sampled = Sampled(fetching, limit=3)
    assert sample(sampled, [work(number) for number in range(9)]) == [None] * 9
    assert fetching.fetched == [0, 1, 2]
    assert (sampled.timing.calls, sampled.timing.bytes) == (3, 30)


def test_a_sample_passes_over_what_takes_too_long() -> None:
    """A huge attachment is not worth the wait, and uses up none of the sample."""
    fetching = Fetching()
    sample(Sampled(fetching, limit=1), [work(1, LARGEST + 1), work(2, LARGEST), work(3)])
    assert fetching.fetched == [2]


def test_only_what_came_is_measured() -> None:
    """A failure says nothing about the pace, and an endless row of them still ends."""
    fetching = Fetching(State.FAILED)
    sampled = Sampled(fetching, limit=2)
    sample(sampled, [work(number) for number in range(5)])
    assert (len(fetching.fetched), sampled.timing.calls) == (2, 0)


def test_a_sample_of_a_sample_measures_nothing() -> None:
    """A fetch that decides not to fetch is no measurement."""

    async def nothing(_: Work) -> None:
        return None

    sampled = Sampled(nothing)
    sample(sampled, [work(1)])
    assert sampled.timing.calls == 0


# The estimate


def result(seconds: float = 0.0, lists: int = 0, each: float = 0.0) -> RunResult:
    return RunResult(seconds=seconds, lists=Timing(lists, lists * each))


def test_without_a_sample_there_is_no_estimate() -> None:
    """Better none than an invented one."""
    assert estimate_seconds(result(5), Timing(), todo=1, todo_bytes=1, concurrency=1) is None


def test_with_nothing_to_do_it_takes_what_listing_took() -> None:
    """A finished pull is listed again, and that is all."""
    assert estimate_seconds(result(5), Timing(), todo=0, todo_bytes=0, concurrency=8) == 5


def test_requests_and_bytes_both_cost() -> None:
    """100 fetches of 0.1 s latency, and 1 MB at 0.1 MB a second, two at a time."""
    sampled = Timing(calls=10, seconds=10 * 0.1 + 1.0, bytes=100_000)
    known = result(1.0, lists=10, each=0.1)
    got = estimate_seconds(known, sampled, todo=100, todo_bytes=1_000_000, concurrency=2)
    assert got == pytest.approx((100 * 0.1 + 1_000_000 * 1e-5) / 2)


def test_without_lists_the_sample_knows_the_latency() -> None:
    """Leftovers alone have no list to learn from: what a fetch took, a fetch takes."""
    sampled = Timing(calls=10, seconds=2.0, bytes=100)
    got = estimate_seconds(result(), sampled, todo=50, todo_bytes=500, concurrency=1)
    assert got == pytest.approx(10.0)


def test_slow_lists_do_not_make_bytes_free() -> None:
    """Lists slower than fetches leave no negative time for the bytes."""
    sampled = Timing(calls=10, seconds=1.0, bytes=100)
    got = estimate_seconds(
        result(1, lists=1, each=9.0), sampled, todo=2, todo_bytes=10**9, concurrency=1
    )
    assert got == pytest.approx(18.0)


def test_reading_threads_costs_requests() -> None:
    """Each thread to be read is one more request of the latency that lists had."""
    known, sampled = result(1.0, lists=10, each=0.1), Timing(calls=1, seconds=0.1)
    got = estimate_seconds(known, sampled, todo=100, todo_bytes=0, concurrency=2, threads=60)
    assert got == pytest.approx(160 * 0.1 / 2)


TIMINGS = st.builds(Timing, st.integers(1, 50), st.floats(0.001, 100), st.integers(0, 1 << 30))


@settings(deadline=None, max_examples=100)
@given(
    known=st.builds(result, st.floats(0, 1000), st.integers(0, 100), st.floats(0, 10)),
    sampled=TIMINGS,
    todo=st.integers(0, 10**6),
    size=st.integers(0, 10**12),
    concurrency=st.integers(1, 64),
)
def test_more_to_do_never_takes_less(
    known: RunResult, sampled: Timing, todo: int, size: int, concurrency: int
) -> None:
    """Finite, not negative, growing with work and bytes, falling with concurrency."""

    def seconds(todo: int, size: int, concurrency: int) -> float:
        got = estimate_seconds(known, sampled, todo=todo, todo_bytes=size, concurrency=concurrency)
        assert got is not None
        return got

    here = seconds(todo, size, concurrency)
    assert 0 <= here < float("inf")
    assert seconds(todo + 1, size, concurrency) >= here
    assert seconds(todo, size + 1000, concurrency) >= here
    assert seconds(todo, size, concurrency + 1) <= here


# Nothing is written


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    """Give everything below a directory: names, modes and bytes."""
    return {
        str(path.relative_to(root)): (
            path.stat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(root.rglob("*"))
    }


def plan(desk: Desk, archive: Archive) -> tuple[RunResult, Sampled]:
    """Do a dry run."""
    sampled = Sampled(Fetcher(desk, archive.blobs, None), limit=2)
    return pull(desk, archive, fetch=sampled, kind="plan"), sampled


def test_a_dry_run_of_a_fresh_helpdesk_creates_nothing(tmp_path: Path) -> None:
    """Everything is listed, a sample fetched, and not even the directory appears."""
    root = tmp_path / "archive"
    desk = Desk(5)
    with open_dry(root) as archive:
        result, sampled = plan(desk, archive)
        assert set(states(archive).values()) == {"pending"}
        assert result.counts[State.PENDING].n == 5
    assert len(desk.asked("fetch")) == sampled.timing.calls == 2
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_over_an_archive_leaves_it_as_it_was(tmp_path: Path) -> None:
    """Rows, blobs, logs and modes are the same, byte for byte; what is stored is not planned."""
    root = tmp_path / "archive"
    desk = Desk(3)
    with open_archive(root, command="test") as real:
        pull(desk, real)
    before = snapshot(root)
    desk.open(4)
    new = desk.attach(4, b"new")
    desk.delete(1)
    desk.calls.clear()
    with open_dry(root) as archive:
        plan(desk, archive)
        assert states(archive) == {1: "deleted", 2: "stored", 3: "stored", new: "pending"}
    assert snapshot(root) == before
    assert f"fetch {new}" in desk.calls


def test_the_sample_is_small_by_default() -> None:
    """A dry run is a guest for minutes, not for hours."""
    fetching = Fetching()
    sample(Sampled(fetching), [work(number) for number in range(200)])
    assert len(fetching.fetched) == dry.SAMPLE <= 50
