"""Files that texts link to: each fetched once, from the helpdesk's own host, and kept."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from migrator.archive import Archive
from migrator.archive.records import Row, note_id
from migrator.pull.audit import AuditReport, audit
from migrator.pull.fetch import Fetcher
from migrator.pull.links import MARK
from migrator.pull.options import RunOptions, RunResult
from migrator.pull.run import run
from migrator.pull.verify import repair, verify
from migrator.sandbox.kayako import KIND_FAULTS, Helpdesk, SandboxOptions, SandboxServer, Truth
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from migrator.sources.kayako.source import connect
from tests.blobs.layout import path_of
from tests.pull.test_all_faults import brief

FAULTS = frozenset(KIND_FAULTS["linked"]) - {"linked_drips"}


def settings_for(server: SandboxServer, *, user: str = "") -> KayakoSettings:
    keys = Credentials(server.api_key, server.secret_key, user, user)
    return KayakoSettings(server.url, keys, concurrency=4, timeout=20)


def pull(
    server: SandboxServer,
    archive: Archive,
    *,
    linked: bool = True,
    user: str = "",
    custom_fields: bool = False,
) -> RunResult:
    """Do one run against the server, with its texts."""
    options = RunOptions(
        server.url, posts=True, linked=linked, custom_fields=custom_fields, concurrency=4
    )

    async def main(pool: ThreadPoolExecutor) -> RunResult:
        async with connect(settings_for(server, user=user), pool=pool, sleep=brief) as source:
            fetcher = Fetcher(source, archive.blobs, pool)
            return await run(source, archive, fetcher, options)

    with ThreadPoolExecutor(4) as pool:
        return asyncio.run(main(pool))


def linked(archive: Archive) -> list[Row]:
    return [row for row in archive.queries.rows() if row.kind == "linked"]


def outcomes(archive: Archive) -> dict[str, Truth]:
    """Give what the archive knows of each address, in the words of the sandbox."""
    return {
        row.place: Truth(row.state.value, row.problem, row.sha256, row.size)
        for row in linked(archive)
    }


def truths(desk: Helpdesk) -> dict[str, Truth]:
    """Give what the archive is to know: what only articles link to is theirs to tell."""
    told = desk.truths["linked"]
    of_tickets = {
        path
        for path in told
        if any(kind not in ("article", "step") for kind, _ in desk.texts_with(path))
    }
    return {path: replace(told[path], faults=()) for path in of_tickets}


def test_every_link_ends_in_its_truth(archive: Archive) -> None:
    """With all faults on; no request carries a key or leaves the host, and none is made twice."""
    desk = Helpdesk.build(SandboxOptions(seed=2, tickets=14, faults=FAULTS))
    with SandboxServer(desk) as server:
        pull(server, archive, user="admin")
        assert outcomes(archive) == truths(desk)
        assert server.strayed == []
        assert len(server.visits) > len(desk.links)
        for visit in server.visits:
            assert not visit.headers.keys() & {"authorization", "cookie", "referer"}
            assert server.api_key not in visit.target
            assert "signature" not in visit.target
            assert "index.php" not in visit.target
        before = len(server.visits)
        pull(server, archive)
        again = {visit.target for visit in server.visits[before:]}
        failed = {path for path, one in truths(desk).items() if one.state == "failed"}
        assert again <= failed
        assert outcomes(archive) == truths(desk)
    assert asyncio.run(verify(archive)).exit_code == 0


def test_a_file_belongs_to_the_first_text_of_its_ticket(archive: Archive) -> None:
    desk = Helpdesk.build(SandboxOptions(seed=2, tickets=14))
    with SandboxServer(desk) as server:
        pull(server, archive)
        before = len(server.visits)
        # The file of several tickets is asked for once, as a logo in each reply should be.
        places = sorted({row.place for row in linked(archive)})
        assert sorted(visit.target for visit in server.visits) == places
        assert len(places) < len(linked(archive))
        pull(server, archive)
        assert len(server.visits) == before
    rows = linked(archive)
    assert len({row.id for row in rows}) == len(rows) > len(desk.links) - 1
    for row in rows:
        assert 5 * 10**15 <= row.id < 5 * 10**15 + 2**50
        posts = archive.threads.responses(row.ticket_id)
        (first,) = [post for post in posts if row.place in post.text][:1]
        assert first.id == row.post_id


def test_a_merge_adds_no_row(archive: Archive) -> None:
    """The survivor's texts name what the merged ticket linked to: it is not listed twice."""
    desk = Helpdesk.build(SandboxOptions(seed=2, tickets=14))
    with SandboxServer(desk) as server:
        pull(server, archive)
        before = {row.id: row.place for row in linked(archive)}
        old = linked(archive)[0].ticket_id
        into = next(t.id for t in desk.tickets.values() if t.department_id and t.id != old)
        desk.merge(old, into)
        desk.tickets[into] = replace(
            desk.tickets[into], last_activity=desk.tickets[into].last_activity + 10
        )
        visits = len(server.visits)
        pull(server, archive)
        assert len(server.visits) == visits
    assert {row.id: row.place for row in linked(archive)} == before
    moved = [row for row in linked(archive) if row.ticket_id == into]
    assert moved


