"""Threads: headers and posts in the archive, and what is asked of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from migrator.archive import (
    Archive,
    Department,
    Listed,
    PostRow,
    Response,
    ResponseFilter,
    StatusRow,
    Threads,
    TicketRow,
    open_archive,
    schema,
)
from migrator.archive.checkpoint import Checkpoint

Explained = Callable[[Callable[[Checkpoint], object]], list[str]]
OF_TWO = frozenset({1, 2})


@pytest.fixture
def run(archive: Archive) -> int:
    return archive.ledger.begin_run("run", source="test", scope={}).id


def put(archive: Archive, ticket_id: int, *posts: PostRow, department: int = 3) -> None:
    """Keep a ticket with its posts."""
    ticket = TicketRow(ticket_id, department, f"ABC-{ticket_id}", f"subject {ticket_id}", 5, 50)
    archive.threads.put(1, ticket, posts)


def listed(archive: Archive, ticket_id: int, *pairs: tuple[int, int], activity: int = 50) -> None:
    """List attachments of a ticket, as pairs of attachment and post."""
    items = [Listed(one, ticket_id, post, f"{one}.pdf", "", 1, 7) for one, post in pairs]
    ticket = TicketRow(ticket_id, 3, last_activity=activity)
    archive.ledger.record_ticket(1, ticket, items)


def all_of(threads: Threads, wanted: ResponseFilter, limit: int) -> list[Response]:
    """Page through a query to its end."""
    found: list[Response] = []
    after = None
    while page := threads.query(wanted, after=after, limit=limit):
        found += page
        after = (page[-1].created_at, page[-1].id)
    return found


def ids(found: list[Response]) -> list[int]:
    """Give the ids of responses."""
    return [one.id for one in found]


@pytest.mark.usefixtures("run")
def test_a_thread_comes_back_as_it_was_put(archive: Archive) -> None:
    """All fields of header and posts are kept; posts come oldest first, by time and then id."""
    archive.ledger.put_departments([Department(3, "Sales")])
    archive.threads.put_statuses([StatusRow(9, "Closed", resolved=True)])
    ticket = TicketRow(7, 3, "ABC-7", "Hällo", 10, 90, 9, "Ann", "ann@x.test", "Bob")
    staff = PostRow(12, 20, "Bob", "bob@x.test", True, True, True, "<p>x</p>", "cut_text")
    archive.threads.put(1, ticket, [PostRow(13, 20), staff, PostRow(14, 10, text="first")])
    header = archive.threads.ticket(7)
    assert header is not None
    assert (header.ticket_number, header.display_id, header.subject) == ("7", "ABC-7", "Hällo")
    assert (header.queue_id, header.queue_name, header.status) == (3, "Sales", "closed")
    assert (header.requester_name, header.requester_email) == ("Ann", "ann@x.test")
    assert (header.owner_name, header.created_at, header.last_activity) == ("Bob", 10, 90)
    assert header.merged_into is None
    found = archive.threads.responses(7)
    assert ids(found) == [14, 12, 13]
    expected = Response(
        12, 7, "7", 3, 20, "Bob", "bob@x.test", True, True, True, "<p>x</p>", "cut_text"
    )
    assert found[1] == expected
    assert archive.threads.ticket(8) is None
    assert archive.threads.responses(8) == []


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("title", "resolved", "status"),
    [
        ("Open", False, "open"),
        ("Pending answer", False, "open"),
        ("On HOLD", False, "on-hold"),
        ("Held? closed", True, "closed"),
        ("Hold", True, "closed"),
    ],
)
def test_statuses_are_told_in_the_words_of_the_endpoint(
    archive: Archive, title: str, resolved: bool, status: str
) -> None:
    """Resolved is closed, a title with hold is on hold, all else is open."""
    archive.threads.put_statuses([StatusRow(2, "old"), StatusRow(2, title, 4, resolved)])
    archive.threads.put(1, TicketRow(1, 3, status_id=2), [])
    put(archive, 2)
    header, unknown = archive.threads.ticket(1), archive.threads.ticket(2)
    assert header is not None
    assert unknown is not None
    assert (header.status, unknown.status) == (status, "open")


@pytest.mark.usefixtures("run")
def test_reading_a_thread_leaves_alone_what_lists_know(archive: Archive) -> None:
    """Activity and merges are the business of lists: putting a thread does not change them."""
    listed(archive, 1, activity=60)
    listed(archive, 2)
    archive.ledger.mark_merged(1, 2)
    archive.threads.put(1, TicketRow(1, 4, subject="new", last_activity=99), [], activity=60)
    header = archive.threads.ticket(1)
    assert header is not None
    assert (header.subject, header.department_id) == ("new", 4)
    assert (header.last_activity, header.merged_into) == (60, 2)


@pytest.mark.usefixtures("run")
def test_posts_wait_until_they_are_read_for_the_present_activity(archive: Archive) -> None:
    """A thread is unread until put, again when the ticket moved, and after a skip it rests."""
    threads = archive.threads
    listed(archive, 1)
    listed(archive, 2)
    assert threads.unread() == [(1, 50), (2, 50)]
    assert threads.unread(after=1) == [(2, 50)]
    assert threads.unread(limit=1) == [(1, 50)]
    threads.put(1, TicketRow(1, 3, last_activity=70), [], activity=50)
    threads.skip(1, 2, activity=50)
    assert threads.count_unread() == 0
    assert threads.unread_activity(1) is None
    listed(archive, 1, activity=70)
    assert threads.unread_activity(1) == 70
    assert threads.unread() == [(1, 70)]
    archive.ledger.mark_ticket_deleted(1)
    assert threads.count_unread() == 0


@pytest.mark.usefixtures("run")
def test_a_new_post_that_only_its_attachment_tells_of_is_asked_for(archive: Archive) -> None:
    """An attachment of a post we never saw makes the thread unread, the next such one does not."""
    listed(archive, 1, (10, 5))
    put(archive, 1, PostRow(5, 1))
    listed(archive, 1, (10, 5), (11, 5))
    assert archive.threads.unread() == []
    listed(archive, 1, (10, 5), (11, 5), (12, 6))
    assert archive.threads.unread() == [(1, 50)]


@pytest.mark.usefixtures("run")
def test_every_attachment_has_a_response(archive: Archive) -> None:
    """Without posts, each post that attachments name stands for itself; those without share one."""
    listed(archive, 1, (10, 5), (11, 5), (12, 0), (13, 6))
    listed(archive, 2, (20, 0))
    found = archive.threads.responses(1)
    assert ids(found) == [-1, 5, 6]
    assert {(one.text, one.note, one.created_at) for one in found} == {("", "not_kept", 7)}
    files = archive.threads.attachments_of([5, 6, -1, -2, 99])
    assert {key: [row.id for row in rows] for key, rows in files.items()} == {
        -2: [20],
        -1: [12],
        5: [10, 11],
        6: [13],
    }
    assert [row.id for row in archive.threads.attachments_of_ticket(1)] == [10, 11, 12, 13]
    put(archive, 1, PostRow(5, 3, text="now we know"))
    assert [one.note for one in archive.threads.responses(1)] == [None, "not_kept", "not_kept"]


@pytest.mark.usefixtures("run")
def test_no_response_shows_a_file_of_another_ticket(archive: Archive) -> None:
    """Where a damaged source names a post of another ticket, the file does not appear there."""
    put(archive, 2, PostRow(5, 1))
    listed(archive, 1, (10, 5))
    assert archive.threads.attachments_of([5]) == {}
    has = ResponseFilter(has_attachments=True)
    assert archive.threads.query(has, limit=9) == []


@pytest.mark.usefixtures("run")
def test_notes_of_a_late_list_stay_with_a_merge(archive: Archive) -> None:
    """A list that is older than the merge takes no note back; new ones are written once."""
    note = PostRow(10**12 + 1, 10, text="careful", kind="note")
    put(archive, 1)
    put(archive, 2)
    assert archive.threads.put_notes(1, [note], []) == ([note], [])
    assert archive.threads.put_notes(1, [note], []) == ([], [])
    archive.ledger.mark_merged(1, 2)
    assert archive.threads.put_notes(1, [note], []) == ([], [])
    assert [one.ticket_id for one in all_of(archive.threads, ResponseFilter(), 5)] == [2]


@pytest.mark.usefixtures("run")
def test_posts_follow_a_merge(archive: Archive) -> None:
    """Posts, read ones and others, belong to the survivor, whose thread wants reading again."""
    put(archive, 1, PostRow(5, 1, text="kept"))
    listed(archive, 1, (10, 5), (11, 6), (12, 0))
    put(archive, 2, PostRow(7, 2))
    archive.ledger.mark_merged(1, 2)
    assert archive.threads.unread() == [(2, 50)]
    assert ids(archive.threads.responses(1)) == [-1]
    assert ids(archive.threads.responses(2)) == [5, 7, -2, 6]
    found = archive.threads.attachments_of([5, 6, 7, -1, -2])
    assert {key: len(rows) for key, rows in found.items()} == {5: 1, 6: 1, -2: 1}
    put(archive, 2)
    archive.ledger.mark_merged(1, 2)
    assert archive.threads.unread() == []


@pytest.mark.usefixtures("run")
def test_a_post_follows_its_attachment(archive: Archive) -> None:
    """An attachment listed under another ticket takes its post along."""
    put(archive, 1, PostRow(5, 1, text="kept"))
    listed(archive, 1, (10, 5))
    listed(archive, 2, (10, 5))
    assert [one.text for one in archive.threads.responses(2)] == ["kept"]
    assert archive.threads.responses(1) == []


@pytest.mark.usefixtures("run")
def test_what_we_hold_is_not_lost_to_the_source(archive: Archive) -> None:
    """Posts that the source no longer sends stay; a text is not replaced by none, others are."""
    html = PostRow(5, 1, is_html=True, text="<p>held</p>", note="repaired_text")
    put(archive, 1, html, PostRow(6, 2, text="deleted at the source"))
    put(archive, 1, PostRow(5, 1, author_name="now known"))
    first, second = archive.threads.responses(1)
    assert (first.text, first.is_html, first.note) == ("<p>held</p>", True, "repaired_text")
    assert first.author_name == "now known"
    assert second.text == "deleted at the source"
    put(archive, 1, PostRow(5, 1, text="edited"))
    assert [one.text for one in archive.threads.responses(1)] == ["edited", second.text]


@pytest.mark.usefixtures("run")
def test_the_same_thread_is_not_written_again(archive: Archive, db: Checkpoint) -> None:
    """Five thousand posts that did not change cost no writing."""
    posts = [PostRow(n, n, text=f"text {n}", note="cut_text") for n in range(1, 5001)]
    put(archive, 1, *posts)
    before = db.conn.total_changes
    ticket = TicketRow(1, 3, "ABC-1", "subject 1", 5, 50)
    Threads(db).put(1, ticket, posts)
    assert db.conn.total_changes - before <= 2
    assert len(archive.threads.responses(1)) == 5000
    some = archive.threads.responses(1, after=(2500, 2500), limit=3, text_limit=4)
    assert [(one.id, one.text) for one in some] == [(n, "text") for n in (2501, 2502, 2503)]


@pytest.mark.usefixtures("run")
def test_half_characters_are_no_obstacle(archive: Archive) -> None:
    """Lone surrogates, which SQLite cannot hold, are replaced in what is kept and asked."""
    bad = "a\ud800b"
    archive.threads.put_statuses([StatusRow(1, bad)])
    ticket = TicketRow(1, 3, bad, bad, 0, 0, 1, bad, bad, bad)
    archive.threads.put(1, ticket, [PostRow(5, 1, bad, bad, text=bad)])
    assert archive.threads.responses(1)[0].text == "a\ufffdb"
    assert len(archive.threads.find(bad, number=bad, subject=bad, requester=bad)) == 1
    assert len(archive.threads.query(ResponseFilter(author_email=bad), limit=1)) == 1
    archive.threads.query(ResponseFilter(queue_names=frozenset({bad})), limit=1)


@pytest.fixture
def mixed(archive: Archive, run: int) -> Threads:
    """Two tickets of queue 3 and one of queue 4, some private, some with files."""
    archive.ledger.put_departments([Department(3, "Sales"), Department(4, "Support")])
    put(archive, 1, PostRow(10, 100, author_email="A@x.test", staff=True), PostRow(11, 110))
    put(archive, 2, PostRow(20, 105, is_private=True, staff=True))
    put(archive, 3, PostRow(30, 104, author_email="a@x.test"), PostRow(31, 120), department=4)
    listed_files = [Listed(1, 1, 11, "Report.PDF", "", 1, 7), Listed(2, 1, 0, "loose", "", 1, 99)]
    archive.ledger.record_ticket(run, TicketRow(1, 3, "ABC-1", "subject 1"), listed_files)
    archive.access.apply_config({}, {2: "220009"})
    return archive.threads


ALL = [-1, 10, 30, 20, 11, 31]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ResponseFilter(), ALL),
        (ResponseFilter(queues=frozenset({3})), [-1, 10, 20, 11]),
        (ResponseFilter(queues=frozenset({4, 9})), [30, 31]),
        (ResponseFilter(queues=frozenset()), []),
        (ResponseFilter(queue_names=frozenset({"Support", "none"})), [30, 31]),
        (ResponseFilter(ticket_numbers=frozenset({"220009", "3"})), [30, 20, 31]),
        (ResponseFilter(ticket_numbers=frozenset({"2", "x", "9" * 30})), []),
        (ResponseFilter(created_from=104, created_to=110), [30, 20, 11]),
        (ResponseFilter(created_from=-(1 << 99), created_to=1 << 99), ALL),
        (ResponseFilter(is_internal=True), [20]),
        (ResponseFilter(is_internal=False), [-1, 10, 30, 11, 31]),
        (ResponseFilter(staff=True), [10, 20]),
        (ResponseFilter(staff=False), [-1, 30, 11, 31]),
        (ResponseFilter(response_ids=frozenset({31, 10, 77})), [10, 31]),
        (ResponseFilter(response_ids=frozenset()), []),
        (ResponseFilter(author_email="a@X.test"), [10, 30]),
        (ResponseFilter(has_attachments=True), [-1, 11]),
        (ResponseFilter(has_attachments=False), [10, 30, 20, 31]),
        (ResponseFilter(queues=frozenset({3}), staff=True, is_internal=False), [10]),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_filters_let_through_what_they_say(
    mixed: Threads, wanted: ResponseFilter, expected: list[int], limit: int
) -> None:
    """Each filter, alone and with others, gives its posts in order, however small the pages."""
    assert ids(all_of(mixed, wanted, limit)) == expected


def test_a_mapped_queue_is_the_one_that_counts(archive: Archive, mixed: Threads) -> None:
    """Queues are seen as the endpoint names them: the configuration first, then the command."""
    archive.access.map_queue(3, 4, "Both")
    by_queue = {n: ResponseFilter(queues=frozenset({n})) for n in (3, 4, 9)}
    assert ids(mixed.query(by_queue[3], limit=9)) == []
    assert ids(mixed.query(by_queue[4], limit=9)) == ALL
    archive.access.apply_config({3: (9, "Nine"), 4: (3, "Three")})
    assert ids(mixed.query(by_queue[9], limit=9)) == [-1, 10, 20, 11]
    assert ids(mixed.query(by_queue[3], limit=9)) == [30, 31]
    assert ids(mixed.query(by_queue[4], limit=9)) == []
    assert {one.queue_id for one in mixed.query(ResponseFilter(), limit=9)} == {9, 3}
    assert [one.queue_name for one in mixed.find(queues=frozenset({9}))] == ["Nine", "Nine"]


def found(threads: Threads, text: str = "", **criteria: object) -> list[int]:
    """Give the ids of the tickets found."""
    return [one.id for one in threads.find(text, **criteria)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("2", [2]),  # an id first
        (" 2 ", [2]),
        ("002", [2]),
        ("220009", [2]),
        ("#220009", [2]),
        ("#2", []),  # its number is another one
        ("ABC-3", [3]),
        (" abc-3 ", [3]),
        ("#ABC-3", [3]),
        ("# abc - 3", [3]),
        ("[#ABC-3]:", [3]),
        ("\uff21BC\u20113", [3]),
        ("5", [1]),  # was merged
        ("ABC-5", [1]),
        ("00012345", [7]),  # a mask of digits
        ("12345", []),
        ("TWO-1", [7, 8]),
        ("#8", [8]),
        ("ABC", []),
        ("", []),
        (" # ", []),
        ("\0", []),
        ("9" * 40, []),
        ("\ud800", []),
    ],
)
def test_a_ticket_goes_by_its_id_and_by_its_numbers(
    archive: Archive, mixed: Threads, name: str, ids: list[int]
) -> None:
    """Its id comes first; then what it is mapped to, and what Kayako showed, however typed."""
    for key, mask in ((5, "ABC-5"), (6, ""), (7, "TWO-1"), (8, "TWO-1")):
        archive.ledger.put_ticket(TicketRow(key, 3, mask))
    archive.ledger.put_ticket(TicketRow(7, 3, "00012345" if name.isdigit() else "TWO-1"))
    archive.ledger.mark_merged(5, 1)
    assert [one.id for one in mixed.named(name)] == ids
    if name and not name.strip().isdigit():
        assert sorted(found(mixed, number=name)) == ids


def test_tickets_are_found_by_what_people_remember(archive: Archive, mixed: Threads) -> None:
    """Number, subject, requester, file name, times and queue find tickets, latest first."""
    people = TicketRow(9, 4, "XYZ-9", "100% _odd_", 20, 80, 0, "Zoë Ash", "Zoe@x.test")
    archive.threads.put(1, people, [])
    archive.ledger.put_ticket(people)
    assert found(mixed) == [9, 3, 2, 1]
    assert found(mixed, limit=2) == [9, 3]
    assert found(mixed, number="220009") == found(mixed, "220009") == [2]
    assert found(mixed, number="2") == []
    assert found(mixed, number="ABC-3") == found(mixed, "ABC-3") == [3]
    assert found(mixed, number="ABC") == []
    assert found(mixed, subject="SUBJECT") == [3, 2, 1]
    assert found(mixed, subject="%") == found(mixed, "_ODD") == [9]
    assert found(mixed, requester="ash") == found(mixed, requester="zoe@") == [9]
    assert found(mixed, "ash") == [9]
    assert found(mixed, filename="report.pdf") == found(mixed, "REPORT") == [1]
    assert found(mixed, "subject", filename="report") == [1]
    assert found(mixed, created=(20, 20)) == found(mixed, updated=(80, None)) == [9]
    assert found(mixed, updated=(None, 10)) == [1]
    assert found(mixed, queues=frozenset({4})) == [9, 3]
    assert found(mixed, "subject", queues=frozenset({4})) == [3]
    assert found(mixed, queues=frozenset()) == []
    archive.ledger.mark_merged(9, 3)
    assert found(mixed, queues=frozenset({4})) == [3]


@settings(deadline=None, max_examples=25)
@given(
    times=st.lists(st.integers(0, 6), min_size=1, max_size=30),
    later=st.lists(st.integers(0, 9), max_size=20),
    limit=st.integers(1, 7),
)
def test_paging_meets_every_post_once_while_others_are_added(
    tmp_path_factory: pytest.TempPathFactory, times: list[int], later: list[int], limit: int
) -> None:
    """Posts that were there at the start come exactly once; none comes twice; all in order."""
    with open_archive(tmp_path_factory.mktemp("a") / "archive", command="test") as archive:
        archive.ledger.begin_run("run", source="test", scope={})
        put(archive, 1, *(PostRow(n, time) for n, time in enumerate(times, 1)))
        waiting = list(enumerate(later, 1000))
        met: list[Response] = []
        after = None
        while page := archive.threads.query(ResponseFilter(), after=after, limit=limit):
            met += page
            after = (page[-1].created_at, page[-1].id)
            if waiting:
                n, time = waiting.pop()
                put(archive, 2, PostRow(n, time))
    keys = [(one.created_at, one.id) for one in met]
    assert keys == sorted(set(keys))
    assert {(time, n) for n, time in enumerate(times, 1)} <= set(keys)


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda threads: threads.unread(), "tickets_unread"),
        (lambda threads: threads.responses(1), "posts_by_ticket"),
        (lambda threads: threads.query(ResponseFilter(), after=(1, 1), limit=9), "posts_by_time"),
        (lambda threads: threads.query(ResponseFilter(OF_TWO), limit=9), "posts_by_time"),
        (lambda threads: threads.find(), "tickets_by_activity"),
    ],
    ids=["unread", "responses", "query", "query of two queues", "find"],
)
def test_questions_use_their_index(
    explained: Explained, ask: Callable[[Threads], object], index: str
) -> None:
    """No question sorts all posts or all tickets: pages come from an index in order."""
    plan = explained(lambda db: ask(Threads(db)))
    assert any(index in step for step in plan), plan
    # What was asked for, a row for each department, and what was found:
    small = ("json_each", "SCAN q", "SCAN found")
    scans = [step for step in plan if step.startswith("SCAN") and "INDEX" not in step]
    assert not [step for step in scans if not any(name in step for name in small)]
    assert not [step for step in plan if "ORDER BY" in step]


def test_files_of_a_response_are_found_by_an_index(explained: Explained) -> None:
    """The page of a ticket does not read all attachments."""
    plan = " ".join(explained(lambda db: Threads(db).attachments_of([1])))
    assert "SEARCH a USING" in plan
    assert "attachments_by_response" in plan


@pytest.mark.parametrize("version", [1, 2])
def test_older_archives_come_along(root: Path, version: int) -> None:
    """An archive of an older format keeps its rows, and each post of attachments is a response."""
    root.mkdir(mode=0o700)
    with closing(sqlite3.connect(root / "checkpoint.db", isolation_level=None)) as conn:
        steps = Migrations("migrator")
        for name, step in list(schema.STEPS.items())[:version]:
            steps(name=name)(step)
        steps.apply(Database(conn))
        conn.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        conn.execute(f"PRAGMA user_version = {version}")
        conn.executescript("""
            INSERT INTO runs (kind, source, scope, started_at) VALUES ('run', 'x', '{}', 1);
            INSERT INTO tickets (id, department_id, subject, last_activity) VALUES (1, 3, 'S', 9);
            INSERT INTO attachments
                (id, ticket_id, post_id, filename, declared_type, declared_size, created_at, state,
                 first_run, last_run)
            VALUES (10, 1, 5, 'a', '', 1, 40, 'pending', 1, 1),
                (11, 1, 5, 'b', '', 1, 30, 'pending', 1, 1),
                (12, 1, 0, 'c', '', 1, 35, 'pending', 1, 1);
        """)
    with open_archive(root, command="test") as archive:
        assert archive.queries.self_check() is None  # type: ignore[func-returns-value]
        header = archive.threads.ticket(1)
        assert header is not None
        assert (header.subject, header.status, header.queue_name) == ("S", "open", "Department 3")
        responses = archive.threads.responses(1)
        assert [(one.id, one.created_at, one.note) for one in responses] == [
            (5, 30, "not_kept"),
            (-1, 35, "not_kept"),
        ]
        found = archive.threads.attachments_of([5, -1])
        assert {key: [row.id for row in rows] for key, rows in found.items()} == {
            5: [10, 11],
            -1: [12],
        }
        assert archive.threads.unread() == [(1, 9)]
        assert len(list(archive.queries.rows())) == 3
