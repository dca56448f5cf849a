"""The one model behind every form of the report, built with a bounded number of queries."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from migrator.archive.records import Count, Group, PacePoint, Row, RowFilter, RunInfo, State
from migrator.report import verdict

if TYPE_CHECKING:
    from migrator.archive import Archive

ATTENTION_SHOWN = 50
"""How many failed, missing and gone attachments a report names; the CSV has them all."""
GROUPS_KEPT = 1000
"""How many groups a break-down keeps; a group with the key :data:`OTHERS` has the rest."""
OTHERS = "(others)"
GROUPS_SAMPLED = 50
"""For how many groups of a break-down a report has rows."""
ROWS_SAMPLED = 10


Key = tuple[str, str]
"""A figure that has rows behind it: its dimension and its key there."""


@dataclass(frozen=True, slots=True)
class Problem:
    """How many attachments of a state have one problem code; None is no problem."""

    state: State
    problem: str | None
    n: int

    @property
    def key(self) -> str:
        """Return the key in the dimension ``problem``."""
        return f"{self.state}/{self.problem or ''}"


@dataclass(frozen=True, slots=True)
class Sample:
    """The first rows behind a figure, by attachment id, of ``total``."""

    total: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The ledger at one moment; times are Unix seconds, sizes bytes.

    ``files`` counts the different contents that are stored, ``duplicates`` the attachments
    beyond the first of each content and the bytes saved by keeping it once. ``departments`` and
    ``types`` are sorted by bytes, ``years`` ("" is unknown) and ``sizes`` in their order.
    ``pace`` is what the last run stored, in equal steps. ``threads_missing`` counts tickets whose
    posts are not read, None where posts are not kept. ``attention`` holds the first failed,
    missing and gone ones.

    ``behind`` has the first rows behind figures, if they were asked for, by dimension and key:
    ``state``, ``department``, ``type``, ``year``, ``size`` with the keys of the groups,
    ``problem`` with :attr:`Problem.key`, and ``("duplicate", "")``.
    """

    archive: str
    generated_at: int
    states: dict[State, Count]
    files: Count
    duplicates: Count
    tickets: int
    threads_missing: int | None
    departments: tuple[Group, ...]
    types: tuple[Group, ...]
    years: tuple[Group, ...]
    sizes: tuple[Group, ...]
    problems: tuple[Problem, ...]
    attention: tuple[Row, ...]
    pace: tuple[PacePoint, ...]
    last_run: RunInfo | None
    behind: Mapping[Key, Sample] = field(default_factory=dict)

    @property
    def breakdowns(self) -> dict[str, tuple[Group, ...]]:
        """The four lists of groups by their dimension."""
        return {
            "department": self.departments,
            "type": self.types,
            "year": self.years,
            "size": self.sizes,
        }

    @property
    def listed(self) -> Count:
        """What the source ever listed: the sum of all states."""
        return verdict.total(self.states)

    @property
    def attention_total(self) -> int:
        """How many attachments are failed, missing or gone."""
        return sum(self.states[state].n for state in verdict.ATTENTION)

    @property
    def gaps(self) -> dict[str, int]:
        """What the lists of the last run left open, by kind; empty when nothing was."""
        return gaps(self.last_run)

    @property
    def cut(self) -> bool:
        """Whether the last run was ended before it had seen everything."""
        return cut(self.last_run)

    @property
    def exit_code(self) -> int:
        """0 when the lists were whole and nothing is pending, failed, missing or gone, else 3."""
        return 3 if self.gaps else verdict.exit_code(self.states)


def cut(run: RunInfo | None) -> bool:
    """Tell whether something ended a run before it had seen everything."""
    return bool(((run.summary if run else None) or {}).get("ended_by"))


