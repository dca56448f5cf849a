"""The dry-run report: what a run would do, and what Tickiti would say to each file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.archive.records import UNFINISHED, Count, Group, State
from migrator.report.plain import human_bytes, human_duration, shown

if TYPE_CHECKING:
    from migrator.archive import Archive

FORMAT = "migrator.plan/1"
GROUPS_SHOWN = 20

Gate = Callable[[str], str]
"""Gives ``allow``, ``review`` or ``block`` for an extension."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What was measured while planning: requests and bytes a second, and what follows."""

    concurrency: int
    list_requests: int
    list_seconds: float
    sampled: int
    sampled_bytes: int
    sample_seconds: float
    estimated_seconds: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is, what a run would fetch, and what Tickiti's rules make of it.

    ``gates`` counts all listed attachments by what Tickiti would say to a download:
    ``allow``, ``review`` or ``block``. ``too_large`` are those over ``max_download`` bytes.
    """

    tickets: int
    listed: Count
    todo: Count
    stored: Count
    gates: dict[str, Count]
    max_download: int
    too_large: Count
    empty: Count
    departments: tuple[Group, ...]
    types: tuple[Group, ...]
    extensions: tuple[Group, ...]
    unlisted: int
    short: int
    pace: Pace


def todo(archive: Archive) -> Count:
    """Count what a run would fetch."""
    counts = archive.ledger.counts()
    return _sum([counts[state] for state in UNFINISHED])


def build(
    archive: Archive, gate: Gate, *, max_download: int, pace: Pace, unlisted: int, short: int
) -> Plan:
    """Read the ledger of a dry run."""
    ledger = archive.ledger
    counts = ledger.counts()
    extensions = ledger.by_extension()
    gates = {name: Count() for name in ("allow", "review", "block")}
    for group in extensions:
        name = gate(group.key)
        gates[name] = Count(gates[name].n + group.n, gates[name].bytes + group.bytes)
    return Plan(
        tickets=ledger.ticket_count(),
        listed=_sum([counts[state] for state in State]),
        todo=todo(archive),
        stored=counts[State.STORED],
        gates=gates,
        max_download=max_download,
        too_large=ledger.larger_than(max_download),
        empty=_empty(archive),
        departments=tuple(ledger.by_department()),
        types=tuple(ledger.by_type()),
        extensions=tuple(extensions),
        unlisted=unlisted,
        short=short,
        pace=pace,
    )


def _sum(counts: Sequence[Count]) -> Count:
    return Count(sum(one.n for one in counts), sum(one.bytes for one in counts))


def _empty(archive: Archive) -> Count:
    everything, some = archive.ledger.larger_than(-1), archive.ledger.larger_than(0)
    return Count(everything.n - some.n, 0)


def to_json(plan: Plan) -> str:
    """Write the plan for machines; sizes in bytes, durations in seconds."""

    def count(value: Count) -> dict[str, int]:
        return {"attachments": value.n, "bytes": value.bytes}

    def groups(values: Sequence[Group]) -> list[dict[str, object]]:
        return [
            {"key": one.key, "title": one.title, "attachments": one.n, "bytes": one.bytes}
            for one in values
        ]

    pace = plan.pace
    return json.dumps(
        {
            "format": FORMAT,
            "tickets": plan.tickets,
            "listed": count(plan.listed),
            "to_fetch": count(plan.todo),
            "stored": count(plan.stored),
            "tickiti": {
                **{name: count(value) for name, value in plan.gates.items()},
                "max_download": plan.max_download,
                "too_large": count(plan.too_large),
                "empty": plan.empty.n,
            },
            "departments": groups(plan.departments),
            "types": groups(plan.types),
            "extensions": groups(plan.extensions),
            "tickets_not_listed": plan.unlisted,
            "tickets_short_of_count": plan.short,
            "pace": {
                "concurrency": pace.concurrency,
                "list_requests": pace.list_requests,
                "list_seconds": round(pace.list_seconds, 3),
                "sampled": pace.sampled,
                "sampled_bytes": pace.sampled_bytes,
                "sample_seconds": round(pace.sample_seconds, 3),
                "estimated_seconds": pace.estimated_seconds and round(pace.estimated_seconds, 1),
            },
        },
        indent=2,
    )


def to_text(plan: Plan) -> str:
    """Write the plan for people."""
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    yield "Dry run: nothing was written"
    yield ""
    yield f"  {plan.tickets:>12,}  {'':>12}  tickets"
    yield _line(plan.listed, "attachments listed")
    yield _line(plan.stored, "already stored")
    yield _line(plan.todo, "to fetch")
    yield from _groups("By department", plan.departments)
    yield from _groups("By type", plan.types)
    yield from ("", "What Tickiti will say to a download")
    yield _line(plan.gates["allow"], "allowed")
    yield _line(plan.gates["review"], "review: someone must confirm (intent review_ok)")
    yield _line(plan.gates["block"], "blocked by a rule, see `migrator rule list`")
    limit = human_bytes(plan.max_download)
    yield _line(plan.too_large, f"over {limit}, too large for one API download")
    yield _line(plan.empty, "empty")
    yield ""
    yield from _estimate(plan)
    if plan.unlisted or plan.short:
        yield ""
        yield (
            f"Not all could be seen: {plan.unlisted:,} tickets could not be listed, "
            f"{plan.short:,} are counted by the source but not shown."
        )


def _estimate(plan: Plan) -> Iterator[str]:
    pace = plan.pace
    if pace.estimated_seconds is None:
        yield "No estimate: no attachment could be fetched as a sample."
        return
    yield (
        f"Estimate: {human_duration(pace.estimated_seconds)} "
        f"({pace.estimated_seconds / 3600:.2f} hours) with {pace.concurrency} requests at once"
    )
    rate = pace.list_requests / pace.list_seconds if pace.list_seconds else 0
    yield (
        f"  measured: {pace.list_requests:,} lists at {rate:.1f} a second each connection, "
        f"{pace.sampled:,} attachments ({human_bytes(pace.sampled_bytes)}) in "
        f"{pace.sample_seconds:.1f} s of transfer"
    )


def _line(count: Count, text: str) -> str:
    return f"  {count.n:>12,}  {human_bytes(count.bytes):>12}  {text}"


def _groups(title: str, groups: Sequence[Group]) -> Iterator[str]:
    yield from ("", title)
    for group in groups[:GROUPS_SHOWN]:
        yield _line(Count(group.n, group.bytes), shown(group.title or group.key) or "(none)")
    if rest := groups[GROUPS_SHOWN:]:
        total = Count(sum(one.n for one in rest), sum(one.bytes for one in rest))
        yield _line(total, f"({len(rest):,} others)")
