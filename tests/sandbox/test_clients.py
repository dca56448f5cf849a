"""Requests as the public clients of Kayako send them, each with its own habits."""

from __future__ import annotations

import base64
import hashlib
import socket
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Client, Serve

FORM = "application/x-www-form-urlencoded"
SALT = "kK+/Z0=="
"""A salt as some clients make them: base64 of random bytes."""


def signed(client: Client) -> dict[str, str]:
    """Return credentials whose signature has every character that may be damaged on its way."""
    for n in range(10_000):
        named = client.credentials(f"salt{n}")
        if {"+", "/"} <= set(named["signature"]) and not named["signature"].startswith("+"):
            return named
    raise AssertionError("no such signature")


def raw(client: Client) -> str:
    """Return the credentials without any escaping."""
    return "&".join(f"{name}={value}" for name, value in signed(client).items())


READS: dict[str, Callable[[Client, str], str]] = {
    "php": lambda c, path: f"{c.script}?{path}&{urlencode(signed(c))}",
    "php-query": lambda c, path: f"{c.script}?e={path}&{urlencode(signed(c))}",
    "ruby": lambda c, path: f"{c.script}?e={quote(path, safe='')}&{urlencode(signed(c))}",
    "python": lambda c, path: f"{c.script}?{urlencode({'e': f'{path}/', **signed(c)})}",
    "java": lambda c, path: f"{c.script}?/{path[1:].replace('/', '//')}&{raw(c)}",
    "java-query": lambda c, path: f"{c.script}?e={path}/&{raw(c)}",
    "dotnet": lambda c, path: f"{c.script}?e={path}/&{raw(c)}",
    "node": lambda c, path: f"{c.script}?{urlencode({'e': path, **c.credentials(SALT)})}",
}


@pytest.mark.parametrize("name", READS)
def test_reads(client: Client, name: str) -> None:
    """However a client writes the path and the signature, it gets the same lists and files."""
    for row in list(client.desk.attachments.values())[:3]:
        for path in (
            f"/Tickets/TicketAttachment/ListAll/{row.ticket_id}",
            f"/Tickets/TicketAttachment/{row.ticket_id}/{row.id}",
            "/Tickets/Ticket/ListAll/1,2,4,5/-1/-1/-1/-1/-1",
        ):
            answer = client.send("GET", READS[name](client, path))
            assert answer.status == 200
            assert answer.body == client.get(path).body
        (found,) = client.fetch(row.id).values("contents")
        assert hashlib.sha256(base64.b64decode(found)).hexdigest() == row.sha256


def write(client: Client, name: str, verb: str, path: str, form: dict[str, str]) -> tuple[int, str]:
    """Send a form as a client does."""
    fields = urlencode(form, quote_via=quote)
    credentials = signed(client)
    target, body = f"{client.script}?e={path}", f"{fields}&{urlencode(credentials)}"
    if name == "php":
        target = f"{client.script}?{path}"
    elif name == "node":
        target, body = client.script, urlencode({"e": path, **credentials, **form})
    elif name == "dotnet":  # which escapes the values, but not the signature behind them
        body = f"{fields}&{raw(client)}"
    elif name == "java":
        target = f"{client.script}?{path}/"
    answer = client.send(verb, target, body.encode(), Content_Type=FORM)
    return answer.status, answer.text


WRITERS = ["php", "ruby", "node", "dotnet", "java"]


@pytest.mark.parametrize("name", WRITERS)
def test_writes(serve: Serve, name: str) -> None:
    """Tickets, posts, notes and files are written and deleted in the manner of each client."""
    with serve(tickets=3) as client:
        desk = client.desk
        wanted = {
            "subject": "a+b & ü",
            "fullname": "Jane",
            "email": "new@example.com",
            "contents": "x\ny",
            "departmentid": "1",
            "ticketstatusid": "1",
            "ticketpriorityid": "2",
            "tickettypeid": "1",
            "autouserid": "1",
            "type": "phone",
        }
        status, _ = write(client, name, "POST", "/Tickets/Ticket", wanted)
        ticket = desk.tickets[max(desk.tickets)]
        (post,) = desk.posts_of(ticket.id)
        assert (status, ticket.subject, ticket.email) == (200, "a+b & ü", "new@example.com")
        assert (post.text, ticket.by_phone, desk.people[False, ticket.user_id].name) == (
            *("x\ny", True),
            "Jane",
        )
        file = {"ticketid": str(ticket.id), "ticketpostid": str(post.id), "filename": "a b+c.txt"}
        data = base64.b64encode(b"\xfb\xff\xfe" * 40).decode()
        status, said = write(
            client, name, "POST", "/Tickets/TicketAttachment", file | {"contents": data}
        )
        (row,) = desk.attachments_of(ticket.id)
        assert (status, row.size, row.name) == (200, 120, b"a b+c.txt")
        assert "<filename><![CDATA[a b+c.txt]]></filename>" in said
        changed = {"subject": "", "ticketstatusid": "3", "ownerstaffid": "99", "userid": "1"}
        status, _ = write(client, name, "PUT", f"/Tickets/Ticket/{ticket.id}", changed)
        now = desk.tickets[ticket.id]
        assert (status, now.subject, now.status_id, now.owner_id) == (200, "a+b & ü", 3, 0)
        assert now.user_id == 1
        gone = client.send(
            "DELETE", READS[name](client, f"/Tickets/TicketPost/{ticket.id}/{post.id}")
        )
        assert (gone.status, gone.body) == (200, b"")
        assert (desk.posts_of(ticket.id), desk.attachments_of(ticket.id)) == ([], [])
        gone = client.send("DELETE", READS[name](client, f"/Tickets/Ticket/{ticket.id}"))
        assert (gone.status, gone.body, ticket.id in desk.tickets) == (200, b"", False)


def test_a_client_that_waits_to_send_its_body(client: Client) -> None:
    """Asked for it, the server says at once that it will read a body."""
    fields = urlencode({"e": "/Base/UserSearch", "query": "example.com", **signed(client)})
    with socket.create_connection(client.address, timeout=5) as connection:
        connection.sendall(
            f"POST {client.script} HTTP/1.1\r\nHost: sandbox\r\nExpect: 100-continue\r\n"
            f"Content-Type: {FORM}\r\nContent-Length: {len(fields)}\r\n\r\n".encode()
        )
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(fields.encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_a_form_with_a_file_as_php_writes_it(serve: Serve) -> None:
    """Parts may be parted by line feeds alone; the file keeps every byte, and is no field."""
    with serve() as client:
        ticket = next(iter(client.desk.tickets))
        fields = {**signed(client), "k3pd9": "remark", "tqpx1": ""}
        parts = [
            f'--b\nContent-Disposition: form-data; name="{k}"\n\n{v}' for k, v in fields.items()
        ]
        data = b"%PDF\x00\xff\r\n\nend"
        body = "\n".join(parts).encode() + (
            b'\n--b\nContent-Disposition: form-data; name="tqpx1"; filename="inv.pdf"\n'
            b"Content-Type: application/octet-stream\nContent-Transfer-Encoding: binary\n\n"
            + data
            + b"\n--b--\n"
        )
        target = f"{client.script}?/Tickets/TicketCustomField/{ticket}"
        kind = "multipart/form-data; boundary=b"
        answer = client.send("POST", target, body, Content_Type=kind)
        assert answer.status == 200
        assert base64.b64encode(data).decode() in answer.text
        assert 'filename="inv.pdf"' in answer.text
        assert "<![CDATA[remark]]>" in answer.text
