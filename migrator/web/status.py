"""How far the migration is: the ledger, the runs, and what stands in the way."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from migrator.archive.lock import Holder, holder
from migrator.archive.records import Count, RunInfo, State
from migrator.web.room import Room, Visit

RUNS: Final = 10
FAILURES: Final = 50

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
class Pace:
    """What the run going on has done in ``seconds``; ``total`` is all tickets known so far."""

    tickets: int
    total: int
    stored: Count
    seconds: int

    @property
    def per_minute(self) -> float:
        """Attachments stored in a minute, on the average."""
        return self.stored.n * 60 / self.seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """The run that has not finished: how many attachments are decided, of all that are listed.

    ``holder`` is None when it is not at work any more. Only those who see all queues get the
    ``pace``, which is that of all queues.
    """

    run: RunInfo
    decided: int
    listed: int
    holder: Holder | None
    pace: Pace | None

    @property
    def percent(self) -> int:
        """The part that is decided; 100 only when nothing is left."""
        return self.decided * 100 // self.listed if self.listed else 0


def show(room: Room, _request: Request, visit: Visit) -> Response:
    """Show it, as far as the visitor's queues go."""
    ledger = room.archive.ledger
    run = ledger.unfinished_run()
    counts = _counts(room, visit)
    listed = Count(sum(c.n for c in counts.values()), sum(c.bytes for c in counts.values()))
    failures = room.archive.standing.rows(_ATTENTION, queues=visit.queues, limit=FAILURES)
    return room.page(
        "status.html",
        visit,
        counts=counts,
        listed=listed,
        meaning=MEANING,
        progress=_progress(room, visit, run, counts) if run else None,
        runs=ledger.runs(RUNS),
        outcomes=OUTCOMES,
        failures=failures,
        failed=sum(counts[state].n for state in _ATTENTION),
    )


def _counts(room: Room, visit: Visit) -> dict[State, Count]:
    if visit.queues is None:
        return room.archive.ledger.counts()
    n, size = Counter[State](), Counter[State]()
    for queue, sums in room.by_queue().items():
        for state, count in sums.items() if queue in visit.queues else ():
            n[state] += count.n
            size[state] += count.bytes
    return {state: Count(n[state], size[state]) for state in State}


def _progress(room: Room, visit: Visit, run: RunInfo, counts: dict[State, Count]) -> Progress:
    listed = sum(count.n for count in counts.values())
    decided = listed - counts[State.PENDING].n - counts[State.FAILED].n
    owner = holder(room.archive.path)
    pace = None
    if owner is not None and visit.queues is None:
        pace = Pace(
            room.archive.standing.tickets_listed(run),
            room.archive.ledger.ticket_count(),
            room.stored_since(run.started_at),
            max(1, int(time.time()) - run.started_at),
        )
    return Progress(run, decided, listed, owner, pace)