def gaps(run: RunInfo | None) -> dict[str, int]:
    """Count what the lists of a run left open: a ledger cannot balance what was never listed.

    ``unlisted`` tickets did not name their attachments, ``unreadable`` rows of the ticket list
    could not be rendered, and ``short`` tickets were counted by the source but not listed.
    """
    summary = (run.summary if run else None) or {}
    found: dict[str, int] = {}
    for name in ("unlisted", "unreadable", "short"):
        value = summary.get(name)
        count = len(value) if isinstance(value, dict) else value
        if isinstance(count, int) and count:
            found[name] = count
    return found


def build(
    archive: Archive, *, now: int | None = None, behind: bool = False, posts: bool = True
) -> Report:
    """Read the ledger of ``archive`` at one moment; a run may be filling it at the same time.

    With ``behind`` the rows behind the figures as well, which takes a pass over all rows;
    ``posts`` tells whether posts are kept.
    """

    def read() -> Report:
        report = _build(archive, now, posts=posts)
        return _with_rows(archive, report) if behind else report

    return archive.ledger.together(read)


def _build(archive: Archive, now: int | None, *, posts: bool) -> Report:
    ledger = archive.ledger
    counts = ledger.counts()
    runs = ledger.runs(1)
    made = int(time.time()) if now is None else now
    files = Count(*ledger.unique_bytes())
    held = verdict.total({state: counts[state] for state in (State.STORED, State.DELETED)})
    listed = verdict.total(counts)
    last = runs[0] if runs else None
    return Report(
        archive=str(archive.path),
        generated_at=made,
        states={state: counts[state] for state in State},
        files=files,
        duplicates=Count(held.n - files.n, held.bytes - files.bytes),
        tickets=ledger.ticket_count(),
        threads_missing=archive.threads.count_unread() if posts else None,
        departments=_kept(told_apart(ledger.by_department()), listed),
        types=_kept(ledger.by_type(GROUPS_KEPT + 1), listed),
        years=tuple(ledger.by_year()),
        sizes=tuple(ledger.by_size()),
        problems=tuple(Problem(*problem) for problem in ledger.problems()),
        attention=tuple(ledger.rows(states=verdict.ATTENTION, limit=ATTENTION_SHOWN)),
        pace=tuple(ledger.pace(last.started_at, last.finished_at)) if last else (),
        last_run=last,
    )


def told_apart(departments: Sequence[Group]) -> list[Group]:
    """Add the id to titles that several departments have, as those below others may."""
    times = Counter(group.title for group in departments)
    return [
        replace(group, title=f"{group.title} (department {group.key})")
        if group.title and times[group.title] > 1
        else group
        for group in departments
    ]


def _kept(groups: Sequence[Group], listed: Count) -> tuple[Group, ...]:
    """Keep the largest groups and sum the others up."""
    if len(groups) <= GROUPS_KEPT:
        return tuple(groups)
    kept = groups[:GROUPS_KEPT]
    n, size = sum(group.n for group in kept), sum(group.bytes for group in kept)
    return (*kept, Group(OTHERS, OTHERS, listed.n - n, listed.bytes - size))


def _with_rows(archive: Archive, report: Report) -> Report:
    ledger, totals = archive.ledger, dict(_totals(report))
    ids = ledger.examples({key: min(n, ROWS_SAMPLED) for key, n in totals.items()})
    rows = ledger.among({one for few in ids.values() for one in few})
    behind = {key: Sample(n, tuple(rows[one] for one in ids[key])) for key, n in totals.items()}
    doubled = ledger.rows(only=RowFilter(duplicates=True), limit=ROWS_SAMPLED)
    behind["duplicate", ""] = Sample(report.duplicates.n, tuple(doubled))
    return replace(report, behind=behind)


def _totals(report: Report) -> Iterator[tuple[Key, int]]:
    """Give the groups that have rows in a report, with the number of all their rows."""
    for state, count in report.states.items():
        yield ("state", state.value), count.n
    for problem in report.problems[:GROUPS_SAMPLED]:
        yield ("problem", problem.key), problem.n
    for name, groups in report.breakdowns.items():
        for group in sorted(groups, key=lambda group: -group.bytes)[:GROUPS_SAMPLED]:
            yield (name, group.key), group.n
