"""What the look-alike of Tickiti gives to read."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from migrator.sandbox.tickiti import Limits, Ticket
from tests.sandbox.tickiti_caller import AUTHOR, Caller, calling

FULL = {
    *("id", "is_internal", "is_pinned", "staff_response", "created_by_email", "created_at"),
    *("updated_at", "is_email_sourced", "html", "plain_text", "attachments"),
}


def _with_file(caller: Caller, name: str, contents: bytes) -> tuple[Ticket, int]:
    ticket = caller.tickiti.add_ticket("A")
    caller.note(ticket, name, attachments=[caller.reference(name, contents)])
    return ticket, caller.tickiti.files(ticket)[0].id


def test_objects_have_the_documented_types() -> None:
    """Ids are strings, the number and sizes are numbers, times have seconds and an offset."""
    with calling(generation="uploads", clock=lambda: 1_800_000_000.9) as caller:
        ticket, file_id = _with_file(caller, "a.txt", b"abc")
        shown = caller.ok("tickets/show", ticket_number=str(ticket.number))
        assert shown["ticket"] == {
            "id": "1",
            "number": ticket.number,
            "subject": "A",
            "status": "open",
            "priority": "20",
            "queue_id": "1",
            "originator_email": "ann@example.com",
            "assigned_to_email": None,
            "resolved": None,
            "on_hold_until": None,
            "created_at": "2027-01-15T08:00:00+00:00",
            "updated_at": "2027-01-15T08:00:00+00:00",
        }
        assert [set(one) for one in shown["responses"]] == [FULL, FULL]
        assert shown["responses"][1]["plain_text"] == "From the archive."
        listed = caller.ok("tickets/responses", ticket_id=1)
        assert listed == {"ticket_number": ticket.number, "responses": shown["responses"]}
        (file,) = shown["responses"][1]["attachments"]
        assert (file["id"], file["response_id"], file["file_size"]) == (str(file_id), "2", 3)


def test_october_shows_more() -> None:
    """Audit rows and lengths; only the fields asked for, and bodies cut where asked."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A", content="<p>ü</p>" * 10)
        first = caller.ok("tickets/show", ticket_id=1)["responses"][0]
        assert set(first) == FULL | {"audit", "is_audit_only", "body_chars"}
        assert first["body_chars"] == 80
        cut = caller.ok("tickets/show", ticket_id=1, fields=["html"], max_body_chars=5)
        assert cut["responses"][0]["html"] == "<p>ü<"
        assert cut["responses"][0]["html_truncated"] is True
        assert "attachments" not in cut["responses"][0]
        assert caller.call("tickets/show", ticket_id=1, fields=["body"]).status_code == 422
        one = caller.ok("tickets/response", response_id="1")
        assert (one["response_id"], one["ticket_number"]) == ("1", ticket.number)


