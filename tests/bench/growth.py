"""How the cost grows with the number of attachments: the checkpoint's, as the files only add up.

``python -m tests.bench growth``: archives of 10³ to 10⁶ attachments (``--quick``: to 10⁵), made
by :mod:`tests.bench.make_archive`; each is asked what a run and the endpoint ask.
"""

from __future__ import annotations

import hashlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from migrator.archive import Archive, open_archive, open_beside
from migrator.archive.records import Listed, Outcome, State, TicketRow
from tests.bench import make_archive
from tests.bench import measure as common

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
MORE: Final = 3_000
"""Attachments that are added to each archive while the clock runs."""

GROUP: Final = 100
"""Of them in one transaction, as a run under load does it."""

CONFIG: Final = """
[kayako]
url = "http://127.0.0.1:{port}/api/index.php"
api_key = "bench"
secret_key = "bench"
[archive]
path = "{archive}"
"""


def measure(rounds: int, *, quick: bool, folder: Path | None) -> dict[str, Any]:
    """Make the archives, one at a time, and ask each."""
    results = {}
    for rows in SIZES[:-1] if quick else SIZES:
        print(f"growth: {rows:,} attachments", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="bench-growth-", dir=folder) as name:
            results[str(rows)] = _one(Path(name), rows, rounds)
    return results


def _one(home: Path, rows: int, rounds: int) -> dict[str, Any]:
    root = home / "archive"
    # By another process: the memory of this one would count as that of the children it starts.
    make = [sys.executable, "-m", "tests.bench.make_archive", "--rows", str(rows), str(root)]
    common.run(make, folder=home)
    found: dict[str, Any] = {"bytes": (root / "checkpoint.db").stat().st_size}
    with open_beside(root) as archive:
        found |= _questions(archive, rows)
    with socket.create_server(("127.0.0.1", 0)) as source:
        config = home / "config.toml"
        config.write_text(CONFIG.format(port=source.getsockname()[1], archive=root))
        config.chmod(0o600)
        program = [sys.executable, "-m", "migrator"]
        costs = [common.run([*program, "status"], folder=home) for _ in range(rounds)]
        csv = [*program, "report", "--format", "csv", "--output", "all.csv"]
        reports = [common.run(csv, folder=home) for _ in range(rounds)]
        begins = [_until_asked([*program, "run"], home, source) for _ in range(rounds)]
    found["status s"] = statistics.median(one.seconds for one in costs)
    found["status MB"] = max(one.rss for one in costs)
    found["CSV rows/s"] = rows / statistics.median(one.seconds for one in reports)
    found["CSV MB"] = max(one.rss for one in reports)
    found["resumed run asks after s"] = statistics.median(one[0] for one in begins)
    found["resumed run MB"] = max(one[1] for one in begins)
    # Last, as it changes what is asked above:
    with open_archive(root, command="bench") as archive:
        found["us per attachment"] = statistics.median(
            _recorded(archive, rows + turn * MORE) for turn in range(rounds)
        )
    return found


def _questions(archive: Archive, rows: int) -> dict[str, float]:
    queries, tickets = archive.queries, -(-rows // make_archive.PER_TICKET)
    middle = tickets // 2
    return {
        "what is left ms": _ms(lambda: queries.leftovers(2, limit=GROUP)),
        "counts by state ms": _ms(queries.counts),
        "threads missing ms": _ms(archive.threads.count_unread),
        "look-up ms": _ms(
            lambda: (queries.ticket_id_for(str(middle)), queries.attachment(rows // 2))
        ),
        "token ms": _ms(lambda: archive.access.secret_hash(1)),
    }


def _ms(ask: Callable[[], object], times: int = 51) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took)


def _recorded(archive: Archive, rows: int) -> float:
    """List and settle attachments as a run does; gives microseconds for one of them."""
    ledger = archive.ledger
    run = ledger.begin_run("run", source="bench", scope={})
    began = time.perf_counter()
    for first in range(rows + 1, rows + MORE + 1, GROUP):
        numbers = range(first, first + GROUP)
        with ledger.whole():
            for number in numbers:
                ticket = TicketRow(number, 1)
                listed = Listed(number, number, number, f"{number}.pdf", "application/pdf", 9, 1)
                ledger.record_ticket(run.id, ticket, [listed])
        with ledger.whole():
            for number in numbers:
                sha256 = hashlib.sha256(b"%d more" % number).hexdigest()
                told = Outcome(
                    number, State.STORED, sha256=sha256, size=9, mime_type="application/pdf"
                )
                ledger.settle(told)
    return 1e6 * (time.perf_counter() - began) / MORE


def _until_asked(argv: Sequence[str], folder: Path, source: socket.socket) -> tuple[float, float]:
    """Start a run; gives the seconds until it connects to its source, and its memory in MB."""
    began = time.perf_counter()
    env = {"PYTHONPATH": str(common.ROOT), "PYTHONPYCACHEPREFIX": str(common.cache())}
    child = subprocess.Popen(
        argv, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        source.settimeout(120)
        with source.accept()[0]:
            took = time.perf_counter() - began
            status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii", errors="replace")
            peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    finally:
        child.kill()
        child.wait()
    return took, int(peak.split()[1]) / 1024


def markdown(results: Mapping[str, Any]) -> str:
    """Tell the results as a table, a column for each size."""
    rows: list[list[object]] = [
        ["checkpoint, MB", *(f"{one['bytes'] / 1e6:,.1f}" for one in results.values())],
        [
            "checkpoint, bytes per attachment",
            *(f"{one['bytes'] / int(size):,.0f}" for size, one in results.items()),
        ],
    ]
    names = [name for name in next(iter(results.values())) if name != "bytes"]
    rows += [[name, *(_shown(one[name]) for one in results.values())] for name in names]
    return common.table(["", *(f"{int(size):,}" for size in results)], rows)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
