"""The ledger's writing half: what becomes of a row, and what never does."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from migrator.archive import (
    Archive,
    Count,
    Department,
    Ledger,
    Listed,
    Outcome,
    Recorded,
    Row,
    State,
    StoredBlob,
    TicketRow,
    Work,
    open_archive,
)
from migrator.archive.checkpoint import NAME, Checkpoint
from migrator.archive.ledger import FIRST_COPY
from migrator.archive.queries import Failing
from migrator.errors import ArchiveError

ListThem = Callable[..., int]
Put = Callable[[bytes], StoredBlob]
Store = Callable[[int, bytes], StoredBlob]
SHA = "ab" * 32


def departments(archive: Archive) -> dict[int, int]:
    """Return the department of every ticket."""
    return {one.id: one.department_id for one in archive.threads.all_tickets()}


def row(archive: Archive, attachment_id: int) -> Row:
    found = archive.queries.attachment(attachment_id)
    assert found is not None
    return found


def record(archive: Archive, *listed: Listed, recheck: bool = False) -> list[Work]:
    run = archive.ledger.begin_run("run", source="test", scope={})
    ticket = TicketRow(1, 3)
    return archive.ledger.record_ticket(run.id, ticket, listed, recheck=recheck).todo


def listed(attachment_id: int, **changes: object) -> Listed:
    values = {
        "ticket_id": 1,
        "post_id": 5,
        "filename": "a.pdf",
        "declared_type": "application/pdf",
        "declared_size": 10,
        "created_at": 7,
        **changes,
    }
    return Listed(attachment_id, **values)  # type: ignore[arg-type]


def test_a_new_attachment_is_pending(archive: Archive) -> None:
    """What the list says is kept, and the attachments that want fetching come back by id."""
    work = record(archive, listed(9, problem="repaired_name"), listed(4), listed(9))
    assert work == [
        Work(4, 1, 10, "a.pdf", 0, created_at=7),
        Work(9, 1, 10, "a.pdf", 0, created_at=7),
    ]
    assert row(archive, 4) == Row(
        id=4, ticket_id=1, post_id=5, ticket_number="1", department_id=3, queue_id=3,
        filename="a.pdf", declared_type="application/pdf", declared_size=10, size=None,
        sha256=None, mime_type=None, state=State.PENDING, problem=None, detail=None, attempts=0,
        created_at=7, stored_at=None,
    )  # fmt: skip


def test_a_stored_attachment_has_its_blob(archive: Archive, list_them: ListThem) -> None:
    """Settling as stored keeps hash, size, type and time, and adds the attempts."""
    list_them(4)
    before = archive.ledger.begin_run("x", source="", scope={}).started_at
    outcome = Outcome(4, State.STORED, "size_mismatch", "why", SHA, 12, "image/png", attempts=3)
    assert archive.ledger.settle(outcome) is State.STORED
    found = row(archive, 4)
    assert (found.sha256, found.size, found.mime_type) == (SHA, 12, "image/png")
    assert (found.problem, found.detail, found.attempts) == ("size_mismatch", "why", 3)
    assert found.stored_at is not None
    assert found.stored_at >= before
    assert record(archive, listed(4, filename="4.pdf")) == []


def test_the_note_of_the_list_stays_beside_stored(archive: Archive) -> None:
    """A repaired name is told beside the stored row, unless the fetch has its own problem."""
    first, second = record(
        archive, listed(1, problem="repaired_name"), listed(2, problem="repaired_name")
    )
    assert first.problem == "repaired_name"
    archive.ledger.settle(Outcome(1, State.FAILED, "server_error"))
    assert row(archive, 1).problem == "server_error"
    archive.ledger.settle(Outcome(1, State.STORED, sha256=SHA, size=1, mime_type="a/b"))
    blob = Outcome(second.id, State.STORED, "lenient_base64", None, SHA, 1, "a/b")
    archive.ledger.settle(blob)
    assert row(archive, 1).problem == "repaired_name"
    assert row(archive, 2).problem == "lenient_base64"


FIRST = [s for s in State if s is not State.DELETED]


def bring_to(archive: Archive, state: State, attachment_id: int = 4) -> None:
    record(archive, listed(attachment_id))
    if state is State.DELETED:
        bring_to(archive, State.STORED, attachment_id)
        assert archive.ledger.mark_deleted(attachment_id, "no longer listed")
    elif state is State.STORED:
        archive.ledger.settle(Outcome(attachment_id, state, None, None, SHA, 1, "a/b"))
    elif state is not State.PENDING:
        archive.ledger.settle(Outcome(attachment_id, state, "why", "because"))
    assert row(archive, attachment_id).state is state


@pytest.mark.parametrize(
    ("before", "recheck", "after"),
    [
        (State.PENDING, False, State.PENDING),
        (State.STORED, True, State.STORED),
        (State.FAILED, False, State.FAILED),
        (State.MISSING, False, State.MISSING),
        (State.MISSING, True, State.PENDING),
        (State.GONE, False, State.PENDING),
        (State.DELETED, False, State.STORED),
        (State.DELETED, True, State.STORED),
    ],
)
def test_listing_again(archive: Archive, before: State, recheck: bool, after: State) -> None:
    """What was gone or deleted is back when listed; missing only with recheck; nothing is lost."""
    bring_to(archive, before)
    work = record(archive, listed(4, post_id=6), recheck=recheck)
    found = row(archive, 4)
    assert (found.state, found.post_id) == (after, 6)
    assert [w.id for w in work] == ([4] if after in (State.PENDING, State.FAILED) else [])
    assert (found.sha256 is not None) == (after is State.STORED)
    if after is not before:
        assert (found.problem, found.detail) == (None, None)


OTHER = [{"filename": "new.txt"}, {"declared_size": 11}, {"created_at": 8}, {"ticket_id": 2}]


def listed_anew(archive: Archive, change: dict[str, object], *, follow: bool = False) -> Recorded:
    """List attachment 4 with another figure."""
    item = listed(4, **change)
    run = archive.ledger.begin_run("run", source="test", scope={})
    return archive.ledger.record_ticket(run.id, TicketRow(item.ticket_id, 3), [item], follow=follow)


@pytest.mark.parametrize("before", [State.STORED, State.DELETED])
@pytest.mark.parametrize("change", OTHER)
def test_a_reused_id_is_fetched_again_and_keeps_what_it_had(
    archive: Archive, before: State, change: dict[str, object]
) -> None:
    """Other figures under a held id: the row is pending anew, a deleted copy has the old bytes."""
    bring_to(archive, before)
    recorded = listed_anew(archive, change)
    assert (recorded.changed, [work.id for work in recorded.todo]) == ([4], [4])
    found = row(archive, 4)
    assert (found.state, found.problem, found.sha256) == (
        State.PENDING, "changed_at_source", None
    )  # fmt: skip
    (copy,) = [one for one in archive.queries.rows() if one.id > FIRST_COPY]
    assert (copy.state, copy.sha256, copy.problem) == (State.DELETED, SHA, "replaced_at_source")
    assert (copy.filename, copy.declared_size, copy.ticket_id) == ("a.pdf", 10, 1)
    new = Outcome(4, State.STORED, None, None, "cd" * 32, 99, "a/b")
    assert archive.ledger.settle(new) is State.STORED
    assert row(archive, 4).problem == "changed_at_source"
    assert row(archive, copy.id) == copy


@pytest.mark.parametrize("change", OTHER)
def test_the_copy_goes_when_the_same_bytes_come(
    archive: Archive, change: dict[str, object]
) -> None:
    """A row that changed without its bytes is held once, and says that it changed."""
    bring_to(archive, State.STORED)
    listed_anew(archive, change)
    archive.ledger.settle(Outcome(4, State.STORED, None, None, SHA, 1, "a/b"))
    (found,) = archive.queries.rows()
    assert (found.id, found.problem, found.sha256) == (4, "changed_at_source", SHA)


def test_going_back_and_forth_makes_no_more_copies(archive: Archive) -> None:
    """An id that two tickets list in turn keeps each content once."""
    bring_to(archive, State.STORED)
    for n in range(6):
        listed_anew(archive, {"ticket_id": 2 - n % 2, "filename": "ab"[n % 2]})
        sha = ("ef" if n % 2 else "cd") * 32
        archive.ledger.settle(Outcome(4, State.STORED, None, None, sha, 1, "a/b"))
    held = [one.sha256 for one in archive.queries.rows()]
    assert sorted(filter(None, held)) == sorted({SHA, "cd" * 32, "ef" * 32})


@pytest.mark.parametrize(
    ("held", "change"),
    [
        ({}, {"filename": ""}),
        ({"filename": ""}, {"filename": "b"}),
        ({}, {"filename": "b", "problem": "repaired_name"}),
        ({"problem": "repaired_name"}, {"filename": "b"}),
        ({}, {"declared_size": 0, "created_at": 0, "problem": "odd_number,repaired_name"}),
        ({"problem": "odd_number"}, {"declared_size": 11}),
        ({}, {"created_at": 0}),
        ({}, {"post_id": 9, "declared_type": "x/y"}),
    ],
)
def test_what_could_not_be_read_contradicts_nothing(
    archive: Archive, held: dict[str, object], change: dict[str, object]
) -> None:
    """A figure that one of two lists had no value for is no other figure."""
    record(archive, listed(4, **held))
    archive.ledger.settle(Outcome(4, State.STORED, None, None, SHA, 1, "a/b"))
    recorded = listed_anew(archive, change)
    assert (recorded.changed, recorded.todo, recorded.again) == ([], [], 1)
    assert row(archive, 4).sha256 == SHA


def settle_late(archive: Archive, work: Work, sha: str = SHA) -> State:
    """Settle bytes that were asked for as ``work`` says."""
    return archive.ledger.settle(Outcome(4, State.STORED, None, None, sha, 1, "a/b", work=work))


@pytest.mark.parametrize("change", OTHER)
def test_bytes_of_what_a_row_was_are_never_those_of_what_it_is(
    archive: Archive, change: dict[str, object]
) -> None:
    """Listed as another file while the first was fetched: its bytes are kept in a copy."""
    (work,) = record(archive, listed(4))
    listed_anew(archive, change)
    assert settle_late(archive, work) is State.PENDING
    assert row(archive, 4).sha256 is None
    (copy,) = [one for one in archive.queries.rows() if one.id > FIRST_COPY]
    assert (copy.sha256, copy.filename, copy.ticket_id) == (SHA, "a.pdf", 1)
    assert settle_late(archive, work) is State.PENDING
    assert len(list(archive.queries.rows())) == 2, "the same once"


@pytest.mark.parametrize("change", [{"filename": ""}, {"created_at": 0}, {"post_id": 7}])
def test_a_row_that_was_read_worse_is_the_same_file(
    archive: Archive, change: dict[str, object]
) -> None:
    """What a later list had no value for does not set the bytes aside, nor does a merge."""
    (work,) = record(archive, listed(4))
    (later,) = listed_anew(archive, change).todo
    archive.ledger.mark_merged(1, 2)
    assert settle_late(archive, work) is State.STORED
    assert settle_late(archive, later) is State.STORED
    assert row(archive, 4).ticket_id == 2


def test_what_moved_is_left_until_it_is_known_why(archive: Archive) -> None:
    """A held attachment in another ticket's list names its ticket; after a merge all is well."""
    bring_to(archive, State.STORED)
    recorded = listed_anew(archive, {"ticket_id": 2}, follow=True)
    assert (recorded.moved, recorded.todo, recorded.changed) == ({4: 1}, [], [])
    assert row(archive, 4).ticket_id == 1
    archive.ledger.mark_merged(1, 2)
    recorded = listed_anew(archive, {"ticket_id": 2})
    assert (recorded.changed, recorded.again, row(archive, 4).problem) == ([], 1, None)


