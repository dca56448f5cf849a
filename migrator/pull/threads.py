"""Threads: the header, the posts and the custom fields of every ticket.

One request for a ticket, made when its posts were never read, when it was active since, or when an
attachment names a post that we do not have. Another one for its custom fields, where the helpdesk
has any. Attachments come first: an error here fails none of them, and the next run tries again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from migrator.archive.records import (
    LabelRow,
    Listed,
    PeopleNote,
    PostRow,
    Recorded,
    Reply,
    Row,
    State,
    StatusRow,
    TicketRow,
    Work,
    note_id,
)
from migrator.archive.replies import FIELDS, POSTS
from migrator.errors import Interrupted, NotFound, SourceError, UnexpectedReply
from migrator.events import Notice
from migrator.pull.fetch import SHOWN, recall
from migrator.pull.replies import ReplyCopy
from migrator.sources.base import (
    Attachment,
    CustomFields,
    HoldsFields,
    HoldsMore,
    Note,
    Post,
    Ticket,
    TicketStatus,
    for_each,
    raise_if_final,
)

if TYPE_CHECKING:
    from migrator.pull.links import LinkReader
    from migrator.pull.workers import RunContext

BATCH = 500
"""Waiting tickets read from the archive at once."""

UNREAD = -1
"""A last activity that no ticket has: threads recorded with it are read again."""

MOST_FAILURES = 100
"""Threads that may fail in a row before the run stops reading them."""


STAFF = 1
"""Value of ``Post.creator`` for a post of the staff."""

NOTES = {"ticket": "note", "timetrack": "timetrack"}
"""The notes that belong to a ticket, and the kinds of responses that they become."""

ODD = ("odd_row", "odd_number", "repaired_name")
"""Notes of a row in a list that the ledger keeps, most serious first."""


class ThreadReader:
    """Reads threads for a run that is asked to keep posts."""

    def __init__(self, context: RunContext, links: LinkReader) -> None:
        self._context = context
        self._links = links
        self._failures = 0
        self._emails: dict[int, str] = {}
        """The addresses of staff, by id."""

    async def put_statuses(self, statuses: list[TicketStatus]) -> None:
        """Record the statuses that headers refer to."""
        rows = [StatusRow(one.id, one.title, one.department_id, one.resolved) for one in statuses]
        await self._context.recorder.do(partial(self._context.archive.threads.put_statuses, rows))

    async def put_labels(self) -> None:
        """Record the names of priorities, types and staff, if posts are kept."""
        context = self._context
        if not context.options.posts or not isinstance(context.source, HoldsMore):
            return
        found = await context.source.labels()
        self._emails = {one.id: one.email for one in found if one.kind == "staff"}
        rows = [LabelRow(one.kind, one.id, one.title, one.email) for one in found]
        await context.recorder.do(partial(context.archive.threads.put_labels, rows))

    async def announce(self) -> None:
        """Say how many tickets are read once more because their replies were not kept before."""
        context, count = self._context, self._context.archive.threads.count_unread
        if not (context.options.posts and context.options.replies):
            return
        n = await context.recorder.do(lambda: count(replies=True) - count())
        if n:
            text = f"the archive has the posts of {n:,} tickets, but not the replies as they came"
            how = "each takes a request, once, and one more where there are custom fields"
            context.listener(Notice(f"{text}: {how} (archive.keep_replies)"))

    async def read(self, ticket: Ticket) -> bool:
        """Read the thread of a ticket whose attachments were just listed, if it is to be read.

        Else its notes are taken from the list: some change without any activity of the ticket.
        Returns whether a post claims to have attachments.
        """
        context = self._context
        if self._ended:
            return False
        do = context.recorder.do
        ask, replies = context.archive.threads.unread_activity, context.options.replies
        activity = await do(partial(ask, ticket.id, replies=replies))
        if activity is not None or ticket.problems:
            known = ticket.last_activity if activity is None else activity
            return await self._read(ticket.id, known)
        if ticket.staff_notes:
            await self._links.fetch(await do(partial(self._put_notes, ticket)))
        return False

    async def catch_up(self) -> None:
        """Read every thread that is still to be read: failed before, or never requested."""
        context = self._context
        threads, missing = context.archive.threads, context.result.threads_missing
        replies = context.options.replies
        if self._ended:
            return
        waiting = await context.recorder.do(partial(threads.count_unread, replies=replies))
        if waiting >= BATCH:
            context.listener(Notice(f"reading the posts of {waiting:,} tickets"))
        unread = partial(threads.unread, replies=replies)
        await _each(context, unread, missing, self._catch_up, ended=lambda: self._ended)

    @property
    def _ended(self) -> bool:
        context = self._context
        return context.stop.asked or not context.options.posts or self._failures >= MOST_FAILURES

    async def _catch_up(self, waiting: tuple[int, int]) -> None:
        with suppress(Interrupted):  # asked to stop between two tries: it is read next time
            await self._read(*waiting)

    async def _read(self, ticket_id: int, activity: int) -> bool:
        """Read one thread, for the last activity that the ledger knows of its ticket.

        Returns whether a post claims to have attachments. A later activity in the reply is left to
        the list: then the thread is read once more.
        """
        with ReplyCopy(self._context.archive.blobs) as copy:
            return await self._copied(ticket_id, activity, copy)

    async def _copied(self, ticket_id: int, activity: int, copy: ReplyCopy) -> bool:
        context = self._context
        do, keeps = context.recorder.do, context.options.replies
        try:
            ticket, problem = await context.source.thread(ticket_id, copy if keeps else None)
            if ticket.id != ticket_id and ticket_id in context.result.listed:
                raise UnexpectedReply(
                    f"the source answers ticket {ticket_id}, which it has just listed, as ticket "
                    f"{ticket.id}"
                )
        except NotFound:  # whether it is deleted is decided elsewhere
            await do(partial(self._skip, ticket_id, activity=activity))
            self._failures = 0
            return False
        except SourceError as error:
            raise_if_final(error)
            self._missed(ticket_id, error)
            return False
        reply = await copy.kept(context.pool, ticket.id, POSTS)
        row, (notes, people) = row_of(ticket), self._notes_of(ticket)
        put = partial(self._put, row, [*map(post_of, ticket.posts), *notes], people, reply)
        if ticket.id != ticket_id:
            activity = ticket.last_activity
            await do(partial(context.archive.ledger.put_ticket, row))
            await do(partial(context.archive.ledger.mark_merged, ticket_id, ticket.id))
        if problem is not None:  # what could be read is kept, and asked for again by the next run
            await self._links.fetch(await do(partial(put, activity=UNREAD)))
            self._missed(ticket_id, problem)
            return any(post.has_attachments for post in ticket.posts)
        await self._links.fetch(await do(partial(put, activity=activity)))
        context.result.threads += 1
        self._failures = 0
        return any(post.has_attachments for post in ticket.posts)

    def _notes_of(self, ticket: Ticket) -> tuple[list[PostRow], list[PeopleNote]]:
        """Return the notes of a ticket, and those about its people."""
        of_it = [note_of(one, self._emails) for one in ticket.staff_notes if one.kind in NOTES]
        return of_it, [people_note_of(one) for one in ticket.staff_notes if one.kind not in NOTES]

    def _put_notes(self, ticket: Ticket) -> list[Work]:
        """Record what is new in the notes of a list; return the files that it links to."""
        archive = self._context.archive
        with archive.ledger.atomic():
            notes, people = archive.threads.put_notes(ticket.id, *self._notes_of(ticket))
            todo = self._links.record(ticket.id, ((note.id, note.text) for note in notes))
            return todo + self._links.record(0, ((0, note.text) for note in people))

    def _skip(self, ticket_id: int, *, activity: int) -> None:
        """Record that the source has no posts of a ticket."""
        archive = self._context.archive
        with archive.ledger.atomic():
            archive.threads.skip(self._context.result.run_id, ticket_id, activity=activity)
            if self._context.options.replies:
                archive.replies.mark(ticket_id, POSTS, activity=activity)

    def _put(
        self,
        ticket: TicketRow,
        posts: list[PostRow],
        people: list[PeopleNote],
        reply: Reply | None,
        *,
        activity: int,
    ) -> list[Work]:
        """Record a thread, and the files that it links to; return those to be fetched."""
        archive, run_id = self._context.archive, self._context.result.run_id
        texts = sorted(posts, key=lambda post: (post.created_at, post.id))
        with archive.ledger.atomic():
            archive.threads.put(run_id, ticket, posts, people=people, activity=activity)
            if reply is not None:
                archive.replies.put(reply)
            if self._context.options.replies:
                archive.replies.mark(ticket.id, POSTS, activity=activity)
            todo = self._links.record(ticket.id, ((post.id, post.text) for post in texts))
            return todo + self._links.record(0, ((0, note.text) for note in people))

    def _missed(self, ticket_id: int, error: SourceError) -> None:
        self._context.result.threads_missing[ticket_id] = str(error)
        self._failures += 1
        if self._failures == MOST_FAILURES:
            text = f"no posts could be read of {MOST_FAILURES:,} tickets in a row: the next run may"
            self._context.listener(Notice(text, "warning"))


class FieldReader:
    """Reads custom fields for a run that is asked to keep them.

    They may change without any activity of their ticket. So a whole pass reads those of all
    tickets where any field holds files, as it lists all attachments; where none does, those of
    tickets that were active since. A file is fetched once all replies were read: by then the
    source knows best how files are encoded.
    """

    def __init__(
        self, context: RunContext, links: LinkReader, weigh: Callable[[Recorded], None]
    ) -> None:
        self._context = context
        self._links = links
        self._weigh = weigh
        self._source: HoldsFields | None = None
        self._files = self._again = False
        self._failures = 0

    async def prepare(self) -> None:
        """Find out what the helpdesk has; where it has no custom fields, none are read."""
        context, source = self._context, self._context.source
        if not (context.options.custom_fields and isinstance(source, HoldsFields)):
            return
        try:
            fields, files = await source.count_fields()
        except NotFound:
            text = "this version of the helpdesk does not show custom fields: they are not kept"
            context.listener(Notice(text))
            return
        except SourceError as error:
            raise_if_final(error)
            fields = files = 1  # the reply for a ticket shows what it has
            text = f"which custom fields there are is not known, so all tickets are asked: {error}"
            context.listener(Notice(text, "warning"))
        self._source = source if fields else None
        self._files = bool(files)
        self._again = self._files and context.options.increment is None

    async def read(self, ticket_id: int) -> None:
        """Read the custom fields of a ticket whose attachments were just listed, if they may."""
        if self._ended:
            return
        do, ask = self._context.recorder.do, self._context.archive.threads.fields_activity
        again, replies = self._again, self._context.options.replies
        activity = await do(partial(ask, ticket_id, again=False))
        if activity is not None:
            await self._read(ticket_id, activity)
        elif again or replies:
            activity = await do(partial(ask, ticket_id, again=again, replies=replies))
            if activity is not None:
                await self._read(ticket_id, activity, anew=False)

    async def catch_up(self) -> None:
        """Read the custom fields that are still to be read."""
        missing, replies = self._missing, self._context.options.replies
        waiting = partial(self._context.archive.threads.without_fields, replies=replies)
        await _each(self._context, waiting, missing, self._catch_up, ended=lambda: self._ended)

    async def recall(self) -> None:
        """Recall how files are encoded, where the pass does not read them all."""
        context = self._context
        if context.options.increment is not None:
            queries = context.archive.queries
            held = await context.recorder.do(partial(queries.largest, "customfield", SHOWN))
            await recall(context.source, held)

    @property
    def _missing(self) -> dict[int, str]:
        return self._context.result.fields_missing

    @property
    def _ended(self) -> bool:
        asked = self._context.stop.asked or self._source is None
        return asked or self._failures >= MOST_FAILURES

    async def _catch_up(self, waiting: tuple[int, int]) -> None:
        with suppress(Interrupted):
            await self._read(*waiting)

    async def _read(self, ticket_id: int, activity: int, *, anew: bool = True) -> None:
        """Read the fields of a ticket and of those merged into it, which keep their own.

        ``anew`` says that they were never read, or for another activity.
        """
        context, found, kept = self._context, dict[int, CustomFields](), list[Reply]()
        do, threads = context.recorder.do, context.archive.threads
        failed: SourceError | None = None
        for asked in [ticket_id, *await do(partial(threads.merged_into, ticket_id))]:
            try:
                fields, reply = await self._agreed(asked, ticket_id, anew=anew and self._files)
            except NotFound:  # whether a ticket is deleted is decided elsewhere
                continue
            except SourceError as error:
                raise_if_final(error)
                failed = error
                continue
            kept += [reply] if reply is not None else []
            if not any(_equal(fields, other) for other in found.values()):
                found[asked] = fields
        read_for = None if failed else activity
        recorded, linked = await do(partial(self._record, ticket_id, found, kept, read_for))
        self._weigh(recorded)
        await self._links.fetch(linked)
        if failed is None:
            self._missing.pop(ticket_id, None)
            self._failures = 0
            return
        self._missing[ticket_id] = str(failed)
        self._failures += 1
        if self._failures == MOST_FAILURES:
            text = f"no custom fields could be read of {MOST_FAILURES:,} tickets in a row"
            context.listener(Notice(f"{text}: the next run tries again", "warning"))

    async def _agreed(
        self, ticket_id: int, survivor: int, *, anew: bool
    ) -> tuple[CustomFields, Reply | None]:
        """Return the fields of a ticket as two replies agree, or one and the ledger.

        Also return the last reply, if it is to be kept: one that says what the ledger knows
        is not, where that of the ``survivor`` of all merges was kept before.

        Nothing in a reply names the ticket, so a reply for another one is not recognised. Where no
        field holds files, one reply is enough; so is one that has the values and files of the
        ledger, unless they are to be read ``anew``.
        """
        with ReplyCopy(self._context.archive.blobs) as copy:
            do, keeps = self._context.recorder.do, self._context.options.replies
            is_kept = partial(self._context.archive.replies.is_kept, survivor, FIELDS)
            known = keeps and not anew and await do(is_kept)
            fields = await self._asked(ticket_id, copy if keeps else None, anew=anew, known=known)
            return fields, await copy.kept(self._context.pool, ticket_id, FIELDS)

    async def _asked(
        self, ticket_id: int, copy: ReplyCopy | None, *, anew: bool, known: bool
    ) -> CustomFields:
        assert self._source is not None  # noqa: S101 - else nothing is read
        first = await self._source.custom_fields(ticket_id, None if known else copy)
        if not anew and await self._context.recorder.do(partial(self._knows, ticket_id, first)):
            return first
        second = await self._source.custom_fields(ticket_id, copy)
        if second == first:
            return first
        third = await self._source.custom_fields(ticket_id, copy)
        if third not in (first, second):
            raise UnexpectedReply(
                f"the custom fields of ticket {ticket_id}: three replies differ from each other"
            )
        return third

    def _knows(self, ticket_id: int, fields: CustomFields) -> bool:
        """Return whether the ledger has these files, and these values where files may be."""
        archive, post = self._context.archive, response_of(ticket_id, 0, fields)
        if self._files and archive.threads.text(post.id) != post.text:
            return False
        return _agrees(fields, archive.queries.files_below("customfield", f"{ticket_id}/"))

    def _record(
        self,
        ticket_id: int,
        found: dict[int, CustomFields],
        kept: list[Reply],
        activity: int | None,
    ) -> tuple[Recorded, list[Work]]:
        """Record the fields of a ticket; also return the files to fetch that they link to."""
        archive, responses, listed = self._context.archive, list[PostRow](), list[Listed]()
        for asked, fields in found.items():
            # Of a ticket that was merged before anybody listed it, the id alone is known.
            tickets = map(archive.threads.ticket, (asked, ticket_id))
            created = (one.created_at for one in tickets if one is not None and one.created_at)
            post = response_of(asked, next(created, 0), fields)
            responses += [post] if fields.values else []
            listed += [
                replace(listed_of(one), ticket_id=ticket_id, post_id=post.id)
                for one in fields.files
            ]
        with archive.ledger.atomic():
            archive.threads.put_fields(ticket_id, responses, activity=activity)
            for reply in kept:
                archive.replies.put(reply)
            if self._context.options.replies:
                archive.replies.mark(ticket_id, FIELDS, activity=activity)
            recorded = archive.ledger.record_files(self._context.result.run_id, listed)
            texts = ((post.id, post.text) for post in responses)
            return recorded, self._links.record(ticket_id, texts)


async def _each(
    context: RunContext,
    waiting: Callable[..., list[tuple[int, int]]],
    missing: dict[int, str],
    work: Callable[[tuple[int, int]], Awaitable[None]],
    *,
    ended: Callable[[], bool],
) -> None:
    """Work on all waiting tickets but the missing ones."""
    after = 0
    while not ended():
        batch = await context.recorder.do(partial(waiting, after=after, limit=BATCH))
        if not batch:
            return
        await for_each(
            [one for one in batch if one[0] not in missing],
            work,
            workers=context.options.concurrency,
            stopping=ended,
        )
        after = batch[-1][0]


def _equal(one: CustomFields, other: CustomFields) -> bool:
    """Return whether a merged ticket answers with the very fields of the other one."""
    files = [[(a.filename, a.filesize, a.sha256) for a in two.files] for two in (one, other)]
    return one.values == other.values and files[0] == files[1]


def _agrees(fields: CustomFields, known: list[Row]) -> bool:
    """Return whether the files are those that the ledger has."""
    rows = {row.place: row for row in known if row.state not in (State.GONE, State.DELETED)}
    return rows.keys() == {one.place for one in fields.files} and all(
        rows[one.place].filename == one.filename
        and rows[one.place].sha256 in (None, one.sha256 or rows[one.place].sha256)
        for one in fields.files
    )


def response_of(ticket_id: int, created_at: int, fields: CustomFields) -> PostRow:
    """Return the custom fields of a ticket as the archive keeps them: a line for each value."""
    lines = [
        f"{' / '.join(filter(None, (group, title)))}: {value}"
        for group, title, value in fields.values
    ]
    return PostRow(
        note_id("customfield", ticket_id),
        created_at,
        staff=True,
        is_private=True,
        text="\n".join(lines),
        kind="customfield",
        facts={"number": ticket_id},
    )


def listed_of(attachment: Attachment) -> Listed:
    """Return an attachment of a list as the archive keeps it."""
    return Listed(
        attachment.id,
        attachment.ticket_id,
        attachment.post_id,
        attachment.filename,
        attachment.filetype,
        attachment.filesize,
        attachment.created_at,
        ",".join(note for note in ODD if note in attachment.notes) or None,
        attachment.kind,
        attachment.place,
        attachment.sha256,
    )


def row_of(ticket: Ticket) -> TicketRow:
    """Return a ticket as the archive keeps it."""
    return TicketRow(
        ticket.id,
        ticket.department_id,
        ticket.display_id,
        ticket.subject,
        ticket.created_at,
        ticket.last_activity,
        ticket.status_id,
        ticket.full_name,
        ticket.email,
        ticket.owner_name,
        ticket.user_id,
        ticket.organization_id,
        ticket.details,
    )


def post_of(post: Post) -> PostRow:
    """Return a post as the archive keeps it."""
    return PostRow(
        post.id,
        post.created_at,
        post.full_name,
        post.email,
        post.creator == STAFF,
        post.is_private,
        post.is_html,
        post.text,
        ",".join(post.notes) or None,
        facts={"is_emailed": True} if post.is_emailed else {},
    )


def note_of(note: Note, emails: Mapping[int, str]) -> PostRow:
    """Return a note of a ticket, or a time track, as the archive keeps it: in the thread.

    ``emails`` are the addresses of staff by id.
    """
    kind = NOTES[note.kind]
    return PostRow(
        note_id(kind, note.id),
        note.created_at,
        note.author_name,
        emails.get(note.author_id, ""),
        staff=True,
        is_private=True,
        is_html=note.is_html,
        text=note.text,
        note=",".join(note.notes) or None,
        kind=kind,
        facts=_facts(note),
    )


def people_note_of(note: Note) -> PeopleNote:
    """Return a note about a user or an organization as the archive keeps it."""
    return PeopleNote(
        note.id,
        note.kind,
        note.about,
        note.created_at,
        note.author_name,
        note.is_html,
        note.text,
        ",".join(note.notes) or None,
        _facts(note),
    )


def _facts(note: Note) -> dict[str, object]:
    """Return what else a note says, without what it leaves open."""
    told = {
        "number": note.id,
        "author_id": note.author_id,
        "for_staff_id": note.for_staff_id,
        "color": note.color,
        "seconds_worked": note.worked,
        "seconds_billable": note.billable,
        "worked_at": note.worked_at,
        "worker_id": note.worker_id if note.worker_id != note.author_id else 0,
        "worker_name": note.worker_name if note.worker_name != note.author_name else "",
    }
    return {name: value for name, value in told.items() if value}
