"""A good guest: bounded, evenly spaced, and quiet when asked to be."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from migrator.errors import Interrupted, SourceDown
from migrator.events import Event, Notice, PaceChanged, Paused, Slow
from migrator.hours import Halt, Rate
from migrator.pull.options import Stop
from migrator.sources import pace
from migrator.sources.pace import GOOD_IN_A_ROW, STEP_EVERY, Latency, Pacer, Throttle


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


def test_a_long_hold_is_told_once() -> None:
    """Who watches a run that stands still learns why; a short pause is nobody's business."""
    heard: list[Event] = []
    clock = Clock()
    pacer = Pacer(2, clock=clock, sleep=clock.sleep, listener=heard.append)
    for seconds in (5.0, 30.0, 31.0, 29.0):
        pacer.hold(seconds)
    assert [one.text for one in heard if isinstance(one, Notice)] == [
        "the source asks for a pause: no request for 30 s"
    ]


# How many at once, by what the server bears


class Server:
    """Requests one after the other, at a clock that only we move; remembers every change."""

    def __init__(self, concurrency: int = 8) -> None:
        self.clock = Clock()
        self.heard: list[Event] = []
        self.pacer = Pacer(
            concurrency, clock=self.clock, sleep=self.clock.sleep, listener=self.heard.append
        )

    async def ask(
        self, seconds: float = 0.0, kind: str = "list", *, overloaded: bool = False
    ) -> None:
        """Make a request that takes so long to its head."""
        async with self.pacer.slot() as slot:
            self.clock.now += seconds
            if overloaded:
                slot.overloaded()
            else:
                slot.answered(kind)

    def asked(self, times: int, seconds: float = 0.0, kind: str = "list") -> int:
        """Make several; gives the limit after them."""

        async def main() -> None:
            for _ in range(times):
                await self.ask(seconds, kind)

        asyncio.run(main())
        return self.pacer.limit

    def overload(self) -> int:
        """Fail once, some time after the last failure; gives the limit after it."""
        self.clock.now += STEP_EVERY
        asyncio.run(self.ask(overloaded=True))
        return self.pacer.limit


def test_trouble_halves_and_good_answers_add() -> None:
    """The number at once halves down to one, and comes back one by one, no further."""
    server = Server(8)
    assert [server.overload() for _ in range(4)] == [4, 2, 1, 1]
    assert [server.asked(GOOD_IN_A_ROW) for _ in range(9)] == [2, 3, 4, 5, 6, 7, 8, 8, 8]
    down = [PaceChanged(limit, 8, "overloaded") for limit in (4, 2, 1)]
    up = [PaceChanged(limit, 8, "recovered") for limit in range(2, 9)]
    assert server.heard == down + up


def test_trouble_in_between_begins_the_row_anew() -> None:
    """Only answers in a row without trouble give a request back."""
    server = Server(2)
    server.overload()
    assert server.asked(GOOD_IN_A_ROW - 1) == 1
    server.overload()
    assert server.asked(GOOD_IN_A_ROW - 1) == 1
    assert server.asked(1) == 2


def test_a_bad_second_halves_once() -> None:
    """However many requests fail within a second, they are one step."""
    server = Server(8)

    async def main() -> None:
        for _ in range(20):
            await server.ask(STEP_EVERY / 25, overloaded=True)

    server.overload()
    asyncio.run(main())
    assert server.pacer.limit == 4


def test_requests_of_the_same_moment_fail_together() -> None:
    """Timeouts of requests that ran side by side are one step, however far apart they end."""
    server = Server(8)

    async def one(end: float) -> None:
        async with server.pacer.slot() as slot:
            await asyncio.sleep(0)
            server.clock.now = max(server.clock.now, 1000 + end)
            slot.overloaded()

    async def main() -> None:
        await asyncio.gather(*(one(60.0 + 2 * number) for number in range(8)))

    asyncio.run(main())
    assert server.heard == [PaceChanged(4, 8, "overloaded")]