@pytest.mark.parametrize("change", [{"filename": "b"}, {"declared_size": 11}, {"created_at": 8}])
def test_a_loss_under_other_figures_is_another_file(
    archive: Archive, change: dict[str, object]
) -> None:
    """What was missing is asked for again, and nobody has accepted the loss of this one."""
    bring_to(archive, State.MISSING)
    archive.ledger.accept([4], by="ann", reason="old")
    assert [work.id for work in listed_anew(archive, change).todo] == [4]
    assert archive.queries.accepted() == {}


LISTS = [
    (TicketRow(1, 3, "A"), [listed(4), listed(5), listed(6, ticket_id=9), listed(4, filename="b")]),
    (TicketRow(2, 3), []),
    (TicketRow(7, 4), [listed(n, ticket_id=7, filename=f"{n}\udc80") for n in range(70, 220)]),
    (TicketRow(8, 4), [listed(5, ticket_id=8), listed(71, ticket_id=8, problem="odd_number,x")]),
]
OUTCOMES = [
    *[Outcome(n, State.STORED, None, None, SHA, 3, "text/plain") for n in (4, 5, 70, 71, 72)],
    Outcome(4, State.STORED, "why", None, "cd" * 32, 3, "text/plain"),
    Outcome(5, State.MISSING, "empty"),
    *[Outcome(n, State.FAILED, "server_error", "it said \udc80") for n in range(73, 150)],
    Outcome(6, State.GONE, ticket_id=8),
    Outcome(73, State.STORED, None, None, SHA, 3, "text/plain", filename="z"),
]


