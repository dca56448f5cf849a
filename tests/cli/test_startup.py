"""What the commands import: nothing heavy that they do not use, and next to nothing for help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from migrator.archive import open_archive
from migrator.cli import COMMANDS

pytestmark = pytest.mark.slow

HEAVY = {
    "aiohttp",
    "httptools",
    "httpx",
    "jinja2",
    "lxml",
    "magic",
    "nh3",
    "pybase64",
    "pydantic",
    "sqlite3",
    "sqlite_utils",
    "starlette",
    "tqdm",
    "uvicorn",
    "uvloop",
}
OURS_FOR_HELP = {
    "migrator",
    "migrator.cli",
    "migrator.cli.common",
    "migrator.cli.process",
    "migrator.errors",
    "migrator.report",
    "migrator.text",  # makes texts of others harmless on a terminal
}

READS = {"pydantic", "sqlite3"}
"""What every command needs that reads the configuration and the archive."""

USES = {
    "init": ("init", {"pydantic"}),
    "schedule --cron": ("schedule", READS),
    "status": ("status", READS),
    "report": ("report", READS),
    "report --format csv": ("report", READS),
    "verify": ("verify", READS | {"tqdm"}),
    "handover out": ("handover", READS | {"jinja2", "tqdm"}),
    "token list": ("token", READS),
    "rule list": ("rule", READS),
    "queue list": ("queue", READS),
}

SCRIPT = """
import json, sys
from migrator.cli import invoke
code = invoke(sys.argv[1:])
print("\\n" + json.dumps([code, sorted(sys.modules)]))
"""


def loaded(home: Path, *args: str) -> tuple[int, set[str]]:
    """Run a command in a process of its own; return its exit code and the modules it loaded."""
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, *args], cwd=home, check=True, capture_output=True, text=True
    )
    code, modules = json.loads(found.stdout.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize("args", [["--help"], ["--version"], [], ["no-such-command"]])
def test_help_loads_next_to_nothing(tmp_path: Path, args: list[str]) -> None:
    """For help, the version and a mistyped command: the frame alone, no room, no library."""
    _, modules = loaded(tmp_path, *args)
    assert not HEAVY & modules
    assert {name for name in modules if name.partition(".")[0] == "migrator"} <= OURS_FOR_HELP
    assert {"asyncio", "ssl", "http", "email", "xml", "multiprocessing"}.isdisjoint(modules)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_loads_no_library(tmp_path: Path, command: str) -> None:
    """Each command tells its options before it needs anything but them."""
    code, modules = loaded(tmp_path, command, "--help")
    assert code == 0
    assert not HEAVY & modules


@pytest.mark.parametrize("line", USES)
def test_commands_load_what_they_use(tmp_path: Path, line: str) -> None:
    """A command that only looks loads no HTTP, no XML and no server."""
    name, may = USES[line]
    assert name in COMMANDS
    if name != "init":
        open_archive(tmp_path / "archive", command="test").close()
        (tmp_path / "config.toml").write_text("")
    code, modules = loaded(tmp_path, *line.split())
    assert code in (0, 3), "an archive that no run has filled is not complete"
    assert HEAVY & modules <= may
