"""The figures that reports ask the ledger."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from migrator.archive import (
    SIZES,
    Archive,
    Count,
    Ledger,
    Listed,
    Outcome,
    PacePoint,
    Queries,
    RowFilter,
    State,
    TicketRow,
    open_archive,
    open_beside,
    open_read_only,
)
from migrator.archive.checkpoint import NAME, Checkpoint, Params, Tuple
from migrator.errors import ArchiveBusy

Opener = Callable[[Path], Archive]
SHA = "ab" * 32


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path / "archive", command="test") as opened:
        yield opened


def put(archive: Archive, *sizes: int, start: int = 1, born: int = 0, kind: str = "a/b") -> None:
    run = archive.ledger.begin_run("run", source="s", scope={})
    rows = [Listed(n, 10, 1, "f", kind, size, born) for n, size in enumerate(sizes, start)]
    archive.ledger.record_ticket(run.id, TicketRow(10, 1), rows)


def test_the_steps_of_sizes_are_what_their_titles_say() -> None:
    """A title names the largest size of its step."""
    units = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    for title, largest in SIZES.values():
        if found := re.fullmatch(r"up to (\d+) (\w+)", title):
            assert largest == int(found[1]) * units[found[2]]
    assert [title for title, _ in SIZES.values() if "up to" not in title] == ["empty", "over 1 GiB"]


@pytest.mark.parametrize("key", SIZES)
def test_the_edges_of_the_sizes(archive: Archive, key: str) -> None:
    """A step holds its largest size and nothing above it."""
    largest = SIZES[key][1]
    if largest is None:
        put(archive, (1 << 30) + 1, 1 << 40)
        assert {group.key: group.n for group in archive.figures.by_size()}["more"] == 2
        return
    put(archive, largest, largest + 1)
    steps = archive.figures.by_size()
    assert [group.key for group in steps] == list(SIZES)
    index = list(SIZES).index(key)
    assert [group.n for group in steps[index : index + 2]] == [1, 1]
    assert sum(group.n for group in steps) == 2


def test_the_edges_of_the_years(archive: Archive) -> None:
    """A year begins and ends in UTC; what is no time of this calendar is of no year."""
    for number, born in enumerate(
        [1_388_534_399, 1_388_534_400, 0, -5, 253_402_300_799, 253_402_300_800, 2**62], 1
    ):
        put(archive, 7, start=number, born=born)
    found = [(group.key, group.title, group.n) for group in archive.figures.by_year()]
    assert found == [
        ("", "unknown", 4),
        ("2013", "2013", 1),
        ("2014", "2014", 1),
        ("9999", "9999", 1),
    ]


def test_types_are_cut_to_the_largest(archive: Archive) -> None:
    """A helpdesk with a million types does not make a million groups."""
    for number in range(1, 6):
        put(archive, number, start=number, kind=f"type/{number}")
    assert [group.key for group in archive.figures.by_type(2)] == ["type/5", "type/4"]
    assert len(archive.figures.by_type()) == 5


def stored_at(archive: Archive, *times: int) -> None:
    """Store one attachment of three bytes at each of these times."""
    put(archive, *[3] * len(times))
    for number, at in enumerate(times, 1):
        outcome = Outcome(number, State.STORED, sha256=SHA, size=3, mime_type="a/b")
        with closing(Checkpoint.connect(archive.path / NAME)) as db:
            Ledger(db, clock=partial(float, at)).settle(outcome)


def test_the_pace_has_equal_steps(archive: Archive) -> None:
    """From the beginning of a run to its end, with the steps in which nothing was stored."""
    stored_at(archive, 999, 1000, 1001, 1039, 1060)
    pace = archive.figures.pace(1000, 1059, points=3)
    assert pace == [PacePoint(1000, 2, 6), PacePoint(1020, 1, 3), PacePoint(1040, 0, 0)]
    assert len(archive.figures.pace(0, 10**9)) == 120
    assert archive.figures.pace(1000, None, points=1000)[-1] == PacePoint(1060, 1, 3)
    assert archive.figures.pace(2000, 3000) == []
    assert archive.figures.pace(3000, 2000) == []
    assert archive.figures.pace(2000, None) == []


def noted_pages(monkeypatch: pytest.MonkeyPatch) -> list[list[Tuple]]:
    """Note what every query finds from now on."""
    pages: list[list[Tuple]] = []
    read = Checkpoint.execute

    def execute(self: Checkpoint, sql: str, params: Params = ()) -> list[Tuple]:
        pages.append(read(self, sql, params))
        return pages[-1]

    monkeypatch.setattr(Checkpoint, "execute", execute)
    return pages


def test_examples_are_the_first_of_each_group(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By id, as many as are wanted or there are, however many pages that takes."""
    monkeypatch.setattr(Checkpoint, "page", 2)
    put(archive, 5, 0, 5, 5, 5, 0, 5)
    wanted = {("size", "1K"): 3, ("size", "0"): 9, ("type", "a/b"): 1, ("type", "x"): 1}
    assert archive.figures.examples(wanted) == {
        ("size", "1K"): [1, 3, 4],
        ("size", "0"): [2, 6],
        ("type", "a/b"): [1],
        ("type", "x"): [],
    }
    assert archive.figures.examples({("size", "0"): 0}) == {("size", "0"): []}
    assert archive.figures.examples({}) == {}
    assert list(archive.queries.among([7, 2, 99])) == [2, 7]


