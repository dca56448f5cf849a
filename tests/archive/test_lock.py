"""The run lock: one owner, told by name, freed by death."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import ANY

import pytest

from migrator.archive import open_archive, open_beside
from migrator.archive.lock import Holder, RunLock
from migrator.archive.lock import holder as holder_of
from migrator.errors import ArchiveBusy, ArchiveDamaged, ArchiveUnwritable

HOLD = """
import sys
from pathlib import Path
from migrator.archive import open_archive
with open_archive(Path(sys.argv[1]), command="holder"):
    print("held", flush=True)
    sys.stdin.read()
"""

RACE = """
import sys
from pathlib import Path
from migrator.archive import open_archive
from migrator.errors import ArchiveBusy
print("ready", flush=True)
sys.stdin.readline()
try:
    archive = open_archive(Path(sys.argv[1]), command="race")
except ArchiveBusy:
    print("busy", flush=True)
else:
    print("won", flush=True)
    sys.stdin.readline()
    archive.close()
"""


@contextmanager
def holder(root: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_run_is_told_who_holds_the_archive(root: Path) -> None:
    """The error names process, host, command and time of the holder."""
    with holder(root) as process, pytest.raises(ArchiveBusy) as caught:
        open_archive(root, command="second")
    text = str(caught.value)
    assert f"process {process.pid} on" in text
    assert '"holder"' in text
    assert " UTC" in text


def test_death_frees_the_lock(root: Path) -> None:
    """A holder that was killed is no obstacle, though its text is still there."""
    with holder(root) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert "holder" in (root / "lock").read_text()
        open_archive(root, command="next").close()
    assert (root / "lock").read_text() == ""


def test_a_child_does_not_inherit_the_lock(root: Path) -> None:
    """A process that the owner started does not keep the lock when the owner lets go."""
    with open_archive(root, command="owner"):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        open_archive(root, command="next").close()
    finally:
        child.communicate(b"\n")


def test_only_one_of_many_gets_the_lock(root: Path) -> None:
    """Of processes that race for a new archive exactly one wins, the others are told busy."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    answers = []
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        for racer in racers:
            assert racer.stdout is not None
            answers.append(racer.stdout.readline())
    finally:
        for racer in racers:
            racer.communicate("\n")
    assert sorted(answers) == ["busy\n", "won\n"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\xff", '{"since": 1e999}'])
def test_a_holder_with_an_odd_text_is_still_a_holder(tmp_path: Path, text: str) -> None:
    """A torn or foreign text never breaks the answer, and is never shown."""
    lock = RunLock(tmp_path, command="first")
    (tmp_path / "lock").write_text(text, encoding="latin-1")
    with pytest.raises(ArchiveBusy, match="left no name"):
        RunLock(tmp_path, command="second")
    lock.release()


def test_asking_for_the_holder_is_in_nobodys_way(root: Path) -> None:
    """After a kill the lock is asked for all the time, and the next run gets it all the same."""
    with holder(root) as process:
        assert holder_of(root) == Holder(process.pid, ANY, "holder", ANY)
        process.kill()
        process.wait()
    assert holder_of(root) is None
    with (root / "lock").open("rb") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        threading.Timer(0.01, asking.close).start()
        lock = RunLock(root, command="next")
    assert holder_of(root) == Holder(os.getpid(), ANY, "next", ANY)
    lock.release()
    assert holder_of(root) is None
    assert holder_of(root / "nowhere") is None


def test_since_beyond_the_calendar_is_unknown(tmp_path: Path) -> None:
    """No number in the file breaks the answer."""
    lock = RunLock(tmp_path, command="first")
    (tmp_path / "lock").write_text(f'{{"pid": 1, "since": {10**30}}}')
    with pytest.raises(ArchiveBusy, match="since \\?"):
        RunLock(tmp_path, command="second")
    lock.release()


def test_a_hostile_command_is_shown_escaped(tmp_path: Path) -> None:
    """Control characters in a holder's command reach no terminal."""
    lock = RunLock(tmp_path, command="x\x1b[2J\n")
    with pytest.raises(ArchiveBusy) as caught:
        RunLock(tmp_path, command="second")
    lock.release()
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_reading_beside_a_run_needs_no_lock(root: Path) -> None:
    """serve, status and report work while a run holds the archive."""
    with open_archive(root, command="run") as run, open_beside(root) as beside:
        run.ledger.begin_run("run", source="x", scope={})
        assert len(beside.queries.runs()) == 1


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    """Whoever wants the lock is told what is there, and who asks for the holder hears of none."""
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(ArchiveDamaged, match="named pipe"):
        RunLock(tmp_path, command="test")
    assert holder_of(tmp_path) is None


def test_release_may_be_called_twice(tmp_path: Path) -> None:
    """A second release does not close a descriptor that is somebody else's by now."""
    lock = RunLock(tmp_path, command="test")
    lock.release()
    fd = os.open(tmp_path, os.O_RDONLY)
    lock.release()
    os.close(fd)


def test_a_lock_that_cannot_be_taken_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without locks or without space is told as unwritable, and nothing is held."""

    def refuse(*args: object) -> None:
        raise OSError(37, "No locks available")

    for name in ("fcntl.flock", "os.pwrite"):
        with monkeypatch.context() as patch:
            patch.setattr(name, refuse)
            with pytest.raises(ArchiveUnwritable, match="No locks available"):
                RunLock(tmp_path, command="test")
    RunLock(tmp_path, command="test").release()
    (tmp_path / "lock").unlink()
    (tmp_path / "lock").symlink_to("/dev/null")
    with pytest.raises(ArchiveUnwritable):
        RunLock(tmp_path, command="test")
