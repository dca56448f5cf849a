"""After a whole pass every ticket that no list named is asked for, once for all its files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from migrator.archive import Archive
from migrator.errors import ServerFailed, SourceRefused, SourceUnreachable
from migrator.pull import reconcile
from migrator.pull.options import DeletionLimit, Stop
from migrator.sources.base import Scope
from tests.pull.doubles import Desk, pull, states


def departments(archive: Archive) -> dict[int, int]:
    """Return the department of every ticket."""
    return {one.id: one.department_id for one in archive.threads.all_tickets()}


class Failing(Desk):
    """Raises an error for some calls."""

    def __init__(self, tickets: int, error: Exception, *calls: str, files: int = 1) -> None:
        super().__init__(tickets, files)
        self.error = error
        self.broken = set(calls)

    async def turn(self, call: str) -> None:
        await super().turn(call)
        if call in self.broken:
            raise self.error


def hide(desk: Desk, ticket: int) -> None:
    """Give a ticket a department that is not there any more: no list names it."""
    desk.tickets[ticket] = replace(desk.tickets[ticket], department_id=77)


def test_a_deleted_ticket_is_asked_for_once_and_never_again(archive: Archive) -> None:
    """Not once for each of its files, and not by every pass from now on."""
    desk = Desk(3, files=5)
    pull(desk, archive)
    desk.delete(2)
    desk.calls.clear()
    assert pull(desk, archive).deleted == 5
    assert (desk.asked("ticket"), desk.asked("fetch")) == (["ticket 2"], [])
    row = archive.queries.attachment(6)
    assert row is not None
    assert (row.state, row.detail) == ("deleted", "the source deleted its ticket")
    desk.calls.clear()
    pull(desk, archive)
    assert desk.asked("ticket") == []


def test_a_trashed_ticket_is_asked_for_once_and_its_department_told(archive: Archive) -> None:
    """Its files stay stored and are not asked for; back from the trash all is as it was."""
    desk = Desk(3, files=5)
    pull(desk, archive)
    desk.trash(2)
    desk.calls.clear()
    assert pull(desk, archive).exit_code == 0
    assert (desk.asked("ticket"), desk.asked("fetch")) == (["ticket 2"], [])
    assert departments(archive)[2] == 0
    desk.tickets[2] = replace(desk.tickets[2], department_id=1)
    pull(desk, archive)
    assert departments(archive)[2] == 1
    assert set(states(archive).values()) == {"stored"}


def test_a_merged_ticket_is_known_to_be_merged(archive: Archive) -> None:
    """Also when the survivor's list has moved all its files already; it is asked for once."""
    desk = Desk(4)
    pull(desk, archive)
    desk.merge(1, 2)
    desk.merge(2, 3)
    for _ in range(2):
        desk.calls.clear()
        assert pull(desk, archive).exit_code == 0
        assert archive.queries.ticket_count() == 2
    assert desk.asked("ticket") == []
    owners = {row.id: row.ticket_id for row in archive.queries.rows()}
    assert owners == {1: 3, 2: 3, 3: 3, 4: 4}


def test_a_survivor_that_no_list_names_is_listed_all_the_same(archive: Archive) -> None:
    """It has the files of both, and those that came since."""
    desk = Desk(4)
    pull(desk, archive)
    desk.merge(1, 2)
    new = desk.attach(2, b"new")
    hide(desk, 2)
    desk.calls.clear()
    assert pull(desk, archive).exit_code == 0
    assert desk.asked("list").count("list 2") == 1
    assert states(archive)[new] == "stored"
    assert {row.id: row.ticket_id for row in archive.queries.rows()}[1] == 2


def test_a_ticket_out_of_the_reach_of_lists_is_still_pulled(archive: Archive) -> None:
    """Its department or status was deleted in Kayako: it still answers by its id."""
    desk = Desk(3)
    pull(desk, archive)
    hide(desk, 2)
    new = desk.attach(2, b"new")
    gone = desk.files.pop(2)
    result = pull(desk, archive)
    assert (result.exit_code, result.deleted) == (0, 1)
    assert (states(archive)[new], states(archive)[2]) == ("stored", "deleted")
    assert gone.ticket_id == 2


def test_a_trashed_ticket_in_a_run_over_the_trash_is_listed(archive: Archive) -> None:
    """Where the trash is wanted, what its list leaves out is looked at too."""

    class Bound(Desk):
        def rows(self, department_ids: object) -> list[object]:  # type: ignore[override]
            return [one for one in super().rows(department_ids) if one.department_id]  # type: ignore[arg-type]

    desk = Bound(3)
    pull(desk, archive)
    desk.trash(2)
    new = desk.attach(2, b"new")
    pull(desk, archive, scope=Scope(include_trash=True))
    assert states(archive)[new] == "stored"


def test_a_ticket_that_does_not_answer_leaves_it_to_its_files(archive: Archive) -> None:
    """A 500 for the ticket is no word on them; their own 404 is."""
    desk = Failing(3, ServerFailed("HTTP 500"), "ticket 2", files=2)
    pull(desk, archive)
    hide(desk, 2)
    del desk.files[3]
    result = pull(desk, archive)
    assert (result.exit_code, result.deleted) == (0, 1)
    assert {key for key, state in states(archive).items() if state == "deleted"} == {3}


@pytest.mark.parametrize("error", [SourceRefused("no"), SourceUnreachable("no answer")])
def test_a_source_that_is_gone_while_tickets_are_asked_for(
    archive: Archive, error: Exception
) -> None:
    """It ends the run at once; nothing is marked."""
    desk = Failing(30, error, "ticket 1", "ticket 2")
    pull(desk, archive)
    for number in range(1, 31):
        desk.trash(number)
    result = pull(desk, archive)
    assert (result.exit_code, result.ended_by) == (4, error)
    assert len(desk.asked("ticket")) <= 4
    assert departments(archive)[30] == 1


def test_a_stop_while_tickets_are_asked_for_marks_nothing(archive: Archive) -> None:
    """Deleted ones are asked for again by the next run."""
    stop = Stop()

    class Stopping(Desk):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call == "ticket 1":
                stop.ask()

    desk = Stopping(5)
    pull(desk, archive)
    for number in range(1, 5):
        desk.delete(number)
    assert pull(desk, archive, stop=stop, concurrency=1).exit_code == 130
    assert desk.asked("ticket") == ["ticket 1"]
    assert set(states(archive).values()) == {"stored"}
    assert archive.queries.unmet(99) == [1, 2, 3, 4, 5]


def test_tickets_are_asked_for_in_batches(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every batch, whatever becomes of its tickets."""
    monkeypatch.setattr(reconcile, "BATCH", 2)
    desk = Desk(9)
    pull(desk, archive)
    desk.merge(1, 9)
    desk.trash(2)
    for number in (3, 5, 7):
        desk.delete(number)
    assert pull(desk, archive).deleted == 3
    assert archive.queries.unmet(99) == [2, 4, 6, 8, 9]


def test_the_safety_limit_leaves_tickets_unmarked_too(archive: Archive) -> None:
    """After exit 8 the next pass asks for them again."""
    desk = Desk(30)
    pull(desk, archive)
    for number in range(1, 29):
        desk.delete(number)
    assert pull(desk, archive).exit_code == 8
    assert len(archive.queries.unmet(99)) == 30
    assert archive.queries.mark("full_pass") is not None
    accepted = pull(desk, archive, deletions=DeletionLimit(accept=True))
    assert (accepted.exit_code, accepted.deleted) == (0, 28)
    assert archive.queries.unmet(99) == [29, 30]
