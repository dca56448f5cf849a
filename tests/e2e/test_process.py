"""The real process against the sandbox: killed, interrupted, and short of memory."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.archive import ResponseFilter, Verdict, open_archive, open_beside
from migrator.archive.records import State
from migrator.errors import MigratorError
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
    desk, truth = one.helpdesk, one.truth
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
    assert 0 < stored < sum(map(len, one.helpdesk.truths.values()))
    assert "Resuming run" in one.expect(0, "run").err
    assert max(one.fetches().values()) == 1


def shell(rig: Rig, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash beside the configuration, which ends with the worst code of a pipe."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("migrator", MIGRATOR)],
        cwd=rig.folder,
        capture_output=True,
        text=True,
        check=False,
    )


MIGRATOR = f"{shlex.quote(sys.executable)} -m migrator"
LOST = [">&-", "2>&-", "<&-", ">&- 2>&- <&-", "| true", "2>&1 >/dev/full | true", ">/dev/full 2>&1"]


@pytest.mark.parametrize("options", ["", "--log-format json"])
def test_a_run_pulls_all_though_nobody_hears_of_it(rig: MakeRig, options: str) -> None:
    """Closed, full or gone: a run without its streams stores the same and ends with the same."""
    one = rig(tickets=4)
    for lost in LOST:
        shutil.rmtree(one.archive, ignore_errors=True)
        done = shell(one, f"migrator {options} run {lost}")
        assert (done.returncode, "bug" in done.stderr) == (0, False), (lost, done.stderr)
        one.expect_truth()


def test_a_plan_is_saved_though_nobody_reads_its_report(rig: MakeRig) -> None:
    """Hours of listing are not lost with the output; that was asked for, so the code says it."""
    one = rig(tickets=4)
    for lost, code in ((">/dev/full", 2), (">&-", 2), ("| true", 141)):
        (one.folder / "plan.jsonl").unlink(missing_ok=True)
        assert shell(one, f"migrator plan --save-plan plan.jsonl {lost}").returncode == code
        assert shell(one, "migrator run --plan plan.jsonl").returncode == 0


@pytest.mark.parametrize("lost", ["full", "gone"])
def test_syncs_go_on_though_nobody_hears_of_them(rig: MakeRig, lost: str) -> None:
    """Neither a log on a full disk nor a reader that has gone ends `sync --every`."""
    one = rig(tickets=2)
    read, write = os.pipe() if lost == "gone" else (-1, os.open("/dev/full", os.O_WRONLY))
    process = subprocess.Popen(
        [*shlex.split(MIGRATOR), "sync", "--every", "1s"],
        cwd=one.folder,
        stdout=write,
        stderr=write,
    )
    for fd in {read, write} - {-1}:
        os.close(fd)
    rounds = 0
    while rounds < 3:
        assert process.poll() is None
        if (one.archive / "checkpoint.db").exists():
            with contextlib.suppress(MigratorError), open_beside(one.archive) as archive:
                rounds = sum(run.exit_code == 0 for run in archive.queries.runs())
    process.send_signal(signal.SIGTERM)
    assert process.wait() in (0, 130)


def test_a_terminal_that_hangs_up_interrupts_a_run(rig: MakeRig) -> None:
    """Closing the window in mid-run saves progress as Ctrl-C does."""
    one = rig(tickets=40, latency=0.05)
    reached = after(one, 50)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(one.folder)
        os.execv(sys.executable, [*shlex.split(MIGRATOR), "run"])
    while not reached():
        if select.select([terminal], [], [], 0.002)[0]:
            os.read(terminal, 1000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert "Resuming run" in one.expect(0, "run").err
    assert max(one.fetches().values()) == 1


def test_a_run_under_nohup_outlives_its_terminal(rig: MakeRig) -> None:
    """SIGHUP that was ignored from the start stays ignored."""
    one = rig(tickets=10, latency=0.02)
    process = subprocess.Popen(
        ["nohup", *shlex.split(MIGRATOR), "run"], cwd=one.folder, stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    reached = after(one, 10)
    while not reached():
        assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    assert process.wait() == 0
    one.expect_truth()


COMMANDS = [
    "doctor", "plan", "run", "sync", "sync --every 1s", "verify", "audit", "handover out",
    "report", "serve --port 0", "serve --port 0 --workers 2", "sandbox --port 0",
    "demo --tickets 8", "selftest --tickets 8 --kills 1",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_at_any_moment_ends_any_command(rig: MakeRig, command: str) -> None:
    """It ends with 130 and without a trace, or as it would have; servers end with 0."""
    one = rig(tickets=8, latency=0.02)
    one.finish("run")
    dice = random.Random(command)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with one.start(*command.split()) as process:
            # The first moments, in which Python itself starts, are not ours.
            time.sleep(dice.uniform(0.3, 1.5))
            process.send(number)
            ended = process.wait()
        assert ended.code in (0, 130), ended
        assert "Traceback" not in ended.err
        assert "Exception ignored" not in ended.err


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
    assert rows == {key: true.sha256 for key, true in one.truth.items()}


def test_a_reader_that_goes_away_is_no_accident(rig: MakeRig) -> None:
    """`migrator report | head -1` ends quietly, without a trace on stderr."""
    one = rig(tickets=10)
    one.finish("run")
    piped = subprocess.run(
        f"{shlex.quote(sys.executable)} -m migrator report --format csv | head -1",
        shell=True,
        cwd=one.folder,
        capture_output=True,
        check=False,
    )
    assert piped.stdout.startswith(b"attachment_id,ticket_id,post_id,ticket_number,queue_id")
    assert piped.stderr == b""
