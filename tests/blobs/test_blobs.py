"""Blobs: where they are, what they are believed to be, and what is refused."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.archive import Archive, BlobWriter, StoredBlob, Verdict, open_archive
from migrator.errors import ArchiveDamaged, ArchiveUnwritable

Put = Callable[[bytes], StoredBlob]
DATA = b"an attachment " * 1000
SHA = hashlib.sha256(DATA).hexdigest()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def temps(archive: Archive) -> list[Path]:
    return list(archive.blobs.temp.iterdir())


def test_a_blob_is_found_under_its_hash(archive: Archive, root: Path) -> None:
    """A committed blob is one read-only file named by its SHA-256, and nothing else is left."""
    with archive.blobs.writer() as writer:
        writer.write(DATA[:5])
        writer.write(DATA[5:])
        assert (writer.sha256, writer.size) == (SHA, len(DATA))
        blob = writer.commit()
    assert blob == StoredBlob(SHA, len(DATA), "text/plain", deduped=False)
    path = root / "blobs" / SHA[:2] / SHA[2:4] / SHA
    assert archive.blobs.path(SHA) == path
    assert path.read_bytes() == DATA
    assert list(archive.blobs.scan()) == [path]
    assert archive.blobs.size(SHA) == len(DATA)
    with archive.blobs.open(SHA) as file:
        assert file.read() == DATA
    assert archive.blobs.check(SHA, len(DATA)) is Verdict.OK


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    """Directories are 0700, blobs 0400, other files 0600, whatever the umask."""
    for umask in (0o000, 0o777):
        root = tmp_path / f"{umask:o}" / "archive"
        old = os.umask(umask)
        try:
            with open_archive(root, command="test") as archive, archive.blobs.writer() as writer:
                assert mode(temps(archive)[0]) == 0o600
                sha = writer.commit().sha256
                run = archive.ledger.begin_run("run", source="", scope={})
                assert run.id == 1
                for name in ("checkpoint.db", "checkpoint.db-wal", "checkpoint.db-shm", "lock"):
                    assert mode(root / name) == 0o600
        finally:
            os.umask(old)
        assert mode(archive.blobs.path(sha)) == 0o400
        for folder in (root.parent, root, *(p for p in root.rglob("*") if p.is_dir())):
            assert mode(folder) == 0o700


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    """An archive directory made by the user is not made wider or narrower."""
    root = tmp_path / "mine"
    root.mkdir()
    root.chmod(0o750)
    with open_archive(root, command="test"):
        assert mode(root) == 0o750


def test_an_empty_file_is_a_blob(put: Put) -> None:
    """No bytes at all are a content like any other."""
    blob = put(b"")
    assert (blob.size, blob.mime_type) == (0, "application/x-empty")
    assert blob.sha256 == hashlib.sha256().hexdigest()


def test_equal_bytes_are_kept_once(archive: Archive, put: Put) -> None:
    """The second equal blob is deduped and leaves the first file as it is."""
    put(DATA)
    inode = archive.blobs.path(SHA).stat().st_ino
    assert [put(DATA).deduped for _ in range(2)] == [True, True]
    assert archive.blobs.path(SHA).stat().st_ino == inode
    assert temps(archive) == []


@pytest.mark.parametrize("damage", [DATA[:-1], b"X" + DATA[1:], b"", DATA + b"more"])
def test_dedupe_looks_before_it_believes(archive: Archive, put: Put, damage: bytes) -> None:
    """A truncated, flipped, emptied or grown blob is not believed but replaced."""
    put(DATA)
    path = archive.blobs.path(SHA)
    path.chmod(0o600)
    path.write_bytes(damage)
    assert put(DATA).deduped is False
    assert path.read_bytes() == DATA
    assert mode(path) == 0o400


def test_a_verified_blob_is_read_again_when_it_changed(archive: Archive, put: Put) -> None:
    """What was verified is remembered for that very file only, not for a later one."""
    put(DATA)
    assert put(DATA).deduped
    path = archive.blobs.path(SHA)
    path.unlink()
    path.write_bytes(b"X" + DATA[1:])
    assert put(DATA).deduped is False
    assert path.read_bytes() == DATA


def test_a_blob_is_verified_once_per_process(
    archive: Archive, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A logo that comes a thousand times is read again once, not a thousand times."""
    reads: list[tuple[str, int]] = []
    check = archive.blobs.check

    def note(sha256: str, size: int) -> Verdict:
        reads.append((sha256, size))
        return check(sha256, size)

    monkeypatch.setattr(archive.blobs, "check", note)
    monkeypatch.setattr("migrator.blobs.local._REMEMBERED", 1)
    for _ in range(4):
        put(DATA)
    assert reads == [(SHA, len(DATA))]
    put(b"other")
    put(b"other")
    put(DATA)
    assert len(reads) == 3, "the memory is bounded: the other content took the place"


