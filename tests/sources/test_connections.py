"""HTTP/1.1 as servers speak it, and as they break it, on real sockets of this machine."""

from __future__ import annotations

import asyncio
import gzip
import re
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.sources.kayako import connections as module
from migrator.sources.kayako.connections import Connections
from migrator.sources.kayako.limits import LINE

TRUST = ssl.create_default_context()
OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + b"Content-Length: 2\r\n\r\nok"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SECONDS: dict[str, float | None] = {"connect": 5.0, "read": 5.0, "write": 5.0}
SHORT = SECONDS | {"read": 0.05}

Turn = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A server whose connections follow a script, one after the other; the last one repeats."""

    def __init__(self, *turns: Turn) -> None:
        self.turns = list(turns)
        self.connections = 0
        self.heard: list[bytes] = []
        self.tasks: set[asyncio.Task[Any] | None] = set()
        self.origin = ""
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Play the part of one connection, then hang up."""
        self.tasks.add(asyncio.current_task())
        turn = self.turns[min(self.connections, len(self.turns) - 1)]
        self.connections += 1
        try:
            await turn(Ear(reader, self.heard), writer)  # type: ignore[arg-type]
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


class Ear:
    """What comes from a client, and a note of each request's head."""

    def __init__(self, reader: asyncio.StreamReader, heard: list[bytes]) -> None:
        self.stream = reader
        self._heard = heard

    async def readuntil(self, end: bytes) -> bytes:
        """Read a head."""
        head = await self.stream.readuntil(end)
        self._heard.append(head)
        return head

    async def read(self) -> bytes:
        """Read until the client hangs up."""
        return await self.stream.read()

    async def readexactly(self, count: int) -> bytes:
        """Read a body."""
        return await self.stream.readexactly(count)


@asynccontextmanager
async def serving(
    *turns: Turn, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    """Serve on a real socket of this machine."""
    own = Server(*turns)
    listening = await asyncio.start_server(own.serve, host, 0, ssl=tls)
    name = f"[{host}]" if ":" in host else host
    port = listening.sockets[0].getsockname()[1]
    own.origin = f"http{'s' if tls else ''}://{name}:{port}"
    own.url = own.origin + "/api"
    async with listening:
        try:
            yield own
        finally:
            await asyncio.gather(*filter(None, own.tasks))


@asynccontextmanager
async def talking(*turns: Turn, **more: Any) -> AsyncIterator[tuple[Server, Connections]]:
    """Serve, and give connections to the server."""
    async with serving(*turns, **more) as own:
        connections = Connections(TRUST)
        try:
            yield own, connections
        finally:
            await connections.aclose()


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


def repeating(begun: bytes, more: bytes) -> Turn:
    """Answer one request without end, until the client hangs up."""

    async def turn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begun)
        while True:
            writer.write(more)
            await writer.drain()
            await asyncio.sleep(0)

    return turn


async def ask(
    connections: Connections,
    url: str,
    method: str = "GET",
    seconds: dict[str, float | None] = SECONDS,
    extensions: dict[str, Any] | None = None,
    **more: Any,
) -> tuple[int, bytes]:
    """Make one request; gives its status and its body."""
    extensions = {"timeout": seconds} | (extensions or {})
    request = httpx.Request(method, url, extensions=extensions, **more)
    response = await connections.handle_async_request(request)
    try:
        body = b"".join([block async for block in response.aiter_raw()])
    finally:
        await response.aclose()
    return response.status_code, body


def once(*turns: Turn, **more: Any) -> tuple[int, bytes]:
    """Make one request to a server that follows a script."""

    async def main() -> tuple[int, bytes]:
        async with talking(*turns) as (server, connections):
            return await ask(connections, server.url, **more)

    return asyncio.run(main())


def run_with(
    main: Callable[[Server, Connections], Coroutine[Any, Any, None]], *turns: Turn
) -> Server:
    """Run a talk with a server that follows a script; gives the server."""

    async def whole() -> Server:
        async with talking(*turns) as (server, connections):
            await main(server, connections)
            return server

    return asyncio.run(whole())


