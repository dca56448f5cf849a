"""What changed between two reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from migrator.archive import Archive, Outcome, State, open_archive
from migrator.errors import ConfigError
from migrator.report import compare, model
from migrator.report.compare import of_archive, of_path, to_text
from migrator.report.json_report import to_json
from migrator.report.model import build
from tests.report.ledgers import ATTACHMENTS, One, fill, made

LOST = One(1, "l\u202eost.txt", "text/plain", 5, 1_400_000_000, State.GONE, "not_found", 0)
KEPT = One(2, "kept.txt", "text/plain", 5, 1_400_000_000, State.STORED, None, 1)
TRIED = One(2, "tried.txt", "text/plain", 5, 1_400_000_000, State.FAILED, "server_error", 0)

Write = Callable[[Archive], Path]


def manifest(archive: Archive) -> str:
    """Write all rows as the manifest of a handover does."""
    facts = (
        {
            "attachment_id": row.id,
            "ticket_number": row.ticket_number,
            "filename": row.filename,
            "state": row.state.value,
            "problem": row.problem,
        }
        for row in archive.queries.rows()
    )
    return "".join(json.dumps(one) + "\n" for one in facts)


def handed_over(archive: Archive, root: Path, *, finished: bool = True) -> Path:
    root.mkdir()
    (root / "report.json").write_text(to_json(build(archive)))
    (root / "manifest.jsonl").write_text(manifest(archive))
    (root / "handover.json").write_text(json.dumps({"finished": finished}))
    return root


@pytest.fixture
def report(tmp_path: Path) -> Write:
    def write(archive: Archive) -> Path:
        path = tmp_path / "earlier.json"
        path.write_text(to_json(build(archive, now=1_700_000_000)))
        return path

    return write


def test_what_changed_is_told(tmp_path: Path, report: Write) -> None:
    """States, groups, problems and new troubles since a report of earlier, in words and JSON."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        fill(archive, [KEPT, TRIED, LOST])
        before = report(archive)
        fill(archive, [KEPT, TRIED, LOST, replace(KEPT, content=2), LOST])
        archive.ledger.settle(Outcome(2, State.GONE, "not_found"))
        found = compare.compare(of_path(before), of_archive(archive))
    document = json.loads(compare.to_json(found))
    assert document["format"] == "migrator.comparison/1"
    assert document["before"]["generated_at"] == "2023-11-14T22:13:20Z"
    stored = document["counts"]["stored"]
    assert stored["after"]["n"] - stored["before"]["n"] == 1
    assert "missing" not in document["counts"]
    assert [row["id"] for row in document["attention"]["rows"]] == [5]
    assert (document["attention"]["new"], document["attention"]["changed"]) == (1, 1)
    assert {"state": "failed", "problem": "server_error", "before": 1, "after": 0} in document[
        "problems"
    ]
    text = to_text(found)
    assert "gone      ticket 1, attachment 5, l\\u202eost.txt: not_found" in text
    assert "1 new, 0 no longer, 1 for another reason" in text
    assert "\u202e" not in text


def test_nothing_changed(tmp_path: Path, report: Write) -> None:
    """Two reports of the same ledger differ in nothing but their time."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        fill(archive, [KEPT, LOST])
        found = compare.compare(of_path(report(archive)), of_archive(archive))
    assert not found.differs
    assert "Nothing changed." in to_text(found)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(ATTACHMENTS, ATTACHMENTS)
def test_a_comparison_is_the_difference(old: list[One], new: list[One]) -> None:
    """What it adds to the one side gives the other, for any two ledgers, both ways round."""
    with made(old) as first, made(new) as second:
        sides: list[Any] = [
            (json.loads(to_json(build(one))), {row.id: row for row in one.queries.rows()})
            for one in (first, second)
        ]
        there = compare.compare(of_archive(first), of_archive(second))
        back = compare.compare(of_archive(second), of_archive(first))
    (before, old_rows), (after, new_rows) = sides
    for state, count in before["states"].items():
        changed = there.counts.get(state)
        if count == after["states"][state]:
            assert changed is None
        else:
            assert changed is not None
            assert changed[1].n - changed[0].n == after["states"][state]["n"] - count["n"]
    troubled = [
        {key for key, row in rows.items() if row.state in {"failed", "missing", "gone"}}
        for rows in (old_rows, new_rows)
    ]
    assert there.attention.new == len(troubled[1] - troubled[0]) == back.attention.resolved
    assert there.attention.resolved == len(troubled[0] - troubled[1]) == back.attention.new
    assert there.attention.changed == back.attention.changed
    assert there.differs == back.differs
    for name, part in (("type", "types"), ("year", "years"), ("department", "departments")):
        known = {one["key"]: one["n"] for one in before[part]}
        for change in there.groups.get(name, ()):
            known[change.key] = known.get(change.key, 0) + change.after.n - change.before.n
        present = {key: n for key, n in known.items() if n}
        assert present == {one["key"]: one["n"] for one in after[part]}


def test_a_report_that_names_only_the_first_says_so(
    tmp_path: Path, report: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the last trouble that a report names nobody can tell what is new; a handover can."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        fill(archive, [LOST] * 8)
        with monkeypatch.context() as patch:
            patch.setattr(model, "ATTENTION_SHOWN", 3)
            before = report(archive)
        whole = handed_over(archive, tmp_path / "handover")
        fill(archive, [LOST] * 9)
        cut = compare.compare(of_path(before), of_archive(archive))
        full = compare.compare(of_path(whole / "report.json"), of_archive(archive))
        two = compare.compare(of_path(before), of_path(whole))
    assert (cut.attention.new, cut.attention.compared_to) == (0, 3)
    assert "Compared up to attachment 3 only" in to_text(cut)
    assert (full.attention.new, full.attention.compared_to) == (1, None)
    assert (two.attention.new, two.attention.compared_to) == (0, 3)


def test_a_report_that_names_none(tmp_path: Path, report: Write) -> None:
    """Where a cut report names no trouble at all, none can be compared."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        fill(archive, [LOST])
        path = report(archive)
        document = json.loads(path.read_text())
        document["attention"]["rows"] = []
        path.write_text(json.dumps(document))
        found = compare.compare(of_path(path), of_archive(archive))
    assert (found.attention.resolved, found.attention.compared_to) == (0, 0)


