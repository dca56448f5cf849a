"""The real server process: beside a run, twice on one copy, and with slow clients."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from migrator.archive import (
    Listed,
    Outcome,
    ResponseFilter,
    State,
    TicketRow,
    open_archive,
    open_beside,
)
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer

pytestmark = pytest.mark.slow

DOWNLOAD = "/api/v1/tickets/attachment"
CLIENTS = 64
SIZE = 25 * 1024 * 1024


@contextlib.contextmanager
def process(home: Path, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command until the end of the block."""
    running = subprocess.Popen(
        [sys.executable, "-m", "migrator", *argv],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


@contextlib.contextmanager
def serving(home: Path, *argv: str) -> Iterator[tuple[str, int, list[str]]]:
    """Serve on any port; yield the URL, the process id, and what it said, when it has ended."""
    said: list[str] = []
    with process(home, "serve", "--port", "0", *argv) as server:
        assert server.stdout is not None
        found = None
        while found is None:
            line = server.stdout.readline()
            assert line, said
            said.append(line)
            found = re.search(r"at (http://\S+) until", line)
        yield found[1], server.pid, said
        server.terminate()
        said += server.communicate(timeout=60)[0].splitlines()
        assert server.returncode == 0, said


def new_token(home: Path) -> dict[str, str]:
    """Create a token and return the header that shows it."""
    with open_beside(home / "archive") as archive:
        _, token = archive.access.create_token(
            "test", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )
    return {"Authorization": f"Bearer {token}"}


def stored(home: Path, *contents: bytes) -> None:
    """Make an archive with attachments 1, 2, … of ticket 1."""
    (home / "config.toml").touch(0o600)
    with open_archive(home / "archive", command="test") as archive, archive.ledger.atomic():
        run = archive.ledger.begin_run("run", source="test", scope={})
        for number, data in enumerate(contents, 1):
            with archive.blobs.writer() as writer:
                writer.write(data)
                blob = writer.commit()
            listed = Listed(number, 1, 42, f"{number}.zip", "", len(data), 0)
            archive.ledger.record_ticket(run.id, TicketRow(1, 3), [listed])
            facts = {"sha256": blob.sha256, "size": blob.size, "mime_type": blob.mime_type}
            archive.ledger.settle(Outcome(number, State.STORED, **facts))  # type: ignore[arg-type]


def test_run_fills_what_is_being_served(tmp_path: Path) -> None:
    """New files appear while the run is at work, and nobody hears of a locked database."""
    helpdesk = Helpdesk.build(
        SandboxOptions(seed=5, tickets=40, latency=0.05, links=0, articles=0, steps=0)
    )
    open_archive(tmp_path / "archive", command="test").close()
    with SandboxServer(helpdesk) as source:
        configure(tmp_path, source)
        headers = new_token(tmp_path)
        got: dict[int, str] = {}
        early = 0
        with (
            serving(tmp_path, "--audit-log", "audit") as (url, _, said),
            process(tmp_path, "run") as run,
            httpx.Client(base_url=url, headers=headers, timeout=30) as client,
            open_beside(tmp_path / "archive") as archive,
        ):
            working = True
            while working:
                working = run.poll() is None
                for row in archive.queries.rows(states=[State.STORED]):
                    if row.id in got or row.kind != "post":
                        continue
                    ask = {"ticket_number": row.ticket_number, "response_attachment_id": row.id}
                    answer = client.post(DOWNLOAD, json={**ask, "intent": "review_ok"})
                    if answer.status_code == 403:
                        assert answer.json()["error"] == "attachment_blocked"
                        got[row.id] = ""
                        continue
                    assert answer.status_code == 200, answer.text
                    data = base64.b64decode(answer.json()["data"]["content_base64"])
                    got[row.id] = hashlib.sha256(data).hexdigest()
                    early += run.poll() is None
            assert run.returncode == 0
    truth = {n: one.sha256 for n, one in helpdesk.truth.items() if one.state == "stored"}
    assert {n: got[n] or truth[n] for n in truth} == truth
    assert set(got) == set(truth)
    assert early > 0
    assert "lock" not in "".join(said)
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert len(lines) == len(truth)


def test_exporter_beside_a_run_meets_each_response_once(tmp_path: Path) -> None:
    """Whatever the run adds meanwhile: what was there when an export began comes exactly once."""
    helpdesk = Helpdesk.build(SandboxOptions(seed=6, tickets=40, latency=0.02, articles=0, steps=0))
    open_archive(tmp_path / "archive", command="test").close()
    with SandboxServer(helpdesk) as source:
        configure(tmp_path, source)
        headers = new_token(tmp_path)
        partial = 0
        with (
            serving(tmp_path) as (url, _, _),
            process(tmp_path, "run") as run,
            httpx.Client(base_url=url, headers=headers, timeout=30) as client,
            open_beside(tmp_path / "archive") as archive,
        ):
            working = True
            while working:
                working = run.poll() is None
                everything = archive.threads.query(ResponseFilter(unread=False), limit=100_000)
                exported = export(client)
                assert len(exported) == len(set(exported))
                assert {str(each.id) for each in everything} <= set(exported)
                partial += 0 < len(everything) < len(exported)
            assert run.returncode == 0
    assert partial > 0, "the run added nothing while an export was going on"
    assert len(exported) > 50


def export(client: httpx.Client) -> list[str]:
    """Page through all responses, as an exporter does; return their ids."""
    found: list[str] = []
    body: dict[str, object] = {"limit": 5, "fields": ["plain_text"]}
    while True:
        data = client.post("/api/v1/tickets/responses/query", json=body).json()["data"]
        found += [row["response_id"] for row in data["responses"]]
        if data["next_cursor"] is None:
            return found
        body["cursor"] = data["next_cursor"]


def configure(home: Path, source: SandboxServer) -> None:
    """Write the configuration for a pretended Kayako."""
    (home / "config.toml").write_text(
        f'[kayako]\nurl = "{source.url}"\napi_key = "{source.api_key}"\n'
        f'secret_key = "{source.secret_key}"\nconcurrency = 4\n'
    )
    (home / "config.toml").chmod(0o600)


def test_read_only_servers_stand_side_by_side(tmp_path: Path) -> None:
    """Two servers answer from one archive of which not a byte changes."""
    stored(tmp_path, b"abc")
    headers = new_token(tmp_path)

    def look() -> dict[Path, tuple[int, bytes]]:
        files = (path for path in (tmp_path / "archive").rglob("*") if path.is_file())
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = look()
    ask = {"ticket_number": "1", "response_attachment_id": "1"}
    with (
        serving(tmp_path, "--read-only") as (one, _, _),
        serving(tmp_path, "--read-only") as (two, _, _),
    ):
        for url in (one, two, one):
            answer = httpx.post(url + DOWNLOAD, json=ask, headers=headers, timeout=30)
            assert base64.b64decode(answer.json()["data"]["content_base64"]) == b"abc"
        assert httpx.get(f"{one}/readyz", timeout=30).status_code == 200
        assert look() == before
        with process(tmp_path, "token", "revoke", "1") as revoking:
            assert revoking.wait(60) == 0
        for url in (one, two):
            assert httpx.post(url + DOWNLOAD, json=ask, headers=headers).status_code == 401


def resident(pid: int) -> int:
    """Return the most memory that a process has had resident, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_slow_clients_cost_little_and_hold_nobody_up(tmp_path: Path) -> None:
    """64 clients that read 25 MiB slowly leave the server under 120 MB, and it answers others."""
    stored(tmp_path, b"small", bytes(SIZE))
    headers = new_token(tmp_path)
    ask = {"ticket_number": "1", "response_attachment_id": "2"}
    body = json.dumps(ask).encode()
    head = (
        f"POST {DOWNLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: {headers['Authorization']}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with serving(tmp_path) as (url, pid, _), contextlib.ExitStack() as stack:
        address = (httpx.URL(url).host, httpx.URL(url).port or 80)
        clients = [stack.enter_context(socket.socket()) for _ in range(CLIENTS)]
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            client.settimeout(30)
            client.connect(address)
            client.sendall(head + body)
        got = 0
        for _ in range(20):
            got += sum(len(client.recv(32 * 1024)) for client in clients)
            time.sleep(0.02)
            assert httpx.get(f"{url}/healthz", timeout=10).status_code == 200
            small = {**ask, "response_attachment_id": "1"}
            answer = httpx.post(url + DOWNLOAD, json=small, headers=headers, timeout=10)
            assert answer.json()["data"]["file_size"] == 5
        assert got > CLIENTS * 64 * 1024
        used = resident(pid)
        for client in clients:
            client.close()
    assert used < 120_000_000
