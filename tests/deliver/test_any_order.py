"""Any order of deliveries, kills, syncs and edits there: each file once, the ledger true."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from migrator.archive import State
from migrator.deliver.client import Client
from migrator.sandbox.tickiti import HARMLESS_FAULTS, Tickiti
from tests.deliver.conftest import Office

FAULTS = sorted(HARMLESS_FAULTS - {"name_kept", "slow", "slow_write", "stale_read"})


class Killed(BaseException):
    """Ends a delivery as a kill does."""


class Deliveries(RuleBasedStateMachine):
    """A helpdesk that changes, a target that others use, and deliveries that may be killed."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="deliveries-"))
        self.office = Office(self.folder / "archive")
        self.removed: set[int] = set()
        self.contents = 0

    @initialize(generation=st.sampled_from(["july", "october"]))
    def open(self, generation: str) -> None:
        """Start with two tickets."""
        for ticket in (1, 2):
            self.office.ticket(ticket, b"%d" % ticket)
        self.office.open_there(Tickiti(generation=generation), 1, 2)

    @rule(ticket=st.integers(1, 4), same=st.booleans())
    def sync(self, ticket: int, same: bool) -> None:
        """Pull one file more, which may equal another one, into a ticket that may be new."""
        self.contents += not same
        name = "same.txt" if same else f"file-{self.contents}.txt"
        self.office.ticket(ticket, (name, b"same" if same else b"%d new" % self.contents))
        if ticket not in self.office.numbers:
            self.office.open_there(self.office.tickiti, ticket)

    @rule(ticket=st.integers(1, 2), at=st.integers(0, 3))
    def lose(self, ticket: int, at: int) -> None:
        """Let the source delete a file, which stays where it is."""
        rows = self.office.archive.threads.attachments_of_ticket(ticket)
        if len(rows) > at:
            self.office.archive.ledger.mark_deleted(rows[at].id, "gone")

    @rule()
    def merge(self) -> None:
        """Merge a ticket into another one, whose files it has from then on."""
        self.office.archive.ledger.mark_merged(2, 1)

    @rule(fault=st.sampled_from(["", *FAULTS]), at=st.integers(1, 4))
    def deliver(self, fault: str, at: int) -> None:
        """Deliver to the end, with a fault somewhere."""
        self.tickiti.faults = Tickiti(faults=[f"{fault}@{at}"] if fault else []).faults
        self.office.deliver()
        self.tickiti.faults = Tickiti().faults

    @rule(at=st.integers(1, 12), before=st.booleans())
    def kill(self, at: int, before: bool) -> None:
        """Deliver until it is killed, before or after a request."""
        real: Any = Client._json
        left = at

        async def killed(client: Client, *args: Any, **more: Any) -> object:
            nonlocal left
            left -= 1
            if not left and before:
                raise Killed
            found: object = await real(client, *args, **more)
            if left <= 0:
                raise Killed
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Client, "_json", killed)
            try:
                self.office.deliver(concurrency=1)
            except Killed:
                pass
            except BaseExceptionGroup as errors:
                if not errors.subgroup(Killed):
                    raise

    @rule()
    def forget(self) -> None:
        """Forget all keys."""
        self.tickiti.forget_keys()

    @rule(ticket=st.integers(1, 2))
    def write(self, ticket: int) -> None:
        """Let somebody else write in a ticket, even what looks like a mark of ours."""
        there = self.tickiti.tickets[int(self.office.numbers[ticket])]
        text = "<p>[kayako-delivery x ticket 1 note " + "0" * 24 + "] [file 100 " + "0" * 64 + "]"
        self.tickiti.desk.write(there, "tom.hale@example.com", text, internal=True)

    @rule(ticket=st.integers(1, 2), at=st.integers(0, 2), how=st.sampled_from(["note", "file"]))
    def remove(self, ticket: int, at: int, how: str) -> None:
        """Let somebody remove a note of ours, or a file of it; a look at it all finds that."""
        number = int(self.office.numbers[ticket])
        files = self.tickiti.files(number)
        if len(files) <= at:
            return
        note = self.tickiti.desk.responses[files[at].response_id]
        if how == "note":
            note.deleted_at = 1
        else:
            note.attachments.remove(files[at])
            del self.tickiti.desk.attachments[files[at].id]
        self.office.verify()

    @rule(ticket=st.integers(1, 2), status=st.sampled_from(["open", "closed"]))
    def close(self, ticket: int, status: str) -> None:
        """Close a ticket there, or open it."""
        self.tickiti.tickets[int(self.office.numbers[ticket])].status = status

    @invariant()
    def once(self) -> None:
        """No file is there twice, and the ledger claims nothing that is not there."""
        office = self.office
        there: dict[tuple[str, str], int] = {}
        for (_, name, sha256), n in office.there().items():
            there[name, sha256] = there.get((name, sha256), 0) + n
        wanted: dict[tuple[str, str], int] = {}
        for row in office.archive.queries.rows():
            key = (row.filename, row.sha256 or "")
            wanted[key] = wanted.get(key, 0) + 1
        ours = {key: there.get(key, 0) for key in wanted}  # others may attach files, too
        assert all(n <= wanted[key] for key, n in ours.items()), (there, wanted)
        assert office.counts().get("delivered", 0) <= sum(ours.values())
        assert (self.tickiti.mails, self.tickiti.tags) == ([], [])

    @property
    def tickiti(self) -> Tickiti:
        """The target."""
        return self.office.tickiti

    def teardown(self) -> None:
        """Deliver what is left: all of it is there."""
        if self.office.numbers:
            for there in self.tickiti.tickets.values():
                there.status = "open"
            for _ in range(2):
                self.office.deliver(recheck=True)
            self.once()
            assert set(self.office.counts()) <= {"delivered"}, self.office.counts()
            stored = list(self.office.archive.queries.rows(states=[State.STORED]))
            wanted = Counter((row.filename, row.sha256) for row in stored)
            there_now = Counter[tuple[str, str | None]]()
            for (_, name, sha256), n in self.office.there().items():
                there_now[name, sha256] += n
            assert not wanted - there_now, (wanted, there_now)
        self.tickiti.stop()
        self.tickiti.desk.close()
        self.office.archive.close()
        shutil.rmtree(self.folder)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_any_order() -> None:
    """A few dozen orders, chosen by hypothesis."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Deliveries,
        settings=settings(
            max_examples=25,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
