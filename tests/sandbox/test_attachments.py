"""The five attachment calls: shapes, checks in their order, and the words for each refusal."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest

from migrator.sandbox.kayako.calls import decode_leniently

if TYPE_CHECKING:
    from migrator.sandbox.kayako import Attachment
    from tests.sandbox.conftest import Client, Serve

LIST = "/Tickets/TicketAttachment/ListAll"
ONE = "/Tickets/TicketAttachment"


def some(client: Client, *, least: int = 2) -> list[Attachment]:
    """Return the attachments of a listed ticket that has some."""
    return next(
        rows
        for t in client.desk.tickets.values()
        if t.department_id and len(rows := client.desk.attachments_of(t.id)) >= least
    )


def test_list(client: Client) -> None:
    """A list has Kayako's seven fields, in order and without contents."""
    row = some(client)[0]
    answer = client.get(f"{LIST}/{row.ticket_id}/{row.id}")
    assert answer.headers["Content-Type"] == "text/xml;charset=UTF-8"
    assert answer.text.startswith(
        '<?xml version="1.0" encoding="UTF-8"?>\n<attachments>\n<attachment>\n'
        f"<id><![CDATA[{row.id}]]></id>\n<ticketid><![CDATA[{row.ticket_id}]]></ticketid>\n"
        f"<ticketpostid><![CDATA[{row.post_id}]]></ticketpostid>\n<filename><![CDATA["
    )
    assert answer.text.endswith(
        f"<dateline><![CDATA[{row.dateline}]]></dateline>\n</attachment>\n</attachments>"
    )
    assert answer.values("filename") == [row.name.decode()]
    assert answer.values("filesize") == [str(row.filesize)]
    assert answer.text.index("<filename>") < answer.text.index("<filesize>")
    assert answer.text.index("<filesize>") < answer.text.index("<filetype>")
    assert "<contents" not in answer.text


def test_list_all(client: Client) -> None:
    """A ticket's list has all of its attachments, by id."""
    rows = some(client, least=10)
    assert client.get(f"{LIST}/{rows[0].ticket_id}").values("id") == [str(r.id) for r in rows]


def test_empty_list(client: Client) -> None:
    """A ticket without attachments gives an empty container with 200."""
    ticket = next(t for t in client.desk.tickets if not client.desk.attachments_of(t))
    answer = client.get(f"{LIST}/{ticket}")
    assert (answer.status, answer.text.count("\n")) == (200, 2)
    assert answer.text.endswith("\n<attachments>\n</attachments>")


def test_list_by_other_names_is_empty(serve: Serve) -> None:
    """A mask and the id of a merged ticket find the ticket but list nothing."""
    with serve() as client:
        rows = some(client)
        mask = client.desk.tickets[rows[0].ticket_id].mask
        client.desk.merge(rows[0].ticket_id, into := _other(client, rows[0].ticket_id))
        for name in (str(rows[0].ticket_id), client.desk.tickets[into].mask):
            assert client.get(f"{LIST}/{name}").values("id") == []
            assert client.get(f"{LIST}/{name}").status == 200
        assert client.get(f"{LIST}/{mask}").text == "Ticket not Found"
        listed = client.get(f"{LIST}/{into}").values("id")
        assert {str(row.id) for row in rows} <= set(listed)


def _other(client: Client, ticket: int) -> int:
    return next(t.id for t in client.desk.tickets.values() if t.department_id and t.id != ticket)


def test_contents(client: Client) -> None:
    """Every attachment's contents decode to the bytes that the truth tells."""
    for number, truth in {**client.desk.truth, **client.desk.trash_truth}.items():
        answer = client.fetch(number)
        data = base64.b64decode(answer.values("contents")[0], validate=True)
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (truth.sha256, truth.size)
        assert answer.headers["Content-Length"] == str(len(answer.body))
        assert ("<contents />" in answer.text) == (truth.size == 0)


def test_big_contents(serve: Serve) -> None:
    """A big attachment comes under an exact Content-Length."""
    with serve(tickets=1, big=(3_000_001,)) as client:
        row = next(r for r in client.desk.attachments.values() if r.source.kind == "big")
        answer = client.fetch(row.id)
        data = base64.b64decode(answer.values("contents")[0], validate=True)
        assert hashlib.sha256(data).hexdigest() == row.sha256
        assert answer.headers["Content-Length"] == str(len(answer.body))


