"""The dry run: what was listed as figures, text and JSON, and its schema."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.archive import (
    SIZES,
    Archive,
    Count,
    Department,
    Group,
    Listed,
    Outcome,
    State,
    TicketRow,
    open_dry,
)
from migrator.cli import COMMANDS
from migrator.hours import ALWAYS, Hours, windows
from migrator.plan import model
from migrator.plan import model as report
from migrator.plan import text as plan_text
from migrator.plan.model import Disk, Gaps, Pace, Plan, Requests, Verdicts
from migrator.sources.base import FastLook
from migrator.text import extension_of

MIB = 1 << 20
SCHEMA: dict[str, Any] = json.loads(
    (resources.files("migrator.plan") / "schema/plan-1.json").read_text("utf-8")
)


def fill(archive: Archive, listed: list[Listed], department: int = 1) -> int:
    """List attachments in one ticket each; gives the run."""
    run = archive.ledger.begin_run("plan", source="https://h", scope={})
    with archive.ledger.atomic():
        archive.ledger.put_departments([Department(1, "Support"), Department(2, "Sal\u202ees")])
        for one in listed:
            archive.ledger.record_ticket(run.id, TicketRow(one.ticket_id, department), [one])
    return run.id


def gate(extension: str) -> str:
    return {"exe": "block", "txt": "allow"}.get(extension, "review")


def survey(archive: Archive, run: int, **options: Any) -> report.Survey:
    return report.survey(
        archive, run, gate, **{"max_download": 25 * MIB, "leftovers": True, **options}
    )


ATTACHMENTS = st.lists(
    st.builds(
        Listed,
        st.integers(1, 10**6),
        st.integers(1, 5),
        st.just(1),
        st.text(max_size=5).map(lambda stem: stem.replace("\ud800", "")) | st.just("a.exe"),
        st.sampled_from(["text/plain", "", "x/y"]),
        st.sampled_from([0, 1, 1024, 1025, 26 * MIB, 51 * MIB, 2 << 30]),
        st.integers(-5, 2**40),
    ),
    max_size=25,
    unique_by=lambda one: one.id,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(ATTACHMENTS)
def test_the_figures_are_those_of_a_count_by_hand(listed: list[Listed]) -> None:
    """For any attachments: every break-down adds up to all, and the verdicts are those by name."""
    with open_dry(Path("/nowhere")) as archive:
        got = survey(archive, fill(archive, listed))
    size = sum(one.declared_size for one in listed)
    assert got.listed == got.todo == Count(len(listed), size)
    assert got.stored == Count()
    for groups in (got.departments, got.types, got.extensions, got.years, got.sizes):
        assert sum(one.n for one in groups) == len(listed)
        assert sum(one.bytes for one in groups) == size
    for name in ("allow", "review", "block"):
        wanted = [one for one in listed if gate(extension_of(one.filename)) == name]
        assert getattr(got.verdicts, name).n == len(wanted)
    assert got.verdicts.too_large.n == sum(one.declared_size > 25 * MIB for one in listed)
    assert got.verdicts.oversize.n == sum(one.declared_size > 50_000_000 for one in listed)
    assert got.verdicts.empty.n == sum(not one.declared_size for one in listed)
    assert got.verdicts.odd_name.n == sum(model.odd(one.filename) for one in listed)
    assert got.verdicts.no_extension.n == sum(not extension_of(one.filename) for one in listed)
    for name, rows in got.examples.items():
        assert len(rows) == min(getattr(got.verdicts, name).n, report.EXAMPLES)
    blocked = sorted(one.id for one in listed if gate(extension_of(one.filename)) == "block")
    assert [row.id for row in got.examples.get("block", ())] == blocked[: report.EXAMPLES]
    assert [one.key for one in got.sizes] == list(SIZES)
    years = {
        str(datetime.fromtimestamp(one.created_at, UTC).year)
        for one in listed
        if 0 < one.created_at <= 253_402_300_799
    }
    assert {one.key for one in got.years} - {""} == years


def one(number: int, name: str = "a.txt", size: int = 10, ticket: int = 1) -> Listed:
    return Listed(number, ticket, 1, name, "text/plain", size, 0)


def test_only_what_this_run_listed_is_told(tmp_path: Path) -> None:
    """A narrowed dry run does not speak of the rest; a whole one adds what was left unfinished."""
    with open_dry(tmp_path / "archive") as archive:
        fill(archive, [one(1), one(2)])
        archive.ledger.settle(Outcome(2, State.GONE, "not_found", "x"))
        run = fill(archive, [one(3, ticket=2)], department=2)
        narrow, whole = survey(archive, run, leftovers=False), survey(archive, run)
    assert narrow.listed == Count(1, 10)
    assert [one.title for one in narrow.departments] == ["Sal\u202ees"]
    assert whole.todo == Count(2, 20)


def test_what_is_held_and_what_is_gone_is_told_apart(tmp_path: Path) -> None:
    """Stored attachments count with the bytes and the type that they have, deleted ones do not."""
    with open_dry(tmp_path / "archive") as archive:
        fill(archive, [one(1, size=99), one(2), one(3)])
        run = fill(archive, [one(1, size=99), one(2), one(3)])
        blob = {"sha256": "a" * 64, "size": 5, "mime_type": "image/png"}
        archive.ledger.settle(Outcome(1, State.STORED, **blob))  # type: ignore[arg-type]
        archive.ledger.settle(Outcome(2, State.STORED, **blob))  # type: ignore[arg-type]
        archive.ledger.mark_deleted(2, "x")
        archive.ledger.settle(Outcome(3, State.MISSING, "source_lost_file", "x"))
        got = survey(archive, run)
    assert (got.listed, got.stored, got.todo) == (Count(2, 15), Count(1, 5), Count())
    assert {one.key for one in got.types} == {"image/png", "text/plain"}


def test_the_trash_and_strange_departments_have_titles(tmp_path: Path) -> None:
    """Whatever department a ticket is in, the report names it."""
    with open_dry(tmp_path / "archive") as archive:
        run = archive.ledger.begin_run("plan", source="https://h", scope={}).id
        for number in (0, 9):
            row = TicketRow(number + 1, number)
            archive.ledger.record_ticket(run, row, [one(number + 1, ticket=number + 1)])
        got = survey(archive, run)
    assert {one.title for one in got.departments} == {"Trash", "Department 9"}


def test_gaps_are_told_where_something_is_configured(tmp_path: Path) -> None:
    """Without a map or a queue nothing is said; with one, what it leaves out is."""
    with open_dry(tmp_path / "archive") as archive:
        run = fill(archive, [one(number, ticket=number) for number in range(1, 16)])
        assert survey(archive, run).gaps == Gaps()
        archive.access.apply_config({2: (7, "Sales")}, {1: "A-1", 2: "A-2"})
        got = survey(archive, run).gaps
    assert (got.numbers, got.first) == (13, tuple(range(3, 13)))
    assert got.queues is not None
    assert [one.key for one in got.queues] == ["1"]


def test_a_hostile_helpdesk_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of types do not fill the memory or the report: what is too much goes together."""
    monkeypatch.setattr(report, "MOST_KEYS", 10)
    with open_dry(tmp_path / "archive") as archive:
        run = fill(archive, [one(number, f"a.{number}") for number in range(1, 100)])
        got = survey(archive, run)
    assert len(got.extensions) == 11
    assert next(one for one in got.extensions if one.key == report.OTHERS).n == 89
    assert got.verdicts.review.n == 99


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a/b.txt",
        "a\\b.txt",
        "..",
        "a.",
        " a.txt",
        ".hidden",
        "a.txt ",
        "con",
        "CON.txt",
        "lpt1.x.y",
        'a"b',
        "a:b",
        "a\nb",
        "a\u202eb",
        "\u200b.txt",
        "x" * 256,
        "ü" * 128,
    ],
)
def test_odd_names_are_told(name: str) -> None:
    """What cannot be a file's name somewhere, or does not look like what it is."""
    assert model.odd(name)


