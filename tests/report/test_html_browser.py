"""The pages of the report and of the dry run in a real browser: Debian's Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from migrator.archive.records import Count, Group, PacePoint, State
from migrator.plan.model import Plan
from migrator.report.model import Problem, Report
from tests import screenshots
from tests.report.pages import NOW, plan, report, row, text_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
LONG = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
STATES = {
    State.STORED: Count(99_120, 31 << 30),
    State.MISSING: Count(305, 91 << 20),
    State.GONE: Count(204, 55 << 20),
    State.DELETED: Count(201, 52 << 20),
    State.FAILED: Count(97, 28 << 20),
    State.PENDING: Count(73, 20 << 20),
}
NAMES = ("Support", "Rücksendungen und Reklamationen", "営業部", "دعم العملاء", LONG, "Trash")
SIZES = (1280, 375)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium in PATH: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the browser."""
    pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[browser]'")
    with screenshots.browser() as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the two pages, with names that are long, wide and run the other way."""
    folder = tmp_path_factory.mktemp("pages")
    pages: dict[str, Report | Plan] = {"report": large_report(), "plan": large_plan()}
    for name, made in pages.items():
        (folder / f"{name}.html").write_text(text_of(made), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


def large_report() -> Report:
    """Make the report of a helpdesk of many years."""
    rows = tuple(row(n, name, State.FAILED) for n, name in enumerate(NAMES * 3))
    kinds = ("server_error", "not_found", "source_lost_file", "a_problem_of_a_long_name" * 3)
    return report(
        states=STATES,
        departments=spread(NAMES),
        types=spread((LONG, *(f"image/x-{n}" for n in range(60)))),
        years=spread([str(year) for year in range(2009, 2027)]),
        sizes=spread([f"up to {10**n} KiB" for n in range(11)]),
        problems=tuple(Problem(State.FAILED, kind, 97 // n) for n, kind in enumerate(kinds, 1)),
        attention=rows,
        pace=tuple(
            PacePoint(NOW + 60 * n, n * 37 % 50 + 20, n * 53 % 90 << 20) for n in range(120)
        ),
    )


def large_plan() -> Plan:
    """Make the dry run of the same."""
    return plan(
        departments=spread(NAMES),
        types=spread((LONG, "image/png")),
        years=spread([str(year) for year in range(2009, 2027)]),
    )


def spread(names: Any) -> tuple[Group, ...]:
    """Make groups of which each is smaller than the one before."""
    return tuple(Group(n, n, 100_000 // i, (31 << 30) // i) for i, n in enumerate(names, 1))


def opened(browser: Browser, file: Path, width: int, scheme: Any = "light") -> Page:
    """Open a page in a window of its own, where whatever the policy forbids is a failure."""
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, java_script_enabled=True
    )
    page = context.new_page()
    page.on("console", lambda message: pytest.fail(message.text))
    page.on("request", lambda request: asked.append(request.url))
    asked: list[str] = []
    page.goto(file.as_uri())
    assert asked == [file.as_uri()]
    return page


def look(page: Page, name: str) -> None:
    """Keep a picture where somebody wants to see it."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder, f"{name}.png"), full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("name", ["report", "plan"])
