"""Killed at any moment, the same command goes on; the figures of a large delivery."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from migrator.archive import open_archive
from migrator.archive.lock import Pause, pause, resume
from migrator.sandbox.tickiti import Tickiti
from tests.deliver.conftest import AUTHOR, Office

pytestmark = pytest.mark.slow


def command(office: Office, *options: str) -> subprocess.Popen[bytes]:
    """Start a delivery as a process of its own."""
    folder = office.root.parent
    lines = ["kayako_ticket_id,ticket_number", *(f"{k},{v}" for k, v in office.numbers.items())]
    (folder / "map.csv").write_text("\n".join(lines) + "\n")
    text = f'[tickiti]\nticket_numbers = "map.csv"\n[deliver]\nauthor = "{AUTHOR}"\n'
    (folder / "config.toml").write_text(f'{text}url = "{office.tickiti.url}"\n')
    return subprocess.Popen(
        [sys.executable, "-m", "migrator", "deliver", *(options or ["--yes"])],
        cwd=folder,
        env={**os.environ, "TICKITI_TOKEN": office.tickiti.token, "PYTHONPATH": os.getcwd()},  # noqa: PTH109
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def many(office: Office, tickets: int, files: int) -> None:
    for ticket in range(1, tickets + 1):
        office.ticket(ticket, *(b"%d of %d" % (n, ticket) for n in range(files)))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("faults", [[], ["key_forgotten%50"]])
def test_fifty_kills(office: Office, faults: list[str]) -> None:
    """Every file is there once, whatever was under way; no mail."""
    many(office, 40, 3)
    office.open_there(Tickiti(faults=faults, latency=0.01), *range(1, 41))
    office.archive.close()
    chance, kills = random.Random(1), 0
    while True:
        process = command(office)
        try:
            _, said = process.communicate(timeout=0.6 + chance.random() if kills < 50 else 60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0, said.decode()
        if kills >= 50 or len(office.there()) == 120:
            break
    office.archive = open_archive(office.root, command="test")
    assert office.there() == office.wanted()
    assert office.counts() == {"delivered": 120}
    assert (office.tickiti.mails, office.tickiti.tags) == ([], [])


def test_a_pause_in_mid_delivery_holds_it_up(office: Office) -> None:
    """Nothing is asked meanwhile, a second one is refused, and it ends as if nothing had been."""
    many(office, 40, 3)
    office.open_there(Tickiti(latency=0.03), *range(1, 41))
    office.archive.close()
    process = command(office)
    assert process.stderr is not None
    while office.writes() < 20:
        time.sleep(0.01)
    pause(office.root, Pause("a", "here", 1, None))
    said = b""
    while b"paused by a" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    time.sleep(0.5)  # what is under way finishes
    before = len(office.tickiti.requests)
    second = command(office)
    assert b"in use by process" in second.communicate(timeout=60)[1]
    assert second.returncode == 5
    assert len(office.tickiti.requests) == before
    resume(office.root)
    said += process.communicate(timeout=60)[1]
    assert process.returncode == 0, said
    assert b"going on" in said
    office.archive = open_archive(office.root, command="test")
    assert office.there() == office.wanted()
    assert office.counts() == {"delivered": 120}


@pytest.mark.parametrize("options", [[], ["--verify"], ["--undo"]])
def test_a_delivery_that_is_paused_ends_when_told(office: Office, options: list[str]) -> None:
    """It asks for nothing, says why, and is no failure."""
    many(office, 2, 1)
    office.open_there(Tickiti(), 1, 2)
    office.deliver()
    office.archive.close()
    before = len(office.tickiti.requests)
    pause(office.root, Pause("a", "here", 1, None))
    process = command(office, *options)
    assert process.stderr is not None
    said = b""
    while b"paused by a" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGTERM)
    said += process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert len(office.tickiti.requests) == before
    assert b"Traceback" not in said


@pytest.mark.timeout(300)
def test_requests_time_and_memory(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    """One request for a file and three for a ticket; 1,000 files at 50 ms; memory stays flat."""
    many(office, 100, 10)
    office.open_there(Tickiti(latency=0.05), *range(1, 101))
    began = time.monotonic()
    result = office.deliver()
    took = time.monotonic() - began
    assert office.there() == office.wanted()
    assert result.requests <= 3 + 1000 + 3 * 100
    for number in range(101, 107):
        office.ticket(number, (f"{number}.bin", bytes([number]) * (24 << 20)))
    office.open_there(office.tickiti, *range(101, 107))
    office.archive.close()
    process = command(office)
    most = 0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = [one for one in status.read_text().splitlines() if one.startswith("VmHWM")]
        most = max([most, *(int(one.split()[1]) for one in lines)])
        time.sleep(0.05)
    process.communicate()
    assert process.returncode == 0
    office.archive = open_archive(office.root, command="test")
    assert office.counts() == {"delivered": 1006}
    with capsys.disabled():
        sys.stdout.write(
            f"\n1,000 files in 100 tickets at 50 ms: {took:.1f} s, {result.requests} requests; "
            f"six files of 24 MiB: {most / 1024:.0f} MiB at most\n"
        )
    assert most < 150 * 1024
