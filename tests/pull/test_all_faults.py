"""The pretended Kayako with everything wrong that can be, over a real socket."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.archive import Archive, open_archive, open_dry
from migrator.events import Event
from migrator.plan.dry_run import Sampled
from migrator.pull.fetch import Fetcher
from migrator.pull.options import RunOptions, RunResult
from migrator.pull.run import run
from migrator.pull.verify import VerifyReport, repair, verify
from migrator.sandbox.kayako import (
    KIND_FAULTS,
    TICKET_FAULTS,
    Helpdesk,
    SandboxOptions,
    SandboxServer,
    Truth,
)
from migrator.sources.base import Scope
from migrator.sources.kayako.client import Client
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from migrator.sources.kayako.source import KayakoSource, connect
from tests.blobs.layout import path_of
from tests.pull.doubles import Ear, states, temporary

pytestmark = pytest.mark.slow

QUICK = SandboxOptions(seed=3, tickets=12)


async def brief(seconds: float) -> None:
    """Wait for a moment instead of the time between two tries."""
    await asyncio.sleep(min(seconds, 0.01))


def settings_for(server: SandboxServer, concurrency: int) -> KayakoSettings:
    keys = Credentials(server.api_key, server.secret_key)
    return KayakoSettings(server.url, keys, concurrency=concurrency, timeout=20, page_size=7)


def pull(
    server: SandboxServer,
    archive: Archive,
    *,
    concurrency: int = 8,
    dry: bool = False,
    scope: Scope | None = None,
    ear: Ear | None = None,
) -> RunResult:
    """Do one run against the server."""
    settings = settings_for(server, concurrency)
    options = RunOptions(server.url, scope=scope or Scope(), concurrency=concurrency)

    async def main(pool: ThreadPoolExecutor) -> RunResult:
        async with connect(settings, pool=pool, sleep=brief) as source:
            fetcher = Fetcher(source, archive.blobs, pool)
            fetch = Sampled(fetcher) if dry else fetcher
            return await run(source, archive, fetch, options, listener=ear or Ear())

    with ThreadPoolExecutor(4) as pool:
        return asyncio.run(main(pool))


def outcomes(archive: Archive) -> dict[int, Truth]:
    """Give what the archive knows, in the words of the sandbox."""
    return {
        row.id: Truth(row.state.value, row.problem, row.sha256, row.size)
        for row in archive.queries.rows()
    }


def truth(desk: Helpdesk) -> dict[int, Truth]:
    """Give what a perfect pull knows."""
    return {key: replace(one, faults=()) for key, one in desk.truth.items()}


def differences(found: dict[int, Truth], desk: Helpdesk) -> dict[int, object]:
    """Give what is not as it should be, with the fault that caused it."""
    wanted = desk.truth
    return {
        key: (found.get(key), wanted.get(key))
        for key in found.keys() | wanted.keys()
        if found.get(key) != truth(desk).get(key)
    }


def test_every_attachment_ends_in_its_truth(archive: Archive) -> None:
    """With all faults on: state, problem, hash and size of each are those of a perfect pull."""
    desk = Helpdesk.build(SandboxOptions(seed=1, tickets=60, faults=frozenset({"all"})))
    with SandboxServer(desk) as server:
        result = pull(server, archive, concurrency=16)
        assert differences(outcomes(archive), desk) == {}
        assert (result.exit_code, result.proven) == (3, False)
        assert_gaps_told(result, desk)
        assert temporary(archive) == []
        for key, one in outcomes(archive).items():
            if one.sha256 is not None:
                assert path_of(archive, one.sha256).stat().st_size == one.size, key
        before = len(server.requests)
        assert pull(server, archive, concurrency=1).exit_code == 3
        again = {path for _, path in server.requests[before:] if is_fetch(path)}
        failed = {key for key, state in states(archive).items() if state == "failed"}
        assert {int(path.rsplit("/", 1)[1]) for path in again} == failed
        assert differences(outcomes(archive), desk) == {}
    report = asyncio.run(verify(archive))
    assert (report.exit_code, report.orphaned) == (0, [])


def assert_gaps_told(result: RunResult, desk: Helpdesk) -> None:
    """Tickets that could not be seen are named by id, or their rows are; and no other ticket is."""
    assert desk.gaps.keys() >= result.unlisted.keys()
    unnamed = {key for key, fault in desk.gaps.items() if TICKET_FAULTS[fault].hidden}
    unnamed -= result.unlisted.keys()
    assert {desk.gaps[key] for key in unnamed} <= {"refused_ticket"}
    assert len(result.unreadable) >= len(unnamed)


def is_fetch(path: str) -> bool:
    return "TicketAttachment" in path and "ListAll" not in path


@pytest.mark.parametrize(
    "fault", ["no_count", "no_paging", "random_order", "posts_desc", "stray_warning"]
)
def test_an_odd_helpdesk_is_pulled_whole(archive: Archive, fault: str) -> None:
    """Old versions and noisy ones give every attachment, and the run is green."""
    desk = Helpdesk.build(replace(QUICK, faults=frozenset({fault})))
    with SandboxServer(desk) as server:
        result = pull(server, archive)
    assert differences(outcomes(archive), desk) == {}
    assert (result.exit_code, result.unlisted) == (0, {})


def test_a_list_that_always_fails_is_told(archive: Archive) -> None:
    """The ticket is named, the rest is pulled, exit 3."""
    desk = Helpdesk.build(replace(QUICK, faults=frozenset({"list_500"})))
    with SandboxServer(desk) as server:
        result = pull(server, archive)
    assert list(result.unlisted) == [desk.unlistable_ticket]
    assert differences(outcomes(archive), desk) == {}
    assert result.exit_code == 3


def test_a_ticket_trashed_during_the_walk_hides_no_other(archive: Archive) -> None:
    """Rows that move up are met all the same."""
    desk = Helpdesk.build(replace(QUICK, tickets=40, faults=frozenset({"drift"})))
    with SandboxServer(desk) as server:
        result = pull(server, archive)
    assert desk.truth.keys() <= outcomes(archive).keys()
    assert result.exit_code == 0


@pytest.mark.parametrize("fault", ["auth_fail", "api_off", "down"])
def test_a_source_that_refuses_or_is_down_ends_the_run(archive: Archive, fault: str) -> None:
    """Exit 4, nothing recorded, and no key in the text."""
    desk = Helpdesk.build(replace(QUICK, faults=frozenset({fault})))
    with SandboxServer(desk) as server:
        result = pull(server, archive)
        keys = (server.api_key, server.secret_key)
    assert (result.exit_code, states(archive)) == (4, {})
    assert not any(key in str(result.ended_by) for key in keys)


def test_a_server_that_dies_in_mid_run_is_gone_on_with(archive: Archive) -> None:
    """Exit 4 when it goes, and the next run fetches only the rest."""
    desk = Helpdesk.build(replace(QUICK, tickets=40))
    heard: list[Event] = []

    def down(event: Event) -> None:
        heard.append(event)
        if len(heard) == 20:
            desk.set_fault("down", on=True)

    with SandboxServer(desk) as server:
        assert pull(server, archive, ear=Ear(down)).exit_code == 4
        done = {key for key, state in states(archive).items() if state == "stored"}
        desk.set_fault("down", on=False)
        before = len(server.requests)
        assert pull(server, archive).exit_code == 0
        asked = [path for _, path in server.requests[before:] if is_fetch(path)]
    assert len(asked) == len(desk.truth) - len(done)
    assert differences(outcomes(archive), desk) == {}


def test_the_trash_comes_when_it_is_asked_for(archive: Archive) -> None:
    """Attachments of trashed tickets are pulled too, and stay when they are not listed again.

    Kayako heeds a status of one department only where that department is named, which the trash
    forbids: a trashed ticket in such a status is in no list.
    """
    desk = Helpdesk.build(replace(QUICK, tickets=40))
    listed = {key for key in desk.trash_truth if not bound(desk, key)}
    assert listed
    with SandboxServer(desk) as server:
        assert pull(server, archive, scope=Scope(include_trash=True)).exit_code == 0
        assert outcomes(archive).keys() == desk.truth.keys() | listed
        assert pull(server, archive).exit_code == 0
    assert set(states(archive).values()) == {"stored"}


def bound(desk: Helpdesk, attachment: int) -> bool:
    """Tell whether the status of an attachment's ticket is one of a single department."""
    ticket = desk.tickets[desk.attachments[attachment].ticket_id]
    return desk.statuses[ticket.status_id].department_id != 0


