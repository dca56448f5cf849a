"""A server that is down is looked for, waited for, and given up in the end; no other is."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from migrator.errors import (
    BadRequest,
    Interrupted,
    NotFound,
    NotXml,
    ServerFailed,
    SourceDown,
    SourceError,
    SourceRefused,
    SourceUnreachable,
    Throttled,
    Truncated,
)
from migrator.events import Event, Notice
from migrator.sources.pace import (
    LONGEST_TRUST,
    MISSES_IN_A_ROW,
    MOST_OUTAGES,
    Breaker,
    Pacer,
    Retrier,
    waits,
)

T = TypeVar("T")


class Source:
    """A server whose every answer we choose, with all that stands before it.

    ``probes`` are the outcomes of the looks, None for an answer; beyond them it is there.
    """

    def __init__(
        self, *probes: Exception | None, patience: float = 600.0, attempts: int = 4
    ) -> None:
        self.left = list(probes)
        self.looks = 0
        self.looked = asyncio.Event()
        self.slept: list[float] = []
        self.heard: list[Event] = []
        self.pacer = Pacer(8, sleep=self.sleep)
        self.breaker = Breaker(
            self.probe,
            self.pacer,
            patience=patience,
            listener=self.heard.append,
            sleep=self.sleep,
        )
        self.retrier = Retrier(attempts, self.pacer, sleep=self.nap, breaker=self.breaker)

    async def probe(self) -> None:
        """Look for the server."""
        self.looks += 1
        self.looked.set()
        await asyncio.sleep(0)
        outcome = self.left.pop(0) if self.left else None
        if outcome is not None:
            raise outcome

    async def sleep(self, seconds: float) -> None:
        """Wait for a server that is gone."""
        self.slept.append(seconds)
        await asyncio.sleep(0)

    async def nap(self, _seconds: float) -> None:
        """Wait between two tries."""
        await asyncio.sleep(0)

    async def fail(self, times: int, error: SourceError | None = None) -> None:
        """Fail so often in a row."""
        for _ in range(times):
            await self.breaker.failed(error or SourceUnreachable("no answer"))

    @property
    def told(self) -> list[str]:
        """The notices."""
        return [event.text for event in self.heard if isinstance(event, Notice)]


def play(story: Callable[[Source], Awaitable[T]], source: Source) -> T:
    """Let a story happen to a source that has answered once, unless it is told otherwise."""

    async def main() -> T:
        source.breaker.answered()
        return await story(source)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("patience", "expected"),
    [
        (600.0, [5.0, 15.0, 45.0, 120.0, 120.0, 120.0, 120.0, 55.0]),
        (20.0, [5.0, 15.0]),
        (3.0, [3.0]),
        (0.0, []),
    ],
)
def test_waits_grow_up_to_the_patience(patience: float, expected: list[float]) -> None:
    """Five seconds, then three times as long each time, to a cap; in sum the patience."""
    assert list(waits(patience)) == expected


@pytest.mark.parametrize(
    "error",
    [
        SourceUnreachable("silent"),
        Throttled("429"),
        ServerFailed("503"),
        NotXml("a page about maintenance"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failures_in_a_row_make_us_look_once(error: SourceError) -> None:
    """Not before so many, then once; a server that is there ends the matter without a word."""

    async def story(source: Source) -> None:
        await source.fail(MISSES_IN_A_ROW - 1, error)
        assert source.looks == 0
        await source.fail(1, error)
        assert (source.looks, source.slept, source.told) == (1, [], [])

    play(story, Source())


@pytest.mark.parametrize("error", [None, NotFound("404"), Truncated("cut")], ids=str)
def test_any_proper_answer_begins_the_row_anew(error: SourceError | None) -> None:
    """Whatever shows that the server is there: a success, a 404, half an attachment."""

    async def story(source: Source) -> None:
        for _ in range(5):
            await source.fail(MISSES_IN_A_ROW - 1)
            if error is None:
                source.breaker.answered()
            else:
                await source.breaker.failed(error)
        assert source.looks == 0

    play(story, Source())


def test_thousands_of_failures_are_looked_into_ever_more_rarely() -> None:
    """A server that is there whenever we look is looked for less and less, up to a cap."""

    async def story(source: Source) -> None:
        await source.fail(10_000)
        assert source.looks <= 10_000 / LONGEST_TRUST + 5
        before = source.looks
        source.breaker.answered()
        await source.fail(MISSES_IN_A_ROW)
        assert source.looks == before + 1  # good answers make us watchful again
        await source.fail(2 * MISSES_IN_A_ROW + 1)
        assert source.looks == before + 2

    play(story, Source())


def test_an_outage_is_sat_out() -> None:
    """Each look is announced with its wait, the waits grow, and the return is told."""
    away = [SourceUnreachable("no answer")] * 3

    async def story(source: Source) -> None:
        await source.fail(MISSES_IN_A_ROW)
        assert source.looks == 4
        assert len(source.slept) == 3
        for wait, longest in zip(source.slept, (5, 15, 45), strict=True):
            assert 0.8 * longest <= wait <= longest
        expected = [
            f"the source does not answer (unreachable); asking again in {wait:.0f} s"
            for wait in source.slept
        ]
        assert source.told == [*expected, "the source answers again; going on"]
        await source.fail(MISSES_IN_A_ROW - 1)
        assert source.looks == 4  # an outage that is over counts for nothing

    play(story, Source(*away))


def test_a_server_that_stays_away_is_given_up() -> None:
    """After the patience all calls, also later ones, get an error that says how to go on."""

    async def story(source: Source) -> None:
        with pytest.raises(SourceDown, match="run the same command again; it resumes") as caught:
            await source.fail(MISSES_IN_A_ROW)
        assert "within 10 min: HTTP 503" in str(caught.value)
        assert sum(source.slept) <= 600
        looks = source.looks
        assert looks == 1 + len(list(waits(600)))
        with pytest.raises(SourceDown):
            await source.fail(MISSES_IN_A_ROW)
        with pytest.raises(SourceDown):
            async with source.pacer.slot():
                pass
        assert source.looks == looks

    play(story, Source(*[ServerFailed("HTTP 503")] * 99))


@pytest.mark.parametrize(
    ("patience", "told"), [(4.0, "4 s"), (90.0, "90 s"), (120.0, "2 min"), (3600.0, "60 min")]
)
def test_the_patience_is_told_as_it_was(patience: float, told: str) -> None:
    """A few seconds are no 0 minutes."""

    async def story(source: Source) -> None:
        with pytest.raises(SourceDown, match=f"within {told}:"):
            await source.fail(MISSES_IN_A_ROW)

    play(story, Source(*[ServerFailed("HTTP 503")] * 99, patience=patience))


def test_without_patience_one_look_decides() -> None:
    """Patience 0 is no wait at all."""

    async def story(source: Source) -> None:
        with pytest.raises(SourceDown):
            await source.fail(MISSES_IN_A_ROW)
        assert (source.looks, source.slept) == (1, [])

    play(story, Source(SourceUnreachable("no"), patience=0.0))


def test_a_server_that_never_answered_is_not_waited_for() -> None:
    """Then it is the address that is wrong, and that is better told at once."""

    async def story() -> None:
        source = Source()
        await source.fail(10 * MISSES_IN_A_ROW)
        error = SourceUnreachable("no answer")
        assert not await source.breaker.explains(error, number=1, outages=0)
        assert source.looks == 0

    asyncio.run(story())


REFUSALS = [SourceRefused("302"), BadRequest("403"), Throttled("429"), NotXml("a page")]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: type(error).__name__)
def test_a_ban_is_sat_out(refusal: SourceError) -> None:
    """Whoever was answered before and is refused now, the probe included, waits: it passes."""

    async def story(source: Source) -> None:
        made = [Call(source, refusal=refusal) for _ in range(8)]
        found = await asyncio.gather(*(source.retrier("x", call) for call in made))
        assert [result for result, _ in found] == ["done"] * 8
        assert sum(call.tries - 1 for call in made) <= MISSES_IN_A_ROW + 8
        assert source.breaker.outages == 1
        assert source.pacer.limit < 8  # so that it is not provoked again

    play(story, Source(*[refusal] * 3))


@pytest.mark.parametrize("refusal", [SourceRefused("302"), BadRequest("403")], ids=str)
def test_a_ban_that_stays_is_told(refusal: SourceError) -> None:
    """After the patience the run ends with what the server said."""

    async def story(source: Source) -> None:
        with pytest.raises(SourceDown, match=f"within 10 min: {refusal}"):
            await source.retrier("x", Call(source, refusal=refusal))
        assert source.told[0].startswith(f"the source turns us away ({refusal}); asking again in")

    play(story, Source(*[refusal] * 99))


@pytest.mark.parametrize("refusal", [SourceRefused("302"), BadRequest("403")], ids=str)
def test_a_refusal_alone_is_the_calls(refusal: SourceError) -> None:
    """While the probe is answered, a refused call is made once more, and then has failed."""

    async def story(source: Source) -> None:
        for _ in range(30):
            call = Call(source, broken=True, refusal=refusal)
            with pytest.raises(type(refusal)):
                await source.retrier("x", call)
            assert call.tries == 2
        assert source.breaker.outages == 0
        assert source.looks <= 2 * 30 + 2

    play(story, Source())


def test_many_refusals_at_once_lower_the_pace() -> None:
    """A server that refuses what is too much at once refuses some of everything: less is asked.

    Nobody is blamed for it. One refusal now and then is that request's, and slows nothing down.
    """

    async def story(source: Source) -> None:
        running = 0

        async def call() -> str:
            nonlocal running
            async with source.pacer.slot():
                running += 1
                try:
                    await asyncio.sleep(0.001)
                    if running > 4:
                        raise BadRequest("403")
                    return "done"
                finally:
                    running -= 1

        for number in range(20):  # one in five is refused for itself
            for _ in range(5):
                await source.retrier(f"good {number}", Call(source))
            with pytest.raises(BadRequest):
                await source.retrier(
                    f"bad {number}", Call(source, broken=True, refusal=BadRequest("403"))
                )
        assert source.pacer.limit == 8
        found = await asyncio.gather(*(source.retrier(f"{n}", call) for n in range(200)))
        assert len(found) == 200
        assert source.pacer.limit < 8

    play(story, Source())


def test_a_refusal_at_the_start_is_told_at_once() -> None:
    """A server that never answered is not asked again: a key or the address is wrong."""

    async def story() -> None:
        source = Source()
        call = Call(source, broken=True, refusal=SourceRefused("401"))
        with pytest.raises(SourceRefused):
            await source.retrier("x", call)
        assert (call.tries, source.looks) == (1, 0)

    asyncio.run(story())


def test_a_call_that_brings_the_server_down_ends() -> None:
    """As after a firewall's ban for asking it: others go on, it is not asked for ever."""

    class Fragile(Source):
        def fall(self) -> None:
            self.left = [BadRequest("403")]

    async def story(source: Fragile) -> None:
        tries = 0

        async def call() -> None:
            nonlocal tries
            tries += 1
            source.fall()
            raise BadRequest("403")

        with pytest.raises(BadRequest):
            await source.retrier("x", call)
        assert tries <= 2 * (MOST_OUTAGES + 1)

    source = Fragile()
    play(lambda _: story(source), source)


