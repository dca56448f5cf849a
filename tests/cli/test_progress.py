"""What a run says while it works."""

from __future__ import annotations

import io
import json
import logging
import re

import click
import pytest

from migrator import events
from migrator.cli.common import App, LogLines, note
from migrator.cli.progress import Bars, JsonLines, Lines, progress

STORY: list[events.Event] = [
    events.RunStarted(7, "run", done=5, listed=10, resumes=True),
    events.TicketsCounted(4),
    events.TicketListed(1, attachments=3, todo=2, todo_bytes=600),
    events.AttachmentSettled(11, 1, "stored", received=1024),
    events.Notice("look at\x1b[2J this", level="warning"),
    events.AttachmentSettled(12, 1, "failed", "server_error", "status 500"),
    events.TicketListed(2, attachments=0, todo=0),
    events.Retrying("attachment 13", "throttled", 1, 2.0),
    events.LeftoversQueued(1, 10),
    events.AttachmentSettled(13, 9, "missing", "source_lost_file"),
    events.RunFinished(7, 3, {"stored": 1}),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_lines_begin_at_once_and_come_once_a_minute() -> None:
    """Between two lines of figures lies a minute, however many events there are."""
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock) as tell:
        for number in range(1, 601):
            tell(events.TicketListed(number, 1, 1))
            tell(events.AttachmentSettled(number, number, "stored", received=100))
            clock.time += 0.5
        tell(events.RunFinished(1, 0))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1 + 4 + 1
    assert lines[0].startswith("0 attachments, 0 B, 1 ticket listed")
    assert lines[-1].startswith("600 attachments, 58.6 KiB, 600 tickets listed")
    assert all(line.endswith("how much there is to do is not known yet") for line in lines[:-1])


def test_lines_tell_how_reading_files_ended() -> None:
    """What is no run has a last line, too, but none that repeats the one before it."""
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock) as tell:
        for _ in range(3):
            tell(events.BlobChecked("ab", 100, "ok", total=3))
            clock.time += 1
    lines = stream.getvalue().splitlines()
    assert [line[:10] for line in lines] == ["1 of 3 fil", "3 of 3 fil"]
    again = io.StringIO()
    with Lines(again, clock) as tell:
        tell(events.BlobChecked("ab", 100, "ok", total=1))
        tell(events.Notice("a word in between"))
    assert [line[:10] for line in again.getvalue().splitlines()] == ["1 of 1 fil", "a word in "]


def test_lines_tell_the_whole_story() -> None:
    """The opening, warnings at once, troubles as counts, and the end are told."""
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock) as tell:
        for event in STORY:
            tell(event)
            clock.time += 1
    said = stream.getvalue().splitlines()
    assert said[0] == "Resuming run: 5 of 10 attachments are settled."
    assert "Warning: look at\\x1b[2J this" in said
    assert said[-1] == (
        "3 attachments, 1.0 KiB, 2 of 4 tickets listed, 1 failed, 1 missing, 1 retries, after 10 s"
    )
    assert "status 500" not in stream.getvalue()


def test_what_is_left_is_told_as_a_guess_and_only_after_a_while() -> None:
    """A share and a duration are "about"; the very first file tells nothing of the last."""
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock) as tell:
        tell(events.WorkExpected(0, 100, 100 * 1024))
        clock.time += 55
        for _ in range(70):
            tell(events.FileHandedOver("ab", 1024, "ok", total=100))
            clock.time += 1
    first, later, last = stream.getvalue().splitlines()
    assert first == "1 of 100 files, 1.0 KiB of 100.0 KiB, after 55 s, about 1 % done"
    assert later.endswith("after 1 min 55 s, about 61 % done, about 39 s left")
    assert last.startswith("70 of 100 files")


def test_after_the_end_nothing_is_left() -> None:
    """Whatever was not looked at, a run that has ended has no time left."""
    for cut in (False, True):
        stream, clock = io.StringIO(), Clock()
        with Lines(stream, clock) as tell:
            tell(events.RunStarted(1, "run"))
            tell(events.TicketsCounted(5))
            for number in range(1, 4):
                tell(events.TicketListed(number, 1, 1))
                tell(events.AttachmentSettled(number, number, "stored"))
                clock.time += 7
            tell(events.RunFinished(1, 3, cut=cut))
        assert stream.getvalue().splitlines()[-1].endswith("3 of 5 tickets listed, after 21 s")


