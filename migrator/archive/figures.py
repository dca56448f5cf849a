"""The ledger broken down, in a bounded number of rows, and samples of what is stored.

A sample is drawn so that it covers every kind of attachment: what is stored is sorted into strata
by department, by the year in which the source got it, and by size. Each stratum gets its share, and
at least one place where there are as many places as strata. Two passes over the rows, memory for
the strata alone, and the same sample for the same seed and the same rows.
"""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from migrator.archive.checkpoint import Checkpoint, Tuple
from migrator.archive.records import Count, Group, PacePoint, Row, RowFilter, State
from migrator.archive.sql import ROW, Values, clean, fit, row_from, state_from, state_list

Key = tuple[str, str]
"""A group: one of DIMENSIONS and the key there."""

_KIB, _MIB = 1 << 10, 1 << 20
SIZES: Mapping[str, tuple[str, int | None]] = {
    "0": ("empty", 0),
    "1K": ("up to 1 KiB", _KIB),
    "10K": ("up to 10 KiB", 10 * _KIB),
    "100K": ("up to 100 KiB", 100 * _KIB),
    "1M": ("up to 1 MiB", _MIB),
    "5M": ("up to 5 MiB", 5 * _MIB),
    "25M": ("up to 25 MiB", 25 * _MIB),
    "50M": ("up to 50 MiB", 50 * _MIB),
    "100M": ("up to 100 MiB", 100 * _MIB),
    "1G": ("up to 1 GiB", 1024 * _MIB),
    "more": ("over 1 GiB", None),
}
"""The steps of the histogram of sizes: key, title, and largest size (None: any)."""

KINDS = {
    "post": "Attachments of posts",
    "customfield": "Files in custom fields",
    "article": "Knowledge base",
    "step": "Troubleshooter",
    "linked": "Linked images and files",
}
"""What holds a file."""

_LAST_SECOND = 253_402_300_799  # of the year 9999: SQLite's calendar ends there


def _dimensions(a: str = "", t: str = "", b: str = "") -> dict[str, str]:
    """Return SQL that names the group of a row; the arguments prefix its three tables."""
    steps = " ".join(
        f"WHEN {_bytes(a)} <= {top} THEN '{key}'"
        for key, (_, top) in SIZES.items()
        if top is not None
    )
    return {
        "state": f"{a}state",
        "department": f"CAST(coalesce({t}department_id, -1) AS TEXT)",
        "kind": f"{a}kind",
        "type": f"coalesce({b}mime_type, {a}declared_type)",
        "year": f"iif({a}created_at BETWEEN 1 AND {_LAST_SECOND}, "
        f"strftime('%Y', {a}created_at, 'unixepoch'), '')",
        "size": f"CASE {steps} ELSE 'more' END",
        "problem": f"{a}state || '/' || coalesce({a}problem, '')",
    }


def _bytes(a: str = "") -> str:
    return f"coalesce({a}size, {a}declared_size)"


DIMENSIONS = tuple(_dimensions())
"""What the ledger can be broken down by."""
_OF_VIEW = _dimensions()
_OF_TABLES = _dimensions("a.", "t.", "b.")
# The view joins five tables, whether a query needs them or not: a million rows would take long.
_TABLES = "attachments AS a LEFT JOIN tickets AS t ON t.id = a.ticket_id"

# By content first: both tables are read in the order of their index, each page once.
_TYPES = """
    SELECT b.mime_type AS key, s.n AS n, s.n * b.size AS bytes
    FROM (SELECT sha256, count(*) AS n FROM attachments WHERE sha256 IS NOT NULL GROUP BY sha256)
        AS s CROSS JOIN blobs AS b ON b.sha256 = s.sha256
    UNION ALL
    SELECT declared_type, 1, declared_size FROM attachments WHERE sha256 IS NULL"""
_DUPLICATE = """sha256 IS NOT NULL AND EXISTS (
    SELECT 1 FROM attachments AS o WHERE o.sha256 = ledger.sha256 AND o.id < attachment_id)"""