def test_a_look_begun_before_a_refusal_proves_nothing() -> None:
    """The server may have begun to refuse after the probe was answered."""

    async def story(source: Source) -> None:
        first = asyncio.create_task(source.breaker.suspect(BadRequest("403"), 1))
        await source.looked.wait()
        assert await source.breaker.explains(BadRequest("403"), number=1, outages=0)
        await first
        assert source.looks == 3

    play(story, Source(None, BadRequest("403")))


def test_a_stop_ends_the_waiting() -> None:
    """What the sleep raises reaches everybody who waits."""

    class Stopped(Source):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            raise Interrupted("stop")

    async def story(source: Source) -> None:
        tasks = [asyncio.create_task(source.fail(MISSES_IN_A_ROW)) for _ in range(3)]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in found] == [Interrupted] * 3
        assert source.looks == 1

    play(story, Stopped(*[SourceUnreachable("no")] * 9))


def test_an_asked_for_pause_is_kept() -> None:
    """A server that named a time is not asked before, and the notice tells that time."""

    async def story(source: Source) -> None:
        source.pacer.hold(200.0)
        await source.fail(MISSES_IN_A_ROW)
        assert 199 <= source.slept[0] <= 200
        assert source.told[0].endswith("(throttled); asking again in 200 s")

    play(story, Source(Throttled("429", retry_after=200.0)))


