"""The report for people: the closing ledger as a sum, and what went wrong last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from migrator.archive.records import Count, Group, Row, RunInfo, State
from migrator.report import verdict
from migrator.report.model import Report
from migrator.report.plain import brief, human_bytes, human_duration, iso_time, shown

GROUPS_SHOWN = 20
_NAME = 255
_WHY = 500
ORDER = (
    State.STORED,
    State.MISSING,
    State.GONE,
    State.DELETED,
    State.FAILED,
    State.PENDING,
)
MEANING = {
    State.STORED: "in the archive",
    State.MISSING: "listed by the source, which has no bytes for them",
    State.GONE: "dropped at the source before we had them",
    State.DELETED: "in the archive, no longer listed by the source",
    State.FAILED: "could not be fetched; tried again by the next run",
    State.PENDING: "not fetched yet",
}


def render(report: Report) -> str:
    """Write the whole report as text that ends with a line end."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"Ledger of {shown(report.archive)}, {iso_time(report.generated_at)}"
    yield ""
    yield from ledger(report.states)
    yield ""
    files = report.files
    on_disk = f"{files.n:,} ({human_bytes(files.bytes)})"
    yield f"Tickets: {report.tickets:,}. Different files on disk: {on_disk}."
    saved = report.duplicates
    if saved.n:
        yield f"Duplicates, kept once: {saved.n:,} attachments ({human_bytes(saved.bytes)} saved)."
    if report.threads_missing:
        yield f"Tickets whose posts have not been read yet: {report.threads_missing:,}."
    if report.last_run:
        yield describe_run(report.last_run)
    yield from _groups("By department", report.departments)
    yield from _groups("By type", report.types)
    yield from _groups("By year", report.years)
    yield from _groups("By size", [group for group in report.sizes if group.n])
    problems = [problem for problem in report.problems if problem.problem]
    if problems:
        yield from ("", "Problems")
        for problem in problems:
            yield f"  {problem.n:>12,}  {problem.state:<8}  {brief(problem.problem or '')}"
    yield from _attention(report)
    yield ""
    yield closing(report)


def closing(report: Report) -> str:
    """Say in one sentence how complete the migration is, the gaps of the lists included."""
    return verdict.closing(report.states, report.gaps, cut=report.cut)


def ledger(counts: dict[State, Count]) -> Iterator[str]:
    """Tell the sum line by line: listed = stored + missing + gone + deleted + failed + pending."""
    yield _sum_line(" ", "listed", verdict.total(counts), "all that the source ever listed")
    for sign, state in zip("=+++++", ORDER, strict=True):
        yield _sum_line(sign, state.value, counts[state], MEANING[state])


def _sum_line(sign: str, name: str, count: Count, meaning: str) -> str:
    return f"{sign} {name:<8} {count.n:>12,}  {human_bytes(count.bytes):>12}  {meaning}"


def describe_run(run: RunInfo) -> str:
    """Say in one line when the last run was and how it ended."""
    began = f"Last run: {shown(run.kind)} {run.id}, begun {iso_time(run.started_at)}"
    if run.finished_at is None:
        return f"{began}, not finished."
    took = human_duration(run.finished_at - run.started_at)
    return f"{began}, ended after {took} with exit code {run.exit_code}."


def _groups(title: str, groups: Sequence[Group]) -> Iterator[str]:
    if not groups:
        return
    yield from ("", title)
    for group in groups[:GROUPS_SHOWN]:
        name = brief(group.title or group.key) or "(none)"
        yield f"  {group.n:>12,}  {human_bytes(group.bytes):>12}  {name}"
    if rest := groups[GROUPS_SHOWN:]:
        n, size = sum(group.n for group in rest), sum(group.bytes for group in rest)
        yield f"  {n:>12,}  {human_bytes(size):>12}  ({len(rest):,} others)"


def _attention(report: Report) -> Iterator[str]:
    if not report.attention:
        return
    total, named = report.attention_total, len(report.attention)
    limit = "" if total <= named else f", the first {named:,} of {total:,}"
    yield from ("", f"Failed, missing and gone{limit}")
    for row in report.attention:
        yield _row_line(row)
    if limit:
        yield "  All of them: migrator report --format csv"


def _row_line(row: Row) -> str:
    why = brief(row.detail or row.problem or "", _WHY)
    place = f"ticket {brief(row.ticket_number)}, attachment {row.id}"
    return f"  {row.state:<8}  {place}, {brief(row.filename, _NAME)}" + (f": {why}" if why else "")
