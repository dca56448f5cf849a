"""tickets/show and tickets/responses: every documented field, order, bounds and refusals."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.types import Message, Scope

from migrator.archive.records import LabelRow, PostRow, StatusRow, TicketRow
from migrator.serve.catalog import EndpointSettings
from migrator.serve.tickiti import build_app, serializers

if TYPE_CHECKING:
    from tests.serve.conftest import Desk, OpenDesk

NOON = 1_777_626_842  # 2026-05-01T09:14:02+00:00
TICKET = TicketRow(
    300,
    4,
    "ABC-123-45678",
    "Carbon plate cracked — ☃",
    NOON,
    NOON + 3600,
    status_id=1,
    requester_name="Marcus Berg",
    requester_email="marcus@example.com",
    owner_name="Priya Sharma",
)
POSTS = (
    PostRow(
        52, NOON + 60, "Priya Sharma", "priya@example.com", True, True, True,
        "<p>Internal note &amp; more</p><p>two</p><script>evil()</script>",
    ),
    PostRow(51, NOON, "Marcus Berg", "marcus@example.com", False, False, False, "5 < 6\nyes"),
)  # fmt: skip
DOCUMENTED = [
    *("id", "is_internal", "is_pinned", "staff_response", "created_by_email", "created_at"),
    *("updated_at", "is_email_sourced", "html", "plain_text", "attachments"),
]
ADDED = ["created_by_name", "audit", "is_audit_only", "body_chars"]


@pytest.fixture(scope="module")
def ticket(desk: Desk) -> int:
    """Keep one ticket of two posts, with an attachment."""
    stored = desk.attach("UPDD Diag.pdf", b"%PDF-1.4 x", ticket=300, department=4, post=52)
    desk.write(TICKET, *POSTS)
    desk.archive.threads.put_statuses([StatusRow(1, "On Hold"), StatusRow(2, "Done", 0, True)])
    return stored


def test_header_has_the_documented_fields(desk: Desk, ticket: int) -> None:
    """Names, order and JSON types are those of the documentation; what is added comes after."""
    header = desk.data("tickets/show", {"ticket_number": "300"})["ticket"]
    assert list(header.items())[:12] == [
        ("id", "300"),
        ("number", 300),
        ("subject", "Carbon plate cracked — ☃"),
        ("status", "on-hold"),
        ("priority", "20"),
        ("queue_id", "4"),
        ("originator_email", "marcus@example.com"),
        ("assigned_to_email", None),
        ("resolved", None),
        ("on_hold_until", None),
        ("created_at", "2026-05-01T09:14:02+00:00"),
        ("updated_at", "2026-05-01T10:14:02+00:00"),
    ]
    assert list(header.items())[12:] == [
        ("originator_name", "Marcus Berg"),
        ("assigned_to_name", "Priya Sharma"),
        ("queue_name", header["queue_name"]),
        ("priority_name", None),
        ("type_name", None),
        ("participants", header["participants"]),
        ("linked_tickets", []),
    ]


def test_responses_have_the_documented_fields(desk: Desk, ticket: int) -> None:
    """Oldest first, internal ones too; text as HTML and HTML as text; attachments whole."""
    public, internal = desk.data("tickets/show", {"ticket_number": "300"})["responses"]
    assert list(public.items())[: len(DOCUMENTED)] == [
        ("id", "51"),
        ("is_internal", False),
        ("is_pinned", False),
        ("staff_response", False),
        ("created_by_email", "marcus@example.com"),
        ("created_at", "2026-05-01T09:14:02+00:00"),
        ("updated_at", "2026-05-01T09:14:02+00:00"),
        ("is_email_sourced", False),
        ("html", "5 &lt; 6<br />\nyes"),
        ("plain_text", "5 < 6\nyes"),
        ("attachments", []),
    ]
    assert list(internal) == [*DOCUMENTED, *ADDED]
    assert (internal["id"], internal["is_internal"], internal["staff_response"]) == (
        "52",
        True,
        True,
    )
    assert internal["html"] == POSTS[0].text
    assert internal["plain_text"] == "Internal note & more\n\ntwo"
    (attachment,) = internal["attachments"]
    assert list(attachment.items()) == [
        ("id", str(ticket)),
        ("response_id", "52"),
        ("name", "UPDD Diag.pdf"),
        ("mime_type", "application/pdf"),
        ("sha256", hashlib.sha256(b"%PDF-1.4 x").hexdigest()),
        ("file_size", 10),
        ("is_inline", False),
    ]
    got = desk.get(ticket, ticket="300").json()["data"]
    del got["content_base64"]
    assert got == attachment


def test_responses_are_those_of_show(desk: Desk, ticket: int) -> None:
    """The list has the number, as a number, and the same array."""
    shown = desk.data("tickets/show", {"ticket_number": 300})
    listed = desk.data("tickets/responses", {"ticket_number": 300})
    assert list(listed) == ["ticket_number", "responses"]
    assert listed["ticket_number"] == 300
    assert listed["responses"] == shown["responses"]


@pytest.mark.parametrize("path", ["tickets/show", "tickets/responses"])
def test_heavy_fields_and_long_bodies_can_be_left_out(desk: Desk, ticket: int, path: str) -> None:
    """Only the asked heavy fields come; cut bodies are marked, whole ones are not."""
    asked = {"ticket_number": "300", "fields": ["plain_text"], "max_body_chars": 10}
    public, internal = desk.data(path, asked)["responses"]
    assert (public["plain_text"], internal["plain_text"]) == ("5 < 6\nyes", "Internal n")
    assert "plain_text_truncated" not in public
    assert internal["plain_text_truncated"] is True
    assert not {"html", "html_truncated", "attachments"} & (public.keys() | internal.keys())
    (one, _) = desk.data(path, {"ticket_number": "300", "fields": []})["responses"]
    assert list(one) == [*DOCUMENTED[:8], *ADDED]
    (one, _) = desk.data(path, {"ticket_number": "300", "max_body_chars": 0})["responses"]
    assert (one["html"], one["html_truncated"]) == ("", True)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "ticket_number"),
    "empty": ({"ticket_number": " "}, "ticket_number"),
    "null": ({"ticket_number": None}, "ticket_number"),
    "list": ({"ticket_number": ["300"]}, "ticket_number"),
    "both": ({"ticket_number": "300", "ticket_id": "300"}, "ticket_id"),
    "id": ({"ticket_id": 1.5}, "ticket_id"),
    "fields": ({"ticket_number": "300", "fields": ["body"]}, "fields"),
    "field": ({"ticket_number": "300", "fields": "html"}, "fields"),
    "chars": ({"ticket_number": "300", "max_body_chars": -1}, "max_body_chars"),
}


@pytest.mark.parametrize("path", ["tickets/show", "tickets/responses"])
@pytest.mark.parametrize("case", WRONG)
def test_wrong_requests_are_refused(desk: Desk, ticket: int, path: str, case: str) -> None:
    """422 names the field; it comes before anything is looked up."""
    body, field = WRONG[case]
    answer = desk.call(path, body)
    assert (answer.status_code, answer.json()["error"]) == (422, "validation_failed")
    assert list(answer.json()["errors"]) == [field]


@pytest.mark.parametrize("path", ["tickets/show", "tickets/responses"])
def test_refusals_of_tokens_and_tickets(desk: Desk, ticket: int, path: str) -> None:
    """401, 403 and 404 mean here what they mean for the download, and tell nothing more."""
    there, nowhere = {"ticket_number": "300"}, {"ticket_number": "999999"}
    expected = {
        (401, "unauthenticated"): desk.call(path, there, token="1|no"),
        (404, "not_found"): desk.call(path, nowhere),
    }
    for token in (
        desk.token("settings:read"),
        desk.token(is_staff=False),
        desk.token(queues=[3]),
    ):
        expected |= {(403, "forbidden"): desk.call(path, there, token=token)}
        assert "Carbon" not in expected[403, "forbidden"].text
        assert expected[403, "forbidden"].status_code == 403
    for (status, code), answer in expected.items():
        assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert desk.call(path, there, token=desk.token(queues=[4])).status_code == 200
    assert desk.call(path, there, token=desk.token("tickets:write")).status_code == 200


def test_numbers_and_queues_are_the_mapped_ones(open_desk: OpenDesk) -> None:
    """A mapped number stays text where it is none; the mapped queue decides who sees the ticket."""
    with open_desk() as desk:
        desk.write(TICKET, *POSTS)
        desk.archive.access.apply_config({4: (12, "Sales")}, {300: "TK-7"})
        shown = desk.data("tickets/show", {"ticket_number": "TK-7"}, token=desk.token(queues=[12]))
        header = shown["ticket"]
        assert (header["number"], header["id"]) == ("TK-7", "300")
        assert (header["queue_id"], header["queue_name"]) == ("12", "Sales")
        listed = desk.data("tickets/responses", {"ticket_id": "300"})
        assert listed["ticket_number"] == "TK-7"
        refused = desk.call("tickets/show", {"ticket_id": 300}, token=desk.token(queues=[4]))
        assert refused.status_code == 403


def test_merged_ticket_is_found_by_its_old_number(open_desk: OpenDesk) -> None:
    """The old number leads to the thread and the files of the ticket that took them."""
    with open_desk() as desk:
        desk.write(TICKET, *POSTS)
        desk.write(TicketRow(301, 3, subject="Old", created_at=NOON), PostRow(61, NOON))
        stored = desk.attach("old.pdf", b"old", ticket=301, department=3, post=61)
        with desk.archive.ledger.atomic():
            desk.archive.ledger.mark_merged(301, 300)
        shown = desk.data("tickets/show", {"ticket_number": "301"})
        assert shown["ticket"]["id"] == "300"
        assert {each["id"] for each in shown["responses"]} == {"51", "52", "61"}
        for number in ("300", "301"):
            assert desk.get(stored, ticket=number).status_code == 200
        hidden = desk.call("tickets/show", {"ticket_number": "301"}, token=desk.token(queues=[3]))
        assert hidden.status_code == 403


def test_ring_of_merges_is_no_ticket(open_desk: OpenDesk) -> None:
    """Two tickets merged into each other end as not found, not in a loop."""
    with open_desk() as desk:
        for number in (1, 2):
            desk.write(TicketRow(number, 3))
        desk.archive.ledger.mark_merged(1, 2)
        with closing(sqlite3.connect(desk.archive.path / "checkpoint.db")) as damaged, damaged:
            damaged.execute("UPDATE tickets SET merged_into = 1 WHERE id = 2")
        assert desk.call("tickets/show", {"ticket_number": "1"}).status_code == 404


def test_the_newest_of_two_merges_is_believed(open_desk: OpenDesk) -> None:
    """A ticket that was merged away and has others merged into it is there again."""
    with open_desk() as desk:
        for number in (1, 2):
            desk.write(TicketRow(number, 3))
        desk.archive.ledger.mark_merged(1, 2)
        desk.archive.ledger.mark_merged(2, 1)
        for name in ("1", "2"):
            assert desk.data("tickets/show", {"ticket_number": name})["ticket"]["id"] == "1"


def test_archive_without_posts_still_leads_to_its_files(open_desk: OpenDesk) -> None:
    """Where no post was ever read, attachments make the responses they hang on."""
    with open_desk() as desk:
        first = desk.attach("a.pdf", b"a", post=7)
        second = desk.attach("b.pdf", b"b", post=8)
        loose = desk.attach("c.pdf", b"c", post=0)
        responses = desk.data("tickets/show", {"ticket_number": "1"})["responses"]
        files = {each["id"]: [one["id"] for one in each["attachments"]] for each in responses}
        assert files == {"7": [str(first)], "8": [str(second)], "-1": [str(loose)]}
        for each in responses:
            assert all(one["response_id"] == each["id"] for one in each["attachments"])


def test_only_files_that_can_be_had_are_listed(open_desk: OpenDesk) -> None:
    """An attachment without bytes is not offered; a deleted one only where those are served."""
    for serve_deleted in (False, True):
        with open_desk(serve_deleted=serve_deleted) as desk:
            stored = desk.attach("a.pdf", b"a")
            deleted = desk.attach("b.pdf", b"b")
            desk.attach("c.pdf", None)
            with desk.archive.ledger.atomic():
                desk.archive.ledger.mark_deleted(deleted, "gone")
            (response,) = desk.data("tickets/show", {"ticket_number": "1"})["responses"]
            found = [int(each["id"]) for each in response["attachments"]]
            want = {stored, deleted} if serve_deleted else {stored}
            assert want <= set(found)
            assert (deleted in found) is serve_deleted


def test_text_of_any_kind_arrives(open_desk: OpenDesk) -> None:
    """Control characters, lone surrogates, huge numbers and times beyond the calendar are told."""
    text = "a\x00b\x1b\u2028\ud800☃" + "𝄞" * 10
    with open_desk() as desk:
        row = TicketRow(5, 3, subject=text, created_at=10**15, last_activity=-(10**15))
        desk.write(row, PostRow(1, 10**15, text=text, is_html=True), PostRow(2, -5, text=text))
        shown = desk.data("tickets/show", {"ticket_number": "5"})
        assert shown["ticket"]["subject"].endswith("𝄞")
        assert shown["ticket"]["created_at"] == "1970-01-01T00:00:00+00:00"
        assert [each["id"] for each in shown["responses"]] == ["2", "1"]
        assert shown["responses"][0]["created_at"] == "1969-12-31T23:59:55+00:00"


def test_thread_of_five_thousand_posts_is_streamed(open_desk: OpenDesk) -> None:
    """A huge thread arrives whole, in pieces of bounded size."""
    with open_desk() as desk:
        posts = [PostRow(n, NOON + n // 2, text=f"{n} " * 20, is_html=True) for n in range(1, 5001)]
        desk.write(TICKET, *posts)
        body, sizes = asyncio.run(ask(desk, "tickets/show", {"ticket_number": "300"}))
        responses = json.loads(body)["data"]["responses"]
        assert [int(each["id"]) for each in responses] == list(range(1, 5001))
        assert max(sizes) < 256 * 1024
        assert len(sizes) > 20


def test_a_client_that_leaves_ends_the_work(open_desk: OpenDesk) -> None:
    """Nobody reads on behalf of a client that has gone."""
    with open_desk() as desk:
        desk.write(TICKET, *[PostRow(n, NOON, text="x" * 100_000) for n in range(1, 200)])
        _, sizes = asyncio.run(ask(desk, "tickets/show", {"ticket_number": "300"}, leave=True))
        assert len(sizes) < 10


async def ask(
    desk: Desk, path: str, body: object, *, leave: bool = False
) -> tuple[bytes, list[int]]:
    """Call the application itself; return the body and the sizes of its messages."""
    app, pieces = build_app(desk.archive, EndpointSettings()), []
    headers = [
        (b"authorization", f"Bearer {desk.staff}".encode()),
        (b"content-type", b"application/json"),
    ]
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": f"/api/v1/{path}",
        "headers": headers,
        "query_string": b"",
    }
    first = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> Message:
        if first:
            return first.pop()
        if not leave:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pieces.append(message.get("body", b""))
        await asyncio.sleep(0)

    await app(scope, receive, send)
    return b"".join(pieces), [len(piece) for piece in pieces]


def test_a_thread_that_breaks_off_is_no_complete_answer(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When the archive fails in the middle, the answer stays incomplete and the log says why."""
    real = serializers.response_object

    def failing(response: Any, *rest: Any) -> dict[str, object]:
        if response.id == 150:
            raise OSError("the disk is gone")
        return real(response, *rest)

    monkeypatch.setattr("migrator.serve.tickiti.queries.response_object", failing)
    with open_desk() as desk:
        desk.write(TICKET, *[PostRow(n, NOON, text="x" * 10_000) for n in range(1, 200)])
        with pytest.raises(httpx.RemoteProtocolError):
            desk.call("tickets/show", {"ticket_number": "300"})
        assert "the disk is gone" in caplog.text


