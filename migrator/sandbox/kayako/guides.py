"""The calls for the articles of the knowledge base and the steps of the troubleshooter."""

from __future__ import annotations

import html
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from migrator.sandbox.kayako.calls import (
    EMPTY,
    NO_ATTACHMENT,
    Ask,
    afflicted,
    decode_leniently,
    file_fields,
    listing,
)
from migrator.sandbox.kayako.files import Source
from migrator.sandbox.kayako.messages import (
    Body,
    Fields,
    Reply,
    XmlWriter,
    columns,
    table,
    text,
    xml,
)
from migrator.sandbox.kayako.model import Attachment, Guide, Helpdesk, number
from migrator.sandbox.kayako.people import chooser


@dataclass(frozen=True, slots=True)
class Book:
    """What articles or steps are called, and where Kayako's two controllers differ."""

    kind: str
    element: str
    id: str
    get_link: str
    title: str
    absent: str
    sets_flag: bool

    @property
    def rows(self) -> tuple[str, str]:
        """The tags of a list of attachments."""
        prefix = self.element.removesuffix("article").removesuffix("step")
        return f"{prefix}attachments", f"{prefix}attachment"


ARTICLES: Final = Book(
    *("article", "kbarticle", "kbarticleid", "Knowledgebase/Article/GetAttachment/{id}"),
    *("Knowledgebase Article", "Article not found"),
    sets_flag=False,
)
STEPS: Final = Book(
    *("step", "troubleshooterstep", "troubleshooterstepid"),
    *("Troubleshooter/Step/GetAttachment/{category}/{id}", "Troubleshooter Step"),
    "Troubleshooter step not found",
    sets_flag=True,
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
                    "filename": html.escape(row.name.decode(errors="replace"), quote=False),
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
                totalcomments=sum((c.kind, c.of) == (kind, key) for c in ask.desk.comments),
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


def list_articles(ask: Ask, category: str = "", rows: str = "", offset: str = "") -> Reply:
    """List articles of a category: the pages are made first, and then the drafts taken out."""
    chosen = [r for r in _articles(ask) if r["categories"] == [{"categoryid": number(category)}]]
    start, size = number(offset) or 0, number(rows)
    chosen = chosen[start : start + size] if size else chosen
    published = [row for row in chosen if row["articlestatus"] == 1]
    return listing(ask.desk, table("kbarticles", "kbarticle", published))


def count_articles(ask: Ask, category: str = "") -> Reply:
    """Count the articles of a category, drafts as well."""
    found = [r for r in _articles(ask) if r["categories"] == [{"categoryid": number(category)}]]
    writer = XmlWriter()
    writer.values({"kbarticles": [{"totalarticles": len(found)}]})
    return xml(writer)


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
get_step_category = chooser(
    "troubleshootercategories",
    "troubleshootercategory",
    _categories(
        "step",
        f"id staffid staffname title description- categorytype displayorder views {_VISIBLE}",
    ),
)


def page_categories(ask: Ask, rows: str = "", offset: str = "") -> Reply:
    """List the categories of articles by pages."""
    start, size, found = number(offset) or 0, number(rows), list(_article_categories(ask))
    found = found[start : start + size] if size else found
    return listing(ask.desk, table("kbcategories", "kbcategory", found))


def list_comments(book: Book, ask: Ask, guide_id: str) -> Reply:
    """List the comments on an article or a step."""
    tag = f"{book.element}comment"
    rows = [
        columns(
            f"id {book.id} creatortype creatorid fullname email ipaddress dateline "
            "parentcommentid commentstatus useragent referrer- parenturl- contents",
            **{"id": row.id, book.id: row.of, "creatortype": 2, "creatorid": 1},
            fullname="Jane Doe",
            email="user1@example.com",
            ipaddress="192.0.2.7",
            dateline=row.dateline,
            commentstatus=row.status,
            contents=row.text,
            useragent="Mozilla/5.0",
        )
        for row in ask.desk.comments
        if (row.kind, row.of) == (book.kind, number(guide_id))
    ]
    return listing(ask.desk, table(f"{tag}s", tag, rows))


# Attachments


def _reply(ask: Ask, book: Book, rows: list[Attachment], *, whole: bool = True) -> Reply:
    fields = (file_fields(ask.desk, r, {book.id: r.post_id}, whole=whole) for r in rows)
    reply = table(*book.rows, fields)
    for row in rows:
        reply = afflicted(ask.desk, row, reply) if whole else reply
    return listing(ask.desk, reply)


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
    return _reply(ask, book, rows)


def _find(
    ask: Ask, book: Book, guide_id: str, attachment_id: str, wrong: tuple[int, str]
) -> Attachment | Reply:
    """Find an attachment; nothing checks that it is one of an article and not of a post."""
    if ask.desk.find_guide(book.kind, guide_id) is None:
        return text(400, book.absent)
    key = number(attachment_id) or 0
    row = ask.desk.guide_files.get(key) or ask.desk.attachments.get(key)
    if row is None:
        return text(404, NO_ATTACHMENT)
    if row.post_id != number(guide_id):
        status, noun = wrong
        return text(status, f"Attachment does not belong to the specified {noun}")
    return row


def get_attachment(book: Book, ask: Ask, guide_id: str, attachment_id: str) -> Reply:
    """Send one attachment."""
    row = _find(ask, book, guide_id, attachment_id, (404, book.kind))
    return row if isinstance(row, Reply) else _reply(ask, book, [row])


def delete_attachment(book: Book, ask: Ask, guide_id: str, attachment_id: str) -> Reply:
    """Delete an attachment; both controllers speak of an article."""
    row = _find(ask, book, guide_id, attachment_id, (400, "article"))
    if isinstance(row, Reply):
        return row
    if row.id in ask.desk.guide_files:
        del ask.desk.guide_files[row.id]
    else:
        ask.desk.delete_attachment(row.id)
    return Reply(Body(b""))


def post_attachment(book: Book, ask: Ask) -> Reply:
    """Add an attachment; that to an article leaves its flag as it is."""
    form, desk = ask.request.form, ask.desk
    if form.get(book.id, "") in EMPTY:
        return text(400, f"No {book.title} ID Specified")
    guide = desk.find_guide(book.kind, form[book.id])
    if guide is None:
        return text(400, book.absent)
    if form.get("filename", "") in EMPTY:
        return text(400, "No file name specified")
    if "contents" not in form:
        return text(400, "No contents specified")
    source = Source("given", given=decode_leniently(form["contents"]))
    row = desk.attach(guide, form["filename"], source, int(time.time()))
    if book.sets_flag:
        desk.guides[guide.kind, guide.id] = replace(guide, has_attachments=True)
    return _reply(ask, book, [row], whole=False)
