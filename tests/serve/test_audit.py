"""The audit log of downloads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from migrator.archive import Archive, open_archive
from migrator.archive.records import Listed, Outcome, State, TicketRow
from migrator.errors import ConfigError
from migrator.serve.audit_log import DOWNLOAD, Audited, AuditLog, tell
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from migrator.serve.tickiti import build_app

NAME = 'a"\n\u202e{"x": 1}.pdf'


def store(archive: Archive, data: bytes) -> None:
    """Store attachment 7 of ticket 1."""
    with archive.blobs.writer() as writer:
        writer.write(data)
        blob = writer.commit()
    with archive.ledger.atomic():
        run = archive.ledger.begin_run("run", source="test", scope={})
        listed = Listed(7, 1, 42, NAME, "", len(data), 0)
        archive.ledger.record_ticket(run.id, TicketRow(1, 3), [listed])
        archive.ledger.settle(
            Outcome(7, State.STORED, sha256=blob.sha256, size=blob.size, mime_type=blob.mime_type)
        )


@contextlib.contextmanager
def served(tmp_path: Path, data: bytes = b"abc") -> Iterator[tuple[httpx.Client, str]]:
    """Serve an archive with one attachment and an audit log; yield a client and a token."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        store(archive, data)
        _, token = archive.access.create_token(
            "n\nm", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )
        app = Audited(build_app(archive, EndpointSettings()), AuditLog(tmp_path / "audit"))
        with (
            BackgroundServer(app) as server,
            httpx.Client(base_url=server.url, timeout=20) as client,
        ):
            yield client, token


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "audit").read_bytes().splitlines()]


ASK = {"ticket_number": "1", "response_attachment_id": "7"}


def test_line_says_who_what_when_and_the_answer(tmp_path: Path) -> None:
    """Token, ticket, attachment, time, address, status and bytes: all of it, no secret."""
    with served(tmp_path) as (client, token):
        answer = client.post(DOWNLOAD, json=ASK, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
    (line,) = lines(tmp_path)
    at = datetime.fromisoformat(line.pop("at"))
    assert at.tzinfo is not None
    assert line == {
        "address": "127.0.0.1",
        "method": "POST",
        "path": DOWNLOAD,
        "token": 1,
        "token_name": "n\nm",
        "ticket": 1,
        "attachment": 7,
        "filename": NAME,
        "size": 3,
        "status": 200,
        "code": None,
        "sent": len(answer.content),
        "whole": True,
    }
    text = (tmp_path / "audit").read_bytes()
    assert token.partition("|")[2].encode() not in text
    assert text.isascii()
    assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o600


def test_refusals_are_told_with_their_code(tmp_path: Path) -> None:
    """A line for each refused download, as far as it got; none for other requests."""
    with served(tmp_path) as (client, token):
        good = {"Authorization": f"Bearer {token}"}
        client.post(DOWNLOAD, json=ASK, headers={"Authorization": "Bearer 1|wrong-secret"})
        client.post(DOWNLOAD, json={}, headers=good)
        client.post(DOWNLOAD, json={**ASK, "ticket_number": "2"}, headers=good)
        client.post(DOWNLOAD, json={**ASK, "response_attachment_id": 8}, headers=good)
        client.post("/api/v1/tickets/show", json={"ticket_number": "1"}, headers=good)
        client.get("/healthz")
    facts = [
        tuple(line[key] for key in ("status", "code", "token", "ticket", "attachment"))
        for line in lines(tmp_path)
    ]
    assert facts == [
        (401, "unauthenticated", None, None, None),
        (422, "validation_failed", 1, None, None),
        (404, "not_found", 1, None, 7),
        (404, "not_found", 1, 1, 8),
    ]
    assert b"wrong-secret" not in (tmp_path / "audit").read_bytes()


def test_download_that_is_cut_is_told_so(tmp_path: Path) -> None:
    """A client that goes away in the middle has not got the file."""
    size = 24 << 20
    with served(tmp_path, bytes(size)) as (client, token):
        good = {"Authorization": f"Bearer {token}"}
        with client.stream("POST", DOWNLOAD, json=ASK, headers=good) as answer:
            next(answer.iter_raw())
    (line,) = lines(tmp_path)
    assert (line["status"], line["whole"], line["size"]) == (200, False, size)
    assert 0 < line["sent"] < size


def test_log_may_be_moved_away_and_may_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A rotated file begins anew; a line that cannot be written is logged, nothing more."""
    log = AuditLog(tmp_path / "audit", clock=lambda: 0)
    log.write({"n": 1})
    (tmp_path / "audit").rename(tmp_path / "audit.1")
    log.write({"n": 2})
    assert lines(tmp_path) == [{"at": "1970-01-01T00:00:00.000+00:00", "n": 2}]
    (tmp_path / "audit").unlink()
    (tmp_path / "audit").mkdir()
    log.write({"n": 3})
    assert "missing in the audit log: Is a directory" in caplog.text


def test_log_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    """Who wants an audit log does not find out later that there is none."""
    with pytest.raises(ConfigError, match=r"audit log .*No such file") as caught:
        AuditLog(tmp_path / "absent" / "audit")
    assert caught.value.exit_code == 2


def test_line_is_written_when_the_answer_is_broken_off(tmp_path: Path) -> None:
    """A request that is cancelled by the stop of the server leaves its line."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        tell(attachment=7)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise asyncio.CancelledError

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        pass

    async def run() -> None:
        audited = Audited(app, AuditLog(tmp_path / "audit"))
        with contextlib.suppress(asyncio.CancelledError):
            await audited({"path": "/x", "method": "GET"}, receive, send)

    asyncio.run(run())
    (line,) = lines(tmp_path)
    assert (line["attachment"], line["status"], line["whole"]) == (7, 200, False)
    tell(attachment=8)  # outside of a request nobody listens


def test_servers_share_a_log(tmp_path: Path) -> None:
    """A line is one write at the end of the file, so that lines never mix."""
    one, two = AuditLog(tmp_path / "audit"), AuditLog(tmp_path / "audit")
    for n in range(10):
        (one, two)[n % 2].write({"n": n})
    assert [line["n"] for line in lines(tmp_path)] == list(range(10))
