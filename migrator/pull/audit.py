"""The audit: fetch a sample again from the source and compare its bytes with ours.

It reads our own files as well, so that it is clear which side of a difference has changed.
Contents are hashed and dropped: no file is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from migrator.archive.records import Row, Work
from migrator.blobs.base import Store, Verdict
from migrator.errors import Interrupted, MigratorError, NotFound, SourceError
from migrator.events import AttachmentAudited, Listener, ignore
from migrator.pull.fetch import recall
from migrator.pull.options import Stop
from migrator.pull.verify import fetch_anywhere
from migrator.sources.base import Fetched, HashSink, Source, for_each, in_pool, raise_if_final

CONFIDENCE = 0.95


def upper_bound(found: int, asked: int, confidence: float = CONFIDENCE) -> float:
    """Return the upper bound of a share in the whole at that confidence.

    ``found`` of the ``asked`` ones had the trait; 1.0 when all had, or none was asked. One-sided:
    with a larger share, so few would be found with a probability below 1 - ``confidence``. It is
    the exact Clopper-Pearson bound.
    """
    if found >= asked:
        return 1.0
    doubt = 1.0 - confidence
    if not found:
        return -math.expm1(math.log(doubt) / asked)
    ways = [_log_choose(asked, k) for k in range(found + 1)]
    low, high = found / asked, 1.0
    while low < (middle := (low + high) / 2) < high:
        yes, no = math.log(middle), math.log1p(-middle)
        at_most = math.fsum(
            math.exp(way + k * yes + (asked - k) * no) for k, way in enumerate(ways)
        )
        low, high = (middle, high) if at_most > doubt else (low, middle)
    return high


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def percent(share: float) -> str:
    """Return a share with two significant digits, rounded up so that "fewer than" stays true."""
    number = share * 100
    places = max(0, 1 - math.floor(math.log10(number))) if number > 0 else 0
    text = f"{math.ceil(round(number * 10**places, 6)) / 10**places:.{places}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


KEPT = 10_000
"""The most findings of one kind that are named; all are counted."""

DRAIN = 30.0
"""Seconds that requests in flight may go on after the first request to stop."""

AGREED, DIFFER, VANISHED, UNASKED = "agreed", "differ", "vanished", "unasked"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for one attachment of the sample; sizes in bytes, hashes in hexadecimal.

    ``verdict`` compares the source with the ledger: agreed, differ, vanished (the source has no
    such attachment or no bytes of it any more) or unasked (it did not answer). ``ours`` is the
    result of reading our file, ``ours_reason`` why it could not be read. ``again`` is the hash of
    a second fetch, made when the first differs. ``reason`` is a sentence. Both reasons may be
    empty. ``received`` counts bytes from the network.
    """

    row: Row
    verdict: str
    ours: Verdict
    sha256: str | None = None
    size: int | None = None
    again: str | None = None
    reason: str = ""
    received: int = 0
    ours_reason: str = ""


@dataclass(slots=True)
class Findings:
    """Findings of one kind: their number, and the first of them by id."""

    n: int = 0
    named: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """Count one more, and keep it while there is room."""
        self.n += 1
        if len(self.named) < KEPT:
            self.named.append(finding)


