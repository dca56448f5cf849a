"""People work while we walk: what moves meanwhile is found all the same."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import pytest

from migrator.archive import Archive
from migrator.errors import BadRequest, NotFound, ServerFailed, SourceError, SourceRefused
from migrator.events import Notice, TicketsCounted
from migrator.pull.options import Stop
from migrator.sources.base import Attachment, Scope, Ticket
from tests.pull.doubles import Desk, Ear, pull, states


class Working(Desk):
    """Something happens right before the first call of each of these names."""

    def __init__(
        self, tickets: int, happenings: dict[str, Callable[[Working], object]], *, files: int = 1
    ) -> None:
        super().__init__(tickets, files)
        self._happenings = happenings

    async def turn(self, call: str) -> None:
        happening = self._happenings.pop(call, None)
        if happening is not None:
            happening(self)
        await super().turn(call)

    def touch(self, number: int) -> None:
        """Let a ticket become active."""
        ticket = self.tickets[number]
        self.tickets[number] = replace(ticket, last_activity=ticket.last_activity + 1)


def owners(archive: Archive) -> dict[int, int]:
    """Give the ticket of every attachment."""
    return {row.id: row.ticket_id for row in archive.queries.rows()}


@pytest.mark.parametrize("moment", ["list 3", "fetch 3", "list 1", "page 9+10"])
def test_a_ticket_merged_during_the_walk_is_found_under_the_survivor(
    archive: Archive, moment: str
) -> None:
    """Before its list, after it, or before its files are fetched: the bytes are the survivor's."""
    desk = Working(12, {moment: lambda desk: desk.merge(3, 1)})
    result = pull(desk, archive, page_size=10)
    assert (result.exit_code, result.tickets) == (0, 11)
    assert states(archive) == dict.fromkeys(range(1, 13), "stored")
    assert owners(archive)[3] == 1
    assert archive.queries.ticket_count() == 11, "the old ticket is known to be merged"


def test_two_tickets_merged_into_one_list_it_once(archive: Archive) -> None:
    """The survivor of several merges is not listed once for each."""

    def merge(desk: Working) -> None:
        desk.merge(2, 1)
        desk.merge(3, 1)

    desk = Working(4, {"list 4": merge})
    assert pull(desk, archive, concurrency=1).exit_code == 0
    assert owners(archive) == {1: 1, 2: 1, 3: 1, 4: 4}
    assert desk.calls.count("list 1") == 2
    pages = [call for call in desk.calls if call.startswith("page 0+")]
    assert pages == ["page 0+100", "page 0+400", "page 0+1000"], "after a merge it looks once more"


def test_a_chain_of_merges_is_followed_to_its_end(archive: Archive) -> None:
    """Merged twice during one walk, stored under the last survivor."""

    def merge(desk: Working) -> None:
        desk.merge(3, 2)
        desk.merge(2, 1)

    assert pull(Working(4, {"fetch 4": merge}), archive).exit_code == 0
    assert owners(archive) == {1: 1, 2: 1, 3: 1, 4: 4}


def test_an_attachment_added_during_the_walk_is_found(archive: Archive) -> None:
    """A ticket that became active after its list is listed again."""

    def add(desk: Working) -> None:
        desk.attach(1, b"late")
        desk.touch(1)

    desk = Working(5, {"list 5": add})
    assert pull(desk, archive).exit_code == 0
    assert states(archive) == dict.fromkeys(range(1, 7), "stored")
    assert len(desk.asked("list 1")) + len(desk.asked("list")) > 5


def test_a_ticket_that_is_listed_again_is_not_fetched_again(archive: Archive) -> None:
    """What this run tried in vain waits for the next one, however active its ticket is."""

    class Failing(Working):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call == "fetch 1":
                self.touch(1)
                raise ServerFailed("HTTP 500")

    desk = Failing(3, {})
    assert pull(desk, archive).exit_code == 3
    assert desk.calls.count("list 1") == 2
    assert desk.calls.count("fetch 1") == 1


def test_a_ticket_opened_during_the_walk_is_found(archive: Archive) -> None:
    """The second look meets it."""

    def open_(desk: Working) -> None:
        desk.open(6)
        desk.attach(6, b"new")

    assert pull(Working(5, {"fetch 5": open_}), archive).exit_code == 0
    assert states(archive)[6] == "stored"


