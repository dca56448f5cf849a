"""What clients may see of an archive: its tickets, queues and files, by the current rules.

Every face uses this module, so a ticket number or a queue means the same in each of them.
"""

from __future__ import annotations

import enum
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from migrator.archive import Archive
from migrator.archive.records import Response, ResponseFilter, Row, Rule, State, TicketHeader, Token
from migrator.serve.auth import sees
from migrator.serve.bounds import MAX_PEOPLE
from migrator.serve.cache import TimedCache
from migrator.serve.markup import (
    attachment_id,
    attachment_ids,
    cid_names,
    image_addresses,
    leads_to,
)
from migrator.serve.refusals import Refusal
from migrator.text import extension_of, name_key

_TICKETS: Final = 16
"""Tickets whose names are remembered; one may have 100,000."""

Names = Callable[[int], frozenset[str]]
"""Returns the names that one attachment of a ticket has alone."""

_IMAGES: Final = {
    "png": {"image/png"},
    "jpg": {"image/jpeg"},
    "jpeg": {"image/jpeg"},
    "gif": {"image/gif"},
    "webp": {"image/webp"},
    "bmp": {"image/bmp", "image/x-ms-bmp"},
}


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """The operator's settings.

    ``max_download`` is in bytes of the file itself; a file of exactly that size is served, a
    larger one in ranges only.
    ``posts_follow`` says that runs read posts after the attachments that name them: until then
    they are in no query, because a post that is read may move in the order of time, and an
    exporter would meet it twice or never.
    ``serve_deleted`` serves files and tickets that the source no longer has.
    ``snapshot`` says how old the served copy of an archive is, None for an archive itself.
    """

    max_download: int = 25 * 1024 * 1024
    serve_deleted: bool = False
    posts_follow: bool = False
    snapshot: Callable[[], Mapping[str, object]] | None = None

    def serves(self, row: Row) -> bool:
        """Return whether clients may get the bytes of an attachment at all."""
        return row.state is State.STORED or (row.state is State.DELETED and self.serve_deleted)

    def shows(self, ticket: TicketHeader) -> bool:
        """Return whether clients may see a ticket at all."""
        return ticket.deleted_at is None or self.serve_deleted


class Gate(enum.Enum):
    """The verdict of the rules on a file."""

    ALLOW = "allow"
    BLOCK = "block"
    REVIEW = "review"


def gate(rules: Mapping[str, Rule], filename: str) -> Gate:
    """Return the verdict of the rules by the extension of a file name.

    As in Tickiti, a type without a rule needs review, and a renamed file is judged by its new
    name: by the one under which a client saves it.
    """
    rule = rules.get(extension_of(filename))
    return Gate(rule.verdict) if rule else Gate.REVIEW


