"""Commands that wait, for a window or because somebody paused them, as processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from migrator.archive.lock import Pause, holder, pause, resume
from migrator.selftest.rig import Rig
from tests.faults.conftest import MakeRig, rig

__all__ = ["rig"]

pytestmark = pytest.mark.slow

SECONDS = 90
"""After which a process that does not say what it should is stuck."""
PAUSED, CLOSED = "paused by a", "waiting until"


def configure(rig: Rig, *, closed: bool) -> None:
    """Let a command of notify write a file, and no window be open for the next hours."""
    config = rig.folder / "config.toml"
    opens = time.localtime(time.time() + 7200)
    windows = f'windows = "{opens.tm_hour:02}:{opens.tm_min // 30 * 30:02}-{opens.tm_hour:02}:59"\n'
    tell = [sys.executable, "-c", f"open({str(rig.folder / 'told')!r}, 'w')"]
    before, patience, after = config.read_text().partition("patience")
    lines = f"{before}{windows if closed else ''}{patience}{after}"
    config.write_text(f"{lines}[notify]\ncommand = {json.dumps(tell)}\n")


class Waiting:
    """A process whose stderr is read as it comes."""

    def __init__(self, rig: Rig, command: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "migrator", *command.split()],
            cwd=rig.folder,
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""

    def until(self, words: str) -> None:
        """Read stderr until it says these words."""
        assert self._process.stderr is not None
        while words not in self.said:
            line = self._process.stderr.readline()
            assert line, self.said
            self.said += line

    def ended(self, number: signal.Signals | None = None) -> int:
        """Wait for the end, which a signal asks for; give the exit code."""
        if number is not None:
            self._process.send_signal(number)
        self.said += self._process.communicate(timeout=SECONDS)[1]
        return self._process.returncode

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def waiting(rig: Rig, command: str) -> Iterator[Waiting]:
    """Start a command, and leave nothing of it behind."""
    started = Waiting(rig, command)
    try:
        yield started
    finally:
        started.kill()


@pytest.mark.parametrize("why", [PAUSED, CLOSED])
@pytest.mark.parametrize(
    ("command", "code", "held"),
    [
        ("run", 130, "run"),
        ("sync", 130, "sync"),
        ("sync --every 1h", 0, None),
        ("plan", 130, None),
        ("audit", 130, None),
    ],
)
def test_what_waits_asks_for_nothing_and_ends_when_told(
    rig: MakeRig, command: str, code: int, held: str | None, why: str
) -> None:
    """It says why, keeps the archive only where that is documented, and nobody is told of it."""
    one = rig(tickets=3)
    one.expect(0, "run")
    configure(one, closed=why == CLOSED)
    if why == PAUSED:
        pause(one.archive, Pause("a", "here", 1, None))
    before = len(one.server.requests)
    with waiting(one, command) as process:
        process.until(why)
        owner = holder(one.archive)
        assert (owner and owner.command) == held
        assert process.ended(signal.SIGTERM) == code
    assert len(one.server.requests) == before
    assert not (one.folder / "told").exists()
    assert "Traceback" not in process.said
    assert "failed" not in process.said


def test_both_a_pause_and_a_window_must_be_over(rig: MakeRig) -> None:
    """Whoever resumes in quiet hours waits for the window, and is told so."""
    one = rig(tickets=3)
    one.expect(0, "run")
    configure(one, closed=True)
    pause(one.archive, Pause("a", "here", 1, None))
    with waiting(one, "sync --every 1h") as process:
        process.until(PAUSED)
        one.expect(0, "resume")
        process.until(CLOSED)
        assert process.ended(signal.SIGINT) == 0


@pytest.mark.parametrize("command", ["run --recheck", "sync --full"])
def test_a_pause_in_mid_run_costs_nothing_but_time(rig: MakeRig, command: str) -> None:
    """It may be longer than `patience` and `timeout`; what was fetched is not fetched again."""
    one = rig(tickets=40, latency=0.05)
    configure(one, closed=False)
    config = one.folder / "config.toml"
    config.write_text(config.read_text().replace('"10s"', '"1s"\ntimeout = "2s"'))
    with waiting(one, command) as process:
        while len(one.server.requests) < 30:
            time.sleep(0.01)
        pause(one.archive, Pause("a", "here", 1, None))
        process.until(PAUSED)
        time.sleep(2.5)  # longer than both
        resume(one.archive)
        assert process.ended() == 0, process.said
    assert "going on" in process.said
    assert max(one.fetches().values()) == 1
    rows = one.rows()
    assert {key: rows[key].sha256 for key in one.truth} == {
        key: true.sha256 for key, true in one.truth.items()
    }
