"""Snapshots of the checkpoint in the bucket of its files, with which the bucket is all of it.

``snapshots/20260131T235959Z-0f3c5a77.db.gz`` is a checkpoint of one moment, compressed; beside it
``….db.gz.sha256`` has the hash of those bytes, as sha256sum writes it. ``snapshots/latest``,
written last and in one step, says which is the newest. Each is read back before the next is
written, and nothing is taken unless its hash is right.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from migrator.archive import checkpoint, lock, schema
from migrator.archive.checkpoint import Checkpoint
from migrator.archive.opening import Archive, open_beside
from migrator.blobs import NAME as PLACE_NAME
from migrator.blobs import Place, choose, durable, in_bucket, place_of
from migrator.errors import (
    ArchiveDamaged,
    ArchiveError,
    ArchiveMissing,
    ArchiveTooNew,
    ArchiveUnwritable,
    ConfigError,
)

if TYPE_CHECKING:
    from migrator.blobs.s3 import S3Store

FOLDER: Final = "snapshots"
LATEST: Final = f"{FOLDER}/latest"

_NAME: Final = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]{8}\.db\.gz", re.ASCII)
_TIME: Final = "%Y%m%dT%H%M%SZ"
_LEVEL: Final = 3
"""Of gzip: a sixth of the time of its default for some more bytes."""
_BLOCK: Final = 1 << 20
_SMALL: Final = 1 << 16
"""Bytes of a description at most."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot: ``size`` and ``sha256`` are of the compressed bytes, ``time`` is in Unix seconds.

    ``unpacked`` is the size of the checkpoint and ``format`` its version; 0 is not known.
    """

    name: str
    sha256: str
    time: int
    size: int = 0
    unpacked: int = 0
    format: int = 0


def publish(
    archive: Archive, *, keep: int, now: int, place: Place | None = None
) -> tuple[Snapshot, str]:
    """Write a snapshot into ``place``, by default the bucket of the archive.

    A run may be at work. All but the last ``keep`` are removed; what kept that from happening is
    returned beside it, or "". Raises ConfigError where there is no bucket, ArchiveUnwritable.
    """
    place = place or place_of(archive.path)
    if place is None:
        raise ConfigError(
            f"The files of the archive {str(archive.path)!r} are beside its checkpoint. Snapshots "
            "need a bucket: see archive.blobs."
        )
    bucket = in_bucket(archive.path, place)
    try:
        with lock.scratch() as folder:
            copy = folder / checkpoint.NAME
            archive.copy_checkpoint(copy)
            with copy.open("rb") as source, (folder / "packed").open("w+b") as packed:
                with gzip.GzipFile("", "wb", _LEVEL, packed, mtime=0) as pack:
                    shutil.copyfileobj(source, pack, _BLOCK)
                size = packed.tell()
                packed.seek(0)
                sha256 = hashlib.file_digest(packed, "sha256").hexdigest()
                name = f"{datetime.fromtimestamp(now, UTC):{_TIME}}-{sha256[:8]}.db.gz"
                unpacked = copy.stat().st_size
                made = Snapshot(name, sha256, now, size, unpacked, schema.VERSION)
                _put(bucket, f"{FOLDER}/{name}", packed, size, sha256)
    except OSError as error:
        raise ArchiveUnwritable(
            f"The snapshot cannot be written to {tempfile.gettempdir()!r}: "
            f"{error.strerror or error}. Make room, or set TMPDIR to a directory that has some."
        ) from error
    _put_text(bucket, f"{FOLDER}/{name}.sha256", f"{sha256}  {name}\n")
    _put_text(bucket, LATEST, json.dumps(asdict(made), indent=1) + "\n")
    try:
        _remove_old(bucket, made, keep)
    except ArchiveError as error:
        return made, f"Older snapshots stay in the bucket: {error}"
    return made, ""


def latest(bucket: S3Store) -> Snapshot | None:
    """Return the newest snapshot, None where there is none. Raises ArchiveDamaged."""
    text = _text(bucket, LATEST)
    if text is None:
        return None
    try:
        found = json.loads(text)
        made = Snapshot(**{each: found[each] for each in Snapshot.__dataclass_fields__})
        numbers = (made.time, made.size, made.unpacked, made.format)
        if (
            _NAME.fullmatch(made.name)
            and re.fullmatch(r"[0-9a-f]{64}", made.sha256, re.ASCII)
            and all(type(each) is int and 0 < each < 1 << 53 for each in numbers)
        ):
            return made
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise ArchiveDamaged(
        f"{bucket.where}/{LATEST} does not describe a snapshot. Run `migrator publish` again, or "
        "name one: `migrator restore --snapshot`."
    )


def named(bucket: S3Store, name: str) -> Snapshot:
    """Return the snapshot of that name. Raises ConfigError if there is none, ArchiveDamaged."""
    known = _NAME.fullmatch(name)
    text = _text(bucket, f"{FOLDER}/{name}.sha256") if known else None
    if not known or text is None:
        keys = (key.rpartition("/")[2] for key in bucket.objects(FOLDER))
        names = [each for each in keys if _NAME.fullmatch(each)][-10:]
        raise ConfigError(
            f"There is no snapshot of that name in {bucket.where}; the last ones are "
            f"{', '.join(names) or 'none'}."
        )
    time = datetime.strptime(known[1], _TIME).replace(tzinfo=UTC)
    return Snapshot(name, text[:64], int(time.timestamp()))


def unpack(bucket: S3Store, snapshot: Snapshot, target: Path) -> None:
    """Write the checkpoint of a snapshot to ``target``, in one step and of this version's format.

    Raises ArchiveDamaged unless its hash is right, ArchiveTooNew, ArchiveUnwritable; then there is
    nothing new at ``target``.
    """
    if snapshot.format > schema.VERSION:
        raise ArchiveTooNew(
            f"The snapshot {snapshot.name} was written by a newer version (format "
            f"{snapshot.format}, this one knows up to {schema.VERSION}). Install that version."
        )
    fresh = target.with_name(f".migrator-{snapshot.name}")
    try:
        with durable.writing(target.parent):
            fresh.unlink(missing_ok=True)
            durable.write(fresh, _unpacked(bucket, snapshot))
        _see(fresh)
        with durable.writing(target.parent):
            fresh.replace(target)
            durable.sync_dir(target.parent)
    finally:
        for left in (fresh, checkpoint.log(fresh), checkpoint.index(fresh)):
            left.unlink(missing_ok=True)


def restore(place: Place, target: Path, name: str | None = None) -> Snapshot:
    """Make an archive at ``target`` from the newest snapshot of a bucket, or the one of ``name``.

    Raises ConfigError when there is something at ``target``, ArchiveMissing when there is no
    snapshot, and as :func:`unpack`.
    """
    with durable.writing(target):
        if target.exists() and (not target.is_dir() or any(map(_is_other, target.iterdir()))):
            raise ConfigError(
                f"There is something at {str(target)!r}, which stays as it is: name a directory "
                "that is empty or does not exist yet."
            )
    bucket = in_bucket(target, place)
    found = newest(bucket) if name is None else named(bucket, name)
    with durable.writing(target):
        durable.make_dirs(target)
    choose(target, place)
    unpack(bucket, found, target / checkpoint.NAME)
    open_beside(target).close()
    return found


def newest(bucket: S3Store) -> Snapshot:
    """Return the newest snapshot. Raises ArchiveMissing when there is none, ArchiveDamaged."""
    found = latest(bucket)
    if found is None:
        raise ArchiveMissing(
            f"There is no snapshot in {bucket.where}. Check the address; `migrator publish` "
            "writes one."
        )
    return found


def _is_other(path: Path) -> bool:
    """Return whether a file is none that a killed restore, or a refused run, leaves behind."""
    return path.name not in (PLACE_NAME, lock.NAME) and not path.name.startswith(".migrator-")


def _see(path: Path) -> None:
    """Raise unless there is a checkpoint at ``path``; migrate one of an older format."""
    db = Checkpoint.connect(path)
    with contextlib.closing(db):
        if schema.version(db) == 0:
            raise ArchiveDamaged("The snapshot is no checkpoint of an archive.")
        schema.migrate(db)
        db.execute("PRAGMA journal_mode = DELETE")


def _unpacked(bucket: S3Store, snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the bytes of a checkpoint; raises ArchiveDamaged at their end if they are wrong."""
    key = f"{FOLDER}/{snapshot.name}"
    digest, unpacked, pack = hashlib.sha256(), 0, zlib.decompressobj(31)
    blocks = bucket.object_blocks(key)
    try:
        for block in blocks or ():
            digest.update(block)
            rest = block
            while rest and not pack.eof and unpacked <= (snapshot.unpacked or unpacked):
                some = pack.decompress(rest, _BLOCK)
                rest = pack.unconsumed_tail
                unpacked += len(some)
                yield some
        whole = pack.eof and digest.hexdigest() == snapshot.sha256
    except zlib.error:
        whole = False
    if not whole or snapshot.unpacked not in (0, unpacked):
        what = "is not there" if blocks is None else "is damaged"
        raise ArchiveDamaged(
            f"{bucket.where}/{key} {what}. Run `migrator publish` again, or take an earlier one: "
            "`migrator restore --snapshot`."
        )


