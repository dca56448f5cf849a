"""``python -m tests.bench.hostile [NAME…]``: the memory of a run against servers that mean harm.

Each bomb is a small helpdesk of which one reply is an attack. ``migrator run`` is a process of its
own, and what counts is its peak of resident memory, and that it ends in words. Without names, all
bombs are tried, and a quiet server as the measure of what a run needs anyway.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import itertools
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from pathlib import Path

ROOT = Path(__file__).parents[2]
XML = b'<?xml version="1.0" encoding="UTF-8"?>\n'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=UTF-8\r\n"
KEY, SECRET = "5f0c9a3e-key-4d", "OTc0N2E0NzItc2VjcmV0LWtleQ=="
MEGA = 1 << 20
LONGEST = int(os.environ.get("LONGEST", "150"))
"""Seconds that a run may take."""

Parts = Iterable[bytes]


@dataclass(frozen=True)
class Bomb:
    """An attack: the calls that it answers, the bytes, and the seconds between two of them.

    ``answer`` makes the reply from the path, where it is not the same for each.
    """

    call: str
    parts: Callable[[], Parts] = list
    answer: Callable[[str], Parts] | None = None
    pause: float = 0.0
    timeout: str = "60s"


def whole(body: bytes, *, status: bytes = b"200 OK") -> bytes:
    """Return a reply of known length."""
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def rows(tag: str, *items: dict[str, object], of: str = "") -> bytes:
    """Return a list as Kayako writes it."""
    text = "".join(
        f"<{tag}>" + "".join(f"<{k}><![CDATA[{v}]]></{k}>\n" for k, v in one.items()) + f"</{tag}>"
        for one in items
    )
    root = of or f"{tag}s"
    return XML + f"<{root}>\n{text}\n</{root}>".encode()


FILE = b"hello, world"
TICKETS = [1, 2, 3]


def quiet(path: str) -> bytes:  # noqa: PLR0911 - a table of calls
    """Return what an ordinary small helpdesk answers."""
    match path.strip("/").split("/"):
        case ["Base", "Department"]:
            return whole(rows("department", {"id": 1, "title": "Support", "app": "tickets"}))
        case ["Tickets", "TicketStatus"]:
            of = "ticketstatuses"
            return whole(rows("ticketstatus", {"id": 1, "title": "Open"}, of=of))
        case ["Tickets", "Ticket", "GetTicketCount", *_]:
            n = len(TICKETS)
            return whole(XML + b"<tickets><totalcount>%d</totalcount></tickets>" % n)
        case ["Tickets", "Ticket", "ListAll", _, _, _, _, size, start, *_]:
            shown = TICKETS[int(start) :][: int(size)]
            return whole(rows("ticket", *map(ticket, shown)))
        case ["Tickets", "Ticket", number] if int(number) in TICKETS:
            return whole(rows("ticket", ticket(int(number))))
        case ["Tickets", "TicketAttachment", "ListAll", number]:
            return whole(rows("attachment", attachment(int(number))))
        case ["Tickets", "TicketAttachment", number, _]:
            held = attachment(int(number)) | {"contents": base64.b64encode(FILE).decode()}
            return whole(rows("attachment", held))
    return whole(b"Ticket not Found", status=b"404 Not Found")


def ticket(number: int) -> dict[str, object]:
    """Return the fields of a ticket."""
    return {
        "id": number,
        "displayid": f"ABC-123-{number:05}",
        "departmentid": 1,
        "statusid": 1,
        "subject": f"Ticket {number}",
        "creationtime": 1297840147,
        "lastactivity": 1297840147 + number,
    }


def attachment(ticket_id: int) -> dict[str, object]:
    """Return the fields of the one attachment of a ticket."""
    return {
        "id": 10 + ticket_id,
        "ticketid": ticket_id,
        "ticketpostid": 100 + ticket_id,
        "filename": "hello.txt",
        "filesize": len(FILE),
        "filetype": "text/plain",
        "dateline": 1297840147,
    }


# Pieces of attacks


def chunked(parts: Parts, *, fields: bytes = b"", status: bytes = b"") -> Iterator[bytes]:
    """Yield a chunked reply."""
    head = b"HTTP/1.1 %b\r\n" % status if status else OK
    yield head + b"Transfer-Encoding: chunked\r\n" + fields + b"\r\n"
    for part in parts:
        if part:
            yield b"%x\r\n%b\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


def packed(parts: Parts) -> Iterator[bytes]:
    """Yield what gzip makes of the parts."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    for part in parts:
        yield packer.compress(part)
    yield packer.flush()


