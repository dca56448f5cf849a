"""``migrator handover``: all that is needed to live without this tool, in one directory."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from migrator.cli._common import App, note, now, open_beside, pass_app, print_json, shown, told

if TYPE_CHECKING:
    from migrator.archive import Archive
    from migrator.events import WorkExpected
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
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@pass_app
def handover(app: App, folder: Path, *, tree: bool, copy: bool, check: bool, as_json: bool) -> int:
    """Make DIR all that is needed to live without this tool; begin with its README.md.

    Files by their SHA-256 with a SHA256SUMS for `sha256sum -c`, lists of attachments, tickets and
    posts as lines of JSON, and the report. Every file is read and hashed on the way; exits with 6
    when the archive has a damaged one, which is told and not handed over, with 3 when the archive
    is not all of the helpdesk or something in it is open. Killed at any time, the same command
    goes on; done again, it brings DIR up to date. Files are hard links where DIR is on the
    archive's file system, copies elsewhere.

    \b
    Examples:
      migrator handover /mnt/usb/helpdesk
      migrator handover --tree handover
      migrator handover --check handover
    """
    if check and (tree or copy):
        raise click.UsageError("--check changes nothing; leave out --tree and --copy.")
    if check:
        checked = _checked(app, folder)
        if as_json:
            print_json(check_as_dict(checked))
        else:
            _print_check(checked)
        return checked.exit_code
    made = _made(app, folder, tree=tree, link=not copy)
    if as_json:
        print_json(as_dict(made))
    else:
        _print_made(made, folder)
    _advise(made)
    return made.exit_code


def _made(app: App, folder: Path, *, tree: bool, link: bool) -> Handover:
    from migrator.archive.lock import RunLock
    from migrator.blobs.base import Verdict
    from migrator.events import WorkExpected
    from migrator.handover.make import Options, hand_over

    with contextlib.ExitStack() as stack:
        config, archive = open_beside(app)
        posts = config.kayako.posts
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
            documents = partial(_documents, archive, lambda: bad, posts=posts)
            return hand_over(archive, folder, documents, options)

        return _watched(app, work, WorkExpected(0, *archive.queries.unique_bytes()))


def _documents(
    archive: Archive, damaged: Callable[[], int], *, posts: bool
) -> dict[str, Iterator[str]]:
    """Give the reports by the names of their files; they tell of what was ``damaged`` so far."""
    from migrator.report import build, to_json
    from migrator.report.html import render_report

    moment = now()
    made = build(archive, now=moment, behind=True, posts=posts, damaged=damaged())
    return {"report.json": iter([to_json(made)]), "report.html": render_report(made)}


def _checked(app: App, folder: Path) -> Check:
    from migrator.handover.check import check

    return _watched(app, lambda tell, stopped: check(folder, tell=tell, stopped=stopped))


def _watched(
    app: App,
    work: Callable[[Tell, Callable[[], bool]], T],
    expected: WorkExpected | None = None,
) -> T:
    """Do work that reads many files, in a thread: with progress, and stopped by signals."""
    import asyncio

    from migrator.blobs.base import Verdict
    from migrator.cli._progress import progress
    from migrator.cli._pull import drive
    from migrator.events import FileHandedOver
    from migrator.pull.options import Stop
    from migrator.sources.base import in_pool

    with progress(app.log_format) as listener:

        async def main(stop: Stop) -> T:
            loop = asyncio.get_running_loop()
            if expected is not None:
                listener(expected)

            def tell(sha256: str, size: int, verdict: Verdict, total: int) -> None:
                event = FileHandedOver(sha256, size, verdict.value, total)
                loop.call_soon_threadsafe(listener, event)

            return await in_pool(None, lambda: work(tell, lambda: stop.asked))

        return drive(main)


def as_dict(made: Handover) -> dict[str, object]:
    """Give what was handed over for machines."""
    from migrator.report.json_report import judged

    return {
        "format": "migrator.handover/1",
        "exit_code": made.exit_code,
        "files": made.files,
        "bytes": made.bytes,
        "damaged": made.damaged,
        "lost": made.lost,
        "lines": made.rows,
        "without_file": made.without_file,
        "tree": made.tree,
        "verdict": judged(made.seen, now())["verdict"] if made.seen is not None else None,
        "unreadable": made.unreadable,
    }


def check_as_dict(checked: Check) -> dict[str, object]:
    """Give what a check has shown for machines; of faults the first thousand of each kind."""
    return {
        "exit_code": checked.exit_code,
        "finished": checked.finished,
        "checked": checked.checked,
        "bytes": checked.bytes,
        "damaged": checked.damaged.n,
        "lost": checked.lost.n,
        "wrong": checked.wrong.n,
        "not_handed_over": checked.not_handed_over,
        "verdict": checked.verdict or None,
        "named": {
            "damaged": checked.damaged.named,
            "lost": checked.lost.named,
            "wrong": checked.wrong.named,
        },
        "unreadable": checked.unreadable,
    }


def _print_made(made: Handover, folder: Path) -> None:
    from migrator.report.verdict import judge
    from migrator.text import human_bytes

    click.echo(f"files        {made.files:>12,}  {human_bytes(made.bytes)}, each read and hashed")
    for name, lines in made.rows.items():
        click.echo(f"{name.removesuffix('.jsonl'):<11}  {lines:>12,}  lines of {name}")
    if made.tree:
        click.echo(f"tree         {made.tree:>12,}  names")
    click.echo(f"damaged      {len(made.damaged):>12,}\nlost         {len(made.lost):>12,}")
    for name, hashes in (("damaged", made.damaged), ("lost", made.lost)):
        for sha256 in hashes[:SHOWN]:
            click.echo(f"  {name} {told(sha256, made.unreadable)}")
    if made.seen is not None:
        click.echo(f"\n{judge(made.seen).sentence}")
    place = shown(shlex.quote(str(folder)))
    click.echo(f"\nCheck it with: (cd {place} && sha256sum --check --quiet SHA256SUMS)")


def _print_check(checked: Check) -> None:
    from migrator.text import human_bytes

    click.echo(f"checked   {checked.checked:>12,}  {human_bytes(checked.bytes)}")
    kinds = {"damaged": checked.damaged, "lost": checked.lost, "wrong": checked.wrong}
    for name, faults in kinds.items():
        click.echo(f"{name:<8}  {faults.n:>12,}")
    for name, faults in kinds.items():
        for one in faults.named[:SHOWN]:
            click.echo(f"  {name} {told(one, checked.unreadable)}")
    if checked.exit_code:
        click.echo("Do not trust this handover.")
    elif lacking := checked.not_handed_over:
        click.echo(
            f"This handover is as it was made, but for {lacking:,} files that the archive had "
            "damaged or lost then."
        )
    else:
        click.echo("This handover is as it was made.")
    if checked.verdict:
        click.echo(f"What it said then of the archive: {shown(checked.verdict)}")


def _advise(made: Handover) -> None:
    if made.damaged or made.lost:
        note(
            "Files of the archive are damaged or lost, and were not handed over. "
            "`migrator verify --repair` fetches them again; then make the handover again."
        )
    if made.without_file:
        note(
            f"{made.without_file:,} attachments are in the manifest without a file; "
            "their state and problem stand there."
        )
