"""Times of the week: read as people write them, and kept by the clock on the wall."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from migrator.config import size
from migrator.hours import Hours, rates, windows

BERLIN = ZoneInfo("Europe/Berlin")
NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
GAP = datetime(2026, 3, 29, 0, tzinfo=UTC).timestamp()
"""An hour before clocks in Berlin go from 02:00 to 03:00."""
FOLD = datetime(2026, 10, 25, 0, tzinfo=UTC).timestamp()
"""An hour before they go from 03:00 to 02:00."""


def at(text: str, zone: ZoneInfo = BERLIN) -> float:
    """Give the Unix seconds of a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def minutes(text: str) -> set[int]:
    """Give the minutes of the week that are in the windows."""
    return {m % 10_080 for begin, end in windows(text) for m in range(begin, end)}


def span(first: int, hours: int, length: int) -> set[int]:
    """Give the minutes of a range that begins on a day, which may pass into the next week."""
    begin = first * 1440 + hours * 60
    return {m % 10_080 for m in range(begin, begin + length)}


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("Mon 19:00-07:00", ["MON 19:00-7:00", " monday  19:00 - 07:00 ", "mon 19:00\u201307:00"]),
        ("Sat Sun", ["Sat-Sun", "Sat, Sun", "Sat,Sun", "sun, sat", "Sat 00:00-24:00, Sun"]),
        ("Fri Sat Sun Mon", ["Fri-Mon"]),
        ("Mon Wed 08:00-09:00", ["Mon,Wed 08:00-09:00", "Mon 08:00-09:00, Wed 08:00-09:00"]),
        ("Mon 06:00-07:00 19:00-20:00", ["Mon 06:00-07:00, Mon 19:00-20:00"]),
        ("19:00-24:00", ["Mon-Sun 19:00-24:00", "19:00-00:00"]),
        ("Sat-Sun, Mon-Fri 19:00-07:00", ["Mon-Fri 19:00-07:00, Sat-Sun"]),
    ],
)
def test_one_meaning_can_be_written_in_several_ways(text: str, others: list[str]) -> None:
    """Case, spaces, lists and the order change nothing."""
    assert all(minutes(other) == minutes(text) for other in others)


def test_a_night_belongs_to_the_day_it_begins_on() -> None:
    """Friday's ends on Saturday, and Monday has none before dawn."""
    found = minutes("Mon-Fri 19:00-07:00")
    assert found == set().union(*(span(day, 19, 720) for day in range(5)))
    assert minutes("Sun 19:00-07:00") == span(6, 19, 720)


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "Mon,", "x", "Mo", "Mon-", "Mon 19-07", "Mon 25:00-07:00", "Mon 19:60-20:00"),
        *("Mon 24:00-07:00", "Mon 07:00-24:01", "Mon 07:00-07:00", "Mon 07:00-08:00 Tue"),
        *(
            "Mon, Wed 19:00-23:00",
            "Mon 06:00-08:00, 19:00-23:00",
            "06:00-08:00, Sat",
            "\u0663:00-4:00",
        ),
        "Mon " * 1000,
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    """What has two meanings is not guessed: it would ask the helpdesk when it must not."""
    with pytest.raises(ValueError, match=r"Mon-Fri 19:00-07:00, Sat-Sun|longer than"):
        windows(text)


@given(st.text(max_size=40) | st.text("MonTueSat0123456789:-, else MiB/s", max_size=30))
def test_no_text_does_anything_worse(text: str) -> None:
    """Whatever stands there is read or refused."""
    for read in (windows, lambda text: rates(text, size)):
        with suppress(ValueError):
            read(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 MiB", [2 << 20] * 3),
        ("200KiB/s", [200 << 10] * 3),
        ("Mon-Fri 07:00-19:00 200 KiB, else 5 MiB", [200 << 10, 5 << 20, 5 << 20]),
        ("Mon-Fri 07:00-19:00 200 KiB", [200 << 10, 0, 0]),
        ("Sat 1 MB, 08:00-20:00 2 MB, else unlimited", [2_000_000, 0, 1_000_000]),
    ],
)
def test_a_rate_changes_with_the_clock(text: str, expected: list[int]) -> None:
    """The first that fits counts, at noon on Monday, that night, and at noon on Saturday."""
    hours = Hours((), rates(text, size), BERLIN)
    moments = "2026-06-01T12:00", "2026-06-01T22:00", "2026-06-06T12:00"
    assert [hours.rate(at(moment)) for moment in moments] == expected


