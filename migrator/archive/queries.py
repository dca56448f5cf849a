"""The queries of reports, the endpoint, the pages and the pull."""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final, NamedTuple, TypeVar

from migrator.archive import soundness
from migrator.archive.checkpoint import Checkpoint, Tuple, damaged
from migrator.archive.figures import matches
from migrator.archive.records import (
    EVERYTHING,
    LOSSES,
    UNFINISHED,
    Check,
    Count,
    DeliveredFile,
    DeliveredLine,
    Delivery,
    Helpdesk,
    Mark,
    Row,
    RowFilter,
    RunInfo,
    State,
    TicketDelivered,
    TicketRow,
    Work,
)
from migrator.archive.replies import Replies
from migrator.archive.sql import (
    HASH,
    ROW,
    TICKET,
    Values,
    check_state,
    decoded,
    row_from,
    state_list,
)

T = TypeVar("T")

# Not through sqlite-utils: importing it takes half of the time of `migrator status`.
_RUN_COLUMNS = [f.name for f in fields(RunInfo)]
_RUN = ", ".join(_RUN_COLUMNS)
_WORK_COLUMNS = (
    "{0}id, coalesce({0}ticket_id, 0), {0}declared_size, {0}filename, {0}attempts, {0}note, "
    "{0}created_at, {0}failing_since, {0}kind, {0}place"
)
_WORK = _WORK_COLUMNS.format("")
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
# Must repeat the words of the partial index, or SQLite would not use it:
_IS_UNFINISHED = "state IN ('pending', 'failed')"
_IS_OTHER = "kind <> 'post'"
_IS_UNSEEN = "state = 'stored' AND kind IN ('post', 'customfield') AND last_run <> ?"
_CHECK = ", ".join(field.name for field in fields(Check))
_TODO = f"{_IS_UNFINISHED} AND (last_run = :run OR :leftovers)"

# Held files come first: a new file that equals one takes no room.
_EQUALS = f"""
    WITH held AS (
        SELECT id, sha256, filename, coalesce(size, declared_size) AS bytes FROM attachments
        WHERE sha256 IS NOT NULL OR {_TODO}),
    named AS (
        SELECT *, first_value(id) OVER (
            PARTITION BY bytes, filename ORDER BY sha256 IS NULL, id) AS same_name,
        first_value(id) OVER (
            PARTITION BY bytes ORDER BY sha256 IS NULL, id) AS same_size FROM held),
    judged AS (
        SELECT id, bytes, CASE WHEN same_name <> id THEN 'name'
            WHEN same_size <> id THEN 'size' ELSE '' END AS how,
        iif(same_name <> id, same_name, same_size) AS twin
        FROM named WHERE sha256 IS NULL AND bytes > 0)"""

_FIELDS_OF_WORK = len(fields(Work))

_DELIVERY = ", ".join(field.name for field in fields(Delivery))
_DELIVERED = ", ".join(f"d.{field.name}" for field in fields(DeliveredFile))
TOLD_DELIVERED: Final = {
    "tickiti_state": """coalesce(d.state,
        iif(c.state = 'stored' AND c.ticket_id AND t.deleted_at IS NULL, 'pending', NULL))""",
    "tickiti_ticket": "n.ticket_number",
    "tickiti_note": "n.response_id",
    "tickiti_attachment": "d.there_id",
    "tickiti_reason": """CASE WHEN d.state IS NOT NULL THEN coalesce(d.detail, d.problem)
        WHEN c.state IN ('stored', 'deleted') AND NOT c.ticket_id THEN 'it belongs to no ticket'
        WHEN c.state = 'deleted' OR c.state = 'stored' AND t.deleted_at IS NOT NULL
            THEN 'the source has deleted it' END""",
}
"""Columns that tell what a target has of an attachment."""
_DELIVERY_STATES = ("delivered", "refused", "too_large", "failed", "pending")
# A file is settled once it is there, or once a note there tells why it is not.
_IS_SETTLED = """EXISTS (
    SELECT 1 FROM delivered_files AS d JOIN deliveries AS n ON n.id = d.delivery_id
    WHERE d.target = :target AND d.attachment_id = a.id AND d.sha256 = a.sha256
        AND n.state = 'delivered' AND (d.state = 'delivered' OR NOT :recheck))"""


