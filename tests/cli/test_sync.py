"""``sync`` against the sandbox, as a user calls it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from migrator.archive import open_archive, open_beside
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.serve.catalog import EndpointSettings
from migrator.serve.tickiti import build_app
from tests.cli.conftest import Cli, Result


class Place:
    """A helpdesk, its server, and the archive that a configuration names."""

    def __init__(self, root: Path) -> None:
        bare = {"links": 0, "articles": 0, "steps": 0, "field_files": 0}
        self.desk = Helpdesk.build(SandboxOptions(seed=2, tickets=24, **bare))  # type: ignore[arg-type]
        self.server = SandboxServer(self.desk)
        self.server.start()
        self.archive = root / "archive"
        config = root / "config.toml"
        config.write_text(
            f'[kayako]\nurl = "{self.server.url}"\napi_key = "{self.server.api_key}"\n'
            f'secret_key = "{self.server.secret_key}"\nattempts = 1\n'
        )
        config.chmod(0o600)

    def state(self, attachment: int) -> str | None:
        with open_beside(self.archive) as archive:
            row = archive.queries.attachment(attachment)
            return None if row is None else row.state.value

    def lists(self) -> int:
        """Count the lists of attachments that were asked for."""
        return sum("TicketAttachment/ListAll" in path for _, path in self.server.requests)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.server.stop()


def test_a_sync_pulls_everything_once_and_then_what_is_new(cli: Cli, place: Place) -> None:
    """The first is a whole pass and says why; the second looks at the new ticket only."""
    first = cli("sync")
    assert first.code == 0, first.err
    assert "whole pass: there was none yet" in first.err
    files = len(place.desk.truth)
    assert f"{files} attachments stored" in first.out
    assert f"listed {files} = {files} stored + 0 missing + 0 gone + 0 deleted" in first.out
    before = place.lists()
    ticket = max(place.desk.tickets, key=lambda key: place.desk.tickets[key].last_activity)
    new = place.desk.add_attachment(ticket, "new.txt", b"new")
    second = cli("sync")
    assert (second.code, place.state(new)) == (0, "stored")
    assert "1 attachment stored (3 B)" in second.out
    assert "whole pass" not in second.err
    assert place.lists() - before < 5


def test_a_full_sync_finds_what_came_silently(cli: Cli, place: Place) -> None:
    """--full looks at every ticket, although that is not due."""
    cli("sync")
    oldest = min(place.desk.tickets, key=lambda key: place.desk.tickets[key].last_activity)
    silent = place.desk.add_attachment(oldest, "silent.txt", b"silent")
    cli("sync")
    assert place.state(silent) is None
    full = cli("sync", "--full")
    assert (full.code, place.state(silent)) == (0, "stored")
    assert "whole pass: asked for" in full.err


def test_margin_and_period_come_from_the_configuration(
    cli: Cli, place: Place, tmp_path: Path
) -> None:
    """`full_pass_every = "0s"` makes every sync look at everything."""
    cli("sync")
    with (tmp_path / "config.toml").open("a") as config:
        config.write('[sync]\nfull_pass_every = "0s"\n')
    assert "whole pass: it is due" in cli("sync").err


def test_what_could_not_be_stored_is_named(cli: Cli, place: Place) -> None:
    """The attachments that this sync tried in vain stand in its summary, with their reason."""
    place.desk.set_fault("list_500", on=True)
    unlistable = place.desk.unlistable_ticket
    rows = place.desk.attachments
    lost = next(key for key, row in rows.items() if row.ticket_id not in (unlistable, 0))
    rows[lost] = replace(rows[lost], fault="missing_file")
    result = cli("sync")
    assert result.code == 3
    assert "New: 1 attachment could not be stored" in result.out
    assert f"attachment {lost}: Kayako lists" in result.out
    assert "Tickets that could not be listed: 1" in result.out


def test_a_line_names_its_ticket_once(cli: Cli, place: Place) -> None:
    """What a failure or a gap is of stands before its reason, and not in it again."""
    place.desk.set_fault("list_500", on=True)
    rows, unlistable = place.desk.attachments, place.desk.unlistable_ticket
    bad = next(key for key, row in rows.items() if row.ticket_id not in (unlistable, 0))
    rows[bad] = replace(rows[bad], fault="error_500")
    said = cli("sync").out
    where = f"ticket {rows[bad].ticket_id}, attachment {bad}"
    assert f"  failed    {where}: the server failed (HTTP 500).\n" in said
    assert f"  ticket {unlistable}: the server failed (HTTP 500).\n" in said
    report = cli("report").out
    assert f"attachment {bad}, {rows[bad].name.decode()}: the server failed (HTTP 500).\n" in report


def test_what_is_known_need_not_be_a_failure(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--known-ok, or its variable, makes 3 the code of what is new only."""
    rows = place.desk.attachments
    bad, later = [key for key, row in rows.items() if row.ticket_id][:2]
    rows[bad] = replace(rows[bad], fault="missing_file")
    assert cli("sync", "--known-ok").code == 3
    assert cli("sync").code == 3
    assert cli("sync", "--known-ok").code == 0
    monkeypatch.setenv("MIGRATOR_KNOWN_OK", "1")
    assert cli("sync").code == 0
    new = place.desk.add_attachment(rows[later].ticket_id, "new.txt", b"new")
    rows[new] = replace(rows[new], fault="missing_file")
    assert cli("sync", "--full").code == 3
    assert cli("sync", "--full").code == 0


