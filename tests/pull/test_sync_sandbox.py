"""Syncs of a helpdesk that people work in end equal to a fresh pull of what it has become."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.archive import Archive, TicketRow, open_archive
from migrator.archive.replies import FIELDS as FIELD_REPLIES
from migrator.archive.replies import POSTS
from migrator.pull.fetch import Fetcher
from migrator.pull.options import DeletionLimit, RunOptions, RunResult
from migrator.pull.run import run
from migrator.pull.sync import SyncOptions, next_pass
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.sandbox.kayako.build import FIELD_GROUPS, FIELDS
from migrator.sandbox.kayako.model import Ticket
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from migrator.sources.kayako.source import connect
from tests.pull.doubles import Ear

NOW = 2_000_000_000
STAMPS = count(1_900_000_000, 1000)
"""Moments at the helpdesk, further apart than any margin here."""

Rows = dict[int, tuple[int, str, str | None]]


async def brief(seconds: float) -> None:
    """Wait for a moment instead of the time between two tries."""
    await asyncio.sleep(min(seconds, 0.01))


def sync(server: SandboxServer, archive: Archive, *, full: bool = False, **more: bool) -> RunResult:
    """Sync with a server as the command does."""
    keys = Credentials(server.api_key, server.secret_key)
    asked = RunOptions(
        server.url,
        kind="sync",
        concurrency=4,
        deletions=DeletionLimit(accept=True),
        **more,  # type: ignore[arg-type]
    )
    options = SyncOptions(margin=10, full=full)
    asked = replace(asked, increment=next_pass(archive.queries, asked, options, now=NOW).increment)

    async def main() -> RunResult:
        with ThreadPoolExecutor(2) as pool:
            wire = KayakoSettings(server.url, keys, concurrency=4, timeout=20, page_size=7)
            async with connect(wire, pool=pool, sleep=brief, patient=False) as source:
                fetch = Fetcher(source, archive.blobs, pool)
                return await run(source, archive, fetch, asked, listener=Ear(), clock=lambda: NOW)

    return asyncio.run(main())


def touch(desk: Helpdesk, ticket: int) -> None:
    """Let a ticket be active now."""
    desk.tickets[ticket] = replace(desk.tickets[ticket], last_activity=next(STAMPS))


def reply(desk: Helpdesk, ticket: int, data: bytes) -> int:
    """Let a reply with a file come in."""
    touch(desk, ticket)
    return desk.add_attachment(ticket, "reply.txt", data)


def rows(archive: Archive) -> Rows:
    """Give what counts of every attachment: its ticket, its state, its bytes."""
    return {row.id: (row.ticket_id, row.state.value, row.sha256) for row in archive.queries.rows()}


def assert_as_fresh(server: SandboxServer, archive: Archive, root: Path) -> None:
    """Compare with a fresh pull; what only we hold is deleted there, or in the trash."""
    with open_archive(root, command="test") as fresh:
        assert sync(server, fresh).exit_code in (0, 3)
        wanted = rows(fresh)
    found = rows(archive)
    assert {key: found.get(key) for key in wanted} == wanted
    for key in found.keys() - wanted.keys():
        row = archive.queries.attachment(key)
        assert row is not None
        assert row.state == "deleted" or row.department_id == 0, row


def test_a_full_sync_ends_as_a_fresh_pull(archive: Archive, tmp_path: Path) -> None:
    """After replies, silent files, merges, trash and deletions, also of what was merged."""
    desk = Helpdesk.build(SandboxOptions(seed=3, tickets=24, faults=frozenset({"missing_file"})))
    with SandboxServer(desk) as server:
        assert sync(server, archive).exit_code == 3, "the sandbox has lost a file"
        tickets = sorted({row.ticket_id for row in archive.queries.rows()})
        first, second, third, fourth, fifth, sixth, *_ = tickets
        new = reply(desk, first, b"a reply")
        silent = desk.add_attachment(second, "silent.txt", b"silent")
        late = desk.add_attachment(third, "merged.txt", b"silent, then merged")
        desk.merge(third, fourth)
        desk.merge(fourth, fifth)
        desk.trash(sixth)
        desk.delete_ticket(tickets[-1])
        dropped = min(row.id for row in archive.queries.rows() if row.ticket_id == tickets[-2])
        desk.delete_attachment(dropped)
        before = len(server.requests)
        sync(server, archive)
        assert len(server.requests) - before < 12
        found = rows(archive)
        assert new in found
        assert silent not in found
        sync(server, archive, full=True)
        found = rows(archive)
        assert (found[silent][1], found[late][:2]) == ("stored", (fifth, "stored"))
        assert found[dropped][1] == "deleted"
        assert_as_fresh(server, archive, tmp_path / "fresh")
        before = len(server.requests)
        sync(server, archive, full=True)
        asked = [path for _, path in server.requests[before:]]
        assert not [path for path in asked if path.endswith(f"/Tickets/Ticket/{third}")]
        by_id = [path for path in asked if re.search(r"/Tickets/Ticket/\d+$", path)]
        assert len(by_id) == len(set(by_id)), "a ticket was asked for twice by its id"
        others = [path for path in asked if path not in by_id]
        assert sum("/Tickets/Ticket/ListAll" not in path for path in others) < 30


KINDS = ("reply", "reply", "silent", "drop", "merge", "trash", "delete", "sync")


def happen(desk: Helpdesk, kind: str, one_of: Callable[[Iterable[int]], int]) -> None:
    """Let one thing happen that people do."""
    ticket = one_of(desk.tickets)
    match kind:
        case "reply":
            reply(desk, ticket, b"reply %d" % desk.next_attachment_id)
        case "silent":
            desk.add_attachment(ticket, "silent.txt", b"silent %d" % desk.next_attachment_id)
        case "drop" if desk.attachments:
            desk.delete_attachment(one_of(desk.attachments))
        case "merge" if (into := one_of(desk.tickets)) != ticket:
            desk.merge(ticket, into)
        case "trash":
            desk.trash(ticket)
        case "delete" if len(desk.tickets) > 2:
            desk.delete_ticket(ticket)


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(data=st.data(), seed=st.integers(1, 5))
def test_whatever_people_do_a_full_sync_ends_as_a_fresh_pull(
    data: st.DataObject, seed: int
) -> None:
    """Any order of everything that can happen, with syncs in between."""
    desk = Helpdesk.build(SandboxOptions(seed=seed, tickets=8))

    with (
        tempfile.TemporaryDirectory() as root,
        open_archive(Path(root) / "archive", command="test") as archive,
        SandboxServer(desk) as server,
    ):
        sync(server, archive)
        for kind in data.draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=8)):
            happen(desk, kind, lambda ids: data.draw(st.sampled_from(sorted(ids))))
            if kind == "sync":
                sync(server, archive)
        sync(server, archive, full=True)
        assert_as_fresh(server, archive, Path(root) / "fresh")
        archive.queries.self_check()


QUIET = 100_000


@pytest.mark.slow
def test_a_quiet_sync_with_every_kind_takes_a_handful_of_requests(archive: Archive) -> None:
    """A hundred thousand tickets with fields, articles and links: nobody asks for them again."""
    desk = Helpdesk.build(SandboxOptions(tickets=0))
    desk.custom_fields.update({one.id: one for one in FIELDS})
    desk.field_groups.update({group.id: group for group in FIELD_GROUPS})
    for number in range(1, QUIET + 1):
        times = {"created_at": 1000 + number, "last_activity": 1000 + number}
        desk.add_ticket(Ticket(number, f"T-{number}", 1, 1, "Quiet", "Ann", **times), [])  # type: ignore[arg-type]
    with SandboxServer(desk) as server:
        run_id = archive.ledger.begin_run("run", source=server.url, scope={}).id
        threads, replies = archive.threads, archive.replies
        with archive.ledger.atomic():
            known = [
                TicketRow(n, 1, f"T-{n}", "Quiet", 1000 + n, 1000 + n, 1, "Ann")
                for n in desk.tickets
            ]
            archive.ledger.record_tickets(run_id, [(ticket, []) for ticket in known])
            for n in desk.tickets:
                threads.skip(run_id, n, activity=1000 + n)
                threads.skip_fields(n, activity=1000 + n)
                replies.mark(n, POSTS, activity=1000 + n)
                replies.mark(n, FIELD_REPLIES, activity=1000 + n)
        archive.ledger.set_mark("watermark", 1000 + QUIET, run_id=run_id)
        archive.ledger.set_mark("full_pass", NOW - 1000, run_id=run_id)
        archive.ledger.finish_run(run_id, exit_code=0, summary={})
        every = dict.fromkeys(("posts", "custom_fields", "articles", "linked", "replies"), True)
        result = sync(server, archive, **every)
        asked = [path for _, path in server.requests]
    assert (result.exit_code, result.ended_by, result.tickets) == (0, None, 11)
    # Those that were active within the margin are listed again.
    lists = [path for path in asked if "/TicketAttachment/ListAll/" in path]
    assert len(lists) == result.tickets
    assert len(asked) - len(lists) <= 12, asked
    assert not [path for path in asked if "TicketCustomField" in path or "Knowledge" in path]