def test_an_answer_of_the_load_before_counts_for_nothing() -> None:
    """What was asked before a step says neither that it was enough nor that it was too much."""
    server = Server(2)

    async def main() -> None:
        async with server.pacer.slot() as before:
            server.clock.now += 1
            await server.ask(overloaded=True)
            for _ in range(2 * GOOD_IN_A_ROW):
                before.answered("list")

    asyncio.run(main())
    assert server.pacer.limit == 1


def test_a_lower_limit_holds_for_those_who_wait() -> None:
    """Requests in flight go on; no other starts until fewer than the new limit are left."""
    most: list[int] = []

    async def main() -> None:
        server = Server(4)
        pacer, running = server.pacer, 0

        async def one(number: int) -> None:
            nonlocal running
            async with pacer.slot() as slot:
                running += 1
                await asyncio.sleep(0)
                if number == 0:
                    slot.overloaded()
                await asyncio.sleep(0)
                if number >= 4:
                    most.append(running)
                running -= 1

        await asyncio.gather(*(one(number) for number in range(12)))

    asyncio.run(main())
    assert (len(most), max(most)) == (8, 2)


def test_a_higher_limit_lets_those_who_wait_in() -> None:
    """A request that waits starts as soon as one more may be in flight."""

    async def main() -> int:
        server = Server(2)
        server.clock.now += 1
        await server.ask(overloaded=True)
        for _ in range(GOOD_IN_A_ROW - 1):
            await server.ask()
        async with server.pacer.slot() as slot:
            waiting = asyncio.create_task(server.ask())
            await asyncio.sleep(0)
            slot.answered("list")
            await waiting
        return server.pacer.limit

    assert asyncio.run(main()) == 2


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_who_gives_up_waiting_leaves_no_gap(steps: int) -> None:
    """A request that is cancelled before or while it is let in takes no slot along."""

    async def main() -> None:
        pacer = Pacer(1)
        async with pacer.slot():
            first = asyncio.create_task(_use(pacer))
            second = asyncio.create_task(_use(pacer))
            await asyncio.sleep(0)
            if steps == 1:
                first.cancel()
                await asyncio.sleep(0)
            elif steps == 2:
                first.cancel()
        if steps == 3:
            first.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait([first])
            await second
            await _use(pacer)
        assert first.cancelled()

    asyncio.run(main())


async def _use(pacer: Pacer) -> None:
    async with pacer.slot():
        await asyncio.sleep(0)


# Slowness


def test_a_server_that_becomes_slow_gets_less() -> None:
    """Far slower than at its best for a while: one less, again and again, down to one."""
    server = Server(3)
    server.asked(50, 0.2)
    assert server.asked(5, 5.0) == 2
    assert server.asked(3, 5.0) == 2  # the new load is judged by its own answers
    assert server.asked(20, 5.0) == 1
    assert server.heard == [PaceChanged(2, 3, "slow"), PaceChanged(1, 3, "slow")]
    assert server.asked(100, 0.2) == 3


def test_single_slow_answers_are_no_slowness() -> None:
    """A call that ran the helpdesk's due tasks takes a minute, and says nothing of the load."""
    server = Server(8)
    for _ in range(20):
        server.asked(30, 0.2)
        server.asked(1, 60.0)
    assert server.heard == []


def test_an_answer_within_a_second_is_never_slow() -> None:
    """Twenty times its best is fine where the best is next to nothing."""
    server = Server(8)
    server.asked(50, 0.01)
    assert server.asked(200, 0.9) == 8


def test_a_server_that_always_was_slow_is_left_alone() -> None:
    """Slow by itself is not slower than at its best."""
    assert Server(8).asked(200, 20.0) == 8


def test_kinds_of_requests_are_judged_apart() -> None:
    """A page of tickets may take long where an attachment does not."""
    server = Server(8)
    for _ in range(100):
        server.asked(1, 0.1, "attachment")
        server.asked(1, 8.0, "page")
    assert server.heard == []


def test_a_few_answers_are_judged_by_nobody() -> None:
    """What is asked two or three times in a run has no best."""
    server = Server(8)
    server.asked(1, 0.1)
    assert server.asked(Latency.FIRST - 2, 30.0) == 8


