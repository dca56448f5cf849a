"""HTML from the helpdesk as text that a page may hold.

The sanitiser is ammonia (nh3), which parses as browsers do. It keeps structure and drops all else:
scripts, styles, forms, frames, names and classes that could pose as our own, and every image that
would be loaded from somewhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

import nh3
from markupsafe import Markup

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
_CID: Final = re.compile(r"cid:([^\s\"'<>()]{1,400})", re.IGNORECASE)


def clean(text: str, images: Mapping[str, str]) -> Markup:
    """Return the harmless part of an HTML fragment.

    ``images`` maps names of inline images, as their content ids begin, to addresses of our own.
    All other images lose their address; links lose every scheme but http, https, mailto and tel.
    """

    # It sees every attribute with an address, before ammonia looks at the scheme.
    def address(_tag: str, attribute: str, value: str) -> str | None:
        if attribute == "href":
            return value if value.strip().lower().startswith(_LINKS) else None
        if attribute == "src":
            found = _CID.fullmatch(value.strip())
            return images.get(_name(found[1])) if found else None
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
    # An image of which nothing is left says nothing to anybody.
    return Markup(safe.replace("<img>", ""))  # noqa: S704 - this is the place where HTML becomes harmless


def _name(content_id: str) -> str:
    return unquote(content_id).partition("@")[0]
