"""A disk that is really full: the right error, nothing half done, and on it goes with space."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.archive import Archive, Listed, Outcome, State, TicketRow, Verdict, open_archive
from migrator.errors import ArchiveUnwritable
from tests.blobs.layout import temp_of


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of one megabyte, where we may."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small file system")
    try:
        yield folder
    finally:
        # Lazily: a test that failed may hold files open, and a mount must never stay behind.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def pull(archive: Archive, attachment_id: int, size: int) -> None:
    run = archive.ledger.begin_run("run", source="x", scope={})
    listed = [Listed(attachment_id, 1, 1, "x", "y", size, 0)]
    archive.ledger.record_ticket(run.id, TicketRow(1, 1), listed)
    with archive.blobs.writer() as writer:
        writer.write(os.urandom(size))
        blob = writer.commit()
    outcome = Outcome(attachment_id, State.STORED, None, None, blob.sha256, blob.size, "a/b")
    archive.ledger.settle(outcome)


def fill(archive: Archive, size: int) -> None:
    for attachment_id in range(1, 1000):
        pull(archive, attachment_id, size)


@pytest.mark.parametrize("size", [100_000, 100])
def test_a_full_disk_stops_the_run_and_loses_nothing(small: Path, size: int) -> None:
    """Blobs of any size fill the disk; after some space is made the run goes on."""
    ballast = small / "ballast"
    ballast.write_bytes(bytes(200_000))
    root = small / "archive"
    with open_archive(root, command="test") as archive:
        with pytest.raises(ArchiveUnwritable, match=r"full|cannot be written"):
            fill(archive, size)
        assert list(temp_of(archive).iterdir()) == []
        stored = archive.queries.counts()[State.STORED].n
        assert stored > 0
    ballast.unlink()
    with open_archive(root, command="test") as archive:
        assert archive.queries.counts()[State.STORED].n == stored
        archive.queries.self_check()
        for sha256, length in archive.queries.expected_blobs():
            assert archive.blobs.examine(sha256, length).verdict is Verdict.OK
        pull(archive, 5000, size)
        assert archive.queries.counts()[State.STORED].n == stored + 1


def test_a_disk_too_small_for_an_archive(small: Path) -> None:
    """Not even a checkpoint fits: the error says so, and the lock is free."""
    (small / "ballast").write_bytes(bytes(1_048_576 - 40_960))
    for _ in range(2):
        with pytest.raises(ArchiveUnwritable):
            open_archive(small / "archive", command="test")
