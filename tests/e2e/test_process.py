"""The real process against the sandbox: killed, interrupted, and short of memory."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.archive import ResponseFilter, Verdict, open_archive, open_beside
from migrator.archive.records import State
from migrator.selftest.rig import CONCURRENCY, Rig
from tests.faults.conftest import MakeRig, rig

__all__ = ["rig"]

pytestmark = pytest.mark.slow

MEGABYTE = 1 << 20


def high_water(pid: int) -> int:
    """Give the most memory that a process has had resident, in KiB.

    Not from getrusage: there a child begins with what its parent had.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended meanwhile
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found.group(1)) if found else 0


def after(rig: Rig, requests: int) -> Callable[[], bool]:
    """Return a question: whether the server has seen that many requests more than now."""
    goal = len(rig.server.requests) + requests
    return lambda: len(rig.server.requests) >= goal


def test_killed_again_and_again_a_run_ends_as_an_undisturbed_one(rig: MakeRig) -> None:
    """Killed at random moments, the pull ends with every true outcome.

    After each kill every row that says stored has its whole file, and none is lost; at most what
    was in flight is fetched twice, and every post is there.
    """
    one = rig(tickets=120, faults=frozenset({"all"}))
    dice = random.Random(12)
    kills, held = 0, set[int]()
    while kills < 8:
        with one.start("run") as process:
            process.wait_until(after(one, dice.randint(1, 60)))
            kills += process.send(signal.SIGKILL)
            process.wait()
        held = stored_whole(one.archive, held)
    one.expect(3, "run")
    with open_beside(one.archive) as archive:
        rows = {row.id: row for row in archive.queries.rows()}
        posts = {post.id: post for post in archive.threads.query(ResponseFilter(), limit=10_000)}
    desk, truth = one.helpdesk, one.helpdesk.truth
    assert rows.keys() == truth.keys()
    seen = {t.id for t in desk.tickets.values() if t.department_id} - desk.gaps.keys()
    for post in [one for one in desk.posts.values() if one.ticket_id in seen]:
        kept = posts[post.id]
        assert (kept.text, kept.ticket_id, kept.note) == (post.text, post.ticket_id, None)
    for attachment_id, true in truth.items():
        row = rows[attachment_id]
        assert (row.state, row.problem, row.sha256) == (true.state, true.problem, true.sha256)
    plain = {attachment_id for attachment_id, true in truth.items() if not true.faults}
    twice = sum(count - 1 for key, count in one.fetches().items() if key in plain)
    assert twice <= kills * CONCURRENCY
    one.expect(0, "verify", "--json")


def stored_whole(root: Path, before: set[int]) -> set[int]:
    """Return the ids of what is stored, of which each must be whole, and none of before missing."""
    with open_archive(root, command="look") as archive:
        archive.queries.self_check()
        for sha256, size in archive.queries.expected_blobs():
            assert archive.blobs.examine(sha256, size).verdict is Verdict.OK
        stored = {row.id for row in archive.queries.rows(states=[State.STORED])}
    assert stored >= before
    return stored


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_small_command_ends_cleanly_when_told(rig: MakeRig, number: signal.Signals) -> None:
    """Not only the commands that have something to save know both signals."""
    one = rig(tickets=2, latency=5)
    with one.start("doctor") as process:
        process.wait_until(after(one, 1))
        process.send(number)
        ended = process.wait()
    assert (ended.code, ended.err.splitlines()[-1]) == (130, "Interrupted.")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_and_goes_on(rig: MakeRig, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end with 130 and a saved ledger; the next run goes on from there."""
    one = rig(tickets=40, latency=0.05)
    with one.start("run") as process:
        process.wait_until(after(one, 50))
        process.send(number)
        ended = process.wait()
    assert ended.code == 130, ended
    assert "progress is saved" in ended.err
    with open_beside(one.archive) as archive:
        stored = archive.queries.counts()[State.STORED].n
    assert 0 < stored < len(one.helpdesk.truth)
    assert "Resuming run" in one.expect(0, "run").err
    assert max(one.fetches().values()) == 1


def test_a_large_attachment_fits_into_little_memory(rig: MakeRig) -> None:
    """200 MiB in one attachment, and 9 MB where libxml2 gives up, under 100 MB resident."""
    one = rig(tickets=3, big=(200 * MEGABYTE, 9_000_000))
    peaks = [0]
    with one.start("run") as process:

        def looked() -> bool:
            peaks.append(high_water(process.pid))
            return False

        process.wait_until(looked)
        assert process.wait().code == 0
    assert 0 < max(peaks) < 100 * 1000
    with open_beside(one.archive) as archive:
        rows = {row.id: row.sha256 for row in archive.queries.rows()}
    assert rows == {key: true.sha256 for key, true in one.helpdesk.truth.items()}


def test_a_reader_that_goes_away_is_no_accident(rig: MakeRig) -> None:
    """`migrator report | head -1` ends quietly, without a trace on stderr."""
    one = rig(tickets=10)
    one.finish("run")
    piped = subprocess.run(
        f"{sys.executable} -m migrator report --format csv | head -1",
        shell=True,
        cwd=one.folder,
        capture_output=True,
        check=False,
    )
    assert piped.stdout.startswith(b"attachment_id,ticket_id,post_id,ticket_number,queue_id")
    assert piped.stderr == b""
