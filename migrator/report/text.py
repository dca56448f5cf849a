"""The report as text: the closing ledger as a sum, with failures at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from migrator.archive.records import Count, Group, Row, State
from migrator.archive.replies import Kept
from migrator.report import verdict
from migrator.report.model import Report
from migrator.text import brief, counted, human_bytes, iso_time, shown

GROUPS_SHOWN = 20
REASONS_SHOWN = 3
"""Reasons that a report tells for the files of one ticket that are not in Tickiti."""
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
KEPT = (State.STORED, State.DELETED)
"""The states of which we have the bytes: a problem of theirs is a note."""
SERIOUS = (State.FAILED, State.MISSING, State.GONE, State.PENDING, *KEPT)
"""The order in which problems are told."""
MEANING = {
    State.STORED: "in the archive",
    State.MISSING: "listed by the source, which has no bytes for them",
    State.GONE: "dropped at the source before we had them",
    State.DELETED: "in the archive, no longer listed by the source",
    State.FAILED: "could not be fetched; tried again at growing intervals",
    State.PENDING: "not fetched yet",
}

_AGAIN = "`migrator run` tries again. If it fails for days, look at the helpdesk's log."
_LOST = "Ask once more with `migrator run --recheck`; then settle it with `migrator accept`."
_BROKEN = "The helpdesk's PHP log may say why; `migrator run --recheck` asks again at once."
_KEPT = "Nothing to do."
_LOOK = "Kept; open one of them and see whether it is right."
FAILURES = {
    "unreachable": ("No connection", _AGAIN),
    "source_error": ("No proper answer", _AGAIN),
    "refused": ("Access refused", "Check the API key and its rights, then `migrator run`."),
    "server_error": ("The server failed", _AGAIN),
    "throttled": ("Too many requests", "Lower `kayako.concurrency`, then `migrator run`."),
    "truncated": ("Reply cut short", _AGAIN),
    "not_xml": ("Reply is not XML", _BROKEN),
    "bad_base64": ("Contents unreadable", _BROKEN),
    "unexpected_reply": ("Wrong reply", _BROKEN),
    "memory_exhausted": (
        "PHP ran out of memory",
        "Raise `memory_limit` in the helpdesk's php.ini, then `migrator run --recheck`.",
    ),
    "not_found": ("No longer there", _LOST),
    "source_lost_file": ("Lost by the helpdesk", _LOST),
    "wrong_ticket": ("Belongs to another ticket", "`migrator run` finds it there."),
    "bad_request": (
        "Request refused",
        "A firewall may block it: allow this machine there, then `migrator run`.",
    ),
    "too_large": ("Larger than allowed", "Raise `kayako.max_body`, then `migrator run --recheck`."),
}
"""The problem codes of what we do not have, in plain words, and what to do."""
NOTES = {
    "changed_at_source": ("Replaced at the helpdesk", _KEPT),
    "other_reply": ("List and reply differ", _LOOK),
    "unsure_encoding": ("Encoding is uncertain", _LOOK),
    "size_mismatch": ("Size differs from the list", "Kept: the same bytes came twice."),
    "hash_mismatch": ("SHA-1 differs from its name", _LOOK),
    "odd_row": ("Listed in part only", _KEPT),
    "odd_number": ("Date or size unreadable", _KEPT),
    "lenient_base64": ("Read as PHP reads it", _KEPT),
    "repaired_name": ("Name was cleaned", _KEPT),
    "noise_around_xml": ("Text around the reply", _KEPT),
}
"""The same for what we have: harmless, unless it says to look."""
_USUAL = {
    State.PENDING: ("Not fetched yet", "`migrator run` fetches it."),
    State.FAILED: ("Failed", _AGAIN),
    State.MISSING: ("The source has no bytes", _LOST),
    State.GONE: ("Dropped at the source", _LOST),
    State.DELETED: ("No longer at the source", _KEPT),
    State.STORED: ("Kept", _KEPT),
}


def explain(state: State, problem: str | None) -> tuple[str, str]:
    """Return in plain words what a problem is and what to do, with commands between backticks."""
    usual = _USUAL[state]
    kept = state in KEPT
    if problem in FAILURES or problem in NOTES:
        words, remedy = (FAILURES | NOTES)[problem]
        return words, remedy if kept == (problem in NOTES) else usual[1]
    return (brief(problem), usual[1]) if problem else usual


def render(report: Report) -> str:
    """Return the whole report as text that ends with a line end."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"Ledger of {shown(report.archive)}, {iso_time(report.generated_at)}"
    if report.helpdesk:
        yield f"Helpdesk: {brief(report.helpdesk)}"
    yield ""
    yield from ledger(report.states)
    yield ""
    yield from tickets(report)
    files = report.files
    yield f"Different contents: {files.n:,} ({human_bytes(files.bytes)}; on a disk somewhat more)."
    saved = report.duplicates
    if saved.n:
        number = counted(saved.n, "attachment")
        yield f"Duplicates, kept once: {number} ({human_bytes(saved.bytes)} saved)."
    if any(report.texts.values()):
        yield f"{texts(report.texts)}."
    yield f"{replies(report.replies)}."
    if report.threads_missing:
        yield f"Tickets whose posts have not been read yet: {report.threads_missing:,}."
    if report.last_run:
        yield verdict.describe_run(report.last_run, at_work=report.seen.at_work)
    yield from verdict.waits(report.seen)
    yield from verdict.proof_lines(report.seen)
    yield from undeliverable(report.undeliverable, report.pages)
    yield from group_lines("By department", report.departments)
    yield from group_lines("By type", report.types)
    yield from group_lines("By year", report.years)
    yield from group_lines("By size", [group for group in report.sizes if group.n])
    if report.many_kinds:
        yield from group_lines("By kind", report.kinds)
    if any(group.key in ("article", "step") for group in report.kinds):
        yield NO_TICKET
    problems = [problem for problem in report.problems if problem.problem]
    if problems:
        yield from ("", "Problems, and notes on what is kept")
        for problem in sorted(problems, key=lambda one: SERIOUS.index(one.state)):
            words, _ = explain(problem.state, problem.problem)
            code = brief(problem.problem or "")
            told = code if words == code else f"{code}: {words}"
            yield f"  {problem.n:>12,}  {problem.state:<8}  {told}"
    left = report.attention_total - report.accepted_total
    yield from _losses("Failed, missing and gone", report.attention, left)
    yield from _losses("Accepted as lost", report.accepted, report.accepted_total)
    yield ""
    yield report.verdict.sentence


