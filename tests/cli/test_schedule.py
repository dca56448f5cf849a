"""``migrator schedule``."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

HOSTILE = "we ird %n \"q\" 's' $HOME \\ 50%"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Make a configuration in a directory whose name no one quotes by chance."""
    path = tmp_path / HOSTILE / "config.toml"
    path.parent.mkdir()
    path.write_text("")
    return path


def systemd_words(value: str) -> list[str]:
    """Read a value as systemd does: quotes, then specifiers."""
    return [word.replace("%%", "%") for word in shlex.split(value)]


def values(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


def test_systemd_is_told_of_this_configuration(cli: Cli, config: Path) -> None:
    """Whatever its path is: nothing of it is a quote, a variable or a specifier."""
    code, unit, _ = cli("--config", str(config), "schedule", "--systemd", "--every", "1h")
    [command] = values(unit, "ExecStart")
    assert (code, command[0]) == (0, ":")
    assert systemd_words(command)[-3:] == ["--config", str(config), "sync"]
    assert values(unit, "OnUnitActiveSec") == ["3600s"]


@pytest.mark.parametrize("place", ["archive", "/etc/migrator/100% archive"])
def test_the_unit_may_write_the_archive(cli: Cli, config: Path, place: str) -> None:
    """Also one in /etc or /usr, which the unit finds read-only."""
    config.write_text(f'[archive]\npath = "{place}"')
    _, unit, _ = cli("--config", str(config), "schedule", "--systemd")
    [paths] = values(unit, "ReadWritePaths")
    assert systemd_words(paths) == [f"-{config.parent / place}"]
    assert values(unit, "ProtectSystem") == ["full"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_reads_the_units(cli: Cli, config: Path, tmp_path: Path) -> None:
    """It finds nothing to say against them."""
    _, units, _ = cli("--config", str(config), "schedule", "--systemd")
    files = [tmp_path / "migrator-sync.service", tmp_path / "migrator-sync.timer"]
    for file, text in zip(files, units.split("\n\n# /etc/systemd"), strict=True):
        file.write_text(text if text.startswith("#") else f"# /etc/systemd{text}")
    argv = ["systemd-analyze", "verify", *map(str, files)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "migrator-sync" not in done.stderr


def test_cron_is_told_of_this_configuration(cli: Cli, config: Path) -> None:
    """Cron takes a percent sign for a line end unless it is escaped, and takes the escape away."""
    code, line, _ = cli("--config", str(config), "schedule", "--cron", "--every", "2h")
    times, command = line[:12], line[12:]
    assert (code, times.strip()) == (0, "0 */2 * * *")
    assert re.search(r"(?<!\\)%", command) is None
    words = shlex.split(command.replace("\\%", "%"))
    assert words[words.index("--config") + 1 :][:2] == [str(config), "sync"]


@pytest.mark.parametrize("every", ["7m", "90s", "25h"])
def test_cron_cannot_repeat_at_any_pace(cli: Cli, config: Path, every: str) -> None:
    """Where it would not be even, the usage error names what would be."""
    code, out, err = cli("--config", str(config), "schedule", "--cron", "--every", every)
    assert (code, out) == (2, "")
    assert "15m, 20m, 30m, 1h" in err


def test_a_line_end_in_a_path_is_no_crontab(cli: Cli, tmp_path: Path) -> None:
    """Cron would run what comes after it."""
    path = tmp_path / "a\nb.toml"
    path.write_text("")
    assert cli("--config", str(path), "schedule", "--cron").refused("line end")
    code, unit, _ = cli("--config", str(path), "schedule", "--systemd")
    assert (code, len(values(unit, "ExecStart"))) == (0, 1)
    assert r"a\x0ab.toml" in unit