def test_a_ticket_deleted_before_its_list_is_no_gap(archive: Archive) -> None:
    """What is not there any more need not be listed: the pass is still whole."""
    result = pull(Working(3, {"list 2": lambda desk: desk.delete(2)}), archive)
    assert (result.exit_code, result.proven, result.tickets) == (0, True, 2)


def test_a_ticket_deleted_after_its_list_leaves_what_was_stored(archive: Archive) -> None:
    """It is followed up and found deleted; the next run, which lists it no more, marks it."""
    desk = Working(3, {"fetch 3": lambda desk: desk.delete(1)})
    result = pull(desk, archive, concurrency=1)
    assert (result.exit_code, result.tickets, result.deleted) == (0, 2, 0)
    assert states(archive) == dict.fromkeys((1, 2, 3), "stored")
    assert pull(desk, archive).deleted == 1
    assert states(archive) == {1: "deleted", 2: "stored", 3: "stored"}


def test_a_ticket_trashed_during_the_walk_is_no_gap(archive: Archive) -> None:
    """It still answers by its id; what was listed of it is fetched."""
    result = pull(Working(3, {"list 3": lambda desk: desk.trash(1)}), archive)
    assert (result.exit_code, states(archive)) == (0, dict.fromkeys((1, 2, 3), "stored"))


def test_a_list_that_failed_is_made_up_for_by_a_merge(archive: Archive) -> None:
    """A ticket whose list failed and that was merged since is listed with its survivor."""

    class Blind(Desk):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call == "list 2" and 2 in self.tickets:
                self.merge(2, 1)
                raise ServerFailed("HTTP 500")

    result = pull(Blind(3), archive)
    assert (result.exit_code, result.unlisted) == (0, {})
    assert states(archive) == dict.fromkeys((1, 2, 3), "stored")


def test_a_list_that_failed_is_made_up_for_by_a_deletion(archive: Archive) -> None:
    """A ticket that failed to be listed and is then deleted is no gap."""

    class Blind(Desk):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call == "list 2":
                self.delete(2)
                raise ServerFailed("HTTP 500")

    result = pull(Blind(3), archive)
    assert (result.exit_code, result.unlisted) == (0, {})


def test_a_list_that_failed_before_the_ticket_was_deleted_is_no_gap(archive: Archive) -> None:
    """Also when the walk still met the ticket and its second list found it gone."""

    class Blind(Desk):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call == "list 2" and len(self.asked("list")) > 3:
                self.delete(2)
            elif call == "list 2":
                raise ServerFailed("HTTP 500")

    result = pull(Blind(3), archive)
    assert (result.exit_code, result.unlisted) == (0, {})


def test_a_merge_that_cannot_be_followed_is_a_gap(archive: Archive) -> None:
    """Where a vanished ticket went is unknown: told, exit 3."""

    class Silent(Working):
        async def ticket(self, ticket_id: int) -> Ticket:
            await self.turn(f"ticket {ticket_id}")
            raise ServerFailed("HTTP 500")

    result = pull(Silent(3, {"list 3": lambda desk: desk.trash(1)}), archive)
    assert (result.exit_code, result.unlisted) == (3, {1: "HTTP 500"})


def test_a_merge_that_is_followed_at_last_is_no_gap(archive: Archive) -> None:
    """One failure on the way does not stick to the ticket."""

    class Stuttering(Working):
        async def ticket(self, ticket_id: int) -> Ticket:
            found = await super().ticket(ticket_id)
            if len(self.asked("ticket")) == 1:
                self.open(99)  # something moves, so there is a third look
                raise ServerFailed("HTTP 500")
            return found

    def merge(desk: Working) -> None:
        desk.merge(1, 2)
        desk.open(50)

    result = pull(Stuttering(3, {"fetch 3": merge}), archive)
    assert (result.exit_code, result.unlisted) == (0, {})
    assert owners(archive)[1] == 2


def test_a_key_revoked_while_merges_are_followed_ends_the_run(archive: Archive) -> None:
    """A refusal is no ticket that cannot be listed."""

    class Revoked(Working):
        async def ticket(self, ticket_id: int) -> Ticket:
            raise SourceRefused("FAILED TO AUTHENTICATE")

    result = pull(Revoked(3, {"fetch 3": lambda desk: desk.trash(1)}), archive)
    assert (result.exit_code, result.unlisted) == (4, {})


