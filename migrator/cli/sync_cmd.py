"""``migrator sync``: pull what is new, once or again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import click

from migrator.cli.common import (
    App,
    apply_config,
    choose_store,
    duration,
    halted,
    note,
    now,
    pass_app,
    pull_options,
)
from migrator.cli.run_cmd import nothing_done, print_gaps
from migrator.errors import ArchiveError, MigratorError
from migrator.events import AttachmentSettled, Event, Listener
from migrator.text import counted, human_bytes, iso_time, shown

if TYPE_CHECKING:
    from migrator.archive import Archive
    from migrator.config import Config
    from migrator.pull.options import RunResult, Stop

TROUBLES_SHOWN = 50
"""The most attachments that one sync names as not stored."""


@click.command()
@click.option("--full", is_flag=True, help="Look at every ticket, even if that is not due.")
@click.option(
    "--every",
    callback=duration,
    metavar="DURATION",
    help="Stay, and repeat the sync this often, such as 15m.",
)
@pull_options
@click.option(
    "--recheck", is_flag=True, help="Ask now for all that failed, and for missing and gone ones."
)
@click.option(
    "--known-ok",
    is_flag=True,
    envvar="MIGRATOR_KNOWN_OK",
    show_envvar=True,
    help="End with 3 only for what newly fails or is lost, else with 0.",
)
@pass_app
def sync(
    app: App,
    /,
    *,
    every: float | None,
    known_ok: bool,
    **wishes: bool,
) -> int:
    """Pull what is new since the last sync.

    Looks at the tickets that were active since; every seven days (sync.full_pass_every), at all
    of them: only that finds attachments that arrived without any activity, merges and deletions.
    With --every, the other options hold for the first round.

    \b
    Examples:
      migrator sync
      migrator sync --full
      migrator sync --every 15m
    """
    from migrator.cli.disk import warn_of_network
    from migrator.cli.notifying import telling_round
    from migrator.cli.pulling import drive
    from migrator.pull.sync import repeat

    if every is not None and every < 1:
        raise click.BadParameter("must be at least 1s", param_hint="--every")
    config = app.load()
    warn_of_network(config.archive.path)

    async def work(stop: Stop) -> int:
        said: dict[str, str] = {}

        async def once(number: int) -> RunResult:
            async with telling_round(app, config) as told:
                flags = wishes if number == 0 else {}
                done = await _sync(app, config, stop, flags, stays=True, said=said)
                if isinstance(done.delivered, MigratorError):
                    note(f"Nothing more was delivered: {done.delivered}", level="warning")
                told.end(done.result.exit_code, done.result.ended_by or done.delivered)
            return done.result

        if every is not None:
            hold = halted(config.archive.path, config.hours)

            def begins(seconds: float) -> float:
                due = time.time() + seconds
                return seconds + config.hours.opens(due) - due

            await repeat(once, every=every, stop=stop, tell=note, halted=hold, begins=begins)
            return 0
        done = await _sync(app, config, stop, wishes, said=said)
        result = done.result
        if result.ended_by is not None:
            raise result.ended_by
        if isinstance(done.delivered, MigratorError):
            raise done.delivered
        known = known_ok and result.exit_code == 3 and not done.new
        return (0 if known else result.exit_code) or done.delivered

    return drive(work)


class _Done(NamedTuple):
    """One sync, whether it met anything that it must tell, and the exit code of its delivery."""

    result: RunResult
    new: bool
    delivered: int | MigratorError


async def _sync(
    app: App,
    config: Config,
    stop: Stop,
    wishes: Mapping[str, bool],
    *,
    stays: bool = False,
    said: dict[str, str],
) -> _Done:
    """Run one sync, and deliver what is new if that is configured.

    The archive is released between two of them. Where it ``stays``, the next one publishes what
    this one could not. What it has ``said`` already it does not say again.
    """
    from migrator.archive import open_archive
    from migrator.cli.progress import progress
    from migrator.cli.pulling import sync_within
    from migrator.cli.textfile import measured

    choose_store(config)
    with open_archive(config.archive.path, command="sync") as archive, measured(config, archive):
        apply_config(archive, config)
        app.started()
        with progress(app.log_format) as listener:
            heard = _RoundListener(listener)
            result = await sync_within(config, archive, heard, stop, **wishes)
        if not nothing_done(result):
            _tell(heard, result, archive, said)
        delivered: int | MigratorError = 0
        if config.deliver.after_sync and result.ended_by is None and not stop.asked:
            from migrator.cli.deliver_cmd import deliver_within

            with progress(app.log_format) as listener:
                try:
                    delivered = await deliver_within(config, archive, listener, stop)
                except MigratorError as error:
                    delivered = error
        if config.archive.publish and not (nothing_done(result) or stop.asked):
            await _publish(archive, config, stays=stays)
    missing = result.threads_missing or result.fields_missing
    gaps = result.unlisted or result.unreadable or result.short or missing
    return _Done(result, bool(heard.new or gaps), delivered)


async def _publish(archive: Archive, config: Config, *, stays: bool) -> None:
    from migrator.cli.publish_cmd import published, tell

    try:
        made = await asyncio.to_thread(published, archive, config)
    except ArchiveError as error:
        if not stays:
            raise
        note(str(error), level="warning")
    else:
        tell(*made)


class _RoundListener:
    """Passes events on and collects what this sync stored and what is newly lost or failing."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.stored = 0
        self.bytes = 0
        self.new = 0
        self.failed = 0
        self.troubles: list[str] = []

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, AttachmentSettled):
            if event.state == "stored":
                self.stored += 1
                self.bytes += event.received
            elif _is_new(event):
                self.new += 1
                self.failed += event.state == "failed"
                ticket = f"ticket {event.ticket_id}, " if event.ticket_id else ""
                place = f"{ticket}attachment {event.attachment_id}"
                why = event.detail or event.problem or ""
                if len(self.troubles) < TROUBLES_SHOWN:
                    self.troubles.append(f"{event.state:<8}  {place}: {why}")
        self._listener(event)


