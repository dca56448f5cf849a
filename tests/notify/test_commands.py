"""What commands tell: each thing once, to a real server, whatever that does."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from migrator.archive import open_beside
from migrator.config import METRICS_TOKEN, NOTIFY, SECRETS, TOKEN
from migrator.notify.messages import day
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.sources import pace
from tests.cli.conftest import Cli
from tests.cli.test_sync import Short
from tests.notify.receiver import Receiver

KEY = "whsec_" + "c2VjcmV0" * 6


class Place:
    """A helpdesk and a configuration that tells the receiver."""

    def __init__(self, root: Path, receiver: Receiver) -> None:
        bare: dict[str, Any] = {"links": 0, "articles": 0, "steps": 0, "field_files": 0}
        self.desk = Helpdesk.build(SandboxOptions(seed=2, tickets=8, **bare))
        self.server = SandboxServer(self.desk).start()
        self.port = urlsplit(self.server.url).port or 0
        self.root, self.receiver = root, receiver
        self.told = {"webhook": f'"{receiver.url}/hook"', "webhook_key": f'"{KEY}"'}
        self.write()

    def write(self, **keys: str) -> None:
        self.told |= keys
        lines = "".join(f"{name} = {value}\n" for name, value in self.told.items() if value)
        config = self.root / "config.toml"
        config.write_text(
            f'[kayako]\nurl = "{self.server.url}"\napi_key = "{self.server.api_key}"\n'
            f'secret_key = "{self.server.secret_key}"\nattempts = 1\n[notify]\n{lines}'
        )
        config.chmod(0o600)

    def back(self) -> None:
        """End an outage."""
        self.server = SandboxServer(self.desk, port=self.port).start()

    def lose(self, number: int = 1) -> list[int]:
        """Let the helpdesk lose the contents of a few new attachments."""
        ticket = max(self.desk.tickets, key=lambda key: self.desk.tickets[key].last_activity)
        lost = []
        for n in range(number):
            key = self.desk.add_attachment(ticket, f"n\r\nX-Evil: {n}\x1b[2J.pdf", b"x%d" % n)
            self.desk.attachments[key] = replace(self.desk.attachments[key], fault="missing_file")
            lost.append(key)
        return lost

    def find(self, lost: list[int]) -> None:
        for key in lost:
            self.desk.attachments[key] = replace(self.desk.attachments[key], fault=None)


@pytest.fixture
def place(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(pace, "FIRST_WAIT", 0.01)
    made = Place(tmp_path, receiver)
    yield made
    made.server.stop()


def test_a_good_run_tells_nobody(cli: Cli, place: Place) -> None:
    """Nothing is news."""
    assert (cli("run").code, cli("sync").code) == (0, 0)
    assert place.receiver.got == []


def test_new_losses_are_told_once(cli: Cli, place: Place) -> None:
    """With their names made harmless, why, how many in all and what to do; then not again."""
    lost = place.lose(25)
    assert cli("run").code == 3
    assert cli("sync").code == 3
    (got,) = place.receiver.got
    data = got.json["data"]
    assert got.json["type"] == "losses"
    assert data["new_losses"] == {"missing": 25}
    assert [one["attachment_id"] for one in data["losses"]] == lost[:20]
    assert data["losses"][0]["file"].isprintable()
    assert "Kayako lists" in data["losses"][0]["reason"]
    assert "and 5 more" in data["text"]
    assert "migrator accept" in data["verdict"]
    assert data["counts"]["missing"] == 25


def test_found_again_is_told(cli: Cli, place: Place) -> None:
    """What was told as lost and is stored now is a recovery."""
    lost = place.lose(2)
    cli("run")
    place.find(lost)
    assert cli("run", "--recheck").code == 0
    assert place.receiver.events() == ["losses", "recovery"]
    data = place.receiver.got[1].json["data"]
    assert data["title"] == "2 lost attachments are stored"
    assert data["changes"] == {"stored": 2, "missing": -2}


def test_an_outage_is_told_once_and_so_is_its_end(cli: Cli, place: Place) -> None:
    """Runs and syncs fail together."""
    cli("run")
    place.server.stop()
    assert [cli(command).code for command in ("sync", "sync", "run")] == [4, 4, 4]
    place.back()
    assert [cli("sync").code, cli("sync").code] == [0, 0]
    assert place.receiver.events() == ["failure", "recovery"]
    failure, recovery = (one.json["data"] for one in place.receiver.got)
    assert failure["title"].startswith("sync failed with exit code 4: ")
    assert (failure["exit_code"], failure["command"]) == (4, "sync")
    assert recovery["title"] == "sync works again"


def test_what_was_not_delivered_goes_with_the_next_command(cli: Cli, place: Place) -> None:
    """It is told on stderr, the exit code stays, and the message comes later under its id."""
    place.lose()
    place.receiver.answers = ["404"]
    first = cli("run")
    assert first.code == 3
    assert "Warning: A message was not delivered through the webhook" in first.err
    assert "It is sent with the next command." in first.err
    assert "To be sent: 1" in cli("notify").out
    tried = len(place.receiver.got)
    place.receiver.answers = []
    assert cli("sync").err.count("Warning") == 0
    assert len(place.receiver.got) == tried + 1
    assert len({one.headers["webhook-id"] for one in place.receiver.got}) == 1
    assert "To be sent: 0" in cli("notify").out


def test_a_hanging_server_holds_nobody_up(cli: Cli, place: Place) -> None:
    """The command ends as it would have."""
    place.write(timeout='"200ms"')
    place.lose()
    place.receiver.answers = ["hang"]
    ended = cli("run")
    assert ended.code == 3
    assert "no answer in time" in ended.err


def test_pings_tell_start_success_and_failure(cli: Cli, place: Place) -> None:
    """One id for each run; a failure has the last messages; a new loss is a failure, once."""
    place.write(webhook="", ping=f'"{place.receiver.url}/u?create=1"')
    cli("run")
    place.lose()
    cli("sync")
    cli("sync")
    place.server.stop()
    ended = cli("sync")
    paths = ["/u/start", "/u", "/u/start", "/u/fail", "/u/start", "/u", "/u/start", "/u/fail"]
    assert place.receiver.paths == paths
    runs = [one.path.partition("&rid=")[2] for one in place.receiver.got]
    assert runs[::2] == runs[1::2]
    assert len(set(runs)) == 4
    body = place.receiver.got[-1].body.decode()
    assert "sync failed with exit code 4" in body
    assert ended.err.splitlines()[-1].removeprefix("Error: ") in body
    assert "1 missing" in place.receiver.got[3].body.decode()


def test_a_ping_with_the_exit_code(cli: Cli, place: Place) -> None:
    """Whoever wants the plain exit code gets it."""
    place.write(webhook="", ping=f'"{place.receiver.url}/u"', ping_exit_code="true")
    place.lose()
    cli("run")
    assert place.receiver.paths == ["/u/start", "/u/3"]


def test_one_ping_is_for_pulls_alone(cli: Cli, place: Place) -> None:
    """A verify covers up no missing sync, but with an address of its own it is pinged."""
    place.write(webhook="", ping=f'"{place.receiver.url}/u"')
    cli("run")
    place.receiver.got.clear()
    cli("verify")
    assert place.receiver.paths == []
    place.write(ping=f'"{place.receiver.url}/k/{{command}}"')
    cli("verify")
    assert place.receiver.paths == ["/k/verify/start", "/k/verify"]


@pytest.mark.slow
def test_damage_is_told_with_names(cli: Cli, place: Place) -> None:
    """A verify that finds it fails; the same damage is told once, more of it again."""
    cli("run")
    blobs = sorted((place.root / "archive" / "blobs").glob("??/??/*"))
    with open_beside(place.root / "archive") as archive:
        held = [one for one in blobs if archive.queries.attachments_of_blob(one.name)]

    def harm(path: Path) -> None:
        path.chmod(0o600)
        path.write_bytes(b"harmed")

    harm(held[0])
    assert [cli("verify").code, cli("verify").code] == [6, 6]
    assert place.receiver.events() == ["failure"]
    data = place.receiver.got[0].json["data"]
    assert data["new_losses"]["damaged"] == 1
    assert data["losses"][0]["state"] == "damaged"
    harm(held[1])
    assert cli("verify").code == 6
    assert cli("verify", "--repair").code == 0
    assert place.receiver.events() == ["failure", "failure", "recovery"]


def test_another_run_and_a_bad_option_wake_nobody(cli: Cli, place: Place) -> None:
    """Only what needs somebody is told."""
    from migrator.archive import open_archive

    place.write(ping=f'"{place.receiver.url}/u"')
    with open_archive(place.root / "archive", command="run"):
        assert cli("sync").code == 5
    assert cli("sync", "--every", "0s").code == 2
    assert cli("run", "--dry-run").code == 0
    assert place.receiver.got == []


def test_an_archive_that_cannot_be_used_is_told_once(cli: Cli, place: Place) -> None:
    """A failed delivery counts as none; the end of it is told as well."""
    cli("run")
    checkpoint = place.root / "archive" / "checkpoint.db"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(b"not a database" * 400)
    place.receiver.answers = ["404"]
    assert [cli("sync").code for _ in range(3)] == [6, 6, 6]
    first, second = place.receiver.got
    assert first.json["type"] == "failure"
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    checkpoint.write_bytes(whole)
    assert cli("sync").code == 0
    assert place.receiver.events()[2:] == ["recovery"]
    checkpoint.write_bytes(b"not a database" * 400)
    assert cli("sync").code == 6
    assert place.receiver.events()[3:] == ["failure"]


def test_no_secret_is_told(cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the addresses of the channels, which are secrets themselves."""
    monkeypatch.setenv("MIGRATOR_WEBHOOK", f"{place.receiver.url}/hook?token=hunter2")
    place.receiver.answers = ["500"] * 4
    place.lose()
    told = cli("run").err
    place.server.stop()
    told += cli("sync").err + cli("notify").out + cli("notify", "--test").out
    told += "".join(one.body.decode() for one in place.receiver.got)
    for secret in (place.server.secret_key, place.server.api_key, KEY, "hunter2", "/hook"):
        assert secret not in told