def test_a_first_run_starts_plainly() -> None:
    """Without earlier work there is nothing to resume, and no figures yet for a minute."""
    stream = io.StringIO()
    with Lines(stream, Clock()) as tell:
        tell(events.RunStarted(1, "run"))
        tell(events.TicketsCounted(4))
        tell(events.TicketListed(1, 10, 10))
    assert stream.getvalue() == "Starting run.\n"


def test_a_ticket_listed_twice_is_told_once() -> None:
    """Tickets that change during a run are listed again, and counted once."""
    stream = io.StringIO()
    with Lines(stream, Clock()) as tell:
        tell(events.RunStarted(1, "run"))
        tell(events.TicketsCounted(1))
        tell(events.TicketListed(1, 0, 0))
        tell(events.TicketListed(1, 0, 0, again=True))
        tell(events.RunFinished(1, 0))
    assert "1 of 1 ticket listed" in stream.getvalue()


def test_json_of_a_plan_names_no_run() -> None:
    """A dry run makes none: the number that it would have had is the next one's."""
    stream = io.StringIO()
    with JsonLines(stream) as tell:
        tell(events.RunStarted(5, "plan"))
        tell(events.RunFinished(5, 0))
    assert [json.loads(line)["run"] for line in stream.getvalue().splitlines()] == [None, None]


def test_json_has_a_line_per_event() -> None:
    """Each line is an object with time, run, event name and the event's fields."""
    stream = io.StringIO()
    with JsonLines(stream, lambda: 1_767_323_045.5) as tell:
        for event in STORY:
            tell(event)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == len(STORY)
    assert lines[0] == {
        "ts": "2026-01-02T03:04:05Z",
        "run": 7,
        "event": "run_started",
        "kind": "run",
        "done": 5,
        "listed": 10,
        "resumes": True,
    }
    assert {line["run"] for line in lines} == {7}
    assert lines[5]["event"] == "attachment_settled"
    assert lines[5]["detail"] == "status 500"
    assert lines[-1]["counts"] == {"stored": 1}


def test_bars_on_a_terminal() -> None:
    """One bar is drawn, warnings are printed above it, failures are only counted."""
    stream = Terminal()
    with Bars(stream) as tell:
        for event in STORY:
            tell(event)
    said = stream.getvalue()
    assert "Resuming run: 5 of 10" in said
    assert "Warning: look at\\x1b[2J this\n" in said
    last = re.split(r"[\r\n]", said)
    (final,) = {line for line in last if "1 failed, 1 missing, 1 retries" in line}
    assert re.match(r"run: 100%\|.*3 attachments, 1\.0 KiB, 2 of 4 tickets listed", final)
    assert "status 500" not in said


def test_bars_leave_a_clean_screen() -> None:
    """What is printed after the bar stands on a line of its own, without a rest of the bar."""
    stream = Terminal()
    with Bars(stream) as tell:
        for event in STORY:
            tell(event)
    stream.write("Ledger\n")
    screen = shown_on_screen(stream.getvalue())
    assert [line.split(":")[0].rstrip() for line in screen[2:]] == ["run", "Ledger", ""]