def _remove_old(bucket: S3Store, newest: Snapshot, keep: int) -> None:
    keys = bucket.objects(FOLDER)
    known = [key for key in keys if _NAME.fullmatch(key.removeprefix(f"{FOLDER}/"))]
    others = [key for key in known if key != f"{FOLDER}/{newest.name}"]
    for key in others[: max(0, len(others) + 1 - keep)]:
        bucket.remove_object(key)
        bucket.remove_object(f"{key}.sha256")


def _put(bucket: S3Store, key: str, file: IO[bytes], size: int, sha256: str) -> None:
    """Upload a file, and read it back. Raises ArchiveUnwritable unless it is the same."""
    bucket.put_object(key, file, size)
    read = hashlib.sha256()
    try:
        for block in bucket.object_blocks(key) or ():
            read.update(block)
    except ArchiveDamaged as error:
        raise ArchiveUnwritable(f"What was written cannot be read back: {error}") from error
    if read.hexdigest() != sha256:
        if key != LATEST:
            with contextlib.suppress(ArchiveError):
                bucket.remove_object(key)
        raise ArchiveUnwritable(
            f"{bucket.where}/{key}: the service took it, and gives back other bytes. Is another "
            "archive published there? Check the service, then run `migrator publish` again."
        )


def _put_text(bucket: S3Store, key: str, text: str) -> None:
    data = text.encode()
    _put(bucket, key, io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())


def _text(bucket: S3Store, key: str) -> str | None:
    blocks = bucket.object_blocks(key)
    if blocks is None:
        return None
    data = bytearray()
    for block in blocks:
        data += block
        if len(data) > _SMALL:
            break
    return data.decode("utf-8", "replace")