def matches(only: RowFilter, values: Values) -> str:
    """Translate a filter into a condition on the view ``ledger``."""
    texts = {
        _OF_VIEW["type"]: only.types,
        _OF_VIEW["year"]: only.years,
        _OF_VIEW["size"]: only.sizes,
        "coalesce(problem, '')": only.problems,
        "kind": only.kinds,
    }
    numbers = {"department_id": only.departments, "queue_id": only.queues}
    where: list[str] = []
    for key, wanted in texts.items():
        where += [] if wanted is None else [_among(key, map(clean, wanted), values)]
    for key, given in numbers.items():
        where += [] if given is None else [_among(key, map(fit, given), values)]
    if only.states is not None:
        where.append(f"state IN ({state_list(only.states)})")
    if only.duplicates:
        where.append(_DUPLICATE)
    if only.accepted is not None:
        where.append(f"accepted IS {'NOT ' if only.accepted else ''}NULL")
    return " AND ".join(where) or "true"


def _among(expression: str, some: Iterable[object], values: Values) -> str:
    return f"{expression} IN ({', '.join(map(values, some))})"


# Grouped by department first: looking the queue up for a million rows would take seconds.
_BY_QUEUE = """
    WITH tallied AS (
        SELECT coalesce(t.department_id, -1) AS department, a.state AS state, count(*) AS n,
            sum(coalesce(a.size, a.declared_size)) AS bytes
        FROM attachments AS a LEFT JOIN tickets AS t ON t.id = a.ticket_id
        GROUP BY 1, a.state
    )
    SELECT coalesce(c.queue_id, m.queue_id, department) AS queue, state, sum(n), sum(bytes)
    FROM tallied
    LEFT JOIN queues AS c ON c.department_id = department AND c.origin = 'config'
    LEFT JOIN queues AS m ON m.department_id = department AND m.origin = 'command'
    GROUP BY queue, state"""

_STEPS = (0, 10 << 10, 1 << 20, 25 << 20)
"""The largest sizes of the steps, in bytes; the last step is open."""

_STRATUM = f"""
    coalesce(t.department_id, -1),
    CAST(iif(a.created_at BETWEEN 1 AND {_LAST_SECOND},
        strftime('%Y', a.created_at, 'unixepoch'), 0) AS INTEGER),
    {" + ".join(f"(a.size > {top})" for top in _STEPS)}"""
_STORED = (
    "FROM attachments AS a LEFT JOIN tickets AS t ON t.id = a.ticket_id WHERE a.state = 'stored'"
)


