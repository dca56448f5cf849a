"""The base of the chaos tests: a sandbox, the command line as a process, and a small disk."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from migrator.archive import open_beside
from migrator.archive.records import Row
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer, Truth

CONCURRENCY = 4
"""Requests in flight of every run; a kill can cost at most as many fetches."""
PATIENCE = 300.0
"""Seconds after which a process that does not end is a failure."""
GLANCE = 0.002
"""Seconds between two checks of what a process has done."""


_BASES = {"Tickets/Ticket": 0, "Knowledgebase/": 10**15, "Troubleshooter/": 2 * 10**15}
"""Where the ids begin that the archive gives to attachments of posts, articles and steps."""
_FETCH = re.compile(rf"/({'|'.join(_BASES)})Attachment/[0-9]+/([0-9]+)")


class Failed(Exception):
    """A promise was broken; the text says what was seen instead."""


class Skipped(Exception):
    """A check cannot be done here; the text says why."""


def expect(kept: bool, seen: str) -> None:
    """Raise Failed with what was ``seen`` unless a promise was ``kept``."""
    if not kept:
        raise Failed(seen)


class Ended(NamedTuple):
    """How a process ended and its output."""

    code: int
    out: str
    err: str


class Child:
    """The command line as a process in its own session, which no Ctrl-C reaches."""

    def __init__(self, folder: Path, argv: tuple[str, ...]) -> None:
        self.argv = argv
        # Files, not pipes: a full pipe would block the process.
        self._files = contextlib.ExitStack()
        self._said = [self._files.enter_context(tempfile.TemporaryFile()) for _ in "oe"]  # noqa: SIM115
        # Keys and configuration of the user's real helpdesk must not be used here.
        ours = ("KAYAKO_", "MIGRATOR_")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self._process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-m", "migrator", *argv],
            cwd=folder,
            env={**environ, "NO_PROXY": "127.0.0.1"},
            stdin=subprocess.DEVNULL,
            stdout=self._said[0],
            stderr=self._said[1],
            start_new_session=True,
        )
        self.pid = self._process.pid

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False if the process has ended already."""
        if self._process.poll() is not None:
            return False
        self._process.send_signal(number)
        return True

    def wait_until(self, reached: Callable[[], bool]) -> bool:
        """Wait until the process has done something; return False if it ends before that."""
        while not reached():
            if self._process.poll() is not None:
                return False
            time.sleep(GLANCE)
        return True

    def wait(self) -> Ended:
        """Wait for the process to end; raises Failed when it does not."""
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"`migrator {self.argv[0]}` did not end in {PATIENCE:.0f} s") from None
        for file in self._said:
            file.seek(0)
        return Ended(code, *(file.read().decode(errors="replace") for file in self._said))

    def close(self) -> None:
        """Kill the process if it still runs, and clean up."""
        self._process.kill()
        self._process.wait()
        self._files.close()


