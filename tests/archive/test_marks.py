"""Marks tell how far syncs have come; tickets that no list names can be asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from migrator.archive import Archive, Ledger, Mark, TicketRow
from migrator.archive.checkpoint import Checkpoint
from migrator.errors import ArchiveError

ListThem = Callable[..., int]


def test_a_mark_is_set_moved_and_read(
    archive: Archive, db: Checkpoint, list_them: ListThem
) -> None:
    """It has its value, its run and the time when it was set; other marks stay."""
    first, second = list_them(1), list_them(2)
    ledger = Ledger(db, clock=lambda: 77.9)
    ledger.set_mark("watermark", 10, run_id=first)
    ledger.set_mark("success", 11, run_id=first)
    ledger.set_mark("watermark", 5, run_id=second)
    assert archive.queries.mark("watermark") == Mark("watermark", 5, second, 77)
    assert archive.queries.mark("success") == Mark("success", 11, first, 77)
    assert archive.queries.mark("full_pass") is None


@pytest.mark.parametrize(("name", "run"), [("waterline", 1), ("watermark", 99)])
def test_a_mark_is_one_of_three_and_of_a_run(
    archive: Archive, list_them: ListThem, name: str, run: int
) -> None:
    """A mistake in a name, or a run that never was, is refused."""
    list_them(1)
    with pytest.raises(ArchiveError):
        archive.ledger.set_mark(name, 1, run_id=run)


def test_a_run_is_found_by_its_id(archive: Archive, list_them: ListThem) -> None:
    """Any run, not only the last ones."""
    first = list_them(1)
    list_them(2)
    found = archive.queries.run(first)
    assert found is not None
    assert (found.id, found.kind) == (first, "run")
    assert archive.queries.run(99) is None


def test_tickets_that_a_run_has_not_listed_are_given_in_batches(
    archive: Archive, list_them: ListThem
) -> None:
    """By id, without those known to be merged or deleted; also what was never listed."""
    ledger = archive.ledger
    for ticket in range(1, 7):
        run = list_them(ticket, ticket=ticket)
    assert archive.queries.unmet(run) == [1, 2, 3, 4, 5]
    ledger.mark_merged(2, 1)
    ledger.mark_ticket_deleted(3)
    ledger.put_ticket(TicketRow(9, 1))
    assert archive.queries.unmet(run) == [1, 4, 5, 9]
    assert archive.queries.unmet(run, after=1, limit=2) == [4, 5]


def test_a_deleted_ticket_that_is_listed_again_is_there_again(
    archive: Archive, list_them: ListThem
) -> None:
    """What the source lists is not deleted, whatever we believed."""
    list_them(1, ticket=1)
    archive.ledger.mark_ticket_deleted(1)
    assert archive.queries.unmet(99) == []
    list_them(1, ticket=1)
    assert archive.queries.unmet(99) == [1]