NO_TICKET = (
    "Files of articles and steps belong to no ticket: the pages and the handover have them, "
    "the API does not."
)


_HELD_BY = {
    "article": "of the knowledge base",
    "step": "of the troubleshooter",
    "linked": "linked to in texts of no ticket",
    "deleted": "deleted at the source",
}


def undeliverable(counts: Mapping[str, Count], pages: str) -> list[str]:
    """Return in a line how many files no delivery takes and where they are; none without any."""
    if not counts:
        return []
    told = ", ".join(f"{one.n:,} {_HELD_BY.get(kind, kind)}" for kind, one in counts.items())
    where = f" at {brief(pages)}" if pages else ""
    line = f"Files that no delivery takes: {told}. `migrator serve` shows them{where}"
    return [f"{line}, `migrator handover` copies them."]


def ticket_page(pages: str, ticket_id: int) -> str:
    """Return the address of a ticket among our pages; "" where theirs is not known."""
    return f"{pages}/tickets/{ticket_id}" if pages else ""


def texts(counts: Mapping[str, int]) -> str:
    """Return the numbers of kept texts in a line, without its full stop."""
    return (
        f"Posts: {counts['post']:,}; internal notes: {counts['note']:,}; time tracks: "
        f"{counts['timetrack']:,}; notes about people: {counts['people']:,}; knowledge base "
        f"articles: {counts['article']:,}; troubleshooter steps: {counts['step']:,}"
    )


