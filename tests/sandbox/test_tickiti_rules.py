"""Rules of the look-alike of Tickiti: who may do what, what it changes, and whom it mails."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from migrator.sandbox.tickiti import Ticket
from tests.sandbox.tickiti_caller import AUTHOR, Caller, calling

INVALID = (422, "validation_failed")


# Generations


@pytest.mark.parametrize(
    ("generation", "statuses"),
    [
        ("june", (404, 404, 404, 404)),
        ("uploads", (404, 422, 404, 404)),
        ("july", (404, 422, 422, 404)),
        ("october", (200, 422, 422, 422)),
    ],
)
def test_generations_differ_in_their_calls(generation: str, statuses: tuple[int, ...]) -> None:
    """What a server does not have is a 404; what it has and was called wrongly a 422."""
    paths = ("token", "tickets/attachment-upload", "tickets/response-update", "tickets/response")
    with calling(generation=generation) as caller:
        assert tuple(caller.call(path).status_code for path in paths) == statuses
        assert caller.call("tickets/show").status_code == 422


def test_unknown_generation() -> None:
    """A generation that there is not is a mistake."""
    with pytest.raises(ValueError, match="unknown generation: may"), calling(generation="may"):
        pass


def test_june_knows_no_files_and_no_ids() -> None:
    """It ignores attachments without a word, and wants the number of a ticket."""
    with calling(generation="june") as caller:
        ticket = caller.tickiti.add_ticket("A")
        files = [{"sha256": "0" * 64, "name": "a.txt", "file_size": 1}]
        assert caller.note(ticket, attachments=files).status_code == 200
        assert caller.tickiti.files(ticket) == []
        assert caller.refused("tickets/show", ticket_id=ticket.id) == INVALID


def test_october_tells_what_it_ignored() -> None:
    """Unknown fields come back by name; a body under a wrong name is refused."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A")
        told = caller.note(ticket, send_mail=False, zone="x").json()["data"]
        assert told["ignored_params"] == ["send_mail", "zone"]
        for name in ("html", "body", "message"):
            assert caller.note(ticket, name, **{name: "x"}).status_code == 422
    with calling(generation="july") as caller:
        ticket = caller.tickiti.add_ticket("A")
        assert "ignored_params" not in caller.note(ticket, html="x").json()["data"]


# Tokens


def test_tokens_abilities_and_roles() -> None:
    """401 without a token, 403 without the ability or role; writing includes reading."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A")
        reading, writing = caller.with_key("tickets:read"), caller.with_key("tickets:write")
        stranger = Caller(caller.tickiti, caller.http, "14|nobody")
        clerk = caller.with_key("mail:read", owner="tom.hale@example.com", role="staff")
        assert stranger.refused("tickets/show") == (401, "unauthenticated")
        assert reading.ok("tickets/show", ticket_id=ticket.id)
        assert reading.refused("tickets/respond") == (403, "forbidden")
        assert reading.upload("a.txt", b"a").status_code == 403
        assert writing.ok("tickets/show", ticket_id=ticket.id)
        assert writing.refused("mail/sent-mail") == (403, "forbidden")
        assert clerk.refused("mail/sent-mail") == (403, "forbidden")
        assert caller.call("mail/sent-mail").status_code == 200
        assert reading.ok("token")["abilities"] == ["tickets:read"]
        assert clerk.ok("token")["roles"] == ["customer", "staff"]


def test_queues_that_the_owner_does_not_see() -> None:
    """Their tickets are forbidden, and in no query; so are all tickets for customers."""
    with calling() as caller:
        hidden = caller.tickiti.add_ticket("A", queue="Support")
        seen = caller.tickiti.add_ticket("B")
        clerk = caller.with_key("tickets:write", owner="tom.hale@example.com", queues=["Inbox"])
        assert clerk.refused("tickets/show", ticket_id=hidden.id) == (403, "forbidden")
        assert clerk.note(hidden).status_code == 403
        assert [one["number"] for one in clerk.ok("tickets/query")] == [seen.number]
        assert [one["name"] for one in clerk.ok("tickets/queues")["queues"]] == ["Inbox"]
        customer = caller.with_key("tickets:read", owner="ann@example.com", role="customer")
        assert customer.refused("tickets/show", ticket_id=seen.id) == (403, "forbidden")


def test_restructuring_needs_to_manage_the_queue() -> None:
    """A member of the staff who does not cannot delete tickets or files; the system may."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A")
        clerk = caller.with_key("tickets:write", owner="tom.hale@example.com", manages=False)
        doomed = {"ticket_numbers": [ticket.number], "dry_run": True}
        assert clerk.refused("tickets/delete", **doomed) == (403, "forbidden")
        assert caller.ok("tickets/delete", **doomed)["ticket_numbers"] == [ticket.number]


