"""Where the migration stands, as the status page asks: by queue."""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from migrator.archive.checkpoint import Checkpoint
from migrator.archive.figures import state_from, state_list
from migrator.archive.reading import ROW, row_from
from migrator.archive.records import Count, Row, State
from migrator.archive.sql import as_json

# Grouped by department first: looking the queue up for a million rows would take seconds.
_BY_QUEUE = """
    WITH tallied AS (
        SELECT t.department_id AS department, a.state AS state, count(*) AS n,
            sum(coalesce(a.size, a.declared_size)) AS bytes
        FROM attachments AS a JOIN tickets AS t ON t.id = a.ticket_id
        GROUP BY t.department_id, a.state
    )
    SELECT coalesce(c.queue_id, m.queue_id, department) AS queue, state, sum(n), sum(bytes)
    FROM tallied
    LEFT JOIN queues AS c ON c.department_id = department AND c.origin = 'config'
    LEFT JOIN queues AS m ON m.department_id = department AND m.origin = 'command'
    GROUP BY queue, state"""


class Standing:
    """Figures for people; errors as of :class:`Ledger`, from any thread."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._db = checkpoint

    def by_queue(self) -> dict[int, dict[State, Count]]:
        """Return the ledger's sums for every queue; states that a queue lacks are left out.

        It reads all rows: a second for a million.
        """
        found: defaultdict[int, dict[State, Count]] = defaultdict(dict)
        for queue, state, n, size in self._db.execute(_BY_QUEUE):
            found[queue][state_from(state)] = Count(n, size)
        return dict(found)

    def rows(
        self, states: Collection[State], *, queues: frozenset[int] | None, limit: int
    ) -> list[Row]:
        """Return the first attachments in some states, by id, of some queues (None: of all)."""
        where = "" if queues is None else "AND queue_id IN (SELECT value FROM json_each(?))"
        params = () if queues is None else (as_json(queues),)
        sql = f"""
            SELECT {ROW} FROM ledger
            WHERE state IN ({state_list(states)}) {where} ORDER BY 1 LIMIT ?"""
        return [row_from(row) for row in self._db.execute(sql, (*params, limit))]
