"""The report for scripts: one JSON document, or a CSV line per attachment.

The JSON document is ``migrator.report/1``. Its keys, with times as ISO 8601 in UTC, sizes in
bytes, and ``count`` standing for ``{"n": attachments, "bytes": bytes}``:

- ``format``: always ``migrator.report/1``; other keys may join, these keep their meaning;
- ``generated_at``, ``archive`` (its path);
- ``exit_code``: 0 when there are no gaps and nothing is pending, failed, missing or gone, else 3;
- ``listed``: count of all that the source ever listed, the sum of ``states``;
- ``states``: count for each of stored, missing, gone, deleted, failed, pending;
- ``files``: count of the different contents that are stored;
- ``tickets``: their number;
- ``departments`` and ``types``: lists of ``key``, ``title``, ``n``, ``bytes``;
- ``problems``: list of ``state``, ``problem`` (null for none), ``n``;
- ``attention``: ``total`` failed, missing and gone attachments, and the first of them in
  ``rows``, with the columns of the CSV as keys;
- ``gaps``: what the lists of the last run left open: numbers of ``unlisted`` tickets,
  ``unreadable`` rows, and tickets that the source counts but does not list (``short``);
- ``last_run``: null, or ``id``, ``kind``, ``started_at``, ``finished_at`` (null: not finished),
  ``exit_code``.

The CSV is UTF-8 with a header, lines end in a newline character, and values are quoted where
they hold commas, quotes or line ends. A name is kept as the source sent it, so it may begin with
``=``: a spreadsheet should import the column as text.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterable, Iterator
from itertools import islice

from migrator.archive.records import Count, Row, RunInfo
from migrator.report.model import Report
from migrator.report.plain import iso_time

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
)
_BATCH = 500


def to_json(report: Report) -> str:
    """Write the report as a JSON document that ends with a line end."""
    document = {
        "format": FORMAT,
        "generated_at": iso_time(report.generated_at),
        "archive": report.archive,
        "exit_code": report.exit_code,
        "listed": _count(report.listed),
        "states": {state.value: _count(count) for state, count in report.states.items()},
        "files": _count(report.files),
        "tickets": report.tickets,
        "departments": [dataclasses.asdict(group) for group in report.departments],
        "types": [dataclasses.asdict(group) for group in report.types],
        "problems": [dataclasses.asdict(problem) for problem in report.problems],
        "attention": {
            "total": report.attention_total,
            "rows": [dict(zip(COLUMNS, _values(row), strict=True)) for row in report.attention],
        },
        "gaps": report.gaps,
        "last_run": run_facts(report.last_run),
    }
    return json.dumps(document, indent=2) + "\n"


def run_facts(run: RunInfo | None) -> dict[str, object] | None:
    """Tell a run as the value of ``last_run``."""
    if run is None:
        return None
    return {
        "id": run.id,
        "kind": run.kind,
        "started_at": iso_time(run.started_at),
        "finished_at": iso_time(run.finished_at) or None,
        "exit_code": run.exit_code,
    }


def to_csv(rows: Iterable[Row]) -> Iterator[str]:
    """Write the header and one line per attachment, in pieces of some hundred lines."""
    rows = iter(rows)
    lines: list[tuple[object, ...]] = [COLUMNS]
    while lines:
        piece = _Lines()
        # With its own line end the writer quotes both characters, with "\n" it forgets "\r".
        csv.writer(piece, lineterminator="\r\n").writerows(lines)
        yield "".join(piece)
        lines = [_values(row) for row in islice(rows, _BATCH)]


class _Lines(list[str]):
    """Collects what a CSV writer writes, a line at a time, with plain line ends."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def _values(row: Row) -> tuple[object, ...]:
    """Give the values of a row in the order of :data:`COLUMNS`; None where there is none."""
    return (
        row.id,
        row.ticket_id,
        row.post_id,
        row.ticket_number,
        row.queue_id,
        row.filename,
        row.declared_type,
        row.declared_size,
        row.size,
        row.sha256,
        row.mime_type,
        row.state.value,
        row.problem,
        row.detail,
        row.attempts,
        iso_time(row.created_at) or None,
        iso_time(row.stored_at) or None,
    )


def _count(count: Count) -> dict[str, int]:
    return {"n": count.n, "bytes": count.bytes}
