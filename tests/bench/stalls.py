"""How long the event loop of a server stands still while clients ask for the worst.

    python -m tests.bench.stalls DIR

``DIR`` is an archive of ``make_archive``; some tickets with many, long and illustrated posts are
added. A task in the loop wakes up every two milliseconds and keeps the longest delay, and the
longest time that the loop itself was at work in between. On a busy machine the first is mostly
the machine's; the line "nothing" says how much.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from migrator.archive import open_beside
from migrator.cli.common import keep_blocks
from migrator.serve import join_faces, load_faces
from migrator.serve.catalog import EndpointSettings
from migrator.serve.refusals import send_json
from migrator.serve.server import serve

FIRST: Final = 9_000_000
"""Ids of what is added."""
LONG: Final = 4 * 1024 * 1024
HTML: Final = {
    "words": "<p>Hello  world, <b>this</b> is &amp; a\n\n line</p>",
    "tags": "<b>x</b>",
    "spaces": "a  \n \n  ",
    "lines": "<br>\n",
    "deep": "<div>",
    "entities": "&uuml;&#x20AC;",
    "open": "<a<b<",
    "emoji": "<i>\N{GRINNING FACE}</i>",
    "images": '<img src="cid:image001.png@1">',
    "comment": "<!-- -- > x",
}
BEAT: Final = 0.002


def add(root: Path) -> None:
    """Add the tickets."""
    with closing(sqlite3.connect(root / "checkpoint.db")) as db:
        if db.execute("SELECT 1 FROM tickets WHERE id = ?", (FIRST,)).fetchone():
            return
        ticket = (
            "INSERT INTO tickets (id, department_id, subject, last_activity) VALUES (?, 1, ?, 9)"
        )
        post = (
            "INSERT OR REPLACE INTO posts (id, ticket_id, created_at, is_html, text) "
            "VALUES (?, ?, ?, ?, ?)"
        )
        db.executemany(
            ticket, [(FIRST + n, name) for n, name in enumerate(("many", "images", *HTML))]
        )
        db.executemany(
            post, ((FIRST + n, FIRST, n, 1, f"<p>Post {n}</p>" * 20) for n in range(10_000))
        )
        shown = [f'<img src="cid:image{n:05}.png@1">' for n in range(2_000)]
        posts = [(FIRST + 20_000 + n, FIRST + 1, n, 1, text) for n, text in enumerate(shown)]
        db.executemany(post, posts)
        db.executemany(
            "INSERT INTO attachments (id, ticket_id, post_id, filename, declared_type, "
            "declared_size, created_at, state, sha256, size, stored_at, first_run, last_run) "
            "SELECT ?, ?, ?, ?, '', size, 0, 'stored', sha256, size, 0, 1, 1 FROM blobs "
            "WHERE mime_type = 'image/png' LIMIT 1",
            (
                (
                    FIRST + n,
                    FIRST + 1,
                    FIRST + 20_000 + n // 2,
                    f"image{n // 2 + n % 2 * 9000:05}.png",
                )
                for n in range(4_000)
            ),
        )
        for number, text in enumerate(HTML.values()):
            whole = text * (LONG // len(text.encode()))
            db.execute(post, (FIRST + 40_000 + number, FIRST + 2 + number, 0, 1, whole))
        db.commit()


def run_server(root: Path) -> None:
    """Serve, with a task in the loop that measures."""
    keep_blocks()
    longest = own = 0.0
    beating: list[asyncio.Task[None]] = []

    async def beat() -> None:
        nonlocal longest, own
        while True:
            before, worked = time.perf_counter(), time.thread_time()
            await asyncio.sleep(BEAT)
            longest = max(longest, time.perf_counter() - before - BEAT)
            own = max(own, time.thread_time() - worked)

    def measured(app: ASGIApp) -> ASGIApp:
        async def measuring(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal longest, own
            if not beating:
                beating.append(asyncio.get_running_loop().create_task(beat()))
            if scope["path"] == "/longest":
                found, longest, own = [longest, own], 0.0, 0.0
                await send_json(send, found)
            else:
                await app(scope, receive, send)

        return measuring

    with open_beside(root) as archive:
        app = join_faces(load_faces(), lambda: archive, EndpointSettings())
        serve(measured(app), host="127.0.0.1", port=0, on_ready=lambda url: print(url, flush=True))


class Client:
    """A client of both faces."""

    def __init__(self, url: str, token: str) -> None:
        self.api = httpx.Client(
            base_url=url, timeout=120, headers={"authorization": f"Bearer {token}"}
        )
        self.pages = httpx.Client(base_url=url, timeout=120)
        form = self.pages.get("/sign-in").text
        seal = form.partition('name="form" value="')[2].partition('"')[0]
        answer = self.pages.post("/sign-in", data={"form": seal, "token": token, "next": "/"})
        assert answer.status_code == 303, answer.text

    def call(self, path: str, **body: Any) -> Callable[[], int]:
        """Return a call of the API, which returns the bytes of its answer."""

        def calling() -> int:
            answer = self.api.post(f"/api/v1/{path}", json=body)
            assert answer.status_code == 200, answer.text
            return len(answer.content)

        return calling

    def page(self, address: str) -> Callable[[], int]:
        """Return the request of a page."""

        def asking() -> int:
            answer = self.pages.get(address)
            assert answer.status_code == 200, answer.text
            return len(answer.content)

        return asking


def several(act: Callable[[], int], times: int) -> Callable[[], int]:
    """Do it several times at once."""

    def doing() -> int:
        threads = [threading.Thread(target=act) for _ in range(times)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return 0

    return doing


def nothing() -> int:
    """Let the server rest."""
    time.sleep(3)
    return 0


def criteria(mode: str, tokens: int) -> dict[str, Any]:
    """Return a search for what is nowhere."""
    return {"criteria": [{"mode": mode, "tokens": [f"nowhere-ü{n}" for n in range(tokens)]}]}


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stalls", description=__doc__)
    parser.add_argument("root", type=Path, metavar="DIR")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        run_server(given.root)
        return
    add(given.root)
    with open_beside(given.root) as archive:
        _, token = archive.access.create_token(
            "bench", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )
    command = [sys.executable, "-m", "tests.bench.stalls", "--serve", str(given.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            _measure(Client(server.stdout.readline().strip(), token))
        finally:
            server.terminate()


def _measure(client: Client) -> None:
    named = {name: FIRST + 2 + number for number, name in enumerate(HTML)}
    acts = {
        "nothing": nothing,
        "tickets/query, 50 subjects": client.call(
            "tickets/query", search_object=criteria("subject", 50)
        ),
        "tickets/query, 50 requesters": client.call(
            "tickets/query", search_object=criteria("raised", 50)
        ),
        "tickets/query, 5,000 rows": client.call("tickets/query", row_limit=5000),
        "responses/query, an address": client.call(
            "tickets/responses/query", created_by_email="nobody@nowhere.test"
        ),
        "responses/query, 1,000 rows": client.call("tickets/responses/query", limit=1000),
        "tickets/queues": client.call("tickets/queues"),
        "page search": client.page("/?q=nowhere-ü"),
        "6 page searches at once": several(client.page("/?q=nowhere"), 6),
        "status page": client.page("/status"),
        "show, 10,000 posts": client.call("tickets/show", ticket_id=FIRST),
        "show, 2,000 inline images": client.call("tickets/show", ticket_id=FIRST + 1),
        "page, inline images": client.page(f"/tickets/{FIRST + 1}"),
        "readyz": client.page("/readyz"),
    }
    acts |= {
        f"show, 4 MiB of {name}": client.call("tickets/show", ticket_id=ticket)
        for name, ticket in named.items()
    }
    acts |= {
        f"page, 4 MiB of {name}": client.page(f"/tickets/{ticket}")
        for name, ticket in named.items()
    }
    print(f"{'':34}{'seconds':>9}{'bytes':>12}{'stall':>11}{'own work':>11}")
    for name, act in acts.items():
        client.api.get("/longest")
        begun = time.perf_counter()
        try:
            size = act()
        except AssertionError as error:
            size = -1
            print(name, str(error)[:200])
        took = time.perf_counter() - begun
        stall, own = (1000 * each for each in client.api.get("/longest").json())
        print(f"{name:34}{took:9.2f}{size:12,}{stall:8.0f} ms{own:8.0f} ms", flush=True)


if __name__ == "__main__":
    main()