def shown_on_screen(written: str) -> list[str]:
    """Do what a terminal does with line ends, carriage returns and cursor-up."""
    screen, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[A|[\r\n]|[^\x1b\r\n]+", written):
        if piece == "\n":
            row, column = row + 1, 0
            screen += [""] * (row + 1 - len(screen))
        elif piece == "\r":
            column = 0
        elif piece == "\x1b[A":
            row -= 1
        else:
            line = screen[row].ljust(column)
            screen[row] = line[:column] + piece + line[column + len(piece) :]
            column += len(piece)
    return [line.rstrip() for line in screen]


def test_the_present_pace_is_told_while_it_is_held_back() -> None:
    """Lines, bars and JSON say how many requests are made at once; lines and bars only if fewer."""
    slower = events.PaceChanged(3, 8, "slow")
    full = events.PaceChanged(8, 8, "recovered")
    listed = events.TicketListed(1, 1, 1)
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock) as tell:
        for event in (listed, slower, listed, full, listed):
            tell(event)
            clock.time += 61
    said = stream.getvalue().splitlines()
    assert ["3 of 8 at once" in line for line in said] == [False, True, True, False, False]
    assert not any("8 of 8" in line for line in said)
    terminal = Terminal()
    with Bars(terminal) as bars:
        bars(listed)
        bars(slower)
    assert re.search(r"run:.*1 ticket listed, 3 of 8 at once", terminal.getvalue())
    stream = io.StringIO()
    with JsonLines(stream, lambda: 0) as lines:
        lines(slower)
    told = json.loads(stream.getvalue())
    assert told["event"] == "pace_changed"
    assert (told["limit"], told["most"], told["reason"]) == (3, 8, "slow")


def test_bars_of_a_verification() -> None:
    """Reading blobs again has one bar, of files, with what is damaged."""
    stream = Terminal()
    with Bars(stream) as tell:
        tell(events.BlobChecked("a" * 64, 2048, "ok", 2))
        tell(events.BlobChecked("b" * 64, 0, "damaged", 2))
    assert re.search(r"files: 100%.*2 of 2 files, 2\.0 KiB, 1 damaged", stream.getvalue())
    assert "ticket" not in stream.getvalue()


@pytest.mark.parametrize(
    ("log_format", "stream", "kind"),
    [("text", io.StringIO(), Lines), ("text", Terminal(), Bars), ("json", Terminal(), JsonLines)],
)
def test_the_listener_fits_the_stream(log_format: str, stream: io.StringIO, kind: type) -> None:
    """Bars need a terminal; JSON is JSON everywhere."""
    assert type(progress(log_format, stream)) is kind


@pytest.mark.parametrize("kind", [Lines, JsonLines, Bars])
def test_a_listener_survives_the_loss_of_its_stream(
    kind: type[Lines] | type[JsonLines] | type[Bars],
) -> None:
    """A run does not end because the terminal or pipe behind stderr is gone."""

    class Gone(Terminal):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise OSError(5, "Input/output error")

    with kind(Gone()) as tell:
        for event in STORY:
            tell(event)


def test_a_dry_run_tells_what_it_found() -> None:
    """A dry run settles nothing: its lines count tickets, what they hold, and what is left."""
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock) as tell:
        tell(events.RunStarted(1, "plan"))
        tell(events.TicketsCounted(1000))
        for number in range(1, 101):
            clock.time += 1
            tell(events.TicketListed(number, attachments=3, todo=2, todo_bytes=1024))
    said = stream.getvalue().splitlines()
    assert said == [
        "Starting plan.",
        (
            "60 of 1,000 tickets listed, 180 attachments, 60.0 KiB to fetch, after 1 min 0 s, "
            "about 6 % done, about 15 min 40 s left"
        ),
    ]


def test_a_plan_gives_totals_and_an_eta_from_the_beginning() -> None:
    """With a plan the totals are true before all tickets are listed, and bytes count for time."""
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock) as tell:
        tell(events.RunStarted(1, "run"))
        tell(events.WorkExpected(tickets=500, attachments=1000, bytes=1024 * 1000))
        tell(events.TicketListed(1, attachments=90, todo=90, todo_bytes=90))
        for number in range(100):
            clock.time += 0.7
            tell(events.AttachmentSettled(number, 1, "stored", received=512, declared=512))
    assert stream.getvalue().splitlines()[-1] == (
        "86 of 1,000 attachments, 43.0 KiB of 1000.0 KiB, 1 of 500 tickets listed, "
        "after 1 min 0 s, about 5 % done, about 18 min 59 s left"
    )


def test_bars_have_the_totals_of_the_plan() -> None:
    """On a terminal the figures behind the bar are of what the plan says."""
    stream = Terminal()
    with progress("text", stream) as tell:
        tell(events.RunStarted(1, "run"))
        tell(events.WorkExpected(tickets=5, attachments=40, bytes=2048))
        tell(events.TicketListed(1, attachments=1, todo=1, todo_bytes=1024))
        tell(events.AttachmentSettled(1, 1, "stored", received=1024, declared=1024))
    said = stream.getvalue()
    assert "1 of 40 attachments, 1.0 KiB of 2.0 KiB, 1 of 5 tickets listed" in said


