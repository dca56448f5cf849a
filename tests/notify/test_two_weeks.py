"""Two weeks in minutes: what was told to whom and when, from the first run to the switch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from migrator.archive import open_beside
from migrator.archive.access import Access
from migrator.archive.ledger import Ledger
from migrator.archive.replies import Replies
from migrator.pull.run import run
from migrator.sandbox.tickiti import Tickiti
from tests.cli.conftest import Cli
from tests.notify.receiver import Receiver
from tests.notify.test_commands import Place

HERE = ZoneInfo("Europe/Berlin")
FIRST = (2026, 10, 19)  # a Monday; summer time ends on its Sunday

# The webhook and the command are told the same; the words are the beginning of the title.
TOLD = """
Mon 19 20:00  losses    2 attachments newly lost: 2 missing
Tue 20 02:30  summary   Daily summary: 20 stored (+0), newly lost: 2 missing
Wed 21 02:30  summary   Daily summary: 20 stored (+0), newly lost: nothing
Wed 21 08:30  failure   sync failed with exit code 4: no answer from
Thu 22 02:30  summary   Daily summary: 20 stored (+0), newly lost: nothing, failures: 1
Thu 22 08:30  recovery  sync works again
Fri 23 02:30  summary   Daily summary: 20 stored (+0), newly lost: nothing
Fri 23 14:30  losses    3 attachments newly lost: 3 missing
Sat 24 02:30  summary   Daily summary: 20 stored (+0), newly lost: 3 missing
Sat 24 14:30  losses    1 attachment newly lost: 1 missing
Sun 25 02:30  summary   Daily summary: 20 stored (+0), newly lost: 1 missing
Mon 26 02:30  summary   Daily summary: 20 stored (+0), newly lost: nothing
Mon 26 09:00  recovery  3 lost attachments are stored
Tue 27 02:30  summary   Daily summary: 23 stored (+3), newly lost: nothing
Tue 27 14:30  failure   sync failed with exit code 7: The archive
Tue 27 20:30  recovery  sync works again
Wed 28 02:30  summary   Daily summary: 24 stored (+1), newly lost: nothing, failures: 1
Thu 29 02:30  summary   Daily summary: 24 stored (+0), newly lost: nothing
Thu 29 09:00  failure   verify failed with exit code 6: 2026-10-29T08:00:00Z,
Thu 29 10:00  recovery  verify works again
Fri 30 02:30  summary   Daily summary: 24 stored (+0), newly lost: 1 damaged, failures: 1
Fri 30 18:00  failure   deliver failed with exit code 4: a first call: HTTP 401
Fri 30 19:00  recovery  deliver works again
Sat 31 02:30  summary   Daily summary: 24 stored (+0), newly lost: nothing, failures: 1
Sun 01 02:30  summary   Daily summary: 24 stored (+0), newly lost: nothing
"""


class Fortnight:
    """The clock of everything that is called, and a sync every six hours until then."""

    def __init__(self, cli: Cli) -> None:
        self.now = datetime(*FIRST, 20, tzinfo=HERE).timestamp()
        self._cli = cli

    def __call__(self) -> float:
        self.now += 0.01  # nothing happens at the same time
        return self.now

    def at(self, day: int, clock: str, *argv: str) -> int:
        """Sync at 2:30, 8:30, 14:30 and 20:30 until then; return how the command ends."""
        hour, minute = map(int, clock.split(":"))
        month = 11 if day < FIRST[2] else 10
        until = datetime(2026, month, day, hour, minute, tzinfo=HERE).timestamp()
        while (due := self._next_sync()) < until:
            self.now = due
            self._cli("sync")
        self.now = until
        return self._cli(*argv).code if argv else 0

    def _next_sync(self) -> float:
        local = datetime.fromtimestamp(self.now + 60, HERE)
        for hour in (2, 8, 14, 20):
            due = local.replace(hour=hour, minute=30, second=0, microsecond=0)
            if due.timestamp() > self.now + 60:
                return due.timestamp()
        after = datetime.fromtimestamp(self.now + 8 * 3600, HERE)
        return after.replace(hour=2, minute=30, second=0, microsecond=0, fold=0).timestamp()


@pytest.fixture
def clock(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fortnight]:
    """Let all of the tool live in two weeks of autumn in Berlin."""
    made = Fortnight(cli)
    monkeypatch.setenv("TZ", str(HERE))
    time.tzset()
    monkeypatch.setattr(time, "time", made)
    for part in (Ledger.__init__, Access.__init__, Replies.__init__, run):
        assert part.__kwdefaults__ is not None
        monkeypatch.setitem(part.__kwdefaults__, "clock", made)
    yield made
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of a few megabytes for the archive, where we may."""
    folder = tmp_path / "archive"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def place(tmp_path: Path, receiver: Receiver) -> Iterator[Place]:
    made = Place(tmp_path, receiver)
    yield made
    made.server.stop()


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def table(messages: list[dict[str, Any]]) -> list[str]:
    return [
        f"{datetime.fromisoformat(one['timestamp']).astimezone(HERE):%a %d %H:%M}  "
        f"{one['type']:<8}  {one['data']['title']}"
        for one in messages
    ]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("small")
