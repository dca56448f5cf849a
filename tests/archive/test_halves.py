"""Half an archive is a damaged one: told before anything is written, whoever opens it."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from migrator.archive import (
    Archive,
    State,
    StoredBlob,
    open_archive,
    open_beside,
    open_dry,
    open_read_only,
)
from migrator.errors import ArchiveDamaged, ArchiveMissing

Opener = Callable[[Path], Archive]
ListThem = Callable[..., int]
Store = Callable[[int, bytes], StoredBlob]
Put = Callable[[bytes], StoredBlob]


def for_run(path: Path) -> Archive:
    return open_archive(path, command="test")


def for_verify(path: Path) -> Archive:
    return open_archive(path, command="test", repairing=True)


OPENERS = [for_run, for_verify, open_beside, open_read_only, open_dry]
EVERY = pytest.mark.parametrize("opener", OPENERS)
BUT_VERIFY = pytest.mark.parametrize("opener", [one for one in OPENERS if one is not for_verify])


@pytest.fixture
def full(archive: Archive, root: Path, list_them: ListThem, store: Store) -> Path:
    """Make an archive of nine stored attachments that nobody has open."""
    with archive.ledger.atomic():
        run = list_them(*range(1, 10))
        for number in range(1, 10):
            store(number, b"%d" % number)
    archive.ledger.finish_run(run, exit_code=0, summary={})
    archive.close()
    return root


def change(root: Path, *statements: str) -> None:
    with closing(sqlite3.connect(root / "checkpoint.db", isolation_level=None)) as conn:
        for sql in statements:
            conn.execute(sql)


def names(root: Path) -> set[str]:
    """Name all that is in an archive, but for the lock and SQLite's own files."""
    found = (str(path.relative_to(root)) for path in root.rglob("*"))
    return {name for name in found if not name.startswith(("lock", "checkpoint.db-"))}


def forget(root: Path) -> None:
    for path in root.glob("checkpoint.db*"):
        path.unlink()


def empty(root: Path) -> None:
    forget(root)
    (root / "checkpoint.db").touch()


def renew(root: Path) -> None:
    forget(root)
    for_run(root.with_name("new")).close()
    shutil.copy(root.with_name("new") / "checkpoint.db", root)


def clear(root: Path) -> None:
    tables = ["progress", "posts", "attachments", "blobs", "tickets", "runs", "tokens"]
    change(root, *(f"DELETE FROM {table}" for table in tables))


def clear_all_but_runs(root: Path) -> None:
    change(root, *(f"DELETE FROM {table}" for table in ("posts", "attachments", "blobs")))


@EVERY
@pytest.mark.parametrize("harm", [forget, empty, renew, clear, clear_all_but_runs])
def test_files_without_their_checkpoint_are_damage(
    full: Path, opener: Opener, harm: Callable[[Path], None]
) -> None:
    """A checkpoint that is missing, empty, new or cleared beside files: told, nothing is made."""
    harm(full)
    before = names(full)
    with pytest.raises(ArchiveDamaged, match="from a backup"):
        opener(full)
    assert names(full) == before
    if harm is empty:
        assert (full / "checkpoint.db").stat().st_size == 0


def unmount(root: Path) -> None:
    shutil.rmtree(root / "blobs")


def mount_nothing(root: Path) -> None:
    unmount(root)
    (root / "blobs").mkdir()


def mount_another(root: Path) -> None:
    mount_nothing(root)
    (root / "blobs" / "lost+found").mkdir()
    (root / "blobs" / "README").touch()


def lead_nowhere(root: Path) -> None:
    unmount(root)
    (root / "blobs").symlink_to(root / "disk")


@EVERY
@pytest.mark.parametrize("harm", [unmount, mount_nothing, mount_another, lead_nowhere])
def test_a_checkpoint_without_its_files_is_damage(
    full: Path, opener: Opener, harm: Callable[[Path], None]
) -> None:
    """Where the disk is not mounted nothing is made in its place, not even by a repair."""
    harm(full)
    before = names(full)
    with pytest.raises(ArchiveDamaged, match="mounted"):
        opener(full)
    assert names(full) == before


@BUT_VERIFY
@pytest.mark.parametrize("foreign", [False, True])
def test_files_of_which_none_is_there_are_damage(full: Path, opener: Opener, foreign: bool) -> None:
    """What an earlier version made where the disk was to be, or the disk of another archive."""
    mount_nothing(full)
    (full / "blobs" / "tmp").mkdir()
    if foreign:
        folder = full / "blobs" / "ab" / "cd"
        folder.mkdir(parents=True)
        (folder / ("abcd" + "0" * 60)).write_bytes(b"of another archive")
    with pytest.raises(ArchiveDamaged, match="mounted"):
        opener(full)


def test_files_that_are_really_lost_can_be_repaired(full: Path) -> None:
    """With the directory for temporary files in its place, whoever repairs may go on."""
    mount_nothing(full)
    (full / "blobs" / "tmp").mkdir()
    with for_verify(full) as archive:
        assert archive.queries.counts()[State.STORED].n == 9


