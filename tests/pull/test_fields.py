"""Custom fields and the files in them: each ends in its truth, and nothing is asked for twice."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.archive import Archive, ResponseFilter, open_archive
from migrator.archive.records import Row, State, note_id
from migrator.events import AttachmentSettled, Notice
from migrator.pull.audit import AuditReport, audit
from migrator.pull.fetch import SHOWN, Fetcher
from migrator.pull.options import RunOptions, RunResult
from migrator.pull.run import run
from migrator.pull.verify import VerifyReport, repair, verify
from migrator.sandbox.kayako import KIND_FAULTS, Helpdesk, SandboxOptions, SandboxServer, Truth
from migrator.sandbox.kayako.model import Attachment
from migrator.sources.base import Increment
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from migrator.sources.kayako.source import connect
from tests.blobs.layout import path_of
from tests.pull.doubles import Ear

DESK = SandboxOptions(seed=1, tickets=12)
UNLISTABLE = {"error_500", "memory", "unreadable", "refused"}
"""Faults that hide what a ticket has: then it is a gap, and no file is known."""
FAULTS = {name: fault for name, fault in KIND_FAULTS["customfield"].items() if not fault.lasting}


async def brief(seconds: float) -> None:
    """Wait for a moment instead of the time between two tries."""
    await asyncio.sleep(min(seconds, 0.01))


def settings_for(server: SandboxServer) -> KayakoSettings:
    return KayakoSettings(server.url, Credentials(server.api_key, server.secret_key), timeout=20)


def pull(
    server: SandboxServer, archive: Archive, ear: Ear | None = None, **options: object
) -> RunResult:
    """Do one run against the server that keeps posts and custom fields."""
    asked = RunOptions(server.url, posts=True, custom_fields=True)
    asked = replace(asked, **options)  # type: ignore[arg-type]

    async def main() -> RunResult:
        with ThreadPoolExecutor(4) as pool:
            async with connect(settings_for(server), pool=pool, sleep=brief) as source:
                fetch = Fetcher(source, archive.blobs, pool)
                return await run(source, archive, fetch, asked, listener=ear or Ear())

    return asyncio.run(main())


def rows(archive: Archive) -> dict[str, Row]:
    """Give the rows of files in custom fields by their place; of copies the first."""
    found: dict[str, Row] = {}
    for row in archive.queries.rows():
        if row.kind == "customfield":
            found.setdefault(row.place, row)
    return found


def outcomes(archive: Archive) -> dict[str, Truth]:
    """Give what the archive knows, in the words of the sandbox."""
    return {
        place: Truth(row.state.value, row.problem, row.sha256, row.size)
        for place, row in rows(archive).items()
    }


def truth(desk: Helpdesk) -> dict[str, Truth]:
    """Give what a perfect pull knows: a file that no reply names is not known."""
    return {
        key: replace(one, faults=())
        for key, one in desk.truths["customfield"].items()
        if not {name.removeprefix("customfield_") for name in one.faults} & UNLISTABLE
    }


def asked_for(server: SandboxServer, since: int = 0) -> list[int]:
    """Give the tickets whose custom fields were asked for."""
    paths = [path for _, path in server.requests[since:] if "/TicketCustomField/" in path]
    return [int(path.rpartition("/")[2]) for path in paths]


def with_file(desk: Helpdesk) -> tuple[int, Attachment]:
    """Give a ticket with a file in the first field, and the file."""
    for ticket, values in desk.field_values.items():
        if ticket in desk.tickets and isinstance(row := values.get(1), Attachment):
            return ticket, row
    raise AssertionError


@pytest.mark.parametrize(
    "switch", [(), ("double_base64",), ("old_fields",), ("half_fields",)], ids=str
)
@pytest.mark.slow
def test_every_file_ends_in_its_truth(archive: Archive, switch: tuple[str, ...]) -> None:
    """With all faults on, encoded once or twice; what cannot be listed is a gap by name."""
    faults = frozenset({*FAULTS, *switch})
    desk = Helpdesk.build(SandboxOptions(seed=1, tickets=60, faults=faults))
    hidden = {
        int(key.partition("/")[0])
        for key, one in desk.truths["customfield"].items()
        if key not in truth(desk)
    }
    with SandboxServer(desk) as server:
        result = pull(server, archive)
        assert outcomes(archive) == truth(desk)
        assert (result.exit_code, set(result.fields_missing)) == (3, hidden)
        assert result.verdict is not None
        assert f"custom fields of {len(hidden)} tickets" in result.verdict.sentence
        before = len(server.requests)
        again = pull(server, archive)
        assert outcomes(archive) == truth(desk)
        assert set(again.fields_missing) == hidden
        kept = rows(archive).items()
        failed = {int(at.partition("/")[0]) for at, row in kept if row.state is State.FAILED}
        tried = Counter(one for one in asked_for(server, before) if one not in hidden)
        # All of them are read again, once; only a failed file is tried again.
        assert {one for one, times in tried.items() if times > 1} <= failed
    assert asyncio.run(verify(archive)).exit_code == 0


@pytest.mark.slow
def test_a_file_that_cannot_be_had_is_told_once(archive: Archive) -> None:
    """Fields are fetched again after the reconciliation, but not what was tried in vain."""
    desk, ear = Helpdesk.build(SandboxOptions(seed=1, tickets=60, faults=frozenset(FAULTS))), Ear()
    with SandboxServer(desk) as server:
        result = pull(server, archive, ear)
    settled = Counter(one.attachment_id for one in ear.of(AttachmentSettled))
    assert result.counts[State.FAILED].n > 0
    assert set(settled.values()) == {1}


def test_half_a_reply_is_asked_for_again(tmp_path: Path) -> None:
    """The values are those of a server that sends all at once, for one more request each."""
    kept, asked = list[list[str]](), list[Counter[int]]()
    for faults in (frozenset[str](), frozenset({"half_fields"})):
        desk = Helpdesk.build(SandboxOptions(seed=1, tickets=12, faults=faults))
        folder = tmp_path / ("half" if faults else "whole")
        with SandboxServer(desk) as server, open_archive(folder, command="test") as archive:
            pull(server, archive)
            found = archive.threads.query(ResponseFilter(), limit=1000)
            kept.append([one.text for one in found if one.kind == "customfield"])
            asked.append(Counter(asked_for(server)))
            assert outcomes(archive) == truth(desk)
    whole, half = kept
    assert whole == half != []
    assert asked[1] - asked[0] == Counter(asked[0].keys())


def test_values_are_one_response_and_files_hang_on_it(archive: Archive) -> None:
    """It is internal, names group and title of each value, and holds no password."""
    desk = Helpdesk.build(DESK)
    with SandboxServer(desk) as server:
        assert pull(server, archive).exit_code == 0
    assert outcomes(archive) == truth(desk)
    ticket, file = with_file(desk)
    (found,) = [one for one in archive.threads.responses(ticket) if one.kind == "customfield"]
    assert (found.id, found.is_private, found.staff) == (
        note_id("customfield", ticket),
        True,
        True,
    )
    assert f"Order & delivery / Invoice: {file.name.decode()}" in found.text.split("\n")
    assert [row.place for row in archive.threads.attachments_of([found.id])[found.id]] == [
        f"{ticket}/1"
    ]
    texts = "\n".join(one.text for one in archive.threads.all_posts())
    assert "Device / Warranty: yes" in texts
    assert "hunter2" not in texts
    assert archive.threads.count_texts()["customfield"] > 0
    assert archive.threads.count_texts()["post"] == sum(
        one.kind == "post" for one in archive.threads.all_posts()
    )


def test_a_second_run_asks_for_nothing_but_lists(archive: Archive) -> None:
    """One request for each ticket, merged ones with a file too; none of a file."""
    desk = Helpdesk.build(DESK)
    with SandboxServer(desk) as server:
        pull(server, archive)
        before, listed = len(server.requests), outcomes(archive)
        assert pull(server, archive).exit_code == 0
        again = asked_for(server, before)
        assert len(again) == len(set(again))
        assert outcomes(archive) == listed
        before = len(server.requests)
        active = max(one.last_activity for one in archive.threads.all_tickets())
        assert pull(server, archive, increment=Increment(active + 1)).exit_code == 0
        assert asked_for(server, before) == []


def test_without_files_only_active_tickets_are_asked_again(archive: Archive) -> None:
    """Where no field holds files, a whole pass costs no request more than before."""
    desk = Helpdesk.build(replace(DESK, field_files=0))
    with SandboxServer(desk) as server:
        pull(server, archive)
        assert asked_for(server)
        before = len(server.requests)
        assert pull(server, archive).exit_code == 0
        assert asked_for(server, before) == []
    assert rows(archive) == {}


@pytest.mark.parametrize("options", [{"custom_fields": False}, {}], ids=["off", "old server"])
def test_nothing_is_asked_where_it_is_off_or_not_offered(
    archive: Archive, options: dict[str, object]
) -> None:
    """An old server is told once and is no gap."""
    desk = Helpdesk.build(
        replace(DESK, faults=frozenset() if options else frozenset({"no_fields"}))
    )
    ear = Ear()
    with SandboxServer(desk) as server:
        assert pull(server, archive, ear, **options).exit_code == 0
        assert asked_for(server) == []
    told = [one.text for one in ear.of(Notice) if "custom fields" in one.text]
    assert len(told) == (0 if options else 1)


def test_files_stay_when_they_are_no_longer_asked_for(archive: Archive) -> None:
    """Without posts they come all the same; switched off, a whole pass asks for none of them."""
    desk = Helpdesk.build(DESK)
    with SandboxServer(desk) as server:
        assert pull(server, archive, posts=False).exit_code == 0
        before, held = len(server.requests), outcomes(archive)
        assert held == truth(desk)
        assert pull(server, archive, custom_fields=False).exit_code == 0
        assert (asked_for(server, before), outcomes(archive)) == ([], held)


def test_a_whole_pass_finds_what_changed_without_activity(archive: Archive) -> None:
    """A replaced file keeps its earlier bytes, a new one comes, one that is taken away stays."""
    desk = Helpdesk.build(DESK)
    with SandboxServer(desk) as server:
        pull(server, archive)
        ticket, file = with_file(desk)
        taken = next(
            key
            for key, values in desk.field_values.items()
            if key in desk.tickets and key != ticket and isinstance(values.get(1), Attachment)
        )
        held = rows(archive)[f"{ticket}/1"]
        desk.set_field(ticket, 1, file.name, bytes(len(file.source.read())))
        desk.set_field(ticket, 7, "signed.txt", b"signed, and not a word of base64!")
        del desk.field_values[taken][1]
        result = pull(server, archive)
        assert (result.exit_code, result.changed, result.deleted) == (0, {held.id}, 1)
    found = rows(archive)
    for place in (f"{ticket}/1", f"{ticket}/7"):
        assert found[place].sha256 == desk.truths["customfield"][place].sha256
    copies = [row for row in archive.queries.rows() if row.problem == "replaced_at_source"]
    assert [(row.sha256, row.state.value, row.kind) for row in copies] == [
        (held.sha256, "deleted", "customfield")
    ]
    assert found[f"{taken}/1"].state == "deleted"


def test_files_follow_their_ticket_into_a_merge_and_stay_when_it_is_deleted(
    archive: Archive,
) -> None:
    """The old id still answers with the file; deleted tickets answer nothing."""
    desk = Helpdesk.build(replace(DESK, tickets=20))
    with SandboxServer(desk) as server:
        pull(server, archive)
        files = [
            key
            for key, values in desk.field_values.items()
            if key in desk.tickets and isinstance(values.get(1), Attachment)
        ]
        merged, deleted, survivor = files[:3]
        desk.merge(merged, survivor)
        desk.delete_ticket(deleted)
        before = len(server.requests)
        assert pull(server, archive).exit_code == 0
        again = pull(server, archive)
        assert again.exit_code == 0
        assert merged in asked_for(server, before)
    found = rows(archive)
    assert (found[f"{merged}/1"].ticket_id, found[f"{merged}/1"].state) == (survivor, "stored")
    assert found[f"{deleted}/1"].state == "deleted"
    kinds = [one.id for one in archive.threads.responses(survivor) if one.kind == "customfield"]
    assert kinds == sorted(note_id("customfield", key) for key in (merged, survivor))


def test_fields_of_a_ticket_that_was_merged_before_are_as_old_as_the_survivor(
    archive: Archive,
) -> None:
    """Its own date is not known: 1970 would be untrue, and beyond what anybody asks for."""
    desk = Helpdesk.build(replace(DESK, tickets=20))
    merged, survivor = [key for key in desk.field_values if key in desk.tickets][:2]
    desk.merge(merged, survivor)
    with SandboxServer(desk) as server:
        pull(server, archive)
    dates = {one.id: one.created_at for one in archive.threads.responses(survivor)}
    assert dates[note_id("customfield", merged)] == dates[note_id("customfield", survivor)] > 0


def test_a_sync_reads_active_tickets_and_knows_how_files_are_encoded(archive: Archive) -> None:
    """A file that is base64 itself is kept as it is, though no other one is read by the sync."""
    desk = Helpdesk.build(DESK)
    inner = base64.b64encode(b"a file that is base64 itself, and of some length" * 3)
    with SandboxServer(desk) as server:
        pull(server, archive)
        active = max(one.last_activity for one in archive.threads.all_tickets())
        ticket, _ = with_file(desk)
        desk.set_field(ticket, 7, "key.b64", inner)
        desk.tickets[ticket] = replace(desk.tickets[ticket], last_activity=active + 100)
        del desk.field_values[ticket][1]  # the only other file of this ticket
        before = len(server.requests)
        assert pull(server, archive, increment=Increment(active + 50)).exit_code == 0
        assert ticket in asked_for(server, before)
        assert len(set(asked_for(server, before))) <= 3
    row = rows(archive)[f"{ticket}/7"]
    assert (row.state, row.sha256, row.problem) == (
        "stored",
        hashlib.sha256(inner).hexdigest(),
        None,
    )


def test_fields_that_fail_are_read_by_the_next_pass_of_any_kind(archive: Archive) -> None:
    """A sync of nothing new asks for them again, and only for them."""
    fault = "customfield_memory"
    desk = Helpdesk.build(replace(DESK, faults=frozenset({fault})))
    (place,) = [key for key, one in desk.truths["customfield"].items() if fault in one.faults]
    ticket = int(place.partition("/")[0])
    with SandboxServer(desk) as server:
        result = pull(server, archive)
        assert (result.exit_code, list(result.fields_missing)) == (3, [ticket])
        active = max(one.last_activity for one in archive.threads.all_tickets())
        desk.set_fault(fault, on=False)
        before = len(server.requests)
        assert pull(server, archive, increment=Increment(active + 1)).exit_code == 0
        assert ticket in asked_for(server, before)
    assert rows(archive)[place].sha256 == desk.truths["customfield"][place].sha256


def test_a_lost_file_may_come_back(archive: Archive) -> None:
    """It is missing with a remedy in words, and asked for again with recheck."""
    fault = "customfield_missing_file"
    desk = Helpdesk.build(replace(DESK, faults=frozenset({fault})))
    with SandboxServer(desk) as server:
        assert pull(server, archive).exit_code == 3
        (lost,) = [row for row in rows(archive).values() if row.state == "missing"]
        assert lost.problem == "source_lost_file"
        assert "cloud storage" in (lost.detail or "")
        desk.set_fault(fault, on=False)
        assert pull(server, archive).exit_code == 3
        assert pull(server, archive, recheck=True).exit_code == 0
    assert rows(archive)[lost.place].state == "stored"


def test_harmed_files_come_back_and_an_audit_agrees(tmp_path: Path) -> None:
    """Verify, repair and audit know where the file is."""
    desk = Helpdesk.build(DESK)
    ticket, _ = with_file(desk)
    desk.set_field(ticket, 7, "key.b64", base64.b64encode(b"base64 itself, " * 9))
    with SandboxServer(desk) as server, open_archive(tmp_path / "a", command="test") as archive:
        pull(server, archive)
        row = rows(archive)[f"{ticket}/7"]
        assert row.sha256 is not None
        path_of(archive, row.sha256).unlink()

        async def mend() -> tuple[VerifyReport, AuditReport]:
            async with connect(settings_for(server), sleep=brief, patient=False) as source:
                report = await verify(archive)
                await repair(archive, source, report)
                files = list(rows(archive).values())
                audited = AuditReport(len(files), len(files))
            async with connect(settings_for(server), sleep=brief, patient=False) as source:
                held = archive.queries.largest("customfield", SHOWN)
                await audit(iter(files), audited, source, archive.blobs, concurrency=2, held=held)
            return report, audited

        report, audited = asyncio.run(mend())
    assert (report.lost, report.repaired) == ([row.sha256], [row.sha256])
    assert (audited.agreed, audited.exit_code) == (len(desk.truths["customfield"]), 0)