def test_paths_and_verbs() -> None:
    """GET is not supported, unknown calls are not found, and both say so in JSON."""
    with calling() as caller:
        answer = caller.http.get(f"{caller.tickiti.url}/api/v1/tickets/show")
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
        assert caller.refused("tickets/merge-all") == (404, "not_found")
        assert caller.http.post(caller.tickiti.url).status_code == 404


def test_a_rate_limit() -> None:
    """So many requests a minute, then 429 until the next minute."""
    now = [1_000_020.0]
    with calling(rate=2, clock=lambda: now[0]) as caller:
        assert [caller.call("token").status_code for _ in range(3)] == [200, 200, 429]
        assert caller.call("token").headers["Retry-After"] == "60"
        now[0] += 60
        assert caller.call("token").status_code == 200


# Idempotency keys


def test_a_key_gives_the_same_answer_again() -> None:
    """The same request is answered as before and writes nothing; another one is a conflict."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A")
        first = caller.note(ticket, "k").content
        assert [caller.note(ticket, "k").content for _ in range(3)] == [first] * 3
        assert len(caller.tickiti.responses(ticket)) == 2
        assert caller.note(ticket, "k", content="<p>Other</p>").status_code == 409
        conflict = caller.refused("tickets/close", "k", ticket_id=ticket.id)
        assert conflict == (409, "idempotency_key_conflict")
        assert [one.replayed for one in caller.tickiti.requests].count(True) == 3


def test_a_key_is_required_and_bounded() -> None:
    """Five calls want one; 255 characters are the most."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A")
        params = caller.of_note(ticket)
        for path in (
            "tickets",
            "tickets/respond",
            "tickets/close",
            "tickets/participants/add",
            "tickets/participants/remove",
        ):
            assert caller.refused(path, **params) == INVALID
        assert caller.note(ticket, "k" * 256).status_code == 422
        assert caller.note(ticket, "k" * 255).status_code == 200


def test_refusals_are_not_kept() -> None:
    """A request that was refused may be mended under the same key."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A")
        assert caller.note(ticket, "k", from_email="nobody").status_code == 422
        assert caller.note(ticket, "k").status_code == 200


def test_keys_are_forgotten_in_time() -> None:
    """After its window a key is a new one."""
    now = [1_000_000.0]
    with calling(key_window=3600, clock=lambda: now[0]) as caller:
        ticket = caller.tickiti.add_ticket("A")
        for later, count in ((0, 2), (3600, 2), (1, 3)):
            now[0] += later
            assert caller.note(ticket, "k").status_code == 200
            assert len(caller.tickiti.responses(ticket)) == count


def test_twins_are_written_once() -> None:
    """Of two requests at once with one key, the second waits and gets the first one's answer."""
    with calling("slow_write") as caller:
        ticket = caller.tickiti.add_ticket("A")
        answers: list[bytes] = []

        def write() -> None:
            answers.append(caller.note(ticket, "k").content)

        twins = [threading.Thread(target=write) for _ in range(3)]
        for twin in twins:
            twin.start()
        for twin in twins:
            twin.join()
        assert len(set(answers)) == 1
        assert len(caller.tickiti.responses(ticket)) == 2


# Reopening


