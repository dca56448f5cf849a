"""Metrics of the commands: the textfile, and how `serve` is told to have them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

import migrator
from migrator.archive import open_archive
from migrator.cli import textfile
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from tests.cli.conftest import Cli


@pytest.fixture
def helpdesk(tmp_path: Path) -> Iterator[SandboxServer]:
    """Serve a small helpdesk; a run of it writes metrics.prom."""
    with SandboxServer(Helpdesk.build(SandboxOptions(tickets=2, latency=0))) as server:
        config = tmp_path / "config.toml"
        config.write_text(f'{server.config}[metrics]\ntextfile = "metrics.prom"\n')
        config.chmod(0o600)
        yield server


def values(path: Path) -> dict[str, float]:
    """Give the samples of a file that have no label."""
    families = parse(path.read_text())
    return {one.name: one.value for each in families for one in each.samples if not one.labels}


def test_commands_write_what_they_changed(
    cli: Cli, helpdesk: SandboxServer, tmp_path: Path
) -> None:
    """After a run, a verify and a sync the file has their times; others may read it, once whole."""
    path = tmp_path / "metrics.prom"
    umask = os.umask(0o077)
    try:
        assert cli("run").code == 0
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    first = values(path)
    assert first["migrator_verdict_code"] == first["migrator_run_at_work"] == 0
    assert first["migrator_run_received_bytes_total"] > 0
    assert "migrator_last_verify_timestamp_seconds" not in first
    assert cli("verify").code == cli("sync").code == 0
    then = values(path)
    assert then["migrator_last_verify_exit_code"] == 0
    assert (
        then["migrator_run_start_timestamp_seconds"] >= first["migrator_run_end_timestamp_seconds"]
    )
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".migrator")] == []


def test_a_failing_run_writes_it_too(cli: Cli, helpdesk: SandboxServer, tmp_path: Path) -> None:
    """When the helpdesk is gone, the file says so while the exit code is that of the run."""
    assert cli("run").code == 0
    helpdesk.__exit__(None, None, None)
    with (tmp_path / "config.toml").open("a") as config:
        config.write('[sync]\nmargin = "1h"\n')
    text = (tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(text.replace("[metrics]", "patience = '0s'\n[metrics]"))
    (tmp_path / "metrics.prom").unlink()
    assert cli("sync").code == 4
    found = values(tmp_path / "metrics.prom")
    assert found["migrator_tickets"] > 0


@pytest.mark.parametrize("place", ["missing/metrics.prom", "directory.prom"])
def test_what_cannot_be_written_is_a_warning(
    cli: Cli, helpdesk: SandboxServer, tmp_path: Path, place: str
) -> None:
    """The run ends as it would have, and stderr names the file and the reason, once."""
    (tmp_path / "directory.prom").mkdir()
    config = tmp_path / "config.toml"
    config.write_text(config.read_text().replace("metrics.prom", place))
    result = cli("run")
    assert result.code == 0
    assert result.err.count("The metrics could not be written") == 1
    assert place in result.err


def test_it_is_written_meanwhile(home: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before a run ends there is a file, and again."""
    from migrator.config import load

    monkeypatch.setattr(textfile, "EVERY", 0.01)
    monkeypatch.chdir(home)
    (home / "config.toml").write_text('[metrics]\ntextfile = "metrics.prom"\n')
    target = home / "metrics.prom"
    opened = open_archive(home / "archive", command="test")
    with opened as archive, textfile.measured(load(None, {}, need_source=False), archive):
        for _ in range(2):
            while not target.exists():
                pass
            target.unlink()
    assert target.exists()


def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("prometheus_client")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("migrator.report.metrics", "migrator.serve.metrics"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr("migrator.report.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)


def test_without_the_extra_serve_says_what_to_install(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start, not at the first scrape; without metrics, nothing is missed."""
    served: list[Any] = []
    monkeypatch.setattr("migrator.serve.server.serve", lambda app, **_: served.append(app))
    without_library(monkeypatch)
    assert cli("serve", "--metrics").refused("install '.[metrics]'")
    assert served == []
    assert cli("serve").code == 0


def test_without_the_extra_a_run_only_warns(
    cli: Cli, helpdesk: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files matter more than their figures."""
    without_library(monkeypatch)
    result = cli("run")
    assert result.code == 0
    assert "Metrics need the extra [metrics]" in result.err


@contextlib.contextmanager
def serving(home: Path, *words: str, **env: str) -> Iterator[str]:
    """Run `serve` in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    root = str(Path(migrator.__file__).parent.parent)
    with subprocess.Popen(
        [sys.executable, "-m", "migrator", "serve", "--port", str(port), *words],
        cwd=home,
        env=os.environ | {"PYTHONPATH": root} | env,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stderr is not None
        try:
            while "Serving" not in server.stderr.readline():
                assert server.poll() is None
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=30)


@pytest.mark.slow
def test_all_workers_say_the_same(home: Path) -> None:
    """Whichever process answers, the figures are those of the archive."""
    secret = "0123456789abcdef"
    with serving(home, "--workers", "3", MIGRATOR_METRICS_TOKEN=secret) as url:
        asked = urllib.request.Request(
            f"{url}/metrics", headers={"Authorization": f"Bearer {secret}"}
        )
        said = set()
        for _ in range(30):
            with urllib.request.urlopen(asked) as answer:
                said.add(answer.read())
    (text,) = said
    assert b'migrator_attachments{kind="post",state="stored"} 1.0' in text
