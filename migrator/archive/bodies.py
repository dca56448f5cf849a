"""The bodies of posts: HTML as plain text, and texts as searches compare them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Final

from lxml import etree

from migrator.archive.checkpoint import folded

_BREAKS: Final = re.compile(
    "address|article|aside|blockquote|br|dd|div|dl|dt|fieldset|figure|footer|form|h[1-6]|header|hr|"
    "li|main|nav|ol|p|pre|section|table|tbody|tfoot|thead|tr|ul"
)
_CELLS: Final = frozenset({"td", "th"})
_UNSEEN: Final = frozenset({"script", "style", "title", "template"})
_SPACE: Final = re.compile(r"[ \t\r\n\f]+")
_SPACES: Final = re.compile(r" {2,}")
_TAG: Final = re.compile(r"<[^<>]*>?")

DEEPEST: Final = 300
"""The deepest nesting: beyond it HTML parsers take time quadratic in the depth."""

_PIECE: Final = 64 * 1024
"""Characters handled at once: other threads wait meanwhile."""

_WORDS: Final = 4096

_CHUNK: Final = 4096
"""Bytes between two checks of the depth: libxml2 always parses all it was given."""


_IMAGE: Final = re.compile("<img", re.IGNORECASE)


class TooDeep(Exception):
    """The elements are nested deeper than in any mail."""


def searchable(text: str, is_html: bool) -> str:
    """Return a body as searches compare it: see :func:`folded`."""
    return folded(plain_text(text) if is_html else text)


def is_blank(text: str, is_html: bool) -> bool:
    """Return whether a body shows neither text nor image."""
    if not is_html or not text.strip():
        return not text.strip()
    return not _IMAGE.search(text) and not plain_text(text)


def plain_text(markup: str) -> str:
    """Return the text of HTML: blocks on lines of their own, no scripts, entities resolved.

    HTML that is too deep to be parsed only loses its tags.
    """
    reader = _Text()
    try:
        read(markup, reader)
    except TooDeep:
        reader = _Text()
        for piece in _between_tags(markup):
            reader.add(html.unescape(_TAG.sub(" ", piece)))
    return reader.text()


def _between_tags(markup: str) -> Iterator[str]:
    """Yield a text in pieces that end before a ``<``, so that no step takes long."""
    begin = 0
    while begin < len(markup):
        end = markup.find("<", begin + _PIECE)
        end = len(markup) if end < 0 else end
        yield markup[begin:end]
        begin = end


class Reader:
    """A target of the parser; raises TooDeep."""

    _depth = 0

    def start(self, _tag: str | bytes, _attrib: Mapping[str | bytes, str | bytes]) -> None:
        """Handle the start of an element."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise TooDeep

    def end(self, _tag: str | bytes) -> None:
        """Handle the end of an element."""
        self._depth -= 1

    def data(self, data: str | bytes) -> None:
        """Handle text."""

    def comment(self, text: str | bytes) -> None:
        """Handle a comment."""

    def close(self) -> None:
        """Handle the end of the document."""


class _Text(Reader):
    """Collects text with single spaces, none beside a line end, and at most one empty line.

    It does so bit by bit: a regular expression over megabytes would make all threads wait.
    """

    def __init__(self) -> None:
        self._found: list[str] = []
        self._joined: list[str] = []
        """What was found before, in few texts: many short ones take ten times their length."""
        self._unseen = 0
        self._lines, self._space = 0, False
        """The line ends that come before the next word, and whether a space does."""

    def text(self) -> str:
        """Return all that was found."""
        return "".join(self._joined + self._found).strip()

    def add(self, text: str) -> None:
        """Add text with spaces and line ends of its own."""
        first, *others = text.split("\n")
        self._add_line(first)
        for one in others:
            self._break(1)
            self._add_line(one)

    def _add_line(self, text: str) -> None:
        words = _SPACES.sub(" ", text)
        core = words.strip(" ")
        self._space = self._space or (words[:1] == " " and not self._lines)
        if core:
            before = "\n" * min(self._lines, 2) or " " * self._space
            self._found.append(before + core)
            if len(self._found) > _WORDS:
                self._joined.append("".join(self._found))
                self._found.clear()
            self._lines, self._space = 0, words[-1] == " "

    def _break(self, lines: int) -> None:
        self._lines, self._space = self._lines + lines, False

    def start(self, tag: str | bytes, attrib: Mapping[str | bytes, str | bytes]) -> None:
        super().start(tag, attrib)
        self._unseen += tag in _UNSEEN
        if _BREAKS.fullmatch(str(tag)):
            self._break(1)

    def end(self, tag: str | bytes) -> None:
        super().end(tag)
        self._unseen -= tag in _UNSEEN
        if tag == "p":
            self._break(2)
        elif tag != "br" and _BREAKS.fullmatch(str(tag)):
            self._break(1)
        elif tag in _CELLS:
            self._add_line(" ")

    def data(self, data: str | bytes) -> None:
        if not self._unseen:
            self._add_line(_SPACE.sub(" ", str(data)))


def read(markup: str, reader: Reader) -> None:
    """Parse any text with a reader, in time linear in its length.

    Raises TooDeep.
    """
    parser = etree.HTMLParser(target=reader, huge_tree=True, encoding="utf-8")
    data = markup.encode("utf-8", "replace")
    try:
        for begin in range(0, len(data), _CHUNK):
            parser.feed(data[begin : begin + _CHUNK])
        parser.close()
    except etree.LxmlError:
        # libxml2 reads nearly anything; if it gives up, the part read so far counts.
        return
