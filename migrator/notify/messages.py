"""What is told: decided from how a command ended, the ledger, and what was told before.

A failure is told when it begins or becomes another one, a loss when nobody was told of it, a
recovery when either is over, and a summary once a day. All of that is in ``archive.notices``, so a
restart tells nothing again. Names come from the helpdesk: each is one harmless line.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from migrator.archive import Archive, Row, State
from migrator.archive.notices import Notice
from migrator.report.verdict import ATTENTION, Seen, describe_check, judge, look
from migrator.text import brief, human_bytes, iso_time

EVENTS: Final = ("failure", "losses", "recovery", "summary")
NAMED: Final = 20
"""Losses that one message names."""
LINES: Final = 30
"""Last lines of the command's messages that go along."""
LONGEST: Final = 300
"""Characters of a line."""
DONE: Final = frozenset({0, 3})
"""Exit codes of commands that came to their end; with 3 something is open."""
STOPPED: Final = frozenset({5, 130})
"""Exit codes of which nobody is told: another run holds the archive, or somebody stopped it."""
_WHY: Final = {
    1: "a bug of this tool",
    2: "usage or configuration",
    4: "the source or Tickiti refuses or cannot be reached",
    6: "the archive is damaged, or the source has something else",
    7: "the archive cannot be written",
    8: "stopped by a safety limit",
}
_CHECKS: Final = ("verify", "audit")
PULLS: Final = ("run", "sync")
DAMAGED: Final = "damaged"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: its exit code, and kind and text of the error, if there was one.

    ``lines`` are the last messages it printed, ``began`` is when it began.
    """

    command: str
    exit_code: int
    error: str = ""
    kind: str = ""
    lines: Sequence[str] = ()
    began: int = 0

    @property
    def is_failure(self) -> bool:
        """Whether it ended in a way that needs somebody."""
        return self.exit_code not in DONE

    def title(self, detail: str = "") -> str:
        """Return one line about it; ``detail`` says why where there is no error."""
        if not self.is_failure:
            return f"{self.command} ended with exit code {self.exit_code}"
        why = self.error.split("\n")[0] or detail or _WHY.get(self.exit_code, "")
        return brief(f"{self.command} failed with exit code {self.exit_code}: {why}", LONGEST)


@dataclass(frozen=True, slots=True)
class Told:
    """What is to be told of an outcome.

    ``notices`` are new, ``bad`` says that there is a failure or a new loss; ``text`` is all of it
    in words, for a ping. ``recorded`` notices are in the archive.
    """

    notices: tuple[Notice, ...]
    bad: bool
    text: str
    recorded: bool = False


@dataclass
class _Facts:
    """What the ledger says after a command."""

    outcome: Outcome
    now: int
    archive: str
    run: int | None = None
    helpdesk: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    stored_bytes: int = 0
    verdict: str = ""
    new: dict[str, int] = field(default_factory=dict)
    losses: list[dict[str, Any]] = field(default_factory=list)
    recovered: int = 0
    back: list[dict[str, Any]] = field(default_factory=list)
    detail: str = ""
    sign: str = ""

    def body(self, title: str, before: Notice | None, **more: object) -> dict[str, Any]:
        """Return the data of a message; what changed is counted from the notice ``before``."""
        outcome, was = self.outcome, before.body.get("counts", {}) if before else {}
        data: dict[str, Any] = {
            "title": title,
            "helpdesk": self.helpdesk,
            "archive": self.archive,
            "command": outcome.command,
            "exit_code": outcome.exit_code,
            "run": self.run,
            "error": brief(outcome.error or self.detail, 2 * LONGEST),
            "verdict": self.verdict,
            "counts": self.counts,
            "stored_bytes": self.stored_bytes,
            "since": iso_time(before.at) if before else None,
            "changes": {
                state: n - was.get(state, 0)
                for state, n in self.counts.items()
                if before and n != was.get(state, 0)
            },
            "new_losses": self.new,
            "losses": self.losses,
            "recovered": self.recovered,
            "recovered_files": self.back,
            "lines": [brief(one, LONGEST) for one in outcome.lines][-LINES:],
        }
        data |= more
        return data | {"text": "\n".join(lines_of(data))}


def lines_of(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the data of a message as lines for people."""
    yield data["title"]
    if data["helpdesk"]:
        yield f"Helpdesk: {data['helpdesk']}"
    if data["error"] and data["error"] not in data["title"]:
        yield data["error"]
    if data["counts"]:
        counts = ", ".join(f"{n:,} {state}" for state, n in data["counts"].items())
        yield f"Attachments: {counts} ({human_bytes(data['stored_bytes'])} stored)"
    if data["changes"]:
        changes = ", ".join(f"{n:+,} {state}" for state, n in data["changes"].items())
        yield f"Since {data['since']}: {changes}"
    if data["losses"]:
        yield f"Newly lost: {_counted(data['new_losses'])}"
        yield from _named(data["losses"], sum(data["new_losses"].values()))
    if data["recovered"]:
        yield f"Lost before and stored now: {data['recovered']:,}"
        yield from _named(data["recovered_files"], data["recovered"])
    for one in data.get("history", ()):
        yield f"{one['at']} {one['title']}"
    if data["verdict"]:
        yield data["verdict"]
    if data["lines"]:
        yield "Last messages:"
        yield from (f"  {line}" for line in data["lines"])


