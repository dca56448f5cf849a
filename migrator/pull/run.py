"""A run: list every ticket's attachments and fetch them, at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial

from migrator.archive import Archive
from migrator.archive.records import Department, State
from migrator.errors import ArchiveError, Interrupted, MigratorError, SafetyLimit
from migrator.events import (
    Event,
    LeftoversQueued,
    Listener,
    Notice,
    RunFinished,
    RunStarted,
    ignore,
)
from migrator.pull.articles import ArticleReader
from migrator.pull.identity import (
    MOST_ASKED,
    compare,
    same_address,
    see_address,
    see_moved,
    see_same,
)
from migrator.pull.options import Baseline, Fetch, RunOptions, RunResult, Stop
from migrator.pull.progress import Progress
from migrator.pull.reconcile import BATCH, reconcile
from migrator.pull.recorder import Recorder
from migrator.pull.sync import set_marks
from migrator.pull.workers import RunContext, Workers
from migrator.report.verdict import Verdict, judge, look
from migrator.sources.base import Source, concurrently

MANY_TEXTS = 10_000
"""Texts that take more than a moment to index."""

PROGRESS_EVERY = 3.0
"""Seconds between two writes of progress to the checkpoint."""


async def run(
    source: Source,
    archive: Archive,
    fetch: Fetch,
    options: RunOptions,
    *,
    listener: Listener = ignore,
    stop: Stop | None = None,
    clock: Callable[[], float] = time.time,
    progress: Progress | None = None,
    pool: Executor | None = None,
) -> RunResult:
    """Run one pass over the helpdesk; the result also says what ended it early, if anything did.

    Every attachment is in the ledger before it is fetched and durable before it is ``stored``;
    whatever ends the run, the next one resumes it. ``progress`` is what `status` shows; whoever
    opens the source lets it take the source's events, too. Replies are written in ``pool``.
    """
    progress = progress or Progress()

    def tell(event: Event, /) -> None:
        progress.take(event)
        listener(event)

    async with Recorder(archive.ledger) as recorder:
        context = RunContext(
            source,
            archive,
            recorder,
            fetch,
            options,
            tell,
            stop or Stop(),
            RunResult(started=int(clock())),
            pool,
        )
        started = time.monotonic()
        await _see_whose_it_is(context)
        await _begin(context)
        workers = Workers(context)
        noting = asyncio.create_task(_note(context, progress))
        try:
            await context.stop.guard(_pull(context, workers), drain=options.drain, listener=tell)
            if context.stop.asked:
                raise Interrupted(
                    "interrupted, progress is saved: run the same command again; it resumes"
                )
        except MigratorError as error:
            context.result.ended_by = error
        finally:
            noting.cancel()
        context.result.seconds = time.monotonic() - started
        context.result.tickets = len(context.result.listed)
        await _finish(context, progress, int(clock()))
    return context.result


async def _see_whose_it_is(context: RunContext) -> None:
    """Raise OtherHelpdesk, before anything is written, when the archive is another helpdesk's."""
    archive, address = context.archive, context.options.source_name
    if not see_address(archive, address, moved=context.options.moved, listener=context.listener):
        return
    known = archive.queries.helpdesk()
    see_moved(
        await compare(context.source, context.archive.queries.witnesses(MOST_ASKED)),
        known.address if known else "",
        address,
    )
    archive.ledger.set_helpdesk(address, run_id=None)
    context.listener(Notice(f"this archive belongs to {address} from now on"))


async def _note(context: RunContext, progress: Progress) -> None:
    """Record progress in the checkpoint, for `status` and the pages."""
    while True:
        facts = progress.facts()
        with suppress(MigratorError):  # it ends the run elsewhere
            await context.recorder.do(
                partial(context.archive.ledger.put_progress, context.result.run_id, facts)
            )
        await asyncio.sleep(PROGRESS_EVERY)


async def _begin(context: RunContext) -> None:
    archive, do, options = context.archive, context.recorder.do, context.options
    told = options.scope.told()
    if options.increment is not None:
        told["active_since"] = options.increment.floor
    if options.fast:
        told["fast"] = True
    if options.articles is False:
        told["articles"] = False
    unfinished = await do(archive.queries.unfinished_run)
    counts = await do(archive.queries.counts)
    info = await do(
        lambda: archive.ledger.begin_run(options.kind, source=options.source_name, scope=told)
    )
    context.result.run_id = info.id
    listed = sum(count.n for count in counts.values())
    open_ = counts[State.PENDING].n + counts[State.FAILED].n
    resumes = unfinished is not None or bool(open_)
    context.listener(RunStarted(info.id, options.kind, listed - open_, listed, resumes))
    if options.baseline is not None:
        context.listener(options.baseline.expected(counts))


async def _finish(context: RunContext, progress: Progress, now: int) -> None:
    result, archive, do = context.result, context.archive, context.recorder.do
    ledger = archive.ledger
    result.counts = await do(archive.queries.counts)
    if context.options.baseline is not None:
        await _compare_with(context.options.baseline, context)
    summary = result.summary()

    def finish() -> Verdict:
        """Record how the run ended, then the verdict, which is the exit code."""
        if context.options.posts:
            summary["threads_unread"] = archive.threads.count_unread()
        ledger.finish_run(result.run_id, exit_code=result.exit_code, summary=summary)
        set_marks(archive, result, context.options, now)
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
    context.listener(RunFinished(result.run_id, result.exit_code, counts, cut))
    with suppress(ArchiveError):  # nothing untrue is reported without it
        await do(partial(context.archive.ledger.put_progress, result.run_id, progress.facts()))


