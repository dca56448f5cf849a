"""The walk by last activity meets all that is new, whatever people do meanwhile."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.archive import Archive, open_archive
from migrator.errors import PartialReply
from migrator.events import Notice
from migrator.sources.base import Department, Ticket
from migrator.sources.kayako import walk as walk_module
from tests.pull.doubles import Ear, states
from tests.pull.syncing import Living, mark, sync


class Moving(Living):
    """Something happens right before the given requests for a page by activity (0 is the first)."""

    def __init__(self, tickets: int, files: int = 1) -> None:
        super().__init__(tickets, files)
        self.before: dict[int, Callable[[], object]] = {}
        self.now = 1000 + tickets

    async def turn(self, call: str) -> None:
        if call.startswith("recent"):
            self.before.pop(len(self.asked("recent")), lambda: None)()
        await super().turn(call)

    def work(self, number: int) -> None:
        """Let a reply come in, in the second that it is at the helpdesk."""
        self.reply(number, self.now)


def synced(tickets: int, archive: Archive) -> Moving:
    """Make a helpdesk that was synced, and in which every ticket was active since."""
    desk = Moving(tickets)
    sync(desk, archive)
    desk.now += 1
    for number in range(1, tickets + 1):
        desk.now += 1
        desk.work(number)
    return desk


def missing(desk: Living, archive: Archive) -> set[int]:
    """Give the files of the helpdesk's lists that the archive has not stored."""
    in_reach = {one.id for one in desk.rows([1])}
    held = {key for key, state in states(archive).items() if state == "stored"}
    return {key for key, one in desk.files.items() if one.ticket_id in in_reach} - held


@pytest.mark.parametrize("page", [0, 1, 2, 3])
def test_a_ticket_that_jumps_to_the_top_during_the_walk_is_met(archive: Archive, page: int) -> None:
    """It leaves a row that the walk had not reached for one that it had passed."""
    desk = synced(40, archive)
    desk.now += 10
    desk.before[page] = lambda: desk.work(1)
    assert sync(desk, archive, page_size=10).exit_code == 0
    assert missing(desk, archive) == set()
    assert mark(archive, "watermark") == (1081 if page else 1091), "of the first page, no later"


def test_a_ticket_that_is_active_all_the_time_ends_the_walk_all_the_same(
    archive: Archive,
) -> None:
    """Rows that move with every request cost a second look, not an endless one."""
    desk = synced(40, archive)
    moves = Random(3)
    for request in range(100):
        desk.before[request] = lambda: desk.work(moves.randint(1, 40))
    sync(desk, archive, page_size=10)
    assert len(desk.asked("recent")) < 30
    desk.before.clear()
    sync(desk, archive, page_size=10)
    assert missing(desk, archive) == set()


@pytest.mark.parametrize("gone", [1, 9, 15])
def test_tickets_that_leave_the_list_hide_no_other(archive: Archive, gone: int) -> None:
    """Rows that move up are looked for further up."""
    desk = synced(60, archive)

    def trash() -> None:
        for number in range(60 - gone, 60):
            desk.trash(number)

    desk.before[2] = trash
    assert sync(desk, archive, page_size=10).exit_code == 0
    assert missing(desk, archive) == set()