def test_a_quiet_helpdesk_is_walked_twice(archive: Archive) -> None:
    """The second look, with larger pages, shows that nothing moves; no third one is needed."""
    desk = Desk(3)
    pull(desk, archive)
    pages = [call for call in desk.calls if call.startswith("page 0+")]
    assert pages == ["page 0+100", "page 0+400"]


def test_a_missing_file_of_a_ticket_that_changes_is_looked_for_once(archive: Archive) -> None:
    """Listed again by the run that found it missing, it is not asked for again, nor left open."""
    quiet = Desk(1)
    lost = quiet.attach(1, None, declared=5)
    pull(quiet, archive)
    desk = Working(1, {f"fetch {lost}": lambda desk: desk.touch(1)})
    assert desk.attach(1, None, declared=5) == lost
    assert pull(desk, archive, recheck=True).exit_code == 3
    fetches = desk.calls.count(f"fetch {lost}")
    assert (desk.calls.count("list 1"), fetches) == (2, 2), "an empty reply is asked for twice"
    assert states(archive)[lost] == "missing"


def test_a_stop_ends_the_search_for_merged_tickets(archive: Archive) -> None:
    """No further vanished ticket is asked after."""
    stop = Stop()

    class Stopping(Working):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call.startswith("ticket"):
                stop.ask()

    def leave(desk: Working) -> None:
        desk.trash(1)
        desk.trash(2)

    desk = Stopping(3, {"fetch 3": leave})
    assert pull(desk, archive, stop=stop).exit_code == 130
    assert desk.asked("ticket") == ["ticket 1"]


def test_a_restless_helpdesk_does_not_keep_the_run_for_ever(archive: Archive) -> None:
    """The walk is repeated a few times at most, and what it met is stored."""

    class Restless(Working):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call.startswith("page 0+"):
                self.touch(1)

    desk = Restless(3, {})
    assert pull(desk, archive).exit_code == 0
    assert len([call for call in desk.calls if call.startswith("page 0+")]) == 3


def test_a_row_that_is_readable_at_the_second_look_is_no_gap(archive: Archive) -> None:
    """What could not be rendered for a moment is not held against the run."""

    class Hiccup(Desk):
        def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
            found = super().page(rows, count, start)
            if 2 in {one.id for one in found} and "list 3" not in self.calls:
                raise ServerFailed("HTTP 500")
            return found

    result = pull(Hiccup(3), archive)
    assert (result.exit_code, result.unreadable) == (0, {})
    assert states(archive)[2] == "stored"


def test_a_row_that_stays_unreadable_is_a_gap(archive: Archive) -> None:
    """Its row is told, exit 3; the others are stored, and it is, too, if it answers by its id."""

    class Poisoned(Desk):
        def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
            found = super().page(rows, count, start)
            if 2 in {one.id for one in found}:
                raise ServerFailed("HTTP 500")
            return found

    result = pull(Poisoned(3), archive)
    assert (result.exit_code, result.unreadable) == (3, {1: "HTTP 500"})
    assert states(archive) == {1: "stored", 2: "stored", 3: "stored"}


def test_fewer_tickets_than_the_source_counts_are_told(archive: Archive) -> None:
    """A list that hides a ticket is not believed: a warning, and exit 3."""

    class Boasting(Desk):
        async def ticket_count(self, *_: object) -> int | None:
            return 5

    ear = Ear()
    result = pull(Boasting(3), archive, ear=ear)
    assert (result.exit_code, result.short) == (3, 2)
    assert "counts 5 tickets but lists only 3" in ear.of(Notice)[-1].text


def test_a_count_that_contradicts_is_asked_for_again(archive: Archive) -> None:
    """One of another list proves nothing, when the next is right."""

    class Confused(Desk):
        wrong: tuple[int, ...] = (9, 9, 3)

        async def ticket_count(
            self, department_ids: Collection[int], status_ids: Collection[int]
        ) -> int | None:
            right = await super().ticket_count(department_ids, status_ids)
            return (self.wrong + (right,) * 9)[len(self.asked("count")) - 1]

    result = pull(Confused(3), archive)
    assert (result.exit_code, result.short) == (0, 0)
    low = Confused(3)
    low.wrong = (1, 1, 5)
    assert pull(low, archive).short == 2, "too low a count is no proof, either"


