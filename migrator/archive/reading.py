"""The questions that reports, the endpoint and the pipeline ask the ledger."""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple, TypeVar

from migrator.archive.checkpoint import Tuple, damaged
from migrator.archive.figures import Figures, matches, state_list
from migrator.archive.records import (
    EVERYTHING,
    UNFINISHED,
    Count,
    Mark,
    Row,
    RowFilter,
    RunInfo,
    State,
    Work,
)
from migrator.archive.sql import as_json

T = TypeVar("T")

ROW = ", ".join("attachment_id" if f.name == "id" else f.name for f in fields(Row))
# Not through sqlite-utils: to import it takes half of the time of `migrator status`.
_RUN_COLUMNS = [f.name for f in fields(RunInfo)]
_RUN = ", ".join(_RUN_COLUMNS)
_STATE, _SHA256, _SIZE = map([f.name for f in fields(Row)].index, ("state", "sha256", "size"))
_STATES = frozenset(map(str, State))
_HELD = frozenset(map(str, (State.STORED, State.DELETED)))
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_WORK = "id, ticket_id, declared_size, filename, attempts, note, created_at, failing_since"
_SAYS_ALL = " AND ".join(
    f"coalesce(json_extract(scope, '$.{name}'), 0) = 0"
    for name in ("departments", "since", "limit_tickets", "fast")
)
_IS_INCREMENT = "json_extract({}, '$.active_since') IS NOT NULL"
_CAME_TO_ITS_END = """finished_at IS NOT NULL AND json_valid(summary)
    AND json_extract(summary, '$.ended_by') IS NULL"""
# 8 is the exit code of SafetyLimit.
_WAS_STOPPED = """exit_code = 8 AND json_valid(summary)
    AND json_extract(summary, '$.ended_by') IS NOT NULL"""
# In the very words of the partial index, or SQLite would not use it:
_IS_UNFINISHED = "state IN ('pending', 'failed')"


class Tickets(NamedTuple):
    """How many tickets of an archive are ``known`` without those ``merged`` into others.

    Of these, ``listed`` ones named their attachments and are at the source as far as we know,
    ``deleted`` ones are not there any more.
    """

    known: int = 0
    listed: int = 0
    deleted: int = 0
    merged: int = 0


class Failing(NamedTuple):
    """How many attachments failed, ``since`` when the first of them does, and the next try.

    Times are Unix seconds; ``next_try`` is None where the next run tries.
    """

    n: int = 0
    since: int | None = None
    next_try: int | None = None


