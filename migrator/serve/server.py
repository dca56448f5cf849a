"""The certificate of the endpoint.

HTTP connections that cannot be held for ever, and answers in JSON to what is no request.

A client may be slow, but it has to move: a request that takes too long to arrive and an answer
that nobody takes end their connection. The server looks at all connections now and then; there
is no timer for each of them.

Serving the application over HTTP, in the foreground or beside other work of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import ssl
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Self, cast

import httptools
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from migrator.errors import ConfigError, MigratorError
from migrator.serve.refusals import Refusal, response_headers


def server_context(certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    """Return what serves TLS 1.2 and newer with a certificate chain and its key, both PEM files.

    ``key`` None means that it is in the file of the certificate. Raises ConfigError for files
    that cannot be read, are something else, do not belong together, or have a password.
    """
    for file in (certificate, key or certificate):
        _readable(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            reason = f"the key {key or certificate} does not belong to it"
        else:
            reason = (
                f"it or its key {key or certificate} is not what it should be. Both must be PEM "
                "files: the certificate first, then those of the authorities between"
            )
        raise ConfigError(f"The certificate {certificate} cannot be used: {reason}.") from error
    return context


def _readable(file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"Cannot read {file} for TLS: {error.strerror}.") from error


def _no_password() -> NoReturn:
    # OpenSSL would ask on the terminal, which a service does not have.
    raise ConfigError("The key for TLS has a password. Take it off: openssl pkey -in KEY -out NEW")


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


async def _busy(scope: Scope, receive: Receive, send: Send) -> None:
    await Refusal(
        503,
        "too_busy",
        "Too many clients are connected. Try again in a moment.",
        headers=[(b"retry-after", b"5"), _CLOSE],
    )(scope, receive, send)


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


_LOOK_EVERY: Final = 10
"""Ticks of uvicorn, a tenth of a second each, between two looks at the connections."""

_LAST_WORDS: Final = 1.0
"""Seconds for a request that is broken off to close its files."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How to serve; ``tls`` None is plain HTTP.

    ``trusted_proxies`` are the addresses and networks, by commas, whose X-Forwarded-For and
    X-Forwarded-Proto are believed; none by default, ``*`` for all. ``parent`` is the process
    without which the server stops, None for a server of its own.
    """

    tls: ssl.SSLContext | None = None
    trusted_proxies: str = ""
    parent: int | None = None
    limits: Limits = field(default_factory=Limits)


def serve(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    options: ServerOptions | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then let running downloads end within the grace.

    A second signal ends them at once. ``port`` 0 takes a free one; ``on_ready`` gets the URL once
    connections are accepted. Raises ConfigError when the address cannot be listened on. Call it
    from the main thread: elsewhere nothing stops it.
    """
    with listen(host, port) as listener:
        serve_on(listener, app, options=options, on_ready=on_ready)


def serve_on(
    listener: socket.socket,
    app: ASGIApp,
    *,
    options: ServerOptions | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve as :func:`serve` does, on a socket that listens already."""
    ready = on_ready or (lambda _: None)
    _Server(app, listener, options or ServerOptions(), ready).run(sockets=[listener])


class BackgroundServer:
    """Serves in a thread of its own between ``__enter__`` and ``__exit__``.

    ``url`` is ``http://HOST:PORT``, valid inside the ``with``.
    Raises ConfigError on entry when the address cannot be listened on.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        options: ServerOptions | None = None,
    ) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._options = options or ServerOptions()
        self.url = ""

    def __enter__(self) -> Self:
        """Start the thread and return once connections are accepted."""
        self._listener = listen(self._host, self._port)
        self._ready = threading.Event()
        self._server = _Server(
            self._app, self._listener, self._options, lambda _: self._ready.set()
        )
        self._thread = threading.Thread(target=self._run, name="tickiti-endpoint", daemon=True)
        self._thread.start()
        self._ready.wait()
        if not self._server.started:
            self.__exit__(None, None, None)
            raise MigratorError("The endpoint did not start; what stopped it is told above.")
        self.url = self._server.url
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let running downloads end within the grace, and stop the thread."""
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        finally:
            self._ready.set()  # a server that failed to start must not keep its starter waiting


class _Server(uvicorn.Server):
    """uvicorn with quiet logs and bounds, that says when it is ready and stops in time."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        options: ServerOptions,
        on_ready: Callable[[str], None],
    ) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            loop="auto",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",  # the application logs what an operator can act on
            access_log=False,
            proxy_headers=bool(options.trusted_proxies),
            forwarded_allow_ips=options.trusted_proxies,
            server_header=False,
            timeout_keep_alive=options.limits.idle,
        )
        super().__init__(config)
        self._listener = listener
        self._options = options
        self._on_ready = on_ready
        self.url = url_of(listener, "https" if options.tls else "http")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Accept connections."""
        limits, secure = self._options.limits, self._options.tls
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self.config, self.server_state, limits, lambda: self.should_exit),
            sock=self._listener,
            ssl=secure,
            ssl_handshake_timeout=limits.request if secure else None,
            ssl_shutdown_timeout=_LAST_WORDS if secure else None,
            backlog=self.config.backlog,
        )
        self.servers = [server]
        self.started = True
        self._on_ready(self.url)

    async def on_tick(self, counter: int) -> bool:
        """Look after slow clients; True ends the server."""
        if counter % _LOOK_EVERY == 0:
            now = asyncio.get_running_loop().time()
            for connection in self._connections():
                connection.look(now)
            if self._options.parent not in (None, os.getppid()):
                self.should_exit = True  # it was killed, and nobody minds this worker any more
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Let answers under way end within the grace or until a second signal, then hang up.

        uvicorn's own goes on for ever on newer Pythons when a client does not hang up.
        """
        for server in self.servers:
            server.close()
        for connection in self._connections():
            connection.shutdown()
        clock = asyncio.get_running_loop().time
        until = clock() + self._options.limits.grace
        state = self.server_state
        while state.connections or state.tasks:
            if clock() >= until or self.force_exit:
                break
            await asyncio.sleep(0.05)
        for connection in self._connections():
            connection.transport.abort()
        tasks = list(state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_WORDS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - of signal
        """Stop gracefully at the first signal, of whichever kind, and at once at the second."""
        self.force_exit = self.should_exit
        self.should_exit = True

    def _connections(self) -> list[Connection]:
        return cast("list[Connection]", list(self.server_state.connections))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signals again after its shutdown, which would kill a process that
        # has done as it was told.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in STOP_SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Listen on an address, together with others of this user that are ``shared``, too.

    Raises ConfigError.
    """
    advice = "Choose another address with --host and --port, or tickiti.host and tickiti.port."
    if not 0 <= port <= 65535:
        # getaddrinfo() would take it modulo 65536 and listen where nobody looks.
        raise ConfigError(f"Cannot listen on port {port}: ports end at 65535. {advice}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        # With its protocol named (as create_server() does not), asyncio switches Nagle's
        # algorithm off; without, an answer in two writes waits 40 ms for the client's ACK.
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _unusable(host, port, error, advice) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise _unusable(host, port, error, advice) from error
    return listener


def _unusable(host: str, port: int, error: Exception, advice: str) -> ConfigError:
    reason = getattr(error, "strerror", None) or str(error)
    return ConfigError(f"Cannot listen on {host} port {port}: {reason}. {advice}")


def url_of(listener: socket.socket, scheme: str) -> str:
    """Return the URL under which a listening socket is reached."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if listener.family == socket.AF_INET6 else host
    return f"{scheme}://{shown}:{port}"
