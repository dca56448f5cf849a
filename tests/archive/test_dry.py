"""The dry archive: the same answers, and not a byte changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.archive import (
    Archive,
    Listed,
    Outcome,
    State,
    StoredBlob,
    TicketRow,
    checkpoint,
    open_archive,
    open_beside,
    open_dry,
)
from migrator.errors import ArchiveBusy, ArchiveDamaged

ListThem = Callable[..., int]
Store = Callable[[int, bytes], StoredBlob]


def picture(root: Path) -> dict[str, tuple[str, int, int]]:
    """Everything about a tree: names, contents, modes and times."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        key = hashlib.sha256(content).hexdigest()
        found[str(path)] = (key, status.st_mode, status.st_mtime_ns)
    return found


def rehearse(root: Path) -> Archive:
    """Do all that a run does."""
    archive = open_dry(root)
    with archive:
        run = archive.ledger.begin_run("plan", source="x", scope={})
        work = archive.ledger.record_ticket(
            run.id, TicketRow(9, 1), [Listed(900, 9, 1, "a", "b/c", 5, 0)]
        ).todo
        with archive.blobs.writer() as writer:
            writer.write(b"hel")
            writer.write(b"lo")
            blob = writer.commit()
        with archive.blobs.writer() as writer:
            writer.write(b"never committed")
        settled = Outcome(work[0].id, State.STORED, None, None, blob.sha256, 5, blob.mime_type)
        assert archive.ledger.settle(settled) is State.STORED
        archive.access.map_queue(1, 2, "x")
        archive.ledger.finish_run(run.id, exit_code=0, summary={})
        row = archive.queries.attachment(900)
        assert row is not None
        assert row.sha256 == blob.sha256 == hashlib.sha256(b"hello").hexdigest()
        assert archive.blobs.size(blob.sha256) is None
        archive.queries.self_check()
    return archive


def test_a_missing_archive_stays_missing(root: Path) -> None:
    """A plan needs no archive and makes none."""
    rehearse(root)
    assert not root.parent.exists() or list(root.parent.iterdir()) == []


def test_an_archive_at_rest_is_left_as_it_is(root: Path) -> None:
    """Byte for byte, name for name and to the nanosecond."""
    with open_archive(root, command="test") as archive:
        archive.ledger.put_ticket(TicketRow(1, 1))
    before = picture(root)
    assert not any(name.endswith("-wal") for name in before)
    rehearse(root)
    with open_dry(root) as archive:
        assert archive.queries.ticket_count() == 1
    assert picture(root) == before


def test_an_archive_after_a_crash_is_read_with_its_log(root: Path) -> None:
    """What is only in the write-ahead log is known, and the log is not folded in."""
    code = (
        "import os, sys; from pathlib import Path; from migrator.archive import *\n"
        "a = open_archive(Path(sys.argv[1]), command='x'); a.ledger.put_ticket(TicketRow(1, 1))\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(root)], check=False)
    before = picture(root)
    assert (root / "checkpoint.db-wal").stat().st_size > 0
    rehearse(root)
    with open_dry(root) as archive:
        assert archive.queries.ticket_count() == 1
    assert picture(root) == before


def test_an_archive_that_a_run_holds_can_be_read(root: Path) -> None:
    """A plan beside a run knows what the run has committed, and disturbs nothing."""
    with open_archive(root, command="test") as run:
        run.ledger.put_ticket(TicketRow(1, 1))
        names = set(picture(root))
        rehearse(root)
        with open_dry(root) as archive:
            assert archive.queries.ticket_count() == 1
        run.ledger.put_ticket(TicketRow(2, 1))
        assert set(picture(root)) == names
        assert run.queries.ticket_count() == 2


def test_an_archive_beside_serve_can_be_read(root: Path) -> None:
    """A log that serve keeps open, without the run lock, is read too."""
    open_archive(root, command="test").close()
    with open_beside(root) as serve:
        serve.access.map_queue(1, 2, "x")
        before = picture(root)
        with open_dry(root) as archive:
            assert [queue.queue_id for queue in archive.access.queues()] == [2]
        assert picture(root) == before


def test_real_blobs_are_seen(
    archive: Archive, root: Path, list_them: ListThem, store: Store
) -> None:
    """A dry run tells what would be deduped, and can read what is there."""
    list_them(1)
    blob = store(1, b"hello")
    with open_dry(root) as twin:
        with twin.blobs.writer() as writer:
            writer.write(b"hello")
            assert writer.commit().deduped
        assert [entry.sha256 for entry in twin.blobs.scan()] == [blob.sha256]


def test_a_dry_writer_is_used_once(root: Path) -> None:
    """It refuses what a real one refuses."""
    with open_dry(root) as archive:
        writer = archive.blobs.writer()
        writer.abort()
        with pytest.raises(ValueError, match="already"):
            writer.write(b"x")
        with pytest.raises(ValueError, match="already"):
            writer.commit()
        archive.blobs.prepare()
        assert list(archive.blobs.scan()) == []
    assert not root.exists()


def test_a_checkpoint_that_never_rests_is_busy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of two moments is never used."""
    open_archive(root, command="test").close()
    with open_beside(root) as serve:
        copy = shutil.copyfile

        def copy_and_change(source: Path, target: Path) -> Path:
            serve.access.map_queue(1, os.urandom(1)[0], os.urandom(8).hex())
            return copy(source, target)

        serve.access.map_queue(1, 2, "x")
        monkeypatch.setattr(shutil, "copyfile", copy_and_change)
        with pytest.raises(ArchiveBusy, match="changes all the time"):
            open_dry(root)


def test_a_log_that_goes_while_it_is_copied(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever closes the checkpoint meanwhile folds the log in: then there is none to copy."""
    open_archive(root, command="test").close()
    serve = open_beside(root)
    serve.access.map_queue(1, 2, "x")
    copy = shutil.copyfile

    def close_and_copy(source: Path, target: Path) -> Path:
        serve.close()
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", close_and_copy)
    with open_dry(root) as archive:
        assert [queue.queue_id for queue in archive.access.queues()] == [2]
    assert checkpoint.looks(root / "checkpoint.db")[1] is None


def test_damage_deep_in_the_file_is_told(root: Path) -> None:
    """Damage behind a sound first page is damage for a plan as well."""
    open_archive(root, command="test").close()
    file = root / "checkpoint.db"
    data = file.read_bytes()
    file.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    with pytest.raises(ArchiveDamaged, match="malformed"):
        open_dry(root)
