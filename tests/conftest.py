"""Which tests are slow: ``python -m pytest`` leaves them out, ``-m slow`` runs only them."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
SLOW = (
    "cli/test_sandbox_demo.py",
    "cli/test_selftest.py",
    "cli/test_startup.py",
    "e2e",
    "faults",
    "property",
    "report/test_html_browser.py",
    "tickiti/test_clients.py",
    "tickiti/test_connections.py",
    "tickiti/test_openapi.py",
    "tickiti/test_workers.py",
    "transfer/test_all_faults.py",
    "transfer/test_outage.py",
    "web/test_browser.py",
)
"""Files and directories: whole commands as processes, kills, browsers, random searches."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow by where it stands."""
    for item in items:
        place = item.path.relative_to(HERE).as_posix()
        if place.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