def test_bars_of_a_dry_run_are_of_tickets_alone() -> None:
    """Where nothing is settled the bar is as long as the share of tickets looked at."""
    stream = Terminal()
    with Bars(stream) as tell:
        tell(events.RunStarted(1, "plan"))
        tell(events.TicketsCounted(4))
        tell(events.TicketListed(1, attachments=3, todo=2, todo_bytes=1024))
    assert re.search(r"plan: +25%", stream.getvalue())
    assert "3 attachments, 1.0 KiB to fetch" in stream.getvalue()


def test_json_tells_how_far_it_is_once_a_minute() -> None:
    """The same figures as everywhere; a sign of life alone makes no line."""
    stream, clock = io.StringIO(), Clock()
    with JsonLines(stream, lambda: 0, clock) as tell:
        for event in STORY[:4]:
            tell(event)
        for _ in range(25):
            clock.time += 5
            tell(events.Tick())
    lines = [json.loads(line) for line in stream.getvalue().splitlines()][4:]
    assert [line["event"] for line in lines] == ["progress", "progress"]
    assert (lines[0]["tickets"], lines[0]["tickets_total"], lines[0]["run"]) == (1, 4, 7)
    assert lines[0]["ended"] is False


@pytest.mark.parametrize("kind", [Bars, Lines])
def test_a_pause_is_shown_with_its_end(kind: type[Bars | Lines]) -> None:
    """On a terminal and in a log: that the run waits, and when it looks again."""
    stream, clock = Terminal(), Clock()
    with kind(stream, clock) as tell:
        tell(events.TicketsCounted(4))
        tell(events.TicketListed(1, 1, 1))
        tell(events.Paused(80.0))
        clock.time += 61
        tell(events.Tick())
    assert "paused, next look in 19 s" in stream.getvalue()