def replies(kept: Kept) -> str:
    """Return the numbers of kept replies in a line, without its full stop."""
    found = f"Replies of the source, kept as they came: {kept.newest.n:,}"
    if kept.newest.n:
        found += f" ({human_bytes(kept.newest.bytes)}, unpacked {human_bytes(kept.unpacked)})"
    if kept.superseded.n:
        size = human_bytes(kept.superseded.bytes)
        found += f"; older ones that they superseded: {kept.superseded.n:,} ({size})"
    if kept.missing:
        found += f"; tickets without: {kept.missing:,}"
        found += f", of which {kept.deleted:,} are deleted at the source" if kept.deleted else ""
    if kept.fields_missing:
        found += f"; without that with their custom fields: {kept.fields_missing:,}"
    return found


def replies_facts(kept: Kept) -> dict[str, object]:
    """Return the same for scripts."""
    return {
        "newest": {"n": kept.newest.n, "bytes": kept.newest.bytes},
        "unpacked_bytes": kept.unpacked,
        "superseded": {"n": kept.superseded.n, "bytes": kept.superseded.bytes},
        "tickets_without": kept.missing,
        "deleted_tickets_without": kept.deleted,
        "tickets_without_fields": kept.fields_missing,
    }


def tickets(report: Report) -> Iterator[str]:
    """Yield the number of tickets, and other counts that differ from it."""
    known = report.tickets.known
    yield f"Tickets in the archive: {known:,}; with attachments: {report.with_attachments:,}."
    others = [f"{title}: {n:,}" for title, n, _ in ticket_figures(report)[2:] if n != known]
    if others:
        yield f"  {'; '.join(others)}."


def ticket_figures(report: Report) -> list[tuple[str, int, str]]:
    """Return all known numbers of tickets, as (title, number, meaning).

    They differ because they count at different times and by different means.
    """
    found, asked = report.tickets, verdict.scope_facts(report.seen) or {}
    given: list[tuple[str, object, str]] = [
        ("in the archive", found.known, "all that any run met, without those merged into others"),
        ("with attachments", report.with_attachments, "of these, what has a row in the ledger"),
        ("listed by the last run", asked.get("tickets"), "whose attachments it asked for"),
        ("counted by the source then", asked.get("helpdesk_tickets"), "in all its lists"),
        ("deleted at the source", found.deleted or None, "in the archive all the same"),
        ("merged into others", found.merged or None, "beside those in the archive"),
    ]
    return [(title, n, meaning) for title, n, meaning in given if isinstance(n, int)]


def ledger(counts: Mapping[State, Count]) -> Iterator[str]:
    """Yield the sum line by line: listed = stored + missing + gone + deleted + failed + pending."""
    yield _sum_line(" ", "listed", verdict.total(counts), "all that the source ever listed")
    for sign, state in zip("=+++++", ORDER, strict=True):
        yield _sum_line(sign, state.value, counts[state], MEANING[state])


def _sum_line(sign: str, name: str, count: Count, meaning: str) -> str:
    return f"{sign} {name:<8} {count.n:>12,}  {human_bytes(count.bytes):>12}  {meaning}"


def count_line(count: Count, text: str) -> str:
    """Return a line of a number, its bytes and what it is of."""
    return f"  {count.n:>12,}  {human_bytes(count.bytes):>12}  {text}"


def group_lines(title: str, groups: Sequence[Group]) -> Iterator[str]:
    """Yield a title and a line for each group, the last one for all that are not shown."""
    if not groups:
        return
    yield from ("", title)
    for group in groups[:GROUPS_SHOWN]:
        yield count_line(Count(group.n, group.bytes), brief(group.title or group.key) or "(none)")
    if rest := groups[GROUPS_SHOWN:]:
        total = Count(sum(group.n for group in rest), sum(group.bytes for group in rest))
        yield count_line(total, f"({len(rest):,} others)")


def _losses(title: str, rows: Sequence[Row], total: int) -> Iterator[str]:
    if not rows:
        return
    limit = "" if total <= len(rows) else f", the first {len(rows):,} of {total:,}"
    yield from ("", f"{title}{limit}")
    for row in rows:
        yield _row_line(row)
    if limit:
        yield "  All of them: migrator report --format csv"


def _row_line(row: Row) -> str:
    why = brief(row.accepted or row.detail or row.problem or "", _WHY)
    return f"  {row.state:<8}  {brief(row.where)}, {brief(row.filename, _NAME)}" + (
        f": {why}" if why else ""
    )
