"""The dry-run report: what there is, and what Tickiti would say to each file.

One pass over what was listed, in memory that does not grow with it.
"""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from migrator.archive import SIZES, extension_of
from migrator.archive.records import UNFINISHED, Count, Group, Row, State
from migrator.report import names
from migrator.report.model import told_apart
from migrator.report.plan_model import MAX_ATTACHMENT, Gaps, Verdicts

if TYPE_CHECKING:
    from migrator.archive import Archive

MOST_KEYS = 2000
"""Groups that are told apart; what comes when there are as many is counted together."""
OTHERS = "*"
EXAMPLES = 10
"""Rows that are kept for each number of the verdicts."""

_LAST_SECOND = 253_402_300_799  # of the year 9999, where the calendar ends

Gate = Callable[[str], str]
"""Gives ``allow``, ``review`` or ``block`` for an extension."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What was listed, counted: see the fields of the same names of a plan."""

    listed: Count
    todo: Count
    stored: Count
    verdicts: Verdicts
    departments: tuple[Group, ...]
    types: tuple[Group, ...]
    extensions: tuple[Group, ...]
    years: tuple[Group, ...]
    sizes: tuple[Group, ...]
    gaps: Gaps
    examples: Mapping[str, tuple[Row, ...]]


class _Sums:
    """Counts attachments by key; a hostile helpdesk cannot make it grow without end."""

    def __init__(self) -> None:
        self._found: dict[str, list[int]] = {}

    def add(self, key: str, size: int) -> None:
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= MOST_KEYS:
                key = OTHERS
            found = self._found.setdefault(key, [0, 0])
        found[0] += 1
        found[1] += size

    def count(self, key: str) -> Count:
        return Count(*self._found.get(key, (0, 0)))

    def groups(self, title: Callable[[str], str] = str) -> tuple[Group, ...]:
        """Give the groups, the one with the most bytes first."""
        return tuple(
            Group(key, "(others)" if key == OTHERS else title(key), n, size)
            for key, (n, size) in sorted(self._found.items(), key=lambda one: (-one[1][1], one[0]))
        )


def survey(
    archive: Archive, run_id: int, gate: Gate, *, max_download: int, leftovers: bool
) -> Survey:
    """Read what the dry run ``run_id`` has listed.

    With ``leftovers`` also what earlier runs have left to be fetched, as a run would.
    """
    sums: dict[str, _Sums] = {
        name: _Sums()
        for name in ("kind", "verdict", "department", "type", "extension", "year", "size")
    }
    examples: defaultdict[str, list[Row]] = defaultdict(list)
    answer = functools.lru_cache(MOST_KEYS)(gate)
    for row in archive.ledger.listed_in(run_id, leftovers=leftovers):
        if row.state is State.DELETED:
            continue
        size = row.declared_size if row.size is None else row.size
        _count(sums, row, size)
        for trait in (answer(extension_of(row.filename)), *_traits(row, size, max_download)):
            sums["verdict"].add(trait, size)
            if len(examples[trait]) < EXAMPLES:
                examples[trait].append(row)
    extensions = sums["extension"].groups(lambda key: f".{key}" if key else "(none)")
    kinds, verdict = sums["kind"], sums["verdict"].count
    titles = {str(one.department_id): one.title for one in archive.access.queues()}
    departments = tuple(told_apart(sums["department"].groups(lambda key: _department(titles, key))))
    return Survey(
        listed=kinds.count("listed"),
        todo=kinds.count("todo"),
        stored=kinds.count("stored"),
        verdicts=Verdicts(
            max_download,
            MAX_ATTACHMENT,
            allow=verdict("allow"),
            review=verdict("review"),
            block=verdict("block"),
            too_large=verdict("too_large"),
            oversize=verdict("oversize"),
            odd_name=verdict("odd_name"),
            no_extension=verdict("no_extension"),
            empty=verdict("empty"),
        ),
        departments=departments,
        types=sums["type"].groups(),
        extensions=extensions,
        years=tuple(sorted(sums["year"].groups(lambda key: key or "unknown"), key=_key)),
        sizes=tuple(_size_group(sums["size"], key) for key in SIZES),
        gaps=_gaps(archive, run_id, departments),
        examples={trait: tuple(rows) for trait, rows in examples.items()},
    )


def _traits(row: Row, size: int, max_download: int) -> Iterator[str]:
    """Name what stands out in a file, as the fields of the verdicts."""
    if size > max_download:
        yield "too_large"
    if size > MAX_ATTACHMENT:
        yield "oversize"
    if not size:
        yield "empty"
    if names.odd(row.filename):
        yield "odd_name"
    if not extension_of(row.filename):
        yield "no_extension"


def _count(sums: Mapping[str, _Sums], row: Row, size: int) -> None:
    sums["kind"].add("listed", size)
    if row.state in UNFINISHED:
        sums["kind"].add("todo", size)
    elif row.state is State.STORED:
        sums["kind"].add("stored", size)
    sums["department"].add(str(row.department_id), size)
    sums["type"].add(row.mime_type or row.declared_type, size)
    sums["extension"].add(extension_of(row.filename), size)
    sums["year"].add(_year(row.created_at), size)
    sums["size"].add(_bucket(size), size)


def _year(created: int) -> str:
    return str(time.gmtime(created).tm_year) if 0 < created <= _LAST_SECOND else ""


def _bucket(size: int) -> str:
    return next(key for key, (_, top) in SIZES.items() if top is None or size <= top)


def _size_group(sums: _Sums, key: str) -> Group:
    found = sums.count(key)
    return Group(key, SIZES[key][0], found.n, found.bytes)


def _key(group: Group) -> str:
    return group.key


def _department(titles: Mapping[str, str], key: str) -> str:
    return titles.get(key) or ("Trash" if key == "0" else f"Department {key}")


def _gaps(archive: Archive, run_id: int, departments: tuple[Group, ...]) -> Gaps:
    gaps = Gaps()
    if (numbers := archive.ledger.unnumbered(run_id)) is not None:
        gaps = replace(gaps, numbers=numbers[0], first=numbers[1])
    if queued := archive.ledger.queued():
        known = {str(one) for one in queued}
        gaps = replace(gaps, queues=tuple(one for one in departments if one.key not in known))
    return gaps
