"""What belongs to no ticket: the articles of the knowledge base and the troubleshooter's steps.

A pass over the whole helpdesk reads them after the tickets, because Kayako has no list of those
that changed. Their files go through the same workers as all others. What is no longer listed counts
as deleted only after a pass that could read everything of its kind.
"""

from __future__ import annotations

import time
from functools import partial

from migrator.archive.records import ArticleRow, Work
from migrator.errors import NotFound, SafetyLimit, SourceError
from migrator.events import Notice
from migrator.pull.threads import listed_of
from migrator.pull.workers import RunContext, Workers
from migrator.sources.base import Article, HoldsArticles, raise_if_final

KINDS = {"article": "the knowledge base", "step": "the troubleshooter"}
_DAMAGED = "odd_row"


class ArticleReader:
    """Reads articles and steps for a run that is asked to."""

    def __init__(self, context: RunContext, workers: Workers) -> None:
        self._context = context
        self._workers = workers
        self._whole: list[str] = []
        """The kinds of which everything was read."""

    async def read(self) -> None:
        """Record all articles and steps, and queue their files."""
        source = self._context.source
        if not (self._context.options.articles and isinstance(source, HoldsArticles)):
            return
        for kind, place in KINDS.items():
            if self._context.stop.asked:
                return
            try:
                await self._read(source, kind)
            except NotFound:
                self._context.listener(Notice(f"this helpdesk does not offer {place}"))
            except SourceError as error:
                raise_if_final(error)
                self._context.result.articles_missing[place] = error.reason
                text = f"{place} could not be read whole: {error.reason}"
                self._context.listener(Notice(text, "warning"))

    async def _read(self, source: HoldsArticles, kind: str) -> None:
        missing = self._context.result.articles_missing
        before = len(missing)
        async for article in source.articles(kind):
            await self._take(article)
            if article.problem is not None:
                missing[f"{kind} {article.id}"] = article.problem.reason
            if self._context.stop.asked:
                return
        if len(missing) == before:
            self._whole.append(kind)

    async def _take(self, article: Article) -> None:
        context = self._context
        do, threads, run_id = context.recorder.do, context.archive.threads, context.result.run_id
        row = row_of(article)
        if _DAMAGED in article.notes:  # what is known of it is better
            known = await do(partial(threads.article, article.kind, article.id))
            context.result.articles_missing[f"{article.kind} {article.id}"] = (
                "its row in the list is damaged"
            )
            row = known or row

        def record() -> list[Work]:
            threads.put_articles(run_id, [row])
            return self._workers.links.record(0, [(0, row.text)])

        await self._workers.links.fetch(await do(record))
        await self._workers.take_files([listed_of(one) for one in article.files])
        context.result.articles += 1

    async def settle_deletions(self) -> None:
        """Mark what was not listed of the kinds that were read whole.

        Raises SafetyLimit when that would be too much.
        """
        archive, do, run_id = (
            self._context.archive,
            self._context.recorder.do,
            self._context.result.run_id,
        )
        for kind in self._whole if not self._context.stop.asked else ():
            unseen, stored = await do(partial(archive.queries.count_unlisted, [kind], run_id))
            if self._context.options.deletions.forbids(unseen, stored):
                raise SafetyLimit(
                    f"{KINDS[kind]} no longer lists {unseen:,} of {stored:,} stored files; nothing "
                    "was changed. If they were deleted on purpose, run again with "
                    "--accept-deletions"
                )
            text = f"{KINDS[kind]} no longer lists it"
            self._context.result.deleted += await do(
                partial(archive.ledger.mark_unlisted, [kind], run_id, text)
            )
            await do(partial(archive.threads.mark_articles_deleted, kind, run_id, int(time.time())))


def row_of(article: Article) -> ArticleRow:
    """Return an article as the archive keeps it."""
    return ArticleRow(
        article.kind,
        article.id,
        article.subject,
        article.author_name,
        article.created_at,
        article.is_html,
        article.text,
        ",".join(article.notes) or None,
        details=article.details,
    )