class Rig:
    """A running sandbox, a matching configuration, and processes that work on it.

    As a context manager it leaves no process and no server behind.
    """

    def __init__(
        self, folder: Path, options: SandboxOptions, *, archive: Path | None = None
    ) -> None:
        self.folder = folder
        self.archive = archive or folder / "archive"
        self.helpdesk = Helpdesk.build(options)
        self.server = SandboxServer(self.helpdesk)
        self._stack = contextlib.ExitStack()
        self._fetches: Counter[int] = Counter()
        self._looked = 0

    def __enter__(self) -> Self:
        """Start the sandbox and write the configuration."""
        self._stack.enter_context(self.server)
        config = self.folder / "config.toml"
        config.touch(0o600)
        config.write_text(
            f"{self.server.config}concurrency = {CONCURRENCY}\n"
            'patience = "10s"\n'  # for refused keys, too
            "attempts = 3\n"  # as many as the slowest to recover of the faults needs
            f'[archive]\npath = "{self.archive}"\n',
            encoding="utf-8",
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop everything."""
        self._stack.close()

    @contextlib.contextmanager
    def start(self, *argv: str) -> Iterator[Child]:
        """Start a command; kill it if the block ends first."""
        with contextlib.closing(Child(self.folder, argv)) as child:
            yield child

    def finish(self, *argv: str) -> Ended:
        """Run a command to its end."""
        with self.start(*argv) as child:
            return child.wait()

    def expect(self, code: int, *argv: str) -> Ended:
        """Run a command that must end with this exit code."""
        ended = self.finish(*argv)
        last = ((ended.out + ended.err).strip().splitlines() or ["nothing"])[-1]
        command = f"`migrator {' '.join(argv)}`"
        expect(ended.code == code, f"{command} ended with {ended.code}, not {code}: {last}")
        return ended

    def fetches(self) -> Counter[int]:
        """Return the numbers of requests for single attachments so far, by their ids."""
        new = self.server.requests_after(self._looked)
        self._looked += len(new)
        for verb, path in new:
            if verb == "GET" and (fetch := _FETCH.fullmatch(path)):
                self._fetches[_BASES[fetch[1]] + int(fetch[2])] += 1
        return self._fetches

    def rows(self) -> dict[int, Row]:
        """Return all attachments of the archive, without times and attempts."""
        with open_beside(self.archive) as archive:
            rows = archive.queries.rows()
            return {row.id: replace(row, attempts=0, stored_at=None, detail=None) for row in rows}

    def blobs(self) -> list[Path]:
        """Return the files of all blobs that are not empty, by name."""
        found = (self.archive / "blobs").glob("??/??/*")
        return sorted(path for path in found if path.stat().st_size)

    @property
    def truth(self) -> dict[int, Truth]:
        """The outcome of every file that a run pulls, by its id in the archive."""
        truths, rows = self.helpdesk.truths, self.rows().values()
        linked = [row for row in rows if row.kind == "linked" and row.place in truths["linked"]]
        lost = truths["linked"].keys() - {row.place for row in linked}
        expect(not lost, f"{len(lost)} linked files were not found in texts: {sorted(lost)[:10]}")
        # What is in fields that cannot be read cannot be known: then the run names the ticket.
        unread, fields = self.helpdesk.field_gaps, truths["customfield"]
        fields = {place: true for place, true in fields.items() if _ticket_of(place) not in unread}
        held = {row.place: row.id for row in rows if row.kind == "customfield"}
        lost = fields.keys() - held.keys()
        expect(not lost, f"{len(lost)} files in custom fields were not found: {sorted(lost)[:10]}")
        listed = {
            base + int(key): true
            for kind, base in zip(("post", "article", "step"), _BASES.values(), strict=True)
            for key, true in truths[kind].items()
        }
        listed |= {held[place]: true for place, true in fields.items()}
        return listed | {row.id: truths["linked"][row.place] for row in linked}

    def expect_truth(self) -> None:
        """Check that every attachment has the state, problem, bytes and size it must have.

        The last run must also name every ticket that it could not see, by id or by row, and no
        others. It need not name one that it found by its id. The same is true of custom fields.
        """
        rows, truth = self.rows(), self.truth
        wrong = [
            key
            for key in rows.keys() | truth.keys()
            if key not in rows
            or key not in truth
            or (rows[key].state.value, rows[key].problem, rows[key].sha256, rows[key].size)
            != (truth[key].state, truth[key].problem, truth[key].sha256, truth[key].size)
        ]
        expect(not wrong, f"{len(wrong)} attachments are not what they should be: {wrong[:10]}")
        told = self._summary()
        named, unseen = set(map(int, told["unlisted"])), len(told["unreadable"])
        gaps = self.helpdesk.gaps
        wrong = sorted(named - gaps.keys())
        expect(not wrong, f"tickets are reported as gaps and are none: {wrong[:10]}")
        silent = [key for key in sorted(gaps.keys() - named) if gaps[key] != "refused_row"]
        expect(
            len(silent) <= unseen, f"tickets could not be seen and are not reported: {silent[:10]}"
        )

        unread = set(map(int, told["fields_missing"])) ^ self.helpdesk.field_gaps.keys()
        expect(not unread, f"tickets whose custom fields are told wrongly: {sorted(unread)[:10]}")

    def _summary(self) -> dict[str, Any]:
        """Return what the last run recorded of itself."""
        with open_beside(self.archive) as archive:
            (last,) = archive.queries.runs(1)
        return dict(last.summary or {})


def _ticket_of(place: str) -> int:
    return int(place.partition("/")[0])


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Mount a file system of that size on ``folder``; return a function that resizes it.

    Raises Skipped where that is not allowed.
    """

    def mount(options: str) -> subprocess.CompletedProcess[bytes]:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            return subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - ours
        except OSError:
            raise Skipped("there is no program to mount a small disk with") from None

    if sys.platform != "linux" or os.geteuid() != 0:
        raise Skipped("only root may mount a small disk, on Linux")
    folder.mkdir()
    if mount(f"size={size}").returncode:
        raise Skipped("mounting a small disk is not allowed here")
    try:
        yield lambda larger: expect(
            mount(f"remount,size={larger}").returncode == 0, "the disk cannot be made larger"
        )
    finally:
        # Lazily: a killed process may hold files open, and no mount may stay behind.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607 - as above
