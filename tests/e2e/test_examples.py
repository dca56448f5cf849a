"""Every example of the help and of the manual runs as it stands there."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from migrator.archive import open_beside
from migrator.archive.records import State
from migrator.cli import COMMANDS, cli
from migrator.sandbox.tickiti import Tickiti
from migrator.selftest.rig import Rig
from tests.faults.conftest import MakeRig, rig
from tests.test_manual import TEXTS, command_lines

__all__ = ["rig"]

STAYS = {"serve": "Serving", "sandbox": "Ctrl-C ends it", "sync --every": "the next sync begins"}
"""Commands that stay until a signal, and what they say once they work."""


def commands() -> list[tuple[str, click.Command]]:
    """Return all commands, those of groups too, with their names."""
    found: list[tuple[str, click.Command]] = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {one}", inner) for one, inner in command.commands.items()]
    return found


def examples() -> list[str]:
    lines = [line.strip() for _, one in commands() for line in (one.help or "").splitlines()]
    lines += [line for page in TEXTS for line in command_lines(page.read_text("utf-8"))]
    # These need a bucket or a certificate, or take long, and have tests of their own.
    apart = re.compile("s3://|migrator (archive copy|publish|selftest|demo)|demo --s3|--tls-cert")
    plain = dict.fromkeys(re.sub(r"\s+#.*", "", line) for line in lines)
    return [line for line in plain if line.startswith("migrator ") and not apart.search(line)]


def adapted(line: str, rig: Rig) -> str:
    """Return an example with the ids, places and sizes of this test."""
    with open_beside(rig.archive) as archive:
        lost = [str(row.id) for row in archive.queries.rows(states=[State.MISSING, State.GONE])]
        held = next(iter(archive.queries.rows(states=[State.STORED])))
    for pattern, other in {
        r"\b88 239\b": " ".join(lost[:2]),
        r"--undo 88\b": f"--undo {lost[0]}",
        r"\b120 4711\b": f"{held.ticket_id} {held.id}",
        r"--canary 17\b": f"--canary {held.ticket_id}",
        r"--(department|queue) Sales\b": r"--\1 Hardware",
        r"/etc/|/mnt/usb/": "",
        r"map 3\b": "map 4",
        r"8480": "0",
        r"\| jq .*": "| cat",
        r"> config.toml": "> other.toml",
        r"--big 200MiB": "--big 1MiB",
        r"--tickets \d+": "--tickets 10",
        r"^migrator (sandbox|serve)": r"migrator \1 --port 0",
        r"^migrator": f"{shlex.quote(sys.executable)} -P -m migrator",
    }.items():
        line = re.sub(pattern, other, line)
    return line


def aim(rig: Rig, tickiti: Tickiti) -> None:
    """Let deliveries go to a Tickiti that has one ticket of the archive, and tell somebody."""
    with open_beside(rig.archive) as archive:
        held = next(iter(archive.queries.rows(states=[State.STORED])))
        ticket = archive.threads.ticket(held.ticket_id or 0)
    assert ticket is not None
    there = tickiti.add_ticket(ticket.subject, ticket.requester_email)
    lines = f"kayako_ticket_id,ticket_number\n{ticket.id},{there.number}\n"
    (rig.folder / "numbers.csv").write_text(lines)
    file = rig.folder / "config.toml"
    text = file.read_text()
    assert "[tickiti]" not in text
    author = "priya.sharma@example.com"
    file.write_text(
        f'{text}\n[tickiti]\nticket_numbers = "numbers.csv"\n[deliver]\nurl = "{tickiti.url}"\n'
        f'token = "{tickiti.token}"\nauthor = "{author}"\n[notify]\ncommand = ["true"]\n'
    )


@pytest.fixture
def tickiti() -> Iterator[Tickiti]:
    """Run a look-alike of Tickiti."""
    with Tickiti() as one:
        yield one


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_example_runs(rig: MakeRig, tickiti: Tickiti) -> None:
    """Each ends with 0, or with 3 where something is open; those that stay start working."""
    one = rig(tickets=12, faults=frozenset({"missing_file", "remote_sentence", "deleted_between"}))
    one.finish("run")
    aim(one, tickiti)
    one.finish("report", "--format", "json", "--output", "report-of-may.json")
    seen = 0
    for line in examples():
        folder = one.folder
        if line.startswith("migrator init"):  # never overwrites
            folder = one.folder / "new"
            folder.mkdir(exist_ok=True)
        start = next((words for words in STAYS if words in line), None)
        process = subprocess.Popen(
            ["bash", "-c", f"exec {adapted(line, one)}" if start else adapted(line, one)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        said = ""
        if start:
            while STAYS[start] not in said:
                said += (words := process.stderr.readline())
                assert words, f"{line}: {said}"
            process.send_signal(signal.SIGTERM)
        said += process.communicate()[1]
        assert process.returncode in (0, 3), f"{line}: {said}"
        seen += 1
    assert seen > 40


def test_no_help_shows_an_escape() -> None:
    """What is meant as a line end, a tab or a mark of click is never printed as such."""
    for name, command in commands():
        context = click.Context(command, info_name=name, max_content_width=100)
        shown = command.get_help(context)
        assert not re.search(r"\\[btnx]|\x08", shown), name
