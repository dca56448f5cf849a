"""Connections to old servers: their framings, their TLS, readers that are slow or give up."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

import httpx
import pytest

from migrator.sources.kayako.connections import Connections

PIECE = 1 << 14
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n"
HELLO = b"Content-Length: 5\r\n\r\nhello"

T = TypeVar("T")
Script = Callable[[socket.socket], None]


class Server:
    """A server in a thread: every connection in turn follows a script, or is held to the end.

    What asyncio has to say of a client that goes away is thereby never of its making.
    """

    def __init__(self, script: Script, tls: tuple[Path, Path] | None, *, hold: bool) -> None:
        self._script = script
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if tls is not None:
            self._context.load_cert_chain(*tls)
        self._secure = tls is not None
        self._hold = hold
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http{'s' * self._secure}://127.0.0.1:{self._listening.getsockname()[1]}/"
        self.connections = 0
        self._thread = Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with ExitStack() as held, suppress(OSError):
            while True:
                connection = self._listening.accept()[0]
                self.connections += 1
                with ExitStack() as own, suppress(OSError):  # of clients that are gone
                    keeper = held if self._hold else own
                    keeper.enter_context(connection)
                    if self._secure:
                        connection = self._context.wrap_socket(connection, server_side=True)
                        keeper.enter_context(connection)
                    self._script(connection)

    def close(self) -> None:
        """Hang up."""
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes who waits for a client
        self._thread.join()
        self._listening.close()


@contextmanager
def serving(
    script: Script, tls: tuple[Path, Path] | None = None, *, hold: bool = False
) -> Iterator[Server]:
    """Serve on a real socket of this machine."""
    server = Server(script, tls, hold=hold)
    try:
        yield server
    finally:
        server.close()


def answering(*replies: bytes) -> Script:
    """Answer the requests of a connection in turn, then hang up."""

    def script(connection: socket.socket) -> None:
        for reply in replies:
            heard = b""
            while not heard.endswith(b"\r\n\r\n"):
                data = connection.recv(1 << 16)
                if not data:
                    return
                heard += data
            connection.sendall(reply)

    return script


async def opened(connections: Connections, url: str, **request: Any) -> httpx.Response:
    """Ask, and give the reply with its head read."""
    waits = {"timeout": httpx.Timeout(5.0).as_dict()}
    request = {"method": "GET", "extensions": waits} | request
    return await connections.handle_async_request(httpx.Request(url=url, **request))


async def asked(connections: Connections, url: str, **request: Any) -> bytes:
    """Ask, and give the whole body of the reply."""
    response = await opened(connections, url, **request)
    try:
        return b"".join([block async for block in response.aiter_bytes()])
    finally:
        await response.aclose()


def run(main: Callable[[Connections], Coroutine[Any, Any, T]], ca_file: Path | None = None) -> T:
    """Run with connections to the end; whatever the loop has to complain of is an error."""
    complaints: list[dict[str, Any]] = []

    async def whole() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        connections = Connections(ssl.create_default_context(cafile=ca_file))
        try:
            return await main(connections)
        finally:
            await connections.aclose()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = asyncio.run(whole())
        gc.collect()
    assert complaints == []
    return result


async def idling() -> None:
    """Let the loop take all that has come."""
    for _ in range(20):
        await asyncio.sleep(0)


# Framings


@pytest.mark.parametrize(
    "reply",
    [
        CHUNKED + b"\r\n5  \r\nhello\r\n0   \r\n\r\n",
        CHUNKED + b"\r\n5\t\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"\r\n005 ;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        OK + b"X-Folded: one\r\n two\r\n\tthree\r\n" + HELLO,
        OK + b"X-Old: a\x01b \xe4\r\n" + HELLO,
        OK + b"X-Empty:\r\n" + HELLO,
        OK + b"Upgrade: h2,h2c\r\nConnection: Upgrade\r\n" + HELLO,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + HELLO,
        b"\r\n" + (OK + HELLO).replace(b"\r\n", b"\n"),
    ],
    ids=[
        "spaces after the size of a chunk",
        "a tab after the size of a chunk",
        "extension and trailer",
        "folded framing",
        "folded header",
        "control and Latin-1 characters",
        "empty header",
        "HTTP/2 on offer",
        "early hints",
        "bare line feeds",
    ],
)
def test_what_old_servers_send(reply: bytes) -> None:
    """What httpx reads is read, and the connection stays in use."""

    async def main(connections: Connections) -> None:
        assert [await asked(connections, server.url) for _ in range(2)] == [b"hello", b"hello"]
        assert server.connections == 1

    with serving(answering(reply, reply)) as server:
        run(main)


@pytest.mark.parametrize(
    "reply",
    [
        CHUNKED + b"Content-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"Content-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"\r\n5\r\nhello\r\n",
        CHUNKED + b"\r\n5\r\nhello\r\n0\r\n",
        OK + b"Transfer-Encoding: identity\r\n" + HELLO,
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        OK + b"Content-Length: 5\r\n 6\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nhello",
        b"HTTP/1.1 000 Odd\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=[
        "a length beside chunks",
        "another length beside chunks",
        "chunks without an end",
        "half an end",
        "a framing that is none",
        "two lengths",
        "a folded length",
        "another protocol",
        "no status",
        "nothing but a promise",
    ],
)
def test_what_may_be_cut(reply: bytes) -> None:
    """A reply that may not be whole is an error, one of httpx's and without a word of the loop."""

    async def main(connections: Connections) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            await asked(connections, server.url)

    with serving(answering(reply)) as server:
        run(main)