@pytest.mark.parametrize(
    ("generation", "more", "status", "reopened"),
    [
        ("june", {}, "open", True),
        ("june", {"is_internal": False}, "open", True),
        ("uploads", {}, "open", True),
        ("july", {}, "open", True),
        ("july", {"keep_status": True}, "open", True),
        ("july", {"status": "closed"}, "closed", False),
        ("july", {"status": "on-hold", "on_hold_until": "2030-01-31"}, "on-hold", False),
        ("october", {}, None, False),
        ("october", {"is_internal": False}, "open", True),
        ("october", {"is_internal": False, "keep_status": True}, None, False),
        ("october", {"is_internal": False, "status": "closed"}, "closed", False),
        ("october", {"status": "open"}, "open", True),
        ("october", {"on_hold_until": "2030-01-31"}, "on-hold", False),
    ],
)
@pytest.mark.parametrize("before", ["closed", "on-hold"])
def test_reopening(
    generation: str, more: dict[str, Any], status: str | None, reopened: bool, before: str
) -> None:
    """Before October every response reopens a ticket, since then only public ones."""
    with calling(generation=generation) as caller:
        until = "2029-01-01" if before == "on-hold" else None
        ticket = caller.tickiti.add_ticket("A", status=before, on_hold_until=until)
        told = caller.note(ticket, **more).json()["data"]
        assert told["reopened"] is reopened
        assert ticket.status == (status or before)
        expected = more.get("on_hold_until") if status == "on-hold" else None
        assert ticket.on_hold_until == (until if status is None else expected)


def test_an_open_ticket_is_not_reopened() -> None:
    """The answer says so only of tickets that were not open."""
    with calling(generation="june") as caller:
        told = caller.note(caller.tickiti.add_ticket("A")).json()["data"]
        assert told["reopened"] is False


# Responding


@pytest.mark.parametrize(
    "more",
    [
        {"ticket_id": 1},
        {"from_email": None},
        {"from_email": ""},
        {"from_email": "Ann <ann@example.com>"},
        {"content": None},
        {"content": "  \n "},
        {"content": 5},
        {"is_internal": "true"},
        {"is_internal": 2},
        {"status": "on-hold"},
        {"status": "resolved"},
        {"on_hold_until": "31.01.2030", "status": "on-hold"},
        {"priority": "high"},
        {"assigned_to_email": "nobody@example.com"},
        {"attachments": "a.txt"},
        {"attachments": ["a.txt"]},
        {"attachments": [{"sha256": "0" * 64, "name": "a.txt", "file_size": 1}]},
        {"queue": "Nowhere"},
        {"remove_participants": ["ann@example.com"]},
        {"add_participants": ["ann"]},
        {"ticket_number": "12345"},
        {"ticket_number": "abc"},
    ],
)
def test_what_respond_refuses(more: dict[str, Any]) -> None:
    """Each of these is a 422 with a sentence for its field, and writes nothing."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A")
        answer = caller.note(ticket, **more)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"]
        assert len(caller.tickiti.responses(ticket)) == 1


def test_what_respond_changes() -> None:
    """Attributes change with a response, or without a body in a row of its own."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A")
        caller.ok(
            "tickets/respond",
            "k",
            ticket_id=str(ticket.id),
            from_email=AUTHOR,
            priority=30,
            assigned_to_email="tom.hale@example.com",
            subject="B",
            queue="Support",
            add_participants=["bo@example.com"],
        )
        assert (ticket.priority, ticket.subject, ticket.queue) == ("30", "B", "Support")
        assert ticket.assigned_to_email == "tom.hale@example.com"
        assert "bo@example.com" in ticket.participants
        assert caller.tickiti.responses(ticket)[-1].is_audit_only
        caller.note(ticket, assigned_to_email="Unassigned")
        assert ticket.assigned_to_email is None


