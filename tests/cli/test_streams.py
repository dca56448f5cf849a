"""stdin, stdout and stderr that are closed, full, gone or of few characters: telling may fail."""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MIGRATOR = f"{shlex.quote(sys.executable)} -P -m migrator"


def shell(line: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, which ends with the worst exit code of a pipe."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("migrator", MIGRATOR, 1)],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=120,
    )


LOST = {
    ">&-": "Error: Cannot write to stdout: it is closed.\n",
    ">/dev/full": "Error: Cannot write to stdout: No space left on device.\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize(
    "command",
    ["report --format csv", "report --format html", "status --json", "schedule --cron", "--help"],
)
def test_a_result_that_was_lost_is_a_failure(home: Path, command: str, lost: str) -> None:
    """What a command was asked to print and could not print never ends with 0."""
    done = shell(f"migrator {command} {lost}", home)
    assert (done.returncode, done.stderr) == (2, LOST[lost])


def test_a_verdict_for_a_program_must_reach_it(home: Path) -> None:
    """`verify` says by its code that all is well; with --json nobody could have read it."""
    (home / "archive" / "checkpoint.db").chmod(0o600)
    assert shell("migrator verify >/dev/full", home).returncode == 0
    assert shell("migrator verify --json >/dev/full", home).returncode == 2
    assert shell("migrator --log-format json verify >/dev/full", home).returncode == 0


@pytest.mark.parametrize("lost", [*LOST, "| true"])
def test_a_token_that_nobody_saw_opens_nothing(home: Path, lost: str) -> None:
    """A secret that could not be printed is revoked, and the command fails."""
    done = shell(
        f"migrator token create --name reader --ability tickets:read 2>err {lost}; code=$?; "
        f"cat err >&2; exit $code",
        home,
    )
    assert done.returncode == (141 if lost == "| true" else 2)
    assert "Token 1 could not be printed and is revoked." in done.stderr
    assert "revoked" in shell("migrator token list", home).stdout


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-", ">/dev/full 2>&1"])
def test_work_is_done_whatever_becomes_of_its_words(home: Path, closed: str) -> None:
    """`accept` accepts, and no file of ours gets the number of a closed stream."""
    line = f"migrator accept 2 --reason gone {closed}"
    done = shell(line, home)
    assert done.returncode == 0, done.stderr
    accepted = shell("migrator report --format csv --accepted", home).stdout
    assert accepted.splitlines()[1].startswith("2,")
    assert (home / "archive" / "checkpoint.db").read_bytes().startswith(b"SQLite format 3\0")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16"])
def test_any_encoding_of_the_terminal_will_do(home: Path, encoding: str) -> None:
    """Names of other scripts and half characters are shown as far as the terminal can."""
    (home / "config.toml").write_text(
        '[tickiti.queues]\n"1" = { id = 2, name = "日本 Ü" }\n', encoding="utf-8"
    )
    for command in ("queue list", "--log-format json status --max-age 1s", "rule list \udcff"):
        done = shell(f"migrator {command}", home, PYTHONIOENCODING=encoding, LC_ALL="C")
        assert "Traceback" not in done.stderr
        assert "bug" not in done.stderr
    assert shell("migrator queue list", home, PYTHONIOENCODING=encoding).returncode == 0


def test_a_pipe_that_does_not_block_loses_nothing(home: Path) -> None:
    """A stream that another program switched to O_NONBLOCK is waited for while it is full."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        [*shlex.split(MIGRATOR), "report", "--format", "html"],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=write,
    )
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as told:
        text = told.read()
    assert process.wait() == 3
    assert len(text) > 4096, "more than the pipe holds"
    assert text.endswith("</html>\n")
