"""axe-core, which tells what people with assistive tools stumble over, finds nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import screenshots
from tests.web.desks import Desk

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("chromium") is None, reason="no chromium in PATH: apt-get install chromium"
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the browser."""
    pytest.importorskip("axe_playwright_python", reason="no axe-core: pip install -e '.[browser]'")
    with screenshots.browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, dict[str, str]]]:
    """Serve every page, and write both reports."""
    folder = tmp_path_factory.mktemp("pages")
    with screenshots.opened(folder) as (desk, addresses):
        yield desk, addresses | screenshots.reports(folder)


@pytest.mark.parametrize("scheme", screenshots.SCHEMES)
@pytest.mark.parametrize("width", screenshots.WIDTHS)
def test_axe_finds_nothing(
    browser: Browser, pages: tuple[Desk, dict[str, str]], width: int, scheme: str
) -> None:
    """On every page and in both reports, wide and on a phone, light and dark."""
    from axe_playwright_python.sync_playwright import Axe

    found: dict[str, list[Any]] = {}
    for name, page in screenshots.looked_at(browser, *pages, width, scheme):
        for one in Axe().run(page).response["violations"]:
            where = [node["html"][:100] for node in one["nodes"]]
            found.setdefault(name, []).append((one["id"], where[:3]))
    assert found == {}


@pytest.mark.timeout(300)
def test_pictures_are_made_by_one_command(tmp_path: Path) -> None:
    """``python -m tests.screenshots DIR`` makes a picture of each page in each form."""
    command = [sys.executable, "-m", "tests.screenshots", str(tmp_path)]
    subprocess.run(command, check=True, timeout=280, cwd=Path(__file__).parents[2])
    names = {path.stem.removesuffix("-1280-dark") for path in tmp_path.glob("*-1280-dark.png")}
    assert {"tickets", "ticket", "status", "zip", "report", "plan"} <= names
    assert len(list(tmp_path.glob("*.png"))) == 4 * len(names)
    assert len(list(tmp_path.glob("*.pdf"))) == 2
