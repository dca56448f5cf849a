"""An archive in a directory of its own, and short ways to fill it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from migrator.archive import Archive, Listed, Outcome, State, StoredBlob, TicketRow, open_archive
from migrator.archive.checkpoint import NAME, Checkpoint

Put = Callable[[bytes], StoredBlob]
Explained = Callable[[Callable[[Checkpoint], object]], list[str]]
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
def db(archive: Archive) -> Iterator[Checkpoint]:
    """Open the checkpoint of the archive a second time, beside the archive itself."""
    opened = Checkpoint.connect(archive.path / NAME)
    yield opened
    opened.close()


@pytest.fixture
def explained(db: Checkpoint) -> Explained:
    """Tell how SQLite finds what a question asks for, step by step."""

    def explain(ask: Callable[[Checkpoint], object]) -> list[str]:
        asked: list[str] = []
        db.conn.set_trace_callback(asked.append)
        ask(db)
        db.conn.set_trace_callback(None)
        return [str(step[3]) for step in db.execute(f"EXPLAIN QUERY PLAN {asked[0]}")]

    return explain


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
