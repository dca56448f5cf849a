"""Copies of an archive's files in another store."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from migrator.archive.opening import Archive
from migrator.blobs.base import Store, Verdict
from migrator.errors import ArchiveDamaged, ArchiveUnreachable, ArchiveUnwritable, Interrupted

_AHEAD: Final = 32
"""Files whose copies are begun before the oldest of them has ended."""

Tell = Callable[[str, int, Verdict, int], None]


@dataclass
class Copied:
    """What was copied: ``there`` were in the target already, by their size."""

    copied: int = 0
    bytes: int = 0
    there: int = 0
    damaged: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """6 where a file of the archive is damaged or lost, else 0."""
        return 6 if self.damaged or self.lost else 0


def copy_blobs(
    archive: Archive, target: Store, pool: Executor, *, tell: Tell, stopped: Callable[[], bool]
) -> Copied:
    """Copy every file that the checkpoint knows and ``target`` has not, each hashed on the way.

    Damaged and lost ones are named, not copied. Raises ArchiveUnwritable, and Interrupted once
    ``stopped``; the next call goes on.
    """
    target.prepare()
    done, total = Copied(), archive.queries.kept_blobs()[0]
    blobs = archive.queries.expected_blobs()
    running: deque[tuple[str, int, Future[Verdict | None]]] = deque()

    def begin(most: int) -> None:
        for sha256, size in islice(blobs, most):
            copied = pool.submit(_copy, archive.blobs, target, sha256, size)
            running.append((sha256, size, copied))

    begin(_AHEAD)
    try:
        while running:
            sha256, size, future = running.popleft()
            _count(done, sha256, size, verdict := future.result())
            tell(sha256, size, verdict or Verdict.OK, total)
            if stopped():
                raise Interrupted("Interrupted. Run the same command again: it resumes.")
            begin(1)
    finally:
        for _, _, future in running:
            future.cancel()
    return done


def _count(done: Copied, sha256: str, size: int, verdict: Verdict | None) -> None:
    if verdict is Verdict.OK:
        done.copied += 1
        done.bytes += size
    elif verdict is None:
        done.there += 1
    else:
        (done.lost if verdict is Verdict.LOST else done.damaged).append(sha256)


def _copy(source: Store, target: Store, sha256: str, size: int) -> Verdict | None:
    """Copy one blob; None if it is there."""
    try:
        if target.size(sha256) == size:
            return None
    except ArchiveUnreachable as error:  # it is there to be written
        raise ArchiveUnwritable(str(error)) from error
    with target.writer() as writer:
        for block in _blocks(source, sha256):
            writer.write(block)
        if (writer.size, writer.sha256) != (size, sha256):
            lost = not writer.size and source.examine(sha256, size).verdict is Verdict.LOST
            return Verdict.LOST if lost else Verdict.DAMAGED
        writer.commit()
    return Verdict.OK


def _blocks(source: Store, sha256: str) -> Iterator[bytes]:
    """Yield the bytes of a blob as far as they can be read."""
    try:
        blob = source.open(sha256)
        if blob is not None:
            with blob:
                yield from blob.blocks()
    except ArchiveUnreachable:
        raise
    except ArchiveDamaged:
        return
