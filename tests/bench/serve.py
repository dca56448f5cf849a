"""How fast the endpoint is beside nginx with a static file and beside what one writes first.

``python -m tests.bench serve`` makes an archive, serves it with ``migrator serve``, and asks it,
nginx, Starlette and Flask for the same files, one after the other in every round. The answers for
nginx are those of the endpoint itself, made before. Needs wrk; nginx, Flask and gunicorn where
they are installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from migrator.archive import Archive, open_archive
from migrator.archive.records import Department, Listed, Outcome, State, TicketRow
from tests.bench import measure as common
from tests.bench import serve_peers

PATH: Final = "/api/v1/tickets/attachment"
US: Final = "migrator"
OURS_TWICE: Final = "migrator, 2 workers"
SIZES: Final = {
    "10 KB": (10_000, 3_000),  # more than the endpoint remembers: each is looked up
    "10 KB again": (10_000, 300),
    "1 MB": (1_000_000, 32),
    "25 MB": (25_000_000, 4),
}
"""Name → bytes of a file, and how many such files there are, asked for one after the other."""

WRK: Final = """
local method, path, token = "%(method)s", "%(path)s", "%(token)s"
local requests, at = {}, 0
init = function()
  local headers = {["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. token}
  for id = %(first)d, %(last)d do
    local body = '{"ticket_number": "1", "response_attachment_id": "' .. id .. '"}'
    if method == "GET" then
      requests[#requests + 1] = wrk.format("GET", "/" .. id)
    else
      requests[#requests + 1] = wrk.format("POST", path, headers, body)
    end
  end
end
request = function() at = at %% #requests + 1; return requests[at] end
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %%d, "seconds": %%f, "bytes": %%d, "errors": %%d, "p50": %%f, "p99": %%f}\\n',
    summary.requests, summary.duration / 1e6, summary.bytes,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True)
class Case:
    """What is asked at once: files of a size, by so many clients."""

    size: str
    clients: int
    peers: tuple[str, ...] = (US, OURS_TWICE, "nginx", "starlette", "flask")

    @property
    def name(self) -> str:
        """What the tables call it."""
        return f"{self.size} x {self.clients}"


CASES: Final = (
    Case("10 KB", 16),
    Case("10 KB again", 16, (US, OURS_TWICE, "nginx")),
    Case("1 MB", 1),
    Case("1 MB", 16),
    Case("25 MB", 1),
    Case("25 MB", 64, (US, OURS_TWICE, "nginx")),
)


@dataclass(frozen=True)
class Stock:
    """An archive with files of each size: ``ids`` by size, and a token for all of them."""

    config: Path
    files: Path
    ids: dict[str, range]
    token: str


def stock(folder: Path, kinds: Mapping[str, tuple[int, int]] = SIZES) -> Stock:
    """Make the archive, and the same files for the peers."""
    files, root = folder / "files", folder / "archive"
    files.mkdir()
    ids: dict[str, range] = {}
    with open_archive(root, command="bench") as archive:
        first = 1
        for size, (_, number) in kinds.items():
            ids[size] = range(first, first + number)
            first += number
        _fill(archive, files, {one: kinds[size][0] for size in ids for one in ids[size]})
        _, token = archive.access.create_token(
            "bench", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )
    names = {str(one): f"file-{one}.png" for each in ids.values() for one in each}
    (files / "names.json").write_text(json.dumps(names))
    config = folder / "config.toml"
    config.write_text(f'[archive]\npath = "{root}"\n')
    return Stock(config, files, ids, token)


def _fill(archive: Archive, files: Path, sizes: dict[int, int]) -> None:
    chance, ledger = random.Random(1), archive.ledger
    listed = [Listed(one, 1, 1, f"file-{one}.png", "", size, 0) for one, size in sizes.items()]
    with ledger.atomic():
        run = ledger.begin_run("run", source="bench", scope={})
        ledger.put_departments([Department(1, "Support")])
        ledger.record_ticket(run.id, TicketRow(1, 1), listed)
    for one, size in sizes.items():
        data = chance.randbytes(size)
        (files / str(one)).write_bytes(data)
        with archive.blobs.writer() as writer:
            writer.write(data)
            blob = writer.commit()
        with ledger.atomic():
            ledger.settle(
                Outcome(
                    one,
                    State.STORED,
                    sha256=blob.sha256,
                    size=blob.size,
                    mime_type=blob.mime_type,
                )
            )


def ask(url: str, token: str, attachment: int, *, timeout: float = 60) -> bytes:
    """Fetch one answer."""
    body = json.dumps({"ticket_number": "1", "response_attachment_id": str(attachment)})
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url + PATH, body.encode(), headers)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return bytes(answer.read())


def free_port() -> int:
    """Return a port that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    """Run a server until the end of the block; gives its process id once it accepts."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def commands(folder: Path, made: Stock) -> dict[str, tuple[list[str], int]]:
    """Return how each peer that is installed is started, and its port."""
    ports = {name: free_port() for name in (US, OURS_TWICE, "nginx", "starlette", "flask")}
    ours = [sys.executable, "-m", "migrator", "-c", str(made.config), "serve", "--port"]
    found = {
        US: [*ours, str(ports[US])],
        OURS_TWICE: [*ours, str(ports[OURS_TWICE]), "--workers", "2"],
        "starlette": serve_peers.starlette_command(made.files, ports["starlette"]),
    }
    if shutil.which("nginx") or Path("/usr/sbin/nginx").exists():
        found["nginx"] = serve_peers.nginx_command(folder, folder / "answers", ports["nginx"])
    if find_spec("flask") and find_spec("gunicorn"):
        found["flask"] = serve_peers.gunicorn_command(ports["flask"])
    return {name: (command, ports[name]) for name, command in found.items()}


def wrk(  # noqa: PLR0917
    folder: Path, made: Stock, peer: str, port: int, case: Case, seconds: float
) -> Any:
    """Ask one peer for a while; gives what wrk counted."""
    span = made.ids[case.size]
    facts = {"token": made.token, "path": PATH, "first": span[0], "last": span[-1]}
    script = folder / "wrk.lua"
    script.write_text(WRK % {**facts, "method": "GET" if peer == "nginx" else "POST"})
    call = ["wrk", "-t1", f"-c{case.clients}", f"-d{seconds:.0f}s", "--timeout", "60s", "--latency"]
    url = f"http://127.0.0.1:{port}"
    said = subprocess.run(
        [*call, "-s", str(script), url], check=True, capture_output=True, text=True
    )
    return json.loads(said.stdout.strip().splitlines()[-1])


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and its children so far."""
    total = 0.0
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def peak_memory(pid: int) -> float:
    """Return the peak of resident megabytes, summed up over a process and its children."""
    kilobytes = 0
    for each in family(pid):
        lines = Path(f"/proc/{each}/status").read_text().splitlines()
        kilobytes += next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return kilobytes / 1024


def family(pid: int) -> list[int]:
    """Return a process and its children."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, found)]


def slow_readers(made: Stock, port: int, pid: int, *, seconds: float = 6) -> dict[str, float]:
    """Let 64 clients ask for 25 MB and take next to nothing; ask for small files meanwhile."""
    body = json.dumps({"ticket_number": "1", "response_attachment_id": str(made.ids["25 MB"][0])})
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {made.token}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    waits: list[float] = []
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(64):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
            client.connect(("127.0.0.1", port))
            client.sendall(head.encode())
            clients.append(client)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for client in clients:
                client.recv(4096)
            began = time.monotonic()
            ask(f"http://127.0.0.1:{port}", made.token, made.ids["10 KB"][0])
            waits.append(time.monotonic() - began)
    ended = {"peak MB": peak_memory(pid), "others, median ms": statistics.median(waits) * 1e3}
    return {**ended, "others, worst ms": max(waits) * 1e3}


def measure(rounds: int, *, quick: bool, folder: Path | None) -> dict[str, Any]:
    """Run all cases, the peers in turn within every round."""
    with tempfile.TemporaryDirectory(prefix="bench-serve-", dir=folder) as name:
        return _measure(Path(name), rounds, 2 if quick else 5)


def _measure(folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    made = stock(folder)
    served = commands(folder, made)
    (folder / "answers").mkdir()
    with running(*served[US]):
        for one in (one for each in made.ids.values() for one in each):
            answer = ask(f"http://127.0.0.1:{served[US][1]}", made.token, one)
            (folder / "answers" / str(one)).write_bytes(answer)
    results: dict[str, dict[str, list[Any]]] = {}
    with contextlib.ExitStack() as stack:
        os.environ["BENCH_FOLDER"] = str(made.files)
        pids = {peer: stack.enter_context(running(*served[peer])) for peer in sorted(served)}
        ours, port = pids[US], served[US][1]
        for number in range(rounds + 1):
            for case in CASES:
                for peer in case.peers:
                    if peer not in served:
                        continue
                    before = cpu_seconds(pids[peer])
                    length = seconds * 3 if case.clients == 64 and number else seconds
                    found = wrk(folder, made, peer, served[peer][1], case, length)
                    found["cpu"] = cpu_seconds(pids[peer]) - before
                    if number:  # the first round only warms up
                        results.setdefault(case.name, {}).setdefault(peer, []).append(found)
        fast = peak_memory(ours)
        slow = slow_readers(made, port, ours)
    return {"cases": results, "peak MB of fast readers": fast, "64 slow readers": slow}


def markdown(results: Mapping[str, Any]) -> str:
    """Tell the results as a table: answers a second, and how they compare, round by round."""
    rows = []
    for case, peers in results["cases"].items():
        rates = {peer: [_rate(one) for one in found] for peer, found in peers.items()}
        for peer, found in peers.items():
            p50, p99 = (statistics.median(one[key] for one in found) for key in ("p50", "p99"))
            cpu = statistics.median(1000 * one["cpu"] / max(one["requests"], 1) for one in found)
            rows.append(
                [
                    case,
                    peer,
                    common.Middle.of(rates[peer]),
                    common.ratio(rates["nginx"], rates[peer]) if "nginx" in rates else "",
                    f"{p50:.1f} / {p99:.1f}",
                    f"{cpu:.2f}",
                    sum(one["errors"] for one in found),
                ]
            )
    head = ["answers x clients", "server", "per s", "of nginx", "p50 / p99 ms", "CPU ms", "errors"]
    slow = ", ".join(f"{key} {value:.1f}" for key, value in results["64 slow readers"].items())
    peak = results["peak MB of fast readers"]
    said = f"64 slow readers of 25 MB: {slow}; fast readers: {peak:.1f} MB"
    return f"{common.table(head, rows)}\n\n{said}"


def _rate(one: Mapping[str, Any]) -> float:
    # Half an answer, where none was whole in time:
    return float(max(one["requests"], 0.5) / one["seconds"])
