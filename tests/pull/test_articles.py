"""The knowledge base and the troubleshooter, from the pretended Kayako into an archive."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from migrator.archive.records import State
from migrator.errors import SafetyLimit
from migrator.events import Notice
from migrator.pull.audit import AuditReport, audit
from migrator.pull.fetch import Fetcher
from migrator.pull.options import RunOptions, RunResult
from migrator.pull.run import run
from migrator.pull.verify import repair, verify
from migrator.report.verdict import judge, look
from migrator.sandbox.kayako import KIND_FAULTS, Helpdesk, SandboxOptions, SandboxServer, routes
from migrator.sandbox.kayako.messages import text
from migrator.sources.base import Scope
from migrator.sources.kayako.articles import BASES, MISSES
from migrator.sources.kayako.source import connect
from tests.blobs.layout import path_of
from tests.pull.doubles import Ear
from tests.pull.test_all_faults import brief, settings_for

if TYPE_CHECKING:
    from migrator.archive import Archive

KINDS = tuple(BASES)


def build(*faults: str, **options: Any) -> Helpdesk:
    """Build a helpdesk with few tickets."""
    return Helpdesk.build(SandboxOptions(seed=5, tickets=3, faults=frozenset(faults), **options))


def test_files_that_articles_link_to_are_pulled(archive: Archive) -> None:
    """They belong to no ticket either."""
    desk = build()
    with SandboxServer(desk) as server:
        pull(server, archive, linked=True)
    linked = [row for row in archive.queries.rows() if row.kind == "linked" and not row.ticket_id]
    assert linked
    assert {row.state for row in linked} == {State.STORED}
    assert {row.place for row in linked} <= desk.truths["linked"].keys()


def pull(
    server: SandboxServer, archive: Archive, ear: Ear | None = None, **options: Any
) -> RunResult:
    """Do one run that reads articles, too."""
    asked = RunOptions(server.url, **{"articles": True, **options})

    async def main(pool: ThreadPoolExecutor) -> RunResult:
        async with connect(settings_for(server, 8), pool=pool, sleep=brief) as source:
            fetch = Fetcher(source, archive.blobs, pool)
            return await run(source, archive, fetch, asked, listener=ear or Ear())

    with ThreadPoolExecutor(4) as pool:
        return asyncio.run(main(pool))


def found(archive: Archive, kind: str) -> dict[str, tuple[Any, ...]]:
    """Give what the archive knows of the files of a kind, by Kayako's id."""
    return {
        str(row.id - BASES[kind]): (row.state.value, row.sha256, row.size)
        for row in archive.queries.rows()
        if row.kind == kind
    }


def wanted(desk: Helpdesk, kind: str) -> dict[str, tuple[Any, ...]]:
    """Give what a perfect pull knows."""
    return {key: (one.state, one.sha256, one.size) for key, one in desk.truths[kind].items()}


def paths(server: SandboxServer, since: int = 0) -> list[str]:
    """Give the paths that were asked for."""
    return [path for _, path in server.requests[since:]]


def test_every_file_of_every_article_is_pulled(archive: Archive) -> None:
    """Drafts, and those whose flag says that they have none; a second run fetches nothing."""
    desk = build()
    with SandboxServer(desk) as server:
        result = pull(server, archive)
        assert (result.exit_code, result.articles) == (0, 10)
        for kind in KINDS:
            assert found(archive, kind) == wanted(desk, kind)
        before = len(server.requests)
        assert pull(server, archive).exit_code == 0
        again = paths(server, before)
    assert sum("/Attachment/ListAll/" in path for path in again) == 10
    assert not [path for path in again if re.search(r"Attachment/\d", path)]
    assert {row.kind for row in archive.queries.rows()} >= {*KINDS}


