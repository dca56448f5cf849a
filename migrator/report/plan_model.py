"""What a dry run tells, as data: one model behind its text, JSON and HTML.

Sizes are bytes, durations seconds, times Unix seconds in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from migrator.archive.records import Count, Group, Row

MAX_ATTACHMENT = 50_000_000
"""Tickiti's default limit for one attachment, 50 MB, from its documentation of system settings."""

NONE = Count()


@dataclass(frozen=True, slots=True)
class Pace:
    """What was measured while planning, and the duration that follows.

    ``list_requests`` took ``list_seconds`` in sum, ``sampled`` fetches ``sample_seconds``.
    ``estimated_seconds`` is None when nothing could be measured; the run will hardly be faster
    than ``low_seconds`` or slower than ``high_seconds``, as far as the measurements tell.
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
class Requests:
    """How many requests a run will make, by kind, and how many the dry run has made."""

    pages: int = 0
    lists: int = 0
    fetches: int = 0
    threads: int = 0
    made: int = 0

    @property
    def total(self) -> int:
        """Sum of what the run will make."""
        return self.pages + self.lists + self.fetches + self.threads


@dataclass(frozen=True, slots=True)
class Disk:
    """The room that a run needs: without and with equal files kept once.

    ``method`` tells how equal files were found: ``names`` (same name and size) or ``sample``
    (the same, corrected by the hashes of ``compared`` pairs). ``free`` is None where unknown.
    """

    plain: int = 0
    deduped: int = 0
    method: str = "names"
    compared: int = 0
    free: int | None = None


@dataclass(frozen=True, slots=True)
class Fast:
    """How the preview went that lists only tickets which the source marks as having files.

    ``marked`` of ``tickets`` are sorted to the front. Of those behind ``looked`` were listed all
    the same, and ``found`` of them had files: ``missed`` is how many attachments that makes of
    all, about. ``fallback`` tells why everything was listed after all, "" if not.
    """

    tickets: int = 0
    marked: int = 0
    probes: int = 0
    looked: int = 0
    found: int = 0
    missed: int = 0
    fallback: str = ""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What Tickiti will say to each file; one file may count in several lines but the first three.

    ``allow``, ``review`` and ``block`` are its rules for downloads. ``too_large`` are over
    ``max_download`` bytes, too large for one download through the API; ``oversize`` are over
    ``max_attachment``, the default limit for an attachment. ``odd_name`` cannot be a file name
    everywhere, ``no_extension`` gives rules nothing to go by.
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
    """What is missing between Kayako's tickets and Tickiti's.

    ``numbers`` counts the tickets with files that the configured map gives no number, ``first``
    names a few of them; None when no map is configured. ``queues`` are the departments with files
    that have no queue; None when no queue is configured.
    """

    numbers: int | None = None
    first: tuple[int, ...] = ()
    queues: tuple[Group, ...] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is, what a run would fetch, and what Tickiti makes of it.

    ``tickets`` were looked at, of ``tickets_total`` that the source counts (None: it cannot).
    ``unlisted`` tickets could not be listed, ``short`` are counted by the source but not shown.
    ``ended`` tells what ended the dry run early, "" if nothing did: then it is the whole truth of
    its scope, unless ``fast`` says otherwise; ``limits`` says in words what keeps that from being
    the whole helpdesk. ``years`` go by the creation of an attachment (UTC,
    key ``2014``, "" unknown), ``sizes`` by the buckets that the report has. ``examples`` has the
    first rows behind each number of the verdicts, by its name there.
    """

    source: str
    made_at: int
    ended: str
    tickets: int
    tickets_total: int | None
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
    unlisted: int
    short: int
    requests: Requests
    disk: Disk
    pace: Pace
    fast: Fast | None = None
    limits: tuple[str, ...] = ()
    examples: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether everything in scope was listed."""
        return not self.ended and not self.unlisted and not self.short
