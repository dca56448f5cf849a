"""The dry run as JSON, format ``migrator.plan/1``: schema/plan-1.json says what each key means.

Sizes are bytes, durations seconds. Keys are added to a version and never taken away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from migrator.archive.records import Count, Group
from migrator.plan.model import Gaps, Pace, Plan
from migrator.text import iso_time

FORMAT = "migrator.plan/1"


def render(plan: Plan) -> Iterator[str]:
    """Write the plan for machines, in pieces."""
    yield json.dumps(document(plan), indent=2)
    yield "\n"


def document(plan: Plan) -> dict[str, object]:
    """Give the plan as values that JSON knows."""
    found = plan.verdicts
    return {
        "format": FORMAT,
        "source": plan.source,
        "made_at": iso_time(plan.made_at),
        "complete": plan.complete,
        "ended": plan.ended or None,
        "limits": list(plan.limits),
        "tickets": plan.tickets,
        "tickets_total": plan.tickets_total,
        "listed": _count(plan.listed),
        "to_fetch": _count(plan.todo),
        "stored": _count(plan.stored),
        "tickiti": {
            "allow": _count(found.allow),
            "review": _count(found.review),
            "block": _count(found.block),
            "max_download": found.max_download,
            "too_large": _count(found.too_large),
            "max_attachment": found.max_attachment,
            "oversize": _count(found.oversize),
            "odd_name": _count(found.odd_name),
            "no_extension": _count(found.no_extension),
            "empty": found.empty.n,
        },
        **_gaps(plan.gaps),
        "departments": _groups(plan.departments),
        "types": _groups(plan.types),
        "extensions": _groups(plan.extensions),
        "years": _groups(plan.years),
        "sizes": _groups(plan.sizes),
        "tickets_not_listed": plan.unlisted,
        "tickets_short_of_count": plan.short,
        "requests": {
            "total": plan.requests.total,
            "pages": plan.requests.pages,
            "lists": plan.requests.lists,
            "fetches": plan.requests.fetches,
            "threads": plan.requests.threads,
            "made": plan.requests.made,
        },
        "disk": {
            "bytes": plan.disk.plain,
            "deduped_bytes": plan.disk.deduped,
            "method": plan.disk.method,
            "compared": plan.disk.compared,
            "free": plan.disk.free,
        },
        "pace": _pace(plan.pace),
        "fast": _fast(plan),
    }


def _gaps(gaps: Gaps) -> dict[str, object]:
    numbers = None
    if gaps.numbers is not None:
        numbers = {"tickets": gaps.numbers, "first": list(gaps.first)}
    return {
        "tickets_without_number": numbers,
        "departments_without_queue": None if gaps.queues is None else _groups(gaps.queues),
    }


def _pace(pace: Pace) -> dict[str, object]:
    def rounded(seconds: float | None) -> float | None:
        return seconds and round(seconds, 1)

    return {
        "concurrency": pace.concurrency,
        "list_requests": pace.list_requests,
        "list_seconds": round(pace.list_seconds, 3),
        "sampled": pace.sampled,
        "sampled_bytes": pace.sampled_bytes,
        "sample_seconds": round(pace.sample_seconds, 3),
        "estimated_seconds": rounded(pace.estimated_seconds),
        "low_seconds": rounded(pace.low_seconds),
        "high_seconds": rounded(pace.high_seconds),
    }


def _fast(plan: Plan) -> dict[str, object] | None:
    fast = plan.fast
    if fast is None:
        return None
    return {
        "tickets": fast.tickets,
        "marked": fast.marked,
        "probes": fast.probes,
        "looked": fast.looked,
        "found": fast.found,
        "missed_attachments": fast.missed,
        "fallback": fast.fallback or None,
    }


def _count(value: Count) -> dict[str, int]:
    return {"attachments": value.n, "bytes": value.bytes}


def _groups(values: Sequence[Group]) -> list[dict[str, object]]:
    return [
        {"key": one.key, "title": one.title, "attachments": one.n, "bytes": one.bytes}
        for one in values
    ]