class Catalog:
    """An archive as clients may see it; each face has one, over a connection of its own."""

    def __init__(self, archive: Archive, settings: EndpointSettings) -> None:
        self.archive = archive
        self.settings = settings
        self.rules: TimedCache[dict[str, Rule]] = TimedCache(archive.access.rules)
        self._queues = TimedCache(lambda: archive.access.queues(deleted=settings.serve_deleted))

    def ticket(self, token: Token, *, id: int | None = None, number: str = "") -> TicketHeader:  # noqa: A002
        """Return the ticket of an id or a number, or the one it was merged into.

        Raises Refusal: 404 ``not_found`` where there is none (any more), 403 ``forbidden`` where
        the token does not see its queue.
        """
        found = self.archive.queries.ticket_id_for(number) if number else id
        ticket = None if found is None else self.archive.threads.survivor(found)
        if ticket is None or not self.settings.shows(ticket):
            which = "number" if number else "id"
            raise Refusal(404, "not_found", f"There is no ticket with this {which}.")
        if not sees(token, ticket.queue_id):
            raise Refusal(403, "forbidden", "This token has no access to the ticket's queue.")
        return ticket

    def merged(self, token: Token, ticket: TicketHeader) -> list[TicketHeader]:
        """Return the tickets that were merged into one, as far as the token sees their queues."""
        found = self.archive.threads.merged(ticket.id, limit=MAX_PEOPLE + 1)
        return [one for one in found if sees(token, one.queue_id)]

    def queues(self, token: Token) -> list[tuple[int, str, int]]:
        """Return the queues that a token sees: id, name and number of tickets, by id.

        Several departments may share one queue; the first one names it.
        """
        names: dict[int, str] = {}
        tickets: Counter[int] = Counter()
        for each in self._queues():
            if sees(token, each.queue_id):
                names.setdefault(each.queue_id, each.name)
                tickets[each.queue_id] += each.tickets
        return [(queue_id, names[queue_id], tickets[queue_id]) for queue_id in sorted(names)]

    def queue_ids(
        self,
        token: Token,
        *,
        names: Sequence[str] | None = None,
        ids: Iterable[int] | None = None,
    ) -> frozenset[int] | None:
        """Return the queues to search: the named ones that the token sees; None for all.

        Names match in any case; one that no queue has may be an id. A queue that the token does
        not see is treated like one that does not exist.
        """
        found = token.queues
        if ids is not None:
            found = frozenset(ids) if found is None else found.intersection(ids)
        if names is not None:
            meant: dict[str, set[int]] = {}
            for each in self._queues():
                meant.setdefault(name_key(each.name), set()).add(each.queue_id)
            for each in self._queues():
                meant.setdefault(str(each.queue_id), {each.queue_id})
            named = frozenset().union(*(meant.get(name_key(one), ()) for one in names))
            found = named if found is None else found & named
        return found

    def gate(self, row: Row) -> Gate:
        """Return the verdict of the rules on an attachment."""
        return gate(self.rules(), row.filename)

    def is_inline(self, row: Row) -> bool:
        """Return whether an attachment is an image inside the body of its post."""
        if not may_be_inline(row):
            return False
        wanted = ResponseFilter(response_ids=frozenset({row.post_id}))
        posts = self.archive.threads.query(wanted, limit=1)
        return any(self.inline_images(post, [row]) for post in posts)

    def names(self) -> Names:
        """Return a function for :meth:`inline_images` of many posts: it remembers a few tickets."""
        return functools.lru_cache(_TICKETS)(self.archive.threads.unique_names)

    def inline_images(
        self, post: Response, rows: Sequence[Row], names: Names | None = None
    ) -> frozenset[int]:
        """Return the ids of those attachments of a post that are images inside its body.

        Kayako keeps the content ids of mail parts, but its API does not return them; the HTML of a
        post still says ``<img src="cid:image001.png@01D9">``. An attachment counts as inline when
        that HTML shows an image whose ``cid:`` has, before the @, the attachment's name, no other
        attachment of the ticket has that name, its bytes are those of a pixel image, and its name
        ends as such images' names do. The last condition keeps a script with the head of a GIF
        from slipping by the rules that inline images skip. SVG, which can hold scripts, is never
        inline. An image that is shown by its address is inline, too: see :meth:`shown`.
        """
        images = [row for row in rows if _is_image(row)]
        if not images or not post.is_html:
            return frozenset()
        linked = frozenset(row.id for row in self.shown(post.text, images))
        shown = cid_names(post.text)
        found = [row for row in images if row.filename in shown]
        if not found:
            return linked
        unique = (names or self.archive.threads.unique_names)(post.ticket_id)
        return linked.union(row.id for row in found if row.filename in unique)

    def shown(self, text: str, rows: Sequence[Row]) -> list[Row]:
        """Return those files that an HTML text shows as images by their addresses.

        That of a linked file is its own; attachments of posts have one in the helpdesk's pages.
        """
        ids = set(attachment_ids(text))
        images = [row for row in rows if _is_image(row)]
        images = [row for row in images if row.kind == "linked" or row.id in ids]
        if not images:
            return []
        shown = image_addresses(text)
        named = set(map(attachment_id, shown))
        return [
            row
            for row in images
            if row.id in named
            or (row.kind == "linked" and any(leads_to(one, row.place) for one in shown))
        ]


def may_be_inline(row: Row) -> bool:
    """Return whether an attachment may be an image inside the body of its post."""
    return _is_image(row) and row.post_id > 0


def _is_image(row: Row) -> bool:
    return row.mime_type in _IMAGES.get(extension_of(row.filename), ())