def test_between_two_runs_people_work(archive: Archive) -> None:
    """Merged, deleted, trashed and added: the second run tells each from the others."""
    desk = Helpdesk.build(replace(QUICK, tickets=20))
    with SandboxServer(desk) as server:
        pull(server, archive)
        first = set(desk.truth)
        by_ticket: dict[int, list[int]] = {}
        for row in archive.queries.rows():
            by_ticket.setdefault(row.ticket_id, []).append(row.id)
        merged, survivor, deleted, trashed, *_ = by_ticket
        desk.merge(merged, survivor)
        desk.delete_ticket(deleted)
        desk.trash(trashed)
        new = desk.add_attachment(survivor, "late.txt", b"late")
        assert pull(server, archive).exit_code == 0
    rows = {row.id: row for row in archive.queries.rows()}
    assert rows.keys() == first | {new}
    assert all(rows[key].ticket_id == survivor for key in by_ticket[merged])
    gone = {key for key, row in rows.items() if row.state == "deleted"}
    assert gone == set(by_ticket[deleted])


def test_a_dry_run_leaves_no_trace(tmp_path: Path) -> None:
    """With all faults on it lists everything, and writes nothing anywhere."""
    desk = Helpdesk.build(SandboxOptions(seed=1, tickets=40, faults=frozenset({"all"})))
    with SandboxServer(desk) as server, open_dry(tmp_path / "archive") as archive:
        result = pull(server, archive, dry=True)
        assert_gaps_told(result, desk)
        assert states(archive).keys() >= desk.truth.keys()
        assert set(states(archive).values()) == {"pending"}
    assert list(tmp_path.iterdir()) == []