@pytest.mark.parametrize(
    "name",
    [
        "a.txt",
        "Rechnung Müller.pdf",
        "фото.zip",
        "Mu\u0308ller.txt",
        "console.log",
        "a b.c",
        "x" * 255,
    ],
)
def test_plain_names_are_not_odd(name: str) -> None:
    """Names of any language are fine."""
    assert not model.odd(name)


# Text and JSON

PLAN = Plan(
    source="https://help.example.com",
    made_at=1_767_323_045,
    ended="",
    tickets=10_000,
    tickets_total=10_000,
    listed=Count(20_000, 34 << 30),
    todo=Count(18_000, 30 << 30),
    stored=Count(2_000, 4 << 30),
    verdicts=Verdicts(
        25 * MIB, allow=Count(15_000, 20 << 30), review=Count(5_000, 14 << 30), odd_name=Count(3, 9)
    ),
    departments=(Group("1", "Support", 20_000, 34 << 30),),
    types=tuple(Group(f"x/{n}", f"x/{n}\x1b[2J", 1, 1) for n in range(25)),
    extensions=(),
    years=(Group("2014", "2014", 20_000, 34 << 30),),
    sizes=(Group("0", "empty", 0, 0), Group("1K", "up to 1 KiB", 20_000, 34 << 30)),
    gaps=Gaps(17, (3, 9), (Group("2", "Sales\n", 5, 5),)),
    unlisted=0,
    short=0,
    requests=Requests(200, 10_000, 18_000, 10_000, 10_150),
    disk=Disk(30 << 30, 26 << 30, "names", 0, 512 << 30),
    pace=Pace(8, 10_000, 1000.0, 20, 40 * MIB, 30.0, 18_600.0, 14_400.0, 25_200.0),
)


