"""What a sync looks at, and how far it believes to have come."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrator.archive import Archive, open_archive
from migrator.archive.checkpoint import Checkpoint
from migrator.errors import (
    Interrupted,
    ServerFailed,
    SourceRefused,
    SourceUnreachable,
    UnexpectedReply,
)
from migrator.events import Notice, TicketListed
from migrator.pull.fetch import Fetcher
from migrator.pull.options import MOST_DEBTS, RunOptions, RunResult, Stop
from migrator.pull.run import run
from migrator.pull.sync import GAPS_WAIT, SyncOptions, next_pass
from migrator.sources.base import Increment, Scope, Ticket
from migrator.sources.kayako.source import KayakoSource
from tests.pull.doubles import Desk, Ear, states
from tests.pull.syncing import DAY, NOW, SOURCE, Living, mark, marks, sync


def test_the_first_sync_looks_at_everything_and_the_next_at_what_is_new(archive: Archive) -> None:
    """All tickets once, then only those that were active at the watermark or later."""
    desk = Living(30)
    assert sync(desk, archive).exit_code == 0
    assert marks(archive) == (1030, NOW, NOW)
    new = desk.reply(7, 1031)
    assert sync(desk, archive, now=NOW + 900).exit_code == 0
    assert sorted(desk.asked("list")) == ["list 30", "list 7"]
    assert desk.asked("fetch") == [f"fetch {new}"]
    assert marks(archive) == (1031, NOW, NOW + 900)
    assert set(states(archive).values()) == {"stored"}


def test_a_quiet_sync_costs_a_handful_of_requests(archive: Archive) -> None:
    """However many tickets there are: who it is, one page, and what is in range."""
    desk = Living(400, files=0)
    sync(desk, archive)
    sync(desk, archive)
    assert sorted(desk.calls[:4]) == ["departments", "statuses", "witness 1", "witness 400"]
    assert desk.calls[4:] == ["recent 0+100", "list 400"]


def test_the_margin_reaches_back_behind_the_watermark(archive: Archive) -> None:
    """Files that appear late for an activity that was seen are found, to the second."""
    desk = Living(30)
    sync(desk, archive)
    late = desk.attach(20, b"written slowly")
    sync(desk, archive, margin=9)
    assert late not in states(archive)
    sync(desk, archive, margin=10)
    assert states(archive)[late] == "stored"
    assert len(desk.asked("list")) == 11


def test_what_arrives_in_the_second_of_the_watermark_is_found(archive: Archive) -> None:
    """The range is closed: a second is not over when it is seen."""
    desk = Living(5)
    sync(desk, archive)
    assert mark(archive, "watermark") == 1005
    same, other = desk.reply(5, 1005), desk.reply(2, 1005)
    sync(desk, archive)
    assert (states(archive)[same], states(archive)[other]) == ("stored", "stored")


def test_a_plain_run_over_everything_counts_as_a_whole_pass(archive: Archive) -> None:
    """After `run` a sync begins where it was, whatever `run` was called with before."""
    desk = Living(5)
    asked = RunOptions(SOURCE, concurrency=2)

    async def whole(options: RunOptions) -> RunResult:
        fetch = Fetcher(KayakoSource(desk), archive.blobs, None)
        return await run(KayakoSource(desk), archive, fetch, options, clock=lambda: NOW)

    for narrow in (Scope(since=1), Scope(limit_tickets=9), Scope(departments=frozenset("1"))):
        asyncio.run(whole(replace(asked, scope=narrow)))
        assert marks(archive) == (None, None, None)
    asyncio.run(whole(asked))
    assert marks(archive) == (1005, NOW, NOW)
    sync(desk, archive)
    assert desk.asked("list") == ["list 5"]


@pytest.mark.parametrize("page_size", [1, 100])
def test_changes_during_a_whole_pass_are_left_to_the_next_sync(
    archive: Archive, page_size: int
) -> None:
    """The watermark is from before the walk: what changed behind its back is above it."""

    class Working(Living):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call == "list 2":
                self.reply(1, 5000)  # listed already
                self.touch(9, 9000)

    desk = Working(9)
    sync(desk, archive, concurrency=1, looks=1, page_size=page_size)
    assert mark(archive, "watermark") == 1009
    assert states(archive)[9] == "stored"
    assert 10 not in states(archive)
    sync(desk, archive)
    assert states(archive)[10] == "stored"


# When everything must be looked at


def listed(desk: Desk) -> int:
    return len(desk.asked("list"))


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"full": True}, "asked for"),
        ({"now": NOW + 7 * DAY}, "it is due"),
        ({"every": 0}, "it is due"),
        ({"now": NOW - 1}, "our clock was set back"),
        (
            {"source": "https://other.example.com", "moved": True},
            "the helpdesk has another address",
        ),
        ({"scope": Scope(include_trash=True)}, "the trash is included now"),
    ],
)
def test_a_whole_pass_is_due(archive: Archive, how: dict[str, Any], why: str) -> None:
    """Asked for, after its time, and whenever what is known may not hold any more."""
    desk = Living(9)
    sync(desk, archive)
    sync(desk, archive, now=NOW + 7 * DAY - 1)
    assert listed(desk) == 1, "not due yet"
    asked = RunOptions(how.get("source", SOURCE), scope=how.get("scope", Scope()))
    options = SyncOptions(0, how.get("every", 7 * DAY), how.get("full", False))
    decided = next_pass(archive.queries, asked, options, now=how.get("now", NOW))
    assert decided == (None, why)
    sync(desk, archive, **how)
    assert listed(desk) == 9


def test_silent_arrivals_merges_trash_and_deletions_are_found_by_a_whole_pass(
    archive: Archive,
) -> None:
    """What touches no activity: the next sync cannot see it, the next whole pass does."""
    desk = Living(9)
    sync(desk, archive)
    silent = desk.attach(3, b"silent")
    desk.merge(4, 5)
    desk.trash(6)
    desk.delete(7)
    del desk.files[8]
    sync(desk, archive)
    assert silent not in states(archive)
    assert set(states(archive).values()) == {"stored"}
    result = sync(desk, archive, full=True)
    assert (result.exit_code, result.deleted) == (0, 2)
    rows = {row.id: row for row in archive.queries.rows()}
    assert rows[silent].state == "stored"
    assert (rows[4].ticket_id, rows[4].state) == (5, "stored")
    assert (rows[6].department_id, rows[6].state) == (0, "stored")
    assert {key for key, row in rows.items() if row.state == "deleted"} == {7, 8}
    assert archive.queries.ticket_count() == 8, "the merged one is known to be merged"


# How far it has come


@pytest.mark.parametrize("first", [True, False])
def test_an_interrupted_sync_moves_no_mark(archive: Archive, *, first: bool) -> None:
    """What was not looked at must be looked at again."""
    desk = Living(9)
    if not first:
        sync(desk, archive)
    before = marks(archive)
    for number in range(1, 10):
        desk.reply(number, 2000 + number)
    stop = Stop()
    ear = Ear(lambda event: stop.ask() if isinstance(event, TicketListed) else None)
    result = sync(desk, archive, now=NOW + 60, stop=stop, ear=ear, concurrency=1)
    assert isinstance(result.ended_by, Interrupted)
    assert marks(archive) == before
    assert sync(desk, archive, now=NOW + 60).exit_code == 0
    assert set(states(archive).values()) == {"stored"}
    assert len(states(archive)) == 18


class Failing(Living):
    """Raises an error for some calls."""

    def __init__(self, tickets: int, error: Exception, *calls: str) -> None:
        super().__init__(tickets)
        self.error = error
        self.broken = set(calls)

    async def turn(self, call: str) -> None:
        await super().turn(call)
        if call in self.broken:
            raise self.error


@pytest.mark.parametrize("error", [SourceRefused("no"), SourceUnreachable("no answer")])
@pytest.mark.parametrize("call", ["statuses", "recent 0+100"])
def test_a_sync_that_ends_early_moves_no_mark(
    archive: Archive, error: Exception, call: str
) -> None:
    """A source that goes away in the middle has not been looked at."""
    desk = Failing(9, error, call)
    assert sync(desk, archive).exit_code == 4
    assert marks(archive) == (None, None, None)
    desk.broken.clear()
    sync(desk, archive)
    before = marks(archive)
    desk.broken.add(call)
    desk.reply(3, 2000)
    assert sync(desk, archive, now=NOW + 60).exit_code == 4
    assert marks(archive) == before


def test_a_ticket_that_cannot_be_listed_is_asked_for_by_every_sync(archive: Archive) -> None:
    """One broken ticket neither hides its files nor makes every sync look at everything."""
    desk = Failing(30, ServerFailed("HTTP 500"), "list 3", "list 30")
    result = sync(desk, archive)
    assert (result.exit_code, sorted(result.unlisted)) == (3, [3, 30])
    assert marks(archive) == (1030, NOW, None), "a success leaves no ticket out"
    desk.reply(20, 1040)
    for _ in range(2):
        result = sync(desk, archive, now=NOW + 60)
        assert (result.exit_code, sorted(result.unlisted)) == (3, [3, 30])
        assert len(desk.asked("list")) <= 4
    assert mark(archive, "watermark") == 1040
    desk.broken.clear()
    assert sync(desk, archive, now=NOW + 60).exit_code == 0
    assert marks(archive) == (1040, NOW, NOW + 60)
    assert set(states(archive)) == set(desk.files)


@pytest.mark.parametrize("became", ["merged", "deleted", "silent"])
def test_an_owed_ticket_is_followed_to_where_it_is(archive: Archive, became: str) -> None:
    """It may be merged or deleted by now, or not even tell that."""
    desk = Failing(9, ServerFailed("HTTP 500"), "list 3")
    sync(desk, archive)
    desk.broken.clear()
    if became == "merged":
        desk.merge(3, 4)
    elif became == "deleted":
        desk.delete(3)
    else:
        desk.broken.add("ticket 3")
    result = sync(desk, archive)
    assert list(result.unlisted) == ([3] if became == "silent" else [])
    found = {row.id: row.ticket_id for row in archive.queries.rows()}
    assert found.get(3) == (4 if became == "merged" else None)


@pytest.mark.parametrize("error", [SourceRefused("no"), SourceUnreachable("no answer")])
def test_a_source_that_goes_away_while_owed_tickets_are_asked_for(
    archive: Archive, error: Exception
) -> None:
    """It ends the sync, and the tickets stay owed."""
    desk = Failing(9, ServerFailed("HTTP 500"), "list 3", "list 4")
    sync(desk, archive)
    desk.error, desk.broken = error, {"ticket 3"}
    result = sync(desk, archive)
    assert (result.exit_code, result.ended_by) == (4, error)
    assert "ticket 4" not in desk.calls
    desk.broken.clear()
    assert sync(desk, archive).exit_code == 0
    assert set(states(archive)) == set(desk.files)


def test_a_stop_while_owed_tickets_are_asked_for(archive: Archive) -> None:
    """They stay owed."""
    desk = Failing(9, ServerFailed("HTTP 500"), "list 3", "list 4")
    sync(desk, archive)
    desk.broken.clear()
    stop = Stop()

    stop.ask()
    assert sync(desk, archive, stop=stop).exit_code == 130
    assert sync(desk, archive).exit_code == 0
    assert set(states(archive)) == set(desk.files)


class Poisoned(Living):
    """Fails every page that holds one of these tickets."""

    poison: frozenset[int] = frozenset()

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        found = super().page(rows, count, start)
        if self.poison & {one.id for one in found}:
            raise ServerFailed("HTTP 500")
        return found


def test_rows_that_nobody_can_read_are_told_until_a_whole_pass_reads_them(
    archive: Archive,
) -> None:
    """The sync goes on beside them, never calls that a success, and soon looks again."""
    desk = Poisoned(30)
    desk.poison = frozenset({4})
    assert list(sync(desk, archive).unreadable) == [3]
    assert marks(archive) == (1030, NOW, None)
    desk.reply(20, 1040)
    for _ in range(2):
        result = sync(desk, archive, now=NOW + 60)
        assert (result.exit_code, list(result.unreadable)) == (3, [3])
        assert listed(desk) <= 2
    assert marks(archive) == (1040, NOW, None)
    desk.poison = frozenset()
    later = int(NOW + GAPS_WAIT)
    asked = RunOptions(SOURCE)
    assert (
        next_pass(archive.queries, asked, SyncOptions(), now=later).why == "the last one left gaps"
    )
    assert sync(desk, archive, now=later).exit_code == 0
    assert marks(archive) == (1040, later, later)


def test_a_row_in_range_that_cannot_be_read_holds_the_watermark(archive: Archive) -> None:
    """Which ticket it is nobody knows, so the range is walked again."""
    desk = Poisoned(30)
    sync(desk, archive)
    new = desk.reply(20, 1040)
    desk.reply(21, 1050)
    desk.poison = frozenset({20})
    result = sync(desk, archive)
    assert (result.exit_code, list(result.unreadable)) == (3, [1])
    assert mark(archive, "watermark") == 1030
    desk.poison = frozenset()
    assert sync(desk, archive).exit_code == 0
    assert (mark(archive, "watermark"), states(archive)[new]) == (1050, "stored")


def test_a_list_that_came_back_short_moves_no_mark(archive: Archive) -> None:
    """Tickets that the source counts and does not list were not looked at."""

    class Boasting(Living):
        async def ticket_count(self, *_: object) -> int | None:
            return 99

    assert sync(Boasting(9), archive).exit_code == 3
    assert marks(archive) == (None, None, None)


def test_more_gaps_than_a_record_can_name_move_no_mark(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Owed is only what is written down."""
    assert MOST_DEBTS >= 1000
    monkeypatch.setattr("migrator.pull.sync.MOST_DEBTS", 1)
    desk = Failing(9, ServerFailed("HTTP 500"), "list 3", "list 4")
    sync(desk, archive)
    assert marks(archive) == (None, None, None)


