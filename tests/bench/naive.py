"""The peers of a pull: the script that anyone would write first, and the same with threads.

``python -m tests.bench.naive URL FOLDER [--threads N] [--posts] [--tickets N]``: requests, lxml,
b64decode, a check of the size, SHA-256, and a file by id. No checkpoint, no fsync, no second try.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local

import requests
from lxml import etree

PAGE = 500


class Script:
    """Pulls everything, ticket by ticket."""

    def __init__(self, url: str, folder: Path, *, posts: bool) -> None:
        self.url = url
        self.folder = folder
        self.posts = posts
        self.own = local()

    def get(self, path: str) -> etree._Element:
        """Ask for one document."""
        if not hasattr(self.own, "session"):
            self.own.session = requests.Session()
        salt = secrets.token_hex(16)
        digest = hmac.digest(b"secret", salt.encode(), "sha256")
        signature = base64.b64encode(digest).decode("ascii")
        signed = {"e": path, "apikey": "key", "salt": salt, "signature": signature}
        query = "&".join(f"{name}={value}" for name, value in signed.items())
        reply = self.own.session.get(f"{self.url}?{query}", timeout=60)
        reply.raise_for_status()
        parser = etree.XMLParser(huge_tree=True)
        return etree.fromstring(reply.content, parser)

    def tickets(self) -> list[str]:
        """List the ids of all tickets."""
        found: list[str] = []
        while True:
            path = f"/Tickets/Ticket/ListAll/1/1/-1/-1/{PAGE}/{len(found)}/ticketid/ASC"
            page = [str(one.get("id")) for one in self.get(path).iterfind("ticket")]
            found += page
            if len(page) < PAGE:
                return found

    def ticket(self, ticket_id: str) -> int:
        """Pull one ticket; gives the bytes of its files."""
        size = 0
        listed = self.get(f"/Tickets/TicketAttachment/ListAll/{ticket_id}")
        for row in listed.iterfind("attachment"):
            size += self.attachment(ticket_id, row.findtext("id") or "")
        if self.posts:
            thread = self.get(f"/Tickets/Ticket/{ticket_id}")
            texts = [one.findtext("contents") or "" for one in thread.iter("post")]
            (self.folder / f"{ticket_id}.txt").write_text("\n".join(texts))
        return size

    def attachment(self, ticket_id: str, attachment_id: str) -> int:
        """Pull one file."""
        reply = self.get(f"/Tickets/TicketAttachment/{ticket_id}/{attachment_id}")
        row = reply.find("attachment")
        assert row is not None
        data = base64.b64decode(row.findtext("contents") or "")
        assert len(data) == int(row.findtext("filesize") or 0)
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / f"{attachment_id}-{digest[:8]}").write_bytes(data)
        return len(data)


def main() -> None:
    """Pull, and print the bytes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--posts", action="store_true")
    parser.add_argument("--tickets", type=int)
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    script = Script(given.url, given.folder, posts=given.posts)
    with ThreadPoolExecutor(given.threads) as pool:
        print(sum(pool.map(script.ticket, script.tickets()[: given.tickets])))


if __name__ == "__main__":
    main()
