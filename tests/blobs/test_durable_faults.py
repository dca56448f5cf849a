"""The durable write: its order, and what is left when a step of it fails."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.archive import Archive, open_archive
from migrator.blobs import durable
from migrator.blobs.base import Entry
from migrator.errors import ArchiveUnwritable
from tests.blobs.layout import path_of, temp_of

DATA = b"x" * 100_000


def where(fd: int) -> str:
    return str(Path(f"/proc/self/fd/{fd}").readlink())


def save(archive: Archive) -> str:
    with archive.blobs.writer() as writer:
        writer.write(DATA)
        return writer.commit().sha256


def files(archive: Archive) -> list[Entry]:
    return list(archive.blobs.scan())


def test_nothing_is_named_before_it_is_on_the_disk(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is synced, then named, then every directory up to blobs/ is synced."""
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(fd: int) -> None:
        steps.append(f"fsync {where(fd)}")
        fsync(fd)

    def note_replace(temp: str, target: str) -> None:
        steps.append(f"rename {temp}")
        replace(temp, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    with archive.blobs.writer() as writer:
        writer.write(DATA)
        temp = next(temp_of(archive).iterdir())
        folder = path_of(archive, writer.commit().sha256).parent
    assert steps == [
        f"fsync {temp}",
        f"rename {temp}",
        f"fsync {folder}",
        f"fsync {folder.parent}",
        f"fsync {folder.parent.parent}",
    ]


def test_a_new_directory_is_synced_below_a_known_one(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry of each new directory is made durable, once per process."""
    by_place: dict[str, dict[str, bytes]] = {}
    for data in (b"%d" % number for number in range(200_000)):
        name = hashlib.sha256(data).hexdigest()
        near = by_place.setdefault(name[:2], {})
        if name[:4] in near and len(near) > 1:
            break
        near[name[:4]] = data
    first = next(one for place, one in near.items() if place != name[:4])
    synced: list[str] = []
    monkeypatch.setattr(durable, "sync_dir", lambda path: synced.append(Path(path).name))
    for content in (first, near[name[:4]], data):
        with archive.blobs.writer() as writer:
            writer.write(content)
            writer.commit()
    outer, inner = name[:2], name[2:4]
    known = hashlib.sha256(first).hexdigest()[2:4]
    assert synced == [known, outer, "blobs", inner, outer, inner]


def fail_at(name: str, error: int, when: Callable[[str], bool]) -> Callable[..., None]:
    real = getattr(os, name)

    def maybe(fd: int, *args: object) -> object:
        if when(where(fd)):
            raise OSError(error, os.strerror(error))
        return real(fd, *args)

    return maybe  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "input/output error"),
        (errno.EACCES, "permission denied"),
        (errno.ENOENT, "vanished"),
        (errno.ENAMETOOLONG, "File name too long"),
    ],
)
@pytest.mark.parametrize("step", ["write", "fsync", "fchmod"])
def test_a_failing_step_leaves_nothing_and_says_what_to_do(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, step: str, error: int, advice: str
) -> None:
    """Whatever step fails, the temporary file is gone and the user is told why."""
    monkeypatch.setattr(os, step, fail_at(step, error, lambda path: "/blobs/tmp/" in path))
    with pytest.raises(ArchiveUnwritable, match=advice) as caught:
        save(archive)
    assert repr(str(archive.path)) in str(caught.value)
    assert files(archive) == []


def test_a_failing_rename_leaves_nothing(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step before the name fails: no name, no temporary file."""

    def fail(temp: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ArchiveUnwritable, match="disk is full"):
        save(archive)
    assert files(archive) == []


def test_a_directory_that_cannot_be_synced(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EINVAL of a file system without directory sync is tolerated, EIO never."""
    is_dir = os.path.isdir
    monkeypatch.setattr(os, "fsync", fail_at("fsync", errno.EINVAL, is_dir))
    with archive.blobs.writer() as writer:
        assert writer.commit().size == 0
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", fail_at("fsync", errno.EIO, is_dir))
    with pytest.raises(ArchiveUnwritable, match="input/output"):
        save(archive)


def test_a_file_that_is_too_short_is_never_named(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that the disk swallowed are noticed by the length check."""
    monkeypatch.setattr(os, "write", lambda fd, data: len(data))
    with pytest.raises(ArchiveUnwritable):
        save(archive)
    assert files(archive) == []


def test_a_short_write_is_continued(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system call that takes only some of the bytes is repeated for the rest."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:999]))
    sha = save(archive)
    assert path_of(archive, sha).read_bytes() == DATA


def test_a_new_file_whose_mode_cannot_be_set_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that could be readable for others does not stay behind."""
    monkeypatch.setattr(os, "fchmod", fail_at("fchmod", errno.EPERM, lambda path: True))
    with pytest.raises(PermissionError):
        durable.create(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_path_that_cannot_be(tmp_path: Path) -> None:
    """A file, a path below a file and a dangling link are refused with a text."""
    file = tmp_path / "file"
    file.touch()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ArchiveUnwritable, match="must be a directory"):
        open_archive(file, command="test")
    with pytest.raises(ArchiveUnwritable):
        open_archive(file / "below", command="test")
    with pytest.raises(ArchiveUnwritable):
        open_archive(tmp_path / "link", command="test")


@pytest.mark.parametrize("harm", ["write", "fsync", "replace"])
def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """Whatever step fails, the file that was there is what it was, and nothing is beside it."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = tmp_path / "file"
    durable.write(target, [b"o", b"ld"])
    with monkeypatch.context() as patch:
        patch.setattr(os, harm, fail)
        with pytest.raises(OSError, match="No space"):
            durable.write(target, [b"new"])
        with pytest.raises(OSError, match="No space"):
            durable.write(tmp_path / "another", [b"new"], replace=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}
    durable.write(target, [b"new"])
    assert target.read_bytes() == b"new"


def test_a_written_file_and_its_name_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is synced before it has its name, and its directory after that."""
    target, fsync = tmp_path / "file", os.fsync
    steps: list[tuple[str, bool]] = []

    def note(fd: int) -> None:
        steps.append((where(fd), target.exists()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    durable.write(target, [b"data"], temp=tmp_path / "temp")
    assert steps == [(str(tmp_path / "temp"), False), (str(tmp_path), True)]


def test_new_directories_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new directory is made durable in the one above it, from the top; others are left."""
    synced: list[str] = []
    monkeypatch.setattr(durable, "sync_dir", lambda path: synced.append(str(path)))
    durable.make_dirs(tmp_path / "a" / "b")
    durable.make_dirs(tmp_path / "a" / "b")
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_name_that_is_taken_stays(tmp_path: Path) -> None:
    """Whoever must not replace a file does not, and leaves nothing beside it."""
    target = tmp_path / "file"
    target.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        durable.write(target, [b"new"], replace=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"mine"}