def test_the_author_takes_part_from_then_on() -> None:
    """An author becomes a participant, and an account; staff is who has one as staff."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A")
        caller.note(ticket, "1")
        caller.note(ticket, "2", from_email="PRIYA.sharma@example.com")
        assert ticket.participants == ["ann@example.com", AUTHOR, "priya.sharma@example.com"]
        assert [one.staff_response for one in caller.tickiti.responses(ticket)] == [
            *(False, False, True)
        ]


def test_references_to_files() -> None:
    """Names may differ from those uploaded, are judged again, and trimmed; sizes must fit."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A")
        sent = caller.reference("a.txt", b"abc")
        wrongs: list[dict[str, Any]] = [
            {"name": "a.exe"},
            {"file_size": 4},
            {"name": ""},
            {"sha256": "x"},
        ]
        for wrong in wrongs:
            assert caller.note(ticket, attachments=[sent | wrong]).status_code == 422
        assert caller.note(ticket, attachments=[sent | {"name": " b.txt "}]).status_code == 200
        assert [one.name for one in caller.tickiti.files(ticket)] == ["b.txt"]


def test_resolutions_where_they_are_tracked() -> None:
    """There, closing needs a resolution; elsewhere, the plan has none."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A")
        assert caller.note(ticket, resolved="Done").status_code == 403
        caller.tickiti.desk.tracking.add("Inbox")
        assert caller.note(ticket, status="closed").status_code == 422
        assert caller.refused("tickets/close", "c", ticket_id=ticket.id) == INVALID
        assert caller.note(ticket, status="closed", resolved="Done").status_code == 200
        assert (ticket.status, ticket.resolved) == ("closed", "Done")


def test_images_in_bodies() -> None:
    """Bytes of an image in a body become an inline file, and the body refers to it."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A")
        body = '<p><img alt="" src="data:image/png;base64,iVBORw0KGgo="> x</p>'
        caller.note(ticket, content=body)
        (file,) = caller.tickiti.files(ticket)
        assert (file.name, file.is_inline) == ("image1.png", True)
        assert caller.tickiti.read(file) == b"\x89PNG\r\n\x1a\n"
        html = caller.tickiti.responses(ticket)[-1].html
        assert "cid:" in html
        assert "base64" not in html


# Creating


def test_what_create_refuses() -> None:
    """An originator, exactly one kind of content, and a queue that there is."""
    good: dict[str, Any] = {
        "originator_email_address": "bo@example.com",
        "data": {"subject": "A", "content": "B"},
    }
    wrongs: list[dict[str, Any]] = [
        {"originator_email_address": "bo"},
        {"originator_email_address": None},
        {"data": {"subject": "A"}},
        {"data": {"content": "B"}},
        {"data": []},
        {"data": {"subject": "A" * 256, "content": "B"}},
        {"template_identifier": "welcome"},
        {"queue_name": "Nowhere"},
        {"data": {**good["data"], "status": "on-hold"}},
        {"data": {**good["data"], "content": "<p>@nobody</p>"}, "strict_tags": True},
        {"participants": ["x"]},
    ]
    with calling() as caller:
        for wrong in wrongs:
            assert caller.refused("tickets", "k", **{**good, **wrong}) == INVALID
        assert caller.tickiti.tickets == {}


def test_what_create_makes() -> None:
    """October sets attributes, tells where the ticket landed, and which tags name nobody."""
    with calling() as caller:
        told = caller.ok(
            "tickets",
            "k",
            originator_email_address="Bo@example.com",
            queue_name="Support",
            is_public=False,
            data={
                "subject": " A ",
                "content": "<p>@nobody #bug</p>",
                "status": "closed",
                "priority": "40",
            },
        )
        ticket = caller.tickiti.tickets[told["ticket_number"]]
        assert (told["queue"], told["rerouted"]) == ("Support", False)
        assert told["tag_warnings"] == ["@nobody"]
        assert (ticket.subject, ticket.status, ticket.priority) == ("A", "closed", "40")
        assert ticket.originator_email == "bo@example.com"
        (opening,) = caller.tickiti.responses(ticket)
        assert (opening.is_internal, opening.created_by_email) == (True, "system@tickiti.com")
        assert caller.tickiti.mails == []
    with calling(generation="july") as caller:
        told = caller.ok(
            "tickets",
            "k",
            originator_email_address="bo@example.com",
            use_passed_originator_as_responder=True,
            data={"subject": "A", "content": "B", "status": "closed"},
        )
        ticket = caller.tickiti.tickets[told["ticket_number"]]
        assert (set(told), ticket.status) == ({"ticket_number"}, "open")
        assert caller.tickiti.responses(ticket)[0].created_by_email == "bo@example.com"


