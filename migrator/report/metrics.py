"""The ledger as metrics of Prometheus, for `/metrics` of the server and for textfiles.

All of it is read from the archive, nothing is counted in the process: so every process of a server
says the same, and a restart loses nothing. Values of labels are those of fixed lists; what is in
none of them counts as ``other``.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from migrator import __version__
from migrator.archive.figures import KINDS
from migrator.archive.queries import Tickets
from migrator.archive.records import Count, State
from migrator.errors import SourceError
from migrator.report.verdict import ATTENTION, CHECKS, Seen, judge, look

if TYPE_CHECKING:
    from migrator.archive import Archive

OTHER: Final = "other"
DELIVERY: Final = ("pending", "delivered", "refused", "too_large", "failed")
_MARKS: Final = {
    "success": "When the last run or sync over the whole helpdesk succeeded.",
    "full_pass": "When the last pass over all tickets began.",
}
_Labels = tuple[str, ...]
_Kinds = Mapping[tuple[State, str], Count]


def _problems(of: type[SourceError] = SourceError) -> Iterator[str]:
    yield of.problem
    for one in of.__subclasses__():
        yield from _problems(one)


OUTCOMES: Final = ("ok", *sorted(set(_problems())))
"""How a request may end."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read from an archive at one moment; times are in Unix seconds.

    ``marks`` has when what succeeded last, ``snapshot`` when the one that is served, or was just
    published, was made.
    """

    seen: Seen
    kinds: _Kinds
    tickets: Tickets
    marks: Mapping[str, int]
    target: str = ""
    snapshot: float | None = None


def read(archive: Archive, *, target: str = "", snapshot: float | None = None) -> Facts:
    """Read all facts at one moment; seconds for a million rows.

    Of several Tickitis that files were delivered to, ``target`` is the one to tell about.
    """
    queries = archive.queries

    def at_once() -> Facts:
        found = {name: queries.mark(name) for name in _MARKS}
        return Facts(
            look(archive),
            archive.figures.by_state_and_kind(),
            queries.tickets(),
            {name: mark.value for name, mark in found.items() if mark},
            target,
            snapshot,
        )

    return queries.together(at_once)


def render(facts: Facts, accept: str = "") -> tuple[bytes, str]:
    """Return the metrics and their content type, in the format that an Accept header wants."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Facts(facts))
    encode, kind = choose_encoder(accept)
    return encode(registry), kind


class _Facts(Collector):
    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        facts = self._facts
        told = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("migrator_build", "The version of migrator.", told)
        yield from _ledger(facts)
        yield from _moments(facts)
        yield from _run(facts.seen)
        yield from _delivery(facts)


def _ledger(facts: Facts) -> Iterator[Metric]:
    sums: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for (state, kind), count in facts.kinds.items():
        key = (state.value, kind if kind in KINDS else OTHER)
        sums[key] += count.n
        sizes[key] += count.bytes
    keys = [(state.value, kind) for state in State for kind in KINDS]
    labels = ("state", "kind")
    for name, told, found in (
        ("migrator_attachments", "Attachments that the helpdesk ever listed.", sums),
        ("migrator_attachments_bytes", "Their bytes, as stored or else as declared.", sizes),
    ):
        yield _labelled(name, told, labels, {key: found[key] for key in [*keys, *found]})
    accepted: dict[_Labels, float] = {
        (one.value,): facts.seen.accepted.get(one, Count()).n for one in ATTENTION
    }
    told = "Losses that somebody accepted, which count as settled."
    yield _labelled("migrator_accepted_losses", told, ("state",), accepted)
    yield GaugeMetricFamily("migrator_tickets", "Tickets in the archive.", facts.tickets.known)
    told = "What `migrator status` says of the archive: 0 is complete; else as the exit codes."
    yield GaugeMetricFamily("migrator_verdict_code", told, judge(facts.seen).exit_code)


def _labelled(
    name: str, told: str, labels: Collection[str], found: Mapping[_Labels, float]
) -> Metric:
    family = GaugeMetricFamily(name, told, labels=list(labels))
    for values, number in found.items():
        family.add_metric(list(values), number)
    return family


