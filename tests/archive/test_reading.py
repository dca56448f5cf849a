"""The ledger's reading half."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from migrator.archive import (
    Archive,
    Department,
    Group,
    Listed,
    Outcome,
    Queries,
    State,
    StoredBlob,
    TicketRow,
)
from migrator.archive.checkpoint import Checkpoint
from migrator.archive.threads import Threads
from migrator.errors import ArchiveDamaged

Explained = Callable[[Callable[[Checkpoint], object]], list[str]]
ListThem = Callable[..., int]
Store = Callable[[int, bytes], StoredBlob]


def test_rows_stream_by_id(
    archive: Archive, list_them: ListThem, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows come by id, from a point, up to a limit, by state, whatever the page size."""
    monkeypatch.setattr(Checkpoint, "page", 2)
    assert list(archive.queries.rows()) == []
    list_them(5, 3, 1, 2, 4)
    store(3, b"x")
    assert [row.id for row in archive.queries.rows()] == [1, 2, 3, 4, 5]
    assert [row.id for row in archive.queries.rows(after=2)] == [3, 4, 5]
    assert [row.id for row in archive.queries.rows(limit=3)] == [1, 2, 3]
    assert [row.id for row in archive.queries.rows(limit=0)] == []
    assert [row.id for row in archive.queries.rows(states=[State.STORED])] == [3]
    pending = archive.queries.rows(states=[State.PENDING], after=1, limit=2)
    assert [row.id for row in pending] == [2, 4]
    assert list(archive.queries.rows(states=[])) == []
    assert archive.queries.attachment(6) is None


def test_rows_may_change_while_they_stream(archive: Archive, list_them: ListThem) -> None:
    """Streaming holds no lock and no snapshot: a long report does not stop a run."""
    list_them(*range(1, 1500))
    stream = archive.queries.rows()
    assert next(stream).id == 1
    archive.ledger.settle(Outcome(1400, State.GONE))
    assert {row.id: row.state for row in stream}[1400] is State.GONE


def test_leftovers_are_what_this_run_has_not_met(archive: Archive, list_them: ListThem) -> None:
    """Unfinished rows of earlier runs come by id; missing and gone ones only with recheck."""
    ledger = archive.ledger
    list_them(1, 2, 3, 4, 5, 6)
    states = (State.FAILED, State.MISSING, State.GONE)
    for attachment_id, state in zip((2, 3, 4), states, strict=True):
        ledger.settle(Outcome(attachment_id, state))
    run = list_them(6)
    assert [work.id for work in archive.queries.leftovers(run)] == [1, 2, 5]
    assert [work.id for work in archive.queries.leftovers(run, after=1, limit=1)] == [2]
    assert [work.id for work in archive.queries.leftovers(run, recheck=True)] == [1, 2, 3, 4, 5]


def test_what_is_left_is_found_by_its_index(explained: Explained) -> None:
    """The query for leftovers is written in the form that the partial index serves."""
    (plan,) = explained(lambda db: Queries(db).leftovers(1))
    assert "attachments_unfinished" in plan


@pytest.mark.parametrize(
    "ask",
    [
        lambda db: Queries(db).files_below("customfield", "1/"),
        lambda db: Queries(db).largest("customfield", 2),
        lambda db: Queries(db).linked(1, ["/a"]),
        lambda db: Threads(db).files_of_article("article", 1),
    ],
    ids=["files below", "largest", "linked", "article"],
)
def test_files_of_other_kinds_are_found_by_their_index(
    explained: Explained, ask: Callable[[Checkpoint], object]
) -> None:
    """Each ticket or article asks: nobody reads all attachments for it."""
    plan = " ".join(explained(ask))
    assert "attachments_by_place (kind=?" in plan


