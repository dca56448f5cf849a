"""The dry run as HTML: the figures of the plan, what qualifies them, and nothing of the outside."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import lxml.html
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from migrator.archive.records import Count
from migrator.hours import Hours, windows
from migrator.plan.model import Disk, Gaps, Pace, Requests, Verdicts, schedule
from migrator.sources.base import FastLook
from migrator.text import human_bytes
from tests.report.pages import cells, page_of, plan, said, shape, text_of

UNMEASURED = Pace(8, 0, 0.0, 0, 0, 0.0, None)


def test_the_figures_are_those_of_the_plan() -> None:
    """Every number of the verdicts, the groups, the disk and the requests is in its table."""
    made = plan()
    page = page_of(made)
    verdicts = made.verdicts
    assert [line[:3] for line in cells(page, "answers")] == [
        [name, str(count.n), human_bytes(count.bytes)]
        for name, count in (
            ("allowed", verdicts.allow),
            ("review", verdicts.review),
            ("blocked", verdicts.block),
            ("listed", made.listed),
        )
    ]
    assert [line[:2] for line in cells(page, "oddities")] == [
        ["over 25.0 MiB", "4"],
        ["over 50 MB", "3"],
        ["odd name", "2"],
        ["no extension", "1"],
        ["empty", "5"],
    ]
    for name in ("department", "type", "extension", "year", "size"):
        some = getattr(made, f"{name}s")
        assert [line[1] for line in cells(page, name)[:-1]] == [str(group.n) for group in some]
    assert cells(page, "requests")[-1] == ["All", "151"]
    assert [line[1] for line in cells(page, "disk")] == ["3.9 KiB", "1000 B", "4.9 KiB", "8.8 KiB"]
    assert cells(page, "mapping") == [
        ["tickets with files and without a number", "4", "1, 2, …"],
        ["attachments of a department without a queue", "1", "x"],
    ]
    assert dict(cells(page, "pace"))["hardly more than"] == "3 h 0 min"


def test_what_tickiti_will_say_leads_to_the_files() -> None:
    """Who reads that files are blocked can see which; a number without rows is no link."""
    page = page_of(plan("a&b.exe"))
    hrefs = page.xpath("//*[@id='answers' or @id='oddities']//a/@href")
    assert hrefs == [f"#rows-{name}" for name in ("allow", "block", "odd_name") for _ in "12"]
    for name in ("allow", "block", "odd_name"):
        (rows,) = page.xpath(f"//*[@id='rows-{name}']")
        assert [said(one) for one in rows.xpath(".//tbody/tr/*[3]")] == ["a&b.exe"] * 2
        (back,) = rows.xpath(".//*[@class='back']/a/@href")
        assert page.xpath(f"//*[@id='{back[1:]}']")
    assert "The first 2 of 30 attachments." in said(page.xpath("//*[@id='rows-allow']")[0])
    assert not page_of(plan(examples={})).xpath("//*[@id='behind']")


def test_the_answer_comes_first() -> None:
    """How long, between what and what, and what is in doubt, stand on top."""
    page = page_of(plan(ended="", unlisted=0, short=0, fast=None))
    (verdict,) = page.xpath("//main/*[1]")
    assert verdict.get("class") == "verdict good"
    assert said(verdict) == (
        "About 2 h 0 min 1 h 0 min to 3 h 0 min, to fetch 50 attachments (4.9 KiB) with "
        "8 requests at once."
    )
    (doubt,) = page_of(plan()).xpath("//main/*[1]")
    assert doubt.get("class") == "verdict warn"
    warnings = [said(one) for one in doubt.xpath(".//li")]
    assert warnings[0].startswith("INCOMPLETE: x.")
    assert "3 tickets could not be listed" in warnings[1]
    assert warnings[2].startswith("ESTIMATE: only the 40 of 400 tickets")


@pytest.mark.parametrize(
    ("values", "word", "text"),
    [
        ({"pace": UNMEASURED}, "50 attachments to fetch", "No estimate: no attachment could"),
        ({"pace": Pace(8, 1, 1.0, 1, 1, 1.0, 60.0)}, "About 1 min 0 s", "To fetch 50 attach"),
        ({"todo": Count()}, "Nothing left to fetch", "to fetch 0 attachments"),
        ({"listed": Count()}, "No attachments seen", "to fetch"),
        ({"disk": Disk(5000, 5000, free=10)}, "About 2 h 0 min", "Not enough room: 10 B are free"),
        ({"disk": Disk(5000, 4000, bucket="s3://b")}, "About 2 h 0 min", "Kept in the bucket"),
        ({"disk": Disk(5000, 4000)}, "About 2 h 0 min", "guessed by their names and sizes"),
        ({"tickets_total": None}, "About 2 h 0 min", "Tickets looked at 40"),
        (
            {"fast": FastLook(fallback="no flag")},
            "About 2 h 0 min",
            "Everything was listed: no flag.",
        ),
    ],
)
def test_what_is_not_known_is_told(values: dict[str, Any], word: str, text: str) -> None:
    """Whatever a dry run could not find out, its page says so instead of a number."""
    page = page_of(plan(**values))
    assert said(page.xpath("//h1")[0]) == word
    assert text in " ".join(page.text_content().split())


def test_an_empty_helpdesk_has_a_page() -> None:
    """Where there is nothing, the page says so and is calm."""
    breakdowns = ("departments", "types", "extensions", "years", "sizes")
    nothing: dict[str, Any] = dict.fromkeys(breakdowns, ())
    page = page_of(
        plan(
            ended="",
            listed=Count(),
            todo=Count(),
            verdicts=Verdicts(1),
            gaps=Gaps(),
            unlisted=0,
            short=0,
            requests=Requests(),
            disk=Disk(),
            pace=UNMEASURED,
            fast=None,
            **nothing,
        )
    )
    assert page.xpath("//main/*[1]/@class") == ["verdict calm"]
    assert not page.xpath("//*[@id='department' or @id='mapping']")


PLAIN = shape(page_of(plan()))


@settings(max_examples=30)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=150))
@example("</title><script>alert(1)</script>`x`")
@example("\u202e\x1b[2J")
def test_no_name_changes_the_page(name: str) -> None:
    """Whatever comes from the helpdesk, the elements and attributes are those of a plain name."""
    text = text_of(plan(name))
    assert shape(lxml.html.document_fromstring(text.encode())) == PLAIN
    assert not {"\u202e", "\x1b", "\0"} & set(text)


def test_every_link_leads_somewhere() -> None:
    """No anchor of the page is missing, and none leads out of it."""
    page = page_of(plan())
    for href in page.xpath("//a/@href"):
        assert page.get_element_by_id(href.removeprefix("#")) is not None


def test_the_end_by_the_windows_stands_in_the_first_sentence() -> None:
    """Who decides when to run reads when it ends."""
    hours = Hours(windows("22:00-06:00"), zone=ZoneInfo("UTC"))
    page = page_of(plan(schedule=schedule(hours, 3600, 0, at=0.0)))
    assert "With kayako.windows, a run that begins now ends about Thu 1970-01-01 01:00" in said(
        page
    )