# Replies


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (WHOLE, (200, b"ok")),
        (CHUNKED + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\nT: 1\r\n\r\n", (200, b"ok")),
        (OK + b"\r\nok", (200, b"ok")),
        (OK + b"Transfer-Encoding: identity\r\n\r\nok", (200, b"ok")),
        (b"HTTP/1.0 200 OK\r\n\r\nok", (200, b"ok")),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", (200, b"ok")),
        (OK.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\nok", (200, b"ok")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE, (200, b"ok")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (OK + b"Content-Length: 0\r\n\r\n", (200, b"")),
        (OK + b"X: " + b"x" * (LINE - 100) + b"\r\nContent-Length: 2\r\n\r\nok", (200, b"ok")),
    ],
)
def test_replies(answer: bytes, expected: tuple[int, bytes]) -> None:
    """A body ends by its length, its last chunk, or with the connection; 1xx is no reply."""
    assert once(saying(answer)) == expected


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        OK,
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        OK + b"Content-Length: 3\r\n\r\nok",
        OK + b"Content-Length: -2\r\n\r\nok",
        CHUNKED + b"1\r\no\r\n",
        CHUNKED + b"zz\r\no\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        OK + b"X: " + b"x" * 2 * LINE,
        OK + b"X: x\r\n" * 5000,
        CHUNKED + b"0\r\nT: " + b"x" * 2 * LINE,
        CHUNKED + b"0\r\n" + b"T: x\r\n" * 5000,
    ],
)
def test_broken_replies(answer: bytes) -> None:
    """What is not whole, or not HTTP, or has no end, is an error and never a reply."""
    with pytest.raises(httpx.RemoteProtocolError):
        once(holding(answer) if len(answer) > 1000 else saying(answer))


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=300), st.integers(0, 3))
def test_any_bytes(data: bytes, start: int) -> None:
    """Whatever a server sends ends in a reply or in an error of httpx, and in no other way."""
    begun = [b"", OK, CHUNKED, b"HTTP/1.1 200 OK\r\nX: "][start]
    try:
        status, _ = once(saying(begun + data))
    except httpx.TransportError:
        return
    assert 200 <= status <= 999


@pytest.mark.parametrize("answer", [b"", OK + b"X y\r\n\r\n", CHUNKED + b"zz\r\n"])
def test_errors_quote_no_address(answer: bytes) -> None:
    """No error that leaves holds on to one that quotes what was asked."""
    with pytest.raises(httpx.TransportError) as caught:
        once(saying(answer), params={"signature": "secret"})
    link: BaseException | None = caught.value
    while link is not None:
        assert "secret" not in repr(link)
        assert not type(link).__module__.startswith("aiohttp")
        link = link.__cause__ or link.__context__


def test_bodies_come_as_they_are_sent() -> None:
    """What is packed stays packed: who asked for it unpacks it, once and within bounds."""
    packed = gzip.compress(b"ok")
    head = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    assert once(saying(OK + head + packed)) == (200, packed)


# Requests


@pytest.mark.parametrize(
    "target",
    [
        "/api/index.php?e=/Tickets/Ticket/ListAll/1,2/-1&apikey=a-b&salt=1&signature=a%2Bb%2Fc%3D",
        "/api/index.php?/Base/Department&signature=%2b%2f%3d%7E%20%25",
        "/a%2Fb//../c;d?x=a+b&x=%C3%A9&y&z=",
        "/?",
    ],
)
def test_an_address_is_sent_as_it_was_built(target: str) -> None:
    """Nothing in an address is decoded, encoded again, put in order or tidied."""

    async def main(server: Server, connections: Connections) -> None:
        assert await ask(connections, server.url, extensions={"target": target.encode()})
        if "%2b" not in target and "/../" not in target and target != "/?":  # httpx's own tidying
            assert await ask(connections, server.origin + target)

    server = run_with(main, saying(WHOLE, WHOLE))
    assert {head.split()[1].decode() for head in server.heard} == {target.removesuffix("?")}


