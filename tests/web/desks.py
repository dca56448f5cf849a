"""A helpdesk in an archive, and a browser of sorts, for the tests of the pages."""

from __future__ import annotations

import html
import itertools
import json
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    open_beside,
)
from migrator.archive.records import PeopleNote
from migrator.serve.audit_log import Audited, AuditLog
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from migrator.serve.web import build_pages

IDS = itertools.count(500)
NOON = 1_790_000_000
PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R/Resources"
    b"<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>endobj\n"
    b"4 0 obj<</Length 44>>stream\nBT /F1 24 Tf 40 100 Td (Hello, archive) Tj ET \nendstream "
    b"endobj\n"
    b"trailer<</Root 1 0 R>>\n%%EOF\n"
)
EVIL = (
    '<p>Hello <b>team</b>,</p><p>the plate cracked again, see <img src="cid:plate.png@01D9" '
    'alt="the plate">.</p><blockquote>On Monday you wrote: please send a picture.</blockquote>'
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    '<img src="https://tracker.invalid/p.gif" alt="logo"><style>body{display:none}</style>'
    '<p style="position:fixed;inset:0">Kind regards<br>Marcus</p>'
)


def png(width: int = 8, height: int = 8, color: bytes = b"\x1f\x5f\xbf") -> bytes:
    """Make a picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + sum_

    rows = (b"\0" + color * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


class Desk:
    """The archive as a run fills it."""

    def __init__(self, archive: Archive, url: str) -> None:
        self.archive = archive
        self.url = url
        self.run = archive.ledger.begin_run("run", source="test", scope={}).id

    def token(
        self,
        *,
        abilities: tuple[str, ...] = ("tickets:read",),
        queues: list[int] | None = None,
        is_staff: bool = True,
        expires_at: int | None = None,
    ) -> str:
        """Create a token and return its plain text."""
        return self.archive.access.create_token(
            "Priya", abilities=abilities, queues=queues, is_staff=is_staff, expires_at=expires_at
        )[1]

    def ticket(
        self,
        number: int,
        *posts: PostRow,
        subject: str = "",
        department: int = 3,
        user: int = 0,
        people: Sequence[PeopleNote] = (),
    ) -> None:
        """Keep a ticket with its posts, and notes about its user."""
        self.archive.ledger.put_departments([Department(department, f"Queue {department}")])
        row = TicketRow(
            number,
            department,
            f"ABC-{number}",
            subject or f"Subject {number}",
            NOON,
            NOON + number,
            requester_name="Marcus Reed",
            requester_email="marcus@example.com",
            user_id=user,
        )
        with self.archive.ledger.atomic():
            self.archive.ledger.record_ticket(self.run, row, [])
            self.archive.threads.put(self.run, row, posts, people=people)

    def attach(  # noqa: PLR0917 - a test reads better without the names
        self,
        name: str,
        data: bytes | None,
        ticket: int = 1,
        post: int = 11,
        state: State = State.FAILED,
        department: int = 3,
    ) -> int:
        """List an attachment and store its bytes, or settle it in ``state`` when there are none."""
        number, ledger = next(IDS), self.archive.ledger
        known = self.archive.threads.ticket(ticket)
        row = TicketRow(ticket, department)
        if known is not None:
            row = TicketRow(
                ticket,
                known.department_id,
                known.display_id,
                known.subject,
                NOON,
                NOON + ticket,
                requester_name=known.requester_name,
                requester_email=known.requester_email,
            )
        with ledger.atomic():
            listed = Listed(number, ticket, post, name, "", len(data or b""), NOON)
            ledger.record_ticket(self.run, row, [listed])
        outcome = Outcome(number, state, detail="the server failed (HTTP 500)")
        if data is not None:
            with self.archive.blobs.writer() as writer:
                writer.write(data)
                blob = writer.commit()
            outcome = Outcome(
                number,
                State.STORED,
                sha256=blob.sha256,
                size=blob.size,
                mime_type=blob.mime_type,
            )
        with ledger.atomic():
            ledger.settle(outcome)
        return number


def furnish(desk: Desk) -> dict[str, int]:
    """Fill a helpdesk worth looking at; return its files by name."""
    posts = [
        PostRow(11, NOON, "Marcus Reed", "marcus@example.com", is_html=True, text=EVIL),
        PostRow(12, NOON + 3600, "Priya Sharma", "priya@example.com", True, True, text="Batch 7?"),
        PostRow(
            13,
            NOON + 7200,
            "Priya Sharma",
            "priya@example.com",
            True,
            text="Hello Marcus,\n\nthe report is attached.\n\nPriya",
        ),
    ]
    desk.ticket(1, *posts, subject="Carbon plate cracked after two weeks")
    desk.ticket(2, subject="Rechnung für Größe XL fehlt")
    desk.ticket(3, PostRow(31, NOON, text="x"), subject='<b>"Quoted" & odd</b>')
    names = {
        "plate.png": png(120, 60),
        "photo.png": png(300, 160, b"\x99\x55\x22"),
        "report.pdf": PDF,
        "trace.log": b"line 1\n",
        "setup.exe": b"MZ",
        "a" * 120 + ".zip": b"PK",
    }
    found = {name: desk.attach(name, data, 1, 11) for name, data in names.items()}
    for number in range(3):
        desk.attach(f"lost-{number}.docx", None, 2, 21, State.FAILED)
    return found


class Visitor(httpx.Client):
    """A browser that follows no link by itself."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.headers["accept"] = "text/html,application/xhtml+xml,*/*;q=0.8"

    def sign_in(self, token: str, *, back: str = "/") -> httpx.Response:
        """Fill in the form and send it."""
        shown = self.get("/sign-in", params={"next": back})
        return self.post("/sign-in", data={**hidden(shown.text), "token": token})

    def sign_out(self) -> httpx.Response:
        """Press the button."""
        return self.post("/sign-out", data=hidden(self.get("/").text))


def hidden(page: str) -> dict[str, str]:
    """Return the hidden fields of a page's forms."""
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)
    return {name: html.unescape(value) for name, value in found}


@contextmanager
def audited(folder: Path) -> Iterator[tuple[Desk, Visitor]]:
    """Serve the pages of a new archive, with an audit log; give somebody who looks at them."""
    with (
        open_archive(folder / "archive", command="test") as archive,
        open_beside(folder / "archive") as beside,
        BackgroundServer(
            Audited(build_pages(beside, EndpointSettings()), AuditLog(folder / "audit"))
        ) as server,
        Visitor(base_url=server.url, timeout=20) as visitor,
    ):
        yield Desk(archive, server.url), visitor


def audit_of(folder: Path) -> list[dict[str, Any]]:
    """Read that log."""
    return [json.loads(line) for line in (folder / "audit").read_text().splitlines()]
