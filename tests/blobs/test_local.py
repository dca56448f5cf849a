"""The store on a disk: what is promised of it beyond the contract of all stores."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from migrator.archive import Archive, Examined, StoredBlob, Verdict, open_archive
from migrator.blobs.base import Entry
from migrator.blobs.local import LocalStore
from migrator.errors import ArchiveDamaged, ArchiveUnwritable
from tests.blobs.layout import bytes_of, path_of, temp_of

Put = Callable[[bytes], StoredBlob]
DATA = b"an attachment " * 1000
SHA = hashlib.sha256(DATA).hexdigest()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def temps(archive: Archive) -> list[Path]:
    return list(temp_of(archive).iterdir())


def test_a_blob_is_found_under_its_hash(archive: Archive, root: Path, put: Put) -> None:
    """A committed blob is one file named by its SHA-256, and nothing else is left."""
    assert put(DATA) == StoredBlob(SHA, len(DATA), "text/plain", deduped=False)
    path = root / "blobs" / SHA[:2] / SHA[2:4] / SHA
    assert path.read_bytes() == DATA
    assert mode(path) == 0o400
    assert list(archive.blobs.scan()) == [Entry(str(path.relative_to(root)), "blob", SHA)]


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
        assert mode(path_of(archive, sha)) == 0o400
        for folder in (root.parent, root, *(p for p in root.rglob("*") if p.is_dir())):
            assert mode(folder) == 0o700


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    """An archive directory made by the user is not made wider or narrower."""
    root = tmp_path / "mine"
    root.mkdir()
    root.chmod(0o750)
    with open_archive(root, command="test"):
        assert mode(root) == 0o750


def test_equal_bytes_leave_the_first_file_as_it_is(archive: Archive, put: Put) -> None:
    """The second equal blob is deduped: the same file is there, not another one."""
    put(DATA)
    inode = path_of(archive, SHA).stat().st_ino
    assert put(DATA).deduped
    assert path_of(archive, SHA).stat().st_ino == inode
    assert temps(archive) == []


def test_a_verified_blob_is_read_again_when_it_changed(archive: Archive, put: Put) -> None:
    """What was verified is remembered for that very file only, not for a later one."""
    put(DATA)
    assert put(DATA).deduped
    path = path_of(archive, SHA)
    path.unlink()
    path.write_bytes(b"X" + DATA[1:])
    assert put(DATA).deduped is False
    assert path.read_bytes() == DATA


def test_a_blob_is_verified_once_per_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A logo that comes a thousand times is read again once, not a thousand times."""
    store, real = LocalStore(tmp_path, remembered=1), os.open
    store.prepare()
    reads: list[str] = []

    def opened(path: str | Path, flags: int, mode: int = 0o777, **how: int) -> int:
        if Path(path).name == SHA:
            reads.append(SHA)
        return real(path, flags, mode, **how)

    def put_one(data: bytes) -> None:
        with store.writer() as writer:
            writer.write(data)
            writer.commit()

    monkeypatch.setattr(os, "open", opened)
    for _ in range(4):
        put_one(DATA)
    assert reads == [SHA]
    put_one(b"other")
    put_one(b"other")
    put_one(DATA)
    assert reads == [SHA, SHA], "the memory is bounded: the other content took the place"


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


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_what_is_no_file_is_no_blob(archive: Archive, put: Put, tmp_path: Path, kind: str) -> None:
    """A link, were it to the same bytes, a directory or a pipe is damage and cannot be opened."""
    put(DATA)
    path = path_of(archive, SHA)
    match kind:
        case "link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
        case "directory":
            path.unlink()
            path.mkdir()
        case _:
            path.unlink()
            os.mkfifo(path)
    assert archive.blobs.examine(SHA, len(DATA)).verdict is Verdict.DAMAGED
    assert archive.blobs.size(SHA) is None
    assert archive.blobs.open(SHA) is None


def test_bytes_that_the_disk_cannot_give_back_are_damaged(
    archive: Archive, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input/output error is a verdict when a blob is examined, and damage when it is read."""
    put(DATA)

    def fail(*_: object) -> NoReturn:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(hashlib, "file_digest", fail)
    found = archive.blobs.examine(SHA, len(DATA))
    assert found == Examined(Verdict.DAMAGED, "it cannot be read: Input/output error")
    monkeypatch.setattr(os, "pread", fail)
    blob = archive.blobs.open(SHA)
    assert blob is not None
    with blob, pytest.raises(ArchiveDamaged, match="Input/output error"):
        blob.read(0, 1)


def test_a_short_read_is_continued(
    archive: Archive, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system call that gives only some of the bytes is repeated for the rest."""
    put(DATA)
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, at: real(fd, min(length, 999), at))
    assert bytes_of(archive, SHA) == DATA


def test_a_blob_that_changes_while_it_is_open_is_read_as_it_was(archive: Archive, put: Put) -> None:
    """A file that takes its place is another version, and the open one stays what it is."""
    put(DATA)
    blob, path = archive.blobs.open(SHA), path_of(archive, SHA)
    assert blob is not None
    with blob:
        path.unlink()
        path.write_bytes(b"X" + DATA[1:])
        later = archive.blobs.open(SHA)
        assert later is not None
        with later:
            assert later.version != blob.version
        assert blob.read(0, len(DATA)) == DATA