def test_many_together_come_to_what_each_alone_comes_to(tmp_path: Path) -> None:
    """Lists and outcomes of a group: the same rows, states and work, also for an id named twice."""
    found = []
    for name, together in (("one", False), ("many", True)):
        with (
            open_archive(tmp_path / name, command="test") as archive,
            closing(Checkpoint.connect(archive.path / NAME)) as db,
        ):
            ledger = Ledger(db, clock=lambda: 1000.0)
            told: list[object] = []
            for recheck in (False, True):
                run = ledger.begin_run("run", source="test", scope={})
                if together:
                    told += ledger.record_tickets(run.id, LISTS, recheck=recheck)
                    told += ledger.settle_many(OUTCOMES)
                else:
                    for ticket, items in LISTS:
                        told.append(ledger.record_ticket(run.id, ticket, items, recheck=recheck))
                    told += [ledger.settle(outcome) for outcome in OUTCOMES]
            found.append((told, list(archive.queries.rows()), archive.queries.counts()))
            archive.queries.self_check()
    assert found[0] == found[1]
    assert {row.state for row in found[1][1]} >= {State.STORED, State.FAILED, State.DELETED}


def test_a_group_with_a_wrong_outcome_writes_nothing(archive: Archive) -> None:
    """Neither what came before it nor what comes behind."""
    record(archive, listed(4), listed(5))
    group = [Outcome(4, State.MISSING, "empty"), Outcome(99, State.GONE), Outcome(5, State.GONE)]
    with pytest.raises(ValueError, match="99 was never listed"):
        archive.ledger.settle_many(group)
    assert {row.state for row in archive.queries.rows()} == {State.PENDING}


