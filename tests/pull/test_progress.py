"""How far a run is: one model, which never runs backwards and says when it guesses."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator import events
from migrator.hours import Hours, windows
from migrator.pull.progress import ALMOST, Progress

FEW = st.integers(0, 40)
STATES = st.sampled_from(["stored", "failed", "missing", "gone"])
EVENTS = st.one_of(
    st.builds(events.RunStarted, st.just(1), st.sampled_from(["run", "sync", "plan"])),
    st.builds(events.WorkExpected, FEW, FEW, FEW),
    st.builds(events.TicketsCounted, st.none() | FEW),
    st.builds(events.TicketListed, FEW, FEW, FEW, FEW, st.booleans()),
    st.builds(events.LeftoversQueued, FEW, FEW),
    st.builds(events.AttachmentSettled, FEW, FEW, STATES, received=FEW, declared=FEW),
    st.builds(events.Retrying, st.just("x"), st.just("y"), FEW, st.just(1.0)),
    st.builds(events.BlobChecked, st.just("ab"), FEW, st.just("ok"), FEW),
    st.builds(events.AttachmentAudited, FEW, FEW, st.just("agreed"), st.just("ok"), FEW, FEW),
    st.builds(events.FileHandedOver, st.just("ab"), FEW, st.just("ok"), FEW),
    st.just(events.Tick()),
)


class Clock:
    """A clock that goes on by itself, a second each time it is looked at."""

    def __init__(self, step: float = 1.0) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=60), st.booleans())
def test_it_never_runs_backwards(story: list[events.Event], cut: bool) -> None:
    """In any order of events, also when totals grow: no share falls, none is more than all.

    Only a count that was wrong, for more tickets were listed, makes it unknown again.
    """
    progress, before = Progress(Clock()), 0.0
    for event in [*story, events.RunFinished(1, 0, cut=cut)]:
        progress.take(event)
        share = progress.share()
        assert share is None or 0 <= share <= 1
        if share is not None:
            assert share >= before
            before = share
        elif before:
            assert progress.all_tickets is None
        left = progress.seconds_left()
        assert left is None or left >= 0
        facts = progress.facts()
        assert json.loads(json.dumps(facts)) == facts
    assert progress.seconds_left() is None
    if not cut:
        assert progress.share() == 1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 100)), min_size=1, max_size=30))
def test_it_is_less_than_all_until_the_end(tickets: list[tuple[int, int]]) -> None:
    """However the files are spread, a run at work is never told to be done."""
    progress = Progress(Clock())
    progress.take(events.TicketsCounted(len(tickets)))
    for number, (files, size) in enumerate(tickets):
        progress.take(events.TicketListed(number, files, files, files * size))
        for _ in range(files):
            progress.take(events.AttachmentSettled(1, number, "stored", declared=size))
        share = progress.share()
        assert share is not None
        assert share == pytest.approx(min((number + 1) / len(tickets), ALMOST))
    assert progress.facts()["share"] == ALMOST


def test_it_counts_against_all_tickets_of_the_walk() -> None:
    """What was listed so far being settled is far from all when few tickets were listed."""
    clock = Clock(0)
    progress = Progress(clock)
    progress.take(events.TicketsCounted(810))
    for number in range(312):
        progress.take(events.TicketListed(number, 1, 1))
        progress.take(events.AttachmentSettled(number, number, "stored"))
        clock.now += 1
    facts = progress.facts()
    assert (facts["tickets"], facts["tickets_total"]) == (312, 810)
    assert facts["share"] == int(312 / 810 * 10_000) / 10_000
    assert facts["attachments_known"] is None, "nobody knows how many the others have"
    assert facts["seconds_left"] == pytest.approx(810 - 312, rel=0.01)


def test_a_count_that_was_wrong_is_not_held_on_to() -> None:
    """A source that counts ten tickets and lists more has told nothing of how many there are."""
    clock = Clock(0)
    progress = Progress(clock)
    progress.take(events.TicketsCounted(10))
    for number in range(9):
        progress.take(events.TicketListed(number, 0, 0))
        clock.now += 1
    assert (progress.share(), progress.all_tickets) == (0.9, 10)
    for number in range(9, 100):
        progress.take(events.TicketListed(number, 0, 0))
    facts = progress.facts()
    assert (facts["tickets"], facts["tickets_total"], facts["seconds_left"]) == (100, None, None)
    assert facts["share"] is None
    progress.take(events.RunFinished(1, 0))
    assert progress.share() == 1


def test_nothing_is_said_while_nothing_is_known() -> None:
    """Without a count there is no share and no duration; too little to go by gives no duration."""
    progress = Progress(Clock())
    progress.take(events.TicketListed(1, 1, 1))
    progress.take(events.TicketsCounted(None))
    progress.take(events.AttachmentSettled(1, 1, "stored"))
    assert (progress.share(), progress.seconds_left()) == (None, None)
    progress.take(events.TicketsCounted(1000))
    assert progress.share() == 0.001
    assert progress.seconds_left() is None
    quick = Progress(Clock(0.001))
    quick.take(events.TicketsCounted(10))
    for number in range(5):
        quick.take(events.TicketListed(number, 0, 0))
    assert (quick.share(), quick.seconds_left()) == (0.5, None)


def test_the_rest_is_measured_from_where_work_began() -> None:
    """What starting up took, or a wait for the server, does not make the rest look long."""
    clock = Clock(0)
    progress = Progress(clock)
    clock.now = 500.0
    for done in range(1, 11):
        progress.take(events.FileHandedOver("ab", 10, "ok", 101))
        clock.now += 1
        assert done < 5 or progress.seconds_left() == pytest.approx(
            (101 - done) * done / (done - 1)
        )


def case(share: float | None, **values: Any) -> Any:
    told = ", ".join(f"{key}={value}" for key, value in values.items())
    return pytest.param(values, share, id=told or "nothing")


@pytest.mark.parametrize(
    ("values", "share"),
    [
        case(None),
        case(None, kind="plan", tickets=3),
        case(0.75, kind="plan", tickets=3, tickets_total=4),
        case(ALMOST, kind="plan", tickets=4, tickets_total=4),
        case(None, kind="plan", tickets=9, tickets_total=4),
        case(0.25, kind="verify", settled=1, todo=4),
        case(0.375, settled=1, todo=3, tickets=1, tickets_total=1, settled_bytes=1, todo_bytes=4),
        case(0.25, settled=0, todo=1, tickets=1, tickets_total=2),
        case(0.1, settled=1, tickets=1, todo=1, expected=events.WorkExpected(10, 10, 0)),
        case(0.08, settled=1, tickets=1, todo=15, expected=events.WorkExpected(10, 10, 0)),
        case(0.55, settled=1, tickets=1, todo=1, settled_bytes=9,
             expected=events.WorkExpected(10, 10, 9)),
    ],
)  # fmt: skip
def test_the_share_that_is_done(values: dict[str, Any], share: float | None) -> None:
    """By tickets for a dry run, by what the tickets brought and their bytes else."""
    progress = Progress(**values)
    progress.take(events.Tick())
    found = progress.share()
    assert found is None if share is None else found == pytest.approx(share)


def test_facts_are_all_that_is_known() -> None:
    """The keys are those that EVENTS.md and the schemas describe."""
    fields = {one.name for one in dataclasses.fields(events.Tick)}
    assert not fields
    assert list(Progress().facts()) == [
        "kind",
        "tickets",
        "tickets_total",
        "attachments",
        "attachments_known",
        "bytes",
        "share",
        "seconds_left",
        "troubles",
        "paused",
        "pause_reason",
        "pauses",
        "slow",
        "at_once",
        "requests",
        "ended",
    ]


def test_our_own_pause_is_no_outage_and_takes_no_time_of_the_estimate() -> None:
    """It hides that the source is away, and the pace is that of the time in which we ask."""
    clock = Clock(step=0.0)
    told = Progress(clock)
    told.take(events.TicketsCounted(100))
    for ticket in range(20):
        told.take(events.TicketListed(ticket, 0, 0))
        clock.now += 1
    left = told.seconds_left()
    told.take(events.Paused(20.0))
    told.take(events.Paused(36_000.0, asked=True, reason="quiet_hours"))
    assert told.facts()["pause_reason"] == "quiet_hours"
    assert (told.facts()["paused"], told.pauses) == (36_000, 1)
    clock.now += 36_000
    told.take(events.Paused(0.0))
    assert (told.paused(), told.seconds_left()) == (None, left)
    told.take(events.Paused(None, asked=True, reason="paused"))
    assert told.paused() == 0


def test_a_pause_is_told_until_it_is_over() -> None:
    """A source that is away is probed until it answers; a pause it asked for ends by itself."""
    clock = Clock(step=0.0)
    told = Progress(clock)
    assert told.paused() is None
    told.take(events.Paused(20.0))
    assert told.facts()["paused"] == 20
    clock.now += 5
    told.take(events.AttachmentSettled(1, 1, "stored"))  # was on its way
    told.take(events.Paused(5.0, asked=True))
    assert told.paused() == 15
    clock.now += 30
    assert told.paused() == 0
    told.take(events.Paused(0.0))
    assert told.paused() is None
    told.take(events.Paused(10.0, asked=True))
    assert told.paused() == 10
    clock.now += 10
    assert told.paused() is None
    told.take(events.Paused(20.0))
    told.take(events.RunFinished(1, 4))
    assert told.facts()["paused"] is None


def at_night(start: str) -> tuple[Progress, Clock]:
    """Give a run with windows, half done after three hours of its first night."""
    zone = ZoneInfo("Europe/Berlin")
    began = datetime.fromisoformat(start).replace(tzinfo=zone).timestamp()
    clock = Clock(step=0.0)
    clock.now = 0.0
    told = Progress(clock, Hours(windows("22:00-06:00"), zone=zone), lambda: began + clock.now)
    told.take(events.TicketsCounted(100))
    for ticket in range(51):
        told.take(events.TicketListed(ticket, 0, 0))
        clock.now += 3 * 3600 / 51
    return told, clock


@pytest.mark.parametrize(
    ("start", "hours"),
    [("2026-05-31T23:00", 3), ("2026-06-01T03:00", 16 + 3), ("2026-03-29T00:00", 18 + 1)],
)
def test_the_time_left_knows_when_windows_close(start: str, hours: float) -> None:
    """Also in the night in which the clock is put forward, whose window is an hour shorter."""
    told, _ = at_night(start)
    assert told.seconds_left() == pytest.approx(hours * 3600, rel=0.03)


def test_the_time_left_is_told_in_quiet_hours_too() -> None:
    """The wait for the next window is part of it; a pause by somebody has no known end."""
    told, clock = at_night("2026-06-01T03:00")
    told.take(events.Paused(16 * 3600, asked=True, reason="quiet_hours"))
    clock.now += 6 * 3600
    assert told.seconds_left() == pytest.approx(13 * 3600, rel=0.03)
    told.take(events.Paused(None, asked=True, reason="paused"))
    assert told.seconds_left() is None


def test_windows_are_those_of_the_source_only() -> None:
    """Reading our own files, or writing to Tickiti, goes on in closed windows."""
    clock, noon = Clock(), 43_200.0
    told = Progress(clock, Hours(windows("22:00-06:00"), zone=ZoneInfo("UTC")), lambda: noon)
    for _ in range(50):
        told.take(events.BlobChecked("ab", 1, "ok", 100))
        clock.now += 1
    assert told.seconds_left() == pytest.approx(52, abs=2)
