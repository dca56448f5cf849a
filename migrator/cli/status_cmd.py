"""``migrator status``: where the migration stands, for people and monitors."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from migrator.cli.common import App, duration, now, open_beside, pass_app, print_json
from migrator.text import human_bytes, human_duration, iso_time, shares, shown

if TYPE_CHECKING:
    from migrator.archive import Archive
    from migrator.archive.lock import Holder
    from migrator.archive.records import Count, State

# Each state has its own mark, so that the bar can be read without colours.
_LOOKS = {
    "stored": ("█", "#", "green"),
    "deleted": ("▓", "=", "cyan"),
    "missing": ("▒", "m", "magenta"),
    "gone": ("░", "g", "yellow"),
    "failed": ("x", "x", "red"),
    "pending": ("·", ".", "blue"),
}
_WIDEST = 72


@dataclass(frozen=True, slots=True)
class Terminal:
    """The terminal's abilities; ``width`` is in columns."""

    width: int
    colour: bool
    blocks: bool


def terminal() -> Terminal | None:
    """Return the abilities of stdout; None when it is not a terminal.

    Colours are left out where ``NO_COLOR`` is set (https://no-color.org) and on a dumb terminal,
    blocks where the encoding has none.
    """
    if not sys.stdout.isatty():
        return None
    colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    try:
        "█▓▒░·".encode(sys.stdout.encoding or "ascii")
        blocks = True
    except (UnicodeEncodeError, LookupError):
        blocks = False
    return Terminal(shutil.get_terminal_size().columns, colour, blocks)


def dashboard(counts: Mapping[State, Count], on: Terminal) -> Iterator[str]:
    """Yield the lines: the bar, then the sum by state."""
    from migrator.report.verdict import total as add_up

    by_name = {state.value: count for state, count in counts.items()}
    total = add_up(counts)
    numbers = {name: by_name[name].n for name in _LOOKS}
    cells = _cells(numbers, max(10, min(_WIDEST, on.width - 2)))
    if total.n:
        yield "".join(_mark(state, on, width) for state, width in cells.items())
    yield _line(" ", "listed", total, "")
    written = shares(list(numbers.values()), digits=2)
    for name, share in zip(_LOOKS, written, strict=True):
        count = by_name[name]
        mark = _mark(name, on) if count.n else " "
        yield _line(mark, name, count, share if count.n else "")


