"""Threads: the header and the posts of every ticket.

One request for a ticket, made when its posts were never read, when it was active since, or when an
attachment names a post that we do not have. Attachments come first: an error here fails none of
them, and the next run tries again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from migrator.archive.records import (
    LabelRow,
    Listed,
    PeopleNote,
    PostRow,
    StatusRow,
    TicketRow,
    Work,
    note_id,
)
from migrator.errors import Interrupted, NotFound, SourceError, UnexpectedReply
from migrator.events import Notice
from migrator.sources.base import (
    Attachment,
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

    async def read(self, ticket_id: int) -> bool:
        """Read the thread of a ticket whose attachments were just listed, if it is to be read.

        Returns whether a post claims to have attachments.
        """
        context = self._context
        if self._ended:
            return False
        activity = await context.recorder.do(
            partial(context.archive.threads.unread_activity, ticket_id)
        )
        return activity is not None and await self._read(ticket_id, activity)

    async def catch_up(self) -> None:
        """Read every thread that is still to be read: failed before, or never requested."""
        context, after = self._context, 0
        while not self._ended:
            batch = await context.recorder.do(
                partial(context.archive.threads.unread, after=after, limit=BATCH)
            )
            if not batch:
                return
            if not after and len(batch) == BATCH:
                waiting = await context.recorder.do(context.archive.threads.count_unread)
                context.listener(Notice(f"reading the posts of {waiting:,} tickets"))
            await for_each(
                [one for one in batch if one[0] not in context.result.threads_missing],
                self._catch_up,
                workers=context.options.concurrency,
                stopping=lambda: self._ended,
            )
            after = batch[-1][0]

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
        context = self._context
        do, threads, run_id = context.recorder.do, context.archive.threads, context.result.run_id
        try:
            ticket, problem = await context.source.thread(ticket_id)
            if ticket.id != ticket_id and ticket_id in context.result.listed:
                raise UnexpectedReply(
                    f"the source answers ticket {ticket_id}, which it has just listed, as ticket "
                    f"{ticket.id}"
                )
        except NotFound:  # whether it is deleted is decided elsewhere
            await do(partial(threads.skip, run_id, ticket_id, activity=activity))
            self._failures = 0
            return False
        except SourceError as error:
            raise_if_final(error)
            self._missed(ticket_id, error)
            return False
        row, posts = row_of(ticket), [post_of(one) for one in ticket.posts]
        posts += [note_of(one, self._emails) for one in ticket.staff_notes if one.kind in NOTES]
        people = [people_note_of(one) for one in ticket.staff_notes if one.kind not in NOTES]
        put = partial(self._put, row, posts, people)
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

    def _put(
        self, ticket: TicketRow, posts: list[PostRow], people: list[PeopleNote], *, activity: int
    ) -> list[Work]:
        """Record a thread, and the files that it links to; return those to be fetched."""
        archive, run_id = self._context.archive, self._context.result.run_id
        texts = sorted(posts, key=lambda post: (post.created_at, post.id))
        with archive.ledger.atomic():
            archive.threads.put(run_id, ticket, posts, people=people, activity=activity)
            todo = self._links.record(ticket.id, ((post.id, post.text) for post in texts))
            return todo + self._links.record(0, ((0, note.text) for note in people))

    def _missed(self, ticket_id: int, error: SourceError) -> None:
        self._context.result.threads_missing[ticket_id] = str(error)
        self._failures += 1
        if self._failures == MOST_FAILURES:
            text = f"no posts could be read of {MOST_FAILURES:,} tickets in a row: the next run may"
            self._context.listener(Notice(text, "warning"))


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
    }
    return {name: value for name, value in told.items() if value}
