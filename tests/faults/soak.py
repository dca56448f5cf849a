"""Runs and syncs, for as long as one likes, against a server that changes its mind at random.

``python -m tests.faults.soak 3600 [SEED]`` does it for an hour; a test does some rounds. After
each run the ledger is held against everything that the helpdesk ever was:

- what is held under an id are bytes that this helpdesk had under it, with the name of that time;
- what was ever held is held for good;
- a run or whole pass that ends with 0 holds all that the helpdesk lists at that moment, and a
  report says "complete" of nothing less.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from migrator.archive import open_beside
from migrator.archive.ledger import FIRST_COPY
from migrator.cli import invoke
from migrator.sandbox.kayako import HARMLESS_FAULTS, IN_ALL, Helpdesk, SandboxOptions, SandboxServer

NOISE = sorted(
    {"stray_warning", "noisy_errors", "random_order", "wrong_count", "repeated_page", "list_500",
     "page_namespace", "half_statuses", "list_empty", "no_count", "no_sort", "posts_desc"}
)  # fmt: skip
"""Faults of the whole helpdesk that come and go."""

FINE = (0, 3, 4, 8)
"""How a run may end: all else is a bug, or damage that nobody did."""


class Soak:
    """One helpdesk, its history, and one archive that follows it."""

    def __init__(self, folder: Path, seed: int, *, tickets: int = 40) -> None:
        self.dice = random.Random(seed)
        self.folder = folder
        kinds = sorted(self.dice.choice([IN_ALL, HARMLESS_FAULTS]))
        faults = frozenset(self.dice.sample(kinds, 12))
        self.desk = Helpdesk.build(SandboxOptions(tickets=tickets, seed=seed, faults=faults))
        self.other = Helpdesk.build(SandboxOptions(tickets=tickets, seed=seed + 1))
        self.server = SandboxServer(self.desk)
        self.pattern = min(self.desk.tickets.values(), key=lambda one: one.id)
        self.post = self.desk.posts_of(self.pattern.id)[0]
        self.backup = self.desk.snapshot()
        self.history: defaultdict[int, set[str]] = defaultdict(set)
        self.held: set[str] = set()
        self.seen: Counter[str] = Counter()
        self.made = 0

    def go_on(self, rounds: Iterable[object]) -> Counter[str]:
        """Change something, pull, compare, once for each of ``rounds``; raises AssertionError."""
        with self.server:
            self._configure()
            for _ in rounds:
                self._remember()
                for _ in range(self.dice.randrange(4)):
                    self._change()
                    self._remember()
                self._pull()
        return self.seen

    # What happens at the helpdesk

    def _change(self) -> None:
        deed = self.dice.choice(
            [self._open, self._open, self._write, self._write, self._attach, self._attach,
             self._delete, self._reuse, self._merge, self._trash, self._drop_ticket, self._twice,
             self._back_up, self._restore, self._noise, self._noise]
        )  # fmt: skip
        with contextlib.suppress(KeyError, ValueError, IndexError):
            deed()
            self.seen[f"did {deed.__name__[1:]}"] += 1

    def _some_ticket(self) -> int:
        return self.dice.choice(
            [key for key, one in self.desk.tickets.items() if one.department_id != 0]
        )

    def _file(self) -> tuple[str, bytes]:
        self.made += 1
        return f"made {self.made}.txt", b"made %d" % self.made * self.dice.randrange(1, 99)

    def _touch(self, ticket: int) -> None:
        now = max(one.last_activity for one in self.desk.tickets.values()) + 1
        self.desk.tickets[ticket] = replace(self.desk.tickets[ticket], last_activity=now)

    def _open(self) -> None:
        number = max([*self.desk.tickets, *self.desk.merges, 0]) + 1
        mask = f"NEW-{number % 1000:03}-{self.dice.randrange(10**5):05}"
        now = max(one.last_activity for one in self.desk.tickets.values()) + 1
        made = replace(self.pattern, id=number, mask=mask, created_at=now, last_activity=now)
        self.desk.add_ticket(replace(made, fault=None), [self.post])
        self._attach_to(number)

    def _write(self) -> None:
        ticket = self._some_ticket()
        self.desk.add_attachment(ticket, *self._file())
        self._touch(ticket)

    def _attach(self) -> None:
        self._attach_to(self._some_ticket())

    def _attach_to(self, ticket: int) -> None:
        self.desk.add_attachment(ticket, *self._file())

    def _delete(self) -> None:
        self.desk.delete_attachment(self.dice.choice(sorted(self.desk.attachments)))

    def _reuse(self) -> None:
        number = self.dice.randrange(1, self.desk.next_attachment_id)
        self.desk.reuse_id(number, self._some_ticket(), *self._file())

    def _twice(self) -> None:
        number = self.dice.choice(sorted(self.desk.attachments))
        name, data = self._file()
        self.desk.list_twice(number, self._some_ticket(), name, data)
        self.history[number].add(hashlib.sha256(data).hexdigest())

    def _merge(self) -> None:
        self._see_enough()
        self.desk.merge(self._some_ticket(), self._some_ticket())

    def _trash(self) -> None:
        self._see_enough()
        self.desk.trash(self._some_ticket())

    def _drop_ticket(self) -> None:
        self._see_enough()
        self.desk.delete_ticket(self._some_ticket())

    def _see_enough(self) -> None:
        """Raise IndexError when so few tickets are left that nothing could happen any more."""
        if sum(one.department_id != 0 for one in self.desk.tickets.values()) < 20:
            raise IndexError

    def _back_up(self) -> None:
        self.backup = self.desk.snapshot()

    def _restore(self) -> None:
        self.desk.restore(self.backup)

    def _noise(self) -> None:
        name = self.dice.choice(NOISE)
        self.desk.set_fault(name, on=name not in self.desk.switches)

    # What we do

    def _configure(self) -> None:
        config = self.folder / "config.toml"
        config.touch(0o600)
        config.write_text(
            f'[kayako]\nurl = "{self.server.url}"\napi_key = "{self.server.api_key}"\n'
            f'secret_key = "{self.server.secret_key}"\nattempts = 3\npatience = "5s"\n'
            f'[archive]\npath = "{self.folder / "archive"}"\n',
            "utf-8",
        )

    def _call(self, *argv: str) -> int:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = invoke(["-c", str(self.folder / "config.toml"), *argv])
        self.said = err.getvalue()
        return code

    def _pull(self) -> None:
        whole = self.dice.random() < 0.5
        command = [self.dice.choice(["run", "sync"])]
        if command == ["sync"] and whole:
            command.append("--full")
        if self.dice.random() < 0.7:
            command += ["--accept-deletions", "--accept-changes"]
        if self.dice.random() < 0.3:
            command.append("--recheck")
        stranger = self.dice.random() < 0.05 and bool(self.held)
        if stranger:
            self.server.helpdesk = self.other
            command = command[:1]  # nobody accepts another helpdesk by mistake
        if down := not stranger and self.dice.random() < 0.05:
            self.desk.set_fault("down", on=True)
        if self.held and self.dice.random() < 0.1:
            losses = ["--all-missing", "--all-gone", "--reason", "it is a rehearsal"]
            assert self._call("accept", *losses) == 0, self.said
            self.seen["accepted losses"] += 1
        code = self._call(*command)
        self.desk.set_fault("down", on=False)
        assert not down or code == 4, (command, code)
        self.server.helpdesk = self.desk
        self.seen[f"{command[0]}{' at another helpdesk' if stranger else ''}: exit {code}"] += 1
        assert code in FINE, (command, code, self.said[-2000:])
        assert not stranger or code in (4, 8), (command, code)
        whole_pass = command[0] == "run" or "--full" in command
        self._compare(code, whole_pass=whole_pass and not stranger)

    # What must be true

    def _remember(self) -> None:
        """Note which bytes an id may stand for; faults may cut them short."""
        for key, truth in self.desk.truth.items():
            if truth.sha256 is not None:
                self.history[key].add(truth.sha256)
        for key, row in self.desk.attachments.items():
            self.history[key].add(row.sha256)

    def _compare(self, code: int, *, whole_pass: bool) -> None:
        if not (self.folder / "archive/checkpoint.db").exists():
            return
        with open_beside(self.folder / "archive") as archive:
            rows = list(archive.queries.rows())
            archive.queries.self_check()
        now = set()
        for row in rows:
            if row.sha256 is not None:
                now.add(row.sha256)
                if row.kind == "post" and row.id < FIRST_COPY:
                    assert row.sha256 in self.history[row.id], f"{row.id} holds foreign bytes"
        assert self.held <= now, "bytes that were held are gone"
        self.held = now
        document = self.folder / "report.json"
        self._call("report", "--format", "json", "--output", str(document))
        verdict = json.loads(document.read_text("utf-8")).get("verdict", {}).get("kind")
        if whole_pass:
            assert verdict is None or (verdict == "complete") is (code == 0), (verdict, code)
        if whole_pass and code == 0:
            held = {row.id: row.sha256 for row in rows if row.state == "stored"}
            for key, truth in self.desk.truth.items():
                if truth.state == "stored" and key not in self.desk.doubles:
                    assert held.get(key) == truth.sha256, f"{key} is not held, and the run said 0"
        self.seen[f"verdict {verdict}"] += 1


def main() -> None:
    """Soak for the seconds of the command line, and print what was seen."""
    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    print(f"seed {seed}", flush=True)
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        seen = Soak(Path(name), seed).go_on(iter(lambda: time.monotonic() < end, False))
    for key, number in sorted(seen.items()):
        print(f"{number:>8}  {key}")


if __name__ == "__main__":
    main()