def rewrite(path: Path, data: bytes) -> None:
    """Write other bytes into a file, and put back the times that anybody can put back."""
    before = path.stat()
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_open_blob_knows_whether_it_was_written_to(archive: Archive, put: Put) -> None:
    """A new link is no new content; other bytes are, whatever the time of the last write."""
    put(DATA)
    blob, path = archive.blobs.open(SHA), path_of(archive, SHA)
    assert blob is not None
    with blob:
        assert blob.untouched()
        path.with_name("link").hardlink_to(path)
        assert blob.untouched()
    again = archive.blobs.open(SHA)
    assert again is not None
    with again:
        rewrite(path, b"X" + DATA[1:])
        assert not again.untouched()


def test_equal_bytes_replace_a_blob_that_was_changed_in_secret(archive: Archive, put: Put) -> None:
    """What was verified once is not taken for the same file because its size and time are."""
    for _ in range(2):
        put(DATA)
    rewrite(path_of(archive, SHA), b"X" + DATA[1:])
    put(DATA)
    assert archive.blobs.examine(SHA, len(DATA)).verdict is Verdict.OK


@pytest.mark.parametrize("kind", ["pipe", "link to nowhere", "directory", "file above", "EACCES"])
def test_what_cannot_be_read_is_damaged_with_its_reason(
    archive: Archive, put: Put, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Whatever is in a blob's place is a verdict, waits for nobody, and says what it is."""
    put(DATA)
    path, real = path_of(archive, SHA), os.open
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
    path = path_of(archive, SHA)
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    assert archive.blobs.examine(SHA, len(DATA)).verdict is Verdict.DAMAGED


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
    folder, real = path_of(archive, SHA).parent.parent, os.scandir

    def refuse(path: str) -> object:
        if Path(path) == folder:
            raise OSError(5, "Input/output error", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    told: list[tuple[str, str]] = []
    found = list(archive.blobs.scan(lambda path, reason: told.append((path, reason))))
    assert len(found) == 1
    assert told == [(str(folder.relative_to(archive.path)), "Input/output error")]


def test_what_a_killed_run_left_stays(root: Path) -> None:
    """Opening an archive for a run removes nothing: that is asked for, never guessed."""
    with open_archive(root, command="test") as archive:
        left = temp_of(archive) / ("0" * 32)
        left.write_bytes(b"half a file")
    with open_archive(root, command="test"):
        assert left.read_bytes() == b"half a file"


def test_files_are_known_by_name_and_place(archive: Archive, put: Put) -> None:
    """Only what this store would write is a blob or a temporary file."""
    sha = put(DATA).sha256
    kinds = {
        f"tmp/{'0f' * 16}": "temporary",
        f"tmp/{'0f' * 32}": None,
        "tmp/README": None,
        sha: None,
        f"ab/{sha}": None,
        f"00/{sha[2:4]}/{sha}": None,
        f"{sha[:2]}/{sha[2:4]}/{sha.upper()}": None,
    }
    for name in kinds:
        path = archive.path / "blobs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    kinds[f"{sha[:2]}/{sha[2:4]}/{sha}"] = "blob"
    found = {entry.name: entry.kind for entry in archive.blobs.scan()}
    assert found == {f"blobs/{name}": kind for name, kind in kinds.items()}
    for name, kind in kinds.items():
        entry = archive.blobs.entry(f"blobs/{name}")
        assert (entry and entry.kind) == kind


@pytest.mark.parametrize("place", ["README", "tmp/README", "ab/README"])
def test_a_strangers_file_is_not_removed(archive: Archive, place: str) -> None:
    """Whatever the store would not have written is not its own to remove."""
    path = archive.path / "blobs" / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(ValueError, match="no file of this store"):
        archive.blobs.remove(f"blobs/{place}")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("link", ["aa", "aa/aa", "aa/aa/" + "aa" * 32])
def test_removing_follows_no_link(archive: Archive, tmp_path: Path, link: str) -> None:
    """Neither a linked file nor one in a linked directory is removed, nor the link itself."""
    name = "aa" * 32
    outside = tmp_path / "outside"
    inner = Path(f"aa/aa/{name}").relative_to(link)
    (outside / inner).parent.mkdir(parents=True, exist_ok=True)
    (outside / inner).write_text("mine")
    planted = archive.path / "blobs" / link
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.symlink_to(outside)
    with pytest.raises(ArchiveUnwritable):
        archive.blobs.remove(str(path_of(archive, name).relative_to(archive.path)))
    assert (outside / inner).read_text() == "mine"
    assert planted.is_symlink()


def test_a_temporary_file_is_never_followed(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link planted under the name of a temporary file is refused, not written through."""
    target = tmp_path / "target"
    target.write_text("mine")
    monkeypatch.setattr("secrets.token_hex", lambda n: "planted")
    (temp_of(archive) / "planted").symlink_to(target)
    with pytest.raises(ArchiveUnwritable):
        archive.blobs.writer()
    assert target.read_text() == "mine"