def test_the_head_of_a_request() -> None:
    """What is sent are the headers that were given, and nothing that they do not tell."""

    async def main(server: Server, connections: Connections) -> None:
        headers = {"Accept-Encoding": "identity", "User-Agent": "migrator/1"}
        await ask(connections, server.url, headers=headers)
        await ask(connections, server.url, "POST", content=b"a=b")

    get, post = (head.decode() for head in run_with(main, saying(WHOLE)).heard)
    host = get.split("Host: ")[1].split("\r\n")[0]
    lines = ["GET /api HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity"]
    assert get.split("\r\n") == [*lines, "User-Agent: migrator/1", "", ""]
    assert post.split("\r\n") == [
        "POST /api HTTP/1.1",
        f"Host: {host}",
        "Content-Length: 3",
        "Connection: close",
        "",
        "",
    ]


def test_no_cookies_no_redirects_no_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client does of its own accord is not done: neither cookies nor jumps nor passwords."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hidden\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    jump = b"HTTP/1.1 302 Found\r\nLocation: /other\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"

    async def main(server: Server, connections: Connections) -> None:
        assert await ask(connections, server.url) == (302, b"")
        assert await ask(connections, server.url) == (200, b"ok")

    heard = run_with(main, saying(jump, WHOLE)).heard
    assert len(heard) == 2
    assert not re.search(rb"(?i)cookie:|authorization:|/other", b"".join(heard))


@pytest.mark.parametrize("url", ["ftp://help.example.com/", "help.example.com/api", "http:///api"])
def test_addresses_that_are_none(url: str) -> None:
    """What is not http or has no host is refused before anything is sent."""
    with pytest.raises(httpx.UnsupportedProtocol):
        asyncio.run(ask(Connections(TRUST), url))


def test_an_ipv6_literal() -> None:
    """A host may be an IPv6 address."""

    async def main() -> tuple[int, bytes]:
        try:
            async with talking(saying(WHOLE), host="::1") as (server, connections):
                answer = await ask(connections, server.url)
        except OSError:
            pytest.skip("there is no IPv6 here")
        assert f"Host: {server.origin.removeprefix('http://')}\r\n".encode() in server.heard[0]
        return answer

    assert asyncio.run(main()) == (200, b"ok")


def test_no_https_without_authorities() -> None:
    """What was made for plain HTTP never speaks TLS with whomever it finds."""
    with pytest.raises(httpx.UnsupportedProtocol):
        asyncio.run(ask(Connections(None), "https://127.0.0.1:9/"))


def test_a_line_break_in_a_header() -> None:
    """Nothing can be smuggled into a request by a header."""
    with pytest.raises(httpx.LocalProtocolError):
        once(saying(WHOLE), headers={"X": "a\r\nb: c"})


# Connections that are kept


def test_a_connection_is_kept() -> None:
    """The next request goes over the connection of the last one, after a whole reply."""

    async def main(server: Server, connections: Connections) -> None:
        for _ in range(5):
            assert await ask(connections, server.url) == (200, b"ok")

    assert run_with(main, saying(*[WHOLE] * 5)).connections == 1


def test_as_many_connections_as_requests_at_once() -> None:
    """No request waits for another, and no more connections are kept than were needed."""
    together = 6

    async def turn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
            await barrier.wait()
            writer.write(WHOLE)

    async def main(server: Server, connections: Connections) -> None:
        for _ in range(3):
            await asyncio.gather(*(ask(connections, server.url) for _ in range(together)))

    barrier = asyncio.Barrier(together)
    assert run_with(main, turn).connections == together


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

    async def main(server: Server, connections: Connections) -> None:
        with suppress(httpx.RemoteProtocolError):  # of a reply with junk behind it
            assert await ask(connections, server.url) == (200, b"ok")
        server.turns = [saying(WHOLE)]
        assert await ask(connections, server.url) == (200, b"ok")

    assert run_with(main, saying(answer, b"never")).connections == 2


