"""Threads: the headers of tickets and their posts, as the endpoint and the pages show them.

All tickets and posts of an archive, one after the other, for whoever takes them elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import fields

from migrator.archive.checkpoint import Checkpoint, Tuple
from migrator.archive.records import (
    PostRow,
    Response,
    ResponseFilter,
    Row,
    StatusRow,
    TicketHeader,
    TicketRow,
)
from migrator.archive.sql import (
    OF_RESPONSE,
    ROW,
    TICKET,
    Condition,
    Range,
    all_of,
    allowed,
    as_json,
    between,
    clean,
    contains,
    fit,
    has_file,
    number_is,
    one_of,
    row_from,
    ticket_values,
    undeleted,
    upsert,
    wanted_by,
)

# ruff: noqa: S608 - only constants of this module become SQL


LONGEST = (1 << 31) - 1
"""Characters: more than SQLite holds in one value; its substr() counts in 32 bits."""

ENDLESS = -1
"""SQLite's LIMIT for none."""

_HEADER = ", ".join(f"h.{field.name}" for field in fields(TicketHeader))
_RESPONSE = ", ".join(
    f"h.{field.name}" if field.name in ("ticket_number", "queue_id") else f"p.{field.name}"
    for field in fields(Response)
    if field.name not in ("text", "note")
)
_FLAGS = [i for i, field in enumerate(fields(Response)) if field.type == "bool"]
# CROSS JOIN keeps the order of the loops: posts by their index, never all posts of a queue sorted.
RESPONSES = f"""
    SELECT {_RESPONSE}, substr(p.text, 1, ?), p.note
    FROM posts AS p CROSS JOIN headers AS h ON h.id = p.ticket_id
    WHERE """

EVERY_POST = """
    (p.ticket_id, p.created_at, p.id) > (?, ?, ?)
    ORDER BY p.ticket_id, p.created_at, p.id"""

_ATTACHMENTS_OF = f"""
    SELECT {ROW} FROM ledger WHERE attachment_id IN (
        SELECT a.id FROM attachments AS a JOIN posts AS p
            ON p.id = {OF_RESPONSE} AND p.ticket_id = a.ticket_id
        WHERE {OF_RESPONSE} IN (SELECT value FROM json_each(?))
    ) ORDER BY 1"""

_IS_UNREAD = "posts_activity IS NOT last_activity AND merged_into IS NULL AND deleted_at IS NULL"
"""In the very words of the index."""

_PUT_STATUS = upsert("statuses", "id", "title", "department_id", "resolved")
# A known ticket keeps what only the lists of tickets may change: its activity, its fate.
_PUT_HEADER = upsert("tickets", *TICKET, "posts_activity", "posts_run").replace(
    "last_activity = excluded.last_activity, ", ""
)

# What is the same is not written again, and a text that we hold is never lost to an empty one.
_PUT_POST = """
    INSERT INTO posts
        (id, ticket_id, created_at, author_name, author_email, staff, is_private, is_html,
         text, note)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        ticket_id = excluded.ticket_id,
        created_at = excluded.created_at,
        author_name = excluded.author_name,
        author_email = excluded.author_email,
        staff = excluded.staff,
        is_private = excluded.is_private,
        is_html = iif(excluded.text = '' AND text <> '', is_html, excluded.is_html),
        note = iif(excluded.text = '' AND text <> '', note, excluded.note),
        text = iif(excluded.text = '', text, excluded.text)
    WHERE (ticket_id, created_at, author_name, author_email, staff, is_private, is_html, note,
        text) IS NOT (excluded.ticket_id, excluded.created_at, excluded.author_name,
        excluded.author_email, excluded.staff, excluded.is_private, excluded.is_html,
        excluded.note, excluded.text)"""


