"""The HTML of posts: as plain text, as harmless HTML, and the images it shows inside the body."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final
from urllib.parse import unquote

import nh3
from lxml import etree
from markupsafe import Markup

_BREAKS: Final = re.compile(
    "address|article|aside|blockquote|br|dd|div|dl|dt|fieldset|figure|footer|form|h[1-6]|header|hr|"
    "li|main|nav|ol|p|pre|section|table|tbody|tfoot|thead|tr|ul"
)
_CELLS: Final = frozenset({"td", "th"})
_UNSEEN: Final = frozenset({"head", "script", "style", "title", "template"})
_CID: Final = re.compile(r"\s*cid:([^@]*)@?", re.IGNORECASE)
_HAS_CID: Final = re.compile("cid:", re.IGNORECASE)
_BEHIND: Final = re.compile(r"[?#].*", re.DOTALL)
_ATTACHMENTS: Final = re.compile(r"/GetAttachment/[0-9]{1,15}/([0-9]{1,15})", re.ASCII)
_ATTACHMENT: Final = re.compile(rf"{_ATTACHMENTS.pattern}/?$", re.ASCII)
_SLASHES: Final = re.compile(r"/{2,}")
_UP: Final = re.compile(r"(?:\.{0,2}/)*")
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


class TooDeep(Exception):
    """The elements are nested deeper than in any mail."""


def plain_text(markup: str) -> str:
    """Return the text of HTML: blocks on lines of their own, no scripts, entities resolved.

    HTML that is too deep to be parsed only loses its tags.
    """
    reader = _Text()
    try:
        _read(markup, reader)
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


def as_html(text: str) -> str:
    """Return plain text as HTML that looks the same and can do nothing."""
    return html.escape(text).replace("\n", "<br />\n")


def is_deep(markup: str) -> bool:
    """Return whether elements are nested so deeply that layout would take for ever."""
    try:
        _read(markup, _Reader())
    except TooDeep:
        return True
    return False


def cid_names(markup: str) -> frozenset[str]:
    """Return the parts before the @ of the ``cid:`` addresses of a body's ``<img>`` elements.

    Many mail programs put the file's name there; nothing obliges them to.
    """
    if not _HAS_CID.search(markup):
        return frozenset()
    reader = _Images()
    with contextlib.suppress(TooDeep):
        _read(markup, reader)
    return frozenset(reader.found)


def image_addresses(markup: str) -> frozenset[str]:
    """Return the addresses of a body's ``<img>`` elements, of any scheme or of none."""
    reader = _Images()
    with contextlib.suppress(TooDeep):
        _read(markup, reader)
    return frozenset(reader.addresses)


def attachment_id(address: str) -> int:
    """Return which attachment an address of the helpdesk's own pages leads to; 0 for none.

    The ticket in it may have been merged since: only the attachment counts.
    """
    found = _ATTACHMENT.search(address.strip())
    return int(found[1]) if found else 0


def attachment_ids(markup: str, limit: int = 100) -> list[int]:
    """Return the first attachments that addresses in a body lead to."""
    return [int(found[1]) for found in islice(_ATTACHMENTS.finditer(markup), limit)]


def file_name(address: str) -> str:
    """Return the last part of an address."""
    return unquote(_BEHIND.sub("", address.strip()).rpartition("/")[2])


def leads_to(address: str, place: str) -> bool:
    """Return whether an address, whole or relative, ends with the path of a linked file."""
    path = _SLASHES.sub("/", unquote(_BEHIND.sub("", address.strip())))
    return path.endswith(place) or place.endswith(f"/{_UP.sub('', path, count=1)}")


class _Reader:
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


class _Text(_Reader):
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


class _Images(_Reader):
    def __init__(self) -> None:
        self.found: list[str] = []
        self.addresses: list[str] = []

    def start(self, tag: str | bytes, attrib: Mapping[str | bytes, str | bytes]) -> None:
        super().start(tag, attrib)
        if tag != "img" or not (address := str(attrib.get("src", ""))):
            return
        self.addresses.append(address)
        named = _CID.match(address)
        if named and named[1]:
            self.found.append(unquote(named[1]))


def _read(markup: str, reader: _Reader) -> None:
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


_ALLOWED: Final = """
    a abbr address b bdi bdo blockquote br caption center cite code col colgroup dd del dfn div dl
    dt em h1 h2 h3 h4 h5 h6 hr i img ins kbd li ol p pre q s samp small span strike strong sub sup
    table tbody td tfoot th thead tr tt u ul var"""
_TAGS: Final = frozenset(_ALLOWED.split())
_ATTRIBUTES: Final = {
    "*": {"dir", "lang", "title"},
    "a": {"href"},
    "img": {"src", "alt"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
    "ol": {"start"},
}
_LINKS: Final = ("http:", "https:", "mailto:", "tel:")
_CONTENT_ID: Final = re.compile(r"cid:([^\s\"'<>()]{1,400})", re.IGNORECASE)


def clean(
    text: str,
    images: Mapping[str, str],
    own: Callable[[str, str], str | None] = lambda _attribute, _address: None,
) -> Markup:
    """Return the harmless part of an HTML fragment, fit for a page.

    ammonia (nh3) parses as browsers do. It keeps structure and drops all else: scripts, styles,
    forms, frames, names and classes that could pose as our own, and every image that would be
    loaded from somewhere else.

    ``images`` maps names of inline images, as their content ids begin, to addresses of our own.
    ``own`` returns ours for the address of an image (``src``) or a link (``href``), if we have one.
    All other images lose their address; links lose every scheme but http, https, mailto and tel.
    """

    # It sees every attribute with an address, before ammonia looks at the scheme.
    def address(_tag: str, attribute: str, value: str) -> str | None:
        if attribute == "href":
            ours = own(attribute, value)
            return ours or (value if value.strip().lower().startswith(_LINKS) else None)
        if attribute == "src":
            found = _CONTENT_ID.fullmatch(value.strip())
            return images.get(_name(found[1])) if found else own(attribute, value)
        return value

    safe = nh3.clean(
        text,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=address,
        url_schemes={"http", "https", "mailto", "tel", "cid"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    # An image without attributes shows nothing.
    return Markup(safe.replace("<img>", ""))  # noqa: S704 - this is the place where HTML becomes harmless


def _name(content_id: str) -> str:
    return unquote(content_id).partition("@")[0]
