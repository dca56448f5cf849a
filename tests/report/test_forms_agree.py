"""The forms of a report say the same, whatever the ledger is."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import unicodedata
from collections import Counter
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema_rs
import lxml.html
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.archive import EVERYTHING, Archive, RowFilter, State, open_archive
from migrator.report.html import csv_command, render_report
from migrator.report.json_report import COLUMNS, to_csv, to_json
from migrator.report.model import Report, build
from migrator.report.text import render
from tests.report.ledgers import ATTACHMENTS, NAMES, One, fill, made

SCHEMA = json.loads(
    (resources.files("migrator.report") / "schema/report-1.json").read_text(encoding="utf-8")
)
VALID = jsonschema_rs.validator_for(SCHEMA)


def lines(archive: Archive, only: RowFilter = EVERYTHING) -> list[dict[str, str]]:
    written = "".join(to_csv(archive.queries, only))
    return list(csv.DictReader(io.StringIO(written, newline="")))


def weight(row: dict[str, str]) -> int:
    return int(row["size"] or row["declared_size"])


def summed(rows: list[dict[str, str]], key: Callable[[dict[str, str]], str]) -> dict[str, Any]:
    n: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for row in rows:
        n[key(row)] += 1
        size[key(row)] += weight(row)
    return {one: {"n": n[one], "bytes": size[one]} for one in n}


def groups(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {
        one["key"]: {"n": one["n"], "bytes": one["bytes"]} for one in document[name] if one["n"]
    }


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(ATTACHMENTS, st.booleans())
def test_numbers_are_equal_in_all_forms(attachments: list[One], finished: bool) -> None:
    """What the text, the JSON and the HTML count is what the lines of the CSV sum up to."""
    with made(attachments, finished=finished) as archive:
        report = build(archive, samples=True)
        document = json.loads(to_json(report))
        rows = lines(archive)
    VALID.validate(document)
    states = {name: count for name, count in document["states"].items() if count["n"]}
    assert states == summed(rows, lambda row: row["state"])
    assert groups(document, "types") == summed(
        rows, lambda row: row["mime_type"] or row["declared_type"]
    )
    assert groups(document, "years") == summed(rows, lambda row: row["created_at"][:4])
    assert groups(document, "departments") == summed(rows, lambda row: row["queue_id"])
    total = {"n": len(rows), "bytes": sum(map(weight, rows))}
    for name in ("departments", "types", "years", "sizes"):
        assert sum(one["n"] for one in document[name]) == total["n"]
        assert sum(one["bytes"] for one in document[name]) == total["bytes"]
    assert document["listed"] == total
    held = {row["sha256"]: weight(row) for row in rows if row["sha256"]}
    assert document["files"] == {"n": len(held), "bytes": sum(held.values())}
    every = [weight(row) for row in rows if row["sha256"]]
    assert document["duplicates"] == {
        "n": len(every) - len(held),
        "bytes": sum(every) - sum(held.values()),
    }
    assert sum(one["attachments"] for one in document["pace"]) == len(every)
    lost = report.attention_total - report.accepted_total
    assert sum(one.department.n for one in report.losses) == lost
    assert sum(len(one.rows) for one in report.losses) == lost  # of which none is cut
    told_in_text(report)
    told_in_html(report)


def told_in_text(report: Report) -> None:
    text = render(report)
    for state, count in report.states.items():
        assert re.search(rf"^[=+] {state} +{count.n:,} ", text, re.MULTILINE)
    for name, kept in (("year", report.years), ("size", [one for one in report.sizes if one.n])):
        part = text.partition(f"By {name}\n")[2].split("\n\n")[0]
        shown = [int(line.split()[0].replace(",", "")) for line in part.splitlines()][:20]
        assert shown == [one.n for one in kept][:20]


def told_in_html(report: Report) -> None:
    page = lxml.html.fromstring("".join(render_report(report)))
    cells = {" ".join("".join(map(str, one.itertext())).split()) for one in page.iter("td", "th")}
    numbers = [count.n for count in report.states.values() if count.n]
    numbers += [one.n for some in report.breakdowns.values() for one in some[:15] if one.n]
    assert {f"{number:,}" for number in numbers} <= cells


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(ATTACHMENTS)
def test_every_figure_has_its_rows(attachments: list[One]) -> None:
    """The filter of a figure finds as many rows and bytes as it counts; examples are the first."""
    with made(attachments) as archive:
        report = build(archive, samples=True)
        for (dimension, key), sample in report.samples.items():
            only = filter_of(dimension, key)
            rows = list(archive.queries.rows(only=only))
            assert len(rows) == sample.total, (dimension, key)
            assert list(sample.rows) == rows[:10]
            assert [row["attachment_id"] for row in lines(archive, only)] == [
                str(row.id) for row in rows
            ]
        doubled = list(archive.queries.rows(only=RowFilter(duplicates=True)))
        assert sum(row.size or 0 for row in doubled) == report.duplicates.bytes
        figures = {(name, one.key) for name, some in report.breakdowns.items() for one in some}
        figures |= {("state", state.value) for state in State}
        figures |= {("problem", one.key) for one in report.problems}
        assert set(report.samples) == {*figures, ("duplicate", "")}


def filter_of(dimension: str, key: str) -> RowFilter:
    """Say with a filter what csv_command() says with options."""
    if dimension == "problem":
        state, _, problem = key.partition("/")
        return RowFilter(states=frozenset({State(state)}), problems=frozenset({problem}))
    if dimension == "duplicate":
        return RowFilter(duplicates=True)
    if dimension == "department":
        return RowFilter(departments=frozenset({int(key)}))
    if dimension == "state":
        return RowFilter(states=frozenset({State(key)}))
    return RowFilter(**{dimension + "s": frozenset({key})})  # type: ignore[arg-type]


def test_filters_are_joined_with_and(tmp_path: Path) -> None:
    """Several dimensions narrow each other, several values of one widen it; none lets none by."""
    ones = [
        One(1, "a", "x", 5, 1_388_534_400, State.GONE, "not_found", 0),
        One(1, "b", "x", 5, 1_388_534_399, State.GONE, "not_found", 0),
        One(2, "c", "y", 5, 1_388_534_400, State.FAILED, None, 0),
    ]
    with open_archive(tmp_path / "archive", command="test") as archive:
        fill(archive, ones)

        def found(**wanted: Any) -> list[int]:
            given: dict[str, Any] = {key: frozenset(values) for key, values in wanted.items()}
            only = RowFilter(**given)
            return [row.id for row in archive.queries.rows(only=only)]

        assert found(years=["2014"], types=["x", "y"]) == [1, 3]
        assert found(years=["2014"], types=["x"], departments=[1]) == [1]
        assert found(problems=["not_found", ""], states=[State.FAILED]) == [3]
        assert found(types=[]) == []
        assert found(types=["\ud800"], departments=[2**70]) == []


def test_every_key_of_the_document_is_described() -> None:
    """The schema knows every key that a report has, and says what it means."""
    assert set(SCHEMA["required"]) == set(SCHEMA["properties"])
    for name, part in SCHEMA["properties"].items():
        assert "description" in part or "const" in part, name
    assert tuple(SCHEMA["$defs"]["row"]["properties"]) == COLUMNS


@pytest.mark.parametrize(
    "broken",
    [{"exit_code": 1}, {"listed": {"n": -1, "bytes": 0}}, {"states": {}}, {"format": "x"}],
    ids=str,
)
def test_the_schema_refuses_what_is_no_report(tmp_path: Path, broken: dict[str, object]) -> None:
    """A document with a wrong value is not valid: the schema does say something."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        document = json.loads(to_json(build(archive)))
    VALID.validate(document)
    assert not VALID.is_valid(document | broken)


@settings(max_examples=15, deadline=None)
@given(
    NAMES
    | st.sampled_from(
        ["it's", "it's\x1b \\", "$HOME `x` \\", "-x", "--state", "a\x1b[2J\u202e\x85\n"]
    )
)
def test_the_command_behind_a_figure_survives_a_shell(name: str) -> None:
    """However a type is called, the shell hands it over as it is, and the command can be shown."""
    command = csv_command("type", name)
    assert all(char.isprintable() or unicodedata.category(char) == "Zs" for char in command)
    script = f"migrator() {{ printf '%s\\0' \"$@\"; }}; {command}"
    said = subprocess.run(["bash", "-c", script], capture_output=True, check=True, timeout=30)
    *_, option, value = said.stdout.decode().rstrip("\0").split("\0")
    assert (option, value) == ("--type", name or "none")


def test_the_command_of_other_figures() -> None:
    """Problems name their state as well, and no problem is a problem called none."""
    begin = "migrator report --format csv "
    assert csv_command("problem", "gone/not_found") == begin + "--state gone --problem not_found"
    assert csv_command("problem", "stored/") == begin + "--state stored --problem none"
    assert csv_command("duplicate", "") == begin + "--duplicates"
    assert csv_command("year", "") == begin + "--year none"
