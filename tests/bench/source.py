"""The helpdesk's server in a benchmark: as fast as asyncio's protocols go, with a delay at will.

``python -m tests.bench.source SHAPE LATENCY_MS`` (SHAPE as JSON) prints its port and serves until
its standard input ends. It checks no signature: it stands for a server that is not the limit.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from tests.bench.desk import Desk, Replies, Shape

PIECE = 1 << 18
"""Bytes handed to a socket at once."""

Parts = list[bytes | memoryview]

NO_TICKET: Parts = [b"Ticket not found."]
"""The only reply with status 404: asked for ids above the highest, a helpdesk has to end."""


def route(replies: Replies, path: str) -> Parts:  # noqa: PLR0911 - a table of calls
    """Return the reply to one call."""
    match path.strip("/").split("/"):
        case ["Tickets", "TicketAttachment", "ListAll", ticket_id]:
            return [replies.attachments(int(ticket_id))]
        case ["Tickets", "TicketAttachment", ticket_id, attachment_id]:
            return replies.contents(int(ticket_id), int(attachment_id))
        case ["Tickets", "Ticket", "GetTicketCount", *_]:
            return [replies.count()]
        case ["Tickets", "Ticket", "ListAll", _, _, _, _, count, _, "lastactivity", "DESC"]:
            return [replies.newest(int(count))]
        case ["Tickets", "Ticket", "ListAll", _, _, _, _, count, start, *_]:
            return [replies.page(int(count), int(start))]
        case ["Tickets", "Ticket", ticket_id]:
            return [replies.thread(int(ticket_id))] if replies.knows(int(ticket_id)) else NO_TICKET
        case ["Tickets", "TicketStatus"]:
            return [replies.statuses()]
        case ["Base", "Department"]:
            return [replies.departments()]
    raise ValueError(f"nothing is known of {path}")


class Connection(asyncio.Protocol):
    """One keep-alive connection: requests without bodies, one at a time."""

    def __init__(self, answer: Callable[[str], Parts], latency: float) -> None:
        self._answer = answer
        self._latency = latency
        self._heard = b""
        self._left: Parts = []
        self._paused = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to the client."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each whole request, after the delay."""
        self._heard += data
        while b"\r\n\r\n" in self._heard:
            head, _, self._heard = self._heard.partition(b"\r\n\r\n")
            target = head.split(b" ", 2)[1].decode("ascii")
            path = target.partition("?")[2].partition("&")[0].removeprefix("e=")
            if self._latency:
                asyncio.get_running_loop().call_later(self._latency, self._reply, path)
            else:
                self._reply(path)

    def pause_writing(self) -> None:
        """Wait for the client."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False
        self._send()

    def _reply(self, path: str) -> None:
        if self._transport.is_closing():
            return
        parts = self._answer(path)
        size = sum(map(len, parts))
        status = "404 Not Found" if parts is NO_TICKET else "200 OK"
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: text/xml; charset=UTF-8\r\n"
            f"Server: bench\r\nContent-Length: {size}\r\n\r\n"
        ).encode("ascii")
        if size < PIECE:
            self._left.append(b"".join([head, *parts]))
        else:
            self._left.append(head + bytes(parts[0]))
            for part in parts[1:]:
                self._left += [part[at : at + PIECE] for at in range(0, len(part), PIECE)]
        self._send()

    def _send(self) -> None:
        while self._left and not self._paused:
            self._transport.write(self._left.pop(0))


async def serve(shape: Shape, latency: float) -> None:
    """Serve until the standard input ends."""
    replies = Replies(Desk(shape))
    loop = asyncio.get_running_loop()

    def connection() -> Connection:
        return Connection(lambda path: route(replies, path), latency)

    server = await loop.create_server(connection, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    server.close()


def main() -> None:
    """Read the arguments and serve."""
    shape: dict[str, Any] = json.loads(sys.argv[1])
    asyncio.run(serve(Shape(**shape), float(sys.argv[2]) / 1000))


if __name__ == "__main__":
    main()
