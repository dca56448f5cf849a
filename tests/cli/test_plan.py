"""``plan`` and ``run --plan`` against the sandbox, as a user calls them."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jsonschema_rs
import lxml.html
import pytest

from migrator.archive import open_beside
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.sources.kayako.client import Client
from tests.cli.conftest import NO_ARTICLES, Cli

Serve = Callable[..., tuple[Helpdesk, SandboxServer]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a sandbox and write a configuration that fits it."""
    servers: list[SandboxServer] = []

    def start(more: str = "", **options: object) -> tuple[Helpdesk, SandboxServer]:
        desk = Helpdesk.build(SandboxOptions(**{**NO_ARTICLES, **options}))  # type: ignore[arg-type]
        server = SandboxServer(desk)
        server.start()
        servers.append(server)
        config = tmp_path / "config.toml"
        config.write_text(f"{server.config}{more}")
        config.chmod(0o600)
        return desk, server

    yield start
    for server in servers:
        server.stop()


def left_behind(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()} - {"config.toml"}


def valid(text: str) -> dict[str, object]:
    """Read the JSON of a plan, which must be as its schema says."""
    schema = (resources.files("migrator.plan") / "schema/plan-1.json").read_text("utf-8")
    told: dict[str, object] = json.loads(text)
    jsonschema_rs.validator_for(json.loads(schema)).validate(told)
    return told


