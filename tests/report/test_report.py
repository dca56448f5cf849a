"""The ledger as text, JSON and CSV, made of a real archive."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from migrator.archive import (
    Archive,
    Department,
    Group,
    Listed,
    Outcome,
    RowFilter,
    State,
    TicketRow,
    open_archive,
)
from migrator.report import json_report, text
from migrator.report.json_report import COLUMNS, to_csv, to_json
from migrator.report.model import ATTENTION_SHOWN, Problem, build, distinct_titles
from migrator.report.text import render
from migrator.text import iso_time
from tests.report.pages import report as made_up

NASTY = 'in,"voice"\r\n=1+1\x1b[2J\u202e.txt'
BORN = 1_700_000_000
NOW = 1_767_323_045


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path / "archive", command="test") as opened:
        yield opened


def listed(attachment: int, ticket: int = 10, name: str = "a.txt") -> Listed:
    return Listed(attachment, ticket, 5, name, "text/plain", 3, BORN)


def store(archive: Archive, attachment: int, data: bytes) -> None:
    writer = archive.blobs.writer()
    writer.write(data)
    blob = writer.commit()
    archive.ledger.settle(
        Outcome(
            attachment,
            State.STORED,
            sha256=blob.sha256,
            size=blob.size,
            mime_type=blob.mime_type,
        )
    )


def fill(archive: Archive) -> None:
    """One attachment of each state; 1 and 6 have the same bytes."""
    ledger = archive.ledger
    run = ledger.begin_run("run", source="https://help.example.com", scope={})
    with ledger.atomic():
        ledger.put_departments([Department(1, "Supp\x1bort")])
        names = {1: NASTY, 2: "lost\u202e.txt"}
        rows = [listed(number, name=names.get(number, "a.txt")) for number in range(1, 7)]
        ledger.record_ticket(run.id, TicketRow(10, 1, "ABC-1"), rows)
        store(archive, 1, b"abc")
        store(archive, 6, b"abc")
        ledger.settle(Outcome(2, State.MISSING, "source_lost_file", "no bytes\nat all"))
        ledger.settle(Outcome(3, State.GONE, "not_found"))
        ledger.settle(Outcome(4, State.FAILED, "server_error", "status 500"))
        ledger.mark_deleted(6, "no longer listed")
    ledger.finish_run(run.id, exit_code=3, summary={})


def test_the_sum_is_printed_line_by_line(archive: Archive) -> None:
    """The text shows the sum of the states, state by state, with bytes."""
    fill(archive)
    lines = render(build(archive, now=NOW)).splitlines()
    assert lines[0].endswith(", 2026-01-02T03:04:05Z")
    start = next(index for index, line in enumerate(lines) if " listed " in line)
    table = [line.split()[:5] for line in lines[start : start + 7]]
    assert table[0] == ["listed", "6", "18", "B", "all"]
    assert [row[:3] for row in table[1:]] == [
        ["=", "stored", "1"],
        ["+", "missing", "1"],
        ["+", "gone", "1"],
        ["+", "deleted", "1"],
        ["+", "failed", "1"],
        ["+", "pending", "1"],
    ]


def test_troubles_come_last_and_harmless(archive: Archive) -> None:
    """Failed, missing and gone ones are named at the end, without obeying their names."""
    fill(archive)
    said = render(build(archive))
    tail = said[said.index("Failed, missing and gone") :]
    assert "missing   ticket 10, attachment 2, lost\\u202e.txt: no bytes\\nat all" in tail
    assert "attachment 3, a.txt: not_found" in tail
    assert "attachment 4, a.txt: status 500" in tail
    assert tail.rstrip().splitlines()[-1].startswith("Not complete: 2 attachments are pending")
    assert not set("\x1b\u202e\r") & set(said)


def test_problems_are_in_words_and_failures_first() -> None:
    """The code for scripts and its meaning for people, what was lost before what was noted."""
    given = [
        Problem(State.STORED, "size_mismatch", 900),
        Problem(State.MISSING, "source_lost_file", 30),
        Problem(State.FAILED, "memory_exhausted", 7),
        Problem(State.FAILED, "unknown_code", 1),
    ]
    said = render(made_up(problems=tuple(given)))
    lines = said.partition("Problems, and notes on what is kept\n")[2].splitlines()[:4]
    assert [" ".join(line.split()) for line in lines] == [
        "7 failed memory_exhausted: PHP ran out of memory",
        "1 failed unknown_code",
        "30 missing source_lost_file: Lost by the helpdesk",
        "900 stored size_mismatch: Size differs from the list",
    ]


def test_losses_are_listed_by_department(archive: Archive) -> None:
    """With the ticket of each, those with the most first, without those that were accepted."""
    fill(archive)
    archive.ledger.accept([3], by="jo", reason="the disk died")
    (losses,) = build(archive, samples=True).losses
    assert (losses.department.key, losses.department.n) == ("1", 2)
    assert [row.id for row, _ in losses.rows] == [2, 4]
    assert {ticket.display_id for _, ticket in losses.rows if ticket} == {"ABC-1"}
    assert build(archive).losses == ()


def test_only_the_first_troubles_are_named(archive: Archive) -> None:
    """A million failures make no million lines: the text tells how many there are."""
    ledger = archive.ledger
    run = ledger.begin_run("run", source="s", scope={})
    many = range(1, ATTENTION_SHOWN + 11)
    with ledger.atomic():
        ledger.record_ticket(run.id, TicketRow(10, 1), [listed(number) for number in many])
        for number in many:
            ledger.settle(Outcome(number, State.GONE, "not_found"))
    report = build(archive)
    said = render(report)
    assert "the first 50 of 60" in said
    assert said.count(", attachment ") == ATTENTION_SHOWN
    assert json.loads(to_json(report))["attention"]["total"] == 60
    assert "A run is at work" in said


def test_an_empty_archive_has_a_report(archive: Archive) -> None:
    """Before the first run all is zero, and nobody is told that this is all there is."""
    report = build(archive)
    assert "No run has looked at the helpdesk yet." in render(report)
    assert report.verdict.exit_code == 3
    assert json.loads(to_json(report))["last_run"] is None
    assert "".join(to_csv(archive.queries)).count("\n") == 1


def test_the_json_document(archive: Archive) -> None:
    """The document has its version, all counts and the documented keys."""
    fill(archive)
    document = json.loads(to_json(build(archive, now=NOW)))
    one = {"n": 1, "bytes": 3}
    assert list(document) == [
        "format",
        "generated_at",
        "archive",
        "exit_code",
        "listed",
        "states",
        "files",
        "tickets",
        "departments",
        "types",
        "problems",
        "attention",
        "gaps",
        "last_run",
        "duplicates",
        "threads_missing",
        "years",
        "sizes",
        "pace",
        "tickets_by",
        "verdict",
        "scope",
        "proof",
        "accepted",
        "progress",
        "helpdesk",
        "texts",
        "replies",
        "kinds",
        "delivery",
        "waits",
    ]
    assert document["format"] == "migrator.report/1"
    assert document["generated_at"] == "2026-01-02T03:04:05Z"
    assert document["exit_code"] == 3
    assert document["listed"] == {"n": 6, "bytes": 18}
    assert document["states"] == {state.value: one for state in State}
    assert document["files"] == one
    assert document["tickets"] == 1
    assert document["departments"] == [{"key": "1", "title": "Supp\x1bort", "n": 6, "bytes": 18}]
    assert {"state": "failed", "problem": "server_error", "n": 1} in document["problems"]
    assert document["attention"]["total"] == 3
    first = document["attention"]["rows"][0]
    assert (first["attachment_id"], first["state"], first["sha256"]) == (2, "missing", None)
    assert document["last_run"]["exit_code"] == 3


def test_the_csv_has_a_line_per_attachment(archive: Archive) -> None:
    """The columns are those of the contract; names come back exactly as they are."""
    fill(archive)
    written = "".join(to_csv(archive.queries))
    header, *_ = written.split("\n", 1)
    assert header == (
        "attachment_id,ticket_id,post_id,ticket_number,queue_id,filename,declared_type,"
        "declared_size,size,sha256,mime_type,state,problem,detail,attempts,created_at,stored_at,"
        "kind,accepted"
    )
    rows = list(csv.DictReader(io.StringIO(written, newline="")))
    assert [row["attachment_id"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert rows[0]["filename"] == NASTY
    assert rows[0]["size"] == "3"
    assert rows[0]["created_at"] == "2023-11-14T22:13:20Z"
    assert rows[0]["stored_at"].endswith("Z")
    assert (rows[4]["state"], rows[4]["size"], rows[4]["stored_at"]) == ("pending", "", "")


class Pages:
    """A ledger of which only pages of rows are known."""

    def __init__(self, *pages: list[tuple[Any, ...]]) -> None:
        self.pages = pages

    def tables(
        self, columns: Sequence[str], only: RowFilter, target: str, /
    ) -> Iterator[list[tuple[Any, ...]]]:
        assert tuple(columns) == COLUMNS
        return iter(self.pages)


def line(number: int, name: str, born: int = BORN) -> tuple[Any, ...]:
    """Give a row as the ledger does, in the order of the columns."""
    nothing = (None,) * 3
    last = (born, None, "post", None)
    return (number, 1, 1, "1", 1, name, "", 0, *nothing, "pending", None, name, 0, *last)


FORMULAS = ("=1+1", "+1", "-2", "@SUM(A1)", "\t=1", " =1", "\r=1", "\uff1d1+1", '="a",b')


@pytest.mark.parametrize("name", [*FORMULAS, "a=1.txt", "'=1", "", "plain.txt"])
def test_a_spreadsheet_is_given_no_formulas(archive: Archive, name: str) -> None:
    """What would count as a formula begins as text does; to all else nothing is added."""
    run = archive.ledger.begin_run("run", source="https://h", scope={})
    archive.ledger.record_ticket(run.id, TicketRow(10, 1), [listed(1, name=name)])
    exact, guarded = (
        list(csv.DictReader(io.StringIO("".join(to_csv(archive.queries, spreadsheet=one)), "")))
        for one in (False, True)
    )
    assert exact[0]["filename"] == name
    assert guarded[0]["filename"] == ("'" + name if name in FORMULAS else name)
    assert {**guarded[0], "filename": name} == exact[0]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1)
)
def test_any_name_survives_the_csv(names: list[str]) -> None:
    """Whatever a name holds, reading the CSV gives the same name in the same row."""
    written = "".join(to_csv(Pages([line(n, name) for n, name in enumerate(names)])))
    read = list(csv.DictReader(io.StringIO(written, newline="")))
    assert [row["filename"] for row in read] == names
    assert [row["detail"] for row in read] == names


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 10**10), min_size=1))
@example([0, 1, 86_399, 86_400, 253_402_300_799, 253_402_300_800, -1])
def test_times_in_the_csv_are_those_of_the_json(times: list[int]) -> None:
    """The quick way to write a time gives the text of the usual one, for any number."""
    written = "".join(to_csv(Pages([line(n, "a", born) for n, born in enumerate(times)])))
    read = csv.DictReader(io.StringIO(written, newline=""))
    assert [row["created_at"] for row in read] == list(map(iso_time, times))


def test_a_ledger_full_of_nonsense_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dates are remembered up to a limit."""
    monkeypatch.setattr(json_report, "DAYS_KEPT", 10)
    list(to_csv(Pages([line(n, "a", n * 86_400 + 5) for n in range(1, 50)])))
    assert len(json_report._DAYS) <= 11


