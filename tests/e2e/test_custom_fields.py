"""A file in a custom field, from the helpdesk to everybody who reads the archive."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path

import httpx

from migrator.archive import open_archive, open_beside
from migrator.archive.records import note_id
from migrator.report.model import build
from migrator.sandbox.kayako import Helpdesk, SandboxServer
from migrator.serve import join_faces, load_faces
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from tests.pull.test_fields import DESK, pull
from tests.report.handed import handed
from tests.web.desks import Visitor

LOGO = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"


def test_every_face_has_the_file(tmp_path: Path) -> None:
    """Show, responses and attachment of the API, the pages, the report and the handover."""
    desk = Helpdesk.build(DESK)
    ticket = next(key for key in desk.field_values if key in desk.tickets)
    desk.set_field(ticket, 7, "signed & sealed.gif", LOGO)
    root = tmp_path / "handover"
    with open_archive(tmp_path / "archive", command="test") as archive:
        with SandboxServer(desk) as server:
            assert pull(server, archive).exit_code == 0
        token = archive.access.create_token(
            "test", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )[1]
        kinds = {group.key: group.n for group in build(archive).kinds}
        assert kinds["customfield"] == len(desk.truths["customfield"])
        handed(archive, root, tree=True)
        with (
            open_beside(tmp_path / "archive") as beside,
            BackgroundServer(join_faces(load_faces(), lambda: beside, EndpointSettings())) as face,
            httpx.Client(headers={"Authorization": f"Bearer {token}"}) as client,
            Visitor(base_url=face.url, timeout=20) as visitor,
        ):
            base = f"{face.url}/api/v1/tickets"
            shown = client.post(f"{base}/show", json={"ticket_id": ticket}).json()["data"]
            (response,) = [
                one
                for one in shown["responses"]
                if one["id"] == str(note_id("customfield", ticket))
            ]
            assert response["is_internal"] is True
            (file,) = [
                one for one in response["attachments"] if one["name"] == "signed & sealed.gif"
            ]
            body = {"ticket_id": ticket, "response_attachment_id": file["id"]}
            data = client.post(f"{base}/attachment", json=body).json()["data"]
            assert base64.b64decode(data["content_base64"]) == LOGO
            visitor.sign_in(token)
            page = html.unescape(visitor.get(f"/tickets/{ticket}").text)
            assert "Internal / Signed form: signed & sealed.gif" in page
            assert file["id"] in page
    rows = [json.loads(line) for line in (root / "manifest.jsonl").read_text("utf-8").splitlines()]
    (row,) = [one for one in rows if str(one["attachment_id"]) == file["id"]]
    assert (row["kind"], row["place"], row["ticket_id"]) == (
        "customfield",
        f"{ticket}/7",
        ticket,
    )
    assert any(path.read_bytes() == LOGO for path in (root / "tree").rglob("*") if path.is_file())
    posts = (root / "posts.jsonl").read_text("utf-8")
    assert "Signed form" in posts
    assert "hunter2" not in posts
