"""An archive belongs to one helpdesk: another one does not fill it, and one that moved goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from migrator.archive import Archive
from migrator.errors import NotFound, OtherHelpdesk, SafetyLimit, ServerFailed
from migrator.events import Notice
from migrator.pull.identity import same_address, see_helpdesk
from migrator.pull.options import ChangeLimit, DeletionLimit
from migrator.sources.base import Ticket
from migrator.sources.kayako.source import KayakoSource
from tests.pull.doubles import Desk, Ear, pull, states

OLD, NEW = "https://help.example.com", "https://support.example.org"


class Other(Desk):
    """Another helpdesk: the same ids, tickets of other times and files of other bytes."""

    def __init__(self, tickets: int) -> None:
        super().__init__(tickets)
        for key, ticket in self.tickets.items():
            self.tickets[key] = replace(ticket, created_at=900_000 + key)
        for key, file in self.files.items():
            self.files[key] = file._replace(data=b"other %d" % key, declared=7 + len(str(key)))


def everything(archive: Archive) -> list[tuple[object, ...]]:
    """Give all that a run could change, for a comparison."""
    rows = [(row.id, row.sha256, row.state, row.ticket_id) for row in archive.queries.rows()]
    return [*rows, *[(run.id, run.source) for run in archive.queries.runs(99)]]


def address(archive: Archive) -> str | None:
    found = archive.queries.helpdesk()
    return found.address if found else None


@pytest.mark.parametrize("kind", ["run", "sync", "plan"])
def test_another_address_is_refused_before_anything_changes(archive: Archive, kind: str) -> None:
    """Both addresses are named, and how to say that the helpdesk has moved; exit 2."""
    pull(Desk(3), archive, source_name=OLD)
    before = everything(archive)
    other = Other(3)
    with pytest.raises(OtherHelpdesk) as caught:
        pull(other, archive, source_name=NEW, kind=kind)
    assert caught.value.exit_code == 2
    for word in (OLD, NEW, "--moved"):
        assert word in str(caught.value)
    assert everything(archive) == before
    assert (other.calls, address(archive)) == ([], OLD)


def test_the_same_helpdesk_at_another_address_goes_on_when_it_is_said(archive: Archive) -> None:
    """Nothing is fetched twice, and from now on the new address is the archive's."""
    desk = Desk(3)
    pull(desk, archive, source_name=OLD)
    desk.calls.clear()
    ear = Ear()
    assert pull(desk, archive, source_name=NEW, moved=True, ear=ear).exit_code == 0
    assert (desk.asked("fetch"), address(archive)) == ([], NEW)
    assert any(NEW in event.text for event in ear.of(Notice))
    assert pull(desk, archive, source_name=NEW).exit_code == 0
    with pytest.raises(OtherHelpdesk):
        pull(desk, archive, source_name=OLD)


@pytest.mark.parametrize("make", [lambda: Other(3), lambda: Desk(0)], ids=["other", "empty"])
def test_another_helpdesk_has_not_moved_whatever_is_said(
    archive: Archive, make: Callable[[], Desk]
) -> None:
    """A contradiction, or no ticket that the archive knows, is no proof of having moved."""
    pull(Desk(3), archive, source_name=OLD)
    before = everything(archive)
    with pytest.raises(OtherHelpdesk, match="Nothing was changed"):
        pull(make(), archive, source_name=NEW, moved=True)
    assert (everything(archive), address(archive)) == (before, OLD)


def test_the_known_address_that_answers_as_another_helpdesk_stops_the_run(
    archive: Archive,
) -> None:
    """Exit 8, the suspicion named, and no row, no ticket and no department touched."""
    pull(Desk(3), archive)
    rows = list(archive.queries.rows())
    result = pull(Other(3), archive)
    assert isinstance(result.ended_by, SafetyLimit)
    assert result.exit_code == 8
    assert "another helpdesk" in str(result.ended_by)
    assert list(archive.queries.rows()) == rows


def test_a_fresh_helpdesk_without_our_tickets_stops_the_run(archive: Archive) -> None:
    """None of many tickets is known: installed anew, unless the deletions are accepted."""
    pull(Desk(12), archive)
    assert pull(Desk(0), archive).exit_code == 8
    accepted = DeletionLimit(accept=True)
    assert pull(Desk(0), archive, deletions=accepted).exit_code == 0
    assert set(states(archive).values()) == {"deleted"}


def test_a_source_that_gives_no_ticket_by_its_id_is_known_by_its_lists(archive: Archive) -> None:
    """Where every ticket is "not found" by its id, the lists still show the same ones."""

    class Listing(Desk):
        async def ticket(self, ticket_id: int) -> Ticket:
            await self.turn(f"ticket {ticket_id}")
            raise NotFound("Ticket not Found")

    pull(Listing(12), archive)
    assert pull(Listing(12), archive).exit_code == 0


