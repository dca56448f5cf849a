"""Files handed over to a directory of their own: whole and durable, or not there at all.

A blob becomes a hard link where that is possible and a copy elsewhere. It is read and hashed
before it gets its name there, and what is there already is read again, so that nothing damaged
is ever handed over as good.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from migrator.archive.records import Examined, Verdict
from migrator.blobs import durable
from migrator.blobs.local import BlobStore
from migrator.errors import ArchiveDamaged

TEMP = ".unfinished"
"""The directory for files that are being written; it is gone once all is handed over."""
_BLOCK = 1 << 20

_NO_LINK = frozenset(
    [errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS]
)
"""Another file system, too many links already, or a place where there are none: copy instead."""


class Outbox:
    """A directory that takes files of an archive, for its owner alone.

    OSErrors end here, as ArchiveUnwritable. Several threads may put different files at a time.
    ``stopped`` is asked between the blocks of a large file; it may raise.
    """

    def __init__(self, root: Path, stopped: Callable[[], None] = lambda: None) -> None:
        self.root = root
        self._temp = root / TEMP
        self._stopped = stopped

    def prepare(self) -> None:
        """Create the directory, and remove what a killed process left half-written in it."""
        with self._writing():
            durable.make_dirs(self.root)
            self._remove(self._temp)
            durable.make_dir(self._temp)

    def finish(self) -> None:
        """Remove the place of temporary files."""
        with self._writing():
            self._remove(self._temp)
            durable.sync_dir(self.root)

    def folder(self, *parts: str) -> Path:
        """Create a directory below the root, one part after the other; links are not followed."""
        path = self.root
        with self._writing():
            for part in parts:
                path = path / part
                durable.make_dir(path)
                if path.is_symlink():
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return path

    def sync(self, folders: Iterable[Path]) -> None:
        """Make the names in these directories durable."""
        with self._writing():
            for folder in folders:
                durable.sync_dir(folder)

    def remove(self, name: str) -> None:
        """Remove a file or a directory with all that is in it; harmless when there is none."""
        with self._writing():
            self._remove(self.root / name)
            durable.sync_dir(self.root)

    def write(self, name: str, pieces: Iterable[str]) -> str:
        """Write a text, as UTF-8, durably and in one step; returns its SHA-256."""
        digest, size, temp = hashlib.sha256(), 0, self._temp / name
        with self._writing():
            fd = self._create(temp)
        try:
            for piece in pieces:
                data = piece.encode("utf-8", "backslashreplace")
                digest.update(data)
                size += len(data)
                with self._writing():
                    _write(fd, data)
            with self._writing():
                durable.publish(fd, temp, self.root / name, size)
                durable.sync_dir(self.root)
        finally:
            os.close(fd)
        return digest.hexdigest()

    def put(
        self, store: BlobStore, sha256: str, size: int, folder: Path, *, link: bool
    ) -> Examined:
        """Hand over one blob into ``folder``, under its SHA-256; the caller syncs the folder.

        Anything but OK says that the archive has no good bytes; then there is no such file.
        """
        target = folder / sha256
        with self._writing():
            if _is(target, sha256, size):
                return Examined(Verdict.OK)
            target.unlink(missing_ok=True)
        if not link:
            return self._copy(store, sha256, size, target)
        found = store.examine(sha256, size)
        if found.verdict is not Verdict.OK or self._link(store.path(sha256), target):
            return found
        return self._copy(store, sha256, size, target)

    def twin(self, source: Path, sha256: str, size: int, target: Path) -> None:
        """Give a file that was put a second name; the caller syncs the folder of ``target``."""
        if self._link(source, target):
            return
        with self._writing(), source.open("rb") as file:
            if self._copied(file, sha256, size, target) is not Verdict.OK:
                raise OSError(errno.EIO, "what was just written cannot be read")

    def _link(self, source: Path, target: Path) -> bool:
        """Make a hard link; False where there can be none."""
        with self._writing():
            try:
                os.link(source, target, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                return False
        return True

    def _copy(self, store: BlobStore, sha256: str, size: int, target: Path) -> Examined:
        try:
            file = store.open(sha256)
        except ArchiveDamaged:
            return store.examine(sha256, size)
        with file:
            verdict = self._copied(file, sha256, size, target)
        reason = "" if verdict is Verdict.OK else store.examine(sha256, size).reason
        return Examined(verdict, reason)

    def _copied(self, file: BinaryIO, sha256: str, size: int, target: Path) -> Verdict:
        """Copy an open file while it is hashed; what has another hash gets no name."""
        digest, temp = hashlib.sha256(), self._temp / f"{sha256}-{os.urandom(8).hex()}"
        with self._writing():
            fd = self._create(temp)
        try:
            while block := _read(file):
                self._stopped()
                digest.update(block)
                with self._writing():
                    _write(fd, block)
            right = digest.hexdigest() == sha256 and os.fstat(fd).st_size == size
            with self._writing():
                if right:
                    durable.publish(fd, temp, target, size)
                else:
                    temp.unlink()
        finally:
            os.close(fd)
        return Verdict.OK if right else Verdict.DAMAGED

    def _create(self, temp: Path) -> int:
        temp.unlink(missing_ok=True)
        return durable.create(temp)

    def _remove(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with durable.writing(self.root, "handover"):
            yield


def same_bytes(path: Path, sha256: str) -> bool:
    """Read a file and tell whether it has that SHA-256; False where it cannot be read, too."""
    with suppress(OSError), os.fdopen(durable.open_file(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    return False


def _is(path: Path, sha256: str, size: int) -> bool:
    return durable.is_file(path) and path.lstat().st_size == size and same_bytes(path, sha256)


def _read(file: BinaryIO) -> bytes:
    """Read a block; nothing where the disk cannot give it, so that the hash will not fit."""
    with suppress(OSError):
        return file.read(_BLOCK)
    return b""


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
