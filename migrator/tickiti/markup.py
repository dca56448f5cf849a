"""What the HTML of a post says: as plain text, and the images it shows inside its body."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from lxml import etree

_BREAKS: Final = re.compile(
    "address|article|aside|blockquote|br|dd|div|dl|dt|fieldset|figure|footer|form|h[1-6]|header|hr|"
    "li|main|nav|ol|p|pre|section|table|tbody|tfoot|thead|tr|ul"
)
_CELLS: Final = frozenset({"td", "th"})
_UNSEEN: Final = frozenset({"head", "script", "style", "title", "template"})
_CID: Final = re.compile(r"\s*cid:([^@]*)@?", re.IGNORECASE)
_HAS_CID: Final = re.compile("cid:", re.IGNORECASE)
_SPACE: Final = re.compile(r"[ \t\r\n\f]+")
_AROUND_BREAK: Final = re.compile(r" *\n *")
_EMPTY_LINES: Final = re.compile(r"\n{3,}")


def plain_text(markup: str) -> str:
    """Return the text of HTML: blocks on lines of their own, no scripts, entities resolved."""
    reader = _Text()
    _read(markup, reader)
    text = _AROUND_BREAK.sub("\n", "".join(reader.found))
    return _EMPTY_LINES.sub("\n\n", text).strip()


def as_html(text: str) -> str:
    """Return plain text as HTML that looks the same and can do nothing."""
    return html.escape(text).replace("\n", "<br />\n")


def cid_names(markup: str) -> frozenset[str]:
    """Return what stands before the @ in the ``cid:`` addresses of the ``<img>`` of a body.

    Many mail programs put the file's name there; nothing obliges them to.
    """
    if not _HAS_CID.search(markup):
        return frozenset()
    reader = _Images()
    _read(markup, reader)
    return frozenset(reader.found)


class _Reader:
    """Told by the parser what it meets."""

    def start(self, tag: str | bytes, attrib: Mapping[str | bytes, str | bytes]) -> None:
        """Meet the begin of an element."""

    def end(self, tag: str | bytes) -> None:
        """Meet the end of an element."""

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

    def start(self, tag: str | bytes, _attrib: Mapping[str | bytes, str | bytes]) -> None:
        self._unseen += tag in _UNSEEN
        if _BREAKS.fullmatch(str(tag)):
            self.found.append("\n")

    def end(self, tag: str | bytes) -> None:
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
        named = _CID.match(str(attrib.get("src", ""))) if tag == "img" else None
        if named and named[1]:
            self.found.append(unquote(named[1]))


def _read(markup: str, reader: _Reader) -> None:
    """Let a reader see the tags and texts of any text whatsoever, in time linear in its length."""
    parser = etree.HTMLParser(target=reader, huge_tree=True, encoding="utf-8")
    try:
        parser.feed(markup.encode("utf-8", "replace"))
        parser.close()
    except etree.LxmlError:
        # libxml2 reads nearly anything; where it gives up, what it read until then counts.
        return
