"""HTTP/1.1 straight over asyncio, behind httpx's interface: a fraction of what httpcore costs.

For one server that is asked thousands of times: no redirects, no proxies, no HTTP/2. Framing is
left to llhttp (through httptools), strict but for what h11 lets old servers do, too; a body ends
where its length, its last chunk or, without either, the connection ends, and any other end is an
error. Servers that end TLS without a word (no close_notify) are too many to be refused: whether a
document without a length is whole, its reader tells by its end tag. All errors are those of httpx.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from typing import cast

import httptools
import httpx

READ = 1 << 17
"""Most bytes taken from a socket at once."""
HEAD_LIMIT = 1 << 16
"""Most bytes of a reply that bring no body: head, trailers, sizes of chunks."""
BUFFERED = 1 << 18
"""Bytes of a body that wait for their reader before the server has to wait."""
IDLE = 5.0
"""Seconds after which an idle connection is not used again: servers hang up after about as many."""
WRITE = 1 << 16
"""Most bytes of a request that are written at once."""

TLS_RECORD = 1 << 14
"""Most bytes that TLS unpacks at once, and of which some may wait."""

Origin = tuple[str, str, int]
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_DELAY = 0.25
_PORTS = {"http": 80, "https": 443}


class Wire(httpx.AsyncBaseTransport):
    """Connections to a server, kept for the next request when a reply ended as it should.

    How many there are is up to the caller: each request in flight has one. ``context`` is for
    https, and None where that is not asked for. A GET on a connection that was kept too long,
    and that the server closes before a byte of a reply, is sent once more on a new one; what
    must not be sent twice gets a new one.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self.room = memoryview(bytearray(READ))
        """Where all connections read into: emptied as soon as it is filled."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; give the reply as soon as its head is there."""
        head = _head(request)
        origin = _origin(request.url)
        timeouts = request.extensions.get("timeout", {})
        connection = self._kept(origin) if request.method == "GET" else None
        while True:
            kept = connection is not None
            if connection is None:
                connection = await self._connect(origin, timeouts.get("connect"))
            try:
                return await connection.ask(head, request, timeouts)
            except BaseException as error:
                connection.abort()
                stale = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
                if not (kept and stale and not connection.answered):
                    raise
            connection = None

    async def aclose(self) -> None:
        """Close all connections."""
        connections = list(self._open)
        for connection in connections:
            connection.abort()
        if connections:
            await asyncio.wait([connection.lost for connection in connections])

    def opened(self, connection: _Connection) -> None:
        """Hear of a new connection."""
        self._open.add(connection)

    def keep(self, connection: _Connection) -> None:
        """Take a connection back for the next request."""
        self._idle.append(connection)

    def closed(self, connection: _Connection) -> None:
        """Hear that a connection is no more."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _kept(self, origin: Origin) -> _Connection | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.origin == origin and now - connection.since < IDLE:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin, within: float | None) -> _Connection:
        scheme, host, port = origin
        tls = self._context if scheme == "https" else None
        if scheme == "https" and tls is None:
            raise httpx.UnsupportedProtocol("no authorities were given to check certificates with")
        try:
            async with asyncio.timeout(within):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self, origin),
                    host,
                    port,
                    ssl=tls,
                    server_hostname=host if tls else None,
                    happy_eyeballs_delay=_DELAY if _named(host) else None,
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout("no connection in time") from error
        except (OSError, ValueError) as error:  # ssl.SSLError; a name that no host can have
            raise httpx.ConnectError(str(error)) from error
        return connection


class _Connection(asyncio.BufferedProtocol):
    """One connection, one request at a time."""

    def __init__(self, wire: Wire, origin: Origin) -> None:
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self.origin = origin
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self.since = 0.0
        """When it became idle, by the clock of the loop."""
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        # As in old servers, and as h11 reads them, too. None of it moves the end of a body.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,  # folded ones
            lenient_chunked_length=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._waiter: asyncio.Future[bool] | None = None
        self._writable = True
        self._error: httpx.TransportError | None = None
        self._reset(busy=False)

    def _reset(self, *, busy: bool) -> None:
        self._busy = busy
        self.answered = False
        """Whether any byte of a reply has come."""
        self._headers: list[tuple[bytes, bytes]] = []
        self._status = 0
        self._headed = self._ended = self._keeps = self._until_closed = False
        self._blocks: list[bytes] = []
        self._size = 0  # bytes in those blocks
        self._paused = False
        self._bare = 0  # bytes since the last that belonged to a body

    # What the client does

    async def ask(
        self, head: bytes, request: httpx.Request, timeouts: dict[str, float | None]
    ) -> httpx.Response:
        """Send a request and wait for the head of its reply."""
        self._reset(busy=True)
        self._transport.write(head)
        assert isinstance(request.stream, httpx.AsyncByteStream)  # noqa: S101 - for a client's
        async for block in request.stream:
            await self._write(block, timeouts.get("write"))
        while not self._headed:
            await self._wait(timeouts.get("read"), httpx.ReadTimeout)
        body = _Body(self, timeouts.get("read"))
        return httpx.Response(self._status, headers=self._headers, stream=body)

    async def read(self, within: float | None) -> bytes:
        """Give what has come of the body, or wait for some; nothing at its end."""
        while not self._blocks:
            if self._ended:
                return b""
            await self._wait(within, httpx.ReadTimeout)
        data = self._blocks[0] if len(self._blocks) == 1 else b"".join(self._blocks)
        self._blocks, self._size = [], 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return data

    def release(self) -> None:
        """Keep the connection if its reply is at its end, else hang up."""
        whole = self._ended and self._keeps and self._error is None
        if self._busy and whole and not self._paused:  # which would hear nothing of the next
            self._busy = False
            self.since = self._loop.time()
            self._wire.keep(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Hang up, without ceremony."""
        self._busy = False
        self._transport.abort()

    async def _write(self, data: bytes, within: float | None) -> None:
        for start in range(0, len(data), WRITE):
            # An answer before the end of the question needs no more of it.
            while not (self._writable or self._headed):
                await self._wait(within, httpx.WriteTimeout)
            if self._headed:
                self._keeps = False
                return
            self._transport.write(data[start : start + WRITE])

    async def _wait(self, within: float | None, kind: type[httpx.TimeoutException]) -> None:
        """Wait until anything happens; raises what ended the connection."""
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        alarm = self._loop.call_later(within, self._wake, False) if within is not None else None
        try:
            if not await self._waiter:
                raise kind("silence")
        finally:
            self._waiter = None
            if alarm is not None:
                alarm.cancel()

    def _wake(self, happened: bool = True) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(happened)

    def _fail(self, error: httpx.TransportError) -> None:
        """Note the first thing that went wrong; what came before it may still be read."""
        if self._error is None:
            self._error = error
        self._wake()

    # What the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._wire.opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        # At its end asyncio asks TLS only once for all that has come (sizehint) or is unpacked.
        if len(self._wire.room) < sizehint + TLS_RECORD:
            self._wire.room = memoryview(bytearray(sizehint + TLS_RECORD))
        return self._wire.room

    def buffer_updated(self, nbytes: int) -> None:
        if not self._busy or self._error is not None:  # nobody asked, or nobody listens
            self.abort()
            return
        self.answered = True
        self._bare += nbytes
        try:
            self._parser.feed_data(self._wire.room[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._keeps = False
            if not self._ended:
                self._fail(httpx.RemoteProtocolError(f"not HTTP: {error}"))
        if self._bare > HEAD_LIMIT and not self._ended:
            self._fail(httpx.RemoteProtocolError("a head or a trailer without end"))
        if self._size > BUFFERED and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.closed(self)
        self.lost.set_result(None)
        if exc is not None:
            self._fail(httpx.ReadError(str(exc)))
        elif self._headed and not self._ended and self._until_closed:
            self._ended = True
            self._wake()
        elif not self._headed:
            self._fail(httpx.RemoteProtocolError("the server hung up without a reply"))
        else:
            self._fail(httpx.RemoteProtocolError("the server hung up in mid-reply"))

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._wake()

    # What the parser tells

    def on_message_begin(self) -> None:
        if self._ended:  # a reply to nothing
            self._keeps = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headed:  # else a trailer
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._ended:
            return
        self._status = self._parser.get_status_code()
        if self._status // 100 != 1:
            self._headed = True
            framing = _FRAMING & {name.lower() for name, _ in self._headers}
            self._until_closed = not framing
            # With two kinds of framing others, such as a proxy, may see another end than we do.
            self._keeps = len(framing) < 2 and self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        if not self._ended:
            self._bare = 0
            self._size += len(data)
            self._blocks.append(data)

    def on_message_complete(self) -> None:
        if self._headed:
            self._ended = True
        else:  # such as 100 Continue: the reply is still to come
            self._headers = []


class _Body(httpx.AsyncByteStream):
    """The body of a reply, as it comes."""

    def __init__(self, connection: _Connection, within: float | None) -> None:
        self._connection = connection
        self._within = within

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._connection.read(self._within):
            yield data

    async def aclose(self) -> None:
        self._connection.release()


def _origin(url: httpx.URL) -> Origin:
    host = url.raw_host.decode("ascii")
    if url.scheme not in _PORTS or not host:
        raise httpx.UnsupportedProtocol("only http:// and https:// addresses can be asked")
    return url.scheme, host, url.port or _PORTS[url.scheme]


def _named(host: str) -> bool:
    """Tell whether a host may have several addresses, to be tried in a race.

    A race that is interrupted as it is won leaves its socket to the garbage collector (asyncio).
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _head(request: httpx.Request) -> bytes:
    target = request.extensions.get("target", request.url.raw_path)  # as httpx documents it
    lines = [f"{request.method} ".encode("ascii") + target + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in request.headers.raw]
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
        raise httpx.LocalProtocolError("a line break in a header")
    return head + b"\r\n\r\n"
