"""What people were told: the notices, where each is still to go, and the losses that they named."""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any

from migrator.archive.checkpoint import Checkpoint, Tuple
from migrator.archive.records import State
from migrator.archive.sql import Values, decoded, decoded_list

KEPT = 1000
"""Notices that stay."""
MOST_WAITING = 100
"""Notices that wait to be sent; older ones are given up."""
CLAIM = 120
"""Seconds, beyond those that sending may take, in which nobody else sends what a process began to
send."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice, as ``notices`` in FORMAT.md; ``body`` is fit for JSON."""

    id: str
    event: str
    command: str
    sign: str
    at: int
    body: Mapping[str, Any]
    pending: tuple[str, ...]


_NOTICE = ", ".join(field.name for field in fields(Notice))
# Repeats the words of the partial index, or SQLite would not use it.
_LOSSES = "a.state IN ('failed', 'missing', 'gone')"
_OPEN = f"{_LOSSES} AND a.id NOT IN (SELECT attachment_id FROM accepted)"
_NEW = f"""FROM attachments AS a LEFT JOIN told AS t ON t.attachment_id = a.id
    WHERE {_OPEN} AND t.state IS NOT a.state"""
_BACK = """FROM told AS t JOIN attachments AS a ON a.id = t.attachment_id
    WHERE a.state IN ('stored', 'deleted')"""


class Notices:
    """The notices of an archive, for any thread. Every method raises ArchiveError or a subclass."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._db = checkpoint

    def atomic(self) -> AbstractContextManager[None]:
        """Group reads and writes of the block: no other process writes meanwhile."""
        return self._db.atomic()

    def latest(
        self, events: Collection[str], commands: Collection[str] | None = None
    ) -> Notice | None:
        """Return the latest notice of some events, of some commands or of all."""
        values = Values()
        sql = f"SELECT {_NOTICE} FROM notices WHERE event IN {values.each(events)}"
        if commands is not None:
            sql += f" AND command IN {values.each(commands)}"
        found = self._db.one(f"{sql} ORDER BY rowid DESC LIMIT 1", values)
        return _notice(found) if found else None

    def after(self, notice: Notice) -> list[Notice]:
        """Return the notices later than one, in their order."""
        sql = f"""SELECT {_NOTICE} FROM notices
            WHERE rowid > (SELECT rowid FROM notices WHERE id = ?) ORDER BY rowid"""
        return [_notice(row) for row in self._db.execute(sql, (notice.id,))]

    def count(self) -> int:
        """Return how many notices there have been."""
        return int(self._db.execute("SELECT coalesce(max(rowid), 0) FROM notices")[0][0])

    def new_losses(self, limit: int) -> tuple[dict[State, int], list[int]]:
        """Return how many losses nobody was told of, by state, and the first attachments.

        Accepted ones are none.
        """
        counts = self._db.execute(f"SELECT a.state, count(*) {_NEW} GROUP BY a.state")
        ids = self._db.execute(f"SELECT a.id {_NEW} ORDER BY a.id LIMIT ?", (limit,))
        return {State(state): n for state, n in counts}, [row[0] for row in ids]

    def recovered(self, limit: int) -> tuple[int, list[int]]:
        """Return how many losses that were told are held now, and the first attachments."""
        ((number,),) = self._db.execute(f"SELECT count(*) {_BACK}")
        ids = self._db.execute(f"SELECT a.id {_BACK} ORDER BY a.id LIMIT ?", (limit,))
        return int(number), [row[0] for row in ids]

    def settle(self) -> None:
        """Record that people were told of all losses, and that others are none any more."""
        with self._db.atomic():
            self._db.execute(
                """DELETE FROM told WHERE NOT EXISTS (
                    SELECT 1 FROM attachments AS a WHERE a.id = told.attachment_id
                        AND a.state IN ('pending', 'failed', 'missing', 'gone'))"""
            )
            self._db.execute(
                f"INSERT OR REPLACE INTO told (attachment_id, state) SELECT a.id, a.state {_NEW}"
            )

    def add(self, notice: Notice) -> None:
        """Record a notice; forget the oldest ones."""
        body, pending = json.dumps(notice.body), json.dumps(notice.pending)
        values = (notice.id, notice.event, notice.command, notice.sign, notice.at, body, pending)
        with self._db.atomic():
            self._db.execute(
                f"INSERT OR IGNORE INTO notices ({_NOTICE}) VALUES (?, ?, ?, ?, ?, ?, ?)", values
            )
            for change, which, most in (
                ("DELETE FROM notices", "", KEPT),
                ("UPDATE notices SET pending = '[]'", "WHERE pending <> '[]'", MOST_WAITING),
            ):
                old = (
                    f"SELECT rowid FROM notices {which} ORDER BY rowid DESC LIMIT -1 OFFSET {most}"
                )
                self._db.execute(f"{change} WHERE rowid IN ({old})")

    def waiting(self) -> list[Notice]:
        """Return the notices that are still to go somewhere, in their order."""
        rows = self._db.execute(
            f"SELECT {_NOTICE} FROM notices WHERE pending <> '[]' ORDER BY rowid"
        )
        return [_notice(row) for row in rows]

    def claim(self, now: int, seconds: float = 0) -> list[Notice]:
        """Return what is still to go somewhere and nobody else is sending; nobody else will.

        Sending may take so many ``seconds``.
        """
        with self._db.atomic():
            rows = self._db.execute(
                f"""UPDATE notices SET claimed_at = :now WHERE pending <> '[]'
                    AND (claimed_at IS NULL OR claimed_at NOT BETWEEN :then AND :now)
                    RETURNING rowid, {_NOTICE}""",
                {"now": now, "then": now - CLAIM - int(seconds)},
            )
        return [_notice(row[1:]) for row in sorted(rows)]

    def release(self, notice: Notice, pending: Sequence[str]) -> None:
        """Record where a notice is still to go, and let others send it there."""
        sql = "UPDATE notices SET pending = ?, claimed_at = NULL WHERE id = ?"
        with self._db.atomic():
            self._db.execute(sql, (json.dumps(list(pending)), notice.id))


def _notice(row: Tuple) -> Notice:
    key, event, command, sign, at, body, pending = row
    channels = decoded_list(str)(pending, "notices.pending")
    facts = decoded(body, "notices.body")
    return Notice(key, event, command, sign, at, facts, tuple(channels))