@pytest.mark.parametrize("verb", ["GET", "DELETE"])
def test_checks_of_one(serve: Serve, verb: str) -> None:
    """Ticket, row, belonging: the three checks in Kayako's order, for fetch and deletion."""
    with serve() as client:
        row = some(client)[0]
        ticket = client.desk.tickets[row.ticket_id]
        other = _other(client, ticket.id)
        belongs = (400, "Attachment does not belong to the specified ticket")
        cases = {
            f"/99999/{row.id}": (404, "Ticket not Found"),
            "/99999/99999": (404, "Ticket not Found"),
            f"/{ticket.id}/99999": (404, "Attachment not Found"),
            f"/{ticket.id}/abc123": (404, "Attachment not Found"),
            f"/{other}/{row.id}": belongs,
            f"/{ticket.mask}/{row.id}": belongs,
        }
        for path, expected in cases.items():
            answer = client.send(verb, client.target(ONE + path))
            assert (answer.status, answer.text) == expected
            assert answer.headers["Content-Type"].startswith("text/xml")
        client.desk.merge(ticket.id, other)
        answer = client.send(verb, client.target(f"{ONE}/{ticket.id}/{row.id}"))
        assert (answer.status, answer.text) == belongs
        assert row.id in client.desk.attachments


def test_trashed_attachments_are_sent(client: Client) -> None:
    """What is in the trash is still listed and sent by id."""
    number = next(iter(client.desk.trash_truth))
    row = client.desk.attachments[number]
    assert str(number) in client.get(f"{LIST}/{row.ticket_id}").values("id")
    assert client.fetch(number).status == 200


def test_delete(serve: Serve) -> None:
    """Deletion answers 200 with nothing, also with the doubled slash of the documentation."""
    with serve() as client:
        row = some(client)[0]
        before = client.desk.tickets[row.ticket_id]
        answer = client.delete(f"{ONE}//{row.ticket_id}/{row.id}")
        assert (answer.status, answer.body) == (200, b"")
        assert client.get(f"{ONE}/{row.ticket_id}/{row.id}").text == "Attachment not Found"
        assert row.id not in client.desk.truth
        assert client.desk.tickets[row.ticket_id] == before


def test_post(serve: Serve) -> None:
    """An upload answers with the new row, without contents, and touches no activity."""
    with serve() as client:
        row = some(client)[0]
        before = client.desk.tickets[row.ticket_id]
        answer = client.post(
            ONE,
            ticketid=str(row.ticket_id),
            ticketpostid=str(row.post_id),
            filename="neu ü.PDF",
            contents=base64.b64encode(b"some bytes").decode(),
        )
        assert answer.status == 200
        assert answer.values("filename") == ["neu ü.PDF"]
        assert answer.values("filesize") == ["10"]
        assert answer.values("filetype") == ["application/pdf"]
        assert "<contents" not in answer.text
        number = int(answer.values("id")[0])
        assert number > max(client.desk.attachments.keys() - {number})
        assert client.fetch(number).values("contents") == ["c29tZSBieXRlcw=="]
        assert client.desk.truth[number].size == 10
        assert client.desk.tickets[row.ticket_id] == before


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"ticketid": "", "ticketpostid": ""}, 400, "No Ticket ID Specified"),
        ({"ticketid": "0"}, 400, "No Ticket ID Specified"),
        ({"ticketpostid": "", "ticketid": "99999"}, 400, "No Ticket Post ID Specified"),
        ({"ticketid": "99999", "ticketpostid": "99999"}, 404, "Ticket not Found"),
        ({"ticketpostid": "99999", "filename": ""}, 404, "Ticket Post not found"),
        ({"ticketpostid": "other"}, 404, "Ticket Post not found"),
        ({"filename": "", "contents": None}, 400, "No file name specified"),
        ({"contents": None}, 400, "No contents specified"),
        ({"contents": ""}, 200, ""),
    ],
)
def test_checks_of_post(
    serve: Serve, changed: dict[str, str | None], status: int, words: str
) -> None:
    """Each check of an upload in its order; contents may be empty but not absent."""
    with serve() as client:
        row = some(client)[0]
        other = client.desk.posts_of(_other(client, row.ticket_id))[0].id
        form: dict[str, str | None] = {
            "ticketid": str(row.ticket_id),
            "ticketpostid": str(row.post_id),
            "filename": "a.txt",
            "contents": "QQ==",
            **changed,
        }
        if form["ticketpostid"] == "other":
            form["ticketpostid"] = str(other)
        given = {key: value for key, value in form.items() if value is not None}
        answer = client.post(ONE, **given)
        assert answer.status == status
        assert words in answer.text


@pytest.mark.parametrize(
    ("encoded", "data"),
    [
        ("QUJD", b"ABC"),
        ("QU\nJD!-ü", b"ABC"),
        ("QQ==", b"A"),
        ("QQ", b"A"),
        ("Q", b""),
        ("QQ==QQ==", b"A\x04\x10"),
        ("", b""),
    ],
)
def test_lenient_decoding(encoded: str, data: bytes) -> None:
    """PHP's decoder skips what it does not know, also padding in the middle."""
    assert decode_leniently(encoded) == data