@pytest.mark.parametrize("more", [OK + b"Content-Length: 5\r\n\r\nwrong", b"junk\r\n\r\n", OK])
def test_what_an_idle_connection_says(more: bytes) -> None:
    """A reply to nothing is never taken for the reply to the next request."""

    async def babbling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(WHOLE)(reader, writer)
        await idle.wait()
        writer.write(more)
        await writer.drain()
        said.set()
        await saying(WHOLE)(reader, writer)

    async def main(server: Server, connections: Connections) -> None:
        assert await ask(connections, server.url) == (200, b"ok")
        idle.set()
        await said.wait()
        for _ in range(20):  # in which it is heard
            await asyncio.sleep(0)
        assert await ask(connections, server.url) == (200, b"ok")

    idle, said = asyncio.Event(), asyncio.Event()
    run_with(main, babbling, saying(WHOLE))


def test_half_a_body_frees_nothing() -> None:
    """A reply that is given up takes its connection along."""

    async def main(server: Server, connections: Connections) -> None:
        request = httpx.Request("GET", server.url, extensions={"timeout": SECONDS})
        response = await connections.handle_async_request(request)
        await response.aclose()
        assert await ask(connections, server.url) == (200, b"ok")

    half = OK + b"Content-Length: 9\r\n\r\nhalf"
    assert run_with(main, holding(half), saying(WHOLE)).connections == 2


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_stale_connection(method: str) -> None:
    """A GET that a kept connection swallows is sent once more; nothing else ever gets such one."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(WHOLE)(reader, writer)
        await reader.readuntil(b"\r\n\r\n")  # and not a word

    async def main(server: Server, connections: Connections) -> None:
        await ask(connections, server.url)
        assert await ask(connections, server.url, method) == (200, b"ok")

    heard = run_with(main, swallow, saying(WHOLE)).heard
    sent = [head.split()[0].decode() for head in heard]
    assert sent == (["GET", "GET", "GET"] if method == "GET" else ["GET", method])


def test_two_stale_connections() -> None:
    """What was lost on a kept connection is not risked on another kept one."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await both.wait()
        writer.write(WHOLE)
        await reader.readuntil(b"\r\n\r\n")

    async def main(server: Server, connections: Connections) -> None:
        await asyncio.gather(*(ask(connections, server.url) for _ in range(2)))
        assert await ask(connections, server.url) == (200, b"ok")

    both = asyncio.Barrier(2)
    assert run_with(main, swallow, swallow, saying(WHOLE)).connections == 3


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 2"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_new_connection_is_not_stale(method: str, begun: bytes) -> None:
    """What a new connection swallows is not sent again: a write may have happened."""

    async def main(server: Server, connections: Connections) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(connections, server.url, method)

    assert len(run_with(main, saying(begun)).heard) == 1


def test_a_connection_that_idled_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some idle seconds a connection is not trusted."""
    monkeypatch.setattr(module, "IDLE", 0.0)

    async def main(server: Server, connections: Connections) -> None:
        await ask(connections, server.url)
        await ask(connections, server.url)

    assert run_with(main, saying(WHOLE, WHOLE)).connections == 2


# Servers that are slow


@pytest.mark.parametrize(
    "turn",
    [
        holding(b""),
        holding(OK + b"Content-Length: 9\r\n\r\nhalf"),
        repeating(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        repeating(CHUNKED + b"1;", b"x" * 1000),
    ],
    ids=["no reply", "half a body", "promises", "no end of a chunk's extension"],
)
def test_silence(turn: Turn) -> None:
    """A server that falls silent, or sends anything but a reply, is left after the time named."""
    with pytest.raises(httpx.ReadTimeout):
        once(turn, seconds=SHORT)


def test_each_call_has_its_own_patience() -> None:
    """Of calls that wait together each is left after its own time, in whatever order they began."""

    async def main(server: Server, connections: Connections) -> None:
        for_ever, *others = [
            asyncio.create_task(ask(connections, server.url, seconds=SECONDS | {"read": read}))
            for read in (None, 0.2, 0.05, 0.1)
        ]
        ended = await asyncio.gather(*others, return_exceptions=True)
        assert [type(one) for one in ended] == [httpx.ReadTimeout] * 3
        assert not for_ever.done()
        for_ever.cancel()
        await asyncio.wait([for_ever])

    run_with(main, holding(b""))


def test_a_handshake_without_end() -> None:
    """A server that accepts a connection and does not speak TLS is left as well."""

    async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main(server: Server, connections: Connections) -> None:
        url = server.url.replace("http:", "https:")
        with pytest.raises(httpx.ConnectTimeout):
            await ask(connections, url, seconds=SECONDS | {"connect": 0.05})

    run_with(main, mute)


def test_an_upload_that_nobody_takes() -> None:
    """A server that does not read its request is left as well."""

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await stop.wait()

    async def main(server: Server, connections: Connections) -> None:
        limits = SECONDS | {"write": 0.05}
        try:
            with pytest.raises(httpx.WriteTimeout):
                await ask(connections, server.url, "POST", limits, content=b"x" * (1 << 25))
        finally:
            stop.set()

    stop = asyncio.Event()
    run_with(main, deaf)


def test_an_upload_that_takes_its_time() -> None:
    """An upload may take longer than any wait, as long as the server goes on taking it."""
    size = 1 << 25

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(8):
            await asyncio.sleep(0.15)
            await reader.readexactly(size // 8)
        writer.write(WHOLE)

    limits = SECONDS | {"write": 1.0, "read": 1.0}
    assert once(slow, method="POST", content=b"x" * size, seconds=limits) == (200, b"ok")


def test_an_upload_that_is_refused_early() -> None:
    """An answer before the end of the question is the answer; the connection is not kept."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"

    async def main(server: Server, connections: Connections) -> None:
        big = b"x" * (1 << 25)
        assert await ask(connections, server.url, "POST", content=big) == (413, b"no")
        assert await ask(connections, server.url) == (200, b"ok")

    run_with(main, holding(refusal), saying(WHOLE))