def test_failed_attachments_of_earlier_syncs_are_tried_again(archive: Archive) -> None:
    """Also when their tickets are long out of range; what is not there is not waited for."""
    desk = Failing(9, ServerFailed("HTTP 500"), "fetch 2")
    assert sync(desk, archive).exit_code == 3
    assert mark(archive, "success") == NOW, "nothing was left unlisted"
    desk.broken.clear()
    assert sync(desk, archive).exit_code == 0
    assert desk.asked("fetch") == ["fetch 2"]


def test_a_sync_never_judges_deletions(archive: Archive) -> None:
    """What it does not look at may well be there."""
    desk = Living(9)
    sync(desk, archive)
    desk.delete(9)
    assert sync(desk, archive).deleted == 0
    assert set(states(archive).values()) == {"stored"}
    assert desk.asked("ticket") == []


# Clocks


def test_a_ticket_from_the_future_hides_nothing(archive: Archive) -> None:
    """The watermark never passes our own clock, so all that changes until then is found."""
    desk = Living(9)
    desk.touch(5, NOW + 50 * DAY)
    sync(desk, archive)
    assert mark(archive, "watermark") == 1009
    new = desk.reply(2, 1020)
    sync(desk, archive, now=NOW + 60)
    assert states(archive)[new] == "stored"
    assert mark(archive, "watermark") == 1020


