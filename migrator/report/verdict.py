"""The verdict on an archive, decided in one place from what was seen.

No output decides on its own: the terminal, `status`, every form of the report, the pages and the
handover print the sentence of :func:`judge`, and the exit codes are its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from migrator.archive.lock import Holder, holder
from migrator.archive.lock import halt as pause_of
from migrator.archive.queries import Failing, Tickets
from migrator.archive.records import Check, Count, RunInfo, State
from migrator.hours import Halt
from migrator.text import brief, counted, human_bytes, human_duration, iso_time

if TYPE_CHECKING:
    from migrator.archive import Archive

ATTENTION = (State.FAILED, State.MISSING, State.GONE)
"""The states whose attachments are losses unless somebody accepts them."""

Kind = Literal["complete", "part", "open", "doubt", "nothing"]
Mood = Literal["good", "warn", "bad", "calm"]

OPEN, DAMAGED, STOPPED = 3, 6, 8
"""Exit codes: something is open or was left out; the archive is in doubt; a safety limit."""

CHECKS = ("verify", "audit")
_CHECKS_READ = 50
"""How many checks are searched for one that found something."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on an archive.

    ``word`` is a headline, ``sentence`` all of it, ``mood`` how a page shows it. ``exit_code``
    is the same for a script.
    """

    kind: Kind
    word: str
    sentence: str
    exit_code: int
    mood: Mood

    @property
    def rest(self) -> str:
        """The sentence without the word, for pages that show it above."""
        text = self.sentence.removeprefix(f"{self.word}: ")
        return text[0].upper() + text[1:]


@dataclass(frozen=True, slots=True)
class Seen:
    """The facts about a helpdesk and its archive that a verdict rests on.

    ``accepted`` counts the losses that somebody accepted. ``last`` is the latest run, ``whole`` the
    latest one over all tickets that finished, ``covered`` the same or a later sync of what was new,
    ``stopped`` a later one that a safety limit ended. ``worker`` holds the archive for the latest
    run, which is at work; ``progress`` is how far it is and ``progress_at`` when that was recorded.
    ``checks`` has the latest verify and audit, ``doubted`` those that found something that no later
    one cleared. ``damaged`` counts files that the caller found so. ``tickets`` are counted where
    the last run was limited. ``halt`` is why nobody may make a request to the source at present.
    ``deliveries`` counts the files of tickets at each Tickiti that
    anything was delivered to, by their state there.
    """

    counts: Mapping[State, Count]
    accepted: Mapping[State, Count] = field(default_factory=dict)
    last: RunInfo | None = None
    whole: RunInfo | None = None
    covered: RunInfo | None = None
    stopped: RunInfo | None = None
    worker: Holder | None = None
    progress: Mapping[str, Any] | None = None
    progress_at: int | None = None
    checks: Mapping[str, Check] = field(default_factory=dict)
    doubted: tuple[Check, ...] = ()
    damaged: int = 0
    failing: Failing | None = None
    tickets: Tickets | None = None
    deliveries: Mapping[str, Mapping[str, Count]] = field(default_factory=dict)
    halt: Halt | None = None

    @property
    def at_work(self) -> bool:
        """Whether the latest run is at work."""
        return self.worker is not None

    @property
    def gaps(self) -> dict[str, int]:
        """What the lists of the last passes over the whole helpdesk left open, by kind.

        Incremental syncs keep what could not be listed, not what was only counted, and read no
        articles.
        """
        only = {"short", "articles_missing"}
        kept = {name: count for name, count in gaps(self.whole).items() if name in only}
        return gaps(self.covered) | kept

    @property
    def whole_seen(self) -> RunInfo | None:
        """The run that saw the whole helpdesk without gaps, if one did."""
        return self.whole if not self.gaps else None

    def open(self, *states: State) -> int:
        """Return the number of attachments in some states whose loss nobody has accepted."""
        return sum(
            (self.counts[state].n if state in self.counts else 0)
            - (self.accepted[state].n if state in self.accepted else 0)
            for state in states
        )


def look(archive: Archive, *, damaged: int = 0) -> Seen:
    """Read the facts with several queries, to be run at one moment of the ledger.

    ``damaged`` counts files that the caller just found so.
    """
    queries = archive.queries
    counts, last, whole = queries.counts(), next(iter(queries.runs(1)), None), queries.whole_pass()
    worker = _worker(archive.path, last)
    recorded = queries.progress(last.id) if last is not None else None
    checks = {kind: queries.checks(kind, limit=_CHECKS_READ) for kind in CHECKS}
    return Seen(
        counts=counts,
        accepted=queries.accepted(),
        last=last,
        whole=whole,
        covered=queries.whole_pass(increments=True),
        stopped=queries.stopped(whole.id if whole else 0),
        worker=worker,
        progress=recorded[1] if recorded else None,
        progress_at=recorded[0] if recorded else None,
        checks={kind: found[0] for kind, found in checks.items() if found},
        doubted=tuple(_doubts_left(checks)),
        damaged=damaged,
        failing=queries.failing() if counts[State.FAILED].n else None,
        tickets=queries.tickets() if last is not None and limits(last.scope) else None,
        deliveries={one: queries.delivery_totals(one) for one in queries.targets()},
        halt=_halt(archive, time.time()),
    )


def _halt(archive: Archive, now: float) -> Halt | None:
    """Return why no request may be made now: somebody has paused it, or it is out of hours."""
    hours = archive.hours
    if (pause := pause_of(archive.path, now)) is not None or (opens := hours.opens(now)) <= now:
        return pause
    text = f"outside its hours until {hours.told(opens)}{hours.place}: no request begins"
    return Halt("quiet_hours", text, opens - now)


_NO_RUNS = ("verify", "audit", "handover", "accept", "migrate", "deliver")
"""Commands that hold the archive and pull nothing."""


def _worker(path: Path, last: RunInfo | None) -> Holder | None:
    """Return the process that is at work on the latest run.

    Other commands hold the archive, too, such as `verify` after a run that was killed, but they
    did not hold it when that run began.
    """
    if last is None or last.finished_at is not None:
        return None
    found = holder(path)
    if found is None:
        return None
    command = (found.command or "").partition(" ")[0]
    if command == last.kind:
        return found
    older = found.since is None or found.since <= last.started_at
    return found if older and command not in _NO_RUNS else None


def _doubts_left(checks: Mapping[str, Sequence[Check]]) -> Iterator[Check]:
    """Yield the newest check of each kind that found something and was not cleared since.

    Reading all files again clears damage, also damage found by an audit. A difference is cleared
    by an audit of at least that size that found nothing, for each looks at a sample only.
    """
    read = max((one.id for one in checks["verify"] if one.whole and not one.exit_code), default=0)
    for found in checks.values():
        largest = -1.0
        for check in found:  # the newest first
            if check.exit_code == 0:
                largest = max(
                    largest, math.inf if check.whole else _some(check.summary, "sample") or 0
                )
            elif check.exit_code == DAMAGED and not (
                read > check.id
                if check.kind == "verify" or _only_ours(check)
                else largest >= (_some(check.summary, "sample") or 0)
            ):
                yield check
                break


def _only_ours(audit: Check) -> bool:
    """Return whether an audit found only our own files wrong, which verify reads too."""
    return audit.summary.get("differ") == 0


def judge(seen: Seen) -> Verdict:
    """Return the verdict: the most serious reason, with all others against a better one."""
    found = list(_reasons(seen))
    if not found:
        return _complete(seen)
    said: set[str] = set()
    sentences = []
    for one in found:
        sentences.append(one.rest if one.word in said else one.sentence)
        if one.sentence.startswith(f"{one.word}: "):
            said.add(one.word)
    return replace(found[0], sentence=" ".join(sentences))


def _reasons(seen: Seen) -> Iterator[Verdict]:
    """Yield all that keeps the archive from being complete, the most serious first."""
    yield from _doubts(seen)
    last = seen.last
    if last is None:
        text = "No run has looked at the helpdesk yet."
        yield Verdict("nothing", "Nothing listed yet", text, OPEN, "calm")
        return
    if seen.at_work:
        word = f"A {brief(last.kind)} is at work"
        text = f"{word}: {how_far(seen.progress)}."
        if words := limits(last.scope):
            text += f" It looks at a part of the helpdesk: {'; '.join(words)}."
        yield Verdict("open", word, text, OPEN, "calm")
        return
    if cut(last) and last != seen.stopped:
        whole = "" if limits(last.scope) else _when_whole(seen)
        text = f"The last pass did not finish{_why(last)}{whole}."
        yield Verdict("open", "Not complete", text, OPEN, "bad")
    if limits(last.scope) or _lacks_trash(seen):
        yield Verdict("part", "Part of the helpdesk", _part(seen, last), OPEN, "warn")
    elif seen.whole is None and not cut(last):
        text = "No pass over the whole helpdesk has finished: `migrator run` makes one."
        yield Verdict("open", "Not complete", text, OPEN, "bad")
    if left := gaps(last) | seen.gaps:
        found = "; ".join(_GAPS[name](count) for name, count in left.items())
        text = f"Not complete: {found}. `migrator run` lists all of them again."
        yield Verdict("open", "Not complete", text, OPEN, "bad")
    yield from _losses(seen)


_GAPS: Mapping[str, Callable[[int], str]] = {
    "unlisted": lambda n: f"the attachments of {counted(n, 'ticket')} could not be listed",
    "unreadable": lambda n: f"{counted(n, 'row')} of the ticket list could not be read",
    "short": lambda n: f"the source counts {counted(n, 'ticket')} more than it lists",
    "articles_missing": lambda n: (
        f"{counted(n, 'part')} of knowledge base and troubleshooter could not be read"
    ),
    "fields_missing": lambda n: f"the custom fields of {counted(n, 'ticket')} could not be read",
}


def _doubts(seen: Seen) -> Iterator[Verdict]:
    texts = []
    if seen.damaged:
        texts.append(
            f"{counted(seen.damaged, 'file')} of the archive {_are(seen.damaged)} damaged or lost. "
            "`migrator verify --repair` fetches them again."
        )
    for check in seen.doubted:
        remedy = (
            "`migrator verify --repair` repairs it"
            if check.kind == "verify" or _only_ours(check)
            else "`migrator audit` names it; another one of at least that size clears it"
        )
        texts.append(f"{check.kind} found a fault ({describe_check(check)}): {remedy}.")
    for text in texts:
        yield Verdict("doubt", "In doubt", f"In doubt: {text}", DAMAGED, "bad")
    if (stopped := seen.stopped) is not None:
        text = f"In doubt: run {stopped.id} was stopped by a safety limit{_why(stopped)}."
        yield Verdict("doubt", "In doubt", text, STOPPED, "bad")


def _part(seen: Seen, last: RunInfo) -> str:
    """Return in words how much of the helpdesk the last run looked at, if all was seen earlier.

    Else what all runs together have listed and what is still there, as far as they know.
    """
    words = "; ".join(limits(last.scope)) or "the trash was never looked at as a whole"
    own, of = _number(last, "tickets"), _number(last, "helpdesk_tickets")
    if seen.whole_seen is not None:
        looked = f"{counted(own, 'ticket')} ({words})" if own is not None else words
        return f"Part of the helpdesk: the last run looked at {looked}{_when_whole(seen)}."
    known = seen.tickets.listed if seen.tickets else own or 0
    if own is not None and known > own:
        words = f"the last run: {counted(own, 'ticket')}, {words}"
    number = counted(known, "ticket", of) if of is not None and of >= known else ""
    return (
        f"Part of the helpdesk: {number or counted(known, 'ticket')} ({words}). `migrator run` "
        "without limits looks at all of it."
    )


def _when_whole(seen: Seen) -> str:
    run = seen.whole_seen
    if run is None:
        return ""
    return f"; the whole was last seen {iso_time(run.finished_at)[:10]} in run {run.id}"


def _losses(seen: Seen) -> Iterator[Verdict]:
    if number := seen.open(State.PENDING, State.FAILED):
        text = (
            f"Not complete: {counted(number, 'attachment')} {_are(number)} pending or failed. "
            f"`migrator run` resumes and tries {_them(number)} again"
        )
        at = (seen.failing.next_try if seen.failing else None) or 0
        ended = (seen.last.finished_at if seen.last else None) or 0
        if at > ended and not seen.open(State.PENDING):
            text += f", from {iso_time(at)} on; `migrator run --recheck` tries at once"
        yield Verdict("open", "Not complete", f"{text}.", OPEN, "bad")
    if lost := seen.open(State.MISSING, State.GONE):
        text = (
            f"The helpdesk itself has lost {counted(lost, 'attachment')}: `migrator run --recheck` "
            f"asks for {_them(lost)} once more, `migrator accept` settles what stays lost."
        )
        yield Verdict("open", "Open: losses at the source", text, OPEN, "warn")


def _complete(seen: Seen) -> Verdict:
    listed, whole = total(seen.counts), seen.whole
    beside = ""
    if whole is not None and not whole.scope.get("include_trash"):
        beside = " The trash was not looked at."
    if whole is not None and whole.scope.get("articles") is False:
        beside += " Knowledge base and troubleshooter were not looked at (kayako.knowledge_base)."
    if texts := _number(seen.covered, "threads_unread"):
        beside += (
            f" The posts of {counted(texts, 'ticket')} have not been read: files that only they "
            "link to are not known. `migrator run` tries to read them."
        )
    if unasked := _number(whole, "unasked_ids"):
        beside += (
            f" {counted(unasked, 'ticket id')} {_are(unasked)} in no list, deleted or hidden: "
            "`migrator run --every-id` asks for each."
        )
    if not listed.n:
        text = "The whole helpdesk was seen, and it lists no attachment."
        return Verdict("nothing", "No attachments", text + beside, 0, "calm")
    but = "."
    if accepted := sum(count.n for count in seen.accepted.values()):
        but = f", but for {accepted:,} whose loss was accepted."
    text = "Complete: every attachment that the source ever listed is in the archive"
    return Verdict("complete", "Complete", text + but + beside, 0, "good")


# The options of a run, and its result


def limits(scope: Mapping[str, object]) -> list[str]:
    """Return in words what keeps a run with this scope from seeing the whole helpdesk."""
    words = []
    departments = scope.get("departments")
    if departments is not None:
        names = [brief(str(one)) for one in departments] if isinstance(departments, list) else []
        words.append(f"department{'s' if len(names) != 1 else ''} {', '.join(names) or 'none'}")
    since, limit = scope.get("since"), scope.get("limit_tickets")
    if since:
        at = iso_time(since) if isinstance(since, int) else ""
        words.append(f"only tickets active since {at.removesuffix('T00:00:00Z') or since}")
    if limit is not None:
        words.append(
            f"only the first {counted(limit, 'ticket') if isinstance(limit, int) else limit}"
        )
    if scope.get("fast"):
        words.append("only tickets that are marked as having attachments")
    return words


def _is_increment(run: RunInfo) -> bool:
    return run.scope.get("active_since") is not None


def _lacks_trash(seen: Seen) -> bool:
    """Return whether the last run wanted the trash, which no whole pass has looked at."""
    last, whole = seen.last, seen.whole
    if last is None or whole is None or not _is_increment(last):
        return False
    return bool(last.scope.get("include_trash")) and not whole.scope.get("include_trash")


def cut(run: RunInfo | None) -> bool:
    """Return whether something ended a run before it had seen everything, such as a kill."""
    return run is not None and (
        run.finished_at is None or bool((run.summary or {}).get("ended_by"))
    )


def gaps(run: RunInfo | None) -> dict[str, int]:
    """Return what the lists of a run left open: a ledger cannot include what was never listed.

    ``unlisted`` tickets did not name their attachments, ``unreadable`` rows of the ticket list
    could not be rendered, and ``short`` tickets were counted by the source but not listed.
    ``fields_missing`` tickets may have files in custom fields that could not be read.
    """
    return {name: count for name in _GAPS if (count := _number(run, name))}


def describe_run(run: RunInfo, *, at_work: bool = False) -> str:
    """Return one line that says when a run was, what it was asked for and how it ended."""
    words = "; ".join(limits(run.scope))
    asked = f" ({words})" if words else ""
    began = f"Last run: {brief(run.kind)} {run.id}{asked}, begun {iso_time(run.started_at)}"
    if run.finished_at is None:
        return f"{began}, at work." if at_work else f"{began}, killed before its end."
    took = human_duration(run.finished_at - run.started_at)
    return f"{began}, ended after {took} with exit code {run.exit_code}."


_OUTCOMES = {
    2: "stopped by a mistake of usage or configuration",
    3: "finished, with something open",
    4: "the source refused or could not be reached",
    6: "the archive is in doubt",
    7: "the archive could not be written",
    8: "stopped by a safety limit",
    130: "interrupted; progress is saved",
}


def outcome(run: RunInfo, *, at_work: bool = False) -> str:
    """Return the outcome of one run in a few words; :func:`judge` has the verdict on all."""
    words = "; ".join(limits(run.scope))
    if run.finished_at is None:
        result = "at work" if at_work else "killed before its end"
    elif run.exit_code == 0 or (run.exit_code == OPEN and words and not gaps(run)):
        result = "finished"
    else:
        result = _OUTCOMES.get(run.exit_code or 0, f"ended with exit code {run.exit_code}")
    return f"{result} ({words})" if words else result


def waits(seen: Seen) -> list[str]:
    """Return in a sentence why no request is made at present; none when they may be."""
    return [f"{seen.halt.text[0].upper()}{brief(seen.halt.text[1:], 300)}."] if seen.halt else []


def waits_facts(seen: Seen, now: int) -> dict[str, object] | None:
    """Return the same for machines."""
    if (halt := seen.halt) is None:
        return None
    until = None if halt.wait is None else iso_time(now + math.ceil(halt.wait))
    return {"reason": halt.reason, "until": until, "text": halt.text}


# The proof


def proof_lines(seen: Seen) -> list[str]:
    """Return one line each on what verify and audit last found, and on what Tickiti has."""
    checks = [f"{kind.capitalize()}: {describe_check(seen.checks.get(kind))}." for kind in CHECKS]
    return checks + [_delivered(target, found) for target, found in seen.deliveries.items()]


def scope_line(seen: Seen) -> str:
    """Return in words how much of the helpdesk was looked at, and when."""
    last, whole = seen.last, seen.whole_seen
    if last is None:
        return "nothing yet"
    words = "; ".join(limits(last.scope))
    if whole is None:
        return f"a part of the helpdesk ({words})" if words else "not all of the helpdesk yet"
    trash = "" if whole.scope.get("include_trash") else ", without its trash"
    told = f"the whole helpdesk{trash}, last seen {iso_time(whole.finished_at)} in run {whole.id}"
    return f"{told}; the last run looked at a part ({words})" if words else told


def _delivered(target: str, found: Mapping[str, Count]) -> str:
    """Return in words what a Tickiti has of the files of tickets."""
    there, every = found.get("delivered", Count()), sum(count.n for count in found.values())
    left = [
        f"{count.n:,} {state.replace('_', ' ')}"
        for state, count in sorted(found.items())
        if state != "delivered" and count.n
    ]
    rest = f", {', '.join(left)}; `migrator deliver --list` names them" if left else ""
    return (
        f"Tickiti at {brief(target)}: {counted(there.n, 'file', every)} of tickets delivered "
        f"({human_bytes(there.bytes)}) and read back{rest}."
    )


def describe_check(check: Check | None) -> str:
    """Return in words when a check was and what it found."""
    if check is None:
        return "never"
    facts, at = check.summary, iso_time(check.finished_at)
    extent = "all" if check.whole else "a sample"
    if check.kind == "audit" and isinstance(statement := facts.get("statement"), str):
        return f"{at}, {extent}: {brief(statement, 300).rstrip('.')}"
    verify = check.kind == "verify"
    read, noun = ("checked", "files read") if verify else ("compared", "attachments compared")
    names = ("damaged", "lost", "repaired") if verify else ("differ", "vanished", "unasked")
    found = ", ".join(f"{facts[one]:,} {one}" for one in names if isinstance(facts.get(one), int))
    if more := _some(facts, "unreadable"):
        found += f", {more:,} that cannot be read"
    number = _some(facts, read)
    many = f"{number:,} {noun} ({extent})" if number is not None else f"{noun}, {extent}"
    return f"{at}, {many}: {found or ('something' if check.exit_code else 'nothing') + ' wrong'}"


def check_facts(check: Check | None) -> dict[str, object] | None:
    """Return a check for machines; None when there was none."""
    if check is None:
        return None
    return {
        "started_at": iso_time(check.started_at),
        "finished_at": iso_time(check.finished_at),
        "whole": check.whole,
        "exit_code": check.exit_code,
        "summary": dict(check.summary),
    }


def scope_facts(seen: Seen) -> dict[str, object] | None:
    """Return for machines what the last run was asked for, and how many tickets that is."""
    run = seen.last
    if run is None:
        return None
    since = run.scope.get("since")
    return {
        "whole": not limits(run.scope),
        "incremental": _is_increment(run),
        "departments": run.scope.get("departments"),
        "since": (iso_time(since) or None) if isinstance(since, int) else None,
        "limit_tickets": run.scope.get("limit_tickets"),
        "include_trash": bool(run.scope.get("include_trash")),
        "tickets": _number(run, "tickets"),
        "helpdesk_tickets": _number(run, "helpdesk_tickets"),
        "whole_seen_in_run": seen.whole_seen.id if seen.whole_seen else None,
        "whole_seen_at": iso_time(seen.whole_seen.finished_at) if seen.whole_seen else None,
    }


# Progress


def how_far(facts: Mapping[str, Any] | None, *, age: int | None = None) -> str:
    """Return in words how far a run is, by what it wrote down, as a guess."""
    if not facts:
        return "how far it is, is not known yet"
    parts = []
    tickets, of = _some(facts, "tickets") or 0, _some(facts, "tickets_total")
    if tickets or of:
        parts.append(f"{counted(tickets, 'ticket', of)} listed")
    parts.append(counted(_some(facts, "attachments") or 0, "attachment"))
    if size := _some(facts, "bytes"):
        parts[-1] += f" ({human_bytes(size)})"
    parts += done(facts.get("share"), facts.get("seconds_left"), ended=bool(facts.get("ended")))
    if (left := _some(facts, "paused")) is not None:
        parts.append(pause(left - (age or 0), str(facts.get("pause_reason") or "")))
    if (slow := facts.get("slow")) and isinstance(slow, list) and isinstance(slow[0], dict):
        first, size = slow[0], _some(slow[0], "size") or 0
        seconds, received = _some(first, "seconds") or 0, _some(first, "received")
        told = waiting(brief(str(first.get("what"))), seconds, received, size)
        parts.append(f"slow: {told}")
    told = ", ".join(parts)
    return told if age is None else f"{told}; told {human_duration(max(age, 0))} ago"


def pause(seconds: int, reason: str = "") -> str:
    """Return in words that a run waits for the source, which it probes in so many seconds.

    With a ``reason``, as of Paused, it waits by our own wish.
    """
    if reason:
        name = "quiet hours" if reason == "quiet_hours" else "paused by `migrator pause`"
        return f"{name}, going on in {human_duration(seconds)}" if seconds > 0 else name
    return f"paused, next look in {seconds} s" if seconds > 0 else "paused, looking now"


def waiting(what: str, seconds: float, received: int | None, size: int = 0) -> str:
    """Return in words for how long a request is under way, and how much of its reply has come."""
    if received is None:  # a file of ours
        of = f" of {human_bytes(size)}" if size else ""
        return f"{human_duration(seconds)} for {what}{of}"
    of = f" of {human_bytes(size)}" if size >= received and size else ""
    came = f"{human_bytes(received)}{of} so far" if received else "no answer yet"
    return f"{human_duration(seconds)} for {what}, {came}"


def done(share: object, seconds_left: object, *, ended: bool = False) -> list[str]:
    """Return in words which part is done and how long the rest takes, as a guess."""
    if ended:
        return []
    if not isinstance(share, int | float):
        return ["how much there is to do is not known yet"]
    percent = int(share * 100)
    parts = [f"about {percent} % done" if percent else "less than 1 % done"]
    if isinstance(seconds_left, int | float) and seconds_left >= 1:
        parts.append(f"about {human_duration(seconds_left)} left")
    return parts


def progress_facts(seen: Seen, now: int) -> dict[str, object] | None:
    """Return for machines how far the latest run is, or was at its end; None if it never said."""
    if seen.last is None or not seen.progress or seen.progress_at is None:
        return None
    facts = dict(seen.progress)
    if not seen.at_work:
        facts["seconds_left"] = facts["paused"] = None
        facts["slow"] = []
    return {
        "run": seen.last.id,
        "at_work": seen.at_work,
        "at": iso_time(seen.progress_at),
        "age": max(0, now - seen.progress_at),
        **facts,
    }


# Numbers


def total(counts: Mapping[State, Count]) -> Count:
    """Add all states up to what the source ever listed."""
    return Count(sum(c.n for c in counts.values()), sum(c.bytes for c in counts.values()))


def _number(run: RunInfo | None, name: str) -> int | None:
    return _some(run.summary if run else None, name)


def _some(facts: Mapping[str, Any] | None, name: str) -> int | None:
    """Return a recorded figure: a number, or how many keys an object has."""
    value = (facts or {}).get(name)
    if isinstance(value, dict):
        return len(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _why(run: RunInfo) -> str:
    ended_by = (run.summary or {}).get("ended_by")
    if not ended_by:
        return "; it was killed" if run.finished_at is None else ""
    return f": {brief(str(ended_by), 300).rstrip('.')}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _them(number: int) -> str:
    return "it" if number == 1 else "them"
