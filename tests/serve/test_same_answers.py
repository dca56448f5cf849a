"""Every kind of client gets the same answer, byte by byte, and its body is read."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from migrator.archive import PostRow, TicketRow
from tests.serve.conftest import Desk

SHOW = ("/api/v1/tickets/show", {"ticket_number": "1"})
QUERY = (
    "/api/v1/tickets/query",
    {"search_object": {"criteria": [{"mode": "subject", "tokens": ["two"]}]}},
)
PAGE = ("/api/v1/tickets/responses/query", {"limit": 1})
WRONG: tuple[str, Any] = ("/api/v1/tickets/show", {"ticket_number": []})
LOST = ("/api/v1/tickets/attachment", {"ticket_number": "1", "response_attachment_id": "77777"})
CALLS = {"show": SHOW, "query": QUERY, "page": PAGE, "wrong": WRONG, "lost": LOST}

Client = Callable[[Desk, str, bytes], tuple[int, bytes]]


def head(desk: Desk, path: str, *more: str, version: str = "1.1") -> bytes:
    """Return the head of a call."""
    lines = [
        f"POST {path} HTTP/{version}",
        "Host: x",
        f"Authorization: Bearer {desk.staff}",
        "Content-Type: application/json",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def said(desk: Desk, pieces: Iterator[bytes] | list[bytes], answers: int = 1) -> tuple[int, bytes]:
    """Send pieces; return the status and the body of the last of so many answers."""
    address = httpx.URL(desk.base)
    with socket.create_connection((address.host, address.port or 80), timeout=20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.sendall(piece)
        file = client.makefile("rb")
        for _ in range(answers):
            status = int(file.readline().split()[1])
            fields = dict(iter(lambda: file.readline().lower().strip().split(b": ", 1), [b""]))
            body = file.read(int(fields[b"content-length"]))
    return status, body


def plain(desk: Desk, path: str, body: bytes) -> tuple[int, bytes]:
    """Send it at once."""
    return said(desk, [head(desk, path, f"Content-Length: {len(body)}") + body])


def upgrading(desk: Desk, path: str, body: bytes) -> tuple[int, bytes]:
    """Offer HTTP/2, as Java's client does."""
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    return said(desk, [head(desk, path, *offer, f"Content-Length: {len(body)}") + body])


def upgrading_in_chunks(desk: Desk, path: str, body: bytes) -> tuple[int, bytes]:
    """Offer several protocols, and send the body in chunks."""
    offer = ("Upgrade: h2c, websocket", "Connection: upgrade", "Transfer-Encoding: chunked")
    return said(desk, [head(desk, path, *offer), b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)])


def old(desk: Desk, path: str, body: bytes) -> tuple[int, bytes]:
    """Speak HTTP/1.0."""
    return said(desk, [head(desk, path, f"Content-Length: {len(body)}", version="1.0") + body])


def old_and_kept(desk: Desk, path: str, body: bytes) -> tuple[int, bytes]:
    """Speak HTTP/1.0, and ask to keep the connection."""
    more = ("Connection: keep-alive", f"Content-Length: {len(body)}")
    return said(desk, [head(desk, path, *more, version="1.0") + body])


def pipelining(desk: Desk, path: str, body: bytes) -> tuple[int, bytes]:
    """Send many requests before the first answer."""
    one = head(desk, path, f"Content-Length: {len(body)}") + body
    others = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + one
    return said(desk, [others * 20 + one], answers=41)


def byte_by_byte(desk: Desk, path: str, body: bytes) -> tuple[int, bytes]:
    """Send everything in writes of one byte."""
    whole = head(desk, path, f"Content-Length: {len(body)}") + body
    return said(desk, (whole[at : at + 1] for at in range(len(whole))))


def chunks_of_one(desk: Desk, path: str, body: bytes) -> tuple[int, bytes]:
    """Send the body in chunks of one byte, one by one, with extensions and trailers."""
    pieces = [head(desk, path, "Transfer-Encoding: chunked", "Trailer: X-Sum")]
    pieces += [b"1;a=b\r\n%b\r\n" % body[at : at + 1] for at in range(len(body))]
    return said(desk, [*pieces, b"0\r\nX-Sum: 1\r\nAuthorization: Bearer no\r\n\r\n"])


def waiting(desk: Desk, path: str, body: bytes) -> tuple[int, bytes]:
    """Ask for 100 Continue, and do not wait for it."""
    with httpx.Client() as client:
        answer = client.post(
            desk.base + path,
            content=body,
            headers={
                "Authorization": f"Bearer {desk.staff}",
                "Content-Type": "application/json",
                "Expect": "100-continue",
            },
        )
    return answer.status_code, answer.content


def curl(*options: str) -> Client:
    """Return what curl does with some options."""

    def calling(desk: Desk, path: str, body: bytes) -> tuple[int, bytes]:
        command = ["curl", "-sS", "-w", "\n%{http_code}", *options, "--data-binary", "@-"]
        command += ["-H", f"Authorization: Bearer {desk.staff}"]
        command += ["-H", "Content-Type: application/json", desk.base + path]
        done = subprocess.run(command, input=body, capture_output=True, check=True, timeout=30)
        answer, _, status = done.stdout.rpartition(b"\n")
        return int(status), answer

    return calling


CLIENTS: dict[str, Client] = {
    "h2c": upgrading,
    "h2c in chunks": upgrading_in_chunks,
    "1.0": old,
    "1.0 kept": old_and_kept,
    "pipelining": pipelining,
    "byte by byte": byte_by_byte,
    "chunks of one": chunks_of_one,
    "continue": waiting,
    "curl --http2": curl("--http2"),
    "curl --http1.0": curl("--http1.0"),
    "curl chunked": curl("-H", "Transfer-Encoding: chunked"),
}


@pytest.fixture(scope="module")
def two(desk: Desk) -> Desk:
    """Keep two tickets."""
    for number, name in ((1, "one"), (2, "two")):
        row = TicketRow(number, 3, f"A-{number}", f"ticket {name}", number, number)
        desk.write(row, PostRow(number, number, text=f"text {name}"))
    return desk


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_answers_do_not_depend_on_the_client(
    two: Desk, client: Client, call: tuple[str, Any]
) -> None:
    """Offers of other protocols, old versions, pipelines and tiny pieces change nothing."""
    if client.__name__ == "calling" and shutil.which("curl") is None:
        pytest.skip("no curl here")
    path, body = call
    sent = json.dumps(body).encode()
    assert client(two, path, sent) == plain(two, path, sent)
