"""Dry runs of many tickets: interrupted, gone on with, and with equal files told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.archive import Row, open_archive, open_dry
from migrator.errors import SourceRefused
from migrator.plan.dry_run import LARGEST, Dry, dry_run
from migrator.plan.plan_file import Journal
from migrator.pull.options import RunOptions, Stop
from migrator.sources.base import Fetched
from migrator.sources.kayako.source import KayakoSource
from tests.pull.doubles import Desk, S, pull

HEAD = {"source": "https://help.example.com"}


class Patient(Desk):
    """A desk at which somebody asks to stop after so many lists."""

    def __init__(self, tickets: int = 0, files: int = 1) -> None:
        super().__init__(tickets, files)
        self.stop = Stop()
        self.lists_left = -1

    async def turn(self, call: str) -> None:
        if call.startswith("list"):
            self.lists_left -= 1
            if not self.lists_left:
                self.stop.ask()
        await super().turn(call)


def look(source: Desk, root: Path, **options: object) -> tuple[Dry, list[Row]]:
    """Do a dry run; gives what it has listed, too."""
    asked = RunOptions("https://help.example.com", "plan", concurrency=4)
    helpdesk = KayakoSource(source)
    with open_dry(root / "archive") as archive:
        dry = asyncio.run(dry_run(helpdesk, archive, asked, **options))  # type: ignore[arg-type]
        return dry, list(archive.queries.listed_in(dry.result.run_id))


def test_interrupted_again_and_again_it_comes_to_the_same(tmp_path: Path) -> None:
    """Stopped after every few dozen lists, the dry run ends as one that was let alone.

    No ticket is listed twice but for those in flight, and the memory of the source is the journal.
    """
    source = Patient(300)
    _, undisturbed = look(source, tmp_path)
    source.calls.clear()
    for turn in range(6):
        source.stop, source.lists_left = Stop(), 60
        with Journal(tmp_path / "p", HEAD) as journal:
            known = len(journal)
            assert known >= 50 * turn
            dry, listed = look(source, tmp_path, journal=journal, stop=source.stop)
            assert dry.remembered == known
        if dry.result.ended_by is None:
            break
        assert dry.result.exit_code == 130
    assert dry.result.ended_by is None
    assert listed == undisturbed
    assert len(source.asked("list")) <= 300 + 6 * 8


def test_what_happened_in_between_is_seen(tmp_path: Path) -> None:
    """A ticket that was active is listed again; one that went is not there, a new one is."""
    source = Patient(40)
    with Journal(tmp_path / "p", HEAD) as journal:
        look(source, tmp_path, journal=journal)
    source.attach(3, b"late")
    source.open(3, active=2000)
    source.delete(4)
    source.open(41)
    new = source.attach(41, b"new")
    source.calls.clear()
    with Journal(tmp_path / "p", HEAD) as journal:
        dry, listed = look(source, tmp_path, journal=journal)
    assert sorted(source.asked("list")) == ["list 3", "list 41"]
    assert {row.id for row in listed} == set(source.files)
    assert new in {row.id for row in listed}
    assert (dry.remembered, dry.asked["lists"], dry.lists.calls) == (38, 2, 2)


def test_a_merge_in_between_is_followed(tmp_path: Path) -> None:
    """Tickets that the archive knows and no list names are asked for, with a journal as without."""
    source = Patient(5)
    with open_archive(tmp_path / "archive", command="test") as archive:
        pull(source, archive)
    source.open(9, active=5000)
    source.merge(2, 9)
    with Journal(tmp_path / "p", HEAD) as journal:
        dry, listed = look(source, tmp_path, journal=journal)
        assert journal.find(9, 5000) is not None
    assert dry.asked["others"] > 4
    assert [row.ticket_id for row in listed if row.id == 2] == [9]


def test_without_a_journal_every_call_is_passed_on(tmp_path: Path) -> None:
    """The wrapper counts, and changes nothing."""
    source = Patient(25)
    dry, listed = look(source, tmp_path)
    assert len(listed) == 25
    assert dry.asked["lists"] == len(source.asked("list")) == 25
    assert dry.asked["fetches"] == len(source.asked("fetch")) == dry.fetches.calls == 20
    assert dry.asked.total() == len(source.calls)


# What is equal


def equal_files(source: Desk, name: str, contents: list[bytes]) -> None:
    """Attach files of one name to ticket 1."""
    for data in contents:
        number = source.attach(1, data)
        source.files[number] = source.files[number]._replace(name=name)


def shares(dry: Dry) -> tuple[float, float]:
    return dry.by_name.share(-1), dry.by_size.share(-1)


def test_equal_names_and_sizes_are_compared_by_their_hashes(tmp_path: Path) -> None:
    """Half of the pairs that look equal are: so the sample says half."""
    source = Desk(1, files=0)
    for number in range(10):
        one = b"%100d" % number
        other = one if number % 2 else b"%100d" % (number + 1000)
        equal_files(source, f"{number}.png", [one + bytes(number), other + bytes(number)])
    dry, _ = look(source, tmp_path, sample=100)
    assert dry.by_name.pairs == 10
    assert dry.by_name.share(0) == pytest.approx(0.5, abs=0.02)
    assert (dry.by_size.pairs, dry.by_size.share(0.25)) == (0, 0.25)


def test_equal_sizes_alone_are_compared_too(tmp_path: Path) -> None:
    """A logo of many names is found by its size."""
    source = Desk(1, files=0)
    for number in range(8):
        equal_files(source, f"logo {number}.png", [b"the same logo"])
    dry, _ = look(source, tmp_path, sample=40)
    assert shares(dry) == (-1, 1.0)
    assert dry.by_size.pairs == 7


def test_a_sample_is_bounded(tmp_path: Path) -> None:
    """No more attachments are fetched than were allowed, and each about once."""
    source = Desk(1, files=0)
    for number in range(200):
        equal_files(source, "same.txt", [b"%4d" % number])
    dry, _ = look(source, tmp_path, sample=30)
    assert 15 <= dry.by_name.pairs <= 29
    assert len(source.asked("fetch")) <= 20 + 30 + 4


def test_what_is_held_need_not_be_fetched(tmp_path: Path) -> None:
    """A new file is compared with the stored one of its name by the hash that the ledger has."""
    source = Desk(1, files=0)
    equal_files(source, "a.txt", [b"held"])
    with open_archive(tmp_path / "archive", command="test") as archive:
        pull(source, archive)
    equal_files(source, "a.txt", [b"held"])
    source.calls.clear()
    dry, _ = look(source, tmp_path, sample=10)
    assert dry.by_name.share(0) == 1.0
    assert "fetch 1" not in source.calls


def test_what_is_too_large_or_lost_is_not_compared(tmp_path: Path) -> None:
    """A huge pair is passed over, and one of lost files tells nothing."""
    source = Desk(1)
    for size in (LARGEST + 1, 77):
        for _ in range(2):
            source.attach(1, None, declared=size)
    dry, _ = look(source, tmp_path, sample=10)
    assert (dry.by_name.pairs, dry.by_size.pairs) == (0, 0)


@pytest.mark.parametrize("what", ["stop", "refuse"])
def test_a_comparison_may_end_early(tmp_path: Path, what: str) -> None:
    """Asked to stop or refused while files are compared, the dry run tells what it has."""
    stop = Stop()

    class Ending(Desk):
        async def fetch(
            self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
        ) -> Fetched[S]:
            if len(self.asked("fetch")) == 25:
                stop.ask()
                if what == "refuse":
                    raise SourceRefused("the key is no longer valid")
            return await super().fetch(ticket_id, attachment_id, make_sink)

    source = Ending(1, files=0)
    for number in range(60):
        equal_files(source, "same.txt", [b"%4d" % number])
    dry, listed = look(source, tmp_path, sample=50, stop=stop)
    assert dry.result.exit_code == (4 if what == "refuse" else 130)
    assert len(listed) == 60
