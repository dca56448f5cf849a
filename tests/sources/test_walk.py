"""The walk meets every ticket, whatever the helpdesk and its people do meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.errors import (
    BadRequest,
    ConfigError,
    MemoryExhausted,
    NotFound,
    NotXml,
    PartialReply,
    ServerFailed,
    SourceError,
    SourceRefused,
    SourceUnreachable,
    Throttled,
    TooLarge,
    Truncated,
    UnexpectedReply,
    WrongTicket,
)
from migrator.sources.base import Department, Scope, Ticket, TicketStatus, Unreadable
from migrator.sources.kayako import walk as walk_module
from migrator.sources.kayako.walk import Helpdesk, count_tickets, look_around, walk
from tests.pull.doubles import Desk


def met(
    desk: Desk,
    scope: Scope | None = None,
    *,
    page_size: int = 10,
    unreadable: Unreadable | None = None,
) -> list[int]:
    """Walk a desk to the end and give the ids, in order."""

    async def main() -> list[int]:
        helpdesk = await look_around(desk)
        tickets = walk(desk, helpdesk, scope or Scope(), page_size=page_size, unreadable=unreadable)
        return [ticket.id async for ticket in tickets]

    return asyncio.run(main())


class Busy(Desk):
    """Something happens right before the given requests for a page (0 is the first)."""

    def __init__(self, tickets: int, *, before: dict[int, Callable[[Desk], object]]) -> None:
        super().__init__(tickets, files=0)
        self._before = before

    async def turn(self, call: str) -> None:
        if call.startswith("page"):
            happen = self._before.get(len(self.asked("page")))
            if happen is not None:
                happen(self)
        await super().turn(call)


def without(*numbers: int) -> Callable[[Desk], object]:
    """Trash these tickets."""

    def happen(desk: Desk) -> None:
        for number in numbers:
            desk.trash(number)

    return happen


def back(*numbers: int) -> Callable[[Desk], object]:
    """Open these tickets."""

    def happen(desk: Desk) -> None:
        for number in numbers:
            desk.open(number)

    return happen


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 10, 24, 25, 26, 100])
@pytest.mark.parametrize("tickets", [0, 1, 2, 25])
def test_all_tickets_are_met_once_whatever_the_page_size(tickets: int, page_size: int) -> None:
    """Every ticket comes once, in order, for any size of pages and of the helpdesk."""
    assert met(Desk(tickets), page_size=page_size) == list(range(1, tickets + 1))


def test_pages_overlap() -> None:
    """A page starts with rows of the page before, or removed rows would go unnoticed."""
    desk = Desk(30)
    met(desk, page_size=10)
    assert desk.asked("page")[:3] == ["page 0+10", "page 9+10", "page 18+10"]


@pytest.mark.parametrize("gone", [1, 2, 9, 15, 19])
def test_rows_removed_during_the_walk_hide_no_ticket(gone: int) -> None:
    """Any number of met tickets may leave the list between two pages."""
    desk = Busy(60, before={2: without(*range(1, gone + 1))})
    assert met(desk, page_size=10) == list(range(1, 61))


def test_a_list_that_shrinks_to_less_than_we_asked_hides_no_ticket() -> None:
    """When the next page is empty because the list became short, its end is looked at again."""
    desk = Busy(28, before={2: without(*range(1, 13))})
    assert met(desk, page_size=10) == list(range(1, 29))


def test_all_that_was_met_may_vanish() -> None:
    """Even when no met ticket is left to hold on to, the others are met."""
    desk = Busy(60, before={3: without(*range(1, 29))})
    assert met(desk, page_size=10) == list(range(1, 61))


def test_rows_removed_twice_at_the_same_place_hide_no_ticket() -> None:
    """Looking back once does not make the walk blind for the next removal at that row."""
    desk = Busy(60, before={2: without(*range(1, 6)), 5: without(*range(6, 11))})
    assert met(desk, page_size=10) == list(range(1, 61))


def test_tickets_that_come_back_from_the_trash_do_not_end_the_walk() -> None:
    """A page pushed back to tickets that were met already is not the end of the list."""
    desk = Busy(60, before={2: back(*range(-30, 0))})
    assert set(range(1, 61)) <= set(met(desk, page_size=10))


def test_new_tickets_are_met_too() -> None:
    """What arrives during the walk is at its end, and is met there."""
    desk = Busy(30, before={3: back(31)})
    assert met(desk, page_size=10)[-1] == 31


class ShortPages(Desk):
    """Gives some rows fewer than were asked for, now and then."""

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        return rows[start : start + count - len(self.calls) % 3]


class Capped(Desk):
    """Never gives more than four rows."""

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        return rows[start : start + min(count, 4)]


class OneByOne(Desk):
    """Never gives more than one row."""

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        return rows[start : start + 1]


class Unpaged(Desk):
    """An old version: knows neither count nor start."""

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        return rows


class TooLong(Desk):
    """An old version without pages, whose lists of more than ``most`` tickets are too long."""

    most = 3

    async def tickets_page(
        self, department_ids: Iterable[int], status_ids: Iterable[int], **_: Any
    ) -> list[Ticket]:
        await self.turn("page")
        rows = [one for one in self.rows(list(department_ids)) if one.status_id in set(status_ids)]
        if len(rows) > self.most:
            raise TooLarge("the list is larger than 12 MiB")
        return rows


def spread(most: int) -> TooLong:
    """Give a helpdesk of two departments and two statuses, three tickets in each."""
    desk = TooLong(0)
    desk.most = most
    desk.rooms = [Department(1, "Support"), Department(4, "Sales")]
    for number in range(1, 13):
        desk.open(number, department=(1, 4)[number % 2])
        desk.tickets[number] = replace(desk.tickets[number], status_id=(1, 3)[number % 4 // 2])
    return desk


@pytest.mark.parametrize("most", [3, 6, 12])
def test_a_list_that_is_too_long_as_a_whole_is_asked_for_in_shorter_ones(most: int) -> None:
    """By department, then by status: every ticket comes once, and nothing is a gap."""
    unreadable = Unreadable()
    assert sorted(met(spread(most), unreadable=unreadable)) == list(range(1, 13))
    assert not unreadable


def test_a_shortest_list_that_is_too_long_is_told() -> None:
    """If not even the list of one department and status fits, that is an error, never an end."""
    with pytest.raises(TooLarge):
        met(spread(2))


class SamePage(Desk):
    """Knows count, but not start."""

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        return rows[:count]


class Unsorted(Desk):
    """Has an order of its own, always the same."""

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        random.Random(7).shuffle(rows)
        return rows[start : start + count]


class UnpagedBackwards(Desk):
    """An old version that knows no order, either."""

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        assert len(self.asked("page")) < 40, "the walk does not end"
        return rows[::-1]


@pytest.mark.parametrize(
    "crime", [ShortPages, Capped, OneByOne, Unpaged, UnpagedBackwards, SamePage, Unsorted]
)
def test_odd_pages_hide_no_ticket(crime: type[Desk]) -> None:
    """A short page is not the end, and an old server's endless repetition is."""
    desk = crime(25)
    assert sorted(met(desk, page_size=10)) == list(range(1, 26))
    assert len(desk.asked("page")) < 40


