"""How long a command takes before it does anything, beside Python itself.

``python -m tests.bench startup``: what is run is what was installed, over an archive of a
hundred attachments.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.bench import make_archive
from tests.bench import measure as common

COMMANDS: Final = ("--help", "run --help", "status", "token list", "rule list", "report")
PYTHON: Final = "python -c pass"


def measure(rounds: int, *, quick: bool, folder: Path | None) -> dict[str, Any]:
    """Run every command, in turns."""
    with tempfile.TemporaryDirectory(prefix="bench-startup-", dir=folder) as name:
        home = Path(name)
        make_archive.make(home / "archive", make_archive.Size(100))
        (home / "config.toml").write_text("")
        program = [sys.executable, "-m", "migrator"]
        lines = {PYTHON: [sys.executable, "-c", "pass"]}
        lines |= {f"migrator {one}": [*program, *one.split()] for one in COMMANDS}
        for line in lines.values():
            common.run(line, folder=home)  # compiles what is not compiled yet
        costs = common.rounds(
            rounds if quick else 5 * rounds,
            {
                name: lambda line=line: common.run(line, folder=home)  # type: ignore[misc]
                for name, line in lines.items()
            },
            label="startup",
        )
    return {
        name: {
            "ms": common.Middle.of([1000 * one.seconds for one in found]).as_json(),
            "of_python": common.ratio(
                [one.seconds for one in costs[PYTHON]], [one.seconds for one in found]
            ).as_json(),
            "cpu_ms": common.Middle.of([1000 * one.cpu for one in found]).as_json(),
            "rss_mb": max(one.rss for one in found),
        }
        for name, found in costs.items()
    }


def markdown(results: Mapping[str, Any]) -> str:
    """Tell the results as a table."""
    rows = [
        [
            f"`{name}`",
            common.Middle(**one["ms"]),
            common.Middle(**one["cpu_ms"]),
            common.Middle(**one["of_python"]),
            f"{one['rss_mb']:.0f}",
        ]
        for name, one in results.items()
    ]
    return common.table(["command", "ms", "CPU ms", "of Python's own", "peak MB"], rows)