def test_pinned_responses_come_first() -> None:
    """Then from the oldest to the newest."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A")
        for name in "12":
            caller.note(ticket, name)
        caller.tickiti.responses(ticket)[1].is_pinned = True
        shown = caller.ok("tickets/responses", ticket_id=1)["responses"]
        assert [one["id"] for one in shown] == ["2", "1", "3"]


# Files


def test_files_by_the_rules() -> None:
    """Allowed at once, after a review, or not at all; one of another ticket is not found."""
    with calling() as caller:
        ticket, file_id = _with_file(caller, "a.log", b"abc")
        params: dict[str, Any] = {"ticket_id": ticket.id, "response_attachment_id": file_id}
        refused = caller.refused("tickets/attachment", **params)
        assert refused == (403, "attachment_review_required")
        assert caller.call("tickets/attachment", **params, intent="yes").status_code == 422
        read = caller.ok("tickets/attachment", **params, intent="review_ok")
        assert (read["id"], read["mime_type"]) == (str(file_id), "text/plain")
        caller.tickiti.desk.blocked.add("log")
        refused = caller.refused("tickets/attachment", **params, intent="review_ok")
        assert refused == (403, "attachment_blocked")
        caller.tickiti.files(ticket)[0].is_inline = True
        assert caller.ok("tickets/attachment", **params)
        other = params | {"ticket_id": caller.tickiti.add_ticket("B").id}
        assert caller.refused("tickets/attachment", **other) == (404, "not_found")


def test_ranges() -> None:
    """Since July in pieces, of which the last says so; past the end there is nothing."""
    contents = bytes(range(200))
    with calling(limits=Limits(download=100)) as caller:
        ticket, file_id = _with_file(caller, "a.zip", contents)
        params: dict[str, Any] = {"ticket_id": ticket.id, "response_attachment_id": file_id}
        answer = caller.call("tickets/attachment", **params)
        assert (answer.status_code, answer.json()["error"]) == (413, "attachment_too_large")
        assert answer.json()["data"] == {"file_size": 200, "ranged": True}
        read, ends = b"", []
        for offset in (0, 150, 200):
            told = caller.ok("tickets/attachment", **params, offset=offset, length=150)
            read += base64.b64decode(told["content_base64"])
            ends.append(told["eof"])
            assert told["file_size"] == 200
        assert (read, ends) == (contents, [False, True, True])
    with calling(generation="uploads") as caller:
        ticket, file_id = _with_file(caller, "a.zip", contents)
        whole = caller.ok(
            "tickets/attachment", ticket_id=1, response_attachment_id=file_id, offset=100, length=1
        )
        assert base64.b64decode(whole["content_base64"]) == contents
        assert "eof" not in whole


# Queries


def test_pages_of_responses() -> None:
    """A cursor leads from page to page, through all, each once, also within a second."""
    with calling(clock=lambda: 1_800_000_000.0) as caller:
        for name in "ABC":
            caller.note(caller.tickiti.add_ticket(name), name)
        seen: list[str] = []
        cursor = None
        for _ in range(3):
            page = caller.ok("tickets/responses/query", limit=2, cursor=cursor)
            seen += [one["response_id"] for one in page["responses"]]
            cursor = page["next_cursor"]
        assert seen == ["1", "2", "3", "4", "5", "6"]
        assert cursor is None


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, [1, 2, 3, 4]),
        ({"is_internal": True}, [2, 4]),
        ({"staff_response": True}, [4]),
        ({"created_by_email": AUTHOR}, [2]),
        ({"has_attachments": True}, [2]),
        ({"has_attachments": False, "is_internal": True}, [4]),
        ({"queue": ["Support"]}, [3, 4]),
        ({"queue_id": [2]}, [3, 4]),
        ({"response_id": [2, "3"]}, [2, 3]),
        ({"is_empty": True}, []),
        ({"created_from": "2027-01-15", "created_to": "2027-01-15"}, [1, 2]),
        ({"created_from": "2027-01-15 08:00:01"}, [3, 4]),
    ],
)
def test_filters_of_responses(filters: dict[str, Any], found: list[int]) -> None:
    """Each filter narrows the rows; before October the new ones are ignored."""
    now = [1_800_000_000.0]
    for generation in ("october", "july"):
        with calling(generation=generation, clock=lambda: now[0]) as caller:
            now[0] = 1_800_000_000.0
            _with_file(caller, "a.txt", b"abc")
            now[0] += 86_400
            other = caller.tickiti.add_ticket("B", queue="Support")
            caller.note(other, from_email="tom.hale@example.com")
            rows = caller.ok("tickets/responses/query", **filters)["responses"]
            new = {"created_by_email", "has_attachments", "response_id", "is_empty"}
            ignored = generation == "july" and filters.keys() & new
            if not ignored:
                assert [int(one["response_id"]) for one in rows] == found
            elif "is_internal" not in filters:
                assert len(rows) == 4


def test_fields_and_counts_of_responses() -> None:
    """Fields as asked for; numbers instead of rows."""
    with calling() as caller:
        ticket, _ = _with_file(caller, "a.txt", b"abc")

        def first(**params: Any) -> set[str]:
            return set(caller.ok("tickets/responses/query", **params)["responses"][0])

        always = {"id", "response_id", "ticket_number", "body_chars"}
        every = FULL | always | {"audit", "is_audit_only"}
        assert first() == every
        assert first(fields=["html"]) == every - {"plain_text", "attachments"}
        assert first(fields=["created_at"]) == {"created_at"} | always
        assert first(metadata_only=True) == every - {"html", "plain_text", "attachments"}
        counted = caller.ok("tickets/responses/query", count_only=True)
        assert counted == {"count": 2}
        grouped = caller.ok("tickets/responses/query", group_by="ticket_number")
        assert grouped == {"groups": [{"key": ticket.number, "count": 2}]}
        assert caller.call("tickets/responses/query", group_by="size").status_code == 422
        assert caller.call("tickets/responses/query", limit=1001).status_code == 422


@pytest.mark.parametrize(
    ("criteria", "found"),
    [
        ([], "AB"),
        ([("subject", ["printer"])], "A"),
        ([("subject", ["printer", "paper"])], ""),
        ([("subject", ["printer", "paper"], "any")], "AB"),
        ([("subject", ["printer"]), ("subject", ["paper"])], "AB"),
        ([("subject", ["printer"]), ("status", ["closed"])], ""),
        ([("content", ["help"])], "AB"),
        ([("status", ["closed", "on-hold"])], "B"),
        ([("queue", ["Support"])], "B"),
        ([("raised", ["bo@example.com"])], "B"),
        ([("participant", ["ann@example.com"])], "A"),
        ([("assigned", ["Unassigned"])], "AB"),
        ([("hashtag", ["bug"])], ""),
        ([("created_from", ["2030-01-01"])], ""),
    ],
)
def test_queries_of_tickets(criteria: list[Any], found: str) -> None:
    """Criteria of one mode widen, those of different modes narrow; so do tokens of texts."""
    with calling(clock=lambda: 1_800_000_000.0) as caller:
        numbers = {
            caller.tickiti.add_ticket("Printer on fire").number: "A",
            caller.tickiti.add_ticket(
                "No paper", "bo@example.com", queue="Support", status="closed"
            ).number: "B",
        }
        named = [
            {"mode": mode, "tokens": tokens} | ({"match": how[0]} if how else {})
            for mode, tokens, *how in criteria
        ]
        rows = caller.ok("tickets/query", search_object={"criteria": named})
        assert sorted(numbers[one["ticket_number"]] for one in rows) == list(found)


def test_unknown_modes_of_queries() -> None:
    """October refuses them, older servers do not filter by them; a limit bounds the rows."""
    unknown = {"criteria": [{"mode": "mood", "tokens": ["x"]}]}
    for generation, status in (("october", 422), ("july", 200)):
        with calling(generation=generation) as caller:
            assert caller.call("tickets/query", search_object=unknown).status_code == status
    with calling() as caller:
        for name in "AB":
            caller.tickiti.add_ticket(name)
        assert len(caller.ok("tickets/query", row_limit=1)) == 1
        assert caller.call("tickets/query", row_limit=5001).status_code == 422


def test_lists() -> None:
    """Queues and staff in October; before, queues for administrators alone, without envelope."""
    with calling() as caller:
        assert [one["name"] for one in caller.ok("tickets/queues")["queues"]] == [
            *("Inbox", "Support")
        ]
        (found,) = caller.ok("tickets/staff", search="priya")["staff"]
        assert found["email"] == "priya.sharma@example.com"
    with calling(generation="june") as caller:
        assert caller.refused("tickets/queues") == (404, "not_found")
        assert caller.refused("workflow/queues") == (403, "forbidden")
        admin = caller.with_key("workflow:read")
        assert {one["name"] for one in admin.call("workflow/queues").json()["queues"]} == {
            *("Inbox", "Support")
        }
