"""Samples of what is stored, drawn so that every kind of attachment has its say.

The stored attachments are sorted into strata by department, by the year in which the source got
them, and by size. Each stratum gets its share of the sample, and at least one place where there
are as many places as strata. Two passes over the rows, memory for the strata alone, and the same
sample for the same seed and the same rows.
"""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

from migrator.archive.checkpoint import Checkpoint
from migrator.archive.reading import ROW, row_from
from migrator.archive.records import Row

_PAGE = 1000
_STEPS = (0, 10 << 10, 1 << 20, 25 << 20)
"""The largest sizes of the steps, in bytes; the last step has no end."""

_LAST_SECOND = 253_402_300_799  # of the year 9999: SQLite's calendar ends there
_STRATUM = f"""
    t.department_id,
    CAST(iif(a.created_at BETWEEN 1 AND {_LAST_SECOND},
        strftime('%Y', a.created_at, 'unixepoch'), 0) AS INTEGER),
    {" + ".join(f"(a.size > {top})" for top in _STEPS)}"""
_STORED = "FROM attachments AS a JOIN tickets AS t ON t.id = a.ticket_id WHERE a.state = 'stored'"


class Stratum(NamedTuple):
    """A kind of attachment: its department, year (0: unknown), and step of size from 0 on."""

    department_id: int
    year: int
    step: int


@dataclass(frozen=True, slots=True)
class Sample:
    """Which places every stratum has; ``population`` counts what is stored.

    ``strata`` is the number of strata, of which ``places`` names those with a place.
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
        """How large a sample without strata would be that tells as much (Kish's effective size).

        Less than ``size`` where rare kinds take places from others, so that these have less than
        their share.
        """
        if len(self.places) < self.strata or not self.places:
            return self.size  # chance has given all attachments the same chance
        spread = sum(Fraction(self.counts[key] ** 2, n) for key, n in self.places.items())
        return math.floor(self.population**2 / spread)


class Samples:
    """Draws samples of an archive; errors as of :class:`Ledger`, from any thread."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._db = checkpoint

    def plan(self, wanted: int | Fraction, *, seed: int) -> Sample:
        """Give each stratum its places: ``wanted`` is a number of attachments or a share of all.

        A share is rounded up, so that something is drawn where anything is stored.
        """
        sql = f"SELECT {_STRATUM}, count(*) {_STORED} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        counts = {Stratum(*key): n for *key, n in self._db.execute(sql)}
        population = sum(counts.values())
        number = math.ceil(wanted * population) if isinstance(wanted, Fraction) else wanted
        places = allocate(counts, min(number, population), seed=seed)
        return Sample(population, len(counts), counts, places, seed)

    def draw(self, sample: Sample) -> Iterator[Row]:
        """Yield the attachments of a sample by id.

        Rows that come, go or change between the two passes make it a little larger or smaller.
        """
        dice = random.Random(sample.seed)  # noqa: S311 - a sample, not a secret
        left, places = dict(sample.counts), dict(sample.places)
        for attachment_id, stratum in self._strata():
            wanted = places.get(stratum, 0)
            chosen = dice.random() * left.get(stratum, 0) < wanted
            left[stratum] = left.get(stratum, 0) - 1
            if not chosen:
                continue
            places[stratum] = wanted - 1
            sql = f"SELECT {ROW} FROM ledger WHERE attachment_id = ?"
            if (found := self._db.one(sql, (attachment_id,))) is not None:
                yield row_from(found)

    def _strata(self) -> Iterator[tuple[int, Stratum]]:
        sql = f"SELECT a.id, {_STRATUM} {_STORED} AND a.id > ? ORDER BY a.id LIMIT {_PAGE}"
        after = 0
        while page := self._db.execute(sql, (after,)):
            for attachment_id, *key in page:
                yield attachment_id, Stratum(*key)
            after = page[-1][0]


def allocate(counts: Mapping[Stratum, int], number: int, *, seed: int) -> dict[Stratum, int]:
    """Share ``number`` places out in proportion to ``counts``, at most the sum of these.

    Every stratum gets at least one; where there are fewer places than strata, chance decides,
    in proportion again, and neighbours in the order of the strata are not left out together.
    """
    total = sum(counts.values())
    if number < len(counts):
        start = random.Random(seed).randrange(total)  # noqa: S311 - a sample, not a secret
        ends = [(end * number + start) // total for end in accumulate(counts.values(), initial=0)]
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
