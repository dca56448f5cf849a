"""HTTP/1.1 through aiohttp, behind httpx's interface, at a third of the cost of httpx's own.

For thousands of requests to one server: no redirects, no cookies, no decompression, each address as
it was built. This module closes gaps of aiohttp, which repeats requests that it considers harmless,
even a DELETE; takes unrequested bytes on an idle connection for the next reply; and waits without
end for a server that accepts no request, or sends anything but a reply. Its errors quote the
address with its signature: none of them leaves this module.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from functools import lru_cache
from math import inf
from types import TracebackType
from typing import Any
from weakref import WeakSet

import aiohttp
import httpx
from aiohttp import encode_basic_auth
from yarl import URL

from migrator.sources.kayako.limits import LINE

UNREAD = 1 << 30
"""More bytes than ever wait for a reader: reading pauses while nothing is wanted."""
IDLE = 5.0
"""Seconds after which an idle connection is not used again: servers close it about then."""
PIECE = 1 << 16
"""Bytes of a request written at once."""

NOT_HTTP = "not HTTP"
"""The text of the error when what comes is no reply at all."""

_FAULTS = (aiohttp.ClientError, OSError, RuntimeError, ValueError)
"""aiohttp's errors; a timeout is an OSError, an impossible host or header a ValueError."""


class Connections(httpx.AsyncBaseTransport):
    """Connections to a server, kept for the next request when a reply ended as it should.

    How many there are is up to the caller: each request in flight has one. ``context`` is for
    https, and None where that is not asked for. A GET on a connection that was kept too long, and
    that the server closes before it replies, is sent once more on a new one; what must not be sent
    twice gets a new one. All errors are httpx's; ValueError: ``proxy`` is no HTTP proxy.
    """

    def __init__(self, context: ssl.SSLContext | None, *, proxy: httpx.Proxy | None = None) -> None:
        if proxy is not None and not (proxy.url.scheme in {"http", "https"} and proxy.url.host):
            raise ValueError("no HTTP proxy")
        self._context = context
        self._proxy = None if proxy is None else URL(str(proxy.url))
        self._signed_in = {}
        if proxy is not None and proxy.auth is not None:
            self._signed_in["Proxy-Authorization"] = encode_basic_auth(*proxy.auth)
        named = [] if proxy is None else proxy.headers.raw
        self._to_proxy = {name.decode(): value.decode() for name, value in named} | self._signed_in
        self._closed = False
        self._pools: dict[bool, _Pool] = {}
        self._watch = _Watch()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return the reply as soon as its head is there."""
        url = self._address(request)
        if request.method == "GET":
            try:
                return await self._ask(request, url, keep=True)
            except _StaleError:
                pass
        return await self._ask(request, url, keep=False)

    async def aclose(self) -> None:
        """Close all connections."""
        self._closed = True  # whoever still asks meanwhile must not open others
        self._watch.stop()
        pools = list(self._pools.values())
        for pool in pools:
            pool.abort()
        try:
            await asyncio.sleep(0)  # so that the waiter for a reply learns that there is none
        finally:
            for pool in pools:
                await pool.session.close()

    def _address(self, request: httpx.Request) -> URL:
        scheme = request.url.scheme
        if scheme not in {"http", "https"} or not request.url.raw_host:
            raise httpx.UnsupportedProtocol("only http:// and https:// addresses can be asked")
        if scheme == "https" and self._context is None:
            raise httpx.UnsupportedProtocol("no authorities were given to check certificates with")
        target = request.extensions.get("target", request.url.raw_path)  # as httpx documents it
        where = request.url.netloc.decode("ascii") + target.decode("ascii")
        return URL(f"{scheme}://{where}", encoded=True)

    async def _ask(self, request: httpx.Request, url: URL, *, keep: bool) -> httpx.Response:
        if self._closed:
            raise httpx.ReadError("the connections were closed", request=request)
        if (pool := self._pools.get(keep)) is None:  # which has to be made where a loop runs
            pool = self._pools[keep] = _Pool(self._context, keep=keep)
        call = _Call(pool, request, self._watch)
        headers = _named(tuple(request.headers.raw))
        if url.scheme == "http":
            headers += tuple(self._signed_in.items())
        try:
            with call.alarm:
                response = await pool.session.request(
                    request.method,
                    url,
                    headers=headers,
                    data=call if call.content else None,
                    middlewares=(call.once,),
                    proxy=self._proxy,
                    proxy_headers=self._to_proxy,
                    allow_redirects=False,
                )
        except TimeoutError:
            problem: httpx.TransportError = call.late("silence")
        except _FAULTS as error:
            problem = _translated(error)
        else:
            body = _Body(response, self._watch, call.waits.get("read"))
            if response.status != 101:
                return httpx.Response(response.status, headers=response.raw_headers, stream=body)
            await body.aclose()
            problem = httpx.RemoteProtocolError("another protocol")
        raise problem  # here, so that no error of aiohttp's is its context


class _StaleError(Exception):
    """A connection was kept too long."""


class _Pool(aiohttp.TCPConnector):
    """Connections that are not used again if they got any bytes since their last reply."""

    def __init__(self, context: ssl.SSLContext | None, *, keep: bool) -> None:
        how: dict[str, Any] = {"keepalive_timeout": IDLE} if keep else {"force_close": True}
        super().__init__(ssl=context or True, limit=0, **how)
        self.session = aiohttp.ClientSession(
            connector=self,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=UNREAD,
            max_line_size=LINE,
            max_field_size=LINE,
        )
        self.calls: dict[aiohttp.ClientRequest, _Call] = {}
        self._open: WeakSet[asyncio.Transport] = WeakSet()

    def abort(self) -> None:
        """Close all connections at once."""
        for transport in list(self._open):
            transport.abort()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - so it is called
    ) -> aiohttp.connector.Connection:
        """Return a connection for a request."""
        while True:
            connection = await super().connect(req, traces, timeout)
            transport, protocol = connection.transport, connection.protocol
            if transport is None or protocol is None:  # lost as soon as it was made
                connection.close()
                raise aiohttp.ServerDisconnectedError
            if not (used := transport in self._open):
                self._open.add(transport)
            elif protocol.should_close:
                connection.close()
                continue
            self.calls[req].given(transport, used=used)
            return connection


class _Watch:
    """The timer of all alarms: one timer each would cost more than the rest of a request."""

    def __init__(self) -> None:
        self.alarms: set[_Alarm] = set()
        self._timer: asyncio.TimerHandle | None = None

    def look_at(self, when: float) -> None:
        """Check all alarms then, if not before."""
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def stop(self) -> None:
        """Stop checking."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for alarm in [alarm for alarm in self.alarms if alarm.when <= now]:
            alarm.ring()
        if (when := min((alarm.when for alarm in self.alarms), default=inf)) < inf:
            self.look_at(when)