def test_closing_ends_the_looking() -> None:
    """A source that is closed in an outage leaves nothing running behind."""

    async def story(source: Source) -> None:
        asked = asyncio.create_task(source.fail(MISSES_IN_A_ROW))
        await source.looked.wait()
        await source.breaker.aclose()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert len(asyncio.all_tasks()) == 1

    play(story, Source(*[SourceUnreachable("no")] * 99))
    asyncio.run(Source().breaker.aclose())


def test_an_error_nobody_waits_for_is_no_noise() -> None:
    """When all who waited were cancelled, asyncio does not complain of an error nobody saw."""
    complaints: list[object] = []

    async def story(source: Source) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: complaints.append(context))
        asked = asyncio.create_task(source.fail(MISSES_IN_A_ROW))
        await source.looked.wait()
        asked.cancel()
        for _ in range(100):
            await asyncio.sleep(0)

    source = Source(*[SourceUnreachable("no")] * 99)
    play(story, source)
    del source
    gc.collect()
    assert complaints == []


# Calls in an outage


class Call:
    """A call that fails as long as the server is away; ``broken`` ones fail for ever."""

    def __init__(
        self, source: Source, *, broken: bool = False, refusal: SourceError | None = None
    ) -> None:
        self.source = source
        self.broken = broken
        self.refusal = refusal or SourceUnreachable("no answer")
        self.tries = 0

    async def __call__(self) -> str:
        self.tries += 1
        async with self.source.pacer.slot():
            await asyncio.sleep(0)
            if self.broken or self.source.left:
                raise type(self.refusal)(str(self.refusal))
        return "done"