def text(plan: Plan = PLAN, **changes: Any) -> str:
    return "".join(plan_text.to_text(replace(plan, **changes)))


def test_the_text_begins_with_what_is_decided_by() -> None:
    """Hours with their spread, disk and requests come first; what is to be done, before lists."""
    told = text()
    assert told.splitlines()[:5] == [
        "Dry run of https://help.example.com: nothing was written",
        "",
        "Estimate: 5 h 10 min (4 h 0 min to 7 h 0 min) with 8 requests at once",
        (
            "Disk: about 26.0 GiB more for contents (30.0 GiB if equal files were kept twice; "
            "estimated by names and sizes), 512.0 GiB are free"
        ),
        (
            "Requests: 38,200 (200 pages, 10,000 lists, 18,000 attachments, 10,000 threads); this "
            "dry run made 10,150"
        ),
    ]
    assert "17 tickets: 3, 9, ..." in told
    assert told.index("17 tickets") < told.index("By department")
    assert "(5 others)" in told
    assert "over 50 MB" not in told, "what there is none of is left out"
    assert text(verdicts=Verdicts(1, oversize=Count(2, 2))).count("over 50 MB") == 1


def test_the_answers_add_up_to_what_is_listed() -> None:
    """Files of the knowledge base get no answer of the API: they have a line of their own."""
    assert "not served" not in text()
    assert re.search(r" 7 +2\.0 KiB  not served", text(listed=Count(20_007, (34 << 30) + 2048)))


