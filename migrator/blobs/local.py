"""The store on a disk: one read-only file per content, named by its SHA-256.

``blobs/ab/cd/abcd…`` in the archive's directory holds the bytes whose SHA-256 is ``abcd…``, so
that ``sha256sum`` alone can check it. Temporary files live in ``blobs/tmp``, on the same file
system. This module alone knows paths, inodes and descriptors of blobs.
"""
# ruff: noqa: D102 - the contract says what the methods of a store do

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

from migrator.blobs import base, durable
from migrator.blobs.base import Entry, Examined, Verdict
from migrator.errors import ArchiveDamaged

_FOLDER = "blobs"
_HEX64 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NEW = "tmp"
_TEMP = re.compile(rf"{_FOLDER}/{_NEW}/[0-9a-f]{{32}}", re.ASCII)
_BLOB = re.compile(rf"{_FOLDER}/([0-9a-f]{{2}})/([0-9a-f]{{2}})/(\1\2[0-9a-f]{{60}})", re.ASCII)
_NO_FILE = (errno.ENOENT, errno.ELOOP, errno.EINVAL)
"""Nothing is there, or a link, or anything else but a regular file."""
_Look = tuple[int, ...]
_FRESH = 2_000_000_000
"""Nanoseconds: the coarsest clock of a file system. Two changes within it may look like one."""


class LocalStore(base.Store):
    """Blobs below ``root``/blobs; ``root`` is the archive's directory.

    So many ``remembered`` blobs are not read again when they are stored again: such hits cluster
    on few blobs (logos). Names of entries are relative to ``root``.
    """

    if_bare = "Is the disk mounted? Mount it"

    def __init__(self, root: Path, *, remembered: int = 1 << 16) -> None:
        self._root = root
        self._folder = root / _FOLDER
        self._temp = self._folder / _NEW
        self.where = str(self._folder)
        self._remembered = remembered
        self._verified: dict[str, _Look] = {}
        self._synced: set[str] = set()
        self._lock = threading.Lock()

    def prepare(self) -> None:
        with durable.writing(self._root):
            durable.make_dirs(self._temp)
            durable.sync_dir(self._root)  # a killed run may have left its entry unsaved

    def missing(self) -> list[str]:
        folder = self._folder
        with durable.writing(self._root):
            if os.path.lexists(folder) and not folder.is_dir():
                mode = folder.lstat().st_mode
                what = "a link to nowhere" if stat.S_ISLNK(mode) else durable.kind_of(mode)
                raise ArchiveDamaged(
                    f"{self.where!r} is {what}, where the directory of the files must be. Is its "
                    "disk mounted? Nothing was changed."
                )
            return [str(one) for one in (folder, self._temp) if not one.is_dir()]

    def writer(self) -> base.Writer:
        with durable.writing(self._root):
            file = durable.NewFile(f"{self.where}/{_NEW}/{secrets.token_hex(16)}")
        return _Writer(self._root, file, self._keep)

    def _name(self, sha256: str) -> str:
        """Return the path of a blob; only a hash may become a path."""
        if not _HEX64.fullmatch(sha256):
            raise ValueError("a blob is named by 64 lower-case hex digits")
        return f"{self.where}/{sha256[:2]}/{sha256[2:4]}/{sha256}"

    def open(self, sha256: str, /) -> base.Blob | None:
        name = self._name(sha256)
        try:
            return _Blob(name, durable.open_file(name))
        except OSError as error:
            if error.errno in _NO_FILE:
                return None
            raise _unreadable(name, error) from error

    def has(self, sha256: str, /) -> bool:
        try:
            os.lstat(self._name(sha256))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

    def blocked(self, sha256: str, /) -> str | None:
        path = Path(self._name(sha256))
        for folder in map(str, (path.parent.parent, path.parent)):
            if os.path.lexists(folder) and not os.path.isdir(folder):  # noqa: PTH112 - never raises
                return f"{folder!r} is not a directory: move it away"
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            return f"{str(path)!r} is a directory: move it away"
        return None

    def examine(self, sha256: str, size: int, /) -> Examined:
        name = self._name(sha256)
        try:
            mode = os.lstat(name).st_mode
            if not stat.S_ISREG(mode):
                return Examined(Verdict.DAMAGED, f"it is {durable.kind_of(mode)}, not a file")
            with FileIO(durable.open_file(name), "rb") as file:
                # A file of another size need not be read.
                whole = (
                    os.fstat(file.fileno()).st_size == size
                    and hashlib.file_digest(file, "sha256").hexdigest() == sha256
                )
        except FileNotFoundError:
            return Examined(Verdict.LOST)
        except OSError as error:
            return Examined(Verdict.DAMAGED, f"it cannot be read: {_words(error)}")
        return Examined(Verdict.OK if whole else Verdict.DAMAGED)

    def scan(self, unreadable: Callable[[str, str], None] | None = None, /) -> Iterator[Entry]:
        def refuse(error: OSError) -> None:
            if unreadable is None:
                raise error
            unreadable(self._shown(error.filename or self.where), _words(error))

        if not self._folder.exists():
            return
        try:
            for folder, folders, files in os.walk(self.where, onerror=refuse):
                folders.sort()
                for name in sorted(files):
                    yield self._named(self._shown(f"{folder}/{name}"))
        except OSError as error:
            raise _unreadable(self.where, error) from error

    def _shown(self, path: str) -> str:
        return _FOLDER + path[len(self.where) :]

    def _named(self, name: str) -> Entry:
        """Return what a file is by its name and place."""
        if found := _BLOB.fullmatch(name):
            return Entry(name, "blob", found[3])
        return Entry(name, "temporary" if _TEMP.fullmatch(name) else None)

    def entry(self, name: str, /) -> Entry | None:
        found = self._named(name)
        with contextlib.suppress(OSError):
            status = (self._root / name).lstat()
            if found.kind and stat.S_ISREG(status.st_mode):
                return Entry(name, found.kind, found.sha256, status.st_size)
        return None

    def remove(self, name: str, /) -> int:
        if self._named(name).kind is None:
            raise ValueError(f"{name!r} is no file of this store")
        with durable.writing(self._root):
            return durable.unlink_below(self._folder, Path(name).relative_to(_FOLDER))

    def copy_out(
        self,
        sha256: str,
        size: int,
        target: Path,
        *,
        temp: Path,
        link: bool = True,
        stopped: Callable[[], None] = lambda: None,
    ) -> Examined:
        if link:
            found = self.examine(sha256, size)
            if found.verdict is not Verdict.OK or durable.link(self._name(sha256), target):
                return found
        return super().copy_out(sha256, size, target, temp=temp, stopped=stopped)

    def _keep(self, file: durable.NewFile, sha256: str, size: int) -> bool:
        """Publish a new file as a blob; return False when a whole one is there already."""
        if self._holds(sha256, size):
            return False
        outer = f"{self.where}/{sha256[:2]}"
        inner = f"{outer}/{sha256[2:4]}"
        if sha256[:2] not in self._synced:
            durable.make_dir(outer)
        durable.make_dir(inner)
        file.publish(f"{inner}/{sha256}")
        self._sync(sha256)
        return True

    def _holds(self, sha256: str, size: int) -> bool:
        """Return whether the blob is there and whole; read it only once per process."""
        look = _look(self._name(sha256))
        if look is None or look[0] != size:
            return False
        if self._verified.get(sha256) == look:
            return True
        if self.examine(sha256, size).verdict is not Verdict.OK:
            return False
        # A killed process may have named the file without making the name durable.
        self._sync(sha256)
        with self._lock:
            if len(self._verified) >= self._remembered:
                self._verified.pop(next(iter(self._verified)))
            self._verified[sha256] = look
        return True

    def _sync(self, sha256: str) -> None:
        """Make the blob's name durable, and once per process the names of its directories.

        Once per process even where they exist: a killed one may have made them without saving.
        """
        outer = f"{self.where}/{sha256[:2]}"
        durable.sync_dir(f"{outer}/{sha256[2:4]}")
        if sha256[:4] not in self._synced:
            durable.sync_dir(outer)
            if sha256[:2] not in self._synced:
                durable.sync_dir(self.where)
            self._synced.update((sha256[:2], sha256[:4]))


