"""Tickets that no list names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from migrator.archive import Archive
from migrator.errors import (
    MigratorError,
    PartialReply,
    ServerFailed,
    SourceRefused,
    UnexpectedReply,
)
from migrator.events import Notice
from migrator.pull.options import MOST_GAPS
from migrator.sources.base import Scope, Ticket
from migrator.sources.kayako.listing import BEYOND, MOST_UNASKED
from tests.pull.doubles import Desk, Ear, pull, states

HIDDEN = 77
"""A department that was deleted: no list can name it."""


def told(ear: Ear) -> str:
    """Give all that was said."""
    return "\n".join(notice.text for notice in ear.of(Notice))


def desk_with_gaps() -> Desk:
    """Make a desk where 3 is hidden, 4 was merged into 1, 5 is deleted and 6 is in the trash."""
    desk = Desk(8)
    desk.tickets[3] = Ticket(3, department_id=HIDDEN, last_activity=1000)
    desk.merge(4, 1)
    desk.delete(5)
    desk.trash(6)
    return desk


def test_a_ticket_whose_department_is_gone_is_found_by_its_id(archive: Archive) -> None:
    """Its files are stored like all others, and it is told; who is deleted stays out."""
    desk, ear = desk_with_gaps(), Ear()
    result = pull(desk, archive, ear=ear)
    assert (result.exit_code, result.tickets) == (0, 5)
    assert states(archive) == dict.fromkeys((1, 2, 3, 4, 7, 8), "stored")
    assert "found 1 ticket by id that no list of the source names" in told(ear)
    assert sorted(desk.asked("ticket")) == [f"ticket {number}" for number in (3, 4, 4, 5, 6)]


@pytest.mark.parametrize("shown", [8, 0])
def test_the_newest_tickets_may_be_hidden(archive: Archive, shown: int) -> None:
    """Those behind the last one of the lists are found, too, also where no list names any."""
    desk = Desk(24)
    hidden = {5: HIDDEN, 12: HIDDEN, 13: 0, 20: HIDDEN, 24: HIDDEN}
    for number in range(shown + 1, 25):
        if number in hidden:
            desk.tickets[number] = replace(desk.tickets[number], department_id=hidden[number])
        else:
            desk.delete(number)
    assert pull(desk, archive).exit_code == 0
    beyond = {5, 12, 20, 24} - set(range(1, shown + 1))
    assert states(archive) == dict.fromkeys((*range(1, shown + 1), *sorted(beyond)), "stored")


def test_a_source_without_a_word_for_what_is_not_there_has_no_gaps(archive: Archive) -> None:
    """Ids above the highest one that cannot be asked for are nobody's, and not told."""
    desk, ear = Broken(lambda: ServerFailed("HTTP 500")), Ear()
    desk.tickets = {1: desk.tickets.get(1, Ticket(1, department_id=1))}
    result = pull(desk, archive, ear=ear)
    assert (result.exit_code, result.unasked) == (0, 0)
    assert "ticket ids" not in told(ear)


def test_a_source_that_knows_every_ticket_ends_the_search(archive: Archive) -> None:
    """However far it goes on, no more ids are asked for than are asked for at all."""

    class Endless(Desk):
        async def ticket(self, ticket_id: int) -> Ticket:
            await self.turn(f"ticket {ticket_id}")
            return Ticket(ticket_id, department_id=HIDDEN)

    desk = Endless(2)
    pull(desk, archive)
    assert len(desk.asked("ticket")) <= MOST_GAPS + BEYOND


def test_the_next_pass_knows_what_it_found(archive: Archive) -> None:
    """Merged tickets are not asked after again; hidden ones are not taken for deleted."""
    desk = desk_with_gaps()
    pull(desk, archive)
    before = len(desk.calls)
    assert pull(desk, archive).exit_code == 0
    assert states(archive)[3] == "stored"
    assert "ticket 4" not in desk.calls[before:]


def test_the_trash_is_asked_for_only_if_wanted(archive: Archive) -> None:
    """A ticket in the trash answers under its id and stays there."""
    desk = desk_with_gaps()
    assert 6 not in [*pull(desk, archive).unlisted, *states(archive)]
    pull(desk, archive, scope=Scope(include_trash=True))
    assert states(archive)[6] == "stored"