@pytest.mark.parametrize("columns", ["40", "80"])
def test_a_wait_before_the_first_ticket_counts_down(
    columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the terminal is narrow: that it is quiet hours, before all figures."""
    monkeypatch.setenv("COLUMNS", columns)
    stream, clock = Terminal(), Clock()
    with Bars(stream, clock) as tell:
        tell(events.RunStarted(1, "run"))
        tell(events.Paused(7200.0, asked=True, reason="quiet_hours"))
        clock.time += 3600
        tell(events.Tick())
    assert "quiet hours" in stream.getvalue()
    if columns == "80":
        assert "quiet hours, going on in 1 h" in stream.getvalue()


SLOW = events.Slow(
    (
        events.Request(
            "attachment 12 of ticket 3", "a\u202e\n\x1b[2J" + "報" * 300, 11.0, 2048, 4096
        ),
        events.Request("tickets from row 5000", "", 10.0),
    )
)


def test_lines_name_what_is_slow_and_say_when_nothing_is_new() -> None:
    """Each minute: the oldest request, and no figure that the last line had."""
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock) as tell:
        for event in (events.TicketsCounted(4), events.TicketListed(1, 1, 1), SLOW):
            tell(event)
        for _ in range(2):
            clock.time += 60
            tell(events.Tick())
        tell(events.Slow(SLOW.requests[1:]))
        tell(events.AttachmentSettled(12, 3, "stored"))
        clock.time += 60
        tell(events.Slow())
    first, second, third, fourth = stream.getvalue().splitlines()
    assert first.startswith("after 0 s")
    assert re.match(
        r"0 attachments, 0 B, 1 of 4 tickets listed, after 1 min 0 s, .*, slow \(1 of 2\): "
        r"1 min 11 s for attachment 12 of ticket 3, 2\.0 KiB of 4\.0 KiB so far, "
        r'"a\\u202e\\n\\x1b\[',
        second,
    )
    assert len(second) < 300
    assert third.startswith("nothing new, after 2 min 0 s, ")
    assert "slow" not in fourth


def test_a_list_without_an_answer_is_named() -> None:
    """As long as it takes, its seconds go on."""
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock) as tell:
        tell(events.TicketListed(1, 1, 1))
        clock.time += 60
        tell(events.Slow(SLOW.requests[1:]))
        clock.time += 60
        tell(events.Tick())
    assert "slow: 1 min 10 s for tickets from row 5000, no answer yet" in stream.getvalue()


def test_a_slow_file_of_ours_has_its_size() -> None:
    """How far it has been read is not known, so nothing is said of that."""
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock) as tell:
        tell(events.Slow((events.Request("file 0123456789ab…", "", 61.0, None, 3 << 30),)))
    assert stream.getvalue().endswith("slow: 1 min 1 s for file 0123456789ab… of 3.0 GiB\n")


def test_the_time_on_a_bar_is_from_the_beginning() -> None:
    """Also where nothing could be shown at first, and before anything else is known."""
    stream, clock = Terminal(), Clock()
    with Bars(stream, clock) as tell:
        tell(events.RunStarted(1, "run"))
        clock.time += 100
        tell(SLOW)
    assert "run: [01:40, how much there is to do is not known yet]\n" in stream.getvalue()


def test_a_quiet_bar_is_none() -> None:
    """With -q a terminal shows warnings only."""
    stream = Terminal()
    with Bars(stream) as tell:
        tell.verbosity = -1
        for event in (*STORY, SLOW):
            tell(event)
    assert stream.getvalue() == "Warning: look at\\x1b[2J this\n"


def test_what_others_print_stands_above_the_bar() -> None:
    """A note or a line of a library's log breaks no bar, and both go on."""
    stream = Terminal()
    with click.Context(click.Command("run"), obj=App()), Bars(stream) as tell:
        tell(events.TicketListed(1, 1, 1))
        note("a word")
        LogLines(App(say=tell.say)).emit(
            logging.makeLogRecord({"msg": "odd\x1b[2J", "levelname": "ERROR"})
        )
    word, log, bar, *_ = shown_on_screen(stream.getvalue())
    assert (word, log, bar[:4]) == ("a word", "Error: odd\\x1b[2J", "run:")


def test_what_is_slow_goes_with_its_line() -> None:
    """What is printed after the bar finds no rest of it."""
    stream, clock = Terminal(), Clock()
    with Bars(stream, clock) as tell:
        tell(events.TicketListed(1, 1, 1))
        tell(SLOW)
        tell(events.Notice("a word"))
        tell(events.Tick())
    stream.write("Ledger\n")
    words, bar, *rest = shown_on_screen(stream.getvalue())
    assert (words, bar[:4], rest) == ("a word", "run:", ["Ledger", ""])


def test_json_names_what_is_slow_once_a_minute_and_no_file() -> None:
    """In its line of progress; names of files stay out of logs."""
    stream, clock = io.StringIO(), Clock()
    with JsonLines(stream, lambda: 0, clock) as tell:
        tell(SLOW)
        clock.time += 60
        tell(events.Tick())
    (line,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert line["slow"] == [
        {"what": "attachment 12 of ticket 3", "seconds": 71, "received": 2048, "size": 4096},
        {"what": "tickets from row 5000", "seconds": 70, "received": 0, "size": None},
    ]


def test_a_terminal_that_cannot_go_back_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """TERM=dumb, as in editors, has no cursor to move."""
    monkeypatch.setenv("TERM", "dumb")
    assert type(progress("text", Terminal())) is Lines


def test_the_bar_never_runs_backwards() -> None:
    """A count that turns out wrong takes the share away, not the bar back."""
    stream, clock = Terminal(), Clock()
    with Bars(stream, clock) as tell:
        tell(events.TicketsCounted(4))
        for ticket in range(12):
            tell(events.TicketListed(ticket, 0, 0))
            clock.time += 10
            tell(events.TicketsCounted(4 if ticket < 6 else 20))
    told = [int(share) for share in re.findall(r" (\d+)%\|", stream.getvalue())]
    assert told == sorted(told)
    assert "0%" not in stream.getvalue().rpartition("%|")[0][-4:]
