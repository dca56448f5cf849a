"""A sandbox on a real socket, and a client that knows nothing of the tool's own reading."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.sandbox.kayako.model import Ticket


@dataclass(frozen=True)
class Answer:
    """A reply as it came over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def values(self, tag: str) -> list[str]:
        """Return the values of all elements of that name."""
        # At the start of a line only: names may contain what looks like an element.
        pattern = rf"^<{tag}(?: [^>]*)?>(?:<!\[CDATA\[)?(.*?)(?:\]\]>)?</{tag}>$|^<{tag} />$"
        return re.findall(pattern, self.text, re.DOTALL | re.MULTILINE)

    def ids(self) -> list[int]:
        """Return the ids of all tickets, which are attributes."""
        return [int(number) for number in re.findall(r'<ticket id="(\d+)"', self.text)]


class Client:
    """Asks a running sandbox."""

    def __init__(self, server: SandboxServer) -> None:
        self.server = server
        self.desk = server.helpdesk
        url = urlsplit(server.url)
        self.address = (str(url.hostname), int(url.port or 0))
        self.script = url.path

    def credentials(self, salt: str = "salt") -> dict[str, str]:
        """Sign a salt."""
        return {
            "apikey": self.server.api_key,
            "salt": salt,
            "signature": self.server.keys.signature(salt),
        }

    def target(self, path: str, **extra: str) -> str:
        """Return a signed request target of the ``e=`` form."""
        return f"{self.script}?{urlencode({'e': path, **self.credentials(), **extra})}"

    def send(self, verb: str, target: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send one request over a connection of its own."""
        connection = http.client.HTTPConnection(*self.address, timeout=20)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(verb, target, body, named)
            reply = connection.getresponse()
            return Answer(reply.status, dict(reply.getheaders()), reply.read())

    def get(self, path: str) -> Answer:
        """Ask for an API path."""
        return self.send("GET", self.target(path))

    def delete(self, path: str) -> Answer:
        """Delete at an API path."""
        return self.send("DELETE", self.target(path))

    def post(self, path: str, **form: str) -> Answer:
        """Post a signed form to an API path."""
        body = urlencode({**self.credentials(), **form}).encode()
        target = f"{self.script}?{urlencode({'e': path})}"
        return self.send("POST", target, body, Content_Type="application/x-www-form-urlencoded")

    def raw(self, target: str) -> bytes:
        """Return all bytes that come back until the server hangs up."""
        with socket.create_connection(self.address, timeout=20) as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: sandbox\r\n\r\n".encode())
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))

    def fetch(self, attachment_id: int) -> Answer:
        """Fetch an attachment under the ticket that it belongs to now."""
        row = self.desk.attachments[attachment_id]
        return self.get(f"/Tickets/TicketAttachment/{row.ticket_id}/{row.id}")

    def path_of(self, fault: str) -> str:
        """Return the path of the attachment with that fault."""
        row = next(r for r in self.desk.attachments.values() if r.fault == fault)
        return f"/Tickets/TicketAttachment/{row.ticket_id}/{row.id}"

    def ticket_with(self, fault: str) -> Ticket:
        """Return the ticket with that fault."""
        return next(t for t in self.desk.tickets.values() if t.fault == fault)

    def listing(self, ticket_id: int) -> Answer:
        """List the attachments of a ticket."""
        return self.get(f"/Tickets/TicketAttachment/ListAll/{ticket_id}")


Serve = Callable[..., AbstractContextManager[Client]]


@contextlib.contextmanager
def _serve(*faults: str, tickets: int = 40, seed: int = 1, **more: Any) -> Iterator[Client]:
    options = SandboxOptions(seed=seed, tickets=tickets, faults=frozenset(faults), **more)
    with SandboxServer(Helpdesk.build(options)) as server:
        yield Client(server)


@pytest.fixture
def serve() -> Serve:
    """Start sandboxes with options of one's own."""
    return _serve


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """One faultless sandbox for the tests of a module that leave it as it is."""
    with _serve() as client:
        yield client
