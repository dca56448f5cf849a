"""``sandbox`` and ``demo``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from migrator.cli import COMMANDS
from migrator.sandbox.kayako import FAULTS_OF_KIND
from tests.cli.conftest import Cli

pytestmark = pytest.mark.slow


def test_demo_tells_the_whole_story(cli: Cli, tmp_path: Path) -> None:
    """The demo pulls, balances, serves, and reads a file back byte for byte."""
    ran = cli("demo", "--tickets", "45", "--keep", str(tmp_path / "kept"))
    assert "Mails sent: 0." in ran.out
    assert ran.code == 0, ran.err
    assert "Complete: every attachment" in ran.out
    assert '"content_base64"' in ran.out
    assert "byte for byte the same" in ran.out
    assert (tmp_path / "kept/checkpoint.db").exists()


def test_demo_keeps_files_in_a_real_bucket(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``--s3`` the same story is told of a bucket, which ends with the demo."""
    pytest.importorskip("obstore", reason="the extra [s3] is not installed")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    ran = cli("demo", "--s3", "--tickets", "8")
    assert ran.code == 0, ran.err
    assert "The files are in s3://" in ran.out
    assert "byte for byte the same" in ran.out
    assert cli("demo", "--s3", "--keep", str(tmp_path / "kept")).refused("do not go together")


def test_demo_with_all_faults_is_honest(cli: Cli) -> None:
    """With faults that cost files, the demo ends with 3 and lists them."""
    ran = cli("demo", "--all-faults", "--tickets", "30")
    assert ran.code == 3
    assert "Failed, missing and gone" in ran.out


def test_sandbox_serves_until_it_is_asked_to_stop(tmp_path: Path) -> None:
    """The sandbox prints a usable configuration, serves, writes the truth, and stops cleanly."""
    truth = tmp_path / "truth.json"
    command = [sys.executable, "-m", "migrator", "sandbox", "--port", "0", "--tickets", "5"]
    with subprocess.Popen(
        [*command, "--truth", str(truth)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        text = b"".join(process.stdout.readline() for _ in range(4)).decode()
        config = tomllib.loads(text)["kayako"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(config["url"] + "?e=/Base/Department", timeout=10)
        refused.value.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert refused.value.code == 401
    told = json.loads(truth.read_text())
    assert {one["state"] for one in told.values()} == {"stored"}
    kinds = ["post", "customfield", "article", "step", "linked"]
    assert sorted({one["kind"] for one in told.values()}) == sorted(kinds)


def test_sandbox_names_its_faults(cli: Cli) -> None:
    """--list-faults names every switch; an unknown one is a usage error that says so."""
    named = cli("sandbox", "--list-faults")
    assert named.code == 0
    assert "missing_file" in named.out
    wrong = cli("sandbox", "--fault", "gremlins")
    assert wrong.code == 2
    assert "--list-faults" in wrong.err
    assert cli("sandbox", "--big", "huge").refused("--big")
    named = cli("sandbox", "--tickiti", "--list-faults")
    assert "lost_answer" in named.out
    wrong = cli("sandbox", "--tickiti", "--fault", "lost_answer@0")
    assert wrong.code == 2
    assert "--tickiti --list-faults" in wrong.err
    assert cli("sandbox", "--mapping", "map.csv").refused("--tickiti")


def test_sandbox_of_tickiti(tmp_path: Path) -> None:
    """It prints what fits it, numbers the tickets, answers, and writes at the end what it holds."""
    truth, mapping = tmp_path / "truth.json", tmp_path / "map.csv"
    command = [sys.executable, "-m", "migrator", "sandbox", "--tickiti", "--port", "0"]
    options = ["--tickets", "5", "--truth", str(truth), "--mapping", str(mapping)]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        text = b"".join(process.stdout.readline() for _ in range(7)).decode()
        config = tomllib.loads(text)["deliver"]
        whole = tomllib.loads(text.replace("\n# ", "\n").replace("\nTo deliver", "\n# To deliver"))
        assert whole["tickiti"]["ticket_numbers"] == str(mapping)
        assert whole["deliver"]["author"]
        head, *rows = mapping.read_text().splitlines()
        number = rows[0].partition(",")[2]
        request = urllib.request.Request(
            f"{config['url']}/api/v1/tickets/show",
            json.dumps({"ticket_number": number}).encode(),
            {"Authorization": f"Bearer {config['token']}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            shown = json.load(answer)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert head == "kayako_ticket_id,ticket_number"
    assert str(shown["data"]["ticket"]["number"]) == number
    told = json.loads(truth.read_text())
    assert told["mails"] == []
    assert number in told["tickets"]


def test_sandbox_has_as_much_of_each_kind_as_asked(tmp_path: Path) -> None:
    """Nothing of a kind with 0, more with more, and a kind's faults by its name."""
    truth = tmp_path / "truth.json"
    options = "--notes 0 --field-files 0 --articles 9 --steps 0 --links 0 --fault article"
    command = [sys.executable, "-m", "migrator", "sandbox", "--port", "0", *options.split()]
    with subprocess.Popen(
        [*command, "--truth", str(truth)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    told = json.loads(truth.read_text())
    assert {one["kind"] for one in told.values()} == {"post", "article"}
    faults = {name for one in told.values() for name in one["faults"]}
    assert faults == {name for name in FAULTS_OF_KIND["article"] if not name.endswith("_list")}
    assert ", 0 notes and time tracks at" in said


def test_sandbox_needs_a_free_port(cli: Cli) -> None:
    """A port in use is told as such."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = cli("sandbox", "--port", str(taken.getsockname()[1]))
    assert refused.code == 2
    assert "cannot listen" in refused.err


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(cli: Cli, command: str) -> None:
    """Each command has a help text that begins with the words of the overview."""
    told = cli(command, "--help")
    assert told.code == 0
    assert "\\b" not in told.out
    assert told.out.startswith(f"Usage: migrator {command}")