class Tied(Living):
    """Sorts tickets of one second as it likes, in another way for every question."""

    def newest(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        dice = Random(f"{count} {start}")
        return sorted(rows, key=lambda one: (-one.last_activity, dice.random()))


@pytest.mark.slow
@pytest.mark.parametrize("tickets", [15, 35, 400])
def test_tickets_of_one_second_are_all_met(archive: Archive, tickets: int) -> None:
    """A mass change gives many tickets one time, and then pages repeat rows and skip others."""
    desk = Tied(tickets)
    sync(desk, archive)
    for number in range(1, tickets + 1):
        desk.reply(number, 5000)
    ear = Ear()
    assert sync(desk, archive, page_size=10, ear=ear).exit_code == 0
    assert missing(desk, archive) == set()
    assert mark(archive, "watermark") == 5000
    by_id = [one.text for one in ear.of(Notice) if "walking all tickets by id" in one.text]
    assert bool(by_id) is (tickets == 400), "larger pages help, up to a point"
    for number in range(1, tickets + 1):
        desk.attach(number, b"still in the second of the watermark")
    sync(desk, archive, page_size=10)
    assert missing(desk, archive) == set()


def test_pages_of_one_row_do_not_hide_the_order(archive: Archive) -> None:
    """Several of them show it."""
    desk = synced(12, archive)
    sync(desk, archive, page_size=1)
    assert missing(desk, archive) == set()
    assert desk.asked("page") == []


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(data=st.data(), tickets=st.integers(1, 25), page_size=st.integers(10, 13))
def test_all_that_is_active_is_stored_whatever_happens_between_the_requests(
    data: st.DataObject, tickets: int, page_size: int
) -> None:
    """Replies, new tickets, trash and ties between any two requests: the next quiet sync has all.

    The helpdesk's clock stands still or goes on, as clocks do, and nothing has a margin.
    """

    class Wild(Moving, Tied):
        def happen(self) -> None:
            kinds = ["reply", "reply", "open", "trash"]
            for kind in data.draw(st.lists(st.sampled_from(kinds), max_size=4)):
                self.now += data.draw(st.integers(0, 1))
                if kind == "open":
                    self.open(max(self.tickets) + 1, active=self.now)
                    self.work(max(self.tickets))
                elif kind == "trash":
                    self.trash(data.draw(st.sampled_from(sorted(self.tickets))))
                elif here := sorted(one.id for one in self.rows([1])):
                    self.work(data.draw(st.sampled_from(here)))

    with (
        tempfile.TemporaryDirectory() as root,
        open_archive(Path(root) / "archive", command="test") as archive,
    ):
        desk = Wild(tickets, files=0)
        sync(desk, archive)
        for _ in range(data.draw(st.integers(1, 2))):
            desk.happen()
            desk.before = dict.fromkeys(
                data.draw(st.sets(st.integers(0, 4), max_size=3)), desk.happen
            )
            sync(desk, archive, page_size=page_size)
        desk.before = {}
        sync(desk, archive, page_size=page_size)
        assert missing(desk, archive) == set()


class Silent(Living):
    """Lists no ticket when told to, and counts them all the same."""

    silent = False

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        return [] if self.silent else super().page(rows, count, start)


def test_an_empty_list_of_a_helpdesk_that_counts_tickets_is_no_success(archive: Archive) -> None:
    """A slip of the source is told, moves no mark, and the next sync makes up for it."""
    desk, ear = Silent(3), Ear()
    sync(desk, archive)
    before = mark(archive, "watermark"), mark(archive, "success")
    desk.silent = True
    new = desk.reply(2, 2000)
    result = sync(desk, archive, now=1_000_100, ear=ear)
    assert (result.exit_code, result.short) == (3, 3)
    assert any("lists none" in event.text for event in ear.of(Notice))
    assert (mark(archive, "watermark"), mark(archive, "success")) == before
    desk.silent = False
    assert sync(desk, archive, now=1_000_200).exit_code == 0
    assert states(archive)[new] == "stored"


def test_an_empty_helpdesk_is_quiet(archive: Archive) -> None:
    """Where there is no ticket, none is counted and none is missed."""
    desk = Living(0)
    sync(desk, archive)
    assert sync(desk, archive).exit_code == 0


class Undated(Living):
    """Shows the activity of some tickets as something that is no date."""

    odd: frozenset[int] = frozenset()

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        found = super().page(rows, count, start)
        return [replace(one, last_activity=0) if one.id in self.odd else one for one in found]


@pytest.mark.parametrize("odd", [40, 31, 30, 22, 21])
def test_an_odd_date_costs_no_other_ticket(archive: Archive, odd: int) -> None:
    """A row whose activity cannot be read ends no walk, and is listed with those around it."""
    desk = Undated(40)
    sync(desk, archive)
    desk.odd = frozenset({odd})
    for number in range(15, 41):
        desk.reply(number, 2000 + number)
    ear = Ear()
    assert sync(desk, archive, page_size=10, ear=ear).exit_code == 0
    assert missing(desk, archive) == set()
    assert desk.asked("page") == [], "the order by activity is as good as it was"


def test_a_damaged_first_page_hides_no_activity(archive: Archive) -> None:
    """What can be read of it tells how far a whole pass has come."""

    class Damaged(Living):
        def newest(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
            found = super().newest(rows, count, start)
            raise PartialReply("in part", rows=found[:10], strays=True)

    desk = Damaged(9)
    sync(desk, archive)
    assert mark(archive, "watermark") == 1009


@pytest.fixture
def _each_department_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make addresses so short that every department is a list of its own."""
    monkeypatch.setattr(walk_module, "DEPARTMENTS_LENGTH", 1)


@pytest.mark.usefixtures("_each_department_alone")
@pytest.mark.parametrize("quiet", [4, 1, 7])
def test_departments_in_several_lists_are_synced_as_one(archive: Archive, quiet: int) -> None:
    """One of them may be empty: the mark moves, nothing is missed, and no slip is suspected."""
    desk = Living(30)
    desk.rooms = [Department(4, "A"), Department(1, "B"), Department(7, "C")]
    busy = [one for one in (4, 1, 7) if one != quiet]
    for number in range(1, 31):
        moved = replace(desk.tickets[number], department_id=busy[number % 2])
        desk.tickets[number] = moved
    assert sync(desk, archive).exit_code == 0
    assert mark(archive, "watermark") == 1030
    for number in (3, 8, 12):
        desk.reply(number, 2000 + number)
    ear = Ear()
    assert sync(desk, archive, ear=ear).exit_code == 0
    assert missing(desk, archive) == set()
    assert mark(archive, "watermark") == 2012
    assert ear.of(Notice) == []
    assert desk.asked("page") == [], "no walk by id"
