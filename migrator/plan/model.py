"""The report of a dry run as data: one model behind its text, JSON and HTML.

Sizes are bytes, durations seconds, times Unix seconds in UTC. What was listed is counted in one
pass, in memory that does not grow with it.
"""

from __future__ import annotations

import functools
import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from migrator.archive import SIZES
from migrator.archive.records import UNFINISHED, Count, Group, Row, State
from migrator.hours import Hours
from migrator.plan.dry_run import Ahead, Dry, estimate
from migrator.pull.options import RunOptions
from migrator.pull.progress import BASE64
from migrator.report.model import distinct_titles
from migrator.report.verdict import limits
from migrator.sources.base import FastLook
from migrator.text import SERVED_BYTES, extension_of, safe_name

if TYPE_CHECKING:
    from migrator.archive import Archive

MAX_ATTACHMENT = 50_000_000
"""Tickiti's default limit for one attachment, 50 MB, from its documentation of system settings."""

NONE = Count()


@dataclass(frozen=True, slots=True)
class Pace:
    """The measurements of the dry run, and the estimated duration.

    ``list_requests`` took ``list_seconds`` in sum, ``sampled`` fetches ``sample_seconds``.
    ``estimated_seconds`` is None when nothing could be measured; the run will hardly be faster
    than ``low_seconds`` or slower than ``high_seconds``, by the measurements.
    """

    concurrency: int
    list_requests: int
    list_seconds: float
    sampled: int
    sampled_bytes: int
    sample_seconds: float
    estimated_seconds: float | None
    low_seconds: float | None = None
    high_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a run ends that begins at once, with the settings that say when requests are made.

    ``begins`` is when its first request may be made, ``ends`` None if nobody can foresee it.
    """

    hours: Hours
    at: float
    begins: float
    ends: float | None


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests that a run will make, by kind, and those that the dry run has made."""

    pages: int = 0
    lists: int = 0
    fetches: int = 0
    threads: int = 0
    made: int = 0
    articles: int = 0
    fields: int = 0

    @property
    def total(self) -> int:
        """The number of requests of the run."""
        texts = self.threads + self.articles + self.fields
        return self.pages + self.lists + self.fetches + texts


@dataclass(frozen=True, slots=True)
class Replies:
    """The replies that a run keeps as they come, by what ``weighed`` of them weigh.

    There are ``n`` with ``bytes``, which take ``block_bytes`` in blocks of 4 KiB.
    """

    n: int = 0
    bytes: int = 0
    block_bytes: int = 0
    weighed: int = 0