def test_a_sync_tells_what_is_new_and_counts_what_is_known(cli: Cli, place: Place) -> None:
    """A failure is named once; later syncs count it in a line, with when it is tried again."""
    rows = place.desk.attachments
    ticket = max(place.desk.tickets, key=lambda key: place.desk.tickets[key].last_activity)
    first, lost = sorted(key for key, row in rows.items() if row.ticket_id)[:2]
    rows[first] = replace(rows[first], fault="error_500")
    rows[lost] = replace(rows[lost], fault="missing_file")
    told = cli("sync").out
    assert "New: 2 attachments could not be stored" in told
    assert "still failing" not in told
    again = cli("sync").out
    assert "New:" not in again
    assert f"attachment {first}" not in again
    assert f"attachment {lost}" not in again
    assert re.search(r"\n1 still failing, oldest since \d{4}-\d\d-\d\d; the next try ", again)
    assert "`migrator run --recheck` asks at once" in again
    new = place.desk.add_attachment(ticket, "new.txt", b"new")
    rows[new] = replace(rows[new], fault="error_500")
    third = cli("sync").out
    assert "New: 1 attachment could not be stored" in third
    assert f"attachment {new}:" in third
    assert "1 still failing" in third


def test_too_many_deletions_end_a_full_sync_with_8(cli: Cli, place: Place) -> None:
    """Nothing is marked, the summary says how to go on, and --accept-deletions does."""
    cli("sync")
    victims = sorted(place.desk.truth)[:25]
    for attachment in victims:
        place.desk.delete_attachment(attachment)
    stopped = cli("sync", "--full")
    assert stopped.code == 8
    assert "--accept-deletions" in stopped.err
    assert {place.state(one) for one in victims} == {"stored"}
    accepted = cli("sync", "--full", "--accept-deletions")
    assert accepted.code == 0
    assert "Deleted at the source since: 25; their bytes are kept." in accepted.out
    assert {place.state(one) for one in victims} == {"deleted"}


def test_a_deleted_attachment_is_hidden_unless_it_shall_be_served(cli: Cli, place: Place) -> None:
    """From the helpdesk through a sync to the endpoint: not found, or its bytes."""
    cli("sync")
    number = min(place.desk.truth)
    ticket = place.desk.attachments[number].ticket_id
    name = place.desk.attachments[number].name.decode(errors="replace")
    place.desk.delete_attachment(number)
    assert cli("sync", "--full").code == 0
    extension = name.rpartition(".")[2].lower()

    def ask(*, serve_deleted: bool) -> int:
        async def main() -> int:
            with open_beside(place.archive) as archive:
                archive.access.set_rule(extension, "allow", "")
                _, token = archive.access.create_token(
                    "t", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
                )
                app = build_app(archive, EndpointSettings(serve_deleted=serve_deleted))
                transport = httpx.ASGITransport(app)  # type: ignore[arg-type, unused-ignore]
                async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
                    answer = await client.post(
                        "/api/v1/tickets/attachment",
                        json={"ticket_number": str(ticket), "response_attachment_id": str(number)},
                        headers={"Authorization": f"Bearer {token}"},
                    )
                    return answer.status_code

        return asyncio.run(main())

    assert ask(serve_deleted=False) == 404
    assert ask(serve_deleted=True) == 200


