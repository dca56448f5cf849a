"""The ledger against any order of events."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from migrator.archive import (
    UNFINISHED,
    Count,
    Listed,
    Outcome,
    State,
    TicketRow,
    Verdict,
    open_archive,
)
from migrator.archive.ledger import FIRST_COPY

pytestmark = pytest.mark.slow

SURROGATE = re.compile("[\ud800-\udfff]")
IDS = st.integers(1, 6)
TICKETS = st.integers(1, 3)
SIZES = st.integers(0, 1 << 62)
NAMES = st.text(st.characters(codec=None), max_size=8)  # any code point, lone surrogates too


class Pull(RuleBasedStateMachine):
    """A helpdesk and a puller that do anything in any order, beside a model of a few dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.archive = open_archive(Path(self.folder.name), command="test")
        self.ledger, self.queries = self.archive.ledger, self.archive.queries
        self.state: dict[int, State] = {}
        self.sha256: dict[int, str] = {}
        self.copies: dict[int, set[str]] = {}
        self.figures: dict[int, tuple[str, int]] = {}
        self.ticket: dict[int, int] = {}
        self.merged: dict[int, int] = {}
        self.failed: dict[int, int] = {}
        self.seen: dict[int, int] = {}
        self.run = 0

    @initialize()
    def first_run(self) -> None:
        self.run = self.ledger.begin_run("run", source="x", scope={}).id

    @rule()
    def next_run(self) -> None:
        self.first_run()

    @rule(
        ids=st.lists(IDS, max_size=4), ticket=TICKETS, size=SIZES, name=NAMES, recheck=st.booleans()
    )
    def list_ticket(self, ids: list[int], ticket: int, size: int, name: str, recheck: bool) -> None:
        listed = [Listed(i, ticket, 1, name, name, size, 0) for i in ids]
        row = TicketRow(ticket, 1, name, name)
        recorded = self.ledger.record_ticket(self.run, row, listed, recheck=recheck)
        self.merged.pop(ticket, None)
        waiting = set()
        for i in ids:
            state = self.state.get(i, State.PENDING)
            kept_name, kept_size = self.figures.get(i, ("", 0))
            clean = SURROGATE.sub("\ufffd", name) or kept_name
            size_now = min(size, 1 << 42)
            new = i in self.state
            changed = new and ((kept_name not in ("", clean)) or kept_size != size_now)
            if i in self.sha256 and (changed or self.ticket[i] != ticket):
                self.copies.setdefault(i, set()).add(self.sha256.pop(i))
                state = State.PENDING
            elif state is State.DELETED:
                state = State.STORED
            elif state is State.GONE or (state is State.MISSING and (recheck or changed)):
                state = State.PENDING
            self.figures[i] = clean, size_now
            self.state[i], self.ticket[i], self.seen[i] = state, ticket, self.run
            waits = self.failed.get(i, 0) > 1 and not recheck and not changed
            if state in UNFINISHED and not (state is State.FAILED and waits):
                waiting.add(i)
            if state is not State.FAILED:
                self.failed.pop(i, None)
        assert [w.id for w in recorded.todo] == sorted(waiting)

    @rule(i=IDS, state=st.sampled_from([s for s in State if s is not State.DELETED]), data=IDS)
    def fetch(self, i: int, state: State, data: int) -> None:
        if i not in self.state:
            return
        outcome = Outcome(i, state, "why", "because")
        if state is State.STORED:
            with self.archive.blobs.writer() as writer:
                writer.write(b"x" * data)
                blob = writer.commit()
            outcome = Outcome(i, state, None, None, blob.sha256, blob.size, blob.mime_type)
        before = self.state[i]
        if before not in (State.STORED, State.DELETED):
            self.state[i] = state
            self.failed[i] = self.failed.get(i, 0) + 1 if state is State.FAILED else 0
            if outcome.sha256 is not None:
                self.sha256[i] = outcome.sha256
                self.copies.get(i, set()).discard(outcome.sha256)
        assert self.ledger.settle(outcome) is self.state[i]

    @rule(i=IDS)
    def delete(self, i: int) -> None:
        done = self.ledger.mark_deleted(i, "no longer listed")
        assert done is (self.state.get(i) is State.STORED)
        if done:
            self.state[i] = State.DELETED

    @rule(old=TICKETS, into=TICKETS)
    def merge(self, old: int, into: int) -> None:
        if old != into:
            self.ledger.mark_merged(old, into)
            last = into
            while last in self.merged and last != old:
                last = self.merged[last]
            if last == old:  # in a ring: what was known of the survivor is out of date
                last = into
                self.merged.pop(into)
            self.merged[old] = last
            self.ticket = {i: last if t == old else t for i, t in self.ticket.items()}

    @invariant()
    def the_ledger_says_what_happened(self) -> None:
        rows = {row.id: row for row in self.queries.rows() if row.id < FIRST_COPY}
        assert {i: row.state for i, row in rows.items()} == self.state
        assert {i: row.ticket_id for i, row in rows.items()} == self.ticket
        assert {i: row.sha256 for i, row in rows.items() if row.sha256} == self.sha256

    @invariant()
    def the_counts_add_up(self) -> None:
        real = {state: Count() for state in State}
        for row in self.queries.rows():
            size = row.declared_size if row.size is None else row.size
            old = real[row.state]
            real[row.state] = Count(old.n + 1, old.bytes + size)
        assert self.queries.counts() == real
        copies = sum(row.id > FIRST_COPY for row in self.queries.rows())
        assert sum(count.n for count in real.values()) == len(self.state) + copies

    @invariant()
    def every_blob_is_there_and_referred_to(self) -> None:
        expected = dict(self.queries.expected_blobs())
        kept = {sha256 for copies in self.copies.values() for sha256 in copies}
        assert set(expected) == set(self.sha256.values()) | kept
        assert {row.sha256 for row in self.queries.rows() if row.id > FIRST_COPY} == kept
        for sha256, size in expected.items():
            assert self.archive.blobs.examine(sha256, size).verdict is Verdict.OK

    @invariant()
    def what_is_left_is_left(self) -> None:
        unseen = {i for i, run in self.seen.items() if run != self.run}
        left = {i for i in unseen if self.state[i] in UNFINISHED}
        held = {i for i in unseen if self.state[i] is State.STORED}
        assert {work.id for work in self.queries.leftovers(self.run)} == left
        assert {work.id for work in self.queries.unseen(self.run)} == held
        assert self.queries.count_unseen(self.run)[0] == len(held)

    def teardown(self) -> None:
        self.archive.close()
        self.folder.cleanup()


Pull.TestCase.settings = settings(deadline=None, max_examples=15, stateful_step_count=20)
TestPull = Pull.TestCase