def test_failures_are_tried_again_at_growing_intervals(root: Path) -> None:
    """Soon at first, then ever later, up to a week; a recheck asks at once."""
    now = [1_000_000.0]
    with (
        open_archive(root, command="test") as archive,
        closing(Checkpoint.connect(archive.path / NAME)) as db,
    ):
        ledger = Ledger(db, clock=lambda: now[0])
        waits = []
        for _ in range(9):
            run = ledger.begin_run("run", source="x", scope={})
            while not ledger.record_ticket(run.id, TicketRow(1, 3), [listed(4)]).todo:
                now[0] += 300
            waits.append(now[0])
            ledger.settle(Outcome(4, State.FAILED, "server_error"))
        gaps = [int(b - a) for a, b in itertools.pairwise(waits)]
        assert gaps == [0, 900, 3600, 14_400, 86_400, 3 * 86_400, 7 * 86_400, 7 * 86_400]
        assert archive.queries.leftovers(99, now=int(now[0])) == []
        again = archive.queries.leftovers(99, now=int(now[0]), recheck=True)
        assert [work.id for work in again] == [4]
        (work,) = ledger.record_ticket(1, TicketRow(1, 3), [listed(4)], recheck=True).todo
        assert work.failing_since == 1_000_000
        assert archive.queries.failing()[:2] == (1, 1_000_000)
        ledger.settle(Outcome(4, State.STORED, None, None, SHA, 1, "a/b"))
        assert archive.queries.failing() == Failing()


