"""The chaos tests, one function each.

A check works on its own sandbox, returns in one sentence what was seen, and raises Failed or
Skipped. :data:`CHECKS` says what each promises.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from migrator.archive.records import Row, State
from migrator.sandbox.kayako import ALL, SandboxOptions
from migrator.selftest.rig import CONCURRENCY, Ended, Rig, expect, small_disk

EVERYTHING = frozenset({ALL, "random_order", "posts_desc", "stray_warning", "doc_shape"})
"""Every fault of attachments and tickets, and the compatible ones of a whole helpdesk."""
DEPARTMENTS = 200
"""Departments whose list of ids is longer than some servers accept."""
ABRUPT = 0.2
"""The share of kills at any time, start included; the others come while contents are in flight."""
START_UP = 1.0
"""Seconds in which a process starts, opens the archive and makes its first requests."""
MEBIBYTE = 1 << 20
OUTAGE = 1.0
"""Seconds for which the source is down."""


@dataclass
class Lab:
    """Shared by the checks: a folder, the size of the sandbox, and the undisturbed run."""

    folder: Path
    tickets: int
    kills: int
    seed: int
    say: Callable[[str], None]
    reference: dict[int, Row] = field(default_factory=dict)

    @contextmanager
    def rig(self, name: str, *, archive: Path | None = None, **options: Any) -> Iterator[Rig]:
        """Return a rig in its own folder."""
        folder = self.folder / name
        folder.mkdir()
        made = SandboxOptions(self.seed, self.tickets, **options)
        with Rig(folder, made, archive=archive) as rig:
            yield rig


def undisturbed(lab: Lab) -> str:
    """Pull from a helpdesk with every fault; the result is the reference for all others."""
    with lab.rig("undisturbed", faults=EVERYTHING) as rig:
        tickets = sum(bool(one.fault) for one in rig.helpdesk.tickets.values())
        tickets += len(rig.helpdesk.field_gaps)
        code = _code(rig)
        rig.expect(code, "run")
        faults = sum(bool(one.faults) for one in rig.truth.values())
        rig.expect_truth()
        before = set(rig.fetches())
        stored = {key for key, row in rig.rows().items() if row.state is State.STORED}
        count = rig.fetches().copy()
        rig.expect(code, "run")  # also lists again what moved during the first one
        again = {key for key in stored if rig.fetches()[key] > count[key]}
        expect(not again, f"a second run fetched {len(again)} stored attachments again")
        expect(set(rig.fetches()) == before, "a second run fetched what the first one had not")
        rig.expect_truth()
        lab.reference = rig.rows()
    return (
        f"{len(lab.reference):,} files, {faults} with a fault, and {tickets} tickets with "
        f"one: each ended as it must (exit {code}), and a second run fetched nothing again"
    )


def killed(lab: Lab) -> str:
    """Kill the run again and again; the result must be that of an undisturbed run."""
    started = time.monotonic()
    dice = random.Random(lab.seed)  # noqa: S311 - moments, not secrets
    with lab.rig("killed", faults=EVERYTHING) as rig:
        truth = rig.helpdesk.truth
        plain = {key for key, true in truth.items() if not true.faults}
        code = _code(rig)
        kills = 0
        while kills < lab.kills:
            ended = _kill_once(rig, plain, lab.kills - kills, dice)
            if ended is None:
                kills += 1
                if kills % 10 == 0:
                    lab.say(f"  {kills} of {lab.kills} kills")
            else:
                expect(ended.code == code, f"a run ended by itself with {ended.code}")
        rig.expect(code, "run")
        rig.expect(code, "run")
        rig.expect_truth()
        expect(rig.rows() == lab.reference, "the ledger differs from the undisturbed run's")
        twice = sum(count - 1 for key, count in rig.fetches().items() if key in plain)
        most = kills * CONCURRENCY
        expect(twice <= most, f"{twice} contents were fetched twice, more than {most}")
        left = json.loads(rig.expect(0, "verify", "--prune", "--yes", "--json").out)
        expect(not left["damaged"] and not left["lost"], "files were damaged or lost")
        expect(left["pruned"] == left["orphaned"], "verify --prune left orphans behind")
    seconds = time.monotonic() - started
    return (
        f"{kills} kills: the archive is the undisturbed run's; {twice} contents fetched twice "
        f"(at most {most}), {left['pruned']} left-over files pruned, {seconds:.0f} s"
    )


def _kill_once(rig: Rig, plain: set[int], kills_left: int, dice: random.Random) -> Ended | None:
    """Kill a run at a random moment; return how it ended if it finished before that.

    The rest to fetch is divided among the remaining kills, so that each finds work in
    flight. Attachments with faults are not counted: some are fetched again by every run.
    """

    def fetched() -> int:
        return len(plain & rig.fetches().keys())

    before = fetched()
    with rig.start("run") as child:
        if before == len(plain) or dice.random() < ABRUPT:
            moment = time.monotonic() + dice.uniform(0, START_UP)
            child.wait_until(lambda: time.monotonic() >= moment)
        else:
            goal = before + dice.randint(0, 2 * (len(plain) - before) // (kills_left + 1))
            moment = dice.uniform(0, 0.02)
            child.wait_until(lambda: fetched() > goal)
            time.sleep(moment)
        return None if child.send(signal.SIGKILL) else child.wait()


def interrupted(lab: Lab) -> str:
    """Interrupt runs with Ctrl-C and SIGTERM; they end cleanly, and the next one resumes."""
    with lab.rig("interrupted", latency=0.02) as rig:
        goal = len(rig.helpdesk.truth) // 3
        for number in (signal.SIGINT, signal.SIGTERM):
            with rig.start("run") as child:
                child.wait_until(partial(_reached, rig, goal))
                expect(child.send(number), "the run was over before it could be interrupted")
                ended = child.wait()
            expect(ended.code == 130, f"{number.name} ended the run with {ended.code}, not 130")
            expect("progress is saved" in ended.err, f"{number.name}: progress was not told")
            goal *= 2
        rig.expect(0, "run")
        rig.expect_truth()
        most = max(rig.fetches().values())
        expect(most == 1, f"an attachment was fetched {most} times")
    return "SIGINT and SIGTERM: exit 130 each, the third run finished, nothing was fetched twice"


def two_at_once(lab: Lab) -> str:
    """Start a second run: it ends at once and names the first one."""
    with lab.rig("two", latency=0.02) as rig, rig.start("run") as child:
        child.wait_until(partial(_reached, rig, 1))
        expect(child.send(signal.SIGSTOP), "the first run was over before a second could start")
        second = rig.expect(5, "run")
        expect(f"process {child.pid} " in second.err, "the second run did not name the first one")
        child.send(signal.SIGCONT)
        rig.expect(0, "status")
        code = child.wait().code
        expect(code == 0, f"the first run ended with {code}")
        rig.expect_truth()
    return "the second run ended with 5 and named the first, which finished; status read beside it"


def source_down(lab: Lab) -> str:
    """Make the source fail during a run, by keys and by 503; in the end nothing is missing.

    Keys that are refused in mid-run may be a ban: they end the run only after the patience.
    """
    with lab.rig("down", latency=0.01) as rig:
        goal = len(rig.helpdesk.truth) // 3
        with rig.start("run") as child:
            child.wait_until(partial(_reached, rig, goal))
            rig.helpdesk.set_fault("auth_fail", on=True)
            refused = child.wait().code
        expect(refused == 4, f"refused keys ended the run with {refused}, not 4")
        rig.helpdesk.set_fault("auth_fail", on=False)
        with rig.start("run") as child:
            child.wait_until(partial(_reached, rig, 2 * goal))
            rig.helpdesk.set_fault("down", on=True)
            time.sleep(OUTAGE)
            rig.helpdesk.set_fault("down", on=False)
            outlived = child.wait().code
        expect(outlived in {0, 3, 4}, f"an outage ended the run with {outlived}")
        rig.expect(0, "run")
        rig.expect_truth()
    return f"refused keys: exit 4; {OUTAGE:.0f} s of 503: exit {outlived}; then all was pulled"


def disk_full(lab: Lab) -> str:
    """Fill up the disk, which stops the run; with more room it resumes."""
    disk = lab.folder / "disk"
    with (
        small_disk(disk, "6m") as resize,
        lab.rig("full", archive=disk / "archive", big=(MEBIBYTE,) * 12) as rig,
    ):
        full = rig.expect(7, "run")
        resize("1g")
        before = rig.rows()
        rig.expect(0, "verify")
        rig.expect(0, "run")
        rig.expect_truth()
        stored = {key: row for key, row in before.items() if row.state is State.STORED}
        expect(stored.items() <= rig.rows().items(), "what was stored before is lost")
        expect(bool(stored), "not even the first files were stored")
        said = "said so" if "full" in full.err else "said that it cannot write"
    return f"exit 7, {said}, {len(stored)} files stored stayed; with more room it went on"


def many_departments(lab: Lab) -> str:
    """Pull from more departments than a server accepts in one address."""
    with lab.rig("many", faults=frozenset({"short_queries"}), departments=DEPARTMENTS) as rig:
        rig.expect(0, "run")
        rig.expect_truth()
    return f"{DEPARTMENTS} departments, and values of at most 512 bytes: all was pulled"


def damage(lab: Lab) -> str:
    """Damage files: verify finds each, and repair restores them."""
    with lab.rig("damage") as rig:
        rig.expect(0, "run")
        flipped, cut, lost = random.Random(lab.seed).sample(rig.blobs(), 3)  # noqa: S311
        flip_bit(flipped)
        cut.chmod(0o600)
        cut.write_bytes(cut.read_bytes()[:-1])
        lost.unlink()
        found = json.loads(rig.expect(6, "verify", "--json").out)
        expect(
            (found["damaged"], found["lost"]) == (2, 1),
            f"verify found {found['damaged']} damaged and {found['lost']} lost, not 2 and 1",
        )
        repaired = json.loads(rig.expect(0, "verify", "--repair", "--json").out)["repaired"]
        expect(repaired == 3, f"{repaired} of 3 files were repaired")
        rig.expect(0, "verify")
    return "a bit flipped, a byte cut off, a file removed: exit 6, all three named and repaired"


def flip_bit(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _reached(rig: Rig, number: int) -> bool:
    return len(rig.fetches()) >= number


def _code(rig: Rig) -> int:
    """Return the exit code of a run that loses only what the source loses or hides."""
    desk = rig.helpdesk
    lost = any(true.state != "stored" for true in desk.truth.values())
    return 3 if lost or desk.gaps else 0


CHECKS: dict[str, Callable[[Lab], str]] = {
    "a helpdesk with every fault": undisturbed,
    "killed at random moments": killed,
    "interrupted": interrupted,
    "two runs at once": two_at_once,
    "the source goes away": source_down,
    "the disk fills up": disk_full,
    "many departments": many_departments,
    "files damaged behind our back": damage,
}
"""All checks by their name in the table, in order; the first is the reference."""