NIGHTS = Hours(windows("22:00-06:00"), zone=ZoneInfo("Europe/Berlin"))
NOON = datetime(2026, 3, 28, 12, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()


def test_the_end_is_by_the_windows_that_are_set() -> None:
    """In text and JSON, on the clock of its zone: the night to summer time has seven hours."""
    plan = replace(PLAN, schedule=report.schedule(NIGHTS, 8 * 3600, 0, at=NOON))
    says = (
        "With kayako.windows, a run that begins now makes its first request Sat 2026-03-28 22:00 "
        "and ends about Sun 2026-03-29 23:00 (time of Europe/Berlin), in 1 d 10 h."
    )
    assert "".join(plan_text.to_text(plan)).splitlines()[3] == says
    assert json.loads("".join(plan_text.to_json(plan)))["schedule"] == {
        "settings": ["kayako.windows"],
        "first_request_at": "2026-03-28T21:00:00Z",
        "ends_at": "2026-03-29T21:00:00Z",
        "seconds": 34 * 3600,
    }
    assert "When to run: it may take 1 d 10 h." in "".join(plan_text.to_text(plan))


def test_what_nobody_can_foresee_is_told_as_such() -> None:
    """A bandwidth that is too low for the helpdesk, or one that makes no difference."""
    slow = Hours(rates=((ALWAYS, 1),))
    assert "a run would take more than 10 years" in text(
        schedule=report.schedule(slow, 3600, 1 << 40, at=NOON)
    )
    both = replace(NIGHTS, rates=((ALWAYS, 1 << 20),))
    told = text(schedule=report.schedule(both, 3600, 1024, at=NOON + 11 * 3600))
    assert "With kayako.windows and kayako.bytes_per_second, a run that begins now ends" in told
    assert report.schedule(Hours(), 3600, 0) is None
    assert report.schedule(NIGHTS, None, 0) is None


def test_nothing_of_the_helpdesk_controls_the_terminal() -> None:
    """Titles and types are shown with their control characters escaped."""
    told = text(ended="cut\x1b[2J", source="https://\u202ehelp")
    assert "\x1b" not in told
    assert "\u202e" not in told
    assert "Sales\\n" in told


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"limits": ("department Sales",)}, "Part of the helpdesk: department Sales.\n"),
        ({"ended": "interrupted", "tickets": 7}, "INCOMPLETE: interrupted. Only 7 of 10,000"),
        (
            {"ended": "interrupted", "tickets": 7, "tickets_total": None},
            "Only 7 tickets were seen",
        ),
        ({"unlisted": 2, "short": 3}, "2 tickets could not be listed, 3 are counted"),
        ({"fast": FastLook(fallback="no sort")}, "Everything was listed: no sort."),
        ({"fast": FastLook(9000, 900)}, "only the 900 of 9,000 tickets"),
        (
            {"fast": FastLook(9000, 900, 9, 1200, 30)},
            "0 of 30 others that were looked at had attachments; hardly more than 10% of all do.",
        ),
        (
            {"fast": FastLook(9000, 900, 9, 1200, 30, 2, 2)},
            "these figures lack about 80 attachments",
        ),
        (
            {"disk": Disk(100, 90, "sample", 12, 50)},
            "12 compared pairs), 50 B are free: NOT ENOUGH",
        ),
        ({"disk": Disk(100, 100, "names", 0, None)}, "Disk: about 100 B more for contents\n"),
        (
            {"disk": Disk(100, 100, bucket="s3://files/of\x1b")},
            "Bucket s3://files/of\\x1b: about 100 B more for contents; how much room it has is not",
        ),
        ({"pace": replace(PLAN.pace, estimated_seconds=None)}, "No estimate"),
        ({"pace": replace(PLAN.pace, high_seconds=14_400.0)}, "Estimate: 5 h 10 min with 8"),
    ],
)
def test_the_text_tells_what_is_special(changes: dict[str, Any], says: str) -> None:
    """What makes the figures less than the whole truth is told, in words."""
    assert says in text(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ended": "interrupted", "tickets_total": None, "gaps": Gaps()},
        {"fast": FastLook(1, 2, 3, 6, 4, 5, 4)},
        {"fast": FastLook(fallback="no sort")},
        {"pace": Pace(1, 0, 0, 0, 0, 0, None), "disk": Disk()},
        {"schedule": report.Schedule(NIGHTS, NOON, NOON + 9, NOON + 99)},
        {"schedule": report.Schedule(NIGHTS, NOON, NOON, None)},
    ],
)
def test_the_json_is_as_its_schema_says(changes: dict[str, Any]) -> None:
    """Any plan is valid, and holds no key that the schema does not explain."""
    plan = replace(PLAN, **changes)
    told = json.loads("".join(plan_text.to_json(plan)))
    jsonschema_rs.validator_for(SCHEMA).validate(told)
    _explained(told, SCHEMA)
    assert told["to_fetch"] == {"attachments": plan.todo.n, "bytes": plan.todo.bytes}
    assert told["complete"] is not bool(changes.get("ended"))