def test_merge_leaves_no_post_behind(open_desk: OpenDesk) -> None:
    """A query over all tickets names no place of files under a ticket that was merged away."""
    with open_desk() as desk:
        desk.attach("a.txt", b"a", ticket=3, post=0)
        desk.attach("b.txt", b"b", ticket=4, post=41)
        with desk.archive.ledger.atomic():
            desk.archive.ledger.mark_merged(3, 4)
        rows = desk.data("tickets/responses/query")["responses"]
        assert {row["ticket_id"] for row in rows} == {"4"}
        assert sorted(row["response_id"] for row in rows) == ["-4", "41"]


def test_a_note_is_an_internal_response(desk: Desk) -> None:
    """Notes and time tracks come once, everywhere, as internal responses of the staff."""
    desk.write(
        TicketRow(301, 3),
        PostRow(61, 10, "Ann", text="hello"),
        PostRow(10**12 + 61, 20, "Bob", staff=True, is_private=True, kind="note", text="hm"),
        PostRow(
            2 * 10**12 + 61,
            30,
            "Bob",
            staff=True,
            is_private=True,
            kind="timetrack",
            text="<b>",
            facts={"seconds_worked": 300},
        ),
    )
    shown = desk.data("tickets/show", {"ticket_number": "301"})["responses"]
    assert [(one["id"], one["is_internal"], one["staff_response"]) for one in shown] == [
        ("61", False, False),
        ("1000000000061", True, True),
        ("2000000000061", True, True),
    ]
    assert shown[1]["plain_text"] == "hm"
    assert shown[2]["plain_text"] == "Time track: 300 seconds worked, 0 billable.\n<b>"
    assert shown[2]["html"] == ("Time track: 300 seconds worked, 0 billable.<br />\n&lt;b&gt;")
    asked = {"ticket_number": ["301"], "is_internal": True}
    found = desk.data("tickets/responses/query", asked)["responses"]
    assert [one["id"] for one in found] == ["1000000000061", "2000000000061"]


def test_priority_type_and_owner_are_told_where_known(desk: Desk) -> None:
    """Kayako's priority becomes Tickiti's; its title, its type and the owner's address come."""
    details = {"priorityid": "4", "typeid": "2", "ownerstaffid": "9"}
    desk.write(TicketRow(302, 3, owner_name="Bob", details=details))
    labels = [
        LabelRow("priority", 4, "Urgent!"),
        LabelRow("type", 2, "Bug"),
        LabelRow("staff", 9, "Bob", "bob@example.com"),
    ]
    desk.archive.threads.put_labels(labels)
    header = desk.data("tickets/show", {"ticket_number": "302"})["ticket"]
    told = ("priority", "priority_name", "type_name", "assigned_to_email", "assigned_to_name")
    assert [header[name] for name in told] == ["40", "Urgent!", "Bug", "bob@example.com", "Bob"]


@pytest.mark.parametrize(
    ("title", "priority"),
    [("Low", "10"), ("Medium", "20"), ("HIGH", "30"), ("P1 - Critical", "40"), ("Below", "20")],
)
def test_priorities_are_told_in_the_words_of_tickiti(title: str, priority: str) -> None:
    """A known word decides; what is none is normal."""
    assert serializers.priority_of(title) == priority