def test_harmed_blobs_come_back_from_the_server(tmp_path: Path) -> None:
    """Verify finds them, repair fetches them, also after their ticket was merged."""
    desk = Helpdesk.build(replace(QUICK, tickets=20))
    root = tmp_path / "archive"
    with SandboxServer(desk) as server, open_archive(root, command="test") as archive:
        pull(server, archive)
        row = next(archive.queries.rows())
        assert row.sha256 is not None
        path_of(archive, row.sha256).unlink()
        desk.merge(row.ticket_id, next(key for key in desk.tickets if key != row.ticket_id))

        async def mend() -> VerifyReport:
            async with connect(settings_for(server, 2), sleep=brief, patient=False) as source:
                report = await verify(archive)
                await repair(archive, source, report)
                return report

        report = asyncio.run(mend())
        assert (report.lost, report.repaired) == ([row.sha256], [row.sha256])
        assert asyncio.run(verify(archive)).exit_code == 0


def hasty() -> float:
    """Give the time on a clock that runs a hundred times as fast as ours."""
    return 100 * time.monotonic()


@pytest.mark.parametrize("kind", KIND_FAULTS)
def test_drips_of_each_kind_cost_that_file_alone(archive: Archive, kind: str) -> None:
    """A byte a second is given up after a minute of it: a gap or a failure, and all else comes."""
    desk = Helpdesk.build(replace(QUICK, faults=frozenset({f"{kind}_drips"})))
    heard = Ear()

    async def main(server: SandboxServer, pool: ThreadPoolExecutor) -> RunResult:
        wire = replace(settings_for(server, 4), attempts=1)
        every = RunOptions(server.url, posts=True, custom_fields=True, articles=True, linked=True)
        async with Client(wire, pool=pool, sleep=brief, clock=hasty, patient=True) as client:
            source = KayakoSource(client, concurrency=4, url=server.url)
            fetch = Fetcher(source, archive.blobs, pool)
            return await run(source, archive, fetch, every, listener=heard)

    with SandboxServer(desk) as server, ThreadPoolExecutor(4) as pool:
        result = asyncio.run(main(server, pool))
        assert (result.exit_code, result.ended_by) == (3, None)
    assert result.fields_missing.keys() == desk.field_gaps.keys()
    rows = list(archive.queries.rows())
    told = [str(text) for text in result.fields_missing.values()]
    told += [row.detail or "" for row in rows if row.state == "failed"]
    assert told
    assert all("came too slowly" in text for text in told)
    stored = Counter(row.kind for row in rows if row.state == "stored")
    for other in desk.truths.keys() - {kind, "linked"}:
        assert stored[other] == len(desk.truths[other])
    assert {row.place for row in rows if row.kind == "linked"} == desk.truths["linked"].keys()
