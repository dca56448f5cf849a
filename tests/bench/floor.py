"""The floor of a pull: what the work costs when nothing is done beside it.

``python -m tests.bench.floor URL FOLDER [--threads N] [--posts]``: blocking HTTP in threads, base64
decoded as it comes, SHA-256, the type from the first bytes, a file that is flushed before and after
it gets its name, and a row in SQLite for each, committed in groups. Nothing is asked twice or
paced, only sizes are checked, and only replies of the benchmark's own shape are understood.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import http.client
import os
import secrets
import sqlite3
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Semaphore, Thread, local
from typing import Any

import pybase64
from lxml import etree

from migrator.blobs.mime import detect

PAGE = 500
BLOCK = 1 << 17
OPEN = b"<contents><![CDATA["
LIST = "INSERT OR IGNORE INTO files (id, ticket) VALUES (?, ?)"
STORE = "UPDATE files SET sha256 = ?, size = ?, type = ? WHERE id = ?"


class Rows:
    """A table that one thread writes: whatever waits while it commits is its next transaction."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "CREATE TABLE files (id INTEGER PRIMARY KEY, ticket INTEGER, sha256 TEXT,"
            " size INTEGER, type TEXT) STRICT;"
        )
        self._waiting: SimpleQueue[tuple[str, tuple[Any, ...]] | None] = SimpleQueue()
        self._thread = Thread(target=self._write)
        self._thread.start()

    def put(self, statement: str, *values: Any) -> None:
        """Write a row soon."""
        self._waiting.put((statement, values))

    def close(self) -> int:
        """Write the rest; gives the bytes of all files that are stored."""
        self._waiting.put(None)
        self._thread.join()
        return int(self._db.execute("SELECT sum(size) FROM files").fetchone()[0] or 0)

    def _write(self) -> None:
        more = True
        while more:
            group = [self._waiting.get()]
            try:
                while True:
                    group.append(self._waiting.get_nowait())
            except Empty:
                pass
            self._db.execute("BEGIN")
            for one in group:
                if one is None:
                    more = False
                else:
                    self._db.execute(*one)
            self._db.execute("COMMIT")


class Floor:
    """Pulls everything into a folder."""

    def __init__(self, url: str, folder: Path, *, posts: bool) -> None:
        self.url = urllib.parse.urlsplit(url)
        self.folder = str(folder)
        self.posts = posts
        self.rows = Rows(folder / "rows.db")
        self._own = local()

    def get(self, path: str) -> http.client.HTTPResponse:
        """Ask for one reply; it has to be read to its end."""
        if not hasattr(self._own, "connection"):
            host = self.url.hostname or ""
            self._own.connection = http.client.HTTPConnection(host, self.url.port)
        salt = secrets.token_hex(16)
        digest = hmac.digest(b"secret", salt.encode(), "sha256")
        signature = urllib.parse.quote(base64.b64encode(digest))
        signed = f"apikey=key&salt={salt}&signature={signature}"
        self._own.connection.request("GET", f"{self.url.path}?e={path}&{signed}")
        reply: http.client.HTTPResponse = self._own.connection.getresponse()
        return reply

    def document(self, path: str) -> etree._Element:
        """Ask for a list."""
        return etree.fromstring(self.get(path).read())

    def tickets(self) -> Iterator[str]:
        """Yield the ids of all tickets."""
        start = 0
        while True:
            path = f"/Tickets/Ticket/ListAll/1/1/-1/-1/{PAGE}/{start}/ticketid/ASC"
            page = [str(one.get("id")) for one in self.document(path).iterfind("ticket")]
            yield from page
            start += len(page)
            if len(page) < PAGE:
                return

    def ticket(self, ticket_id: str) -> None:
        """Pull one ticket."""
        listed = self.document(f"/Tickets/TicketAttachment/ListAll/{ticket_id}")
        ids = [row.findtext("id") or "" for row in listed.iterfind("attachment")]
        for one in ids:
            self.rows.put(LIST, int(one), int(ticket_id))
        if self.posts:
            self.document(f"/Tickets/Ticket/{ticket_id}")
        for one in ids:
            self.attachment(ticket_id, one)

    def attachment(self, ticket_id: str, attachment_id: str) -> None:
        """Pull one file."""
        reply = self.get(f"/Tickets/TicketAttachment/{ticket_id}/{attachment_id}")
        temporary = f"{self.folder}/{secrets.token_hex(16)}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        digest, size, head, around = hashlib.sha256(), 0, b"", b""
        for block in contents(reply):
            if isinstance(block, str):
                around += block.encode()
                continue
            head = head or block[: 1 << 16]
            digest.update(block)
            size += os.write(fd, block)
        if int(etree.fromstring(around).findtext("attachment/filesize") or 0) != size:
            raise ValueError(f"attachment {attachment_id} has another size")
        name = digest.hexdigest()
        folder = f"{self.folder}/{name[:2]}/{name[2:4]}"
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - a Path costs as much as the call
        os.fsync(fd)
        os.close(fd)
        os.replace(temporary, f"{folder}/{name}")  # noqa: PTH105
        names = os.open(folder, os.O_RDONLY)
        os.fsync(names)
        os.close(names)
        self.rows.put(STORE, name, size, detect(head), int(attachment_id))


def contents(reply: http.client.HTTPResponse) -> Iterator[bytes | str]:
    """Yield the decoded bytes of a reply, and as text what stands around them."""
    before, text = b"", b""
    while OPEN not in before and (block := reply.read1(BLOCK)):
        before += block
    before, _, text = before.partition(OPEN)
    yield (before + OPEN).decode()
    while True:
        run, end, rest = text.partition(b"]")
        whole = len(run) if end else len(run) & ~3
        yield pybase64.b64decode(memoryview(run)[:whole], validate=True)
        if end:
            break
        text = run[whole:] + reply.read1(BLOCK)
    yield (end + rest + reply.read()).decode()


def main() -> None:
    """Pull, and print the bytes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--posts", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    floor = Floor(given.url, given.folder, posts=given.posts)
    turns = Semaphore(8 * given.threads)

    def pull(ticket_id: str) -> None:
        try:
            floor.ticket(ticket_id)
        finally:
            turns.release()

    with ThreadPoolExecutor(given.threads) as pool:
        jobs = []
        for ticket_id in floor.tickets():
            turns.acquire()
            jobs.append(pool.submit(pull, ticket_id))
    for job in jobs:
        job.result()
    print(floor.rows.close())


if __name__ == "__main__":
    main()
