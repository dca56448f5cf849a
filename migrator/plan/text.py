"""The dry run as text, the most important first, and as JSON.

The JSON document is ``migrator.plan/1``: schema/plan-1.json says what each key means. Sizes are
bytes, durations seconds. Keys are added to a version and never taken away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from migrator.archive.records import Count, Group
from migrator.plan.model import Pace, Plan, Schedule
from migrator.report.text import count_line, group_lines
from migrator.sources.base import FastLook
from migrator.text import counted, human_bytes, human_duration, iso_time, shown

FORMAT = "migrator.plan/1"
LONG = 8
"""Hours of a run that somebody must find time for."""


def to_json(plan: Plan) -> Iterator[str]:
    """Yield the plan as JSON, in pieces."""
    yield json.dumps(document(plan), indent=2)
    yield "\n"


def document(plan: Plan) -> dict[str, object]:
    """Return the plan as JSON values."""
    gaps, fast, pace = plan.gaps, plan.fast, _plain(plan.pace)
    for name, value in pace.items():
        pace[name] = value and round(value, 1 if name.startswith(("est", "low", "high")) else 3)
    return {
        "format": FORMAT,
        "source": plan.source,
        "made_at": iso_time(plan.made_at),
        "complete": plan.complete,
        "ended": plan.ended or None,
        "limits": list(plan.limits),
        "tickets": plan.tickets,
        "tickets_total": plan.tickets_total,
        "listed": _plain(plan.listed),
        "to_fetch": _plain(plan.todo),
        "stored": _plain(plan.stored),
        "tickiti": {**_plain(plan.verdicts), "empty": plan.verdicts.empty.n},
        "tickets_without_number": (
            None if gaps.numbers is None else {"tickets": gaps.numbers, "first": list(gaps.first)}
        ),
        "departments_without_queue": _plain(gaps.queues),
        "departments": _plain(plan.departments),
        "types": _plain(plan.types),
        "extensions": _plain(plan.extensions),
        "years": _plain(plan.years),
        "sizes": _plain(plan.sizes),
        "kinds": _plain(plan.kinds),
        "articles": plan.articles,
        "articles_missing": plan.articles_missing,
        "custom_fields": plan.custom_fields,
        "custom_field_files": plan.custom_field_files,
        "beyond_any_api": plan.beyond,
        "tickets_not_listed": plan.unlisted,
        "tickets_short_of_count": plan.short,
        "requests": {"total": plan.requests.total, **_plain(plan.requests)},
        "disk": {
            "bytes": plan.disk.plain,
            "deduped_bytes": plan.disk.deduped,
            "method": plan.disk.method,
            "compared": plan.disk.compared,
            "free": plan.disk.free,
            "bucket": plan.disk.bucket or None,
            "replies": _plain(plan.disk.replies),
        },
        "pace": pace,
        "schedule": plan.schedule and _schedule(plan.schedule),
        "fast": fast
        and {
            "tickets": fast.tickets,
            "marked": fast.marked,
            "probes": fast.probes,
            "looked": fast.looked,
            "found": fast.found,
            "missed_attachments": fast.missed,
            "fallback": fast.fallback or None,
        },
    }


def _schedule(found: Schedule) -> dict[str, object]:
    return {
        "settings": found.hours.settings.split(" and "),
        "first_request_at": iso_time(round(found.begins)),
        "ends_at": iso_time(round(found.ends)) if found.ends is not None else None,
        "seconds": round(found.ends - found.at, 1) if found.ends is not None else None,
    }


def _plain(value: Any) -> Any:
    match value:
        case Count():
            return {"attachments": value.n, "bytes": value.bytes}
        case Group():
            row = {"key": value.key, "title": value.title}
            return {**row, "attachments": value.n, "bytes": value.bytes}
        case tuple():
            return [_plain(one) for one in value]
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    return value


def to_text(plan: Plan) -> Iterator[str]:
    """Yield the plan as text, in pieces."""
    return (f"{line}\n" for line in _lines(plan))


def _lines(plan: Plan) -> Iterator[str]:
    yield f"Dry run of {shown(plan.source)}: nothing was written"
    yield from partial(plan)
    yield ""
    yield _expected(plan.pace)
    yield from scheduled(plan)
    yield _disk(plan)
    yield from replies(plan)
    yield f"Requests: {_requests(plan)}"
    for title, steps in (("What to decide", decisions(plan)), ("What to do next", ahead(plan))):
        lines = [f"  {n}. {what} {how}" for n, (what, how) in enumerate(steps, 1)]
        yield from ("", title, *lines) if lines else ()
    yield ""
    counted = plan.tickets_total is not None and plan.tickets_total >= plan.tickets
    of = f"of {plan.tickets_total:,} " if counted else ""
    yield f"  {plan.tickets:>12,}  {'':>12}  {of}tickets looked at"
    yield count_line(plan.listed, "attachments listed")
    yield count_line(plan.stored, "already stored")
    yield count_line(plan.todo, "to fetch")
    yield from beside(plan)
    yield from ("", "What Tickiti will say to each file", *_verdicts(plan))
    yield from _gaps(plan)
    yield from group_lines("By department", plan.departments)
    yield from group_lines("By type", plan.types)
    yield from group_lines("By year", plan.years)
    yield from group_lines("By size", [one for one in plan.sizes if one.n])
    yield from _measured(plan.pace)


def decisions(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield what somebody has to decide and how, in sentences, the most urgent first."""
    disk, verdicts, gaps = plan.disk, plan.verdicts, plan.gaps
    if disk.short and disk.free is not None:
        needed = human_bytes(disk.deduped + disk.replies.block_bytes)
        yield (
            f"Where to keep the files: {needed} are needed, {human_bytes(disk.free)} are free.",
            "Make room, set `archive.path` to another disk, or `archive.blobs` to a bucket.",
        )
    clock = (plan.schedule.ends or 0) - plan.schedule.at if plan.schedule else 0
    hours = max(plan.pace.high_seconds or plan.pace.estimated_seconds or 0, clock) / 3600
    if hours > LONG:
        yield (
            f"When to run: it may take {human_duration(hours * 3600)}.",
            "It may be interrupted. A lower `kayako.concurrency` is gentler on the helpdesk.",
        )
    if verdicts.review.n:
        yield (
            f"Which types to trust: {counted(verdicts.review.n, 'file')} of types without a rule.",
            "Clients must confirm each download, unless you `migrator rule set EXT allow`.",
        )
    if verdicts.block.n:
        yield (
            f"Whether the rules should block {counted(verdicts.block.n, 'file')} for clients.",
            "They are kept all the same. `migrator rule list` shows the rules.",
        )
    if verdicts.too_large.n:
        limit = human_bytes(verdicts.max_download)
        large = f"{counted(verdicts.too_large.n, 'file')} over {limit}"
        yield (
            f"How to read {large}: no call returns one whole.",
            "The pages serve files of any size; `tickiti.max_download` is the limit.",
        )
    if gaps.numbers:
        yield (
            f"Which ticket of Tickiti is which: no number for {counted(gaps.numbers, 'ticket')}.",
            "`migrator deliver --match` proposes them for `tickiti.ticket_numbers`.",
        )
    if gaps.queues:
        yield (
            f"Which queues for {counted(len(gaps.queues), 'department')}: own ids are kept so far.",
            "Add them to `[tickiti.queues]`.",
        )
    if plan.beyond:
        yield (
            "Who keeps what no API gives, before the helpdesk is shut down.",
            "Copy its database and its folder `__swift/files`; what is only there is named below.",
        )


