"""``migrator source`` and ``migrator doctor`` against the look-alike."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.cli.disk import check, file_system
from migrator.cli.doctor_cmd import examine
from migrator.cli.source_cmd import FileSink
from migrator.config import load
from migrator.errors import ConfigError, NotFound
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.sources.base import Attachment, Department
from migrator.sources.kayako.client import Client
from migrator.sources.kayako.signing import KayakoSettings, UrlForm
from tests.cli.conftest import Cli


@pytest.fixture
def helpdesk(tmp_path: Path) -> Iterator[Helpdesk]:
    """Serve a small helpdesk that the configuration points to."""
    desk = Helpdesk.build(SandboxOptions(tickets=12))
    with SandboxServer(desk) as server:
        configure(tmp_path, server)
        yield desk


def configure(home: Path, server: SandboxServer, more: str = "") -> None:
    path = home / "config.toml"
    path.write_text(f"{server.config}{more}")
    path.chmod(0o600)


def an_attachment(desk: Helpdesk) -> int:
    return next(
        number
        for number, truth in desk.truth.items()
        if truth.state == "stored" and truth.size and not truth.faults
    )


def ticket_of(desk: Helpdesk, attachment: int) -> tuple[int, int]:
    found = desk.attachments[attachment]
    return found.ticket_id, found.post_id


def test_list_get_upload_delete(cli: Cli, helpdesk: Helpdesk, tmp_path: Path) -> None:
    """One attachment goes up, is listed, comes back byte for byte, and is deleted."""
    ticket, post = ticket_of(helpdesk, an_attachment(helpdesk))
    (tmp_path / "up load.bin").write_bytes(b"\0\1\2" * 1000)
    code, out, err = cli("source", "upload", str(ticket), str(post), "up load.bin")
    assert code == 0
    number = out.strip()
    assert "3,000 bytes" in err
    code, out, _ = cli("source", "list", str(ticket))
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines() if line.startswith(f"{number} ")] == [
        [number, str(post), "3,000"]
    ]
    digest = hashlib.sha256(b"\0\1\2" * 1000).hexdigest()
    code, out, _ = cli("source", "list", str(ticket), "--post", str(post))
    assert digest in out
    code, out, _ = cli("source", "get", str(ticket), number, "--output", "down.bin")
    assert (code, out) == (0, f"{digest}  down.bin\n")
    assert (tmp_path / "down.bin").read_bytes() == b"\0\1\2" * 1000
    assert cli("source", "delete", str(ticket), number, "--yes")[0] == 0
    assert cli("source", "get", str(ticket), number)[0] == 4
    assert cli("source", "delete", str(ticket), number, "--yes")[0] == 4


def test_a_ticket_goes_by_its_id(cli: Cli, helpdesk: Helpdesk) -> None:
    """Also with a # before it; of another number of it the message says what is wanted."""
    number = an_attachment(helpdesk)
    ticket, _ = ticket_of(helpdesk, number)
    for name in (f"#{ticket}", f" {ticket}", f"0{ticket}"):
        assert str(number) in cli("source", "list", name).out
    for name in ("ABC-123-45678", "", "#", "9" * 30, "1.5"):
        assert cli("source", "get", name, "1").refused("is no ticket id")