class Threads:
    """Headers and posts of an archive; errors as of :class:`Ledger`, from any thread."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._db = checkpoint

    def ticket(self, ticket_id: int) -> TicketHeader | None:
        """Return a ticket's header, None for an unknown ticket."""
        sql = f"SELECT {_HEADER} FROM headers AS h WHERE h.id = ?"
        found = self._db.one(sql, (ticket_id,))
        return TicketHeader(*found) if found else None

    def responses(
        self,
        ticket_id: int,
        *,
        after: tuple[int, int] | None = None,
        limit: int | None = None,
        text_limit: int | None = None,
    ) -> list[Response]:
        """Return the posts of a ticket, oldest first: by (created_at, id), above ``after``.

        ``text_limit`` cuts every text to so many characters.
        """
        return self._responses([("p.ticket_id = ?", (ticket_id,))], after, limit, text_limit)

    def query(
        self,
        wanted: ResponseFilter,
        *,
        after: tuple[int, int] | None = None,
        limit: int,
        text_limit: int | None = None,
    ) -> list[Response]:
        """Return posts of unmerged tickets that pass the filter, by (created_at, id).

        Oldest first, above ``after``. Fewer than ``limit`` are the last ones. Whoever goes on
        after the last one of a page meets every post once, whatever is added meanwhile.
        """
        # What a merge leaves behind are places for files that went along: no posts of anybody.
        where = [("h.merged_into IS NULL", ()), *wanted_by(wanted)]
        return self._responses(where, after, limit, text_limit)

    def attachments_of_ticket(self, ticket_id: int) -> list[Row]:
        """Return all attachments of a ticket, in any state, by id."""
        sql = f"SELECT {ROW} FROM ledger WHERE ticket_id = ? ORDER BY 1"
        return [row_from(row) for row in self._db.execute(sql, (ticket_id,))]

    def attachments_of(self, response_ids: Collection[int]) -> dict[int, list[Row]]:
        """Return the attachments of responses, in any state, by id; none for those without."""
        found: defaultdict[int, list[Row]] = defaultdict(list)
        for values in self._db.execute(_ATTACHMENTS_OF, (as_json(response_ids),)):
            row = row_from(values)
            found[row.post_id if row.post_id > 0 else -row.ticket_id].append(row)
        return dict(found)

    def find(
        self,
        text: str = "",
        *,
        number: str = "",
        subject: str = "",
        requester: str = "",
        filename: str = "",
        queues: frozenset[int] | None = None,
        created: Range = (None, None),
        updated: Range = (None, None),
        deleted: bool = True,
        limit: int = 100,
    ) -> list[TicketHeader]:
        """Return tickets, latest activity first, without those that were merged into others.

        ``number`` is a whole ticket number, or the id shown by Kayako; ``subject``,
        ``requester`` (name or address) and ``filename`` are parts of such, ``text`` any of all
        these. ASCII letters match in either case. ``queues`` is what the asker may see, None
        for everything; with ``deleted`` that includes what the source has deleted.
        """
        where = [("h.merged_into IS NULL", ()), *allowed(queues), *undeleted(deleted)]
        where += between("h.created_at", created) + between("h.last_activity", updated)
        where += [number_is(number)] if number else []
        where += [contains(subject, "h.subject")] if subject else []
        where += [contains(requester, "h.requester_name", "h.requester_email")] if requester else []
        where += [has_file(filename)] if filename else []
        if text:
            people = ("h.subject", "h.requester_name", "h.requester_email")
            where.append(one_of(number_is(text), contains(text, *people), has_file(text)))
        condition, params = all_of(where)
        sql = f"""
            SELECT {_HEADER} FROM headers AS h WHERE {condition}
            ORDER BY h.last_activity DESC, h.id DESC LIMIT ?"""
        return [TicketHeader(*row) for row in self._db.execute(sql, (*params, limit))]

    def put_statuses(self, statuses: Iterable[StatusRow]) -> None:
        """Add or change ticket statuses; those no longer listed stay, tickets may have them."""
        with self._db.atomic():
            rows = [(one.id, clean(one.title), one.department_id, one.resolved) for one in statuses]
            self._db.execute_many(_PUT_STATUS, rows)

    def put(
        self,
        run_id: int,
        ticket: TicketRow,
        posts: Sequence[PostRow],
        *,
        activity: int | None = None,
    ) -> None:
        """Keep a ticket's header and posts as run ``run_id`` read them.

        ``activity`` is the last activity that the ledger knew when they were asked for (None: the
        one of ``ticket``). Posts that the source no longer sends stay, those of another ticket
        move here. What is the same already is not written.
        """
        kept_for = ticket.last_activity if activity is None else activity
        with self._db.atomic():
            self._db.execute(_PUT_HEADER, (*ticket_values(ticket), kept_for, run_id))
            self._db.execute_many(_PUT_POST, [_post(ticket.id, post) for post in posts])

    def skip(self, run_id: int, ticket_id: int, *, activity: int) -> None:
        """Note that the source has no posts of a ticket that had that last activity."""
        sql = "UPDATE tickets SET posts_activity = ?, posts_run = ? WHERE id = ?"
        with self._db.atomic():
            self._db.execute(sql, (activity, run_id, ticket_id))

    def unread(self, *, after: int = 0, limit: int = 500) -> list[tuple[int, int]]:
        """Return (ticket, last activity) where posts were never read, or for another activity.

        By id above ``after``; without tickets that were merged into others or deleted.
        """
        sql = f"""
            SELECT id, last_activity FROM tickets WHERE {_IS_UNREAD} AND id > ?
            ORDER BY id LIMIT ?"""
        return [(row[0], row[1]) for row in self._db.execute(sql, (after, limit))]

    def unread_activity(self, ticket_id: int) -> int | None:
        """Return the last activity for which a ticket's posts are to be read, None if they were."""
        sql = f"SELECT last_activity FROM tickets WHERE id = ? AND {_IS_UNREAD}"
        found = self._db.one(sql, (ticket_id,))
        return found[0] if found else None

    def count_unread(self) -> int:
        """Count the tickets of :meth:`unread`."""
        ((n,),) = self._db.execute(f"SELECT count(*) FROM tickets WHERE {_IS_UNREAD}")
        return int(n)

    def all_tickets(self) -> Iterator[TicketHeader]:
        """Yield the headers of all tickets by id, also of merged and deleted ones."""
        sql = f"SELECT {_HEADER} FROM headers AS h WHERE h.id > ? ORDER BY h.id LIMIT ?"
        return (TicketHeader(*row) for row in self._db.stream(sql, -1))

    def all_posts(self, page: int = 50) -> Iterator[Response]:
        """Yield all posts by ticket, and those of a ticket oldest first.

        ``page`` of them are read at once: each may hold some MiB of text.
        """
        sql = f"{RESPONSES} {EVERY_POST} LIMIT ?"
        after = (-1, 0, 0)
        while rows := self._db.execute(sql, (LONGEST, *after, page)):
            for post in map(response_from, rows):
                after = post.ticket_id, post.created_at, post.id
                yield post

    def _responses(
        self,
        where: list[Condition],
        after: tuple[int, int] | None,
        limit: int | None,
        text_limit: int | None,
    ) -> list[Response]:
        if after is not None:
            where = [*where, ("(p.created_at, p.id) > (?, ?)", tuple(map(fit, after)))]
        condition, params = all_of(where)
        sql = f"{RESPONSES} {condition} ORDER BY p.created_at, p.id LIMIT ?"
        cut = LONGEST if text_limit is None else text_limit
        most = ENDLESS if limit is None else limit
        return [response_from(row) for row in self._db.execute(sql, (cut, *params, most))]


def _post(ticket_id: int, post: PostRow) -> Tuple:
    return (
        post.id,
        ticket_id,
        post.created_at,
        clean(post.author_name),
        clean(post.author_email),
        post.staff,
        post.is_private,
        post.is_html,
        clean(post.text),
        post.note,
    )


def response_from(values: Tuple) -> Response:
    """Give the response whose columns are those of RESPONSES."""
    columns = list(values)
    for flag in _FLAGS:
        columns[flag] = bool(columns[flag])
    return Response(*columns)
