"""Stores of bytes by their SHA-256: the contract, one module per store, and their choice."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from migrator.blobs import durable
from migrator.blobs.base import Blob, Store, Writer
from migrator.blobs.local import LocalStore
from migrator.errors import ArchiveDamaged, ArchiveUnwritable, ConfigError, how_to_install

if TYPE_CHECKING:
    from migrator.blobs.s3 import S3Store

NAME: Final = "blobs.json"
"""The file of an archive that says where its blobs are, if they are not beside it."""

_LARGE: Final = 8
"""A blob of more than this part of a cache would take the place of too many others."""


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket: ``url`` is ``s3://bucket/prefix``; None is what the environment says.

    Credentials are never part of it.
    """

    url: str
    endpoint: str | None = None
    region: str | None = None
    allow_http: bool = False


def store_of(archive: Path) -> Store:
    """Return the store of the archive at ``archive``: stores are chosen here and nowhere else.

    Raises ArchiveDamaged when what names it cannot be read, ConfigError without its library.
    """
    place = place_of(archive)
    return LocalStore(archive) if place is None else in_bucket(archive, place)


def in_bucket(root: Path, place: Place, *, patience: float = 120) -> S3Store:
    """Return the store at ``place``; new blobs wait in ``root``.

    Raises ConfigError without its library. A process that has used it cannot be forked.
    """
    try:
        from migrator.blobs.s3 import S3Store
    except ImportError as error:
        raise ConfigError(
            f"The files of this archive are in {place.url}, which needs the extra [s3]. "
            f"{how_to_install('s3')}."
        ) from error
    return S3Store(root, place, patience=patience)


def beside(folder: Path) -> Store:
    """Return the store on the disk, in ``folder``, which may have to be made."""
    with durable.writing(folder):
        durable.make_dirs(folder)
    return LocalStore(folder)


def place_of(archive: Path) -> Place | None:
    """Return where the blobs of an archive are; None for beside it. Raises ArchiveDamaged."""
    file = archive / NAME
    try:
        file.lstat()
    except OSError:
        return None  # whoever opens an archive says why it cannot be reached
    try:
        return Place(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise ArchiveDamaged(
            f"{str(file)!r} says where the files are, and cannot be read. Bring it back from a "
            "backup."
        ) from error


def choose(archive: Path, place: Place | None) -> None:
    """Write where the blobs of a new archive will be; None leaves it as it is.

    The service of a bucket may get another address. Raises ConfigError when the blobs of an
    archive that exists are elsewhere, ArchiveUnwritable.
    """
    known = place_of(archive)
    if place in (None, known):
        return
    beside = Path(LocalStore(archive).where)
    has_some = beside.exists() or (archive / "checkpoint.db").exists()
    if known.url != place.url if known else has_some:
        where = known.url if known else str(beside)
        raise ConfigError(
            f"archive.blobs is {place.url}, but the files of this archive are in {where!r}. "
            "Correct archive.blobs, or take another archive.path for a new archive."
        )
    with durable.writing(archive):
        durable.make_dirs(archive)
    move(archive, place)


def move(archive: Path, place: Place | None) -> None:
    """Let an archive, whose blobs were copied there, use ``place``; None is beside it.

    Only the holder of the run lock may. Raises ArchiveUnwritable.
    """
    with durable.writing(archive):
        if place is None:
            (archive / NAME).unlink(missing_ok=True)
            durable.sync_dir(archive)
        else:
            text = json.dumps(asdict(place), indent=1).encode() + b"\n"
            durable.write(archive / NAME, [text])


class Wrapper:
    """A store that delegates everything to ``store``; a subclass changes some of it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        """Return what ``store`` has."""
        return getattr(self.store, name)


class DryStore(Wrapper):
    """Reads the blobs of a store; new ones are hashed and dropped, nothing is removed."""

    def prepare(self) -> None:
        """Create nothing."""

    def remove(self, name: str, /) -> int:  # noqa: ARG002 - the contract's
        """Remove nothing."""
        return 0

    def writer(self) -> Writer:
        """Return a sink that hashes."""
        return _DryWriter(self.store)


class CachedStore(Wrapper):
    """Reads the blobs of a store, and keeps those read last in ``folder``: ``most`` bytes of them.

    What is kept had its SHA-256. Large ones are read from the store each time.
    """

    waits = True

    def __init__(self, store: Store, folder: Path, most: int) -> None:
        super().__init__(store)
        self._files = LocalStore(folder)
        self._files.prepare()
        self._most, self._kept = most, 0
        self._sizes: dict[str, int] = {}
        """Of those that are kept, the one used last as the last."""
        self._lock = threading.Lock()

    def open(self, sha256: str, /) -> Blob | None:
        """Open a blob for reading; None if there is none."""
        with self._lock:
            size = self._sizes.pop(sha256, None)
            if size is not None:
                self._sizes[sha256] = size
        if size is not None and (kept := self._opened(sha256)) is not None:
            return kept
        blob: Blob | None = self.store.open(sha256)
        if blob is None or blob.size > self._most // _LARGE:
            return blob
        with blob:
            kept = self._opened(sha256) if self._keep(sha256, blob) else None
        return self.store.open(sha256) if kept is None else kept

    def _opened(self, sha256: str) -> Blob | None:
        with contextlib.suppress(ArchiveDamaged):
            return self._files.open(sha256)
        return None

    def _keep(self, sha256: str, blob: Blob) -> bool:
        """Keep a blob, and forget others for it; return whether it could be."""
        try:
            with self._files.writer() as writer:
                for block in blob.blocks():
                    writer.write(block)
                if writer.sha256 != sha256:
                    return False
                self._forget(blob.size)
                writer.commit()
        except ArchiveUnwritable:  # no room
            return False
        with self._lock:
            self._kept += 0 if sha256 in self._sizes else blob.size
            self._sizes[sha256] = blob.size
        return True

    def _forget(self, room: int) -> None:
        with self._lock:
            while self._sizes and self._kept + room > self._most:
                old = next(iter(self._sizes))
                self._kept -= self._sizes.pop(old)
                with contextlib.suppress(ArchiveUnwritable, OSError):
                    self._files.remove(f"blobs/{old[:2]}/{old[2:4]}/{old}")


class _DryWriter(Writer):
    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def append(self, data: bytes, /) -> None:
        pass

    def keep(self, sha256: str, size: int, /) -> bool:
        return self._store.size(sha256) != size

    def drop(self) -> None:
        pass
