"""A write-ahead log that a kill left, two that start at once, and clocks that go backwards."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from migrator.archive import open_archive, open_beside
from migrator.sandbox.kayako import Helpdesk
from tests.blobs.layout import temp_of
from tests.faults.conftest import Inline, MakeRig, stored

pytestmark = pytest.mark.slow

KILLED = """
import os, signal, sys
from pathlib import Path
from migrator.archive import Listed, TicketRow, open_archive
from migrator.archive.checkpoint import Checkpoint

connect = Checkpoint.connect


def with_endless_log(path):
    opened = connect(path)
    opened.execute("PRAGMA wal_autocheckpoint = 0")
    return opened


Checkpoint.connect = with_endless_log
archive = open_archive(Path(sys.argv[1]), command="doomed")
run = archive.ledger.begin_run("run", source="x", scope={})
for ticket in range(1, 41):
    first = ticket * 1_000_000
    listed = [Listed(first + n, ticket, 1, "x" * 200, "y", 5, 0) for n in range(200)]
    archive.ledger.record_ticket(run.id, TicketRow(ticket, 1), listed)
with archive.ledger.atomic():
    archive.ledger.record_ticket(run.id, TicketRow(99, 1), [Listed(999, 99, 1, "x", "y", 5, 0)])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_large_log_of_a_killed_run_is_read(rig: MakeRig, inline: Inline) -> None:
    """``status`` beside it and the next run see every committed row, and nothing else."""
    one = rig(tickets=2)
    inline(0, "run")
    mine = stored(one)
    subprocess.run([sys.executable, "-c", KILLED, str(one.archive)], check=False)
    log = one.archive / "checkpoint.db-wal"
    assert log.stat().st_size > 1 << 20
    facts = json.loads(inline(0, "status", "--json").out)
    assert facts["states"]["pending"]["n"] == 40 * 200
    assert facts["held_by"] is None
    with open_beside(one.archive) as archive:
        assert archive.queries.attachment(999) is None, "an uncommitted row came back"
        archive.queries.self_check()
    ended = inline(3, "run", "--limit-tickets", "1", "--accept-deletions")
    assert "Resuming run" in ended.err
    assert stored(one) == mine
    assert not log.exists(), "the log was not folded in"


def test_two_that_start_at_the_same_moment(rig: MakeRig) -> None:
    """One wins and finishes; the other leaves with 5 and names the winner."""
    one = rig(tickets=10, latency=0.05)
    for _ in range(2):
        with one.start("run") as first, one.start("run") as second:
            ends = {child.pid: child.wait() for child in (first, second)}
        codes = {pid: ended.code for pid, ended in ends.items()}
        assert sorted(codes.values()) == [0, 5], ends
        winner, loser = sorted(codes, key=lambda pid: codes[pid])
        # Between the lock and its signature lies a moment in which the winner has no name yet.
        assert re.search(f"process {winner} on|has not told its name", ends[loser].err)
    one.expect_truth()
    assert max(one.fetches().values()) == 1


def test_nothing_is_pruned_beside_a_run(rig: MakeRig, inline: Inline) -> None:
    """What looks like nobody's may be what a run is just writing: pruning needs the lock."""
    one = rig(tickets=2)
    inline(0, "run")
    with (
        open_archive(one.archive, command="run") as archive,
        archive.blobs.writer() as writer,
    ):
        writer.write(b"half a file")
        assert f"process {os.getpid()} " in inline(5, "verify", "--prune", "--yes").err
        assert [path.stat().st_size for path in temp_of(archive).iterdir()] == [11]


SHIFT = """
import os, time
_time = time.time
time.time = lambda: _time() + float(os.environ["CLOCK_SHIFT"])
"""


@pytest.mark.parametrize("command", ["run", "sync"])
def test_a_clock_that_goes_backwards_costs_nothing(
    rig: MakeRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Runs a year back, then ahead: what is new is pulled, what is stored is not asked for."""
    (tmp_path / "sitecustomize.py").write_text(SHIFT)
    path = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path) + (os.pathsep + path if path else ""))
    one = rig(tickets=4)
    for year, name in enumerate(["now", "back", "ahead"]):
        shift = [0, -1, 1][year] * 365 * 86_400
        monkeypatch.setenv("CLOCK_SHIFT", str(shift))
        added = add(one.helpdesk, name)
        one.expect(0, command)
        assert one.fetches()[added] == 1, name
    one.expect_truth()
    assert max(one.fetches().values()) == 1


def add(desk: Helpdesk, text: str) -> int:
    """Open a ticket with a file, as a person does: with activity at the helpdesk's time."""
    from dataclasses import replace

    latest = max(desk.tickets.values(), key=lambda one: one.last_activity)
    ticket = replace(
        latest,
        id=max(desk.tickets) + 1,
        mask=f"NEW-000-{len(desk.tickets):05}",
        department_id=1,
        last_activity=latest.last_activity + 60,
    )
    desk.add_ticket(ticket, [replace(desk.posts_of(latest.id)[0])])
    return desk.add_attachment(ticket.id, f"{text}.txt", text.encode())


def test_a_file_system_that_cannot_sync_directories(
    rig: MakeRig, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network and FUSE file systems answer EINVAL: all is stored all the same."""
    real, refused = os.fsync, []

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            refused.append(fd)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    one = rig(tickets=4)
    for command in ("doctor", "run", "verify"):
        inline(0, command)
    assert refused
    one.expect_truth()
