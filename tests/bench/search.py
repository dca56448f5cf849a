"""What content searches cost downloads, and how long they take.

``python -m tests.bench search`` makes an archive of 200,000 tickets with a post each, indexes
it, and serves it. 16 clients download, alone and beside 16 that search the texts, in turns. Words
are as frequent as in a language, so some searches have few tickets and some nearly all. Needs wrk;
its clients that search run at the lowest priority.
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from migrator.archive import PostRow, TicketRow, open_archive
from tests.bench import measure as common
from tests.bench import serve

TICKETS: Final = 200_000
POSTS: Final = 1
SIZE: Final = "1 MB"
CLIENTS: Final = 16
GROUP: Final = 200
KINDS: Final = ("frequent", "rare", "two words", "part of a word", "no word", "two letters")

WRK: Final = """
local bodies, at = {%(bodies)s}, 0
local headers = {["Content-Type"] = "application/json", ["Authorization"] = "Bearer %(token)s"}
local wrong = 0
request = function()
  at = at %% #bodies + 1
  return wrk.format("POST", "/api/v1/tickets/query", headers, bodies[at])
end
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %%d, "seconds": %%f, "errors": %%d, "p50": %%f, "p99": %%f, "max": %%f}\\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
"""


class Language:
    """Words, a few of them in most texts and most of them in few."""

    def __init__(self) -> None:
        self.chance = random.Random(7)
        parts = [a + b for a in "bcdfghklmnprstvwz" for b in "aeiou"] + ["th", "ing", "tion"]
        lengths = self.chance.choices([1, 2, 2, 3, 3, 4], k=60_000)
        made = ("".join(self.chance.choices(parts, k=length)) for length in lengths)
        self.words = list(dict.fromkeys(made))
        self._weights = list(itertools.accumulate(1 / (n + 5) for n in range(len(self.words))))

    def text(self) -> str:
        """Return the text of a post, a thousand characters in the mean."""
        number = self.chance.randint(40, 240)
        return " ".join(self.chance.choices(self.words, cum_weights=self._weights, k=number))

    def tokens(self, kind: str) -> list[str]:
        """Return the tokens of a search."""
        frequent, rare = self.words[5:200], self.words[2000:]
        match kind:
            case "frequent":
                return [self.chance.choice(frequent)]
            case "rare":
                return [self.chance.choice(rare)]
            case "two words":
                return [self.chance.choice(frequent), self.chance.choice(rare)]
            case "part of a word":
                long = [word for word in self.chance.choices(rare, k=99) if len(word) > 5]
                return [long[0][1:5]]
            case "no word":
                return ["xylophone" + str(self.chance.randint(0, 99))]
            case _:
                return [self.chance.choice(frequent)[:2]]


def stock(folder: Path, tickets: int, language: Language) -> tuple[serve.Stock, dict[str, float]]:
    """Make the archive; also return what its texts and its index cost."""
    made = serve.stock(folder)
    root, chars = folder / "archive", 0
    before = (root / "checkpoint.db").stat().st_size
    began = time.process_time()
    with open_archive(root, command="bench") as archive:
        run = archive.ledger.begin_run("run", source="bench", scope={})
        for first in range(1, tickets + 1, GROUP):
            with archive.ledger.atomic():
                for ticket in range(first, first + GROUP):
                    texts = [language.text() for _ in range(POSTS)]
                    chars += sum(map(len, texts))
                    posts = [PostRow(ticket * 10 + n, 1, text=one) for n, one in enumerate(texts)]
                    row = TicketRow(ticket, 1, "", f"Ticket {ticket}", ticket, ticket)
                    archive.threads.put(run.id, row, posts)
        while archive.threads.index_texts():
            pass
    seconds = time.process_time() - began
    grown = (root / "checkpoint.db").stat().st_size - before
    return made, {"texts": chars, "file": grown / chars, "us": seconds * 1e6 / (tickets * POSTS)}


def search(
    folder: Path, made: serve.Stock, port: int, kinds: Sequence[list[str]], seconds: float
) -> Any:
    """Let the clients search for a while; return what wrk counted."""
    bodies = ", ".join(f"'{body}'" for each in zip(*kinds, strict=True) for body in each)
    script = folder / "search.lua"
    script.write_text(WRK % {"bodies": bodies, "token": made.token})
    # Such clients have machines of their own: here they get what the server leaves.
    call = ["nice", "-n", "19", "wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds:.0f}s"]
    call += ["--timeout", "60s", "--latency"]
    said = subprocess.run(
        [*call, "-s", str(script), f"http://127.0.0.1:{port}"],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(said.stdout.strip().splitlines()[-1])


def measure(rounds: int, *, quick: bool, folder: Path | None) -> dict[str, Any]:
    """Let 16 clients download alone, and beside 16 that search, in turns."""
    with tempfile.TemporaryDirectory(prefix="bench-search-", dir=folder) as name:
        return _measure(Path(name), rounds, TICKETS // 10 if quick else TICKETS, 3 if quick else 8)


def _measure(folder: Path, rounds: int, tickets: int, seconds: float) -> dict[str, Any]:
    language = Language()
    made, costs = stock(folder, tickets, language)

    def criterion(kind: str) -> dict[str, object]:
        return {"mode": "content", "tokens": language.tokens(kind)}

    bodies = {
        kind: [json.dumps({"search_object": {"criteria": [criterion(kind)]}}) for _ in range(300)]
        for kind in KINDS
    }
    command, port = serve.commands(folder, made)[serve.US]
    case = serve.Case(SIZE, CLIENTS)
    alone, beside, searches = [], [], []
    with serve.running(command, port) as pid:
        by_kind = {kind: search(folder, made, port, [bodies[kind]], seconds) for kind in KINDS}
        for _ in range(rounds):
            alone.append(serve.wrk(folder, made, serve.US, port, case, seconds))
            with ThreadPoolExecutor(1) as pool:
                given = (folder, made, port, list(bodies.values()), seconds + 2)
                searching = pool.submit(search, *given)
                time.sleep(1)
                beside.append(serve.wrk(folder, made, serve.US, port, case, seconds))
                searches.append(searching.result())
        memory = serve.peak_memory(pid)
    rates = [[one["requests"] / one["seconds"] for one in each] for each in (alone, beside)]
    return {
        "costs": costs,
        "by kind": by_kind,
        "alone": rates[0],
        "beside": rates[1],
        "searches": searches,
        "peak MB": memory,
    }


def markdown(results: Mapping[str, Any]) -> str:
    """Tell the results as tables."""
    costs = results["costs"]
    kept = common.ratio(results["alone"], results["beside"])
    rows = [
        [kind, one["requests"], *(f"{one[key]:.1f}" for key in ("p50", "p99", "max", "errors"))]
        for kind, one in results["by kind"].items()
    ]
    worst, late = (max(one[key] for one in results["searches"]) for key in ("max", "p99"))
    middle = statistics.median(one["p50"] for one in results["searches"])
    rate = statistics.median(one["requests"] / one["seconds"] for one in results["searches"])
    errors = sum(one["errors"] for one in results["searches"])
    head = ["searches alone", "number", "p50 ms", "p99 ms", "worst ms", "errors"]
    return (
        f"{common.table(head, rows)}\n\n"
        f"Downloads of {SIZE} beside searches: {kept} of their rate alone; searches beside "
        f"them: {rate:.0f} a second, p50 {middle:.0f} ms, p99 {late:.0f} ms, worst {worst:.0f} ms, "
        f"{errors} errors. "
        f"Peak {results['peak MB']:.0f} MB.\n"
        f"Texts: {costs['texts'] / 1e6:.0f} MB; the file grew by {costs['file']:.2f} of that; "
        f"{costs['us']:.0f} us of CPU for each post, with making it up."
    )
