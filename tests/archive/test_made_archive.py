"""The archives that measurements are made with."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.archive import State, Verdict, open_beside
from migrator.report.model import build
from tests.bench import make_archive
from tests.bench.make_archive import Size


def test_a_made_archive_is_sound(tmp_path: Path) -> None:
    """It holds what was asked for, in all states, and its tallies are those of its rows."""
    make_archive.make(tmp_path / "archive", Size(3000))
    with open_beside(tmp_path / "archive") as archive:
        archive.queries.self_check()
        rows = list(archive.queries.rows())
        report = build(archive)
    assert len(rows) == report.listed.n == 3000
    assert all(report.states[state].n for state in State)
    assert report.duplicates.n
    assert report.pace
    for state, count in report.states.items():
        sizes = [row.declared_size if row.size is None else row.size for row in rows]
        found = [size for size, row in zip(sizes, rows, strict=True) if row.state is state]
        assert (len(found), sum(found)) == (count.n, count.bytes)


def test_a_made_archive_can_have_its_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --blobs every content is there and whole; the same options give the same rows."""
    options = ["--rows", "60", "--median", "100", "--blobs"]
    names = ("one", "other")
    for name in names:
        monkeypatch.setattr("sys.argv", ["make_archive", str(tmp_path / name), *options])
        make_archive.main()
    found = []
    for name in names:
        with open_beside(tmp_path / name) as archive:
            found.append([row.sha256 for row in archive.queries.rows()])
            for sha256, size in archive.queries.expected_blobs():
                assert archive.blobs.examine(sha256, size).verdict is Verdict.OK
    assert found[0] == found[1]