# Mails


@pytest.mark.parametrize(
    ("path", "more", "expected"),
    [
        ("tickets/respond", {}, []),
        ("tickets/respond", {"is_internal": False}, ["reply"] * 2),
        ("tickets/respond", {"is_internal": None}, ["reply"] * 2),
        ("tickets/respond", {"is_internal": False, "send_full_email": True}, ["reply_full"] * 2),
        ("tickets/respond", {"content": "@priya look, #bug"}, ["tagged"]),
        ("tickets/respond", {"content": "mail priya@example.com, @\u200bpriya, @nobody"}, []),
        ("tickets/respond", {"add_participants": ["bo@example.com"]}, ["participant_added"]),
        ("tickets/close", {"content": None}, ["ticket_closed"] * 2),
        ("tickets/close", {}, ["ticket_closed"] * 2),
        ("tickets/close", {"is_internal": False}, [*["reply"] * 2, *["ticket_closed"] * 2]),
        ("tickets/participants/add", {"participants": ["bo@example.com"]}, ["participant_added"]),
        ("tickets/participants/remove", {"participants": [AUTHOR]}, []),
    ],
)
def test_mails(path: str, more: dict[str, Any], expected: list[str]) -> None:
    """Each call sends the mails that a real one would, one for each participant but its author."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A", assigned_to_email="tom.hale@example.com")
        caller.ok(path, "k", **{**caller.of_note(ticket), **more})
        assert [one.why for one in caller.tickiti.mails] == expected
        assert AUTHOR not in {one.to for one in caller.tickiti.mails}


def test_changing_a_response_mails_only_on_request() -> None:
    """A note that becomes public mails nobody, unless notify is asked for."""
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("A")
        number = caller.note(ticket).json()["data"]["response_id"]
        caller.ok("tickets/response-update", response_id=number, is_internal=False)
        assert not caller.tickiti.responses(ticket)[-1].is_internal
        assert caller.tickiti.mails == []
        caller.ok("tickets/response-update", response_id=number, is_internal=True)
        caller.ok("tickets/response-update", response_id=number, is_internal=False, notify=True)
        assert [one.to for one in caller.tickiti.mails] == ["ann@example.com"]


def test_sent_mail() -> None:
    """Mails are listed newest first, by day, and by what their subject or address says."""
    now = [1_800_000_000.0]
    with calling(clock=lambda: now[0]) as caller:
        ticket = caller.tickiti.add_ticket("Printer")
        caller.note(ticket, "1", is_internal=False)
        now[0] += 3 * 86_400
        caller.note(ticket, "2", is_internal=False, from_email="bo@example.com")
        listed = caller.call("mail/sent-mail", range_days=30).json()["sent_mail"]
        assert [one["id"] for one in listed] == [3, 2, 1]
        assert len(caller.call("mail/sent-mail", range_days=2).json()["sent_mail"]) == 2
        found = caller.call("mail/sent-mail/search", q="ANN@", limit=1).json()["sent_mail"]
        assert [one["to"] for one in found] == ["ann@example.com"]
        assert len(caller.call("mail/sent-mail/search", q="").json()["sent_mail"]) == 3
        assert caller.refused("mail/sent-mail", range_days=31) == INVALID


# Changing and undoing


def _noted(caller: Caller, **more: Any) -> tuple[Ticket, int]:
    ticket = caller.tickiti.add_ticket("A")
    return ticket, caller.note(ticket, **more).json()["data"]["response_id"]


def test_changing_a_body() -> None:
    """The whole body, or texts that occur once; never a customer's."""
    with calling() as caller:
        ticket, number = _noted(caller, from_email="tom.hale@example.com", content="<p>a b b</p>")
        change = {"response_id": number}
        wrongs: list[dict[str, Any]] = [
            {},
            {"content": "x", "replace": [{"find": "a", "replace": "c"}]},
            {"replace": [{"find": "b", "replace": "c"}]},
            {"replace": [{"find": "z", "replace": "c"}]},
            {"replace": [{"replace": "c"}]},
        ]
        for wrong in wrongs:
            assert caller.refused("tickets/response-update", **change, **wrong) == INVALID
        replaces = [{"find": "a", "replace": "1"}, {"find": "b", "replace": "2", "all": True}]
        caller.ok("tickets/response-update", **change, replace=replaces)
        assert caller.tickiti.responses(ticket)[-1].html == "<p>1 2 2</p>"
        first = caller.tickiti.responses(ticket)[0].id
        refused = caller.refused("tickets/response-update", response_id=first, content="x")
        assert refused == INVALID
        assert caller.ok("tickets/response-update", response_id=first, is_internal=True)