def test_posts(client: Client) -> None:
    """Posts come with the contents of their attachments, which name no ticket and no post."""
    row = next(r for r in some(client) if r.size)
    answer = client.get(f"/Tickets/TicketPost/ListAll/{row.ticket_id}/{row.post_id}")
    head, _, nested = answer.text.partition("<attachments>")
    mine = [r for r in client.desk.attachments_of(row.ticket_id) if r.post_id == row.post_id]
    assert head.startswith(
        '<?xml version="1.0" encoding="UTF-8"?>\n<posts>\n<post>\n'
        f"<id><![CDATA[{row.post_id}]]></id>\n<ticketpostid><![CDATA[{row.post_id}]]>"
    )
    assert "<hasattachments><![CDATA[1]]></hasattachments>" in head
    assert nested.endswith("</attachments>\n</post>\n</posts>")
    assert "<ticketid>" not in nested
    assert nested.count("</attachment>\n") == len(mine)
    assert base64.b64encode(row.source.read()).decode() in nested


def test_posts_without_attachments(client: Client) -> None:
    """A post whose flag is not set has no attachments element."""
    post = next(p for p in client.desk.posts.values() if not p.has_attachments)
    answer = client.get(f"/Tickets/TicketPost/{post.ticket_id}/{post.id}")
    assert answer.values("id") == [str(post.id)]
    assert "<attachments>" not in answer.text


def test_flag_of_a_post_stays(serve: Serve) -> None:
    """Deleting a post's attachments leaves its flag, and an empty container."""
    with serve() as client:
        row = some(client)[0]
        for each in client.desk.attachments_of(row.ticket_id):
            client.desk.delete_attachment(each.id)
        answer = client.get(f"/Tickets/TicketPost/{row.ticket_id}/{row.post_id}")
        assert "\n<attachments>\n</attachments>\n" in answer.text


def test_checks_of_posts(client: Client) -> None:
    """Posts have their own words for what is missing."""
    row = some(client)[0]
    other = client.desk.posts_of(_other(client, row.ticket_id))[0].id
    base = "/Tickets/TicketPost"
    for path, expected in {
        "/ListAll/99999": (404, "Ticket not Found"),
        f"/{row.ticket_id}/99999": (404, "Ticket Post not Found"),
        f"/{row.ticket_id}/{other}": (400, "Post does not belong to the specified ticket"),
    }.items():
        answer = client.get(base + path)
        assert (answer.status, answer.text) == expected


def test_order_of_posts(serve: Serve) -> None:
    """Posts come oldest first, or newest first if the helpdesk is set so."""
    with serve() as client:
        ticket = next(t for t in client.desk.tickets if len(client.desk.posts_of(t)) > 2)
        path = f"/Tickets/TicketPost/ListAll/{ticket}"
        oldest_first = client.get(path).values("ticketpostid")
        assert oldest_first == sorted(oldest_first, key=int)
        client.desk.set_fault("posts_desc", on=True)
        assert client.get(path).values("ticketpostid") == oldest_first[::-1]


def test_documented_shape(serve: Serve) -> None:
    """The documented shape is the attachments alone, with all their fields."""
    with serve("doc_shape") as client:
        row = next(r for r in some(client) if r.size)
        answer = client.get(f"/Tickets/TicketPost/ListAll/{row.ticket_id}")
        assert "?>\n<attachments>\n<attachment>" in answer.text
        assert str(row.post_id) in answer.values("ticketpostid")
        assert base64.b64encode(row.source.read()).decode() in answer.values("contents")


def test_random_order(serve: Serve) -> None:
    """Attachments may be listed in any order; it is the same one each time."""
    with serve("random_order") as client:
        rows = some(client, least=10)
        path = f"{LIST}/{rows[0].ticket_id}"
        ids = client.get(path).values("id")
        assert ids != [str(row.id) for row in rows]
        assert sorted(map(int, ids)) == [row.id for row in rows]
        assert client.get(path).values("id") == ids


def test_list_500(serve: Serve) -> None:
    """One ticket's list fails for ever, all others work."""
    with serve("list_500") as client:
        broken = client.desk.unlistable_ticket
        assert broken is not None
        assert [client.get(f"{LIST}/{broken}").status for _ in range(5)] == [500] * 5
        assert client.get(f"{LIST}/{_other(client, broken)}").status == 200


def test_one_id_on_two_tickets(serve: Serve) -> None:
    """Each ticket lists the id, and under each its own file is sent."""
    with serve() as client:
        row = next(r for r in client.desk.attachments.values() if r.size)
        other = next(t.id for t in client.desk.tickets.values() if t.id != row.ticket_id)
        client.desk.list_twice(row.id, other, "other.txt", b"abc")
        for ticket, name, data in (
            (row.ticket_id, row.name, row.source.read()),
            (other, b"other.txt", b"abc"),
        ):
            assert str(row.id) in client.listing(ticket).values("id")
            answer = client.get(f"/Tickets/TicketAttachment/{ticket}/{row.id}")
            assert b"<filename><![CDATA[" + name in answer.body
            assert b"<contents><![CDATA[" + base64.b64encode(data) + b"]]>" in answer.body