def test_a_source_whose_clock_is_ahead_costs_only_work(archive: Archive) -> None:
    """When all is in the future, the watermark is our own now."""
    desk = Living(9)
    for number in range(1, 10):
        desk.touch(number, NOW + 600 + number)
    sync(desk, archive)
    assert mark(archive, "watermark") == NOW
    new = desk.reply(2, NOW + 700)
    sync(desk, archive, now=NOW + 60)
    assert states(archive)[new] == "stored"
    assert mark(archive, "watermark") == NOW + 60


def test_the_watermark_does_not_go_back_with_the_newest_ticket(archive: Archive) -> None:
    """When the ticket that was active last leaves the list, nothing below it is new."""
    desk = Living(9)
    sync(desk, archive)
    desk.trash(9)
    sync(desk, archive)
    assert mark(archive, "watermark") == 1009
    assert listed(desk) == 0


def test_our_clock_set_back_costs_a_whole_pass_and_no_file(archive: Archive) -> None:
    """Both clocks were a day ahead and are right again: what changes now is found."""
    desk = Living(9)
    for number in range(1, 10):
        desk.touch(number, NOW + DAY + number)
    sync(desk, archive, now=NOW + DAY + 60)
    assert mark(archive, "watermark") == NOW + DAY + 9
    new = desk.reply(3, NOW + 120)
    sync(desk, archive, now=NOW + 180)
    assert states(archive)[new] == "stored"
    watermark = mark(archive, "watermark")
    assert watermark is not None
    assert watermark <= NOW + 180
    newer = desk.reply(4, NOW + 200)
    sync(desk, archive, now=NOW + 240)
    assert states(archive)[newer] == "stored"