def test_an_upload_that_cannot_be_read(
    cli: Cli, helpdesk: Helpdesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is missing or unreadable is the user's to mend, and nothing is sent."""
    assert cli("source", "upload", "1", "1", "none").refused("'none' does not exist")
    (tmp_path / "locked").touch()

    def locked(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", locked)
    code, _, err = cli("source", "upload", "1", "1", "locked")
    assert code == 2
    assert "Cannot read 'locked': Permission denied." in err


def test_an_upload_that_arrives_otherwise(
    cli: Cli, helpdesk: Helpdesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When Kayako counts other bytes than were sent, that is a warning."""

    async def upload(*_: object) -> Attachment:
        return Attachment(9, 1, 2, "x", 2)

    monkeypatch.setattr("migrator.sources.kayako.client.Client.upload", upload)
    (tmp_path / "x").write_bytes(b"abc")
    code, out, err = cli("source", "upload", "1", "2", "x")
    assert (code, out) == (0, "9\n")
    assert "Warning: But the file has 3 bytes." in err


def test_get_never_overwrites(cli: Cli, helpdesk: Helpdesk, tmp_path: Path) -> None:
    """An existing file stays, and no temporary one is left."""
    number = an_attachment(helpdesk)
    ticket, _ = ticket_of(helpdesk, number)
    (tmp_path / "mine").write_text("mine")
    code, out, err = cli("source", "get", str(ticket), str(number), "--output", "mine")
    assert (code, out) == (2, "")
    assert "already exists" in err
    assert (tmp_path / "mine").read_text() == "mine"
    assert not list(tmp_path.glob(".migrator*"))
    got = cli("source", "get", str(ticket), str(number), "--output", "none/x")
    assert got.refused("Cannot write 'none'")


def test_delete_asks_first(cli: Cli, helpdesk: Helpdesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a yes nothing is deleted, also where there is nobody to ask."""
    number = an_attachment(helpdesk)
    ticket, _ = ticket_of(helpdesk, number)
    for answer in ("n\n", ""):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        code, out, err = cli("source", "delete", str(ticket), str(number))
        assert (code, out) == (2, "")
        assert "Nothing was deleted" in err
        assert cli("source", "list", str(ticket))[1].count(f"\n{number} ") == 1
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert cli("source", "delete", str(ticket), str(number))[0] == 0


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [("missing_file", 4, "has none"), ("short_contents", 0, "Warning: Kayako lists")],
)
def test_get_tells_what_is_odd(cli: Cli, tmp_path: Path, fault: str, code: int, said: str) -> None:
    """Bytes that the source lost are an error, a wrong length is a warning."""
    desk = Helpdesk.build(SandboxOptions(tickets=40, faults=frozenset({fault})))
    number = next(n for n, truth in desk.truth.items() if fault in truth.faults)
    ticket, _ = ticket_of(desk, number)
    with SandboxServer(desk) as server:
        configure(tmp_path, server)
        got = cli("source", "get", str(ticket), str(number), "--output", "x")
    assert got[0] == code
    assert said in got[2]
    assert (tmp_path / "x").exists() == (code == 0)


def test_a_full_disk_while_getting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails is told, and the temporary file goes."""
    sink = FileSink(tmp_path)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(ConfigError, match="No space left"):
        sink.write(b"x")
    sink.abort()
    assert not list(tmp_path.iterdir())


def marks(out: str) -> list[str]:
    return [line.split(" ")[0] for line in out.splitlines() if line and line[0] in "owF"]


def test_a_healthy_helpdesk(cli: Cli, helpdesk: Helpdesk, tmp_path: Path) -> None:
    """The doctor finds all in order, fetches one attachment, and leaves nothing behind."""
    code, out, _ = cli("doctor")
    assert code == 0
    assert "FAIL" not in out
    assert 'accepted (url_form "e")' in out
    assert "SHA-256" in out
    assert "ok    knowledge base: 6 articles" in out
    assert "ok    troubleshooter: 4 steps" in out
    assert "ok    custom fields of tickets: " in out
    assert out.endswith("Ready: `migrator plan` comes next.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("auth_fail", 4, "FAIL  the departments"),
        ("api_off", 4, "FAIL  the departments"),
        ("no_count", 0, "warn  tickets: this server cannot count"),
        ("no_paging", 0, "ok    attachment"),
        ("no_guides", 0, "ok    troubleshooter: this helpdesk does not offer it"),
        ("no_fields", 0, "ok    custom fields: this helpdesk does not offer them"),
    ],
)
def test_what_is_wrong_with_the_source(
    cli: Cli, tmp_path: Path, fault: str, code: int, said: str
) -> None:
    """Each state of the server is told, with the exit code of what stands in the way."""
    desk = Helpdesk.build(SandboxOptions(tickets=12, faults=frozenset({fault})))
    with SandboxServer(desk) as server:
        configure(tmp_path, server)
        got, out, _ = cli("doctor")
    assert got == code
    assert said in out
    assert ("Not ready yet." in out) == (code != 0)


def test_an_address_that_is_not_kayako(cli: Cli, tmp_path: Path, helpdesk: Helpdesk) -> None:
    """A page that is no API gets the hint to look at the address."""
    config = tmp_path / "config.toml"
    config.write_text(config.read_text().replace("/api/index.php", "/staff/index.php"))
    code, out, _ = cli("doctor")
    assert code == 4
    assert "usually ends in /api/index.php" in out


def test_a_server_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    """No answer is told once, with exit code 4, and the disk is looked at all the same."""
    (tmp_path / "config.toml").write_text(
        '[kayako]\nurl = "http://127.0.0.1:9/"\napi_key = "k"\nsecret_key = "s"\nattempts = 1\n'
    )
    code, out, _ = cli("doctor")
    assert code == 4
    assert out.count("FAIL") == 1
    assert "disk: a file was written" in out


def test_another_url_form_is_advised(
    helpdesk: Helpdesk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """When only the other form works, the doctor says which key to change; exit code 2."""

    class OnlyStandard(Client):
        async def departments(self) -> list[Department]:
            if self.form is UrlForm.QUERY:  # type: ignore[attr-defined]
                raise NotFound("no such page")
            return await super().departments()

    def connect(settings: KayakoSettings) -> Client:
        client = OnlyStandard(settings)
        client.form = settings.url_form  # type: ignore[attr-defined]
        return client

    assert asyncio.run(examine(load(tmp_path / "config.toml"), connect)) == 2
    out = capsys.readouterr().out
    assert 'FAIL  url_form "e" does not work here, "standard" does: change it' in out
    assert "SHA-256" in out


def test_the_place_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loose modes, network shares and unwritable places are told; nothing is left behind."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"a / ext4 rw 0 0\nb {tmp_path}/my\\040share nfs4 rw 0 0\n")
    share = tmp_path / "my share"
    share.mkdir(mode=0o755)
    share.chmod(0o755)
    said = {finding.mark: finding.text for finding in check(share, mounts)}
    texts = " ".join(finding.text for finding in check(share, mounts))
    assert "network share (nfs4)" in texts
    assert "chmod 700" in texts
    assert "FAIL" not in said
    share.chmod(0o700)
    assert "only its owner" in " ".join(finding.text for finding in check(share, mounts))
    assert "made by the first run" in next(iter(check(share / "a" / "b", mounts))).text
    assert not list(share.iterdir())
    assert file_system(tmp_path, mounts) == "ext4"
    assert file_system(tmp_path, tmp_path / "none") is None

    def no_sync(_: int) -> None:
        raise OSError(30, "Read-only file system")

    little = check(share, mounts, little_room=1 << 80, few_files=1 << 80)
    assert "more files only" in " ".join(finding.text for finding in little)
    monkeypatch.setattr("os.fsync", no_sync)
    codes = {finding.mark: finding.exit_code for finding in check(share, mounts)}
    assert codes["FAIL"] == 7
    assert not list(share.iterdir())
