"""Threads: the headers of tickets and their posts, as the endpoint and the pages show them."""
# ruff: noqa: S608 - only constants of this module become SQL

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields

from migrator.archive.checkpoint import Checkpoint, Tuple
from migrator.archive.reading import ROW, row_from
from migrator.archive.records import (
    PostRow,
    Response,
    ResponseFilter,
    Row,
    StatusRow,
    TicketHeader,
    TicketRow,
)

Range = tuple[int | None, int | None]
"""From and to in Unix seconds, both included; None is open."""

ENDLESS = -1
"""SQLite's LIMIT for none."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN_NUMBER = re.compile("[0-9]{1,18}")

_HEADER = ", ".join(f"h.{field.name}" for field in fields(TicketHeader))
_RESPONSE = ", ".join(
    f"h.{field.name}" if field.name in ("ticket_number", "queue_id") else f"p.{field.name}"
    for field in fields(Response)
    if field.name not in ("text", "note")
)
_FLAGS = [i for i, field in enumerate(fields(Response)) if field.type == "bool"]
# CROSS JOIN keeps the order of the loops: posts by their index, never all posts of a queue sorted.
_RESPONSES = f"""
    SELECT {_RESPONSE}, substr(p.text, 1, ?), p.note
    FROM posts AS p CROSS JOIN headers AS h ON h.id = p.ticket_id
    WHERE """

_NUMBERED = """
    SELECT ticket_id FROM ticket_numbers WHERE number IN (SELECT value FROM json_each(?))
    UNION ALL SELECT value FROM json_each(?)
        WHERE value NOT IN (SELECT ticket_id FROM ticket_numbers)"""

# A department is its own queue unless the configuration, or else a command, names another.
_DEPARTMENTS = """
    SELECT department_id FROM queues AS q
        WHERE queue_id IN (SELECT value FROM json_each(?)) AND (origin = 'config' OR NOT EXISTS (
            SELECT 1 FROM queues
            WHERE department_id = q.department_id AND origin = 'config'))
    UNION ALL SELECT value FROM json_each(?)
        WHERE value NOT IN (SELECT department_id FROM queues)"""

_OF_RESPONSE = "iif(a.post_id > 0, a.post_id, -a.ticket_id)"
"""In the very words of the index."""
_HAS_ATTACHMENTS = f"""
    SELECT 1 FROM attachments AS a
    WHERE {_OF_RESPONSE} = p.id AND a.ticket_id = p.ticket_id"""
_ATTACHMENTS_OF = f"""
    SELECT {ROW} FROM ledger WHERE attachment_id IN (
        SELECT a.id FROM attachments AS a JOIN posts AS p
            ON p.id = {_OF_RESPONSE} AND p.ticket_id = a.ticket_id
        WHERE {_OF_RESPONSE} IN (SELECT value FROM json_each(?))
    ) ORDER BY 1"""

_IS_UNREAD = "posts_activity IS NOT last_activity AND merged_into IS NULL AND deleted_at IS NULL"
"""In the very words of the index."""

_PUT_STATUS = """
    INSERT INTO statuses (id, title, department_id, resolved) VALUES (?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET title = excluded.title,
        department_id = excluded.department_id, resolved = excluded.resolved"""

# A known ticket keeps what only the lists of tickets may change: its activity, its fate.
_PUT_HEADER = """
    INSERT INTO tickets
        (id, department_id, display_id, subject, created_at, last_activity, status_id,
         requester_name, requester_email, owner_name, posts_activity, posts_run)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        department_id = excluded.department_id,
        display_id = excluded.display_id,
        subject = excluded.subject,
        created_at = excluded.created_at,
        status_id = excluded.status_id,
        requester_name = excluded.requester_name,
        requester_email = excluded.requester_email,
        owner_name = excluded.owner_name,
        posts_activity = excluded.posts_activity,
        posts_run = excluded.posts_run"""

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
        """Return posts that pass the filter, by (created_at, id) above ``after``, oldest first.

        Fewer than ``limit`` are the last ones. Whoever goes on after the last one of a page meets
        every post once, whatever is added meanwhile.
        """
        return self._responses(_wanted(wanted), after, limit, text_limit)

    def attachments_of_ticket(self, ticket_id: int) -> list[Row]:
        """Return all attachments of a ticket, in any state, by id."""
        sql = f"SELECT {ROW} FROM ledger WHERE ticket_id = ? ORDER BY 1"
        return [row_from(row) for row in self._db.execute(sql, (ticket_id,))]

    def attachments_of(self, response_ids: Collection[int]) -> dict[int, list[Row]]:
        """Return the attachments of responses, in any state, by id; none for those without."""
        found: defaultdict[int, list[Row]] = defaultdict(list)
        for values in self._db.execute(_ATTACHMENTS_OF, (_json(response_ids),)):
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
        limit: int = 100,
    ) -> list[TicketHeader]:
        """Return tickets, latest activity first, without those that were merged into others.

        ``number`` is a whole ticket number, or the id shown by Kayako; ``subject``,
        ``requester`` (name or address) and ``filename`` are parts of such, ``text`` any of all
        these. ASCII letters match in either case. ``queues`` is what the asker may see, None
        for everything.
        """
        where = [("h.merged_into IS NULL", ()), *_allowed(queues)]
        where += _between("h.created_at", created) + _between("h.last_activity", updated)
        where += [_number(number)] if number else []
        where += [_contains(subject, "h.subject")] if subject else []
        where += (
            [_contains(requester, "h.requester_name", "h.requester_email")] if requester else []
        )
        where += [_has_file(filename)] if filename else []
        if text:
            people = ("h.subject", "h.requester_name", "h.requester_email")
            where.append(_any(_number(text), _contains(text, *people), _has_file(text)))
        condition, params = _all(where)
        sql = f"""
            SELECT {_HEADER} FROM headers AS h WHERE {condition}
            ORDER BY h.last_activity DESC, h.id DESC LIMIT ?"""
        return [TicketHeader(*row) for row in self._db.execute(sql, (*params, limit))]

    def put_statuses(self, statuses: Iterable[StatusRow]) -> None:
        """Add or change ticket statuses; those no longer listed stay, tickets may have them."""
        with self._db.atomic():
            for one in statuses:
                values = (one.id, _text(one.title), one.department_id, one.resolved)
                self._db.execute(_PUT_STATUS, values)

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
        header = (
            ticket.id,
            ticket.department_id,
            _text(ticket.display_id),
            _text(ticket.subject),
            ticket.created_at,
            ticket.last_activity,
            ticket.status_id,
            _text(ticket.requester_name),
            _text(ticket.requester_email),
            _text(ticket.owner_name),
            kept_for,
            run_id,
        )
        with self._db.atomic():
            self._db.execute(_PUT_HEADER, header)
            for post in posts:
                self._db.execute(_PUT_POST, _post(ticket.id, post))

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

    def _responses(
        self,
        where: list[_Condition],
        after: tuple[int, int] | None,
        limit: int | None,
        text_limit: int | None,
    ) -> list[Response]:
        if after is not None:
            where = [*where, ("(p.created_at, p.id) > (?, ?)", tuple(map(_fit, after)))]
        condition, params = _all(where)
        sql = f"{_RESPONSES} {condition} ORDER BY p.created_at, p.id LIMIT ?"
        cut = _LONGEST if text_limit is None else text_limit
        most = ENDLESS if limit is None else limit
        return [_response(row) for row in self._db.execute(sql, (cut, *params, most))]


_Condition = tuple[str, tuple[object, ...]]
_LONGEST = (1 << 31) - 1
"""Characters: more than SQLite holds in one value; its substr() counts in 32 bits."""


def _wanted(wanted: ResponseFilter) -> list[_Condition]:
    """Translate a filter into conditions on p (posts) and h (headers)."""
    where = _allowed(wanted.queues)
    where += _between("p.created_at", (wanted.created_from, wanted.created_to))
    if wanted.queue_names is not None:
        where.append(
            ("h.queue_name IN (SELECT value FROM json_each(?))", (_json(wanted.queue_names),))
        )
    if wanted.ticket_numbers is not None:
        where.append((f"p.ticket_id IN ({_NUMBERED})", _numbers(wanted.ticket_numbers)))
    if wanted.is_internal is not None:
        where.append(("p.is_private = ?", (wanted.is_internal,)))
    if wanted.staff is not None:
        where.append(("p.staff = ?", (wanted.staff,)))
    if wanted.response_ids is not None:
        where.append(("p.id IN (SELECT value FROM json_each(?))", (_json(wanted.response_ids),)))
    if wanted.author_email is not None:
        where.append(("lower(p.author_email) = lower(?)", (_text(wanted.author_email),)))
    if wanted.has_attachments is not None:
        negation = "" if wanted.has_attachments else "NOT "
        where.append((f"{negation}EXISTS ({_HAS_ATTACHMENTS})", ()))
    return where


def _allowed(queues: frozenset[int] | None) -> list[_Condition]:
    if queues is None:
        return []
    return [(f"h.department_id IN ({_DEPARTMENTS})", (_json(queues),) * 2)]


def _between(column: str, given: Range) -> list[_Condition]:
    start, end = given
    where: list[_Condition] = [] if start is None else [(f"{column} >= ?", (_fit(start),))]
    return where if end is None else [*where, (f"{column} <= ?", (_fit(end),))]


def _numbers(numbers: Iterable[str]) -> tuple[str, str]:
    """Give the two lists that _NUMBERED asks for: as mapped, and as plain Kayako ids."""
    given = list(numbers)
    return _json(given), _json([int(one) for one in given if _PLAIN_NUMBER.fullmatch(one)])


def _number(number: str) -> _Condition:
    where = f"(h.id IN ({_NUMBERED}) OR h.display_id = ?)"
    return where, (*_numbers([number]), _text(number))


def _contains(text: str, *columns: str) -> _Condition:
    where = " OR ".join(f"instr(lower({column}), lower(?))" for column in columns)
    return f"({where})", (_text(text),) * len(columns)


def _has_file(text: str) -> _Condition:
    inside, params = _contains(text, "a.filename")
    return f"EXISTS (SELECT 1 FROM attachments AS a WHERE a.ticket_id = h.id AND {inside})", params


def _any(*conditions: _Condition) -> _Condition:
    where = " OR ".join(condition for condition, _ in conditions)
    return f"({where})", tuple(value for _, params in conditions for value in params)


def _all(conditions: Iterable[_Condition]) -> _Condition:
    given = list(conditions)
    where = " AND ".join(condition for condition, _ in given) or "true"
    return where, tuple(value for _, params in given for value in params)


def _fit(number: int) -> int:
    """Return the nearest number that SQLite can hold."""
    return min(max(number, -(1 << 63)), (1 << 63) - 1)


def _json(values: Iterable[object]) -> str:
    return json.dumps(list(values))


def _post(ticket_id: int, post: PostRow) -> Tuple:
    return (
        post.id,
        ticket_id,
        post.created_at,
        _text(post.author_name),
        _text(post.author_email),
        post.staff,
        post.is_private,
        post.is_html,
        _text(post.text),
        post.note,
    )


def _response(values: Tuple) -> Response:
    columns = list(values)
    for flag in _FLAGS:
        columns[flag] = bool(columns[flag])
    return Response(*columns)


def _text(value: str) -> str:
    """Return the text without lone surrogates, which SQLite cannot hold."""
    return _SURROGATE.sub("\ufffd", value)
