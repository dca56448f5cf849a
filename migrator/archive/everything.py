"""All tickets and posts of an archive, one after the other, for whoever takes them elsewhere."""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from migrator.archive.checkpoint import Checkpoint
from migrator.archive.records import Response, TicketHeader
from migrator.archive.threads import LONGEST, RESPONSES, response_from

_PAGE = 500
_POSTS = 50
"""Posts read at once: each may hold some MiB of text."""

_HEADER = ", ".join(field.name for field in fields(TicketHeader))


class Everything:
    """Streams of all tickets and posts, in constant memory; errors as of :class:`Ledger`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._db = checkpoint

    def tickets(self) -> Iterator[TicketHeader]:
        """Yield the headers of all tickets by id, also of merged and deleted ones."""
        sql = f"SELECT {_HEADER} FROM headers WHERE id > ? ORDER BY id LIMIT {_PAGE}"
        after = -1
        while page := self._db.execute(sql, (after,)):
            for row in page:
                yield TicketHeader(*row)
            after = page[-1][0]

    def posts(self) -> Iterator[Response]:
        """Yield all posts by ticket, and those of a ticket oldest first."""
        sql = f"""
            {RESPONSES} (p.ticket_id, p.created_at, p.id) > (?, ?, ?)
            ORDER BY p.ticket_id, p.created_at, p.id LIMIT {_POSTS}"""
        after = (-1, 0, 0)
        while page := [response_from(row) for row in self._db.execute(sql, (LONGEST, *after))]:
            yield from page
            after = page[-1].ticket_id, page[-1].created_at, page[-1].id