def test_an_unreadable_blob_is_not_believed(
    archive: Archive, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob that cannot be opened is replaced by the good copy at hand."""
    put(DATA)
    real = os.open

    def refuse(path: str | Path, flags: int, mode: int = 0o777, **how: int) -> int:
        if Path(path).name == SHA:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags, mode, **how)

    monkeypatch.setattr(os, "open", refuse)
    assert put(DATA).deduped is False


def test_writers_of_equal_bytes_do_not_disturb_each_other(archive: Archive) -> None:
    """Many threads that commit the same content at once end with one whole blob."""
    barrier = threading.Barrier(6)
    blobs: list[StoredBlob] = []

    def work() -> None:
        with archive.blobs.writer() as writer:
            writer.write(DATA)
            barrier.wait()
            blobs.append(writer.commit())

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {blob.sha256 for blob in blobs} == {SHA}
    assert len(blobs) == 6
    assert archive.blobs.check(SHA, len(DATA)) is Verdict.OK
    assert temps(archive) == []


def test_a_writer_that_is_not_committed_leaves_nothing(archive: Archive) -> None:
    """Leaving the block, an exception or abort() remove the temporary file."""
    with archive.blobs.writer() as writer:
        writer.write(DATA)
        assert len(temps(archive)) == 1
    assert temps(archive) == []
    with pytest.raises(RuntimeError, match="boom"), archive.blobs.writer() as writer:
        raise RuntimeError("boom")
    writer.abort()
    assert list(archive.blobs.scan()) == []


@pytest.mark.parametrize("end", [BlobWriter.commit, BlobWriter.abort])
def test_a_writer_is_used_once(archive: Archive, end: Callable[[BlobWriter], object]) -> None:
    """After commit or abort a writer refuses to write and to commit."""
    writer = archive.blobs.writer()
    end(writer)
    with pytest.raises(ValueError, match="already"):
        writer.write(b"x")
    with pytest.raises(ValueError, match="already"):
        writer.commit()


@pytest.mark.parametrize(
    "name", ["", "ab", "../" * 21 + "x", SHA.upper(), SHA + "\n", SHA[:-1] + "/", "g" * 64]
)
def test_only_a_hash_becomes_a_path(archive: Archive, name: str) -> None:
    """Anything but 64 lower-case hex digits is refused before the file system sees it."""
    for method in (archive.blobs.path, archive.blobs.size, archive.blobs.open):
        with pytest.raises(ValueError, match="64 lower-case hex"):
            method(name)


def test_check_tells_damaged_from_lost(archive: Archive, put: Put, tmp_path: Path) -> None:
    """No file is lost; other bytes, another length, a link or a directory are damaged."""
    put(DATA)
    path = archive.blobs.path(SHA)
    assert archive.blobs.check(SHA, len(DATA) + 1) is Verdict.DAMAGED
    path.chmod(0o600)
    path.write_bytes(b"X" + DATA[1:])
    assert archive.blobs.check(SHA, len(DATA)) is Verdict.DAMAGED
    path.unlink()
    assert archive.blobs.check(SHA, len(DATA)) is Verdict.LOST
    assert archive.blobs.size(SHA) is None
    with pytest.raises(ArchiveDamaged, match="cannot be read"):
        archive.blobs.open(SHA)
    (tmp_path / "elsewhere").write_bytes(DATA)
    path.symlink_to(tmp_path / "elsewhere")
    assert archive.blobs.check(SHA, len(DATA)) is Verdict.DAMAGED
    assert archive.blobs.size(SHA) is None
    with pytest.raises(ArchiveDamaged):
        archive.blobs.open(SHA)
    path.unlink()
    path.mkdir()
    assert archive.blobs.check(SHA, len(DATA)) is Verdict.DAMAGED


def test_bytes_that_the_disk_cannot_give_back_are_damaged(
    archive: Archive, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input/output error while reading a blob again is a verdict, not a crash."""
    put(DATA)

    def fail(file: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("migrator.blobs.local._hash", fail)
    assert archive.blobs.check(SHA, len(DATA)) is Verdict.DAMAGED


@pytest.mark.parametrize("kind", ["pipe", "link to nowhere", "directory", "file above", "EACCES"])
def test_what_cannot_be_read_is_damaged_with_its_reason(
    archive: Archive, put: Put, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Whatever is in a blob's place is a verdict, waits for nobody, and says what it is."""
    put(DATA)
    path, real = archive.blobs.path(SHA), os.open
    if kind != "EACCES":
        path.unlink()
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "link to nowhere":
            path.symlink_to("/nowhere")
        case "directory":
            path.mkdir()
        case "file above":
            path.parent.rmdir()
            path.parent.touch()
        case _:

            def refuse(name: str | Path, flags: int, mode: int = 0o777, **how: int) -> int:
                if Path(name).name == SHA:
                    raise PermissionError(13, "Permission denied", str(name))
                return real(name, flags, mode, **how)

            monkeypatch.setattr(os, "open", refuse)
    says = {"pipe": "named pipe", "link to nowhere": "symbolic link", "directory": "a directory"}
    says |= {"file above": "Not a directory", "EACCES": "Permission denied"}
    found = archive.blobs.examine(SHA, len(DATA))
    assert found.verdict is Verdict.DAMAGED
    assert says[kind] in found.reason
    assert archive.blobs.has(SHA) is (kind != "file above")


def test_a_huge_file_in_its_place_is_not_read(archive: Archive, put: Put) -> None:
    """Its size is enough: a sparse file of a terabyte is known at once."""
    put(DATA)
    path = archive.blobs.path(SHA)
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    assert archive.blobs.check(SHA, len(DATA)) is Verdict.DAMAGED


def test_scan_shows_strangers_and_leftovers(archive: Archive, put: Put) -> None:
    """Every file below blobs/ is told, also those that do not belong there."""
    put(DATA)
    (archive.blobs.temp / "left").touch()
    (archive.blobs.folder / "stranger").touch()
    found = {path.name for path in archive.blobs.scan()}
    assert found == {SHA, "left", "stranger"}


def test_scan_does_not_skip_what_it_cannot_read(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that cannot be listed is an error, not an empty one."""

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ArchiveDamaged, match="Permission denied"):
        list(archive.blobs.scan())


def test_scan_goes_on_where_somebody_takes_note(
    archive: Archive, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One directory that cannot be listed is told; all the others are listed."""
    put(DATA)
    put(b"other")
    folder, real = archive.blobs.path(SHA).parent.parent, os.scandir

    def refuse(path: str) -> object:
        if Path(path) == folder:
            raise OSError(5, "Input/output error", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    told: list[tuple[Path, str]] = []
    found = list(archive.blobs.scan(lambda path, reason: told.append((path, reason))))
    assert len(found) == 1
    assert told == [(folder, "Input/output error")]


def test_what_a_killed_run_left_stays(root: Path) -> None:
    """Opening an archive for a run removes nothing: that is asked for, never guessed."""
    with open_archive(root, command="test") as archive:
        left = archive.blobs.temp / ("0" * 32)
        left.write_bytes(b"half a file")
    with open_archive(root, command="test"):
        assert left.read_bytes() == b"half a file"


def test_files_are_known_by_name_and_place(archive: Archive, put: Put) -> None:
    """Only what this store would write is a blob or a temporary file."""
    sha, folder = put(DATA).sha256, archive.blobs.folder
    kinds = {
        folder / "tmp" / ("0f" * 16): "temporary",
        folder / "tmp" / ("0f" * 32): None,
        folder / "tmp" / "README": None,
        folder / sha: None,
        folder / "ab" / sha: None,
        folder / "00" / sha[2:4] / sha: None,
        folder / sha[:2] / sha[2:4] / sha.upper(): None,
        archive.blobs.path(sha): "blob",
    }
    assert {path: archive.blobs.kind(path) for path in kinds} == kinds


def test_a_file_of_the_store_is_removed(archive: Archive, put: Put) -> None:
    """It gives the bytes that are free now; what is not there cannot be removed."""
    path = archive.blobs.path(put(DATA).sha256)
    assert archive.blobs.remove(path) == len(DATA)
    assert not path.exists()
    with pytest.raises(ArchiveUnwritable):
        archive.blobs.remove(path)


@pytest.mark.parametrize("place", ["README", "tmp/README", "ab/README"])
def test_a_strangers_file_is_not_removed(archive: Archive, place: str) -> None:
    """Whatever the store would not have written is not its own to remove."""
    path = archive.blobs.folder / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(ValueError, match="no file of this store"):
        archive.blobs.remove(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("link", ["aa", "aa/aa", "aa/aa/" + "aa" * 32])
def test_removing_follows_no_link(archive: Archive, tmp_path: Path, link: str) -> None:
    """Neither a linked file nor one in a linked directory is removed, nor the link itself."""
    name = "aa" * 32
    outside = tmp_path / "outside"
    inner = Path(f"aa/aa/{name}").relative_to(link)
    (outside / inner).parent.mkdir(parents=True, exist_ok=True)
    (outside / inner).write_text("mine")
    planted = archive.blobs.folder / link
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.symlink_to(outside)
    with pytest.raises(ArchiveUnwritable):
        archive.blobs.remove(archive.blobs.path(name))
    assert (outside / inner).read_text() == "mine"
    assert planted.is_symlink()


def test_a_temporary_file_is_never_followed(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link planted under the name of a temporary file is refused, not written through."""
    target = tmp_path / "target"
    target.write_text("mine")
    monkeypatch.setattr("secrets.token_hex", lambda n: "planted")
    (archive.blobs.temp / "planted").symlink_to(target)
    with pytest.raises(ArchiveUnwritable):
        archive.blobs.writer()
    assert target.read_text() == "mine"
