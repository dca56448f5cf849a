"""Reading every blob again, and getting back what was damaged."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migrator.archive import Archive
from migrator.blobs.base import Examined
from migrator.errors import (
    ArchiveDamaged,
    ArchiveUnwritable,
    Interrupted,
    NotFound,
    ServerFailed,
    SourceError,
    SourceRefused,
)
from migrator.events import BlobChecked, Event, Notice, Slow, Tick
from migrator.pull import options
from migrator.pull.options import Stop
from migrator.pull.verify import VerifyReport, repair, verify
from migrator.sources import pace
from migrator.sources.kayako.source import KayakoSource
from tests.blobs.layout import path_of
from tests.pull.doubles import Desk, Ear, pull, states, temporary


@pytest.fixture
def desk(archive: Archive) -> Desk:
    """Give a helpdesk whose three attachments were all stored."""
    desk = Desk(3)
    pull(desk, archive)
    return desk


def checked(archive: Archive, **options: Any) -> VerifyReport:
    """Verify the archive."""
    return asyncio.run(verify(archive, **options))


def sha(archive: Archive, attachment: int) -> str:
    """Give the hash of an attachment's blob."""
    row = archive.queries.attachment(attachment)
    assert row is not None
    assert row.sha256 is not None
    return row.sha256


def spoil(archive: Archive, attachment: int, change: Callable[[bytes], bytes]) -> str:
    """Change the file of a blob behind the archive's back; gives its hash."""
    sha256 = sha(archive, attachment)
    path = path_of(archive, sha256)
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(change(data))
    return sha256


def lose(archive: Archive, attachment: int) -> str:
    """Remove the file of a blob; gives its hash."""
    sha256 = sha(archive, attachment)
    path_of(archive, sha256).unlink()
    return sha256


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def mended(
    archive: Archive, source: Desk, stop: Stop | None = None, ear: Ear | None = None
) -> VerifyReport:
    """Verify the archive and repair it from the source."""
    report = checked(archive)
    asyncio.run(repair(archive, KayakoSource(source), report, listener=ear or Ear(), stop=stop))
    assert temporary(archive) == [], "a temporary file was left behind"
    return report


# Reading again


def test_a_whole_archive_is_whole(archive: Archive, desk: Desk) -> None:
    """All blobs are read, all bytes counted, nothing is found."""
    ear = Ear()
    report = checked(archive, listener=ear)
    assert (report.checked, report.bytes) == (3, 3 * len("file 1"))
    assert (report.damaged, report.lost, report.orphaned) == ([], [], [])
    assert report.exit_code == 0
    assert [(one.verdict, one.total) for one in ear.of(BlobChecked)] == [("ok", 3)] * 3


def test_an_empty_archive_is_whole(archive: Archive) -> None:
    """Nothing to read is nothing wrong."""
    report = checked(archive)
    assert (report.checked, report.exit_code) == (0, 0)


@pytest.mark.parametrize(
    "change",
    [flipped, lambda data: data[:-1], lambda data: data + b"!", lambda _: b""],
    ids=["flipped", "truncated", "longer", "emptied"],
)
def test_a_damaged_blob_is_found(
    archive: Archive, desk: Desk, change: Callable[[bytes], bytes]
) -> None:
    """One bit is enough, also where the size is right."""
    sha256 = spoil(archive, 2, change)
    report = checked(archive)
    assert (report.damaged, report.lost, report.checked) == ([sha256], [], 3)
    assert report.bytes == 2 * len("file 1"), "bytes that are not ours do not count"
    assert report.exit_code == 6


def test_a_lost_blob_is_found(archive: Archive, desk: Desk) -> None:
    """A file that is not there is lost, not damaged."""
    sha256 = lose(archive, 2)
    report = checked(archive)
    assert (report.damaged, report.lost, report.exit_code) == ([], [sha256], 6)


def test_several_finds_come_sorted(archive: Archive) -> None:
    """Reports of the same archive are equal, whichever reader was first."""
    pull(Desk(20), archive)
    damaged = sorted(spoil(archive, number, flipped) for number in range(1, 11))
    lost = sorted(lose(archive, number) for number in range(11, 21))
    report = checked(archive)
    assert (report.damaged, report.lost) == (damaged, lost)