def ahead(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield the next steps and how to take them, in their order."""
    if plan.ended:
        yield "See the rest: this dry run was cut short.", "Run `migrator plan` again."
    elif plan.limits or (plan.fast and not plan.fast.fallback):
        yield "See the rest: this is only a part.", "Run `migrator plan` without these options."
    if missed := plan.unlisted + plan.short:
        yield (
            f"Look at {counted(missed, 'ticket')} that could not be seen.",
            "`migrator run` asks again.",
        )
    if plan.disk.short:
        yield "Make room first.", "A run without it stops with exit code 7; what it has is safe."
    if plan.todo.n:
        size = human_bytes(plan.todo.bytes)
        yield (
            f"Fetch {counted(plan.todo.n, 'attachment')} ({size}).",
            "`migrator run`; it ends with a ledger that says what is held, lost and open.",
        )
    else:
        yield "Nothing listed here is left to fetch.", "`migrator sync` fetches what is new."
    yield (
        "Keep up until the switch.",
        "`migrator schedule` prints a timer for `migrator sync`.",
    )
    yield (
        "Prove it before the helpdesk is shut down.",
        "`migrator verify` reads every file again, `migrator audit` compares a sample.",
    )


def partial(plan: Plan) -> Iterator[str]:
    """Yield what makes the figures incomplete."""
    if plan.limits:
        yield f"Part of the helpdesk: {'; '.join(plan.limits)}."
    if plan.ended:
        of = f" of {plan.tickets_total:,}" if plan.tickets_total is not None else ""
        yield f"INCOMPLETE: {shown(plan.ended)}. Only {plan.tickets:,}{of} tickets were seen."
    if plan.unlisted or plan.short:
        yield (
            f"Not everything was seen: {counted(plan.unlisted, 'ticket')} could not be listed, "
            f"{plan.short:,} are counted by the source but not shown."
        )
    if plan.articles_missing:
        yield (
            f"Not everything was seen: {counted(plan.articles_missing, 'part')} of knowledge base "
            "and troubleshooter could not be read."
        )
    if plan.fast is not None:
        yield from _fast(plan.fast)


def beside(plan: Plan) -> Iterator[str]:
    """Yield what is to be known of all that is no attachment of a post."""
    if plan.articles:
        yield (
            f"Knowledge base and troubleshooter: {plan.articles:,} articles and steps with "
            f"{counted(plan.outside.n, 'file')} ({human_bytes(plan.outside.bytes)}). Their lists "
            "hold the files, too: each pass over the whole helpdesk receives them again. They "
            "belong to no ticket: the pages and the handover have them, the API does not."
        )
    if plan.custom_fields is None:
        yield "Custom fields of tickets, and the files in them: not known. Only a run reads them."
    elif plan.custom_fields:
        held = f"{plan.custom_fields:,}, of which {plan.custom_field_files:,} hold files"
        yield (
            f"Custom fields of tickets: {held}. Only a run reads them: their files are not "
            "counted. Passwords are neither kept nor counted."
        )
    if plan.requests.threads:
        yield "Files that texts link to are not counted: only a run reads the texts."
    if plan.beyond:
        yield f"No API gives: {plan.beyond}."


def _fast(fast: FastLook) -> Iterator[str]:
    if fast.fallback:
        yield f"Everything was listed: {shown(fast.fallback)}."
        return
    yield (
        f"ESTIMATE: only the {fast.marked:,} of {fast.tickets:,} tickets were listed that Kayako "
        "marks as having attachments. The mark may be wrong."
    )
    if not fast.looked:
        return
    text = f"  {fast.found:,} of {fast.looked:,} others that were looked at had attachments"
    if fast.missed:
        text += f": these figures lack about {counted(fast.missed, 'attachment')}"
    elif not fast.found:
        text += f"; hardly more than {min(1.0, 3 / fast.looked):.0%} of all do"
    yield f"{text}."


def _expected(pace: Pace) -> str:
    if pace.estimated_seconds is None:
        return "No estimate: no attachment could be fetched as a sample."
    spread = ""
    if pace.low_seconds is not None and pace.high_seconds is not None:
        low, high = human_duration(pace.low_seconds), human_duration(pace.high_seconds)
        spread = f" ({low} to {high})" if low != high else ""
    return (
        f"Estimate: {human_duration(pace.estimated_seconds)}{spread} "
        f"with {pace.concurrency} requests at once"
    )


def scheduled(plan: Plan) -> Iterator[str]:
    """Yield when a run would end, where settings say when requests are made, or how fast."""
    if (found := plan.schedule) is None:
        return
    hours = found.hours
    if found.ends is None:
        yield f"With {hours.settings}, a run would take more than 10 years."
        return
    waits = f"makes its first request {hours.told(found.begins, dated=True)} and "
    yield (
        f"With {hours.settings}, a run that begins now {waits if found.begins > found.at else ''}"
        f"ends about {hours.told(found.ends, dated=True)}{hours.place}, "
        f"in {human_duration(found.ends - found.at)}."
    )


def _disk(plan: Plan) -> str:
    disk = plan.disk
    how = "by names and sizes" if disk.method == "names" else f"by {disk.compared:,} compared pairs"
    place = f"Bucket {shown(disk.bucket)}" if disk.bucket else "Disk"
    text = f"{place}: about {human_bytes(disk.deduped)} more for contents"
    if disk.deduped != disk.plain:
        text += f" ({human_bytes(disk.plain)} if equal files were kept twice; estimated {how})"
    if disk.free is not None:
        text += f", {human_bytes(disk.free)} are free"
        if disk.short:
            text += ": NOT ENOUGH"
    if disk.bucket:
        text += "; how much room it has is not asked. The disk keeps the checkpoint alone"
    return text


def replies(plan: Plan) -> Iterator[str]:
    """Yield what it costs to keep replies as they come."""
    found, disk = plan.disk.replies, plan.disk
    if found.n:
        size, blocks = human_bytes(found.bytes), ""
        if not disk.bucket:
            blocks = f" ({human_bytes(found.block_bytes)} on a disk with blocks of 4 KiB)"
        share = found.bytes / disk.deduped if disk.deduped else 0.0
        than = f", {share:.1%} of these contents" if share else ""
        yield (
            f"Replies kept as they come: about {counted(found.n, 'file')}, {size}{blocks}{than}; "
            f"measured on {found.weighed:,}. Those with custom fields, and the files in them, come "
            "on top. archive.keep_replies = false leaves them out"
        )


def _requests(plan: Plan) -> str:
    asked = plan.requests
    kinds = (
        *(("lists", asked.lists), ("attachments", asked.fetches), ("threads", asked.threads)),
        *(("lists of articles", asked.articles), ("custom fields", asked.fields)),
    )
    parts = ", ".join([f"{asked.pages:,} pages", *(f"{n:,} {name}" for name, n in kinds if n)])
    return f"{asked.total:,} ({parts}); this dry run made {asked.made:,}"


def _verdicts(plan: Plan) -> Iterator[str]:
    found = plan.verdicts
    yield count_line(found.allow, "allowed")
    yield count_line(found.review, "review: someone must confirm (intent review_ok)")
    yield count_line(found.block, "blocked by a rule, see `migrator rule list`")
    if plan.unserved.n:
        yield count_line(plan.unserved, "not served: of no ticket, so the API has no call for it")
    limit = human_bytes(found.max_download)
    most = f"{found.max_attachment / 1e6:g} MB"
    lines = (
        (found.too_large, f"over {limit}, too large for one API download"),
        (found.oversize, f"over {most}, the default limit for an attachment"),
        (found.odd_name, "with a name that is odd, or not valid on every system"),
        (found.no_extension, "without an extension"),
        (found.empty, "empty"),
    )
    if any(count.n for count, _ in lines):
        yield from ("", "What stands out; one file may count in several lines")
        yield from (count_line(count, text) for count, text in lines if count.n)


def _gaps(plan: Plan) -> Iterator[str]:
    gaps = plan.gaps
    if gaps.numbers:
        first = ", ".join(map(str, gaps.first)) + (
            ", ..." if gaps.numbers > len(gaps.first) else ""
        )
        yield ""
        tickets = counted(gaps.numbers, "ticket")
        yield f"Without a number in [tickiti] ticket_numbers: {tickets}: {first}"
    if gaps.queues:
        yield from group_lines("Departments without a queue in [tickiti.queues]", gaps.queues)


def _measured(pace: Pace) -> Iterator[str]:
    rate = pace.list_requests / pace.list_seconds if pace.list_seconds else 0
    yield ""
    yield (
        f"Measured: {counted(pace.list_requests, 'list')} at {rate:.1f} a second for each "
        "connection, "
        f"{counted(pace.sampled, 'attachment')} ({human_bytes(pace.sampled_bytes)}) in "
        f"{pace.sample_seconds:.1f} s of transfer"
    )
