"""One attachment, from the source into the archive: when its bytes are accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import replace
from typing import TypeVar

from migrator.archive.records import Outcome, Row, State, Work
from migrator.blobs.base import Store, StoredBlob, Writer
from migrator.errors import NotFound, SourceError, WrongTicket
from migrator.sources.base import (
    Contents,
    Fetched,
    FetchSink,
    HoldsFields,
    HoldsFiles,
    Source,
    in_pool,
    raise_if_final,
)
from migrator.sources.pace import for_file

S = TypeVar("S", bound=FetchSink)

MOST_COMPARED = 3
"""Further fetches of a file for which the source gives no size."""

SHOWN = 2
"""Held files in custom fields that are looked at again to see how the source encodes files."""

NOTES = {
    "changed_at_source": "the source lists this id as another file than it did before",
    "other_reply": "the list names {listed}, the reply for it {named}, the same twice",
    "unsure_encoding": "the helpdesk encodes files in custom fields once or twice, and no other "
    "file shows which: it was decoded as often as it can be",
    "size_mismatch": "the list names {wanted} bytes, the reply {declared}, and {size} come, "
    "the same ones twice",
    "hash_mismatch": "the SHA-1 in its name is that of other bytes; these came twice",
    "odd_row": "its row in the list could not be read whole",
    "odd_number": "a date or size in its row is no number, and is kept as 0",
    "lenient_base64": "the base64 held characters that PHP ignores",
    "repaired_name": "the name held bytes or characters that no name may hold and is kept cleaned",
    "noise_around_xml": "text stood before or after the XML of the reply",
}
"""The problem codes of a stored attachment, most serious first."""


_UNSIZED = ("linked",)
"""Kinds of files of which no list says how long they are."""


class Fetcher:
    """Fetches attachments; each ends in a state, and none ends a run.

    Errors that end a run are raised: a source that refuses us (SourceRefused), an archive that
    cannot be written (ArchiveUnwritable).
    """

    def __init__(self, source: Source, blobs: Store, pool: Executor | None) -> None:
        self._source = source
        self._blobs = blobs
        self._pool = pool

    async def __call__(self, work: Work) -> Outcome:
        """Fetch one attachment, verify it, make it durable, and return its outcome."""
        try:
            outcome = await self._fetch(work)
        except WrongTicket as error:
            outcome = await self._follow_merge(work, error)
        except SourceError as error:
            outcome = _verdict(work, error)
        return replace(outcome, work=work)

    async def _follow_merge(self, work: Work, refusal: WrongTicket) -> Outcome:
        """Fetch from the ticket's current place; an attachment keeps its id in a merge."""
        try:
            ticket = (await self._source.thread(work.ticket_id)).ticket
            if ticket.id == work.ticket_id:
                return _verdict(work, refusal)
        except NotFound:
            return _verdict(work, refusal)
        except SourceError as error:
            return _verdict(work, error)
        try:
            outcome = await self._fetch(replace(work, ticket_id=ticket.id))
        except SourceError as error:
            return _verdict(work, error)
        return replace(outcome, ticket_id=ticket.id)

    async def _fetch(self, work: Work) -> Outcome:
        fetched = await self._ask(work)
        if _is_lost(fetched.contents, work):
            # Requested twice: a share that was briefly away looks like a lost file.
            fetched.sink.abort()
            second = await self._ask(work)
            fetched = second._replace(attempts=fetched.attempts + second.attempts)
        try:
            return await self._judge(work, fetched)
        finally:
            fetched.sink.abort()

    async def _ask(self, work: Work) -> Fetched[_BlobSink]:
        return await fetch_work(self._source, work, lambda: _BlobSink(self._blobs.writer(), work))

    async def _judge(self, work: Work, fetched: Fetched[_BlobSink]) -> Outcome:
        if not _is_lost(fetched.contents, work):
            if work.kind == "customfield":
                return await self._compare(work, fetched)
            if not _contradictions(work, fetched.contents):
                return await self._store(work, fetched)
            return await self._second_opinion(work, fetched)
        declared = max(fetched.contents.attachment.filesize, work.declared_size)
        if work.kind == "customfield":
            detail = (
                "Kayako names a file in this field and sends nothing: it is lost, empty, or moved "
                "to a cloud storage. If the staff's pages still have it, move it back and ask "
                "again with --recheck"
            )
            return Outcome(
                work.id, State.MISSING, "source_lost_file", detail, attempts=fetched.attempts
            )
        detail = f"Kayako lists {declared:,} bytes but has lost the file: its reply is empty"
        said = fetched.contents.said
        if said and work.kind == "linked":
            detail = f"a text links to it, but {said}"
        elif said:
            detail = (
                f"Kayako lists {declared:,} bytes, sends none, and says: {said} So the file was "
                "moved to a cloud storage, and its link there no longer works. It may come back: "
                "ask again with --recheck"
            )
        attempts = fetched.attempts
        return Outcome(work.id, State.MISSING, "source_lost_file", detail, attempts=attempts)

    async def _compare(self, work: Work, first: Fetched[_BlobSink]) -> Outcome:
        """Fetch until the same bytes have come twice: nothing else shows that they are whole."""
        seen = [first]
        try:
            while len(seen) <= MOST_COMPARED:
                last = await self._ask(work)
                seen.append(last)
                if any(_same(one, last) for one in seen[:-1]):
                    attempts = sum(one.attempts for one in seen)
                    received = sum(one.contents.size for one in seen[:-1])
                    best = last._replace(attempts=attempts)
                    return await self._store(work, best, also_received=received)
            sizes = ", ".join(f"{one.contents.size:,}" for one in seen)
            return Outcome(
                work.id,
                State.FAILED,
                "size_mismatch",
                f"each fetch gave other bytes ({sizes} of them)",
                attempts=sum(one.attempts for one in seen),
                received=sum(one.contents.size for one in seen),
            )
        finally:
            for one in seen[1:]:
                one.sink.abort()

    async def _second_opinion(self, work: Work, first: Fetched[_BlobSink]) -> Outcome:
        """Fetch again what contradicts the list and the reply.

        It may be a bad row or a bad transfer. The declared size is that of creation, and old
        versions wrote wrong ones; so bytes that come the same twice are what the source has.
        """
        second = await self._ask(work)
        try:
            attempts = first.attempts + second.attempts
            received = first.contents.size
            if not (found := _contradictions(work, second.contents)):
                better = second._replace(attempts=attempts)
                return await self._store(work, better, also_received=received)
            if second.sink.sha256 == first.sink.sha256:
                notes = (*found, *first.contents.notes, *second.contents.notes)
                same = Fetched(replace(second.contents, notes=notes), first.sink, attempts)
                return await self._store(work, same, also_received=received)
            detail = (
                f"two fetches gave different bytes ({first.contents.size:,} and "
                f"{second.contents.size:,}), and neither is what the source says it is"
            )
            return Outcome(
                work.id,
                State.FAILED,
                found[0],
                detail,
                attempts=attempts,
                received=received + second.contents.size,
            )
        finally:
            second.sink.abort()

    async def _store(
        self, work: Work, fetched: Fetched[_BlobSink], *, also_received: int = 0
    ) -> Outcome:
        blob = fetched.sink.blob
        if blob is None:
            blob = await in_pool(self._pool, fetched.sink.commit)
        problem, detail = _note(work, fetched.contents)
        return Outcome(
            work.id,
            State.STORED,
            problem,
            detail,
            sha256=blob.sha256,
            size=blob.size,
            mime_type=blob.mime_type,
            attempts=fetched.attempts,
            filename=fetched.contents.attachment.filename,
            received=fetched.contents.size + also_received,
            deduped=blob.deduped,
        )


