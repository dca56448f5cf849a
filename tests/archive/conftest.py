"""An archive in a directory of its own, and short ways to fill it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from migrator.archive import Archive, Listed, Outcome, State, StoredBlob, TicketRow, open_archive

Put = Callable[[bytes], StoredBlob]
ListThem = Callable[..., int]
Store = Callable[[int, bytes], StoredBlob]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def archive(root: Path) -> Iterator[Archive]:
    with open_archive(root, command="test") as opened:
        yield opened


@pytest.fixture
def put(archive: Archive) -> Put:
    """Store one content."""

    def put_one(data: bytes) -> StoredBlob:
        with archive.blobs.writer() as writer:
            writer.write(data)
            return writer.commit()

    return put_one


@pytest.fixture
def list_them(archive: Archive) -> ListThem:
    """List attachments of one ticket in a new run and return the run's id."""

    def list_some(*ids: int, ticket: int = 1, recheck: bool = False, size: int = 10) -> int:
        run = archive.ledger.begin_run("run", source="test", scope={})
        listed = [Listed(i, ticket, 5, f"{i}.pdf", "application/pdf", size, 7) for i in ids]
        archive.ledger.record_ticket(run.id, TicketRow(ticket, 3), listed, recheck=recheck)
        return run.id

    return list_some


@pytest.fixture
def store(archive: Archive, put: Put) -> Store:
    """Store the contents of a listed attachment."""

    def store_one(attachment_id: int, data: bytes) -> StoredBlob:
        blob = put(data)
        archive.ledger.settle(
            Outcome(
                attachment_id,
                State.STORED,
                sha256=blob.sha256,
                size=blob.size,
                mime_type=blob.mime_type,
            )
        )
        return blob

    return store_one