# Slow readers


@pytest.mark.parametrize("size", [1, 1 << 17, 1 << 18, 1 << 25])
def test_a_reader_that_gives_up_does_not_stall_the_next(size: int) -> None:
    """A reply whose reader gave up, with more of it waiting, leaves nothing for the next."""

    async def main(connections: Connections) -> None:
        response = await opened(connections, server.url)
        await idling()
        await response.aclose()
        assert await asked(connections, server.url) == bytes(size)

    reply = OK + b"Content-Length: %d\r\n\r\n" % size + bytes(size)
    with serving(answering(reply, reply)) as server:
        run(main)


def test_a_slow_reader_slows_the_server() -> None:
    """What nobody reads yet is not taken from the server: memory does not follow a body."""
    size = 1 << 26
    before: list[int] = []

    def script(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.settimeout(0.5)
        left = memoryview(OK + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
        while left:
            try:
                left = left[connection.send(left[: 1 << 16]) :]
            except TimeoutError:
                before.append(size - len(left))
                stuck.set()
        stuck.set()

    async def main(connections: Connections) -> None:
        response = await opened(connections, server.url)
        assert await asyncio.to_thread(stuck.wait, 20)
        assert before
        assert before[0] < size / 2  # most of it in the buffers of the system
        assert sum([len(block) async for block in response.aiter_raw()]) == size
        await response.aclose()

    stuck = Event()
    with serving(script) as server:
        run(main)


@pytest.mark.parametrize("framing", ["length", "chunks", "none"])
def test_a_slow_reader_of_what_ends_with_tls(framing: str, authority: tuple[Path, Path]) -> None:
    """A server that hangs up, without a goodbye, does not overtake the body that still waits."""
    sizes = [(9 + step) << 16 for step in range(0, 32, 2)]
    left = iter(sizes)

    def script(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        size = next(left)
        body = bytes(size)
        head = OK + b"Connection: close\r\n"
        if framing == "length":
            head += b"Content-Length: %d\r\n" % size
        elif framing == "chunks":
            head += b"Transfer-Encoding: chunked\r\n"
            chunk = bytes(PIECE)
            body = b"%x\r\n%b\r\n" % (PIECE, chunk) * (size // PIECE) + b"0\r\n\r\n"
        connection.sendall(head + b"\r\n" + body)

    async def main(connections: Connections) -> None:
        for size in sizes:
            response = await opened(connections, server.url)
            got = 0
            async for block in response.aiter_bytes():
                got += len(block)
                await idling()
            await response.aclose()
            assert got == size

    with serving(script, authority) as server:
        run(main, authority[0])


# Hosts


@pytest.mark.parametrize(
    "url", ["http://help..example/", "https://.example/", f"http://{'a' * 70}.example/"]
)
def test_a_host_that_is_none(url: str) -> None:
    """A name that no host can have is a host that cannot be reached."""

    async def main(connections: Connections) -> None:
        with pytest.raises(httpx.ConnectError):
            await opened(connections, url)

    run(main)


# Once only


def test_a_post_is_not_risked_on_a_kept_connection() -> None:
    """What is sent only once is not sent where the server may have hung up meanwhile."""

    async def main(connections: Connections) -> None:
        assert await asked(connections, server.url) == b"hello"
        assert await asked(connections, server.url, method="DELETE") == b"hello"
        assert server.connections == 2

    with serving(answering(OK + HELLO), hold=True) as server:
        run(main)


# Interrupted


@pytest.mark.parametrize("begun", [b"", OK, OK + b"Content-Length: 9\r\n\r\nhalf"])
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3, 10, 50])
def test_cancelled(begun: bytes, secure: bool, turns: int, authority: tuple[Path, Path]) -> None:
    """A request can be cancelled at any moment, and leaves neither socket nor complaint."""

    async def main(connections: Connections) -> None:
        asking = asyncio.create_task(asked(connections, server.url))
        for _ in range(turns):
            await asyncio.sleep(0.0002)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    tls = authority if secure else None
    with serving(lambda connection: connection.sendall(begun), tls, hold=True) as server:
        run(main, authority[0])


def test_closing_can_be_interrupted() -> None:
    """Who is interrupted while closing, as by a second Ctrl-C, hears no complaint of the loop."""

    async def main(connections: Connections) -> None:
        await asked(connections, server.url)
        closing = asyncio.create_task(connections.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])

    with serving(answering(OK + HELLO), hold=True) as server:
        run(main)
