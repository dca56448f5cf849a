"""Completion in the shells themselves, as the README says to switch it on."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from migrator.archive import Department, open_archive

ROOT = Path(__file__).parent.parent.parent
LINES = re.findall(
    r"^(.*_MIGRATOR_COMPLETE=(\w+)_source.*?) *#", (ROOT / "README.md").read_text(), re.MULTILINE
)
SWITCH = {shell: line for line, shell in LINES}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Put ``migrator`` of this tree on the path of a user without settings of their own."""
    program = tmp_path / "migrator"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m migrator "$@"\n')
    program.chmod(0o755)
    return {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "TERM": "dumb",
    }


def run(argv: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(
        argv, cwd=env.get("PWD"), env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    return done.stdout


def in_shell(shell: str, words: str, env: dict[str, str]) -> list[str]:
    """Return what the shell offers to complete the last of some words with."""
    if shell == "fish":
        said = run(["fish", "-c", f"{SWITCH[shell]}\ncomplete -C {words!r}"], env)
        return [line.partition("\t")[0] for line in said.splitlines()]
    if shell == "bash":
        asked = f"COMP_WORDS=({words} {chr(39) * 2 if words.endswith(' ') else ''})"
        call = "COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); _migrator_completion migrator"
        return run(
            ["bash", "-c", f"{SWITCH[shell]}\n{asked}; {call}; echo ${{COMPREPLY[@]}}"], env
        ).split()
    return in_zsh(words, env)


def in_zsh(words: str, env: dict[str, str]) -> list[str]:
    """Type into a real zsh, whose completion works on a terminal only."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], env)
    try:
        prompt = "PS1='rea''dy> '"  # a prompt stands where keys are read one by one
        lines = ["autoload -U compinit; compinit -u -D", SWITCH["zsh"], prompt]
        os.write(terminal, ("\n".join(lines) + "\n").encode())
        read_until(terminal, "ready> ")
        os.write(terminal, f"{words}\t".encode())
        read_until(terminal, re.escape(words) + r"\w")  # zsh completes nothing before typed keys
        os.write(terminal, b"\x01echo '<\x05>'\n")  # at the ends of the line: echo '…'
        said = read_until(terminal, r"\n<(.*)>")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    return str(re.findall(r"\n<(.*?)>", said)[-1]).split()[-1:]


def read_until(terminal: int, pattern: str) -> str:
    said = ""
    while not re.search(pattern, said):
        said += os.read(terminal, 4096).decode(errors="replace").replace("\r", "")
    return said


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("migrator sched", "schedule"),
        ("migrator report --dupl", "--duplicates"),
        ("migrator token cre", "create"),
        ("migrator help buck", "buckets"),
        ("migrator help token cre", "create"),
        ("migrator rule set exe bl", "block"),
        ("migrator --log-format js", "json"),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_options_and_values(
    shell: str, words: str, offered: str, env: dict[str, str]
) -> None:
    """The line of the README is all that is needed."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    assert in_shell(shell, words, env) == [offered]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("migrator run --department Sup", ["Support"]),
        ("migrator report --department ", ["Support", "7"]),
        ("migrator token create --queue Fi", ["First-line"]),
        ("migrator token revoke rea", ["reader"]),
        ("migrator -q queue map S", ["Support"]),
        ("migrator rule unset z9", ["z9x"]),
        ("migrator -c other.toml run --department ", []),
        ("migrator token revoke zzz", []),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "fish"])
@pytest.mark.slow
def test_values_come_from_the_archive_alone(
    shell: str, words: str, offered: list[str], env: dict[str, str], tmp_path: Path
) -> None:
    """Names where they are one word, else ids; where the files are is not even looked at."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    with open_archive(tmp_path / "archive", command="test") as archive:
        with archive.ledger.atomic():
            archive.ledger.put_departments(
                [Department(1, "Support"), Department(7, "$(reboot); Sales\x1b[2J")]
            )
        access = archive.access
        access.map_queue(1, 12, "First-line")
        access.set_rule("z9x", "allow")
        for name in ("reader", "revoked"):
            made, _ = access.create_token(
                name, abilities=("tickets:read",), queues=None, is_staff=True, expires_at=None
            )
        access.revoke(made.id)
    (tmp_path / "config.toml").write_text(
        '[kayako]\nurl = "http://192.0.2.1/api"\napi_key = "a"\nsecret_key = "b"\n'
    )
    (tmp_path / "archive" / "blobs.json").write_text("would be an error, if read")
    assert sorted(in_shell(shell, words, env | {"PWD": str(tmp_path)})) == sorted(offered)


def test_what_cannot_be_completed_is_no_accident(env: dict[str, str]) -> None:
    """Nonsense before the cursor completes to nothing; a wrong word in the variable is told."""
    for words in ("migrator nonsense x", "migrator --config", "migrator -"):
        asked = env | {
            "COMP_WORDS": words,
            "COMP_CWORD": "2",
            "_MIGRATOR_COMPLETE": "bash_complete",
        }
        run([f"{env['HOME']}/migrator"], asked)
    asked = env | {"_MIGRATOR_COMPLETE": "tcsh_source"}
    done = subprocess.run([f"{env['HOME']}/migrator"], env=asked, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
