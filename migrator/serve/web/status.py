"""How far the migration is: the ledger, the runs, and what stands in the way."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from migrator.archive.lock import Holder
from migrator.archive.records import Count, RowFilter, RunInfo, State
from migrator.report import verdict
from migrator.report.text import MEANING, ORDER
from migrator.report.verdict import Seen
from migrator.serve.web.site import Room, Visit

RUNS: Final = 10
FAILURES: Final = 50


@dataclass(frozen=True, slots=True)
class Work:
    """The run that has not finished.

    ``holder`` is None when it is not at work any more. ``told`` says in words how far it is, and
    how long ago it said so; ``share`` is the part that is done, None while nobody can say. Those
    who do not see all queues get only the share.
    """

    run: RunInfo
    holder: Holder | None
    told: str
    share: float | None
    per_minute: float | None


def show(room: Room, _request: Request, visit: Visit) -> Response:
    """Show it, as far as the visitor's queues go."""
    queries = room.archive.queries
    seen = queries.together(lambda: verdict.look(room.archive))
    counts = _counts(room, visit)
    listed = verdict.total(counts)
    failures = list(
        queries.rows(
            only=RowFilter(states=frozenset(verdict.ATTENTION), queues=visit.queues), limit=FAILURES
        )
    )
    return room.page(
        "status.html",
        visit,
        verdict=verdict.judge(seen),
        proof=verdict.proof_lines(seen),
        counts=counts,
        listed=listed,
        meaning={state: MEANING[state] for state in ORDER},
        work=_work(seen, visit),
        runs=[(run, _outcome(seen, run)) for run in queries.runs(RUNS)],
        failures=failures,
        failed=sum(counts[state].n for state in verdict.ATTENTION),
    )


def _counts(room: Room, visit: Visit) -> dict[State, Count]:
    if visit.queues is None:
        return room.archive.queries.counts()
    n, size = Counter[State](), Counter[State]()
    for queue, sums in room.by_queue().items():
        for state, count in sums.items() if queue in visit.queues else ():
            n[state] += count.n
            size[state] += count.bytes
    return {state: Count(n[state], size[state]) for state in State}


def _outcome(seen: Seen, run: RunInfo) -> str:
    return verdict.outcome(run, at_work=seen.at_work and seen.last == run)


def _work(seen: Seen, visit: Visit) -> Work | None:
    run = seen.last
    if run is None or run.finished_at is not None:
        return None
    facts: dict[str, Any] = dict(seen.progress or {})
    share = facts.get("share") if isinstance(facts.get("share"), int | float) else None
    if not seen.at_work:
        return Work(run, None, "", None, None)
    if visit.queues is not None:
        told = ", ".join(verdict.done(share, facts.get("seconds_left")))
        return Work(run, seen.worker, told, share, None)
    at = seen.progress_at
    age = None if at is None else int(time.time()) - at
    settled, seconds = facts.get("attachments"), (at or 0) - run.started_at
    pace = settled * 60 / seconds if isinstance(settled, int) and seconds > 0 else None
    return Work(run, seen.worker, verdict.how_far(facts, age=age), share, pace)
