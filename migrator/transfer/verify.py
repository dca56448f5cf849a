"""Reading every blob again: what is damaged, lost or nobody's, and what to do about it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from migrator.archive.records import Verdict, Work
from migrator.errors import Again, Interrupted, SourceError, WrongTicket
from migrator.events import BlobChecked, Listener, Notice, ignore
from migrator.kayako.fetching import Fetched, FetchSink, in_pool
from migrator.transfer.protocols import Archive, Source
from migrator.transfer.stop import Stop

S = TypeVar("S", bound=FetchSink)

AT_ONCE = 4
"""Blobs read at the same time: enough to keep a disk busy, few enough not to thrash it."""


@dataclass(slots=True)
class VerifyReport:
    """What reading again has shown; ``damaged``, ``lost`` and ``repaired`` are hashes.

    ``orphaned`` are files in the blob store that no row refers to, relative to the archive;
    they are looked for only when everything is read. ``unrepaired`` tells per hash why not.
    ``prunable`` and ``pruned`` are orphans and their sizes in bytes, ``kept`` tells per orphan
    why it stays.
    """

    checked: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    unrepaired: dict[str, str] = field(default_factory=dict)
    prunable: dict[str, int] = field(default_factory=dict)
    pruned: dict[str, int] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

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
        if not _wanted(archive, path):
            yield str(path.relative_to(root))


def _wanted(archive: Archive, path: Path) -> bool:
    return archive.blobs.kind(path) == "blob" and archive.ledger.refers_to(path.name)


async def prune(
    archive: Archive,
    report: VerifyReport,
    *,
    root: Path,
    sure: bool,
    pool: Executor | None = None,
    stop: Stop | None = None,
) -> None:
    """Remove the orphans that verify found, or with ``sure`` off only say what would go.

    The caller holds the run lock. Whoever writes blobs, or rows that refer to them, holds it as
    well, so that an orphan is nobody's for as long as we look at it, however young it is; the
    row of a blob is looked for again right before it goes all the same. Raises
    ArchiveUnwritable, and Interrupted when asked to stop.
    """
    stop = stop or Stop()
    for name in report.orphaned:
        if stop.asked:
            raise Interrupted("interrupted; what was removed is gone, run it again for the rest")
        path = root / name
        reason = await in_pool(pool, partial(_reason_to_keep, archive, report, path))
        if reason is not None:
            report.kept[name] = reason
        elif sure:
            report.pruned[name] = await in_pool(pool, partial(archive.blobs.remove, path))
        else:
            report.prunable[name] = path.lstat().st_size


def _reason_to_keep(archive: Archive, report: VerifyReport, path: Path) -> str | None:
    """Tell why an orphan is not to be removed; None if it is worthless."""
    kind, ledger = archive.blobs.kind(path), archive.ledger
    reasons = {
        "it is not a file of this tool": kind is None or path.is_symlink() or not path.is_file(),
        "a row refers to it by now": _wanted(archive, path),
        "files are damaged or lost, and it may be of use: `migrator verify --repair` first": bool(
            report.exit_code
        ),
        "the last run was killed, and the next one may want it: `migrator run` first": (
            kind == "blob" and ledger.unfinished_run() is not None
        ),
        "the ledger knows no file at all: is it the one of these blobs?": (
            kind == "blob" and ledger.unique_bytes()[0] == 0
        ),
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


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
            fetched = await fetch_anywhere(source, work, archive.blobs.writer)
        except SourceError as error:
            if error.again is Again.STOP:
                raise
            reason = str(error)
            continue
        try:
            if fetched.sink.sha256 == sha256:
                await in_pool(pool, fetched.sink.commit)
                return None
            what = "other bytes" if fetched.contents.present else "no bytes"
            reason = f"the source now sends {what} for attachment {work.id}"
        finally:
            fetched.sink.abort()
    return reason


async def fetch_anywhere(source: Source, work: Work, make_sink: Callable[[], S]) -> Fetched[S]:
    """Fetch an attachment from its ticket, or from the one that ticket was merged into."""
    try:
        return await source.fetch(work.ticket_id, work.id, make_sink)
    except WrongTicket:
        ticket = await source.ticket(work.ticket_id)
        return await source.fetch(ticket.id, work.id, make_sink)
