"""The archive: what we keep, on a disk of the user's. FORMAT.md explains it to a stranger."""

from migrator.archive.access import Access
from migrator.archive.blobs import BlobStore, BlobWriter
from migrator.archive.ledger import Ledger
from migrator.archive.reading import extension_of
from migrator.archive.records import (
    UNFINISHED,
    Count,
    Department,
    Group,
    Listed,
    Mark,
    Outcome,
    PostRow,
    Queue,
    Response,
    ResponseFilter,
    Row,
    Rule,
    RunInfo,
    State,
    StatusRow,
    StoredBlob,
    TicketHeader,
    TicketRow,
    Token,
    Verdict,
    Work,
)
from migrator.archive.store import Archive, open_archive, open_beside, open_dry, open_read_only
from migrator.archive.threads import Threads

__all__ = [
    "UNFINISHED",
    "Access",
    "Archive",
    "BlobStore",
    "BlobWriter",
    "Count",
    "Department",
    "Group",
    "Ledger",
    "Listed",
    "Mark",
    "Outcome",
    "PostRow",
    "Queue",
    "Response",
    "ResponseFilter",
    "Row",
    "Rule",
    "RunInfo",
    "State",
    "StatusRow",
    "StoredBlob",
    "Threads",
    "TicketHeader",
    "TicketRow",
    "Token",
    "Verdict",
    "Work",
    "extension_of",
    "open_archive",
    "open_beside",
    "open_dry",
    "open_read_only",
]
