"""Each way out, against a real server and real commands that misbehave."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import shlex
import sys
import time
import uuid
from pathlib import Path

import pytest

import migrator
from migrator.archive.notices import Notice
from migrator.notify import Channels, Settings
from migrator.notify.channels import ping_address
from migrator.sources import pace
from tests.notify.receiver import Receiver

RUN = uuid.UUID("00000000-0000-4000-8000-000000000001")
BODY = {"title": "sync failed", "text": "a\nb", "exit_code": 4, "run": 7}
NOTICE = Notice("msg_1", "failure", "sync", "", 1_700_000_000, BODY, ("webhook",))
KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_WAIT", 0.01)


def ping(receiver: Receiver, what: str, *, path: str = "/abc", seconds: float = 5.0) -> str | None:
    async def go() -> str | None:
        settings = Settings(ping=receiver.url + path, timeout=seconds)
        return await Channels(settings, clock=time.time).ping("sync", what, RUN, "words ✓")

    return asyncio.run(go())


def send(settings: Settings, channel: str = "webhook") -> str | None:
    async def go() -> str | None:
        return await Channels(settings, clock=lambda: 1_700_000_123.9).send(channel, NOTICE)

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("url", "what", "told"),
    [
        ("https://hc-ping.com/u-u", "start", "https://hc-ping.com/u-u/start?rid="),
        ("https://hc-ping.com/u-u/", "", "https://hc-ping.com/u-u?rid="),
        ("https://hc-ping.com/key/slug?create=1", "fail", "/key/slug/fail?create=1&rid="),
        ("https://hc-ping.com/key/{command}", "3", "/key/sync/3?rid="),
        (
            "https://me:pw@hc.example.com:8000/ping/u",
            "fail",
            "hc.example.com:8000/ping/u/fail?rid=",
        ),
    ],
)
def test_the_address_of_a_ping(url: str, what: str, told: str) -> None:
    """What is told goes behind the path, before a query; the run's id goes along."""
    assert ping_address(url, "sync", what, RUN).endswith(f"{told}{RUN}")


def test_a_ping_has_the_words_in_its_body(receiver: Receiver) -> None:
    """The address is posted to, once."""
    assert ping(receiver, "fail") is None
    (got,) = receiver.got
    assert (got.path, got.body.decode()) == (f"/abc/fail?rid={RUN}", "words ✓")
    assert got.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("answers", "tries", "told"),
    [
        (["500", "502"], 3, None),
        (["close"], 2, None),
        (["429 Retry-After: 0"], 2, None),
        (["503 Retry-After: 0"], 2, None),
        (["500"] * 9, 4, "HTTP 500"),
        (["404"], 1, "HTTP 404"),
        (["302 Location: http://127.0.0.1:1/"], 1, "redirects, which is not followed"),
        (["307 Location: /other"], 1, "redirects, which is not followed"),
        (["200 OK (not found)"], 1, r"OK (not found)"),
        (["200 OK (rate limited)"], 1, r"OK (rate limited)"),
    ],
)
def test_what_passes_is_tried_again(
    receiver: Receiver, answers: list[str], tries: int, told: str | None
) -> None:
    """A server that fails is asked a few times, one that refuses once; no redirect is followed."""
    receiver.answers = answers
    problem = ping(receiver, "")
    assert len(receiver.got) == tries
    assert problem is None if told is None else told in (problem or "")


@pytest.mark.parametrize("answer", ["hang", "drip", "429 Retry-After: 3600"])
def test_a_server_holds_nobody_up(receiver: Receiver, answer: str) -> None:
    """Silence, an endless answer and a long pause end with the time that all of it may take."""
    receiver.answers = [answer] * 9
    began = time.monotonic()
    assert ping(receiver, "", seconds=0.3) is not None
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1/", "no answer (Connection refused)"),
        ("http://no-such-host.invalid/", "no answer ("),
        ("https{0}/", "no answer (TLS fails: "),
    ],
)
def test_an_address_where_nobody_is(receiver: Receiver, url: str, why: str) -> None:
    """A refused connection, an unknown name and a port without TLS are told in plain words."""
    webhook = url.format(receiver.url.removeprefix("http"))
    told = send(Settings(webhook=webhook, timeout=2.0)) or ""
    assert told.startswith(why)
    assert "Error" not in told