def test_too_many_gaps_are_told_instead_of_asked_for(archive: Archive) -> None:
    """A helpdesk that deleted half of its tickets is spared, unless every id is wanted."""
    desk, ear = desk_with_gaps(), Ear()
    pull(desk, archive, ear=ear, most_gaps=3)
    assert desk.asked("ticket") == []
    assert "4 ticket ids are in no list" in told(ear)
    assert "--every-id" in told(ear)
    pull(desk, archive, most_gaps=None)
    assert states(archive)[3] == "stored"


def test_an_absurd_id_does_not_hold_a_run_up(archive: Archive) -> None:
    """The ids below it are counted, not gone through."""
    desk, ear = Desk(2), Ear()
    desk.open(10**17)
    assert pull(desk, archive, ear=ear).exit_code == 0
    assert "99,999,999,999,999,997 ticket ids are in no list" in told(ear)


def test_part_of_a_helpdesk_has_no_gaps(archive: Archive) -> None:
    """Where not everything is looked at, an id that was not met means nothing."""
    desk = desk_with_gaps()
    pull(desk, archive, scope=Scope(limit_tickets=2))
    assert desk.asked("ticket") == []


class Broken(Desk):
    """Fails whenever it is asked for a ticket by its id."""

    def __init__(self, failure: Callable[[], MigratorError]) -> None:
        super().__init__()
        self.failure = failure
        self.open(100)

    async def ticket(self, ticket_id: int) -> Ticket:
        await self.turn(f"ticket {ticket_id}")
        raise self.failure()


def test_a_source_that_cannot_say_is_left_alone(archive: Archive) -> None:
    """After some failures the check is given up, with a warning: nothing listed depends on it."""
    desk, ear = Broken(lambda: ServerFailed("HTTP 500")), Ear()
    assert pull(desk, archive, ear=ear).exit_code == 0
    assert MOST_UNASKED <= len(desk.asked("ticket")) <= MOST_UNASKED + 2
    assert "that no list names" in told(ear)


def test_an_id_that_fails_where_others_are_answered_is_a_gap(archive: Archive) -> None:
    """There is a ticket that cannot be shown: told by its id, exit 3."""

    class Hidden(Desk):
        async def ticket(self, ticket_id: int) -> Ticket:
            if ticket_id == 3:
                raise ServerFailed("HTTP 500")
            return await super().ticket(ticket_id)

    desk = Hidden(5)
    desk.delete(2)
    desk.delete(3)
    result = pull(desk, archive)
    assert (result.exit_code, list(result.unlisted)) == (3, [3])


def test_an_empty_reply_is_an_answer(archive: Archive) -> None:
    """A server that sends an empty list for what is not there is asked for all of them."""
    desk, ear = Broken(lambda: UnexpectedReply("the reply holds 0 tickets")), Ear()
    assert pull(desk, archive, ear=ear).exit_code == 0
    assert len(desk.asked("ticket")) == 99 + BEYOND
    assert "could not ask" not in told(ear)


def test_a_ticket_with_a_damaged_post_is_found_all_the_same(archive: Archive) -> None:
    """Its header is enough to list it; where not even that can be read, it is told."""

    class Damaged(Desk):
        async def ticket(self, ticket_id: int) -> Ticket:
            found = await super().ticket(ticket_id)
            raise PartialReply("a post without id", rows=[found] if found.id == 3 else [])

    desk, ear = Damaged(8), Ear()
    for number in (3, 5):
        desk.tickets[number] = Ticket(number, department_id=HIDDEN, last_activity=1000)
    pull(desk, archive, ear=ear)
    assert states(archive).keys() == {1, 2, 3, 4, 6, 7, 8}
    assert "found 1 ticket by id" in told(ear)
    assert "could not ask for 1 ticket id that no list names" in told(ear)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_key_that_is_revoked_meanwhile_ends_the_run(archive: Archive, concurrency: int) -> None:
    """As everywhere else: exit 4."""
    desk = Broken(lambda: SourceRefused("the keys are refused"))
    assert pull(desk, archive, concurrency=concurrency).exit_code == 4
