"""HTTP connections that cannot be held for ever, and answers in JSON to what is no request.

A client may be slow, but it has to move: a request that takes too long to arrive and an answer
that nobody takes end their connection. The server looks at all connections now and then; there
is no timer for each of them.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final, cast

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from migrator.errors import ConfigError
from migrator.tickiti.envelope import Refusal, response_headers

MAX_HEAD: Final = 16 * 1024
"""Bytes of a request line with its headers."""

_UNSENT: Final = 256 * 1024
"""Bytes that may wait for a client: with a few blocks at hand fewer turns of the loop are lost."""

_CLOSE: Final = (b"connection", b"close")
_REASONS: Final = {400: b"Bad Request", 408: b"Request Timeout"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients get; all durations are in seconds.

    ``request`` until a whole request is there, ``stall`` without any byte of an answer being
    taken, ``idle`` between two requests, ``grace`` for what is under way when the server stops.
    Clients over ``connections`` are answered with 503, those over twice as many not at all.
    """

    request: float = 30
    stall: float = 60
    idle: int = 30
    grace: float = 10
    connections: int = 256


class Connection(HttpToolsProtocol):
    """One connection; ``stopping`` tells whether the server has begun to stop."""

    def __init__(
        self, config: Config, state: ServerState, limits: Limits, stopping: Callable[[], bool]
    ) -> None:
        super().__init__(config, state, {})
        self._limits = limits
        self._stopping = stopping
        self._arriving = False
        """A request has begun and is not complete."""
        self._in_head = False
        self._head = 0
        """Bytes that came since the last head began, or more."""
        self._asked_since: float | None = None
        self._left = 0
        self._moved_at = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, unless there are too many or the server is about to end."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(_UNSENT)
        self._asked_since = self._moved_at = self.loop.time()
        if self._stopping() or len(self.connections) > 2 * self._limits.connections:
            # Accepted in the very moment of the stop, it would be missed by the shutdown.
            transport.abort()
        elif len(self.connections) > self._limits.connections:
            self.app = cast("Any", _busy)

    def data_received(self, data: bytes) -> None:
        """Take a piece of a request."""
        self._unset_keepalive_if_required()
        self._head = self._head + len(data) if self._in_head else len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # We go on with HTTP/1.1. The parser does not: the answer is the connection's last.
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return
        if self._in_head and self._head > MAX_HEAD:
            self.send_400_response("The head of the request is too long.")
        if not self._arriving:
            self._asked_since = None
        elif self._asked_since is None:
            self._asked_since = self.loop.time()

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        self._arriving = self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start to answer, unless the head is too long."""
        self._in_head = False
        if self._head > MAX_HEAD and self._length_of_head() > MAX_HEAD:
            raise ValueError("the head is too long")  # ends as 400, as all that is no request
        # RFC 9112 (3.2.2): every server takes http://host/path for /path, as proxies are sent it.
        if self.url[:8].lower().startswith((b"http://", b"https://")):
            self.url = b"/" + self.url.partition(b"://")[2].partition(b"/")[2]
        super().on_headers_complete()

    def _length_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_message_complete(self) -> None:
        """Note that a request is there as a whole."""
        self._arriving = False
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.scope["method"] != "HEAD":  # nothing follows its head
            cycle.transport = cast("asyncio.Transport", _Joining(cycle.transport, self.loop))
        super()._start_asgi_task(cycle, app)

    def look(self, now: float) -> None:
        """Hang up if the client has not moved for too long; ``now`` is the loop's time."""
        if self._asked_since is not None and now - self._asked_since > self._limits.request:
            cycle: RequestResponseCycle | None = self.cycle
            # A body that goes on arriving after its answer gets no second one.
            answered = cycle is not None and cycle.response_complete and not self._in_head
            if self.transport.is_closing() or (answered and self._arriving):
                self.transport.abort()
            else:
                self._refuse(Refusal(408, "request_timeout", "The request took too long."))
            return
        left = self._unsent()
        # While a client takes nothing the application waits, and this number stands still.
        if left == 0 or left != self._left:
            self._left, self._moved_at = left, now
        elif now - self._moved_at > self._limits.stall:
            self.transport.abort()

    def shutdown(self) -> None:
        """Hang up, or let the answer under way be the last one."""
        if not self.transport.is_closing():
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no HTTP request with the envelope, too."""
        self._refuse(Refusal(400, "bad_request", msg))

    def _refuse(self, refusal: Refusal) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            body = refusal.body()
            head = [*response_headers(len(body)), _CLOSE]
            status = b"HTTP/1.1 %d %s" % (refusal.status, _REASONS[refusal.status])
            lines = [status, *(b": ".join(pair) for pair in head), b"", body]
            self.transport.write(b"\r\n".join(lines))
            self.transport.close()
        else:
            cycle.transport.close()  # which sends what it keeps

    def _unsent(self) -> int:
        """Return the bytes of answers that the client has not acknowledged."""
        sock = self.transport.get_extra_info("socket")
        waiting = self.transport.get_write_buffer_size()
        if sock is None or sock.fileno() < 0:
            return waiting
        # The kernel takes megabytes at once and sends them for minutes: that is moving as well.
        queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
        return waiting + int(struct.unpack("i", queued)[0])


class _Joining:
    """Sends the head of an answer with what follows in the same turn of the loop, as one packet.

    A small answer costs one call of the kernel then, which is a fifth of all that it costs.
    """

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        """Keep the first piece for a moment, send all others."""
        if self._head is None:
            self._head = data
            self._loop.call_soon(self._flush)
            return
        if self._head:
            data, self._head = self._head + data, b""
        self._transport.write(data)

    def close(self) -> None:
        """Send what was kept, and close."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Tell whether the connection is about to end."""
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


async def _busy(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - of ASGI
    await Refusal(
        503,
        "too_busy",
        "Too many clients are connected. Try again in a moment.",
        headers=[(b"retry-after", b"5"), _CLOSE],
    ).send(send)


def trusted_proxies(text: str) -> str:
    """Check a comma-separated list of addresses and networks; ``*`` alone trusts everybody.

    Raises ConfigError for what is neither.
    """
    parts = [] if text.strip() == "*" else [part.strip() for part in text.split(",")]
    for part in filter(None, parts):
        try:
            ip_network(part)
        except ValueError as error:
            raise ConfigError(
                f"{part!r} is not the address or network of a proxy, such as 10.0.0.7 or "
                "10.0.0.0/24 (tickiti.forwarded_allow_ips, --forwarded-allow-ips)."
            ) from error
    return text.strip()