def test_examples_stop_when_all_are_found(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No page is read that nobody needs."""
    monkeypatch.setattr(Checkpoint, "page", 2)
    put(archive, *[5] * 20)
    pages = noted_pages(monkeypatch)
    archive.figures.examples({("size", "1K"): 3})
    assert [[row[0] for row in page] for page in pages] == [[1, 2], [3, 4]]


def test_examples_pass_over_what_nobody_needs(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the common groups are full, rows of rare ones alone are read, however far apart."""
    monkeypatch.setattr(Checkpoint, "page", 2)
    put(archive, *[5] * 10, 5000, *[5] * 10, 5000)
    pages = noted_pages(monkeypatch)
    found = archive.figures.examples({("size", "1K"): 1, ("size", "10K"): 2})
    assert found == {("size", "1K"): [1], ("size", "10K"): [11, 22]}
    assert [len(page) for page in pages] == [2, 2]


@pytest.mark.parametrize("opener", [open_beside, open_read_only], ids=["beside", "read-only"])
def test_what_is_read_together_is_of_one_moment(archive: Archive, opener: Opener) -> None:
    """A run that writes between two queries is not seen by the second one."""
    put(archive, 1, 2)
    with opener(archive.path) as reader:
        calls: list[tuple[Count, int]] = []

        def read() -> tuple[Count, int]:
            first = reader.queries.counts()[State.PENDING]
            put(archive, 5, start=3 + len(calls))
            calls.append((first, len(list(reader.queries.rows()))))
            return calls[-1]

        count, rows = reader.queries.together(read)
        assert count.n == rows
        assert reader.queries.counts()[State.PENDING].n == 2 + len(calls)
        count, _ = reader.queries.together(lambda: reader.queries.together(read))
        assert count.n == 2 + len(calls) - 1


def test_reading_together_starts_again_where_the_files_change(tmp_path: Path) -> None:
    """Without a log to read through, a change makes all be read again; too many are told."""
    path = tmp_path / "archive"
    with open_archive(path, command="test") as archive:
        put(archive, 1)
    with open_read_only(path) as reader:
        seen: list[int] = []

        def read(changes: int = 1) -> tuple[int, int]:
            first = reader.queries.counts()[State.PENDING].n
            if len(seen) < changes:
                with open_archive(path, command="test") as archive:
                    put(archive, 5, start=2 + len(seen))
            seen.append(first)
            return first, reader.queries.counts()[State.PENDING].n

        assert reader.queries.together(read) == (2, 2)
        assert seen == [1, 2]
        seen.clear()
        with pytest.raises(ArchiveBusy, match="changes all the time"):
            reader.queries.together(lambda: read(changes=1000))
        assert reader.read_only


def test_reading_together_ends_with_an_error_of_its_own(archive: Archive, db: Checkpoint) -> None:
    """What fails inside leaves no transaction open, and other threads go on."""

    def fail() -> None:
        archive.queries.counts()
        raise KeyError

    with pytest.raises(KeyError):
        archive.queries.together(fail)
    thread = threading.Thread(target=lambda: put(archive, 1))
    thread.start()
    thread.join(10)
    assert Queries(db).counts()[State.PENDING].n == 1, "it is committed"


def test_duplicates_are_those_beyond_the_first(archive: Archive) -> None:
    """Of attachments with the same content the one with the lowest id is the original."""
    stored_at(archive, 10, 20, 30)
    put(archive, 4, start=4)
    assert [row.id for row in archive.queries.rows(only=RowFilter(duplicates=True))] == [2, 3]
