"""What ``schedule`` prints means the same to systemd, to cron and to the shell."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from migrator.cli.schedule_cmd import cron_command, systemd_command
from tests.cli.conftest import Cli

HOSTILE = [
    "/srv/plain/config.toml",
    "/srv/with space/config.toml",
    "/srv/100% sure/%h/%%/config.toml",
    '/srv/it\'s "quoted"/config.toml',
    "/srv/$HOME/${USER}/`id`/$(id)/config.toml",
    "/srv/back\\slash\\%d/\\\\/config.toml",
    "/srv/ümläut/日本/;&|<>*?[]{}!#~/config.toml",
    "%",
    "-%-",
]


def read_by_cron(line: str) -> str:
    """Give the command that cron hands to the shell, as its source does it; % is a line end."""
    command, escaped = "", False
    for char in line.split(" ", 5)[5]:
        if escaped:
            command = command[:-1] + char if char == "%" else command + char
            escaped = False
        elif char == "%":
            return command
        else:
            command += char
            escaped = char == "\\"
    return command


def read_by_systemd(line: str) -> list[str]:
    """Give the words of ExecStart= by the rules of systemd.service(5)."""
    words: list[str] = []
    assert not line.startswith(":") or "$" in line
    for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|([^\s"]+)', line.removeprefix(":")):
        text = quoted or plain
        text = re.sub(
            r"\\(x[0-9a-f]{2}|.)",
            lambda found: chr(int(found[1][1:], 16)) if len(found[1]) == 3 else found[1],
            text,
        )
        assert not re.search(r"(?<!%)%(%%)*(?!%)", text), "a specifier"
        words.append(text.replace("%%", "%"))
    return words


@pytest.mark.parametrize("path", HOSTILE)
def test_cron_and_the_shell_read_what_was_meant(path: str) -> None:
    """Any path is one word of the command, whatever cron and the shell make of its characters."""
    argv = ["printf", "%s\\n", "--config", path]
    line = f"*/15 * * * * {cron_command(argv)}"
    command = read_by_cron(line)
    assert shlex.split(command) == argv
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert said.stdout == f"--config\n{path}\n"


@pytest.mark.parametrize("path", [*HOSTILE, "/srv/a\nb", "/srv/tab\there"])
def test_systemd_reads_what_was_meant(path: str) -> None:
    """No specifier, no variable, no escape and no quote of a path means anything."""
    assert read_by_systemd(systemd_command(["/bin/echo", "--config", path])) == [
        "/bin/echo",
        "--config",
        path,
    ]
    assert "\n" not in systemd_command([path])


def units(text: str) -> dict[str, configparser.ConfigParser]:
    """Cut what is printed into files and read each."""
    found: dict[str, configparser.ConfigParser] = {}
    for part in re.split(r"(?=^# /etc/systemd/system/)", text, flags=re.MULTILINE)[1:]:
        name = part.split("\n", 1)[0].rpartition("/")[2]
        parser = configparser.ConfigParser(interpolation=None, strict=True)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read_string(part)
        found[name] = parser
    return found


@pytest.fixture
def odd_home(tmp_path: Path) -> Path:
    """Put a configuration into a directory with an unpleasant name."""
    home = tmp_path / "it's 5% $HOME"
    home.mkdir()
    (home / "config.toml").write_text("")
    return home


def test_the_units_call_this_installation_with_this_configuration(cli: Cli, odd_home: Path) -> None:
    """Absolute paths, a oneshot service, exit codes that are no failure, and a timer."""
    config = odd_home / "config.toml"
    code, out, _ = cli("-c", str(config), "schedule", "--systemd", "--every", "30m")
    assert code == 0
    found = units(out)
    assert list(found) == ["migrator-sync.service", "migrator-sync.timer"]
    service, timer = found["migrator-sync.service"], found["migrator-sync.timer"]
    assert read_by_systemd(service["Service"]["ExecStart"]) == [
        sys.executable,
        "-P",
        "-m",
        "migrator",
        "--config",
        str(config),
        "sync",
    ]
    assert service["Service"]["Type"] == "oneshot"
    assert service["Service"]["SuccessExitStatus"] == "5"
    assert timer["Timer"]["OnUnitActiveSec"] == "1800s"
    assert timer["Timer"]["RandomizedDelaySec"] == "180s"


@pytest.mark.slow
def test_the_line_for_cron_runs_this_installation(cli: Cli, odd_home: Path) -> None:
    """One line on stdout; the command in it really finds the configuration."""
    code, out, err = cli("-c", str(odd_home / "config.toml"), "schedule", "--cron")
    assert code == 0
    assert out.count("\n") == 1
    assert out.startswith("*/15 * * * * ")
    assert "crontab -e" in err
    command = read_by_cron(out.rstrip("\n")).replace("logger -t migrator", "cat >&2")
    said = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False, cwd="/"
    )
    assert said.returncode == 2, "no keys in that configuration"
    assert f"{odd_home}/config.toml has" in said.stderr


@pytest.mark.parametrize(
    ("every", "times"),
    [
        ("1m", "* * * * *"),
        ("5m", "*/5 * * * *"),
        ("60m", "0 * * * *"),
        ("6h", "0 */6 * * *"),
        ("1d", "0 3 * * *"),
    ],
)
def test_how_often_is_said_as_cron_says_it(cli: Cli, home: Path, every: str, times: str) -> None:
    """Only what divides an hour or a day comes evenly."""
    line = cli("schedule", "--cron", "--every", every).out
    assert line.startswith((f"{times} {{ {{ /", f"{times} {{ {{ '/"))


@pytest.mark.parametrize(
    "argv", [("--cron", "--every", "5s"), ("--systemd", "--every", "30s"), ("--every", "15m")]
)
def test_what_cannot_be_scheduled_is_a_usage_error(
    cli: Cli, home: Path, argv: tuple[str, ...]
) -> None:
    """Less than a minute, or no word on which of the two: exit 2 and what is possible."""
    code, out, err = cli("schedule", *argv)
    assert (code, out) == (2, "")
    assert "--systemd or --cron" in err or "at least 1m" in err