def test_rows_that_were_passed_over_are_no_missing_tickets(archive: Archive) -> None:
    """What is told as unreadable is not told once more as counted and not listed."""

    class Poisoned(Desk):
        def page(self, rows: list[Ticket], count: int, start: int) -> list[Ticket]:
            found = super().page(rows, count, start)
            if {one.id for one in found} & set(range(11, 61)):
                raise BadRequest("HTTP 403")
            return found

        async def ticket(self, ticket_id: int) -> Ticket:
            await self.turn(f"ticket {ticket_id}")
            raise BadRequest("HTTP 403")

    result = pull(Poisoned(80), archive)
    assert (result.exit_code, result.short, result.unreadable.rows) == (3, 0, 50)
    assert len(states(archive)) == 30


def test_more_tickets_than_the_source_counts_are_fine(archive: Archive) -> None:
    """A stale count is no gap."""

    class Modest(Desk):
        async def ticket_count(self, *_: object) -> int | None:
            return 1

    assert pull(Modest(3), archive).exit_code == 0


def test_a_source_that_cannot_count_is_believed(archive: Archive) -> None:
    """Old versions have no count to compare with."""

    class Uncounted(Desk):
        async def ticket_count(self, *_: object) -> int | None:
            return None

    ear = Ear()
    assert pull(Uncounted(3), archive, ear=ear).exit_code == 0
    assert ear.of(TicketsCounted) == [TicketsCounted(None)]


def test_a_source_that_fails_to_count_is_walked_all_the_same(archive: Archive) -> None:
    """The count is a check; without it the run goes on, and says so."""

    class Innumerate(Desk):
        async def ticket_count(self, *_: object) -> int | None:
            raise ServerFailed("the number of tickets: the server failed (HTTP 500).")

    ear = Ear()
    assert pull(Innumerate(3), archive, ear=ear).exit_code == 0
    assert "cannot be checked" in ear.of(Notice)[-1].text


def test_a_narrow_scope_is_walked_once(archive: Archive) -> None:
    """Part of a helpdesk proves nothing, so it is neither compared nor looked at again."""
    desk = Desk(5)
    result = pull(desk, archive, scope=Scope(limit_tickets=2), page_size=10)
    assert (result.exit_code, result.tickets) == (3, 2)
    assert len(desk.asked("page")) == 1
    assert len(desk.asked("count")) == 1


def test_a_ticket_that_is_listed_and_unknown_at_once_is_a_gap(archive: Archive) -> None:
    """A 404 for the attachments of a ticket that every walk names is told, never passed over."""

    class Confused(Desk):
        async def attachments(self, ticket_id: int) -> list[Attachment]:
            if ticket_id == 2:
                await self.turn("list 2")
                raise NotFound("Ticket not Found")
            return await super().attachments(ticket_id)

    result = pull(Confused(3), archive)
    assert result.unlisted == {2: "Ticket not Found"}
    assert result.exit_code == 3


@pytest.mark.parametrize(
    ("error", "code"), [(ServerFailed("HTTP 500"), 3), (SourceRefused("refused"), 4)]
)
def test_an_absent_ticket_that_cannot_be_asked_for(
    archive: Archive, error: SourceError, code: int
) -> None:
    """Whether it is deleted is unknown: a gap, unless the source refuses us altogether."""

    class Confused(Desk):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call == "list 2":
                raise NotFound("Ticket not Found")
            if call == "ticket 2":
                raise error

    assert pull(Confused(3), archive).exit_code == code


def test_an_absent_ticket_that_was_merged_is_followed(archive: Archive) -> None:
    """Its attachments are found at the ticket that survived."""

    class Quick(Desk):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call == "list 2":
                if 2 in self.tickets and len(self.asked("list")) > 3:
                    self.merge(2, 3)
                raise NotFound("Ticket not Found")

    result = pull(Quick(3), archive)
    assert (result.exit_code, result.unlisted) == (0, {})
    assert len(states(archive)) == 3