class Stratum(NamedTuple):
    """A kind of attachment: its department, year (0: unknown), and step of size from 0 on."""

    department_id: int
    year: int
    step: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The places of every stratum; ``population`` counts what is stored.

    ``strata`` is the number of strata; ``places`` names those that have a place.
    """

    population: int
    strata: int
    counts: Mapping[Stratum, int]
    places: Mapping[Stratum, int]
    seed: int

    @property
    def size(self) -> int:
        """How many attachments will be drawn."""
        return sum(self.places.values())

    @property
    def worth(self) -> int:
        """The size of an equally informative sample without strata (Kish's effective size).

        Less than ``size`` where rare kinds take places from others, which then have less than
        their share.
        """
        if len(self.places) < self.strata or not self.places:
            return self.size  # all attachments had the same chance
        spread = sum(Fraction(self.counts[key] ** 2, n) for key, n in self.places.items())
        return math.floor(self.population**2 / spread)


class Figures:
    """Break-downs and samples, for any thread. Every method raises ArchiveError or a subclass."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._db = checkpoint

    def problems(self) -> list[tuple[State, str | None, int]]:
        """Return (state, problem, number), most frequent first, but for stored without problem."""
        sql = """
            SELECT state, problem, count(*) AS n FROM attachments
            WHERE state <> 'stored' OR problem IS NOT NULL
            GROUP BY state, problem ORDER BY n DESC, state, problem"""
        return [(state_from(state), *more) for state, *more in self._db.execute(sql)]

    def by_department(
        self, states: Collection[State] | None = None, *, unaccepted: bool = False
    ) -> list[Group]:
        """Break the attachments in ``states`` (None: all) down by department, largest first.

        With ``unaccepted`` without those whose loss somebody accepted.
        """
        where = "" if states is None else f"WHERE state IN ({state_list(states)})"
        if unaccepted:
            where += " AND " if where else "WHERE "
            where += "a.id NOT IN (SELECT attachment_id FROM accepted)"
        titles = {"0": "Trash", "-1": "No ticket"}
        titles |= self._db.execute("SELECT CAST(id AS TEXT), title FROM departments")
        return [
            Group(key, titles.get(key, f"Department {key}"), n, size)
            for key, n, size in self._broken("department", where)
        ]

    def by_type(self, limit: int = -1) -> list[Group]:
        """Break all down by type: detected in the bytes where we hold them, else as declared.

        At most ``limit`` groups, the largest; negative: all.
        """
        return [Group(key, key, n, size) for key, n, size in self._sums(_TYPES, limit)]

    def by_year(self) -> list[Group]:
        """Break all down by the year (UTC) in which Kayako got them, "" if unknown, in order."""
        found = sorted(self._broken("year"))
        return [Group(key, key or "unknown", n, size) for key, n, size in found]

    def by_size(self) -> list[Group]:
        """Break all down by the steps of :data:`SIZES`, every one of them, in order."""
        found = {key: (n, size) for key, n, size in self._broken("size")}
        return [Group(key, title, *found.get(key, (0, 0))) for key, (title, _) in SIZES.items()]

    def by_kind(self) -> list[Group]:
        """Break all down by what holds the files, the largest group first."""
        return [Group(key, KINDS.get(key, key), n, size) for key, n, size in self._broken("kind")]

    def by_state_and_kind(self) -> dict[tuple[State, str], Count]:
        """Return the sums of each state and kind of which there is any. Reads all rows."""
        sql = f"SELECT state, kind, count(*), sum({_bytes()}) FROM attachments GROUP BY 1, 2"
        found = self._db.execute(sql)
        return {(state_from(state), kind): Count(n, size) for state, kind, n, size in found}

    def by_queue(self) -> dict[int, dict[State, Count]]:
        """Return the ledger's sums for every queue; states that a queue lacks are left out.

        Reads all rows: a second for a million.
        """
        found: defaultdict[int, dict[State, Count]] = defaultdict(dict)
        for queue, state, n, size in self._db.execute(_BY_QUEUE):
            found[queue][state_from(state)] = Count(n, size)
        return dict(found)

    def pace(self, start: int, end: int | None, *, points: int = 120) -> list[PacePoint]:
        """Return what was stored from ``start`` to ``end`` (Unix seconds), in equal steps.

        Without ``end`` up to the last one stored. Empty when nothing was stored.
        """
        if end is None:
            sql = "SELECT coalesce(max(stored_at), 0) FROM attachments"
            ((end,),) = self._db.execute(sql)
        step = max(1, -(-(end - start + 1) // points))
        sql = """
            SELECT (stored_at - :start) / :step AS step, count(*), sum(size) FROM attachments
            WHERE stored_at BETWEEN :start AND :end GROUP BY 1"""
        asked = {"start": start, "end": end, "step": step}
        found = {row[0]: row[1:] for row in self._db.execute(sql, asked)}
        steps = range((end - start) // step + 1) if found else ()
        return [PacePoint(start + n * step, *found.get(n, (0, 0))) for n in steps]

    def examples(self, wanted: Mapping[Key, int]) -> dict[Key, list[int]]:
        """Return the first ids of each wanted group, as many as ``wanted`` says.

        One pass over the ledger for all groups together; it stops when all have enough.
        """
        found: dict[Key, list[int]] = {key: [] for key in wanted}
        unfilled = {key for key, number in wanted.items() if number}
        after = 0
        while unfilled:
            names = sorted({name for name, _ in unfilled})
            page = self._named(names, unfilled, after)
            if not page:
                break
            after = page[-1][0]
            for attachment, *values in page:
                for key in unfilled.intersection(zip(names, values, strict=True)):
                    found[key].append(attachment)
                    if len(found[key]) == wanted[key]:
                        unfilled.remove(key)
        return found

    def plan_sample(self, wanted: int | Fraction, *, seed: int) -> Sample:
        """Return the places of each stratum; ``wanted`` is a number of attachments, or a share.

        A share is rounded up, so that something is drawn where anything is stored.
        """
        sql = f"SELECT {_STRATUM}, count(*) {_STORED} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        counts = {Stratum(*key): n for *key, n in self._db.execute(sql)}
        population = sum(counts.values())
        number = math.ceil(wanted * population) if isinstance(wanted, Fraction) else wanted
        places = allocate(counts, min(number, population), seed=seed)
        return Sample(population, len(counts), counts, places, seed)

    def draw_sample(self, sample: Sample) -> Iterator[Row]:
        """Yield the attachments of a sample by id.

        Rows that come, go or change between the two passes make it a little larger or smaller.
        """
        dice = random.Random(sample.seed)  # noqa: S311 - a sample, not a secret
        left, places = dict(sample.counts), dict(sample.places)
        sql = f"SELECT a.id, {_STRATUM} {_STORED} AND a.id > :after ORDER BY a.id LIMIT :most"
        for attachment_id, *key in self._db.stream(sql, 0):
            stratum = Stratum(*key)
            wanted = places.get(stratum, 0)
            chosen = dice.random() * left.get(stratum, 0) < wanted
            left[stratum] = left.get(stratum, 0) - 1
            if not chosen:
                continue
            places[stratum] = wanted - 1
            sql = f"SELECT {ROW} FROM ledger WHERE attachment_id = ?"
            if (found := self._db.one(sql, (attachment_id,))) is not None:
                yield row_from(found)

    def _named(self, dimensions: Sequence[str], keys: Collection[Key], after: int) -> list[Tuple]:
        """Return a page of (attachment id, its key in each dimension), by id above ``after``.

        Only of those in one of the groups ``keys``: soon these are few, and skipping the others
        here takes a fraction of the time.
        """
        columns = ", ".join(_OF_TABLES[name] for name in dimensions)
        joins = "LEFT JOIN blobs AS b ON b.sha256 = a.sha256" if "type" in dimensions else ""
        values = Values()
        groups = [
            _among(_OF_TABLES[name], (key for its, key in keys if its == name), values)
            for name in dimensions
        ]
        sql = f"""
            SELECT a.id, {columns} FROM {_TABLES} {joins}
            WHERE a.id > {values(after)} AND ({" OR ".join(groups)})
            ORDER BY a.id LIMIT {values(self._db.page)}"""
        return self._db.execute(sql, values)

    def _broken(self, dimension: str, where: str = "") -> list[tuple[str, int, int]]:
        tables = _TABLES if dimension == "department" else "attachments AS a"
        key = _OF_TABLES[dimension]
        rows = f"SELECT {key} AS key, 1 AS n, {_bytes('a.')} AS bytes FROM {tables} {where}"
        return self._sums(rows)

    def _sums(self, rows: str, limit: int = -1) -> list[tuple[str, int, int]]:
        """Return (key, number, bytes) of every group of such rows, the largest first."""
        sql = f"""
            SELECT key, sum(n), sum(bytes) AS bytes FROM ({rows})
            GROUP BY key ORDER BY bytes DESC, key LIMIT ?"""
        return [(key, n, size) for key, n, size in self._db.execute(sql, (limit,))]


def allocate(counts: Mapping[Stratum, int], number: int, *, seed: int) -> dict[Stratum, int]:
    """Divide ``number`` places in proportion to ``counts``, at most their sum.

    Every stratum gets at least one. With fewer places than strata they are drawn, again in
    proportion, and so that neighbouring strata are not left out together.
    """
    total = sum(counts.values())
    if number < len(counts):
        start = random.Random(seed).randrange(total)  # noqa: S311 - a sample, not a secret
        ends = [
            (end * number + start) // total
            for end in itertools.accumulate(counts.values(), initial=0)
        ]
        shares = {key: ends[i + 1] - ends[i] for i, key in enumerate(counts)}
        return {key: share for key, share in shares.items() if share}
    given: dict[Stratum, int] = {}
    left = dict(counts)
    while small := [key for key, count in left.items() if count * number < total]:
        for key in small:
            given[key] = 1
            total -= left.pop(key)
        number -= len(small)
    given |= {key: count * number // total for key, count in left.items()}
    over = number - sum(given[key] for key in left)
    by_rest = sorted(left, key=lambda key: (-(left[key] * number % total), key))
    for key in by_rest[:over]:
        given[key] += 1
    return given
