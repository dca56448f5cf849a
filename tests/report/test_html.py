"""The report as HTML: the figures of the model, nothing of the outside, and a way around in it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import unicodedata
from dataclasses import replace
from decimal import Decimal

import lxml.html
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from migrator import errors
from migrator.archive.lock import Holder
from migrator.archive.queries import Tickets
from migrator.archive.records import Count, Group, PacePoint, RunInfo, State, TicketHeader
from migrator.pull import fetch
from migrator.report.charts import percent
from migrator.report.model import Losses, Problem, Sample
from migrator.report.text import FAILURES, NOTES
from migrator.text import brief, human_bytes
from tests.report.pages import NOW, cells, groups, page_of, report, row, said, shape, text_of

EMPTY = {state: Count() for state in State}
HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=150)


def test_the_figures_are_those_of_the_model() -> None:
    """Every number of the balance, the groups, the problems and the duplicates is in its table."""
    made = report()
    page = page_of(made)
    balance = {line[0]: line[1:3] for line in cells(page, "balance")}
    assert balance == {
        **{s.value: [f"{c.n:,}", human_bytes(c.bytes)] for s, c in made.states.items()},
        "listed": ["21", human_bytes(2100)],
    }
    for name, some in made.breakdowns.items():
        lines = cells(page, name)
        size = sum(group.bytes for group in some)
        assert lines[:-1] == [
            [one.title, f"{one.n:,}", human_bytes(one.bytes), percent(one.bytes, size)]
            for one in some
        ]
        assert lines[-1] == ["All", str(sum(g.n for g in some)), human_bytes(size), "100 %"]
    assert cells(page, "problems") == [
        ["x", "failed", "3"],
        ["Dropped at the source", "gone", "1"],
        ["All", "", "4"],
    ]
    assert [line[1:3] for line in cells(page, "duplicates")] == [
        ["4", "400 B"],
        ["2", "100 B"],
        ["6", "500 B"],
    ]
    assert cells(page, "unlisted") == [["17", "x"], ["18", "x"]]
    assert [line[0] for line in cells(page, "troubles")] == ["1", "2"]


def test_the_pace_is_summed_up() -> None:
    """Twenty steps make at most twelve lines, whose sums are those of the steps."""
    lines = cells(page_of(report()), "pace")
    assert len(lines) == 11
    assert lines[0] == ["2026-01-02 03:04:05", "1", "1000 B"]
    assert lines[-1] == ["All", "190", human_bytes(190_000)]


@pytest.mark.parametrize(
    ("seconds", "tick"), [(1, "03:04:05"), (60, "03:04"), (86_400, "01-02 03:04")]
)
def test_times_are_as_precise_as_the_run_is_long(seconds: int, tick: str) -> None:
    """Seconds for a short run, the day for one of days."""
    points = tuple(PacePoint(NOW + seconds * n, 1, 1) for n in range(20))
    (first, *_) = page_of(report(pace=points)).xpath("//*[@id='pace']//*[@class='tick']")
    assert first.text == tick


def test_a_single_step_is_as_long_as_its_run() -> None:
    """The pace of a run of one step is its sum over its duration."""
    page = page_of(report(pace=(PacePoint(NOW, 2400, 0),)))
    notes = page.xpath("//*[@id='pace']//tbody//*[@class='detail']")
    assert [note.text for note in notes] == ["2.0/s", "0 B/s"]


def test_every_figure_leads_to_its_rows() -> None:
    """Links lead to the first rows behind a figure, their total, and the command for all."""
    made = report()
    page = page_of(made)
    for href in page.xpath("//a/@href"):
        assert href.startswith("#")
        assert len(page.xpath(f"//*[@id='{href[1:]}']")) == 1, href
    for name, some in made.breakdowns.items():
        linked = page.xpath(f"//*[@id='{name}']//tbody//a/@href")
        assert len(set(linked)) == sum(group.n > 0 for group in some), name
    assert len(page.xpath("//*[@id='balance']//tbody//a")) == 2 * len(State)
    (link,) = page.xpath("//*[@id='department']//tbody/tr[1]/td[1]/a/@href")
    (rows,) = page.xpath(f"//*[@id='{link[1:]}']")
    assert len(rows.xpath(".//tbody/tr")) == 2
    assert "migrator report --format csv --department x" in rows.text_content()
    (problem,) = page.xpath("//*[@id='problems']//tbody/tr[1]/td[2]/a/@href")
    assert "--state failed --problem x" in page.get_element_by_id(problem[1:]).text_content()


def test_a_report_without_rows_has_no_links_to_them() -> None:
    """What was built without the rows behind is a report all the same."""
    page = page_of(report(samples={}))
    assert not page.xpath("//*[@id='behind']")
    assert not page.xpath("//*[starts-with(@href, '#rows')]")
    for href in page.xpath("//a/@href"):
        assert page.get_element_by_id(href[1:]) is not None


def test_totals_are_told_where_rows_are_cut() -> None:
    """Whoever sees ten of a thousand is told so, and how to see all."""
    made = report()
    found = {key: replace(one, total=1000) for key, one in made.samples.items()}
    text = page_of(replace(made, samples=found)).get_element_by_id("rows-1").text_content()
    assert "The first 2 of 1,000 attachments." in text
    assert "The first 2 of 12 attachments." in said(page_of(made).get_element_by_id("troubles"))


def test_every_chart_has_a_name_a_description_and_a_table() -> None:
    """Who cannot see a picture is told what it is, what it shows, and has its numbers."""
    page = page_of(report())
    pictures = page.xpath("//*[@role='img']")
    assert len(pictures) == 8
    for picture in pictures:
        names = [page.get_element_by_id(one) for one in picture.get("aria-labelledby").split()]
        assert [name.tag for name in names] == ["title", "desc"]
        assert all(name.text.strip() for name in names)
        assert picture.xpath("ancestor::section[1]//table")
    for other in page.xpath("//svg[not(@role) and not(ancestor::svg)]"):
        assert other.get("aria-hidden") == "true"


def test_tables_and_headings_are_in_order() -> None:
    """Tables have captions and scopes, headings skip no level, ids are there once."""
    page = page_of(report())
    for table in page.xpath("//table"):
        assert table.xpath("./caption")[0].text.strip()
        assert all(one.get("scope") == "col" for one in table.xpath("./thead//th"))
        columns = len(table.xpath("./thead//th"))
        for line in table.xpath("./tbody/tr | ./tfoot/tr"):
            assert line.xpath("./th/@scope") == ["row"]
            assert len(line) == columns
    levels = [int(one.tag[1]) for one in page.xpath("//h1 | //h2 | //h3 | //h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    ids = page.xpath("//@id")
    assert len(ids) == len(set(ids))
    for names in page.xpath("//@aria-labelledby"):
        assert set(names.split()) <= set(ids)
    assert page.get("lang") == "en"
    assert page.xpath("//body/*[1][self::a]/@href") == ["#main"]
    assert page.xpath("//meta[@name='viewport']/@content")


def test_the_file_stands_alone() -> None:
    """No script, no style but its own, no address, and a policy that allows nothing else."""
    text = text_of(report())
    page = page_of(report())
    assert not page.xpath("//script | //link | //img | //iframe | //object | //form | //base")
    assert not page.xpath("//@src | //@style | //@srcset | //@xlink | //use")
    assert not [name for one in page.iter() for name in one.attrib if name.startswith("on")]
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text.replace("//www.w3.org", ""))
    (style,) = page.xpath("//style")
    digest = base64.b64encode(hashlib.sha256(style.text.encode()).digest()).decode()
    (policy,) = page.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; ")


PLAIN = shape(page_of(report()))


@settings(max_examples=30)
@given(HOSTILE)
@example("</title><script>alert(1)</script>")
@example('" onmouseover="alert(1)" x="')
@example("{{ 7 * 7 }}{% raw %}")
@example("--></style><b>`x`</b>")
@example("]]></svg><a href='javascript:x'>")
@example("fdp.\u202eexe\u0000\x1b[2J")
def test_no_name_changes_the_page(name: str) -> None:
    """Whatever comes from the helpdesk, the elements and attributes are those of a plain name."""
    text = text_of(report(name))
    assert shape(lxml.html.document_fromstring(text.encode())) == PLAIN
    bad = {char for char in text if not char.isprintable() and char != "\n"}
    assert {char for char in bad if unicodedata.category(char) != "Zs"} == set()


def test_names_are_set_apart() -> None:
    """A name that runs from right to left does not turn the line around it."""
    name = "שלום 123"
    page = page_of(report(name))
    for table in ("department", "troubles"):
        found = page.xpath(f"//*[@id='{table}']//tbody//*[contains(text(), 'שלום')]")
        assert {cell.tag for cell in found} == {"bdi"}, table


def test_names_are_cut() -> None:
    """A long name is cut with a mark, and a tower of accents is cut down."""
    assert brief("a" * 500) == "a" * 119 + "…"
    assert brief("e" + "\u0301" * 50 + "f") == "e" + "\u0301" * 3 + "f"
    assert brief("\u202e" * 100, 20).startswith("\\u202e")
    assert len(brief("\u0301" * 1000)) <= 120
    assert brief("a\nb") == "a\\nb"


@pytest.mark.slow
def test_the_page_of_a_large_archive_stays_small() -> None:
    """Thousands of groups, problems and failures of long names make one file below 2 MB."""
    name = "Größe & <Länge> " * 3
    many = [f"{name}{n}" for n in range(3000)]
    made = report(
        name,
        departments=groups(*many),
        types=groups(*many),
        problems=tuple(Problem(State.FAILED, one, 5) for one in many),
        attention=tuple(row(n, name, State.FAILED) for n in range(1000)),
        years=tuple(Group(str(n), str(n), 1, 1) for n in range(1000, 3000)),
        last_run=RunInfo(1, "run", "s", {}, NOW, None, None, {"unlisted": dict.fromkeys(many, "")}),
    )
    rows = tuple(row(n, name) for n in range(10))
    found = {key: Sample(10**6, rows) for key in list(made.samples)[:220]}
    text = text_of(replace(made, samples=found))
    assert len(text.encode()) < 2_000_000
    page = lxml.html.document_fromstring(text.encode())
    assert "The first 50 of 3,000 groups." in text
    assert cells(page, "department")[50][0] == "2,950 others"
    assert cells(page, "department")[51][1] == f"{sum(g.n for g in made.departments):,}"
    assert len(cells(page, "troubles")) == 200
    assert "The first 50 of 3,000 tickets." in text
    assert page.xpath("count(//*[@id='year']//*[local-name()='rect'])") == 80


@pytest.mark.parametrize(
    ("numbers", "scope", "mood", "word", "begins"),
    [
        ({"stored": 5}, {}, "good", "Complete", "Every attachment"),
        ({"stored": 5}, {"departments": ["Sales"]}, "warn", "Part of the helpdesk", "The last run"),
        ({"stored": 5, "gone": 1}, {}, "warn", "Open: losses at", "The helpdesk itself has lost 1"),
        ({"stored": 5, "pending": 1}, {}, "bad", "Not complete", "1 attachment is pending"),
        ({}, {}, "calm", "No attachments", "The whole helpdesk was seen"),
        ({}, None, "calm", "Nothing listed yet", "No run has looked at the helpdesk yet."),
    ],
)
def test_the_verdict_comes_first(
    numbers: dict[str, int], scope: dict[str, object] | None, mood: str, word: str, begins: str
) -> None:
    """A word, a sentence and a colour say at once how the migration stands."""
    states = {state: Count(numbers.get(state.value, 0), 0) for state in State}
    run = None if scope is None else RunInfo(1, "run", "s", scope, NOW, NOW + 9, 0, {})
    page = page_of(report(states=states, last_run=run, attention=(), problems=()))
    (verdict,) = page.xpath("//main/*[1]")
    assert verdict.get("class") == f"verdict {mood}"
    assert said(verdict.xpath("./h1")[0]).startswith(word)
    assert said(verdict.xpath("./p")[0]).startswith(begins)
    assert page.xpath("//title")[0].text.startswith("Ledger of the migration: " + word)


def test_gaps_of_the_lists_are_the_verdict() -> None:
    """A full ledger is not complete when the lists were not."""
    states = EMPTY | {State.STORED: Count(5, 50)}
    page = page_of(report(states=states, attention=(), problems=()))
    assert page.xpath("//main/*[1]/@class") == ["verdict bad"]
    assert "The attachments of 2 tickets could not be listed" in page.text_content()


def test_figures_that_stand_together_add_up() -> None:
    """The shares of the balance and of every break-down are 100 % in sum."""
    states = {state: Count(n, n) for state, n in zip(State, (1, 796, 3, 2, 8, 0), strict=True)}
    page = page_of(report(states=states))
    for id_ in ("balance", "department", "type", "year", "size", "duplicates"):
        *parts, whole = (line[-1] for line in cells(page, id_))
        assert whole == "100 %"
        assert sum(Decimal(part.strip("<> %")) for part in parts) == 100, (id_, parts)


def test_numbers_of_tickets_are_told_apart() -> None:
    """What is counted at different times and by different means stands side by side, explained."""
    page = page_of(report())
    assert cells(page, "tickets") == [
        ["in the archive", "12"],
        ["with attachments", "9"],
        ["listed by the last run", "11"],
        ["counted by the source then", "13"],
        ["deleted at the source", "1"],
        ["merged into others", "3"],
    ]
    assert all(one.text for one in page.xpath("//*[@id='tickets']//*[@class='detail']"))
    assert "disk" not in said(page.xpath("//*[@class='figures']")[0])


def test_what_was_proven_is_told() -> None:
    """When verify and audit last were and what they found; a check that never was is told, too."""
    run = RunInfo(4, "run", "s", {}, NOW, NOW + 60, 0, {})
    page = page_of(report(last_run=run))
    scope, verify, audit = [said(one) for one in page.xpath("//main/*[1]//*[@id='proof']/li")]
    assert scope == (
        "Scope: the whole helpdesk, without its trash, last seen 2026-01-02T03:05:05Z in run 4."
    )
    assert verify.startswith("Verify: 2026-01-02T03:04:14Z, 4 files read (all): 0 damaged")
    assert audit == "Audit: never."
    limited = replace(run, scope={"departments": ["Sales"]})
    for made, told in [
        (report(last_run=limited, whole=None), "a part of the helpdesk (department Sales)"),
        (report(last_run=limited, whole=run), "; the last run looked at a part (department Sales)"),
        (report(last_run=None), "nothing yet"),
    ]:
        assert told in said(page_of(made).xpath("//*[@id='proof']/li")[0])


def test_failures_stand_before_harmless_notes() -> None:
    """What we do not have is told first, in plain words and with what to do; notes come apart."""
    given = (
        Problem(State.STORED, "lenient_base64", 900),
        Problem(State.MISSING, "source_lost_file", 30),
        Problem(State.DELETED, None, 20),
        Problem(State.PENDING, None, 9),
        Problem(State.FAILED, "memory_exhausted", 7),
        Problem(State.FAILED, "code_of_a_later_version", 1),
    )
    found = {("problem", one.key): Sample(one.n, (row(),)) for one in given}
    page = page_of(replace(report(problems=given), samples=found))
    assert cells(page, "problems") == [
        ["PHP ran out of memory", "failed", "7"],
        ["code_of_a_later_version", "failed", "1"],
        ["Lost by the helpdesk", "missing", "30"],
        ["Not fetched yet", "pending", "9"],
        ["All", "", "47"],
    ]
    assert cells(page, "notes") == [
        ["Read as PHP reads it", "stored", "900"],
        ["No longer at the source", "deleted", "20"],
        ["All", "", "920"],
    ]
    remedies = [said_by.text_content() for said_by in page.xpath("//*[@id='problems']//th/span")]
    assert "memory_limit" in remedies[0]
    assert all("migrator run" in one for one in remedies)
    assert page.xpath("//*[@id='problems']/following::*[@id='notes']")
    backs = page.xpath("//*[@id='behind']//*[@class='back']/a/@href")
    assert backs == ["#notes", "#problems", "#notes", "#problems", "#problems", "#problems"]


def test_every_problem_code_is_explained() -> None:
    """Each code that a run writes has plain words and a remedy; none has two meanings."""
    codes = {one.problem for one in subclasses(errors.SourceError)} - {"declined"}
    assert codes | {"source_lost_file"} == set(FAILURES)
    assert set(NOTES) == set(fetch.NOTES)
    titles = [title for title, _ in (FAILURES | NOTES).values()]
    assert len(set(titles)) == len(titles)


def subclasses(of: type[errors.SourceError]) -> set[type[errors.SourceError]]:
    return {of}.union(*(subclasses(one) for one in of.__subclasses__()))


def test_a_department_has_a_list_for_its_owner() -> None:
    """Ticket, subject, requester, file and reason, on a sheet of its own, with the command."""
    ticket = TicketHeader(
        7, "4007", "A-7", 3, 3, "Sales", "Plate <b>", "open", "Ann", "a@b.test", "", 0, 0, None
    )
    lost = replace(row(1, "plate.pdf", State.GONE), ticket_number="4007", problem="not_found")
    article = replace(lost, id=2, ticket_number="", kind="article", place="12", detail=None)
    made = report(
        losses=(
            Losses(Group("3", "Sales", 70, 1), ((lost, ticket), (article, None))),
            Losses(Group("4", "Trash", 5, 1), ()),
            Losses(Group("5", "Other", 6, 1), ()),
        )
    )
    page = page_of(made)
    (owner,) = page.xpath("//*[contains(@class, 'owner')]")
    assert owner.xpath("string(.//h3)") == "Sales: 70"
    assert cells(page, "owner-1") == [
        ["4007 Plate <b>", "Ann, a@b.test", "plate.pdf", "10 B", "No longer there: plate.pdf"],
        ["article 12", "unknown", "plate.pdf", "10 B", "No longer there"],
    ]
    text = owner.text_content()
    assert "The first 2 of 70 attachments." in text
    assert "--department 3 --state failed --state missing --state gone --not-accepted" in text
    assert cells(page, "owners")[-1] == ["All of these", "11"]
    assert not page.xpath("//*[@id='troubles']")


def test_accepted_losses_have_their_reason() -> None:
    """They are named apart from what is open, with when, who and why."""
    (line,) = cells(page_of(report("2026-11-27 jo: the disk died")), "accepted")
    assert line[-1] == "2026-11-27 jo: the disk died"


def test_an_empty_archive_has_a_page() -> None:
    """Before the first run there is a verdict and nothing else to look at."""
    made = report(
        states=EMPTY,
        files=Count(),
        duplicates=Count(),
        departments=(),
        types=(),
        years=(),
        problems=(),
        attention=(),
        accepted=(),
        tickets=Tickets(),
        pace=(),
        last_run=None,
        samples={},
    )
    page = page_of(made)
    assert len(page.xpath("//table")) == 1
    assert not page.xpath("//main//h3")
    assert not page.xpath("//nav//li")


def test_a_run_that_has_not_ended_is_told() -> None:
    """At work, with how far it is, or killed: the lock tells."""
    run = RunInfo(1, "sync", "s", {}, NOW)
    made = report(last_run=run, pace=(PacePoint(NOW, 1, 1),))
    page = page_of(made)
    assert "killed before its end" in said(page.xpath("//*[@class='figures']")[0])
    facts = {"tickets": 312, "tickets_total": 810, "attachments": 90, "share": 0.384}
    seen = replace(made.seen, worker=Holder(1), progress=facts)
    page = page_of(replace(made, seen=seen))
    assert "at work" in said(page.xpath("//*[@class='figures']")[0])
    (verdict,) = page.xpath("//main/*[1]")
    assert "312 of 810 tickets listed, 90 attachments, about 38 % done" in said(verdict)
    assert "migrator run" not in said(verdict)


def test_years_between_are_drawn() -> None:
    """2013, in which nothing came, has its place; attachments without a date are told."""
    page = page_of(report())
    (year,) = page.xpath("//*[@id='year']")
    assert "1 have no date that makes sense." in year.text_content()
    assert [one.text for one in year.xpath(".//*[@class='tick']")] == ["2012", "2013", "2014"]
    nothing = page_of(report(years=(Group("", "unknown", 3, 3),)))
    assert not nothing.xpath("//*[@id='year']//*[@role='img']")


def test_it_can_be_signed() -> None:
    """On paper there is a place for a name, a date and a signature, below what they stand for."""
    (sign,) = page_of(report()).xpath("//*[@class='sign']")
    assert "21 attachments listed by the source" in sign.text_content()
    assert [one.text for one in sign.xpath(".//span")] == ["Name", "Date", "Signature"]
