"""A run: list every ticket's attachments and fetch them, at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from migrator.archive.records import Department, State
from migrator.errors import ArchiveError, Interrupted, MigratorError, SafetyLimit, SourceError
from migrator.events import (
    Event,
    LeftoversQueued,
    Listener,
    Notice,
    RunFinished,
    RunStarted,
    Tick,
    ignore,
)
from migrator.pull.enumerate import Enumeration
from migrator.pull.identity import (
    MOST_ASKED,
    compare,
    same_address,
    see_address,
    see_moved,
    see_same,
)
from migrator.pull.options import Baseline, Fetch, RunOptions, RunResult, Stop
from migrator.pull.preview import Preview
from migrator.pull.progress import Progress
from migrator.pull.protocols import Archive, Source
from migrator.pull.recent import Recent
from migrator.pull.reconcile import BATCH, reconcile
from migrator.pull.recorder import Recorder
from migrator.pull.sync import set_marks
from migrator.pull.walk import both, look_around
from migrator.pull.workers import Crew, Duty
from migrator.report.verdict import Verdict, judge, look

TICK = 5.0
"""Seconds between two signs of life."""
PROGRESS_EVERY = 3.0
"""Seconds between two words in the checkpoint of how far the run is."""


async def run(
    source: Source,
    archive: Archive,
    fetch: Fetch,
    options: RunOptions,
    *,
    listener: Listener = ignore,
    stop: Stop | None = None,
    clock: Callable[[], float] = time.time,
) -> RunResult:
    """Do one pass over the helpdesk; the result tells also what ended it early, if anything did.

    Every attachment is in the ledger before it is fetched and durable before it is ``stored``;
    whatever ends the run, the next one goes on from there.
    """
    progress = Progress()

    def tell(event: Event, /) -> None:
        progress.take(event)
        listener(event)

    async with Recorder(archive.ledger) as recorder:
        duty = Duty(
            source,
            archive.ledger,
            archive.queries,
            archive.threads,
            recorder,
            fetch,
            options,
            tell,
            stop or Stop(),
            RunResult(started=int(clock())),
        )
        started = time.monotonic()
        await _see_whose_it_is(duty, archive)
        await _begin(duty)
        crew = Crew(duty)
        ticking = asyncio.create_task(_tick(tell))
        noting = asyncio.create_task(_note(duty, archive, progress))
        try:
            await _until_stopped(duty, crew, archive)
        except MigratorError as error:
            duty.result.ended_by = error
        finally:
            ticking.cancel()
            noting.cancel()
        duty.result.seconds = time.monotonic() - started
        duty.result.tickets = len(crew.listed)
        await _finish(duty, archive, progress, int(clock()))
    return duty.result


async def _tick(listener: Listener) -> None:
    while True:
        await asyncio.sleep(TICK)
        listener(Tick())


async def _see_whose_it_is(duty: Duty, archive: Archive) -> None:
    """Raise OtherHelpdesk, before anything is written, when the archive is another helpdesk's."""
    address = duty.options.source_name
    if not see_address(archive, address, moved=duty.options.moved, listener=duty.listener):
        return
    known = archive.queries.helpdesk()
    see_moved(
        await compare(duty.source, archive.queries.witnesses(MOST_ASKED)),
        known.address if known else "",
        address,
    )
    archive.ledger.set_helpdesk(address, run_id=None)
    duty.listener(Notice(f"this archive belongs to {address} from now on"))


async def _note(duty: Duty, archive: Archive, progress: Progress) -> None:
    """Write down how far the run is, for those who look at the archive meanwhile."""
    while True:
        facts = progress.facts()
        with suppress(MigratorError):  # whatever it is, it ends the run elsewhere
            await duty.recorder.do(partial(archive.ledger.put_progress, duty.result.run_id, facts))
        await asyncio.sleep(PROGRESS_EVERY)


async def _begin(duty: Duty) -> None:
    ledger, do, options = duty.ledger, duty.recorder.do, duty.options
    told = options.scope.told()
    if options.increment is not None:
        told["active_since"] = options.increment.floor
    if options.fast:
        told["fast"] = True
    unfinished = await do(duty.queries.unfinished_run)
    counts = await do(duty.queries.counts)
    info = await do(lambda: ledger.begin_run(options.kind, source=options.source_name, scope=told))
    duty.result.run_id = info.id
    listed = sum(count.n for count in counts.values())
    open_ = counts[State.PENDING].n + counts[State.FAILED].n
    resumes = unfinished is not None or bool(open_)
    duty.listener(RunStarted(info.id, options.kind, listed - open_, listed, resumes))
    if options.baseline is not None:
        duty.listener(options.baseline.expected(counts))


async def _finish(duty: Duty, archive: Archive, progress: Progress, now: int) -> None:
    result, ledger, do = duty.result, duty.ledger, duty.recorder.do
    result.counts = await do(duty.queries.counts)
    if duty.options.baseline is not None:
        await _compare_with(duty.options.baseline, duty)
    summary = result.summary()

    def finish() -> Verdict:
        """Write down how it ended, and then what that makes of all, which is the exit code."""
        ledger.finish_run(result.run_id, exit_code=result.exit_code, summary=summary)
        set_marks(archive, result, duty.options, now)
        verdict = judge(look(archive))
        if result.ended_by is None:
            ledger.finish_run(result.run_id, exit_code=verdict.exit_code, summary=summary)
        return verdict

    try:
        result.verdict = await do(finish)
    except ArchiveError as error:  # what ended the run first is the better explanation
        result.ended_by = result.ended_by or error
    counts = {state.value: count.n for state, count in result.counts.items()}
    cut = result.ended_by is not None
    duty.listener(RunFinished(result.run_id, result.exit_code, counts, cut))
    with suppress(ArchiveError):  # nobody is told anything untrue without it
        await do(partial(archive.ledger.put_progress, result.run_id, progress.facts()))