def test_articles_are_kept_with_what_they_say(archive: Archive) -> None:
    """Text, author, time and all else are there, and the files by article."""
    desk = build()
    with SandboxServer(desk) as server:
        pull(server, archive)
    assert archive.threads.count_texts()["article"] == 6
    for (kind, key), guide in desk.guides.items():
        row = archive.threads.article(kind, key)
        assert row is not None
        assert (row.subject, row.text) == (guide.subject, guide.text)
        assert row.author_name == "Jane Staff"
        names = [one.filename for one in archive.threads.files_of_article(kind, key)]
        assert names == [one.name.decode() for one in desk.files_of(guide)]
    first = archive.threads.article("article", 1)
    assert first is not None
    assert (first.created_at, first.details["categories"]) == (
        desk.guides["article", 1].dateline,
        ["2"],
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (kind, fault)
        for kind in KINDS
        for fault, what in KIND_FAULTS[kind].items()
        if not what.lasting
    ],
)
def test_a_fault_ends_in_its_truth(archive: Archive, kind: str, fault: str) -> None:
    """State, hash and size are those of a perfect pull, and no other file suffers."""
    desk = build(fault)
    with SandboxServer(desk) as server:
        result = pull(server, archive)
        for each in KINDS:
            assert found(archive, each) == wanted(desk, each)
        assert result.articles_missing == {}
        before = len(server.requests)
        pull(server, archive)
        again = [path for path in paths(server, before) if re.search(r"r?/Attachment/\d", path)]
    failed = {
        key for each in KINDS for key, one in found(archive, each).items() if one[0] == "failed"
    }
    assert {path.rpartition("/")[2] for path in again} == failed


@pytest.mark.slow
def test_all_faults_at_once_end_in_their_truth(archive: Archive) -> None:
    """Those of all kinds of files, too."""
    desk = build("all")
    with SandboxServer(desk) as server:
        pull(server, archive)
    for kind in KINDS:
        assert found(archive, kind) == wanted(desk, kind)


def test_an_old_helpdesk_has_none_and_is_asked_once(archive: Archive) -> None:
    """It is told, and leaves no gap."""
    ear = Ear()
    with SandboxServer(build("no_guides")) as server:
        result = pull(server, archive, ear)
        asked = [path for path in paths(server) if "Knowledgebase" in path]
    assert (result.exit_code, result.articles, result.articles_missing) == (0, 0, {})
    assert len(asked) == 1
    told = [one.text for one in ear.of(Notice) if "does not offer" in one.text]
    assert told == [
        "this helpdesk does not offer the knowledge base",
        "this helpdesk does not offer the troubleshooter",
    ]


def test_a_part_of_the_helpdesk_has_no_articles(archive: Archive) -> None:
    """Articles belong to no department; a run that is not asked for them reads none either."""
    desk = build()
    with SandboxServer(desk) as server:
        pull(server, archive, scope=Scope(limit_tickets=1))
        pull(server, archive, articles=False)
        assert not [path for path in paths(server) if "Knowledgebase" in path]
    assert "Knowledge base and troubleshooter were not looked at" in judge(look(archive)).sentence


def test_what_the_helpdesk_deletes_is_kept_as_deleted(archive: Archive) -> None:
    """A file of an article, and a whole step with its files."""
    desk = build()
    with SandboxServer(desk) as server:
        pull(server, archive)
        gone = next(iter(desk.guide_files))
        row = desk.guide_files.pop(gone)
        step = next(guide for (kind, _), guide in desk.guides.items() if kind == "step")
        files = desk.files_of(step)
        del desk.guides["step", step.id]
        for one in files:
            del desk.guide_files[one.id]
        result = pull(server, archive)
    assert (row.kind, result.deleted) == ("article", 1 + len(files))
    states = {r.id: r.state for r in archive.queries.rows() if r.kind in KINDS}
    deleted = {BASES["article"] + gone, *(BASES["step"] + one.id for one in files)}
    assert {key for key, state in states.items() if state is State.DELETED} == deleted


def test_too_many_deletions_stop_the_run(archive: Archive) -> None:
    """Nothing is marked before somebody says that it is right."""
    desk = build(articles=40)
    with SandboxServer(desk) as server:
        pull(server, archive)
        desk.guide_files.clear()
        result = pull(server, archive)
        assert isinstance(result.ended_by, SafetyLimit)
        assert archive.queries.counts()[State.DELETED].n == 0


