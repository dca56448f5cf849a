"""The real process that stays: stopped between two rounds and inside one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.archive import open_archive, open_beside
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer

pytestmark = pytest.mark.slow


class Staying:
    """``migrator sync --every`` as a process, against a sandbox."""

    def __init__(self, root: Path, *, every: str, latency: float = 0.0) -> None:
        self.archive = root / "archive"
        self.said = root / "said"
        self.desk = Helpdesk.build(SandboxOptions(tickets=20, latency=latency, articles=0, steps=0))
        self.server = SandboxServer(self.desk)
        self.server.start()
        config = root / "config.toml"
        config.write_text(
            f'[kayako]\nurl = "{self.server.url}"\napi_key = "{self.server.api_key}"\n'
            f'secret_key = "{self.server.secret_key}"\nconcurrency = 2\n'
        )
        config.chmod(0o600)
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "migrator", "sync", "--every", every],
                cwd=root,
                stdout=said,
                stderr=said,
            )

    def wait_for(self, text: str) -> None:
        """Wait until it has said that."""
        deadline = time.monotonic() + 60
        while text not in self.said.read_text():
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < deadline, self.said.read_text()
            time.sleep(0.01)

    def stop(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; gives the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[list[Staying]]:
    """Clean up after the processes of a test."""
    started: list[Staying] = []
    yield started
    for one in started:
        one.process.kill()
        one.process.wait()
        one.server.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_between_two_rounds_ends_with_0(
    made: list[Staying], tmp_path: Path, number: signal.Signals
) -> None:
    """The archive is free while it waits, and nothing is unfinished when it goes."""
    staying = Staying(tmp_path, every="1h")
    made.append(staying)
    staying.wait_for("the next sync begins in")
    with open_archive(staying.archive, command="verify"):
        assert staying.stop(number) == 0, staying.said.read_text()
    with open_beside(staying.archive) as archive:
        assert {row.state.value for row in archive.queries.rows()} == {"stored"}
        assert [run.exit_code for run in archive.queries.runs()] == [0]


def test_a_stop_inside_a_round_saves_and_ends_with_130(made: list[Staying], tmp_path: Path) -> None:
    """What is in flight may finish; the mark of a success is not set."""
    staying = Staying(tmp_path, every="1h", latency=0.05)
    made.append(staying)
    while len(staying.server.requests) < 20:
        assert staying.process.poll() is None, staying.said.read_text()
        time.sleep(0.01)
    assert staying.stop(signal.SIGTERM) == 130
    assert "progress is saved" in staying.said.read_text()
    with open_beside(staying.archive) as archive:
        assert archive.queries.mark("success") is None
        assert [run.exit_code for run in archive.queries.runs()] == [130]


def test_rounds_follow_each_other(made: list[Staying], tmp_path: Path) -> None:
    """What arrives between two rounds is stored by the next."""
    staying = Staying(tmp_path, every="1s")
    made.append(staying)
    staying.wait_for("the next sync begins in")
    newest = max(staying.desk.tickets.values(), key=lambda one: one.last_activity)
    new = staying.desk.add_attachment(newest.id, "late.txt", b"late")
    staying.wait_for("1 attachment stored")
    with open_beside(staying.archive) as archive:
        row = archive.queries.attachment(new)
    assert row is not None
    assert row.state == "stored"
