"""What a dry run and the run after it ask of the ledger: what was listed, and what is equal."""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from migrator.archive.reading import ROW, Reading, row_from
from migrator.archive.records import Count, Row, Work

_TODO = "state IN ('pending', 'failed') AND (last_run = ?1 OR ?2)"

# What is held already comes first: a new file that equals it takes no room at all.
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

_WORK = (
    "a.id, a.ticket_id, a.declared_size, a.filename, a.attempts, a.note, a.created_at, "
    "a.failing_since"
)
_TWIN = _WORK.replace("a.", "b.")


class Equals(NamedTuple):
    """How much of what is to be fetched may be there before it.

    ``by_name`` has the name and the size of an attachment before it, ``by_size`` only the size.
    """

    by_name: Count
    by_size: Count


class Twins(NamedTuple):
    """Two attachments of one size; the second may be held, then ``sha256`` is its hash."""

    one: Work
    other: Work
    sha256: str | None


class Planning(Reading):
    """The questions of a plan. Every method raises ArchiveError and its kin.

    ``leftovers`` means: beside what the run ``run_id`` has listed, also what earlier runs left
    unfinished.
    """

    def listed_in(self, run_id: int, *, leftovers: bool = False) -> Iterator[Row]:
        """Yield what a run has listed, by attachment id, in constant memory."""
        also = "OR a.state IN ('pending', 'failed')" if leftovers else ""
        sql = f"""
            SELECT {ROW} FROM ledger WHERE attachment_id > ? AND EXISTS (
                SELECT 1 FROM attachments AS a
                WHERE a.id = attachment_id AND (a.last_run = ? {also}))
            ORDER BY 1 LIMIT ?"""
        return map(row_from, self._stream(sql, 0, None, (run_id,)))

    def equals(self, run_id: int, *, leftovers: bool = False) -> Equals:
        """Tell how much of what is to be fetched may be equal to something before it."""
        sql = f"{_EQUALS} SELECT how, count(*), sum(bytes) FROM judged GROUP BY how"
        rows = self._db.execute(sql, (run_id, leftovers))
        found = {how: Count(n, size) for how, n, size in rows}
        return Equals(found.get("name", Count()), found.get("size", Count()))

    def twins(self, run_id: int, how: str, limit: int, *, leftovers: bool = False) -> list[Twins]:
        """Return pairs that may be equal, ``how`` by name or by size, from all over the ledger.

        Always the same ones, in an order that has nothing to do with their age.
        """
        sql = f"""{_EQUALS}
            SELECT {_WORK}, {_TWIN}, b.sha256 FROM judged AS j
            JOIN attachments AS a ON a.id = j.id JOIN attachments AS b ON b.id = j.twin
            WHERE how = ?3 ORDER BY (j.id * 2654435761) % 4294967291 LIMIT ?4"""
        rows = self._db.execute(sql, (run_id, leftovers, how, limit))
        return [Twins(Work(*row[:8]), Work(*row[8:16]), row[16]) for row in rows]

    def with_files(self, ticket_ids: Collection[int]) -> dict[int, int]:
        """Count the attachments of a few tickets; those without are left out."""
        marks = ", ".join("?" * len(ticket_ids))
        sql = f"""
            SELECT ticket_id, count(*) FROM attachments WHERE ticket_id IN ({marks})
            GROUP BY ticket_id"""
        return dict(self._db.execute(sql, tuple(ticket_ids)))

    def unnumbered(self, run_id: int, *, first: int = 10) -> tuple[int, tuple[int, ...]] | None:
        """Count the tickets with listed attachments that no map gives a number, and name some.

        None when there is no map.
        """
        if not self._number("SELECT EXISTS (SELECT 1 FROM ticket_numbers)"):
            return None
        tickets = """
            SELECT DISTINCT ticket_id FROM attachments
            WHERE last_run = ? AND ticket_id NOT IN (SELECT ticket_id FROM ticket_numbers)"""
        total = self._number(f"SELECT count(*) FROM ({tickets})", run_id)
        rows = self._db.execute(f"{tickets} ORDER BY 1 LIMIT ?", (run_id, first))
        return total, tuple(row[0] for row in rows)

    def queued(self) -> frozenset[int]:
        """Return the departments for which a queue is configured or mapped."""
        return frozenset(
            row[0] for row in self._db.execute("SELECT DISTINCT department_id FROM queues")
        )
