"""The HTML of posts: as harmless HTML, and the images it shows inside the body."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final
from urllib.parse import unquote

import nh3
from lxml.html import defs
from markupsafe import Markup

from migrator.archive.bodies import Reader, TooDeep, read

_CID: Final = re.compile(r"\s*cid:([^@]*)@?", re.IGNORECASE)
_HAS_CID: Final = re.compile("cid:", re.IGNORECASE)
_BEHIND: Final = re.compile(r"[?#].*", re.DOTALL)
_ATTACHMENTS: Final = re.compile(r"/GetAttachment/[0-9]{1,15}/([0-9]{1,15})", re.ASCII)
_ATTACHMENT: Final = re.compile(rf"{_ATTACHMENTS.pattern}/?$", re.ASCII)
_SLASHES: Final = re.compile(r"/{2,}")
_UP: Final = re.compile(r"(?:\.{0,2}/)*")


def as_html(text: str) -> str:
    """Return plain text as HTML that looks the same and can do nothing."""
    return html.escape(text).replace("\n", "<br />\n")


def is_deep(markup: str) -> bool:
    """Return whether elements are nested so deeply that layout would take for ever."""
    try:
        read(markup, Reader())
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
        read(markup, reader)
    return frozenset(reader.found)


def image_addresses(markup: str) -> frozenset[str]:
    """Return the addresses of a body's ``<img>`` elements, of any scheme or of none."""
    reader = _Images()
    with contextlib.suppress(TooDeep):
        read(markup, reader)
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


class _Images(Reader):
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


_ALLOWED: Final = """
    a abbr address b bdi bdo blockquote br caption center cite code col colgroup dd del dfn div dl
    dt em h1 h2 h3 h4 h5 h6 hr i img ins kbd li ol p pre q s samp small span strike strong sub sup
    table tbody td tfoot th thead tr tt u ul var"""
_TAGS: Final = frozenset(_ALLOWED.split())
_OTHERS: Final = "image noembed noframes plaintext template xmp"
_HTML: Final = (defs.tags | _TAGS | {*_OTHERS.split()}) - {"math", "svg"}
"""The elements whose names mean something to a parser of HTML."""
_NAMED: Final = re.compile(r"(</?)([a-z][^\s/>]*)", re.IGNORECASE)
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
    # ammonia drops what is in an element that is none of HTML's, but could be of SVG or MathML: a
    # text such as <product>, <path> or <limit> that nobody escaped would take the rest along.
    text = _NAMED.sub(lambda tag: tag[0] if tag[2].lower() in _HTML else f"{tag[1]}x", text)

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
