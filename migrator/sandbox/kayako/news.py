"""The calls for news: they have no files, and what is linked in them is like any other link."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from migrator.sandbox.kayako.build import EPOCH
from migrator.sandbox.kayako.calls import Ask, listing
from migrator.sandbox.kayako.guides import COMMENTS
from migrator.sandbox.kayako.messages import Fields, Reply, columns, escaped, table
from migrator.sandbox.kayako.model import number
from migrator.sandbox.kayako.people import chooser

_CATEGORIES: Final[list[Fields]] = [
    {"id": 1, "title": "Maintenance", "newsitemcount": 2, "visibilitytype": "public"},
    {"id": 2, "title": "Interna & more", "newsitemcount": 1, "visibilitytype": "private"},
]
_SUBSCRIBERS: Final[list[Fields]] = [
    columns(
        "id tgroupid userid email isvalidated usergroupid",
        id=n,
        tgroupid=1,
        email=f"reader{n}@example.com",
        isvalidated=n % 2,
        usergroupid=1,
    )
    for n in (1, 2)
]
_PUBLISHED: Final = 2
_LONGEST: Final = 500
"""The characters of a text that the list of a category has."""


def _items(ask: Ask) -> Iterable[Fields]:
    """Yield a global, a public and a private one; the last is a draft."""
    for n in (1, 2, 3):
        private = n == 3
        yield columns(
            "id staffid newstype newsstatus author email subject emailsubject- dateline start "
            "expiry issynced totalcomments uservisibilitycustom usergroupidlist "
            "staffvisibilitycustom staffgroupidlist allowcomments contents categories",
            id=n,
            staffid=1,
            newstype=n,
            newsstatus=1 if private else _PUBLISHED,
            author=ask.desk.name_of(1),
            email="staff@help.example.com",
            subject=f"News {n}: <b>down</b> & up",
            dateline=EPOCH + n,
            totalcomments=COMMENTS if n == 1 else 0,
            usergroupidlist=[],
            staffvisibilitycustom=int(private),
            staffgroupidlist=[{"staffgroupid": (1, 2)}] if private else [],
            allowcomments=1,
            contents="<p>" + "We move & shake. " * 40 + "</p>",
            categories=[{"categoryid": 2 if private else 1}],
        )


def list_items(ask: Ask, category: str) -> Reply:
    """List what is published, newest first and cut: an unknown category has all of it."""
    known, rows = number(category), []
    for row in sorted(_items(ask), key=lambda row: str(row["dateline"]), reverse=True):
        held = row["categories"] == [{"categoryid": known}]
        if row["newsstatus"] == _PUBLISHED and (held or known not in {1, 2}):
            contents = re.sub("<[^>]*>", "", str(row["contents"]))[:_LONGEST]
            rows.append(row | {"subject": escaped(str(row["subject"])), "contents": contents})
    return listing(ask.desk, table("newsitems", "newsitem", rows))


get_item = chooser("newsitems", "newsitem", _items)
get_category = chooser("newscategories", "newscategory", lambda _: _CATEGORIES)
get_subscriber = chooser("newssubscribers", "newssubscriber", lambda _: _SUBSCRIBERS)
