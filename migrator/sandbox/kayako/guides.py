"""The calls for the articles of the knowledge base and the steps of the troubleshooter."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from migrator.sandbox.kayako.build import EPOCH
from migrator.sandbox.kayako.calls import (
    EMPTY,
    NO_ATTACHMENT,
    Ask,
    afflicted,
    decode_leniently,
    file_fields,
    is_blank,
    listing,
)
from migrator.sandbox.kayako.files import Source
from migrator.sandbox.kayako.messages import (
    Body,
    Fields,
    Reply,
    XmlWriter,
    columns,
    escaped,
    table,
    text,
    valid,
    xml,
)
from migrator.sandbox.kayako.model import Attachment, Guide, Helpdesk, number
from migrator.sandbox.kayako.people import chooser, paged


@dataclass(frozen=True, slots=True)
class Book:
    """What articles or steps are called."""

    kind: str
    name: str
    element: str
    files: str
    id: str
    get_link: str
    absent: str


ARTICLES: Final = Book(
    *("article", "Knowledgebase Article", "kbarticle", "kbattachment", "kbarticleid"),
    *("Knowledgebase/Article/GetAttachment/{id}", "Article not found"),
)
STEPS: Final = Book(
    *("step", "Troubleshooter step", "troubleshooterstep"),
    *("troubleshooterattachment", "troubleshooterstepid"),
    *("Troubleshooter/Step/GetAttachment/{category}/{id}", "Troubleshooter step not found"),
)


# Articles, steps, categories, comments


def _attachments(desk: Helpdesk, book: Book, guide: Guide) -> list[Fields]:
    """Return the attachments as an article or step names them: for people, if its flag is set."""
    if not guide.has_attachments:
        return []
    link = book.get_link.format(id=guide.id, category=guide.category_id)
    return [
        {
            "attachment": [
                {
                    "id": row.id,
                    "filename": escaped(valid(row.name)),
                    "filesize": f"{row.filesize / 1024:.1f} KB",
                    "link": f"{desk.portal}/api/index.php?/{link}/{row.id}",
                }
            ]
        }
        for row in desk.files_of(guide)
    ]


def _articles(ask: Ask) -> Iterable[Fields]:
    for (kind, key), guide in ask.desk.guides.items():
        if kind == "article":
            yield columns(
                "kbarticleid contents contentstext categories creator creatorid author email- "
                "subject seosubject- isedited editeddateline editedstaffid views isfeatured "
                "allowcomments totalcomments hasattachments attachments dateline articlestatus "
                "articlerating ratinghits ratingcount",
                kbarticleid=key,
                contents=guide.text,
                subject=guide.subject,
                contentstext=re.sub("<[^>]*>", "", guide.text),
                categories=[{"categoryid": guide.category_id}],
                creator=2,
                creatorid=1,
                author=ask.desk.name_of(1),
                allowcomments=1,
                views=3 * key,
                articlestatus=guide.status,
                totalcomments=COMMENTS if key == 1 else 0,
                hasattachments=int(guide.has_attachments),
                attachments=_attachments(ask.desk, ARTICLES, guide),
                dateline=guide.dateline,
            )


def _steps(ask: Ask) -> Iterable[Fields]:
    steps = [guide for guide in ask.desk.guides.values() if guide.kind == "step"]
    for guide in steps:
        yield columns(
            "id categoryid staffid staffname subject edited editedstaffid editedstaffname- "
            "displayorder views allowcomments hasattachments attachments parentsteps childsteps "
            "redirecttickets ticketsubject- redirectdepartmentid tickettypeid priorityid contents",
            id=guide.id,
            categoryid=guide.category_id,
            displayorder=guide.id,
            staffid=1,
            staffname=ask.desk.name_of(1),
            allowcomments=1,
            subject=guide.subject,
            contents=guide.text,
            hasattachments=int(guide.has_attachments),
            attachments=_attachments(ask.desk, STEPS, guide),
            parentsteps=[{"id": guide.parent_id}],
            childsteps=[{"id": one.id} for one in steps if one.parent_id == guide.id],
        )


get_article = chooser("kbarticles", "kbarticle", _articles)
get_step = chooser("troubleshootersteps", "troubleshooterstep", _steps)


def list_articles(ask: Ask, category: str, rows: str = "", offset: str = "") -> Reply:
    """List articles of a category: the pages are made first, and then the drafts taken out."""
    chosen = [r for r in _articles(ask) if r["categories"] == [{"categoryid": number(category)}]]
    start, size = number(offset) or 0, number(rows)
    chosen = chosen[start : start + size] if size else chosen
    published = [row for row in chosen if row["articlestatus"] == 1]
    return listing(ask.desk, table("kbarticles", "kbarticle", published))


def count_articles(ask: Ask, category: str = "") -> Reply:
    """Count the articles of a category, drafts too."""
    found = sum(r["categories"] == [{"categoryid": number(category)}] for r in _articles(ask))
    writer = XmlWriter()
    with writer.inside("kbarticles"):
        writer.value("totalarticles", found)
    return listing(ask.desk, xml(writer))


def _categories(kind: str, order: str) -> Callable[[Ask], Iterable[Fields]]:
    """Return what yields the categories of articles or steps, with columns in this order."""

    def rows(ask: Ask) -> Iterable[Fields]:
        held = Counter((g.kind, g.category_id) for g in ask.desk.guides.values())
        for row in [row for row in ask.desk.categories if row.kind == kind]:
            private = row.type == 3
            known = {
                "id": row.id,
                "title": row.title,
                "staffid": 1,
                "displayorder": row.id,
                "parentkbcategoryid": row.parent_id,
                "categorytype": row.type,
                "totalarticles": held[kind, row.id],
                "staffname": ask.desk.name_of(1),
                "usergroupidlist": [],
                "staffvisibilitycustom": int(private),
                "staffgroupidlist": [{"staffgroupid": 1}] if private else [],
                "allowcomments": 1,
                "allowrating": 1,
                "ispublished": 1,
            }
            wanted = columns(order)
            yield wanted | {name: value for name, value in known.items() if name in wanted}

    return rows


_VISIBLE: Final = "uservisibilitycustom usergroupidlist staffvisibilitycustom staffgroupidlist"
_article_categories = _categories(
    "article",
    "id parentkbcategoryid staffid title totalarticles categorytype displayorder allowcomments "
    f"{_VISIBLE} allowrating ispublished",
)
get_article_category = chooser("kbcategories", "kbcategory", _article_categories)
list_article_categories = paged("kbcategories", "kbcategory", _article_categories)
get_step_category = chooser(
    "troubleshootercategories",
    "troubleshootercategory",
    _categories(
        "step",
        f"id staffid staffname title description- categorytype displayorder views {_VISIBLE}",
    ),
)


COMMENTS: Final = 3
"""The comments on the first article, step and news: pending, approved, spam."""


def comment_calls(tag: str, owner: str) -> tuple[Callable[..., Reply], Callable[..., Reply]]:
    """Return the calls that list the comments on something, and that send one of them."""

    def rows(ask: Ask) -> Iterable[Fields]:
        for n in range(1, COMMENTS + 1):
            yield columns(
                f"id {owner} creatortype creatorid fullname email ipaddress- dateline "
                "parentcommentid commentstatus useragent- referrer- parenturl- contents",
                **{owner: 1, "fullname": ask.desk.name_of(1), "email": "user1@example.com"},
                id=n,
                creatortype=2,
                creatorid=1,
                commentstatus=n,
                dateline=EPOCH + n,
                contents="Helped me & others ]]> thanks",
            )

    def list_all(ask: Ask, owner_id: str = "") -> Reply:
        found = rows(ask) if owner_id in EMPTY or number(owner_id) == 1 else ()
        return listing(ask.desk, table(f"{tag}s", tag, found))

    return list_all, chooser(f"{tag}s", tag, rows)


# Attachments


def _reply(ask: Ask, book: Book, rows: list[Attachment]) -> Reply:
    fields = (file_fields(ask.desk, row, {book.id: row.post_id}, whole=True) for row in rows)
    reply = table(f"{book.files}s", book.files, fields)
    for row in rows:
        reply = afflicted(ask.desk, row, reply)
    return reply


def list_attachments(book: Book, ask: Ask, guide_id: str, attachment_id: str = "") -> Reply:
    """List attachments with their contents."""
    desk, guide = ask.desk, ask.desk.find_guide(book.kind, guide_id)
    if guide is None:
        return text(400, book.absent)
    rows = desk.files_of(guide)
    if desk.fault_of(guide) and desk.hit(guide) == 1:
        others = (g for g in desk.guides.values() if g.kind == book.kind and g is not guide)
        rows = next((found for other in others if (found := desk.files_of(other))), [])
    if attachment_id:
        rows = [row for row in rows if row.id == number(attachment_id)]
    return listing(desk, _reply(ask, book, rows))


def post_attachment(book: Book, ask: Ask) -> Reply:
    """Add an attachment; it marks a step, but not an article."""
    form = ask.request.form
    if is_blank(form, book.id):
        return text(400, f"No {book.name} ID Specified")
    guide = ask.desk.find_guide(book.kind, form[book.id])
    if guide is None:
        return text(400, book.absent)
    if is_blank(form, "filename"):
        return text(400, "No file name specified")
    if "contents" not in form:
        return text(400, "No contents specified")
    source = Source("given", given=decode_leniently(form["contents"]))
    row = ask.desk.attach(guide, form["filename"], source, int(time.time()))
    if book is STEPS:
        ask.desk.guides[guide.kind, guide.id] = replace(guide, has_attachments=True)
    return _reply(ask, book, [row])


def delete_attachment(book: Book, ask: Ask, guide_id: str, attachment_id: str) -> Reply:
    """Delete an attachment, of a post too as :func:`get_attachment`; success has no body."""
    desk, key = ask.desk, number(attachment_id) or 0
    if desk.find_guide(book.kind, guide_id) is None:
        return text(400, book.absent)
    row = desk.guide_files.get(key) or desk.attachments.get(key)
    if row is None:
        return text(404, NO_ATTACHMENT)
    if row.post_id != number(guide_id):
        return text(400, "Attachment does not belong to the specified article")  # of steps, too
    if desk.guide_files.pop(key, None) is None:
        desk.delete_attachment(key)
    return Reply(Body(b""))


def get_attachment(book: Book, ask: Ask, guide_id: str, attachment_id: str) -> Reply:
    """Send one attachment; nothing checks that it is one of an article and not of a post."""
    desk, key = ask.desk, number(attachment_id) or 0
    if desk.find_guide(book.kind, guide_id) is None:
        return text(400, book.absent)
    row = desk.guide_files.get(key) or desk.attachments.get(key)
    if row is None:
        return text(404, NO_ATTACHMENT)
    if row.post_id != number(guide_id):
        return text(404, f"Attachment does not belong to the specified {book.kind}")
    return _reply(ask, book, [row])