@EVERY
def test_one_file_is_enough_to_know_the_disk(full: Path, opener: Opener) -> None:
    """Lost files are the business of verify; whole directories may be gone as well."""
    for folder in sorted((full / "blobs").glob("[0-9a-f]*"))[:-1]:
        shutil.rmtree(folder)
    with opener(full) as archive:
        assert archive.queries.counts()[State.STORED].n == 9


@EVERY
def test_the_files_may_be_on_another_disk(full: Path, opener: Opener, tmp_path: Path) -> None:
    """A link in the place of blobs is the way there."""
    (full / "blobs").rename(tmp_path / "disk")
    (full / "blobs").symlink_to(tmp_path / "disk")
    with opener(full) as archive:
        assert len(list(archive.blobs.scan())) == 9


def test_a_copy_without_empty_directories_is_an_archive(full: Path) -> None:
    """The directory for temporary files is nobody's proof of anything."""
    (full / "blobs" / "tmp").rmdir()
    with for_run(full):
        assert (full / "blobs" / "tmp").is_dir()


@EVERY
def test_a_first_run_that_was_killed_is_no_damage(
    archive: Archive, root: Path, list_them: ListThem, put: Put, opener: Opener
) -> None:
    """A file is published before its row says so: the next run takes it for its own."""
    list_them(1)
    put(b"published, and then came SIGKILL")
    archive.close()
    with opener(root) as again:
        assert again.queries.counts()[State.PENDING].n == 1


@pytest.mark.parametrize("opener", [for_run, open_beside, open_dry])
def test_a_new_archive_is_no_damage(root: Path, opener: Opener) -> None:
    """Without files and rows there is nothing that could be missing."""
    for_run(root).close()
    (root / "blobs" / "tmp" / ("0f" * 16)).touch()
    opener(root).close()
    (root / "blobs" / "tmp" / ("0f" * 16)).unlink()
    (root / "blobs" / "tmp").rmdir()
    (root / "blobs").rmdir()
    opener(root).close()


def test_an_archive_that_is_not_there_is_missing_not_damaged(tmp_path: Path) -> None:
    """Nothing at all is a mistake in the configuration, also for whoever repairs."""
    for opener in (for_verify, open_beside, open_read_only):
        with pytest.raises(ArchiveMissing):
            opener(tmp_path / "archive")
    assert list(tmp_path.iterdir()) == []


def test_an_open_archive_can_be_asked_again(
    archive: Archive, root: Path, list_them: ListThem, store: Store
) -> None:
    """What is served notices that its disk has gone, and that it is back."""
    list_them(1)
    store(1, b"x")
    archive.see_both_halves()
    (root / "blobs").rename(root / "away")
    with pytest.raises(ArchiveDamaged, match="mounted"):
        archive.see_both_halves()
    (root / "away").rename(root / "blobs")
    archive.see_both_halves()


def test_looking_is_cheap(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A healthy archive is known by one of its files, however many there are."""
    looks: list[str] = []
    real = os.lstat

    def count(path: str | Path, **how: int) -> os.stat_result:
        looks.append(str(path))
        return real(path, **how)

    with open_beside(full) as archive:
        monkeypatch.setattr(os, "lstat", count)
        archive.see_both_halves()
    assert len(looks) == 1


# Strange things in its place


def socket_at(path: Path) -> None:
    old = Path.cwd()
    os.chdir(path.parent)  # its address must be short
    try:
        with closing(socket.socket(socket.AF_UNIX)) as one:
            one.bind(path.name)
    finally:
        os.chdir(old)


def device_at(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero, which never ends
    except PermissionError:
        pytest.skip("may not make a device")


STRANGE: dict[str, Callable[[Path], object]] = {
    "a named pipe": os.mkfifo,
    "a directory": Path.mkdir,
    "a socket": socket_at,
    "a symbolic link": lambda path: path.symlink_to("/nowhere/at/all"),
    "a device": device_at,
}


@pytest.fixture
def strange(full: Path) -> Callable[[str, str], None]:
    """Put something strange in the place of a part of the archive."""

    def put(name: str, kind: str) -> None:
        path = full / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        STRANGE[kind](path)

    return put


@EVERY
@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize(
    "name", ["lock", "checkpoint.db", "checkpoint.db-wal", "checkpoint.db-shm"]
)
def test_what_is_no_file_is_told_and_not_waited_for(
    full: Path, strange: Callable[[str, str], None], opener: Opener, name: str, kind: str
) -> None:
    """Neither a pipe nor a device in a file's place hangs us; the text says what is there."""
    strange(name, kind)
    with pytest.raises(ArchiveDamaged, match=f"{name}' is {kind}"):
        opener(full)


@EVERY
@pytest.mark.parametrize("kind", ["a named pipe", "a socket", "a device", "a file"])
def test_what_is_no_directory_is_told(
    full: Path, strange: Callable[[str, str], None], opener: Opener, kind: str
) -> None:
    """The same for the directory of the files."""
    if kind == "a file":
        shutil.rmtree(full / "blobs")
        (full / "blobs").touch()
    else:
        strange("blobs", kind)
    with pytest.raises(ArchiveDamaged, match=f"blobs' is {kind}"):
        opener(full)
