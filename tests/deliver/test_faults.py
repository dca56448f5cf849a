"""Whatever goes wrong at the target: each file once, the ledger true, and no mail."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from migrator.archive import Archive, open_archive
from migrator.deliver.client import Client
from migrator.errors import Interrupted, SafetyLimit, SourceError, SourceRefused
from migrator.sandbox.tickiti import FAULTS, HARMLESS_FAULTS, Tickiti
from tests.deliver.conftest import AUTHOR, Office, Pauses

LYING = {"other_file", "damaged_file", "lost_file"}
"""What Tickiti then shows is not what it gives: these have tests of their own below."""
COSTLY = sorted(FAULTS.keys() - HARMLESS_FAULTS - LYING - {"hangs"})


def bare(files: Counter[tuple[str, str, str]]) -> Counter[tuple[str, str]]:
    """Count files without their names."""
    found = Counter[tuple[str, str]]()
    for (number, _, sha256), n in files.items():
        found[number, sha256] += n
    return found


def assert_true(office: Office) -> None:
    """Check that nothing is there twice, that the ledger claims no more, and that no mail went."""
    there, wanted = bare(office.there()), bare(office.wanted())
    assert all(there[key] <= wanted[key] for key in wanted), "a file is there twice"
    assert office.counts().get("delivered", 0) <= sum((there & wanted).values())
    assert office.tickiti.mails == []
    assert office.tickiti.tags == []


def filled(office: Office, *faults: str, generation: str = "october") -> None:
    office.ticket(1, b"one", b"two", b"three")
    office.ticket(2, b"four")
    office.open_there(Tickiti(faults=faults, generation=generation), 1, 2)


FEW = ["lost_answer_and_key", "written_twice"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(one, marks=[] if one in FEW else [pytest.mark.slow])
        for one in sorted(HARMLESS_FAULTS | set(FEW))
    ],
)
def test_harmless_faults_cost_nothing(office: Office, name: str) -> None:
    """Two deliveries bring in everything, once, in whichever call it happens."""
    filled(office, f"{name}@2")
    for _ in range(2):
        office.deliver()
        assert_true(office)
    there, wanted = bare(office.there()), bare(office.wanted())
    assert {key: there[key] for key in wanted} == wanted
    assert office.counts() == {"delivered": 4}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "generation"),
    [(one, "october") for one in COSTLY]
    + [(one, "uploads") for one in COSTLY if one != "written_twice"],  # see below
)
def test_faults_that_cost_files_are_told(office: Office, name: str, generation: str) -> None:
    """The ledger never claims more than is there; what is missing has a reason."""
    filled(office, f"{name}@2" if not FAULTS[name].lasting else name, generation=generation)
    for _ in range(2):
        with contextlib.suppress(SourceError):
            office.deliver()
        assert_true(office)


def good(office: Office) -> Counter[tuple[str, str]]:
    """Count the files that a download gives as they were sent."""
    found = Counter[tuple[str, str]]()
    for number in office.tickiti.tickets:
        for one in office.tickiti.files(number):
            found[str(number), one.sha256] += one.damage is None
    return +found


@pytest.mark.parametrize(
    ("generation", "notes"), [("october", 3), pytest.param("uploads", 4, marks=pytest.mark.slow)]
)
def test_another_file_in_the_note_is_not_delivered(
    office: Office, generation: str, notes: int
) -> None:
    """Where Tickiti shows another file, the note is removed or told; the next delivery mends it."""
    filled(office, "other_file@1", generation=generation)
    result = office.deliver(concurrency=1)
    assert "does not read back as it was sent" in "".join(result.troubles)
    assert office.counts()["failed"] == (3 if generation == "october" else 1)
    office.deliver()
    assert office.counts() == {"delivered": 4}
    assert good(office) == bare(office.wanted())
    written = [one for one in office.tickiti.desk.responses.values() if one.is_internal]
    assert len(written) == notes - (generation == "uploads")
    writes = office.writes()
    office.deliver()
    assert office.writes() == writes


@pytest.mark.parametrize("generation", ["october", pytest.param("uploads", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("fault", "found"), [("damaged_file", "differs"), ("lost_file", "vanished")]
)
def test_a_file_that_only_its_bytes_betray_is_found_and_mended(
    office: Office, fault: str, found: str, generation: str
) -> None:
    """Tickiti names the right SHA-256; reading back does not agree, and --recheck mends it once."""
    filled(office, f"{fault}@1", generation=generation)
    office.deliver(concurrency=1)
    assert office.counts() == {"delivered": 4}
    assert office.verify().counts == {"agreed": 3, found: 1}
    assert office.counts() == {"delivered": 3, "failed": 1}
    assert [one.problem for one in office.archive.queries.delivered_lines() if one.problem] == [
        found
    ]
    for _ in range(2):
        office.deliver(recheck=True)
        assert office.counts() == {"delivered": 4}
        assert good(office) == bare(office.wanted())
    assert office.verify().counts == {"agreed": 4}


@pytest.mark.slow
def test_a_second_note_that_cannot_be_removed_is_told(office: Office) -> None:
    """An older Tickiti removes no response: it is said, and no third one is written."""
    filled(office, "written_twice@1", generation="uploads")
    result = office.deliver(concurrency=1)
    assert "keeps a second note with the same files" in "".join(result.troubles)
    assert office.counts() == {"delivered": 4}
    twice = bare(office.there())
    office.deliver()
    assert bare(office.there()) == twice
    assert sorted(twice.values()) == [1, 2, 2, 2]


def test_files_under_other_names_are_known_by_their_bytes(office: Office) -> None:
    """The ledger has the name that Tickiti kept."""
    filled(office, "name_kept@1-")
    office.deliver()
    assert office.counts() == {"delivered": 4}
    names = {one.filename: one.name for one in office.archive.queries.delivered_lines()}
    assert {f"copy of {name}" for name in names} == set(names.values())


@pytest.mark.parametrize("abilities", [("tickets:read", "tickets:write"), ()])
def test_a_canary_that_mails_somebody_stops(office: Office, abilities: tuple[str, ...]) -> None:
    """Where the token may read sent mail; else the advice to look stays."""
    filled(office, "notes_mail")
    there = office.tickiti.tickets[int(office.numbers[1])]
    there.participants.append("tom.hale@example.com")
    token = office.tickiti.add_key(*abilities).token if abilities else ""
    one: dict[str, Any] = {"canary": True, "tickets": frozenset({1})}
    result = office.deliver(token=token, **one)
    assert [mail.to for mail in office.tickiti.mails] == ["tom.hale@example.com"]
    assert office.counts(**one) == {"delivered": 3}
    if abilities:
        assert (result.ended_by, result.silent) == (None, None)
        return
    assert isinstance(result.ended_by, SafetyLimit)
    assert "something new about it (1)" in str(result.ended_by)
    assert office.deliver(canary=True, tickets=frozenset({2})).silent is True


@pytest.mark.parametrize(
    ("fault", "said"), [("reopened", "reopened"), ("params_named", "ignored keep_status,")]
)
def test_a_note_that_is_not_silent_stops_the_run(office: Office, fault: str, said: str) -> None:
    """It is recorded as what it is, and nothing more is written."""
    filled(office, fault)
    for number in office.numbers.values():
        office.tickiti.tickets[int(number)].status = "closed"
    result = office.deliver(concurrency=1)
    assert isinstance(result.ended_by, SafetyLimit)
    assert said in str(result.ended_by)
    assert office.counts() == {"delivered": 3, "pending": 1}
    assert sum(one.path == "tickets/respond" for one in office.tickiti.requests) == 1


@pytest.mark.parametrize(("generation", "state"), [("july", "refused"), ("october", "delivered")])
def test_a_closed_ticket_stays_closed(office: Office, generation: str, state: str) -> None:
    """October keeps the status; before, such a ticket gets no note, until it is open."""
    filled(office, generation=generation)
    ticket = office.tickiti.tickets[int(office.numbers[2])]
    ticket.status = "closed"
    result = office.deliver()
    assert (result.ended_by, ticket.status) == (None, "closed")
    assert office.counts().get(state, 0) == (1 if state == "refused" else 4)
    ticket.status = "open"
    office.deliver()
    assert office.counts() == {"delivered": 4}
    assert office.there() == office.wanted()


def second_machine(office: Office, tmp_path: Path) -> Archive:
    """Open a copy of the archive that knows of no delivery."""
    shutil.copytree(office.root / "blobs", tmp_path / "other" / "blobs", copy_function=_link)
    for name in ("checkpoint.db", "checkpoint.db-wal"):
        shutil.copy(office.root / name, tmp_path / "other" / name)
    return open_archive(tmp_path / "other", command="test")


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


@pytest.mark.parametrize("fault", [[], ["no_hash"]])
def test_another_machine_finds_what_stands_there(
    office: Office, tmp_path: Path, fault: list[str]
) -> None:
    """It writes nothing, and its ledger says the same, also where only bytes can prove it."""
    filled(office, *fault)
    with second_machine(office, tmp_path) as other:
        office.deliver()
        writes = office.writes()
        result = office.deliver(archive=other)
        assert (result.files["already"], result.files["delivered"]) == (4, 0)
        assert office.writes() == writes
        assert other.queries.delivery_totals(office.tickiti.url)["delivered"].n == 4
    assert_true(office)


@pytest.mark.slow
@pytest.mark.parametrize("faults", [["slow_write"], ["slow_write", "key_forgotten%100"]])
def test_two_machines_at_once(office: Office, tmp_path: Path, faults: list[str]) -> None:
    """What both wrote is there once in the end, even if the target remembers no key."""
    import threading

    filled(office, *faults)
    with second_machine(office, tmp_path) as other:
        thread = threading.Thread(target=lambda: office.deliver(archive=other))
        thread.start()
        office.deliver()
        thread.join()
    for _ in range(2):
        office.deliver()
    assert office.there() == office.wanted()
    assert_true(office)


def test_what_another_machine_wrote_in_a_pause_is_not_written_again(
    office: Office, tmp_path: Path
) -> None:
    """After a pause the ticket is read before a note is sent."""
    filled(office)
    with second_machine(office, tmp_path) as other, ThreadPoolExecutor(1) as thread:

        def uploaded(_number: int) -> bool:
            last = [one.path for one in office.tickiti.requests if one.status == 200][-1:]
            if pausing := not written and last == ["tickets/attachment-upload"]:
                written.append(1)
                office.halted = None
                thread.submit(office.deliver, archive=other).result()
            return pausing

        written = list[int]()
        office.halted = Pauses(office, uploaded)
        office.deliver()
        notes = [one for one in office.tickiti.requests if one.path == "tickets/respond"]
    assert written
    assert len(notes) == 2
    assert_true(office)


def test_a_sync_that_added_merged_and_deleted(office: Office) -> None:
    """New files come in a new note, merged ones stay where they are, deleted ones too."""
    filled(office)
    office.deliver()
    office.ticket(3, b"five")
    office.archive.ledger.mark_merged(2, 1)
    (first, *_) = office.archive.threads.attachments_of_ticket(1)
    office.archive.ledger.mark_deleted(first.id, "gone")
    office.open_there(office.tickiti, 3)
    result = office.deliver()
    assert (result.files, result.notes) == ({"delivered": 1}, 1)
    assert sorted(office.there().values()) == [1] * 5
    assert office.tickiti.mails == []


def test_an_id_that_became_another_file_is_delivered_too(office: Office) -> None:
    """The same id with other bytes is another file; the earlier one stays."""
    filled(office)
    office.deliver()
    ids = [row.id for row in office.archive.threads.attachments_of_ticket(2)]
    office.ids = iter(ids)  # type: ignore[assignment]
    office.ticket(2, ("other.txt", b"quite another file"))
    result = office.deliver()
    assert (result.files["delivered"], len(office.there())) == (1, 5)


def test_mapped_to_the_wrong_ticket_nothing_is_written(office: Office) -> None:
    """Subject and requester are compared first; it can be overruled."""
    filled(office)
    one, two = office.numbers[1], office.numbers[2]
    office.numbers = {1: two, 2: one}
    office.archive.access.apply_config({}, office.numbers)
    result = office.deliver()
    assert (office.counts(), result.notes) == ({"refused": 4}, 0)
    assert "its subject there is 'Question 2'" in result.troubles[0]
    assert not office.there()
    office.deliver(trust=True)
    assert office.counts() == {"delivered": 4}


def test_refusals_are_told_once(office: Office) -> None:
    """A blocked type and a large file are named in the note, with SHA-256; nothing is repeated."""
    office.ticket(1, ("a.exe", b"MZ"), ("big.txt", b"x" * 5000), b"good")
    office.open_there(Tickiti(), 1)
    for more in ({}, {}, {"recheck": True}):
        office.deliver(max_upload=4000, **more)  # type: ignore[arg-type]
        assert office.counts() == {"delivered": 1, "refused": 1, "too_large": 1}
    _, note = office.tickiti.responses(int(office.numbers[1]))
    assert note.html.count("Not attached") == 2
    assert all((row.sha256 or "") in note.html for row in office.archive.queries.rows())


def test_what_was_refused_is_tried_again_once_the_rule_has_changed(office: Office) -> None:
    """With ``recheck``, the files that a note names as not taken are sent, too, and only these."""
    office.ticket(1, ("a.exe", b"MZ"), ("big.txt", b"x" * 5000), b"good")
    office.open_there(Tickiti(), 1)
    office.deliver(max_upload=4000)
    office.tickiti.desk.blocked.clear()
    office.deliver()
    assert office.counts() == {"delivered": 1, "refused": 1, "too_large": 1}
    office.deliver(recheck=True)
    assert office.counts() == {"delivered": 3}
    assert len(office.tickiti.files(int(office.numbers[1]))) == 3


def test_texts_go_along_as_a_file(office: Office) -> None:
    """One file for each ticket with posts, and again only when the texts have changed."""
    filled(office)
    office.ticket(3)
    office.open_there(office.tickiti, 3)
    result = office.deliver(threads=True)
    assert (result.files, result.texts) == ({"delivered": 4}, {"delivered": 3})
    texts = office.tickiti.files(int(office.numbers[3]))
    assert [one.name for one in texts] == ["conversation-of-ticket-3.txt"]
    assert b"Hi" in office.tickiti.read(texts[0])
    writes = office.writes()
    office.deliver(threads=True)
    assert office.writes() == writes


@pytest.mark.parametrize("path", ["tickets/attachment-upload", "tickets/respond", "tickets/show"])
def test_interrupted_anywhere_it_goes_on(
    office: Office, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """What was under way is finished or found; nothing is there twice."""
    filled(office)
    real: Callable[..., object] = Client._json

    async def interrupted(self: Client, called: str, *args: object, **more: object) -> object:
        found = await real(self, called, *args, **more)  # type: ignore[misc]
        if called == path and office.stop is not None:
            office.stop.ask()
        return found

    monkeypatch.setattr(Client, "_json", interrupted)
    result = office.deliver()
    assert isinstance(result.ended_by, Interrupted)
    monkeypatch.undo()
    office.deliver()
    assert office.there() == office.wanted()
    assert office.counts() == {"delivered": 4}


def test_the_note_is_internal_and_silent(office: Office) -> None:
    """Every request for a note says so, and has no field that could mail or reopen."""
    filled(office)
    office.deliver()
    for one in office.tickiti.requests:
        if one.path == "tickets/respond":
            assert one.params["is_internal"] is True
            assert one.params["keep_status"] is True
            assert set(one.params) == {
                *("ticket_number", "from_email", "content", "is_internal", "keep_status"),
                "attachments",
            }
            assert not set("@#") & set(str(one.params["content"]))
            assert one.key
            assert json.dumps(one.params)


@pytest.mark.parametrize(
    "fault",
    [
        [],
        *(
            pytest.param([one], marks=pytest.mark.slow)
            for one in ("lost_answer_and_key", "error_after", "key_forgotten%50", "not_json")
        ),
    ],
)
def test_tickets_are_made_only_on_request_and_once(office: Office, fault: list[str]) -> None:
    """They are closed and not public, hold their files, and --undo removes them."""
    office.ticket(1, b"one")
    office.ticket(2, b"two")
    office.open_there(Tickiti(faults=fault))
    office.deliver()
    assert (office.counts(), office.tickiti.tickets) == ({"refused": 2}, {})
    assert office.deliver(create="Support", writes=False).created == 2
    assert not office.tickiti.tickets
    for _ in range(2):
        office.deliver(create="Support")
    office.deliver()
    assert office.counts() == {"delivered": 2}
    made = list(office.tickiti.tickets.values())
    assert sorted(one.subject for one in made) == ["Question 1", "Question 2"]
    assert {(one.status, one.queue, one.originator_email) for one in made} == {
        ("closed", "Support", AUTHOR)
    }
    assert sorted(len(office.tickiti.files(one)) for one in made) == [1, 1]
    assert (office.tickiti.mails, office.tickiti.tags) == ([], [])
    made[0].status = "open"
    office.tickiti.desk.write(made[0], "tom.hale@example.com", "<p>Mine</p>", internal=True)
    undone = office.undo()
    assert undone.counts == {"removed": 3, "left": 1}
    assert [one.deleted_at is None for one in made] == [True, False]


def test_an_older_tickiti_makes_no_tickets(office: Office) -> None:
    """It cannot make a closed one, so that it would not be silent."""
    office.ticket(1, b"one")
    office.open_there(Tickiti(generation="july"))
    result = office.deliver(create="Support")
    assert "cannot make a ticket that is closed" in result.troubles[0]
    assert not office.tickiti.tickets


def test_a_file_that_somebody_removed_can_be_delivered_again(office: Office) -> None:
    """The note that still names it does not count as having it."""
    filled(office)
    office.deliver()
    note = office.tickiti.responses(int(office.numbers[1]))[1]
    del office.tickiti.desk.attachments[note.attachments.pop(0).id]
    assert office.verify().counts["vanished"] == 1
    assert office.counts() == {"delivered": 3, "failed": 1}
    office.deliver()
    assert office.counts() == {"delivered": 3, "failed": 1}
    office.deliver(recheck=True)
    assert office.counts() == {"delivered": 4}
    assert office.there() == office.wanted()


@pytest.mark.parametrize("wanted", [{"threads": True}, {}, {"recheck": True}], ids=str)
def test_a_limit_counts_tickets_that_are_written_into(
    office: Office, wanted: dict[str, Any]
) -> None:
    """Those that have all, or cannot have a note, take no place; also in a dry run."""
    for number in range(1, 7):
        office.ticket(number, b"%d" % number)
    office.open_there(Tickiti(), 2, 3, 4, 5, 6)  # 1 has no number
    office.deliver(tickets=frozenset({2}), **wanted)
    assert office.deliver(limit=2, writes=False, **wanted).notes == 2
    assert office.deliver(limit=2, **wanted).notes == 2
    assert office.deliver(limit=1, tickets=frozenset({2, 3, 5, 6}), **wanted).notes == 1
    assert office.deliver(limit=9, departments=frozenset({1}), **wanted).notes == 1
    assert office.counts() == {"delivered": 5, "refused": 1}


@pytest.mark.parametrize(
    "happens", ["deleted", "file_deleted", "other_file", "merged", "gone_there"]
)
@pytest.mark.parametrize("arrived", [False, True])
def test_a_note_under_way_when_its_ticket_goes_has_an_outcome(
    office: Office, happens: str, *, arrived: bool
) -> None:
    """Nothing stays pending, whether or not the note had arrived; nothing more is written."""
    office.ticket(1, b"one")
    office.ticket(2, b"two")
    fault = "token_revoked:tickets/show@3" if arrived else "token_revoked:tickets/respond"
    office.open_there(Tickiti(faults=[fault]), 1, 2)
    keys = dict(office.tickiti.desk.keys)
    assert isinstance(office.deliver(tickets=frozenset({1})).ended_by, SourceRefused)
    assert office.counts() == {"pending": 2}
    (row,) = office.archive.threads.attachments_of_ticket(1)
    if happens == "deleted":
        office.archive.ledger.mark_ticket_deleted(1)
    elif happens == "file_deleted":
        office.archive.ledger.mark_deleted(row.id, "gone")
    elif happens == "other_file":
        office.ids = iter([row.id])  # type: ignore[assignment]
        office.ticket(1, ("other.txt", b"another"))
    elif happens == "merged":
        office.archive.ledger.mark_merged(1, 2)
    else:
        office.archive.ledger.mark_deleted(row.id, "gone")
        office.tickiti.tickets[int(office.numbers[1])].deleted_at = 1
    office.tickiti.faults = Tickiti().faults
    office.tickiti.desk.keys.update(keys)
    for _ in range(2):
        result = office.deliver()
        assert (result.ended_by, result.troubles) == (None, [])
    states = {one.sha256: one.state for one in office.archive.queries.delivered_lines()}
    assert "pending" not in states.values()
    assert (states[row.sha256 or ""] == "delivered") == (
        happens == "merged" or (arrived and happens != "gone_there")
    )
    files = Counter(sha256 for _, _, sha256 in office.there().elements())
    assert set(files.values()) == {1}
    assert office.tickiti.mails == []
