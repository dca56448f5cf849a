"""How far the migration is: the ledger, the runs, and what stands in the way."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from migrator.archive.records import Count, Row, RunInfo, State
from migrator.tickiti.auth import sees
from migrator.web.room import Room, Visit

RUNS: Final = 10
FAILURES: Final = 50
_EXAMINED: Final = 5_000

_ATTENTION: Final = (State.FAILED, State.MISSING, State.GONE)

MEANING: Final = {
    State.STORED: "in the archive",
    State.MISSING: "listed by the source, which has no bytes for them",
    State.GONE: "dropped at the source before we had them",
    State.DELETED: "in the archive, no longer listed by the source",
    State.FAILED: "could not be fetched; tried again by the next run",
    State.PENDING: "not fetched yet",
}
"""In the order of the sum."""

OUTCOMES: Final = {
    0: "complete",
    3: "finished, with losses or failures",
    4: "the source refused or could not be reached",
    7: "the archive could not be written",
    8: "stopped by a safety limit",
    130: "interrupted; progress is saved",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """The run that has not finished: how many attachments are decided, of all that are listed."""

    run: RunInfo
    decided: int
    listed: int

    @property
    def percent(self) -> int:
        """The part that is decided; 100 only when nothing is left."""
        return self.decided * 100 // self.listed if self.listed else 0


def show(room: Room, _request: Request, visit: Visit) -> Response:
    """Show it, as far as the visitor's queues go."""
    counts = _counts(room, visit)
    listed = Count(sum(c.n for c in counts.values()), sum(c.bytes for c in counts.values()))
    now = room.archive.ledger.unfinished_run()
    decided = listed.n - counts[State.PENDING].n - counts[State.FAILED].n
    return room.page(
        "status.html",
        visit,
        counts=counts,
        listed=listed,
        meaning=MEANING,
        progress=Progress(now, decided, listed.n) if now else None,
        runs=room.archive.ledger.runs(RUNS),
        outcomes=OUTCOMES,
        failures=_failures(room, visit),
        failed=sum(counts[state].n for state in _ATTENTION),
    )


def _counts(room: Room, visit: Visit) -> dict[State, Count]:
    ledger = room.archive.ledger
    if visit.queues is None:
        return ledger.counts()
    queue = {str(one.department_id): one.queue_id for one in room.archive.access.queues()}
    counts = {}
    for state in State:
        groups = [
            group
            for group in ledger.by_department([state])
            if sees(visit.token, queue.get(group.key, -1))
        ]
        counts[state] = Count(sum(g.n for g in groups), sum(g.bytes for g in groups))
    return counts


def _failures(room: Room, visit: Visit) -> list[Row]:
    rows = room.archive.ledger.rows(states=_ATTENTION, limit=_EXAMINED)
    seen = (row for row in rows if sees(visit.token, row.queue_id))
    return list(itertools.islice(seen, FAILURES))
