"""An archive with everything in it that makes a handover hard, and short ways to make one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from migrator.archive import (
    Archive,
    Department,
    Listed,
    Outcome,
    PostRow,
    State,
    TicketRow,
)
from migrator.archive.records import PeopleNote
from migrator.handover.make import Handover, Options, hand_over
from tests.blobs.layout import path_of

NAMES = {
    1: "invoice.pdf",
    2: "INVOICE.pdf",
    3: "../../../etc/passwd",
    4: "CON.txt",
    5: "gpj\u202efdp.exe",
    6: "invoice.pdf",
    7: "line\nbreak\\.txt",
    8: "\u65e5" * 200 + ".txt",
    9: "empty",
    10: "lost.txt",
    11: "pending.txt",
    12: "old.txt",
}
"""Attachments 1 to 5 are in ticket 10, 6 to 9 in ticket 11, the others in ticket 12."""
SHARED = b"the same bytes"
NOW = 1_790_000_000


def content(attachment: int) -> bytes:
    """Give the bytes of an attachment; 1 and 6 have the same, 9 has none."""
    return {1: SHARED, 6: SHARED, 9: b""}.get(attachment, b"file %d" % attachment)


def fill(archive: Archive) -> None:
    """Store nine attachments, of which 12 was deleted at the source, and list two more."""
    ledger = archive.ledger
    run = ledger.begin_run("run", source="https://help.example.com", scope={})
    tickets = {10: range(1, 6), 11: range(6, 10), 12: range(10, 13)}
    with ledger.atomic():
        ledger.put_departments([Department(1, "Sup/port"), Department(2, "sup\\PORT")])
        for ticket, ids in tickets.items():
            listed = [
                Listed(n, ticket, ticket * 100, NAMES[n], "text/plain", 9, 1_400_000_000)
                for n in ids
            ]
            row = TicketRow(ticket, 1 if ticket == 10 else 2, f"T-{ticket}", "<b>Subject</b>")
            ledger.record_ticket(run.id, row, listed)
            post = PostRow(ticket * 100, 1_400_000_000 + ticket, "Ann", text="Hello\u2028there")
            about = PeopleNote(ticket, "user", ticket, 1_400_000_000, "Bob", text="pays late")
            archive.threads.put(run.id, row, [post], people=[about], activity=0)
        for number in [*range(1, 10), 12]:
            store(archive, number)
        ledger.settle(Outcome(10, State.MISSING, "source_lost_file", "it has no bytes"))
        ledger.mark_deleted(12, "no longer listed")
    ledger.finish_run(run.id, exit_code=3, summary={})


def store(archive: Archive, attachment: int, data: bytes | None = None) -> None:
    """Store an attachment that was listed."""
    writer = archive.blobs.writer()
    writer.write(content(attachment) if data is None else data)
    blob = writer.commit()
    archive.ledger.settle(
        Outcome(attachment, State.STORED, None, None, blob.sha256, blob.size, "text/plain")
    )


def documents() -> Mapping[str, Iterable[str]]:
    """Give what the reports would be."""
    return {"report.json": ["{}\n"], "report.html": ["<p>", "report</p>\n"]}


def handed(archive: Archive, root: Path, **options: Any) -> Handover:
    """Make a handover; keywords are those of Options."""
    return hand_over(archive, root, documents, Options(**{"now": NOW, **options}))


def lines(root: Path, name: str) -> list[dict[str, Any]]:
    """Give the lines of a list."""
    return [json.loads(line) for line in (root / name).read_text("ascii").splitlines()]


def everything(root: Path) -> dict[str, bytes]:
    """Give all files of a handover with their bytes, and its directories."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else b"(directory)"
        for path in root.rglob("*")
    }


def blob(archive: Archive, attachment: int) -> Path:
    """Give the file of an attachment in the archive."""
    row = archive.queries.attachment(attachment)
    assert row is not None
    return path_of(archive, str(row.sha256))


def spoil(path: Path) -> None:
    """Change the bytes of a file, as a bad disk does."""
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    path.chmod(0o400)
