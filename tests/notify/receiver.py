"""A real HTTP server that receives messages, and answers as badly as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@dataclass
class Receiver:
    """What came; ``answers`` are used up one by one, then all is 200."""

    url: str = ""
    got: list[Request] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def paths(self) -> list[str]:
        return [one.path.partition("?")[0] for one in self.got]

    def of(self, path: str) -> list[Request]:
        return [one for one in self.got if one.path.partition("?")[0] == path]

    def events(self) -> list[str]:
        return [one.json["type"] for one in self.of("/hook")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.receiver.got.append(Request(self.path, headers, body))
        answer = self.receiver.answers.pop(0) if self.receiver.answers else "200"
        if answer == "hang":
            self.receiver.released.wait(30)
            self.close_connection = True
        elif answer == "close":
            self.close_connection = True
        elif answer == "drip":
            self._drip()
        else:
            self._answer(*answer.split(" ", 1))

    def _answer(self, status: str, rest: str = "") -> None:
        body = rest.encode() if status == "200" else b"no"
        self.send_response(int(status))
        if rest and status != "200":
            name, _, value = rest.partition(": ")
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self) -> None:
        self.close_connection = True
        try:
            while not self.receiver.released.wait(0.05):
                self.wfile.write(b"H")
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        return


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    handler = type("Handler", (_Handler,), {"receiver": receiver})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def wait_until(done: Any, seconds: float = 5.0) -> bool:
    """Wait for something that happens beside."""
    ends = time.monotonic() + seconds
    while not done():
        if time.monotonic() > ends:
            return False
        time.sleep(0.01)
    return True
