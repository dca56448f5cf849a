"""HTTP/1.1 as servers speak it, and as they break it, on real sockets of this machine."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.kayako import wire as module
from migrator.kayako.wire import BUFFERED, HEAD_LIMIT, Wire

OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + b"Content-Length: 2\r\n\r\nok"
SECONDS: dict[str, float | None] = {"connect": 5.0, "read": 5.0, "write": 5.0}

Turn = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A server whose connections follow a script, one after the other; the last one repeats."""

    def __init__(self, *turns: Turn) -> None:
        self.turns = list(turns)
        self.connections = 0
        self.heard: list[bytes] = []
        self.tasks: set[asyncio.Task[Any] | None] = set()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Play the part of one connection, then hang up."""
        self.tasks.add(asyncio.current_task())
        turn = self.turns[min(self.connections, len(self.turns) - 1)]
        self.connections += 1
        try:
            await turn(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def talking(*turns: Turn) -> AsyncIterator[tuple[Server, Wire]]:
    """Serve, and give a wire to the server."""
    own = Server(*turns)
    listening = await asyncio.start_server(own.serve, "127.0.0.1", 0)
    own.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/api"
    wire = Wire(ssl.create_default_context())
    async with listening:
        try:
            yield own, wire
        finally:
            await wire.aclose()
            await asyncio.gather(*filter(None, own.tasks))


def saying(*answers: bytes) -> Turn:
    """Answer so many requests on one connection."""

    async def turn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()

    return turn


def holding(answer: bytes) -> Turn:
    """Answer one request and wait until the client hangs up."""

    async def turn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read()

    return turn


async def ask(
    wire: Wire,
    url: str,
    method: str = "GET",
    seconds: dict[str, float | None] = SECONDS,
    **more: Any,
) -> tuple[int, bytes]:
    """Make one request; gives its status and its body."""
    request = httpx.Request(method, url, extensions={"timeout": seconds}, **more)
    response = await wire.handle_async_request(request)
    try:
        body = b"".join([block async for block in response.aiter_raw()])
    finally:
        await response.aclose()
    return response.status_code, body


def once(*turns: Turn, **more: Any) -> tuple[int, bytes]:
    """Make one request to a server that follows a script."""

    async def main() -> tuple[int, bytes]:
        async with talking(*turns) as (server, wire):
            return await ask(wire, server.url, **more)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (WHOLE, (200, b"ok")),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nT: 1\r\n\r\n", None),
        (OK + b"\r\nok", (200, b"ok")),
        (b"HTTP/1.0 200 OK\r\n\r\nok", (200, b"ok")),
        (OK.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\nok", (200, b"ok")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE, (200, b"ok")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (OK + b"Content-Length: 0\r\n\r\n", (200, b"")),
    ],
)
def test_replies(answer: bytes, expected: tuple[int, bytes] | None) -> None:
    """A body ends by its length, its last chunk, or with the connection; 1xx is no reply."""
    assert once(saying(answer)) == (expected or (200, b"ok"))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", httpx.RemoteProtocolError),
        (b"nonsense\r\n\r\n", httpx.RemoteProtocolError),
        (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", httpx.RemoteProtocolError),
        (OK + b"Content-Length: 3\r\n\r\nok", httpx.RemoteProtocolError),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n", httpx.RemoteProtocolError),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\no\r\n", httpx.RemoteProtocolError),
        (
            b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            httpx.RemoteProtocolError,
        ),
        (OK + b"X: " + b"x" * 2 * HEAD_LIMIT, httpx.RemoteProtocolError),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nT: " + b"x" * 2 * HEAD_LIMIT,
            httpx.RemoteProtocolError,
        ),
    ],
)
def test_broken_replies(answer: bytes, error: type[Exception]) -> None:
    """What is not whole, or not HTTP, or has no end, is an error and never a reply."""
    with pytest.raises(error):
        once(holding(answer) if len(answer) > HEAD_LIMIT else saying(answer))


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=300), st.integers(0, 3))
def test_any_bytes(data: bytes, start: int) -> None:
    """Whatever a server sends ends in a reply or in an error of httpx, and in no other way."""
    begun = [b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "][start]
    try:
        status, _ = once(saying(begun + data))
    except httpx.TransportError:
        return
    assert 200 <= status <= 999


def test_a_connection_is_kept() -> None:
    """The next request goes over the connection of the last one, after a whole reply."""

    async def main() -> int:
        async with talking(saying(*[WHOLE] * 5)) as (server, wire):
            for _ in range(5):
                assert await ask(wire, server.url) == (200, b"ok")
            return server.connections

    assert asyncio.run(main()) == 1


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        WHOLE + WHOLE,
        WHOLE + b"junk",
    ],
)
def test_a_connection_is_not_kept(answer: bytes) -> None:
    """What a server closes, or sends more on than was asked for, is not used again."""

    async def main() -> tuple[int, bytes]:
        async with talking(saying(answer, b"never")) as (server, wire):
            await ask(wire, server.url)
            server.turns = [saying(WHOLE)]
            answered = await ask(wire, server.url)
            assert server.connections == 2
            return answered

    assert asyncio.run(main()) == (200, b"ok")


def test_half_a_body_frees_nothing() -> None:
    """A reply that is given up takes its connection along."""

    async def main() -> None:
        async with talking(holding(OK + b"Content-Length: 9\r\n\r\nhalf"), saying(WHOLE)) as (
            server,
            wire,
        ):
            request = httpx.Request("GET", server.url, extensions={"timeout": SECONDS})
            response = await wire.handle_async_request(request)
            await response.aclose()
            assert await ask(wire, server.url) == (200, b"ok")

    asyncio.run(main())


def test_a_stale_connection() -> None:
    """A GET that a kept connection swallows is sent once more; a POST never gets such a one."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(WHOLE)(reader, writer)
        swallowed.append((await reader.readuntil(b"\r\n\r\n")).split()[0].decode())
        # and not a word

    async def main(method: str) -> None:
        async with talking(swallow, saying(WHOLE)) as (server, wire):
            await ask(wire, server.url)
            assert await ask(wire, server.url, method) == (200, b"ok")
            assert swallowed == (["GET"] if method == "GET" else [])

    for method in ("GET", "POST"):
        swallowed: list[str] = []
        asyncio.run(main(method))


