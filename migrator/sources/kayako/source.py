"""Kayako Classic as a source: the implementation of the contract."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import TypeVar

from migrator.errors import NotFound
from migrator.events import Listener, ignore
from migrator.sources.base import (
    Article,
    Attachment,
    CopySink,
    CustomFields,
    Directory,
    Fetched,
    FetchSink,
    Increment,
    Label,
    Likeness,
    Receiver,
    Scope,
    Source,
    Thread,
    Ticket,
)
from migrator.sources.kayako import articles, links, tickets
from migrator.sources.kayako.client import Client
from migrator.sources.kayako.listing import FastListing, RecentListing, WholeListing
from migrator.sources.kayako.lists import LABELS
from migrator.sources.kayako.signing import KayakoSettings
from migrator.sources.kayako.tickets import LOOKS, page_of_look
from migrator.sources.kayako.walk import OVERLAP, Helpdesk, look_around
from migrator.sources.pace import Sleep

S = TypeVar("S", bound=FetchSink)

BEYOND = (
    "recipients in CC and BCC, chat transcripts and their files, call recordings, images of news, "
    "notes on single posts, custom fields of users, organizations, articles and time tracks, and "
    "the audit log. They are in the helpdesk's database and in its folder __swift/files only: keep "
    "a copy of both. Runs leave out news, comments on articles, titles of categories, and records "
    "of users and organizations, too"
)
"""What no API of Kayako gives, and what runs leave out."""


class KayakoSource:
    """A helpdesk behind the calls of its REST API.

    A listing requests ``page_size`` tickets at once, and makes up to ``concurrency`` requests at
    once for single tickets. It walks up to ``looks`` times until nothing moves any more. Files
    that texts link to are those of the host of ``url``; without it there are none.
    """

    def __init__(
        self,
        client: Client,
        *,
        page_size: int = 100,
        concurrency: int = 8,
        looks: int = LOOKS,
        url: str = "",
    ) -> None:
        self._client = client
        self._page_size = page_size
        self._concurrency = concurrency
        self._looks = looks
        self._helpdesk: Helpdesk | None = None
        self._portal = links.Portal.of(url)

    beyond = BEYOND

    @property
    def requests(self) -> Counter[str]:
        """The requests so far, by kind."""
        return self._client.requests

    def pages(self, tickets: int) -> int:
        """Return how many pages a whole listing of so many tickets requests.

        They overlap, and are walked twice, to check that nothing moves.
        """
        sizes = [page_of_look(self._page_size, look) for look in (0, 1)]
        return sum(-(-tickets // max(1, size - size // OVERLAP)) for size in sizes)

    async def probe(self) -> None:
        """Make a light request: the departments."""
        await self._client.departments()

    async def directory(self) -> Directory:
        """Return the readable departments and statuses.

        Raises UnexpectedReply when there are none: nothing could be listed.
        """
        self._helpdesk = await look_around(self._client)
        return self._helpdesk

    async def labels(self) -> list[Label]:
        """Return the names of priorities, types and staff."""
        kinds = [await self._client.labels(kind) for kind in LABELS]
        return [label for found in kinds for label in found]

    async def compare(self, known: Sequence[Ticket]) -> Likeness:
        """Return how well this helpdesk agrees with tickets that an archive knows."""
        return await tickets.compare(self._client, known)

    async def list_tickets(
        self,
        scope: Scope,
        receiver: Receiver,
        *,
        increment: Increment | None = None,
        fast: bool = False,
        most_gaps: int | None = None,
    ) -> None:
        """Pass each ticket of the scope to the receiver, and again when it changed meanwhile."""
        task = tickets.Task(
            self._client,
            self._helpdesk or await look_around(self._client),
            scope,
            receiver,
            self._page_size,
            self._concurrency,
            self._looks,
            most_gaps,
        )
        if fast:
            await FastListing(task)()
        elif increment is not None:
            await RecentListing(task, increment)()
        else:
            await WholeListing(task)()

    async def locate(self, ticket_id: int, *, in_no_list: bool = False) -> Ticket | None:
        """Return a ticket, or the one it was merged into; None when it was deleted."""
        return await tickets.locate(self._client, ticket_id, in_no_list=in_no_list)

    async def thread(self, ticket_id: int, copy: CopySink | None = None) -> Thread:
        """Return a ticket with its posts, or the one it was merged into."""
        return await tickets.thread(self._client, ticket_id, copy)

    async def attachments(self, ticket: Ticket) -> list[Attachment]:
        """Return the attachments of a ticket."""
        return await self._client.attachments(ticket.id)

    async def fetch(
        self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        """Stream one attachment into a sink."""
        return await self._client.fetch(ticket_id, attachment_id, make_sink)

    async def count_fields(self) -> tuple[int, int]:
        """Return the numbers of custom fields of tickets, and of those that hold files."""
        found = await self._client.field_definitions()
        return found.fields, found.files

    async def custom_fields(self, ticket_id: int, copy: CopySink | None = None) -> CustomFields:
        """Return the custom fields of a ticket, also of one that was merged into another."""
        return await self._client.custom_fields(ticket_id, copy)

    def linked(self, text: str, ticket_id: int, post_id: int) -> list[Attachment]:
        """Return the files of this helpdesk's own host that a text links to."""
        if self._portal is None:
            return []
        return links.attachments(text, self._portal, ticket_id, post_id)

    def articles(self, kind: str) -> AsyncIterator[Article]:
        """Yield all articles or troubleshooter steps, each with its files."""
        return articles.articles(self._client, kind, self._concurrency)

    async def fetch_other(
        self, kind: str, place: str, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        """Stream a file that belongs to no post into a sink."""
        if kind == "linked":
            return await self._client.fetch_linked(place, attachment_id, make_sink)
        if kind in articles.BASES:
            return await articles.fetch(self._client, kind, place, attachment_id, make_sink)
        if kind == "customfield":
            return await self._client.fetch_field(place, make_sink)
        raise NotFound(f"this source has no files of the kind {kind}")


@asynccontextmanager
async def connect(
    settings: KayakoSettings,
    *,
    pool: Executor | None = None,
    listener: Listener = ignore,
    sleep: Sleep = asyncio.sleep,
    patient: bool = True,
) -> AsyncIterator[Source]:
    """Yield the source at an address; nothing is requested before its first call."""
    async with Client(
        settings, pool=pool, listener=listener, sleep=sleep, patient=patient
    ) as client:
        yield KayakoSource(
            client,
            page_size=settings.page_size,
            concurrency=settings.concurrency,
            url=settings.url,
        )
