"""The guard between a client and uvicorn: bounds on time, bytes and connections.

uvicorn reads requests and runs the application; its own protocol is used as it is. The guard has
its own parser before it, and passes on plain requests only, one at a time: without an offer to
upgrade (uvicorn would lose the body), without trailers and chunk extensions. The guard itself
answers, in JSON, what is not HTTP, too long or too slow.

A client may be slow, but it must make progress: a request that takes too long to arrive and an
answer that is not read end their connection. Every connection counts from its accept on, including
the TLS handshake. When no place is left, an idle one gives way to a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import re
import socket
import ssl
import struct
import tempfile
import termios
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any, ClassVar, Final, cast

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from migrator.serve.auth import origin_of
from migrator.serve.bounds import (
    FRAMING,
    JSON_BLOCK,
    MAX_HEAD,
    PIECE,
    PRESSING,
    TAKEN,
    TAKEN_IN_ALL,
    UNSENT,
    UNSENT_IN_ALL,
    Limits,
)
from migrator.serve.refusals import Refusal, response_headers, server_error

_LAST_WORDS: Final = 1.0
"""Seconds to end a TLS connection properly."""

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_REASONS: Final = {400: b"Bad Request", 408: b"Request Timeout", 503: b"Service Unavailable"}

_NO_REQUEST: Final = Refusal(400, "bad_request", "Invalid HTTP request received.")
_TOO_LONG: Final = Refusal(400, "bad_request", "The head of the request is too long.")
_TOO_SLOW: Final = Refusal(408, "request_timeout", "The request took too long.")
_TOO_BUSY: Final = Refusal(
    503,
    "too_busy",
    "Too many clients are connected. Try again in a moment.",
    headers=[(b"retry-after", b"5")],
)


_turns = count()


class Connections:
    """All connections of a server, by client."""

    def __init__(self, limits: Limits, is_proxy: Callable[[str], bool]) -> None:
        self._limits = limits
        self._is_proxy = is_proxy
        self._served: dict[str, dict[Guard, None]] = {}
        """By client, in the order of their accepts."""
        self._turned_away: set[Guard] = set()
        self._pressed: Counter[str] = Counter()
        """By client, the connections of this second for which there was no place."""

    def __iter__(self) -> Iterator[Guard]:
        """Yield the current connections."""
        return iter([*chain(*self._served.values()), *self._turned_away])

    def __len__(self) -> int:
        """Return the number of clients that have a place."""
        return sum(map(len, self._served.values()))

    def admit(self, guard: Guard, host: str) -> bool | None:
        """Admit a new connection, for which another may have to go.

        Returns False if it only gets an answer that there is no place, None if not even that.
        """
        guard.origin = origin_of(host)
        rivals = self._rivals(guard.origin, host)
        if rivals is None or self._make_room(rivals):
            self._served.setdefault(guard.origin, {})[guard] = None
            return True
        if len(self._turned_away) >= self._limits.connections:
            return None
        self._turned_away.add(guard)
        return False

    def is_flood(self, host: str) -> bool:
        """Return whether a client without a place has opened too many connections this second.

        To refuse them costs time that belongs to the others.
        """
        origin = origin_of(host)
        if self._rivals(origin, host) is None:
            return False
        self._pressed[origin] += 1
        return self._pressed[origin] > PRESSING

    def every_second(self) -> None:
        """Begin a new second."""
        self._pressed.clear()

    def _rivals(self, origin: str, host: str) -> Iterable[Guard] | None:
        """Return those of whom one must go before this client gets a place; None if none must."""
        most = self._limits.connections
        same = self._served.get(origin, {})
        if len(same) >= (most if self._is_proxy(host) else max(1, most // 2)):
            return same
        return chain(*self._served.values()) if len(self) >= most else None

    def _make_room(self, rivals: Iterable[Guard]) -> bool:
        idle = [each for each in rivals if not each.is_busy]
        if idle:
            # Those without any request go first, then those of clients with many connections.
            last = min(
                idle, key=lambda one: (one.has_asked, -len(self._served[one.origin]), one.turn)
            )
            self.leave(last)
            last.give_way()
        return bool(idle)

    def leave(self, guard: Guard) -> None:
        """Release the place of a connection, if it has one."""
        self._turned_away.discard(guard)
        same = self._served.get(guard.origin, {})
        same.pop(guard, None)
        if not same:
            self._served.pop(guard.origin, None)


class Turns:
    """Shares out the turns of the event loop: what many connections send must not delay others.

    In each turn a client has a few pieces parsed and requests handed on; the rest waits.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._all = 0
        self._taken: Counter[str] = Counter()
        self._waiting: dict[str, dict[Guard, None]] = {}
        """By client, the one whose turn it is first."""

    def take(self, guard: Guard) -> bool:
        """Return whether a connection may go on in this turn; if not, it is told when it may."""
        if not self._is_set:
            self._is_set = True
            asyncio.get_running_loop().call_soon(self._next)
        origin = guard.origin
        if self._may(origin):
            self._taken[origin] += 1
            self._all += 1
            return True
        self._waiting.setdefault(origin, {})[guard] = None
        return False

    def _may(self, origin: str) -> bool:
        return self._all < TAKEN_IN_ALL and self._taken[origin] < TAKEN

    def _next(self) -> None:
        self._is_set, self._all = False, 0
        self._taken.clear()
        waiting, self._waiting = self._waiting, {}
        behind: dict[str, dict[Guard, None]] = {}
        for origin, guards in waiting.items():
            while guards and self._may(origin):
                guard = next(iter(guards))
                del guards[guard]
                guard.go_on()
            if later := guards | self._waiting.pop(origin, {}):
                # Who had no turn comes first in the next one.
                (behind if self._taken[origin] else self._waiting)[origin] = later
        self._waiting |= behind
        if self._waiting and not self._is_set:
            self._is_set = True
            asyncio.get_running_loop().call_soon(self._next)