class Reading(Figures):
    """The reading half of the ledger. Every method raises ArchiveError and its kin."""

    def runs(self, limit: int = 20) -> list[RunInfo]:
        """Return the latest runs, newest first."""
        sql = f"SELECT {_RUN} FROM runs ORDER BY id DESC LIMIT ?"
        return [_run(row) for row in self._db.execute(sql, (limit,))]

    def unfinished_run(self) -> RunInfo | None:
        """Return the latest run if it never finished: it was killed, or is still running."""
        latest = self.runs(1)
        return latest[0] if latest and latest[0].finished_at is None else None

    def run(self, run_id: int) -> RunInfo | None:
        """Return one run, None if there was none of that id."""
        found = self._db.one(f"SELECT {_RUN} FROM runs WHERE id = ?", (run_id,))
        return _run(found) if found else None

    def whole_pass(self, *, increments: bool = False) -> RunInfo | None:
        """Return the latest run over all tickets that came to its end, whatever it left open.

        With ``increments`` it may be one that looked at what was new since such a run.
        """
        also = "" if increments else f"AND NOT ({_IS_INCREMENT.format('scope')})"
        sql = f"""
            SELECT {_RUN} FROM runs
            WHERE json_valid(scope) AND {_SAYS_ALL} {also} AND {_CAME_TO_ITS_END}
            ORDER BY id DESC LIMIT 1"""
        found = self._db.one(sql)
        return _run(found) if found else None

    def stopped(self, after: int) -> RunInfo | None:
        """Return the latest run behind run ``after`` that a safety limit stopped.

        None when a later one that looks at the same came to its end.
        """
        both = " AND ".join(_IS_INCREMENT.format(name) for name in ("its", "scope"))
        sql = f"""
            WITH ended AS (SELECT id AS other, scope AS its FROM runs
                WHERE id > ?1 AND json_valid(scope) AND {_CAME_TO_ITS_END})
            SELECT {_RUN} FROM runs
            WHERE id > ?1 AND json_valid(scope) AND {_WAS_STOPPED} AND NOT EXISTS (
                SELECT 1 FROM ended WHERE other > id AND (its = scope OR ({both})))
            ORDER BY id DESC LIMIT 1"""
        found = self._db.one(sql, (after,))
        return _run(found) if found else None

    def mark(self, name: str) -> Mark | None:
        """Return how far the syncs have come, None before they first got there."""
        found = self._db.one("SELECT name, value, run_id, at FROM marks WHERE name = ?", (name,))
        return Mark(*found) if found else None

    def counts(self) -> dict[State, Count]:
        """Return how many attachments are in each of the six states, and their bytes."""
        found = {row[0]: Count(*row[1:]) for row in self._db.execute("SELECT * FROM tallies")}
        if any(state not in found for state in State):
            raise damaged("a state of attachments has no tally", self._db.path)
        return {state: found[state] for state in State}

    def rows(
        self,
        *,
        states: Collection[State] | None = None,
        after: int = 0,
        limit: int | None = None,
        only: RowFilter = EVERYTHING,
    ) -> Iterator[Row]:
        """Yield rows by attachment id, above ``after``, in constant memory.

        ``states`` is a short way to say the same as ``only``.
        """
        if states is not None:
            only = replace(only, states=frozenset(states))
        where, params = matches(only)
        sql = f"SELECT {ROW} FROM ledger WHERE attachment_id > ? AND {where} ORDER BY 1 LIMIT ?"
        return map(row_from, self._stream(sql, after, limit, params))

    def tables(self, columns: Sequence[str], only: RowFilter = EVERYTHING) -> Iterator[list[Tuple]]:
        """Yield columns of the view ``ledger`` by attachment id, in pages of some hundred rows.

        The first column must be ``attachment_id``. For those who write millions of rows: to make
        a :class:`Row` of each takes longer than to read them.
        """
        where, params = matches(only)
        sql = f"""
            SELECT {", ".join(columns)} FROM ledger
            WHERE attachment_id > ? AND {where} ORDER BY 1 LIMIT ?"""
        pages = self._pages(sql, 0, None, params)
        if not {"state", "sha256"} <= set(columns):
            return pages
        return _seen(pages, columns.index("state"), columns.index("sha256"))

    def among(self, ids: Collection[int]) -> dict[int, Row]:
        """Return the rows that have these attachment ids, by id."""
        sql = f"""
            SELECT {ROW} FROM ledger
            WHERE attachment_id IN (SELECT value FROM json_each(?)) ORDER BY 1"""
        rows = map(row_from, self._db.execute(sql, (as_json(ids),)))
        return {row.id: row for row in rows}

    def together(self, read: Callable[[], T]) -> T:
        """Return what ``read`` finds, all of the same moment, while others may write."""
        return self._db.together(read)

    def moment(self) -> object:
        """Return what is another after every change of the archive's tables, by whomever."""
        return self._db.moment()

    def attachment(self, attachment_id: int) -> Row | None:
        """Return one row, None if the source never listed that attachment."""
        sql = f"SELECT {ROW} FROM ledger WHERE attachment_id = ?"
        found = self._db.one(sql, (attachment_id,))
        return row_from(found) if found else None

    def ticket_count(self) -> int:
        """Return the number of tickets, without those merged into another one."""
        return self._number("SELECT count(*) FROM tickets WHERE merged_into IS NULL")

    def tickets(self) -> Tickets:
        """Count the tickets of the archive, by what is known of them."""
        sql = """
            SELECT count(*) FILTER (WHERE merged_into IS NULL),
                count(*) FILTER (WHERE merged_into IS NULL AND deleted_at IS NULL
                    AND listed_run IS NOT NULL),
                count(*) FILTER (WHERE merged_into IS NULL AND deleted_at IS NOT NULL),
                count(*) FILTER (WHERE merged_into IS NOT NULL)
            FROM tickets"""
        (found,) = self._db.execute(sql)
        return Tickets(*found)

    def tickets_with_attachments(self) -> int:
        """Return the number of tickets to which an attachment belongs."""
        return self._number("SELECT count(*) FROM (SELECT DISTINCT ticket_id FROM attachments)")

    def not_listed_in(self, run_id: int) -> list[int]:
        """Return the tickets that this run has not listed, merged and deleted ones too."""
        sql = "SELECT id FROM tickets WHERE listed_run IS NOT ?"
        return [row[0] for row in self._db.execute(sql, (run_id,))]

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
        self,
        run_id: int,
        *,
        now: int | None = None,
        after: int = 0,
        limit: int = 500,
        recheck: bool = False,
    ) -> list[Work]:
        """Return unfinished attachments that this run has not seen listed, by id above ``after``.

        Failed ones only when their time has come at ``now`` (Unix seconds; None: whenever it
        comes). With ``recheck`` all of them, and those that are missing or gone as well.
        """
        states = (*UNFINISHED, State.MISSING, State.GONE)
        due = _IS_UNFINISHED
        if now is not None:
            due += f" AND (next_try IS NULL OR next_try <= {int(now)})"
        where = f"state IN ({state_list(states)})" if recheck else due
        return self._work(f"{where} AND last_run <> ?", run_id, after, limit)

    def failing(self) -> Failing:
        """Tell of the failed attachments whose loss nobody has accepted."""
        sql = f"""
            SELECT count(*), min(failing_since),
                iif(count(*) = count(next_try), min(next_try), NULL) FROM attachments
            WHERE {_IS_UNFINISHED} AND state = 'failed'
                AND id NOT IN (SELECT attachment_id FROM accepted)"""
        return Failing(*self._db.execute(sql)[0])

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

    def expected_blobs(
        self, after: str = "", limit: int | None = None
    ) -> Iterator[tuple[str, int]]:
        """Yield (SHA-256, size) of every blob that rows refer to, by SHA-256 above ``after``."""
        sql = "SELECT sha256, size FROM blobs WHERE sha256 > ? ORDER BY 1 LIMIT ?"
        for sha256, size in self._stream(sql, after, limit):
            if not _HASH.fullmatch(sha256):
                raise damaged(f"a file is known by {sha256[:64]!r}, which is no SHA-256")
            yield sha256, size

    def refers_to(self, sha256: str) -> bool:
        """Tell whether any row refers to that blob, be it of ``blobs`` or of ``attachments``."""
        sql = """
            SELECT 1 WHERE EXISTS (SELECT 1 FROM blobs WHERE sha256 = ?1)
                OR EXISTS (SELECT 1 FROM attachments WHERE sha256 = ?1)"""
        return self._db.one(sql, (sha256,)) is not None

    def referred(self, hashes: Collection[str]) -> set[str]:
        """Return those of some hashes that any row names, read from the tables themselves.

        Every row is looked at: what an index no longer leads to is found as well.
        """
        wanted, found = set(hashes), set[str]()
        sources = (
            ("SELECT id, sha256 FROM attachments NOT INDEXED WHERE id > ? ORDER BY id LIMIT ?", 0),
            ("SELECT sha256, sha256 FROM blobs WHERE sha256 > ? ORDER BY sha256 LIMIT ?", ""),
        )
        for sql, start in sources:
            found.update(row[1] for row in self._stream(sql, start, None) if row[1] in wanted)
        return found

    def unused_blobs(self) -> int:
        """Count the rows of ``blobs`` that no attachment names; there should be none."""
        return self._number(
            "SELECT count(*) FROM blobs WHERE sha256 NOT IN "
            "(SELECT sha256 FROM attachments WHERE sha256 IS NOT NULL)"
        )

    def attachments_of_blob(self, sha256: str) -> list[Work]:
        """Return the attachments that have that content, by id."""
        sql = f"SELECT {_WORK} FROM attachments WHERE sha256 = ? ORDER BY id"
        return [Work(*row) for row in self._db.execute(sql, (sha256,))]

    def self_check(self) -> None:
        """Read the whole checkpoint and see that it is sound, as FORMAT.md promises.

        Raises ArchiveDamaged that names the first faults.
        """
        from migrator.archive import soundness  # noqa: PLC0415 - it imports this module

        soundness.check(self._db)

    def _work(self, where: str, run_id: int, after: int, limit: int) -> list[Work]:
        sql = f"SELECT {_WORK} FROM attachments WHERE {where} AND id > ? ORDER BY id LIMIT ?"
        return [Work(*row) for row in self._db.execute(sql, (run_id, after, limit))]

    def _number(self, sql: str, *params: object) -> int:
        return int(self._db.execute(sql, params)[0][0])


