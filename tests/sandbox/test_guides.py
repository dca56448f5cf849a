"""Knowledge base and troubleshooter: lists, attachments with contents, odd refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from tests.sandbox.test_faults import decoded

if TYPE_CHECKING:
    from tests.sandbox.conftest import Client, Serve

KINDS = {
    "article": ("Knowledgebase", "kbarticleid", "kbattachment", "Article not found"),
    "step": (
        *("Troubleshooter", "troubleshooterstepid", "troubleshooterattachment"),
        "Troubleshooter step not found",
    ),
}
ORDER = {
    "article": "kbarticleid contents contentstext categories creator creatorid author email subject"
    " seosubject isedited editeddateline editedstaffid views isfeatured allowcomments totalcomments"
    " hasattachments attachments dateline articlestatus articlerating ratinghits ratingcount",
    "step": "id categoryid staffid staffname subject edited editedstaffid editedstaffname"
    " displayorder views allowcomments hasattachments attachments parentsteps childsteps"
    " redirecttickets ticketsubject redirectdepartmentid tickettypeid priorityid contents",
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_and_all(client: Client, kind: str) -> None:
    """All come at once, drafts too, with Kayako's fields in its order; an unknown one is none."""
    app, own, *_ = KINDS[kind]
    guides = [one for (of, _), one in client.desk.guides.items() if of == kind]
    rows = ElementTree.fromstring(client.get(f"/{app}/{kind.title()}").text)
    assert [row.findtext("subject") for row in rows] == [one.subject for one in guides]
    (row,) = ElementTree.fromstring(client.get(f"/{app}/{kind.title()}/4").text)
    assert [child.tag for child in row] == ORDER[kind].split()
    assert row.findtext(own if kind == "article" else "id") == "4"
    none = client.get(f"/{app}/{kind.title()}/99")
    assert (none.status, "CDATA" in none.text) == (200, False)


@pytest.mark.parametrize("kind", KINDS)
def test_attachments_come_with_their_contents(client: Client, kind: str) -> None:
    """Already in the list; also where no flag says that there are any."""
    app, own, tag, _ = KINDS[kind]
    for (of, key), guide in client.desk.guides.items():
        if of == kind:
            answer, rows = (
                client.get(f"/{app}/Attachment/ListAll/{key}"),
                client.desk.files_of(guide),
            )
            assert answer.values("id") == [str(row.id) for row in rows]
            assert {*answer.values(own)} <= {str(key)}
            for row in rows:
                one = client.get(f"/{app}/Attachment/{key}/{row.id}")
                assert decoded(one.body) == row.source.read()
                assert one.text.endswith(f"</{tag}>\n</{tag}s>")
    unflagged = [g for g in client.desk.guides.values() if not g.has_attachments]
    assert [len(client.desk.files_of(guide)) for guide in unflagged] == [2]


@pytest.mark.parametrize("kind", KINDS)
def test_refusals(client: Client, kind: str) -> None:
    """The sentences and their odd statuses: an unknown article is 400."""
    app, *_, absent = KINDS[kind]
    path = f"/{app}/Attachment"
    row = client.desk.files_of(client.desk.guides[kind, 1])[0]
    wrong = "Attachment does not belong to the specified"
    for verb, target, status, words in (
        ("GET", f"{path}/ListAll/99", 400, absent),
        ("GET", f"{path}/99/{row.id}", 400, absent),
        ("GET", f"{path}/1/99999", 404, "Attachment not Found"),
        ("GET", f"{path}/2/{row.id}", 404, f"{wrong} {kind}"),
        ("GET", path, 400, "Not Implemented."),
    ):
        answer = client.send(verb, client.target(target))
        assert (answer.status, answer.text) == (status, words)


def test_the_kind_of_an_attachment_is_not_checked(client: Client) -> None:
    """A ticket's attachment is handed out under the article that has its post's number."""
    row = next(
        r for r in client.desk.attachments.values() if ("article", r.post_id) in client.desk.guides
    )
    answer = client.get(f"/Knowledgebase/Attachment/{row.post_id}/{row.id}")
    assert decoded(answer.body) == row.source.read()


def test_names_in_articles_are_for_people(client: Client) -> None:
    """There they are escaped, sizes are words, and links lead past the API."""
    answer = client.get("/Troubleshooter/Step/3")
    assert "&lt;img src=x onerror=alert(1)&gt;.html" in answer.values("filename")
    assert all(size.endswith(" KB") for size in answer.values("filesize"))
    (link, *_) = answer.values("link")
    assert link.startswith(f"{client.server.portal}/api/index.php?/Troubleshooter/Step/Get")