def test_our_clock_set_back_behind_the_last_sync_costs_a_whole_pass(archive: Archive) -> None:
    """Also when that was no whole pass: the watermark itself is in the future then."""
    desk = Living(9)
    sync(desk, archive)
    desk.touch(2, NOW + 500)
    sync(desk, archive, now=NOW + 600)
    asked = RunOptions(SOURCE)
    assert next_pass(archive.queries, asked, SyncOptions(), now=NOW + 500).increment is not None
    decided = next_pass(archive.queries, asked, SyncOptions(), now=NOW + 499)
    assert decided == (None, "our clock was set back")


def test_a_clock_of_ours_in_the_past_costs_only_work(archive: Archive) -> None:
    """A machine that starts in 1970 looks at more, never at less."""
    desk = Living(9)
    sync(desk, archive, now=60)
    assert mark(archive, "watermark") == 60
    new = desk.reply(2, 1020)
    sync(desk, archive, now=120)
    assert states(archive)[new] == "stored"
    assert listed(desk) == 9


def test_a_source_whose_clock_was_set_back_is_seen_by_the_next_whole_pass(
    archive: Archive,
) -> None:
    """By less than the margin the next sync sees it, by more the next whole pass."""
    desk = Living(9)
    sync(desk, archive)
    soon, later = desk.reply(2, 1000), desk.reply(3, 500)
    sync(desk, archive, margin=60)
    assert soon in states(archive)
    assert later not in states(archive)
    sync(desk, archive, now=NOW + 7 * DAY)
    assert later in states(archive)


