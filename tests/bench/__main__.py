"""``python -m tests.bench WHAT``: how fast this is, beside its peers.

Not part of the tests. Needs the extra ``[bench]``; curl, nginx and wrk are used where they are
installed. Results go to stdout as tables, with ``--json`` to a file as well; progress to stderr.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench import measure

BENCHMARKS = ("pull", "serve", "startup", "growth", "search", "deliver", "bucket")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=[*BENCHMARKS, "all"])
    parser.add_argument("--quick", action="store_true", help="a few minutes, for a first look")
    parser.add_argument("--rounds", type=int, default=3, help="how often each candidate is run")
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    parser.add_argument("--folder", type=Path, help="where to write; the disk that is measured")
    parser.add_argument("--only", metavar="TEXT", help="of a pull: cases whose names hold this")
    given = parser.parse_args(argv)
    if given.only and given.what != "pull":
        parser.error("--only is for pull")
    more = {"only": given.only} if given.only else {}
    results: dict[str, Any] = {"machine": measure.machine(), "rounds": given.rounds}
    for name in BENCHMARKS if given.what == "all" else [given.what]:
        module = importlib.import_module(f"tests.bench.{name}")
        results[name] = module.measure(given.rounds, quick=given.quick, folder=given.folder, **more)
        print(f"## {name}\n\n{module.markdown(results[name])}\n", flush=True)
        measure.save(given.json, results)
    print(measure.table(["", ""], [[key, value] for key, value in results["machine"].items()]))


if __name__ == "__main__":
    main()
