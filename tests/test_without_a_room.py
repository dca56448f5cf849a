"""Rooms that can be deleted: everything else works without them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import migrator

STORY = """
import sys
from pathlib import Path

from migrator.cli import invoke
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer

with SandboxServer(Helpdesk.build(SandboxOptions(tickets=12))) as server:
    Path("config.toml").write_text(server.config)
    Path("config.toml").chmod(0o600)
    for line in sys.argv[1:]:
        code = invoke(line.split())
        print(f"{line}: {code}", flush=True)
"""
"""Runs commands against a sandbox; prints the exit code of each."""
COMMANDS = {
    "run": None,
    "sync": None,
    "status": None,
    "report": None,
    "report --format html --output report.html": None,
    "verify": None,
    "audit": None,
    "plan": "plan",
    "run --dry-run": "plan",
    "handover pack": "handover",
    "demo --tickets 12": None,
}
"""What is done, and the room that it cannot be done without; ``demo`` serves and downloads."""


@pytest.mark.slow
@pytest.mark.parametrize("room", ["plan", "handover", "serve/web", "selftest"])
def test_everything_else_works_without_a_room(tmp_path: Path, room: str) -> None:
    """Without one of these folders only its own commands fail, with 2 and a sentence."""
    package = tmp_path / "lib" / "migrator"
    shutil.copytree(
        Path(migrator.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.rmtree(package / room)
    (tmp_path / "home").mkdir()
    ours = ("KAYAKO_", "MIGRATOR_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", STORY, *COMMANDS],
        cwd=tmp_path / "home",
        env={**environ, "PYTHONPATH": str(package.parent), "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )
    failing = [command for command, needed in COMMANDS.items() if needed == room]
    for command in COMMANDS:
        assert f"{command}: {2 if command in failing else 0}\n" in done.stdout, done.stderr
    sentence = f"Error: This installation lacks migrator.{room.replace('/', '.')}"
    assert done.stderr.count(sentence) == len(failing)
    assert "bug of migrator" not in done.stderr