async def fetch_work(source: Source, work: Work, make_sink: Callable[[], S]) -> Fetched[S]:
    """Fetch a file from where the ledger says that the source has it."""
    with for_file(work.filename):
        if work.kind == "post":
            return await source.fetch(work.ticket_id, work.id, make_sink)
        if not isinstance(source, HoldsFiles):
            raise NotFound(f"this source has no files of the kind {work.kind}")
        return await source.fetch_other(work.kind, work.place, work.id, make_sink)


async def recall(source: Source, held: Iterable[Row]) -> None:
    """Look at files in custom fields once more: they show the source how it encodes files."""
    if not isinstance(source, HoldsFields):
        return
    for row in held:
        try:
            await source.custom_fields(int(row.place.partition("/")[0]))
        except SourceError as error:
            raise_if_final(error)


class _BlobSink:
    """Writes a blob, and makes it durable at once if it is as long as the source says."""

    def __init__(self, writer: Writer, work: Work) -> None:
        self._work = work
        self.blob: StoredBlob | None = None
        self.write = writer.write
        self.commit = writer.commit
        self.abort = writer.abort
        self._writer = writer

    @property
    def sha256(self) -> str:
        return self._writer.sha256

    def finish(self, contents: Contents) -> None:
        if not (_is_lost(contents, self._work) or _contradictions(self._work, contents)):
            self.blob = self.commit()