def test_a_connection_that_idled_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some idle seconds a connection is not trusted."""
    monkeypatch.setattr(module, "IDLE", 0.0)

    async def main() -> int:
        async with talking(saying(WHOLE, WHOLE)) as (server, wire):
            await ask(wire, server.url)
            await ask(wire, server.url)
            return server.connections

    assert asyncio.run(main()) == 2


@pytest.mark.parametrize("begun", [b"", OK + b"Content-Length: 9\r\n\r\nhalf"])
def test_silence(begun: bytes) -> None:
    """A server that falls silent is left after the time that was named."""
    with pytest.raises(httpx.ReadTimeout):
        once(holding(begun), seconds={"connect": 5.0, "read": 0.05, "write": 5.0})


def test_an_upload_that_nobody_takes() -> None:
    """A server that does not read its request is left as well."""

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await stop.wait()

    stop = asyncio.Event()

    async def main() -> None:
        async with talking(deaf) as (server, wire):
            limits = SECONDS | {"write": 0.05}
            try:
                with pytest.raises(httpx.WriteTimeout):
                    await ask(wire, server.url, "POST", limits, content=b"x" * (1 << 25))
            finally:
                stop.set()

    asyncio.run(main())


def test_an_upload_that_is_refused_early() -> None:
    """An answer before the end of the question is the answer; the connection is not kept."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"

    async def main() -> None:
        async with talking(holding(refusal), saying(WHOLE)) as (server, wire):
            big = b"x" * (1 << 25)
            assert await ask(wire, server.url, "POST", content=big) == (413, b"no")
            assert await ask(wire, server.url) == (200, b"ok")

    asyncio.run(main())


def test_a_slow_reader_slows_the_server() -> None:
    """What nobody reads yet is not taken from the server: memory does not follow a body."""
    size = 1 << 25

    async def main() -> None:
        async with talking(saying(OK + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)) as (
            server,
            wire,
        ):
            request = httpx.Request("GET", server.url, extensions={"timeout": SECONDS})
            response = await wire.handle_async_request(request)
            (connection,) = wire._open
            for _ in range(200):
                await asyncio.sleep(0)
            assert connection._size <= BUFFERED + module.READ
            assert sum([len(block) async for block in response.aiter_raw()]) == size
            await response.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("url", ["ftp://help.example.com/", "help.example.com/api", "http:///api"])
def test_addresses_that_are_none(url: str) -> None:
    """What is not http or has no host is refused before anything is sent."""
    with pytest.raises(httpx.UnsupportedProtocol):
        asyncio.run(ask(Wire(ssl.create_default_context()), url))


def test_no_https_without_authorities() -> None:
    """A wire that was made for plain HTTP never speaks TLS with whomever it finds."""
    with pytest.raises(httpx.UnsupportedProtocol):
        asyncio.run(ask(Wire(None), "https://127.0.0.1:9/"))


def test_a_line_break_in_a_header() -> None:
    """Nothing can be smuggled into a request by a header."""
    with pytest.raises(httpx.LocalProtocolError):
        once(saying(WHOLE), headers={"X": "a\r\nb: c"})


def test_closing_hangs_up() -> None:
    """Closing ends connections in the middle of a reply, and whoever waits for it hears so."""

    async def main() -> None:
        async with talking(holding(OK + b"Content-Length: 9\r\n\r\nhalf")) as (server, wire):
            request = httpx.Request("GET", server.url, extensions={"timeout": SECONDS})
            response = await wire.handle_async_request(request)
            reading = asyncio.create_task(response.aread())
            await asyncio.sleep(0)
            await wire.aclose()
            with pytest.raises(httpx.TransportError):
                await reading
            await response.aclose()

    asyncio.run(main())
