"""Archives that root, their owner and strangers use in turn."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer

ROOT = Path(__file__).parent.parent.parent
OWNER, GROUP = 54_321, 54_322

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two people"),
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv here"),
]

Migrator = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    """Serve a small helpdesk."""
    with SandboxServer(Helpdesk.build(SandboxOptions(tickets=6))) as server:
        yield server


@pytest.fixture
def home(server: SandboxServer) -> Iterator[Path]:
    """Make a home directory of the owner, with a configuration, where everybody can get to."""
    with tempfile.TemporaryDirectory(prefix="owners-") as name:
        home = Path(name)
        (home / "config.toml").write_text(server.config)
        for path in (home, home / "config.toml"):
            os.chown(path, OWNER, GROUP)
        yield home


@pytest.fixture
def migrator(home: Path) -> Migrator:
    """Run ``migrator`` there as root or, with ``owner``, as the owner."""
    # Code and interpreter may be root's alone: the owner may read all, and write what is theirs.
    reads = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    owner = ["setpriv", f"--reuid={OWNER}", f"--regid={GROUP}", "--clear-groups", *reads]

    def run(*argv: str, by_owner: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*(owner if by_owner else []), sys.executable, "-P", "-m", "migrator", *argv],
            cwd=home,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    if run("--version", by_owner=True).returncode:
        pytest.skip("a process with the rights of another user cannot be started here")
    return run


def owners(top: Path) -> dict[str, tuple[int, int]]:
    paths = [top, *top.rglob("*")]
    return {str(path.relative_to(top)): path.lstat()[4:6] for path in paths}


def test_a_run_as_root_leaves_the_archive_to_its_owner(home: Path, migrator: Migrator) -> None:
    """Whatever root adds, the owner can go on with: files, directories, checkpoint, lock, plan."""
    assert migrator("run", "--limit-tickets", "2", by_owner=True).returncode == 3
    (home / "archive" / "lock").unlink()
    for argv in (
        ["run"],
        ["plan", "--save-plan", "plan.jsonl", "--output", "archive/plan.txt"],
        ["report", "--output", "archive/report.txt"],
        ["handover", "--tree", "out"],
        ["token", "create", "--name", "reader", "--ability", "tickets:read"],
    ):
        done = migrator(*argv)
        assert done.returncode == 0, done.stderr
        assert {k: v for k, v in owners(home).items() if v != (OWNER, GROUP)} == {}, argv
    for argv in (
        ["sync", "--full"],
        ["verify"],
        ["verify", "--prune", "--yes"],
        ["handover", "--check", "out"],
        ["plan", "--save-plan", "plan.jsonl"],
        ["token", "revoke", "reader"],
    ):
        done = migrator(*argv, by_owner=True)
        assert done.returncode == 0, done.stderr


def test_the_first_run_of_all_may_be_root(home: Path, migrator: Migrator) -> None:
    """An archive in somebody's directory is theirs, also where root began it."""
    assert migrator("run").returncode == 0
    assert set(owners(home).values()) == {(OWNER, GROUP)}
    assert migrator("run", by_owner=True).returncode == 0
    modes = {oct(path.stat().st_mode & 0o077) for path in (home / "archive").rglob("*")}
    assert modes == {"0o0"}


@pytest.mark.parametrize("mask", ["0077", "0777"])
def test_no_umask_keeps_the_owner_out(home: Path, migrator: Migrator, mask: str) -> None:
    """Modes are set as they must be, whatever the shell takes away."""
    before = os.umask(int(mask, 8))
    try:
        for argv in (["run"], ["sync"], ["plan", "--save-plan", "p"], ["handover", "out"]):
            done = migrator(*argv, by_owner=True)
            assert done.returncode == 0, done.stderr
    finally:
        os.umask(before)


def test_root_gives_nothing_away_that_was_there(home: Path, migrator: Migrator) -> None:
    """A file of root's under a second name, put where the lock must be, stays root's."""
    assert migrator("run", by_owner=True).returncode == 0
    lock, secret = home / "archive" / "lock", home / "secret"
    secret.write_text("root's")
    lock.unlink()
    lock.hardlink_to(secret)
    migrator("run")
    assert secret.stat().st_uid == 0


def test_what_belongs_to_another_ends_in_words(home: Path, migrator: Migrator) -> None:
    """Where the owner cannot write, the code is 7 and the reason is said, never a bug."""
    assert migrator("run", by_owner=True).returncode == 0
    shutil.chown(home / "archive" / "blobs" / "tmp", 0, 0)
    shutil.chown(home / "archive" / "checkpoint.db", 0, 0)
    (home / "archive" / "checkpoint.db").chmod(0o600)
    done = migrator("run", by_owner=True)
    assert done.returncode == 7
    assert "owner" in done.stderr
    doctor = migrator("doctor", by_owner=True)
    assert doctor.returncode == 7
    assert "Ready" not in doctor.stdout
    for command in ("status", "report", "verify"):
        assert migrator(command, by_owner=True).returncode in (0, 3, 7)
