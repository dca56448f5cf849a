"""The report for scripts: one JSON document, or a CSV line per attachment.

The JSON document is ``migrator.report/1``; ``schema/report-1.json`` is its JSON Schema and
explains each key. Other keys may be added, these keep their meaning.

The CSV is UTF-8 with a header, lines end in a newline character, and values are quoted where
they hold commas, quotes or line ends. A name is kept as the source sent it, so that scripts find
it again: it may begin with ``=``, which a spreadsheet takes for a formula. On request, such texts
get an apostrophe before them.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from migrator.archive.queries import TOLD_DELIVERED
from migrator.archive.records import EVERYTHING, Count, Row, RowFilter, RunInfo, TicketDelivered
from migrator.report.model import ATTENTION_SHOWN, Report
from migrator.report.text import REASONS_SHOWN, replies_facts, ticket_page
from migrator.report.verdict import (
    CHECKS,
    Seen,
    check_facts,
    judge,
    progress_facts,
    scope_facts,
    waits_facts,
)
from migrator.text import iso_time

FORMAT = "migrator.report/1"
COLUMNS = (
    "attachment_id",
    "ticket_id",
    "post_id",
    "ticket_number",
    "queue_id",
    "filename",
    "declared_type",
    "declared_size",
    "size",
    "sha256",
    "mime_type",
    "state",
    "problem",
    "detail",
    "attempts",
    "created_at",
    "stored_at",
    "kind",
    "accepted",
)
Column = Sequence[Any]


_SPECIAL = ',"\r\n'
_IS_FORMULA = re.compile(r"[\s\x00-\x1f\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]").match
_NEEDS_QUOTES = re.compile(f"[{_SPECIAL}]").search


def to_json(report: Report) -> str:
    """Return the report as a JSON document that ends with a line end."""
    found, seen = report.verdict, report.seen
    losses = sorted((*report.attention, *report.accepted), key=lambda row: row.id)
    document = {
        "format": FORMAT,
        "generated_at": iso_time(report.generated_at),
        "archive": report.archive,
        "exit_code": found.exit_code,
        "listed": _count(report.listed),
        "states": {state.value: _count(count) for state, count in report.states.items()},
        "files": _count(report.files),
        "tickets": report.tickets.known,
        "departments": [dataclasses.asdict(group) for group in report.departments],
        "types": [dataclasses.asdict(group) for group in report.types],
        "problems": [dataclasses.asdict(problem) for problem in report.problems],
        "attention": {
            "total": report.attention_total,
            "rows": list(map(_values, losses[:ATTENTION_SHOWN])),
        },
        "gaps": report.gaps,
        "last_run": run_facts(report.last_run),
        "duplicates": _count(report.duplicates),
        "threads_missing": report.threads_missing,
        "years": [dataclasses.asdict(group) for group in report.years],
        "sizes": [dataclasses.asdict(group) for group in report.sizes],
        "pace": [
            {"at": iso_time(one.at), "attachments": one.attachments, "bytes": one.bytes}
            for one in report.pace
        ],
        "tickets_by": {
            **report.tickets._asdict(),
            "with_attachments": report.with_attachments,
        },
        **judged(seen, report.generated_at),
        "helpdesk": report.helpdesk,
        "texts": dict(report.texts),
        "replies": replies_facts(report.replies),
        "kinds": [dataclasses.asdict(group) for group in report.kinds],
        "delivery": _delivery(report),
        "waits": waits_facts(seen, report.generated_at),
    }
    return json.dumps(document, indent=2) + "\n"


def _delivery(report: Report) -> dict[str, object]:
    return {
        "targets": [
            {
                "target": target,
                "files": {state: _count(n) for state, n in report.seen.deliveries[target].items()},
                "tickets": total,
                "rows": [_delivered(one, report.pages) for one in tickets],
            }
            for target, (total, tickets) in report.delivered.items()
        ],
        "undeliverable": {kind: _count(one) for kind, one in report.undeliverable.items()},
    }


def _delivered(one: TicketDelivered, pages: str) -> dict[str, object]:
    return {
        "ticket_id": one.ticket_id,
        "ticket_number": one.number,
        "files": dict(one.files),
        "notes": list(one.notes),
        "reasons": list(one.reasons[:REASONS_SHOWN]),
        "page": ticket_page(pages, one.ticket_id) or None,
    }


def judged(seen: Seen, now: int) -> dict[str, object]:
    """Return the verdict on an archive and what it rests on, as keys of a document."""
    found = judge(seen)
    return {
        "verdict": {"kind": found.kind, "sentence": found.sentence},
        "scope": scope_facts(seen),
        "proof": {kind: check_facts(seen.checks.get(kind)) for kind in CHECKS},
        "accepted": {state.value: count.n for state, count in seen.accepted.items()},
        "progress": progress_facts(seen, now),
    }


def run_facts(run: RunInfo | None) -> dict[str, object] | None:
    """Return a run as the value of the key ``last_run``."""
    if run is None:
        return None
    return {
        "id": run.id,
        "kind": run.kind,
        "started_at": iso_time(run.started_at),
        "finished_at": iso_time(run.finished_at) or None,
        "exit_code": run.exit_code,
    }


class Rows(Protocol):
    """Rows of the ledger, as far as a CSV needs them."""

    def tables(
        self, columns: Sequence[str], only: RowFilter, target: str, /
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield columns of its view, in pages of rows; with a target what that has of them."""