@pytest.mark.parametrize("answer", ["<html>no</html>", "<?xml version='1.0'?><kbarticles><kbart"])
def test_a_list_that_cannot_be_read_is_a_gap(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """It is told by name, keeps what is held, and the next sync looks at all again."""
    desk = build()
    with SandboxServer(desk) as server:
        pull(server, archive)
        calls = routes.CONTROLLERS["Knowledgebase", "Article"]
        broken = replace(calls["GetList"], run=lambda _: text(200, answer))
        monkeypatch.setitem(calls, "GetList", broken)
        result = pull(server, archive)
    assert [*result.articles_missing] == ["the knowledge base"]
    assert (result.exit_code, result.deleted) == (3, 0)
    verdict = judge(look(archive))
    assert "1 part of knowledge base and troubleshooter could not be read" in verdict.sentence
    assert found(archive, "article") == wanted(desk, "article")


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_that_is_half_is_asked_for_again(archive: Archive, kind: str) -> None:
    """What the first reply lacks is in the next one, and nothing comes twice."""
    desk = build("half_guides")
    with SandboxServer(desk) as server:
        result = pull(server, archive)
        path = {"article": "/Knowledgebase/Article", "step": "/Troubleshooter/Step"}[kind]
        asked = paths(server)
    assert (result.exit_code, result.articles_missing) == (0, {})
    assert found(archive, kind) == wanted(desk, kind)
    assert asked.count(path) == 2
    lists = [one for one in asked if re.match(rf"{path[:12]}\w*/Attachment/ListAll/", one)]
    assert len(lists) == len({*lists}) == sum(guide == kind for guide, _ in desk.guides)


@pytest.mark.parametrize("second", ["the same", "<html>no</html>"])
def test_a_list_that_stays_odd_is_a_gap(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    """It is asked for twice, and all that was read is kept."""
    desk = build()
    with SandboxServer(desk) as server:
        calls = routes.CONTROLLERS["Knowledgebase", "Article"]
        plain, asked = calls["GetList"].run, list[str]()

        def odd(ask: Any) -> Any:
            asked.append(ask.request.path)
            if len(asked) > 1 and second != "the same":
                return text(200, second)
            end = b"\n</kbarticles>"
            return plain(ask).rewritten(lambda body: body.replace(end, b"\nWarning: no" + end))

        monkeypatch.setitem(calls, "GetList", replace(calls["GetList"], run=odd))
        result = pull(server, archive)
    assert [*result.articles_missing] == ["the knowledge base"]
    assert found(archive, "article") == wanted(desk, "article")
    assert archive.threads.count_texts()["article"] == 6
    assert len(asked) == 2 or second != "the same"


def test_a_damaged_file_is_repaired_and_audited(archive: Archive) -> None:
    """The file of an article is fetched again from where it is."""
    desk = build()
    with SandboxServer(desk) as server:
        pull(server, archive)
        row = next(row for row in archive.queries.rows() if row.kind == "article")
        path = path_of(archive, row.sha256 or "")
        path.chmod(0o600)
        path.write_bytes(b"x" * path.stat().st_size)
        report = asyncio.run(verify(archive))
        assert report.damaged == [row.sha256]

        async def main(pool: ThreadPoolExecutor) -> None:
            async with connect(settings_for(server, 8), pool=pool, sleep=brief) as source:
                await repair(archive, source, report, pool=pool)
                rows = [row for row in archive.queries.rows() if row.kind in KINDS]
                audited = AuditReport(len(rows), len(rows))
                await audit(iter(rows), audited, source, archive.blobs, concurrency=4, pool=pool)
                assert (audited.agreed, audited.ours.n) == (len(rows), 0)

        with ThreadPoolExecutor(4) as pool:
            asyncio.run(main(pool))
    assert report.repaired == [row.sha256]


def test_a_list_that_is_too_much_is_asked_for_by_ids(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are found that have an id near another one; that more may exist stays said."""
    desk = build()
    calls = routes.CONTROLLERS["Knowledgebase", "Article"]
    fatal = "<b>Fatal error</b>:  Allowed memory size of 134217728 bytes exhausted"
    broken = replace(calls["GetList"], run=lambda _: text(200, fatal))
    monkeypatch.setitem(calls, "GetList", broken)
    with SandboxServer(desk) as server:
        result = pull(server, archive)
        asked = [path for path in paths(server) if re.search(r"Knowledgebase/Article/\d", path)]
    assert found(archive, "article") == wanted(desk, "article")
    assert (result.articles, [*result.articles_missing]) == (10, ["the knowledge base"])
    assert "6 were found by their ids" in result.articles_missing["the knowledge base"]
    assert len(asked) < MISSES + 50
    assert result.exit_code == 3
