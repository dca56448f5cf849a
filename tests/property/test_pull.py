"""Real runs over a real archive, killed and resumed in any order of events at the helpdesk."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from migrator.archive import State, Verdict, open_archive, open_beside
from migrator.archive.checkpoint import Checkpoint
from migrator.errors import ServerFailed
from migrator.pull.options import DeletionLimit, RunResult
from migrator.sources.base import Fetched
from tests.pull.doubles import Desk, pull

pytestmark = pytest.mark.slow

KILLED = 137
# Power is not cut here, so that memory is as good as a disk, and saves the waits for it.
MEMORY = Path("/dev/shm")
DATA = st.sampled_from([b"", b"logo", b"logo", b"one", b"another one", None])
ANY = st.integers(0, 1 << 16)


class Moody(Desk):
    """A helpdesk where some attachments cannot be fetched at present."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: set[int] = set()
        self.step: Callable[[], None] = lambda: None

    async def turn(self, call: str) -> None:
        self.step()
        await super().turn(call)

    async def fetch(self, ticket_id: int, attachment_id: int, make_sink: Any) -> Fetched[Any]:
        if attachment_id in self.broken & self.files.keys():
            await self.turn(f"fetch {attachment_id}")
            raise ServerFailed("HTTP 500")
        return await super().fetch(ticket_id, attachment_id, make_sink)


def kill_after(steps: int) -> Callable[[], None]:
    """Give a function that is the end of this process when it is called once too often.

    It is called before each request, each statement of SQL, each sync and each rename, so that
    a transaction is as likely to be cut in half as a file.
    """
    left = steps

    def step() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os._exit(KILLED)

    def before(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            step()
            return real(*args, **kwargs)

        setattr(owner, name, counted)

    before(Checkpoint, "execute")
    before(os, "fsync")
    before(Path, "replace")
    return step


class Migration(RuleBasedStateMachine):
    """People work at a helpdesk while runs come and go, and some are killed."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.path = Path(self.folder.name) / "archive"
        self.desk = Moody()
        self.held: dict[int, str] = {}
        open_archive(self.path, command="test").close()

    def ticket(self, number: int) -> int:
        """Choose one of the tickets."""
        return sorted(self.desk.tickets)[number % len(self.desk.tickets)]

    def trashed(self, ticket: int) -> bool:
        """Tell whether a ticket lies in the trash, where nobody looks into it any more."""
        while ticket in self.desk.merged:
            ticket = self.desk.merged[ticket]
        return self.desk.tickets[ticket].department_id == 0

    def run_once(self, *, recheck: bool = False) -> RunResult:
        self.desk.calls.clear()
        accepted = DeletionLimit(accept=True)
        with open_archive(self.path, command="test") as archive:
            return pull(self.desk, archive, deletions=accepted, page_size=3, recheck=recheck)

    # What people do

    @rule(files=st.lists(DATA, max_size=3))
    def open(self, files: list[bytes | None]) -> None:
        number = max([*self.desk.tickets, *self.desk.merged], default=0) + 1
        self.desk.open(number)
        for data in files:
            self.desk.attach(number, data, declared=9 if data is None else None)

    @precondition(lambda self: self.desk.tickets)
    @rule(which=ANY, data=DATA)
    def attach(self, which: int, data: bytes | None) -> None:
        self.desk.attach(self.ticket(which), data, declared=9 if data is None else None)

    @precondition(lambda self: self.desk.files)
    @rule(which=ANY)
    def break_or_mend(self, which: int) -> None:
        self.desk.broken ^= {sorted(self.desk.files)[which % len(self.desk.files)]}

    @precondition(lambda self: len(self.desk.files) > 1)
    @rule(which=ANY)
    def delete_attachment(self, which: int) -> None:
        # Never the newest: the desk would give its id a second time, which Kayako does not.
        del self.desk.files[sorted(self.desk.files)[which % (len(self.desk.files) - 1)]]

    @precondition(lambda self: len(self.desk.tickets) > 1)
    @rule(old=ANY, into=ANY)
    def merge(self, old: int, into: int) -> None:
        if self.ticket(old) != self.ticket(into):
            self.desk.merge(self.ticket(old), self.ticket(into))

    @precondition(lambda self: self.desk.tickets)
    @rule(which=ANY)
    def trash(self, which: int) -> None:
        self.desk.trash(self.ticket(which))

    # What we do

    @rule(steps=st.integers(0, 150))
    def killed_run(self, steps: int) -> None:
        """Kill a run in the middle of anything; what was not committed is gone with it."""
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            code = 1
            try:
                self.desk.step = kill_after(steps)
                self.run_once()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in {0, KILLED}

    @rule()
    def whole_run(self) -> None:
        """Let a run come to its end: it knows the truth of all that is listed.

        What failed twice would wait for its time, so it is asked for at once.
        """
        assert self.run_once(recheck=True).exit_code in {0, 3}
        with open_beside(self.path) as archive:
            rows = {row.id: row for row in archive.queries.rows()}
            assert archive.queries.counts()[State.PENDING].n == 0
        for number, file in self.desk.files.items():
            if not self.desk.tickets[file.ticket_id].department_id:
                continue
            row = rows[number]
            assert row.ticket_id == file.ticket_id
            if number in self.held or (file.data is not None and number not in self.desk.broken):
                assert row.state is State.STORED
                assert row.sha256 == hashlib.sha256(file.data or b"").hexdigest()
            elif number in self.desk.broken:
                assert row.state in {State.FAILED, State.MISSING}
            else:
                assert row.state is State.MISSING
        for number, row in rows.items():
            if number not in self.desk.files and not self.trashed(row.ticket_id):
                assert row.state not in {State.PENDING, State.STORED}

    @rule()
    def second_run_is_idle(self) -> None:
        """Run twice: the second asks again for what failed, and for nothing else."""
        self.whole_run()
        with open_beside(self.path) as archive:
            before = {row.id: row for row in archive.queries.rows()}
        failed = {number for number, row in before.items() if row.state is State.FAILED}
        self.run_once()
        assert {int(call.split()[1]) for call in self.desk.asked("fetch")} <= failed
        with open_beside(self.path) as archive:
            after = {row.id: row for row in archive.queries.rows() if row.id not in failed}
        assert after == {number: row for number, row in before.items() if number not in failed}

    # What holds at any time

    @invariant()
    def the_sum_balances(self) -> None:
        with open_beside(self.path) as archive:
            counts = archive.queries.counts()
            rows = list(archive.queries.rows())
        for state, count in counts.items():
            assert count.n == sum(row.state is state for row in rows)

    @invariant()
    def nothing_held_is_ever_lost(self) -> None:
        """Rows that say stored have their whole blob, and keep it for good."""
        with open_beside(self.path) as archive:
            held = {row.id: row.sha256 for row in archive.queries.rows() if row.sha256}
            assert self.held.items() <= held.items()
            for sha256, size in archive.queries.expected_blobs():
                assert archive.blobs.examine(sha256, size).verdict is Verdict.OK
            assert {sha for sha, _ in archive.queries.expected_blobs()} == set(held.values())
        self.held = held

    def teardown(self) -> None:
        self.folder.cleanup()


Migration.TestCase.settings = settings(
    deadline=None, max_examples=12, stateful_step_count=15, report_multiple_bugs=False
)
# Newer Pythons warn of a fork beside other threads; a server of another test may still be ending.
TestMigration = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")(Migration.TestCase)
