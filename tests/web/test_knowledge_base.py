"""The knowledge base on the pages: for those only who may see everything."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from markupsafe import escape

from migrator.archive.records import ArticleRow, Listed, Outcome, State
from migrator.serve.web.site import line
from tests.web.desks import IDS, NOON, Desk, Visitor, hidden, png
from tests.web.test_pages import HOSTILE, Elements

if TYPE_CHECKING:
    from tests.web.conftest import OpenDesk

BASES = {"article": 10**15, "step": 2 * 10**15}


def keep(desk: Desk, kind: str, key: int, **facts: object) -> None:
    """Keep an article."""
    row = ArticleRow(kind, key, **{"subject": f"{kind} {key}", **facts})  # type: ignore[arg-type]
    with desk.archive.ledger.atomic():
        desk.archive.threads.put_articles(desk.run, [row])


def attach(desk: Desk, kind: str, key: int, name: str, data: bytes) -> int:
    """Store a file of an article."""
    number = BASES[kind] + next(IDS)
    with desk.archive.blobs.writer() as writer:
        writer.write(data)
        blob = writer.commit()
    listed = Listed(number, 0, 0, name, "", len(data), NOON, kind=kind, place=str(key))
    stored = (blob.sha256, blob.size, blob.mime_type)
    with desk.archive.ledger.atomic():
        desk.archive.ledger.record_files(desk.run, [listed])
        desk.archive.ledger.settle(Outcome(number, State.STORED, None, None, *stored))
    return number


def test_the_status_leads_to_what_has_the_file(desk: Desk, visitor: Visitor) -> None:
    """To its ticket or its article; a file that no ticket has leads nowhere."""
    keep(desk, "article", 7)
    listed = [
        Listed(BASES["article"] + next(IDS), 0, 0, "a", "", 1, NOON, kind="article", place="7"),
        Listed(4 * 10**15 + next(IDS), 0, 0, "b", "", 1, NOON, kind="linked", place="/x.png"),
    ]
    with desk.archive.ledger.atomic():
        desk.archive.ledger.record_files(desk.run, listed)
        for one in listed:
            desk.archive.ledger.settle(Outcome(one.id, State.MISSING))
    page = visitor.get("/status").text
    assert '<a href="/knowledge-base/article/7">article 7</a>' in page
    assert "/tickets/0" not in page


def test_articles_are_listed_and_found(desk: Desk, visitor: Visitor) -> None:
    """By subject, author, file name and text, in any case; drafts are marked."""
    keep(desk, "article", 1, subject="Große Übersicht", author_name="Jane", text="<p>one</p>")
    keep(desk, "article", 2, text="<p>Needle</p>", details={"articlestatus": "2"})
    keep(desk, "step", 2, subject="Is it on?")
    attach(desk, "step", 2, "Plan.PDF", b"%PDF-1.4")
    shown = visitor.get("/knowledge-base").text
    assert '<a href="/knowledge-base" aria-current="page">Knowledge base</a>' in shown
    for path in ("article/1", "article/2", "step/2"):
        assert f'href="/knowledge-base/{path}"' in shown
    assert "draft" in shown
    for text, path in {
        "GROSSE": "article/1",
        "jane": "article/1",
        "needle": "article/2",
        "plan.pdf": "step/2",
    }.items():
        found = visitor.get("/knowledge-base", params={"q": text}).text
        assert found.count('href="/knowledge-base/') == 1, text
        assert f'href="/knowledge-base/{path}"' in found, text
    assert "No article matches." in visitor.get("/knowledge-base", params={"q": "no such"}).text


@pytest.mark.parametrize("text", HOSTILE)
def test_no_article_does_anything(desk: Desk, visitor: Visitor, text: str) -> None:
    """Its HTML is cleaned as that of posts is."""
    keep(desk, "article", 3, text=text, subject=text)
    shown = visitor.get("/knowledge-base/article/3")
    assert shown.status_code == 200
    body = re.search(r'<div class="body html">(.*?)</div>\n', shown.text, re.DOTALL)
    assert body
    Elements().feed(body[1])
    assert f"<h1><bdi>{escape(line(text))}</bdi></h1>" in shown.text


def test_what_an_article_links_to_is_shown_with_it(desk: Desk, visitor: Visitor) -> None:
    """Images where its text shows them, all else below it, and nothing of other articles."""
    folder = "/__swift/files"
    kept = {}
    for name, data in (("a.png", png()), ("b.pdf", b"%PDF-1.4"), ("c.pdf", b"%PDF-1.5")):
        kept[name] = number = 5 * 10**15 + next(IDS)
        with desk.archive.blobs.writer() as writer:
            writer.write(data)
            blob = writer.commit()
        place = f"{folder}/{name}"
        listed = Listed(number, 0, 0, name, "", 0, NOON, kind="linked", place=place)
        stored = (blob.sha256, blob.size, blob.mime_type)
        with desk.archive.ledger.atomic():
            desk.archive.ledger.record_files(desk.run, [listed])
            desk.archive.ledger.settle(Outcome(number, State.STORED, None, None, *stored))
    text = f'<img src="https://x.test{folder}/a.png"><a href="https://x.test{folder}/b.pdf">b</a>'
    keep(desk, "article", 9, text=text)
    shown = visitor.get("/knowledge-base/article/9").text
    assert shown.count(f'<img src="/attachments/{kept["a.png"]}/view">') == 1
    assert f'href="/attachments/{kept["a.png"]}"' not in shown
    assert f'href="/attachments/{kept["b.pdf"]}"' in shown
    assert f"/attachments/{kept['c.pdf']}" not in shown


def test_files_of_articles_follow_the_rules(desk: Desk, visitor: Visitor) -> None:
    """Allowed ones come, others after a confirmation, blocked ones never."""
    keep(desk, "article", 4)
    desk.archive.access.set_rule("png", "allow")
    desk.archive.access.set_rule("exe", "block")
    picture, other, blocked = (
        attach(desk, "article", 4, name, png(n + 3))
        for n, name in enumerate(("a.png", "b.zzz", "c.exe"))
    )
    shown = visitor.get("/knowledge-base/article/4").text
    for number in (picture, other, blocked):
        assert f'href="/attachments/{number}"' in shown
    assert visitor.get(f"/attachments/{picture}/download").content == png(3)
    page = visitor.get(f"/attachments/{other}")
    assert 'href="/knowledge-base/article/4"' in page.text
    assert visitor.get(f"/attachments/{other}/download").status_code != 200
    sent = visitor.post(f"/attachments/{other}", data={**hidden(page.text), "intent": "review_ok"})
    seal = sent.headers["location"].partition("?")[2]
    assert visitor.get(f"/attachments/{other}/download?{seal}").content == png(4)
    assert visitor.get(f"/attachments/{blocked}/download").status_code == 403


def test_only_those_who_see_all_queues_see_articles(desk: Desk, stranger: Visitor) -> None:
    """They belong to no queue: neither list, nor article, nor file is told of."""
    keep(desk, "article", 5, subject="Secret")
    number = attach(desk, "article", 5, "secret.png", png(9))
    assert stranger.sign_in(desk.token(queues=[3])).status_code == 303
    assert "Knowledge base" not in stranger.get("/").text
    for path in ("/knowledge-base", "/knowledge-base/article/5", f"/attachments/{number}"):
        assert stranger.get(path).status_code == 404
        assert "Secret" not in stranger.get(path).text
    assert stranger.get(f"/attachments/{number}/download").status_code == 404
    for path in ("article/999", "step/5", "nonsense/5"):
        assert stranger.get(f"/knowledge-base/{path}").status_code == 404


def test_the_status_shows_accepted_losses_last(desk: Desk, visitor: Visitor) -> None:
    """What needs somebody comes first."""
    ids = [desk.attach(name, None) for name in ("early.pdf", "late.pdf")]
    desk.archive.ledger.accept(ids[:1], by="jo", reason="old")
    page = visitor.get("/status").text
    assert page.index("late.pdf") < page.index("early.pdf")


@pytest.mark.parametrize("served", [True, False])
def test_what_the_source_deleted_shows_only_on_demand(open_desk: OpenDesk, served: bool) -> None:
    """As tickets do."""
    with open_desk(serve_deleted=served) as desk, Visitor(base_url=desk.url, timeout=20) as visitor:
        visitor.sign_in(desk.token())
        keep(desk, "step", 6)
        desk.archive.threads.mark_articles_deleted("step", desk.run + 1, NOON)
        assert ("step/6" in visitor.get("/knowledge-base").text) is served
        assert (visitor.get("/knowledge-base/step/6").status_code == 200) is served


def test_the_api_serves_no_file_of_an_article(desk: Desk) -> None:
    """It hands out files of tickets: of no ticket, there is none."""
    keep(desk, "article", 7)
    number = attach(desk, "article", 7, "a.png", png(11))
    token = desk.token()
    with Visitor(base_url=desk.url, headers={"authorization": f"Bearer {token}"}) as client:
        found = client.post("/api/v1/tickets/attachment", json={"attachment_id": str(number)})
    assert found.status_code in {404, 422}
    assert found.json()["ok"] is False
