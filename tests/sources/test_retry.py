"""Which failures are tried again, how often, and after what wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from migrator import errors
from migrator.errors import Again, NotFound, ServerFailed, SourceError, SourceRefused, Throttled
from migrator.events import Event, Requested, Retrying
from migrator.sources.pace import (
    FIRST_WAIT,
    LONGEST_RETRY_AFTER,
    LONGEST_WAIT,
    Pacer,
    Retrier,
    wait_before,
    worth_another,
)


class Held(Pacer):
    """A pacer that remembers what it was asked to hold back."""

    def __init__(self) -> None:
        super().__init__(1)
        self.holds: list[float] = []

    def hold(self, seconds: float) -> None:
        """Remember."""
        self.holds.append(seconds)


class Story:
    """A call with a given outcome for each try, and all that the retrier did about it."""

    def __init__(self, *outcomes: Exception | str, attempts: int = 4) -> None:
        self.outcomes: Sequence[Exception | str] = outcomes
        self.tries = 0
        self.waits: list[float] = []
        self.events: list[Event] = []
        self.outcomes_told: list[str] = []
        self.pacer = Held()
        self.retrier = Retrier(attempts, self.pacer, listener=self._hear, sleep=self._sleep)

    def _hear(self, event: Event, /) -> None:
        if isinstance(event, Requested):
            self.outcomes_told.append(event.outcome)
        else:
            self.events.append(event)

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def _call(self) -> str:
        outcome = self.outcomes[self.tries]
        self.tries += 1
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def run(self) -> tuple[str, int]:
        """Let it happen."""
        return asyncio.run(self._run())

    async def _run(self) -> tuple[str, int]:
        return await self.retrier("ticket 7", self._call)


def subclasses(of: type[SourceError]) -> Iterator[type[SourceError]]:
    """Give a class and all that inherit from it."""
    yield of
    for one in of.__subclasses__():
        yield from subclasses(one)


KINDS = [one for one in subclasses(SourceError) if one.__module__ == errors.__name__]


def test_each_try_tells_its_outcome() -> None:
    """The listener gets the code of each failure and the success, in their order."""
    story = Story(errors.ServerFailed("500"), errors.NotXml("text"), "done")
    story.run()
    assert story.outcomes_told == ["server_error", "not_xml", "ok"]


def test_at_first_try() -> None:
    """A call that succeeds is made once, without a wait or a word."""
    story = Story("done")
    assert story.run() == ("done", 1)
    assert (story.tries, story.waits, story.events) == (1, [], [])


def test_at_third_try() -> None:
    """A call that fails twice in ways that may pass succeeds at its third try."""
    story = Story(ServerFailed("500"), ServerFailed("502"), "done")
    assert story.run() == ("done", 3)
    assert len(story.waits) == 2


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_only_what_may_pass_is_tried_again(kind: type[SourceError]) -> None:
    """Every error is tried again exactly if its class says that it may pass."""
    story = Story(kind("no"), "done")
    if kind.again is Again.LATER:
        assert story.run() == ("done", 2)
    else:
        with pytest.raises(kind):
            story.run()
        assert story.tries == 1


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), errors.ConfigError("url"), asyncio.CancelledError()]
)
def test_what_is_not_of_the_source_is_not_tried_again(error: BaseException) -> None:
    """Bugs, mistakes of the user and cancellations pass at once."""
    assert not worth_another(error)


def test_a_bug_passes_unchanged() -> None:
    """An exception that is none of the source leaves the retrier as it is."""
    with pytest.raises(ValueError, match="a bug"):
        Story(ValueError("a bug"), "done").run()


def test_the_last_error_counts() -> None:
    """When no try succeeds the last error is raised, and it knows how often was asked."""
    story = Story(ServerFailed("first"), ServerFailed("last"), attempts=2)
    with pytest.raises(ServerFailed, match="last") as caught:
        story.run()
    assert (caught.value.attempts, story.tries, len(story.waits)) == (2, 2, 1)


def test_attempts_of_an_error_that_ends_it_early() -> None:
    """An error that ends the tries knows their number too."""
    with pytest.raises(NotFound) as caught:
        Story(ServerFailed("500"), NotFound("404"), "done").run()
    assert caught.value.attempts == 2


def test_one_attempt_is_one_try() -> None:
    """With one attempt nothing is tried again."""
    story = Story(ServerFailed("500"), "done", attempts=1)
    with pytest.raises(ServerFailed):
        story.run()
    assert story.waits == []


def test_waits_double_within_their_spread() -> None:
    """Waits double from try to try, each within the upper half of its own, up to a cap."""
    error = ServerFailed("500")
    for attempt, longest in [(1, FIRST_WAIT), (2, 1.0), (3, 2.0), (6, 16.0), (7, LONGEST_WAIT)]:
        assert wait_before(attempt, error, spread=0.0) == longest / 2
        assert wait_before(attempt, error, spread=1.0) == longest
        assert longest / 2 <= wait_before(attempt, error) <= longest
    assert wait_before(40, error, spread=1.0) == LONGEST_WAIT


def test_waits_are_spread() -> None:
    """Requests that failed together do not wait equally long."""
    assert len({wait_before(3, ServerFailed("500")) for _ in range(8)}) > 1


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        (17.0, 17.0, 17.0),
        (86_400.0, LONGEST_RETRY_AFTER, LONGEST_RETRY_AFTER),
        (float("inf"), LONGEST_RETRY_AFTER, LONGEST_RETRY_AFTER),
        (0.0, FIRST_WAIT / 2, FIRST_WAIT),
        (0.001, FIRST_WAIT / 2, FIRST_WAIT),
        (-3.0, FIRST_WAIT / 2, FIRST_WAIT),
    ],
)
def test_the_server_names_the_wait(asked: float, least: float, most: float) -> None:
    """A wait that the server asks for wins, within bounds, but never makes ours shorter."""
    story = Story(Throttled("429", retry_after=asked), "done")
    story.run()
    assert least <= story.waits[0] <= most


def test_throttled_without_a_time() -> None:
    """A server that only asks to slow down gets the usual wait."""
    story = Story(Throttled("429"), "done")
    story.run()
    assert FIRST_WAIT / 2 <= story.waits[0] <= FIRST_WAIT


def test_throttling_holds_all_requests() -> None:
    """A pause that one request was asked for is a pause for all; another failure is not."""
    story = Story(ServerFailed("500"), Throttled("429", retry_after=9.0), "done")
    story.run()
    assert story.pacer.holds == [9.0]


def test_a_pause_is_kept_after_the_last_try() -> None:
    """The call has failed, but the others are held as long as the server asked for."""
    story = Story(Throttled("429", retry_after=9.0), Throttled("429", retry_after=7.0), attempts=2)
    with pytest.raises(Throttled):
        story.run()
    assert story.pacer.holds == [9.0, 7.0]
    story = Story(Throttled("429"), attempts=1)
    with pytest.raises(Throttled):
        story.run()
    assert story.pacer.holds == []


def test_every_wait_is_told() -> None:
    """Listeners hear what failed, why, at which try, and how long is waited."""
    story = Story(ServerFailed("500"), Throttled("429", retry_after=9.0), "done")
    story.run()
    first, second = story.events
    assert first == Retrying("ticket 7", "server_error", 1, story.waits[0])
    assert second == Retrying("ticket 7", "throttled", 2, 9.0)


def test_giving_up_is_not_told_as_a_wait() -> None:
    """After the last try nothing is announced that will not come."""
    story = Story(SourceRefused("401"))
    with pytest.raises(SourceRefused):
        story.run()
    assert story.events == []