# Odd sources


class Unsorted(Living):
    """An old version: takes any order for that by id."""

    def newest(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        return rows


class Refusing(Living):
    """Fails when asked to sort."""

    def newest(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        raise ServerFailed("HTTP 500")


@pytest.mark.parametrize("kind", [Unsorted, Refusing])
def test_a_source_that_cannot_sort_is_walked_by_id(archive: Archive, kind: type[Living]) -> None:
    """Every page is asked for, but only tickets in range are listed."""
    desk = kind(50)
    assert sync(desk, archive, page_size=20).exit_code == 0
    assert mark(archive, "watermark") == 1050
    new, ear = desk.reply(20, 1051), Ear()
    if kind is Refusing:
        assert sync(desk, archive, page_size=20).exit_code == 4
        return
    assert sync(desk, archive, page_size=20, ear=ear).exit_code == 0
    assert states(archive)[new] == "stored"
    assert sorted(desk.asked("list")) == ["list 20", "list 50"]
    assert mark(archive, "watermark") == 1051
    texts = [notice.text for notice in ear.of(Notice)]
    assert texts == ["the source does not sort by last activity: walking all tickets by id"]


def test_a_source_that_cannot_sort_may_look_as_if_it_could(archive: Archive) -> None:
    """Old tickets of one moment stand first by id, and say nothing of what comes after them."""
    desk = Unsorted(120)
    for number in range(1, 101):
        desk.touch(number, 1000)
    sync(desk, archive)
    new = desk.reply(110, 2000)
    sync(desk, archive)
    assert states(archive)[new] == "stored"


def test_tickets_without_a_time_are_left_to_the_whole_pass(archive: Archive) -> None:
    """Those sort last, and nothing tells when they changed."""
    desk = Living(9)
    desk.touch(3, 0)
    sync(desk, archive)
    new = desk.attach(3, b"when?")
    sync(desk, archive)
    assert new not in states(archive)
    sync(desk, archive, full=True)
    assert states(archive)[new] == "stored"


def test_a_helpdesk_without_tickets_is_synced(archive: Archive) -> None:
    """Empty lists are lists; the first ticket is found."""
    desk = Living()
    for _ in range(2):
        assert sync(desk, archive).exit_code == 0
    desk.open(1, active=1000)
    new = desk.attach(1, b"first")
    sync(desk, archive)
    assert states(archive)[new] == "stored"


@pytest.mark.parametrize("full", [False, True])
def test_a_sync_that_is_shown_no_departments_has_seen_nothing(archive: Archive, full: bool) -> None:
    """It fails and moves no mark, or a whole pass over nothing would do for a week."""
    desk = Living(3)
    sync(desk, archive)
    before = marks(archive)
    desk.rooms = []
    result = sync(desk, archive, full=full)
    assert isinstance(result.ended_by, UnexpectedReply)
    assert (result.exit_code, marks(archive)) == (4, before)


def test_a_list_that_is_empty_once_is_not_an_empty_helpdesk(archive: Archive) -> None:
    """Where the source cannot count its tickets, only a second look tells."""

    class Slipping(Living):
        async def ticket_count(self, *_: object) -> int | None:
            return None

        def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
            first = len(self.asked("page")) == 1 and not self.asked("list")
            return [] if first else super().page(rows, count, start)

    desk = Slipping(9)
    assert sync(desk, archive).exit_code == 0
    assert set(states(archive)) == set(desk.files)


def test_the_trash_is_synced_when_it_is_included(archive: Archive) -> None:
    """It is a list of its own, and what is new in it is new."""
    desk = Living(9)
    desk.trash(2)
    scope = Scope(include_trash=True)
    sync(desk, archive, scope=scope)
    assert 2 in states(archive)
    new = desk.reply(2, 1020)
    sync(desk, archive, scope=scope)
    assert states(archive)[new] == "stored"
    assert listed(desk) == 2
    assert mark(archive, "watermark") == 1009, "of the first list, which is asked for first"


def test_a_run_says_in_its_record_what_it_looked_at(archive: Archive) -> None:
    """Who reads the runs can tell a whole pass from an increment."""
    desk = Living(3)
    sync(desk, archive)
    sync(desk, archive, margin=3)
    increment, whole = archive.queries.runs(2)
    assert increment.kind == "sync"
    assert increment.scope["active_since"] == 1000
    assert "active_since" not in whole.scope


def test_an_odd_record_of_a_run_owes_nothing(archive: Archive) -> None:
    """A summary that another version wrote is not stumbled over."""
    desk = Living(3)
    sync(desk, archive)
    with archive.ledger.atomic():
        last = archive.queries.runs(1)[0]
        archive.ledger.finish_run(last.id, exit_code=0, summary={"unlisted": 3})
    decided = next_pass(archive.queries, RunOptions(SOURCE), SyncOptions(margin=3), now=NOW)
    assert decided.increment == Increment(1000)


class Huge(Living):
    """A hundred thousand tickets, of which it renders only those that are asked for."""

    SIZE = 100_000

    def rows(self, department_ids: Collection[int]) -> list[Ticket]:
        return []

    def newest(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        numbers = range(self.SIZE - start, max(0, self.SIZE - start - count), -1)
        found = [Ticket(n, f"T-{n}", 1, 1, last_activity=1000 + 600 * n) for n in numbers]
        self.tickets |= {one.id: one for one in found}
        return found

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        return rows


def test_a_quiet_sync_of_a_hundred_thousand_tickets_does_next_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handful of requests, and no look at more rows of the checkpoint than tickets in range."""
    desk = Huge()
    latest = 1000 + 600 * Huge.SIZE
    now = latest + 300
    opened: list[Checkpoint] = []
    real = Checkpoint.connect

    def connect(path: Path) -> Checkpoint:
        opened.append(real(path))
        return opened[-1]

    monkeypatch.setattr(Checkpoint, "connect", connect)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    with open_archive(tmp_path / "huge", command="test") as archive:
        made = archive.ledger.begin_run("run", source=SOURCE, scope={"include_trash": False})
        archive.ledger.set_mark("watermark", latest, run_id=made.id)
        archive.ledger.set_mark("full_pass", now - DAY, run_id=made.id)
        archive.ledger.finish_run(made.id, exit_code=0, summary={})
        opened[0].conn.set_progress_handler(step, 1000)
        result = sync(desk, archive, now=now, margin=3600)
        opened[0].conn.set_progress_handler(None, 0)
    assert (result.exit_code, result.tickets) == (0, 7)
    assert len(desk.calls) == 3 + 7, "departments, statuses, one page, and the lists in range"
    assert len(desk.tickets) == 100
    assert steps < 50, "thousands of SQLite's instructions, not millions"
