"""Every example of the help and every command of the manual runs as it stands there."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from migrator.archive import open_beside
from migrator.archive.records import State
from migrator.sandbox.tickiti import Tickiti
from migrator.selftest.rig import Rig
from tests.blobs import weed
from tests.faults.conftest import MakeRig, rig
from tests.test_manual import BLOCK, ROOT, TEXTS, all_commands, name_of, parse

__all__ = ["rig"]

STAYS = {"serve": "Serving", "sandbox": "Ctrl-C ends it", "sync --every": "the next sync begins"}
"""Commands that stay until a signal, and what they say once they work."""

APART = {
    r"_MIGRATOR_COMPLETE=": "tests/cli/test_completion.py: in the shells themselves",
    r"-m pytest": "what runs this: it would not end",
    r"^(python3 -m venv|pipx|uv tool)": "tests/e2e/test_install.py: into places of its own",
    r"-m tests\.bench": "minutes, with the extra [bench]: tests/e2e/test_examples.py reads them",
    r"^podman": "needs an image of Python from a registry: tests/e2e/test_confined.py does as it",
    r"^systemctl|^rm /etc/systemd": "needs systemd at work: tests/e2e/test_units.py has its units",
    r"migrator selftest": "tests/cli/test_selftest.py: in small, as it takes minutes",
    r"\bmail -s": "tests/notify/test_channels.py: as the command of a message",
}
"""Commands that run elsewhere, or not at all, and why."""


def complete(text: str) -> bool:
    """Return whether a shell finds nothing unfinished in it."""
    return not subprocess.run(["bash", "-n", "-c", text], capture_output=True, check=False).stderr


def statements(kind: str, block: str) -> Iterator[str]:
    """Yield the commands of a block, without comments; each may have several lines."""
    text = re.sub(r"\\\n\s*", "", block)
    lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in text.splitlines()]
    if kind == "console":
        shown = [line.strip() for line in text.splitlines()]
        lines = [line[2:] for line in shown if line.startswith("$ ")]
    unfinished = ""
    for line in lines:
        unfinished += f"\n{line}" if unfinished else line
        if unfinished and complete(unfinished):
            yield unfinished
            unfinished = ""
    assert not unfinished, unfinished


def scripts(kind: str, block: str) -> Iterator[str]:
    """Yield what runs in one shell: a command of ours, with what stands before it in the block."""
    ready = ""
    for one in statements(kind, block):
        if any(re.search(pattern, one) for pattern in APART):
            yield one
            continue
        ready += f"{one}\n"
        if re.search(r"\bmigrator [-a-z]", one):
            yield ready.strip()
            ready = ""
    if ready:
        yield ready.strip()


def is_whole(line: str) -> bool:
    """Return whether a sentence names a command that can be run, not only a part of one."""
    if re.search(r"\b[A-Z]{2,}\b|…|--help$|schedule$", line):
        return False
    try:
        parse(line)
    except (click.MissingParameter, click.BadOptionUsage, StopIteration, LookupError):
        return False
    except click.BadParameter:
        pass  # a file that is not here
    return True


@functools.cache
def examples() -> dict[str, list[str]]:
    """Return the scripts of the help and of each page, each where it stands first.

    Of sentences these are the commands that leave nothing to fill in.
    """
    lines = [line.strip() for _, one in all_commands() for line in (one.help or "").splitlines()]
    blocks = {"help": [("sh", line) for line in lines if line.startswith("migrator ")]}
    for page in TEXTS:
        text = page.read_text("utf-8")
        found = [one for one in BLOCK.findall(text) if one[0] in ("sh", "console")]
        inline = re.findall(r"`(migrator [^`\n]+)`", BLOCK.sub("", text))
        blocks[name_of(page)] = [*found, *(("sh", one) for one in inline if is_whole(one))]
    seen: set[str] = set()
    places: dict[str, list[str]] = {}
    for place, found in blocks.items():
        new = dict.fromkeys(script for one in found for script in scripts(*one))
        places[place] = [script for script in new if script not in seen]
        seen.update(new)
    return {place: found for place, found in places.items() if found}


def apart(script: str) -> bool:
    return any(re.search(pattern, script) for pattern in APART)


class World:
    """What the examples name, beside an archive with losses: places, files and services."""

    def __init__(self, rig: Rig, tickiti: Tickiti, service: weed.Weed) -> None:
        self.rig, self.folder = rig, rig.folder
        self.bucket = service.place().url
        program = self.folder / "bin" / "migrator"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m migrator "$@"\n')
        program.chmod(0o755)
        self.env = {
            **os.environ,
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder),
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "key",
            "AWS_ENDPOINT_URL": service.url,
            "AWS_ALLOW_HTTP": "1",
        }
        with open_beside(rig.archive) as archive:
            lost = archive.queries.rows(states=[State.MISSING, State.GONE])
            self.lost = [str(row.id) for row in lost]
            held = archive.queries.rows(states=[State.STORED])
            self.held = next(row for row in held if row.filename.endswith(".png"))
            ticket = archive.threads.ticket(self.held.ticket_id or 0)
        assert ticket is not None
        self.number = tickiti.add_ticket(ticket.subject, ticket.requester_email).number
        lines = f"kayako_ticket_id,ticket_number\n{ticket.id},{self.number}\n"
        (self.folder / "numbers.csv").write_text(lines)
        text = (self.folder / "config.toml").read_text()
        assert "[tickiti]" not in text
        (self.folder / "config.toml").write_text(
            f'{text}\n[tickiti]\nticket_numbers = "numbers.csv"\n[deliver]\nurl = "{tickiti.url}"\n'
            f'token = "{tickiti.token}"\nauthor = "priya.sharma@example.com"\n'
            '[notify]\ncommand = ["true"]\n'
        )

    def sh(self, script: str, *, folder: str = ".") -> str:
        """Run a script and return its output; 3 is of commands that leave something open."""
        argv = ["bash", "-o", "pipefail", "-ec", script]
        done = subprocess.run(
            argv, cwd=self.folder / folder, env=self.env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 3), f"{script}: {done.stdout[-2000:]}{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def stay(self, script: str, words: str) -> Iterator[str]:
        """Start a script that stays, yield what it says until it says ``words``, and end it."""
        process = subprocess.Popen(
            ["bash", "-ec", script], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        said = ""
        try:
            while words not in said:
                said += (line := process.stderr.readline())
                assert line, f"{script}: {said}"
            yield said
        finally:
            process.send_signal(signal.SIGTERM)
            said += process.communicate()[1]
        assert process.returncode in (0, 3), f"{script}: {said}"

    def download(self, script: str) -> None:
        """Run a script that fetches a file from a server, and compare what it wrote."""
        made = self.sh("migrator token create --name page --ability tickets:read")
        self.env["TOKEN"] = made.split()[-1]
        with self.stay("exec migrator serve --port 0", "Serving") as said:
            url = re.search(r"http://[\w.:]+", said)
            assert url is not None
            self.sh(script.replace("http://127.0.0.1:8480", url[0]))
        written = (self.folder / "spacer.gif").read_bytes()
        assert hashlib.sha256(written).hexdigest() == self.held.sha256

    def adapted(self, script: str) -> str:
        """Return an example with the ids, places and sizes of this test."""
        for pattern, other in {
            r"\b88 239\b": " ".join(self.lost[:2]),
            r"--undo 88\b": f"--undo {self.lost[0]}",
            r"\b120 4711\b": f"{self.held.ticket_id} {self.held.id}",
            r"--canary 17\b": f"--canary {self.held.ticket_id}",
            r"\b4711\b": f"{self.held.ticket_id}",
            r'(?<="ticket_number": ")98\b': str(self.number),
            r'\b14494\b|(?<="response_attachment_id": ")1\b': f"{self.held.id}",
            r"--(department|queue) Sales\b": r"--\1 Hardware",
            r"/etc/|/mnt/usb/|/mnt/(?=backup/)": "",
            r"s3://(bucket/prefix|mirror/\w+)": rf"{self.bucket}/\1",
            r"(restore \S+ )\./archive": r"\1./restored",
            r"^migrator publish": "migrator -c bucket.toml publish",
            r"map 3\b": "map 4",
            r"--port 8480": "--port 0",
            r"> config.toml": "> other.toml",
            r"--big 200MiB": "--big 1MiB",
            r"--tickets \d+": "--tickets 10",
            r"^migrator (sandbox|serve)": r"exec migrator \1 --port 0",
            r"^migrator (sync --every)": r"exec migrator \1",
        }.items():
            script = re.sub(pattern, other, script, flags=re.MULTILINE)
        return script

    def prepare(self, needed: str) -> None:
        """Make the files that these examples read, and fill the bucket."""
        for name in ("new", "backup"):
            (self.folder / name).mkdir()
        config = (self.folder / "config.toml").read_text()
        there = f'path = "restored-before"\nblobs = "{self.bucket}/bucket/prefix"'
        (self.folder / "bucket.toml").write_text(
            re.sub('^path = ".*"$', there, config, flags=re.MULTILINE)
        )
        for names, script in {
            "report-of-may": "migrator report --format json --output report-of-may.json",
            "publish|s3://": f"migrator archive copy {self.bucket}/bucket/prefix",
            "publish": f"migrator restore {self.bucket}/bucket/prefix restored-before",
            "jsonl|SUMS": "migrator handover pack",
            "pem": "openssl req -x509 -nodes -subj / -keyout privkey.pem -out fullchain.pem",
        }.items():
            if re.search(names, needed):
                self.sh(script)


@pytest.fixture
def tickiti() -> Iterator[Tickiti]:
    """Run a look-alike of Tickiti."""
    with Tickiti() as one:
        yield one


@pytest.fixture(scope="module")
def service() -> Iterator[weed.Weed]:
    """Run a bucket."""
    with weed.serving() as started:
        yield started


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "place", [place for place, found in examples().items() if not all(map(apart, found))]
)
def test_every_example_runs(rig: MakeRig, tickiti: Tickiti, service: weed.Weed, place: str) -> None:
    """Each ends with 0, or with 3 where something is open; those that stay start working."""
    wanted = [script for script in examples()[place] if not apart(script)]
    for program in ("curl", "jq", "openssl", "rsync", "sqlite3"):
        if any(re.search(rf"\b{program} ", one) for one in wanted) and not shutil.which(program):
            pytest.skip(f"needs {program}")
    one = rig(tickets=12, faults=frozenset({"missing_file", "remote_sentence", "deleted_between"}))
    one.finish("run")
    world = World(one, tickiti, service)
    world.prepare(" ".join(wanted))
    for script in dict.fromkeys(map(world.adapted, wanted)):
        start = next((words for words in STAYS if f"migrator {words}" in script), None)
        if start:
            with world.stay(script, STAYS[start]):
                pass
        elif script.startswith("curl"):
            world.download(script)
        else:
            inside = "pack" if place.endswith("HANDOVER.md") else "."
            world.sh(script, folder="new" if "migrator init" in script else inside)


@pytest.mark.slow
def test_a_backup_while_a_run_is_at_work_is_whole(rig: MakeRig) -> None:
    """As the manual has it, over an older one that was not closed, and for its owner alone."""
    one = rig(tickets=40, latency=0.02)
    (backup,) = [text for text in examples()["migrator/docs/operations.md"] if "VACUUM" in text]
    there = one.folder / "backup" / "archive"
    with one.start("run") as run:
        assert run.wait_until(lambda: len(one.blobs()) > 10)
        for _ in range(5):
            argv = ["bash", "-ec", backup.replace("/mnt/backup", str(one.folder / "backup"))]
            subprocess.run(argv, cwd=one.folder, check=True)
            assert [path.name for path in there.iterdir() if path.name != "blobs"] == [
                "checkpoint.db"
            ]
            assert (there / "checkpoint.db").stat().st_mode & 0o077 == 0
            (there / "checkpoint.db-wal").write_bytes(b"left by an older one")
            assert run.wait_until(lambda: len(one.blobs()) > 30)
        (there / "checkpoint.db-wal").unlink()
        run.wait()
    config = (one.folder / "config.toml").read_text()
    (one.folder / "config.toml").write_text(config.replace(str(one.archive), str(there)))
    verified = json.loads(one.expect(0, "verify", "--json").out)
    assert verified["checked"] > 10
    assert (verified["damaged"], verified["lost"]) == (0, 0)


def test_every_command_runs_or_says_why_not() -> None:
    """Nothing is left out but what APART names, and APART names nothing that is not there."""
    left = [script for found in examples().values() for script in found]
    for pattern, why in APART.items():
        assert any(re.search(pattern, script) for script in left), pattern
        for name in re.findall(r"tests/\S+\.py", why):
            assert (ROOT / name).is_file(), name
    assert len(left) > 120


@pytest.mark.slow
def test_every_benchmark_of_the_manual_is_one() -> None:
    """Its words are taken; what it measures is of no interest here."""
    lines = [one for one in examples()["migrator/docs/benchmarks.md"] if "tests.bench" in one]
    for line in lines:
        argv = [sys.executable, *shlex.split(line)[1:], "--help"]
        assert b"usage:" in subprocess.run(argv, cwd=ROOT, capture_output=True, check=True).stdout
    assert lines


def test_no_help_shows_an_escape() -> None:
    """What is meant as a line end, a tab or a mark of click is never printed as such."""
    for name, command in all_commands():
        context = click.Context(command, info_name=name, max_content_width=100)
        shown = command.get_help(context)
        assert not re.search(r"\\[btnx]|\x08", shown), name
