"""``migrator serve`` behind a real nginx, with the block of the manual."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from migrator.archive import open_archive
from migrator.archive.records import PostRow
from tests.test_manual import BLOCK, PACKAGE, ROOT
from tests.web.desks import NOON, Desk, Visitor, hidden

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]

LARGE = os.urandom(25 * 1024 * 1024)
SMALL = b"\x89PNG\r\n\x1a\n small"
AROUND = """
{user}
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    gzip on;                                       # as Debian and others have it
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {block}
}}
"""


@dataclass
class Front:
    """What stands before the archive: its address, and how to reach it as a client."""

    url: str
    token: str
    large: int
    small: int
    audit: Path
    stop: Callable[[], None]
    verify: ssl.SSLContext

    def client(self, address: str = "127.0.0.1") -> Visitor:
        """Return a client that comes from an address of its own."""
        transport = httpx.HTTPTransport(verify=self.verify, local_address=address)
        return Visitor(base_url=self.url, transport=transport, timeout=60)

    def call(self, path: str, body: object, address: str = "127.0.0.1") -> httpx.Response:
        """Call the API."""
        with self.client(address) as client:
            bearer = {"authorization": f"Bearer {self.token}", "accept": "*/*"}
            return client.post(f"/api/v1/{path}", json=body, headers=bearer)

    def file(self, attachment: int, **more: object) -> httpx.Response:
        """Ask the API for a file."""
        body = {"ticket_number": "1", "response_attachment_id": attachment, "intent": "review_ok"}
        return self.call("tickets/attachment", {**body, **more})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Start the server and nginx, as the manual says."""
    folder = tmp_path_factory.mktemp("front")
    with open_archive(folder / "archive", command="test") as archive:
        desk = Desk(archive, "")
        desk.ticket(1, PostRow(11, NOON, text="Grüße " * 3000), subject="Plate")
        large, small = desk.attach("large.zip", LARGE), desk.attach("small.png", SMALL)
        token = desk.token()
    (folder / "config.toml").write_text('[archive]\npath = "archive"\n')
    subprocess.run(
        shlex.split("openssl req -x509 -nodes -subj / -addext subjectAltName=IP:127.0.0.1"
                    " -keyout privkey.pem -out fullchain.pem"),
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    page = (PACKAGE / "docs" / "security.md").read_text("utf-8")
    (block,) = [text for kind, text in BLOCK.findall(page) if kind == "nginx"]
    (command,) = re.findall(r"^migrator (serve --forwarded-allow-ips .*)$", page, re.MULTILINE)
    argv = [*command.split(), "--port", "0", "--audit-log", "audit.jsonl", "--metrics"]
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "migrator", *argv], cwd=folder, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert server.stderr is not None
    behind = re.search(r":(\d+)\b", server.stderr.readline())
    assert behind is not None
    port = free_port()
    for pattern, other in {
        r"127\.0\.0\.1:8480": f"127.0.0.1:{behind[1]}",
        r"\[::\]:443": f"[::1]:{port}",
        r"listen 443": f"listen 127.0.0.1:{port}",
        r"/etc/ssl/archive": str(folder),
    }.items():
        block, count = re.subn(pattern, other, block)
        assert count, pattern
    (folder / "nginx.conf").write_text(
        AROUND.format(user="user root;" if os.geteuid() == 0 else "", folder=folder, block=block)
    )
    nginx = subprocess.Popen(
        [str(NGINX), "-p", str(folder), "-c", "nginx.conf", "-g", "daemon off;"],
        stderr=subprocess.PIPE,
    )
    try:
        while not listens(port):
            assert nginx.poll() is None, nginx.communicate()
            time.sleep(0.01)
        yield Front(
            f"https://127.0.0.1:{port}", token, large, small, folder / "audit.jsonl",
            lambda: server.send_signal(signal.SIGTERM),
            ssl.create_default_context(cafile=str(folder / "fullchain.pem")),
        )  # fmt: skip
    finally:
        nginx.terminate()
        nginx.communicate()
        server.terminate()
        server.communicate()


@pytest.fixture
def visitor(front: Front) -> Iterator[Visitor]:
    """Somebody who has signed in."""
    with front.client() as visitor:
        assert visitor.sign_in(front.token).status_code == 303
        yield visitor


def test_a_client_of_the_api_reads_every_file(front: Front) -> None:
    """Small ones, the largest whole one, and a range near its end, byte for byte."""
    assert base64.b64decode(front.file(front.small).json()["data"]["content_base64"]) == SMALL
    whole = front.file(front.large).json()["data"]
    assert base64.b64decode(whole["content_base64"]) == LARGE
    assert whole["sha256"] == hashlib.sha256(LARGE).hexdigest()
    part = front.file(front.large, offset=len(LARGE) - 5, length=100).json()["data"]
    assert (base64.b64decode(part["content_base64"]), part["eof"]) == (LARGE[-5:], True)


def test_errors_of_the_api_arrive_as_they_are(front: Front) -> None:
    """With their JSON, also where the address or the method is wrong."""
    assert front.file(999).json()["error"] == "not_found"
    with front.client() as client:
        plain = {"accept": "*/*"}
        assert client.get("/api/v1/tickets/show", headers=plain).json()["ok"] is False
        assert client.post("/api/v1/nowhere", json={}, headers=plain).json()["ok"] is False


def test_a_browser_signs_in_and_stays(visitor: Visitor) -> None:
    """Sessions know that they came by TLS, though the server did not see it."""
    (name,) = [one.name for one in visitor.cookies.jar if "session" in one.name]
    assert name.startswith("__Host-")
    assert visitor.get("/tickets/1").status_code == 200
    assert visitor.sign_out().headers["location"] == "/sign-in"