def test_a_server_that_stays_slow_is_not_held_back_for_ever() -> None:
    """After some thousand answers slow is what this server is, and all requests come back."""
    server = Server(4)
    server.asked(50, 0.5)
    assert server.asked(100, 6.0) == 1
    assert server.asked(4000, 6.0) == 4


def test_slow_answers_give_nothing_back() -> None:
    """A server that is slow with a single request at a time does not get more of them."""
    server = Server(2)
    server.asked(50, 0.2)
    assert server.asked(200, 5.0) == 1


# The gate


def test_a_closed_gate_holds_all_but_the_urgent() -> None:
    """Nobody passes, not even who has a slot already, but the one who looks for the server."""

    async def main() -> None:
        pacer = Pacer(1)
        opened = asyncio.Event()

        async def wait() -> None:
            await opened.wait()

        async with pacer.slot():
            inside = asyncio.create_task(_use(pacer))
            await asyncio.sleep(0)
            pacer.close_until(asyncio.create_task(wait()))
        outside = asyncio.create_task(_use(pacer))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not inside.done()
        assert not outside.done()
        async with asyncio.timeout(5):
            async with pacer.slot(urgent=True):
                pass
            opened.set()
            await asyncio.gather(inside, outside)

    asyncio.run(main())


def test_a_gate_that_fails_tells_all() -> None:
    """Who waits at the gate, and who comes later, gets the error that closed it for good."""

    async def fail() -> None:
        raise SourceDown("gone")

    async def main() -> None:
        pacer = Pacer(2)
        pacer.close_until(asyncio.create_task(fail()))
        found = await asyncio.gather(*(_use(pacer) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in found] == [SourceDown] * 3
        async with asyncio.timeout(5):
            with pytest.raises(SourceDown):
                await _use(pacer)

    asyncio.run(main())


def test_the_urgent_keep_to_a_hold() -> None:
    """A server that asked for a pause is not looked for during it."""
    clock = Clock()

    async def main() -> float:
        pacer = Pacer(1, clock=clock, sleep=clock.sleep)
        pacer.hold(30.0)
        assert pacer.held == 30.0
        async with pacer.slot(), pacer.slot(urgent=True):
            assert pacer.held == 0.0
            return clock()

    assert asyncio.run(main()) == 1030.0


def test_adapting_keeps_the_spacing() -> None:
    """However many may be in flight, starts stay evenly spaced."""
    clock = Clock()
    pacer = Pacer(8, 4.0, clock=clock, sleep=clock.sleep)
    clock.now += 1
    found: list[float] = []

    async def one(number: int) -> None:
        async with pacer.slot() as slot:
            found.append(clock())
            if number % 5 == 0:
                slot.overloaded()
            else:
                slot.answered("list")

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(40)))

    asyncio.run(main())
    assert pacer.limit < 8
    assert [b - a for a, b in itertools.pairwise(found)] == [0.25] * 39


def test_outside_of_a_window_no_request_starts() -> None:
    """It is told once, why and until when; a probe waits as well, and what runs goes on."""
    clock, told = Clock(), list[Event]()
    opens = clock.now + 3600.5

    def halted() -> Halt | None:
        left = opens - clock.now
        return Halt("quiet_hours", "waiting until Mon 19:00", left) if left > 0 else None

    pacer = Pacer(2, clock=clock, sleep=clock.sleep, listener=told.append, halted=halted)

    async def probe() -> float:
        async with pacer.slot(urgent=True):
            return clock.now

    assert asyncio.run(probe()) >= opens
    opens = clock.now + 3600.5
    assert min(starts(pacer, clock, 4)) >= 3600.5
    quiet = Paused(3600.5, asked=True, reason="quiet_hours")
    once = [Notice("waiting until Mon 19:00"), quiet, Paused(0.0), Notice("going on")]
    assert told == once * 2