def test_deleting_a_response() -> None:
    """It is gone from everything but queries that ask for deleted ones; a second time is 404."""
    with calling() as caller:
        ticket, number = _noted(caller)
        caller.ok("tickets/response-delete", response_id=number)
        assert len(caller.ok("tickets/show", ticket_id=ticket.id)["responses"]) == 1
        assert caller.refused("tickets/response", response_id=number) == (404, "not_found")
        again = caller.refused("tickets/response-delete", response_id=number)
        assert again == (404, "not_found")
        rows = caller.ok("tickets/responses/query", include_deleted=True)["responses"]
        assert len(rows) == 2


def test_deleting_a_file() -> None:
    """One file of a response; its bytes go when nothing else has them, and a line stays."""
    with calling() as caller:
        sent = caller.reference("a.txt", b"abc")
        ticket, _ = _noted(caller, attachments=[sent, sent | {"name": "b.txt"}])
        one, other = caller.tickiti.files(ticket)
        for file, stored in ((one, True), (other, False)):
            caller.ok(
                "tickets/attachment-delete",
                ticket_id=ticket.id,
                response_attachment_id=str(file.id),
                reason="undone",
            )
            assert (caller.tickiti.desk.stored(sent["sha256"]) is not None) is stored
        assert caller.tickiti.files(ticket) == []
        audit = caller.ok("tickets/show", ticket_id=ticket.id)["responses"][-1]["audit"]
        assert [sent["sha256"] in line for line in audit] == [True, True]
        again = {"ticket_id": ticket.id, "response_attachment_id": one.id}
        assert caller.refused("tickets/attachment-delete", **again) == (404, "not_found")


def test_deleting_tickets_and_restoring_one() -> None:
    """All of them or none; a deleted one is not found until it is restored."""
    with calling() as caller:
        tickets = [caller.tickiti.add_ticket(name) for name in "ABC"]
        numbers = [one.number for one in tickets[:2]]
        unknown = caller.refused("tickets/delete", ticket_numbers=[*numbers, 1])
        assert unknown == (404, "not_found")
        rehearsed = caller.ok("tickets/delete", ticket_numbers=numbers, dry_run=True)
        assert rehearsed["ticket_numbers"] == numbers
        assert len(caller.ok("tickets/query")) == 3
        caller.ok("tickets/delete", ticket_numbers=numbers)
        assert len(caller.ok("tickets/query")) == 1
        gone = caller.refused("tickets/show", ticket_number=numbers[0])
        assert gone == (404, "not_found")
        caller.ok("tickets/restore", ticket_number=numbers[0])
        assert caller.ok("tickets/show", ticket_number=numbers[0])
        twice = caller.refused("tickets/restore", ticket_number=numbers[0])
        assert twice == (404, "not_found")
        told = caller.ok("tickets/delete", originator_email="ann@example.com", queue="Inbox")
        assert told["count"] == 2
        both = {"originator_email": "ann@example.com", "ticket_numbers": numbers}
        assert caller.refused("tickets/delete", **both) == INVALID


def test_orphans_are_deleted_on_request() -> None:
    """The call of the administration takes what no response uses, uploads that wait as well."""
    with calling() as caller:
        admin = caller.with_key("administration:write", "tickets:write")
        sent = admin.reference("a.txt", b"abc")
        path = "administration/storage/delete-orphaned"
        assert caller.refused(path) == (403, "forbidden")
        assert admin.call(path).json() == {"deleted": 1}
        assert admin.note(caller.tickiti.add_ticket("A"), attachments=[sent]).status_code == 422