@pytest.mark.parametrize("text", ["fast", "5", "Mon 5", "else 5 MiB, Mon 1 KiB", "1 KiB,, 2 KiB"])
def test_other_rates_are_refused_with_an_example(text: str) -> None:
    """So is a part behind the one for all other times, which nothing would reach."""
    with pytest.raises(ValueError, match="Mon-Fri 07:00-19:00 200 KiB, else 5 MiB"):
        rates(text, size)


def test_a_run_waits_in_words_for_the_next_window() -> None:
    """The day and the minute are those of the time zone that is configured."""
    hours = Hours(windows("Mon-Fri 19:00-07:00, Sat-Sun"), zone=BERLIN)
    halt = hours.halt(at("2026-06-01T12:00:30"))
    assert halt == (
        "quiet_hours",
        "waiting until Mon 19:00, quiet hours (time of Europe/Berlin)",
        7 * 3600 - 30,
    )
    assert hours.halt(at("2026-06-01T19:00")) is None


@pytest.fixture
def here() -> Iterator[None]:
    """Put this machine to Berlin."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("here")
def test_without_a_zone_it_is_the_clock_of_this_machine() -> None:
    """The same moments, and no zone in the words."""
    text = windows("Mon-Fri 19:00-07:00, Sat-Sun")
    told = Hours(text).halt(at("2026-06-01T12:00"))
    assert told is not None
    assert told.text == "waiting until Mon 19:00, quiet hours"
    for begin in (GAP - 86_400, FOLD - 86_400):
        for moment in range(int(begin), int(begin) + 3 * 86_400, 1234):
            assert Hours(text).opens(moment) == Hours(text, zone=BERLIN).opens(moment)


def spelled(day: int, begin: int, length: int) -> str:
    """Write one range down."""
    end = (begin + length) % 1440
    return f"{NAMES[day]} {begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"


SPANS = st.builds(spelled, st.integers(0, 6), st.integers(0, 1439), st.integers(1, 1439))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(SPANS, min_size=1, max_size=4).map(", ".join),
    st.sampled_from([GAP, FOLD, GAP + 86_400 * 90]),
    st.integers(-2 * 86_400, 86_400),
    st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
@example("Sun 02:00-03:00", GAP, 0, "Europe/Berlin")
@example("Sun 02:00-03:00", FOLD, 0, "Europe/Berlin")
@example("Sun 02:30-02:45", FOLD, 0, "Europe/Berlin")
def test_summer_time_as_the_clock_on_the_wall_shows_it(
    text: str, near: float, offset: int, name: str
) -> None:
    """Each next change is where looking at every minute finds it."""
    zone = ZoneInfo(name)
    hours, inside, start = Hours(windows(text), zone=zone), minutes(text), near + offset

    def plain(moment: float) -> bool:
        local = datetime.fromtimestamp(moment, zone)
        return local.weekday() * 1440 + local.hour * 60 + local.minute in inside

    every = [
        start,
        *(60 * minute for minute in range(int(start // 60) + 1, int(start // 60) + 2880)),
    ]
    assert [hours.open(moment) for moment in every] == [plain(moment) for moment in every]
    opens = next((moment for moment in every if plain(moment)), None)
    closes = next((moment for moment in every if not plain(moment)), None)
    assert opens is None or hours.opens(start) == opens
    assert closes is None or hours.closes(start) == closes


def test_work_ends_when_its_windows_have_been_long_enough() -> None:
    """Twelve hours at night, and a slow line by day."""
    start = at("2026-06-01T18:00")
    night = Hours(windows("Mon-Fri 19:00-07:00"), zone=BERLIN)
    assert Hours().ends(start, 3600, 0) == start + 3600
    assert night.ends(start, 13 * 3600, 10**9) == at("2026-06-02T20:00")
    slow = Hours((), rates("Mon-Fri 07:00-19:00 1 kB, else 2 kB", size), BERLIN)
    # An hour of 1,000 bytes a second, then one of 2,000.
    assert slow.ends(start, 60, 3600 * 3000) == pytest.approx(start + 7200)
    assert Hours((), rates("1 b", size), BERLIN).ends(start, 0, 1 << 62) is None
