"""Which attachments are images inside the body of their response: a guess, made only when sure.

Kayako keeps the content ids of mail parts, but its REST API does not tell them; the HTML of a
post still says ``<img src="cid:image001.png@01D9">``. An attachment counts as inline when all
of this holds:

- the HTML of its own post shows an image whose ``cid:`` has, before the @, the attachment's name,
- no other attachment of the ticket has that name,
- its bytes are those of a pixel image, and its name ends as such images' names do.

The last condition keeps a script with the head of a GIF from slipping by the rules that inline
images skip. SVG, which can hold scripts, is never inline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from migrator.archive import Archive, extension_of
from migrator.archive.records import Response, ResponseFilter, Row
from migrator.tickiti.markup import cid_names

_IMAGES: Final = {
    "png": {"image/png"},
    "jpg": {"image/jpeg"},
    "jpeg": {"image/jpeg"},
    "gif": {"image/gif"},
    "webp": {"image/webp"},
    "bmp": {"image/bmp", "image/x-ms-bmp"},
}


class InlineImages:
    """Finds the inline images of an archive."""

    def __init__(self, archive: Archive) -> None:
        self._threads = archive.threads

    def has(self, row: Row) -> bool:
        """Tell whether an attachment is an inline image."""
        if not _is_image(row) or row.post_id <= 0:
            return False
        wanted = ResponseFilter(response_ids=frozenset({row.post_id}))
        return any(self.among(one, [row]) for one in self._threads.query(wanted, limit=1))

    def among(self, response: Response, rows: Sequence[Row]) -> frozenset[int]:
        """Return the ids of those attachments of a response, given as ``rows``, that are inline."""
        images = [row for row in rows if _is_image(row)]
        if not images or not response.is_html:
            return frozenset()
        shown = cid_names(response.text)
        found = [row for row in images if row.filename in shown]
        if not found:
            return frozenset()
        names = Counter(
            row.filename for row in self._threads.attachments_of_ticket(response.ticket_id)
        )
        return frozenset(row.id for row in found if names[row.filename] == 1)


def _is_image(row: Row) -> bool:
    return row.mime_type in _IMAGES.get(extension_of(row.filename), ())