def test_the_second_sync_ends_at_once_and_names_the_first(cli: Cli, place: Place) -> None:
    """Exit 5, nothing is asked of the source; also for one that would stay."""
    with open_archive(place.archive, command="sync"):
        for argv in (("sync",), ("sync", "--every", "15m")):
            busy = cli(*argv)
            assert busy.code == 5
            assert re.search(r"in use by process \d+ on .* \(\"sync\", since 2", busy.err)
    assert list(place.server.requests) == []


@pytest.mark.parametrize(
    ("every", "says"),
    [("0s", "at least 1s"), ("500ms", "at least 1s"), ("soon", "must be a duration")],
)
def test_every_must_be_a_duration_worth_the_name(
    cli: Cli, place: Place, every: str, says: str
) -> None:
    """No endless hammering by a slip of the finger."""
    assert cli("sync", "--every", every).refused(says)


class Short:
    """Makes the sleep between two rounds do something, and after so many rounds a stop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *between: object) -> None:
        self.between = list(between)
        self.asked: list[float] = []

        async def sleep(stop: object, seconds: float) -> None:
            from migrator.errors import Interrupted

            self.asked.append(seconds)
            if not self.between:
                raise Interrupted("stopped")
            happen = self.between.pop(0)
            happen()  # type: ignore[operator]

        monkeypatch.setattr("migrator.pull.options.Stop.sleep", sleep)


def test_a_sync_that_stays_repeats_itself(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every round is a sync of its own, the archive is free in between, a stop ends with 0."""
    between: list[Result] = []
    newest = max(place.desk.tickets, key=lambda key: place.desk.tickets[key].last_activity)
    new: list[int] = []

    def work() -> None:
        with open_archive(place.archive, command="verify"):
            between.append(Result(0, "", ""))
        new.append(place.desk.add_attachment(newest, "new.txt", b"new"))

    short = Short(monkeypatch, work, lambda: None)
    stayed = cli("sync", "--every", "15m", "--full")
    assert stayed.code == 0, stayed.err
    assert len(between) == 1
    assert place.state(new[0]) == "stored"
    assert len(re.findall(r"^2\S+ sync \d+: ", stayed.out, re.MULTILINE)) == 3
    assert len(re.findall(r"^listed ", stayed.out, re.MULTILINE)) == 2, "the last has nothing new"
    assert stayed.out.count("Complete: ") == 1
    assert stayed.err.count("whole pass") == 1, "--full holds for the first round"
    assert all(0.8 * 900 < seconds < 1.1 * 900 for seconds in short.asked)


def test_a_sync_that_stays_sits_out_an_outage(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round against a source that is down is told, the next one goes on."""

    def fault(*, on: bool) -> object:
        return lambda: place.desk.set_fault("api_off", on=on)

    Short(monkeypatch, fault(on=True), fault(on=False))
    stayed = cli("--log-format", "json", "sync", "--every", "15m")
    assert stayed.code == 0, stayed.err
    events = [json.loads(line) for line in stayed.err.splitlines()]
    warnings = [one["text"] for one in events if one.get("level") == "warning"]
    assert len(warnings) == 1
    assert warnings[0].startswith("round 2: ")
    assert [one["exit_code"] for one in events if one["event"] == "run_finished"] == [0, 4, 0]


def test_a_sync_that_stays_ends_with_the_safety_limit(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Exit 8: a person has to look. --accept-deletions is not for the rounds after."""
    with (tmp_path / "config.toml").open("a") as config:
        config.write('[sync]\nfull_pass_every = "0s"\n')

    def drop() -> None:
        for attachment in sorted(place.desk.truth)[:25]:
            place.desk.delete_attachment(attachment)

    Short(monkeypatch, drop, lambda: None)
    assert cli("sync", "--every", "15m", "--accept-deletions").code == 8