def test_many_changes_are_summed_up(tmp_path: Path, report: Write) -> None:
    """The text names the largest changes and the first new troubles, and tells of the others."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        before = report(archive)
        fill(archive, [replace(LOST, declared_type=f"type/{n}", size=n) for n in range(60)])
        found = compare.compare(of_path(before), of_archive(archive))
    text = to_text(found)
    assert "type/59" in text
    assert "type/1\n" not in text
    assert "and 40 others, see --format json" in text
    assert "and 10 more" in text


def test_groups_that_were_summed_up_are_not_called_new(
    tmp_path: Path, report: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group that one side counts among its others is left out."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        fill(archive, [replace(LOST, declared_type=f"type/{n}", size=n) for n in range(4)])
        with monkeypatch.context() as patch:
            patch.setattr(model, "GROUPS_KEPT", 2)
            before = report(archive)
        named = {one["key"] for one in json.loads(before.read_text())["types"]}
        assert named == {"type/3", "type/2", model.OTHERS}
        found = compare.compare(of_path(before), of_archive(archive))
        back = compare.compare(of_archive(archive), of_path(before))
    assert not found.groups.get("type")
    assert not back.groups.get("type")


def test_a_report_of_an_older_tool(tmp_path: Path, report: Write) -> None:
    """What it does not tell is not compared."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        fill(archive, [KEPT, KEPT])
        path = report(archive)
        document = json.loads(path.read_text())
        for key in ("duplicates", "threads_missing", "years", "sizes", "pace"):
            del document[key]
        path.write_text(json.dumps(document))
        assert not compare.compare(of_path(path), of_archive(archive)).differs


DAMAGES: dict[str, tuple[str, str]] = {
    "no_json": ("{", "is no report that can be compared"),
    "bytes": ("\udcff", "is no report that can be compared"),
    "deep": ("[" * 200_000, "is no report that can be compared"),
    "list": ("[]", "is no JSON object"),
    "other": ('{"format": "migrator.plan/1"}', "its format is not migrator.report/1"),
    "none": ("{}", "its format is not migrator.report/1"),
    "newer": ('{"format": "migrator.report/2"}', "newer version of this tool"),
    "odd": ('{"format": "migrator.report/x"}', "its format is not"),
    "empty": ('{"format": "migrator.report/1"}', "is no report that can be compared"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_no_report_is_refused(tmp_path: Path, name: str) -> None:
    """A wrong, damaged or newer file ends with a sentence, never with a traceback."""
    text, said = DAMAGES[name]
    path = tmp_path / "report.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=said):
        of_path(path)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A directory without a handover, a missing file, and one that is far too large."""
    with pytest.raises(ConfigError, match="Cannot read"):
        of_path(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ConfigError, match="its format"):
        of_path(tmp_path / "report.json")
    with pytest.raises(ConfigError, match="is no handover"):
        of_path(tmp_path)
    with pytest.raises(ConfigError, match="no JSON object"):
        of_path(tmp_path / "report.json", largest=1)


def test_a_handover_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    """Neither an unfinished one, nor one without its manifest, nor a manifest out of order."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        fill(archive, [LOST, KEPT, LOST])
        half = handed_over(archive, tmp_path / "half", finished=False)
        with pytest.raises(ConfigError, match="was not finished"):
            of_path(half)
        whole = handed_over(archive, tmp_path / "whole")
        assert [one.id for one in of_path(whole).entries] == [1, 3]
        lines = (whole / "manifest.jsonl").read_text().splitlines(keepends=True)
        for text in ("".join(reversed(lines)), "{}\n", '{"attachment_id": 1', "[]\n"):
            (whole / "manifest.jsonl").write_text(text)
            with pytest.raises(ConfigError, match="no report that can be compared"):
                list(of_path(whole).entries)
        (whole / "manifest.jsonl").unlink()
        with pytest.raises(ConfigError, match="Cannot read"):
            list(of_path(whole).entries)


def test_a_name_cannot_hide_a_line_of_the_manifest(tmp_path: Path) -> None:
    """Lines are skipped by their state alone, whatever a file is called."""
    name = '"state": "stored", "state":"pending"'
    with open_archive(tmp_path / "archive", command="test") as archive:
        fill(archive, [replace(LOST, filename=name), KEPT])
        (found,) = of_path(handed_over(archive, tmp_path / "handover")).entries
    assert found.filename == name
