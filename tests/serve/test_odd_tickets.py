"""Tickets that are not where their number says: deleted, merged, or with two claims to it."""

from __future__ import annotations

import pytest

from migrator.archive.records import PostRow, State, TicketRow
from tests.serve.conftest import Desk, OpenDesk

LIVE, DROPPED = TicketRow(1, 3, subject="live"), TicketRow(2, 3, subject="dropped")


def drop(desk: Desk) -> int:
    """Let the source delete one of two tickets, with its file; return the file's id."""
    desk.write(LIVE, PostRow(10, 5, text="stays"))
    desk.write(DROPPED, PostRow(20, 6, text="goes"))
    attachment = desk.attach("a.txt", b"a", ticket=2, post=20)
    ledger = desk.archive.ledger
    with ledger.atomic():
        ledger.mark_ticket_deleted(2)
        assert ledger.mark_deleted(attachment, "the source deleted its ticket")
    row = desk.archive.queries.attachment(attachment)
    assert row is not None
    assert row.state is State.DELETED
    return attachment


def test_deleted_tickets_are_hidden(open_desk: OpenDesk) -> None:
    """What the source deleted is in no answer, list or count, as if it had never been there."""
    with open_desk() as desk:
        attachment = drop(desk)
        for path in ("tickets/show", "tickets/responses"):
            for name in ({"ticket_number": "2"}, {"ticket_id": "2"}):
                gone, never = desk.call(path, name), desk.call(path, {**name, **absent(name)})
                assert (gone.status_code, gone.json()["error"]) == (404, "not_found")
                assert gone.text == never.text
        assert desk.get(attachment, ticket="2").status_code == 404
        assert [row["id"] for row in desk.data("tickets/query")] == ["1"]
        for body in ({}, {"include_deleted": True}, {"ticket_number": ["1", "2"]}):
            found = desk.data("tickets/responses/query", body)["responses"]
            assert [row["response_id"] for row in found] == ["10"]
        assert desk.data("tickets/queues")["queues"][0]["tickets"] == 1


def absent(name: dict[str, str]) -> dict[str, str]:
    """Name a ticket that never was."""
    return dict.fromkeys(name, "999")


def test_deleted_tickets_are_served_where_configured(open_desk: OpenDesk) -> None:
    """With serve_deleted a deleted ticket reads like any other, with its files."""
    with open_desk(serve_deleted=True) as desk:
        attachment = drop(desk)
        shown = desk.data("tickets/show", {"ticket_id": "2"})
        assert shown["responses"][0]["attachments"][0]["id"] == str(attachment)
        assert desk.get(attachment, ticket="2").status_code == 200
        assert [row["id"] for row in desk.data("tickets/query")] == ["2", "1"]
        found = desk.data("tickets/responses/query")["responses"]
        assert [row["response_id"] for row in found] == ["10", "20"]
        assert desk.data("tickets/queues")["queues"][0]["tickets"] == 2


@pytest.mark.parametrize("serve_deleted", [False, True])
def test_ticket_that_comes_back_is_shown(open_desk: OpenDesk, serve_deleted: bool) -> None:
    """A ticket that the source lists again is no longer deleted."""
    with open_desk(serve_deleted=serve_deleted) as desk:
        drop(desk)
        desk.write(DROPPED)
        assert desk.call("tickets/show", {"ticket_id": "2"}).status_code == 200


def test_mapped_number_wins_over_an_id(open_desk: OpenDesk) -> None:
    """Number 7 is the ticket that was given it, everywhere; ticket 7 is asked for by its id."""
    with open_desk() as desk:
        desk.write(TicketRow(7, 3, subject="has the id"), PostRow(70, 1, text="x"))
        desk.write(TicketRow(12, 3, subject="has the number"), PostRow(120, 2, text="y"))
        assert desk.archive.access.clashes() == []
        desk.archive.access.apply_config({}, {12: "7"})
        assert desk.archive.access.clashes() == [7]
        assert desk.data("tickets/show", {"ticket_number": "7"})["ticket"]["id"] == "12"
        assert desk.data("tickets/show", {"ticket_id": "7"})["ticket"]["id"] == "7"
        found = desk.data("tickets/responses/query", {"ticket_number": ["7"]})["responses"]
        assert [row["ticket_id"] for row in found] == ["12"]
        search = {"criteria": [{"mode": "ticket_number", "tokens": ["7"]}]}
        rows = desk.data("tickets/query", {"search_object": search})
        assert [row["id"] for row in rows] == ["12"]
        desk.archive.access.apply_config({}, {12: "7", 7: "12"})
        assert desk.archive.access.clashes() == []
        assert desk.data("tickets/show", {"ticket_number": "12"})["ticket"]["id"] == "7"
