"""EVENTS.md and the lines of ``--log-format json`` say the same."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import migrator
from migrator import events
from migrator.cli.progress import JsonLines
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.sandbox.kayako.options import ALL
from tests.cli.conftest import Cli

TEXT = (Path(migrator.__file__).parent / "EVENTS.md").read_text("utf-8")
TOLD = [
    one
    for one in vars(events).values()
    if isinstance(one, type)
    and issubclass(one, events.Event)
    and one not in (events.Event, events.Tick, events.Slow)  # `progress` has what they tell
]
IS: dict[str, Any] = {
    "integer": lambda value: type(value) is int,
    "number": lambda value: isinstance(value, int | float),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "null": lambda value: value is None,
}


def table(text: str) -> dict[str, str]:
    """Give the types of a table of keys."""
    return dict(re.findall(r"^\| `(\w+)` \| ([\w ]+) \| .+ \|$", text, re.MULTILINE))


HEAD, *SECTIONS = TEXT.split("\n## ")
DOCUMENTED = {one.split("`")[1]: table(one) for one in SECTIONS}
ALWAYS = table(HEAD)


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def assert_documented(line: dict[str, Any]) -> None:
    """Hold a line against the documentation: its keys, all of them, and the types of values."""
    expected = ALWAYS | DOCUMENTED[line["event"]]
    assert set(line) == set(expected), line
    for key, value in line.items():
        assert any(IS[kind](value) for kind in expected[key].split(" or ")), (key, line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["ts"])


def lines(text: str) -> list[dict[str, Any]]:
    """Read lines of JSON."""
    return [json.loads(line) for line in text.splitlines()]


def test_every_event_is_documented_and_nothing_else() -> None:
    """An event without its section, or a section without its event, is a mistake."""
    assert set(ALWAYS) == {"ts", "run", "event"}
    assert set(DOCUMENTED) == {snake(one.__name__) for one in TOLD} | {"error", "progress"}


JSON_TYPES = {
    "int": "integer",
    "int | None": "integer or null",
    "str": "string",
    "str | None": "string or null",
    "float": "number",
    "float | None": "number or null",
    "bool": "boolean",
    "dict[str, int]": "object",
}


@pytest.mark.parametrize("kind", TOLD, ids=lambda kind: snake(kind.__name__))
def test_every_key_has_its_type(kind: type[events.Event]) -> None:
    """Keys and types are those of the record; the run is told by its own key."""
    fields = {one.name: JSON_TYPES[str(one.type)] for one in dataclasses.fields(kind)}
    fields.pop("run_id", None)
    assert DOCUMENTED[snake(kind.__name__)] == fields


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(0, 2**53),
    "int | None": st.none() | st.integers(0, 2**53),
    "str": st.text(),
    "str | None": st.none() | st.text(),
    "float": st.floats(0, 1e6),
    "float | None": st.none() | st.floats(0, 1e6),
    "bool": st.booleans(),
    "dict[str, int]": st.dictionaries(st.text(), st.integers()),
}
EVENTS = st.one_of(
    *(
        st.builds(kind, **{one.name: VALUES[str(one.type)] for one in dataclasses.fields(kind)})
        for kind in TOLD
    )
)


@settings(max_examples=50, deadline=None)
@given(st.lists(EVENTS, max_size=20))
def test_progress_is_documented(story: list[events.Event]) -> None:
    """Once a minute comes a line of how far it is, whatever has happened."""
    stream = io.StringIO()
    times = iter(range(0, 10**9, 100))
    with JsonLines(stream, lambda: 1, lambda: next(times)) as tell:
        for event in story:
            tell(event)
        tell(events.Tick())
    assert_documented(lines(stream.getvalue())[-1])


@settings(deadline=None, max_examples=150)
@given(st.lists(EVENTS, max_size=5))
def test_every_event_is_one_documented_line(told: list[events.Event]) -> None:
    """Whatever texts are in it: one line of ASCII each, of documented keys and types."""
    stream = io.StringIO()
    with JsonLines(stream) as tell:
        tell.verbosity = 1
        for event in [*told, events.Tick()]:
            tell(event)
    assert stream.getvalue().isascii()
    found = lines(stream.getvalue())
    assert len(found) == len(told)
    for line in found:
        assert_documented(line)


@pytest.mark.slow
def test_a_run_tells_nothing_undocumented(cli: Cli, tmp_path: Path) -> None:
    """From the first line to the last, with the run's own number; so do all that read again."""
    options = SandboxOptions(tickets=12, faults=frozenset({ALL}), latency=0)
    with SandboxServer(Helpdesk.build(options)) as server:
        config = tmp_path / "config.toml"
        config.write_text(f"{server.config}attempts = 2\n")
        config.chmod(0o600)
        seen = set()
        for argv in (
            ["plan"],
            ["run"],
            ["run"],
            ["sync"],
            ["verify"],
            ["audit"],
            ["handover", "h"],
        ):
            result = cli("--log-format", "json", *argv)
            for line in lines(result.err):
                assert_documented(line)
                seen.add(line["event"])
                if argv[0] in ("run", "sync"):
                    assert isinstance(line["run"], int) or line["event"] == "notice"
    assert {"run_started", "ticket_listed", "attachment_settled", "run_finished"} <= seen
    assert {"blob_checked", "attachment_audited", "file_handed_over"} <= seen


@pytest.mark.parametrize(
    "argv",
    [
        ("--log-format", "json", "--bogus"),
        ("--bogus", "--log-format", "json"),
        ("--bogus", "--log-format=json"),
        ("--log-format=json", "nonsense"),
        ("nonsense", "--log-format=json"),
        ("run", "--log-format", "json"),
        ("--log-format", "json", "run", "--bogus"),
        ("--log-format", "json", "source"),
        ("--log-format", "text", "--log-format", "json"),
        ("--log-format", "json", "--config"),
    ],
)
def test_mistakes_of_usage_are_one_line(cli: Cli, argv: tuple[str, ...]) -> None:
    """Wherever the option stands, and whatever is wrong: exit 2 and one documented line."""
    result = cli(*argv)
    (line,) = lines(result.err)
    assert_documented(line)
    assert (result.code, result.out, line["event"], line["exit"]) == (2, "", "error", 2)


@pytest.mark.parametrize(
    "argv",
    [
        ("--bogus",),
        ("--log-format", "xml"),
        ("--log-format",),
        ("--log-format", "json", "--log-format", "text", "--bogus"),
        ("source", "upload", "--", "--log-format", "json"),
    ],
)
def test_nobody_gets_json_who_did_not_ask(cli: Cli, argv: tuple[str, ...]) -> None:
    """Without the option, with another value, or behind the end of options: plain text."""
    result = cli(*argv)
    assert (result.code, result.err.startswith("Error: ")) == (2, True)


def test_what_is_told_after_a_run_belongs_to_it(cli: Cli, tmp_path: Path) -> None:
    """An error that ends a run carries the run's number; before any run there is none."""
    (tmp_path / "config.toml").write_text(
        '[kayako]\nurl = "http://127.0.0.1:9/api"\napi_key = "a"\nsecret_key = "b"\nattempts = 1\n'
    )
    told = lines(cli("--log-format", "json", "run").err)
    assert told[-1]["event"] in ("error", "notice", "run_finished")
    runs = [line["run"] for line in told if line["event"] != "notice"]
    assert set(runs) <= {1}
    (line,) = lines(cli("--log-format", "json", "init", "--bogus").err)
    assert line["run"] is None
