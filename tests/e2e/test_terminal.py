"""A real run on a terminal, as a person sees it: a screen of so many columns, frame by frame."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from migrator.selftest.rig import Rig
from tests.faults.conftest import MakeRig, rig

__all__ = ["rig"]

pytestmark = pytest.mark.slow

HOSTILE = "\u202egpj.exe\n" + "報告書" * 100 + ".pdf"
LONGEST = 60.0


@dataclass
class Screen:
    """What a terminal shows, without the height; it refuses what no bar needs."""

    columns: int
    lines: list[str] = field(default_factory=lambda: [""])
    frames: list[list[str]] = field(default_factory=list)
    row: int = 0
    column: int = 0

    def feed(self, text: str) -> None:
        """Do what is written, and keep what can be seen then."""
        for piece in re.findall(r"\x1b\[[AJ]|.", text, re.DOTALL):
            if piece == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif piece == "\r":
                self.column = 0
            elif piece == "\x1b[A":
                self.row -= 1
                assert self.row >= 0
            elif piece == "\x1b[J":
                del self.lines[self.row + 1 :]
                self.lines[self.row] = self.lines[self.row][: self.column]
            else:
                self._put(piece)
        self.frames.append([line.replace("\0", "").rstrip() for line in self.lines])

    def _put(self, char: str) -> None:
        """Show a character; the second column of a wide one holds a NUL."""
        assert char.isprintable(), f"{char!r} is no text"
        cells = char + "\0" * (unicodedata.east_asian_width(char) in "FW")
        if self.column + len(cells) > self.columns:  # it goes on in the next line
            self.feed("\r\n")
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + cells + line[self.column + len(cells) :]
        self.column += len(cells)

    @property
    def bars(self) -> list[list[str]]:
        """The lines that are a bar, of each frame."""
        return [[line for line in frame if line.startswith("run: ")] for frame in self.frames]


class Front:
    """Stands before the sandbox and answers late, or itself. ``late`` waits in the middle."""

    def __init__(self, url: str) -> None:
        self.asks_for_pause = ""
        """The part of a path that is answered with 429 once."""
        self.late: dict[str, threading.Event] = {}
        host = url.split("/")[2]
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if front.asks_for_pause and front.asks_for_pause in self.path:
                    front.asks_for_pause = ""
                    self.send_response(429)
                    self.send_header("Retry-After", "13")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                behind = http.client.HTTPConnection(host)
                behind.request("GET", self.path)
                reply = behind.getresponse()
                body = reply.read()
                behind.close()
                self.send_response(reply.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                half = len(body) // 2
                self.wfile.write(body[:half])
                for part, waited in front.late.items():
                    if part in self.path:
                        waited.wait(LONGEST)
                with contextlib.suppress(OSError):
                    self.wfile.write(body[half:])

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    @contextlib.contextmanager
    def serving(self, one: Rig) -> Iterator[None]:
        """Serve, and let the configuration name this address."""
        config = one.folder / "config.toml"
        config.write_text(config.read_text().replace(one.server.portal, self.url))
        thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            for waited in self.late.values():
                waited.set()
            self.server.shutdown()
            thread.join()
            self.server.server_close()


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, folder: Path, *argv: str, columns: int = 100, **environ: str) -> None:
        self.master, slave = pty.openpty()
        self.screen = Screen(columns)
        self.resize(columns)
        mine = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        self.process = subprocess.Popen(
            # A leader of a session gets the first terminal that it opens.
            ["sh", "-c", 'exec "$@" <"$TTY" >"$TTY" 2>&1', "sh", sys.executable, "-m", "migrator",
             *argv],
            cwd=folder,
            env={**mine, "TERM": "xterm", "NO_PROXY": "127.0.0.1", "TTY": os.ttyname(slave),
                 **environ},
            start_new_session=True,
        )  # fmt: skip
        self._slave = slave
        self._rest = b""

    def resize(self, columns: int) -> None:
        """Give the terminal another width."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.screen.columns = columns

    def watch(self, until: Callable[[], object] = lambda: False) -> None:
        """Read what it shows until that is reached, or it ends."""
        ends = time.monotonic() + LONGEST
        while time.monotonic() < ends:
            ended = self.process.poll() is not None
            if select.select([self.master], [], [], 0 if ended else 0.02)[0]:
                self._rest += os.read(self.master, 65536)
                whole = self._rest.decode(errors="ignore")
                if whole.encode() == self._rest and not whole.endswith(("\x1b", "\x1b[")):
                    self.screen.feed(whole)
                    self._rest = b""
            elif ended or until():
                return
        raise AssertionError("\n".join(self.screen.frames[-1]))

    def sees(self, pattern: str) -> Callable[[], bool]:
        """Return a question: whether a line of the last frame has that."""
        return lambda: any(re.search(pattern, line) for line in (self.screen.frames or [[]])[-1])

    def wait(self) -> int:
        """Watch it to its end; return the exit code."""
        self.watch()
        return self.process.wait(LONGEST)

    def close(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.wait()
        os.close(self._slave)
        os.close(self.master)


def assert_one_bar_that_never_runs_backwards(screen: Screen) -> None:
    """However often it is drawn: one line of it, and its share never falls."""
    assert max(map(len, screen.bars)) == 1, screen.frames[-1]
    shares = [int(found[1]) for (bar,) in filter(None, screen.bars)
              if (found := re.match(r"run: +(\d+)%", bar))]  # fmt: skip
    assert shares == sorted(shares)
    assert shares[-1] == 100


def hostile_file(one: Rig) -> int:
    """Give an attachment a name that would spoil a terminal; return its id."""
    desk = one.helpdesk
    number = max(key for key, row in desk.attachments.items() if row.kind == "post" and row.size)
    desk.attachments[number] = replace(desk.attachments[number], name=HOSTILE.encode())
    return number


@pytest.mark.parametrize("columns", [40, 100])
def test_a_run_names_what_is_slow_below_its_bar(rig: MakeRig, columns: int) -> None:
    """A file that takes long is told with its age, how much of it came, and its name, in a line.

    It goes when the file has come; nothing of it is left on the screen, whatever its name.
    """
    one = rig(tickets=20)
    number = hostile_file(one)
    front = Front(one.server.url)
    front.late = {f"/{number}&": threading.Event()}
    with (
        front.serving(one),
        contextlib.closing(Terminal(one.folder, "run", columns=columns)) as terminal,
    ):
        screen = terminal.screen
        terminal.watch(terminal.sees(rf"^slow: ([6-9]|\d\d) s for attachment {number} "))
        (slow,) = [line for line in screen.frames[-1] if line.startswith("slow: ")]
        terminal.resize(columns - 5)
        terminal.watch(terminal.sees(r"^slow: ([89]|\d\d) s"))
        front.late[f"/{number}&"].set()
        assert terminal.wait() == 0
    assert_one_bar_that_never_runs_backwards(screen)
    last = screen.frames[-1]
    assert not [line for line in last if "slow: " in line]
    ledger = [n for n, line in enumerate(last) if line.startswith("Ledger of ")]
    assert len(ledger) == 1
    assert last[ledger[0] - 1].startswith("run: 100%"), "nothing stands between them"
    assert "Complete: every attachment that the source ever listed" in "".join(last[-6:])
    if columns == 100:
        size = r"[\d.]+ (B|KiB) of [\d.]+ (B|KiB) so far"
        assert re.search(rf' of ticket \d+, {size}, "\\u202egpj\.exe 報告', slow), slow


def test_a_pause_counts_down(rig: MakeRig) -> None:
    """Second by second, whether the source asked for it or somebody did."""
    one = rig(tickets=8)
    front = Front(one.server.url)
    front.asks_for_pause = "TicketAttachment/ListAll/"
    with (
        front.serving(one),
        contextlib.closing(Terminal(one.folder, "run")) as terminal,
    ):
        assert terminal.wait() == 0
        screen = terminal.screen
    assert_one_bar_that_never_runs_backwards(screen)
    left = [
        int(found[1])
        for (bar,) in filter(None, screen.bars)
        if (found := re.search(r"\[[\d:]+, paused, next look in (\d+) s", bar))
    ]
    assert left == sorted(left, reverse=True)
    assert len(set(left)) >= 8
    assert "paused" not in screen.frames[-1][-2]


def test_an_interrupt_in_closed_windows_leaves_the_terminal_clean(rig: MakeRig) -> None:
    """The wait is told with its end on one bar; Ctrl-C ends it, and the next line is a new one."""
    one = rig(tickets=8)
    opens = time.gmtime(time.time() + 7200)
    config = one.folder / "config.toml"
    text = config.read_text().replace(
        "[kayako]\n",
        f'[kayako]\nwindows = "{opens.tm_hour:02}:00-{opens.tm_hour:02}:01"\ntimezone = "UTC"\n',
    )
    config.write_text(text)
    with contextlib.closing(Terminal(one.folder, "run", columns=60)) as terminal:
        screen = terminal.screen
        terminal.watch(terminal.sees(r"^run: \[\d\d:\d[2-9], quiet hours, going on in [12] h"))
        os.write(terminal.master, b"\x03")
        assert terminal.wait() == 130
    last = screen.frames[-1]
    assert [line[:5] for line in last].count("run: ") == 1
    assert max(map(len, screen.bars)) == 1
    assert last[-1] == ""
    assert not [line for line in last if "^" in line]
    assert "Interrupted" in last[-2] or "interrupted" in "".join(last[-4:])
    assert not one.server.requests


def test_a_dumb_terminal_gets_whole_lines(rig: MakeRig) -> None:
    """Nothing is drawn twice where no cursor can go back."""
    one = rig(tickets=4)
    with contextlib.closing(Terminal(one.folder, "run", TERM="dumb", NO_COLOR="1")) as terminal:
        assert terminal.wait() == 0
    assert not any(terminal.screen.bars)
    assert "Starting run." in terminal.screen.frames[-1]
