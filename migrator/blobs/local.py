"""The content-addressed store: each content once, under its SHA-256.

``blobs/ab/cd/abcd…`` holds the bytes whose SHA-256 is ``abcd…``, read-only, so that ``sha256sum``
alone can check it. Temporary files live in ``blobs/tmp``, on the same file system.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from migrator.archive.records import Examined, StoredBlob, Verdict
from migrator.blobs import durable, mime
from migrator.errors import ArchiveDamaged

_HEX64 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TEMP = re.compile(r"[0-9a-f]{32}", re.ASCII)
_BLOCK = 1 << 20
_REMEMBERED = 1 << 16
"""How many verified blobs are remembered: dedupe hits cluster on few blobs (logos)."""

Kind = Literal["temporary", "blob"]
_Look = tuple[int, int, int]  # inode, mtime in ns, size


class BlobStore:
    """Blobs below ``root``/blobs; ``root`` is the archive's directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "blobs"
        self._folder = str(self.folder)
        self.temp = self.folder / "tmp"
        self._verified: dict[str, _Look] = {}
        self._synced: set[str] = set()
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Create the directories.

        Only the holder of the run lock may call this. What a killed run left in ``blobs/tmp``
        stays there until somebody asks for its removal: see :meth:`remove`.
        """
        with durable.writing(self.root):
            durable.make_dirs(self.temp)
            durable.sync_dir(self.root)  # a killed run may have left its entry unsaved

    def writer(self) -> BlobWriter:
        """Return a sink for the bytes of one new blob.

        Raises ArchiveUnwritable.
        """
        return BlobWriter(self)

    def path(self, sha256: str) -> Path:
        """Return where the blob is or would be.

        Raises ValueError unless ``sha256`` is 64 lower-case hex digits: nothing else may ever
        become a path.
        """
        return Path(self._name(sha256))

    def _name(self, sha256: str) -> str:
        if not _HEX64.fullmatch(sha256):
            raise ValueError("a blob is named by 64 lower-case hex digits")
        return f"{self._folder}/{sha256[:2]}/{sha256[2:4]}/{sha256}"

    def size(self, sha256: str) -> int | None:
        """Return the size of the blob's file in bytes, None if there is no such file."""
        path = self.path(sha256)
        with _reading(path):
            return path.lstat().st_size if durable.is_file(path) else None

    def open(self, sha256: str) -> BinaryIO:
        """Open the blob for reading.

        Raises ArchiveDamaged if it is not there or cannot be opened.
        """
        path = self.path(sha256)
        with _reading(path):
            return os.fdopen(durable.open_file(path), "rb")

    def find(self, sha256: str) -> io.FileIO | None:
        """Open the blob for reading without a buffer, None if there is no such file.

        Raises ArchiveDamaged if the file is there but may not be opened.
        """
        name = self._name(sha256)
        try:
            # Without O_NONBLOCK a pipe in its place would be waited for.
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise _unreadable(Path(name), error) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return io.FileIO(fd, "rb")

    def has(self, sha256: str) -> bool:
        """Tell whether anything has the blob's name, at the price of one look at the disk.

        What cannot be looked at for another reason than that there is nothing counts as there.
        """
        try:
            os.lstat(self._name(sha256))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

    def is_empty(self) -> bool:
        """Tell whether there is no blob at all; raises ArchiveDamaged if nobody can tell."""
        return not any(self.kind(path) == "blob" for path in self.scan())

    def blocked(self, sha256: str) -> str | None:
        """Tell what keeps a blob from being written under its name; None: nothing does."""
        path = self.path(sha256)
        for folder in map(str, (path.parent.parent, path.parent)):
            if os.path.lexists(folder) and not os.path.isdir(folder):  # noqa: PTH112 - never raises
                return f"{folder!r} is not a directory: move it away"
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            return f"{str(path)!r} is a directory: move it away"
        return None

    def examine(self, sha256: str, size: int) -> Examined:
        """Read the whole blob again and tell whether it is ``size`` bytes with that SHA-256.

        Whatever is in its place is a verdict, not an error: what is no file, or cannot be read,
        is damaged, with the reason.
        """
        path = self.path(sha256)
        try:
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode):
                return Examined(Verdict.DAMAGED, f"it is {durable.kind_of(mode)}, not a file")
            with os.fdopen(durable.open_file(path), "rb") as file:
                # What has another size need not be read, were it as long as the disk is large.
                whole = os.fstat(file.fileno()).st_size == size and _hash(file) == (sha256, size)
        except FileNotFoundError:
            return Examined(Verdict.LOST)
        except OSError as error:
            return Examined(Verdict.DAMAGED, f"it cannot be read: {_words(error)}")
        return Examined(Verdict.OK if whole else Verdict.DAMAGED)

    def check(self, sha256: str, size: int) -> Verdict:
        """Give the verdict of :meth:`examine` without its reason."""
        return self.examine(sha256, size).verdict

    def scan(self, unreadable: Callable[[Path, str], None] | None = None) -> Iterator[Path]:
        """Yield every file below blobs/, temporary ones too, in a stable order.

        ``unreadable`` is told of every directory that cannot be listed, and why; without it,
        such a directory raises ArchiveDamaged.
        """

        def refuse(error: OSError) -> None:
            if unreadable is None:
                raise error
            unreadable(Path(error.filename or self.folder), _words(error))

        if not self.folder.exists():
            return
        with _reading(self.folder):
            for folder, folders, files in os.walk(self.folder, onerror=refuse):
                folders.sort()
                for name in sorted(files):
                    yield Path(folder, name)

    def kind(self, path: Path) -> Kind | None:
        """Tell what a file below blobs/ is by its name and place; None for a stranger's."""
        match path.relative_to(self.folder).parts:
            case ["tmp", name] if _TEMP.fullmatch(name):
                return "temporary"
            case [first, second, name] if _HEX64.fullmatch(name):
                return "blob" if (first, second) == (name[:2], name[2:4]) else None
        return None

    def remove(self, path: Path) -> int:
        """Remove a temporary file or a blob and return how many bytes it was.

        Only the holder of the run lock may call this, after it saw that no row refers to the
        blob: nobody else writes blobs, or rows that refer to them, so that nothing can change
        between looking and removing. Links are not followed, not even in the directories above.
        Raises ValueError for a file that this store would not have made, and ArchiveUnwritable.
        """
        if self.kind(path) is None:
            raise ValueError(f"{path.name!r} is no file of this store")
        with durable.writing(self.root):
            return durable.unlink_below(self.folder, path.relative_to(self.folder))

    def _holds(self, sha256: str, size: int) -> bool:
        """Tell whether the blob is there and whole; read it only once per process."""
        look = _look(self._name(sha256))
        if look is None or look[2] != size:
            return False
        if self._verified.get(sha256) == look:
            return True
        if self.check(sha256, size) is not Verdict.OK:
            return False
        self._remember(sha256, look)
        return True

    def _remember(self, sha256: str, look: _Look) -> None:
        # A killed process may have named the file without making the name durable.
        self._sync(sha256)
        with self._lock:
            if len(self._verified) >= _REMEMBERED:
                self._verified.pop(next(iter(self._verified)))
            self._verified[sha256] = look

    def _publish(self, fd: int, temp: str, sha256: str, size: int) -> None:
        outer = f"{self._folder}/{sha256[:2]}"
        inner = f"{outer}/{sha256[2:4]}"
        if sha256[:2] not in self._synced:
            durable.make_dir(outer)
        durable.make_dir(inner)
        durable.publish(fd, temp, f"{inner}/{sha256}", size)
        self._sync(sha256)

    def _sync(self, sha256: str) -> None:
        """Make the blob's name durable, and once per process the names of its directories.

        Once per process even where they exist: a killed one may have made them without saving.
        """
        outer = f"{self._folder}/{sha256[:2]}"
        durable.sync_dir(f"{outer}/{sha256[2:4]}")
        if sha256[:4] not in self._synced:
            durable.sync_dir(outer)
            if sha256[:2] not in self._synced:
                durable.sync_dir(self._folder)
            self._synced.update((sha256[:2], sha256[:4]))