class _Alarm:
    """A cheaper asyncio.timeout; None is no timeout."""

    def __init__(self, watch: _Watch, seconds: float | None) -> None:
        self._watch = watch
        self._seconds = seconds
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._rung = False
        self.when = inf

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        assert self._task is not None  # noqa: S101 - nothing else can wait
        self._cancelling = self._task.cancelling()
        self._watch.alarms.add(self)
        self.set(self._seconds)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watch.alarms.discard(self)
        if not self._rung or self._task is None:
            return
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def set(self, seconds: float | None) -> None:
        """Expire so many seconds from now, unless it has expired or is over."""
        if self not in self._watch.alarms:
            return
        self.when = inf if seconds is None else asyncio.get_running_loop().time() + seconds
        if self.when < inf:
            self._watch.look_at(self.when)

    def ring(self) -> None:
        """Cancel the waiting task."""
        self._watch.alarms.discard(self)
        self._rung = True
        assert self._task is not None  # noqa: S101 - it has begun
        self._task.cancel()


class _Call:
    """A request under way: its connection, and how long it waits for the server."""

    def __init__(self, pool: _Pool, request: httpx.Request, watch: _Watch) -> None:
        self._pool = pool
        self.content = request.read()
        self._transport: asyncio.Transport | None = None
        self._used = False
        self.waits: dict[str, float | None] = request.extensions.get("timeout", {})
        self.alarm = _Alarm(watch, self.waits.get("connect"))
        self.late: type[httpx.TimeoutException] = httpx.ConnectTimeout
        """The error when the alarm goes off."""

    async def once(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send it, and hide from aiohttp the two errors after which it would send it again."""
        self._pool.calls[request] = self
        try:
            return await handler(request)
        except BaseException as error:
            if self._transport is None:
                raise
            self._transport.abort()
            if not isinstance(error, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError):
                raise
            problem = _StaleError() if self._used else _translated(error)
        finally:
            del self._pool.calls[request]
        raise problem

    def given(self, transport: asyncio.Transport, *, used: bool) -> None:
        """Set the connection, and whether another call used it before."""
        self._transport, self._used = transport, used
        self._wait("write" if self.content else "read")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the request piece by piece; the server has to accept each piece in time."""
        for start in range(0, len(self.content), PIECE):
            self._wait("write")
            yield self.content[start : start + PIECE]
        self._wait("read")

    def _wait(self, name: str) -> None:
        self.late = httpx.WriteTimeout if name == "write" else httpx.ReadTimeout
        self.alarm.set(self.waits.get(name))


class _Body(httpx.AsyncByteStream):
    """The body of a reply, read as it comes, and only while it is wanted.

    aiohttp's own way to pause a server loses the waiting chunks when the server hangs up.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, watch: _Watch, within: float | None
    ) -> None:
        self._response = response
        self._watch = watch
        self._within = within
        self._hold()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if block := await self._next():
            return block
        raise StopAsyncIteration

    async def aclose(self) -> None:
        if (transport := self._transport()) is not None:
            transport.abort()
        self._response.close()

    async def _next(self) -> bytes:
        content = self._response.content
        try:
            if not (block := content.read_nowait()) and not content.at_eof():
                if (transport := self._transport()) is not None:
                    transport.resume_reading()
                with _Alarm(self._watch, self._within):
                    block = await content.readany()
        except _FAULTS as error:
            problem = _translated(error)
        else:
            self._hold()  # aiohttp resumes whenever it gives anything
            return block
        raise problem

    def _hold(self) -> None:
        if (transport := self._transport()) is not None:
            transport.pause_reading()

    def _transport(self) -> asyncio.Transport | None:
        """Return the transport while more of the reply is to come."""
        connection = self._response.connection
        return None if connection is None else connection.transport


@lru_cache(maxsize=8)
def _named(raw: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode(), value.decode()) for name, value in raw)


def _translated(error: Exception) -> httpx.TransportError:
    """Return httpx's equivalent of an error, without its text, with an OSError as its cause."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        offered = error.headers.get("Proxy-Authenticate", "") if error.headers else ""
        return httpx.ProxyError(f"HTTP {error.status} {offered}".rstrip())
    kind, text = next(
        (word for known, word in _WORDS.items() if isinstance(error, known)),
        (httpx.LocalProtocolError, "a line break in a header"),
    )
    found = kind(text)
    if (cause := _cause(error)) is not None:
        found.__cause__ = cause
    elif isinstance(error, OSError) and error.errno:
        found.__cause__ = OSError(error.errno, os.strerror(error.errno))
    return found


def _cause(error: BaseException | None) -> OSError | None:
    """Return the error of the system or of TLS behind one of aiohttp's."""
    while isinstance(error, aiohttp.ClientError):
        if isinstance(error, aiohttp.ClientConnectorError):
            error = getattr(error, "certificate_error", error.os_error)
        else:
            error = error.__cause__ or error.__context__
    return error if isinstance(error, OSError) and not isinstance(error, TimeoutError) else None


_WORDS: dict[type[Exception], tuple[type[httpx.TransportError], str]] = {
    TimeoutError: (httpx.ReadTimeout, "silence"),
    aiohttp.ClientProxyConnectionError: (httpx.ProxyError, "no connection to the proxy"),
    aiohttp.ClientConnectorError: (httpx.ConnectError, "no connection"),
    aiohttp.InvalidURL: (httpx.UnsupportedProtocol, "an invalid address"),
    UnicodeError: (httpx.ConnectError, "a name that no host can have"),
    aiohttp.ServerDisconnectedError: (httpx.RemoteProtocolError, "hung up without a reply"),
    aiohttp.ClientPayloadError: (httpx.RemoteProtocolError, "hung up during the reply"),
    aiohttp.ClientResponseError: (httpx.RemoteProtocolError, NOT_HTTP),
    aiohttp.ClientError: (httpx.ReadError, "the connection was lost"),
    OSError: (httpx.ReadError, "the connection was lost"),
    RuntimeError: (httpx.ReadError, "the connection was closed"),
}
"""httpx's error by the first kind that fits; any other ValueError is about a header."""