def _named(files: Sequence[Mapping[str, Any]], number: int) -> Iterator[str]:
    for one in files:
        ticket = f"ticket {one['ticket_number']}, " if one["ticket_number"] else ""
        reason = f": {one['reason']}" if one["reason"] else ""
        yield f"  {one['state']}: {ticket}attachment {one['attachment_id']}, {one['file']}{reason}"
    if number > len(files):
        yield f"  and {number - len(files):,} more"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {state}" for state, n in counts.items() if n) or "nothing"


def compose(
    archive: Archive | None,
    outcome: Outcome,
    *,
    now: int,
    place: str,
    hour: int,
    channels: Collection[str],
    events: Collection[str] = EVENTS,
    clean: Callable[[str], str] = str,
) -> Told:
    """Return what is to be told, and record it as told.

    ``channels`` are where each of ``events`` goes. The summary comes with the first command that
    ends after ``hour`` of the local day. Without an archive, or with one that nothing can be
    written to, a failure is remembered in the directory for temporary files; where that is not
    possible either, it is told each time, under one id a day. ``clean`` removes secrets.
    """
    facts = _Facts(outcome, now, place, sign=f"{outcome.exit_code} {outcome.kind}")
    if archive is None or archive.read_only:
        return _unrecorded(facts, channels if "failure" in events else (), hour, clean)
    made: list[Notice] = []
    pending = tuple(channels)

    def add(
        event: str, title: str, before: Notice | None, *, told: bool = False, **more: object
    ) -> None:
        number = archive.notices.count() + 1
        body = facts.body(title, before, **more)
        to = pending if event in events and not told else ()
        key = _id(place, facts.helpdesk, event, str(number))
        sign = facts.sign if event == "failure" else ""
        notice = Notice(key, event, outcome.command, sign, now, cleaned(body, clean), to)
        archive.notices.add(notice)
        made.append(notice)

    with archive.notices.atomic():
        before = archive.notices.latest([*EVENTS, "begin"])
        _look(archive, facts)
        yesterday = archive.notices.latest(["summary", "begin"])
        if yesterday is None:
            add("begin", "Nothing was told before this", None)
        failed = archive.notices.latest(["failure", "recovery"], _together(outcome.command))
        was = failed.sign if failed is not None and failed.event == "failure" else None
        unrecorded = recall(place, outcome.command)
        was = was if unrecorded is None else unrecorded
        known = was == facts.sign
        if outcome.is_failure and (not known or unrecorded is not None):
            add("failure", outcome.title(facts.detail), before, told=known)
        lost = sum(facts.new[one] for one in facts.new if one != DAMAGED)
        if lost and not (outcome.is_failure and not known and "failure" in events):
            add("losses", _lost(facts), before)
        if unrecorded is not None and not outcome.is_failure:
            what = f"{outcome.command} failed while the archive could not record it"
            add("failure", what, before, told=True)
        works = (was is not None or _untold(archive, outcome, failed)) and not outcome.is_failure
        if works or facts.recovered:
            add("recovery", _recovery(facts, works=works), before)
        archive.notices.settle()
        if yesterday is not None and day(now, hour) > day(yesterday.at, hour):
            add("summary", **_summary(archive, facts, yesterday))
    forget(place, outcome.command)
    text = clean(facts.body(outcome.title(facts.detail), before)["text"])
    return Told(tuple(made), outcome.is_failure or bool(lost), text, recorded=True)