def test_files_that_no_row_refers_to_are_orphaned(archive: Archive, desk: Desk) -> None:
    """Left-over temporary files, strangers and copies in the wrong place, by relative path."""
    blobs = archive.path / "blobs"
    (blobs / "tmp" / "left").write_bytes(b"x")
    (blobs / "README").write_bytes(b"x")
    sha256 = sha(archive, 1)
    (blobs / "tmp" / sha256).write_bytes(b"a copy")
    stranger = blobs / "ab" / "cd" / ("abcd" + "0" * 60)
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"x")
    report = checked(archive)
    assert report.orphaned == sorted(
        ["blobs/tmp/left", "blobs/README", f"blobs/tmp/{sha256}", f"blobs/ab/cd/{stranger.name}"]
    )
    assert report.exit_code == 0, "an orphan harms nobody"


def test_a_blob_held_by_deleted_rows_is_expected(archive: Archive, desk: Desk) -> None:
    """What the source has deleted is kept, and so is verified."""
    del desk.files[2]
    pull(desk, archive)
    assert states(archive)[2] == "deleted"
    report = checked(archive)
    assert (report.checked, report.orphaned) == (3, [])
    lose(archive, 2)
    assert checked(archive).exit_code == 6


def test_a_sample_reads_a_part(archive: Archive) -> None:
    """About the share asked for, the same for the same seed, and no verdict on orphans."""
    pull(Desk(80), archive)
    (archive.path / "blobs" / "tmp" / "left").write_bytes(b"x")
    ear, again = Ear(), Ear()
    report = checked(archive, share=0.25, seed=1, listener=ear)
    checked(archive, share=0.25, seed=1, listener=again)
    assert 5 <= report.checked <= 40
    assert report.orphaned == []
    assert ear.of(BlobChecked)[0].total == 20
    assert set(ear.heard) == set(again.heard)


def test_a_share_above_all_is_all(archive: Archive, desk: Desk) -> None:
    """And its total is no larger than what there is."""
    ear = Ear()
    assert checked(archive, share=2.0, listener=ear).checked == 3
    assert ear.of(BlobChecked)[0].total == 3


def test_verifying_can_be_interrupted(archive: Archive) -> None:
    """Asked to stop, it says so instead of calling half a check a whole one."""
    pull(Desk(50), archive)
    stop = Stop()
    heard: list[Event] = []

    def listener(event: Event) -> None:
        heard.append(event)
        stop.ask()

    with pytest.raises(Interrupted, match="nothing was changed"):
        checked(archive, stop=stop, listener=listener)
    assert len(heard) < 10


