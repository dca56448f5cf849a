"""``selftest``: what it finds, how it tells that, and that nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.errors import ArchiveDamaged
from migrator.sandbox.kayako import SandboxOptions
from migrator.selftest import checks
from migrator.selftest import rig as rig_module
from migrator.selftest.checks import Lab
from migrator.selftest.rig import Child, Failed, Rig, Skipped, small_disk
from tests.cli.conftest import Cli

pytestmark = pytest.mark.slow

Check = Callable[[Lab], str]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder in which temporary files are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def give_checks(monkeypatch: pytest.MonkeyPatch, **found: Check) -> None:
    monkeypatch.setattr(checks, "CHECKS", found)


def fail(error: BaseException) -> Check:
    def check(_: Lab) -> str:
        raise error

    return check


def mounted(folder: Path) -> bool:
    return str(folder) in Path("/proc/mounts").read_text()


@pytest.mark.timeout(600)
def test_the_whole_story_in_small(cli: Cli, temporary: Path) -> None:
    """Every check passes, or is skipped where no small disk may be mounted; nothing stays."""
    told = cli("selftest", "--kills", "2", "--tickets", "10")
    assert told.code == 0, told.out
    results = [line.split("  ")[0] for line in told.out.splitlines()[1:-2]]
    assert results == list(checks.CHECKS)
    assert "0 failed" in told.out
    assert "2 kills" in told.out
    if os.geteuid() == 0 and sys.platform == "linux":
        assert "exit 7" in told.out or "skipped" in told.out
    assert list(temporary.iterdir()) == []
    assert sys.platform != "linux" or not mounted(temporary)


def test_broken_promises_are_told(
    cli: Cli, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1 when any check failed; all others are done all the same."""
    give_checks(
        monkeypatch,
        good=lambda _: "all is well",
        bad=fail(Failed("3 files are gone")),
        worse=fail(ArchiveDamaged("the checkpoint is damaged")),
        odd=fail(OSError(5, "Input/output error")),
        not_here=fail(Skipped("only on a boat")),
    )
    told = cli("selftest")
    assert told.code == 1
    table = [line.split(maxsplit=2) for line in told.out.splitlines()[1:6]]
    assert table == [
        ["good", "passed", "all is well"],
        ["bad", "FAILED", "3 files are gone"],
        ["worse", "FAILED", "the checkpoint is damaged"],
        ["odd", "FAILED", "[Errno 5] Input/output error"],
        ["not_here", "skipped", "only on a boat"],
    ]
    assert told.out.endswith("1 passed, 3 failed, 1 skipped\n")


def test_skipping_is_no_failure(cli: Cli, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be tried here is told, and the exit code stays 0."""
    give_checks(monkeypatch, not_here=fail(Skipped("only on a boat")))
    assert cli("selftest").code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_tidies_up(
    cli: Cli, temporary: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """A signal ends it with 130; also one that comes while it tidies changes nothing of that."""
    children: list[Child] = []

    def check(lab: Lab) -> str:
        with lab.rig("one") as rig, rig.start("serve") as child:
            children.append(child)
            try:
                threading.Timer(0.2, os.kill, [os.getpid(), number]).start()
                time.sleep(60)
            finally:
                os.kill(os.getpid(), number)
        return "never"

    give_checks(monkeypatch, one=check)
    before = signal.getsignal(number)
    assert cli("selftest", "--tickets", "8").code == 130
    assert signal.getsignal(number) is before
    assert list(temporary.iterdir()) == []
    assert not children[0].send(signal.SIGTERM), "it has ended"


def test_no_key_of_the_user_gets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own environment must not reach a rehearsal, nor the rehearsal the helpdesk."""
    monkeypatch.setenv("KAYAKO_API_KEY", "precious")
    monkeypatch.setenv("MIGRATOR_CONFIG", "/etc/precious.toml")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with Rig(tmp_path, SandboxOptions(tickets=2)) as rig:
        rig.expect(0, "run")
        rig.expect_truth()


def test_an_unexpected_end_is_a_finding(tmp_path: Path) -> None:
    """The exit code, the one that was due, and the last words are told."""
    with (
        Rig(tmp_path, SandboxOptions(tickets=1)) as rig,
        pytest.raises(Failed, match=r"`migrator verify` ended with 2, not 0: .*no archive"),
    ):
        rig.expect(0, "verify")


def test_a_process_that_hangs_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience has an end, and the process goes with it."""
    monkeypatch.setattr(rig_module, "PATIENCE", 0.01)
    with (
        Rig(tmp_path, SandboxOptions(tickets=1)) as rig,
        pytest.raises(Failed, match="did not end"),
    ):
        rig.finish("run")


def test_a_wrong_outcome_is_a_finding(tmp_path: Path) -> None:
    """An attachment that is missing, one too many, or one with other bytes: each is seen."""
    with Rig(tmp_path, SandboxOptions(tickets=4)) as rig:
        rig.expect(0, "run")
        rig.expect_truth()
        first = min(rig.helpdesk.attachments)
        ticket = rig.helpdesk.attachments[first].ticket_id
        rig.helpdesk.delete_attachment(first)
        added = rig.helpdesk.add_attachment(ticket, "late.txt", b"late")
        with pytest.raises(Failed, match=rf"2 attachments .*\[{first}, {added}\]"):
            rig.expect_truth()


def test_kills_that_never_hit_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies by itself does not pass for one that was killed."""
    monkeypatch.setattr(Rig, "start", lambda self, *argv: _broken(self))
    lab = Lab(tmp_path, 8, 2, 1, lambda _: None)
    with pytest.raises(Failed, match="a run ended by itself with 2"):
        checks.killed(lab)


def _broken(rig: Rig) -> object:
    import contextlib

    child = Child(rig.folder, ("no-such-command",))
    child.wait()
    return contextlib.closing(child)


def test_a_small_disk_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to mount, the check is skipped with a reason."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Skipped, match="only root"), small_disk(tmp_path / "disk", "1m"):
        pass
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Skipped, match="no program"), small_disk(tmp_path / "bare", "1m"):
        pass
    refused = subprocess.CompletedProcess[bytes]([], 32)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: refused)
    with pytest.raises(Skipped, match="not allowed"), small_disk(tmp_path / "disk", "1m"):
        pass