@pytest.mark.parametrize("begun", [b"", OK, OK + b"Content-Length: 9\r\n\r\nhalf"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_cancelled_request_hangs_up(method: str, begun: bytes) -> None:
    """Who is cancelled at any moment leaves a server that hears at once that nobody waits."""

    async def turn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begun)
        await writer.drain()
        asked.set()
        with suppress(ConnectionResetError):
            await reader.read()
        left.set()

    async def main(server: Server, connections: Connections) -> None:
        asking = asyncio.create_task(ask(connections, server.url, method))
        await asked.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(left.wait(), 10)

    asked, left = asyncio.Event(), asyncio.Event()
    run_with(main, turn)


def test_closing_hangs_up() -> None:
    """Closing ends connections in the middle of a reply, and whoever waits for it hears so."""

    async def main(server: Server, connections: Connections) -> None:
        response = await connections.handle_async_request(httpx.Request("GET", server.url))
        reading = asyncio.create_task(response.aread())
        await asyncio.sleep(0)
        await connections.aclose()
        with pytest.raises(httpx.TransportError):
            await reading
        await response.aclose()

    run_with(main, holding(OK + b"Content-Length: 9\r\n\r\nhalf"))


# Proxies


def tunnel(answers: bytes) -> Turn:
    """Open a tunnel to wherever, and hear what is said in it."""

    async def turn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers)
        await reader.read()

    return turn


