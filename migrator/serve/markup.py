"""What the HTML of a post says: as plain text, and the images it shows inside its body.

Which attachments are images inside the body of their response: a guess, made only when sure.

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

import contextlib
import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from lxml import etree

from migrator.archive import Archive, extension_of
from migrator.archive.records import Response, ResponseFilter, Row

_BREAKS: Final = re.compile(
    "address|article|aside|blockquote|br|dd|div|dl|dt|fieldset|figure|footer|form|h[1-6]|header|hr|"
    "li|main|nav|ol|p|pre|section|table|tbody|tfoot|thead|tr|ul"
)
_CELLS: Final = frozenset({"td", "th"})
_UNSEEN: Final = frozenset({"head", "script", "style", "title", "template"})
_CID: Final = re.compile(r"\s*cid:([^@]*)@?", re.IGNORECASE)
_HAS_CID: Final = re.compile("cid:", re.IGNORECASE)
_SPACE: Final = re.compile(r"[ \t\r\n\f]+")
_SPACES: Final = re.compile(r" {2,}")
_AROUND_BREAK: Final = re.compile(r" ?\n ?")
_EMPTY_LINES: Final = re.compile(r"\n{3,}")
_TAG: Final = re.compile(r"<[^<>]*>?")

DEEPEST: Final = 300
"""Elements inside each other; beyond, all parsers of HTML take time quadratic in the depth."""

_CHUNK: Final = 4096
"""Bytes between two looks at the depth: libxml2 goes on to the end of what it was given."""


class TooDeep(Exception):
    """The elements are nested as no mail program nests them."""


def plain_text(markup: str) -> str:
    """Return the text of HTML: blocks on lines of their own, no scripts, entities resolved.

    Of HTML that is too deep to be parsed it is what remains without the tags.
    """
    reader = _Text()
    try:
        _read(markup, reader)
    except TooDeep:
        reader.found = [html.unescape(_TAG.sub(" ", markup))]
    text = _AROUND_BREAK.sub("\n", _SPACES.sub(" ", "".join(reader.found)))
    return _EMPTY_LINES.sub("\n\n", text).strip()


def as_html(text: str) -> str:
    """Return plain text as HTML that looks the same and can do nothing."""
    return html.escape(text).replace("\n", "<br />\n")


def is_deep(markup: str) -> bool:
    """Tell whether elements are nested so deeply that laying them out would take for ever."""
    try:
        _read(markup, _Reader())
    except TooDeep:
        return True
    return False


def cid_names(markup: str) -> frozenset[str]:
    """Return what stands before the @ in the ``cid:`` addresses of the ``<img>`` of a body.

    Many mail programs put the file's name there; nothing obliges them to.
    """
    if not _HAS_CID.search(markup):
        return frozenset()
    reader = _Images()
    with contextlib.suppress(TooDeep):
        _read(markup, reader)
    return frozenset(reader.found)


class _Reader:
    """Told by the parser what it meets; raises TooDeep."""

    _depth = 0

    def start(self, _tag: str | bytes, _attrib: Mapping[str | bytes, str | bytes]) -> None:
        """Meet the begin of an element."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise TooDeep

    def end(self, _tag: str | bytes) -> None:
        """Meet the end of an element."""
        self._depth -= 1

    def data(self, data: str | bytes) -> None:
        """Meet text."""

    def comment(self, text: str | bytes) -> None:
        """Meet a comment."""

    def close(self) -> None:
        """Meet the end."""


class _Text(_Reader):
    def __init__(self) -> None:
        self.found: list[str] = []
        self._unseen = 0

    def start(self, tag: str | bytes, attrib: Mapping[str | bytes, str | bytes]) -> None:
        super().start(tag, attrib)
        self._unseen += tag in _UNSEEN
        if _BREAKS.fullmatch(str(tag)):
            self.found.append("\n")

    def end(self, tag: str | bytes) -> None:
        super().end(tag)
        self._unseen -= tag in _UNSEEN
        if tag == "p":
            self.found.append("\n\n")
        elif tag != "br" and _BREAKS.fullmatch(str(tag)):
            self.found.append("\n")
        elif tag in _CELLS:
            self.found.append(" ")

    def data(self, data: str | bytes) -> None:
        if not self._unseen:
            self.found.append(_SPACE.sub(" ", str(data)))


class _Images(_Reader):
    def __init__(self) -> None:
        self.found: list[str] = []

    def start(self, tag: str | bytes, attrib: Mapping[str | bytes, str | bytes]) -> None:
        super().start(tag, attrib)
        named = _CID.match(str(attrib.get("src", ""))) if tag == "img" else None
        if named and named[1]:
            self.found.append(unquote(named[1]))


def _read(markup: str, reader: _Reader) -> None:
    """Let a reader see the tags and texts of any text whatsoever, in time linear in its length.

    Raises TooDeep.
    """
    parser = etree.HTMLParser(target=reader, huge_tree=True, encoding="utf-8")
    data = markup.encode("utf-8", "replace")
    try:
        for begin in range(0, len(data), _CHUNK):
            parser.feed(data[begin : begin + _CHUNK])
        parser.close()
    except etree.LxmlError:
        # libxml2 reads nearly anything; where it gives up, what it read until then counts.
        return


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