class _Writer(base.Writer):
    def __init__(
        self,
        root: Path,
        file: durable.NewFile,
        keep: Callable[[durable.NewFile, str, int], bool],
    ) -> None:
        super().__init__()
        self._root = root
        self._file = file
        self._keep = keep

    def append(self, data: bytes, /) -> None:
        with durable.writing(self._root):
            self._file.write(data)

    def reopen(self) -> int:
        return self._file.reopen()

    def keep(self, sha256: str, size: int, /) -> bool:
        with durable.writing(self._root):
            return self._keep(self._file, sha256, size)

    def drop(self) -> None:
        self._file.close()


class _Blob(base.Blob):
    """An open file; its version is what identifies the file, and when it was last changed."""

    def __init__(self, name: str, fd: int) -> None:
        self._name = name
        self._file = FileIO(fd, "rb")
        status = os.fstat(fd)
        self.size = status.st_size
        self._status = status
        self.version = _look_of(status)
        self.fresh = time.time_ns() - status.st_ctime_ns < _FRESH

    def untouched(self) -> bool:
        try:
            now = os.fstat(self._file.fileno())
        except OSError as error:
            raise _unreadable(self._name, error) from error
        if _look_of(now) == self.version:
            return True
        # A new link or owner changes that time as well, as a handover or a backup may.
        return (now.st_size, now.st_mtime_ns) == (
            self._status.st_size,
            self._status.st_mtime_ns,
        ) and (_meta_of(now) != _meta_of(self._status))

    def read(self, offset: int, length: int, /) -> bytes:
        data, left = b"", min(length, self.size - offset)
        try:
            while left > 0 and (more := os.pread(self._file.fileno(), left, offset + len(data))):
                data = data + more if data else more
                left -= len(more)
        except OSError as error:
            raise _unreadable(self._name, error) from error
        return data

    def close(self) -> None:
        self._file.close()


def _look(name: str) -> _Look | None:
    """Return what identifies a regular file and its version; None for any other kind."""
    try:
        status = os.lstat(name)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return _look_of(status)


def _meta_of(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_mode, status.st_nlink, status.st_uid, status.st_gid)


def _look_of(status: os.stat_result) -> _Look:
    # Anybody can set the time of the last write, but not that of the last change.
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return (status.st_size, status.st_dev, status.st_ino, *times)


def _unreadable(name: str, error: OSError) -> ArchiveDamaged:
    return ArchiveDamaged(
        f"{name!r} cannot be read: {_words(error)}. Check its owner and permissions and "
        "the disk, then run `migrator verify`."
    )


def _words(error: OSError) -> str:
    return error.strerror or str(error)
