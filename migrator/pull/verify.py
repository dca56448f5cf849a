"""Verify: read every blob again, find damaged, lost and orphaned ones, repair and prune."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from migrator.archive import Archive
from migrator.archive.records import Reply, Work
from migrator.archive.replies import POSTS
from migrator.blobs.base import Entry, Examined, Verdict
from migrator.errors import ArchiveUnwritable, Interrupted, SafetyLimit, SourceError, WrongTicket
from migrator.events import BlobChecked, Listener, Notice, ignore
from migrator.pull.fetch import SHOWN, fetch_work, recall
from migrator.pull.options import Stop, ticking
from migrator.pull.replies import ReplyCopy
from migrator.sources.base import (
    Fetched,
    FetchSink,
    HoldsFields,
    Source,
    for_each,
    in_pool,
    raise_if_final,
)
from migrator.sources.pace import Pacer

S = TypeVar("S", bound=FetchSink)
T = TypeVar("T")

AT_ONCE = 4
"""Blobs read at the same time: enough to keep a disk busy, few enough not to thrash it."""


MOST_ORPHANS = 20
"""So many orphaned blobs may be pruned whatever their share is."""
ORPHANED_SHARE = 0.05
"""A larger share of the blobs that rows refer to is not taken for waste."""


@dataclass(slots=True)
class VerifyReport:
    """The result of reading again; ``damaged``, ``lost`` and ``repaired`` are hashes.

    ``checked`` and ``bytes`` include ``replies`` and ``reply_bytes``, of kept replies. ``replaced``
    are replies that nobody has any more: the source sends others by now, which are kept instead.
    ``superseded`` names files of older replies that can go, or went, and their sizes.
    ``unreadable`` says why a damaged one could not be read at all, by its hash, and why a part of
    the store could not be listed, by its name. ``unused`` counts blobs that the ledger knows and no
    attachment has. ``orphaned`` names what is in the store and no row refers to; it is looked for
    only when everything is read. ``unrepaired`` says per hash why not. ``prunable`` and ``pruned``
    are orphans and their sizes in bytes, ``kept`` says per orphan why it stays.
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
    unreadable: dict[str, str] = field(default_factory=dict)
    unused: int = 0
    replies: int = 0
    reply_bytes: int = 0
    replaced: list[str] = field(default_factory=list)
    superseded: dict[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 when every blob read is whole (or is again), 6 when one is not."""
        bad = {*self.damaged, *self.lost, *self.unreadable}
        return 6 if bad - {*self.repaired, *self.replaced} else 0

    def take(self, sha256: str, size: int, found: Examined, *, reply: bool = False) -> None:
        """Count one blob, which may be that of a ``reply``."""
        self.checked += 1
        self.replies += reply
        if found.verdict is Verdict.OK:
            self.bytes += size
            self.reply_bytes += size * reply
            return
        (self.damaged if found.verdict is Verdict.DAMAGED else self.lost).append(sha256)
        if found.reason:
            self.unreadable[sha256] = found.reason


async def verify(
    archive: Archive,
    *,
    share: float = 1.0,
    pool: Executor | None = None,
    listener: Listener = ignore,
    stop: Stop | None = None,
    seed: int | None = None,
    report: VerifyReport | None = None,
) -> VerifyReport:
    """Read blobs again and compare them with their names; with ``share`` below 1 a sample.

    The checkpoint comes first: a damaged one says nothing about blobs. Raises ArchiveDamaged when
    it is, and Interrupted when asked to stop before the end. What was found until then is in
    ``report``, if one is given.
    """
    stop = stop or Stop()
    report = VerifyReport() if report is None else report
    pacer = Pacer(AT_ONCE, listener=listener)  # it tells what takes long

    async def timed(what: str, size: int, work: Callable[[], T]) -> T:
        async with pacer.slot(what) as slot:
            slot.received, slot.size = None, size
            return await in_pool(pool, work)

    async def read(blob: tuple[str, int]) -> None:
        sha256, size = blob
        examine = partial(archive.blobs.examine, sha256, size)
        found = await timed(f"file {sha256[:12]}…", size, examine)
        is_reply = await in_pool(pool, lambda: not archive.queries.is_content(sha256))
        report.take(sha256, size, found, reply=is_reply)
        listener(BlobChecked(sha256, size, found.verdict.value, total))

    async with ticking(listener):
        await timed("the checkpoint", 0, archive.queries.self_check)
        report.unused = await in_pool(pool, archive.queries.unused_blobs)
        total = round(archive.queries.kept_blobs()[0] * min(share, 1.0))
        todo = _sample(archive.queries.expected_blobs(), share, seed)
        await for_each(todo, read, workers=AT_ONCE, stopping=lambda: stop.asked)
    if stop.asked:
        raise Interrupted("interrupted; nothing was changed; the next verify starts over")
    if share >= 1:
        report.orphaned = await in_pool(pool, partial(_orphans, archive, report.unreadable))
    report.damaged.sort()
    report.lost.sort()
    return report


def _sample(
    blobs: Iterator[tuple[str, int]], share: float, seed: int | None
) -> Iterator[tuple[str, int]]:
    """Yield each blob with the same probability, in their order."""
    dice = random.Random(seed)  # noqa: S311 - a sample, not a secret
    return (blob for blob in blobs if share >= 1 or dice.random() < share)


def _orphans(archive: Archive, unreadable: dict[str, str]) -> list[str]:
    """Return what no row refers to; add to ``unreadable`` what cannot be listed."""

    def note(name: str, reason: str) -> None:
        unreadable[name] = f"it cannot be read: {reason}"

    found = [entry for entry in archive.blobs.scan(note) if not _wanted(archive, entry)]
    # Only these are few enough to be searched for without an index.
    blobs = {entry.sha256 for entry in found if entry.kind == "blob"}
    referred = archive.queries.referred(blobs) if blobs else set()
    return sorted(entry.name for entry in found if entry.sha256 not in referred)


def _wanted(archive: Archive, entry: Entry) -> bool:
    return entry.kind == "blob" and archive.queries.refers_to(entry.sha256)


async def prune(
    archive: Archive,
    report: VerifyReport,
    *,
    sure: bool,
    accept: bool = False,
    pool: Executor | None = None,
    stop: Stop | None = None,
) -> None:
    """Remove the orphans that verify found, or with ``sure`` off only report what would go.

    The caller holds the run lock. Every writer of blobs, or of rows that refer to them, holds it as
    well, so that an orphan stays one however new it is; the row of a blob is looked up again right
    before it goes all the same. What cannot be removed stays and is reported. Raises ArchiveDamaged
    when the checkpoint is, SafetyLimit when there are so many that it is likelier the wrong one,
    unless ``accept`` says that it is not (nothing is removed then), ArchiveUnwritable at the end
    when something could not be removed, and Interrupted when asked to stop.
    """
    stop = stop or Stop()
    await in_pool(pool, archive.queries.self_check)
    doomed = await in_pool(pool, partial(_doomed, archive, report))
    if not accept:
        _see_limit(archive, doomed)
    failed: ArchiveUnwritable | None = None
    for entry in doomed:
        name = entry.name
        if stop.asked:
            raise Interrupted("interrupted; what was removed is gone, run it again for the rest")
        if not sure:
            report.prunable[name] = entry.size or 0
        elif await in_pool(pool, partial(_wanted, archive, entry)):
            report.kept[name] = "a row refers to it by now"
        else:
            try:
                report.pruned[name] = await in_pool(pool, partial(archive.blobs.remove, name))
            except ArchiveUnwritable as error:
                failed = failed or error
                report.kept[name] = "it cannot be removed"
    if failed is not None:
        raise failed


async def prune_superseded(
    archive: Archive, report: VerifyReport, *, sure: bool, pool: Executor | None = None
) -> None:
    """Remove replies that later ones superseded; the caller holds the run lock.

    With ``sure`` off only report what would go. Of a damaged archive all are kept. A blob that
    anything else has stays.
    """
    if report.exit_code:
        return
    old = await in_pool(pool, lambda: list(archive.replies.all(superseded=True)))

    def remove() -> None:
        with archive.ledger.atomic():
            for reply in old if sure else ():
                archive.replies.drop(reply)
        hashes = {reply.sha256 for reply in old}
        for entry in archive.blobs.scan():
            if entry.sha256 not in hashes:
                continue
            if not sure:
                report.superseded[entry.name] = archive.blobs.size(entry.sha256) or 0
            elif not _wanted(archive, entry):
                report.superseded[entry.name] = archive.blobs.remove(entry.name)

    if old:
        await in_pool(pool, remove)


def _see_limit(archive: Archive, doomed: list[Entry]) -> None:
    blobs = sum(entry.kind == "blob" for entry in doomed)
    referred, _ = archive.queries.kept_blobs()
    if blobs <= max(MOST_ORPHANS, ORPHANED_SHARE * referred):
        return
    raise SafetyLimit(
        f"{blobs:,} stored files are in no row of the ledger, which knows {referred:,}. Most "
        "likely the checkpoint is older than the files, or was emptied: nothing was removed. Bring "
        "it back from a backup; if it is the right one, add --accept-orphans."
    )


def _doomed(archive: Archive, report: VerifyReport) -> list[Entry]:
    """Return the orphans that can go; add to ``kept`` why the others stay."""
    found = [(name, archive.blobs.entry(name)) for name in report.orphaned]
    killed = archive.queries.unfinished_run() is not None
    knows_none = archive.queries.kept_blobs()[0] == 0

    def reason(entry: Entry | None) -> str:
        if entry is None:
            return "it is not a file of this tool"
        if _wanted(archive, entry):
            return "a row refers to it by now"
        if report.exit_code:
            return (
                "files are damaged or lost, and it may be of use: `migrator verify --repair` first"
            )
        if entry.kind == "blob" and killed:
            return "the last run was killed, and the next one may want it: `migrator run` first"
        if entry.kind == "blob" and knows_none:
            return "the ledger knows no file at all: is it the one of these blobs?"
        return ""

    report.kept |= {name: why for name, entry in found if (why := reason(entry))}
    return [entry for name, entry in found if entry is not None and name not in report.kept]


async def repair(
    archive: Archive,
    source: Source,
    report: VerifyReport,
    *,
    pool: Executor | None = None,
    listener: Listener = ignore,
    stop: Stop | None = None,
) -> None:
    """Fetch damaged and lost blobs again; the report says which were repaired.

    The expected hash is never changed: other bytes than those once stored are not a repair, and
    are reported. Raises SourceRefused and ArchiveUnwritable.
    """
    stop = stop or Stop()
    if report.damaged or report.lost:
        await recall(source, archive.queries.largest("customfield", SHOWN))
    for sha256 in [*report.damaged, *report.lost]:
        if stop.asked:
            raise Interrupted("interrupted; what was repaired stays, run it again for the rest")
        was_reply = bool(archive.replies.of_blob(sha256))
        reason = await _restore(archive, source, sha256, pool)
        if reason is None:
            report.repaired.append(sha256)
        elif was_reply and not archive.queries.refers_to(sha256):
            report.replaced.append(sha256)
            listener(Notice(f"{sha256[:12]}… is lost: {reason}, which is kept instead", "warning"))
        else:
            report.unrepaired[sha256] = reason
            listener(Notice(f"{sha256[:12]}… cannot be repaired: {reason}", "warning"))


async def _restore(
    archive: Archive, source: Source, sha256: str, pool: Executor | None
) -> str | None:
    """Restore one blob from any attachment that had these bytes; else return the reason."""
    if (blocked := await in_pool(pool, partial(archive.blobs.blocked, sha256))) is not None:
        return blocked
    works = await in_pool(pool, lambda: archive.queries.attachments_of_blob(sha256))
    reason = "no attachment refers to it"
    for work in works:
        try:
            fetched = await fetch_anywhere(source, work, archive.blobs.writer)
        except SourceError as error:
            raise_if_final(error)
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
    replies = await in_pool(pool, lambda: archive.replies.of_blob(sha256))
    return await _restore_reply(archive, source, replies, pool) if replies else reason


async def _restore_reply(
    archive: Archive, source: Source, replies: list[Reply], pool: Executor | None
) -> str | None:
    """Restore the blob of replies from the source; else return the reason.

    A reply that the source sends otherwise by now is lost. The present one takes its place.
    """
    reason = ""
    for reply in replies:
        with ReplyCopy(archive.blobs) as copy:
            try:
                if not await _ask_again(source, reply, copy):
                    reason = f"the source shows no ticket {reply.ticket_id} any more"
                    continue
            except SourceError as error:
                raise_if_final(error)
                reason = str(error)
                continue
            now = await copy.kept(pool, reply.ticket_id, reply.kind)
        if now is None or now.sha256 == reply.sha256:
            return None
        reason = f"the source sends another reply for ticket {reply.ticket_id} by now"
        with archive.ledger.atomic():
            archive.replies.drop(reply)
            archive.replies.put(now)
    return reason


async def _ask_again(source: Source, reply: Reply, copy: ReplyCopy) -> bool:
    """Ask for a reply again; return whether it is for that ticket."""
    if reply.kind == POSTS:
        return (await source.thread(reply.ticket_id, copy)).ticket.id == reply.ticket_id
    if isinstance(source, HoldsFields):
        await source.custom_fields(reply.ticket_id, copy)
    return isinstance(source, HoldsFields)


async def fetch_anywhere(source: Source, work: Work, make_sink: Callable[[], S]) -> Fetched[S]:
    """Fetch an attachment from its ticket, or from the one that ticket was merged into."""
    try:
        return await fetch_work(source, work, make_sink)
    except WrongTicket:
        ticket = (await source.thread(work.ticket_id)).ticket
        return await fetch_work(source, replace(work, ticket_id=ticket.id), make_sink)