def test_a_file_that_takes_long_is_named(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the beginning of its hash and its size, while time is told to pass."""
    pull(Desk(1), archive)
    ear, examine = Ear(), archive.blobs.examine
    (blob,) = archive.queries.expected_blobs()
    monkeypatch.setattr(pace, "SLOW", 0.01)
    monkeypatch.setattr(options, "TICK", 0.01)

    def slowly(sha256: str, size: int) -> Examined:
        begun = len(ear.heard)
        while not {Slow, Tick} <= {type(one) for one in ear.heard[begun:]}:
            time.sleep(0.001)
        return examine(sha256, size)

    monkeypatch.setattr(archive.blobs, "examine", slowly)
    assert checked(archive, listener=ear).checked == 1
    found = {(one.what, one.received, one.size) for told in ear.of(Slow) for one in told.requests}
    assert (f"file {blob[0][:12]}…", None, blob[1]) in found
    assert ear.of(Slow)[-1] == Slow()


# Odd things on the way


def into_a_directory(archive: Archive, attachment: int) -> str:
    """Put a directory in the place of a blob; gives its hash."""
    sha256 = lose(archive, attachment)
    path_of(archive, sha256).mkdir()
    return sha256


def into_a_pipe(archive: Archive, attachment: int) -> str:
    """Put a named pipe in the place of a blob; gives its hash."""
    sha256 = lose(archive, attachment)
    os.mkfifo(path_of(archive, sha256))
    return sha256


def under_a_file(archive: Archive, attachment: int) -> str:
    """Put a file in the place of the directory of a blob; gives its hash."""
    sha256 = sha(archive, attachment)
    folder = path_of(archive, sha256).parent.parent
    shutil.rmtree(folder)
    folder.touch()
    return sha256


ODD = [into_a_directory, into_a_pipe, under_a_file]


@pytest.mark.parametrize("harm", ODD)
def test_one_odd_thing_does_not_end_it(
    archive: Archive, harm: Callable[[Archive, int], str]
) -> None:
    """It counts as damaged, with the reason; all others are read, and all damage is named."""
    pull(Desk(30), archive)
    odd, flip = harm(archive, 7), spoil(archive, 3, flipped)
    gone = lose(archive, 5)
    report = checked(archive)
    assert (report.checked, report.exit_code) == (30, 6)
    assert {odd, flip} <= set(report.damaged)
    assert gone in report.lost
    assert odd in report.unreadable
    assert flip not in report.unreadable


def test_disks_that_give_errors_are_read_to_the_end(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that may not be opened and directories that cannot be listed are told, each of them."""
    pull(Desk(10), archive)
    bad = {sha(archive, 2), sha(archive, 4)}
    real_open, real_scandir = os.open, os.scandir
    folder = path_of(archive, sha(archive, 6)).parent

    def opened(path: str | Path, flags: int, mode: int = 0o777, **how: int) -> int:
        if Path(path).name in bad:
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, flags, mode, **how)

    def scandir(path: str) -> object:
        if Path(path) == folder:
            raise OSError(5, "Input/output error", path)
        return real_scandir(path)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "scandir", scandir)
    report = checked(archive)
    assert (report.checked, set(report.damaged), report.exit_code) == (10, bad, 6)
    name = str(folder.relative_to(archive.path))
    assert set(report.unreadable) == {*bad, name}
    assert "Permission denied" in report.unreadable[min(bad)]
    assert "Input/output error" in report.unreadable[name]