def test_a_window_that_opens_earlier_is_seen() -> None:
    """A clock that is put forward, or somebody who resumes: within a second it goes on."""
    clock = Clock()
    halts = iter([Halt("paused", "paused by a", None)] * 3)
    pacer = Pacer(1, clock=clock, sleep=clock.sleep, halted=lambda: next(halts, None))
    assert starts(pacer, clock, 1) == [3.0]


def test_a_wait_for_a_window_ends_when_it_is_asked_to_stop() -> None:
    """Ctrl-C need not wait for the evening."""

    async def main() -> None:
        stop = Stop()
        halt = Halt("quiet_hours", "waiting until Mon 19:00", 36_000.0)
        pacer = Pacer(1, sleep=stop.sleep, halted=lambda: halt)
        asyncio.get_running_loop().call_later(0.01, stop.ask)
        async with asyncio.timeout(5):
            with pytest.raises(Interrupted):
                await pacer.enter(urgent=False)

    asyncio.run(main())


def spent(rate: Rate, clock: Clock, readers: int, blocks: int, size: int) -> list[float]:
    """Read blocks with some readers; gives when each was paid for, in seconds."""
    begun, found = clock(), list[float]()

    async def main() -> None:
        throttle = Throttle(rate, clock=clock, sleep=clock.sleep)

        async def read() -> None:
            for _ in range(blocks):
                await throttle.spend(size)
                found.append(clock() - begun)

        await asyncio.gather(*(read() for _ in range(readers)))

    asyncio.run(main())
    return found


@pytest.mark.parametrize(
    ("rate", "size"), [(1, 1), (1, 500), (200 << 10, 65_536), (5 << 20, 1 << 18), (10**9, 1 << 18)]
)
@pytest.mark.parametrize("readers", [1, 8])
def test_bytes_come_as_slowly_as_wanted(rate: int, size: int, readers: int) -> None:
    """All readers together get the rate, from a byte to a gigabyte a second, and none in bursts."""
    blocks = max(20, rate // size // 4)
    blocks = min(blocks, 1000)
    found = spent(lambda: rate, Clock(), readers, blocks, size)
    took = readers * blocks * size / rate
    # A wait that is too short for a timer is left to the next, and readers hold a block each.
    least = readers * size / rate + 0.02
    assert took - least <= found[-1] <= took + 0.02
    for number, moment in enumerate(sorted(found), 1):
        assert moment >= number * size / rate - least


def test_a_rate_may_change_while_somebody_waits() -> None:
    """A byte a second until five, then none is too many; back at one, nothing was saved up."""
    clock = Clock()
    begun = clock.now

    def rate() -> float:
        second = clock.now - begun
        return 1 if second < 5 or second >= 20 else 0

    assert spent(rate, clock, 1, 1, 3600) == [pytest.approx(5, abs=1.1)]
    clock.now = begun + 20
    assert spent(rate, clock, 1, 2, 10)[-1] == pytest.approx(20, abs=0.2)


def test_a_request_that_takes_long_is_told_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it is, whose file it is for and what of it came; a quick one never is."""
    monkeypatch.setattr(pace, "SLOW", 0.03)
    monkeypatch.setattr(pace, "GLANCE", 0.01)
    told: list[Event] = []
    pacer = Pacer(2, listener=told.append)

    async def main() -> None:
        async with pacer.slot("a quick one"):
            pass
        with pace.for_file("a.pdf"):
            async with pacer.slot("a file") as slot:
                slot.received, slot.size = 7, 9
                while len(told) < 3:
                    async with pacer.slot("a quick one"):
                        await asyncio.sleep(0.001)
        async with pacer.slot("a list"):
            for _ in range(1000):
                await asyncio.sleep(0.001 if told[-1] == Slow() else 0)

    asyncio.run(asyncio.wait_for(main(), 10))
    assert all(isinstance(one, Slow) and len(one.requests) < 2 for one in told)
    found = [request for one in told if isinstance(one, Slow) for request in one.requests]
    assert {(one.what, one.name, one.received, one.size) for one in found} == {
        ("a file", "a.pdf", 7, 9),
        ("a list", "", 0, 0),
    }
    assert min(one.seconds for one in found) >= 0.03
    assert told[-1] == Slow()
