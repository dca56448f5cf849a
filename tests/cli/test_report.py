"""``migrator report`` and where its output goes."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from migrator.archive import SIZES, Outcome, State, open_archive
from migrator.cli import report_cmd
from migrator.cli.common import write
from tests.cli.conftest import Cli


def test_report_in_all_forms(cli: Cli, home: Path) -> None:
    """Text, JSON and CSV go to stdout; a report of troubles is one, and its exit code says so."""
    code, out, err = cli("report")
    assert (code, err) == (3, "")
    assert "attachment 2, 2.txt: not there any more" in out
    assert json.loads(cli("report", "--format", "json")[1])["exit_code"] == 3
    assert cli("report", "--format", "csv")[1].count("\n") == 4
    assert cli("report", "--format", "html")[1].startswith("<!doctype html>")


def test_the_output_file_replaces_another(cli: Cli, home: Path) -> None:
    """--output writes what stdout would show, private, and leaves nothing else behind."""
    target = home / "report.csv"
    target.write_text("old")
    code, out, err = cli("report", "--format", "csv", "--output", "report.csv")
    assert (code, out) == (3, "")
    assert err.startswith("Not complete: ")
    assert target.read_text() == cli("report", "--format", "csv")[1]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert not list(home.glob(".report*"))


def test_an_output_that_cannot_be_written(cli: Cli, home: Path) -> None:
    """A missing directory is told, with exit code 2."""
    code, out, err = cli("report", "--output", "none/report.txt")
    assert (code, out) == (2, "")
    assert "Cannot write 'none/report.txt'" in err


def test_a_broken_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the report fails half way, the old file stays and no temporary one does."""

    def pieces() -> object:
        yield "half"
        raise KeyError

    target = tmp_path / "report.txt"
    target.write_text("old")
    with pytest.raises(KeyError):
        write(pieces(), target)  # type: ignore[arg-type]
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_is_followed(tmp_path: Path) -> None:
    """A symbolic link stays one; the file behind it is replaced."""
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write(["new"], tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """Devices and pipes, such as /dev/stdout, are written, never renamed over."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()), daemon=True)
    reader.start()
    write(["a", "b"], pipe)
    reader.join(10)
    assert got == ["ab"]
    assert pipe.is_fifo()


def ids(cli: Cli, *options: str) -> list[int]:
    code, out, err = cli("report", "--format", "csv", *options)
    assert (code, err) == (3, ""), "the exit code is of the archive, whatever is chosen"
    return [int(line.partition(",")[0]) for line in out.splitlines()[1:]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--state", "gone"), [2]),
        (("--state", "gone", "--state", "stored"), [1, 2]),
        (("--department", "1"), [1, 2, 3]),
        (("--department", "0"), []),
        (("--department", " SUPPORT"), [1, 2, 3]),
        (("--department", "trash"), []),
        (("--type", "text/plain", "--state", "pending"), [3]),
        (("--year", "none"), [1, 2, 3]),
        (("--year", "2014"), []),
        (("--size", "1K"), [1, 2, 3]),
        (("--size", "more"), []),
        (("--problem", "not_found"), [2]),
        (("--problem", "none"), [1, 3]),
        (("--duplicates",), []),
        (("--accepted",), []),
        (("--not-accepted", "--state", "gone"), [2]),
        (("--type", "--state"), []),
    ],
    ids=str,
)
def test_filters_choose_the_lines(
    cli: Cli, home: Path, options: tuple[str, ...], expected: list[int]
) -> None:
    """Each option leaves the rows behind one figure."""
    assert ids(cli, *options) == expected


def test_the_choices_are_those_of_the_ledger() -> None:
    """The command line knows every state and every step of size, and no other."""
    assert sorted(report_cmd.STATES) == sorted(State)
    assert list(SIZES) == report_cmd.SIZES


@pytest.mark.parametrize(
    "options",
    [
        ("--state", "gone"),
        ("--format", "json", "--duplicates"),
        ("--not-accepted",),
        ("--with", "config.toml"),
        ("--compare", "config.toml", "--format", "csv"),
        ("--compare", "none.json"),
    ],
    ids=str,
)
def test_options_that_do_not_belong_together(
    cli: Cli, home: Path, options: tuple[str, ...]
) -> None:
    """A filter without a CSV would be ignored in silence, so it is refused."""
    code, out, err = cli("report", *options)
    assert (code, out) == (2, "")
    assert err


def test_a_csv_for_spreadsheets(cli: Cli, home: Path) -> None:
    """--spreadsheet gives the same CSV where no name is a formula, and belongs to CSV alone."""
    exact, guarded = (cli("report", "--format", "csv", *more) for more in ((), ("--spreadsheet",)))
    assert exact == guarded
    assert cli("report", "--spreadsheet").refused("--format csv")


def test_posts_that_are_not_kept_are_not_missing(cli: Cli, home: Path) -> None:
    """Without posts there is no number of unread ones, not a zero."""
    assert json.loads(cli("report", "--format", "json")[1])["threads_missing"] == 1
    (home / "config.toml").write_text("[kayako]\nposts = false\n")
    assert json.loads(cli("report", "--format", "json")[1])["threads_missing"] is None


def test_compare_with_an_earlier_report_or_a_handover(cli: Cli, home: Path) -> None:
    """One of earlier against the archive, or two files without an archive."""
    cli("report", "--format", "json", "--output", "before.json")
    assert cli("handover", "handed")[0] in {0, 3}
    with open_archive(home / "archive", command="test") as archive:
        archive.ledger.settle(Outcome(3, State.GONE, "not_found"))
    code, out, err = cli("report", "--compare", "before.json")
    assert (code, err) == (0, "")
    assert "attachment 3, 3.txt: not_found" in out
    assert "1 new, 0 no longer" in cli("report", "--compare", "handed")[1]
    same = cli("report", "--compare", "before.json", "--with", "handed/report.json")[1]
    assert "0 new, 0 no longer, 0 for another reason" in same
    found = json.loads(cli("report", "--compare", "handed", "--format", "json")[1])
    assert found["format"] == "migrator.comparison/1"
    code, out, err = cli("report", "--compare", "config.toml")
    assert (code, out) == (2, "")
    assert "is no report that can be compared" in err
