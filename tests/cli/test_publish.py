"""``publish`` and ``restore``: the bucket is a whole archive, on a real SeaweedFS."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from migrator.archive import open_beside
from migrator.blobs import Place
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from tests.blobs import weed
from tests.cli.conftest import Cli

BARE = {"links": 0, "articles": 0, "steps": 0, "field_files": 0}


def test_an_archive_on_a_disk_has_no_snapshots(cli: Cli, home: Path) -> None:
    """Without a bucket there is nothing to publish into, and a run is refused before it begins."""
    assert cli("publish").refused("Snapshots need a bucket")
    (home / "config.toml").write_text(
        '[kayako]\nurl = "http://127.0.0.1:9"\napi_key = "a"\nsecret_key = "b"\n'
        "[archive]\npublish = true\n"
    )
    assert cli("run").refused("archive.publish needs a bucket")


@pytest.mark.parametrize(
    "url", ["s3:/bucket", "https://bucket/prefix", "s3://Bucket/../x", "s3://"]
)
def test_what_is_no_bucket_is_refused(cli: Cli, url: str) -> None:
    """A mistyped address is a mistake of usage, and nothing is made."""
    assert cli("restore", url, "there").refused("must look like")
    assert not Path("there").exists()


class Desk:
    """A helpdesk and the configuration of an archive in a bucket."""

    def __init__(self, root: Path, place: Place) -> None:
        self.place = place
        self.server = SandboxServer(Helpdesk.build(SandboxOptions(seed=2, tickets=8, **BARE)))  # type: ignore[arg-type]
        self.server.start()
        self.configure(root, "archive")

    def configure(self, root: Path, path: str, more: str = "") -> None:
        """Write the configuration of an archive at ``path``."""
        config = root / "config.toml"
        config.write_text(
            f'[kayako]\nurl = "{self.server.url}"\napi_key = "{self.server.api_key}"\n'
            f'secret_key = "{self.server.secret_key}"\nattempts = 1\n'
            f'[archive]\npath = "{path}"\nblobs = "{self.place.url}"\n{more}\n'
            f'[s3]\nendpoint = "{self.place.endpoint}"\nregion = "us-east-1"\nallow_http = true\n'
        )
        config.chmod(0o600)

    def contents(self) -> list[str]:
        """Give the requests for contents of files so far."""
        paths = [path for _, path in self.server.requests]
        return [one for one in paths if "TicketAttachment/" in one and "ListAll" not in one]

    def get(self, key: str) -> httpx.Response:
        """Read an object past the tool."""
        return httpx.get(self.url(key))

    def url(self, key: str) -> str:
        """Give the address of an object."""
        return f"{self.place.endpoint}/{self.place.url.removeprefix('s3://')}/snapshots/{key}"

    def latest(self) -> dict[str, str]:
        """Read what is the newest."""
        found: dict[str, str] = self.get("latest").json()
        return found


@pytest.fixture(scope="module")
def service() -> Iterator[weed.Weed]:
    pytest.importorskip("obstore", reason="the extra [s3] is not installed")
    with weed.serving() as started:
        yield started


@pytest.fixture
def desk(tmp_path: Path, service: weed.Weed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    made = Desk(tmp_path, service.place())
    yield made
    made.server.stop()


@pytest.mark.slow
def test_a_bucket_alone_becomes_the_archive_again(cli: Cli, tmp_path: Path, desk: Desk) -> None:
    """What is published can be checked by hand, is restored whole, and the next run goes on."""
    assert cli("run").code == 0
    assert cli("publish").code == 0
    latest = desk.latest()
    packed = desk.get(latest["name"]).content
    assert hashlib.sha256(packed).hexdigest() == latest["sha256"]
    assert desk.get(f"{latest['name']}.sha256").text == f"{latest['sha256']}  {latest['name']}\n"
    assert gzip.decompress(packed).startswith(b"SQLite format 3")

    report = cli("report", "--format", "csv").out
    desk.configure(tmp_path, "back")
    refused = cli("run")  # on a new machine, where the checkpoint is missing
    assert (refused.code, "migrator restore" in refused.err) == (6, True), refused.err
    restored = cli("restore", desk.place.url, "back")
    assert restored.code == 0, restored.err
    assert cli("report", "--format", "csv").out == report
    assert cli("verify").code == 0
    asked = len(desk.contents())
    assert asked
    assert cli("run").code == 0
    assert len(desk.contents()) == asked
    assert sorted(each.name for each in (tmp_path / "back").iterdir() if each.name[0] == ".") == []


@pytest.mark.slow
def test_restore_leaves_what_is_there(cli: Cli, tmp_path: Path, desk: Desk) -> None:
    """An archive, or anything else, at the target is refused; so is a bucket without snapshots."""
    assert cli("run").code == 0
    missing = cli("restore", desk.place.url, "back")
    assert (missing.code, "There is no snapshot" in missing.err) == (2, True)
    assert cli("publish").code == 0
    assert cli("restore", desk.place.url, "archive").refused("There is something at")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    assert cli("restore", desk.place.url, "mine").refused("There is something at")
    assert cli("restore", desk.place.url, "back").code == 0


@pytest.mark.slow
def test_a_damaged_snapshot_is_never_an_archive(cli: Cli, tmp_path: Path, desk: Desk) -> None:
    """Wrong bytes are refused by their hash, leave nothing in the way, and an earlier one works."""
    assert cli("run").code == 0
    assert cli("publish").code == 0
    first = desk.latest()
    assert cli("token", "create", "--name", "t", "--ability", "tickets:read").code == 0
    assert cli("publish").code == 0
    name = desk.latest()["name"]
    good = desk.get(name).content
    for bad in (good[:-9], good[:50] + b"x" + good[51:], b"", gzip.compress(b"other"), good + good):
        httpx.put(desk.url(name), content=bad).raise_for_status()
        refused = cli("restore", desk.place.url, "back")
        assert (refused.code, "is damaged" in refused.err) == (6, True), refused.err
        assert not (tmp_path / "back" / "checkpoint.db").exists()
    httpx.delete(desk.url(name))
    assert "is not there" in cli("restore", desk.place.url, "back").err
    httpx.put(desk.url("latest"), content=json.dumps({"name": "../../x"}))
    assert "does not describe a snapshot" in cli("restore", desk.place.url, "back").err
    assert cli("restore", desk.place.url, "back", "--snapshot", "x").refused(first["name"])
    assert cli("restore", desk.place.url, "back", "--snapshot", first["name"]).code == 0
    with open_beside(tmp_path / "back") as archive:
        assert archive.access.tokens() == []


@pytest.mark.slow
def test_every_run_and_change_publishes_and_the_last_ones_stay(
    cli: Cli, tmp_path: Path, desk: Desk
) -> None:
    """With ``publish = true`` nothing else is needed; one that is kept is the newest."""
    desk.configure(tmp_path, "archive", "publish = true\nkeep_snapshots = 1")
    ran = cli("run")
    assert (ran.code, "Published" in ran.err) == (0, True), ran.err
    seen = [desk.latest()["name"]]
    for command in (
        ("sync",),
        ("token", "create", "--name", "t", "--ability", "tickets:read"),
        ("token", "revoke", "t"),
        ("rule", "set", "log", "allow"),
    ):
        done = cli(*command)
        assert (done.code, "Published" in done.err) == (0, True), done.err
        assert desk.latest()["name"] not in seen
        assert desk.get(seen[-1]).status_code == 404
        seen.append(desk.latest()["name"])
    restored = cli("restore", desk.place.url, "back")
    assert restored.code == 0
    with open_beside(tmp_path / "back") as archive:
        assert [one.revoked_at is not None for one in archive.access.tokens()] == [True]


@pytest.mark.slow
def test_a_bucket_with_versioning_and_object_lock_is_written_read_and_pruned(
    cli: Cli, tmp_path: Path, service: weed.Weed, desk: Desk
) -> None:
    """What is damaged is replaced, what is removed stays as a version, and that is said."""
    desk.place = service.guarded()
    desk.configure(tmp_path, "archive", "publish = true\nkeep_snapshots = 1")
    assert cli("run").code == 0
    seen = desk.latest()["name"]
    assert cli("token", "create", "--name", "t", "--ability", "tickets:read").code == 0
    assert desk.get(seen).status_code == 404
    with open_beside(tmp_path / "archive") as archive:
        name = next(archive.blobs.scan()).name
    blob = desk.url(f"../{name}")
    good = httpx.get(blob).content
    httpx.put(blob, content=b"damage").raise_for_status()
    assert cli("verify").code == 6
    assert cli("verify", "--repair").code == 0
    assert httpx.get(blob).content == good
    orphan = desk.url(f"../blobs/ab/cd/abcd{'0' * 60}")
    httpx.put(orphan, content=b"nobody's").raise_for_status()
    pruned = cli("verify", "--prune", "--yes")
    assert (pruned.code, "as noncurrent versions" in pruned.err) == (0, True), pruned.err
    assert httpx.get(orphan).status_code == 404
    bucket, _, prefix = desk.place.url.removeprefix("s3://").partition("/")
    versions = httpx.get(f"{desk.place.endpoint}/{bucket}?versions&prefix={prefix}/blobs/ab").text
    assert "<Size>8</Size>" in versions
    assert cli("restore", desk.place.url, "back").code == 0


@pytest.mark.slow
def test_the_files_move_between_disk_and_bucket(cli: Cli, tmp_path: Path, desk: Desk) -> None:
    """From disk to bucket and back; the copy goes on where it ended, and damage is never copied."""
    place = desk.place
    how = ["--endpoint", str(place.endpoint), "--region", "us-east-1", "--allow-http"]
    config = tmp_path / "config.toml"
    bucket = config.read_text()
    config.write_text(bucket.replace("blobs =", "# blobs =").replace('"archive"', '"disk"'))
    assert cli("run").code == 0
    disk = tmp_path / "disk"
    files = {path.name: path for path in (disk / "blobs").rglob("*") if path.is_file()}
    first, second = sorted(files.values())[:2]
    good = first.read_bytes()
    first.chmod(0o600)
    first.write_bytes(good[:-1] + b"!")
    second = second.rename(tmp_path / "away")
    copied = cli("archive", "copy", place.url, "--switch", *how)
    assert copied.code == 6
    assert re.search(r"^damaged +1$", copied.out, re.MULTILINE), copied.out
    assert re.search(r"^lost +1$", copied.out, re.MULTILINE), copied.out
    assert "was not switched" in copied.err
    assert not (disk / "blobs.json").exists()

    first.write_bytes(good)
    second.rename(next(path for path in files.values() if not path.exists()))
    copied = cli("archive", "copy", place.url, "--switch", *how)
    assert (copied.code, "uses s3://" in copied.err) == (0, True), copied.err
    assert re.search(rf"^there +{len(files) - 2} ", copied.out, re.MULTILINE), copied.out
    (disk / "blobs").rename(tmp_path / "old")
    assert cli("verify").code == 0
    assert cli("restore", place.url, "back", *how).code == 0

    assert cli("archive", "copy", "elsewhere", "--switch").refused("beside the checkpoint")
    assert cli("archive", "copy", "back").refused("another archive")
    assert cli("archive", "copy", place.url).refused("already")
    assert cli("archive", "copy", "mirror").code == 0
    found = [path for path in (tmp_path / "mirror").rglob("*") if path.is_file()]
    assert {path.name for path in found} == files.keys()
    assert cli("archive", "copy", "disk", "--switch").code == 0
    assert not (disk / "blobs.json").exists()
    assert cli("verify").code == 0
    assert cli("run").code == 0
