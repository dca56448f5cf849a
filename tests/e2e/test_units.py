"""The units of the manual and of ``schedule``, as systemd reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, cli
from tests.test_manual import BLOCK, PACKAGE

__all__ = ["cli"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"),
]


@pytest.fixture
def units(cli: Cli, tmp_path: Path) -> list[Path]:
    """Write all units into a folder, by the names that their first lines say."""
    text = (PACKAGE / "docs" / "operations.md").read_text("utf-8")
    found = [block for kind, block in BLOCK.findall(text) if kind == "ini"]
    (tmp_path / "config.toml").touch(0o600)
    printed = cli("schedule", "--systemd").out
    folder = tmp_path / "units"
    folder.mkdir()
    for unit in "\n".join([*found, printed]).split("# /etc/systemd/system/")[1:]:
        name, _, lines = unit.partition("\n")
        (folder / name).write_text(re.sub(r"(?<=ExecStart=)/opt/\S+", "/bin/true", lines))
    return sorted(folder.iterdir())


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    argv = ["systemd-analyze", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_systemd_understands_every_unit(units: list[Path]) -> None:
    """It has nothing to say against any line of them."""
    assert len(units) == 3
    done = analyze("verify", "--recursive-errors=no", "--man=no", *map(str, units))
    assert "migrator-" not in done.stderr
    assert done.returncode == 0


def test_the_services_can_do_little(units: list[Path]) -> None:
    """By what systemd counts, each is far from the exposure of a service without such lines."""
    for unit, threshold in {"migrator-serve.service": "25", "migrator-sync.service": "50"}.items():
        argv = ["security", "--offline=yes", f"--threshold={threshold}"]
        done = analyze(*argv, str(units[0].parent / unit))
        assert done.returncode == 0, done.stdout
