"""The short calls, and the calls that an archive cannot answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from migrator.archive.records import LabelRow, PostRow, TicketRow
from migrator.serve.tickiti.criteria import MODES
from migrator.serve.tickiti.lookups import REPORTS, WRITES

if TYPE_CHECKING:
    from tests.serve.conftest import Desk, OpenDesk


@pytest.fixture(scope="module")
def told(desk: Desk) -> Desk:
    """Keep a ticket with posts of several people, and two that were merged into it."""
    details, mail = {"ownerstaffid": "9"}, "m@example.com"
    desk.write(
        TicketRow(1, 3, "A-1", "Plate", 10, 60, 0, "Marcus", mail, "Priya", 0, 0, details),
        PostRow(11, 10, "Marcus", "m@example.com", text="<p>hé</p>", is_html=True,
                facts={"is_emailed": True}),
        PostRow(12, 20, "Priya", "", staff=True, text="1 < 2"),
        PostRow(13, 30, "M. Berg", "M@example.com", text="x" * 5000),
        PostRow(14, 40, "Old Hand", "old@example.com", staff=True, is_private=True, text=""),
        PostRow(15, 50, "Guest", "", text="hi"),
    )  # fmt: skip
    for number, into in ((2, 1), (3, 2)):
        desk.write(TicketRow(number, 3 + number // 3, subject=f"merged {number}"))
        desk.archive.ledger.mark_merged(number, into)
    desk.archive.threads.put_labels(
        [LabelRow("staff", 9, "Priya", "p@example.com"), LabelRow("staff", 10, "Silent", "")]
    )
    return desk


def test_token_tells_what_it_may_do(desk: Desk) -> None:
    """Abilities, roles, queues and expiry; any token may ask."""
    until = int(time.time()) + 3600
    token = desk.token("tickets:write", "mail:read", queues=[4, 3], expires_at=until)
    data = desk.data("token", token=token)
    assert data["abilities"] == ["mail:read", "tickets:write"]
    assert data["families"] == {
        "mail": {"read": True, "write": False},
        "tickets": {"read": True, "write": True},
    }
    assert (data["roles"], data["queue_ids"], data["read_only"]) == (["staff"], ["3", "4"], True)
    assert set(data["features"].values()) == {False}
    assert data["expires_at"].endswith("+00:00")
    guest = desk.data("token", token=desk.token("reports:read", is_staff=False))
    assert (guest["roles"], guest["queue_ids"], guest["expires_at"]) == ([], None, None)
    assert desk.call("token", token="1|no").status_code == 401
    assert desk.call("token", [], token=token).status_code == 200


def test_search_modes_are_those_of_queries(desk: Desk) -> None:
    """Each mode that is served is described, no other one."""
    data = desk.data("tickets/search-modes")
    assert [each["mode"] for each in data["modes"]] == list(MODES)
    assert all(each["matches"] for each in data["modes"])
    assert "subject" in data["criteria"]
    asked = {"search_object": {"criteria": [{"mode": "content", "tokens": ["x"]}]}}
    served = desk.call("tickets/query", asked).status_code == 200
    assert served is ("content" in MODES)


def test_staff_are_those_on_the_list_and_those_who_wrote(told: Desk) -> None:
    """Each once, without invented addresses; the search takes parts of names and addresses."""
    staff = told.data("tickets/staff")["staff"]
    assert [(one["id"], one["name"], one["email"]) for one in staff] == [
        ("9", "Priya", "p@example.com"),
        ("10", "Silent", None),
        (None, "Old Hand", "old@example.com"),
    ]
    assert all(one["teams"] == [] for one in staff)
    for search, names in (
        ("PRI", ["Priya"]), ("@example", ["Priya", "Old Hand"]), ("marcus", []), ("", [1, 2, 3]),
    ):  # fmt: skip
        found = told.data("tickets/staff", {"search": search})["staff"]
        assert len(found) == len(names), search
    assert told.call("tickets/staff", {"search": ["x"]}).status_code == 422


@pytest.mark.parametrize("key", ["teams", "resolutions"])
def test_what_kayako_does_not_have_is_an_empty_list(desk: Desk, key: str) -> None:
    """Empty, whatever is asked."""
    bodies: list[object] = [{}, [], {"name": "x"}]
    for body in bodies:
        assert desk.data(f"tickets/{key}", body) == {key: []}


def test_links_are_the_merged_tickets(told: Desk) -> None:
    """Also those merged before into a merged one; by number and by id; without unseen queues."""
    data = told.data("tickets/links", {"ticket_number": "1"})
    assert (data["ticket_id"], data["ticket_number"]) == ("1", 1)
    assert data["linked_tickets"] == [
        {"id": "2", "number": 2, "subject": "merged 2", "relation": "merged"},
        {"id": "3", "number": 3, "subject": "merged 3", "relation": "merged"},
    ]
    assert told.data("tickets/links", {"ticket_id": 3}) == data
    limited = told.data("tickets/links", {"ticket_id": 1}, token=told.token(queues=[3]))
    assert [one["id"] for one in limited["linked_tickets"]] == ["2"]
    for body, status in (
        ({}, 422),
        ({"ticket_id": 1, "ticket_number": 1}, 422),
        ({"ticket_id": 99}, 404),
    ):
        assert told.call("tickets/links", body).status_code == status
    other = told.call("tickets/links", {"ticket_id": 1}, token=told.token(queues=[9]))
    assert (other.status_code, other.json()["error"]) == (403, "forbidden")


def test_show_names_participants_and_links(told: Desk) -> None:
    """Each person once: by the address, else by the name."""
    ticket = told.data("tickets/show", {"ticket_number": "1"})["ticket"]
    assert ticket["participants"] == [
        {"email": "m@example.com", "name": "Marcus", "is_staff": False},
        {"email": "p@example.com", "name": "Priya", "is_staff": True},
        {"email": "old@example.com", "name": "Old Hand", "is_staff": True},
        {"email": None, "name": "Guest", "is_staff": False},
    ]
    links = told.data("tickets/links", {"ticket_number": "1"})["linked_tickets"]
    assert ticket["linked_tickets"] == links


def test_responses_tell_their_length_and_whether_they_came_by_mail(told: Desk) -> None:
    """The length is that of the whole body, whatever was asked for."""
    hows: list[dict[str, object]] = [{}, {"max_body_chars": 2}, {"fields": []}]
    for how in hows:
        responses = told.data("tickets/responses", {"ticket_number": "1", **how})["responses"]
        assert [one["body_chars"] for one in responses] == [9, 5, 5000, 0, 2]
        assert [one["is_email_sourced"] for one in responses] == [True, False, False, False, False]
        assert {(*one["audit"], one["is_audit_only"]) for one in responses} == {(False,)}


@pytest.mark.parametrize("number", [11, "13", 14])
def test_one_response_is_that_of_show(told: Desk, number: object) -> None:
    """The object of the list, with the ticket that it belongs to."""
    (listed,) = (
        one
        for one in told.data("tickets/show", {"ticket_number": "1"})["responses"]
        if one["id"] == str(number)
    )
    one = told.data("tickets/response", {"response_id": number})
    assert one == {
        "response_id": str(number), "ticket_number": 1, "ticket_id": "1", "queue_id": "3", **listed,
    }  # fmt: skip
    cut = told.data("tickets/response", {"response_id": number, "max_body_chars": 1})
    assert len(cut["html"]) <= 1


def test_response_of_files_without_a_post_is_found(open_desk: OpenDesk) -> None:
    """Its id is below zero."""
    with open_desk() as desk:
        file = desk.attach("a.pdf", b"%PDF-1.4", ticket=5, post=0)
        one = desk.data("tickets/response", {"response_id": "-5"})
        assert [each["id"] for each in one["attachments"]] == [str(file)]


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({}, 422, "validation_failed"),
        ({"response_id": ""}, 422, "validation_failed"),
        ({"response_id": [1]}, 422, "validation_failed"),
        ({"response_id": 11, "max_body_chars": -1}, 422, "validation_failed"),
        ({"response_id": 999}, 404, "not_found"),
        ({"response_id": "x"}, 404, "not_found"),
        ({"response_id": 10**30}, 404, "not_found"),
    ],
)
def test_wrong_requests_for_a_response_are_refused(
    told: Desk, sent: object, status: int, code: str
) -> None:
    """As for a ticket: what is missing or wrong 422, what nobody has 404."""
    answer = told.call("tickets/response", sent)
    assert (answer.status_code, answer.json()["error"]) == (status, code)


def test_response_is_hidden_with_its_ticket(open_desk: OpenDesk) -> None:
    """403 in a queue that the token does not see, 404 in a ticket that was deleted."""
    with open_desk() as desk:
        desk.write(TicketRow(7, 3), PostRow(71, 1, text="x"))
        asked = {"response_id": 71}
        assert desk.call("tickets/response", asked, token=desk.token(queues=[4])).status_code == 403
        desk.archive.ledger.mark_ticket_deleted(7)
        assert desk.call("tickets/response", asked).status_code == 404


@pytest.mark.parametrize("path", WRITES | REPORTS)
def test_what_an_archive_cannot_do_is_forbidden(desk: Desk, path: str) -> None:
    """401 without a token, 403 without the ability; with it 403 that says why."""
    ability, why = (WRITES | REPORTS)[path]
    assert desk.client.post(f"{desk.base}/api/v1/{path}").status_code == 401
    for token, status, words in (
        (desk.token("settings:read"), 403, f"lacks the ability {ability}"),
        (desk.token(ability), 403, why),
        (desk.token(ability, is_staff=False), 403, why),
    ):
        answer = desk.call(path, {"ticket_number": "1"}, token=token)
        assert (answer.status_code, answer.json()["ok"]) == (status, False)
        assert words in answer.json()["message"]


def test_upload_is_refused_whatever_it_holds(desk: Desk) -> None:
    """A file of some size in a form gets the sentence, not a broken connection."""
    answer = desk.client.post(
        f"{desk.base}/api/v1/tickets/attachment-upload",
        files={"file": ("a.txt", bytes(3_000_000))},
        headers={"Authorization": f"Bearer {desk.token('tickets:write')}"},
    )
    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
    assert "read-only archive" in answer.json()["message"]


@pytest.mark.parametrize(
    "path", ["tickets/staff", "tickets/teams", "tickets/resolutions", "tickets/links",
             "tickets/response", "tickets/search-modes"],
)  # fmt: skip
def test_reading_calls_need_their_ability(desk: Desk, path: str) -> None:
    """A token for something else reads no lists; writing implies reading."""
    assert desk.call(path, token=desk.token("mail:read")).status_code == 403
    body = {"ticket_id": 1, "response_id": 1}
    assert desk.call(path, body, token=desk.token("tickets:write")).status_code in (200, 404)


def test_lists_that_are_cut_say_so(open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of too many people or tickets is marked, others are not."""
    with open_desk() as desk:
        posts = [PostRow(n, n, f"Ann {n}", staff=True) for n in range(1, 6)]
        desk.write(TicketRow(1, 3), *posts)
        for number in (2, 3, 4, 5, 6):
            desk.write(TicketRow(number, 3))
            desk.archive.ledger.mark_merged(number, 1)
        for most, cut in ((5, False), (4, True)):
            for module in ("serializers", "queries", "lookups"):
                monkeypatch.setattr(f"migrator.serve.tickiti.{module}.MAX_PEOPLE", most)
            ticket = desk.data("tickets/show", {"ticket_id": 1})["ticket"]
            links = desk.data("tickets/links", {"ticket_id": 1})
            staff = desk.data("tickets/staff")
            assert len(ticket["participants"]) == len(links["linked_tickets"]) == most
            assert len(staff["staff"]) == most
            assert ("participants_truncated" in ticket) is cut
            assert ("linked_tickets_truncated" in ticket) is cut
            assert ("linked_tickets_truncated" in links) is cut
            assert ("staff_truncated" in staff) is cut