def row_from(values: Tuple) -> Row:
    """Give the row whose columns are ROW; raises ArchiveDamaged for values that cannot be."""
    columns = list(values)
    _see(columns[_STATE], columns[_SHA256], values[0])
    if (columns[_SHA256] is None) is not (columns[_SIZE] is None):
        raise damaged(f"attachment {values[0]} has a file without a size, or none with one")
    columns[_STATE] = State(columns[_STATE])
    return Row(*columns)


def _seen(pages: Iterator[list[Tuple]], state: int, sha256: int) -> Iterator[list[Tuple]]:
    for page in pages:
        for row in page:
            _see(row[state], row[sha256], row[0])
        yield page


def _see(state: object, sha256: object, attachment_id: object) -> None:
    """See that an attachment has a state that there is, and a hash where its state asks for one.

    Raises ArchiveDamaged.
    """
    if state not in _STATES:
        raise damaged(f"attachment {attachment_id} has no state that there is")
    held = sha256 is not None
    if held is not (state in _HELD) or (held and not _HASH.fullmatch(str(sha256))):
        raise damaged(f"attachment {attachment_id} has no SHA-256 that fits its state")


def _run(values: Tuple) -> RunInfo:
    columns = dict(zip(_RUN_COLUMNS, values, strict=True))
    for name in ("scope", "summary"):
        if columns[name] is not None:
            columns[name] = decoded(columns[name], f"runs.{name}")
    return RunInfo(**columns)


def decoded(text: str, column: str) -> dict[str, Any]:
    """Return the JSON object that a column holds; raises ArchiveDamaged when it holds none."""
    value = _decoded(text)
    if not isinstance(value, dict):
        raise damaged(f"{column} holds no JSON object")
    return value


def decoded_list(kind: type[T]) -> Callable[[str, str], list[T]]:
    """Return a function as :func:`decoded`, for a JSON array of that type."""

    def decode(text: str, column: str) -> list[T]:
        value = _decoded(text)
        # True is an int to Python, and no number to anybody else.
        if not isinstance(value, list) or any(type(one) is not kind for one in value):
            raise damaged(f"{column} holds no JSON array of what it must hold")
        return value

    return decode


def _decoded(text: object) -> object:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
