"""Removing what nobody refers to, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from migrator.archive import Archive, Verdict
from migrator.errors import ArchiveDamaged, ArchiveUnwritable, Interrupted, SafetyLimit
from migrator.pull.options import Stop
from migrator.pull.verify import VerifyReport, prune, verify
from tests.blobs.layout import path_of
from tests.pull.doubles import Desk, pull

TEMPORARY = "blobs/tmp/" + "0f" * 16
ORPHAN = "blobs/ab/cd/abcd" + "0" * 60


@pytest.fixture
def desk(archive: Archive) -> Desk:
    """Give a helpdesk whose three attachments were all stored."""
    desk = Desk(3)
    pull(desk, archive)
    return desk


def plant(archive: Archive, name: str, data: bytes = b"left") -> Path:
    """Leave a file in the archive."""
    path = archive.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def checked(archive: Archive) -> VerifyReport:
    return asyncio.run(verify(archive))


def pruned(
    archive: Archive,
    *,
    sure: bool = True,
    report: VerifyReport | None = None,
    stop: Stop | None = None,
) -> VerifyReport:
    """Verify the archive, then prune it."""
    report = report or checked(archive)
    asyncio.run(prune(archive, report, sure=sure, stop=stop))
    return report


def whole(archive: Archive) -> bool:
    """Tell whether every blob that a row refers to is there."""
    expected = list(archive.queries.expected_blobs())
    found = {archive.blobs.examine(*one).verdict for one in expected}
    return found == {Verdict.OK} and len(expected) == 3


def test_first_it_only_tells(archive: Archive, desk: Desk) -> None:
    """Without being sure it gives sizes and removes nothing."""
    files = [plant(archive, TEMPORARY), plant(archive, ORPHAN, b"a blob")]
    report = pruned(archive, sure=False)
    assert report.prunable == {TEMPORARY: 4, ORPHAN: 6}
    assert (report.pruned, report.kept, report.exit_code) == ({}, {}, 0)
    assert all(file.exists() for file in files)


def test_then_it_removes_orphans_and_nothing_else(archive: Archive, desk: Desk) -> None:
    """Temporary files and blobs of nobody go; every blob of a row stays whole."""
    plant(archive, TEMPORARY)
    plant(archive, ORPHAN, b"a blob")
    assert pruned(archive).pruned == {TEMPORARY: 4, ORPHAN: 6}
    assert whole(archive)
    assert checked(archive).orphaned == []


def test_strangers_and_links_stay(archive: Archive, desk: Desk, tmp_path: Path) -> None:
    """What this tool does not write is told and left alone; no link is followed."""
    outside = tmp_path / "precious"
    outside.write_text("mine")
    stranger = plant(archive, "blobs/README")
    link = archive.path / TEMPORARY
    link.symlink_to(outside)
    pipe = archive.path / ORPHAN
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    report = pruned(archive)
    reason = "it is not a file of this tool"
    assert report.kept == {"blobs/README": reason, TEMPORARY: reason, ORPHAN: reason}
    assert report.pruned == {}
    assert stranger.exists()
    assert link.is_symlink()
    assert outside.read_text() == "mine"


def test_a_linked_directory_is_not_entered(archive: Archive, desk: Desk, tmp_path: Path) -> None:
    """Files beyond a link are not even looked at."""
    outside = tmp_path / "elsewhere"
    (outside / "cd").mkdir(parents=True)
    precious = outside / "cd" / ORPHAN.rpartition("/")[2]
    precious.write_text("mine")
    (archive.path / "blobs" / "ab").symlink_to(outside)
    report = pruned(archive)
    assert (report.pruned, report.prunable) == ({}, {})
    assert precious.read_text() == "mine"


def test_a_row_that_came_meanwhile_saves_its_blob(archive: Archive, desk: Desk) -> None:
    """Each blob is looked up again at the moment of its removal."""
    row = archive.queries.attachment(2)
    assert row is not None
    assert row.sha256 is not None
    name = str(path_of(archive, row.sha256).relative_to(archive.path))
    report = checked(archive)
    report.orphaned.append(name)
    assert pruned(archive, report=report).kept == {name: "a row refers to it by now"}
    assert whole(archive)


def test_a_damaged_archive_is_not_pruned(archive: Archive, desk: Desk) -> None:
    """What nobody refers to may be all that is left of a file."""
    temporary = plant(archive, TEMPORARY)
    ((sha256, _),) = archive.queries.expected_blobs(limit=1)
    path_of(archive, sha256).unlink()
    report = pruned(archive)
    assert "damaged or lost" in report.kept[TEMPORARY]
    assert (report.exit_code, temporary.exists()) == (6, True)
    report.repaired = [sha256]
    report.kept.clear()
    assert pruned(archive, report=report).pruned == {TEMPORARY: 4}


def test_a_killed_run_keeps_its_blobs(archive: Archive, desk: Desk) -> None:
    """The bytes it stored without a row save the next run a request; its temporary files do not."""
    archive.ledger.begin_run("run", source="x", scope={})
    plant(archive, TEMPORARY)
    blob = plant(archive, ORPHAN)
    report = pruned(archive)
    assert list(report.pruned) == [TEMPORARY]
    assert "the last run was killed" in report.kept[ORPHAN]
    assert blob.exists()


def test_an_empty_ledger_keeps_all_blobs(archive: Archive) -> None:
    """A checkpoint that was lost and made anew must not cost the files as well."""
    blob = plant(archive, ORPHAN)
    report = pruned(archive)
    assert "the ledger knows no file" in report.kept[ORPHAN]
    assert blob.exists()


def litter(archive: Archive, number: int) -> list[Path]:
    """Leave so many blobs that no row refers to."""
    hashes = (hashlib.sha256(b"%d" % n).hexdigest() for n in range(number))
    return [plant(archive, f"blobs/{one[:2]}/{one[2:4]}/{one}") for one in hashes]


@pytest.mark.parametrize("sure", [True, False])
def test_too_many_orphans_are_not_taken_for_waste(archive: Archive, desk: Desk, sure: bool) -> None:
    """An older checkpoint is likelier: none is removed, nor any temporary file, and it is said."""
    files = [*litter(archive, 21), plant(archive, TEMPORARY)]
    report = checked(archive)
    with pytest.raises(SafetyLimit, match="--accept-orphans"):
        pruned(archive, report=report, sure=sure)
    assert (report.pruned, report.prunable) == ({}, {})
    assert all(file.exists() for file in files)


def test_too_many_orphans_can_be_accepted(archive: Archive, desk: Desk) -> None:
    """Whoever knows better says so, and what rows refer to stays all the same."""
    files = litter(archive, 21)
    report = checked(archive)
    asyncio.run(prune(archive, report, sure=True, accept=True))
    assert len(report.pruned) == 21
    assert not any(file.exists() for file in files)
    assert whole(archive)


def test_a_few_orphans_are_waste(archive: Archive, desk: Desk) -> None:
    """Twenty go whatever the share; temporary files do not count."""
    litter(archive, 20)
    for number in range(30):
        plant(archive, f"blobs/tmp/{number:032x}")
    assert len(pruned(archive).pruned) == 50


@pytest.mark.slow
def test_a_small_share_is_waste(archive: Archive) -> None:
    """Of a large archive 5 % may go, and not one more."""
    pull(Desk(440), archive)
    litter(archive, 23)
    with pytest.raises(SafetyLimit, match=r"23 stored files are in no row of the ledger, .* 440"):
        pruned(archive)
    for path in litter(archive, 23)[22:]:
        path.unlink()
    assert len(pruned(archive).pruned) == 22


def test_a_damaged_checkpoint_removes_nothing(archive: Archive, desk: Desk) -> None:
    """What it does not know any more may be all that is left of a file."""
    report = checked(archive)
    file = plant(archive, TEMPORARY)
    report.orphaned = [TEMPORARY]
    with closing(sqlite3.connect(archive.path / "checkpoint.db")) as conn:
        conn.execute("UPDATE runs SET summary = '{'")
        conn.commit()
    with pytest.raises(ArchiveDamaged, match=r"runs\.summary"):
        pruned(archive, report=report)
    assert file.exists()


def test_what_an_attachment_names_is_no_orphan(archive: Archive, desk: Desk) -> None:
    """Also where its row of blobs is lost: then the checkpoint is damaged, and nothing goes."""
    ((sha256, _),) = archive.queries.expected_blobs(limit=1)
    with closing(sqlite3.connect(archive.path / "checkpoint.db")) as conn:
        conn.execute("DELETE FROM blobs WHERE sha256 = ?", (sha256,))
        conn.commit()
    assert archive.queries.refers_to(sha256)
    with pytest.raises(ArchiveDamaged):
        pruned(archive)
    assert path_of(archive, sha256).exists()


def test_one_that_cannot_be_removed_does_not_keep_the_others(
    archive: Archive, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that can go goes; then the first error is told."""
    names = [f"blobs/tmp/{number:032x}" for number in range(3)]
    for name in names:
        plant(archive, name)
    real = os.unlink

    def refuse(path: str, **how: int) -> None:
        if str(path).endswith("1"):
            raise PermissionError(1, "Operation not permitted")
        real(path, **how)

    monkeypatch.setattr(os, "unlink", refuse)
    report = checked(archive)
    with pytest.raises(ArchiveUnwritable, match="not permitted"):
        pruned(archive, report=report)
    assert list(report.pruned) == [names[0], names[2]]
    assert report.kept == {names[1]: "it cannot be removed"}


def test_a_file_that_cannot_be_removed_ends_it(
    archive: Archive, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the archive; nothing was lost."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    plant(archive, TEMPORARY)
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(ArchiveUnwritable, match="read-only"):
        pruned(archive)
    assert whole(archive)


def test_pruning_can_be_interrupted(archive: Archive, desk: Desk) -> None:
    """It stops between two files."""
    file = plant(archive, TEMPORARY)
    stop = Stop()
    stop.ask()
    with pytest.raises(Interrupted, match="run it again"):
        pruned(archive, report=VerifyReport(orphaned=[TEMPORARY]), stop=stop)
    assert file.exists()
