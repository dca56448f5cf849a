"""``migrator serve``."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from migrator import cli as frame
from migrator.serve.catalog import EndpointSettings
from tests.cli.conftest import Cli


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Make a certificate and its key, for one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    file = tmp_path_factory.mktemp("tls") / "key.pem"
    made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    told = subprocess.run(
        [openssl, *made, "-subj", "/CN=localhost", "-keyout", str(file)],
        check=True,
        capture_output=True,
    )
    return told.stdout + file.read_bytes()


ROOT = Path(frame.__file__).parent.parent.parent


def test_what_the_configuration_says_is_served(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings come from the file, host and port from the options where given."""
    calls: list[dict[str, Any]] = []
    settings: list[Any] = []
    monkeypatch.setattr("migrator.serve.tickiti.build_app", lambda _, given: settings.append(given))
    monkeypatch.setattr("migrator.serve.server.serve", lambda _, **options: calls.append(options))
    (home / "config.toml").write_text(
        '[tickiti]\nhost = "::1"\nport = 81\nmax_download = "1MiB"\nserve_deleted = true\n'
    )
    code, out, err = cli("serve")
    assert (code, out) == (0, "")
    assert "there is no token" in err.lower()
    cli("token", "create", "--name", "n", "--ability", "tickets:read")
    assert cli("serve", "--port", "0", "--host", "0.0.0.0")[2] == ""
    assert [(call["host"], call["port"]) for call in calls] == [("::1", 81), ("0.0.0.0", 0)]
    assert settings[0] == EndpointSettings(1 << 20, serve_deleted=True, posts_follow=True)


