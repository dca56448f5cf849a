"""A good guest: bounded, evenly spaced, and quiet when asked to be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from migrator.kayako.pace import Pacer


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let the others run, then be at the end of the wait."""
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)


def starts(
    pacer: Pacer,
    clock: Clock,
    requests: int,
    during: Callable[[int], Awaitable[None]] | None = None,
) -> list[float]:
    """Make requests at once; gives the seconds after which each started."""
    begun = clock()
    found: list[float] = []

    async def one(number: int) -> None:
        async with pacer.slot():
            found.append(clock() - begun)
            if during:
                await during(number)

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(requests)))

    asyncio.run(main())
    return found


@pytest.mark.parametrize("concurrency", [1, 3])
def test_never_more_at_once(concurrency: int) -> None:
    """There are never more requests at once than allowed, and as many as allowed."""
    running, most = 0, 0

    async def during(_number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1

    clock = Clock()
    assert len(starts(Pacer(concurrency, clock=clock, sleep=clock.sleep), clock, 10, during)) == 10
    assert most == concurrency


def test_a_failed_request_gives_its_slot_back() -> None:
    """A slot is free again after an exception and after a cancellation."""

    async def main() -> None:
        pacer = Pacer(1)
        for error in (ValueError, asyncio.CancelledError):
            with pytest.raises(error):
                async with pacer.slot():
                    raise error
        async with asyncio.timeout(5), pacer.slot():
            pass

    asyncio.run(main())


def test_no_limit_means_no_wait() -> None:
    """Without a limit per second nothing waits."""
    clock = Clock()
    assert starts(Pacer(8, clock=clock, sleep=clock.sleep), clock, 20) == [0.0] * 20


@pytest.mark.parametrize("concurrency", [1, 8])
def test_starts_are_spaced_evenly(concurrency: int) -> None:
    """With a limit per second requests start one by one, never in a burst."""
    clock = Clock()
    pacer = Pacer(concurrency, 4.0, clock=clock, sleep=clock.sleep)
    assert starts(pacer, clock, 9) == [number / 4 for number in range(9)]


def test_idle_time_is_not_saved_up() -> None:
    """A pause does not entitle to a burst afterwards."""
    clock = Clock()
    pacer = Pacer(8, 4.0, clock=clock, sleep=clock.sleep)
    starts(pacer, clock, 1)
    clock.now += 60
    assert starts(pacer, clock, 3) == [0.0, 0.25, 0.5]


def test_hold() -> None:
    """During a hold no request starts."""
    clock = Clock()
    pacer = Pacer(2, clock=clock, sleep=clock.sleep)
    pacer.hold(30.0)
    assert starts(pacer, clock, 4) == [30.0] * 4


def test_hold_is_spaced_afterwards() -> None:
    """After a hold requests start evenly again."""
    clock = Clock()
    pacer = Pacer(8, 2.0, clock=clock, sleep=clock.sleep)
    pacer.hold(30.0)
    assert starts(pacer, clock, 3) == [30.0, 30.5, 31.0]


def test_hold_of_those_who_wait() -> None:
    """A hold that comes while requests wait for their turn holds them too."""
    clock = Clock()
    pacer = Pacer(8, 2.0, clock=clock, sleep=clock.sleep)

    async def during(number: int) -> None:
        if number == 0:
            pacer.hold(10.0)

    assert starts(pacer, clock, 3, during) == [0.0, 10.0, 10.5]


def test_the_longest_hold_counts() -> None:
    """A shorter hold does not end a longer one."""
    clock = Clock()
    pacer = Pacer(2, clock=clock, sleep=clock.sleep)
    pacer.hold(30.0)
    pacer.hold(1.0)
    assert starts(pacer, clock, 1) == [30.0]