def test_lists_of_a_category(client: Client) -> None:
    """Drafts are taken out of pages that were made before."""
    every = [one for one in client.desk.guides.values() if one.kind == "article"]
    of = [one for one in every if one.category_id == 1]
    drafts = [one for one in of if one.status == 2]
    assert drafts
    path = "/Knowledgebase/Article"
    listed = client.get(f"{path}/ListAll/1/{len(of)}/0").values("kbarticleid")
    assert listed == [str(one.id) for one in of if one not in drafts]


def test_categories_and_comments(client: Client) -> None:
    """Categories have their parents; the documented list of them finds nothing."""
    path = "/Knowledgebase/Category"
    assert client.get(path).values("parentkbcategoryid") == ["0", "1"]
    assert client.get(f"{path}/2").values("staffgroupid") == ["1"]
    assert client.get(f"{path}/ListAll/10/0").values("id") == []
    assert client.get(f"{path}/GetList/1/1/title/ASC").values("id") == ["2"]
    assert client.get(f"{path}/GetList").body == client.get(path).body
    counted = client.get("/Knowledgebase/Article/GetArticleCount/1").values("totalarticles")
    held = [
        one for one in client.desk.guides.values() if (one.kind, one.category_id) == ("article", 1)
    ]
    assert counted == [str(len(held))]
    assert client.get("/Troubleshooter/Category").values("title") == ["It does not print"]
    for app in ("Knowledgebase", "Troubleshooter", "News"):
        path = f"/{app}/Comment"
        assert client.get(f"{path}/ListAll/1").values("commentstatus") == ["1", "2", "3"]
        assert client.get(f"{path}/ListAll/2").values("id") == []
        for every in ("", "/ListAll"):
            assert client.get(path + every).values("id") == ["1", "2", "3"]
        assert client.get(f"{path}/3").values("id") == ["3"]


@pytest.mark.parametrize("kind", KINDS)
def test_attachments_are_added_and_deleted(serve: Serve, kind: str) -> None:
    """Each check has its words; a new file marks a step, but not an article."""
    app, field, _, absent = KINDS[kind]
    named = "Knowledgebase Article" if kind == "article" else "Troubleshooter step"
    path, form = f"/{app}/Attachment", {field: "1", "filename": "a.txt", "contents": "aGk="}
    with serve() as client:
        desk = client.desk
        desk.guides[kind, 1] = replace(desk.guides[kind, 1], has_attachments=False)
        for left_out, words in (
            (field, f"No {named} ID Specified"),
            ("filename", "No file name specified"),
            ("contents", "No contents specified"),
        ):
            answer = client.post(path, **{k: v for k, v in form.items() if k != left_out})
            assert (answer.status, answer.text) == (400, words)
        answer = client.post(path, **form | {field: "99"})
        assert (answer.status, answer.text) == (400, absent)
        (key,) = client.post(path, **form).values("id")
        assert client.get(f"{path}/1/{key}").values("contents") == ["aGk="]
        assert desk.guides[kind, 1].has_attachments is (kind == "step")
        for target, status, words in (
            (f"{path}/99/{key}", 400, absent),
            (f"{path}/1/99999", 404, "Attachment not Found"),
            (f"{path}/2/{key}", 400, "Attachment does not belong to the specified article"),
            (f"{path}/1/{key}", 200, ""),
            (f"{path}/1/{key}", 404, "Attachment not Found"),
        ):
            answer = client.delete(target)
            assert (answer.status, answer.text) == (status, words)
        other = next(
            row for row in desk.attachments.values() if ((kind, row.post_id) in desk.guides)
        )
        assert client.delete(f"{path}/{other.post_id}/{other.id}").status == 200
        assert other.id not in desk.attachments


def test_news(client: Client) -> None:
    """All news come whole; the list of a category is cut, without drafts, newest first."""
    path = "/News/NewsItem"
    (row, *_) = ElementTree.fromstring(client.get(path).text)
    assert [child.tag for child in row] == [
        *("id", "staffid", "newstype", "newsstatus", "author", "email", "subject", "emailsubject"),
        *("dateline", "start", "expiry", "issynced", "totalcomments", "uservisibilitycustom"),
        *("usergroupidlist", "staffvisibilitycustom", "staffgroupidlist", "allowcomments"),
        *("contents", "categories"),
    ]
    assert client.get(path).values("id") == ["1", "2", "3"]
    assert len(client.get(f"{path}/3").values("contents")[0]) > 500
    listed = client.get(f"{path}/ListAll/1")
    assert listed.values("id") == ["2", "1"]
    assert {len(text) for text in listed.values("contents")} == {500}
    assert client.get(f"{path}/ListAll/2").values("id") == []
    assert client.get("/News/Category").values("visibilitytype") == ["public", "private"]
    assert client.get("/News/Subscriber/2").values("email") == ["reader2@example.com"]
