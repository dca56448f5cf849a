"""All bounds of what clients decide: lengths, counts, depths and rates.

Each has an answer for those who exceed it. With the defaults, a server stays under 150 MB of
resident memory whatever clients send, and no turn of its event loop takes longer than 50 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Connections.


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of connections; all durations are in seconds.

    ``request`` until a whole request is there, ``stall`` without any byte of an answer being
    read, ``idle`` between two requests, ``grace`` for requests under way when the server stops.
    Of ``connections`` one address gets half, a trusted proxy all. Clients without a place are
    answered with 503, as many again; beyond that their connections are closed.
    """

    request: float = 30
    stall: float = 60
    idle: float = 30
    grace: float = 10
    connections: int = 256


WAITING: Final = 2048
"""Connections that wait in the kernel to be accepted; clients beyond try again after a second."""

ACCEPTED: Final = 16
"""Connections accepted in a turn of the event loop."""

PRESSING: Final = 32
"""Connections a second of an address that has its share already: each needs the place of another.
Beyond, they are closed without an answer, which costs the least."""

MAX_HEAD: Final = 16 * 1024
"""Bytes of a request line with its headers, and of all that frames a body; 400 beyond."""

FRAMING: Final = 16
"""Bytes of framing, beyond MAX_HEAD, per byte of a body: a chunk of one byte has five."""

PIECE: Final = 4096
"""Bytes parsed at once: no more than that is parsed behind a request before its turn."""

TAKEN: Final = 16
"""Pieces parsed, and requests handed on, of one address in a turn of the loop; the rest waits."""
TAKEN_IN_ALL: Final = 32

UNSENT: Final = 256 * 1024
"""Bytes that may wait for a client: a few blocks at hand save turns of the loop."""
UNSENT_IN_ALL: Final = 8 * 1024 * 1024
"""Bytes by which so many clients share that: slow ones must not fill the memory."""

FAILURES: Final = 20
"""Wrong tokens from one address within WINDOW before they are answered with 429."""
WINDOW: Final = 60
"""Seconds from the first wrong token until an address is forgiven."""
ADDRESSES: Final = 10_000
"""Addresses remembered; beyond that the one that failed first is forgotten."""

# Queries.


@dataclass(frozen=True, slots=True)
class Share:
    """The bounds of queries: so many ``threads``, of which one client has ``each``.

    ``waiting`` requests may wait for one, for ``patience`` seconds; a query takes at most
    ``seconds``. Beyond, the answer is 503. ``pace`` seconds pass between two of them while the
    event loop is busy, which is no bound of their number: others wait.
    """

    threads: int = 6
    each: int = 2
    waiting: int = 256
    patience: float = 30
    seconds: float = 20
    pace: float = 0


SEARCHES: Final = Share(threads=3, each=1, pace=0.018)
"""The bounds of searches of texts, beside those of other queries: they wait for each other only.

A longer pace favours downloads, a shorter one searches. With this one, 16 clients get 29 answers a
second, half a second each and none after more than one, and 16 downloads beside them keep nine
tenths of their rate (``python -m tests.bench search``; two cores, 200,000 tickets).
"""

# Requests of the API.

MAX_BODY: Final = 64 * 1024
"""Bytes of a request body; real ones have a hundred. 413 beyond."""

MAX_VALUES: Final = 6000
"""Values in a request body, each of which takes twenty times the memory of its bytes.

Beyond that, and whatever the fields below exceed, the answer is 422.
"""

MAX_DEPTH: Final = 32
"""Levels of lists and objects; real bodies have four."""

MAX_LIST: Final = 1000
"""Entries of a list."""

MAX_TOKENS: Final = 50
"""Tokens of all criteria; all are searched in one pass."""

MAX_ROWS: Final = 5000
"""Tickets of an answer."""

MAX_LIMIT: Final = 1000
"""Responses of an answer."""

MAX_PEOPLE: Final = 10_000
"""Staff, participants and merged tickets of an answer, which says so where it leaves some out."""

MAX_RANGE: Final = 25 * 1024 * 1024
"""Bytes of one ranged read, Tickiti's limit."""

MAX_GROUPS: Final = 5000
"""Groups of an answer that counts."""

# Answers.

BLOCK: Final = 144 * 1024
"""Raw bytes of a download per message: 192 KiB as base64, and a multiple of three, so that the
pieces concatenate. Smaller ones cost more turns of the loop, larger ones memory for each slow
client. From 96 KiB on malloc may take each from the kernel anew, unless it is told to keep them."""

FEW: Final = 48
"""With more readers at once, each gets a smaller block, so that slow ones take less memory."""
SMALL: Final = BLOCK // 12

JSON_BLOCK: Final = 32 * 1024
"""Bytes of JSON per message, and kept of a long text: the rest waits on the disk."""

CHECK: Final = 20.0
"""Seconds of reading a file as a whole before a part of it is sent. Beyond, the answer is 503 with
how far it is: clients wait 30 for an answer, and asking again goes on."""

# Pages.

MAX_FORM: Final = 16 * 1024
"""Bytes of a form; real ones have two hundred. 413 beyond."""
MAX_FIELDS: Final = 20
"""Fields of a form; 400 beyond."""

LONGEST_SEARCH: Final = 200
"""Characters of a search that count."""

EXCERPT: Final = 64 * 1024
"""Bytes of a text that are shown, after all of it was read."""
ZIPPED: Final = 2000
"""Files of a ticket that are sent as one ZIP, whose directory is in memory; 413 beyond."""
LOOKED_AT: Final = 50
"""Files in a bucket that are looked at before their ZIP begins; beyond, its length is not told."""
ZIPS: Final = 8
"""ZIPs sent at a time, of which one visitor has two; 503 beyond."""

LONGEST_TEXT: Final = 16 * 1024 * 1024
"""Bytes; longer texts are not shown."""
