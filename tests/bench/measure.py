"""What all benchmarks share: children that are measured, rounds that are compared, and tables.

Figures of one machine in one hour mean little; ratios within a run travel. So the candidates of a
benchmark take turns, round after round, and what counts is the median of the ratios.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = (
    "aiohttp",
    "httpx",
    "httptools",
    "lxml",
    "pybase64",
    "requests",
    "uvicorn",
    "starlette",
)


@dataclass(frozen=True)
class Cost:
    """What a child took: seconds by the clock and of CPU (user and system), peak memory in MB."""

    seconds: float
    cpu: float
    rss: float


def machine() -> dict[str, object]:
    """Describe where this runs, and with what."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in _lines("/proc/cpuinfo")
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = next((line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(int((memory.split() or ["", "0"])[1]) / (1 << 20), 1) if memory else 0,
        "system": platform.platform(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "sqlite": sqlite3.sqlite_version,
        "load": [round(one, 2) for one in os.getloadavg()],
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def run(argv: Sequence[str], *, folder: Path, most: float = 1800.0) -> Cost:
    """Run a child to its end; raises RuntimeError with what it said when that is not a good one.

    Its modules are compiled as an installed program's are, outside of the tree.
    """
    env = dict(os.environ, PYTHONPYCACHEPREFIX=str(cache()), PYTHONPATH=str(ROOT))
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryFile() as said:
        started = time.monotonic()
        child = subprocess.Popen(argv, stdout=said, stderr=said, cwd=folder, env=env)
        alarm = threading.Timer(most, child.kill)
        alarm.start()
        _, status, usage = os.wait4(child.pid, 0)  # wait() would not tell what it used
        seconds = time.monotonic() - started
        alarm.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode not in (0, 3):  # 3: a ledger in which something is open
            said.seek(0)
            text = said.read().decode("utf-8", "replace")[-2000:]
            raise RuntimeError(f"{' '.join(argv)} ended with {child.returncode}:\n{text}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def cache() -> Path:
    """Return the directory of compiled modules that all children share."""
    return Path(tempfile.gettempdir()) / f"migrator-bench-{os.getuid()}-pycache"


@contextmanager
def serving(module: str, *args: str) -> Iterator[int]:
    """Have a server of this package run beside; yield the port that it prints."""
    argv = [sys.executable, "-m", module, *args]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.stdin.close()  # which is how it is told to end


def rounds(
    times: int, candidates: Mapping[str, Callable[[], Cost]], *, label: str
) -> dict[str, list[Cost]]:
    """Let the candidates take turns."""
    costs: dict[str, list[Cost]] = {name: [] for name in candidates}
    for turn in range(times):
        for name, candidate in candidates.items():
            cost = candidate()
            costs[name].append(cost)
            note = f"{cost.seconds:.2f} s, CPU {cost.cpu:.2f} s, {cost.rss:.0f} MB"
            said = f"{label}: round {turn + 1}/{times}, {name}: {note}"
            print(said, file=sys.stderr, flush=True)
    return costs


@dataclass(frozen=True)
class Middle:
    """The median of a figure over the rounds, and how far the rounds are apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Middle:
        """Take the figures of all rounds."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        """Show the median with the range behind it."""
        return f"{_short(self.median)} ({_short(self.low)}-{_short(self.high)})"

    def as_json(self) -> dict[str, float]:
        """Return what is kept of it."""
        return {"median": self.median, "low": self.low, "high": self.high}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Middle:
    """Compare two candidates round by round: theirs divided by ours."""
    return Middle.of([other / own for own, other in zip(ours, theirs, strict=True)])


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def save(path: Path | None, results: Mapping[str, Any]) -> None:
    """Write the results as JSON."""
    if path is not None:
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _lines(name: str) -> list[str]:
    try:
        return Path(name).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
