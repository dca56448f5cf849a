"""What the people of the helpdesk do, and what a perfect pull then finds."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import migrator
from migrator.sandbox.kayako import (
    ATTACHMENT_FAULTS,
    TICKET_FAULTS,
    Helpdesk,
    SandboxOptions,
    Truth,
)
from migrator.sandbox.kayako.build import LOGO
from migrator.sandbox.kayako.files import ODD_NAMES
from migrator.sandbox.kayako.model import Note, number

HOME = Path(migrator.__file__).parent.parent


def build(*faults: str, tickets: int = 40, seed: int = 1) -> Helpdesk:
    """Build a helpdesk."""
    return Helpdesk.build(SandboxOptions(seed=seed, tickets=tickets, faults=frozenset(faults)))


def a_ticket(desk: Helpdesk, *, but: int = 0) -> int:
    """Return a listed ticket with attachments."""
    return next(
        t.id
        for t in desk.tickets.values()
        if t.department_id and t.id != but and desk.attachments_of(t.id)
    )


def test_equal_options_equal_helpdesk() -> None:
    """The same options build the same helpdesk, another seed another one."""
    first, second = build("all"), build("all")
    assert first.attachments == second.attachments
    assert (first.tickets, first.posts, first.merges) == (
        second.tickets,
        second.posts,
        second.merges,
    )
    assert build("all", seed=2).attachments != first.attachments


def test_equal_in_every_process() -> None:
    """Another process, which hashes in another order, builds the same helpdesk."""
    program = (
        "from migrator.sandbox.kayako import *; "
        "print(Helpdesk.build(SandboxOptions(faults=frozenset({'all'}))).attachments)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(HOME), "PYTHONUTF8": "1"},
        capture_output=True,
        check=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.stdout.strip() == str(build("all").attachments)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tickets", [40, 60])
def test_all_faults_occur(tickets: int, seed: int) -> None:
    """From 40 tickets on every fault hits a listed attachment or ticket."""
    desk = build("all", tickets=tickets, seed=seed)
    assert {name for t in desk.truth.values() for name in t.faults} == set(ATTACHMENT_FAULTS)
    hit = [t for t in desk.tickets.values() if t.fault]
    assert sorted(t.fault or "" for t in hit) == sorted(TICKET_FAULTS)
    assert all(t.department_id and desk.attachments_of(t.id) for t in hit)


def test_what_is_hidden_has_no_fault_to_be_seen() -> None:
    """Attachments of a gap are in no truth, and have no fault; no merge takes a faulty ticket."""
    desk = build("all", tickets=900)
    hidden = [key for key, fault in desk.gaps.items() if TICKET_FAULTS[fault].hidden]
    assert len(hidden) == 8
    rows = [row for key in hidden for row in desk.attachments_of(key)]
    assert not [row for row in rows if row.fault or row.id in desk.truth]
    moved = {desk.attachments[key].ticket_id for key in desk.moves} | {*desk.moves.values()}
    assert not [key for key in moved if desk.tickets[key].fault]


def test_small_helpdesks_have_no_gaps() -> None:
    """Where there is no room for every fault, those that hide attachments are left out first."""
    assert build("all", tickets=20).gaps == {}
    for tickets in (5, 20):
        alone = build("refused_ticket", tickets=tickets)
        assert list(alone.gaps.values()) == ["refused_ticket"]
    for seed in range(9):
        desk = build("moved_between", "refused_ticket", tickets=2, seed=seed)
        assert not [one for one in desk.moves.values() if desk.tickets[one].fault]


def test_faults_grow_with_the_helpdesk() -> None:
    """A large helpdesk has each fault several times."""
    desk = build("memory", tickets=450)
    assert sum(row.fault == "memory" for row in desk.attachments.values()) == 2


def test_twins_stay_twins() -> None:
    """No fault hits the logo that many posts carry, or an oddly named file."""
    desk = build("all", tickets=400)
    rows = desk.attachments.values()
    twins = [row for row in rows if row.source == LOGO]
    odd = [row for row in rows if row.name.decode(errors="replace") in ODD_NAMES]
    assert len(twins) > 50
    assert len(odd) > 50
    assert not [row for row in (*twins, *odd) if row.fault]


@pytest.mark.parametrize("tickets", [0, 1, 5])
def test_small_helpdesks(tickets: int) -> None:
    """A helpdesk too small for all faults has those that find room."""
    desk = build("all", tickets=tickets)
    assert len(desk.tickets) == tickets
    assert sum(bool(t.faults) for t in desk.truth.values()) <= len(desk.attachments)


def test_variety() -> None:
    """There are empty tickets, busy ones, trash, merges, gaps in ids, twins and odd names."""
    desk = build()
    counts = [len(desk.attachments_of(ticket)) for ticket in desk.tickets]
    digests = [row.sha256 for row in desk.attachments.values()]
    names = [row.name for row in desk.attachments.values()]
    assert min(counts) == 0
    assert max(counts) >= 10
    assert desk.trash_truth
    assert not desk.trash_truth.keys() & desk.truth.keys()
    assert desk.merges
    assert max(desk.attachments) > len(desk.attachments)
    assert len(set(digests)) < len(digests)
    assert len({n for n in names if b"/" in n or b".." in n or b"<" in n or len(n) > 250}) >= 3


def test_faultless_truth() -> None:
    """Without faults everything is stored with the bytes of its source."""
    desk = build()
    for row in desk.attachments.values():
        truth = {**desk.truth, **desk.trash_truth}[row.id]
        data = row.source.read()
        assert truth == Truth("stored", None, hashlib.sha256(data).hexdigest(), len(data))
        assert row.filesize == len(data)


def test_truth_follows_the_fault_table() -> None:
    """State and problem come from the table; bytes only where the server sends some."""
    for truth in build("all").truth.values():
        for name in truth.faults:
            fault = ATTACHMENT_FAULTS[name]
            assert (truth.state, truth.problem) == (fault.state, fault.problem)
            assert (truth.sha256 is not None) == (fault.state == "stored")


def test_merge() -> None:
    """A merge moves posts and attachments, keeps their ids, and touches no activity."""
    desk = build()
    old = a_ticket(desk)
    into = a_ticket(desk, but=old)
    rows, posts = desk.attachments_of(old), desk.posts_of(old)
    activity, truth = desk.tickets[into].last_activity, desk.truth
    desk.merge(old, into)
    assert {row.id for row in rows} <= {row.id for row in desk.attachments_of(into)}
    assert {post.id for post in posts} <= {post.id for post in desk.posts_of(into)}
    assert desk.attachments_of(old) == []
    assert desk.find_ticket(str(old)) == desk.tickets[into]
    assert desk.tickets[into].last_activity == activity
    assert desk.truth == truth


def test_merge_chain_and_masks() -> None:
    """Merges are followed to their end; the mask of a merged ticket finds nothing."""
    desk = build()
    first, second, third = list(desk.tickets)[:3]
    masks = {number: desk.tickets[number].mask for number in (first, third)}
    desk.merge(first, second)
    desk.merge(second, third)
    assert desk.find_ticket(str(first)) == desk.tickets[third]
    assert desk.find_ticket(masks[third]) == desk.tickets[third]
    assert desk.find_ticket(masks[first]) is None


def test_merge_needs_two_tickets() -> None:
    """A ticket does not merge into itself or into nothing."""
    desk = build()
    ticket = a_ticket(desk)
    with pytest.raises(ValueError, match="itself"):
        desk.merge(ticket, ticket)
    with pytest.raises(KeyError):
        desk.merge(ticket, 99999)
    assert ticket in desk.tickets


def test_trash() -> None:
    """Trashing moves the attachments to the other truth."""
    desk = build()
    ticket = a_ticket(desk)
    ids = {row.id for row in desk.attachments_of(ticket)}
    desk.trash(ticket)
    assert desk.tickets[ticket].department_id == 0
    assert not ids & desk.truth.keys()
    assert ids <= desk.trash_truth.keys()


def test_delete_ticket() -> None:
    """A deleted ticket takes posts and attachments with it."""
    desk = build()
    ticket = a_ticket(desk)
    ids = {row.id for row in desk.attachments_of(ticket)}
    posts = {post.id for post in desk.posts_of(ticket)}
    desk.delete_ticket(ticket)
    assert not ids & desk.attachments.keys()
    assert not ids & desk.truth.keys()
    assert not posts & desk.posts.keys()
    assert desk.find_ticket(str(ticket)) is None


def test_add_and_delete_attachment() -> None:
    """A new attachment is part of the truth until it is deleted; its id never comes back."""
    desk = build()
    ticket = a_ticket(desk)
    before = desk.tickets[ticket]
    added = desk.add_attachment(ticket, "neu.txt", b"bytes")
    assert desk.truth[added] == Truth("stored", None, hashlib.sha256(b"bytes").hexdigest(), 5)
    assert desk.posts[desk.attachments[added].post_id].has_attachments
    desk.delete_attachment(added)
    assert added not in desk.truth
    assert desk.add_attachment(ticket, b"\xff.txt", b"") == added + 1
    assert desk.tickets[ticket] == before


def test_faults_can_be_turned_off_and_on() -> None:
    """A repaired server changes the truth; what was never broken cannot be turned on."""
    desk = build("error_500", "latin1_name")
    row = next(r for r in desk.attachments.values() if r.fault == "error_500")
    assert desk.truth[row.id].state == "failed"
    desk.set_fault("error_500", on=False)
    assert desk.truth[row.id] == Truth("stored", None, row.sha256, row.size)
    desk.set_fault("error_500", on=True)
    assert desk.truth[row.id].state == "failed"
    desk.set_fault("down", on=True)
    assert desk.switches == {"down"}
    desk.set_fault("down", on=False)
    assert desk.switches == set()
    for name, words in {
        "rain": "unknown",
        "memory": "not a fault that this",
        "latin1_name": "not a fault that this",
    }.items():
        with pytest.raises(ValueError, match=words):
            desk.set_fault(name, on=False)


def test_list_500_hides_one_ticket_from_truth() -> None:
    """What can never be listed is no part of the truth; it takes no part in other faults."""
    desk = build("all", "list_500")
    assert desk.unlistable_ticket is not None
    hidden = {row.id for row in desk.attachments_of(desk.unlistable_ticket)}
    assert hidden
    assert not hidden & desk.truth.keys()
    assert desk.unlistable_ticket not in desk.moves.values()
    assert not desk.tickets[desk.unlistable_ticket].fault


def test_an_id_is_given_again() -> None:
    """It belongs to a new file then, of another ticket, name, size and date; no other id moves."""
    desk = build("error_500")
    old = next(row for row in desk.attachments.values() if row.fault)
    ticket = a_ticket(desk, but=old.ticket_id)
    following = desk.next_attachment_id
    desk.reuse_id(old.id, ticket, "contract-NEW.pdf", b"new")
    new = desk.attachments[old.id]
    assert (new.ticket_id, new.name, new.filesize) == (ticket, b"contract-NEW.pdf", 3)
    assert new.dateline != old.dateline
    assert new in desk.attachments_of(ticket)
    assert old not in desk.attachments_of(old.ticket_id)
    assert desk.truth[old.id] == Truth("stored", None, hashlib.sha256(b"new").hexdigest(), 3)
    assert desk.add_attachment(ticket, "next", b"") == following
    desk.delete_attachment(old.id)
    desk.reuse_id(old.id, old.ticket_id, "again", b"again")
    assert desk.attachments[old.id].ticket_id == old.ticket_id
    for number_, into in ((old.id, 99999), (desk.next_attachment_id, ticket), (0, ticket)):
        before = dict(desk.attachments)
        with pytest.raises(KeyError):
            desk.reuse_id(number_, into, "x", b"")
        assert desk.attachments == before


def test_a_restored_backup() -> None:
    """All is as it was, however often; what comes now gets ids that were given out before."""
    desk = build()
    first = a_ticket(desk)
    second = a_ticket(desk, but=first)
    lost = desk.attachments_of(second)
    backup, before = desk.snapshot(), desk.truth
    added = desk.add_attachment(first, "a.txt", b"before the fire")
    desk.merge(second, first)
    desk.add_note(Note(999, "ticket", first, 0, "gone"))
    assert desk.truth != before
    for _ in range(2):
        desk.restore(backup)
        assert desk.truth == before
        assert desk.attachments_of(second) == lost
        assert desk.find_ticket(str(second)) == desk.tickets[second]
        assert not [note for note in desk.notes_of(desk.tickets[first]) if note.id == 999]
        assert desk.add_attachment(second, "b.txt", b"after the fire") == added
        assert desk.attachments[added].ticket_id == second


def test_one_id_on_two_tickets() -> None:
    """Both list it, each with a file of its own; the truth tells the first, merges move both."""
    desk = build()
    first = a_ticket(desk)
    second = a_ticket(desk, but=first)
    row, before = desk.attachments_of(first)[0], desk.truth
    desk.list_twice(row.id, second, "other.txt", b"other")
    assert row in desk.attachments_of(first)
    (other,) = (one for one in desk.attachments_of(second) if one.id == row.id)
    assert (other.name, other.size, other.ticket_id) == (b"other.txt", 5, second)
    assert desk.find_attachment(str(first), str(row.id)) == row
    assert desk.find_attachment(str(second), str(row.id)) == other
    assert desk.truth == before
    third = next(key for key in desk.tickets if key not in {first, second})
    desk.merge(second, third)
    (moved,) = (one for one in desk.attachments_of(third) if one.id == row.id)
    assert (moved.name, moved.ticket_id) == (b"other.txt", third)
    desk.delete_ticket(third)
    assert desk.find_attachment(str(third), str(row.id)) == row
    with pytest.raises(ValueError, match="already"):
        desk.list_twice(row.id, first, "x", b"")
    with pytest.raises(KeyError):
        desk.list_twice(99999, first, "x", b"")


def test_big() -> None:
    """Big attachments are added with exactly their size."""
    desk = Helpdesk.build(SandboxOptions(tickets=1, big=(100_001, 7)))
    assert [r.size for r in desk.attachments.values() if r.source.kind == "big"] == [100_001, 7]
    assert all(t.state == "stored" for t in desk.truth.values())


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), ("-1", None), ("", None), ("\u0661", None), ("9" * 19, None)]
)
def test_number(text: str, value: int | None) -> None:
    """Only ASCII digits that fit a column are an id."""
    assert number(text) == value