def long(before: bytes, filler: bytes, mega: int, after: bytes) -> Iterator[bytes]:
    """Yield a text with so many megabytes of filler."""
    yield before
    piece = filler * (MEGA // len(filler))
    yield from repeat(piece, mega)
    yield after


def numbered(before: bytes, form: bytes, most: int, after: bytes) -> Iterator[bytes]:
    """Yield a text in which a form with a number is repeated."""
    yield before
    for start in range(0, most, 10_000):
        yield b"".join(form.replace(b"#", b"%d" % n) for n in range(start, start + 10_000))
    yield after


LIST = XML + b"<attachments>"
END = b"</attachments>"
ROW = b"<attachment><id>11</id><ticketid>1</ticketid>"
ROW_END = b"</attachment>"
CONTENT = LIST + ROW + b"<filename>hello.txt</filename><filesize>12</filesize>"
LISTS, THREAD, PAGE = "/TicketAttachment/ListAll/", "/Ticket/[0-9]+$", "/Ticket/ListAll/"
CONTENTS = "/TicketAttachment/[0-9]+/[0-9]+$"
ANY = "/Tickets/TicketAttachment"
GZIP, TWICE = b"Content-Encoding: gzip\r\n", b"Content-Encoding: gzip, gzip\r\n"


@cache
def once_packed() -> bytes:
    """Return two gigabytes of blanks as gzip, which take seconds to pack."""
    return b"".join(packed([b" " * MEGA] * 2000))


@cache
def twice_packed() -> bytes:
    """Return the same packed again."""
    return gzip.compress(once_packed())


def coded(encoding: bytes, body: bytes, status: bytes = b"") -> Iterator[bytes]:
    """Yield a reply in an encoding."""
    return chunked([body], fields=b"Content-Encoding: " + encoding + b"\r\n", status=status)


def endless_head(before: bytes, piece: bytes) -> Iterator[bytes]:
    """Yield a head that never ends."""
    yield before
    yield from repeat(piece * (65536 // len(piece)), 40_000)


def members() -> Iterator[bytes]:
    """Yield gzip members without end."""
    yield OK + b"Connection: close\r\n" + GZIP + b"\r\n"
    yield from repeat(gzip.compress(b"") * 3000, 40_000)


def stored() -> Iterator[bytes]:
    """Yield a gzip of empty stored blocks without end."""
    yield OK + b"Connection: close\r\n" + GZIP + b"\r\n" + gzip.compress(b"")[:10]
    yield from repeat(b"\0\0\0\xff\xff" * 13_000, 40_000)


def big_row(inside: Callable[[], Parts]) -> Callable[[], Parts]:
    """Return a list of one row that holds something big."""

    def parts() -> Parts:
        yield LIST + ROW
        yield from inside()
        yield ROW_END + END

    return lambda: chunked(parts())


def big_contents(inside: Callable[[], Parts], close: bytes = ROW_END + END) -> Callable[[], Parts]:
    """Return contents whose row holds something big."""

    def parts() -> Parts:
        yield CONTENT
        yield from inside()
        yield b"<contents>aGVsbG8sIHdvcmxk</contents>" + close

    return lambda: chunked(parts())


def endless_page(path: str) -> Parts:
    """Return a page of a list that has a new ticket at every row."""
    *_, size, start, _sort, _order = path.strip("/").split("/")
    numbers = range(int(start) + 1, int(start) + int(size) + 1)
    return [whole(rows("ticket", *map(ticket, numbers)))]


def drops(body: bytes) -> Callable[[], Parts]:
    """Return a reply of which the body comes byte by byte."""
    return lambda: itertools.chain(
        [OK + b"Content-Length: %d\r\n\r\n" % len(body)],
        (body[n : n + 1] for n in range(len(body))),
    )


BOMBS: dict[str, Bomb] = {
    "quiet": Bomb("/nothing$", list),
    # G6
    "page: tickets without end": Bomb(PAGE, answer=endless_page),
    "drip: list": Bomb(LISTS, drops(LIST + b" " * 2000 + END), pause=1.0),
    "drip: contents": Bomb(CONTENTS, drops(CONTENT + b" " * 2000 + END), pause=1.0),
    "drip: error": Bomb(
        CONTENTS,
        lambda: chunked((b"x" for _ in range(20_000)), status=b"500 Oh"),
        pause=1.0,
    ),
    "drip: head": Bomb(
        LISTS, lambda: (bytes([one]) for one in OK + b"X: " + b"x" * 2000), pause=1.0, timeout="20s"
    ),
    # G1
    "list: gzip of 2 GB": Bomb(LISTS, lambda: coded(b"gzip", once_packed())),
    "list: gzip twice": Bomb(LISTS, lambda: coded(b"gzip, gzip", twice_packed())),
    "contents: gzip twice": Bomb(CONTENTS, lambda: coded(b"gzip, gzip", twice_packed())),
    "contents: gzip of 2 GB": Bomb(CONTENTS, lambda: coded(b"gzip", once_packed())),
    "error: gzip twice": Bomb(LISTS, lambda: coded(b"gzip, gzip", twice_packed(), b"500 Oh")),
    "error: gzip of 2 GB": Bomb(ANY, lambda: coded(b"gzip", once_packed(), b"404 Oh")),
    "page: gzip of 2 GB": Bomb(PAGE, lambda: coded(b"gzip", once_packed())),
    "list: deflate of 2 GB": Bomb(LISTS, lambda: coded(b"deflate", zlib.compress(once_packed()))),
    "list: x-gzip": Bomb(LISTS, lambda: coded(b"x-gzip", once_packed())),
    "list: br": Bomb(LISTS, lambda: coded(b"br", b"\x1b\xff\xff\xff" * 1000)),
    "list: zstd": Bomb(LISTS, lambda: coded(b"zstd", b"\x28\xb5\x2f\xfd" * 1000)),
    "list: many encodings": Bomb(
        LISTS, lambda: coded(b", ".join([b"gzip"] * 1000), twice_packed())
    ),
    "list: gzip members without end": Bomb(LISTS, members),
    "list: gzip of empty blocks": Bomb(LISTS, stored, timeout="5s"),
    # G2
    "list: 300 MB": Bomb(LISTS, big_row(lambda: long(b"<x>", b"abc ", 300, b"</x>"))),
    "page: 300 MB": Bomb(PAGE, lambda: chunked(long(XML + b"<tickets>", b" ", 300, b"</tickets>"))),
    "list: 12 MB of empty tags": Bomb(LISTS, big_row(lambda: long(b"", b"<a/>", 11, b""))),
    "list: 12 MB of tags with text": Bomb(LISTS, big_row(lambda: long(b"", b"<a/>x", 11, b""))),
    "list: distinct tags": Bomb(LISTS, big_row(lambda: numbered(b"", b"<t#/>", 1_100_000, b""))),
    "list: attributes of one tag": Bomb(
        LISTS, big_row(lambda: numbered(b"<x", b' a#=""', 1_000_000, b"/>"))
    ),
    "list: attributes of many tags": Bomb(LISTS, big_row(lambda: long(b"", b'<a b=""/>', 11, b""))),
    "list: deep": Bomb(LISTS, big_row(lambda: long(b"", b"<a>", 11, b""))),
    "list: deep and closed": Bomb(
        LISTS, big_row(lambda: [b"<a>" * 1_500_000, b"</a>" * 1_500_000])
    ),
    "list: huge comment": Bomb(LISTS, big_row(lambda: long(b"<!--", b"abc ", 11, b"-->"))),
    "list: many comments": Bomb(LISTS, big_row(lambda: long(b"", b"<!---->", 11, b""))),
    "list: huge instruction": Bomb(LISTS, big_row(lambda: long(b"<?x ", b"abc ", 11, b"?>"))),
    "list: a text of 11 MB": Bomb(LISTS, big_row(lambda: long(b"<x>", b"abc ", 11, b"</x>"))),
    "list: a wide name of 11 MB": Bomb(
        LISTS, big_row(lambda: long("<filename>\U0001f600".encode(), b"abc ", 11, b"</filename>"))
    ),
    "list: an attribute of 11 MB": Bomb(
        LISTS, big_row(lambda: long(b'<x a="', b"abc ", 11, b'"/>'))
    ),
    "list: a name of 400 MB": Bomb(
        LISTS, big_row(lambda: long(b"<filename>", b"abcd", 400, b"</filename>"))
    ),
    "list: ampersands": Bomb(LISTS, big_row(lambda: long(b"<x>", b"&", 11, b"</x>"))),
    "list: references": Bomb(LISTS, big_row(lambda: long(b"<x>", b"&#65;", 11, b"</x>"))),
    "list: sections": Bomb(LISTS, big_row(lambda: long(b"<x>", b"<![CDATA[]]>", 11, b"</x>"))),
    "list: sections with text": Bomb(
        LISTS, big_row(lambda: long(b"<filename>", b"<![CDATA[a]]>", 11, b"</filename>"))
    ),
    "list: control characters, wide": Bomb(
        LISTS, big_row(lambda: long("<x>\U0001f600".encode(), b"\x01abc", 11, b"</x>"))
    ),
    "list: a million rows": Bomb(
        LISTS,
        lambda: chunked(numbered(LIST, b"<attachment><id>#</id></attachment>", 1_000_000, END)),
    ),
    "list: 300,000 rows": Bomb(
        LISTS,
        lambda: chunked(numbered(LIST, b"<attachment><id>#</id></attachment>", 300_000, END)),
    ),
    "list: 300,000 rows, broken": Bomb(
        LISTS,
        lambda: chunked(
            numbered(LIST, b"<attachment><id>#</id></attachment>", 300_000, b"<" + END)
        ),
    ),
    "page: 300,000 rows": Bomb(
        PAGE,
        lambda: chunked(
            numbered(XML + b"<tickets>", b"<ticket id='#'></ticket>", 300_000, b"</tickets>")
        ),
    ),
    "page: 12 MB of tickets": Bomb(
        PAGE,
        lambda: chunked(
            numbered(
                XML + b"<tickets>",
                b"<ticket><id>#</id><departmentid>1</departmentid><subject>"
                + "\U0001f600".encode()
                + b"x" * 1000
                + b"</subject></ticket>",
                10_000,
                b"</tickets>",
            )
        ),
    ),
    "departments: 100,000": Bomb(
        "/Base/Department",
        lambda: chunked(
            numbered(
                XML + b"<departments>",
                b"<department><id>#</id></department>",
                100_000,
                b"</departments>",
            )
        ),
    ),
    "thread: 11 MB of posts": Bomb(
        THREAD,
        lambda: chunked(
            numbered(
                XML + b"<tickets><ticket><id>1</id><posts>",
                b"<post><id>#</id><contents>"
                + "\U0001f600".encode()
                + b"x" * 500
                + b"</contents></post>",
                20_000,
                b"</posts></ticket></tickets>",
            )
        ),
    ),
    "thread: entities": Bomb(
        THREAD,
        lambda: chunked(
            [
                XML
                + b"<!DOCTYPE tickets [<!ENTITY a 'aaaaaaaaaa'>"
                + b"".join(
                    b"<!ENTITY %c '%b'>" % (98 + n, (b"&%c;" % (97 + n)) * 10) for n in range(9)
                )
                + b"]><tickets><ticket><id>1</id><subject>&j;</subject></ticket></tickets>"
            ]
        ),
    ),
    "contents: many fields": Bomb(
        CONTENTS, big_contents(lambda: long(b"", b"<filename>ab</filename>", 300, b""))
    ),
    "contents: distinct tags": Bomb(
        CONTENTS, big_contents(lambda: numbered(b"", b"<tag#/>", 5_000_000, b""))
    ),
    "contents: distinct attributes": Bomb(
        CONTENTS, big_contents(lambda: numbered(b"", b"<a b#=''/>", 5_000_000, b""))
    ),
    "contents: one tag of attributes": Bomb(
        CONTENTS, big_contents(lambda: numbered(b"<x", b" a#=''", 5_000_000, b"/>"))
    ),
    "contents: many attachments": Bomb(
        CONTENTS, big_contents(lambda: long(ROW_END, ROW + ROW_END, 300, ROW))
    ),
    "contents: deep": Bomb(CONTENTS, big_contents(lambda: long(b"", b"<a>", 300, b""))),
    "contents: a name of 400 MB": Bomb(
        CONTENTS, big_contents(lambda: long(b"<filename>", b"abcd", 400, b"</filename>"))
    ),
    "contents: name in a million sections": Bomb(
        CONTENTS,
        big_contents(lambda: long(b"<filetype>", b"<![CDATA[a]]>", 60, b"</filetype>")),
    ),
    "contents: huge comment": Bomb(
        CONTENTS, big_contents(lambda: long(b"<!--", b"abc ", 300, b"-->"))
    ),
    "contents: white space in base64": Bomb(
        CONTENTS,
        lambda: chunked(
            long(
                CONTENT + b"<contents>aGVsbG8sIHdv", b" \n", 300, b"cmxk</contents>" + ROW_END + END
            )
        ),
    ),
    "contents: padding": Bomb(
        CONTENTS,
        lambda: chunked(
            long(
                CONTENT + b"<contents><![CDATA[aGVsbG8s",
                b"=",
                300,
                b"]]></contents>" + ROW_END + END,
            )
        ),
    ),
    "contents: noise before": Bomb(CONTENTS, lambda: chunked(long(b"", b"noise ", 300, CONTENT))),
    "contents: noise behind": Bomb(
        CONTENTS, big_contents(list, ROW_END + END + b"noise " * 10_000_000)
    ),
    "contents: 1 GB of something else": Bomb(
        CONTENTS, lambda: chunked(long(CONTENT + b"<contents>", b"QUJD", 1000, b"</contents>"))
    ),
    # The head and the frame
    "head: many fields": Bomb(ANY, lambda: endless_head(OK, b"X-Field: value\r\n")),
    "head: one field": Bomb(ANY, lambda: endless_head(OK + b"X-Field: ", b"value ")),
    "head: one name": Bomb(ANY, lambda: endless_head(OK, b"X-Field-")),
    "head: folded": Bomb(ANY, lambda: endless_head(OK + b"X-Field: a\r\n", b" more\r\n")),
    "head: cookies": Bomb(ANY, lambda: endless_head(OK, b"Set-Cookie: a=" + b"b" * 4000 + b"\r\n")),
    "head: large but allowed": Bomb(
        ANY,
        lambda: [OK + b"".join(b"X-%d: %b\r\n" % (n, b"v" * 8000) for n in range(100)) + b"\r\n"],
    ),
    "head: status line": Bomb(ANY, lambda: endless_head(b"HTTP/1.1 200 ", b"very OK ")),
    "head: replies to come": Bomb(
        ANY,
        lambda: endless_head(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
        timeout="5s",
    ),
    "head: continue": Bomb(
        ANY, lambda: endless_head(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), timeout="5s"
    ),
    "head: length of a million digits": Bomb(
        ANY, lambda: [OK + b"Content-Length: " + b"9" * MEGA + b"\r\n\r\n"]
    ),
    "head: length of 8,000 digits": Bomb(
        ANY, lambda: [OK + b"Content-Length: " + b"9" * 8000 + b"\r\n\r\n"]
    ),
    "head: two lengths": Bomb(
        ANY, lambda: [OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"]
    ),
    "head: retry after many digits": Bomb(
        LISTS,
        lambda: [
            b"HTTP/1.1 404 Oh\r\nRetry-After: " + b"9" * 8000 + b"\r\nContent-Length: 0\r\n\r\n"
        ],
    ),
    "redirect: long": Bomb(
        LISTS,
        lambda: [
            b"HTTP/1.1 302 Found\r\nLocation: http://x/"
            + b"a" * 8000
            + b"\r\nContent-Length: 0\r\n\r\n"
        ],
    ),
    "frame: extensions": Bomb(
        ANY,
        lambda: endless_head(OK + b"Transfer-Encoding: chunked\r\n\r\n5;", b"name=value;"),
        timeout="5s",
    ),
    "frame: trailers": Bomb(
        ANY,
        lambda: endless_head(
            OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", b"X-Field: value\r\n"
        ),
        timeout="5s",
    ),
    "frame: one trailer": Bomb(
        ANY,
        lambda: endless_head(
            OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Field: ", b"value "
        ),
        timeout="5s",
    ),
    "frame: size of a chunk": Bomb(
        ANY, lambda: endless_head(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0000"), timeout="5s"
    ),
    "frame: chunks of one byte": Bomb(
        LISTS,
        lambda: endless_head(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ),
    "frame: more replies than requests": Bomb(
        LISTS, lambda: repeat(whole(b"<attachments/>") * 1000, 40_000)
    ),
    "error: page of 1 GB": Bomb(
        ANY, lambda: chunked(long(b"<html>", b"<b>no</b>", 1000, b""), status=b"500 Oh")
    ),
    "list: white space behind the declaration": Bomb(
        LISTS, lambda: [whole(XML + b" " * 1_000_000 + LIST[len(XML) :] + END)]
    ),
    "list: a comment behind the declaration": Bomb(
        LISTS, lambda: [whole(XML + b"<!--" + b"-x" * 500_000 + b"-->" + LIST[len(XML) :] + END)]
    ),
    # A number
    "list: numbers of a million digits": Bomb(
        LISTS,
        big_row(
            lambda: [b"<%b>%b</%b>" % (tag, b"9" * MEGA, tag) for tag in (b"filesize", b"dateline")]
        ),
    ),
    "count: a million digits": Bomb(
        "GetTicketCount",
        lambda: [whole(XML + b"<tickets><totalcount>" + b"9" * MEGA + b"</totalcount></tickets>")],
    ),
}


class Server:
    """A helpdesk on a port of its own, of which one reply is an attack."""

    def __init__(self, bomb: Bomb) -> None:
        self._bomb = bomb
        self.requests = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            self.requests += 1
            target = head.split(b" ", 2)[1].decode("ascii")
            path = target.partition("?")[2].partition("&")[0].removeprefix("e=")
            if not re.search(self._bomb.call, path):
                writer.write(quiet(path))
                await writer.drain()
                continue
            bomb = self._bomb
            for part in bomb.parts() if bomb.answer is None else bomb.answer(path):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(self._bomb.pause)
                if writer.is_closing():
                    break
            if not self._bomb.pause:
                await writer.drain()

    @contextmanager
    def running(self) -> Iterator[int]:
        """Serve in a thread; yield the port."""
        begun: Future[tuple[int, Callable[[], object]]] = Future()

        async def serve() -> None:
            end, loop = asyncio.Event(), asyncio.get_running_loop()
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
            port: int = server.sockets[0].getsockname()[1]
            begun.set_result((port, lambda: loop.call_soon_threadsafe(end.set)))
            await end.wait()
            server.close()

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        port, stop = begun.result(30)
        try:
            yield port
        finally:
            stop()
            thread.join(30)


@dataclass(frozen=True)
class Outcome:
    """How a run ended: peak memory in MB, seconds, exit code, requests, and what it said."""

    peak: float
    seconds: float
    code: int
    requests: int
    said: str


def high_water(pid: int) -> float:
    """Return the peak of a process's resident memory so far, in MB; 0 when it has ended."""
    with suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()):
            return int(found[1]) / 1024
    return 0.0


def attack(bomb: Bomb, folder: Path, *, concurrency: int = 8, attempts: int = 2) -> Outcome:
    """Run ``migrator run`` against a bomb."""
    server = Server(bomb)
    with server.running() as port:
        config = folder / "config.toml"
        config.write_text(
            f'[kayako]\nurl = "http://127.0.0.1:{port}/api/index.php"\napi_key = "{KEY}"\n'
            f'secret_key = "{SECRET}"\nattempts = {attempts}\nconcurrency = {concurrency}\n'
            f'patience = "2s"\ntimeout = "{bomb.timeout}"\n[archive]\npath = "{folder}/archive"\n'
        )
        command = [sys.executable, "-m", "migrator", "-c", str(config), "run"]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        began = time.monotonic()
        with (folder / "said").open("w+b") as said:
            child = subprocess.Popen(command, stdout=said, stderr=said, env=env, cwd=folder)
            peak = 0.0
            while child.poll() is None:  # what wait4 tells begins with the memory of this process
                peak = max(peak, high_water(child.pid))
                if time.monotonic() - began > LONGEST:
                    child.kill()
                time.sleep(0.01)
            said.seek(0)
            text = said.read().decode(errors="replace")
    seconds = time.monotonic() - began
    return Outcome(peak, seconds, child.returncode, server.requests, text)


def main(names: list[str]) -> None:
    """Print a table of all bombs, or of those whose names hold one of the words."""
    for name, bomb in BOMBS.items():
        if names and not any(word in name for word in names):
            continue
        with tempfile.TemporaryDirectory() as folder:
            one = attack(bomb, Path(folder))
        line = (
            f"{name:40} {one.peak:7.0f} MB {one.seconds:6.1f} s  exit {one.code:4} {one.requests:5}"
        )
        print(line, flush=True)
        if os.environ.get("TELL"):
            print(one.said)


if __name__ == "__main__":
    main(sys.argv[1:])