async def _compare_with(baseline: Baseline, context: RunContext) -> None:
    """Compare what was listed with the plan; a missing plan does not end the run.

    Files that texts link to are in no plan: it reads no texts.
    """
    result, queries = context.result, context.archive.queries
    whole = result.ended_by is None and result.proven
    try:
        result.drift = await context.recorder.do(
            lambda: baseline.compare(
                # A plan names the attachments of posts only.
                (row for row in queries.listed_in(result.run_id) if row.kind == "post"),
                whole=whole,
            )
        )
    except MigratorError as error:
        context.listener(Notice(f"the plan cannot be compared: {error}", "warning"))


async def _pull(context: RunContext, workers: Workers) -> None:
    directory, likeness = await concurrently(
        context.source.directory(),
        compare(context.source, context.archive.queries.witnesses(MOST_ASKED)),
    )
    see_same(
        likeness,
        context.options.source_name,
        accept_deletions=context.options.deletions.accept,
        accept_changes=context.options.changes.accept,
    )
    await context.recorder.do(partial(_see_earlier_contradiction, context))
    await context.recorder.do(partial(_write_down_whose_it_is, context))
    departments = [Department(one.id, one.title, one.app) for one in directory.departments]
    await context.recorder.do(lambda: context.archive.ledger.put_departments(departments))
    await workers.threads.put_statuses(directory.statuses)
    await workers.threads.put_labels()
    await workers.threads.announce()
    await workers.links.begin()
    await workers.fields.prepare()
    options, everything = context.options, context.options.increment is None
    whole = options.scope.whole and not options.fast
    async with workers.at_work():
        await context.source.list_tickets(
            options.scope,
            workers,
            increment=options.increment,
            fast=options.fast,
            most_gaps=options.most_gaps,
        )
        articles = ArticleReader(context, workers)
        if whole:
            if everything:
                await articles.read()
            await _queue_leftovers(context, workers, recheck=options.recheck)
        await workers.settle()
        if whole:
            await workers.threads.catch_up()
            await workers.links.catch_up()
            await workers.fields.catch_up()
            await workers.settle()
        await _fetch_fields(context, workers, recheck=options.recheck)
        if whole and everything and not context.stop.asked:
            await reconcile(context, workers)
            await workers.fields.catch_up()
            await _fetch_fields(context, workers, recheck=False)
            await articles.settle_deletions()
    await _index(context)


async def _index(context: RunContext) -> None:
    """Index the texts that wait for it: a few, or all of an archive of an older version."""
    threads, do = context.archive.threads, context.recorder.do
    waiting = await do(threads.unindexed)
    if waiting > MANY_TEXTS:
        text = f"indexing {waiting:,} texts for searches, which is needed once"
        context.listener(Notice(text, "info"))
    while not context.stop.asked and await do(threads.index_texts):
        pass


def _see_earlier_contradiction(context: RunContext) -> None:
    """Raise SafetyLimit while nobody has decided about the limit that stopped an earlier run.

    What that run recorded as changed is no longer a change: repeated runs would accept another
    helpdesk bit by bit.
    """
    if context.options.changes.accept:
        return
    whole = context.archive.queries.whole_pass()
    stopped = context.archive.queries.stopped(whole.id if whole else 0)
    if stopped is None or not (stopped.summary or {}).get("contradicted"):
        return
    context.result.contradicted = True
    raise SafetyLimit(
        "an earlier run found that the source lists other files under ids that we hold, and "
        "nobody has decided about it yet: is it another helpdesk, or one restored "
        "from a backup? What we hold is kept. To go on, run once with `migrator run "
        "--accept-changes`"
    )


def _write_down_whose_it_is(context: RunContext) -> None:
    """Record the address, once the helpdesk has answered: it may have been mistyped."""
    archive, address = context.archive, context.options.source_name
    known = archive.queries.helpdesk()
    if known is None or not same_address(known.address, address):
        archive.ledger.set_helpdesk(address, run_id=context.result.run_id)


async def _fetch_fields(context: RunContext, workers: Workers, *, recheck: bool) -> None:
    """Fetch the files in custom fields, now that the source has seen as many as it will."""
    await _queue_leftovers(context, workers, fields=True, recheck=recheck)
    await workers.settle()


async def _queue_leftovers(
    context: RunContext, workers: Workers, *, fields: bool = False, recheck: bool = False
) -> None:
    """Queue what earlier runs left open and no list of this run named.

    Their tickets may be merged, deleted or in the trash; requesting the attachment will show.
    With ``fields`` all that is open in custom fields, whoever named it.
    """
    after = 0
    while not context.stop.asked:
        batch = await context.recorder.do(
            partial(
                context.archive.queries.leftovers,
                context.result.run_id,
                now=int(time.time()),
                after=after,
                limit=BATCH,
                recheck=recheck,
                fields=fields,
            )
        )
        if not batch:
            return
        if fields and not after:
            await workers.fields.recall()
        if todo := workers.untried(batch):
            context.listener(LeftoversQueued(len(todo), sum(work.declared_size for work in todo)))
        for work in todo:
            await workers.fetch(work)
        after = batch[-1].id
