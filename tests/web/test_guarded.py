"""What keeps the pages safe to expose: the audit log, and the bound on failed sign-ins."""

from __future__ import annotations

import os
from pathlib import Path

from migrator.archive import open_archive, open_beside
from migrator.serve import join_faces, load_faces
from migrator.serve.audit_log import DOWNLOAD, Audited, AuditLog
from migrator.serve.bounds import FAILURES
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from migrator.serve.web import build_pages
from tests.blobs.layout import path_of
from tests.web.desks import Desk, Visitor, audit_of, audited


def test_downloads_by_browser_are_in_the_audit_log(tmp_path: Path) -> None:
    """Who, which file, which answer: also for views and refusals; other pages leave no line."""
    with audited(tmp_path) as (desk, visitor):
        desk.ticket(1)
        good, blocked = desk.attach("a.pdf", b"%PDF-1.4 0123456789"), desk.attach("a.exe", b"MZ")
        asked = desk.attach("a.log", b"log")
        visitor.sign_in(desk.token())
        address = f"/attachments/{good}"
        visitor.get(address)
        assert visitor.get(f"{address}/download").status_code == 200
        assert visitor.get(f"{address}/download", headers={"Range": "bytes=0-3"}).content == b"%PDF"
        assert visitor.get(f"{address}/view").status_code == 200
        assert visitor.get(f"/attachments/{blocked}/download").status_code == 403
        assert visitor.get(f"/attachments/{asked}/download").status_code == 403
        assert visitor.get("/attachments/99999/view").status_code == 404
    lines = audit_of(tmp_path)
    found = [
        tuple(line[key] for key in ("token_name", "ticket", "attachment", "status", "whole"))
        for line in lines
    ]
    assert found == [
        ("Priya", 1, good, 200, True),
        ("Priya", 1, good, 206, True),
        ("Priya", 1, good, 200, True),
        ("Priya", 1, blocked, 403, True),
        ("Priya", 1, asked, 403, True),
        ("Priya", None, 99999, 404, True),
    ]
    codes = [line["code"] for line in lines]
    assert codes[3:] == ["attachment_blocked", "attachment_review_required", None]
    assert [line["sent"] for line in lines[:3]] == [19, 4, 19]


def test_changed_file_is_in_the_audit_log_of_both_faces(tmp_path: Path) -> None:
    """A file that is not the stored one any more leaves a line that says so, and no bytes."""
    with (
        open_archive(tmp_path / "archive", command="test") as archive,
        open_beside(tmp_path / "archive") as beside,
        BackgroundServer(
            Audited(
                join_faces(load_faces(), lambda: beside, EndpointSettings()),
                AuditLog(tmp_path / "audit"),
            )
        ) as server,
        Visitor(base_url=server.url, timeout=20) as visitor,
    ):
        desk = Desk(archive, server.url)
        desk.ticket(1)
        number, token = desk.attach("a.pdf", b"%PDF-1.4 0123456789"), desk.token()
        row = archive.queries.attachment(number)
        assert row is not None
        blob = path_of(archive, row.sha256 or "")
        visitor.sign_in(token)
        bearer = {"Authorization": f"Bearer {token}"}
        body = {"ticket_number": 1, "response_attachment_id": number}

        def ask() -> list[int]:
            address = f"/attachments/{number}/download"
            ranged = {"Range": "bytes=1-2"}
            part = {**body, "offset": 1, "length": 2}
            return [
                visitor.get(address).status_code,
                visitor.get(address, headers=ranged).status_code,
                *(
                    visitor.post(DOWNLOAD, json=one, headers=bearer).status_code
                    for one in (body, part)
                ),
            ]

        assert ask() == [200, 206, 200, 200]
        before = blob.stat()
        blob.chmod(0o600)
        blob.write_bytes(b"%PDF-1.4 other text")
        os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert ask() == [404] * 4
    found = audit_of(tmp_path)
    facts = [(line["attachment"], line["status"], line["code"]) for line in found[4:]]
    assert facts == [(number, 404, "not_found")] * 4


def test_guessing_at_the_sign_in_is_bounded(tmp_path: Path) -> None:
    """After too many wrong tokens the page says when to come back; a good one still opens it."""
    with (
        open_archive(tmp_path, command="test") as archive,
        BackgroundServer(build_pages(archive, EndpointSettings())) as server,
        Visitor(base_url=server.url, timeout=20) as visitor,
    ):
        good = Desk(archive, server.url).token()
        answers = [visitor.sign_in("1|wrong") for _ in range(FAILURES + 1)]
        assert [answer.status_code for answer in answers] == [401] * FAILURES + [429]
        unknown = "This token is unknown, expired or revoked."
        assert [unknown in answer.text for answer in answers] == [True] * FAILURES + [False]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert visitor.sign_in(good).status_code == 303