def _is_new(event: AttachmentSettled) -> bool:
    """Return whether a failure or loss is one that no earlier run has reported.

    What was tried before and did not fail was missing or gone then.
    """
    failing = event.since is not None
    return not failing if event.state == "failed" else failing or not event.tried


def _tell(heard: _RoundListener, result: RunResult, archive: Archive, said: dict[str, str]) -> None:
    """Print one round in a few lines, at a cost that does not grow with the archive.

    The ledger and the verdict are printed where they are not what was ``said`` last.
    """
    from migrator.report.text import ORDER
    from migrator.report.verdict import total

    click.echo(
        f"{iso_time(result.started)} sync {result.run_id}: "
        f"{counted(result.tickets, 'ticket')} listed, {counted(heard.stored, 'attachment')} stored "
        f"({human_bytes(heard.bytes)})"
    )
    held = " + ".join(f"{result.counts[state].n:,} {state}" for state in ORDER)
    ledger = f"listed {total(result.counts).n:,} = {held}"
    if said.get("ledger") != ledger:
        click.echo(ledger)
    if heard.new:
        click.echo(f"\nNew: {counted(heard.new, 'attachment')} could not be stored")
        for trouble in heard.troubles:
            click.echo(f"  {shown(trouble)}")
        if heard.new > len(heard.troubles):
            click.echo(f"  and {heard.new - len(heard.troubles):,} more")
    if known := _still_failing(archive, heard.failed):
        click.echo(f"\n{known}")
    if heard.new or known:
        click.echo()
    print_gaps(result)
    verdict = result.verdict.sentence if result.verdict is not None else ""
    if verdict and said.get("verdict") != verdict:
        click.echo(verdict)
    said.update(ledger=ledger, verdict=verdict)


def _still_failing(archive: Archive, new: int) -> str:
    """Return a line about the attachments that failed before this sync and still do."""
    failing = archive.queries.failing()
    if failing.n <= new:
        return ""
    later = failing.next_try is not None and failing.next_try > now()
    due = f"is due {iso_time(failing.next_try)}" if later else "is that of the next sync"
    since = f", oldest since {iso_time(failing.since)[:10]}" if failing.since else ""
    return (
        f"{failing.n - new:,} still failing{since}; the next try {due}; `migrator run --recheck` "
        "asks at once"
    )
