"""Serving the application over HTTP, in the foreground or beside other work of the process."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, NoReturn, Self
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp

from migrator.errors import ConfigError, MigratorError
from migrator.serve.bounds import ACCEPTED, WAITING, Limits
from migrator.serve.guard import Connections, Shared, watched

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_LAST_WORDS: Final = 1.0
"""Seconds for a cancelled request to close its files."""

_LOOK_EVERY: Final = 0.05
"""Seconds between two checks of a stop."""

_ACCEPT_AGAIN: Final = 0.1
"""Seconds until the next accept when the process has no file left for one."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Options of a server; ``tls`` None is plain HTTP.

    ``trusted_proxies`` are the addresses and networks, by commas, whose X-Forwarded-For and
    X-Forwarded-Proto are trusted; none by default, ``*`` for all. ``parent`` is the process
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
    """Serve as :func:`serve` does, on a listening socket."""
    _Server(app, listener, options or ServerOptions(), on_ready or (lambda _: None)).run()


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
        ready = threading.Event()

        def on_ready(url: str) -> None:
            self.url = url
            ready.set()

        self._server = _Server(self._app, listen(self._host, self._port), self._options, on_ready)

        def run() -> None:
            try:
                self._server.run()
            finally:
                ready.set()  # a failed start must not keep the caller waiting

        self._thread = threading.Thread(target=run, name="tickiti-endpoint", daemon=True)
        self._thread.start()
        ready.wait()
        if not self.url:
            self.__exit__(None, None, None)
            raise MigratorError("The endpoint did not start; the reason is above.")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for running downloads within the grace, and stop the thread."""
        self._server.stop()
        self._thread.join()


class _Server:
    """uvicorn behind our guard, with quiet logs, a signal when ready and a bounded stop."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        options: ServerOptions,
        on_ready: Callable[[str], None],
    ) -> None:
        limits = options.limits
        self._connections = Connections(limits, _Proxies(options.trusted_proxies).trusts)
        self._protocol = Shared(self._connections, limits, options.tls).protocol()
        config = uvicorn.Config(
            watched(app),
            http=self._protocol,
            ws="none",
            loop="auto",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",  # the application logs what an operator can fix
            access_log=False,
            proxy_headers=bool(options.trusted_proxies),
            forwarded_allow_ips=options.trusted_proxies,
            server_header=False,
            # The guard's own bounds come first:
            timeout_keep_alive=math.ceil(limits.idle + limits.request) + 1,
            timeout_graceful_shutdown=math.ceil(limits.grace + _LAST_WORDS),
            callback_notify=self._every_second,
            timeout_notify=0,
        )
        self._uvicorn = uvicorn.Server(config)
        self._loop_factory = config.get_loop_factory()
        self._listener = listener
        self._options = options
        self._on_ready = on_ready
        self._is_ready = False

    def run(self) -> None:
        """Serve until the stop; in the main thread, a signal is one."""
        in_main = threading.current_thread() is threading.main_thread()
        before = {each: signal.signal(each, self.stop) for each in heard() if in_main}
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(self._serve())
        finally:
            self._listener.close()
            for each, handler in before.items():
                signal.signal(each, handler)

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Stop gracefully the first time, and at once the second time."""
        self._uvicorn.force_exit = self._uvicorn.should_exit
        self._uvicorn.should_exit = True

    async def _serve(self) -> None:
        serving = asyncio.create_task(self._uvicorn.serve(sockets=[]))
        ending = asyncio.create_task(self._end_in_time(serving))
        await asyncio.wait([serving])
        for connection in self._connections:
            connection.abort()
        ending.cancel()
        if not serving.cancelled():
            serving.result()

    async def _every_second(self) -> None:
        if not self._is_ready:
            self._is_ready = True
            if threading.current_thread() is threading.main_thread():
                # uvicorn's handlers would raise the signals again after the stop, which would
                # kill a process that has stopped as requested.
                for each in heard():
                    signal.signal(each, self.stop)
            self._listen()
            self._on_ready(url_of(self._listener, "https" if self._options.tls else "http"))
        now = asyncio.get_running_loop().time()
        self._connections.every_second()
        for connection in self._connections:
            connection.look(now)
        if self._options.parent not in (None, os.getppid()):
            self._uvicorn.should_exit = True  # the parent was killed

    def _listen(self) -> None:
        # Instead of uvicorn, which would accept all that wait in one turn of the loop, and report
        # a connection only after its TLS handshake.
        if not self._uvicorn.should_exit:
            self._listener.setblocking(False)
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED):
            try:
                sock, (host, *_) = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listener)
                loop.call_later(_ACCEPT_AGAIN, self._listen)
                return
            if self._uvicorn.should_exit or self._connections.is_flood(host):
                sock.close()
                continue
            sock.setblocking(False)
            self._protocol(
                config=self._uvicorn.config,
                server_state=self._uvicorn.server_state,
                app_state=self._uvicorn.lifespan.state,
            ).accept(sock, host)

    async def _end_in_time(self, serving: asyncio.Task[None]) -> None:
        while not self._uvicorn.should_exit:  # noqa: ASYNC110 - as uvicorn, which a signal tells
            await asyncio.sleep(_LOOK_EVERY)
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        clock = asyncio.get_running_loop().time
        until = clock() + self._options.limits.grace
        while clock() < until and not self._uvicorn.force_exit:
            for connection in self._connections:
                if not connection.is_busy:
                    connection.abort()
            await asyncio.sleep(0)  # now those are gone
            if not (list(self._connections) or self._uvicorn.server_state.tasks):
                serving.cancel()  # there is nothing that uvicorn could wait for
                return
            await asyncio.sleep(_LOOK_EVERY)
        for connection in self._connections:
            connection.abort()


def heard() -> list[signal.Signals]:
    """Return the signals that stop a server: not those that are ignored, as under nohup."""
    return [each for each in STOP_SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]


def trusted_proxies(text: str) -> str:
    """Check a comma-separated list of addresses and networks; ``*`` alone trusts everybody.

    Raises ConfigError for what is neither.
    """
    _Proxies(text)
    return text.strip()


class _Proxies:
    """The addresses and networks, by commas, that forward many clients; ``*`` is all."""

    def __init__(self, text: str) -> None:
        self._all = text.strip() == "*"
        self._networks: list[IPv4Network | IPv6Network] = []
        for part in [] if self._all else filter(None, map(str.strip, text.split(","))):
            try:
                self._networks.append(ip_network(part))
            except ValueError as error:
                raise ConfigError(
                    f"{part!r} is not the address or network of a proxy, such as 10.0.0.7 or "
                    "10.0.0.0/24 (tickiti.forwarded_allow_ips, --forwarded-allow-ips)."
                ) from error

    def trusts(self, host: str) -> bool:
        """Return whether an address is one of them."""
        if self._all or not self._networks:
            return self._all
        address = ip_address(host.partition("%")[0])
        return any(address in network for network in self._networks)


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Listen on an address, together with other ``shared`` sockets of this user.

    Raises ConfigError.
    """
    advice = "Choose another address with --host and --port, or tickiti.host and tickiti.port."
    if not 0 <= port <= 65535:
        # getaddrinfo() would take it modulo 65536 and listen on another port.
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
        listener.listen(WAITING)
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


