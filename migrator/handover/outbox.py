"""Files handed over to a directory of their own: whole and durable, or not there at all.

A blob becomes a hard link where that is possible and a copy elsewhere. It is read and hashed
before it gets its name there, and what is there already is read again, so that nothing damaged
is ever handed over as good.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from migrator.blobs import durable
from migrator.blobs.base import Examined, Store, Verdict

TEMP = ".unfinished"
"""The directory for files that are being written; it is gone once all is handed over."""
_BLOCK = 1 << 20


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
        digest = hashlib.sha256()

        def told() -> Iterator[bytes]:
            for piece in pieces:
                data = piece.encode("utf-8", "backslashreplace")
                digest.update(data)
                yield data

        with self._writing():
            durable.write(self.root / name, told(), temp=self._new(), mode=durable.READ_ONLY)
        return digest.hexdigest()

    def put(self, store: Store, sha256: str, size: int, folder: Path, *, link: bool) -> Examined:
        """Hand over one blob into ``folder``, under its SHA-256; the caller syncs the folder.

        Anything but OK says that the archive has no good bytes; then there is no such file.
        """
        target = folder / sha256
        with self._writing():
            if _is(target, sha256, size):
                return Examined(Verdict.OK)
            target.unlink(missing_ok=True)
            return store.copy_out(
                sha256, size, target, temp=self._new(), link=link, stopped=self._stopped
            )

    def twin(self, source: Path, sha256: str, target: Path) -> None:
        """Give a file that was put a second name; the caller syncs the folder of ``target``."""
        with self._writing():
            if durable.link(source, target):
                return
            with source.open("rb") as file:
                if not durable.copy(self._blocks(file), target, sha256, temp=self._new()):
                    raise OSError(errno.EIO, "what was just written cannot be read")

    def _blocks(self, file: BinaryIO) -> Iterator[bytes]:
        while block := file.read(_BLOCK):
            self._stopped()
            yield block

    def _new(self) -> Path:
        return self._temp / secrets.token_hex(16)

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