async def _compare_with(baseline: Baseline, duty: Duty) -> None:
    """Compare what was listed with the plan; a plan that is gone by now ends no run."""
    result = duty.result
    whole = result.ended_by is None and result.proven
    try:
        result.drift = await duty.recorder.do(
            lambda: baseline.compare(duty.queries.listed_in(result.run_id), whole=whole)
        )
    except MigratorError as error:
        duty.listener(Notice(f"the plan cannot be compared: {error}", "warning"))


async def _until_stopped(duty: Duty, crew: Crew, archive: Archive) -> None:
    """Pull to the end, or to the end of what is in flight once asked to stop."""
    pull = asyncio.create_task(_pull(duty, crew, archive))
    asked = asyncio.create_task(duty.stop.soft.wait())
    hard = asyncio.create_task(duty.stop.hard.wait())
    try:
        await asyncio.wait({pull, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not pull.done():
            duty.listener(Notice("stopping: the requests in flight may finish; again: at once"))
            await asyncio.wait(
                {pull, hard}, timeout=duty.options.drain, return_when=asyncio.FIRST_COMPLETED
            )
    finally:
        for task in (pull, asked, hard):
            task.cancel()
        await asyncio.wait({pull, asked, hard})
    if not pull.cancelled() and (error := pull.exception()) is not None:
        raise _most_telling(error)
    if duty.stop.asked:
        raise Interrupted("interrupted; progress is saved, the same command goes on from here")


async def _pull(duty: Duty, crew: Crew, archive: Archive) -> None:
    helpdesk, likeness = await both(
        look_around(duty.source), compare(duty.source, archive.queries.witnesses(MOST_ASKED))
    )
    see_same(
        likeness,
        duty.options.source_name,
        accept_deletions=duty.options.deletions.accept,
        accept_changes=duty.options.changes.accept,
    )
    await duty.recorder.do(partial(_see_earlier_contradiction, duty))
    await duty.recorder.do(partial(_write_down_whose_it_is, duty, archive))
    departments = [Department(one.id, one.title, one.app) for one in helpdesk.departments]
    await duty.recorder.do(lambda: duty.ledger.put_departments(departments))
    await crew.threads.put_statuses(helpdesk.statuses)
    options, everything = duty.options, duty.options.increment is None
    whole = options.scope.whole and not options.fast
    feed = Preview if options.fast else Enumeration if everything else Recent
    async with crew.at_work():
        await feed(duty, crew, helpdesk)()
        if whole:
            await _queue_leftovers(duty, crew)
        await crew.idle()
        if whole:
            await crew.threads.catch_up()
        if whole and everything and not duty.stop.asked:
            await reconcile(duty, crew)


def _see_earlier_contradiction(duty: Duty) -> None:
    """Raise SafetyLimit while nobody has decided on what stopped an earlier run.

    What that one wrote down as changed is no change any more: repeated often enough, runs would
    believe another helpdesk bit by bit.
    """
    if duty.options.changes.accept:
        return
    whole = duty.queries.whole_pass()
    stopped = duty.queries.stopped(whole.id if whole else 0)
    if stopped is None or not (stopped.summary or {}).get("contradicted"):
        return
    duty.result.contradicted = True
    raise SafetyLimit(
        "an earlier run found that the source lists other files under ids that we hold, and "
        "nobody has decided since whether it is to be so: is it another helpdesk, or one restored "
        "from a backup? What we hold is kept. To go on, run once with `migrator run "
        "--accept-changes`"
    )


def _write_down_whose_it_is(duty: Duty, archive: Archive) -> None:
    """Note the address, once the helpdesk has answered: one that was mistyped is nobody's."""
    known, address = archive.queries.helpdesk(), duty.options.source_name
    if known is None or not same_address(known.address, address):
        archive.ledger.set_helpdesk(address, run_id=duty.result.run_id)


async def _queue_leftovers(duty: Duty, crew: Crew) -> None:
    """Queue what earlier runs left open and no list of this run named.

    Their tickets may be merged, deleted or in the trash by now; asking for the attachment tells.
    """
    after = 0
    while not duty.stop.asked:
        batch = await duty.recorder.do(
            partial(
                duty.queries.leftovers,
                duty.result.run_id,
                now=int(time.time()),
                after=after,
                limit=BATCH,
                recheck=duty.options.recheck,
            )
        )
        if not batch:
            return
        duty.listener(LeftoversQueued(len(batch), sum(work.declared_size for work in batch)))
        for work in batch:
            await crew.fetch(work)
        after = batch[-1].id


def _most_telling(error: BaseException) -> BaseException:
    """Give the one error to show of all that workers raised at the same time.

    A bug comes first, then what is wrong with our own archive, then with the source.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_most_telling(one) for one in error.exceptions]
    return min(
        leaves, key=lambda one: (isinstance(one, MigratorError), isinstance(one, SourceError))
    )