@pytest.mark.parametrize("before", [State.STORED, State.DELETED])
@pytest.mark.parametrize("after", [State.PENDING, State.FAILED, State.MISSING, State.GONE])
def test_what_is_held_stays_held(archive: Archive, before: State, after: State) -> None:
    """Nothing that a later fetch brings takes a stored or deleted row's bytes away."""
    bring_to(archive, before)
    old = row(archive, 4)
    assert archive.ledger.settle(Outcome(4, after, "server_error", "boom", attempts=2)) is before
    found = row(archive, 4)
    assert (found.state, found.sha256, found.problem) == (before, SHA, old.problem)
    assert found.attempts == old.attempts + 2


@pytest.mark.parametrize("before", [State.STORED, State.DELETED])
def test_other_bytes_do_not_replace_the_first(archive: Archive, before: State) -> None:
    """Repair never edits the expected hash: the first bytes are the attachment's."""
    bring_to(archive, before)
    other = Outcome(4, State.STORED, None, None, "cd" * 32, 99, "a/b")
    assert archive.ledger.settle(other) is before
    assert row(archive, 4).sha256 == SHA
    assert not archive.queries.refers_to("cd" * 32)


@pytest.mark.parametrize("before", [State.STORED, State.DELETED])
def test_the_same_bytes_again_bring_their_problem(archive: Archive, before: State) -> None:
    """A repaired blob may say so, and its state and first time stay."""
    bring_to(archive, before)
    time = row(archive, 4).stored_at
    again = Outcome(4, State.STORED, "noise_around_xml", "text before", SHA, 1, "a/b")
    assert archive.ledger.settle(again) is before
    found = row(archive, 4)
    assert (found.state, found.problem, found.detail) == (before, "noise_around_xml", "text before")
    assert found.stored_at == time


@pytest.mark.parametrize(
    ("before", "after"), list(itertools.product(FIRST, [s for s in FIRST if s is not State.STORED]))
)
def test_counts_follow_every_change(
    archive: Archive, db: Checkpoint, before: State, after: State
) -> None:
    """The kept tallies equal a real count after any change of state and size."""
    bring_to(archive, before)
    archive.ledger.settle(Outcome(4, after, "why"))
    record(archive, listed(4, declared_size=77), listed(5, declared_size=3))
    real = {state: Count() for state in State}
    for found in archive.queries.rows():
        size = found.declared_size if found.size is None else found.size
        old = real[found.state]
        real[found.state] = Count(old.n + 1, old.bytes + size)
    assert archive.queries.counts() == real
    db.execute("DELETE FROM attachments")
    assert set(archive.queries.counts().values()) == {Count()}


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(4, State.STORED),
        Outcome(4, State.FAILED, sha256=SHA),
        Outcome(4, State.DELETED),
        Outcome(4, State.DELETED, sha256=SHA),
        Outcome(99, State.FAILED),
    ],
)
def test_what_is_no_outcome_is_refused(archive: Archive, outcome: Outcome) -> None:
    """Stored without a hash, a hash without stored, deleted, and unknown ids are our bugs."""
    record(archive, listed(4))
    with pytest.raises(ValueError, match=r"not an outcome|never listed"):
        archive.ledger.settle(outcome)
    assert row(archive, 4).attempts == 0