def _cells(numbers: Mapping[str, int], width: int) -> dict[str, int]:
    """Divide ``width`` cells in proportion; every non-zero amount gets one."""
    present = {state: n for state, n in numbers.items() if n}
    total = sum(present.values())
    cells = {state: max(1, n * width // total) for state, n in present.items()}
    if cells:  # the largest one absorbs rounding errors
        largest = max(present, key=lambda state: present[state])
        cells[largest] += width - sum(cells.values())
    return cells


def _mark(state: str, on: Terminal, times: int = 1) -> str:
    block, letter, colour = _LOOKS[state]
    text = (block if on.blocks else letter) * times
    return click.style(text, fg=colour) if on.colour else text


def _line(mark: str, name: str, count: Count, share: str) -> str:
    return f"{mark} {name:<8} {count.n:>12,}  {human_bytes(count.bytes):>10}  {share:>9}".rstrip()


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--max-age",
    callback=duration,
    metavar="DURATION",
    help="Exit with 3 when the last success is older than this, or there was none.",
)
@pass_app
def status(app: App, as_json: bool, max_age: float | None) -> int:
    """Show where the migration stands, also while a run is at work.

    On a terminal this includes a bar of the states, in colours unless NO_COLOR is set. A success is
    a run or sync over the whole helpdesk that finished and left no ticket unlisted, even with
    failed, missing and gone attachments, which are counted here.

    \b
    Examples:
      migrator status
      migrator status --json | jq .states.failed.n
      migrator status --max-age 1h >/dev/null || echo "no sync for an hour"
    """
    config, archive = open_beside(app)
    with archive:
        unread = archive.threads.count_unread() if config.keeps_posts else None
        age = _success_age(archive)
        if as_json:
            print_json(_facts(archive, unread))
        else:
            click.echo("\n".join(_lines(archive, unread)))
    # A success in the future, by a wrong clock, must not count.
    stale = max_age is not None and (age is None or abs(age) > max_age)
    return 3 if stale else 0


def _success_age(archive: Archive) -> int | None:
    success = archive.queries.mark("success")
    return None if success is None else now() - success.value


def _lines(archive: Archive, unread: int | None) -> list[str]:
    from migrator.archive.lock import holder
    from migrator.report.text import ledger, replies
    from migrator.report.verdict import describe_run, how_far, judge, look, proof_lines, waits

    seen = archive.queries.together(lambda: look(archive))
    owner, last, on = holder(archive.path), seen.last, terminal()
    progress = []
    if seen.at_work:
        age = now() - seen.progress_at if seen.progress_at is not None else None
        progress = [f"Progress: {how_far(seen.progress, age=age)}."]
    return [
        f"Archive {shown(str(archive.path))}",
        _describe(owner) if owner is not None else "No run is at work.",
        *waits(seen),
        describe_run(last, at_work=seen.at_work) if last else "There has been no run yet.",
        *progress,
        *_sync_lines(archive),
        *proof_lines(seen),
        "",
        *(ledger(seen.counts) if on is None else dashboard(seen.counts, on)),
        f"\n{replies(archive.replies.kept())}.",
        *([f"\nThreads missing: {unread:,}; the next run reads them."] if unread else []),
        "",
        judge(seen).sentence,
    ]


def _sync_lines(archive: Archive) -> list[str]:
    age, whole = _success_age(archive), archive.queries.mark("full_pass")
    success = archive.queries.mark("success")
    lines = ["No run or sync over the whole helpdesk has succeeded yet."]
    if age is not None and success is not None:
        lines = [f"Last success: {iso_time(success.value)}, {human_duration(age)} ago."]
    if whole is not None:
        lines.append(f"Last pass over all tickets: begun {iso_time(whole.value)}.")
    return lines


def _describe(owner: Holder) -> str:
    told = ("?" if value is None else value for value in (owner.pid, owner.host, owner.command))
    return shown(
        "In use by process {} on {} ({}), since {}.".format(
            *told, iso_time(owner.since or 0) or "?"
        )
    )


def _facts(archive: Archive, unread: int | None) -> dict[str, object]:
    from migrator.archive.lock import holder, paused
    from migrator.report.json_report import judged, run_facts
    from migrator.report.text import replies_facts
    from migrator.report.verdict import gaps, judge, look, waits_facts

    seen = archive.queries.together(lambda: look(archive))
    marks = {name: archive.queries.mark(name) for name in ("success", "watermark", "full_pass")}
    at = {name: (iso_time(mark.value) or None) if mark else None for name, mark in marks.items()}
    owner, helpdesk = holder(archive.path), archive.queries.helpdesk()
    held = paused(archive.path, now())
    return {
        "archive": str(archive.path),
        "held_by": asdict(owner) if owner else None,
        "pause": asdict(held) if held else None,
        "exit_code": judge(seen).exit_code,
        "gaps": gaps(seen.last),
        "states": {state.value: {"n": c.n, "bytes": c.bytes} for state, c in seen.counts.items()},
        "threads_missing": unread,
        "replies": replies_facts(archive.replies.kept()),
        "last_run": run_facts(seen.last),
        "last_success": at["success"],
        "last_success_age": _success_age(archive),
        "last_full_pass": at["full_pass"],
        "watermark": at["watermark"],
        **judged(seen, now()),
        "helpdesk": helpdesk.address if helpdesk else None,
        "waits": waits_facts(seen, now()),
    }
