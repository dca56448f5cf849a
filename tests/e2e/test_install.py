"""Installation, upgrade and removal as README and manual say, with pip, pipx and uv themselves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_examples import examples
from tests.test_manual import PACKAGE, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SOURCE = (
    "migrator",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "config.example.toml",
    "pyproject.toml",
)
UPGRADE = (
    "pipx install --force .",
    "uv tool install --reinstall .",
    ".venv/bin/pip install --upgrade .",
)
REMOVAL = ("pipx uninstall migrator", "uv tool uninstall migrator")


class Machine:
    """A copy of the source in a path with a blank, and a home, of somebody who has pipx and uv."""

    def __init__(self, folder: Path) -> None:
        self.source, self.home, tools = folder / "the source", folder / "home", folder / "tools"
        self.home.mkdir()
        self.source.mkdir()
        for name in SOURCE:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, self.source / name)
        python = os.path.realpath(sys.executable)
        path = f"{self.home}/.local/bin:{tools}/bin:{Path(python).parent}:/usr/bin:/bin"
        kept = {name: text for name, text in os.environ.items() if name[:4] in ("PIP_", "SSL_")}
        self.env = kept | {
            "HOME": str(self.home),
            "PATH": path,
            "PIPX_DEFAULT_PYTHON": python,
            "UV_PYTHON": python,
        }
        if "PIP_CERT" in kept:
            self.env["SSL_CERT_FILE"] = kept["PIP_CERT"]
        made = subprocess.run(
            f"'{python}' -m venv '{tools}' && '{tools}/bin/pip' install -q pipx uv",
            shell=True, env=self.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            pytest.skip(f"pip reaches no package index: {made.stderr[-200:]}")

    def sh(self, line: str) -> str:
        """Run a line in the source."""
        done = subprocess.run(
            ["bash", "-ec", line], cwd=self.source, env=self.env, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.stdout[-1000:]}{done.stderr[-3000:]}"
        return done.stdout

    def release(self, version: str) -> None:
        """Make the source another version."""
        file = self.source / "migrator" / "__init__.py"
        text = re.sub(r'(?<=__version__ = ")[^"]+', version, file.read_text())
        file.write_text(text)


def test_from_the_first_line_to_the_removal(tmp_path: Path) -> None:
    """Each way installs a command that works, upgrades it, and leaves none of it behind."""
    machine = Machine(tmp_path)
    lines = [
        one for one in examples()["README.md"] if re.match("python3 -m venv|pipx|uv tool", one)
    ]
    venv = ".venv/bin/migrator --version"
    ours = {"pipx": "migrator --version", "uv": "migrator --version"}
    page = (PACKAGE / "docs" / "operations.md").read_text("utf-8")
    tried = 0
    for line in lines:
        if "pytest" in line:
            continue
        said = machine.sh(line)
        assert "demo" not in line or "byte for byte the same" in said
        way = line.split()[0]
        machine.release("8.0")
        upgrade = next(one for one in UPGRADE if one.split()[0] in (way, ".venv/bin/pip"))
        assert f"`{upgrade}`" in page
        machine.sh(upgrade)
        assert "8.0" in machine.sh(ours.get(way, venv))
        machine.release("7.0")
        if way in ours:
            removal = next(one for one in REMOVAL if one.split()[0] == way)
            assert removal in page
            machine.sh(removal)
            machine.sh("! command -v migrator")
        else:
            shutil.rmtree(machine.source / ".venv")
        tried += 1
    assert tried == 4
    left = [path for path in machine.home.rglob("*migrator*") if ".cache" not in path.parts]
    assert [path.name for path in left if path.name != ".migrator.lock"] == []  # a lock of pipx
