"""Do 16 ordinary clients notice a stranger with 2,000 connections? Times beside quiet ones.

    python -m tests.bench.crowd [--rounds 6] DIR

``DIR`` is that of ``tests.bench.floods``. Quiet and crowded windows of ten seconds alternate, as
the machine has other work. Half of the stranger's connections are silent or amid a request, half
amid a TLS handshake; one that is closed is opened again. The stranger runs at the lowest priority,
as it would have a machine of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

from migrator.archive import open_archive
from tests.bench.floods import API, certificate, make, server

SECONDS = 10
HELLO = bytes.fromhex("1603010200010001fc0303")
BEGUN = b"POST / HTTP/1.1\r\nHost: x\r\n"


class Ordinary:
    """Clients that ask for a thread again and again, some on new connections."""

    def __init__(self, url: str, token: str, file: Path) -> None:
        self._url, self._token = url, token
        self._trust = ssl.create_default_context(cafile=file)
        self._trust.check_hostname = False
        self.times: list[float] = []
        self.failed: list[str] = []
        self.done = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=[n]) for n in range(16)]

    def _run(self, number: int) -> None:
        while not self.done.is_set():
            with httpx.Client(verify=self._trust, timeout=30) as client:
                for _ in range(20 if number % 4 else 1):
                    if self.done.is_set():
                        break
                    begun = time.perf_counter()
                    try:
                        answer = client.post(
                            f"{self._url}{API}show",
                            json={"ticket_id": 5},
                            headers={"Authorization": f"Bearer {self._token}"},
                        )
                        if answer.status_code != 200:
                            self.failed.append(str(answer.status_code))
                    except httpx.HTTPError as error:
                        self.failed.append(repr(error))
                    self.times.append(time.perf_counter() - begun)
                    time.sleep(0.05)


def strange(port: int) -> None:
    """Hold 2,000 connections until stdin ends, in a process of its own."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.nice(19)
    held: list[socket.socket] = []
    opened, begun = 0, time.monotonic()
    until = begun + SECONDS + 2
    while time.monotonic() < until:
        while len(held) < 2000:
            with contextlib.suppress(OSError):
                one = socket.create_connection(
                    ("127.0.0.1", port), timeout=5, source_address=("127.0.0.2", 0)
                )
                one.setblocking(False)
                with contextlib.suppress(OSError):
                    one.send(HELLO if len(held) % 2 else b"" if len(held) % 4 else BEGUN)
                held.append(one)
                opened += 1
        alive = []
        for one in held:
            try:
                if one.recv(1) == b"":
                    one.close()
                else:
                    alive.append(one)
            except BlockingIOError:
                alive.append(one)
            except OSError:
                one.close()
        held = alive
        time.sleep(0.2)
    print(f"{opened / (time.monotonic() - begun):.0f} connections a second", flush=True)


def main() -> None:
    """Read the command line, and compare."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.crowd", description=__doc__)
    parser.add_argument("root", type=Path, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--strange", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.strange:
        strange(given.strange)
        return
    root: Path = given.root
    if not (root / "archive").exists():
        make(root / "archive")
    config = root / "config.toml"
    config.write_text(f'[archive]\npath = "{root / "archive"}"\n')
    with open_archive(root / "archive", command="bench") as archive:
        _, token = archive.access.create_token(
            "bench", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )
    file = certificate(root)
    times: dict[bool, list[float]] = {False: [], True: []}
    failed: dict[bool, list[str]] = {False: [], True: []}
    with server(config, "--tls-cert", str(file)) as (url, _):
        clients = Ordinary(url, token, file)
        for thread in clients.threads:
            thread.start()
        for number in range(2 * given.rounds):
            crowded = number % 2 == 1
            stranger = None
            if crowded:
                command = [sys.executable, "-m", "tests.bench.crowd", str(root), "--strange"]
                stranger = subprocess.Popen([*command, str(httpx.URL(url).port)])
                time.sleep(2)
            clients.times, clients.failed = [], []
            time.sleep(SECONDS)
            times[crowded] += clients.times
            failed[crowded] += clients.failed
            if stranger is not None:
                stranger.wait()
                time.sleep(1)
        clients.done.set()
        for thread in clients.threads:
            thread.join()
    for crowded, found in times.items():
        cuts = statistics.quantiles(found, n=100)
        print(
            f"{'crowded' if crowded else 'quiet':8} {len(found):6} requests, "
            f"{len(failed[crowded])} failed, p50 {cuts[49] * 1000:.1f} ms, "
            f"p99 {cuts[98] * 1000:.1f} ms {failed[crowded][:3]}"
        )


if __name__ == "__main__":
    main()