@pytest.mark.parametrize("calls", [1, 2, 8, 40])
def test_an_outage_costs_no_call_its_turn(calls: int) -> None:
    """Few or many at once: all of them succeed when the server is back, and nobody hammered it."""

    async def story(source: Source) -> None:
        made = [Call(source) for _ in range(calls)]
        found = await asyncio.gather(*(source.retrier("x", call) for call in made))
        assert [result for result, _ in found] == ["done"] * calls
        assert [tries for _, tries in found] == [call.tries for call in made]
        assert max(call.tries for call in made) <= 2 * 4
        assert source.looks == 6
        # Before the outage was noticed so many, plus what was in flight then, and nothing in it.
        in_vain = sum(call.tries - 1 for call in made)
        assert in_vain <= MISSES_IN_A_ROW + 8

    play(story, Source(*[SourceUnreachable("no answer")] * 5))


def test_a_call_that_fails_alone_fails() -> None:
    """Somebody else was answered meanwhile, so nobody looks for the server."""

    async def story(source: Source) -> None:
        tries, ended = 0, False

        async def broken() -> None:
            nonlocal tries
            tries += 1
            for _ in range(5):  # long enough for others to ask and to be answered
                await asyncio.sleep(0)
            raise SourceUnreachable("no answer")

        async def others() -> None:
            while not ended:
                await source.retrier("y", Call(source))

        asking = asyncio.create_task(others())
        with pytest.raises(SourceUnreachable) as caught:
            await source.retrier("x", broken)
        ended = True
        await asking
        assert (caught.value.attempts, tries, source.looks) == (4, 4, 0)

    play(story, Source())


