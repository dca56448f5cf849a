"""Responses on their way into answers: read page by page, with what their attachments tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from migrator.archive import Archive
from migrator.archive.records import Response
from migrator.tickiti.asked import Parts
from migrator.tickiti.inline import InlineImages
from migrator.tickiti.objects import attachment_object, response_object
from migrator.tickiti.settings import EndpointSettings

PAGE: Final = 16
"""Responses read at once: each may have megabytes of text."""

After = tuple[int, int]
"""A place in a list of responses: the time and the id of the last one before it."""

Read = Callable[[After | None, int, int | None], Sequence[Response]]
"""Reads responses after a place, at most so many, with texts of at most so many characters."""


class Responses:
    """Reads and tells responses for all endpoints that do."""

    def __init__(self, archive: Archive, settings: EndpointSettings) -> None:
        self._threads = archive.threads
        self._settings = settings
        self._inline = InlineImages(archive)

    def told(
        self, read: Read, parts: Parts, *, after: After | None = None, most: int | None = None
    ) -> Iterator[tuple[Response, dict[str, object]]]:
        """Yield responses from ``after`` on, ``most`` of them at most, each with its object."""
        text_limit = None if parts.heavy else 0
        while most is None or most > 0:
            wanted = PAGE if most is None else min(PAGE, most)
            page = read(after, wanted, text_limit)
            yield from self._page(page, parts)
            if len(page) < wanted:
                return
            after = (page[-1].created_at, page[-1].id)
            most = None if most is None else most - wanted

    def _page(
        self, page: Sequence[Response], parts: Parts
    ) -> Iterator[tuple[Response, dict[str, object]]]:
        files = {}
        if page and "attachments" in parts.heavy:
            files = self._threads.attachments_of([one.id for one in page])
        for one in page:
            rows = [row for row in files.get(one.id, []) if self._settings.serves(row)]
            inline = self._inline.among(one, rows)
            objects = [attachment_object(row, is_inline=row.id in inline) for row in rows]
            yield one, response_object(one, parts, objects)


def array(objects: Iterator[dict[str, object]]) -> Iterator[str]:
    """Yield the pieces of a JSON array."""
    opening = "["
    for one in objects:
        yield opening + json.dumps(one)
        opening = ", "
    yield "]" if opening == ", " else "[]"