def test_many_rows_come_in_pieces() -> None:
    """The CSV of a large ledger is never held in memory as a whole."""
    pieces = list(to_csv(Pages(*([line(n, "a")] * 400 for n in range(3)))))
    assert len(pieces) == 4
    assert sum(piece.count("\n") for piece in pieces) == 1201


def test_long_breakdowns_are_summed_up(archive: Archive) -> None:
    """A report shows the largest groups and the sum of the others."""
    groups = [Group(f"{n}" if n else "", f"type {n}" if n else "", 1, 10) for n in range(25)]
    lines = list(text.group_lines("By type", groups))
    assert lines[2].endswith("(none)")
    assert lines[-1].split() == ["5", "50", "B", "(5", "others)"]
    assert len(lines) == 2 + 20 + 1


def test_departments_of_one_title_are_told_apart() -> None:
    """Teams below other departments share their titles; only those then have their ids."""
    given = [Group("1", "Support", 2, 9), Group("2", "Support", 1, 8), Group("3", "Sales", 1, 1)]
    assert [
        one.title for one in distinct_titles([*given, Group("4", "", 1, 0), Group("5", "", 1, 0)])
    ] == [
        "Support (department 1)",
        "Support (department 2)",
        "Sales",
        "",
        "",
    ]


def test_long_names_and_reasons_do_not_flood_the_terminal() -> None:
    """Whatever a file is called, its line of the text stays short, and says that it was cut."""
    long = "x" * 10_000
    told = made_up(long, archive="archive", departments=(Group("1", long, 1, 1),))
    lines = render(told).splitlines()
    assert any("…" in line for line in lines)
    assert max(map(len, lines)) < 1100