def example(place: str, now: int, clean: Callable[[str], str] = str) -> Notice:
    """Return the message that ``notify --test`` sends."""
    facts = _Facts(Outcome("notify", 0), now, place)
    body = facts.body("This is a test: messages of migrator arrive here", None)
    return Notice(_id(place, "test", str(now)), "test", "notify", "", now, cleaned(body, clean), ())


def day(now: int, hour: int) -> date:
    """Return the local day that a moment belongs to, if days begin at ``hour``."""
    local = datetime.fromtimestamp(now).astimezone()
    return local.date() - timedelta(days=local.hour < hour)


def cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    """Return data with each text cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {name: cleaned(one, clean) for name, one in value.items()}
    return [cleaned(one, clean) for one in value] if isinstance(value, list) else value


def _together(command: str) -> Collection[str]:
    """Return the commands that fail and recover together: runs and syncs pull the same."""
    return PULLS if command in PULLS else (command,)


def _id(*parts: str) -> str:
    return f"msg_{hashlib.sha256(chr(0).join(parts).encode(errors='replace')).hexdigest()[:32]}"


def _unrecorded(
    facts: _Facts, channels: Collection[str], hour: int, clean: Callable[[str], str]
) -> Told:
    outcome = facts.outcome
    body = facts.body(outcome.title(facts.detail), None)
    text = clean(body["text"])
    if not outcome.is_failure:
        return Told((), bad=False, text=text)
    key = _id(facts.archive, outcome.command, facts.sign, day(facts.now, hour).isoformat())
    body, to = cleaned(body, clean), tuple(channels)
    notice = Notice(key, "failure", outcome.command, facts.sign, facts.now, body, to)
    known = recall(facts.archive, outcome.command) == facts.sign
    return Told(() if known else (notice,), bad=True, text=text)


def _memory(place: str, command: str) -> Path:
    """Return the file that remembers a failure where the archive cannot."""
    key = _id(place, *_together(command)).removeprefix("msg_")
    return Path(tempfile.gettempdir(), f"migrator-{os.geteuid()}-{key}")


def recall(place: str, command: str) -> str | None:
    """Return the sign of the failure that was told and that the archive could not record."""
    path = _memory(place, command)
    try:
        found = path.lstat()
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
        return path.read_text("utf-8", "replace") if ours and found.st_size < LONGEST else None
    except OSError:
        return None


def remember(place: str, command: str, sign: str) -> None:
    """Remember that a failure was told which the archive could not record, if that is possible."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with suppress(OSError):
        fd = os.open(_memory(place, command), flags, 0o600)
        with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            file.write(sign)


def forget(place: str, command: str) -> None:
    """Forget it: the archive remembers again."""
    if recall(place, command) is not None:
        with suppress(OSError):
            _memory(place, command).unlink()


def _look(archive: Archive, facts: _Facts) -> None:
    """Read what the ledger says now, and what of it is new."""
    seen, helpdesk = look(archive), archive.queries.helpdesk()
    facts.helpdesk = helpdesk.address if helpdesk else ""
    facts.counts = {state.value: seen.counts[state].n for state in State}
    if (last := seen.last) and last.kind == facts.outcome.command:
        facts.run = last.id if last.started_at >= facts.outcome.began else None
    facts.stored_bytes = seen.counts[State.STORED].bytes
    facts.verdict = brief(judge(seen).sentence, 4 * LONGEST)
    if any(seen.counts[state].n for state in ATTENTION):
        new, ids = archive.notices.new_losses(NAMED)
        facts.new = {state.value: n for state, n in new.items()}
        facts.losses = _files(archive, ids)
    facts.recovered, ids = archive.notices.recovered(NAMED)
    facts.back = _files(archive, ids)
    if facts.outcome.command in _CHECKS and facts.outcome.exit_code == 6:
        _look_at_check(archive, facts, seen)


