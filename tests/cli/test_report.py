"""``migrator report`` and where its output goes."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.cli import _output

Cli = Callable[..., "tuple[int, str, str]"]


def test_report_in_all_forms(cli: Cli, home: Path) -> None:
    """Text, JSON and CSV go to stdout; a report of troubles is still a report."""
    code, out, err = cli("report")
    assert (code, err) == (0, "")
    assert "attachment 2, 2.txt: not there any more" in out
    assert json.loads(cli("report", "--format", "json")[1])["exit_code"] == 3
    assert cli("report", "--format", "csv")[1].count("\n") == 4
    assert cli("report", "--format", "html")[1].startswith("<!doctype html>")


def test_the_output_file_replaces_another(cli: Cli, home: Path) -> None:
    """--output writes what stdout would show, private, and leaves nothing else behind."""
    target = home / "report.csv"
    target.write_text("old")
    code, out, _ = cli("report", "--format", "csv", "--output", "report.csv")
    assert (code, out) == (0, "")
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
        _output.write(pieces(), target)  # type: ignore[arg-type]
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_is_followed(tmp_path: Path) -> None:
    """A symbolic link stays one; the file behind it is replaced."""
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    _output.write(["new"], tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """Devices and pipes, such as /dev/stdout, are written, never renamed over."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()), daemon=True)
    reader.start()
    _output.write(["a", "b"], pipe)
    reader.join(10)
    assert got == ["ab"]
    assert pipe.is_fifo()