def test_only_stored_rows_become_deleted(archive: Archive) -> None:
    """Deleted means that we hold the bytes."""
    record(archive, listed(4))
    assert not archive.ledger.mark_deleted(4, "no longer listed")
    assert row(archive, 4).state is State.PENDING
    bring_to(archive, State.STORED)
    assert archive.ledger.mark_deleted(4, "no longer listed")
    assert (row(archive, 4).state, row(archive, 4).detail) == (State.DELETED, "no longer listed")
    assert not archive.ledger.mark_deleted(4, "again")


def test_a_merge_moves_attachments(archive: Archive, list_them: ListThem) -> None:
    """Their ids stay, their ticket is the surviving one, and the old one is counted no more."""
    list_them(4, 5, ticket=1)
    list_them(6, ticket=2)
    archive.ledger.mark_merged(1, 2)
    assert {found.ticket_id for found in archive.queries.rows()} == {2}
    assert archive.queries.ticket_count() == 1
    archive.ledger.mark_merged(2, 77)
    assert {found.ticket_id for found in archive.queries.rows()} == {77}
    assert departments(archive)[77] == 3
    archive.ledger.mark_merged(500, 501)
    assert (departments(archive)[500], archive.queries.ticket_count()) == (0, 2)
    archive.ledger.put_ticket(TicketRow(1, 9))
    assert archive.queries.ticket_count() == 3
    with pytest.raises(ValueError, match="itself"):
        archive.ledger.mark_merged(1, 1)


def test_chains_of_merges_end_at_the_last_ticket(archive: Archive, list_them: ListThem) -> None:
    """In whatever order merges become known, attachments end at the survivor; rings end too."""
    list_them(30, ticket=3)
    archive.ledger.mark_merged(4, 5)
    archive.ledger.mark_merged(3, 4)
    assert row(archive, 30).ticket_id == 5
    archive.ledger.mark_merged(5, 3)  # so that 3 is there, whatever was known of it
    assert row(archive, 30).ticket_id == 3
    archive.ledger.mark_merged(6, 5)
    assert archive.queries.ticket_count() == 1


def test_an_attachment_moves_to_the_ticket_that_has_it(archive: Archive) -> None:
    """A list or an outcome that names another ticket is believed, even an unknown one."""
    record(archive, listed(4), listed(5, ticket_id=8))
    assert row(archive, 5).ticket_id == 8
    archive.ledger.settle(Outcome(4, State.FAILED, "wrong_ticket", ticket_id=9))
    assert (row(archive, 4).ticket_id, row(archive, 4).department_id) == (9, 3)
    bring_to(archive, State.STORED)
    archive.ledger.settle(Outcome(4, State.FAILED, ticket_id=10))
    assert row(archive, 4).ticket_id == 10


def test_hostile_values_do_not_break_the_ledger(archive: Archive, list_them: ListThem) -> None:
    """Lone surrogates, absurd sizes and odd texts are kept in the nearest form that fits."""
    name = "a\ud800\U0001f4a9\u202e'\";\x00--/../b"
    items = [listed(4, filename=name, declared_type="\udfff"), listed(5, declared_size=10**30)]
    (first, second) = record(archive, *items, listed(6, declared_size=-5))[:2]
    assert first.filename == row(archive, 4).filename == name.replace("\ud800", "\ufffd")
    assert second.declared_size == row(archive, 5).declared_size == 1 << 42
    assert row(archive, 6).declared_size == 0
    run = archive.ledger.begin_run("run", source="x", scope={})
    ticket = TicketRow(3, 1, "\ud800", "\udc80")
    archive.ledger.record_ticket(run.id, ticket, [])
    archive.ledger.put_departments([Department(1, "\udc80")])
    archive.ledger.settle(Outcome(4, State.FAILED, "x", "\udc80"))
    assert row(archive, 4).detail == "\ufffd"
    with pytest.raises(ArchiveError, match="refused"):
        archive.ledger.put_ticket(TicketRow(10**30, 1))
    with pytest.raises(ArchiveError, match="refused"):
        archive.access.map_queue(1, 1, "\udc80")
    assert archive.queries.attachment(10**30) is None
    assert archive.queries.ticket_id_for("\udc80") is None