def test_what_makes_it_safe_to_expose_is_handed_on(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies, connections and the audit log come from the file; options win over it."""
    calls: list[Any] = []
    monkeypatch.setattr("migrator.serve.server.serve", lambda app, **options: calls.append(options))
    (home / "config.toml").write_text(
        '[tickiti]\nforwarded_allow_ips = "10.0.0.1"\nmax_connections = 7\naudit_log = "a.jsonl"\n'
    )
    assert cli("serve")[0] == 0
    assert cli("serve", "--forwarded-allow-ips", "::1", "--audit-log", "b.jsonl")[0] == 0
    found = [call["options"] for call in calls]
    assert [each.trusted_proxies for each in found] == ["10.0.0.1", "::1"]
    assert [each.limits.connections for each in found] == [7, 7]
    assert (home / "a.jsonl").exists()
    assert (home / "b.jsonl").exists()


def test_two_claims_to_a_number_are_told(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ticket whose id is the number of another one is named before clients get the wrong one."""
    monkeypatch.setattr("migrator.serve.server.serve", lambda _, **options: None)
    (home / "map.csv").write_text("kayako_ticket_id,ticket_number\n11,10\n")
    (home / "config.toml").write_text('[tickiti]\nticket_numbers = "map.csv"\n')
    code, _, err = cli("serve")
    assert code == 0
    assert "numbers of other tickets: 10, and perhaps more" in err


@pytest.mark.parametrize(
    ("arguments", "url", "warns"),
    [
        ([], "http://127.0.0.1:8480", False),
        ([], "http://[::1]:8480", False),
        (["--host", "0.0.0.0"], "http://0.0.0.0:8480", True),
        (["--host", "::"], "http://[::]:8480", True),
        (["--host", "192.0.2.7"], "http://192.0.2.7:8480", True),
        (["--tls-cert", "both.pem"], "https://0.0.0.0:8480", False),
    ],
)
def test_exposed_without_tls_is_warned_of(  # noqa: PLR0917
    cli: Cli,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    certificate: bytes,
    arguments: list[str],
    url: str,
    warns: bool,
) -> None:
    """Other machines get in without TLS only after a warning, and the address can be opened."""
    monkeypatch.setattr(
        "migrator.serve.server.serve", lambda _, **options: options["on_ready"](url)
    )
    (home / "both.pem").write_bytes(certificate)
    code, _, err = cli("serve", *arguments)
    assert code == 0
    assert ("Without TLS, anybody on the way" in err) is warns
    assert f"Serving {home / 'archive'} at http" in err
    others = err.partition("From other machines: ")[2].partition("\n")[0]
    assert not re.search(r"//(127\.|0\.0\.0\.0|\[::1?\])", others)


@pytest.mark.parametrize("proxies", ["*", "0.0.0.0/0", "::/0", "10.0.0.1, 128.0.0.0/1"])
def test_believing_everybody_is_warned_of(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch, proxies: str
) -> None:
    """Who trusts the whole world to name addresses is told what that costs."""
    monkeypatch.setattr("migrator.serve.server.serve", lambda _, **options: None)
    assert "believes anybody" in cli("serve", "--forwarded-allow-ips", proxies)[2]
    assert "believes anybody" not in cli("serve", "--forwarded-allow-ips", "10.0.0.0/8")[2]


@pytest.mark.parametrize(
    ("mode", "warns"), [(0o600, False), (0o400, False), (0o644, True), (0o604, True)]
)
def test_key_that_others_may_read_is_warned_of(  # noqa: PLR0917
    cli: Cli,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    certificate: bytes,
    mode: int,
    warns: bool,
) -> None:
    """Permissions of the key are looked at, wherever it is."""
    monkeypatch.setattr("migrator.serve.server.serve", lambda _, **options: None)
    (home / "both.pem").write_bytes(certificate)
    (home / "both.pem").chmod(mode)
    assert (
        "Other users may read the TLS key" in cli("serve", "--tls-cert", "both.pem")[2]
    ) is warns


def test_queue_of_two_departments_is_told(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A department's own id that another one was mapped to is told wherever it matters."""
    monkeypatch.setattr("migrator.serve.server.serve", lambda _, **options: None)
    (home / "config.toml").write_text('[tickiti.queues]\n"1" = { id = 3, name = "Help" }\n')
    create = ("token", "create", "--name", "n", "--ability", "tickets:read")
    for argv in (("queue", "list"), ("serve",), create, (*create, "--queue", "3")):
        code, _, err = cli(*argv)
        assert code == 0
        assert "Queue 3 stands for the departments 1 (Support) and 3 (Sal" in err
        assert "Nothing maps 3" in err


def test_pages_that_search_keep_no_call_of_the_api_waiting(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages read on a connection of their own, also where nothing may be written."""
    seen: list[Any] = []
    monkeypatch.setattr("migrator.serve.server.serve", lambda _, **options: None)
    monkeypatch.setattr(
        "migrator.serve.tickiti.build_app", lambda archive, *_: seen.append(archive)
    )
    monkeypatch.setattr("migrator.serve.web.build_pages", lambda archive, *_: seen.append(archive))
    assert cli("serve")[0] == cli("serve", "--read-only")[0] == 0
    assert len({id(archive.ledger) for archive in seen}) == 4
    assert [archive.read_only for archive in seen] == [False, False, True, True]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tls-cert", "absent.pem"], "Cannot read absent.pem"),
        (["--tls-key", "absent.pem"], "needs a certificate"),
        (["--tls-cert", "config.toml"], "must be PEM"),
        (["--forwarded-allow-ips", "proxy"], "'proxy' is not the address"),
        (["--audit-log", "absent/audit"], "Cannot write the audit log"),
    ],
)
def test_what_cannot_be_served_is_told_before_the_start(
    cli: Cli, home: Path, arguments: list[str], words: str
) -> None:
    """Each mistake ends with exit code 2 and says what to change."""
    code, _, err = cli("serve", "--port", "0", *arguments)
    assert code == 2
    assert words in err


@pytest.mark.slow
def test_a_file_is_served_until_the_interrupt(cli: Cli, home: Path) -> None:
    """The address is told, a stored file comes back, and Ctrl-C ends the server cleanly."""
    token = cli("token", "create", "--name", "n", "--ability", "tickets:read")[1].split()[-1]
    cli("rule", "set", "txt", "allow")
    server = subprocess.Popen(
        [sys.executable, "-m", "migrator", "serve", "--port", "0"],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    guard = threading.Timer(60, server.kill)
    guard.start()
    try:
        assert server.stderr is not None
        said = server.stderr.readline()
        address = re.search(r"at (http://\S+) until", said)
        assert address, said
        request = urllib.request.Request(
            f"{address[1].rstrip('/')}/api/v1/tickets/attachment",
            data=json.dumps({"ticket_number": "10", "response_attachment_id": "1"}).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            assert '"content_base64":"YWJj"' in reply.read().decode().replace(": ", ":")
        server.send_signal(signal.SIGINT)
        assert server.wait(30) in {0, 130}
    finally:
        guard.cancel()
        server.kill()
        server.communicate()
