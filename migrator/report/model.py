"""The model behind every format of the report, built with a bounded number of queries."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from migrator.archive.queries import Tickets
from migrator.archive.records import (
    Count,
    Group,
    PacePoint,
    Row,
    RowFilter,
    RunInfo,
    State,
    TicketDelivered,
    TicketHeader,
)
from migrator.archive.replies import Kept
from migrator.report import verdict
from migrator.report.verdict import Seen, Verdict, look

if TYPE_CHECKING:
    from migrator.archive import Archive

ATTENTION_SHOWN = 50
"""How many failed, missing and gone attachments a report names; the CSV has them all."""
DELIVERED_SHOWN = 1000
"""How many tickets a report names for a Tickiti; the CSV has all files."""
GROUPS_KEPT = 1000
"""How many groups a break-down keeps; a group with the key :data:`OTHERS` has the rest."""
OTHERS = "(others)"
GROUPS_SAMPLED = 50
"""Groups of a break-down for which a report has rows."""
ROWS_SAMPLED = 10
OWNERS_SHOWN = 20
"""Departments of which a report lists what could not be kept, those with the most."""
LOSSES_SHOWN = 50
"""How many attachments such a list has."""


Key = tuple[str, str]
"""A figure with rows behind it: its dimension and its key there."""


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
class Losses:
    """What a department lost: its first rows, each with its ticket if there is one.

    Without rows for departments beyond :data:`OWNERS_SHOWN`.
    """

    department: Group
    rows: tuple[tuple[Row, TicketHeader | None], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The ledger at one moment; times are Unix seconds, sizes bytes.

    ``seen`` is what a verdict rests on. ``files`` counts the different contents that are stored,
    ``duplicates`` the attachments beyond the first of each content and the bytes saved by keeping
    it once. ``departments`` and ``types`` are sorted by bytes, ``years`` ("" is unknown) and
    ``sizes`` in their order; ``kinds`` says what holds the files.
    ``pace`` is what the last run stored, in equal steps. ``threads_missing`` counts tickets whose
    posts are not read, None where posts are not kept. ``attention`` holds the first failed,
    missing and gone ones, ``accepted`` the first of those whose loss somebody accepted. ``losses``
    has those of ``attention`` by department, with their tickets, if rows were asked for.
    ``tickets`` are those of the archive, ``with_attachments`` of them have any. ``texts`` counts
    kept ``post``, ``note`` and ``timetrack`` texts, and notes about ``people``; ``replies`` are
    those kept as they came, which are in no other figure. ``delivered`` has by Tickiti the number
    of tickets and the first of them, those first whose files are not all there; ``undeliverable``
    counts files that no Tickiti gets, by what holds them. ``pages`` is the address of our own
    pages, or "".

    ``samples`` has the first rows behind figures, if they were asked for, by dimension and key:
    ``state``, ``department``, ``type``, ``year``, ``size`` with the keys of the groups,
    ``problem`` with :attr:`Problem.key`, and ``("duplicate", "")``.
    """

    archive: str
    generated_at: int
    seen: Seen
    helpdesk: str | None
    files: Count
    duplicates: Count
    tickets: Tickets
    with_attachments: int
    threads_missing: int | None
    texts: Mapping[str, int]
    replies: Kept
    departments: tuple[Group, ...]
    types: tuple[Group, ...]
    years: tuple[Group, ...]
    sizes: tuple[Group, ...]
    kinds: tuple[Group, ...]
    problems: tuple[Problem, ...]
    attention: tuple[Row, ...]
    accepted: tuple[Row, ...]
    pace: tuple[PacePoint, ...]
    delivered: Mapping[str, tuple[int, Sequence[TicketDelivered]]] = field(default_factory=dict)
    undeliverable: Mapping[str, Count] = field(default_factory=dict)
    pages: str = ""
    samples: Mapping[Key, Sample] = field(default_factory=dict)
    losses: tuple[Losses, ...] = ()

    @property
    def states(self) -> Mapping[State, Count]:
        """How many attachments are in each state, and their bytes."""
        return self.seen.counts

    @property
    def last_run(self) -> RunInfo | None:
        """The latest run, None before the first."""
        return self.seen.last

    @property
    def breakdowns(self) -> dict[str, tuple[Group, ...]]:
        """The lists of groups by their dimension."""
        found = {
            "department": self.departments,
            "type": self.types,
            "year": self.years,
            "size": self.sizes,
        }
        return found | ({"kind": self.kinds} if self.many_kinds else {})

    @property
    def many_kinds(self) -> bool:
        """Whether there is any file that belongs to no post."""
        return any(group.key != "post" for group in self.kinds)

    @property
    def listed(self) -> Count:
        """What the source ever listed: the sum of all states."""
        return verdict.total(self.states)

    @property
    def attention_total(self) -> int:
        """How many attachments are failed, missing or gone."""
        return sum(self.states[state].n for state in verdict.ATTENTION)

    @property
    def accepted_total(self) -> int:
        """How many losses somebody accepted."""
        return sum(count.n for count in self.seen.accepted.values())

    @property
    def gaps(self) -> dict[str, int]:
        """What the lists of the last run left open, by kind; empty for nothing."""
        return verdict.gaps(self.last_run)

    @property
    def verdict(self) -> Verdict:
        """The verdict on all that."""
        return verdict.judge(self.seen)