@dataclass(frozen=True, slots=True)
class Shared:
    """The shared state of all connections of a server."""

    connections: Connections
    limits: Limits
    tls: ssl.SSLContext | None
    turns: Turns = field(default_factory=Turns)

    def protocol(self) -> type[Guard]:
        """Return the class of these connections, for ``uvicorn.Config(http=...)``."""
        return type("Guard", (Guard,), {"shared": self})


class _Request:
    """A request as uvicorn gets it: its pieces, and whether it is complete."""

    __slots__ = ("is_whole", "pieces")

    def __init__(self, head: bytes) -> None:
        self.pieces = [head]
        self.is_whole = False


class Guard(asyncio.Protocol):
    """One connection, made by uvicorn, whose own protocol it makes and feeds.

    ``shared`` belongs to the class that one server has: see :meth:`Shared.protocol`.
    """

    shared: ClassVar[Shared]

    def __init__(self, *, app_state: dict[str, Any], **options: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._http = HttpToolsProtocol(app_state={**app_state, "guard": self}, **options)
        self._transport = cast("asyncio.Transport", None)
        self._opening: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None
        """What a TLS handshake runs over."""
        self._has_begun = False
        """The event loop owns the socket."""
        self._is_open = self._is_turned_away = False
        """It carries HTTP: its TLS handshake is over, its end is not. And: it has no place."""

        self.origin = ""
        """The key of the client: connections of the same origin share limits."""
        self.has_asked = False
        self.turn = next(_turns)
        """The order in which connections were accepted, or last answered: clocks are too coarse."""
        self._idle_since = self._loop.time()
        """When it was accepted, or had read its last answer."""

        self._parser = httptools.HttpRequestParser(self)
        self._begun_at: float | None = self._idle_since
        """When an incomplete request began; at first the time of the accept."""
        self._in_message = False
        self._left = MAX_HEAD
        """Bytes that may come before the next byte of a body or the next request."""
        self._size = 0
        """Bytes being parsed."""
        self._url = self._version = b""
        self._headers: list[bytes] = []
        self._is_chunked = False
        self._head_again = b""
        """The head of a request that offers another protocol, without that offer."""
        self._ignores = False
        """Further bytes are dropped."""
        self._refusal: Refusal | None = None
        """The refusal that ends the connection after the answers to all earlier requests."""

        self._arriving: _Request | None = None
        """The request whose body is arriving."""
        self._current: _Request | None = None
        """The request that uvicorn has, or had last."""
        self._is_answering = False
        self._waiting: deque[_Request] = deque()
        """Requests that came before their turn."""
        self._held = b""
        """Bytes that are not parsed before their turn; nothing more is read meanwhile."""
        self._is_full = False
        """The application has paused reading a body."""

        self._has_said = False
        """A part of the current answer was written."""
        self._head = b""
        """The head of an answer, sent together with what follows."""
        self._unsent, self._moved_at = 0, self._idle_since

    def accept(self, sock: socket.socket, host: str) -> None:
        """Take an accepted socket, if there is a place for it, and begin its TLS handshake."""
        place = self.shared.connections.admit(self, host)
        if place is None:
            sock.close()
            return
        self._is_turned_away = not place
        self._socket = sock
        self._opening = self._loop.create_task(self._begin(sock))

    async def _begin(self, sock: socket.socket) -> None:
        self._has_begun = True
        tls = self.shared.tls
        seconds = (self.shared.limits.request, _LAST_WORDS) if tls else (None, None)
        try:
            await self._loop.connect_accepted_socket(
                lambda: self,
                sock,
                ssl=tls,
                ssl_handshake_timeout=seconds[0],
                ssl_shutdown_timeout=seconds[1],
            )
        except OSError:
            self.shared.connections.leave(self)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self._transport = cast("asyncio.Transport", transport)
        self._is_open = True
        self._http.connection_made(cast("asyncio.Transport", _ToClient(self, self._transport)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify uvicorn, whose application may wait for the client."""
        self._ignores = True
        self.shared.connections.leave(self)
        if self._is_open:
            self._is_open = False
            self._http.connection_lost(exc)
            del self._http, self._parser  # breaks a cycle that holds some 300 KB under TLS

    def pause_writing(self) -> None:
        """Pause the answer until the client reads."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """Resume the answer."""
        self._http.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse the received bytes piece by piece, up to what has to wait for its turn."""
        if self._held:
            self._held += data
            return
        for at in range(0, len(data), PIECE):
            if self._ignores:
                return
            if self._waiting or self._is_full or not self.shared.turns.take(self):
                self._held = data[at:]
                self._transport.pause_reading()
                return
            self._parse(data[at : at + PIECE])

    def _parse(self, piece: bytes) -> None:
        self._size = len(piece)
        self._left -= self._size
        broken: Refusal | None = None
        try:
            rest = self._feed(piece)
        except httptools.HttpParserError:
            broken = self._refusal or _NO_REQUEST
        else:
            if rest is not None:
                self._parse(rest)
                return
        if self._left < 0:
            broken = broken or _TOO_LONG
        self._hand_on()
        if broken is not None and not self._ignores:
            self._refuse(broken)

    def _feed(self, piece: bytes) -> bytes | None:
        """Parse a piece; return what of it follows a head that offers another protocol.

        RFC 9110 (7.8): a server may ignore the offer. llhttp cannot, it skips the body.
        """
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as offer:
            if not self._head_again:
                raise
            head, self._head_again = self._head_again, b""
            self._parser = httptools.HttpRequestParser(self)
            self._parser.feed_data(head)
            return piece[offer.args[0] :]
        return None

    # What llhttp calls.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._in_message, self._is_chunked = True, False
        self._left = MAX_HEAD - self._size
        self._url, self._headers = b"", []
        if self._begun_at is None:
            self._begun_at = self._loop.time()

    def on_url(self, url: bytes) -> None:
        """Add a piece of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; drop a trailer."""
        if self._arriving is None:
            key = name.lower()
            if key != b"upgrade":
                self._headers += (name, b": ", value, b"\r\n")
                if key == b"transfer-encoding":
                    self._is_chunked = True

    def on_headers_complete(self) -> None:
        """Complete the head, which uvicorn gets once earlier requests are answered."""
        method, url = self._parser.get_method(), self._url
        # RFC 9112 (3.2.2): every server takes http://host/path for /path, as proxies are sent it.
        if url[:8].lower().startswith((b"http://", b"https://")):
            url = b"/" + url.partition(b"://")[2].partition(b"/")[2]
        if b"//" in url or b"/?" in url or url[-1:] == b"/":
            path, mark, query = url.partition(b"?")
            # As Laravel and the servers before it, which take /a//b/ for /a/b.
            url = (re.sub(b"//+", b"/", path).rstrip(b"/") or b"/") + mark + query
        self._version = version = self._parser.get_http_version().encode()
        head = b"".join((method, b" ", url, b" HTTP/", version, b"\r\n", *self._headers, b"\r\n"))
        if len(head) > MAX_HEAD:
            self._refusal = _TOO_LONG
        elif self._is_turned_away:
            self._refusal = _TOO_BUSY
        elif method == b"CONNECT" or not (httptools.parse_url(url).path or b"\xff").isascii():
            self._refusal = _NO_REQUEST
        if self._refusal is not None:
            raise ValueError  # which ends llhttp's work
        if self._parser.should_upgrade():
            self._head_again = head
            return
        self._left = MAX_HEAD
        self._arriving = _Request(head)
        self._waiting.append(self._arriving)
        if not self._is_answering:
            self._hand_on()  # the rest of the previous one, which was answered early
            self._take_next()

    def on_body(self, body: bytes) -> None:
        """Add a piece of a body."""
        if self._arriving is not None:
            self._left += (1 + FRAMING) * len(body)
            piece = b"%x\r\n%b\r\n" % (len(body), body) if self._is_chunked else body
            self._arriving.pieces.append(piece)

    def on_message_complete(self) -> None:
        """Mark a request as complete."""
        if self._arriving is None:  # it offers another protocol, and comes again without
            return
        if self._is_chunked:
            self._arriving.pieces.append(b"0\r\n\r\n")
        self._arriving.is_whole = True
        self._arriving, self._in_message, self._begun_at = None, False, None
        self._left = MAX_HEAD
        self._ignores = self._version == b"1.0" or not self._parser.should_keep_alive()

    # A request on its way to the application, and its answer on the way back.

    def _take_next(self) -> None:
        self._current = self._waiting.popleft()
        self._is_answering = self.has_asked = True
        share = UNSENT_IN_ALL // (len(self.shared.connections) or 1)
        self._transport.set_write_buffer_limits(min(UNSENT, share))
        self._has_said = False

    def _hand_on(self) -> None:
        if self._current is not None and self._current.pieces:
            data = b"".join(self._current.pieces)
            self._current.pieces.clear()
            self._http.data_received(data)

    def go_on(self) -> None:
        """Parse the held bytes whose turn has come."""
        if not self._is_open or self._transport.is_closing():
            return
        if self._waiting and not self._is_answering:
            if not self.shared.turns.take(self):
                return
            self._take_next()
            self._hand_on()
        if self._refusal is not None and not self._is_answering:
            self._refuse(self._refusal)
        elif self._held and not (self._waiting or self._is_full):
            held, self._held = self._held, b""
            if self._begun_at is not None and self.has_asked:
                self._begun_at = self._loop.time()  # the client was not slow
            self.data_received(held)
            if not self._held:
                self._transport.resume_reading()

    def answered(self) -> None:
        """Mark the request as answered by the application."""
        self._is_answering = False
        self._idle_since, self.turn = self._loop.time(), next(_turns)
        if self._held or self._waiting or self._refusal:
            self._loop.call_soon(self.go_on)

    def pause_body(self) -> None:
        """Stop reading from the client until the application has read what is there."""
        self._is_full = True

    def resume_body(self) -> None:
        """Resume reading from the client."""
        self._is_full = False
        if self._held:
            self._loop.call_soon(self.go_on)

    def write(self, data: bytes) -> None:
        """Send a piece of an answer; its head goes with what follows in the same turn of the loop.

        So a small answer takes one system call, which is a fifth of its cost.
        """
        if self._transport.is_closing():
            return
        if self._has_said:
            if self._head:
                data, self._head = self._head + data, b""
            self._transport.write(data)
        elif data == _CONTINUE:
            self._transport.write(data)
        else:
            self._has_said, self._head = True, data
            self._loop.call_soon(self._send_head)

    def _send_head(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Send what was kept, and close."""
        self._send_head()
        self._transport.close()

    # Closing connections.

    @property
    def is_busy(self) -> bool:
        """True while it waits for an answer, or reads one."""
        return self._is_open and (
            self._is_answering or bool(self._waiting or self._transport.get_write_buffer_size())
        )

    def look(self, now: float) -> None:
        """Close if the client made no progress for too long; ``now`` is the loop's time."""
        if not self._is_open:
            return  # the handshake has its own bound
        begun = self._begun_at
        if begun is not None and not self._held and now - begun > self.shared.limits.request:
            # A body that is still arriving after its answer gets no second one.
            is_answered = self._current is self._arriving is not None and not self._is_answering
            if is_answered or self._transport.is_closing():
                self._transport.abort()
            else:
                self._refuse(_TOO_SLOW)
            return
        unsent = self._count_unsent()
        # While a client reads nothing the application waits, and this number stays the same.
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._moved_at = unsent, now
        elif now - self._moved_at > self.shared.limits.stall:
            self._transport.abort()
        if unsent or self._is_answering or begun is not None:
            self._idle_since = now if self.has_asked else self._idle_since
        elif now - self._idle_since > self.shared.limits.idle:
            self._transport.close()

    def _count_unsent(self) -> int:
        """Return the bytes of answers that the client has not acknowledged."""
        sock = self._transport.get_extra_info("socket")
        waiting = self._transport.get_write_buffer_size()
        if sock is None or sock.fileno() < 0:
            return waiting
        # The kernel takes megabytes at once and sends them for minutes: that is progress, too.
        queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
        return waiting + int(struct.unpack("i", queued)[0])

    def give_way(self) -> None:
        """Close in favour of another; answer a request that has begun."""
        if self._is_open and self._in_message:
            self._refuse(_TOO_BUSY)
        elif self._is_open:
            self._transport.close()
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self.shared.connections.leave(self)
        if self._is_open:
            self._transport.abort()
        elif self._opening is not None:
            self._opening.cancel()
            # asyncio closes no socket whose handshake is only about to begin.
            sock = cast("socket.socket", self._socket)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            if not self._has_begun:
                sock.close()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer an invalid request, after the answers to earlier ones, and close."""
        self._ignores = True
        current = self._current
        if self._waiting or (self._is_answering and current is not None and current.is_whole):
            self._refusal = refusal
        elif self._is_answering and self._has_said:
            self.close()
        else:
            body = refusal.body()
            close = (b"connection", b"close")
            head = [*response_headers(len(body)), *refusal.headers, close]
            status = b"HTTP/1.1 %d %s" % (refusal.status, _REASONS[refusal.status])
            lines = [status, *(b": ".join(pair) for pair in head), b"", body]
            self._transport.write(b"\r\n".join(lines))
            self._transport.close()


class _ToClient:
    """The transport that uvicorn gets: all its calls go through the guard."""

    def __init__(self, guard: Guard, transport: asyncio.Transport) -> None:
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.write = guard.write
        self.close = guard.close
        self.pause_reading = guard.pause_body
        self.resume_reading = guard.resume_body


def watched(app: ASGIApp) -> ASGIApp:
    """Return an application that notifies its connection when it has answered."""

    async def watching(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["http_version"] == "1.0":
                await _answer_whole(app, scope, receive, send)
            else:
                await app(scope, receive, send)
        finally:
            scope["state"]["guard"].answered()

    return watching


async def _answer_whole(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer HTTP/1.0, which has no chunks: an answer of unknown length waits for its end.

    Without a length, one that broke off would look complete.
    """
    head: Message | None = None
    with tempfile.SpooledTemporaryFile(JSON_BLOCK) as file:

        async def keep(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start":
                if not any(name == b"content-length" for name, _ in message["headers"]):
                    head = message
                    return
            elif head is not None:
                file.write(message.get("body", b""))
                if message.get("more_body", False):
                    return
                length = (b"content-length", b"%d" % file.tell())
                message = {**head, "headers": [*head["headers"], length]}
                head = None
                await send(message)
                file.seek(0)
                while block := file.read(JSON_BLOCK):
                    await send({"type": "http.response.body", "body": block, "more_body": True})
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await app(scope, receive, keep)
        if head is not None:  # it broke off
            await server_error()(scope, receive, send)
