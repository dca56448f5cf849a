"""Both halves of an archive, checkpoint and files: is each there, do they belong together.

A checkpoint without its files, or files without their checkpoint, is what a disk that is not
mounted looks like, or a checkpoint that was lost and made anew. Whoever went on then would write
new files to the wrong disk, or take good ones for waste.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from migrator.archive import checkpoint, lock, schema
from migrator.archive.checkpoint import Checkpoint
from migrator.blobs import durable
from migrator.blobs.base import Store
from migrator.errors import ArchiveDamaged

_FILES = (checkpoint.NAME, f"{checkpoint.NAME}-wal", f"{checkpoint.NAME}-shm", lock.NAME)

_KNOWS = """
    SELECT EXISTS (SELECT 1 FROM attachments), EXISTS (SELECT 1 FROM blobs),
        coalesce((SELECT finished_at IS NULL FROM runs ORDER BY id DESC LIMIT 1), 0)"""
_SOME = "SELECT sha256 FROM blobs WHERE sha256 >= ? ORDER BY sha256 LIMIT ?"
_FEW = 32


def see_parts(root: Path, blobs: Store) -> None:
    """See that what lies in the archive's directory is what it must be, without opening any.

    Anything may be missing. Raises ArchiveDamaged, and OSError where nobody can look.
    """
    for name in _FILES:
        mode = _mode(root / name)
        if mode is not None and not stat.S_ISREG(mode):
            back = "" if name == lock.NAME else ", and bring back the file that was there"
            raise ArchiveDamaged(
                f"{str(root / name)!r} is {durable.kind_of(mode)}, where a file must be. Move it "
                f"away{back}; nothing was changed."
            )
    blobs.missing()


def see_no_files(blobs: Store, what: str = "is missing or empty") -> None:
    """See that there are no files beside a checkpoint that knows nothing; else ArchiveDamaged.

    ``what`` says of the checkpoint what is the matter with it.
    """
    if any(entry.kind == "blob" for entry in blobs.scan()):
        raise ArchiveDamaged(
            f"There are files in {blobs.where!r}, but the checkpoint beside them {what}. "
            f"Bring {checkpoint.NAME} and its -wal back from a backup. Without one, move the "
            "directory blobs away and start anew; nothing was changed."
        )


def see_both(blobs: Store, db: Checkpoint, *, repairing: bool = False) -> None:
    """See that files and checkpoint belong together; raises ArchiveDamaged if they cannot.

    Of a healthy archive one file is looked for. ``repairing`` lets a checkpoint pass that has
    lost its files, as long as their disk is there: it has the directory for temporary files.
    """
    if schema.version(db) == 0:
        see_no_files(blobs)
        return
    ((rows, kept, running),) = db.execute(_KNOWS)
    if not rows and not running:  # a run that was killed has rows before it has files
        see_no_files(blobs, "knows no attachment")
    if not kept or _some_are_there(blobs, db):
        return
    missing, where = blobs.missing(), blobs.where
    if not missing and repairing:
        return
    there = f"there is no {where!r}" if where in missing else f"none of them is in {where!r}"
    made = f"make the directory {missing[-1]!r} by hand, and " if missing else ""
    raise ArchiveDamaged(
        f"The checkpoint knows files, but {there}. Is the disk mounted? Mount it and start again; "
        f"nothing was changed. If they are really lost, {made}`migrator verify --repair` fetches "
        "them again."
    )


def _some_are_there(blobs: Store, db: Checkpoint) -> bool:
    """Look for a few files from all over the store, all of a small one, until one is there."""
    for start, limit in (("", _FEW), *((digit, 1) for digit in "123456789abcdef")):
        for (sha256,) in db.execute(_SOME, (start, limit)):
            try:
                if blobs.has(sha256):
                    return True
            except ValueError:
                raise checkpoint.damaged("it knows a file by what is no SHA-256", db.path) from None
    return False


def _mode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None
