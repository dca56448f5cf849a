"""The dry run: the same path, nothing written."""

from __future__ import annotations

import asyncio
from pathlib import Path

from migrator.archive import Archive, Outcome, State, Work, open_archive, open_dry
from migrator.plan import dry_run
from migrator.plan.dry_run import LARGEST, Sampled
from migrator.pull.fetch import Fetcher
from migrator.pull.options import RunResult
from migrator.sources.kayako.source import KayakoSource
from tests.pull.doubles import Desk, pull, states


def work(number: int, size: int = 10) -> Work:
    return Work(number, 1, size, "name", 0)


class Fetching:
    """Fetches at once, with one outcome for all, in fake seconds."""

    def __init__(self, state: State = State.STORED) -> None:
        self.state = state
        self.fetched: list[int] = []

    async def __call__(self, asked: Work) -> Outcome:
        self.fetched.append(asked.id)
        return Outcome(asked.id, self.state, received=asked.declared_size)


def sample(sampled: Sampled, works: list[Work]) -> list[Outcome | None]:
    """Hand attachments to a sample, one after the other."""

    async def main() -> list[Outcome | None]:
        return [await sampled(one) for one in works]

    return asyncio.run(main())


def test_a_sample_fetches_a_few_and_settles_none() -> None:
    """The answer is always None, so that no row is changed."""
    fetching = Fetching()
    sampled = Sampled(fetching, limit=3)
    assert sample(sampled, [work(number) for number in range(9)]) == [None] * 9
    assert fetching.fetched == [0, 1, 2]
    assert (sampled.meter.calls, sampled.meter.bytes) == (3, 30)


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
    assert (len(fetching.fetched), sampled.meter.calls) == (2, 0)


def test_a_sample_of_a_sample_measures_nothing() -> None:
    """A fetch that decides not to fetch is no measurement."""

    async def nothing(_: Work) -> None:
        return None

    sampled = Sampled(nothing)
    sample(sampled, [work(1)])
    assert sampled.meter.calls == 0


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
    sampled = Sampled(Fetcher(KayakoSource(desk), archive.blobs, None), limit=2)
    return pull(desk, archive, fetch=sampled, kind="plan"), sampled


def test_a_dry_run_of_a_fresh_helpdesk_creates_nothing(tmp_path: Path) -> None:
    """Everything is listed, a sample fetched, and not even the directory appears."""
    root = tmp_path / "archive"
    desk = Desk(5)
    with open_dry(root) as archive:
        result, sampled = plan(desk, archive)
        assert set(states(archive).values()) == {"pending"}
        assert result.counts[State.PENDING].n == 5
    assert len(desk.asked("fetch")) == sampled.meter.calls == 2
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
    assert len(fetching.fetched) == dry_run.SAMPLE <= 50
