"""Reading every blob again: what is damaged, lost or nobody's, and fetching it once more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from migrator.archive.records import Verdict, Work
from migrator.errors import Again, Interrupted, SourceError, WrongTicket
from migrator.events import BlobChecked, Listener, Notice, ignore
from migrator.kayako.source import Fetched, in_pool
from migrator.transfer.protocols import Archive, Source, Writer
from migrator.transfer.stop import Stop

AT_ONCE = 4
"""Blobs read at the same time: enough to keep a disk busy, few enough not to thrash it."""


@dataclass(slots=True)
class VerifyReport:
    """What reading again has shown; ``damaged``, ``lost`` and ``repaired`` are hashes.

    ``orphaned`` are files in the blob store that no row refers to, relative to the archive;
    they are looked for only when everything is read. ``unrepaired`` tells per hash why not.
    """

    checked: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    unrepaired: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 when every blob read is whole (or is again), 6 when one is not."""
        return 6 if set(self.damaged + self.lost) - set(self.repaired) else 0


async def verify(
    archive: Archive,
    *,
    root: Path,
    share: float = 1.0,
    pool: Executor | None = None,
    listener: Listener = ignore,
    stop: Stop | None = None,
    seed: int | None = None,
) -> VerifyReport:
    """Read blobs again and compare them with their names; with ``share`` below 1 a sample.

    Raises Interrupted when asked to stop before the end.
    """
    stop = stop or Stop()
    report = VerifyReport()
    total = round(archive.ledger.unique_bytes()[0] * min(share, 1.0))
    todo = _sample(archive.ledger.expected_blobs(), share, seed)

    async def reader() -> None:
        for sha256, size in todo:
            if stop.asked:
                return
            verdict = await in_pool(pool, partial(archive.blobs.check, sha256, size))
            report.checked += 1
            if verdict is Verdict.OK:
                report.bytes += size
            elif verdict is Verdict.DAMAGED:
                report.damaged.append(sha256)
            else:
                report.lost.append(sha256)
            listener(BlobChecked(sha256, size, verdict.value, total))

    await asyncio.gather(*(reader() for _ in range(AT_ONCE)))
    if stop.asked:
        raise Interrupted("interrupted; nothing was changed, `migrator verify` starts anew")
    if share >= 1:
        report.orphaned = await in_pool(pool, lambda: sorted(_orphans(archive, root)))
    report.damaged.sort()
    report.lost.sort()
    return report


def _sample(
    blobs: Iterator[tuple[str, int]], share: float, seed: int | None
) -> Iterator[tuple[str, int]]:
    """Give each blob with the same probability, in their order."""
    dice = random.Random(seed)  # noqa: S311 - a sample, not a secret
    return (blob for blob in blobs if share >= 1 or dice.random() < share)


def _orphans(archive: Archive, root: Path) -> Iterator[str]:
    for path in archive.blobs.scan():
        in_place = path.parts[-3:-1] == (path.name[:2], path.name[2:4])
        if not (in_place and archive.ledger.refers_to(path.name)):
            yield str(path.relative_to(root))


async def repair(
    archive: Archive,
    source: Source,
    report: VerifyReport,
    *,
    pool: Executor | None = None,
    listener: Listener = ignore,
    stop: Stop | None = None,
) -> None:
    """Fetch damaged and lost blobs again; the report tells which came back.

    The expected hash is never edited: other bytes than those that were stored once are not a
    repair, and are told. Raises SourceRefused and ArchiveUnwritable.
    """
    stop = stop or Stop()
    for sha256 in [*report.damaged, *report.lost]:
        if stop.asked:
            raise Interrupted("interrupted; what was repaired stays, run it again for the rest")
        reason = await _restore(archive, source, sha256, pool)
        if reason is None:
            report.repaired.append(sha256)
        else:
            report.unrepaired[sha256] = reason
            listener(Notice(f"{sha256[:12]}… cannot be repaired: {reason}", "warning"))


async def _restore(
    archive: Archive, source: Source, sha256: str, pool: Executor | None
) -> str | None:
    """Get one blob back from any attachment that had these bytes; else give the reason."""
    works = await in_pool(pool, lambda: archive.ledger.attachments_of_blob(sha256))
    reason = "no attachment refers to it"
    for work in works:
        try:
            fetched = await _fetch_anywhere(archive, source, work)
        except SourceError as error:
            if error.again is Again.STOP:
                raise
            reason = str(error)
            continue
        try:
            if fetched.sink.sha256 == sha256:
                await in_pool(pool, fetched.sink.commit)
                return None
            reason = f"the source now sends other bytes for attachment {work.id}"
        finally:
            fetched.sink.abort()
    return reason


async def _fetch_anywhere(archive: Archive, source: Source, work: Work) -> Fetched[Writer]:
    """Fetch an attachment from its ticket, or from the one that ticket was merged into."""
    try:
        return await source.fetch(work.ticket_id, work.id, archive.blobs.writer)
    except WrongTicket:
        ticket = await source.ticket(work.ticket_id)
        return await source.fetch(ticket.id, work.id, archive.blobs.writer)