def urls_of(url: str) -> list[str]:
    """Return the URLs under which a server is reached: of this machine, where it has any address.

    Each was tried, the first one from here alone.
    """
    parts = urlsplit(url)
    host, port = ip_address((parts.hostname or "").partition("%")[0]), parts.port or 0
    if not host.is_unspecified:
        return [url]
    # Connecting a datagram socket sends nothing, but finds our own address on the way there.
    ways = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "192.0.2.1")]
    if host.version == 6:
        ways += [(socket.AF_INET6, "::1"), (socket.AF_INET6, "2001:db8::1")]
    found = dict.fromkeys(each for way in ways if (each := _own_address(*way, port)))
    return [f"{parts.scheme}://{f'[{each}]' if ':' in each else each}:{port}" for each in found]


def is_exposed(url: str) -> bool:
    """Return whether other machines may reach a server at this URL, as of :func:`url_of`."""
    return not ip_address((urlsplit(url).hostname or "").partition("%")[0]).is_loopback


def _own_address(family: int, there: str, port: int) -> str | None:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as way:
            way.connect((there, 9))
            address = str(way.getsockname()[0])
        with socket.create_connection((address, port), timeout=1):
            return address
    except OSError:
        return None


def server_context(certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and newer with a certificate chain and its key, both PEM files.

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
    raise ConfigError("The key for TLS has a password. Remove it: openssl pkey -in KEY -out NEW")
