"""Files that texts link to: listed where a text is read, once for each ticket and address.

A text that was read before anybody looked for links is looked at from the archive, once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from migrator.archive.records import Listed, Work
from migrator.events import LeftoversQueued
from migrator.sources.base import Attachment, HoldsLinks

if TYPE_CHECKING:
    from migrator.pull.workers import RunContext

MARK = "links"
LOOKS_FOR = 1
"""Value of the mark once all texts were looked at: more when other addresses are looked for."""

_TEXTS = 20
"""Texts read from the archive at once: each may have some MiB."""


class LinkReader:
    """Records the files that texts link to, for a run that is asked to keep them."""

    def __init__(self, context: RunContext, queue: Callable[[Work], Awaitable[None]]) -> None:
        source = context.source
        self._context = context
        self._queue = queue
        self._source = source if isinstance(source, HoldsLinks) else None
        self._queued: set[int] = set()

    @property
    def _wanted(self) -> bool:
        return self._context.options.linked and self._source is not None

    async def begin(self) -> None:
        """Record whether texts that this run reads are looked at."""
        archive = self._context.archive
        if not self._context.options.posts:
            return

        def note() -> None:
            known = archive.queries.mark(MARK)
            if not self._wanted:
                if known is not None and known.value:
                    self._mark(0)
            elif known is None and not archive.threads.texts(limit=1):
                self._mark(LOOKS_FOR)

        await self._context.recorder.do(note)

    def record(self, ticket_id: int, texts: Iterable[tuple[int, str]]) -> list[Work]:
        """Record the files that texts of a ticket link to; return what is to be fetched.

        Texts are (response, text), oldest first; those of no ticket (articles, notes about people)
        have ticket and response 0. A file belongs to the first of them. To be called where the
        texts are recorded.
        """
        if not self._wanted or self._source is None:
            return []
        found: dict[str, Attachment] = {}
        for response_id, text in texts:
            for one in self._source.linked(text, ticket_id, response_id):
                found.setdefault(one.place, one)
        if not found:
            return []
        context = self._context
        known = context.archive.queries.linked(ticket_id, found)
        listed = [
            _listed(one, *known.get(one.place, (one.id, one.post_id))) for one in found.values()
        ]
        ledger, run_id = context.archive.ledger, context.result.run_id
        return ledger.record_files(run_id, listed, recheck=context.options.recheck).todo

    async def fetch(self, todo: Iterable[Work]) -> None:
        """Queue what :meth:`record` returned."""
        new = [work for work in todo if work.id not in self._queued]
        if not new:
            return
        self._queued.update(work.id for work in new)
        self._context.listener(LeftoversQueued(len(new)))
        for work in new:
            await self._queue(work)

    async def catch_up(self) -> None:
        """Look at all texts of the archive, unless that was done before."""
        context = self._context
        if not self._wanted or not context.options.posts:
            return
        mark = await context.recorder.do(partial(context.archive.queries.mark, MARK))
        if mark is not None and mark.value >= LOOKS_FOR:
            return
        after: tuple[int, int, int] | None = (-1, 0, 0)
        while after is not None and not context.stop.asked:
            after, todo = await context.recorder.do(partial(self._look, after))
            await self.fetch(todo)
        await self.fetch(await context.recorder.do(self._look_at_people))
        article: tuple[str, int] | None = ("", 0)
        while article is not None and not context.stop.asked:
            article, todo = await context.recorder.do(partial(self._look_at_articles, article))
            await self.fetch(todo)
        if not context.stop.asked:
            await context.recorder.do(partial(self._mark, LOOKS_FOR))

    def _look(self, after: tuple[int, int, int]) -> tuple[tuple[int, int, int] | None, list[Work]]:
        """Look at a few texts behind a place; return the next place and what is to be fetched."""
        threads, todo = self._context.archive.threads, list[Work]()
        posts = threads.texts(after=after, limit=_TEXTS)
        for ticket_id, of_ticket in groupby(posts, key=lambda post: post.ticket_id):
            todo += self.record(ticket_id, [(post.id, post.text) for post in of_ticket])
        if len(posts) < _TEXTS:
            return None, todo
        last = posts[-1]
        return (last.ticket_id, last.created_at, last.id), todo

    def _look_at_people(self) -> list[Work]:
        notes = self._context.archive.threads.all_people_notes()
        return self.record(0, ((0, note.text) for note in notes))

    def _look_at_articles(
        self, after: tuple[str, int]
    ) -> tuple[tuple[str, int] | None, list[Work]]:
        articles = self._context.archive.threads.articles(after=after, limit=_TEXTS)
        todo = self.record(0, [(0, one.text) for one in articles])
        return ((articles[-1].kind, articles[-1].id) if articles else None), todo

    def _mark(self, value: int) -> None:
        self._context.archive.ledger.set_mark(MARK, value, run_id=self._context.result.run_id)


def _listed(one: Attachment, number: int, post_id: int) -> Listed:
    return Listed(
        number,
        one.ticket_id,
        post_id,
        one.filename,
        one.filetype,
        0,
        one.created_at,
        kind=one.kind,
        place=one.place,
    )
