"""What a delivery into a look-alike of Tickiti costs: requests, time and memory.

``python -m tests.bench deliver``: ``migrator deliver --yes`` as a process of its own, against a
look-alike that answers after 50 ms.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from migrator.sandbox.tickiti import Tickiti
from tests.bench import measure as common
from tests.deliver.conftest import AUTHOR, Office

LATENCY: Final = 0.05
LARGE: Final = 25_000_000
CASES: Final = {
    "1,000 small files in 100 tickets": (100, 10, 0),
    "2 files of 25 MB in 2 tickets": (2, 1, LARGE),
    "12 files of 25 MB in 12 tickets": (12, 1, LARGE),
}
"""Tickets, files of each, and their size; 0 is a few bytes."""


def measure(rounds: int, *, quick: bool, folder: Path | None) -> dict[str, Any]:
    """Deliver each case as often as asked for, into a new look-alike each time."""
    found = {}
    for name, case in CASES.items():
        runs = [_delivered(case, folder) for _ in range(1 if quick else rounds)]
        found[name] = {
            "requests": runs[0][1],
            "seconds": common.Middle.of([cost.seconds for cost, _ in runs]).as_json(),
            "rss_mb": max(cost.rss for cost, _ in runs),
        }
    return found


def _delivered(case: tuple[int, int, int], folder: Path | None) -> tuple[common.Cost, int]:
    tickets, files, size = case
    with tempfile.TemporaryDirectory(prefix="bench-deliver-", dir=folder) as name:
        home = Path(name)
        office = Office(home / "archive")
        for ticket in range(1, tickets + 1):
            marks = [b"%d of %d" % (n, ticket) for n in range(files)]
            office.ticket(ticket, *(mark.ljust(size, b"\0") for mark in marks))
        office.open_there(Tickiti(latency=LATENCY), *range(1, tickets + 1))
        office.archive.close()
        try:
            lines = ["kayako_ticket_id,ticket_number"]
            lines += [f"{ours},{there}" for ours, there in office.numbers.items()]
            (home / "map.csv").write_text("\n".join(lines) + "\n")
            (home / "config.toml").write_text(
                f'[tickiti]\nticket_numbers = "map.csv"\n[deliver]\nauthor = "{AUTHOR}"\n'
                f'url = "{office.tickiti.url}"\n'
            )
            os.environ["TICKITI_TOKEN"] = office.tickiti.token
            cost = common.run([sys.executable, "-m", "migrator", "deliver", "--yes"], folder=home)
            return cost, len(office.tickiti.requests)
        finally:
            office.tickiti.stop()
            office.tickiti.desk.close()


def markdown(results: Mapping[str, Any]) -> str:
    """Tell the results as a table."""
    rows = [
        [name, f"{one['requests']:,}", common.Middle(**one["seconds"]), f"{one['rss_mb']:.0f}"]
        for name, one in results.items()
    ]
    return common.table(["delivered", "requests", "s", "peak MB"], rows)
