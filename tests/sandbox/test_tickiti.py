"""What the look-alike of Tickiti answers when nothing goes wrong."""

from __future__ import annotations

import base64
import hashlib

from tests.sandbox.tickiti_caller import AUTHOR, Caller, calling


def test_a_file_goes_in_and_comes_back() -> None:
    """Upload, respond, show, download: the same bytes, under the same name, mailing nobody."""
    contents = bytes(range(256)) * 300
    with calling() as caller:
        ticket = caller.tickiti.add_ticket("Printer on fire")
        sent = caller.reference("Büro [1].zip", contents)
        assert sent == {
            "sha256": hashlib.sha256(contents).hexdigest(),
            "name": "Büro [1].zip",
            "file_size": len(contents),
        }
        written = caller.note(ticket, attachments=[sent]).json()["data"]
        assert written["ticket_id"] == ticket.id
        assert written["reopened"] is False
        assert written["ignored_params"] == []
        shown = caller.ok("tickets/show", ticket_number=str(ticket.number))
        assert shown["ticket"]["number"] == ticket.number
        (file,) = shown["responses"][-1]["attachments"]
        assert shown["responses"][-1]["id"] == str(written["response_id"])
        assert (file["name"], file["is_inline"]) == ("Büro [1].zip", False)
        read = caller.ok(
            "tickets/attachment", ticket_id=ticket.id, response_attachment_id=file["id"]
        )
        assert base64.b64decode(read["content_base64"]) == contents
        assert read["sha256"] == sent["sha256"]
        assert caller.tickiti.mails == []
        assert [one.created_by_email for one in caller.tickiti.responses(ticket)][1:] == [AUTHOR]
        (kept,) = caller.tickiti.files(ticket)
        assert caller.tickiti.read(kept) == contents


def test_the_steps_of_the_clients_own_test() -> None:
    """Each step of the client's test of attachments and ids succeeds."""
    files = {"diagnosis.txt": b"d" * 34, "notes.csv": b"a,b\n1,2\n3,4\n5,6\n7,8\n"}
    for generation in ("uploads", "july", "october"):
        with calling(generation=generation) as caller:
            _steps(caller, files)


def _steps(caller: Caller, files: dict[str, bytes]) -> None:
    first = caller.reference("diagnosis.txt", files["diagnosis.txt"])
    assert (first["name"], first["file_size"]) == ("diagnosis.txt", 34)
    created = caller.ok(
        "tickets",
        "one",
        originator_email_address="attach-test@example.com",
        queue_name="Inbox",
        data={"subject": "Test", "content": "<p>Test</p>", "queue_name": "Inbox"},
        attachments=[first],
    )
    number = str(created["ticket_number"])
    shown = caller.ok("tickets/show", ticket_number=number)
    ticket_id = int(shown["ticket"]["id"])
    assert ticket_id > 0
    rows = [file for one in shown["responses"] for file in one["attachments"]]
    assert [(file["name"], file["is_inline"]) for file in rows] == [("diagnosis.txt", False)]
    again = caller.ok("tickets/show", ticket_id=ticket_id)
    assert str(again["ticket"]["number"]) == number
    assert isinstance(caller.ok("tickets/responses", ticket_id=ticket_id)["responses"], list)
    both = caller.refused("tickets/show", ticket_id=ticket_id, ticket_number=number)
    assert both == (422, "validation_failed")
    assert caller.refused("tickets/show") == (422, "validation_failed")
    written = caller.ok(
        "tickets/respond",
        "two",
        ticket_id=ticket_id,
        from_email="system@tickiti.com",
        is_internal=True,
        content="<p>Note</p>",
        attachments=[caller.reference("notes.csv", files["notes.csv"])],
    )
    shown = caller.ok("tickets/show", ticket_id=ticket_id)
    (noted,) = [one for one in shown["responses"] if one["id"] == str(written["response_id"])]
    (file,) = noted["attachments"]
    assert (file["name"], file["is_inline"]) == ("notes.csv", False)
    read = caller.ok(
        "tickets/attachment",
        ticket_id=ticket_id,
        response_attachment_id=file["id"],
        intent="review_ok",
    )
    assert base64.b64decode(read["content_base64"]) == files["notes.csv"]


def test_the_writing_part_of_the_clients_sweep() -> None:
    """Creating without a queue, responding in public, and minting a key succeed in June."""
    with calling(generation="june") as caller:
        created = caller.ok(
            "tickets",
            "one",
            originator_email_address="sweep@example.com",
            data={"subject": "Sweep", "content": "<p>Sweep</p>"},
        )
        caller.ok(
            "tickets/respond",
            "two",
            ticket_number=created["ticket_number"],
            from_email="system@tickiti.com",
            content="<p>Thank you</p>",
        )
        caller.headers.pop("Authorization")
        assert caller.ok("idempotency_key")
        assert [one.why for one in caller.tickiti.mails] == ["created", "reply"]


def test_a_server_that_goes_away_and_comes_back() -> None:
    """Started again, it has the same address and everything that it had."""
    with calling() as caller:
        ticket, before = caller.tickiti.add_ticket("A"), caller.tickiti.url
        caller.note(ticket, "k", attachments=[caller.reference("a.txt", b"abc")])
        caller.tickiti.stop()
        caller.tickiti.start()
        assert caller.tickiti.url == before
        assert caller.note(ticket, "k", content="<p>Other</p>").status_code == 409
        assert caller.tickiti.read(caller.tickiti.files(ticket)[0]) == b"abc"