def test_a_test_goes_through_each_channel(cli: Cli, place: Place, tmp_path: Path) -> None:
    """It says what arrived; a ping changes nothing about its check."""
    out = tmp_path / "out"
    command = json.dumps([sys.executable, "-c", f"open({str(out)!r}, 'w').write(input())"])
    place.write(ping=f'"{place.receiver.url}/u"', command=command)
    good = cli("notify", "--test")
    assert (good.code, good.out.count("delivered")) == (0, 3)
    assert sorted(place.receiver.paths) == ["/hook", "/u/log"]
    assert json.loads(out.read_text())["type"] == "test"
    place.receiver.answers = ["404", "404"]
    assert cli("notify", "--test").code == 4


def test_a_command_gets_none_of_our_keys(
    cli: Cli, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever variable a key comes from: it is none of the command's business."""
    ours = {*SECRETS.values(), *NOTIFY.values(), TOKEN, METRICS_TOKEN}
    for name in ours - {"MIGRATOR_PING", "MIGRATOR_WEBHOOK", "MIGRATOR_WEBHOOK_KEY"}:
        monkeypatch.setenv(name, "hunter2" * 4)
    out = tmp_path / "names"
    told = f"import os; open({str(out)!r}, 'w').write(' '.join(os.environ))"
    place.write(webhook="", webhook_key="", command=json.dumps([sys.executable, "-c", told]))
    assert cli("notify", "--test").code == 0
    assert ours.isdisjoint(out.read_text().split())


def test_events_choose_what_is_told(cli: Cli, place: Place) -> None:
    """What is not wanted now is not told later either."""
    place.write(events='["failure"]')
    place.lose()
    cli("run")
    place.write(events='["failure", "losses"]')
    cli("sync")
    assert place.receiver.got == []


def test_each_round_of_a_repeated_sync_tells(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage that passes ends no repeated sync, and is told as that of others is."""
    place.write(ping=f'"{place.receiver.url}/u"')

    def fault(*, on: bool) -> object:
        return lambda: place.desk.set_fault("api_off", on=on)

    Short(monkeypatch, fault(on=True), lambda: None, fault(on=False))
    assert cli("sync", "--every", "15m").code == 0
    assert place.receiver.events() == ["failure", "recovery"]
    pings = [path for path in place.receiver.paths if path.startswith("/u")]
    assert pings == ["/u/start", "/u", *["/u/start", "/u/fail"] * 2, "/u/start", "/u"]


def test_a_round_that_ends_a_repeated_sync_tells_once(cli: Cli, place: Place) -> None:
    """The end of the process tells nothing again."""
    place.write(ping=f'"{place.receiver.url}/u"')
    (place.root / "archive").mkdir()
    (place.root / "archive" / "checkpoint.db").write_bytes(b"not a database" * 400)
    assert cli("sync", "--every", "1s").code == 6
    assert sorted(place.receiver.paths) == ["/hook", "/u/fail"]


def test_a_bug_is_told_as_a_failure(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never looks like a success, not in a repeated sync either."""

    def broken(*args: object, **kwargs: object) -> None:
        raise KeyError("hunter2")

    place.write(ping=f'"{place.receiver.url}/u"')
    monkeypatch.setattr("migrator.cli.pulling.next_pass", broken)
    assert cli("sync", "--every", "15m").code == 1
    assert place.receiver.paths.count("/u/fail") == 1
    assert "/u" not in place.receiver.paths
    (message,) = place.receiver.of("/hook")
    assert "This is a bug of migrator" in message.json["data"]["title"]
    assert b"hunter2" not in message.body


def test_a_run_that_was_killed_is_told_by_the_next(cli: Cli, place: Place) -> None:
    """Nobody could tell of it at the time."""
    cli("run")
    with open_beside(place.root / "archive") as archive:
        archive.ledger.begin_run("sync", source=place.server.url, scope={})
    assert [cli("sync").code, cli("sync").code] == [0, 0]
    assert place.receiver.events() == ["recovery"]


def test_two_processes_send_nothing_twice(cli: Cli, place: Place) -> None:
    """What one has begun to send, the other leaves alone until it is clear that the first died."""
    place.receiver.answers = ["404"]
    place.lose()
    cli("run")
    with open_beside(place.root / "archive") as archive:
        (waiting,) = archive.notices.claim(1000)
        assert archive.notices.claim(1001) == []
        assert archive.notices.claim(1000 + 121, 600) == []
        assert archive.notices.claim(1000 + 121) == [waiting]
        archive.notices.release(waiting, [])
        assert archive.notices.claim(9000) == []


@pytest.mark.parametrize(
    ("local", "hour", "expected"),
    [
        ("2026-10-19T07:59+02:00", 8, 18),
        ("2026-10-19T08:00+02:00", 8, 19),
        ("2026-03-29T01:59+01:00", 2, 28),
        ("2026-03-29T03:00+02:00", 2, 29),  # there is no 02:00 on that day
        ("2026-10-25T02:10+02:00", 2, 25),
        ("2026-10-25T02:10+01:00", 2, 25),  # and two on this one
    ],
)
def test_a_day_begins_at_its_hour_in_summer_and_winter(
    monkeypatch: pytest.MonkeyPatch, local: str, hour: int, expected: int
) -> None:
    """Each day has one summary, whatever the clock does."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert day(int(datetime.fromisoformat(local).timestamp()), hour).day == expected
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('ping = "hc-ping.com/u"', "notify.ping: must be an address"),
        ('webhook = "file:///etc/passwd"', "notify.webhook: must be an address"),
        ('webhook = "https://:80/"', "notify.webhook: has no host"),
        ('webhook_key = "hunter2"', "notify.webhook_key: must be 24 to 64 bytes"),
        ('command = "tell me"', "notify.command: must be a list of texts"),
        ("command = []", "notify.command: must be a list of texts"),
        ('events = ["all"]', "notify.events: must be a list of failure, losses"),
        ("summary_hour = 24", "notify.summary_hour: must be a whole number between 0 and 23"),
        ("sumary_hour = 2", "did you mean summary_hour?"),
    ],
)
def test_mistakes_are_named_without_their_values(cli: Cli, line: str, told: str) -> None:
    """Every mistake of the section is a sentence."""
    Path("config.toml").write_text(f"[notify]\n{line}\n")
    ended = cli("notify")
    assert ended.refused(told)
    assert "hunter2" not in ended.err