def _same(one: Fetched[_BlobSink], other: Fetched[_BlobSink]) -> bool:
    """Return whether two replies have a file of the same name and bytes."""
    return one.contents.present and (one.contents.attachment.filename, one.sink.sha256) == (
        other.contents.attachment.filename,
        other.sink.sha256,
    )


def _is_lost(contents: Contents, work: Work) -> bool:
    """Return whether a reply without contents means a lost file, not an empty one.

    An unreadable size does not prove an empty file, nor does a size of 0 that the source explains;
    a file in a custom field has no size.
    """
    if work.kind == "customfield":
        return not contents.present
    unknown = "odd_number" in (*_codes(work), *contents.attachment.notes)
    size = max(contents.attachment.filesize, work.declared_size)
    return not contents.present and (size > 0 or unknown or bool(contents.said))


def _contradictions(work: Work, contents: Contents) -> tuple[str, ...]:
    """Return the codes of what differs from the list and the reply.

    An unreadable number contradicts nothing.
    """
    reply, listed = contents.attachment, _codes(work)
    sizes = {contents.size}
    if "odd_number" not in listed:
        sizes.add(work.declared_size)
    if "odd_number" not in reply.notes:
        sizes.add(reply.filesize)
    known = work.kind not in _UNSIZED
    found = ("size_mismatch",) if known and len(sizes) > 1 else ()
    if "hash_mismatch" in contents.notes:
        found = (*found, "hash_mismatch")
    read = not ({"odd_row", "repaired_name"} & {*listed, *reply.notes})
    other = read and "" not in (work.filename, reply.filename) and work.filename != reply.filename
    if other or (work.created_at and reply.created_at and work.created_at != reply.created_at):
        found = ("other_reply", *found)
    return found


def _codes(work: Work) -> list[str]:
    return work.problem.split(",") if work.problem else []


def _note(work: Work, contents: Contents) -> tuple[str | None, str | None]:
    found = {*contents.notes, *contents.attachment.notes, *_codes(work)}
    notes = [note for note in NOTES if note in found]
    if not notes:
        return None, None
    reply = contents.attachment
    values = {
        "wanted": f"{work.declared_size:,}",
        "declared": f"{reply.filesize:,}",
        "size": f"{contents.size:,}",
        "listed": f"{work.filename!r} of {work.created_at}",
        "named": f"{reply.filename!r} of {reply.created_at}",
    }
    texts = [NOTES[note].format_map(values) for note in notes]
    return notes[0], "; ".join(texts)


def _verdict(work: Work, error: SourceError) -> Outcome:
    """Return the outcome of a failure; raise it again if it stops the run."""
    raise_if_final(error)
    state = State.GONE if isinstance(error, NotFound) else State.FAILED
    return Outcome(work.id, state, error.problem, error.reason, attempts=error.attempts)
