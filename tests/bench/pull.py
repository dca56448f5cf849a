"""How fast a whole ``migrator run`` is beside the script that one writes first.

All pull the same helpdesk: ticket pages, a list for each ticket, every attachment. The naive
script neither remembers nor flushes anything; ``migrator run`` does all that it always does.
curl fetches the replies with contents alone, as files of XML: what HTTP costs. The floor is a bare
script that flushes and records as we do, and leaves out all else.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.bench.desk import Desk, Shape
from tests.bench.measure import Cost, Middle, ratio, rounds, run, serving, table

US, NAIVE, CURL = "migrator run", "naive script", "curl --parallel, XML only"
FLOOR = "bare script, durable"


@dataclass(frozen=True)
class Case:
    """One comparison: a helpdesk, how far away it is (ms), and how many requests at once.

    ``share`` is the part of the helpdesk that the slow peers pull: far away each ticket takes
    them as long as any other, and they would take all day.
    """

    name: str
    shape: Shape
    latency: int = 0
    at_once: int = 8
    share: float = 1.0
    posts: bool = False
    peers: tuple[str, ...] = (NAIVE, FLOOR)


@dataclass
class Run:
    """A case as it is being measured, in a folder where nothing is deleted before the end.

    A file system that has just deleted thousands of files is slow to make new ones.
    """

    case: Case
    folder: Path
    url: str
    numbers: Iterator[int] = field(default_factory=count)

    def candidates(self) -> dict[str, Callable[[], Cost]]:
        """Return what is to be measured, each to be called once a round."""
        threads = self.case.at_once
        known: dict[str, Callable[[], Cost]] = {
            NAIVE: self.naive,
            f"naive, {threads} threads": lambda: self.naive(threads),
            CURL: self.curl,
            FLOOR: self.floor,
        }
        wanted = {name: known[name] for name in known if name in self.case.peers}
        return wanted | {US: self.ours}

    def ours(self) -> Cost:
        """Pull with the tool."""
        folder = self._fresh()
        config = folder / "config.toml"
        config.touch(0o600)
        config.write_text(
            f'[kayako]\nurl = "{self.url}"\napi_key = "key"\nsecret_key = "secret"\n'
            f"concurrency = {self.case.at_once}\nposts = {str(self.case.posts).lower()}\n"
            "linked_files = false\nknowledge_base = false\ncustom_fields = false\n"
            '[archive]\npath = "./archive"\nkeep_replies = false\n'
        )
        return run([sys.executable, "-m", "migrator", "-c", str(config), "run"], folder=folder)

    def naive(self, threads: int = 1) -> Cost:
        """Pull with the script; the cost of a share of the tickets is scaled to all of them."""
        whole = Desk(self.case.shape).tickets
        part = max(1, int(whole * self.case.share))
        cost = self._script(threads, part)
        if part == whole:
            return cost
        start, more = self._script(threads, 0), whole / part
        return Cost(
            start.seconds + (cost.seconds - start.seconds) * more,
            start.cpu + (cost.cpu - start.cpu) * more,
            cost.rss,
        )

    def _script(self, threads: int, tickets: int) -> Cost:
        folder = self._fresh()
        argv = [sys.executable, "-m", "tests.bench.naive", self.url, str(folder / "files")]
        argv += ["--threads", str(threads), "--tickets", str(tickets)]
        return run([*argv, *(["--posts"] if self.case.posts else [])], folder=folder)

    def floor(self) -> Cost:
        """Pull with the bare script."""
        folder = self._fresh()
        argv = [sys.executable, "-m", "tests.bench.floor", self.url, str(folder / "files")]
        argv += ["--threads", str(self.case.at_once)]
        return run([*argv, *(["--posts"] if self.case.posts else [])], folder=folder)

    def curl(self) -> Cost:
        """Fetch all replies that have contents."""
        folder = self._fresh()
        config = folder / "urls"
        with config.open("w") as file:
            for one in Desk(self.case.shape).files:
                path = f"/Tickets/TicketAttachment/{one.ticket_id}/{one.id}"
                file.write(f'url = "{self.url}?e={path}"\noutput = "{one.id}.xml"\n')
        argv = ["curl", "--silent", "--globoff", "--parallel", "--parallel-max"]
        return run([*argv, str(self.case.at_once), "--config", str(config)], folder=folder)

    def _fresh(self) -> Path:
        folder = self.folder / f"{next(self.numbers)}"
        folder.mkdir(parents=True)
        return folder


def cases(*, quick: bool) -> list[Case]:
    """Return the comparisons: near, far, with posts."""
    near = Shape(500 if quick else 2000, big=1 if quick else 4)
    far = Shape(400 if quick else 4000)
    share = 0.05 if quick else 0.025
    all_peers = (NAIVE, "naive, 8 threads", CURL, FLOOR)
    found = [
        Case("no latency", near, peers=all_peers),
        Case("50 ms", far, 50, 8, share, peers=all_peers),
        Case("50 ms", far, 50, 16, share),
    ]
    if not quick:
        found.append(Case("no latency, files of 1 MB", Shape(400, size=1_000_000)))
        found.append(Case("200 ms", Shape(800), 200, 16, 0.05))
        found.append(Case("no latency, with posts", near, posts=True))
        found.append(Case("50 ms, with posts", Shape(2000), 50, 8, 0.05, posts=True))
    return found


def measure(
    times: int, *, quick: bool, folder: Path | None = None, only: str = ""
) -> dict[str, Any]:
    """Measure the cases whose names hold ``only``, and the memory that sizes take."""
    with _space(folder) as space:
        found = [
            _measured(case, times, space / str(at))
            for at, case in enumerate(cases(quick=quick))
            if only in case.name
        ]
        sizes = {"60 KB": Shape(200, size=60_000), "200 MB": Shape(8, size=200_000_000)}
        memory = {
            name: _memory(shape, times, space / f"memory-{at}")
            for at, (name, shape) in enumerate(sizes.items())
        }
    return {"cases": found, "memory_mb": memory}


def markdown(results: dict[str, Any]) -> str:
    """Show the results as tables."""
    head = ["source", "at once", "", "attachments/s", "x naive", "x bare", "CPU s/GB"]
    head += ["of naive's CPU", "of bare CPU", "MB"]
    rows = [
        [case["name"], case["at_once"], name, *_cells(row)]
        for case in results["cases"]
        for name, row in case["candidates"].items()
    ]
    memory = [[name, _show(row)] for name, row in results["memory_mb"].items()]
    return table(head, rows) + "\n\n" + table(["attachments of", "peak memory, MB"], memory)


def _measured(case: Case, times: int, folder: Path) -> dict[str, Any]:
    with serving("tests.bench.source", json.dumps(asdict(case.shape)), str(case.latency)) as port:
        url = f"http://127.0.0.1:{port}/api/index.php"
        label = f"{case.name}, {case.at_once} at once"
        costs = rounds(times, Run(case, folder, url).candidates(), label=label)
    desk = Desk(case.shape)
    naive, floor = costs[NAIVE], costs[FLOOR]
    found = {}
    for name, own in costs.items():
        found[name] = {
            "attachments_per_second": _middle([len(desk.files) / one.seconds for one in own]),
            "times_naive": ratio([one.seconds for one in own], [one.seconds for one in naive]),
            "times_bare": ratio([one.seconds for one in own], [one.seconds for one in floor]),
            "cpu_seconds_per_gb": _middle([one.cpu / desk.bytes * 1e9 for one in own]),
            "of_naives_cpu": ratio([one.cpu for one in naive], [one.cpu for one in own]),
            "of_bare_cpu": ratio([one.cpu for one in floor], [one.cpu for one in own]),
            "peak_mb": _middle([one.rss for one in own]),
        }
    told = {name: {key: one.as_json() for key, one in row.items()} for name, row in found.items()}
    return {
        "name": case.name,
        "latency_ms": case.latency,
        "at_once": case.at_once,
        "posts": case.posts,
        "attachments": len(desk.files),
        "bytes": desk.bytes,
        "candidates": told,
        "rounds": {name: [asdict(one) for one in own] for name, own in costs.items()},
    }


def _memory(shape: Shape, times: int, folder: Path) -> dict[str, float]:
    with serving("tests.bench.source", json.dumps(asdict(shape)), "0") as port:
        one = Run(Case("memory", shape), folder, f"http://127.0.0.1:{port}/api/index.php")
        costs = rounds(times, {US: one.ours}, label=f"memory, {shape.size} bytes each")
    return _middle([cost.rss for cost in costs[US]]).as_json()


def _middle(values: list[float]) -> Middle:
    return Middle.of(values)


def _cells(row: dict[str, dict[str, float]]) -> list[str]:
    return [_show(one) for one in row.values()]


def _show(row: dict[str, float]) -> str:
    return str(Middle(**row))


@contextmanager
def _space(folder: Path | None) -> Iterator[Path]:
    space = Path(tempfile.mkdtemp(prefix="bench-pull-", dir=folder))
    try:
        yield space
    finally:
        shutil.rmtree(space, ignore_errors=True)  # a result is worth more than a clean disk
