"""Measure what each kind of data costs the helpdesk: requests and bytes for 1,000 tickets.

    python -m tests.bench.kinds [--tickets 1000]

Pulls from the look-alike, once with attachments of posts alone, once with each kind besides, and
once with all. Bytes are those of the replies with their heads, counted between both, for the first
pass over the whole helpdesk and for the next one. Linked files need the texts, so their line has
both. Prints a table; figures depend on how much of each kind there is, which is printed, too.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from migrator.archive import open_archive
from migrator.pull.fetch import Fetcher
from migrator.pull.options import RunOptions
from migrator.pull.run import run
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from migrator.sources.kayako.source import connect
from tests.bench import measure

KINDS: dict[str, dict[str, bool]] = {
    "attachments of posts": {},
    "posts and notes": {"posts": True},
    "custom fields": {"custom_fields": True},
    "articles and steps": {"articles": True},
    "posts, notes, linked files": {"posts": True, "linked": True},
    "everything": dict.fromkeys(("posts", "custom_fields", "articles", "linked", "replies"), True),
}


class Relay:
    """Passes connections on to a server, and counts the bytes that come back."""

    def __init__(self, port: int) -> None:
        self.bytes = 0
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self._port))
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        with closing(other):
            while data := _received(one):
                if one.getpeername()[1] == self._port:
                    self.bytes += len(data)
                other.sendall(data)


def _received(one: socket.socket) -> bytes:
    try:
        return one.recv(1 << 16)
    except OSError:
        return b""


@contextmanager
def served(options: SandboxOptions) -> Iterator[tuple[SandboxServer, Relay]]:
    """Serve a fresh helpdesk, whose texts link to the relay's address."""
    desk = Helpdesk.build(options)
    with SandboxServer(desk) as server:
        relay = Relay(int(server.portal.rpartition(":")[2]))
        desk.locate(f"http://{relay.address}", desk.foreign)
        yield server, relay


def requests(server: SandboxServer) -> int:
    """Give the number of all requests so far, for linked files too."""
    return len(server.requests) + len(server.visits)


def cost(options: SandboxOptions, kinds: dict[str, bool]) -> list[tuple[int, int]]:
    """Give requests and bytes of the first pass and of the next one."""
    found = []
    with (
        tempfile.TemporaryDirectory() as folder,
        served(options) as (server, relay),
        open_archive(Path(folder) / "archive", command="bench") as archive,
        ThreadPoolExecutor(4) as pool,
    ):
        url = f"http://{relay.address}/api/index.php"
        wire = KayakoSettings(url, Credentials(server.api_key, server.secret_key))
        asked = replace(RunOptions(url), **kinds)  # type: ignore[arg-type]

        async def once() -> None:
            async with connect(wire, pool=pool) as source:
                fetch = Fetcher(source, archive.blobs, pool)
                result = await run(source, archive, fetch, asked)
                assert result.exit_code == 0, result

        for _ in range(2):
            before = requests(server), relay.bytes
            asyncio.run(once())
            found.append((requests(server) - before[0], relay.bytes - before[1]))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tickets", type=int, default=1000)
    tickets = parser.parse_args().tickets
    share = max(1, tickets // 10)
    amounts = {"field_files": share, "articles": share, "steps": share // 5, "links": share}
    options = SandboxOptions(tickets=tickets, **amounts)
    truths = Helpdesk.build(options).truths
    rows: list[list[str]] = []
    base: list[tuple[int, int]] = []
    for name, kinds in KINDS.items():
        found = cost(options, kinds)
        base = base or found
        own = [(n - m, size - less) for (n, size), (m, less) in zip(found, base, strict=True)]
        told = found if found is base else own
        sign = "" if found is base else "+"
        rows.append([name, *(f"{sign}{one}" for n, size in told for one in (f"{n:,}", _mib(size)))])
    print(
        f"{tickets:,} tickets, " + ", ".join(f"{len(of):,} {kind}" for kind, of in truths.items())
    )
    print(measure.table(["", "requests", "MiB", "next pass: requests", "MiB"], rows))


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f}"


if __name__ == "__main__":
    main()