class Tickets(NamedTuple):
    """How many tickets an archive has: ``known`` ones exclude those ``merged`` into others.

    Of the known ones, ``listed`` have had their attachments listed and are at the source as far
    as we know; ``deleted`` are no longer there.
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


class Equals(NamedTuple):
    """How much of what is to be fetched may equal something that comes before it.

    ``by_name`` has the name and the size of an attachment before it, ``by_size`` only the size.
    """

    by_name: Count
    by_size: Count


class Twins(NamedTuple):
    """Two attachments of one size; the second may be held, then ``sha256`` is its hash."""

    one: Work
    other: Work
    sha256: str | None


class Queries:
    """Answers from the ledger, for any thread. Every method raises ArchiveError or a subclass.

    ``leftovers`` means: beside what the run ``run_id`` has listed, also what earlier runs left
    unfinished.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._db = checkpoint

    def runs(self, limit: int = 20) -> list[RunInfo]:
        """Return the latest runs, newest first."""
        return self._runs("true", limit=limit)

    def unfinished_run(self) -> RunInfo | None:
        """Return the latest run if it has not finished: it was killed, or is still running."""
        latest = self.runs(1)
        return latest[0] if latest and latest[0].finished_at is None else None

    def run(self, run_id: int) -> RunInfo | None:
        """Return the run with that id, or None."""
        return next(iter(self._runs("id = :id", {"id": run_id})), None)

    def whole_pass(self, *, increments: bool = False) -> RunInfo | None:
        """Return the latest run over all tickets that finished, whatever it left open.

        With ``increments`` it may be a later run over what was new.
        """
        also = "" if increments else f"AND NOT ({_IS_INCREMENT.format('scope')})"
        where = f"json_valid(scope) AND {_SAYS_ALL} {also} AND {_CAME_TO_ITS_END}"
        return next(iter(self._runs(where)), None)

    def stopped(self, after: int) -> RunInfo | None:
        """Return the latest run later than ``after`` that a safety limit stopped.

        None when a later run with the same scope finished.
        """
        both = " AND ".join(_IS_INCREMENT.format(name) for name in ("its", "runs.scope"))
        where = f"""
            id > :after AND json_valid(scope) AND {_WAS_STOPPED} AND NOT EXISTS (
                SELECT 1 FROM (
                    SELECT id AS other, scope AS its FROM runs
                    WHERE id > :after AND json_valid(scope) AND {_CAME_TO_ITS_END})
                WHERE other > runs.id AND (its = runs.scope OR ({both})))"""
        return next(iter(self._runs(where, {"after": after})), None)

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

        ``states`` is a shorthand for ``only``.
        """
        if states is not None:
            only = replace(only, states=frozenset(states))
        values = Values()
        sql = f"""
            SELECT {ROW} FROM ledger WHERE attachment_id > :after AND {matches(only, values)}
            ORDER BY 1 LIMIT :most"""
        return map(row_from, self._db.stream(sql, after, values, limit=limit))

    def tables(
        self, columns: Sequence[str], only: RowFilter = EVERYTHING, target: str = ""
    ) -> Iterator[list[Tuple]]:
        """Yield columns of the view ``ledger`` by attachment id, in pages of some hundred rows.

        The first column must be ``attachment_id``; with a ``target`` those of
        :data:`TOLD_DELIVERED` follow. For output of millions of rows: creating a :class:`Row` for
        each takes longer than reading them.
        """
        values = Values()
        sql = f"""
            SELECT {", ".join(columns)} FROM ledger
            WHERE attachment_id > :after AND {matches(only, values)} ORDER BY 1 LIMIT :most"""
        if target:
            sql = f"""
                SELECT c.*, {", ".join(TOLD_DELIVERED.values())} FROM ({sql}) AS c
                LEFT JOIN delivered_files AS d ON d.target = {values(target)}
                    AND d.attachment_id = c.attachment_id AND d.sha256 = c.sha256
                LEFT JOIN deliveries AS n ON n.id = d.delivery_id
                LEFT JOIN tickets AS t ON t.id = c.ticket_id
                ORDER BY 1"""
        pages = self._db.pages(sql, 0, values)
        if not {"state", "sha256"} <= set(columns):
            return pages
        return _seen(pages, columns.index("state"), columns.index("sha256"))

    def among(self, ids: Collection[int]) -> dict[int, Row]:
        """Return the rows that have these attachment ids, by id."""
        values = Values()
        sql = f"SELECT {ROW} FROM ledger WHERE attachment_id IN {values.each(ids)} ORDER BY 1"
        rows = map(row_from, self._db.execute(sql, values))
        return {row.id: row for row in rows}

    def together(self, read: Callable[[], T]) -> T:
        """Return what ``read`` finds, all of the same moment, while others may write."""
        return self._db.together(read)

    def moment(self) -> object:
        """Return a value that changes with every write to the archive's tables, by any process."""
        return self._db.moment()

    def tickets_to_deliver(
        self, target: str, *, deleted: bool = False, recheck: bool = False, threads: bool = False
    ) -> Iterator[int]:
        """Yield the tickets with files that are not settled at a target, by id.

        Those with deliveries that are pending are among them. ``deleted`` includes what the source
        has deleted, ``recheck`` files whose refusal is told there already, ``threads`` all tickets
        with posts.
        """
        held = "('stored', 'deleted')" if deleted else "('stored')"
        shown = "" if deleted else "AND t.deleted_at IS NULL"
        posts = "OR EXISTS (SELECT 1 FROM posts AS p WHERE p.ticket_id = t.id)" if threads else ""
        sql = f"""
            SELECT t.id FROM tickets AS t
            WHERE t.id > :after AND (EXISTS (
                    SELECT 1 FROM deliveries AS n WHERE n.target = :target
                        AND n.ticket_id = t.id AND n.state = 'pending')
                OR (t.merged_into IS NULL {shown} AND (EXISTS (
                    SELECT 1 FROM attachments AS a WHERE a.ticket_id = t.id
                        AND a.state IN {held} AND NOT {_IS_SETTLED}) {posts})))
            ORDER BY t.id LIMIT :most"""
        values = {"target": target, "recheck": recheck}
        return (row[0] for row in self._db.stream(sql, -1, values))

    def merged_tickets(self, ticket_id: int) -> list[int]:
        """Return the tickets that were merged into a ticket, in however many steps."""
        sql = """
            WITH RECURSIVE merged(id) AS (
                SELECT id FROM tickets WHERE merged_into = ?
                UNION SELECT t.id FROM tickets AS t JOIN merged AS m ON t.merged_into = m.id)
            SELECT id FROM merged ORDER BY id"""
        return [row[0] for row in self._db.execute(sql, (ticket_id,))]

    def mapped_number(self, ticket_id: int) -> str | None:
        """Return the number that a ticket is mapped to, None where it is not."""
        sql = "SELECT number FROM ticket_numbers WHERE ticket_id = ?"
        found = self._db.one(sql, (ticket_id,))
        return found[0] if found else None

    def targets(self) -> list[str]:
        """Return the targets that anything was delivered to."""
        sql = "SELECT target FROM deliveries UNION SELECT target FROM delivered_files ORDER BY 1"
        return [row[0] for row in self._db.execute(sql)]

    def deliveries(self, target: str, ticket_id: int | None = None) -> list[Delivery]:
        """Return the deliveries to a target, or those of one ticket, in the order of their ids."""
        sql = f"""
            SELECT {_DELIVERY} FROM deliveries
            WHERE target = :target AND (:ticket IS NULL OR ticket_id = :ticket) ORDER BY id"""
        rows = self._db.execute(sql, {"target": target, "ticket": ticket_id})
        return [Delivery(*row) for row in rows]

    def delivered(self, target: str, ids: Collection[int]) -> list[DeliveredFile]:
        """Return the files of these attachments at a target."""
        values = Values()
        sql = f"""
            SELECT {_DELIVERED} FROM delivered_files AS d
            WHERE d.target = {values(target)} AND d.attachment_id IN {values.each(ids)}
            ORDER BY d.attachment_id, d.at"""
        return [DeliveredFile(*row) for row in self._db.execute(sql, values)]

    def all_delivered(self, target: str) -> Iterator[DeliveredFile]:
        """Yield all files at a target, by attachment."""
        sql = f"""
            SELECT {_DELIVERED} FROM delivered_files AS d
            WHERE d.target = :target AND (d.attachment_id, d.sha256) > (:id, :sha256)
            ORDER BY d.attachment_id, d.sha256 LIMIT 500"""
        last: dict[str, object] = {"target": target, "id": -(1 << 63), "sha256": ""}
        while rows := [DeliveredFile(*row) for row in self._db.execute(sql, last)]:
            yield from rows
            last |= {"id": rows[-1].attachment_id, "sha256": rows[-1].sha256}

    def delivered_lines(self) -> Iterator[DeliveredLine]:
        """Yield what was delivered, or could not be, by target and attachment."""
        sql = """
            SELECT d.target, d.ticket_id, n.ticket_number, d.attachment_id, a.filename, d.sha256,
                d.size, d.state, d.problem, d.detail, n.response_id, d.there_id, d.name
            FROM delivered_files AS d
            LEFT JOIN deliveries AS n ON n.id = d.delivery_id
            LEFT JOIN attachments AS a ON a.id = d.attachment_id
            WHERE (d.target, d.attachment_id, d.sha256) > (:target, :id, :sha256)
            ORDER BY d.target, d.attachment_id, d.sha256 LIMIT 500"""
        last: dict[str, object] = {"target": "", "id": -(1 << 63), "sha256": ""}
        while rows := [DeliveredLine(*row) for row in self._db.execute(sql, last)]:
            yield from rows
            end = rows[-1]
            last = {"target": end.target, "id": end.attachment_id, "sha256": end.sha256}

    def files_of_delivery(self, delivery_id: int) -> list[DeliveredFile]:
        """Return the files of a note, by attachment."""
        sql = f"""
            SELECT {_DELIVERED} FROM delivered_files AS d
            WHERE d.delivery_id = ? ORDER BY d.attachment_id"""
        return [DeliveredFile(*row) for row in self._db.execute(sql, (delivery_id,))]

    def delivery_totals(
        self,
        target: str,
        *,
        deleted: bool = False,
        tickets: Collection[int] | None = None,
        departments: Collection[int] | None = None,
    ) -> dict[str, Count]:
        """Return how many files of tickets are in which state at a target, and their bytes.

        The arguments are as of :meth:`tickets_to_deliver`, or narrow it.
        """
        values = Values()
        where = "a.state IN ('stored', 'deleted')" if deleted else "a.state = 'stored'"
        where += "" if deleted else " AND t.deleted_at IS NULL"
        where += "" if tickets is None else f" AND t.id IN {values.each(tickets)}"
        if departments is not None:
            where += f" AND t.department_id IN {values.each(departments)}"
        sql = f"""
            SELECT coalesce(d.state, 'pending'), count(*), sum(a.size)
            FROM attachments AS a JOIN tickets AS t ON t.id = a.ticket_id
            LEFT JOIN delivered_files AS d ON d.target = {values(target)}
                AND d.attachment_id = a.id AND d.sha256 = a.sha256
            WHERE {where} GROUP BY 1"""
        return {row[0]: Count(*row[1:]) for row in self._db.execute(sql, values)}

    def delivered_tickets(self, target: str, most: int) -> tuple[int, list[TicketDelivered]]:
        """Return the number of tickets with files, and what became of those of the first ones.

        At most ``most`` are returned; those whose files are not all there come first.
        """
        counts = ", ".join(f"count(*) FILTER (WHERE state = '{one}')" for one in _DELIVERY_STATES)
        sql = f"""
            SELECT ticket_id, number, {counts},
                json_group_array(DISTINCT response_id) FILTER (WHERE response_id IS NOT NULL),
                json_group_array(DISTINCT why) FILTER (WHERE why IS NOT NULL), count(*) OVER ()
            FROM (
                SELECT a.ticket_id, coalesce(n.ticket_number, m.number) AS number, n.response_id,
                    coalesce(d.state, 'pending') AS state, coalesce(d.detail, d.problem) AS why
                FROM attachments AS a JOIN tickets AS t ON t.id = a.ticket_id
                LEFT JOIN ticket_numbers AS m ON m.ticket_id = a.ticket_id
                LEFT JOIN delivered_files AS d ON d.target = :target
                    AND d.attachment_id = a.id AND d.sha256 = a.sha256
                LEFT JOIN deliveries AS n ON n.id = d.delivery_id
                WHERE a.state = 'stored' AND t.deleted_at IS NULL)
            GROUP BY ticket_id
            ORDER BY count(*) = count(*) FILTER (WHERE state = 'delivered'), ticket_id
            LIMIT :most"""
        rows = self._db.execute(sql, {"target": target, "most": most})
        found = [
            TicketDelivered(
                row[0],
                row[1],
                dict(zip(_DELIVERY_STATES, row[2:], strict=False)),
                *map(json.loads, row[-3:-1]),
            )
            for row in rows
        ]
        return (rows[0][-1] if rows else 0), found

    def not_to_deliver(self, *, deleted: bool = False) -> dict[str, Count]:
        """Return how many files we hold that no delivery takes, by what holds them.

        Those of tickets are ``deleted`` at the source; they count unless ``deleted`` are delivered.
        """
        sql = """
            SELECT iif(a.ticket_id IS NULL, a.kind, 'deleted'), count(*), sum(a.size)
            FROM attachments AS a LEFT JOIN tickets AS t ON t.id = a.ticket_id
            WHERE a.state IN ('stored', 'deleted') AND (a.ticket_id IS NULL
                OR (NOT ? AND (a.state = 'deleted' OR t.deleted_at IS NOT NULL)))
            GROUP BY 1 ORDER BY 1"""
        return {row[0]: Count(*row[1:]) for row in self._db.execute(sql, (deleted,))}

    def not_held(self) -> dict[str, int]:
        """Return how many files of tickets we do not have, by state."""
        states = (*UNFINISHED, State.MISSING, State.GONE)
        sql = f"""
            SELECT state, count(*) FROM attachments
            WHERE ticket_id IS NOT NULL AND state IN ({state_list(states)})
            GROUP BY state ORDER BY state"""
        return dict(self._db.execute(sql))

    def attachment(self, attachment_id: int) -> Row | None:
        """Return one row, None if the source never listed that attachment."""
        sql = f"SELECT {ROW} FROM ledger WHERE attachment_id = ?"
        found = self._db.one(sql, (attachment_id,))
        return row_from(found) if found else None

    def ticket_count(self) -> int:
        """Return the number of tickets, without those merged into another one."""
        return self._number("SELECT count(*) FROM tickets WHERE merged_into IS NULL")

    def tickets(self) -> Tickets:
        """Return the numbers of tickets of the archive."""
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
        """Return the number of tickets with attachments."""
        return self._number("SELECT count(DISTINCT ticket_id) FROM attachments")

    def not_listed_in(self, run_id: int) -> list[int]:
        """Return the tickets that this run has not listed, merged and deleted ones too."""
        sql = "SELECT id FROM tickets WHERE listed_run IS NOT ?"
        return [row[0] for row in self._db.execute(sql, (run_id,))]

    def ticket_id_for(self, number: str) -> int | None:
        """Return the id of the ticket with that number, or of the one that it was merged into."""
        values = Values()
        sql = f"""
            SELECT id FROM tickets WHERE id IN {values.tickets([number])}
            ORDER BY merged_into IS NOT NULL"""
        found = self._db.one(sql, values)
        return found[0] if found else None

    def leftovers(
        self,
        run_id: int,
        *,
        now: int | None = None,
        after: int = 0,
        limit: int = 500,
        recheck: bool = False,
        fields: bool = False,
    ) -> list[Work]:
        """Return unfinished attachments that this run has not seen listed, by id above ``after``.

        With ``fields`` those in custom fields, seen or not; without it all others.

        Failed ones only when their time has come at ``now`` (Unix seconds; None: whenever it
        comes). With ``recheck`` all of them, and those that are missing or gone as well.
        """
        states = (*UNFINISHED, State.MISSING, State.GONE)
        due = _IS_UNFINISHED
        if now is not None:
            due += f" AND (next_try IS NULL OR next_try <= {int(now)})"
        where = f"state IN ({state_list(states)})" if recheck else due
        seen = (
            "kind = 'customfield' AND ? > 0"
            if fields
            else "kind <> 'customfield' AND last_run <> ?"
        )
        return self._work(f"{where} AND {seen}", run_id, after, limit)

    def failing(self) -> Failing:
        """Return a summary of the failed attachments whose loss nobody has accepted."""
        sql = f"""
            SELECT count(*), min(failing_since),
                iif(count(*) = count(next_try), min(next_try), NULL) FROM attachments
            WHERE {_IS_UNFINISHED} AND state = 'failed'
                AND id NOT IN (SELECT attachment_id FROM accepted)"""
        return Failing(*self._db.execute(sql)[0])

    def count_unseen(self, run_id: int) -> tuple[int, int]:
        """Return (stored attachments of tickets that this run has not seen listed, all stored)."""
        sql = f"SELECT count(*) FROM attachments WHERE {_IS_UNSEEN}"
        return self._number(sql, run_id), self.counts()[State.STORED].n

    def unseen(self, run_id: int, *, after: int = 0, limit: int = 500) -> list[Work]:
        """Return stored attachments of tickets that this run has not seen listed.

        By id above ``after``.
        """
        return self._work(_IS_UNSEEN, run_id, after, limit)

    def count_unlisted(self, kinds: Collection[str], run_id: int) -> tuple[int, int]:
        """Return (stored files of these kinds that this run has not seen, all stored ones)."""
        values = Values()
        sql = f"""
            SELECT count(*) FILTER (WHERE last_run <> {values(run_id)}), count(*) FROM attachments
            WHERE state = 'stored' AND kind IN {values.each(kinds)}"""
        ((unseen, stored),) = self._db.execute(sql, values)
        return unseen, stored

    def linked(self, ticket_id: int, places: Collection[str]) -> dict[str, tuple[int, int]]:
        """Return id and response of a ticket's linked files at some places (0: of no ticket)."""
        values = Values()
        sql = f"""
            SELECT place, id, post_id FROM attachments
            WHERE {_IS_OTHER} AND kind = 'linked' AND place IN {values.each(places)}
                AND coalesce(ticket_id, 0) = {values(ticket_id)}"""
        return {place: (key, post_id) for place, key, post_id in self._db.execute(sql, values)}

    def files_below(self, kind: str, place: str) -> list[Row]:
        """Return the files of a kind whose place begins with this one, by place."""
        sql = f"""
            SELECT {ROW} FROM ledger
            WHERE {_IS_OTHER} AND kind = :kind AND place >= :place AND place < :end
                AND attachment_id NOT IN (
                    SELECT id FROM attachments WHERE original_id IS NOT NULL)
            ORDER BY place LIMIT 10000"""
        values = {"kind": kind, "place": place, "end": place[:-1] + chr(ord(place[-1]) + 1)}
        return [row_from(row) for row in self._db.execute(sql, values)]

    def largest(self, kind: str, limit: int) -> list[Row]:
        """Return the largest stored files of a kind."""
        sql = f"""
            SELECT {ROW} FROM ledger WHERE {_IS_OTHER} AND kind = ? AND state = 'stored'
            ORDER BY size DESC LIMIT ?"""
        return [row_from(row) for row in self._db.execute(sql, (kind, limit))]

    def unmet(self, run_id: int, *, after: int = 0, limit: int = 500) -> list[int]:
        """Return tickets that this run has not listed, by id above ``after``.

        Leaves out those known to be merged into another one or deleted at the source.
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
        sql = """
            SELECT sha256, size FROM blobs WHERE sha256 > :after
            UNION SELECT sha256, size FROM replies WHERE sha256 > :after
            ORDER BY 1, 2 LIMIT :most"""
        for sha256, size in self._db.stream(sql, after, limit=limit):
            if not HASH.fullmatch(sha256):
                raise damaged(f"a file is known by {sha256[:64]!r}, which is no SHA-256")
            yield sha256, size

    def refers_to(self, sha256: str) -> bool:
        """Return whether any row refers to that blob: an attachment, or a kept reply."""
        sql = """
            SELECT 1 WHERE EXISTS (SELECT 1 FROM blobs WHERE sha256 = :sha256)
                OR EXISTS (SELECT 1 FROM attachments WHERE sha256 = :sha256)
                OR EXISTS (SELECT 1 FROM replies WHERE sha256 = :sha256)"""
        return self._db.one(sql, {"sha256": sha256}) is not None

    def referred(self, hashes: Collection[str]) -> set[str]:
        """Return those of some hashes that any row names.

        Reads every row of the tables, to find those missing from an index as well.
        """
        wanted, found = set(hashes), set[str]()
        for table, key, start in (("attachments NOT INDEXED", "id", 0), ("blobs", "sha256", "")):
            sql = (
                f"SELECT {key}, sha256 FROM {table} WHERE {key} > :after ORDER BY {key} LIMIT :most"
            )
            found.update(row[1] for row in self._db.stream(sql, start) if row[1] in wanted)
        found.update(one.sha256 for one in Replies(self._db).all() if one.sha256 in wanted)
        return found

    def unused_blobs(self) -> int:
        """Return the number of rows of ``blobs`` that no attachment names; it should be 0."""
        return self._number(
            "SELECT count(*) FROM blobs WHERE sha256 NOT IN "
            "(SELECT sha256 FROM attachments WHERE sha256 IS NOT NULL)"
        )

    def attachments_of_blob(self, sha256: str) -> list[Work]:
        """Return the attachments that have that content, by id."""
        sql = f"SELECT {_WORK} FROM attachments WHERE sha256 = ? ORDER BY id"
        return [Work(*row) for row in self._db.execute(sql, (sha256,))]

    def self_check(self) -> None:
        """Check that the whole checkpoint is sound, as FORMAT.md promises.

        Raises ArchiveDamaged that names the first faults.
        """
        soundness.check(self._db)

    def unique_bytes(self) -> tuple[int, int]:
        """Return the number of different contents of attachments, and their bytes."""
        ((n, size),) = self._db.execute("SELECT count(*), coalesce(sum(size), 0) FROM blobs")
        return n, size

    def kept_blobs(self) -> tuple[int, int]:
        """Return the number and the bytes of all blobs: of attachments, and of kept replies."""
        contents, replies = self.unique_bytes(), Replies(self._db).own_blobs()
        return contents[0] + replies[0], contents[1] + replies[1]

    def is_content(self, sha256: str) -> bool:
        """Return whether that blob is known as the content of attachments, not only of replies."""
        return self._db.one("SELECT 1 FROM blobs WHERE sha256 = ?", (sha256,)) is not None

    def listed_in(self, run_id: int, *, leftovers: bool = False) -> Iterator[Row]:
        """Yield what a run has listed, by attachment id, in constant memory."""
        also = "OR a.state IN ('pending', 'failed')" if leftovers else ""
        sql = f"""
            SELECT {ROW} FROM ledger WHERE attachment_id > :after AND EXISTS (
                SELECT 1 FROM attachments AS a
                WHERE a.id = attachment_id AND (a.last_run = :run {also}))
            ORDER BY 1 LIMIT :most"""
        return map(row_from, self._db.stream(sql, 0, {"run": run_id}))

    def equals(self, run_id: int, *, leftovers: bool = False) -> Equals:
        """Return how much of what is to be fetched may equal something before it."""
        sql = f"{_EQUALS} SELECT how, count(*), sum(bytes) FROM judged GROUP BY how"
        rows = self._db.execute(sql, {"run": run_id, "leftovers": leftovers})
        found = {how: Count(n, size) for how, n, size in rows}
        return Equals(found.get("name", Count()), found.get("size", Count()))

    def twins(self, run_id: int, how: str, limit: int, *, leftovers: bool = False) -> list[Twins]:
        """Return pairs that may be equal, ``how`` by name or by size, from all over the ledger.

        Always the same ones, in an order that has nothing to do with their age.
        """
        one, other = map(_WORK_COLUMNS.format, ("a.", "b."))
        sql = f"""{_EQUALS}
            SELECT {one}, {other}, b.sha256 FROM judged AS j
            JOIN attachments AS a ON a.id = j.id JOIN attachments AS b ON b.id = j.twin
            WHERE how = :how ORDER BY (j.id * 2654435761) % 4294967291 LIMIT :most"""
        asked = {"run": run_id, "leftovers": leftovers, "how": how, "most": limit}
        rows = self._db.execute(sql, asked)
        n = _FIELDS_OF_WORK
        return [Twins(Work(*row[:n]), Work(*row[n : 2 * n]), row[2 * n]) for row in rows]

    def with_files(self, ticket_ids: Collection[int]) -> dict[int, int]:
        """Return the numbers of attachments of a few tickets; leave out those without."""
        values = Values()
        sql = f"""
            SELECT ticket_id, count(*) FROM attachments
            WHERE kind = 'post' AND ticket_id IN {values.each(ticket_ids)} GROUP BY ticket_id"""
        return dict(self._db.execute(sql, values))

    def unnumbered(self, run_id: int, *, first: int = 10) -> tuple[int, tuple[int, ...]] | None:
        """Return how many tickets with listed attachments lack a mapped number, and the first.

        None when no numbers are mapped.
        """
        if not self._number("SELECT EXISTS (SELECT 1 FROM ticket_numbers)"):
            return None
        tickets = """
            SELECT DISTINCT ticket_id FROM attachments
            WHERE last_run = ? AND ticket_id IS NOT NULL
                AND ticket_id NOT IN (SELECT ticket_id FROM ticket_numbers)"""
        total = self._number(f"SELECT count(*) FROM ({tickets})", run_id)
        rows = self._db.execute(f"{tickets} ORDER BY 1 LIMIT ?", (run_id, first))
        return total, tuple(row[0] for row in rows)

    def queued(self) -> frozenset[int]:
        """Return the departments for which a queue is configured or mapped."""
        return frozenset(
            row[0] for row in self._db.execute("SELECT DISTINCT department_id FROM queues")
        )

    def helpdesk(self) -> Helpdesk | None:
        """Return the one helpdesk of the archive; None before the first run."""
        found = self._db.one("SELECT address, run_id, at, told FROM helpdesk")
        return Helpdesk(found[0], found[1], found[2], bool(found[3])) if found else None

    def witnesses(self, limit: int) -> list[TicketRow]:
        """Return tickets that identify the helpdesk: the oldest and the newest in turn.

        Leaves out those that were merged, deleted or never listed, and all details.
        """
        sql = f"""
            SELECT {", ".join(TICKET[:-1])} FROM tickets
            WHERE merged_into IS NULL AND deleted_at IS NULL AND listed_run IS NOT NULL
            ORDER BY id {{}} LIMIT ?"""
        sides = [self._db.execute(sql.format(way), (limit,)) for way in ("ASC", "DESC")]
        found = {row[0]: TicketRow(*row) for pair in zip(*sides, strict=True) for row in pair}
        return list(found.values())[:limit]

    def sources(self) -> list[str]:
        """Return the addresses of all runs that listed something, the latest first."""
        sql = """
            SELECT source FROM runs WHERE source <> '' AND EXISTS (
                SELECT 1 FROM attachments WHERE first_run = runs.id
            ) GROUP BY source ORDER BY max(id) DESC"""
        return [row[0] for row in self._db.execute(sql)]

    def checks(self, kind: str, limit: int = 20) -> list[Check]:
        """Return the latest checks of a kind, newest first."""
        sql = f"SELECT {_CHECK} FROM checks WHERE kind = ? ORDER BY id DESC LIMIT ?"
        return [_check(*row) for row in self._db.execute(sql, (kind, limit))]

    def accepted(self) -> dict[State, Count]:
        """Return the numbers of accepted losses by state; leave out states without any."""
        sql = f"""
            SELECT a.state, count(*), sum(a.declared_size) FROM accepted AS y
            JOIN attachments AS a ON a.id = y.attachment_id
            WHERE a.state IN ({state_list(LOSSES)}) GROUP BY a.state"""
        return {State(state): Count(n, size) for state, n, size in self._db.execute(sql)}

    def accepted_ids(self) -> Iterator[int]:
        """Yield the attachments whose loss is accepted, by id."""
        sql = f"""
            SELECT y.attachment_id FROM accepted AS y JOIN attachments AS a
                ON a.id = y.attachment_id
            WHERE a.state IN ({state_list(LOSSES)}) ORDER BY 1"""
        return (row[0] for row in self._db.execute(sql))

    def progress(self, run_id: int) -> tuple[int, Mapping[str, Any]] | None:
        """Return when the progress of a run was recorded (Unix seconds), and its facts."""
        found = self._db.one("SELECT at, facts FROM progress WHERE run_id = ?", (run_id,))
        return (found[0], decoded(found[1], "progress.facts")) if found else None

    def _runs(
        self, where: str, values: Mapping[str, object] | None = None, limit: int = 1
    ) -> list[RunInfo]:
        sql = f"SELECT {_RUN} FROM runs WHERE {where} ORDER BY id DESC LIMIT :most"
        return [_run(row) for row in self._db.execute(sql, {**(values or {}), "most": limit})]

    def _work(self, where: str, run_id: int, after: int, limit: int) -> list[Work]:
        sql = f"SELECT {_WORK} FROM attachments WHERE {where} AND id > ? ORDER BY id LIMIT ?"
        return [Work(*row) for row in self._db.execute(sql, (run_id, after, limit))]

    def _number(self, sql: str, *params: object) -> int:
        return int(self._db.execute(sql, params)[0][0])


def _seen(pages: Iterator[list[Tuple]], state: int, sha256: int) -> Iterator[list[Tuple]]:
    for page in pages:
        for row in page:
            check_state(row[state], row[sha256], row[0])
        yield page


def _run(values: Tuple) -> RunInfo:
    columns = dict(zip(_RUN_COLUMNS, values, strict=True))
    for name in ("scope", "summary"):
        if columns[name] is not None:
            columns[name] = decoded(columns[name], f"runs.{name}")
    return RunInfo(**columns)


def _check(*row: Any) -> Check:
    return Check(
        row[0], row[1], row[2], row[3], bool(row[4]), row[5], decoded(row[6], "checks.summary")
    )
