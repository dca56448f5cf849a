"""Every page and both reports as pictures: ``python -m tests.screenshots DIR``.

Wide and as on a phone, light and dark, and the reports as printed. The pages stand over a made-up
helpdesk, behind a real server.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrator.archive import open_archive, open_beside
from migrator.archive.records import ArticleRow, State
from migrator.serve import join_faces, load_faces
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from tests.report.pages import plan, report, text_of
from tests.web.desks import Desk, furnish

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

WIDTHS = (1280, 375)
SCHEMES = ("light", "dark")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium without a head."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        yield found
        found.close()


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[tuple[Desk, dict[str, str]]]:
    """Serve a made-up helpdesk; yield it and the addresses of its pages, by name."""
    path = folder / "archive"
    with (
        open_archive(path, command="run") as archive,
        open_beside(path) as beside,
        BackgroundServer(join_faces(load_faces(), lambda: beside, EndpointSettings())) as server,
    ):
        desk = Desk(archive, server.url)
        files = furnish(desk)
        desk.attach("old.pdf", None, 2, 21, State.MISSING)
        article = ArticleRow("article", 1, subject="How plates are fired", text="At 1,280 °C.")
        archive.threads.put_articles(desk.run, [article])
        archive.ledger.put_progress(
            desk.run, {"tickets": 312, "tickets_total": 810, "attachments": 90, "share": 0.384}
        )
        addresses = {
            "sign-in": "/sign-in",
            "tickets": "/",
            "search": "/?q=plate",
            "nothing-found": "/?q=nothing+like+it",
            "ticket": "/tickets/1",
            "zip": "/tickets/1/download",
            "articles": "/knowledge-base?q=plate",
            "article": "/knowledge-base/article/1",
            "status": "/status",
            "not-found": "/nothing",
        }
        addresses |= {f"file-{name[:20]}": f"/attachments/{id_}" for name, id_ in files.items()}
        yield desk, {name: server.url + address for name, address in addresses.items()}


def reports(folder: Path) -> dict[str, str]:
    """Write both reports; return their addresses by name."""
    found = {}
    for name, made in (("report", report("Support")), ("plan", plan("Support"))):
        file = folder / f"{name}.html"
        file.write_text(text_of(made), encoding="utf-8")
        found[name] = file.as_uri()
    return found


def looked_at(
    browser: Browser, desk: Desk, addresses: dict[str, str], width: int, scheme: Any
) -> Iterator[tuple[str, Page]]:
    """Yield every page, signed in where that is needed, with its name."""
    size: Any = {"width": width, "height": 800}
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    for name, address in addresses.items():
        if name != "sign-in" and address.startswith(desk.url):
            _sign_in(desk, context)
        page.goto(address)
        yield name, page
    context.close()


def _sign_in(desk: Desk, context: BrowserContext) -> None:
    if not any(cookie.get("name") == "migrator_session" for cookie in context.cookies(desk.url)):
        page = context.new_page()
        page.goto(f"{desk.url}/sign-in")
        page.locator("#token").fill(desk.token())
        page.keyboard.press("Enter")
        page.wait_for_url("**/")
        page.close()


def main(folder: Path) -> None:
    """Make all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, opened(Path(scratch)) as (desk, pages):
        written = reports(Path(scratch))
        with browser() as chromium:
            for width in WIDTHS:
                for scheme in SCHEMES:
                    for name, page in looked_at(chromium, desk, pages | written, width, scheme):
                        page.screenshot(
                            path=folder / f"{name}-{width}-{scheme}.png", full_page=True
                        )
            page = chromium.new_page()
            for name, address in written.items():
                page.goto(address)
                page.pdf(path=folder / f"{name}.pdf", format="A4")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
