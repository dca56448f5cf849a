"""Replies of the source, kept as they came: which there are, and which are still to be read.

The newest reply about a ticket takes the place of the one before, which stays until somebody
removes it. Each may share its blob with others, and even with an attachment.
"""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import NamedTuple

from migrator.archive.checkpoint import Checkpoint
from migrator.archive.records import Count, Reply

POSTS, FIELDS = "posts", "fields"
"""The kinds: the ticket with its posts and notes, and its custom fields."""

_COLUMNS = ", ".join(field.name for field in fields(Reply))
_SUPERSEDE = """
    UPDATE replies SET superseded_at = ?
    WHERE ticket_id = ? AND kind = ? AND sha256 <> ? AND superseded_at IS NULL"""
_PUT = f"""
    INSERT INTO replies ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, NULL)
    ON CONFLICT (ticket_id, kind, sha256) DO UPDATE SET
        received_at = excluded.received_at, superseded_at = NULL"""
_OF_ATTACHMENTS = "SELECT 1 FROM blobs AS b WHERE b.sha256 = replies.sha256"


class Kept(NamedTuple):
    """Which replies an archive has, their numbers and the bytes of their different blobs.

    ``newest`` take ``unpacked`` bytes when they are unpacked; ``superseded`` are older ones.
    ``missing`` tickets have no reply with their posts, ``deleted`` of which the source no longer
    has; ``fields_missing`` have custom fields that were read, and no reply with them.
    """

    newest: Count = Count()
    superseded: Count = Count()
    unpacked: int = 0
    missing: int = 0
    deleted: int = 0
    fields_missing: int = 0


class Replies:
    """The kept replies, for any thread. Every method raises ArchiveError or a subclass."""

    def __init__(self, checkpoint: Checkpoint, *, clock: Callable[[], float] = time.time) -> None:
        self._db = checkpoint
        self._clock = clock

    def put(self, reply: Reply) -> None:
        """Record a reply, whose blob is durable, as the newest one."""
        key = (reply.ticket_id, reply.kind, reply.sha256)
        with self._db.atomic():
            self._db.execute(_SUPERSEDE, (int(self._clock()), *key))
            self._db.execute(_PUT, (*key, reply.size, reply.unpacked, reply.received_at))

    def mark(self, ticket_id: int, kind: str, *, activity: int | None) -> None:
        """Record the last activity of a ticket for which its reply was asked for and kept."""
        sql = f"UPDATE tickets SET {kind}_reply = ? WHERE id = ?"
        with self._db.atomic():
            self._db.execute(sql, (activity, ticket_id))

    def is_kept(self, ticket_id: int, kind: str) -> bool:
        """Return whether the reply for the last activity of a ticket was asked for and kept."""
        sql = f"SELECT {kind}_reply IS last_activity FROM tickets WHERE id = ?"
        found = self._db.one(sql, (ticket_id,))
        return bool(found and found[0])

    def kept(self) -> Kept:
        """Return how many replies there are, and how many are missing."""
        sql = """
            SELECT superseded_at IS NOT NULL, count(*), sum(unpacked) FROM replies GROUP BY 1"""
        found = {old: (n, unpacked) for old, n, unpacked in self._db.execute(sql)}
        sql = """
            SELECT old, sum(size) FROM (
                SELECT min(superseded_at IS NOT NULL) AS old, size FROM replies GROUP BY sha256)
            GROUP BY old"""
        sizes: dict[int, int] = dict(self._db.execute(sql))
        lacks = "NOT EXISTS (SELECT 1 FROM replies AS r WHERE r.ticket_id = t.id AND r.kind = '{}')"
        ((missing, deleted, without),) = self._db.execute(f"""
            SELECT count(*) FILTER (WHERE merged_into IS NULL AND {lacks.format(POSTS)}),
                count(*) FILTER (WHERE merged_into IS NULL AND deleted_at IS NOT NULL
                    AND {lacks.format(POSTS)}),
                count(*) FILTER (WHERE fields_activity IS NOT NULL AND {lacks.format(FIELDS)})
            FROM tickets AS t""")
        (n, unpacked), (old, _) = (found.get(key, (0, 0)) for key in (0, 1))
        newest, superseded = Count(n, sizes.get(0, 0)), Count(old, sizes.get(1, 0))
        return Kept(newest, superseded, unpacked, missing, deleted, without)

    def all(self, *, superseded: bool | None = None) -> Iterator[Reply]:
        """Yield all replies by ticket, kind and hash, or only superseded ones, or only newest."""
        which = {None: "true", True: "superseded_at IS NOT NULL", False: "superseded_at IS NULL"}
        sql = f"""
            SELECT {_COLUMNS} FROM replies
            WHERE (ticket_id, kind, sha256) > (?, ?, ?) AND {which[superseded]}
            ORDER BY ticket_id, kind, sha256 LIMIT 500"""
        after: tuple[int, str, str] = (-1, "", "")
        while found := [Reply(*row) for row in self._db.execute(sql, after)]:
            yield from found
            after = (found[-1].ticket_id, found[-1].kind, found[-1].sha256)

    def of_blob(self, sha256: str) -> list[Reply]:
        """Return the replies that have that blob, the newest of their tickets first."""
        sql = f"""
            SELECT {_COLUMNS} FROM replies WHERE sha256 = ?
            ORDER BY superseded_at IS NOT NULL, ticket_id"""
        return [Reply(*row) for row in self._db.execute(sql, (sha256,))]

    def own_blobs(self) -> tuple[int, int]:
        """Return the number and the bytes of the blobs that only replies have."""
        sql = f"""
            SELECT count(*), coalesce(sum(size), 0) FROM (
                SELECT DISTINCT sha256, size FROM replies WHERE NOT EXISTS ({_OF_ATTACHMENTS}))"""
        ((n, size),) = self._db.execute(sql)
        return n, size

    def drop(self, reply: Reply) -> None:
        """Forget a reply; its blob is an orphan unless something else has it.

        The newest one is asked for again.
        """
        sql = "DELETE FROM replies WHERE ticket_id = ? AND kind = ? AND sha256 = ?"
        with self._db.atomic():
            self._db.execute(sql, (reply.ticket_id, reply.kind, reply.sha256))
            if reply.superseded_at is None:
                self.mark(reply.ticket_id, reply.kind, activity=None)
