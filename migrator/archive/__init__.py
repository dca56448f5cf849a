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
    Queue,
    Row,
    Rule,
    RunInfo,
    State,
    StoredBlob,
    TicketRow,
    Token,
    Verdict,
    Work,
)
from migrator.archive.store import Archive, open_archive, open_beside, open_dry

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
    "Queue",
    "Row",
    "Rule",
    "RunInfo",
    "State",
    "StoredBlob",
    "TicketRow",
    "Token",
    "Verdict",
    "Work",
    "extension_of",
    "open_archive",
    "open_beside",
    "open_dry",
]
