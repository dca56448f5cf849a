"""The fast look: a fraction of the requests, and an honest word on what it may miss."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from migrator.archive import Archive, open_dry
from migrator.errors import BadRequest, PartialReply, ServerFailed, SourceError
from migrator.events import Notice, TicketsCounted
from migrator.plan.dry_run import Dry, dry_run
from migrator.pull.options import RunOptions, Stop
from migrator.sources.base import FastLook, Scope, Ticket
from migrator.sources.kayako.source import KayakoSource
from tests.pull.doubles import Desk, Ear, states


class Marking(Desk):
    """A desk that sorts by its marks; ``lies`` are tickets whose mark is wrong."""

    sorts = True
    lies: frozenset[int] = frozenset()

    def marked(self, ticket: Ticket) -> bool:
        """Tell the mark of a ticket."""
        has = any(one.ticket_id == ticket.id for one in self.files.values())
        return has is not (ticket.id in self.lies)

    async def tickets_page(
        self,
        department_ids: Iterable[int],
        status_ids: Iterable[int],
        *,
        count: int,
        start: int,
        sort: str = "ticketid",
        order: str = "ASC",
    ) -> list[Ticket]:
        if sort == "lastactivity":
            return await super().tickets_page(
                department_ids, status_ids, count=count, start=start, sort=sort, order=order
            )
        await self.turn(f"{sort} {start}+{count}")
        rows = self.rows(list(department_ids))
        if self.sorts and sort == "hasattachments":
            owners = {one.ticket_id for one in self.files.values()}
            rows.sort(key=lambda one: (one.id in owners) is not (one.id in self.lies))
        if order == "DESC":
            rows.reverse()
        return self.page(rows, count, start)


def desk(tickets: int, every: int = 10, kind: type[Marking] = Marking) -> Marking:
    """Make a helpdesk in which one ticket in so many has two files."""
    made = kind(tickets, files=0)
    for number in range(every, tickets + 1, every):
        made.attach(number, b"one")
        made.attach(number, b"two")
    return made


def look(
    source: Desk,
    archive: Archive,
    *,
    fast: bool = True,
    scope: Scope | None = None,
    ear: Ear | None = None,
    stop: Stop | None = None,
) -> Dry:
    """Do a dry run."""
    options = RunOptions(
        "https://help.example.com", "plan", scope or Scope(), concurrency=4, fast=fast
    )
    return asyncio.run(
        dry_run(KayakoSource(source), archive, options, listener=ear or Ear(), stop=stop)
    )


def preview(source: Desk, tmp_path: Path, **options: object) -> tuple[Dry, FastLook, set[int]]:
    """Take a fast look; gives what was found of attachments, too."""
    with open_dry(tmp_path / "archive") as archive:
        dry = look(source, archive, **options)  # type: ignore[arg-type]
        found = set(states(archive))
    assert dry.result.preview is not None
    return dry, dry.result.preview, found


def test_a_tenth_of_the_requests_finds_all(tmp_path: Path) -> None:
    """One ticket in ten has files: all of them are found with about a tenth of the requests."""
    source = desk(4000)
    dry, told, found = preview(source, tmp_path)
    assert found == set(source.files)
    assert told.fallback == ""
    assert (told.tickets, told.marked, told.found) == (4000, 400, 0)
    assert told.looked >= 30
    with open_dry(tmp_path / "archive") as archive:
        whole = look(desk(4000), archive, fast=False)
    assert dry.asked.total() < whole.asked.total() / 7
    assert dry.asked["lists"] < 400 + 100


def test_a_large_helpdesk_costs_its_tenth(tmp_path: Path) -> None:
    """Beside the lists of tickets with files stand some 80 requests, however large it is."""
    dry, told, _ = preview(desk(20_000, every=100), tmp_path)
    assert told.marked == 200
    assert dry.asked.total() < 200 + 120


def test_progress_counts_to_the_boundary(tmp_path: Path) -> None:
    """The total that is told is that of the tickets to be listed, for an ETA that is true."""
    ear = Ear()
    preview(desk(2000), tmp_path, ear=ear)
    assert [one.total for one in ear.of(TicketsCounted)] == [200]


def test_marks_that_lie_are_found_out(tmp_path: Path) -> None:
    """Some tickets are marked wrongly, both ways: those looked at tell how much is missed."""
    source = desk(5000, every=4)
    dice = random.Random(3)
    source.lies = frozenset(dice.sample(range(4, 5001, 4), 500))
    source.lies |= frozenset(dice.sample(range(1, 5001, 4), 100))
    _, told, found = preview(source, tmp_path)
    hidden = set(source.files) - found
    assert hidden
    assert told.looked >= 30
    assert told.found > 0
    assert len(hidden) / 3 < told.missed < len(hidden) * 3


@pytest.mark.parametrize("seed", range(5))
def test_a_few_empty_marked_tickets_do_not_hide_the_rest(tmp_path: Path, seed: int) -> None:
    """A probe that hits a marked ticket without files does not end the walk too early."""
    source = desk(3000)
    dice = random.Random(seed)
    marked = list(range(10, 3001, 10))
    for number in dice.sample(marked, 30):
        source.files = {key: one for key, one in source.files.items() if one.ticket_id != number}
        source.lies = source.lies | {number}
    _, _, found = preview(source, tmp_path)
    assert found == set(source.files)


class Unsorting(Marking):
    """An old version: whatever sort is asked for, it lists by id."""

    sorts = False


class Uncounting(Marking):
    """An older version yet: it cannot count."""

    async def ticket_count(self, *_: object) -> int | None:
        return None


class Failing(Marking):
    """A server on which the sort is too much for the database."""

    error: SourceError = ServerFailed("status 500")

    async def tickets_page(
        self, *args: object, sort: str = "ticketid", **more: object
    ) -> list[Ticket]:
        if sort == "hasattachments":
            raise self.error
        return await super().tickets_page(*args, sort=sort, **more)  # type: ignore[arg-type]


class Damaged(Marking):
    """Shows every page with something beside its rows, and so every list of attachments."""

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        raise PartialReply("in part", rows=super().page(rows, count, start))


class Refusing(Failing):
    """A firewall that dislikes the sort."""

    error = BadRequest("HTTP 403")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (desk(600, kind=Unsorting), "does not sort"),
        (desk(600, every=1), "all are alike"),
        (desk(600, every=1000), "all are alike"),
        (desk(600, kind=Uncounting), "cannot count"),
        (desk(600, kind=Failing), "cannot be had: status 500"),
        (desk(600, kind=Refusing), "cannot be had: HTTP 403"),
        (desk(30), "few tickets"),
    ],
    ids=["unsorted", "all marked", "none marked", "uncounted", "failing", "refused", "small"],
)
def test_it_falls_back_to_a_whole_look(tmp_path: Path, source: Marking, says: str) -> None:
    """Where the sort cannot be relied on, everything is listed, and the notice says why."""
    ear = Ear()
    dry, told, found = preview(source, tmp_path, ear=ear)
    assert found == set(source.files)
    assert says in told.fallback
    assert dry.result.tickets == len(source.tickets)
    assert any("everything is listed" in one.text for one in ear.of(Notice))


def test_damaged_pages_are_good_enough_for_an_estimate(tmp_path: Path) -> None:
    """What can be read of them is looked at, as fast as ever."""
    source = desk(1000, kind=Damaged)
    _, told, found = preview(source, tmp_path)
    assert (told.fallback, told.marked) == ("", 100)
    assert found == set(source.files)


def test_areas_are_looked_at_one_by_one(tmp_path: Path) -> None:
    """The trash is a list of its own, with a boundary of its own."""
    source = desk(1000)
    for number in range(7, 1000, 7):
        source.trash(number)
    _, told, found = preview(source, tmp_path, scope=Scope(include_trash=True))
    assert found == set(source.files)
    assert told.tickets == 1000


def test_old_tickets_are_out_of_scope(tmp_path: Path) -> None:
    """With --since the marked tickets that are older are not listed."""
    source = desk(1000)
    for number in (100, 200):
        source.open(number, active=9000)
    _, _, found = preview(source, tmp_path, scope=Scope(since=5000))
    assert {source.files[one].ticket_id for one in found} == {100, 200}


def test_asked_to_stop_it_stops(tmp_path: Path) -> None:
    """Interrupted anywhere, it ends at once and tells what it has seen."""
    for calls in (3, 12, 40, 150):
        stop = Stop()

        class Stopping(Marking):
            async def turn(self, call: str, stop: Stop = stop, calls: int = calls) -> None:
                await super().turn(call)
                if len(self.calls) >= calls and not stop.asked:
                    stop.ask()

        source = desk(3000, kind=Stopping)
        dry, _, _ = preview(source, tmp_path, stop=stop)
        assert dry.result.exit_code == 130
        assert len(source.calls) < calls + 20