@pytest.mark.parametrize("tickets", [1, 9, 10, 11, 80, 81])
def test_a_server_that_ignores_the_offset_is_asked_for_larger_pages(tickets: int) -> None:
    """Whatever the size of the list, also where it fills a page exactly."""
    desk = SamePage(tickets)
    assert sorted(met(desk, page_size=10)) == list(range(1, tickets + 1))
    assert len(desk.asked("page")) < 20


def test_a_server_without_pages_is_asked_twice_only() -> None:
    """A whole list that repeats itself ends the walk at once."""
    desk = Unpaged(25)
    met(desk, page_size=10)
    assert len(desk.asked("page")) == 2


@settings(deadline=None, max_examples=150)
@given(data=st.data(), tickets=st.integers(0, 40), page_size=st.integers(2, 12))
def test_tickets_that_stay_are_met_whatever_else_happens(
    data: st.DataObject, tickets: int, page_size: int
) -> None:
    """Every ticket present from start to end is met, once, whatever leaves between the pages.

    Tickets come back too, fewer between two requests than a page brings: a list that grows by
    exactly one page cannot be told from one that repeats itself.
    """
    before: dict[int, Callable[[Desk], object]] = {}
    left: set[int] = set()
    requests = st.lists(st.integers(0, 12), unique=True, max_size=6)
    for request in data.draw(requests):
        gone = data.draw(st.sets(st.integers(1, 40), max_size=25))
        come = data.draw(st.sets(st.integers(1, 40), max_size=max(0, page_size // 2 - 1)))
        left |= gone | come

        def happen(desk: Desk, gone: set[int] = gone, come: set[int] = come) -> None:
            without(*gone & desk.tickets.keys())(desk)
            back(*come & desk.tickets.keys())(desk)

        before[request] = happen
    found = met(Busy(tickets, before=before), page_size=page_size)
    assert set(range(1, tickets + 1)) - left <= set(found)
    assert len(found) == len(set(found))


class Cached(Desk):
    """Answers one question, the first time or always, with the page from another row."""

    def __init__(self, tickets: int, request: int, instead: int, *, always: bool) -> None:
        super().__init__(tickets, files=0)
        self._request = request
        self._instead = instead
        self._always = always
        self._address: tuple[int, int] | None = None

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        if len(self.asked("page")) - 1 == self._request:
            self._address = (start, count)
            start = self._instead
        elif self._always and self._address == (start, count):
            start = self._instead
        return rows[start : start + count]


@pytest.mark.parametrize("always", [False, True], ids=["once", "always"])
@pytest.mark.parametrize("tickets", [19, 60])
def test_a_page_in_the_place_of_another_hides_no_ticket(tickets: int, always: bool) -> None:
    """A cache may answer any page but the first with any other, or with an empty one."""
    for request in range(1, tickets // 9 + 2):
        for instead in (*range(0, tickets, 3), 1000):
            desk = Cached(tickets, request, instead, always=always)
            assert sorted(met(desk, page_size=10)) == list(range(1, tickets + 1))
            assert len(desk.asked("page")) < 40


def test_an_empty_list_is_asked_for_twice() -> None:
    """What looks empty may be the answer to another question."""
    desk = Cached(25, 0, 1000, always=True)
    assert met(desk) == list(range(1, 26))
    empty = Desk(0)
    met(empty)
    assert len(empty.asked("page")) == 2


def test_a_page_of_another_list_is_asked_for_again() -> None:
    """Tickets of a department that was not asked for are another question's answer."""

    class Mixed(Desk):
        def rows(self, department_ids: Collection[int]) -> list[Ticket]:
            if len(self.asked("page")) == 2:
                return super().rows([4])
            return super().rows(department_ids)

    desk = Mixed(0)
    desk.rooms.append(Department(4, "Sales"))
    for number in range(1, 81):
        desk.open(number, department=1 + 3 * (number % 2))
    assert met(desk, Scope(departments=frozenset({"1"}))) == list(range(2, 81, 2))


def test_a_server_that_mixes_lists_is_walked_to_its_end() -> None:
    """Where asking again does not help, every ticket that is shown is met."""

    class Mixed(Desk):
        def rows(self, department_ids: Collection[int]) -> list[Ticket]:
            return super().rows([1, 4])

    desk = Mixed(0)
    desk.rooms.append(Department(4, "Sales"))
    for number in range(1, 81):
        desk.open(number, department=1 + 3 * (number % 2))
    assert met(desk, Scope(departments=frozenset({"1"}))) == list(range(1, 81))
    assert len(desk.asked("page")) < 30


# Where the walk goes


def test_the_trash_is_walked_only_when_asked_and_alone() -> None:
    """Department 0 is never mixed with others, for Kayako would drop them or it."""
    desk = Desk(5)
    desk.trash(2)
    helpdesk = asyncio.run(look_around(desk))
    assert helpdesk.areas(Scope(include_trash=True)) == [((1,), (1, 3)), ((0,), (1, 3))]
    assert met(desk) == [1, 3, 4, 5]
    assert met(desk, Scope(include_trash=True)) == [1, 3, 4, 5, 2]


@pytest.mark.parametrize("rooms", [[], [Department(2, "Chat", app="livechat")]])
def test_without_departments_nothing_is_walked_nor_done(rooms: list[Department]) -> None:
    """Kayako would show the trash for an empty list, and we would call the helpdesk empty."""
    desk = Desk(5)
    desk.trash(2)
    desk.rooms = rooms
    with pytest.raises(UnexpectedReply, match="names no department that has tickets"):
        met(desk)
    assert desk.asked("page") == []


def test_a_ticket_that_moves_between_the_areas_comes_once() -> None:
    """What was met in a department and is trashed meanwhile is not given again."""
    desk = Busy(3, before={1: without(2)})
    assert met(desk, Scope(include_trash=True)) == [1, 2, 3]


def test_a_ticket_known_from_elsewhere_is_nothing_to_hold_on_to() -> None:
    """A ticket met in a department and trashed since does not hide rows removed in the trash."""

    def shrink(desk: Desk) -> None:
        for number in range(101, 116):
            desk.delete(number)

    desk = Busy(0, before={3: without(140), 5: shrink})
    for number in range(101, 161):
        desk.open(number, department=int(number == 140))
    assert sorted(met(desk, Scope(include_trash=True))) == list(range(101, 161))


def test_looking_further_up_may_be_needed_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only looks that bring nothing are limited, not those that did their work."""
    monkeypatch.setattr(walk_module, "MOST_DOUBTS", 2)
    before = {request: without(*range(request, request + 3)) for request in range(2, 40, 4)}
    desk = Busy(120, before=before)
    found = met(desk, page_size=10)
    assert found == list(range(1, 121))


def test_a_server_that_contradicts_itself_is_not_asked_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pages that never share a row are taken for what they are after some looks."""
    monkeypatch.setattr(walk_module, "MOST_DOUBTS", 3)

    class Skipping(Desk):
        def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
            return rows[start * 2 : start * 2 + count]

    desk = Skipping(100)
    met(desk)
    assert len(desk.asked("page")) < 250


def test_without_statuses_the_walk_is_refused() -> None:
    """Kayako takes no status for "unresolved only", which would hide most tickets."""

    class Stateless(Desk):
        async def statuses(self) -> list[TicketStatus]:
            return []

    with pytest.raises(UnexpectedReply, match="resolved tickets could not be listed"):
        met(Stateless(3))


def rooms() -> Desk:
    desk = Desk(0)
    desk.rooms = [
        Department(1, "Support"),
        Department(4, "Sales & Orders"),
        Department(9, "Chat", app="livechat"),
    ]
    for number in range(1, 7):
        desk.open(number, department=(1, 4)[number % 2])
    return desk


@pytest.mark.parametrize("name", ["4", " sales & ORDERS "])
def test_departments_are_found_by_id_and_by_title(name: str) -> None:
    """A title may be written in any case, with spaces around it."""
    assert met(rooms(), Scope(departments=frozenset({name}))) == [1, 3, 5]


def test_a_department_named_twice_is_asked_for_once() -> None:
    """Naming a department by id and by title is not two departments."""
    helpdesk = asyncio.run(look_around(rooms()))
    assert helpdesk.areas(Scope(departments=frozenset({"1", "support", "4"}))) == [((1, 4), (1, 3))]


@pytest.mark.parametrize("name", ["Chat", "9", "Warehouse"])
def test_an_unknown_department_names_the_known_ones(name: str) -> None:
    """Who mistypes a name is told which there are; a livechat department is none of them."""
    with pytest.raises(ConfigError, match=r"1 \(Support\), 4 \(Sales & Orders\)\.$"):
        met(rooms(), Scope(departments=frozenset({name})))


def test_a_title_that_two_departments_share_is_refused_with_both_ids() -> None:
    """The first one alone would be half of what was asked for, and called complete."""
    helpdesk = asyncio.run(look_around(rooms()))
    twin = replace(helpdesk.departments[0], id=77, title="SUPPORT\u3000")
    twins = replace(helpdesk, departments=[*helpdesk.departments, twin])
    with pytest.raises(ConfigError, match=r"more than one department: 1 \(Support\), 77 "):
        twins.areas(Scope(departments=frozenset({"Support"})))
    assert twins.areas(Scope(departments=frozenset({"#77"})))[0].department_ids == (77,)


def test_an_unknown_department_of_an_empty_helpdesk_is_told() -> None:
    """Also where there is none to name."""
    with pytest.raises(ConfigError, match="there are: none"):
        Helpdesk([], []).areas(Scope(departments=frozenset({"1"})))


def test_since_drops_the_quiet_tickets() -> None:
    """Older activity is passed over; a ticket that names none is looked at."""
    desk = Desk(0)
    for number, active in enumerate((500, 1000, 1500, 0), start=1):
        desk.open(number, active=active)
    assert met(desk, Scope(since=1000)) == [2, 3, 4]


def test_a_limit_ends_the_walk_early() -> None:
    """After so many tickets no further page is asked for."""
    desk = Desk(100)
    assert met(desk, Scope(limit_tickets=12)) == list(range(1, 13))
    assert len(desk.asked("page")) == 2


def test_only_a_scope_without_bounds_is_whole() -> None:
    """The trash widens a pass; every other option narrows it."""
    assert Scope(include_trash=True).whole
    narrow = [Scope(departments=frozenset({"1"})), Scope(since=1), Scope(limit_tickets=1)]
    assert not any(scope.whole for scope in narrow)


def test_tickets_are_counted_over_all_areas() -> None:
    """The count is that of everything the walk goes through."""
    desk = Desk(5)
    desk.trash(2)

    async def count(scope: Scope) -> int | None:
        return await count_tickets(desk, await look_around(desk), scope)

    assert asyncio.run(count(Scope())) == 4
    assert asyncio.run(count(Scope(include_trash=True))) == 5


def test_a_source_that_cannot_count_is_not_made_to() -> None:
    """An old version's silence is None, not 0."""

    class Uncounted(Desk):
        async def ticket_count(self, *_: object) -> int | None:
            return None

    async def count() -> int | None:
        desk = Uncounted(3)
        return await count_tickets(desk, await look_around(desk), Scope(include_trash=True))

    assert asyncio.run(count()) is None


# Rows that cannot be read


class Poisoned(Desk):
    """Fails every page that holds one of these tickets."""

    error: SourceError = ServerFailed("HTTP 500")

    def __init__(self, tickets: int, *poison: int) -> None:
        super().__init__(tickets)
        self.poison = set(poison)

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        found = super().page(rows, count, start)
        if self.poison & {one.id for one in found}:
            raise self.error
        return found


@pytest.mark.parametrize("poison", [(1,), (11,), (13,), (50,), (9, 10, 11), (1, 25, 50)])
def test_a_row_that_cannot_be_read_is_passed_over_and_noted(poison: tuple[int, ...]) -> None:
    """One broken ticket hides no other, and is told by its row."""
    noted = Unreadable()
    found = met(Poisoned(50, *poison), unreadable=noted)
    assert found == [number for number in range(1, 51) if number not in poison]
    assert noted == {number - 1: "HTTP 500" for number in poison}


def test_small_pages_of_rows_met_before_do_not_end_the_walk() -> None:
    """The rows that two pages share are no end of the list when only they can be read."""
    desk = Poisoned(250, 101)
    found = met(desk, page_size=100)
    assert found == [number for number in range(1, 251) if number != 101]
    assert desk.asked("page")[-1].endswith("+100"), "pages grow again behind the broken row"


def test_pages_too_large_for_the_server_are_asked_in_pieces() -> None:
    """A page that exhausts PHP's memory comes in smaller ones, with nothing lost."""

    class SmallMemory(Desk):
        def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
            if count > 20:
                raise MemoryExhausted("Allowed memory size")
            return super().page(rows, count, start)

    noted = Unreadable()
    assert met(SmallMemory(250), page_size=100, unreadable=noted) == list(range(1, 251))
    assert noted == {}


def test_a_list_of_which_nothing_can_be_read_is_an_error() -> None:
    """After twenty broken rows in a row it is the list that is broken: no endless walk."""
    noted = Unreadable()
    with pytest.raises(ServerFailed):
        met(Poisoned(100, *range(1, 101)), unreadable=noted)
    assert len(noted) == 20


def test_broken_rows_here_and_there_do_not_add_up() -> None:
    """Only an unbroken run of broken rows is taken for a broken list."""
    poison = range(2, 100, 3)
    noted = Unreadable()
    assert len(met(Poisoned(100, *poison), unreadable=noted)) == 100 - len(poison)
    assert len(noted) == len(poison)


def test_a_server_that_is_down_is_not_taken_for_a_broken_row() -> None:
    """Before a row is given up, the server must show that it answers at all."""

    class Down(Poisoned):
        async def statuses(self) -> list[TicketStatus]:
            if self.asked("page"):
                raise SourceUnreachable("no answer")
            return await super().statuses()

    noted = Unreadable()
    with pytest.raises(SourceUnreachable):
        met(Down(5, 3), unreadable=noted)
    assert noted == {}


def test_an_unreachable_source_ends_the_walk_at_once() -> None:
    """What smaller pages cannot help is raised as it is."""

    class Gone(Desk):
        def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
            raise SourceUnreachable("no answer")

    desk = Gone(5)
    with pytest.raises(SourceUnreachable):
        met(desk)
    assert len(desk.asked("page")) == 1


@pytest.mark.parametrize(
    "kind", [BadRequest, NotFound, NotXml, TooLarge, Truncated, UnexpectedReply, WrongTicket]
)
def test_a_page_that_is_refused_costs_its_row(kind: type[SourceError]) -> None:
    """Whatever a firewall, a proxy or a server makes of one row, the others are listed."""
    noted = Unreadable()
    desk = Poisoned(250, 101)
    desk.error = kind("HTTP 403")
    assert len(met(desk, page_size=100, unreadable=noted)) == 249
    assert noted == {100: "HTTP 403"}
    assert len(desk.asked("page")) < 4 + 20, "the search costs little"


@pytest.mark.parametrize("kind", [SourceRefused, SourceUnreachable, Throttled])
def test_what_says_nothing_of_a_page_ends_the_walk(kind: type[SourceError]) -> None:
    """A source that refuses everything, or is away, has not said which row is broken."""
    desk = Poisoned(50, 30)
    desk.error = kind("no")
    with pytest.raises(kind):
        met(desk)


@pytest.mark.parametrize(
    ("first", "last"), [(1, 21), (1, 45), (30, 49), (30, 50), (30, 90), (60, 119), (60, 120)]
)
def test_a_long_run_of_broken_rows_costs_only_them(first: int, last: int) -> None:
    """Behind twenty of them the walk looks further down, and tells how many it passed over."""
    noted = Unreadable()
    desk = Poisoned(120, *range(first, last + 1))
    found = met(desk, unreadable=noted)
    assert found == [number for number in range(1, 121) if not first <= number <= last]
    assert noted.rows == last - first + 1
    assert len(noted) == min(last - first + 1, 21)
    assert len(desk.asked("page")) < 80
    if noted.rows > 21:
        assert f"{last - first - 19} rows from here on" in noted[first + 19]


def test_a_list_that_breaks_off_is_a_gap() -> None:
    """When nothing behind a row can be read, not even emptiness, the rest is told as lost."""

    class BreaksOff(Desk):
        def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
            if start + count > 40:
                raise ServerFailed("HTTP 500")
            return super().page(rows, count, start)

    noted = Unreadable()
    desk = BreaksOff(100)
    assert met(desk, unreadable=noted) == list(range(1, 41))
    assert "no row from here on" in noted[60]
    assert len(desk.asked("page")) < 60


def test_pages_that_are_too_large_stay_small_for_a_while() -> None:
    """What has failed at once is not tried again at once: a failure costs several requests."""

    class SmallMemory(Desk):
        failed = 0

        def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
            if count > 30:
                self.failed += 1
                raise MemoryExhausted("Allowed memory size")
            return super().page(rows, count, start)

    desk = SmallMemory(2000)
    assert met(desk, page_size=100) == list(range(1, 2001))
    assert desk.failed < 6


# Rows that are damaged


class Damaged(Desk):
    """Shows some tickets only in part, and others not at all."""

    def __init__(
        self, tickets: int, *, doubted: Iterable[int] = (), lost: Iterable[int] = ()
    ) -> None:
        super().__init__(tickets)
        self.doubted = set(doubted)
        self.lost = set(lost)
        self.alone: Exception | Ticket | None = None

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        found = super().page(rows, count, start)
        ids = [one.id for one in found]
        if not (self.doubted | self.lost) & set(ids):
            return found
        raise PartialReply(
            "only partly readable",
            rows=[
                Ticket(one.id) if one.id in self.doubted else one
                for one in found
                if one.id not in self.lost
            ],
            lost=[place for place, number in enumerate(ids) if number in self.lost],
            doubted=self.doubted & set(ids),
            strays=False,
        )

    async def ticket(self, ticket_id: int) -> Ticket:
        found = await super().ticket(ticket_id)
        if isinstance(self.alone, Exception):
            raise self.alone
        return self.alone or found


def tickets(desk: Desk, unreadable: Unreadable) -> dict[int, Ticket]:
    """Walk a desk to the end and give what was met."""

    async def main() -> dict[int, Ticket]:
        helpdesk = await look_around(desk)
        found = walk(desk, helpdesk, Scope(), page_size=10, unreadable=unreadable)
        return {ticket.id: ticket async for ticket in found}

    return asyncio.run(main())


def test_a_damaged_row_is_asked_for_by_itself() -> None:
    """The ticket that comes takes its place, and nothing is lost."""
    noted = Unreadable()
    desk = Damaged(25, doubted=[7, 10, 25])
    assert tickets(desk, noted) == desk.tickets
    assert noted == {}


@pytest.mark.parametrize(
    "alone",
    [
        ServerFailed("HTTP 500"),
        NotFound("Ticket not Found"),
        PartialReply("in part", rows=[Ticket(7)], doubted=[7]),
        Ticket(8),
    ],
    ids=["fails", "unknown", "damaged, too", "a stranger"],
)
def test_a_damaged_row_that_nobody_can_read_is_a_gap(alone: Exception | Ticket) -> None:
    """It is named by its ticket, which is met all the same: its attachments may be whole."""
    noted = Unreadable()
    desk = Damaged(25, doubted=[7])
    desk.alone = alone
    assert tickets(desk, noted) == desk.tickets | {7: Ticket(7)}
    assert list(noted) == [6]
    assert noted[6].startswith("ticket 7: ")
    assert noted.rows == 0, "no ticket is missing"


def test_a_ticket_of_which_a_post_is_damaged_is_whole_enough() -> None:
    """What a walk needs of a ticket is its header."""
    noted = Unreadable()
    desk = Damaged(25, doubted=[7])
    desk.alone = PartialReply("a post without id", rows=[desk.tickets[7]])
    assert tickets(desk, noted) == desk.tickets
    assert noted == {}


def test_rows_without_id_are_gaps() -> None:
    """Each costs itself and is told by its row, wherever it is in its page."""
    noted = Unreadable()
    assert list(tickets(Damaged(25, lost=[1, 10, 11, 25]), noted)) == [
        number for number in range(1, 26) if number not in {1, 10, 11, 25}
    ]
    assert sorted(noted) == [0, 9, 10, 24]
    assert noted.rows == 4


def test_what_stands_among_the_rows_is_a_gap() -> None:
    """The rows are met, but they prove nothing of what may have stood in its place."""

    class Noisy(Desk):
        def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
            found = super().page(rows, count, start)
            raise PartialReply("text among the rows", rows=found)

    noted = Unreadable()
    assert list(tickets(Noisy(25), noted)) == list(range(1, 26))
    assert "text among the rows" in noted[-1]
    assert noted.rows == 0


@pytest.mark.parametrize("call", ["departments", "statuses"])
def test_a_department_or_status_that_cannot_be_read_is_a_gap(call: str) -> None:
    """The others are walked; that its tickets are in no list is told, in every walk."""

    class Damaged(Desk):
        async def departments(self) -> list[Department]:
            found = await super().departments()
            if call == "departments":
                raise PartialReply("the departments: row 3 is damaged", rows=found)
            return found

        async def statuses(self) -> list[TicketStatus]:
            found = await super().statuses()
            if call == "statuses":
                raise PartialReply("the ticket statuses: row 3 is damaged", rows=found)
            return found

    noted = Unreadable()
    assert list(tickets(Damaged(5), noted)) == [1, 2, 3, 4, 5]
    assert "row 3 is damaged" in noted[-1]
    noted.clear()
    tickets(Damaged(5), noted)
    assert list(noted) == [-1]


# Helpdesks with many departments and statuses


class Large(Desk):
    """Filters as Kayako does, and drops what has too long an address."""

    def __init__(self, departments: int, states: list[TicketStatus]) -> None:
        super().__init__(0)
        self.rooms = [Department(number, f"D{number}") for number in range(1, departments + 1)]
        self.states = states
        self.lengths: set[int] = set()

    async def statuses(self) -> list[TicketStatus]:
        await self.turn("statuses")
        return self.states

    def listed(self, department_ids: Iterable[int], status_ids: Iterable[int]) -> list[Ticket]:
        departments = set(department_ids) & {one.id for one in self.rooms} or {0}
        known = {one.id: one for one in self.states}
        wanted = {
            one
            for one in status_ids
            if one in known and known[one].department_id in {0, *departments}
        } or {one.id for one in self.states if not one.resolved}
        return [
            self.tickets[number]
            for number in sorted(self.tickets)
            if self.tickets[number].department_id in departments
            and self.tickets[number].status_id in wanted
        ]

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
        await self.turn(f"page {start}+{count}")
        where = [",".join(map(str, ids)) for ids in (department_ids, status_ids)]
        self.lengths.add(sum(map(len, where)))
        return self.listed(department_ids, status_ids)[start : start + count]

    async def ticket_count(
        self, department_ids: Collection[int], status_ids: Collection[int]
    ) -> int | None:
        return len(self.listed(department_ids, status_ids))


@pytest.mark.parametrize("departments", [1, 60, 130, 400])
@pytest.mark.parametrize("statuses", [2, 90])
def test_long_lists_of_ids_are_asked_for_in_parts(departments: int, statuses: int) -> None:
    """No address is long, and every ticket is in exactly one list: each is met and counted once."""
    states = [
        TicketStatus(
            1000 + number,
            f"S{number}",
            department_id=0 if number < 2 or number % 3 else 1 + number % departments,
            resolved=number > 0,
        )
        for number in range(statuses)
    ]
    desk = Large(departments, states)
    for number in range(1, 300):
        department = 1 + number % departments
        fit = [one for one in states if one.department_id in {0, department}]
        desk.open(number, department=department)
        desk.tickets[number] = replace(desk.tickets[number], status_id=fit[number % len(fit)].id)
    for number in range(300, 310):
        desk.open(number, department=0)
        desk.tickets[number] = replace(desk.tickets[number], status_id=1001)
    scope = Scope(include_trash=True)

    async def main() -> tuple[list[int], int | None]:
        helpdesk = await look_around(desk)
        found = [one.id async for one in walk(desk, helpdesk, scope, page_size=50)]
        return found, await count_tickets(desk, helpdesk, scope)

    found, count = asyncio.run(main())
    assert sorted(found) == list(range(1, 310))
    assert len(found) == count == 309
    assert max(desk.lengths) <= 350


def test_parts_name_no_status_of_another_department() -> None:
    """Of a part that has none but these Kayako would list unresolved tickets only."""
    states = [TicketStatus(1000 + n, f"S{n}", department_id=n % 3) for n in range(90)]
    helpdesk = Helpdesk([Department(1, "A"), Department(2, "B")], states)
    areas = helpdesk.areas(Scope(frozenset({"A"})))
    assert len(areas) > 1
    assert {departments for departments, _ in areas} == {(1,)}
    named = sorted(one for _, statuses in areas for one in statuses)
    assert named == [one.id for one in states if one.department_id in {0, 1}]


def test_small_helpdesks_are_one_list() -> None:
    """Every department and every status in one address, also those of other departments."""
    states = [TicketStatus(1, "Open"), TicketStatus(2, "Lost", department_id=77)]
    helpdesk = Helpdesk([Department(1, "A"), Department(3, "B")], states)
    assert helpdesk.areas(Scope()) == [((1, 3), (1, 2))]


class Endless(Desk):
    """A list with a new ticket at every row, though few are counted."""

    def __init__(self, counted: int | None) -> None:
        super().__init__(0)
        self._counted = counted

    async def ticket_count(
        self, department_ids: Collection[int], status_ids: Collection[int]
    ) -> int | None:
        await super().ticket_count(department_ids, status_ids)
        return self._counted

    def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
        return [Ticket(row + 1, "", 1, 1, last_activity=1) for row in range(start, start + count)]


@pytest.mark.parametrize("counted", [None, 0, 3, 2000])
def test_a_list_that_never_ends_is_given_up_with_a_reason(counted: int | None) -> None:
    """A walk far beyond the source's own count stops, keeps what it met, and is not whole."""
    desk, lost = Endless(counted), Unreadable()
    found = met(desk, page_size=100, unreadable=lost)
    assert found == list(range(1, len(found) + 1))
    assert 2 * (counted or 0) + 1000 < len(found) < 2 * (counted or 0) + 1400
    assert lost.endless
    (text,) = lost.values()
    assert "goes on and on" in text
    assert ("counts" in text) == (counted is not None)


class Miscounted(Desk):
    """A helpdesk of which the count knows next to nothing."""

    async def ticket_count(
        self, department_ids: Collection[int], status_ids: Collection[int]
    ) -> int | None:
        await super().ticket_count(department_ids, status_ids)
        return 3


@pytest.mark.parametrize("sends_all", [False, True])
def test_a_wrong_count_hides_no_ticket(sends_all: bool) -> None:
    """A list that ends is walked to its end, however few tickets the source counts."""

    class Wrong(Miscounted):
        def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
            return rows if sends_all else super().page(rows, count, start)

    desk, lost = Wrong(5000, files=0), Unreadable()
    assert met(desk, page_size=100, unreadable=lost) == list(range(1, 5001))
    assert not lost
    assert not lost.endless
