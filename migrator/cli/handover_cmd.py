"""``migrator handover``: all that is needed without this tool, in one directory."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click

from migrator.cli.common import (
    App,
    json_option,
    note,
    now,
    open_beside,
    pass_app,
    print_result,
    told,
)
from migrator.text import counted, human_bytes, shown

if TYPE_CHECKING:
    from migrator.archive import Archive
    from migrator.events import BlobChecked, FileHandedOver, WorkExpected
    from migrator.handover.check import Check
    from migrator.handover.make import Handover, Tell

T = TypeVar("T")

READERS = 4
"""Files read at the same time: enough to keep a disk busy, few enough not to thrash it."""
SHOWN = 50


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--tree", is_flag=True, help="Add a tree for people: department/ticket/name.")
@click.option("--copy", is_flag=True, help="Copy every file, also where a hard link would do.")
@click.option("--check", is_flag=True, help="Read a handover again and compare; change nothing.")
@json_option
@pass_app
def handover(app: App, folder: Path, *, tree: bool, copy: bool, check: bool, as_json: bool) -> int:
    """Write all that is needed without this tool into DIR; begin with its README.md.

    Files by their SHA-256 with a SHA256SUMS for `sha256sum -c`, lists of attachments, tickets and
    posts as lines of JSON, and the report. Every file is read and hashed on the way; exits with 6
    when the archive has a damaged one, which is reported and not handed over, with 3 when the
    archive does not hold the whole helpdesk or something in it is open. If it is killed, run the
    same command again: it resumes. Run later, it brings DIR up to date. Files are hard links where
    DIR is on the archive's file system, copies elsewhere.

    \b
    Examples:
      migrator handover /mnt/usb/helpdesk
      migrator handover --tree handover
      migrator handover --check handover
    """
    if check and (tree or copy):
        raise click.UsageError("--check changes nothing; leave out --tree and --copy.")
    done = _check(app, folder) if check else _make(app, folder, tree=tree, link=not copy)
    print_result(done.facts, done.lines, as_json=as_json)
    for text in done.advice:
        note(text)
    return done.exit_code


class _Done(NamedTuple):
    """The result as JSON and as text."""

    exit_code: int
    facts: dict[str, object]
    lines: list[str]
    advice: list[str]


def _make(app: App, folder: Path, *, tree: bool, link: bool) -> _Done:
    from migrator.archive.lock import RunLock
    from migrator.blobs.base import Verdict
    from migrator.events import WorkExpected
    from migrator.handover.make import Options, hand_over

    with contextlib.ExitStack() as stack:
        config, archive = open_beside(app)
        posts, pages = config.keeps_posts, config.deliver.pages
        stack.enter_context(archive)
        if not archive.read_only:  # a run at work would make the lists disagree
            stack.callback(RunLock(archive.path, command="handover").release)
        pool = stack.enter_context(ThreadPoolExecutor(READERS, thread_name_prefix="handover"))

        def work(tell: Tell, stopped: Callable[[], bool]) -> Handover:
            bad = 0

            def counted(sha256: str, size: int, verdict: Verdict, total: int) -> None:
                nonlocal bad
                bad += verdict is not Verdict.OK
                tell(sha256, size, verdict, total)

            options = Options(now(), tree, link, counted, stopped, pool)
            documents = partial(_documents, archive, lambda: bad, posts=posts, pages=pages)
            return hand_over(archive, folder, documents, options)

        made = watched(app, work, WorkExpected(0, *archive.queries.kept_blobs()))
    return _Done(made.exit_code, _facts(made), list(_lines(made, folder)), list(_advice(made)))


def _documents(
    archive: Archive, damaged: Callable[[], int], *, posts: bool, pages: str
) -> dict[str, Iterator[str]]:
    """Return the reports by file name, with the number of files found ``damaged`` so far."""
    from migrator.report.html import render_report
    from migrator.report.json_report import to_json
    from migrator.report.model import build

    moment = now()
    bad = damaged()
    made = build(archive, now=moment, samples=True, posts=posts, damaged=bad, pages=pages)
    return {"report.json": iter([to_json(made)]), "report.html": render_report(made)}


def _check(app: App, folder: Path) -> _Done:
    from migrator.handover.check import check

    checked = watched(app, lambda tell, stopped: check(folder, tell=tell, stopped=stopped))
    return _Done(checked.exit_code, _check_facts(checked), list(_check_lines(checked)), [])


def watched(
    app: App,
    work: Callable[[Tell, Callable[[], bool]], T],
    expected: WorkExpected | None = None,
    event: type[FileHandedOver | BlobChecked] | None = None,
) -> T:
    """Run work that reads many files in a thread, with progress, until done or a signal."""
    import asyncio

    from migrator.blobs.base import Verdict
    from migrator.cli.progress import progress
    from migrator.cli.pulling import drive
    from migrator.events import FileHandedOver
    from migrator.pull.options import Stop, ticking
    from migrator.sources.base import in_pool

    with progress(app.log_format) as listener:

        async def main(stop: Stop) -> T:
            loop = asyncio.get_running_loop()
            if expected is not None:
                listener(expected)

            def tell(sha256: str, size: int, verdict: Verdict, total: int) -> None:
                made = (event or FileHandedOver)(sha256, size, verdict.value, total)
                loop.call_soon_threadsafe(listener, made)

            async with ticking(listener):
                return await in_pool(None, lambda: work(tell, lambda: stop.asked))

        return drive(main)


def _facts(made: Handover) -> dict[str, object]:
    from migrator.report.json_report import judged

    return {
        "format": "migrator.handover/1",
        "exit_code": made.exit_code,
        "files": made.files,
        "bytes": made.bytes,
        "replies": made.replies,
        "reply_bytes": made.reply_bytes,
        "damaged": made.damaged,
        "lost": made.lost,
        "lines": made.rows,
        "without_file": made.without_file,
        "tree": made.tree,
        "verdict": judged(made.seen, now())["verdict"] if made.seen is not None else None,
        "unreadable": made.unreadable,
    }


def _lines(made: Handover, folder: Path) -> Iterator[str]:
    from migrator.report.verdict import judge

    yield f"files        {made.files:>12,}  {human_bytes(made.bytes)}, each read and hashed"
    if made.replies:
        size = human_bytes(made.reply_bytes)
        yield f"  of them    {made.replies:>12,}  {size}, kept replies"
    for name, lines in made.rows.items():
        yield f"{name.removesuffix('.jsonl'):<11}  {lines:>12,}  lines of {name}"
    if made.tree:
        yield f"tree         {made.tree:>12,}  names"
    bad = {"damaged": made.damaged, "lost": made.lost}
    yield from (f"{name:<11}  {len(hashes):>12,}" for name, hashes in bad.items())
    for name, hashes in bad.items():
        yield from (f"  {name} {told(one, made.unreadable)}" for one in hashes[:SHOWN])
    if made.seen is not None:
        yield f"\n{judge(made.seen).sentence}"
    place = shown(shlex.quote(str(folder)))
    yield f"\nCheck it with: (cd {place} && sha256sum --check --quiet SHA256SUMS)"


def _advice(made: Handover) -> Iterator[str]:
    if made.damaged or made.lost:
        yield (
            "Files of the archive are damaged or lost, and were not handed over. "
            "`migrator verify --repair` fetches them again; then make the handover again."
        )
    if made.without_file:
        yield (
            f"In the manifest without a file: {counted(made.without_file, 'attachment')}, with "
            "state and problem."
        )


def _check_facts(checked: Check) -> dict[str, object]:
    """Return the result of a check as JSON, with the first thousand faults of each kind."""
    faults = {"damaged": checked.damaged, "lost": checked.lost, "wrong": checked.wrong}
    return {
        "exit_code": checked.exit_code,
        "finished": checked.finished,
        "checked": checked.checked,
        "bytes": checked.bytes,
        **{name: one.n for name, one in faults.items()},
        "not_handed_over": checked.not_handed_over,
        "verdict": checked.verdict or None,
        "named": {name: one.named for name, one in faults.items()},
        "unreadable": checked.unreadable,
    }


def _check_lines(checked: Check) -> Iterator[str]:
    yield f"checked   {checked.checked:>12,}  {human_bytes(checked.bytes)}"
    kinds = {"damaged": checked.damaged, "lost": checked.lost, "wrong": checked.wrong}
    yield from (f"{name:<8}  {faults.n:>12,}" for name, faults in kinds.items())
    for name, faults in kinds.items():
        yield from (f"  {name} {told(one, checked.unreadable)}" for one in faults.named[:SHOWN])
    if checked.exit_code:
        yield "Do not trust this handover."
    elif lacking := checked.not_handed_over:
        yield (
            f"This handover is as it was made, but for {counted(lacking, 'file')} that the archive "
            "had damaged or lost then."
        )
    else:
        yield "This handover is as it was made."
    if checked.verdict:
        yield f"What it said then of the archive: {shown(checked.verdict)}"
