"""The workers between the lists and the archive."""

from __future__ import annotations

import asyncio

import pytest

from migrator.archive import Archive, Listed, Outcome, TicketRow, Work
from migrator.errors import PartialReply
from migrator.events import AttachmentSettled, TicketListed
from migrator.pull.fetch import Fetcher
from migrator.pull.threads import listed_of, row_of
from migrator.sources.base import Attachment, Ticket
from migrator.sources.kayako.source import KayakoSource
from tests.pull.doubles import Desk, Ear, problems, pull, states


def test_a_ticket_keeps_what_the_endpoint_and_the_pages_show() -> None:
    """Every column of the archive comes from the field of its name."""
    ticket = Ticket(7, "ABC-1", 2, 3, "Subject", "Jane", "j@example.com", 100, 200, (), "Bob")
    people = ("Jane", "j@example.com", "Bob")
    assert row_of(ticket) == TicketRow(7, 2, "ABC-1", "Subject", 100, 200, 3, *people)


@pytest.mark.parametrize(
    ("notes", "problem"),
    [((), None), (("noise_around_xml",), None), (("x", "repaired_name"), "repaired_name")],
)
def test_an_attachment_keeps_what_its_list_said(
    notes: tuple[str, ...], problem: str | None
) -> None:
    """Of the notes of a list only the repaired name is one of the attachment."""
    attachment = Attachment(5, 7, 9, "a.pdf", 1234, "application/pdf", 99, notes)
    expected = Listed(5, 7, 9, "a.pdf", "application/pdf", 1234, 99, problem)
    assert listed_of(attachment) == expected


def test_the_note_of_a_list_stays_beside_the_stored_row(archive: Archive) -> None:
    """A name that was repaired in the list is noted where the fetch itself saw nothing odd."""

    class Repairing(Desk):
        async def attachments(self, ticket_id: int) -> list[Attachment]:
            found = await super().attachments(ticket_id)
            return [
                Attachment(one.id, ticket_id, 1, "x", 6, notes=("repaired_name",)) for one in found
            ]

    pull(Repairing(1), archive)
    assert (states(archive), problems(archive)) == ({1: "stored"}, {1: "repaired_name"})


def test_a_list_that_was_understood_in_part_counts_its_ticket_once(archive: Archive) -> None:
    """However often it is asked again, progress says no more tickets than there are."""

    class Partial(Desk):
        async def attachments(self, ticket_id: int) -> list[Attachment]:
            found = await super().attachments(ticket_id)
            if ticket_id == 2:
                raise PartialReply("in part", rows=found, problems=["a stray"])
            return found

    ear = Ear()
    result = pull(Partial(3), archive, ear=ear)
    assert (result.exit_code, list(result.unlisted)) == (3, [2])
    assert sorted(told.ticket_id for told in ear.of(TicketListed) if not told.again) == [1, 2, 3]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_runs_at_a_time_than_asked(archive: Archive, concurrency: int) -> None:
    """As many fetches as the run may have in flight, until each is written down."""
    desk = Desk(30)
    fetcher = Fetcher(KayakoSource(desk), archive.blobs, None)
    now = most = 0

    async def fetch(work: Work) -> Outcome:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        tried = await fetcher(work)
        now -= 1
        return tried

    pull(desk, archive, fetch=fetch, concurrency=concurrency)
    assert most == concurrency


def test_lists_wait_for_fetches(archive: Archive) -> None:
    """Memory does not grow with the helpdesk: a slow fetch holds lists and walk back."""
    desk = Desk(80)
    fetcher = Fetcher(KayakoSource(desk), archive.blobs, None)
    ahead: list[int] = []

    async def fetch(work: Work) -> Outcome:
        for _ in range(20):
            await asyncio.sleep(0)
        ahead.append(len(desk.asked("list")) - len(ahead))
        walked.append(5 * len(desk.asked("page")) - len(desk.asked("list")))
        return await fetcher(work)

    walked: list[int] = []
    pull(desk, archive, fetch=fetch, concurrency=2, page_size=5, looks=1)
    assert max(ahead) < 20
    assert max(walked) < 30


def test_events_tell_what_came_over_the_wire(archive: Archive) -> None:
    """Received and declared bytes, state, ticket, and whether the bytes were known already."""
    desk = Desk(2, files=0)
    desk.attach(1, b"same")
    desk.attach(2, b"same", declared=4)
    desk.attach(2, None, declared=9)
    ear = Ear()
    pull(desk, archive, ear=ear, concurrency=1)
    told = {one.attachment_id: one for one in ear.of(AttachmentSettled)}
    assert (told[1].state, told[1].ticket_id, told[1].received) == ("stored", 1, 4)
    assert told[1].deduped is not told[2].deduped
    assert (told[3].state, told[3].problem, told[3].declared) == ("missing", "source_lost_file", 9)
    assert {one.ticket_id: one.todo_bytes for one in ear.of(TicketListed)} == {1: 4, 2: 13}


def test_a_merge_met_by_a_fetch_is_told_with_the_survivor(archive: Archive) -> None:
    """Event and row name the ticket that has the attachment now."""

    class Merging(Desk):
        async def turn(self, call: str) -> None:
            if call == "fetch 1" and 1 in self.tickets:
                self.merge(1, 2)
            await super().turn(call)

    ear = Ear()
    pull(Merging(2), archive, ear=ear)
    told = {one.attachment_id: one.ticket_id for one in ear.of(AttachmentSettled)}
    assert told == {1: 2, 2: 2}
