"""Serving the application over HTTP, in the foreground or beside other work of the process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Final, Self, cast

import uvicorn
from starlette.types import ASGIApp

from migrator.errors import ConfigError, MigratorError
from migrator.tickiti.protocol import Connection, Limits

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
