"""-q and -v, before and after the command: what stderr shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.cli import COMMANDS
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from tests.cli.conftest import Cli


@pytest.fixture
def helpdesk(tmp_path: Path) -> Iterator[SandboxServer]:
    """Serve a small helpdesk that the configuration of ``cli`` names."""
    options = SandboxOptions(tickets=2, faults=frozenset({"error_500"}), latency=0)
    with SandboxServer(Helpdesk.build(options)) as server:
        config = tmp_path / "config.toml"
        config.write_text(f"{server.config}attempts = 1\npatience = '0s'\n")
        config.chmod(0o600)
        yield server


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_both_options(cli: Cli, command: str) -> None:
    """They stand in the help of each command, and of its subcommands."""
    words = {"token": ["token", "list"], "source": ["source", "get"]}.get(command, [command])
    said = cli(*words, "--help").out
    assert "-q, --quiet" in said
    assert "-v, --verbose" in said


@pytest.mark.parametrize("argv", [("-q", "run"), ("run", "-q"), ("-v", "run", "--quiet")])
def test_quiet_keeps_the_result_only(
    cli: Cli, helpdesk: SandboxServer, argv: tuple[str, ...]
) -> None:
    """No progress and no notes: stderr is empty, stdout has the ledger, the code stays."""
    result = cli(*argv)
    assert result.code in (0, 3)
    assert result.err == ""
    assert "listed" in result.out


@pytest.mark.parametrize("command", ["verify", "audit", "plan", "handover"])
def test_quiet_shows_no_progress_of_what_is_read(
    cli: Cli, helpdesk: SandboxServer, command: str
) -> None:
    """No last line of it either."""
    cli("run")
    words = (command, "pack") if command == "handover" else (command,)
    assert cli("-q", *words).err == ""


def test_quiet_keeps_warnings_and_errors(cli: Cli, home: Path) -> None:
    """What one must know is printed all the same, as JSON too."""
    (home / "config.toml").write_text('[kayako]\napi_key = "not-for-others"\n')
    (home / "config.toml").chmod(0o644)
    for words in ([], ["--log-format", "json"]):
        result = cli("-q", *words, "token", "revoke", "99")
        assert result.code == 2
        assert "others can read it" in result.err
        assert "rror" in result.err


@pytest.mark.parametrize("words", [[], ["--log-format", "json"]])
def test_verbose_adds_the_outcome_of_each_request(
    cli: Cli, helpdesk: SandboxServer, words: list[str]
) -> None:
    """Good and bad ones, for runs and for single calls; no key is ever among them."""
    said = cli(*words, "run", "-v").err + cli("doctor", "-v").err
    for told in ("the departments", "the attachments of ticket", "server_error"):
        assert told in said
    assert "the departments: ok after 0." in said
    keys = [line.split('"')[1] for line in helpdesk.config.splitlines() if "_key" in line]
    assert len(keys) == 2
    for secret in (*keys, "signature", "salt"):
        assert secret not in said


def test_without_it_no_request_is_named(cli: Cli, helpdesk: SandboxServer) -> None:
    """The usual output has no line for a request, also as JSON."""
    assert "ok after" not in cli("run").err
    assert '"requested"' not in cli("--log-format", "json", "run").err
