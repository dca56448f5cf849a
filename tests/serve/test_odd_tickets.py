"""Tickets that are not where their number says: deleted, merged, or with two claims to it."""

from __future__ import annotations

import pytest

from migrator.archive.records import Department, Listed, Outcome, PostRow, State, TicketRow
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


MEANT: dict[object, int | None] = {
    "7": 7,
    7: 7,
    " 7": 7,
    "7\n": 7,
    "07": 7,
    "0" * 30 + "7": 7,
    "#7": 7,
    "007": 13,
    "0007": 7,
    "220009": 12,
    220009: 12,
    "0220009": 12,
    "12": None,
    "A-7": 14,
    "a-7": None,
    "15": 7,
    "015": 7,
    "19": 20,
    "019": 20,
    "20": None,
    "13": None,
    "7.0": None,
    "7e0": None,
    "+7": None,
    "-7": None,
    -7: None,
    "0": None,
    "\uff17": None,
    "\u0667": None,
    "7\u0000": None,
    "7 7": None,
    "0x7": None,
    "9" * 18: None,
    "9" * 19: None,
    "1" + "0" * 20: None,
    str(2**64 + 7): None,
    2**64 + 7: None,
}


@pytest.mark.parametrize(("number", "meant"), MEANT.items(), ids=ascii)
def test_number_means_the_same_ticket_everywhere(
    numbered: Desk, number: object, meant: int | None
) -> None:
    """However a number is written, every call finds the same ticket by it, or none does."""
    for path in ("tickets/show", "tickets/responses"):
        answer = numbered.call(path, {"ticket_number": number, "fields": []})
        assert answer.status_code == (404 if meant is None else 200), answer.text
        if meant is not None:
            data = answer.json()["data"]
            assert [one["id"] for one in data["responses"]] == [str(meant * 10)]
    attachment = numbered.get(meant or 7, ticket=number)
    assert attachment.status_code == (404 if meant is None else 200)
    rows = numbered.data("tickets/responses/query", {"ticket_number": [number]})["responses"]
    assert [row["ticket_id"] for row in rows] == ([] if meant is None else [str(meant)])
    search = {"criteria": [{"mode": "ticket_number", "tokens": [number]}]}
    found = numbered.data("tickets/query", {"search_object": search})
    assert [row["id"] for row in found] == ([] if meant is None else [str(meant)])


@pytest.fixture(scope="module")
def numbered(desk: Desk) -> Desk:
    """Fill a helpdesk whose numbers are easily confused; attachments have their ticket's id."""
    ledger = desk.archive.ledger
    with ledger.atomic():
        run = ledger.begin_run("run", source="test", scope={})
        ledger.put_departments([Department(3, "Support")])
        for ticket in (7, 12, 13, 14, 19, 20):
            row = TicketRow(ticket, 3)
            listed = Listed(ticket, ticket, ticket * 10, "a.txt", "", 1, 0)
            ledger.record_ticket(run.id, row, [listed])
            desk.archive.threads.put(run.id, row, [PostRow(ticket * 10, ticket, text="x")])
        ledger.record_ticket(run.id, TicketRow(15, 3), [])
        ledger.mark_merged(15, 7)
    for ticket in (7, 12, 13, 14, 19, 20):
        with desk.archive.blobs.writer() as writer:
            writer.write(b"x")
            blob = writer.commit()
        with ledger.atomic():
            ledger.settle(
                Outcome(ticket, State.STORED, sha256=blob.sha256, size=1, mime_type="text/plain")
            )
    numbers = {12: "220009", 13: "007", 14: "A-7", 20: "19"}
    desk.archive.access.apply_config({}, numbers)
    return desk