def test_pages_fit(
    browser: Browser, files: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    """On a desk and on a phone nothing is wider than the screen, and no text leaves its chart."""
    page = opened(browser, files[name], width, scheme)
    look(page, f"{name}-{width}-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    escaped = page.evaluate("""[...document.querySelectorAll('svg[role=img] text')].filter(one => {
        const text = one.getBoundingClientRect(), box = one.closest('.chart')
            .getBoundingClientRect();
        return one.ownerSVGElement.getAttribute('role') === 'img' &&
            (text.left < box.left - 1 || text.right > box.right + 1);
    }).map(one => one.textContent)""")
    assert escaped == []
    page.context.close()


@pytest.mark.parametrize("name", ["report", "plan"])
def test_small_tables_need_no_scrolling_on_a_phone(
    browser: Browser, files: dict[str, Path], name: str
) -> None:
    """Only tables of rows are wider than a phone, and they can be reached with the keyboard."""
    page = opened(browser, files[name], 375)
    wide = page.evaluate("""[...document.querySelectorAll('.scroll')]
        .filter(one => one.scrollWidth > one.clientWidth + 1)
        .map(one => one.getAttribute('tabindex'))""")
    assert wide
    assert set(wide) == {"0"}
    page.context.close()


def test_colours_follow_the_reader(browser: Browser, files: dict[str, Path]) -> None:
    """The ground is light or dark as the reader likes it, and white on paper in any case."""
    ground = "getComputedStyle(document.body).backgroundColor"
    grounds = []
    for scheme in ("light", "dark"):
        page = opened(browser, files["report"], 1280, scheme)
        grounds.append(page.evaluate(ground))
        page.emulate_media(media="print")
        assert page.evaluate(ground) == "rgb(255, 255, 255)"
        scheme_of_root = "getComputedStyle(document.documentElement).colorScheme"
        assert "dark" not in page.evaluate(scheme_of_root)
        ink = page.evaluate("getComputedStyle(document.body).color")
        assert max(map(int, ink[4:-1].split(","))) < 60
        page.context.close()
    assert grounds == ["rgb(253, 252, 250)", "rgb(20, 23, 28)"]


BROKEN_WORDS = """[...document.querySelectorAll('.tablebox td, .tablebox th')].flatMap(cell => {
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), found = [];
    while (walker.nextNode()) for (const word of walker.currentNode.data.matchAll(/[^\\s-]+/g)) {
        if (word[0].length > 15) continue;
        const range = document.createRange();
        range.setStart(walker.currentNode, word.index);
        range.setEnd(walker.currentNode, word.index + word[0].length);
        if (new Set([...range.getClientRects()].map(box => box.top)).size > 1) found.push(word[0]);
    }
    return found;
})"""


def test_it_prints(browser: Browser, files: dict[str, Path]) -> None:
    """On paper nothing is cut off at the side, and what only a screen can do is left out."""
    page = opened(browser, files["report"], 680)
    page.emulate_media(media="print")
    look(page, "report-print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    assert not page.locator("#behind").is_visible()
    assert not page.locator("nav").is_visible()
    assert page.locator(".sign").is_visible()
    for what, name, value in [
        ("thead", "display", "table-header-group"),  # repeated on each sheet
        ("tfoot", "breakBefore", "avoid"),
        ("tr", "breakInside", "avoid"),
        ("h2", "breakAfter", "avoid"),
        ("h3", "breakAfter", "avoid"),
        ("caption", "breakAfter", "avoid"),
    ]:
        found = page.locator(f"main > :not(#behind) {what}").evaluate_all(
            "(some, name) => some.map(one => getComputedStyle(one)[name])", name
        )
        assert set(found) == {value}, what
    broken = page.evaluate(BROKEN_WORDS)
    assert broken == [], broken
    assert page.pdf(format="A4").startswith(b"%PDF-")
    page.context.close()


def test_a_figure_opens_its_rows(browser: Browser, files: dict[str, Path]) -> None:
    """A click on a number shows the rows behind it, and there is a way back; no script needed."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(files["report"].as_uri())
    page.locator("#department tbody a").first.click()
    rows = page.locator(page.url[page.url.index("#") :])
    assert rows.locator("tbody tr").first.is_visible()
    assert rows.get_by_text("migrator report --format csv --department Support").is_visible()
    look(page, "report-rows")
    rows.get_by_role("link", name="Back to the figure").click()
    assert page.url.endswith("#department")
    context.close()


def test_readers_and_keyboards_find_their_way(browser: Browser, files: dict[str, Path]) -> None:
    """The first stop leads past the head; pictures have names, regions and tables too."""
    page = opened(browser, files["report"], 1280)
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to the report"
    for name in ("The ledger as a balance", "By department", "By year", "By reason"):
        assert page.get_by_role("img", name=name).count() == 1
    assert page.get_by_role("table", name="Listed = stored + missing").count() == 1
    assert page.get_by_role("rowheader", name="stored").first.is_visible()
    assert page.get_by_role("heading", level=1).inner_text() == "Not complete"
    page.context.close()
