"""How much memory a server takes while clients send the worst they can: a table of peaks.

    python -m tests.bench.floods [--only TEXT] DIR

Each flood has a server of its own, ``migrator serve`` with its default limits, and so many
connections from several addresses of this machine. ``DIR`` gets an archive, made once.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import random
import re
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from migrator.archive import (
    Archive,
    Department,
    Listed,
    Outcome,
    PostRow,
    State,
    TicketRow,
    open_archive,
)

API: Final = "/api/v1/tickets/"
SECONDS: Final = 6
LONG: Final = 4 * 1024 * 1024
MANY, LONGEST, EMOJI = 1, 2, 3
"""Tickets: with 25 MB of short posts, with posts of 4 MiB, with such posts of emoji."""


def make(root: Path) -> None:
    """Make the archive: eight files of 25 MB, tickets, and long threads."""
    with open_archive(root, command="bench") as archive:
        run = archive.ledger.begin_run("run", source="https://help.example.com", scope={})
        archive.ledger.put_departments([Department(1, "Support")])
        for number in range(1, 6001):
            archive.ledger.put_ticket(
                TicketRow(number, 1, f"A-{number}", "s" * 200, number, number)
            )
        texts = {
            MANY: ["<p>word and words</p>" * 40] * 12_500,
            LONGEST: ["<p>word &amp; words</p>" * (LONG // 22)] * 4,
            EMOJI: ["<b>\N{GRINNING FACE}</b>" * (LONG // 11)] * 4,
        }
        for ticket, posts in texts.items():
            rows = [
                PostRow(ticket * 20_000 + n, n, text=one, is_html=True)
                for n, one in enumerate(posts)
            ]
            archive.threads.put(run.id, TicketRow(ticket, 1), rows)
        for number in range(1, 9):
            _store(archive, run.id, number)
        archive.ledger.finish_run(run.id, exit_code=0, summary={})


def _store(archive: Archive, run: int, number: int) -> None:
    data = random.Random(number).randbytes(25_000_000)
    listed = Listed(number, 10, 0, f"file{number}.pdf", "", len(data), 0)
    archive.ledger.record_ticket(run, TicketRow(10, 1), [listed])
    with archive.blobs.writer() as writer:
        writer.write(data)
        blob = writer.commit()
    stored = Outcome(
        number, State.STORED, sha256=blob.sha256, size=blob.size, mime_type=blob.mime_type
    )
    archive.ledger.settle(stored)


@dataclass(frozen=True)
class Flood:
    """What each of so many connections sends: ``first``, then ``drop`` again and again."""

    first: bytes
    drop: bytes = b""
    connections: int = 250
    reads: bool = False
    secure: bool = False


def floods(token: str, cookie: str) -> dict[str, Flood]:
    """Return all floods by their names."""

    def post(path: str, body: object, *headers: str) -> bytes:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {token}",
            "Content-Type: application/json",
            f"Content-Length: {len(raw)}",
            *headers,
        ]
        return "\r\n".join([*lines, "", ""]).encode() + raw

    def get(path: str, *headers: str) -> bytes:
        return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()

    def chunks(size: int) -> bytes:
        head = post(API + "query", b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        return head + (b"%x\r\n%s\r\n" % (size, b" " * size)) * (60_000 // size)

    me = f"Cookie: migrator_session={cookie}"
    file = post(API + "attachment", {"ticket_number": 10, "response_attachment_id": 1})
    spans = "Range: bytes=" + ",".join(f"{n}-{n}" for n in range(2400))
    form = "&".join(f"a{n}=b" for n in range(2000)).encode()
    typed = "Content-Type: application/x-www-form-urlencoded"
    bomb = gzip.compress(b" " * 60_000_000)
    search = {"criteria": [{"mode": "subject", "tokens": [f"{n}" * 400 for n in range(50)]}]}
    return {
        "idle": Flood(b"", connections=0),
        "downloads of 25 MB, not read": Flood(file),
        "downloads of 25 MB, read": Flood(file, connections=64, reads=True),
        "downloads of 25 MB over TLS, not read": Flood(file, secure=True),
        "25 MB of JSON, 64 who do not read": Flood(
            post(API + "show", {"ticket_id": MANY}), connections=64
        ),
        "25 MB of JSON, 250 who do not read": Flood(post(API + "show", {"ticket_id": MANY})),
        "posts of 4 MiB, not read": Flood(post(API + "show", {"ticket_id": LONGEST})),
        "posts of 4 MiB, read": Flood(
            post(API + "show", {"ticket_id": LONGEST}), connections=16, reads=True
        ),
        "posts of 4 MiB of emoji": Flood(
            post(API + "responses", {"ticket_id": EMOJI}), connections=16, reads=True
        ),
        "page of a long thread": Flood(get(f"/tickets/{LONGEST}", me), connections=64, reads=True),
        "5,000 tickets, not read": Flood(post(API + "query", {"row_limit": 5000})),
        "1,000 responses, not read": Flood(post(API + "responses/query", {"limit": 1000})),
        "search of 50 long tokens": Flood(post(API + "query", {"search_object": search})),
        "search of a long text": Flood(get("/?q=" + "%C3%BC" * 2000, me)),
        "many small ranges": Flood(get("/attachments/1/download", me, spans)),
        "one byte of a page's file": Flood(
            get("/attachments/1/download", me, "Range: bytes=0-0"), connections=64
        ),
        "endless headers": Flood(b"GET / HTTP/1.1\r\n", b"X-Header: yyyyyyyyyyyy\r\n"),
        "heads of 15 KB": Flood(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2500),
        "cookies": Flood(get("/", "Cookie: " + "; ".join(f"a{n}=b" for n in range(2000)))),
        "query string": Flood(get("/?" + "&".join(f"a{n}=b" for n in range(2000)), me)),
        "nested JSON": Flood(post(API + "query", b'{"a":' + b"[" * 60_000)),
        "wide JSON": Flood(post(API + "query", b'{"a":[' + b"[]," * 20_000 + b"[]]}")),
        "long numbers": Flood(post(API + "query", b'{"a":' + b"9" * 60_000 + b"}")),
        "many numbers": Flood(post(API + "query", b'{"a":[' + b"1e9," * 14_000 + b"1]}")),
        "unpacked body": Flood(post(API + "query", bomb[:60_000], "Content-Encoding: gzip")),
        "body that never ends": Flood(
            post(API + "query", b"").replace(b"Length: 0", b"Length: 65536"), b" " * 500
        ),
        "body too long": Flood(
            post(API + "query", b"").replace(b"Length: 0", b"Length: 900000000"), b" " * 65_536
        ),
        "chunks of one byte": Flood(chunks(1)),
        "chunks without end": Flood(chunks(1000), b"1\r\n \r\n"),
        "endless trailers": Flood(chunks(1000) + b"0\r\n", b"X-Trailer: yyyyyyyyyyyy\r\n"),
        "form of many fields": Flood(
            post("/sign-in", form).replace(b"Content-Type: application/json", typed.encode())
        ),
        "form in parts": Flood(
            post("/sign-in", b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n" * 300).replace(
                b"application/json", b"multipart/form-data; boundary=x"
            )
        ),
        "pipelined requests, not read": Flood(b"", get("/openapi.json") * 20),
        "pipelined downloads, not read": Flood(file * 8),
        "wrong tokens": Flood(
            b"", post(API + "query", {}).replace(token.encode(), b"1|wrong"), reads=True
        ),
        "silent": Flood(b"", connections=2000),
        "handshakes": Flood(b"", connections=2000, secure=True),
        "offers of HTTP/2": Flood(
            get("/healthz", "Connection: Upgrade", "Upgrade: h2c"), connections=250, reads=True
        ),
    }


@contextlib.contextmanager
def server(config: Path, *more: str) -> Iterator[tuple[str, int]]:
    """Run ``migrator serve``; yield its address and its process id."""
    command = [sys.executable, "-m", "migrator", "-c", str(config), "serve", "--port", "0", *more]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = None
            while found is None:
                found = re.search(r" at (https?://[^ ]+:\d+)", process.stderr.readline())
            yield found[1], process.pid
        finally:
            process.terminate()


def peak(pid: int) -> float:
    """Return the most memory that a process has had resident, in MB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def certificate(folder: Path) -> Path:
    """Return a certificate with its key."""
    file = folder / "tls.pem"
    if not file.exists():
        key = folder / "key.pem"
        ask = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"]
        ask += ["-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run([*ask, "-keyout", key, "-out", file], check=True, capture_output=True)
        file.write_text(file.read_text() + key.read_text())
    return file


def run(flood: Flood, url: str) -> str:
    """Flood for some seconds; return what a client hears then."""
    address = httpx.URL(url)
    clients: list[socket.socket] = []
    for number in range(flood.connections):
        source = f"127.0.0.{2 + number % 3}"
        raw = socket.create_connection(
            (address.host, address.port or 80), timeout=20, source_address=(source, 0)
        )
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if flood.secure and flood.first:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            raw = context.wrap_socket(raw)
        with contextlib.suppress(OSError):
            raw.sendall(flood.first)
        raw.setblocking(False)
        clients.append(raw)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        for client in clients if flood.drop or flood.reads else ():
            with contextlib.suppress(OSError, ssl.SSLError):
                if flood.drop:
                    client.send(flood.drop)
            with contextlib.suppress(OSError, ssl.SSLError):
                if flood.reads:
                    client.recv(1 << 18)
        time.sleep(0.001)
    begun = time.monotonic()
    answer = httpx.get(f"{url}/healthz", verify=False, timeout=30)
    for client in clients:
        client.close()
    return f"{answer.status_code} after {time.monotonic() - begun:.2f} s"


def main() -> None:
    """Read the command line, and print a line for each flood."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.floods", description=__doc__)
    parser.add_argument("root", type=Path, metavar="DIR")
    parser.add_argument("--only", default="", metavar="TEXT", help="floods whose names hold this")
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    root: Path = given.root
    root.mkdir(exist_ok=True)
    if not (root / "archive").exists():
        make(root / "archive")
    config = root / "config.toml"
    config.write_text(f'[archive]\npath = "{root / "archive"}"\n')
    with open_archive(root / "archive", command="bench") as archive:
        _, token = archive.access.create_token(
            "bench", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )
    for name in floods("", ""):
        if given.only not in name:
            continue
        secure = floods("", "")[name].secure
        more = ["--tls-cert", str(certificate(root))] if secure else []
        with server(config, *more) as (url, pid):
            cookie = "" if secure else sign_in(url, token)
            heard = run(floods(token, cookie)[name], url)
            print(f"{name:40}{peak(pid):8.0f} MB   {heard}", flush=True)
            assert os.path.exists(f"/proc/{pid}")  # noqa: PTH110


def sign_in(url: str, token: str) -> str:
    """Sign in at the pages; return the session's cookie."""
    with httpx.Client(base_url=url) as client:
        form = client.get("/sign-in").text
        seal = form.partition('name="form" value="')[2].partition('"')[0]
        client.post("/sign-in", data={"form": seal, "token": token, "next": "/"})
        return client.cookies.get("migrator_session") or ""


if __name__ == "__main__":
    main()
