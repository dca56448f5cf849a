"""The pages in a real browser: Debian's Chromium, without a head and without JavaScript."""

from __future__ import annotations

import itertools
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from migrator.archive import Department, Outcome, PostRow, TicketRow
from migrator.archive.records import State
from tests import screenshots
from tests.web.desks import NOON, Desk, furnish, png

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")

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


@pytest.fixture
def page(desk: Desk, browser: Browser) -> Iterator[Page]:
    """Open a new window in which every broken rule of the content policy is a failure."""
    complaints: list[str] = []
    context = browser.new_context(base_url=desk.url, java_script_enabled=False)
    page = context.new_page()
    _listen(page, desk.url, complaints)
    yield page
    context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def files(desk: Desk) -> dict[str, int]:
    """Fill a helpdesk worth looking at."""
    return furnish(desk)


def sign_in(desk: Desk, page: Page) -> None:
    """Come in through the form, with the keyboard alone."""
    page.goto("/")
    assert page.get_by_role("heading", level=1).inner_text() == "Sign in"
    page.keyboard.type(desk.token())  # the field has the focus
    page.keyboard.press("Enter")
    page.wait_for_url("**/")


def look(page: Page, name: str) -> None:
    """Keep a picture where somebody wants to see it."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder, f"{name}.png"), full_page=True)


def test_a_visit(desk: Desk, page: Page, files: dict[str, int]) -> None:
    """Sign in, search, open, look, review, download, sign out: all without JavaScript."""
    sign_in(desk, page)
    look(page, "tickets")
    page.get_by_label("Search for").fill("plate")
    page.get_by_label("In", exact=True).select_option("Subject")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Carbon plate cracked").click()
    assert page.title().startswith("#1 Carbon plate")
    assert page.locator("article").count() == 3
    look(page, "ticket")

    page.get_by_role("link", name="photo.png").click()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download").click()
    assert saved.value.suggested_filename == "photo.png"
    assert Path(saved.value.path()).read_bytes() == png(300, 160, b"\x99\x55\x22")

    page.goto("/tickets/1")
    page.get_by_role("link", name="trace.log").click()
    assert page.get_by_role("link", name="Download").count() == 0
    look(page, "review")
    assert page.frame_locator("iframe").locator("body").inner_text() == "line 1"
    page.get_by_role("button", name="I have reviewed it").click()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download").click()
    assert Path(saved.value.path()).read_bytes() == b"line 1\n"

    page.goto("/tickets/1")
    page.get_by_role("link", name="setup.exe").click()
    assert page.get_by_role("heading", name="Blocked").is_visible()
    assert page.get_by_role("link", name="Download").count() == 0
    look(page, "blocked")

    page.get_by_role("navigation").get_by_role("link", name="Status").click()
    assert page.get_by_role("rowheader", name="stored").is_visible()
    look(page, "status")
    page.get_by_role("button", name="Sign out").click()
    assert page.get_by_label("Token").is_visible()
    look(page, "sign-in")
    page.goto("/status")
    assert page.get_by_label("Token").is_visible()


def test_all_files_of_a_ticket_are_downloaded(
    desk: Desk, page: Page, files: dict[str, int]
) -> None:
    """One link, one confirmation for what needs a review, one ZIP that is whole."""
    sign_in(desk, page)
    page.goto("/tickets/1")
    page.get_by_role("link", name="Download all files").click()
    assert page.get_by_role("heading", name="To be confirmed: 1").is_visible()
    with page.expect_download() as saved:
        page.get_by_role("button", name="I trust them").click()
    assert saved.value.suggested_filename == "ticket-1.zip"
    with zipfile.ZipFile(saved.value.path()) as made:
        assert made.testzip() is None
        found = set(made.namelist())
    assert {"plate.png", "photo.png", "report.pdf", "trace.log", "MISSING.txt"} < found
    assert "setup.exe" not in found


def test_status_looks_again_by_itself(
    desk: Desk, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without JavaScript and within the policy, again and again, until it is stopped."""
    monkeypatch.setattr("migrator.serve.web.pages.AT_WORK", 1)
    sign_in(desk, page)
    page.goto("/status")
    page.wait_for_url("**/status?auto=1")
    with page.expect_request("**/status?auto=1"):
        pass
    page.get_by_role("link", name="Stop refreshing").click()
    page.wait_for_url("**/status?refresh=off")
    assert page.get_by_text("This page does not refresh itself.").is_visible()