class BlobWriter:
    """A sink whose bytes become a blob when, and only when, :meth:`commit` returns.

    Used by one thread at a time, not always the same one. As a context manager it aborts unless
    it was committed.
    """

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._hash = hashlib.sha256()
        self._head = bytearray()
        self._published = False
        self._path = f"{store.temp}/{secrets.token_hex(16)}"
        self.size = 0
        with durable.writing(store.root):
            self._fd: int | None = durable.create(self._path)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes so far, in hex."""
        return self._hash.hexdigest()

    def write(self, data: bytes, /) -> None:
        """Take the next bytes.

        Raises ArchiveUnwritable; the temporary file is gone then.
        """
        fd = self._open()
        self._count(data)
        with self._aborting():
            left = memoryview(data)
            while left:
                left = left[os.write(fd, left) :]

    def commit(self) -> StoredBlob:
        """Make the blob durable under its name, or find that it is there already.

        A blob that is already there is believed only after it was read again and found whole
        (once per process); a damaged one is replaced. Raises ArchiveUnwritable.
        """
        fd = self._open()
        sha256, size = self.sha256, self.size
        with self._aborting():
            deduped = self._store._holds(sha256, size)  # noqa: SLF001 - two halves of one thing
            if not deduped:
                self._store._publish(fd, self._path, sha256, size)  # noqa: SLF001
                self._published = True
        self.abort()
        return StoredBlob(sha256, size, mime.detect(bytes(self._head)), deduped)

    def abort(self) -> None:
        """Drop the bytes and the temporary file; harmless when called again or after commit."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with contextlib.suppress(OSError):  # what cannot be removed is left to be pruned
                os.close(fd)
            if not self._published:
                with contextlib.suppress(OSError):
                    Path(self._path).unlink()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Abort unless committed."""
        self.abort()

    def _count(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        if len(self._head) < mime.HEAD:
            self._head += data[: mime.HEAD - len(self._head)]

    def _open(self) -> int:
        if self._fd is None:
            raise ValueError("the blob was already committed or aborted")
        return self._fd

    @contextlib.contextmanager
    def _aborting(self) -> Iterator[None]:
        try:
            with durable.writing(self._store.root):
                yield
        except BaseException:
            self.abort()
            raise


def _look(name: str) -> _Look | None:
    """Return what tells a regular file from what may stand there later; None for any other."""
    try:
        status = os.lstat(name)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _hash(file: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while block := file.read(_BLOCK):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ArchiveDamaged:
    return ArchiveDamaged(
        f"{str(path)!r} cannot be read: {_words(error)}. Check its owner and permissions and "
        "the disk, then run `migrator verify`."
    )


def _words(error: OSError) -> str:
    return error.strerror or str(error)