def test_runs_are_kept(archive: Archive) -> None:
    """A run is unfinished until it is finished; the latest come first."""
    assert archive.queries.unfinished_run() is None
    first = archive.ledger.begin_run("run", source="https://x", scope={"departments": [3]})
    assert archive.queries.unfinished_run() == first
    archive.ledger.finish_run(first.id, exit_code=3, summary={"stored": 4})
    assert archive.queries.unfinished_run() is None
    second = archive.ledger.begin_run("verify", source="", scope={})
    latest, done = archive.queries.runs(5)
    assert latest == second
    assert (done.exit_code, done.summary, done.scope) == (3, {"stored": 4}, {"departments": [3]})
    assert done.finished_at is not None
    assert archive.queries.runs(1) == [second]


def test_a_group_of_writes_is_all_or_nothing(archive: Archive) -> None:
    """An error undoes its block: the inner one alone, or the outer one with all in it."""
    ledger = archive.ledger
    with ledger.atomic():
        ledger.put_ticket(TicketRow(1, 1))
        with pytest.raises(RuntimeError), ledger.atomic():  # noqa: PT012 - the block is the point
            ledger.put_ticket(TicketRow(2, 1))
            with ledger.atomic():
                ledger.put_ticket(TicketRow(3, 1))
            raise RuntimeError
        with ledger.atomic():
            ledger.put_ticket(TicketRow(4, 1))
    assert departments(archive) == {1: 1, 4: 1}
    with pytest.raises(RuntimeError), ledger.atomic():  # noqa: PT012
        ledger.put_ticket(TicketRow(5, 1))
        raise RuntimeError
    assert archive.queries.ticket_count() == 2


def test_a_whole_has_no_parts(archive: Archive) -> None:
    """An error in any block of it undoes all of it, even where somebody catches the error."""
    ledger = archive.ledger
    with ledger.whole():
        ledger.put_ticket(TicketRow(1, 1))
        with ledger.atomic():
            ledger.put_ticket(TicketRow(2, 1))
    assert archive.queries.ticket_count() == 2
    with pytest.raises(ArchiveError, match="none of it was kept"), ledger.whole():  # noqa: PT012
        ledger.put_ticket(TicketRow(3, 1))
        with suppress(RuntimeError), ledger.atomic():
            ledger.put_ticket(TicketRow(4, 1))
            raise RuntimeError
    with pytest.raises(RuntimeError), ledger.whole():  # noqa: PT012
        ledger.put_ticket(TicketRow(5, 1))
        raise RuntimeError
    assert archive.queries.ticket_count() == 2
    with ledger.atomic():
        ledger.put_ticket(TicketRow(6, 1))
        with suppress(RuntimeError), ledger.atomic():
            ledger.put_ticket(TicketRow(7, 1))
            raise RuntimeError
    assert archive.queries.ticket_count() == 3, "afterwards blocks have savepoints again"


def test_other_threads_never_see_half_a_group(archive: Archive) -> None:
    """A reader in another thread waits for the group, and then sees all of it."""
    counts: list[int] = []
    reader = threading.Thread(target=lambda: counts.append(archive.queries.ticket_count()))
    with archive.ledger.atomic():
        archive.ledger.put_ticket(TicketRow(1, 1))
        reader.start()
        archive.ledger.put_ticket(TicketRow(2, 1))
    reader.join()
    assert counts == [2]


def test_the_latest_listing_of_a_ticket_is_kept(
    archive: Archive, db: Checkpoint, list_them: ListThem
) -> None:
    """A ticket seen without its attachments does not forget which run listed them."""
    query = "SELECT listed_run, subject FROM tickets"
    list_them(1)
    run = list_them(1)
    archive.ledger.put_ticket(TicketRow(1, 3, subject="new"))
    assert db.one(query) == (run, "new")