def test_a_browser_downloads_in_ranges(visitor: Visitor, front: Front) -> None:
    """Whole, from the middle on after a break, and not again what it has."""
    path = f"/attachments/{front.large}/download"
    shown = visitor.get(f"/attachments/{front.large}")
    whole = visitor.get(path) if "<form" not in shown.text else visitor.post(
        f"/attachments/{front.large}", data=hidden(shown.text)
    )  # fmt: skip
    whole = visitor.get(str(whole.headers.get("location", path)))
    assert (whole.status_code, whole.content == LARGE) == (200, True)
    assert whole.headers["content-length"] == str(len(LARGE))
    head = visitor.head(path)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(LARGE)))
    rest = visitor.get(path, headers={"range": "bytes=1000-", "if-range": whole.headers["etag"]})
    assert (rest.status_code, rest.content == LARGE[1000:]) == (206, True)
    assert rest.headers["content-range"] == f"bytes 1000-{len(LARGE) - 1}/{len(LARGE)}"


def test_a_ticket_comes_as_one_zip(visitor: Visitor) -> None:
    """It is streamed, without its length."""
    answer = visitor.get("/tickets/1/download")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as made:
        assert made.testzip() is None
        assert made.read("large.zip") == LARGE


def test_the_audit_log_has_the_address_of_the_client(front: Front) -> None:
    """And not the one of nginx, nor what the client claims."""
    forged = {"x-forwarded-for": "203.0.113.9", "authorization": f"Bearer {front.token}"}
    body = {"ticket_number": "1", "response_attachment_id": front.small}
    with front.client("127.0.0.7") as client:
        client.post("/api/v1/tickets/attachment", json=body, headers=forged)
    until = time.monotonic() + 30  # the line is written after the answer
    while '"127.0.0.7"' not in front.audit.read_text():
        assert time.monotonic() < until
    assert "203.0.113.9" not in front.audit.read_text()


def test_wrong_tokens_are_counted_by_client(front: Front) -> None:
    """Who guesses is refused, and nobody else."""
    with front.client("127.0.0.8") as client:
        wrong = {"authorization": "Bearer 1|wrong"}
        found = [
            client.post("/api/v1/token", json={}, headers=wrong).status_code for _ in range(21)
        ]
    assert found == [401] * 20 + [429]
    assert front.call("token", {}, "127.0.0.9").status_code == 200


def test_metrics_are_not_for_everybody(front: Front) -> None:
    """The server has them, nginx keeps them."""
    with front.client() as client:
        assert client.get("/metrics").status_code == 404
        assert client.get("/healthz").status_code == 200


def test_headers_that_are_too_large_are_refused(front: Front) -> None:
    """By whichever comes first; a large one that is allowed arrives."""
    with front.client() as client:
        bearer = {"authorization": f"Bearer {front.token}"}
        for sizes, status in {(7000,): 200, (9000,): 400, (7000, 7000, 7000): 400}.items():
            more = {f"x-{number}": "x" * size for number, size in enumerate(sizes)}
            answer = client.post("/api/v1/token", json={}, headers={**bearer, **more})
            assert answer.status_code == status, sizes


def test_pages_are_packed_and_files_are_not(visitor: Visitor, front: Front) -> None:
    """What nginx packs by default are pages; a file is what it was, with its length."""
    page = visitor.get("/tickets/1", headers={"accept-encoding": "gzip"})
    assert page.headers.get("content-encoding") == "gzip"
    assert "Grüße" in page.text
    small = visitor.get(f"/attachments/{front.small}/download")
    assert (small.content, small.headers.get("content-encoding")) == (SMALL, None)


@contextlib.contextmanager
def slow_clients(front: Front, count: int, address: str) -> Iterator[list[ssl.SSLSocket]]:
    """Ask for a large file many times from one address, and leave it to the caller to read."""
    body = {"ticket_number": "1", "response_attachment_id": front.large, "intent": "review_ok"}
    text = json.dumps(body)
    head = f"POST /api/v1/tickets/attachment HTTP/1.1\r\nhost: a\r\ncontent-length: {len(text)}\r\n"
    more = f"authorization: Bearer {front.token}\r\ncontent-type: application/json\r\n\r\n{text}"
    there = httpx.URL(front.url)
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            plain = socket.create_connection(
                (there.host, there.port or 0), timeout=30, source_address=(address, 0)
            )
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one = front.verify.wrap_socket(plain, server_hostname=there.host)
            found.append(stack.enter_context(one))
            one.sendall((head + more).encode())
        yield found


def test_slow_clients_hold_up_nobody(front: Front) -> None:
    """While many read a large file a byte at a time, others get theirs."""
    with slow_clients(front, 60, "127.0.0.5") as slow:
        assert all(one.recv(1) == b"H" for one in slow)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: front.file(front.small).status_code, range(40)))
        assert found == [200] * 40
        assert all(one.recv(1) == b"T" for one in slow)


def test_one_client_cannot_take_all_places(front: Front) -> None:
    """Nginx gives an address so many; the server would give its proxy all that it has."""
    with slow_clients(front, 300, "127.0.0.6") as slow:
        told = [one.recv(12)[-3:] for one in slow]
        assert front.file(front.small).status_code == 200
    assert told.count(b"200") + told.count(b"503") == 300
    assert told.count(b"200") == 100


def test_a_server_that_is_away_is_a_bad_gateway(front: Front) -> None:
    """Clients try again: it is nginx that answers then."""
    front.stop()
    until = time.monotonic() + 30
    while (status := front.file(front.small).status_code) != 502 and time.monotonic() < until:
        time.sleep(0.1)
    assert status == 502
