"""SIGKILL at any moment: every row that says stored has its whole blob."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from migrator.archive import State, Verdict, open_archive

WORK = """
import itertools, os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from migrator.archive import Listed, Outcome, State, TicketRow, open_archive

with open_archive(Path(sys.argv[1]), command="work") as archive:
    run = archive.ledger.begin_run("run", source="x", scope={})
    start = 1 + sum(count.n for count in archive.queries.counts().values())

    def store(attachment_id):
        with archive.blobs.writer() as writer:
            for _ in range(4):
                writer.write(os.urandom(50_000) if attachment_id % 3 else b"logo" * 10_000)
            blob = writer.commit()
        return Outcome(attachment_id, State.STORED, None, None, blob.sha256, blob.size, "a/b")

    with ThreadPoolExecutor(3) as pool:
        for first in itertools.count(start, 6):
            ids = range(first, first + 6)
            listed = [Listed(i, 1, 1, "x", "y", 1, 0) for i in ids]
            archive.ledger.record_ticket(run.id, TicketRow(1, 1), listed)
            outcomes = list(pool.map(store, ids))
            with archive.ledger.atomic():
                for outcome in outcomes:
                    archive.ledger.settle(outcome)
            print(first, flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_nothing_stored_is_lost(root: Path) -> None:
    """Several runs over one archive, each killed in the middle of its work."""
    chance = random.Random(7)
    stored = 0
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", WORK, str(root)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 5)):
                assert process.stdout.readline()
            # The moment of death is anywhere in the next group of attachments.
            timer = threading.Timer(chance.random() * 0.03, process.kill)
            timer.start()
            process.stdout.read()
            timer.join()
        with open_archive(root, command="look") as archive:
            ledger = archive.queries
            ledger.self_check()
            assert ledger.unfinished_run() is not None
            assert ledger.counts()[State.STORED].n > stored
            stored = ledger.counts()[State.STORED].n
            for sha256, size in ledger.expected_blobs():
                assert archive.blobs.examine(sha256, size).verdict is Verdict.OK
            for row in ledger.rows(states=[State.STORED]):
                assert row.sha256 is not None
                assert archive.blobs.size(row.sha256) == row.size