@dataclass(frozen=True, slots=True)
class Disk:
    """The room that a run needs: without and with equal files kept once.

    ``method`` says how equal files were found: ``names`` (same name and size) or ``sample``
    (the same, corrected by the hashes of ``compared`` pairs). ``free`` is None where unknown, as of
    the ``bucket`` where the files go, "" for a disk. Beside files there are ``replies``.
    """

    plain: int = 0
    deduped: int = 0
    method: str = "names"
    compared: int = 0
    free: int | None = None
    replies: Replies = Replies()
    bucket: str = ""

    @property
    def short(self) -> bool:
        """Whether there is not enough room."""
        return self.free is not None and self.free < self.deduped + self.replies.block_bytes


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Tickiti's verdicts on the files; only the first three numbers exclude each other.

    ``allow``, ``review`` and ``block`` are its rules for downloads. ``too_large`` are over
    ``max_download`` bytes, too large for one download through the API; ``oversize`` are over
    ``max_attachment``, the default limit for an attachment. ``odd_name`` is not a valid file
    name everywhere, ``no_extension`` has no extension for the rules.
    """

    max_download: int
    max_attachment: int = MAX_ATTACHMENT
    allow: Count = NONE
    review: Count = NONE
    block: Count = NONE
    too_large: Count = NONE
    oversize: Count = NONE
    odd_name: Count = NONE
    no_extension: Count = NONE
    empty: Count = NONE


@dataclass(frozen=True, slots=True)
class Gaps:
    """Tickets and departments of Kayako without a counterpart in Tickiti.

    ``numbers`` counts the tickets with files that the configured map gives no number, ``first``
    names a few of them; None when no map is configured. ``queues`` are the departments with files
    that have no queue; None when no queue is configured.
    """

    numbers: int | None = None
    first: tuple[int, ...] = ()
    queues: tuple[Group, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Counts of what was listed.

    ``years`` go by the creation of an attachment (UTC, key ``2014``, "" unknown), ``sizes`` by the
    buckets that the report has. ``examples`` has the first rows behind each number of the
    verdicts, by its name there.
    """

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
    examples: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)
    kinds: tuple[Group, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan(Survey):
    """What there is, what a run would fetch, and Tickiti's verdicts on it.

    ``tickets`` were looked at, of ``tickets_total`` that the source counts (None: it cannot).
    ``unlisted`` tickets could not be listed, ``short`` are counted by the source but not shown.
    ``ended`` says what ended the dry run early, "" if nothing did: then it covers its whole scope,
    unless ``fast`` is set; ``limits`` says in words how that is less than the whole helpdesk.
    ``articles`` of the knowledge base and steps of the troubleshooter were read, of which
    ``articles_missing`` parts could not be. ``custom_fields`` of tickets a run reads, of which
    ``custom_field_files`` hold files, which are not counted here; None where that is not known.
    ``beyond`` says what no API gives. ``schedule`` is None where requests may be made at any time,
    as fast as can be, and without an estimate.
    """

    source: str
    made_at: int
    ended: str
    tickets: int
    tickets_total: int | None
    unlisted: int
    short: int
    requests: Requests
    disk: Disk
    pace: Pace
    fast: FastLook | None = None
    limits: tuple[str, ...] = ()
    articles: int = 0
    articles_missing: int = 0
    custom_fields: int | None = 0
    custom_field_files: int | None = 0
    beyond: str = ""
    schedule: Schedule | None = None

    @property
    def outside(self) -> Count:
        """The files of articles and steps, which belong to no ticket."""
        found = [group for group in self.kinds if group.key in OUTSIDE]
        return Count(sum(one.n for one in found), sum(one.bytes for one in found))

    @property
    def unserved(self) -> Count:
        """The listed files without a verdict: the API serves no file that belongs to no ticket."""
        judged = (self.verdicts.allow, self.verdicts.review, self.verdicts.block)
        n, size = (sum(count.n for count in judged), sum(count.bytes for count in judged))
        return Count(max(0, self.listed.n - n), max(0, self.listed.bytes - size))

    @property
    def complete(self) -> bool:
        """Whether everything in scope was listed."""
        return not (self.ended or self.unlisted or self.short or self.articles_missing)


def make_plan(
    archive: Archive,
    options: RunOptions,
    dry: Dry,
    gate: Gate,
    *,
    max_download: int,
    per_second: float,
    free: int | None,
    bucket: str,
    hours: Hours,
) -> Plan:
    """Return the report of a dry run over ``archive``.

    ``per_second`` requests may be made (0: no limit) at ``hours``, ``free`` bytes are left on the
    disk, unless the files go to a ``bucket``.
    """
    result = dry.result
    whole = options.scope.whole and not result.ended_by
    seen = survey(archive, result.run_id, gate, max_download=max_download, leftovers=whole)
    total = _tickets(options, result.total)
    requests = _requests(archive, options, dry, seen.todo.n, total)
    pace = _pace(options.concurrency, per_second, dry, requests, seen.todo)
    return Plan(
        **vars(seen),
        source=options.source_name,
        made_at=result.started,
        ended=str(result.ended_by or ""),
        tickets=result.tickets,
        tickets_total=total,
        unlisted=len(result.unlisted) + len(result.unreadable),
        short=result.short,
        requests=requests,
        disk=replace(
            _with_replies(
                _disk(archive, dry, seen.todo.bytes, free, leftovers=whole), dry, requests.threads
            ),
            bucket=bucket,
        ),
        pace=pace,
        fast=result.preview,
        limits=tuple(limits(options.scope.told())),
        articles=result.articles,
        articles_missing=len(result.articles_missing),
        custom_fields=dry.fields and dry.fields[0],
        custom_field_files=dry.fields and dry.fields[1],
        beyond=dry.beyond,
        schedule=schedule(hours, pace.estimated_seconds, seen.todo.bytes),
    )


def schedule(
    hours: Hours, seconds: float | None, size: int, *, at: float | None = None
) -> Schedule | None:
    """Return when a run ends that begins now and fetches so many bytes; None: it may at any time.

    ``seconds`` is how long it takes without windows and rates, None if that is unknown.
    """
    if seconds is None or not hours.settings:
        return None
    at = time.time() if at is None else at
    return Schedule(hours, at, hours.opens(at), hours.ends(at, seconds, round(size * BASE64)))


def _tickets(options: RunOptions, total: int | None) -> int | None:
    """Return how many tickets are in scope; None if unknown: the source counts all ages."""
    if total is None or options.scope.since:
        return None
    return min(total, options.scope.limit_tickets or total)


def _requests(
    archive: Archive, options: RunOptions, dry: Dry, todo: int, total: int | None
) -> Requests:
    """Return the expected requests of a run."""
    tickets = max(dry.result.tickets, total or 0)
    unread = archive.threads.count_unread(replies=options.replies) + tickets - dry.result.tickets
    return Requests(
        pages=dry.pages(tickets),
        lists=tickets,
        fetches=todo,
        threads=unread if options.posts else 0,
        # Two lists, and one for each with its files.
        articles=dry.result.articles + 2 if dry.result.articles else 0,
        fields=_field_requests(archive, options, dry, tickets),
        made=dry.asked.total(),
    )


def _field_requests(archive: Archive, options: RunOptions, dry: Dry, tickets: int) -> int:
    """Return the expected requests for custom fields: where there may be files, two must agree."""
    fields, files = dry.fields or (1, 1)
    unread = archive.threads.count_without_fields(replies=options.replies and not files)
    unread += tickets - dry.result.tickets
    again = tickets if files else 0
    return (unread + again) if fields else 0


def _disk(archive: Archive, dry: Dry, todo: int, free: int | None, *, leftovers: bool) -> Disk:
    equals = archive.queries.equals(dry.result.run_id, leftovers=leftovers)
    saved = dry.by_name.share(1.0) * equals.by_name.bytes
    saved += dry.by_size.share(0.0) * equals.by_size.bytes
    compared = dry.by_name.pairs + dry.by_size.pairs
    method = "sample" if compared else "names"
    return Disk(todo, max(0, todo - round(saved)), method, compared, free)


def _with_replies(disk: Disk, dry: Dry, threads: int) -> Disk:
    """Add the replies of the threads that are to be read, by what a few of them weigh."""
    few = dry.replies
    if not few.n:
        return disk
    size, blocks = (round(threads * total / few.n) for total in (few.bytes, few.blocks))
    return replace(disk, replies=Replies(threads, size, blocks, few.n))


def _pace(concurrency: int, per_second: float, dry: Dry, requests: Requests, todo: Count) -> Pace:
    """Return how long a run takes; unseen tickets after an early end count like the others."""
    seen, lists, fetches = dry.result.tickets, dry.lists, dry.fetches
    factor = requests.lists / seen if dry.result.ended_by and seen else 1.0
    n = round(todo.n * factor)
    ahead = Ahead(requests.total - todo.n + n, n, round(todo.bytes * factor))
    found = estimate(lists, fetches, ahead, concurrency=concurrency, per_second=per_second)
    return Pace(
        concurrency,
        lists.calls,
        lists.seconds,
        fetches.calls,
        fetches.bytes,
        fetches.seconds,
        *((found.seconds, found.low, found.high) if found is not None else (None,)),
    )


OUTSIDE = ("article", "step")
"""The kinds of files that belong to no ticket."""
MOST_KEYS = 2000
"""The most separate groups; further ones are counted together."""
OTHERS = "*"
EXAMPLES = 10
"""Rows kept for each number of the verdicts."""
TRAITS = tuple(one.name for one in fields(Verdicts) if one.name[:4] != "max_")
"""The numbers of the verdicts, by name."""

_LAST_SECOND = 253_402_300_799  # of the year 9999, where the calendar ends

Gate = Callable[[str], str]
"""A function from an extension to ``allow``, ``review`` or ``block``."""


class _Sums:
    """Counts attachments by key, in bounded memory even for a hostile helpdesk."""

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
        """Return the groups, by bytes, largest first."""
        return tuple(
            Group(key, "(others)" if key == OTHERS else title(key), n, size)
            for key, (n, size) in sorted(self._found.items(), key=lambda one: (-one[1][1], one[0]))
        )


def survey(
    archive: Archive, run_id: int, gate: Gate, *, max_download: int, leftovers: bool
) -> Survey:
    """Return the counts of what the dry run ``run_id`` has listed.

    With ``leftovers`` also what earlier runs have left to fetch, as a run would.
    """
    sums: dict[str, _Sums] = {
        name: _Sums()
        for name in ("kind", "holder", "verdict", "department", "type", "extension", "year", "size")
    }
    examples: defaultdict[str, list[Row]] = defaultdict(list)
    answer = functools.lru_cache(MOST_KEYS)(gate)
    for row in archive.queries.listed_in(run_id, leftovers=leftovers):
        if row.state is State.DELETED:
            continue
        size = row.declared_size if row.size is None else row.size
        _count(sums, row, size)
        # The API hands out files of tickets only.
        verdict = (answer(extension_of(row.filename)),) if row.kind not in OUTSIDE else ()
        for trait in (*verdict, *_traits(row, size, max_download)):
            sums["verdict"].add(trait, size)
            if len(examples[trait]) < EXAMPLES:
                examples[trait].append(row)
    extensions = sums["extension"].groups(lambda key: f".{key}" if key else "(none)")
    kinds = sums["kind"]
    verdicts: dict[str, Any] = {name: sums["verdict"].count(name) for name in TRAITS}
    titles = {str(one.department_id): one.title for one in archive.access.queues()}
    departments = tuple(
        distinct_titles(sums["department"].groups(lambda key: _department(titles, key)))
    )
    return Survey(
        listed=kinds.count("listed"),
        todo=kinds.count("todo"),
        stored=kinds.count("stored"),
        verdicts=Verdicts(max_download, **verdicts),
        departments=departments,
        types=sums["type"].groups(),
        extensions=extensions,
        years=tuple(
            sorted(sums["year"].groups(lambda key: key or "unknown"), key=lambda group: group.key)
        ),
        sizes=tuple(_size_group(sums["size"], key) for key in SIZES),
        kinds=sums["holder"].groups(),
        gaps=_gaps(archive, run_id, departments),
        examples={trait: tuple(rows) for trait, rows in examples.items()},
    )


def _traits(row: Row, size: int, max_download: int) -> Iterator[str]:
    """Return what is unusual about a file, as the fields of the verdicts."""
    if size > max_download:
        yield "too_large"
    if size > MAX_ATTACHMENT:
        yield "oversize"
    if not size:
        yield "empty"
    if odd(row.filename):
        yield "odd_name"
    if not extension_of(row.filename):
        yield "no_extension"


def _count(sums: Mapping[str, _Sums], row: Row, size: int) -> None:
    sums["kind"].add("listed", size)
    if row.state in UNFINISHED:
        sums["kind"].add("todo", size)
    elif row.state is State.STORED:
        sums["kind"].add("stored", size)
    sums["holder"].add(row.kind, size)
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


def _department(titles: Mapping[str, str], key: str) -> str:
    return titles.get(key) or {"0": "Trash", "-1": "No ticket"}.get(key, f"Department {key}")


def _gaps(archive: Archive, run_id: int, departments: tuple[Group, ...]) -> Gaps:
    gaps = Gaps()
    if (numbers := archive.queries.unnumbered(run_id)) is not None:
        gaps = replace(gaps, numbers=numbers[0], first=numbers[1])
    if queued := archive.queries.queued():
        known = {"-1", *map(str, queued)}
        gaps = replace(gaps, queues=tuple(one for one in departments if one.key not in known))
    return gaps


def odd(name: str) -> bool:
    """Return whether a name is invalid on some system, or misleading.

    That is: empty or too long, hidden, reserved on Windows, with invisible characters or with
    ones that some system forbids, with a space or a dot at an end.
    """
    composed = unicodedata.normalize("NFC", name)
    return safe_name(composed, SERVED_BYTES) != composed