def test_notes_about_people_link_too(archive: Archive) -> None:
    """They belong to no ticket, and so does what they link to."""
    desk = Helpdesk.build(SandboxOptions(seed=2, tickets=14))
    with SandboxServer(desk) as server:
        path = next(iter(desk.links))
        for (kind, _), notes in desk.notes.items():
            if kind in ("user", "userorganization"):
                notes[:] = [replace(one, text=f"{server.portal}{path}") for one in notes]
        pull(server, archive)
        rows = [row for row in linked(archive) if not row.ticket_id]
    assert [(row.place, row.post_id, row.state) for row in rows] == [(path, 0, "stored")]
    assert archive.threads.linked_files(0) == rows


def test_values_of_custom_fields_link_too(archive: Archive) -> None:
    """What a value links to belongs to the response of the fields."""
    desk = Helpdesk.build(SandboxOptions(seed=2, tickets=14))
    with SandboxServer(desk) as server:
        path = [*desk.links][-1]
        ticket, values = next(
            (key, one)
            for key, one in desk.field_values.items()
            if (of := desk.tickets.get(key)) is not None and of.department_id
        )
        field = next(key for key, one in values.items() if isinstance(one, str))
        values[field] = f"{server.portal}{path}"
        pull(server, archive, custom_fields=True)
        rows = {(row.ticket_id, row.place): row for row in linked(archive)}
    assert rows[ticket, path].state == "stored"
    assert rows[ticket, path].post_id == note_id("customfield", ticket)


def test_an_archive_with_texts_is_completed_once(archive: Archive) -> None:
    """Texts that were read before are looked at, without a request for them."""
    desk = Helpdesk.build(SandboxOptions(seed=2, tickets=14))
    with SandboxServer(desk) as server:
        pull(server, archive, linked=False)
        assert (server.visits, linked(archive)) == ([], [])
        asked = len(server.requests)
        pull(server, archive)
        assert outcomes(archive) == truths(desk)
        assert [path for _, path in server.requests[asked:] if "TicketPost" in path] == []
        mark = archive.queries.mark(MARK)
        assert mark is not None
        pull(server, archive)
        assert archive.queries.mark(MARK) == mark
        pull(server, archive, linked=False)
        left = archive.queries.mark(MARK)
        assert left is not None
        assert left.value == 0


def test_verify_repairs_and_audit_compares(archive: Archive) -> None:
    desk = Helpdesk.build(SandboxOptions(seed=2, tickets=14))
    with SandboxServer(desk) as server:
        pull(server, archive)
        row = linked(archive)[0]
        assert row.sha256
        path_of(archive, row.sha256).unlink()

        async def main() -> AuditReport:
            async with connect(settings_for(server), sleep=brief) as source:
                report = await verify(archive)
                assert report.lost == [row.sha256]
                await repair(archive, source, report)
                assert report.repaired == [row.sha256]
                rows = linked(archive)
                done = AuditReport(len(rows), len(rows))
                await audit(iter(rows), done, source, archive.blobs, concurrency=2)
                return done

        done = asyncio.run(main())
    assert (done.exit_code, done.agreed) == (0, len(linked(archive)))


@pytest.mark.parametrize("fault", ["linked_oversize", "linked_loop", "linked_moved_foreign"])
def test_a_file_that_is_refused_says_why(archive: Archive, fault: str) -> None:
    desk = Helpdesk.build(SandboxOptions(seed=2, tickets=14, faults=frozenset({fault})))
    words = {
        "linked_oversize": "is larger than 67,108,864 bytes",
        "linked_loop": "its redirects come to no end",
        "linked_moved_foreign": "is not this file on this server",
    }
    with SandboxServer(desk) as server:
        pull(server, archive)
        assert server.strayed == []
    told = [row.detail or "" for row in linked(archive) if row.state == "failed"]
    assert told
    assert all(words[fault] in one for one in told)