def _explained(value: Any, schema: Mapping[str, Any]) -> None:
    """See that every key of a value has a description in its schema."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, dict):
        assert value.keys() == schema["properties"].keys()
        for key, inner in value.items():
            assert schema["properties"][key].keys() & {"description", "const"}, key
            _explained(inner, schema["properties"][key])
    elif isinstance(value, list):
        for inner in value:
            _explained(inner, schema["items"])


def test_the_schema_refuses_what_is_wrong() -> None:
    """It is no schema that takes everything."""
    validator = jsonschema_rs.validator_for(SCHEMA)
    told = plan_text.document(PLAN)
    assert validator.is_valid(told)
    for key in told:
        assert not validator.is_valid({**told, key: [[]]}), key
        assert not validator.is_valid({name: told[name] for name in told if name != key}), key


def test_every_fact_of_the_model_is_told() -> None:
    """A field that is added to the model is added to the JSON."""
    told = plan_text.document(PLAN)
    assert len(told["pace"]) == len(fields(Pace))  # type: ignore[arg-type]
    assert len(told["requests"]) == len(fields(Requests)) + 1  # type: ignore[arg-type]
    assert len(told["disk"]) == len(fields(Disk))  # type: ignore[arg-type]
    assert len(told["tickiti"]) == len(fields(Verdicts))  # type: ignore[arg-type]


def listed_under(said: str, title: str) -> list[str]:
    """Give the numbered lines below a title."""
    _, _, rest = said.partition(f"\n{title}\n")
    return re.findall(r"^  \d+\. (.+)$", rest.partition("\n\n")[0], re.MULTILINE)


def test_it_says_what_to_decide_and_what_to_do_next() -> None:
    """Only what there is to decide, the most urgent first; each with a command or a key."""
    disk = replace(PLAN.disk, free=1)
    pace = replace(PLAN.pace, high_seconds=9 * 3600.0)
    verdicts = replace(PLAN.verdicts, review=Count(2, 5), block=Count(), too_large=Count())
    said = text(disk=disk, pace=pace, verdicts=verdicts, beyond="chats", gaps=Gaps(numbers=3))
    decide = listed_under(said, "What to decide")
    assert [one.partition(":")[0] for one in decide[:4]] == [
        "Where to keep the files",
        "When to run",
        "Which types to trust",
        "Which ticket of Tickiti is which",
    ]
    assert decide[4].startswith("Who keeps what no API gives")
    assert len(decide) == 5
    following = listed_under(said, "What to do next")
    assert all("`" in one or "exit code" in one for one in (*decide, *following))
    commands = re.findall(r"`migrator (\w+)", "".join((*decide, *following)))
    assert {"run", "schedule", "verify", "audit"} <= set(commands) <= COMMANDS.keys()


def test_nothing_to_decide_is_no_heading_without_lines() -> None:
    """A small, clean helpdesk leaves the next steps alone."""
    verdicts = replace(PLAN.verdicts, review=Count(), block=Count(), too_large=Count())
    pace = replace(PLAN.pace, high_seconds=60.0, estimated_seconds=30.0)
    disk = replace(PLAN.disk, free=None)
    said = text(verdicts=verdicts, pace=pace, gaps=Gaps(), beyond="", disk=disk)
    assert "What to decide" not in said
    assert len(listed_under(said, "What to do next")) >= 3


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"ended": "the source went away"}, "cut short. Run `migrator plan` again."),
        ({"limits": ("only one department",)}, "Run `migrator plan` without these options."),
        ({"unlisted": 2, "short": 1}, "Look at 3 tickets that could not be seen."),
        ({"todo": Count()}, "Nothing listed here is left to fetch."),
    ],
)
def test_what_was_not_seen_comes_first(changes: dict[str, Any], step: str) -> None:
    """A plan that is not whole does not send anybody on as if it were."""
    assert step in listed_under(text(**changes), "What to do next")[0]


def test_a_count_that_is_too_low_is_not_repeated() -> None:
    """A helpdesk that counts fewer tickets than it lists is not quoted."""
    assert "of 1 tickets" not in text(tickets=5, tickets_total=1)