def test_a_webhook_is_signed_as_standard_webhooks_has_it(receiver: Receiver) -> None:
    """A receiver that knows the key can check who sent what and when; the id is the message's."""
    assert send(Settings(webhook=f"{receiver.url}/hook", webhook_key=KEY)) is None
    (got,) = receiver.got
    assert got.headers["webhook-id"] == "msg_1"
    assert got.headers["webhook-timestamp"] == "1700000123"
    signed = b"msg_1.1700000123." + got.body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"
    assert got.json == {"type": "failure", "timestamp": "2023-11-14T22:13:20Z", "data": BODY}


def test_a_retry_has_the_same_id_and_bytes(receiver: Receiver) -> None:
    """So that a receiver can drop what it has."""
    receiver.answers = ["500"]
    assert send(Settings(webhook=f"{receiver.url}/hook")) is None
    first, second = receiver.got
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert "webhook-signature" not in first.headers


def script(tmp_path: Path, text: str) -> tuple[str, ...]:
    path = tmp_path / "tell.py"
    path.write_text(text)
    return (sys.executable, str(path), "; rm -rf x", "$(id)")


def test_a_command_gets_arguments_environment_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a shell, without our secrets, and what it prints is dropped."""
    monkeypatch.setenv("KAYAKO_API_KEY", "hunter2")
    out = tmp_path / "got.json"
    argv = script(
        tmp_path,
        "import json, os, sys\n"
        f"told = [sys.argv[1:], dict(os.environ), json.load(sys.stdin)]\n"
        f"open({str(out)!r}, 'w').write(json.dumps(told))\n"
        "print('\\033[2J' * 100000); print('x', file=sys.stderr)\n",
    )
    hidden = frozenset({"KAYAKO_API_KEY"})
    assert send(Settings(command=argv, hidden=hidden), "command") is None
    arguments, environ, message = json.loads(out.read_text())
    assert arguments == ["; rm -rf x", "$(id)"]
    ours = {name: value for name, value in environ.items() if name.startswith("MIGRATOR_E")}
    assert ours == {
        "MIGRATOR_EVENT": "failure",
        "MIGRATOR_EVENT_ID": "msg_1",
        "MIGRATOR_EVENT_TIME": "2023-11-14T22:13:20Z",
        "MIGRATOR_EXIT_CODE": "4",
    }
    assert (environ["MIGRATOR_COMMAND"], environ["MIGRATOR_RUN"]) == ("sync", "7")
    assert "KAYAKO_API_KEY" not in environ
    assert message["data"] == BODY
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
    ],
)
def test_a_command_that_fails(tmp_path: Path, text: str, told: str) -> None:
    """Its exit code is the reason."""
    assert told in (send(Settings(command=script(tmp_path, text)), "command") or "")


def test_the_script_of_the_manual_mails_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands there, with whatever sends mail on this machine."""
    page = (Path(migrator.__file__).parent / "docs" / "notify.md").read_text("utf-8")
    (text,) = re.findall(r"^```sh\n(#!.*?)^```", page, re.MULTILINE | re.DOTALL)
    mail = f'#!/bin/sh\n(echo "$@"; cat) > {shlex.quote(str(tmp_path / "mailed"))}\n'
    for name, lines in {"tell-us": text, "mail": mail}.items():
        (tmp_path / name).write_text(lines)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert send(Settings(command=(str(tmp_path / "tell-us"),)), "command") is None
    mailed = (tmp_path / "mailed").read_text()
    assert mailed == "-s migrator: sync failed ops@example.com\na\nb\n"


def test_a_command_that_reads_nothing_has_done_its_work(tmp_path: Path) -> None:
    """Whether it reads the JSON is its own business."""
    argv = script(tmp_path, "import os; os.close(0)")
    assert send(Settings(command=argv), "command") is None


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    """It is run once, and nothing of it is left."""
    pids = tmp_path / "pids"
    text = (
        "import os, time\n"
        f"open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
        "os.fork(); time.sleep(60)\n"
    )
    began = time.monotonic()
    problem = send(Settings(command=script(tmp_path, text), timeout=0.5), "command")
    assert "no answer in time" in (problem or "")
    assert time.monotonic() - began < 5
    (pid,) = map(int, pids.read_text().split())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_command_that_is_none(tmp_path: Path) -> None:
    """A path without a file is told, not raised."""
    told = send(Settings(command=(str(tmp_path / "none"),)), "command")
    assert told == "it cannot be run: No such file or directory"