def _look_at_check(archive: Archive, facts: _Facts, seen: Seen) -> None:
    """Add what a verify or audit found; something else than the last one found is news."""
    check = seen.checks.get(facts.outcome.command)
    if check is None or check.exit_code != 6:
        return
    facts.detail = describe_check(check)
    first = check.summary.get("first")
    hashes = [one for one in first if isinstance(one, str)] if isinstance(first, list) else []
    figures = [check.summary.get(name) for name in ("damaged", "lost", "differ", "ours")]
    facts.sign += " " + _id(*map(str, figures), *hashes)
    ids = [work.id for one in hashes for work in archive.queries.attachments_of_blob(one)[:NAMED]]
    room = NAMED - len(facts.losses)
    files = [one | {"state": DAMAGED, "reason": ""} for one in _files(archive, ids[:room])]
    facts.losses += files
    damaged = sum(n for n in figures[:2] if isinstance(n, int))
    if damaged:
        facts.new[DAMAGED] = max(damaged, len(files))


def _files(archive: Archive, ids: Collection[int]) -> list[dict[str, Any]]:
    return [_file(row) for row in archive.queries.among(ids).values()]


def _file(row: Row) -> dict[str, Any]:
    return {
        "attachment_id": row.id,
        "ticket_id": row.ticket_id or None,
        "ticket_number": brief(row.ticket_number),
        "file": brief(row.filename),
        "state": row.state.value,
        "problem": brief(row.problem or ""),
        "reason": brief(row.detail or row.problem or "", LONGEST),
    }


def _untold(archive: Archive, outcome: Outcome, failed: Notice | None) -> bool:
    """Return whether the pull before this one failed so that it could not even record it.

    Its machine or process was killed, or its disk was full.
    """
    if outcome.command not in PULLS:
        return False
    before = archive.queries.runs(2)[1:]
    return any(
        one.exit_code not in DONE | STOPPED
        for one in before
        if failed is None or failed.at < one.started_at
    )


def _lost(facts: _Facts) -> str:
    number = sum(facts.new.values())
    return f"{number:,} attachment{'s' * (number != 1)} newly lost: {_counted(facts.new)}"


def _recovery(facts: _Facts, *, works: bool) -> str:
    number = facts.recovered
    back = (
        f"{number:,} lost attachment{'s' * (number != 1)} {'are' if number != 1 else 'is'} stored"
    )
    told = [f"{facts.outcome.command} works again"] if works else []
    return "; ".join(told + ([back] if number else []))


def _summary(archive: Archive, facts: _Facts, before: Notice) -> dict[str, Any]:
    """Return the title of a summary, and what happened since the last one."""
    history = [one for one in archive.notices.after(before) if one.event in EVENTS]
    new = Counter[str]()
    for one in history:
        new.update(one.body["new_losses"])
    bodies = [one.body for one in history]
    was = before.body["counts"].get(State.STORED.value, 0)
    stored = facts.counts[State.STORED.value]
    title = f"Daily summary: {stored:,} stored ({stored - was:+,}), newly lost: {_counted(new)}"
    if failures := sum(one.event == "failure" for one in history):
        title += f", failures: {failures:,}"
    return {
        "title": title,
        "before": before,
        "new_losses": dict(new),
        "losses": [file for one in bodies for file in one["losses"]][:NAMED],
        "recovered": sum(one["recovered"] for one in bodies),
        "recovered_files": [file for one in bodies for file in one["recovered_files"]][:NAMED],
        "history": [
            {"at": iso_time(one.at), "event": one.event, "title": one.body["title"]}
            for one in history[-NAMED:]
        ],
        "lines": [],
    }