@dataclass(slots=True)
class AuditReport:
    """The result of an audit of ``sample`` out of ``population`` stored attachments.

    ``worth`` is the size of an equally informative sample without strata; None for ``sample``
    itself. ``ours`` are attachments whose file in the archive is damaged or lost, whatever the
    source says. ``bytes`` counts those from the network. ``ended_by`` is what stopped it early.
    """

    population: int
    sample: int
    worth: int | None = None
    agreed: int = 0
    differ: Findings = field(default_factory=Findings)
    vanished: Findings = field(default_factory=Findings)
    unasked: Findings = field(default_factory=Findings)
    ours: Findings = field(default_factory=Findings)
    bytes: int = 0
    ended_by: MigratorError | None = None

    @property
    def compared(self) -> int:
        """Attachments that the source sent and that were compared."""
        return self.agreed + self.differ.n

    @property
    def bound(self) -> float | None:
        """The upper bound of the share of differing ones, at 95 % confidence.

        None where nothing was compared; the exact share where everything stored was.
        """
        if not self.compared:
            return None
        if self.compared >= self.population:
            return self.differ.n / self.compared
        worth = self.sample if self.worth is None else self.worth
        return upper_bound(self.differ.n, max(1, self.compared * worth // max(1, self.sample)))

    @property
    def statement(self) -> str:
        """What the sample proves, in one sentence."""
        if self.bound is None:
            return "Nothing was compared."
        found = f"{self.differ.n:,} of {self.compared:,} differ"
        if self.compared >= self.population:
            return f"{found}: that is everything that is stored."
        if self.bound >= 1:
            return f"{found}."
        sure = f"{CONFIDENCE * 100:.0f} % confidence"
        return f"{found}: with {sure} fewer than {percent(self.bound)} do."

    @property
    def exit_code(self) -> int:
        """6 for a difference or damage, else what ended the audit, else 3 for gaps in it, else 0.

        The most serious comes first, also of an audit that ended early.
        """
        if self.differ.n or self.ours.n:
            return 6
        if self.ended_by is not None:
            return self.ended_by.exit_code
        return 3 if self.unasked.n else 0

    def take(self, finding: Finding) -> None:
        """Add one finding."""
        self.bytes += finding.received
        if finding.ours is not Verdict.OK:
            self.ours.add(finding)
        kinds = {DIFFER: self.differ, VANISHED: self.vanished, UNASKED: self.unasked}
        if finding.verdict in kinds:
            kinds[finding.verdict].add(finding)
        else:
            self.agreed += 1


async def audit(
    rows: Iterator[Row],
    report: AuditReport,
    source: Source,
    blobs: Store,
    *,
    concurrency: int,
    held: Iterable[Row] = (),
    pool: Executor | None = None,
    listener: Listener = ignore,
    stop: Stop | None = None,
) -> None:
    """Fetch ``rows`` again, compare them, and add the findings to ``report``.

    ``held`` are some files in custom fields, for :func:`~migrator.pull.fetch.recall`.

    What ends an audit early (a source that refuses or is down, a request to stop) is in
    ``report.ended_by``, beside all that was found until then.
    """
    stop = stop or Stop()
    examiner = _Examiner(source, blobs, pool)
    try:  # a source that is not there at all is one finding, not one for each attachment
        await source.probe()
        await recall(source, held)
    except MigratorError as error:
        report.ended_by = error
        return

    async def compare(row: Row) -> None:
        try:
            finding = await examiner(row)
        except MigratorError as error:
            report.ended_by = report.ended_by or error
            return
        report.take(finding)
        told = finding.verdict, finding.ours.value, finding.received, report.sample
        listener(AttachmentAudited(row.id, row.ticket_id, *told))

    comparing = for_each(
        rows,
        compare,
        workers=concurrency,
        stopping=lambda: stop.asked or report.ended_by is not None,
    )
    await stop.guard(comparing, drain=DRAIN, listener=listener)
    if stop.asked:
        # The error of a stopped request is only a consequence of that.
        report.ended_by = Interrupted("interrupted; nothing was changed; the next one starts over")
    for findings in (report.differ, report.vanished, report.unasked, report.ours):
        findings.named.sort(key=lambda finding: finding.row.id)


class _Examiner:
    """Compares one attachment after the other."""

    def __init__(self, source: Source, blobs: Store, pool: Executor | None) -> None:
        self._source = source
        self._blobs = blobs
        self._pool = pool

    async def __call__(self, row: Row) -> Finding:
        """Fetch an attachment again and return the finding; raises what ends the audit."""
        assert row.sha256 is not None  # noqa: S101 - only stored ones are drawn
        assert row.size is not None  # noqa: S101
        ours = await in_pool(self._pool, partial(self._blobs.examine, row.sha256, row.size))
        return replace(await self._asked(row, ours.verdict), ours_reason=ours.reason)

    async def _asked(self, row: Row, ours: Verdict) -> Finding:
        try:
            return await self._compare(row, ours)
        except NotFound:
            return Finding(row, VANISHED, ours, reason="the source has no such attachment any more")
        except SourceError as error:
            raise_if_final(error)
            return Finding(row, UNASKED, ours, reason=str(error))

    async def _compare(self, row: Row, ours: Verdict) -> Finding:
        first = await self._fetch(row)
        sha256, size = first.sink.sha256, first.sink.size
        if sha256 == row.sha256:
            return Finding(row, AGREED, ours, sha256, size, received=size)
        if not first.contents.present:
            reason = "the source has lost its bytes: its reply is empty"
            return Finding(row, VANISHED, ours, reason=reason)
        again, received = None, size
        with suppress(MigratorError):  # the first answer stands, also when we are stopped
            second = await self._fetch(row)
            again, received = second.sink.sha256, size + second.sink.size
        if again is None:
            reason = "asked again, the source did not answer"
        elif again == sha256:
            reason = "the source sends these other bytes, the same ones twice"
        elif again == row.sha256:
            reason = "asked again, the source sends our bytes: it does not answer steadily"
        else:
            reason = "the source sends other bytes each time: it does not answer steadily"
        return Finding(row, DIFFER, ours, sha256, size, again, reason, received)

    async def _fetch(self, row: Row) -> Fetched[HashSink]:
        work = Work(
            row.id,
            row.ticket_id,
            row.declared_size,
            row.filename,
            row.attempts,
            kind=row.kind,
            place=row.place,
        )
        return await fetch_anywhere(self._source, work, HashSink)
