"""Bytes are tied to what was listed when they were fetched: ids that are given to other files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from migrator.archive import Archive
from migrator.archive.ledger import FIRST_COPY
from migrator.errors import SafetyLimit
from migrator.pull.options import ChangeLimit
from migrator.sources.base import Attachment, Post, Ticket
from tests.blobs.layout import bytes_of
from tests.pull.doubles import Desk, problems, pull, states
from tests.pull.syncing import Living, sync


def held(archive: Archive) -> dict[int, bytes]:
    """Give the bytes that the archive holds, by attachment; copies under their own ids."""
    found = {}
    for row in archive.queries.rows():
        if row.sha256 is not None:
            found[row.id] = bytes_of(archive, row.sha256)
    return found


def reuse(desk: Desk, key: int, *, ticket: int, data: bytes, name: str = "new.pdf") -> None:
    """Delete an attachment and give its id to another file."""
    desk.files[key] = desk.files[key]._replace(
        ticket_id=ticket, data=data, declared=len(data), name=name
    )


@pytest.mark.parametrize("way", ["run", "sync", "full"])
def test_a_reused_id_is_fetched_again_and_both_are_kept(archive: Archive, way: str) -> None:
    """Another ticket, name and size under a held id: the new bytes are got, the old ones stay."""
    desk = Living(9)
    sync(desk, archive)
    old = held(archive)[8]
    reuse(desk, 8, ticket=2, data=b"the new contract")
    desk.touch(2, 2000)
    result = pull(desk, archive) if way == "run" else sync(desk, archive, full=way == "full")
    assert (result.exit_code, result.changed) == (0, {8})
    now = held(archive)
    assert now[8] == b"the new contract"
    assert [data for key, data in now.items() if key > FIRST_COPY] == [old]
    assert problems(archive)[8] == "changed_at_source"
    row = archive.queries.attachment(8)
    assert row is not None
    assert (row.ticket_id, row.filename) == (2, "new.pdf")
    before = len(desk.asked("fetch"))
    assert pull(desk, archive).exit_code == 0
    assert len(desk.asked("fetch")) == before, "what was settled is not fetched again"


def test_a_reused_id_whose_new_bytes_cannot_be_had_is_open(archive: Archive) -> None:
    """The old bytes stay as a copy, never under the new name; the row is missing, exit 3."""
    desk = Desk(3)
    pull(desk, archive)
    old = held(archive)[2]
    desk.files[2] = desk.files[2]._replace(data=None, declared=99, name="new.pdf")
    result = pull(desk, archive)
    assert (result.exit_code, states(archive)[2]) == (3, "missing")
    assert [data for key, data in held(archive).items() if key > FIRST_COPY] == [old]
    assert 2 not in held(archive)


def test_a_deleted_attachment_whose_id_comes_back_as_another_file(archive: Archive) -> None:
    """Known as deleted, then listed with another name: fetched, not taken for the old one."""
    desk = Desk(3)
    pull(desk, archive)
    gone = desk.files.pop(2)
    pull(desk, archive)
    assert states(archive)[2] == "deleted"
    desk.files[2] = gone._replace(data=b"other", declared=5, name="other.txt")
    pull(desk, archive)
    assert held(archive)[2] == b"other"
    assert gone.data in held(archive).values()


def test_a_changed_row_with_the_same_bytes_is_held_once(archive: Archive) -> None:
    """The content is looked at again; nothing is kept twice, and the row says what happened."""
    desk = Desk(3)
    pull(desk, archive)
    desk.files[2] = desk.files[2]._replace(name="renamed.txt")
    result = pull(desk, archive)
    assert result.exit_code == 0
    assert states(archive) == dict.fromkeys((1, 2, 3), "stored")
    assert problems(archive) == {1: None, 2: "changed_at_source", 3: None}


def test_many_changes_stop_the_run_and_keep_everything(archive: Archive) -> None:
    """A backup that agrees on the oldest tickets only: exit 8, all old bytes still there."""
    desk = Desk(30)
    pull(desk, archive)
    old = set(held(archive).values())
    for key in range(11, 31):
        reuse(desk, key, ticket=key, data=b"after the restore %d" % key)
    result = pull(desk, archive, concurrency=1)
    assert isinstance(result.ended_by, SafetyLimit)
    assert "--accept-changes" in str(result.ended_by)
    assert old <= set(held(archive).values())


def test_a_contradiction_is_not_believed_bit_by_bit(archive: Archive) -> None:
    """Whatever is run after exit 8 ends with 8, until somebody accepts; then all is had anew."""
    desk = Living(30)
    sync(desk, archive)
    for key in range(15, 31):
        reuse(desk, key, ticket=key, data=b"after the restore %d" % key)
    assert pull(desk, archive).exit_code == 8
    for result in (pull(desk, archive), sync(desk, archive), sync(desk, archive, full=True)):
        assert isinstance(result.ended_by, SafetyLimit)
        assert "--accept-changes" in str(result.ended_by)
    accepted = pull(desk, archive, changes=ChangeLimit(accept=True))
    assert accepted.exit_code == 0
    assert {key: data for key, data in held(archive).items() if key < FIRST_COPY} == {
        key: file.data for key, file in desk.files.items()
    }
    assert (pull(desk, archive).exit_code, sync(desk, archive).exit_code) == (0, 0)


def test_one_id_listed_on_two_tickets_keeps_both_contents(archive: Archive) -> None:
    """However often it goes back and forth, each content is there, and no more than that."""

    class Twice(Desk):
        """Lists attachment 2 on ticket 3 as well, with another content."""

        async def attachments(self, ticket_id: int) -> list[Attachment]:
            found = await super().attachments(ticket_id)
            if ticket_id == 3:
                found.append(Attachment(2, 3, 1, "other.txt", 6))
            return found

        async def fetch(self, ticket_id, attachment_id, make_sink):  # type: ignore[no-untyped-def]
            if (ticket_id, attachment_id) == (3, 2):
                old = self.files[2]
                reuse(self, 2, ticket=3, data=b"second", name="other.txt")
                try:
                    return await super().fetch(ticket_id, attachment_id, make_sink)
                finally:
                    self.files[2] = old
            return await super().fetch(ticket_id, attachment_id, make_sink)

    desk = Twice(3)
    for _ in range(4):
        pull(desk, archive, concurrency=1)
        assert {b"file 2", b"second"} <= set(held(archive).values())
    assert len([key for key in held(archive) if key > FIRST_COPY]) <= 2
    assert problems(archive)[2] == "changed_at_source"


# Merges


def test_a_merged_ticket_takes_its_files_along_without_a_fetch(archive: Archive) -> None:
    """Another ticket under a held id is no contradiction where the old one was merged into it."""
    desk = Desk(4)
    pull(desk, archive)
    desk.merge(3, 1)
    before = len(desk.asked("fetch"))
    assert pull(desk, archive).exit_code == 0
    assert len(desk.asked("fetch")) == before
    assert set(problems(archive).values()) == {None}


class Confused(Desk):
    """Answers ``GET Ticket/2`` with ticket 1, ``lies`` times."""

    def __init__(self, tickets: int, lies: int) -> None:
        super().__init__(tickets)
        self.lies = lies

    async def ticket(self, ticket_id: int) -> Ticket:
        found = await super().ticket(ticket_id)
        if ticket_id == 2 and self.lies:
            self.lies -= 1
            return self.tickets[1]
        return found


@pytest.mark.parametrize("lies", [1, 99])
def test_a_stranger_is_no_merge_of_a_ticket_that_was_listed(archive: Archive, lies: int) -> None:
    """Ticket 2 stays ticket 2, with its file: once is asked again, always is not believed."""
    desk = Confused(3, lies)
    result = pull(desk, archive, posts=True)
    assert {row.id: row.ticket_id for row in archive.queries.rows()} == {1: 1, 2: 2, 3: 3}
    header = archive.threads.ticket(2)
    assert header is not None
    assert header.merged_into is None
    assert bool(result.threads_missing) is (lies > 1)


def test_an_empty_list_where_a_post_has_files_is_asked_again(archive: Archive) -> None:
    """One slip of the list loses no file, because the posts tell of it."""

    class Slipping(Desk):
        async def attachments(self, ticket_id: int) -> list[Attachment]:
            found = await super().attachments(ticket_id)
            return [] if ticket_id == 2 and self.calls.count("list 2") == 1 else found

    desk = Slipping(3)
    for key, ticket in desk.tickets.items():
        desk.tickets[key] = replace(ticket, posts=(Post(key, key, has_attachments=True),))
    assert pull(desk, archive, posts=True).exit_code == 0
    assert states(archive) == dict.fromkeys((1, 2, 3), "stored")


def test_a_post_whose_flag_is_out_of_date_costs_one_more_list(archive: Archive) -> None:
    """Kayako leaves the flag when a file is deleted: an empty list twice is believed."""
    desk = Desk(2)
    del desk.files[2]
    for key, ticket in desk.tickets.items():
        desk.tickets[key] = replace(ticket, posts=(Post(key, key, has_attachments=True),))
    assert pull(desk, archive, posts=True).exit_code == 0
    assert desk.calls.count("list 2") == 2
