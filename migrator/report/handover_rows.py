"""The lists of a handover: one line of JSON for each attachment, ticket and post."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from migrator.archive.records import Response, Row, TicketHeader
from migrator.report.plain import iso_time

if TYPE_CHECKING:
    from migrator.archive import Archive

Place = Callable[[Row], tuple[str | None, str | None]]
"""Tells where the file of an attachment is in the handover, and where in its tree."""

MANIFEST, TICKETS, POSTS = "manifest.jsonl", "tickets.jsonl", "posts.jsonl"
_TIMES = ("created_at", "stored_at", "last_activity", "deleted_at")


def _reader(kind: type[Row | TicketHeader | Response]) -> tuple[list[str], attrgetter[Any]]:
    names = [one.name for one in dataclasses.fields(kind)]
    return names, attrgetter(*names)


_FIELDS = {kind: _reader(kind) for kind in (Row, TicketHeader, Response)}
"""Found once: there are millions of rows."""


class Lists:
    """Writes the lists; ``without_file`` counts, while the manifest is written."""

    def __init__(self, archive: Archive, place: Place) -> None:
        self._archive = archive
        self._place = place
        self._queues = {queue.department_id: queue for queue in archive.access.queues()}
        self.without_file = 0

    def all(self) -> Mapping[str, Iterator[str]]:
        """Give the lines of each list by its name."""
        everything = self._archive.everything
        return {
            MANIFEST: map(self._attachment, self._archive.ledger.rows()),
            TICKETS: map(self._ticket, everything.tickets()),
            POSTS: map(self._post, everything.posts()),
        }

    def _attachment(self, row: Row) -> str:
        path, tree = self._place(row)
        self.without_file += path is None
        facts = _plain(row)
        # ``id`` alone would not say whose.
        facts = {"attachment_id": facts.pop("id"), **facts}
        department, queue = self._room(row.department_id)
        facts |= {"state": row.state.value, "department": department, "queue_name": queue}
        return _line(facts | {"path": path, "tree": tree})

    def _ticket(self, ticket: TicketHeader) -> str:
        facts = _plain(ticket)
        facts = {"ticket_id": facts.pop("id"), **facts}
        return _line(facts | {"department": self._room(ticket.department_id)[0]})

    def _post(self, post: Response) -> str:
        facts = _plain(post)
        return _line({"post_id": facts.pop("id"), **facts})

    def _room(self, department_id: int) -> tuple[str, str]:
        """Name a department and the queue that stands for it."""
        queue = self._queues.get(department_id)
        if queue is None:  # known by a ticket that was merged into another one, and by no list
            return f"Department {department_id}", f"Department {department_id}"
        return queue.title, queue.name


def _plain(record: Row | TicketHeader | Response) -> dict[str, object]:
    """Give a record's fields, with times as ISO 8601 in UTC; null where there is none."""
    names, values = _FIELDS[type(record)]
    facts = dict(zip(names, values(record), strict=True))
    for name in _TIMES:
        if name in facts:
            facts[name] = iso_time(facts[name]) or None
    return facts


def _line(facts: Mapping[str, object]) -> str:
    return json.dumps(facts) + "\n"
