"""The real ``plan`` against the sandbox: killed, interrupted, and the helpdesk killed under it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer

pytestmark = pytest.mark.slow

TICKETS = 400
COMMAND = ("plan", "--save-plan", "plan.jsonl", "--json")


class Rig:
    """A sandbox, a configuration that fits it, and the command line as a process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.desk = Helpdesk.build(SandboxOptions(tickets=TICKETS, links=0, articles=0, steps=0))
        self.server = SandboxServer(self.desk)
        self.server.start()
        self.configure(self.server.url, self.server.api_key, self.server.secret_key)

    def configure(self, url: str, api_key: str, secret_key: str) -> None:
        """Write the configuration."""
        config = self.root / "config.toml"
        config.write_text(
            f'[kayako]\nurl = "{url}"\napi_key = "{api_key}"\nsecret_key = "{secret_key}"\n'
            'concurrency = 4\npatience = "1s"\nattempts = 2\n'
        )
        config.chmod(0o600)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "migrator", *argv],
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lists(self) -> list[str]:
        """Give the lists of attachments that were asked for."""
        return [path for _, path in list(self.server.requests) if "Attachment/ListAll" in path]

    def wait_for_lists(self, number: int, process: subprocess.Popen[str]) -> None:
        """Wait until so many more lists were asked for, or the process has ended."""
        goal = len(self.lists()) + number
        while len(self.lists()) < goal and process.poll() is None:
            time.sleep(0.002)

    def names(self) -> set[str]:
        return {path.name for path in self.root.iterdir()} - {"config.toml"}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.server.stop()


def test_killed_again_and_again_the_plan_becomes_whole(rig: Rig) -> None:
    """SIGKILL after every hundred lists: each dry run goes on, and the plan is that of one run.

    Nothing but the journal is left meanwhile, and nothing but the plan in the end.
    """
    kills = 0
    while True:
        with rig.start(*COMMAND) as process:
            if kills < 3:
                rig.wait_for_lists(100, process)
                process.kill()
                kills += 1
                process.communicate()
                assert rig.names() <= {"plan.jsonl.partial"}
                continue
            out, err = process.communicate(timeout=110)
            break
    assert process.returncode == 0, err
    assert re.search(r"Resuming after \d+ tickets", err)
    told = json.loads(out)
    assert told["listed"]["attachments"] == len(rig.desk.truth)
    lines = (rig.root / "plan.jsonl").read_text().splitlines()[1:]
    assert {json.loads(line)["id"] for line in lines} == rig.desk.truth.keys()
    assert rig.names() == {"plan.jsonl"}
    assert len(rig.lists()) <= len(set(rig.lists())) + kills * 8, "what was in flight, at most"


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_brings_a_part_of_the_report(rig: Rig, which: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end in a report of what was seen, exit 130, and nothing left behind."""
    with rig.start("plan", "--json") as process:
        rig.wait_for_lists(50, process)
        process.send_signal(which)
        out, err = process.communicate(timeout=110)
    assert process.returncode == 130, err
    told = json.loads(out)
    assert 40 <= told["tickets"] < told["tickets_total"]
    assert "nothing of it is kept" in err
    assert rig.names() == set()


def test_the_helpdesk_is_killed_and_comes_back(rig: Rig) -> None:
    """The server dies by SIGKILL in mid-plan: a part is told; when it is back, the plan goes on."""
    rig.server.stop()
    port, partial = free_port(), rig.root / "plan.jsonl.partial"
    with sandbox(rig, port) as server, rig.start(*COMMAND) as process:
        while lines_of(partial) < 30 and process.poll() is None:
            time.sleep(0.002)
        server.kill()
        out, err = process.communicate(timeout=110)
    assert process.returncode == 4, err
    told = json.loads(out)
    assert told["complete"] is False
    assert 20 < told["tickets"] < told["tickets_total"]
    with sandbox(rig, port) as server:
        with rig.start(*COMMAND) as process:
            out, err = process.communicate(timeout=110)
        server.kill()
    assert process.returncode == 0, err
    known = int(re.search(r"Resuming after (\d+) tickets", err)[1])  # type: ignore[index]
    assert known >= 29
    assert json.loads(out)["pace"]["list_requests"] <= told["tickets_total"] - known
    assert rig.names() == {"plan.jsonl"}


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def sandbox(rig: Rig, port: int) -> Iterator[subprocess.Popen[str]]:
    """Have a sandbox of its own process, and configure the rig for it."""
    command = ("sandbox", "--port", str(port), "--tickets", "200")
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "migrator", *command],
        cwd=rig.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            found: dict[str, str] = {}
            while len(found) < 3:
                line = server.stdout.readline()
                assert line, "the sandbox did not start"
                found |= dict(re.findall(r'^(url|api_key|secret_key) = "(.+)"', line))
            rig.configure(**found)
            yield server
        finally:
            server.kill()


def lines_of(path: Path) -> int:
    """Count the lines of a file that may not be there."""
    return path.read_bytes().count(b"\n") if path.exists() else 0