def test_two_weeks(
    cli: Cli,
    place: Place,
    clock: Fortnight,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each thing is told once, when it happens, in the order in which it does."""
    small, log, tickiti = tmp_path / "archive", tmp_path / "log", Tickiti()
    append = f"import sys; open({str(log)!r}, 'a').write(sys.stdin.read() + '\\n')"
    deliver = f'[deliver]\nurl = "{tickiti.start().url}"\nauthor = "a@example.com"\n'
    place.write(
        ping=f'"{place.receiver.url}/u"',
        command=json.dumps([sys.executable, "-c", append]),
        summary_hour="2",
    )
    with (tmp_path / "config.toml").open("a") as config:
        config.write(deliver)

    place.lose(2)
    assert clock.at(19, "20:00", "run") == 3
    clock.at(21, "08:00")
    place.server.stop()  # until the next morning
    clock.at(22, "08:00")
    place.back()
    clock.at(23, "14:00")
    later = place.lose(3)
    clock.at(24, "14:00")
    place.receiver.answers = [
        "200",
        "404",
        "404",
    ]  # who receives is down, too, while one more is lost
    place.lose()
    place.find(later)
    assert clock.at(26, "09:00", "run", "--recheck") == 3
    clock.at(27, "14:00")
    fill(small / "ballast")
    tickets = place.desk.tickets
    busiest = max(tickets, key=lambda key: tickets[key].last_activity)
    place.desk.add_attachment(busiest, "large.bin", os.urandom(300_000))
    clock.at(27, "15:00")
    (small / "ballast").unlink()
    clock.at(29, "08:50")
    with open_beside(small) as archive:
        hashes = [name for name, _ in archive.queries.expected_blobs()]
        hurt = next(one for one in hashes if archive.queries.attachments_of_blob(one))
    path = small / "blobs" / hurt[:2] / hurt[2:4] / hurt
    path.chmod(0o600)
    path.write_bytes(b"harmed")
    assert clock.at(29, "09:00", "verify") == 6
    assert clock.at(29, "10:00", "verify", "--repair") == 0
    monkeypatch.setenv("TICKITI_TOKEN", "1|wrong")  # the day of the switch
    assert clock.at(30, "17:00", "accept", "--all-missing", "--reason", "lost for good") == 0
    assert clock.at(30, "17:30", "sync", "--full") == 0
    assert clock.at(30, "18:00", "deliver", "--yes") == 4
    monkeypatch.setenv("TICKITI_TOKEN", tickiti.token)
    assert clock.at(30, "19:00", "deliver", "--yes") == 3
    clock.at(1, "12:00")
    tickiti.stop()

    commanded = table([json.loads(line) for line in log.read_text().splitlines()])
    print("\n".join(commanded))  # noqa: T201 - what the test is for
    expected = TOLD.strip("\n").split("\n")
    assert [one[: len(words)] for one, words in zip(commanded, expected, strict=True)] == expected
    posted = {one.headers["webhook-id"]: one.json for one in place.receiver.of("/hook")}
    assert table(list(posted.values())) == commanded
    assert len(place.receiver.of("/hook")) == len(commanded) + 1  # one was refused at first
    # Down: a day of outage, two days with losses, a full disk; and what is no pull, on failure.
    assert place.receiver.paths.count("/u/fail") == 1 + 4 + 1 + 1 + 1 + 2
