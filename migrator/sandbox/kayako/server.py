"""Serves a helpdesk over HTTP/1.1 on a real socket, with its faults."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from migrator.sandbox.kayako.messages import (
    LONGEST_VALUE,
    POST_MAX,
    SCRIPT,
    Body,
    Keys,
    Reply,
    Request,
    page,
    parse,
)
from migrator.sandbox.kayako.model import Helpdesk
from migrator.sandbox.kayako.routes import answer, public_file
from migrator.sandbox.listener import Connection, Listener

DRIBBLES: Final = 20
"""Pieces of a slow body, which takes about a second."""
ODD_SIZES: Final = (1, 7, 64, 1000, 3, 4096)
"""Sizes of the pieces of a chunked body, in turn."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for anything but the API, with the names of its headers in lower case."""

    host: str
    target: str
    headers: Mapping[str, str] = field(repr=False)


class SandboxServer:
    """A simulated Kayako server for one helpdesk, running in its own threads.

    ``port`` 0 takes any free one. Use it as a context manager, or :meth:`start` and :meth:`stop`
    it. Raises OSError when the address cannot be bound. ``helpdesk`` may be set to another one at
    any time: then that one answers at the same address, to the same keys.
    """

    def __init__(self, helpdesk: Helpdesk, host: str = "127.0.0.1", port: int = 0) -> None:
        self._helpdesk = helpdesk
        self.keys = Keys.from_seed(helpdesk.options.seed)
        self.address = (host, port)
        self._log: list[tuple[str, str]] = []
        self._visits: list[Visit] = []
        self._http: _Http | None = None
        self._thread: threading.Thread | None = None

    @property
    def helpdesk(self) -> Helpdesk:
        """The helpdesk that answers."""
        return self._helpdesk

    @helpdesk.setter
    def helpdesk(self, helpdesk: Helpdesk) -> None:
        self._helpdesk = helpdesk
        self._locate()

    @property
    def portal(self) -> str:
        """The address of the helpdesk without any path. Raises RuntimeError before start."""
        return self.url.removesuffix(SCRIPT)

    @property
    def visits(self) -> list[Visit]:
        """Every request so far that was not for the API: for the files that texts link to."""
        return list(self._visits)

    @property
    def strayed(self) -> list[Visit]:
        """The visits under the name of the other host, to which nobody should be led."""
        _, _, own = self.portal.partition("//")
        return [visit for visit in self.visits if visit.host != own]

    @property
    def api_key(self) -> str:
        """The API key that the server accepts."""
        return self.keys.api_key

    @property
    def secret_key(self) -> str:
        """The secret key that the server accepts."""
        return self.keys.secret_key

    @property
    def url(self) -> str:
        """The API URL, as Kayako's Admin CP would show it. Raises RuntimeError before start."""
        if self._http is None:
            raise RuntimeError("the sandbox server is not running")
        return f"http://{self.address[0]}:{self._http.server_address[1]}{SCRIPT}"

    @property
    def config(self) -> str:
        """The ``[kayako]`` of a config.toml that fits this server."""
        keys = {"url": self.url, "api_key": self.api_key, "secret_key": self.secret_key}
        return "\n".join(["[kayako]", *(f'{key} = "{value}"' for key, value in keys.items()), ""])

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Verb and API path of every request so far, without credentials."""
        return list(self._log)

    def requests_after(self, number: int) -> list[tuple[str, str]]:
        """Return the requests after the first ``number``."""
        return self._log[number:]

    def start(self) -> Self:
        """Bind and serve until :meth:`stop`."""
        self._http = http = _Http(self.address, self._handle, self.helpdesk.options.latency)
        self._thread = threading.Thread(
            target=http.serve_forever, args=(0.02,), name="sandbox", daemon=True
        )
        self._locate()
        self._thread.start()
        return self

    def _locate(self) -> None:
        """Let the texts of the helpdesk link to this server, and to another name for it."""
        if self._http is not None:
            host, port = self.address[0], self._http.server_address[1]
            other = "127.0.0.1" if host == "localhost" else "localhost"
            self._helpdesk.locate(self.portal, f"http://{other}:{port}")

    def stop(self) -> None:
        """Stop at once, dropping open connections; harmless when not running."""
        if self._http is not None and self._thread is not None:
            self._http.shutdown()
            self._thread.join()
            self._http.drop_connections()
            self._http.server_close()
            self._http = self._thread = None

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        """Stop."""
        self.stop()

    def _handle(self, verb: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        desk, named = self._helpdesk, {name.lower(): value for name, value in headers.items()}
        content_type = named.get("content-type", "")
        if not target.startswith(SCRIPT):
            self._visits.append(Visit(named.get("host", ""), target, named))
        longest = LONGEST_VALUE if "short_queries" in desk.switches else None
        request = parse(verb, target, content_type, body, longest=longest)
        if isinstance(request, Request):
            self._log.append((verb, request.path))  # append is atomic
        if "down" in desk.switches:
            return page(503, "503", "Service Unavailable")
        if isinstance(request, Request):
            return answer(desk, self.keys, request)
        return public_file(desk, target) or request


class _Http(Listener):
    """A listener that knows what answers."""

    def __init__(
        self,
        address: tuple[str, int],
        handle: Callable[[str, str, Mapping[str, str], bytes], Reply],
        latency: float,
    ) -> None:
        self.handle = handle
        self.latency = latency
        super().__init__(address, _Handler)


class _Handler(Connection):
    """Reads requests of one connection and sends what the helpdesk answers."""

    server_version = "Apache"
    server: _Http

    def serve(self) -> None:
        """Read a request and send what the helpdesk answers."""
        body = self._read_body()
        self.server.stopping.wait(self.server.latency)
        self._send(self.server.handle(self.command, self.path, dict(self.headers), body))

    def _read_body(self) -> bytes:
        """Read the body; of one over PHP's limit keep only the beginning."""
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True  # its end cannot be told from the next request
        length = self.headers.get("Content-Length", "0")
        left = int(length) if length.isdigit() else 0
        kept = bytearray()
        while left and (block := self.rfile.read(min(left, 1 << 16))):
            left -= len(block)
            if len(kept) <= POST_MAX:
                kept += block
        return bytes(kept)

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        for name, value in reply.headers:
            self.send_header(name, value)
        getattr(self, f"send_{reply.delivery.name.lower()}")(reply.body)

    def send_plain(self, body: Body) -> None:
        """Send all of it."""
        self._head("Content-Length", str(len(body)))
        for block in body.blocks():
            self.wfile.write(block)

    def send_cut(self, body: Body) -> None:
        """Announce all, send half, close."""
        self._head("Content-Length", str(len(body)))
        self._half(body)

    def send_silent(self, body: Body) -> None:
        """Announce no length, send half, close."""
        self._head("Connection", "close")
        self._half(body)

    def send_chunked(self, body: Body) -> None:
        """Send all of it in chunks of odd sizes."""
        self._head("Transfer-Encoding", "chunked")
        for piece in _pieces(body):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def send_slow(self, body: Body) -> None:
        """Send all of it in a second."""
        self._head("Content-Length", str(len(body)))
        data = b"".join(body.blocks())
        step = len(data) // DRIBBLES + 1
        for at in range(0, len(data), step):
            self.wfile.write(data[at : at + step])
            self.wfile.flush()
            self.server.stopping.wait(1 / DRIBBLES)

    def send_drips(self, body: Body) -> None:
        """Announce all, and send a byte a second for as long as anybody listens."""
        self._head("Content-Length", str(len(body)))
        for byte in b"".join(body.blocks()):
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.server.stopping.wait(1):
                break
        self.close_connection = True

    def _head(self, name: str, value: str) -> None:
        self.send_header(name, value)
        self.end_headers()

    def _half(self, body: Body) -> None:
        self.close_connection = True
        left = len(body) // 2
        for block in body.blocks():
            self.wfile.write(block[:left])
            left -= min(left, len(block))


def _pieces(body: Body) -> Iterator[bytes]:
    """Cut a body into pieces of odd sizes."""
    data, at, turn = b"".join(body.blocks()), 0, 0
    while at < len(data):
        size = ODD_SIZES[turn % len(ODD_SIZES)]
        yield data[at : at + size]
        at, turn = at + size, turn + 1