def test_answers_before_the_last_try_prove_nothing() -> None:
    """The server may have gone just then: who was answered earlier is no witness."""

    async def story(source: Source) -> None:
        call = Call(source)

        async def others() -> None:
            while call.tries < 3:
                await asyncio.sleep(0)
                source.breaker.answered()

        asking = asyncio.create_task(others())
        assert (await source.retrier("x", call))[0] == "done"
        await asking
        assert source.breaker.outages == 1

    play(story, Source(*[SourceUnreachable("no answer")] * 2))


def test_an_answer_that_was_on_its_way_proves_nothing() -> None:
    """It was asked for before the last try, by when the server may have been gone."""

    async def story(source: Source) -> None:
        early = source.breaker.begin()
        last = source.breaker.begin()
        source.breaker.answered(early)
        error = SourceUnreachable("no answer")
        assert await source.breaker.explains(error, number=last, outages=0)
        later = source.breaker.begin()
        source.breaker.answered(later)
        assert not await source.breaker.explains(error, number=last, outages=1)
        assert (source.breaker.outages, source.looks) == (1, 2)

    play(story, Source(SourceUnreachable("no answer")))


def test_broken_calls_without_witnesses_cost_two_looks() -> None:
    """Nobody else was answered, so we look before and after the last try."""

    async def story(source: Source) -> None:
        for _ in range(3):
            broken = Call(source, broken=True)
            with pytest.raises(SourceUnreachable):
                await source.retrier("x", broken)
            assert broken.tries == 4
        assert source.looks == 2
        other = Call(source, broken=True, refusal=ServerFailed("500"))
        with pytest.raises(ServerFailed):
            await source.retrier("x", other)
        assert source.looks == 4  # what is believed of one problem says nothing of another

    play(story, Source())


@pytest.mark.parametrize("error", [Throttled("429"), BadRequest("403"), ServerFailed("500")])
def test_a_ban_that_lets_only_the_probe_through_is_sat_out(error: SourceError) -> None:
    """As by a limit that allows one request a minute: what follows a probe proves nothing."""

    async def story(source: Source) -> None:
        call = Call(source, refusal=error)
        assert (await source.retrier("x", call))[0] == "done"
        assert source.breaker.outages == 1

    play(story, Source(None, error, error))


def test_a_call_that_is_answered_with_an_error_has_failed() -> None:
    """A 404 is an answer: nobody looks for the server."""

    async def gone() -> None:
        raise NotFound("404")

    async def story(source: Source) -> None:
        with pytest.raises(NotFound):
            await source.retrier("x", gone)
        assert source.looks == 0

    play(story, Source())


def test_a_call_that_fails_after_an_outage_has_failed() -> None:
    """It gets its tries once more, and not for ever."""

    async def story(source: Source) -> None:
        broken = Call(source, broken=True)
        with pytest.raises(SourceUnreachable) as caught:
            await source.retrier("x", broken)
        assert (caught.value.attempts, broken.tries) == (8, 8)

    play(story, Source(*[SourceUnreachable("no answer")] * 2))


def test_an_outage_after_an_outage_is_noticed() -> None:
    """What a call tries once more is watched like the first tries."""

    async def story(source: Source) -> None:
        with pytest.raises(SourceUnreachable):
            await source.retrier("x", Call(source, broken=True))
        assert source.looks == 4

    play(story, Source(SourceUnreachable("no answer"), attempts=30))


def test_calls_of_a_server_that_stays_away_end_together() -> None:
    """All get the error that stops the run, with a bounded number of requests."""

    async def story(source: Source) -> None:
        made = [Call(source, broken=True) for _ in range(40)]
        found = await asyncio.gather(
            *(source.retrier("x", call) for call in made), return_exceptions=True
        )
        assert {type(one) for one in found} == {SourceDown}
        assert sum(call.tries for call in made) <= MISSES_IN_A_ROW + 8 + len(made)

    play(story, Source(*[SourceUnreachable("no answer")] * 99))
