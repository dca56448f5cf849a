"""The real process against the sandbox: killed, interrupted, and short of memory."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from migrator.archive import ResponseFilter, Verdict, open_archive, open_beside
from migrator.archive.records import State
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer

pytestmark = pytest.mark.slow

CONCURRENCY = 4
MEGABYTE = 1 << 20


class Rig:
    """A sandbox, a configuration that fits it, and the command line as a process."""

    def __init__(self, root: Path, options: SandboxOptions) -> None:
        self.root = root
        self.helpdesk = Helpdesk.build(options)
        self.server = SandboxServer(self.helpdesk)
        self.server.start()
        config = root / "config.toml"
        config.write_text(
            f'[kayako]\nurl = "{self.server.url}"\napi_key = "{self.server.api_key}"\n'
            f'secret_key = "{self.server.secret_key}"\nconcurrency = {CONCURRENCY}\n'
        )
        config.chmod(0o600)

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "migrator", *argv],
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def finish(self, *argv: str) -> tuple[int, str]:
        """Run a command to its end; gives its exit code and all it said."""
        with self.start(*argv) as process:
            text, _ = process.communicate(timeout=110)
            return process.returncode, text.decode()

    def fetches(self) -> Counter[int]:
        """Count the requests for contents, by attachment."""
        return Counter(
            int(path.rsplit("/", 1)[1])
            for verb, path in list(self.server.requests)
            if verb == "GET" and "/TicketAttachment/" in path and "ListAll" not in path
        )

    def wait_for_requests(self, number: int, process: subprocess.Popen[bytes]) -> None:
        """Wait until the server has seen that many requests more, or the process has ended."""
        goal = len(self.server.requests) + number
        while len(self.server.requests) < goal and process.poll() is None:
            time.sleep(0.001)


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


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Make a rig with the given options."""
    rigs: list[Rig] = []

    def make(**options: object) -> Rig:
        rigs.append(Rig(tmp_path, SandboxOptions(**options)))  # type: ignore[arg-type]
        return rigs[-1]

    yield make
    for one in rigs:
        one.server.stop()


def test_killed_again_and_again_a_run_ends_as_an_undisturbed_one(rig: Callable[..., Rig]) -> None:
    """Killed at random moments, the pull ends with every true outcome.

    After each kill every row that says stored has its whole file, and none is lost; at most what
    was in flight is fetched twice, and every post is there.
    """
    one = rig(tickets=120, faults=frozenset({"all"}))
    dice = random.Random(12)
    kills, held = 0, set[int]()
    while kills < 8:
        with one.start("run") as process:
            one.wait_for_requests(dice.randint(1, 60), process)
            if process.poll() is None:
                process.kill()
                kills += 1
            process.communicate()
        held = stored_whole(one.root / "archive", held)
    code, text = one.finish("run")
    assert code == 3, text
    with open_beside(one.root / "archive") as archive:
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
    code, text = one.finish("verify", "--json")
    assert code == 0, text


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
def test_a_small_command_ends_cleanly_when_told(
    rig: Callable[..., Rig], number: signal.Signals
) -> None:
    """Not only the commands that have something to save know both signals."""
    one = rig(tickets=2, latency=5)
    with one.start("doctor") as process:
        one.wait_for_requests(1, process)
        process.send_signal(number)
        text, _ = process.communicate(timeout=60)
    assert (process.returncode, text.decode().splitlines()[-1]) == (130, "Interrupted.")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_and_goes_on(
    rig: Callable[..., Rig], number: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM end with 130 and a saved ledger; the next run goes on from there."""
    one = rig(tickets=40, latency=0.05)
    with one.start("run") as process:
        one.wait_for_requests(50, process)
        process.send_signal(number)
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 130, text.decode()
    assert b"progress is saved" in text
    with open_beside(one.root / "archive") as archive:
        stored = archive.queries.counts()[State.STORED].n
    assert 0 < stored < len(one.helpdesk.truth)
    code, again = one.finish("run")
    assert code == 0, again
    assert "Resuming run" in again
    assert max(one.fetches().values()) == 1


def test_a_large_attachment_fits_into_little_memory(rig: Callable[..., Rig]) -> None:
    """200 MiB in one attachment, and 9 MB where libxml2 gives up, under 100 MB resident."""
    one = rig(tickets=3, big=(200 * MEGABYTE, 9_000_000))
    peak = 0
    with one.start("run") as process:
        while process.poll() is None:
            peak = max(peak, high_water(process.pid))
            time.sleep(0.005)
        text, _ = process.communicate()
    assert process.returncode == 0, text.decode()
    assert 0 < peak < 100 * 1000
    with open_beside(one.root / "archive") as archive:
        rows = {row.id: row.sha256 for row in archive.queries.rows()}
    assert rows == {key: true.sha256 for key, true in one.helpdesk.truth.items()}


def test_a_reader_that_goes_away_is_no_accident(rig: Callable[..., Rig]) -> None:
    """`migrator report | head -1` ends quietly, without a trace on stderr."""
    one = rig(tickets=10)
    one.finish("run")
    piped = subprocess.run(
        f"{sys.executable} -m migrator report --format csv | head -1",
        shell=True,
        cwd=one.root,
        capture_output=True,
        check=False,
    )
    assert piped.stdout.startswith(b"attachment_id,ticket_id,post_id,ticket_number,queue_id")
    assert piped.stderr == b""