def test_three_formats_tell_the_same(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    """Text, JSON and HTML name the same number of attachments; --output writes a private file."""
    desk, _ = serve(tickets=20, faults=frozenset({"all"}))
    number = f"{len(desk.truth):,}"
    told = valid(cli("plan", "--json").out)
    assert told["listed"] == {
        "attachments": len(desk.truth),
        "bytes": sum(one.filesize for one in desk.attachments.values() if one.id in desk.truth),
    }
    assert re.search(rf"\b{number} +\S+ \S+  attachments listed", cli("plan").out)
    wrote = cli("plan", "--format", "html", "--output", "plan.html")
    assert wrote.code == 0
    assert wrote.out == ""
    page = lxml.html.fromstring((tmp_path / "plan.html").read_text("utf-8"))
    assert number in "".join(map(str, page.itertext()))
    assert (tmp_path / "plan.html").stat().st_mode & 0o777 == 0o600
    assert left_behind(tmp_path) == {"plan.html"}


def test_a_sample_tells_what_dedupe_saves(cli: Cli, serve: Serve) -> None:
    """With --sample the saving is that of real hashes, and the report says so."""
    serve(tickets=60)
    told = valid(cli("plan", "--json", "--sample", "60").out)
    disk = told["disk"]
    assert isinstance(disk, dict)
    assert disk["method"] == "sample"
    assert 0 < disk["compared"] <= 60
    assert disk["deduped_bytes"] <= disk["bytes"]
    assert "compared pairs" in cli("plan", "--sample", "60").out


def test_a_plan_for_a_bucket_speaks_of_no_disk(
    cli: Cli, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room is missing that the files do not need; an archive on a disk stays there."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    serve(tickets=4)
    config = tmp_path / "config.toml"
    assert "NOT ENOUGH" in cli("plan").out
    config.write_text(f'{config.read_text()}[archive]\nblobs = "s3://files/here"\n')
    told = cli("plan").out
    assert "Bucket s3://files/here: about" in told
    assert "NOT ENOUGH" not in told
    assert "Make room" not in told
    disk = valid(cli("plan", "--json").out)["disk"]
    assert isinstance(disk, dict)
    assert (disk["bucket"], disk["free"]) == ("s3://files/here", None)


def test_a_run_tells_what_drifted_since_its_plan(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    """New, vanished and changed attachments are counted and named, on stdout and in the record."""
    desk, _ = serve(tickets=20)
    planned = cli("plan", "--save-plan", "plan.jsonl")
    assert planned.code == 0
    assert "The plan is in 'plan.jsonl', for `migrator run --plan`" in planned.err
    assert left_behind(tmp_path) == {"plan.jsonl"}
    listed = [one for one in desk.attachments.values() if one.id in desk.truth]
    ticket = listed[0].ticket_id
    new = desk.add_attachment(ticket, "late\x1b[2J.txt", b"late")
    gone = next(one.id for one in listed if one.ticket_id != ticket)
    desk.delete_attachment(gone)
    ran = cli("run", "--plan", "plan.jsonl")
    assert ran.code == 0, ran.err
    assert "Since the plan: 1 new (4 B), 1 vanished" in ran.out
    assert f"new: attachment {new} of ticket {ticket}, late" in ran.out
    assert f"vanished: attachment {gone} of ticket" in ran.out
    assert "\x1b" not in ran.out
    with open_beside(tmp_path / "archive") as archive:
        summary = archive.queries.runs(1)[0].summary
    assert summary is not None
    drift = summary["drift"]
    assert isinstance(drift, dict)
    assert [drift[name]["attachments"] for name in ("new", "vanished", "changed")] == [1, 1, 0]
    assert drift["vanished"]["first"][0]["id"] == gone


def test_a_run_tells_where_moved_attachments_were(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    """Of a merge since the plan both tickets are named, on stdout and in the record."""
    desk, _ = serve(tickets=20)
    assert cli("plan", "--save-plan", "plan.jsonl").code == 0
    listed = [one for one in desk.attachments.values() if one.id in desk.truth]
    old = listed[0].ticket_id
    into = next(one.ticket_id for one in listed if one.ticket_id != old)
    desk.merge(old, into)
    ran = cli("run", "--plan", "plan.jsonl")
    assert f"attachment {listed[0].id} of ticket {into}" in ran.out
    assert f"(was: ticket {old})" in ran.out
    with open_beside(tmp_path / "archive") as archive:
        summary = archive.queries.runs(1)[0].summary
    assert summary is not None
    changed = cast("dict[str, Any]", summary["drift"])["changed"]
    assert {(one["ticket"], one["was"]["ticket"]) for one in changed["first"]} == {(into, old)}


def test_a_run_with_gaps_says_nothing_of_what_vanished(cli: Cli, serve: Serve) -> None:
    """A run that could not list everything does not take its own gap for a loss."""
    desk, _ = serve(tickets=40)
    assert cli("plan", "--save-plan", "plan.jsonl").code == 0
    listed = {one.ticket_id for one in desk.attachments.values() if one.id in desk.truth}
    desk.unlistable_ticket = min(listed)
    desk.set_fault("list_500", on=True)
    ran = cli("run", "--plan", "plan.jsonl")
    assert ran.code == 3
    assert "Since the plan: 0 new (0 B), 0 changed (0 B)" in ran.out
    assert "What has vanished is not known" in ran.out


def test_a_long_drift_is_cut(cli: Cli, serve: Serve) -> None:
    """Only the first few of each kind are named; the others are counted."""
    desk, _ = serve(tickets=20)
    cli("plan", "--save-plan", "plan.jsonl")
    ticket = next(one.ticket_id for one in desk.attachments.values() if one.id in desk.truth)
    for number in range(13):
        desk.add_attachment(ticket, f"{number}.txt", b"x")
    ran = cli("run", "--plan", "plan.jsonl")
    assert "13 new (13 B)" in ran.out
    assert "new: and 3 more" in ran.out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("run", "--plan", "config.toml"), "is not a plan"),
        (("run", "--plan", "nowhere"), "does not exist"),
        (("run", "--plan", "plan.jsonl", "--include-trash"), "no option that narrows it"),
        (("run", "--plan", "plan.jsonl", "--dry-run"), "do not go together"),
        (("plan", "--output", "nowhere/plan.html"), "no directory"),
        (("plan", "--save-plan", "nowhere/plan"), "no directory"),
        (("plan", "--save-plan", "x", "--output", "x"), "two files"),
        (("plan", "--fast", "--limit-tickets", "5"), "do not go together"),
        (("plan", "--sample", "0"), "sample"),
    ],
)
def test_a_mistake_is_told_before_anything_is_asked(
    cli: Cli, serve: Serve, argv: tuple[str, ...], says: str
) -> None:
    """A wrong file or option is an error of the user's, and the helpdesk hears nothing of it."""
    _, server = serve(tickets=3)
    cli("plan", "--save-plan", "plan.jsonl")
    before = len(server.requests)
    told = cli(*argv)
    assert told.code == 2
    assert says in told.err
    assert len(server.requests) == before


def test_a_plan_of_another_helpdesk_is_refused(cli: Cli, serve: Serve) -> None:
    """The plan and the journal of one helpdesk are none of another's."""
    serve(tickets=3)
    cli("plan", "--save-plan", "plan.jsonl")
    serve(tickets=3)
    assert "is a plan of http://127.0.0.1" in cli("run", "--plan", "plan.jsonl").err


@pytest.mark.slow
def test_fast_is_an_estimate_and_says_so(cli: Cli, serve: Serve) -> None:
    """--fast lists fewer tickets, tells so first, and its JSON has the facts."""
    desk, server = serve(tickets=300)
    for one in [one for one in desk.attachments.values() if one.ticket_id % 5]:
        desk.delete_attachment(one.id)
    whole = valid(cli("plan", "--json").out)
    before = len(server.requests)
    told = valid(cli("plan", "--json", "--fast").out)
    fast = told["fast"]
    assert isinstance(fast, dict)
    assert fast["fallback"] is None
    assert told["listed"] == whole["listed"]
    assert len(server.requests) - before < before / 2
    assert told["requests"]["lists"] == whole["requests"]["lists"]  # type: ignore[index]
    said = cli("plan", "--fast")
    assert said.out.splitlines()[1].startswith("ESTIMATE: only the")
    desk.set_fault("no_sort", on=True)
    fallen = cli("plan", "--fast")
    assert "Everything was listed: Kayako does not sort" in fallen.out
    assert "Warning: everything is listed" in fallen.err


def test_marks_that_lie_are_seen_in_the_sandbox(cli: Cli, serve: Serve) -> None:
    """Where marks are wrong, what is found behind the marked tickets is told."""
    desk, _ = serve(tickets=400, faults=frozenset({"lying_marks"}))
    for one in [one for one in desk.attachments.values() if one.ticket_id % 4]:
        desk.delete_attachment(one.id)
    told = valid(cli("plan", "--json", "--fast").out)
    assert isinstance(told["listed"], dict)
    fast = told["fast"]
    assert isinstance(fast, dict)
    assert fast["fallback"] is None
    assert told["listed"]["attachments"] < len(desk.truth)
    assert fast["found"] > 0
    assert fast["missed_attachments"] > 0


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have the next dry run interrupted, as by Ctrl-C, when it asks for the thirtieth list."""
    lists, ask = [0], Client.attachments

    async def counted(source: Client, ticket_id: int) -> object:
        lists[0] += 1
        if lists[0] == 30:
            signal.raise_signal(signal.SIGINT)
        return await ask(source, ticket_id)

    def arm() -> None:
        lists[0] = 0

    monkeypatch.setattr(Client, "attachments", counted)
    return arm


def test_interrupted_it_reports_what_it_saw(
    cli: Cli, serve: Serve, tmp_path: Path, interrupted: Callable[[], None]
) -> None:
    """Exit 130, a report that says how far it came, and a hint how it could have gone on."""
    serve(tickets=80)
    stopped = cli("plan", "--json")
    assert stopped.code == 130
    told = valid(stopped.out)
    assert told["complete"] is False
    assert 30 <= told["tickets"] < told["tickets_total"]  # type: ignore[operator]
    assert told["pace"]["estimated_seconds"] > 0  # type: ignore[index]
    assert "with --save-plan FILE the next dry run resumes" in stopped.err
    assert left_behind(tmp_path) == set()
    interrupted()
    assert "INCOMPLETE: interrupted" in cli("plan").out


def test_interrupted_with_a_plan_it_goes_on(
    cli: Cli, serve: Serve, tmp_path: Path, interrupted: Callable[[], None]
) -> None:
    """The journal stays, the same command lists what is left, and then the journal goes."""
    desk, server = serve(tickets=80)
    assert cli("plan", "--save-plan", "plan.jsonl").code == 130
    assert left_behind(tmp_path) == {"plan.jsonl.partial"}
    before = len([path for _, path in server.requests if "Attachment/ListAll" in path])
    again = cli("plan", "--save-plan", "plan.jsonl", "--json")
    assert again.code == 0, again.err
    assert "Resuming after " in again.err
    after = [path for _, path in server.requests if "Attachment/ListAll" in path]
    assert len(after) == len(set(after)) > before
    told = valid(again.out)
    assert told["listed"]["attachments"] == len(desk.truth)  # type: ignore[index]
    assert left_behind(tmp_path) == {"plan.jsonl"}
    head, *rest = (tmp_path / "plan.jsonl").read_text().splitlines()
    assert json.loads(head)["format"] == "migrator.plan-file/1"
    assert {json.loads(line)["id"] for line in rest} == desk.truth.keys()


def test_an_age_is_no_other_plan(cli: Cli, serve: Serve, interrupted: Callable[[], None]) -> None:
    """--since 5000d means another second each time, and still the same plan goes on."""
    serve(tickets=80)
    command = ("plan", "--save-plan", "plan.jsonl", "--since", "5000d")
    assert cli(*command).code == 130
    assert "Resuming after " in cli(*command).err
    assert "Since the plan: 0 new" in cli("run", "--plan", "plan.jsonl", "--since", "5000d").out


def test_a_plan_that_goes_away_ends_no_run(
    cli: Cli, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed while the run is at work, the plan is missed with a warning, and all is pulled."""
    serve(tickets=10)
    cli("plan", "--save-plan", "plan.jsonl")
    asked = Client.attachments

    async def removing(self: Client, ticket_id: int) -> object:
        (tmp_path / "plan.jsonl").unlink(missing_ok=True)
        return await asked(self, ticket_id)

    monkeypatch.setattr(Client, "attachments", removing)
    ran = cli("run", "--plan", "plan.jsonl")
    assert ran.code == 0
    assert "Warning: the plan cannot be compared: Cannot read" in ran.err
    assert "Since the plan" not in ran.out


def test_a_refusal_is_no_report(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    """Refused at once, there is nothing to report and nothing is left, only the reason."""
    serve(tickets=3, faults=frozenset({"auth_fail"}))
    told = cli("plan", "--save-plan", "plan.jsonl")
    assert told.code == 4
    assert told.out == ""
    assert left_behind(tmp_path) == set()


def test_a_source_that_goes_down_leaves_a_part(
    cli: Cli, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the helpdesk goes away for good, what was seen is reported, and the reason told."""
    _, server = serve('patience = "1s"\nattempts = 1\n', tickets=80)
    asked = Client.attachments

    async def failing(self: Client, ticket_id: int) -> object:
        if sum("Attachment/ListAll" in path for _, path in server.requests) > 30:
            server.stop()
        return await asked(self, ticket_id)

    monkeypatch.setattr(Client, "attachments", failing)
    told = cli("plan", "--save-plan", "plan.jsonl")
    assert told.code == 4
    assert "INCOMPLETE" in told.out
    assert left_behind(tmp_path) == {"plan.jsonl.partial"}


def test_a_plan_of_a_part_says_so(cli: Cli, serve: Serve) -> None:
    """That nothing is left to fetch of two tickets is no word on the others."""
    serve(tickets=12)
    told = cli("plan", "--limit-tickets", "2", "--department", "Support")
    assert "Part of the helpdesk: department Support; only the first 2 tickets." in told.out
    assert valid(cli("plan", "--limit-tickets", "1", "--json").out)["limits"] == [
        "only the first 1 ticket"
    ]
    assert "Part of the helpdesk" not in cli("plan").out


def test_a_plan_counts_articles_and_their_files(cli: Cli, serve: Serve) -> None:
    """In text, JSON and HTML, with their requests; the API's verdicts leave them out."""
    desk, _ = serve(tickets=5, articles=4, steps=3)
    told = valid(cli("plan", "--json").out)
    files = [true.size or 0 for kind in ("article", "step") for true in desk.truths[kind].values()]
    assert (told["articles"], told["articles_missing"], told["complete"]) == (7, 0, True)
    kinds = {one["key"]: one for one in told["kinds"]}  # type: ignore[attr-defined]
    counted = sum(kinds[kind]["attachments"] for kind in ("article", "step"))
    assert counted == len(files)
    assert told["requests"]["articles"] == 9  # type: ignore[index]
    verdicts = told["tickiti"]
    judged = sum(verdicts[name]["attachments"] for name in ("allow", "review", "block"))  # type: ignore[index]
    assert judged == told["listed"]["attachments"] - len(files)  # type: ignore[index]
    text = cli("plan").out
    assert f"7 articles and steps with {len(files)} files" in " ".join(text.split())
    assert "the API does not" in text


def test_a_plan_tells_of_custom_fields_and_of_what_no_api_gives(cli: Cli, serve: Serve) -> None:
    """It says how many there are, and expects the requests for them that the run then makes."""
    desk, server = serve(tickets=9)
    told = valid(cli("plan", "--json").out)
    assert (told["custom_fields"], told["custom_field_files"]) == (7, 2)
    text = " ".join(cli("plan").out.split())
    assert "Custom fields of tickets: 7, of which 2 hold files. Only a run reads them" in text
    assert "No API gives: recipients in CC and BCC, chat transcripts" in text
    before = len(server.requests)
    assert cli("run").code == 0
    asked = [path for _, path in server.requests_after(before) if "TicketCustomField" in path]
    files = 2 * len(desk.truths["customfield"])  # each comes until it was the same twice
    assert len(asked) == told["requests"]["fields"] + files  # type: ignore[index]


def test_a_plan_of_a_helpdesk_without_these_calls(cli: Cli, serve: Serve) -> None:
    """What it does not offer costs no request, and is not said to be there."""
    serve(tickets=5, faults=frozenset({"no_fields", "no_guides"}))
    told = valid(cli("plan", "--json").out)
    assert (told["custom_fields"], told["articles"], told["complete"]) == (0, 0, True)
    requests = told["requests"]
    assert (requests["fields"], requests["articles"]) == (0, 0)  # type: ignore[index]
    assert "Custom fields" not in cli("plan").out
