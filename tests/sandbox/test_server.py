"""The server starts, logs, keeps connections and stops whatever its clients do."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from typing import TYPE_CHECKING, NoReturn

import pytest

from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.sandbox.kayako import server as server_module

if TYPE_CHECKING:
    from tests.sandbox.conftest import Client, Serve


def test_start_and_stop() -> None:
    """A server has a URL while it runs; stopping twice is harmless, starting again works."""
    server = SandboxServer(Helpdesk.build(SandboxOptions(tickets=1)))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not running"):
            _ = server.url
        server.start()
        assert server.url.startswith("http://127.0.0.1:")
        assert server.url.endswith("/api/index.php")
        server.stop()
        server.stop()


def test_address_in_use(serve: Serve) -> None:
    """A port that is taken is told by the OSError of the system."""
    with serve() as client:
        host, port = client.address
        with pytest.raises(OSError, match="in use"):
            SandboxServer(client.desk, host, port).start()


def test_another_helpdesk_at_the_same_address(serve: Serve) -> None:
    """Set while it runs, another helpdesk answers at once, to the same keys."""
    with serve() as client:
        other = Helpdesk.build(SandboxOptions(seed=2, tickets=10))
        path = "/Tickets/Ticket/ListAll/1,2,4,5/1,2,3,4,5"
        before = client.get(path)
        client.server.helpdesk = other
        after = client.get(path)
        assert (before.status, after.status) == (200, 200)
        assert after.ids() == sorted(t.id for t in other.tickets.values() if t.department_id)
        assert after.body != before.body


def test_requests_are_logged_without_credentials(serve: Serve) -> None:
    """Verb and path of every request are kept, and nothing that opens doors."""
    with serve() as client:
        client.get("/Base//Department/")
        client.post("/Tickets/TicketAttachment", ticketid="1")
        client.send("GET", f"{client.script}?e=/Base/Department")
        server = client.server
        assert server.requests == [
            ("GET", "/Base/Department"),
            ("POST", "/Tickets/TicketAttachment"),
            ("GET", "/Base/Department"),
        ]
        assert server.secret_key not in repr(server.requests)


def test_keep_alive(client: Client) -> None:
    """Many requests go over one connection."""
    connection = http.client.HTTPConnection(*client.address, timeout=20)
    with contextlib.closing(connection):
        connection.connect()
        first = connection.sock
        for _ in range(3):
            connection.request("GET", client.target("/Base/Department"))
            connection.getresponse().read()
            assert connection.sock is first


def test_stop_drops_open_connections(serve: Serve) -> None:
    """Neither idle connections nor half-sent requests keep the server from stopping."""
    before = set(threading.enumerate())
    with contextlib.ExitStack() as stack:
        with serve() as client:
            idle = stack.enter_context(socket.create_connection(client.address, timeout=20))
            half = stack.enter_context(socket.create_connection(client.address, timeout=20))
            half.sendall(b"POST /api/index.php HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
            assert client.get("/Base/Department").status == 200, "both are accepted by now"
        assert idle.recv(1) == b""
        half.settimeout(20)
        with contextlib.suppress(ConnectionError):
            assert half.recv(1) == b""
    assert set(threading.enumerate()) <= before


def test_client_that_hangs_up(serve: Serve) -> None:
    """A client that goes away in the middle of a reply is nobody's error."""
    with serve(tickets=1, big=(20_000_000,)) as client:
        row = next(r for r in client.desk.attachments.values() if r.source.kind == "big")
        target = client.target(f"/Tickets/TicketAttachment/{row.ticket_id}/{row.id}")
        with socket.create_connection(client.address, timeout=20) as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\n\r\n".encode())
            connection.recv(1000)
        assert client.get("/Base/Department").status == 200


def test_bugs_are_not_kept_quiet(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the sandbox itself reaches the hook of its thread."""
    seen: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)

    def broken(*_: object) -> NoReturn:
        raise LookupError("a bug")

    monkeypatch.setattr(server_module, "answer", broken)
    with serve() as client, pytest.raises((http.client.HTTPException, OSError)):
        client.get("/Base/Department")
    assert [args.exc_type for args in seen] == [LookupError]


def test_chunked_request_closes(client: Client) -> None:
    """A request whose end cannot be told is answered and the connection closed."""
    head = f"POST {client.target('/Base/Department')} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
    with socket.create_connection(client.address, timeout=20) as connection:
        connection.sendall(f"{head}\r\n0\r\n\r\n".encode())
        reply = b""
        with contextlib.suppress(ConnectionResetError):
            reply = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert reply.startswith(b"HTTP/1.1 200") or reply == b""


def test_latency() -> None:
    """Each reply waits as long as the option says, and stopping does not wait for it."""
    with SandboxServer(Helpdesk.build(SandboxOptions(tickets=1, latency=600.0))) as server:
        host, port = server.url.split("/")[2].split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(b"GET /api/index.php?e=/Base/Department HTTP/1.1\r\n\r\n")
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)
            connection.setblocking(True)
            server.stop()


def test_other_verbs(client: Client) -> None:
    """Kayako knows four verbs; others never reach it."""
    assert client.send("PATCH", client.target("/Base/Department")).status == 501
