"""A helpdesk that deletes, reuses ids, merges and is restored, against the archive of its runs."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from migrator.archive import Verdict, open_archive
from migrator.archive.ledger import FIRST_COPY
from migrator.pull.options import ChangeLimit, DeletionLimit
from tests.blobs.layout import bytes_of
from tests.pull.doubles import pull
from tests.pull.syncing import NOW, Living, sync

pytestmark = pytest.mark.slow

ACCEPT: dict[str, Any] = {
    "changes": ChangeLimit(accept=True),
    "deletions": DeletionLimit(accept=True),
}
PICK = st.integers(0, 99)


class Source(RuleBasedStateMachine):
    """People and accidents at the helpdesk, and runs and syncs over it, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.archive = open_archive(Path(self.folder.name), command="test")
        self.desk = Living(3)
        self.backup = copy.deepcopy(self.desk)
        self.made = 0
        self.now = NOW
        self.held: set[str] = set()
        self.active = 2000

    def data(self) -> bytes:
        self.made += 1
        return b"content %d" % self.made

    def ticket(self, pick: int) -> int | None:
        found = [one.id for one in self.desk.tickets.values() if one.department_id == 1]
        return found[pick % len(found)] if found else None

    def stir(self, ticket: int) -> None:
        self.active += 10
        self.desk.tickets[ticket] = replace(self.desk.tickets[ticket], last_activity=self.active)

    @rule()
    def open_a_ticket(self) -> None:
        self.active += 10
        self.desk.open(
            max([*self.desk.tickets, *self.desk.merged], default=0) + 1, active=self.active
        )

    @rule(pick=PICK, active=st.booleans())
    def attach(self, pick: int, active: bool) -> None:
        if (ticket := self.ticket(pick)) is not None:
            key = self.desk.attach(ticket, self.data())
            self.desk.files[key] = self.desk.files[key]._replace(at=self.made)
            if active:
                self.stir(ticket)

    @rule(pick=PICK, again=st.booleans())
    def delete_an_attachment(self, pick: int, again: bool) -> None:
        """Also with its id given to another file at once, as InnoDB does after a restart."""
        if not self.desk.files:
            return
        key = sorted(self.desk.files)[pick % len(self.desk.files)]
        old = self.desk.files.pop(key)
        if again and (ticket := self.ticket(pick // 3)) is not None:
            new = self.data()
            self.desk.files[key] = old._replace(
                ticket_id=ticket, data=new, declared=len(new), at=self.made
            )

    @rule(pick=PICK)
    def delete_a_ticket(self, pick: int) -> None:
        if (ticket := self.ticket(pick)) is not None and len(self.desk.tickets) > 2:
            self.desk.delete(ticket)

    @rule(pick=PICK, into=PICK)
    def merge(self, pick: int, into: int) -> None:
        old, survivor = self.ticket(pick), self.ticket(into)
        if old is not None and survivor is not None and old != survivor:
            self.desk.merge(old, survivor)

    @rule(pick=PICK)
    def trash(self, pick: int) -> None:
        if (ticket := self.ticket(pick)) is not None:
            self.desk.trash(ticket)

    @rule()
    def take_a_backup(self) -> None:
        self.backup = copy.deepcopy(self.desk)

    @rule()
    def restore_the_backup(self) -> None:
        """Forget what came since; its ids are given out again."""
        self.desk = copy.deepcopy(self.backup)

    @rule()
    def sync(self) -> None:
        self.now += 60
        self.look(sync(self.desk, self.archive, now=self.now, **ACCEPT).exit_code)

    @precondition(lambda self: self.made)
    @rule()
    def run(self) -> None:
        """After a whole pass that ended well, we hold the very bytes that the helpdesk has."""
        code = pull(self.desk, self.archive, **ACCEPT).exit_code
        self.look(code)
        if code == 0:
            rows = {row.id: row for row in self.archive.queries.rows()}
            for key, file in self.desk.files.items():
                ticket = self.desk.tickets.get(file.ticket_id)
                if ticket is None or ticket.department_id == 0:
                    continue
                row = rows[key]
                assert row.state == "stored"
                assert (row.filename, row.declared_size) == (file.name, file.declared)
                assert self.bytes_of(row.sha256) == file.data

    def look(self, code: int) -> None:
        """Remember what is held; what ever was is held for good."""
        assert code in (0, 3), code
        now = {row.sha256 for row in self.archive.queries.rows() if row.sha256}
        assert self.held <= now, "bytes that were held are gone"
        self.held = now

    def bytes_of(self, sha256: str | None) -> bytes:
        assert sha256 is not None
        return bytes_of(self.archive, sha256)

    @invariant()
    def each_row_has_its_blob(self) -> None:
        for row in self.archive.queries.rows():
            assert (row.sha256 is not None) is (row.state in ("stored", "deleted"))
            if row.sha256 is not None:
                assert self.archive.blobs.examine(row.sha256, row.size or 0).verdict is Verdict.OK
            assert row.id < FIRST_COPY or row.state == "deleted"
        self.archive.queries.self_check()

    def teardown(self) -> None:
        self.archive.close()
        self.folder.cleanup()


Source.TestCase.settings = settings(deadline=None, max_examples=30, stateful_step_count=30)
TestSource = Source.TestCase