def to_csv(
    rows: Rows,
    only: RowFilter = EVERYTHING,
    *,
    spreadsheet: bool = False,
    target: str = "",
    pages: str = "",
) -> Iterator[str]:
    """Yield the header and one line per selected attachment, in pieces of some hundred.

    For a ``spreadsheet`` no untrusted text begins like a formula. With a ``target`` more columns
    follow: what that Tickiti has or why not, and the ``page`` of the file among our ``pages``.
    """
    names = (*COLUMNS, *(TOLD_DELIVERED if target else ()))
    writers = dict(_WRITERS)
    if spreadsheet:
        writers |= {name: _harmless for name, writer in _WRITERS.items() if writer is _quoted}
    yield ",".join((*names, *(["page"] if target else []))) + "\n"
    for page in rows.tables(COLUMNS, only, target):
        columns = [
            writers.get(name, _plain)(values)
            for name, values in zip(names, zip(*page, strict=True), strict=True)
        ]
        if target:
            columns.append([_page(pages, row[0]) for row in page])
        yield "\n".join(map(",".join, zip(*columns, strict=True))) + "\n"


def _page(pages: str, attachment_id: int) -> str:
    return f"{pages}/attachments/{attachment_id}" if pages else ""


def _plain(values: Column) -> list[str]:
    return ["" if value is None else str(value) for value in values]


def _quoted(values: Column) -> list[str]:
    """Return untrusted texts, quoted where necessary: mostly none of a page is."""
    texts = _plain(values)
    everything = "".join(texts)
    if not any(char in everything for char in _SPECIAL):
        return texts
    return [_field(text) if _NEEDS_QUOTES(text) else text for text in texts]


def _harmless(values: Column) -> list[str]:
    """Return untrusted texts that no spreadsheet takes for formulas."""
    texts = (f"'{text}" if _IS_FORMULA(text) else text for text in _plain(values))
    return _quoted(list(texts))


def _field(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _times(values: Column) -> list[str]:
    """Return what iso_time() returns, much faster: it would take most of the time of a CSV."""
    return [
        _DAYS[value // 86_400] + _MINUTES[value // 60 % 1440] + _SECONDS[value % 60]
        if value and 0 < value < _END_OF_TIME
        else iso_time(value)
        for value in values
    ]


class _Days(dict[int, str]):
    """The dates of days since 1970, computed once."""

    def __missing__(self, day: int) -> str:
        if len(self) > DAYS_KEPT:  # of a ledger full of nonsense
            self.clear()
        self[day] = date = iso_time(day * 86_400 + 1)[:11]
        return date


DAYS_KEPT = 100_000
_END_OF_TIME = 253_402_300_800
_DAYS = _Days()
_MINUTES = [f"{minute // 60:02}:{minute % 60:02}:" for minute in range(1440)]
_SECONDS = [f"{second:02}Z" for second in range(60)]
_WRITERS: dict[str, Callable[[Column], list[str]]] = {
    "ticket_number": _quoted,
    "filename": _quoted,
    "declared_type": _quoted,
    "mime_type": _quoted,
    "problem": _quoted,
    "detail": _quoted,
    "accepted": _quoted,
    "created_at": _times,
    "stored_at": _times,
    "tickiti_ticket": _quoted,
    "tickiti_note": _quoted,
    "tickiti_attachment": _quoted,
    "tickiti_reason": _quoted,
}


def _values(row: Row) -> dict[str, object]:
    """Return the values of a row by :data:`COLUMNS`; None where there is none."""
    return {
        "attachment_id": row.id,
        **{name: getattr(row, name) for name in COLUMNS[1:]},
        "created_at": iso_time(row.created_at) or None,
        "stored_at": iso_time(row.stored_at) or None,
    }


def _count(count: Count) -> dict[str, int]:
    return {"n": count.n, "bytes": count.bytes}
