"""``migrator schedule``."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

ROOT = Path(__file__).parent.parent.parent
DOWN = """
[kayako]
url = "http://127.0.0.1:9/api/index.php"
api_key = "k"
secret_key = "s"
attempts = 1
patience = "0s"
"""
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


def test_the_unit_runs_as_the_owner_of_the_archive(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who root prints it for; without an archive who runs the command, whatever USER says."""
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.setenv("LOGNAME", "somebody")
    argv = ("--config", str(config), "schedule", "--systemd")
    assert values(cli(*argv).out, "User") == [pwd.getpwuid(os.geteuid()).pw_name]
    if os.geteuid() == 0:
        config.with_name("archive").mkdir()
        os.chown(config.with_name("archive"), 54_321, -1)
        assert values(cli(*argv).out, "User") == ["54321"]


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


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dash") is None, reason="needs dash, as cron's /bin/sh")
@pytest.mark.parametrize(("text", "code"), [("", 2), (DOWN, 4)])
def test_the_line_for_cron_ends_with_the_code_of_the_sync(
    cli: Cli, config: Path, text: str, code: int
) -> None:
    """In a shell without pipefail, and also where the logger fails; all words reach the logger."""
    config.write_text(text)
    config.chmod(0o600)
    line = cli("--config", str(config), "schedule", "--cron", "--every", "1m")[1]
    command = line.strip().removeprefix("* * * * * ").replace("\\%", "%")
    logger = config.parent / "logger"
    for script in ('#!/bin/sh\ncat > "$0.said"\n', "#!/bin/sh\nexit 1\n", None):
        logger.unlink(missing_ok=True)
        if script is not None:
            logger.write_text(script)
            logger.chmod(0o755)
        path = f"{config.parent}{os.pathsep}/bin" if script else "/nowhere"
        dash = shutil.which("dash") or ""
        done = subprocess.run(
            [dash, "-c", command], env={"PATH": path, "PYTHONPATH": str(ROOT)},
            capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == code, done
        assert b"Error" not in done.stdout
    assert "Error: " in (config.parent / "logger.said").read_text()


def test_the_unit_fails_for_what_is_new(cli: Cli, config: Path) -> None:
    """3 is no success there, and the sync ends with 3 only for new failures and losses."""
    _, unit, _ = cli("--config", str(config), "schedule", "--systemd")
    assert values(unit, "SuccessExitStatus") == ["5"]
    assert values(unit, "Environment") == ["MIGRATOR_KNOWN_OK=1"]


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