def test_unseen_are_stored_and_not_listed(
    archive: Archive, list_them: ListThem, store: Store
) -> None:
    """Only what we hold and this run has not met counts as a possible deletion."""
    list_them(1, 2, 3, 4)
    for attachment_id in (1, 2, 3):
        store(attachment_id, b"x")
    run = list_them(1)
    assert archive.queries.count_unseen(run) == (2, 3)
    assert [work.id for work in archive.queries.unseen(run, after=0, limit=10)] == [2, 3]
    assert [work.id for work in archive.queries.unseen(run, after=2, limit=10)] == [3]


def test_blobs_and_who_has_them(archive: Archive, list_them: ListThem, store: Store) -> None:
    """Each blob that rows refer to is told once, and leads back to its attachments."""
    list_them(1, 2, 3)
    same = store(1, b"same")
    store(2, b"same")
    other = store(3, b"another")
    expected = sorted([(same.sha256, 4), (other.sha256, 7)])
    assert list(archive.queries.expected_blobs()) == expected
    assert list(archive.queries.expected_blobs(limit=1)) == expected[:1]
    assert list(archive.queries.expected_blobs(after=expected[0][0])) == expected[1:]
    assert archive.queries.unique_bytes() == (2, 11)
    assert archive.queries.refers_to(same.sha256)
    assert not archive.queries.refers_to("0" * 64)
    assert [work.id for work in archive.queries.attachments_of_blob(same.sha256)] == [1, 2]


def test_break_downs(archive: Archive, store: Store) -> None:
    """By department, type and extension: numbers and bytes, the largest first."""
    ledger = archive.ledger
    ledger.put_departments([Department(3, "Old name")])
    ledger.put_departments([Department(3, "Sales"), Department(4, "Chat", "livechat")])
    run = ledger.begin_run("run", source="", scope={})
    for ticket, department in ((1, 3), (2, 0), (3, 99)):
        names = {1: ["a.PDF", "b.pdf"], 2: ["c"], 3: ["d.exe"]}[ticket]
        listed = [
            Listed(ticket * 10 + n, ticket, 1, name, "x/declared", 100 * ticket, 0)
            for n, name in enumerate(names)
        ]
        ledger.record_ticket(run.id, TicketRow(ticket, department), listed)
    store(10, b"text " * 100)
    assert archive.figures.by_department() == [
        Group("3", "Sales", 2, 600),
        Group("99", "Department 99", 1, 300),
        Group("0", "Trash", 1, 200),
    ]
    assert archive.figures.by_type() == [
        Group("x/declared", "x/declared", 3, 600),
        Group("text/plain", "text/plain", 1, 500),
    ]
    assert archive.figures.by_department([State.STORED]) == [Group("3", "Sales", 1, 500)]


def test_problems_are_counted(archive: Archive, list_them: ListThem, store: Store) -> None:
    """Everything but the plainly stored is told with its code, the most frequent first."""
    list_them(1, 2, 3, 4)
    store(1, b"x")
    for attachment_id in (2, 3):
        archive.ledger.settle(Outcome(attachment_id, State.FAILED, "server_error"))
    assert archive.figures.problems() == [
        (State.FAILED, "server_error", 2),
        (State.PENDING, None, 1),
    ]


def test_ticket_numbers(archive: Archive, list_them: ListThem) -> None:
    """A mapped number wins; a ticket without one has its own id; a mapped id is no number."""
    list_them(1, ticket=5)
    list_them(2, ticket=6)
    archive.access.apply_config({}, {5: "220009"})
    find = archive.queries.ticket_id_for
    assert find("220009\0") is None
    assert (find("220009"), find("6")) == (5, 6)
    for number in ("5", "7", "", "x", "6 ", "٦", "1" * 40):
        assert find(number) is None
    row = archive.queries.attachment(1)
    assert row is not None
    assert row.ticket_number == "220009"
    assert archive.threads.ticket(7) is None


def test_a_sound_checkpoint_passes_and_a_broken_one_is_told(
    archive: Archive, db: Checkpoint, list_them: ListThem
) -> None:
    """self_check() reads all of it, foreign keys too."""
    list_them(1)
    archive.queries.self_check()
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("DELETE FROM tickets")
    with pytest.raises(ArchiveDamaged, match="damaged"):
        archive.queries.self_check()