def _moments(facts: Facts) -> Iterator[Metric]:
    """Yield times: an age would stand still in a file that nobody writes any more."""
    for name, told in _MARKS.items():
        yield from _time(f"last_{name}", told, facts.marks.get(name))
    for kind in CHECKS:
        check = facts.seen.checks.get(kind)
        told = f"When the last {kind} ended, whatever it found."
        yield from _time(f"last_{kind}", told, check.finished_at if check else None)
        if check:
            told = f"Exit code of the last {kind}."
            yield GaugeMetricFamily(f"migrator_last_{kind}_exit_code", told, check.exit_code)
    failing = facts.seen.failing
    told = "When the oldest failure that lasts, and that nobody accepted, began."
    yield from _time("oldest_failure", told, failing.since if failing else None)
    yield from _time("snapshot", "When the served or published snapshot was made.", facts.snapshot)


def _time(name: str, told: str, at: float | None) -> Iterator[Metric]:
    if at is not None:
        yield GaugeMetricFamily(f"migrator_{name}_timestamp_seconds", told, at)


def _run(seen: Seen) -> Iterator[Metric]:
    """Yield what is known of the latest run; its counters begin at 0 with each run."""
    last = seen.last
    if last is None:
        return
    yield from _time("run_start", "When the latest run or sync began.", last.started_at)
    yield from _time("run_end", "When the latest run or sync ended.", last.finished_at)
    told = "Whether the latest run or sync is at work."
    yield GaugeMetricFamily("migrator_run_at_work", told, int(seen.at_work))
    if last.exit_code is not None:
        told = "Exit code of the latest run or sync."
        yield GaugeMetricFamily("migrator_run_exit_code", told, last.exit_code)
    facts = seen.progress or {}
    requests = facts.get("requests")
    counted: Counter[str] = Counter()
    for outcome, number in (requests if isinstance(requests, Mapping) else {}).items():
        counted[outcome if outcome in OUTCOMES else OTHER] += int(_number(number) or 0)
    family = CounterMetricFamily(
        "migrator_run_requests", "Requests of the latest run, by outcome.", labels=["outcome"]
    )
    for outcome in dict.fromkeys([*OUTCOMES, *counted]):
        family.add_metric([outcome], counted[outcome])
    yield family
    for key, name, told in (
        ("tickets", "tickets", "Tickets that the latest run has listed."),
        ("attachments", "attachments", "Attachments that the latest run has settled."),
        ("bytes", "received_bytes", "Bytes of files that the latest run has received."),
        ("pauses", "pauses", "Pauses of the latest run: asked for, or the helpdesk was away."),
    ):
        if (value := _number(facts.get(key))) is not None:
            yield CounterMetricFamily(f"migrator_run_{name}", told, value)
    gauges = [("share", "progress_ratio", "Estimated share that is done, 0 to 1.")]
    if seen.at_work:
        gauges += [
            ("seconds_left", "remaining_seconds", "Estimated time until the run ends."),
            ("paused", "pause_remaining_seconds", "Time until the helpdesk is asked again."),
            ("at_once", "requests_at_once", "Requests that may be in flight now."),
        ]
    for key, name, told in gauges:
        if (value := _number(facts.get(key))) is not None:
            yield GaugeMetricFamily(f"migrator_run_{name}", told, value)


def _number(value: object) -> float | None:
    """Return a number of the recorded progress, which is not trusted; None for anything else."""
    usable = isinstance(value, int | float) and 0 <= value < 1e18
    return float(value) if usable else None  # type: ignore[arg-type]


def _delivery(facts: Facts) -> Iterator[Metric]:
    found = facts.seen.deliveries
    if not found:
        return
    most = max(found, key=lambda one: found[one].get("delivered", Count()).n)
    here = found.get(facts.target, found[most])
    counts: dict[_Labels, Count] = {(one,): here.get(one, Count()) for one in DELIVERY}
    told = "Files of tickets, by their state in the live Tickiti."
    numbers: dict[_Labels, float] = {key: count.n for key, count in counts.items()}
    yield _labelled("migrator_delivery_files", told, ("state",), numbers)
    sizes: dict[_Labels, float] = {key: count.bytes for key, count in counts.items()}
    yield _labelled("migrator_delivery_files_bytes", "Their bytes.", ("state",), sizes)