def test_pictures_are_seen(desk: Desk, page: Page, files: dict[str, int]) -> None:
    """The image in the text and the preview are decoded; foreign ones are not asked for."""
    sign_in(desk, page)
    page.goto("/tickets/1")
    box = page.locator("article img[src]").bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (120, 60)
    page.goto(f"/attachments/{files['photo.png']}")
    box = page.locator(".preview img").bounding_box()
    assert box is not None
    assert box["width"] >= 300
    look(page, "image")


def test_pdf_is_seen(desk: Desk, browser: Browser, files: dict[str, int]) -> None:
    """The policy of our page and of the PDF let the browser's own viewer start."""
    context = browser.new_context(base_url=desk.url)
    page = context.new_page()
    sign_in(desk, page)
    with page.expect_request(lambda request: request.url.startswith("chrome")):
        page.goto(f"/attachments/{files['report.pdf']}")
    look(page, "pdf")
    context.close()


def test_hostile_post_changes_nothing_with_javascript_on(
    desk: Desk, browser: Browser, files: dict[str, int]
) -> None:
    """Even in a browser that would run scripts, none runs, and nothing covers our page."""
    context = browser.new_context(base_url=desk.url)
    complaints: list[str] = []
    page = context.new_page()
    _listen(page, desk.url, complaints)
    sign_in(desk, page)
    page.goto("/tickets/1")
    assert page.title().startswith("#1 Carbon plate")
    assert page.get_by_role("button", name="Sign out").is_visible()
    fixed = "[...document.querySelectorAll('article *')].map(e => getComputedStyle(e).position)"
    assert set(page.evaluate(fixed)) == {"static"}
    assert complaints == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone(
    desk: Desk, browser: Browser, files: dict[str, int], scheme: Any
) -> None:
    """At 375 pixels nothing is wider than the screen, and what is pressed is large enough."""
    size: Any = {"width": 375, "height": 720}
    context = browser.new_context(base_url=desk.url, viewport=size, color_scheme=scheme)
    page = context.new_page()
    sign_in(desk, page)
    paths = ["/", "/tickets/1", "/tickets/1/download", "/status", "/sign-in", "/nothing"]
    for path in paths + [f"/attachments/{one}" for one in files.values()]:
        page.goto(path)
        look(page, f"phone-{scheme}{path.replace('/', '-')}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, path
        for button in page.locator("button, .button").all():
            box = button.bounding_box()
            assert box is None or box["height"] >= 40, path
    context.close()


RUN = "=" * 300
WIDE = "\U0001f4ce" * 80
OVERFLOWING = """() => [...document.querySelectorAll('body *')].filter(e => {
    if (e.closest('.unseen, .skip, .who, .brand, .html, option')) return false;
    const box = e.getBoundingClientRect();
    if (!box.width || !box.height) return false;
    const style = getComputedStyle(e);
    const cut = style.overflowX !== 'visible' && e.scrollWidth > e.clientWidth + 1
        && !['INPUT', 'SELECT', 'IFRAME'].includes(e.tagName);
    return box.left < -1 || box.right > innerWidth + 1 || cut;
}).map(e => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 30))"""


@pytest.fixture(scope="module")
def hostile(desk: Desk) -> list[str]:
    """Fill a ticket with texts that have no place to break; return the addresses of its pages."""
    html = (
        f"<p>{RUN}</p><pre>{RUN}</pre><table width=4000><tr><td>{RUN}<td>{RUN}</table>"
        f'<h1>{RUN}</h1><p style="width:5000px">x</p><a href="https://x.invalid/{RUN}">{RUN}</a>'
    )
    posts = [
        PostRow(901, NOON, RUN, f"{RUN}@example.com", is_html=True, text=html),
        PostRow(902, NOON + 1, WIDE, "a@b", True, True, text=f"{RUN}\n{WIDE}\n{RUN}"),
    ]
    desk.archive.ledger.put_departments([Department(9, RUN)])
    row = TicketRow(900, 9, RUN, RUN, NOON, NOON + 9999, 0, RUN, f"{RUN}@example.com", WIDE)
    with desk.archive.ledger.atomic():
        desk.archive.ledger.record_ticket(desk.run, row, [])
        desk.archive.threads.put(desk.run, row, posts)
    names = [f"{RUN}.pdf", f"{WIDE}.log", "a." + "b" * 240, f"{RUN}.exe", f"{RUN}.txt"]
    files = [desk.attach(name, RUN.encode(), 900, 901, department=9) for name in names]
    for number in range(3):
        lost = desk.attach(f"{number}{RUN}.docx", None, 900, 902, State.FAILED, department=9)
        with desk.archive.ledger.atomic():
            desk.archive.ledger.settle(
                Outcome(lost, State.FAILED, detail=f"it said {RUN * 5} {RUN}")
            )
    files.append(lost)
    desk.archive.access.apply_config({}, {900: RUN})
    return [
        "/",
        f"/?q={RUN}",
        f"/?q={'x' * 200}&in=subject",
        "/tickets/900",
        "/tickets/900/download",
        "/status",
        "/nothing",
        *(f"/attachments/{one}" for one in files),
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_no_text_breaks_a_page(
    desk: Desk, browser: Browser, hostile: list[str], width: int, scheme: Any
) -> None:
    """Names, addresses and problems without a place to break stay inside their cards."""
    size: Any = {"width": width, "height": 720}
    context = browser.new_context(base_url=desk.url, viewport=size, color_scheme=scheme)
    page = context.new_page()
    sign_in(desk, page)
    broken: dict[str, Any] = {}
    for number, path in enumerate(hostile):
        page.goto(path)
        look(page, f"hostile-{width}-{scheme}-{number:02}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width or page.evaluate(OVERFLOWING):
            broken[path] = (wide, page.evaluate(OVERFLOWING))
    context.close()
    assert broken == {}


def test_focus_ring_covers_no_text(desk: Desk, browser: Browser) -> None:
    """The ring around a field in use ends before the label above it and the hint below it."""
    context = browser.new_context(base_url=desk.url)
    page = context.new_page()
    page.goto("/sign-in")
    look(page, "focus")
    field, label = page.locator("#token").bounding_box(), page.locator("label").bounding_box()
    hint = page.locator(".hint").bounding_box()
    ring = page.locator("#token:focus-visible").evaluate(
        "e => parseFloat(getComputedStyle(e).outlineWidth)"
        " + parseFloat(getComputedStyle(e).outlineOffset)"
    )
    assert field is not None
    assert label is not None
    assert hint is not None
    assert label["y"] + label["height"] <= field["y"] - ring
    assert field["y"] + field["height"] + ring <= hint["y"]
    context.close()


def test_name_of_a_visitor_is_no_part_of_the_button(desk: Desk, page: Page) -> None:
    """Signing out is one button; whose session it is stands beside it."""
    sign_in(desk, page)
    assert page.get_by_role("button", name="Sign out", exact=True).count() == 1
    assert page.get_by_title("Signed in as Priya").inner_text() == "Priya"


def test_screen_readers_find_their_way(desk: Desk, page: Page, files: dict[str, int]) -> None:
    """One main heading, no skipped level, a name for every field, a way past the navigation."""
    sign_in(desk, page)
    for path in ["/", "/tickets/1", "/status", f"/attachments/{files['trace.log']}"]:
        page.goto(path)
        levels = [int(one.evaluate("e => e.tagName[1]")) for one in page.locator(HEADINGS).all()]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in itertools.pairwise(levels)), path
        for field in page.locator("input:not([type=hidden]), select, progress").all():
            assert page.locator(f"label[for='{field.get_attribute('id')}']").count() == 1
        assert page.locator("img:not([alt])").count() == 0
        assert page.locator("html[lang]").count() == 1
        page.keyboard.press("Tab")
        assert page.locator(":focus").inner_text() == "Skip to content"


HEADINGS = "h1, h2, h3, h4, h5, h6"


def _listen(page: Page, home: str, complaints: list[str]) -> None:
    """Gather what the browser complains of, and every request that leaves our server."""

    def hear(text: str) -> None:
        # Advice on forms, and statuses that a test asks for, are no broken rules.
        if not text.startswith(
            ("[DOM]", "Clear-Site-Data", "Failed to load resource: the server responded")
        ):
            complaints.append(text)

    def watch(url: str) -> None:
        # The second is the browser's own viewer of PDF files.
        if not url.startswith((home, "chrome")):
            complaints.append(f"asked for {url}")

    page.on("console", lambda message: hear(message.text))
    page.on("request", lambda request: watch(request.url))
