"""The listening socket of a look-alike, with a thread for each connection."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any


class Listener(socketserver.ThreadingTCPServer):
    """Tracks its open connections, so that stopping does not wait for them.

    Not http.server's own class: that one asks the name server for its name when it binds.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[Connection]) -> None:
        self.stopping = threading.Event()
        self._open: dict[socket.socket, threading.Thread] = {}
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection in a tracked thread."""
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        self._open[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and forget it."""
        super().shutdown_request(request)
        self._open.pop(request, None)

    def drop_connections(self) -> None:
        """Wake every thread that still waits on its connection, and join it."""
        self.stopping.set()
        for connection, thread in self._open.copy().items():
            with contextlib.suppress(OSError):  # it may have ended by itself meanwhile
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Ignore errors of clients that go away, and no others."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            raise error


class Connection(BaseHTTPRequestHandler):
    """What the handlers of all look-alikes have in common."""

    protocol_version = "HTTP/1.1"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = 1 << 16  # head and small bodies leave in one packet

    def serve(self) -> None:
        """Read a request and answer it."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Serve one request of any of these verbs."""
        self.serve()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - named by http.server

    def handle_expect_100(self) -> bool:
        """Tell a client that waits for it, as cURL and .NET do, to send its body."""
        accepted = super().handle_expect_100()
        self.wfile.flush()
        return accepted

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
        """Log nothing: the head may show credentials."""

    def finish(self) -> None:
        """Close the connection, even when the client is gone and the rest cannot be sent."""
        with contextlib.suppress(OSError):
            self.wfile.close()
        self.rfile.close()
