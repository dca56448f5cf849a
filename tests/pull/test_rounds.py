"""A sync that stays goes on through what passes, and ends at what does not."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from migrator.errors import (
    ArchiveBusy,
    ArchiveDamaged,
    ArchiveUnwritable,
    ConfigError,
    Interrupted,
    MigratorError,
    SafetyLimit,
    ServerFailed,
    SourceRefused,
    SourceUnreachable,
)
from migrator.hours import Hours, windows
from migrator.pull.options import RunResult, Stop
from migrator.pull.sync import repeat


class Rounds:
    """Plays rounds by a clock of its own; ends after the last one by a stop while it sleeps."""

    def __init__(self, *rounds: MigratorError | None, takes: float = 10) -> None:
        self.rounds = rounds
        self.takes = takes
        self.now = 0.0
        self.began: list[float] = []
        self.numbers: list[int] = []
        self.slept: list[float] = []
        self.told: list[tuple[str, str]] = []
        self.raises = False

    async def sync(self, number: int) -> RunResult:
        self.numbers.append(number)
        self.began.append(self.now)
        self.now += self.takes
        error = self.rounds[number]
        if error is not None and self.raises:
            raise error
        return RunResult(ended_by=error)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if len(self.numbers) == len(self.rounds):
            raise Interrupted("stop")

    def tell(self, text: str, level: str = "info") -> None:
        self.told.append((level, text))

    def play(
        self,
        *,
        every: float = 900,
        spread: Callable[[float, float], float] = lambda low, high: (low + high) / 2,
    ) -> Rounds:
        asyncio.run(
            repeat(
                self.sync,
                every=every,
                stop=Stop(),
                tell=self.tell,
                sleep=self.sleep,
                clock=lambda: self.now,
                spread=spread,
            )
        )
        return self


def test_rounds_begin_as_often_as_asked_for() -> None:
    """A round's own time is part of its period; each knows its number."""
    played = Rounds(None, None, None).play()
    assert played.began == [0, 900, 1800]
    assert played.numbers == [0, 1, 2]
    assert played.told == [("info", "the next sync begins in 890 s")] * 3


def test_rounds_do_not_all_begin_at_the_full_hour() -> None:
    """The period is spread by a tenth in both directions."""
    asked: list[tuple[float, float]] = []

    def spread(low: float, high: float) -> float:
        asked.append((low, high))
        return low if len(asked) % 2 else high

    played = Rounds(None, None, None).play(spread=spread)
    assert asked[0] == pytest.approx((0.9, 1.1))
    assert played.began == pytest.approx([0, 810, 810 + 990])


def test_a_round_that_takes_too_long_is_followed_by_a_breath() -> None:
    """Not by the next one at once: the source is slow already."""
    played = Rounds(None, None, takes=5000).play()
    assert played.slept == [90, 90]


@pytest.mark.parametrize("every", [1800, 86_400])
def test_rounds_begin_in_windows_whatever_the_clock_does(every: float) -> None:
    """Also where they are longer than a window, and in the night of summer time; all told true."""
    berlin = ZoneInfo("Europe/Berlin")
    hours = Hours(windows("01:00-02:30, 03:30-04:00"), zone=berlin)
    rounds = Rounds(*[None] * 6)
    rounds.now = datetime(2026, 3, 27, 12, tzinfo=berlin).timestamp()

    async def sleep(seconds: float) -> None:
        # Who waits for a window looks each second: here once a minute is enough.
        await Rounds.sleep(rounds, seconds if seconds > 1 else 60)

    def begins(seconds: float) -> float:
        return hours.opens(rounds.now + seconds) - rounds.now

    asyncio.run(
        repeat(
            rounds.sync,
            every=every,
            stop=Stop(),
            tell=rounds.tell,
            sleep=sleep,
            clock=lambda: rounds.now,
            spread=lambda low, high: (low + high) / 2,
            halted=lambda: hours.halt(rounds.now),
            begins=begins,
        )
    )
    assert all(map(hours.open, rounds.began))
    days = {datetime.fromtimestamp(one, berlin).day for one in rounds.began}
    assert (29 in days, len(days) > 4) == (True, every > 7200)
    told = [float(text.split()[5]) for _, text in rounds.told if "next sync" in text]
    gaps = [later - one - rounds.takes for one, later in itertools.pairwise(rounds.began)]
    assert gaps == pytest.approx(told[:-1], abs=61)


OUTAGES = [SourceUnreachable("no answer"), ServerFailed("HTTP 500")]


@pytest.mark.parametrize("error", OUTAGES)
@pytest.mark.parametrize("raises", [False, True])
def test_an_outage_is_told_and_waited_for(error: MigratorError, *, raises: bool) -> None:
    """From the first round on, however long it takes."""
    rounds = Rounds(error, error, None, error, None)
    rounds.raises = raises
    played = rounds.play()
    assert played.numbers == [0, 1, 2, 3, 4]
    warnings = [text for level, text in played.told if level == "warning"]
    assert warnings == [f"round {number}: {error}" for number in (1, 2, 4)]


@pytest.mark.parametrize("error", [ArchiveBusy("held by run"), SourceRefused("bad key")])
def test_what_may_be_a_mistake_ends_only_the_first_round(error: MigratorError) -> None:
    """Later it is another run at work, or maintenance of the source."""
    with pytest.raises(type(error)):
        Rounds(error, None).play()
    assert Rounds(None, error, None).play().numbers == [0, 1, 2]


@pytest.mark.parametrize(
    "error",
    [
        ArchiveUnwritable("disk full"),
        ArchiveDamaged("damaged"),
        SafetyLimit("too many deletions"),
        ConfigError("no such department"),
        Interrupted("stopped"),
    ],
)
def test_what_no_waiting_helps_against_ends_all_rounds(error: MigratorError) -> None:
    """With that very error, in any round."""
    rounds = Rounds(None, error, None)
    with pytest.raises(type(error)):
        rounds.play()
    assert rounds.numbers == [0, 1]


def test_a_stop_between_two_rounds_is_a_clean_end() -> None:
    """Without a sleep of the test's own, `repeat` sleeps until asked to stop."""
    stop = Stop()
    numbers: list[int] = []

    async def sync(number: int) -> RunResult:
        numbers.append(number)
        asyncio.get_running_loop().call_soon(stop.ask)
        return RunResult()

    async def main(done: Callable[[int], Awaitable[RunResult]]) -> None:
        await repeat(done, every=3600, stop=stop, tell=lambda text, level="info": None)

    asyncio.run(main(sync))
    assert numbers == [0]