def build(
    archive: Archive,
    *,
    now: int | None = None,
    samples: bool = False,
    posts: bool = True,
    damaged: int = 0,
    pages: str = "",
) -> Report:
    """Read the ledger of ``archive`` at one moment; a run may be filling it at the same time.

    With ``samples`` the rows behind the figures as well, which takes a pass over all rows;
    ``posts`` says whether posts are kept. ``damaged`` counts files that the caller just found so;
    ``pages`` is the address of our own pages.
    """

    def read() -> Report:
        report = replace(_build(archive, now, posts=posts, damaged=damaged), pages=pages)
        return _with_rows(archive, report) if samples else report

    return archive.queries.together(read)


def _build(archive: Archive, now: int | None, *, posts: bool, damaged: int) -> Report:
    queries, figures, seen = archive.queries, archive.figures, look(archive, damaged=damaged)
    helpdesk = queries.helpdesk()
    counts, last = seen.counts, seen.last
    made = int(time.time()) if now is None else now
    files = Count(*queries.unique_bytes())
    held = verdict.total({state: counts[state] for state in (State.STORED, State.DELETED)})
    listed = verdict.total(counts)
    any_lost = seen.open(*verdict.ATTENTION)
    return Report(
        archive=str(archive.path),
        generated_at=made,
        seen=seen,
        helpdesk=helpdesk.address if helpdesk else None,
        files=files,
        duplicates=Count(held.n - files.n, held.bytes - files.bytes),
        tickets=queries.tickets(),
        with_attachments=queries.tickets_with_attachments(),
        threads_missing=archive.threads.count_unread() if posts else None,
        texts=archive.threads.count_texts(),
        replies=archive.replies.kept(),
        departments=_kept(distinct_titles(figures.by_department()), listed),
        types=_kept(figures.by_type(GROUPS_KEPT + 1), listed),
        years=tuple(figures.by_year()),
        sizes=tuple(figures.by_size()),
        kinds=tuple(figures.by_kind()),
        problems=tuple(Problem(*problem) for problem in figures.problems()),
        attention=_losses(archive, accepted=False) if any_lost else (),
        accepted=_losses(archive, accepted=True) if seen.accepted else (),
        pace=tuple(figures.pace(last.started_at, last.finished_at)) if last else (),
        delivered={one: queries.delivered_tickets(one, DELIVERED_SHOWN) for one in seen.deliveries},
        undeliverable=queries.not_to_deliver() if seen.deliveries else {},
    )


def _losses(archive: Archive, *, accepted: bool) -> tuple[Row, ...]:
    only = RowFilter(states=frozenset(verdict.ATTENTION), accepted=accepted)
    return tuple(archive.queries.rows(only=only, limit=ATTENTION_SHOWN))


def distinct_titles(departments: Sequence[Group]) -> list[Group]:
    """Add the id to titles that several departments share."""
    times = Counter(group.title for group in departments)
    return [
        replace(group, title=f"{group.title} (department {group.key})")
        if group.title and times[group.title] > 1
        else group
        for group in departments
    ]


def _kept(groups: Sequence[Group], listed: Count) -> tuple[Group, ...]:
    """Return the largest groups, and one for the sum of the others."""
    if len(groups) <= GROUPS_KEPT:
        return tuple(groups)
    kept = groups[:GROUPS_KEPT]
    n, size = sum(group.n for group in kept), sum(group.bytes for group in kept)
    return (*kept, Group(OTHERS, OTHERS, listed.n - n, listed.bytes - size))


def _with_rows(archive: Archive, report: Report) -> Report:
    queries, totals = archive.queries, dict(_totals(report))
    ids = archive.figures.examples({key: min(n, ROWS_SAMPLED) for key, n in totals.items()})
    rows = queries.among({one for few in ids.values() for one in few})
    samples = {key: Sample(n, tuple(rows[one] for one in ids[key])) for key, n in totals.items()}
    doubled = queries.rows(only=RowFilter(duplicates=True), limit=ROWS_SAMPLED)
    samples["duplicate", ""] = Sample(report.duplicates.n, tuple(doubled))
    return replace(report, samples=samples, losses=tuple(_by_owner(archive, report)))


def _by_owner(archive: Archive, report: Report) -> Iterator[Losses]:
    """Yield the lists of losses that nobody accepted, those of the most affected first."""
    if not report.attention:
        return
    found = archive.figures.by_department(verdict.ATTENTION, unaccepted=True)
    found = sorted(distinct_titles(found), key=lambda one: (-one.n, one.key))
    for group in found[:OWNERS_SHOWN]:
        only = RowFilter(
            states=frozenset(verdict.ATTENTION),
            departments=frozenset({int(group.key)}),
            accepted=False,
        )
        rows = list(archive.queries.rows(only=only, limit=LOSSES_SHOWN))
        tickets = {id_: archive.threads.ticket(id_) for id_ in {row.ticket_id for row in rows}}
        yield Losses(group, tuple((row, tickets[row.ticket_id]) for row in rows))
    for group in found[OWNERS_SHOWN:]:
        yield Losses(group, ())


def _totals(report: Report) -> Iterator[tuple[Key, int]]:
    """Yield the groups that have rows in a report, with the number of all their rows."""
    for state, count in report.states.items():
        yield ("state", state.value), count.n
    for problem in report.problems[:GROUPS_SAMPLED]:
        yield ("problem", problem.key), problem.n
    for name, groups in report.breakdowns.items():
        for group in sorted(groups, key=lambda group: -group.bytes)[:GROUPS_SAMPLED]:
            yield (name, group.key), group.n
