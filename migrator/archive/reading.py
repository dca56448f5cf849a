"""The questions that reports, the endpoint and the pipeline ask the ledger."""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import fields
from typing import Any

from migrator.archive.checkpoint import Checkpoint, Tuple
from migrator.archive.records import (
    UNFINISHED,
    Count,
    Group,
    Mark,
    Row,
    RunInfo,
    State,
    Work,
)
from migrator.errors import ArchiveDamaged

_PAGE = 1000
"""Rows read at once while streaming: between pages other threads and processes may write."""

ROW = ", ".join("attachment_id" if f.name == "id" else f.name for f in fields(Row))
_STATE = [f.name for f in fields(Row)].index("state")
_WORK = "id, ticket_id, declared_size, filename, attempts, note"
# In the very words of the partial index, or SQLite would not use it:
_IS_UNFINISHED = "state IN ('pending', 'failed')"


def extension_of(filename: str) -> str:
    """Return the lower-cased text after the last dot of a file name, "" if it has no dot."""
    return filename.rpartition(".")[2].lower() if "." in filename else ""


def state_list(states: Collection[State]) -> str:
    """Return the states as a list for SQL's IN."""
    return ", ".join(f"'{State(state)}'" for state in states)


class Reading:
    """The reading half of the ledger. Every method raises ArchiveError and its kin."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._db = checkpoint

    def runs(self, limit: int = 20) -> list[RunInfo]:
        """Return the latest runs, newest first."""
        rows = self._db.query("SELECT * FROM runs ORDER BY id DESC LIMIT ?", (limit,))
        return [_run(**row) for row in rows]

    def unfinished_run(self) -> RunInfo | None:
        """Return the latest run if it never finished: it was killed, or is still running."""
        latest = self.runs(1)
        return latest[0] if latest and latest[0].finished_at is None else None

    def run(self, run_id: int) -> RunInfo | None:
        """Return one run, None if there was none of that id."""
        rows = self._db.query("SELECT * FROM runs WHERE id = ?", (run_id,))
        return _run(**rows[0]) if rows else None

    def mark(self, name: str) -> Mark | None:
        """Return how far the syncs have come, None before they first got there."""
        found = self._db.one("SELECT name, value, run_id, at FROM marks WHERE name = ?", (name,))
        return Mark(*found) if found else None

    def counts(self) -> dict[State, Count]:
        """Return how many attachments are in each of the six states, and their bytes."""
        found = {row[0]: Count(*row[1:]) for row in self._db.execute("SELECT * FROM tallies")}
        return {state: found[state] for state in State}

    def problems(self) -> list[tuple[State, str | None, int]]:
        """Return (state, problem, number) for all but the plainly stored, most frequent first."""
        sql = """
            SELECT state, problem, count(*) AS n FROM attachments
            WHERE state <> 'stored' OR problem IS NOT NULL
            GROUP BY state, problem ORDER BY n DESC, state, problem"""
        return [(State(row["state"]), row["problem"], row["n"]) for row in self._db.query(sql)]

    def rows(
        self,
        *,
        states: Collection[State] | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Yield rows by attachment id, above ``after``, in constant memory."""
        where = "" if states is None else f"AND state IN ({state_list(states)})"
        sql = f"SELECT {ROW} FROM ledger WHERE attachment_id > ? {where} ORDER BY 1 LIMIT ?"
        return map(row_from, self._stream(sql, after, limit))

    def attachment(self, attachment_id: int) -> Row | None:
        """Return one row, None if the source never listed that attachment."""
        sql = f"SELECT {ROW} FROM ledger WHERE attachment_id = ?"
        found = self._db.one(sql, (attachment_id,))
        return row_from(found) if found else None

    def ticket_count(self) -> int:
        """Return the number of tickets, without those merged into another one."""
        return self._number("SELECT count(*) FROM tickets WHERE merged_into IS NULL")

    def ticket_id_for(self, number: str) -> int | None:
        """Return the id of the ticket with that number: a mapped one, else the ticket's own id."""
        found = self._db.one("SELECT ticket_id FROM ticket_numbers WHERE number = ?", (number,))
        if found is None and number.isascii() and number.isdigit() and len(number) < 19:
            sql = """
                SELECT id FROM tickets
                WHERE id = ? AND id NOT IN (SELECT ticket_id FROM ticket_numbers)"""
            found = self._db.one(sql, (int(number),))
        return found[0] if found else None

    def department_of(self, ticket_id: int) -> int | None:
        """Return the department of a ticket (0 is the trash), None for an unknown ticket."""
        found = self._db.one("SELECT department_id FROM tickets WHERE id = ?", (ticket_id,))
        return found[0] if found else None

    def leftovers(
        self, run_id: int, *, after: int = 0, limit: int = 500, recheck: bool = False
    ) -> list[Work]:
        """Return unfinished attachments that this run has not seen listed, by id above ``after``.

        With ``recheck`` those that are missing or gone as well.
        """
        states = (*UNFINISHED, State.MISSING, State.GONE)
        where = f"state IN ({state_list(states)})" if recheck else _IS_UNFINISHED
        return self._work(f"{where} AND last_run <> ?", run_id, after, limit)

    def count_unseen(self, run_id: int) -> tuple[int, int]:
        """Return (stored attachments that this run has not seen listed, all stored ones)."""
        sql = "SELECT count(*) FROM attachments WHERE state = 'stored' AND last_run <> ?"
        return self._number(sql, run_id), self.counts()[State.STORED].n

    def unseen(self, run_id: int, *, after: int = 0, limit: int = 500) -> list[Work]:
        """Return stored attachments that this run has not seen listed, by id above ``after``."""
        return self._work("state = 'stored' AND last_run <> ?", run_id, after, limit)

    def unmet(self, run_id: int, *, after: int = 0, limit: int = 500) -> list[int]:
        """Return tickets that this run has not listed, by id above ``after``.

        Without those that are known to be merged into another one or deleted at the source.
        """
        sql = """
            SELECT id FROM tickets
            WHERE listed_run IS NOT ? AND merged_into IS NULL AND deleted_at IS NULL AND id > ?
            ORDER BY id LIMIT ?"""
        return [row[0] for row in self._db.execute(sql, (run_id, after, limit))]

    def by_department(self, states: Collection[State] | None = None) -> list[Group]:
        """Break the attachments in ``states`` (None: all) down by department, largest first."""
        return self._groups(
            "t.department_id",
            "coalesce(d.title, "
            "iif(t.department_id = 0, 'Trash', 'Department ' || t.department_id))",
            "JOIN tickets AS t ON t.id = a.ticket_id "
            "LEFT JOIN departments AS d ON d.id = t.department_id",
            states,
        )

    def by_type(self, states: Collection[State] | None = None) -> list[Group]:
        """Break them down by type: found in the bytes where we hold them, else as declared."""
        kind = "coalesce(b.mime_type, a.declared_type)"
        return self._groups(kind, kind, "LEFT JOIN blobs AS b ON b.sha256 = a.sha256", states)

    def by_extension(self, states: Collection[State] | None = None) -> list[Group]:
        """Break them down by :func:`extension_of` their names."""
        number: Counter[str] = Counter()
        size: Counter[str] = Counter()
        where = "" if states is None else f"AND state IN ({state_list(states)})"
        sql = f"""
            SELECT id, filename, coalesce(size, declared_size) FROM attachments
            WHERE id > ? {where} ORDER BY id LIMIT ?"""
        for _, filename, held in self._stream(sql, 0, None):
            extension = extension_of(filename)
            number[extension] += 1
            size[extension] += held
        groups = [
            Group(ext, f".{ext}" if ext else "(none)", n, size[ext]) for ext, n in number.items()
        ]
        return sorted(groups, key=lambda group: (-group.bytes, group.key))

    def larger_than(self, size: int) -> Count:
        """Count the attachments of more than ``size`` bytes."""
        sql = """
            SELECT count(*), coalesce(sum(coalesce(size, declared_size)), 0)
            FROM attachments WHERE coalesce(size, declared_size) > ?"""
        return Count(*self._db.execute(sql, (size,))[0])

    def unique_bytes(self) -> tuple[int, int]:
        """Return the number of blobs that rows refer to, and their bytes."""
        ((n, size),) = self._db.execute("SELECT count(*), coalesce(sum(size), 0) FROM blobs")
        return n, size

    def expected_blobs(
        self, after: str = "", limit: int | None = None
    ) -> Iterator[tuple[str, int]]:
        """Yield (SHA-256, size) of every blob that rows refer to, by SHA-256 above ``after``."""
        sql = "SELECT sha256, size FROM blobs WHERE sha256 > ? ORDER BY 1 LIMIT ?"
        return ((sha256, size) for sha256, size in self._stream(sql, after, limit))

    def refers_to(self, sha256: str) -> bool:
        """Tell whether any row refers to that blob."""
        return self._db.one("SELECT 1 FROM blobs WHERE sha256 = ?", (sha256,)) is not None

    def attachments_of_blob(self, sha256: str) -> list[Work]:
        """Return the attachments that have that content, by id."""
        sql = f"SELECT {_WORK} FROM attachments WHERE sha256 = ? ORDER BY id"
        return [Work(*row) for row in self._db.execute(sql, (sha256,))]

    def self_check(self) -> None:
        """Read the whole checkpoint and see that it is sound.

        Raises ArchiveDamaged with the first thing that SQLite found.
        """
        for pragma in ("quick_check(1)", "foreign_key_check"):
            found = self._db.execute(f"PRAGMA {pragma}")
            if found and found[0][0] != "ok":
                raise ArchiveDamaged(
                    f"The checkpoint {str(self._db.path)!r} is damaged: {found[0]}. Bring it back "
                    "from a backup or with `sqlite3 checkpoint.db .recover`."
                )

    def _stream(self, sql: str, after: int | str, limit: int | None) -> Iterator[Tuple]:
        """Yield the rows of a query for (first column above, at most), page by page."""
        left = limit
        while left is None or left > 0:
            page = self._db.execute(sql, (after, _PAGE if left is None else min(left, _PAGE)))
            if not page:
                return
            yield from page
            after = page[-1][0]
            left = None if left is None else left - len(page)

    def _work(self, where: str, run_id: int, after: int, limit: int) -> list[Work]:
        sql = f"SELECT {_WORK} FROM attachments WHERE {where} AND id > ? ORDER BY id LIMIT ?"
        return [Work(*row) for row in self._db.execute(sql, (run_id, after, limit))]

    def _groups(
        self, key: str, title: str, joins: str, states: Collection[State] | None
    ) -> list[Group]:
        where = "" if states is None else f"WHERE a.state IN ({state_list(states)})"
        sql = f"""
            SELECT CAST({key} AS TEXT) AS key, {title} AS title, count(*) AS n,
                sum(coalesce(a.size, a.declared_size)) AS bytes
            FROM attachments AS a {joins} {where} GROUP BY key ORDER BY bytes DESC, key"""
        return [Group(**row) for row in self._db.query(sql)]

    def _number(self, sql: str, *params: object) -> int:
        return int(self._db.execute(sql, params)[0][0])


def row_from(values: Tuple) -> Row:
    """Give the row whose columns are ROW."""
    columns = list(values)
    columns[_STATE] = State(columns[_STATE])
    return Row(*columns)


def _run(*, scope: str, summary: str | None, **columns: Any) -> RunInfo:
    loaded = None if summary is None else json.loads(summary)
    return RunInfo(scope=json.loads(scope), summary=loaded, **columns)