def through(proxy: str, url: str, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    """Make one request through a proxy."""

    async def main() -> tuple[int, bytes]:
        context_ = context or TRUST
        connections = Connections(context_, proxy=httpx.Proxy(proxy))
        try:
            return await ask(connections, url, headers={"User-Agent": "migrator/1"})
        finally:
            await connections.aclose()

    return asyncio.run(main())


def proxied(answer: bytes, url: str, who: str = "") -> tuple[bytes, tuple[int, bytes] | Exception]:
    """Ask through a proxy that gives an answer; gives what it heard, and what came of it."""

    async def main() -> tuple[bytes, tuple[int, bytes] | Exception]:
        async with serving(saying(answer)) as server:
            address = server.origin.replace("://", f"://{who}")
            proxy = httpx.Proxy(address, headers={"User-Agent": "migrator/1"})
            connections = Connections(TRUST, proxy=proxy)
            found: tuple[int, bytes] | Exception
            try:
                found = await ask(connections, url, headers={"User-Agent": "migrator/1"})
            except httpx.TransportError as error:
                found = error
            await connections.aclose()
        return server.heard[0], found

    return asyncio.run(main())


WHO = "me:s%C3%A9%40cret@"
SIGNED_IN = b"Proxy-Authorization: Basic " + b64encode("me:sé@cret".encode()) + b"\r\n"


def test_plain_http_through_a_proxy() -> None:
    """A proxy gets the whole address as it was built, with the name and password that it wants."""
    url = "http://bücher.example/api?signature=a%2Bb%2F"
    heard, found = proxied(WHOLE, url, WHO)
    assert found == (200, b"ok")
    assert heard.startswith(b"GET http://xn--bcher-kva.example/api?signature=a%2Bb%2F HTTP/1.1\r\n")
    assert SIGNED_IN in heard


def test_https_through_a_proxy() -> None:
    """A proxy that opens no tunnel hears who asks for which host, and not a word of the request."""
    refusal = b"HTTP/1.1 407 Who?\r\nContent-Length: 2\r\n\r\nno"
    heard, found = proxied(refusal, "https://help.example.com/api?signature=secret", WHO)
    assert isinstance(found, httpx.ProxyError)
    assert "407" in str(found)
    assert heard.startswith(b"CONNECT help.example.com:443 HTTP/1.1\r\n")
    assert SIGNED_IN in heard
    assert b"User-Agent: migrator/1\r\n" in heard
    assert b"secret" not in heard


def test_no_password_without_one() -> None:
    """Without a name and a password none is sent."""
    assert b"Authorization" not in proxied(WHOLE, "http://help.example.com/")[0]


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 502 No\r\n\r\n"])
def test_a_tunnel_that_does_not_open(answer: bytes) -> None:
    """Whatever a proxy says instead of opening a tunnel is an error of httpx."""
    assert isinstance(proxied(answer, "https://help.example.com/")[1], httpx.TransportError)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there(scheme: str) -> None:
    """A proxy that cannot be reached is told from a server that cannot be."""

    async def nobody() -> str:
        async with serving(saying(WHOLE)) as server:
            return server.origin

    with pytest.raises(httpx.ProxyError):
        through(asyncio.run(nobody()), f"{scheme}://help.example.com/")


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("secure", [False, True])
def test_tls_in_a_tunnel(secure: bool, trusted: bool, authority: tuple[Path, Path]) -> None:
    """Through a proxy of either kind a server is asked by TLS, if its certificate is good."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority)
    trust = ssl.create_default_context(cafile=authority[0] if trusted else None)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        host, _, port = head.split()[1].decode().rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        source = reader.stream  # type: ignore[attr-defined]
        await asyncio.gather(copy(source, back), copy(there, writer))

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
        sink.close()
        with suppress(OSError):
            await sink.wait_closed()

    async def main() -> None:
        async with (
            serving(saying(WHOLE, WHOLE), tls=context) as server,
            serving(relay, tls=context if secure else None) as proxy,
        ):
            connections = Connections(trust, proxy=httpx.Proxy(proxy.origin))
            if trusted:
                for _ in range(2):
                    assert await ask(connections, server.url) == (200, b"ok")
                assert server.connections == proxy.connections == 1
            else:
                with pytest.raises(httpx.TransportError) as caught:
                    await ask(connections, server.url)
                cause = caught.value.__cause__
                assert isinstance(cause, ssl.SSLCertVerificationError)
                assert cause.verify_code in {18, 19, 20}
            await connections.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("proxy", ["socks5://p.example:1080", "http://"])
def test_a_proxy_that_is_none(proxy: str) -> None:
    """What is no HTTP proxy is refused at once."""
    with pytest.raises(ValueError, match="no HTTP proxy"):
        Connections(None, proxy=httpx.Proxy(proxy))


async def _asks_after_the_end() -> None:
    connections = Connections(TRUST)
    await connections.aclose()
    request = httpx.Request("GET", "http://127.0.0.1:9/")
    with pytest.raises(httpx.ReadError, match="were closed"):
        await connections.handle_async_request(request)


def test_nobody_asks_through_closed_connections() -> None:
    """A probe that comes late is refused, and opens nothing that nobody would close."""
    asyncio.run(_asks_after_the_end())