def test_a_directory_that_cannot_be_listed_is_damage(
    archive: Archive, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who could not look everywhere does not call the archive whole."""
    real = os.scandir
    folder = path_of(archive, sha(archive, 1)).parent

    def refuse(path: str) -> object:
        if Path(path) == folder:
            raise OSError(5, "Input/output error", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = checked(archive)
    assert (report.damaged, report.lost, report.exit_code) == ([], [], 6)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_damaged_checkpoint_comes_first(archive: Archive, desk: Desk, share: float) -> None:
    """Nothing is said of files by a ledger that is not sound, also not of a sample."""
    with contextlib.closing(sqlite3.connect(archive.path / "checkpoint.db")) as conn:
        conn.execute("UPDATE tallies SET n = n + 1")
        conn.commit()
    ear = Ear()
    with pytest.raises(ArchiveDamaged, match="tally"):
        checked(archive, share=share, listener=ear)
    assert ear.heard == []


# Getting back


@pytest.mark.parametrize("harm", [lose, lambda archive, one: spoil(archive, one, flipped)])
def test_what_is_harmed_is_fetched_again(
    archive: Archive, desk: Desk, harm: Callable[[Archive, int], str]
) -> None:
    """The same bytes come back under the same hash, and the archive is whole."""
    sha256 = harm(archive, 2)
    report = mended(archive, desk)
    assert (report.repaired, report.unrepaired, report.exit_code) == ([sha256], {}, 0)
    assert path_of(archive, sha256).read_bytes() == b"file 2"
    assert checked(archive).exit_code == 0


def test_other_bytes_are_no_repair(archive: Archive, desk: Desk) -> None:
    """They are told; the expected hash is never edited, and no new blob appears."""
    sha256 = lose(archive, 2)
    desk.files[2] = desk.files[2]._replace(data=b"FILE 2")
    ear = Ear()
    report = mended(archive, desk, ear=ear)
    assert (report.repaired, report.exit_code) == ([], 6)
    assert report.unrepaired == {sha256: "the source now sends other bytes for attachment 2"}
    assert ear.of(Notice)[0].text.startswith(f"{sha256[:12]}… cannot be repaired: the source")
    assert sha(archive, 2) == sha256
    assert len(list(archive.blobs.scan())) == 2


def test_any_attachment_with_the_same_bytes_may_help(archive: Archive) -> None:
    """A blob shared by several comes back from the one that still has it."""
    desk = Desk(3, files=0)
    for number in (1, 2, 3):
        desk.attach(number, b"logo")
    pull(desk, archive)
    sha256 = lose(archive, 1)
    del desk.files[1]
    desk.files[2] = desk.files[2]._replace(data=b"LOGO")
    report = mended(archive, desk)
    assert report.repaired == [sha256]
    assert len(desk.asked("fetch")) == 3 + 3


def test_a_merged_ticket_is_followed(archive: Archive, desk: Desk) -> None:
    """The attachment is asked for where it lives now."""
    sha256 = lose(archive, 2)
    desk.merge(2, 3)
    assert mended(archive, desk).repaired == [sha256]


@pytest.mark.parametrize("error", [NotFound("Attachment not Found"), ServerFailed("HTTP 500")])
def test_what_the_source_does_not_give_is_told(
    archive: Archive, desk: Desk, error: SourceError
) -> None:
    """The reason is the source's own, and the other blobs are repaired all the same."""

    class Stubborn(Desk):
        async def turn(self, call: str) -> None:
            if call == "fetch 2":
                raise error
            await super().turn(call)

    lost = [lose(archive, 2), lose(archive, 3)]
    report = mended(archive, Stubborn(3))
    assert report.unrepaired == {lost[0]: str(error)}
    assert report.repaired == [lost[1]]
    assert report.exit_code == 6


def test_a_merged_ticket_that_is_gone_is_told(archive: Archive, desk: Desk) -> None:
    """Following a merge may fail as well."""

    class Lost(Desk):
        async def turn(self, call: str) -> None:
            if call.startswith("ticket"):
                raise NotFound("Ticket not Found")
            await super().turn(call)

    sha256 = lose(archive, 2)
    lost = Lost(3)
    lost.merge(2, 3)
    assert mended(archive, lost).unrepaired == {sha256: "Ticket not Found"}


def test_a_source_that_refuses_us_ends_the_repair(archive: Archive, desk: Desk) -> None:
    """A revoked key is no reason beside a blob."""

    class Revoked(Desk):
        async def turn(self, call: str) -> None:
            raise SourceRefused("FAILED TO AUTHENTICATE")

    lose(archive, 2)
    with pytest.raises(SourceRefused):
        mended(archive, Revoked(3))


@pytest.mark.parametrize("harm", ODD)
def test_an_odd_thing_does_not_end_a_repair(
    archive: Archive, harm: Callable[[Archive, int], str]
) -> None:
    """What stands in the way of one is told; the others are repaired."""
    desk = Desk(5)
    pull(desk, archive)
    odd = harm(archive, 3)
    others = {sha for sha, _ in archive.queries.expected_blobs()} - {odd}
    for sha256 in others:
        path_of(archive, sha256).unlink(missing_ok=True)
    report = mended(archive, desk)
    if harm is into_a_pipe:
        assert set(report.repaired) == {odd, *others}
        return
    assert odd not in report.repaired
    assert "move it away" in report.unrepaired[odd]
    assert len(report.repaired) >= len(others) - 1
    assert report.exit_code == 6


def test_a_blob_of_nobody_has_no_source(archive: Archive, desk: Desk) -> None:
    """Without an attachment there is nothing to ask for."""
    report = VerifyReport(lost=["0" * 64])
    asyncio.run(repair(archive, KayakoSource(desk), report))
    assert report.unrepaired == {"0" * 64: "no attachment refers to it"}


def test_a_full_disk_ends_the_repair(
    archive: Archive, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as what it is, with no temporary file left."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    lose(archive, 2)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArchiveUnwritable):
        mended(archive, desk)
    assert temporary(archive) == []


def test_a_repair_can_be_interrupted(archive: Archive, desk: Desk) -> None:
    """What is repaired stays repaired; the rest waits for the next time."""
    lost = sorted([lose(archive, 2), lose(archive, 3)])
    stop = Stop()

    class Stopping(Desk):
        async def turn(self, call: str) -> None:
            stop.ask()
            await super().turn(call)

    report = checked(archive)
    with pytest.raises(Interrupted, match="what was repaired stays"):
        asyncio.run(repair(archive, KayakoSource(Stopping(3)), report, stop=stop))
    assert report.repaired == lost[:1]
    assert checked(archive).lost == lost[1:]
