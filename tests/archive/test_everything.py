"""All tickets and posts, one after the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from migrator.archive import Archive, Department, PostRow, Threads, TicketRow
from migrator.archive.checkpoint import Checkpoint

Explained = Callable[[Callable[[Checkpoint], object]], list[str]]


@pytest.fixture
def told(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """Keep nine posts in three tickets, one of them merged; read two rows at a time."""
    monkeypatch.setattr(Checkpoint, "page", 2)
    ledger = archive.ledger
    run = ledger.begin_run("run", source="https://help.example.com", scope={})
    with ledger.atomic():
        ledger.put_departments([Department(1, "Support")])
        for ticket in (0, 7, 9):
            row = TicketRow(ticket, 1)
            ledger.put_ticket(row)
            # The second and third are of one second; ids go against time.
            posts = [
                PostRow(ticket * 10 + n, 1000 - max(n, 2), text=f"{ticket}-{n}") for n in (1, 2, 3)
            ]
            archive.threads.put(run.id, row, posts)
    return archive


def test_every_ticket_comes_once_by_id(told: Archive) -> None:
    """Also the first, a merged one, and one that the source deleted."""
    told.ledger.mark_ticket_deleted(7)
    told.ledger.mark_merged(9, 0)
    found = list(told.threads.all_tickets())
    assert [one.id for one in found] == [0, 7, 9]
    assert found[1].deleted_at is not None
    assert found[2].merged_into == 0


def test_every_post_comes_once_by_ticket_and_time(told: Archive) -> None:
    """Whatever a page holds: no post is left out between two of them, none comes twice."""
    found = list(told.threads.all_posts(page=2))
    assert [one.text for one in found] == [
        "0-3", "0-1", "0-2", "7-3", "7-1", "7-2", "9-3", "9-1", "9-2"
    ]  # fmt: skip
    assert (found[0].ticket_number, found[0].queue_id) == ("0", 1)


@pytest.mark.usefixtures("told")
def test_posts_are_found_by_their_index(explained: Explained) -> None:
    """A million posts are not sorted for each page."""
    steps = explained(lambda db: list(Threads(db).all_posts()))
    assert any("posts_by_ticket" in step for step in steps)
    assert not any("TEMP B-TREE" in step for step in steps)
