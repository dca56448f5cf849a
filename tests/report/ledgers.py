"""Ledgers of any kind, for tests that hold the forms of a report against each other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import strategies as st

from migrator.archive import Archive, Department, Listed, Outcome, State, TicketRow, open_archive

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
TIMES = st.sampled_from([0, 1, 1_388_534_399, 1_388_534_400, 1_700_000_000, 2**40]) | st.integers(
    0, 2**33
)
EDGES = [0, 1, 1024, 1025, 10_240, 1 << 20, (1 << 20) + 1, 25 << 20, 1 << 30, (1 << 30) + 1]


@dataclass(frozen=True)
class One:
    """An attachment of a ledger to be made; equal ``content`` means equal bytes."""

    ticket: int
    filename: str
    declared_type: str
    size: int
    created_at: int
    state: State
    problem: str | None
    content: int


ATTACHMENTS = st.lists(
    st.builds(
        One,
        ticket=st.integers(1, 4),
        filename=NAMES,
        declared_type=NAMES | st.sampled_from(["image/png", "text/html", "", "none"]),
        size=st.sampled_from(EDGES) | st.integers(0, 1 << 31),
        created_at=TIMES,
        state=st.sampled_from(State),
        problem=st.sampled_from([None, "server_error", "size_mismatch"]),
        content=st.integers(0, 5),
    ),
    max_size=25,
)


@contextmanager
def made(attachments: Sequence[One], *, finished: bool = True) -> Iterator[Archive]:
    """Make an archive with such a ledger; gone when the block ends."""
    with (
        TemporaryDirectory() as folder,
        open_archive(Path(folder) / "archive", command="test") as archive,
    ):
        fill(archive, attachments, summary=finished)
        yield archive


def fill(archive: Archive, attachments: Sequence[One], *, summary: bool = True) -> None:
    """Write the ledger as a run would; hashes are made up, there are no blobs."""
    ledger = archive.ledger
    run = ledger.begin_run("run", source="https://help.example.com", scope={})
    with ledger.atomic():
        ledger.put_departments([Department(1, "Sup<b>port\u202e"), Department(2, "Sales")])
        for number, one in enumerate(attachments, 1):
            listed = Listed(
                number,
                one.ticket,
                1,
                one.filename,
                one.declared_type,
                one.size,
                one.created_at,
            )
            # Department 3 was never listed, 0 is the trash.
            ledger.record_ticket(run.id, TicketRow(one.ticket, one.ticket % 4), [listed])
            _settle(archive, number, one)
    if summary:
        ledger.finish_run(run.id, exit_code=3, summary={})


def _settle(archive: Archive, number: int, one: One) -> None:
    if one.state is State.PENDING:
        return
    if one.state not in {State.STORED, State.DELETED}:
        archive.ledger.settle(Outcome(number, one.state, one.problem))
        return
    sha256 = hashlib.sha256(b"%d" % one.content).hexdigest()
    size, kind = EDGES[one.content], ("image/png", "text/plain")[one.content % 2]
    archive.ledger.settle(
        Outcome(number, State.STORED, one.problem, sha256=sha256, size=size, mime_type=kind)
    )
    if one.state is State.DELETED:
        archive.ledger.mark_deleted(number, "no longer listed")
