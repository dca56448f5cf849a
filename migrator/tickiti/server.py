"""Serving the application over HTTP, in the foreground or beside other work of the process."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from migrator.errors import ConfigError, MigratorError
from migrator.tickiti.envelope import Refusal, response_headers

GRACE: Final = 10
"""Seconds that running downloads get when the server is asked to stop."""

KEEP_ALIVE: Final = 30
"""Seconds that an idle connection stays open."""

MAX_HEAD: Final = 16 * 1024
"""Bytes of a request line with its headers."""


def serve(
    app: ASGIApp, *, host: str, port: int, on_ready: Callable[[str], None] | None = None
) -> None:
    """Serve until SIGINT or SIGTERM, then let running downloads end for up to GRACE seconds.

    ``port`` 0 takes a free one; ``on_ready`` gets the URL once connections are accepted.
    Raises ConfigError when the address cannot be listened on. Call it from the main thread:
    elsewhere nothing stops it.
    """
    with _listen(host, port) as listener:
        _Server(app, listener, on_ready or (lambda _: None)).run(sockets=[listener])


class BackgroundServer:
    """Serves in a thread of its own between ``__enter__`` and ``__exit__``.

    ``url`` is ``http://HOST:PORT``, valid inside the ``with``.
    Raises ConfigError on entry when the address cannot be listened on.
    """

    def __init__(self, app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._app = app
        self._host = host
        self._port = port
        self.url = ""

    def __enter__(self) -> Self:
        """Start the thread and return once connections are accepted."""
        self._listener = _listen(self._host, self._port)
        self._ready = threading.Event()
        self._server = _Server(self._app, self._listener, lambda _: self._ready.set())
        self._thread = threading.Thread(target=self._run, name="tickiti-endpoint", daemon=True)
        self._thread.start()
        self._ready.wait()
        if not self._server.started:
            self.__exit__(None, None, None)
            raise MigratorError("The endpoint did not start; what stopped it is told above.")
        self.url = _url(self._listener)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let running downloads end, for up to GRACE seconds, and stop the thread."""
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        finally:
            self._ready.set()  # a server that failed to start must not keep its starter waiting


class _Server(uvicorn.Server):
    """uvicorn with quiet logs, that says when it is ready and stops without dying of the signal."""

    def __init__(
        self, app: ASGIApp, listener: socket.socket, on_ready: Callable[[str], None]
    ) -> None:
        config = uvicorn.Config(
            app,
            http=_EnvelopeProtocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",  # the application logs what an operator can act on
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
            h11_max_incomplete_event_size=MAX_HEAD,
        )
        super().__init__(config)
        self._listener = listener
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready(_url(self._listener))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signals again after its shutdown, which would kill a process that
        # has done as it was told.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in _STOP_SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class _EnvelopeProtocol(H11Protocol):
    """HTTP whose answer to bytes that are no HTTP request is JSON as well."""

    def send_400_response(self, msg: str) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            body = Refusal(400, "bad_request", msg).body()
            head = [*response_headers(len(body)), (b"connection", b"close")]
            lines = [b"HTTP/1.1 400 Bad Request", *(b": ".join(pair) for pair in head), b"", body]
            self.transport.write(b"\r\n".join(lines))
        self.transport.close()


def _listen(host: str, port: int) -> socket.socket:
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
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise _unusable(host, port, error, advice) from error
    return listener


def _unusable(host: str, port: int, error: Exception, advice: str) -> ConfigError:
    reason = getattr(error, "strerror", None) or str(error)
    return ConfigError(f"Cannot listen on {host} port {port}: {reason}. {advice}")


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return (
        f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"
    )