def test_a_few_deleted_tickets_are_no_other_helpdesk(archive: Archive) -> None:
    """The oldest and the newest may be gone, as long as others are there."""
    desk = Desk(9)
    pull(desk, archive)
    for ticket in (1, 2, 9):
        desk.delete(ticket)
    assert pull(desk, archive).exit_code == 0


def test_one_stray_answer_is_no_other_helpdesk(archive: Archive) -> None:
    """A cache that once answers with another ticket's figures is asked again."""

    class Stray(Desk):
        lies = 1

        async def ticket(self, ticket_id: int) -> Ticket:
            found = await super().ticket(ticket_id)
            if self.lies:
                self.lies -= 1
                return replace(found, created_at=77_777)
            return found

    pull(Desk(3), archive)
    assert pull(Stray(3), archive).exit_code == 0


def test_tickets_that_cannot_be_asked_for_prove_nothing(archive: Archive) -> None:
    """An error on each witness is no contradiction."""

    class Broken(Desk):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call.startswith("witness"):
                raise ServerFailed("HTTP 500")

    pull(Desk(3), archive)
    assert pull(Broken(3), archive).exit_code == 0


def test_masks_tell_helpdesks_apart_that_were_filled_at_the_same_time(archive: Archive) -> None:
    """The same ids and times, but other masks, which Kayako draws by lot."""

    def masked(letters: str) -> Desk:
        desk = Desk(3)
        for key, ticket in desk.tickets.items():
            desk.tickets[key] = replace(ticket, display_id=f"{letters}-100-1000{key}")
        return desk

    pull(masked("ABC"), archive)
    assert pull(masked("ABC"), archive).exit_code == 0
    assert pull(masked("XYZ"), archive).exit_code == 8


def test_people_and_subjects_tell_helpdesks_apart_where_times_and_numbers_agree(
    archive: Archive,
) -> None:
    """One changed subject is work; another subject and another requester is another ticket."""

    def written(word: str, *, mail: str) -> Desk:
        desk = Desk(3)
        for key, ticket in desk.tickets.items():
            email = mail and f"{mail}{key}@example.com"
            desk.tickets[key] = replace(ticket, subject=f"{word} {key}", email=email)
        return desk

    pull(written("a", mail="m"), archive)
    assert pull(written("b", mail="m"), archive).exit_code == 0
    assert pull(written("c", mail=""), archive).exit_code == 0, "a subject alone tells nothing"
    assert pull(written("b", mail="m"), archive).exit_code == 0
    assert pull(written("c", mail="n"), archive).exit_code == 8


def test_a_mistyped_address_that_never_answered_owns_nothing(archive: Archive) -> None:
    """An archive without a single row takes the address that answers."""

    class Dead(Desk):
        async def turn(self, call: str) -> None:
            raise ServerFailed("HTTP 500")

    assert pull(Dead(), archive, source_name=NEW).exit_code == 4
    assert pull(Desk(2), archive, source_name=OLD).exit_code == 0
    assert address(archive) == OLD


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://h.example/api/index.php", "http://H.EXAMPLE:80/api/index.php/", True),
        ("https://h.example:443/api/index.php", "https://h.example./api/", True),
        ("https://h.example//api//index.php", "https://h.example/api/index.php", True),
        ("https://h.example/api", "https://h.example:8443/api", False),
        ("https://h.example/a/api", "https://h.example/b/api", False),
        ("https://h.example/api", "https://www.h.example/api", False),
        ("https://h.example:http/", "https://h.example/", False),
    ],
)
def test_addresses_are_compared_as_written_by_people(one: str, other: str, same: bool) -> None:
    """Case, default ports, slashes and the move to https make no other helpdesk."""
    assert same_address(one, other) is same
    assert same_address(other, one) is same


def test_commands_that_only_compare_are_refused_alike(archive: Archive) -> None:
    """Audit and repair compare the same witnesses as a run."""
    pull(Desk(3), archive, source_name=OLD)
    asyncio.run(see_helpdesk(KayakoSource(Desk(3)), archive, OLD))
    with pytest.raises(SafetyLimit):
        asyncio.run(see_helpdesk(KayakoSource(Other(3)), archive, OLD))


def test_accepted_changes_take_in_the_new_and_keep_the_old(archive: Archive) -> None:
    """Who insists gets both: the new files under their ids, the old bytes as deleted copies."""
    pull(Desk(3), archive)
    old = {row.sha256 for row in archive.queries.rows()}
    assert pull(Other(3), archive, changes=ChangeLimit(accept=True)).exit_code == 0
    rows = list(archive.queries.rows())
    assert {row.sha256 for row in rows if row.state == "deleted"} == old
    assert {row.problem for row in rows if row.state == "stored"} == {"changed_at_source"}
