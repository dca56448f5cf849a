"""Files, notes and texts of every kind, pulled by the real process."""

from __future__ import annotations

import csv
import io
import random
import re
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from migrator.archive import ResponseFilter, open_beside
from migrator.sandbox.kayako import HARMLESS_FAULTS, Helpdesk
from migrator.selftest.rig import CONCURRENCY, Rig
from tests.e2e.test_process import after
from tests.faults.conftest import MakeRig, rig

__all__ = ["rig"]

pytestmark = pytest.mark.slow

KILLS = 12
LISTS = re.compile(
    r"/Base/(Department|CustomField|Staff)|/Tickets/Ticket(Status|Priority|Type)"
    r"|/Tickets/Ticket/(ListAll|GetTicketCount)/.*|/Tickets/TicketAttachment/ListAll/\d+"
    r"|/Tickets/TicketCustomField/\d+"  # these have no list of their own
    r"|/(Knowledgebase|Troubleshooter)/(Article|Step|Attachment/ListAll/\d+)"
)
LOOKED_FOR = re.compile(r"/Tickets/Ticket/\d+")
"""A ticket that is in no list is looked for by its id."""


def counts(rig: Rig) -> Counter[tuple[str, str]]:
    """Count the files of the archive by kind and state."""
    return Counter((row.kind, row.state.value) for row in rig.rows().values())


def test_everything_ends_in_its_true_state(rig: MakeRig) -> None:
    """All kinds, all faults: counts, states and bytes are the truth's, in the report too."""
    one = rig(tickets=60, faults=frozenset({"all"}))
    one.expect(3, "run")
    one.expect_truth()
    known = one.rows()
    true = Counter((known[key].kind, true.state) for key, true in one.truth.items())
    assert counts(one) == true
    told = csv.DictReader(io.StringIO(one.expect(3, "report", "--format", "csv").out))
    assert Counter((row["kind"], row["state"]) for row in told) == true
    with open_beside(one.archive) as archive:
        kept = Counter(post.kind for post in archive.threads.query(ResponseFilter(), limit=10_000))
    seen = Counter(kind for kind, _ in one.helpdesk.seen_notes)
    assert (kept["note"], kept["timetrack"]) == (seen["ticket"], seen["timetrack"])


def asked_by(rig: Rig, *argv: str) -> tuple[Counter[str], list[str]]:
    """Run a command to its good end; give the paths that it asked for, and those of no API."""
    before, visits = len(rig.server.requests), len(rig.server.visits)
    rig.expect(0, *argv)
    asked = Counter(path for _, path in rig.server.requests_after(before))
    return asked, [visit.target for visit in rig.server.visits[visits:]]


def test_a_second_run_asks_for_nothing_but_lists(rig: MakeRig) -> None:
    """No file, text or thread comes twice, and each list is asked for once."""
    one = rig(tickets=60, faults=HARMLESS_FAULTS)
    one.expect(0, "run")
    asked, visits = asked_by(one, "run")
    assert visits == []
    others = [path for path in asked if not LISTS.fullmatch(path)]
    numbers = {int(path.rpartition("/")[2]) for path in others if LOOKED_FOR.fullmatch(path)}
    assert len(numbers) == len(others), others
    listed = {key for key, ticket in one.helpdesk.tickets.items() if ticket.department_id}
    witnesses = {min(listed), max(listed)}  # they prove whose helpdesk this is
    assert numbers & listed <= witnesses
    twice = {path: n for path, n in asked.items() if n > 1 and "/Ticket/" not in path}
    assert twice == {}
    one.expect_truth()


def tables(root: Path) -> dict[str, list[tuple[object, ...]]]:
    """Give all that an archive knows of the helpdesk, without runs, times and tries of ours."""
    ours = {"first_run", "last_run", "listed_run", "posts_run", "run_id", "at", "stored_at"}
    ours |= {"posts_activity", "fields_activity"}
    merged = {"posts_reply", "fields_reply"}  # of a merged ticket: whether it was read before that
    ours |= {"attempts", "failures", "failing_since", "next_try", "detail"}
    found = {}
    with closing(sqlite3.connect(f"file:{root / 'checkpoint.db'}?mode=ro", uri=True)) as opened:
        for table in ("attachments", "tickets", "posts", "people_notes", "articles", "blobs"):
            heads = [name for _, name, *_ in opened.execute(f"PRAGMA table_info({table})")]
            names = ", ".join(
                f"iif(merged_into IS NULL, {name}, NULL)" if name in merged else name
                for name in heads
                if name not in ours
            )
            found[table] = sorted(opened.execute(f"SELECT {names} FROM {table}"), key=repr)
    return found


def files(rig: Rig) -> set[str]:
    """Give the hashes of all files, but for replies of tickets that were merged later.

    Whether these were read before depends on the moment.
    """
    sql = (
        "SELECT sha256 FROM replies JOIN tickets AS t ON t.id = ticket_id "
        "WHERE merged_into IS NOT NULL"
    )
    path = rig.archive / "checkpoint.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as opened:
        of_merged = {sha256 for (sha256,) in opened.execute(sql)}
    return {path.name for path in rig.blobs()} - of_merged


def fetches(rig: Rig) -> Counter[str]:
    """Count the requests for single files of all kinds but those in custom fields."""
    file = re.compile(r"/(Tickets/Ticket|Knowledgebase/|Troubleshooter/)Attachment/\d+/\d+")
    asked = Counter(path for _, path in rig.server.requests if file.fullmatch(path))
    return asked + Counter(visit.target for visit in rig.server.visits)


@pytest.mark.timeout(600)  # a dozen runs, with the pauses between tries
def test_kills_change_nothing(rig: MakeRig) -> None:
    """Killed twelve times, the archive is that of an undisturbed run; only what flew comes twice.

    Moments are a number of requests and a little: each kill hits another part of the run.
    """
    one = rig(tickets=40, faults=HARMLESS_FAULTS)
    one.expect(0, "run")
    needed = len(one.server.requests)
    one.expect(0, "run")  # reads a merge of the first one to its end
    undisturbed, blobs = tables(one.archive), files(one)
    once = fetches(one)
    one.archive.rename(one.folder / "undisturbed")
    one.server.helpdesk = one.helpdesk = Helpdesk.build(one.helpdesk.options)
    dice, kills = random.Random(7), 0
    while kills < KILLS:
        with one.start("run") as process:
            process.wait_until(after(one, dice.randint(1, needed // 4)))
            time.sleep(dice.uniform(0, 0.05))
            kills += process.send(signal.SIGKILL)
            process.wait()
    one.expect(0, "run")
    one.expect(0, "run")
    assert tables(one.archive) == undisturbed
    one.expect(0, "verify", "--prune", "--yes", "--accept-orphans")
    assert files(one) == blobs
    again = fetches(one) - once - once
    assert again.total() <= KILLS * CONCURRENCY
