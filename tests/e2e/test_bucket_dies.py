"""A bucket that dies while a command works: it says so, and nothing half made is called whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("obstore", reason="the extra [s3] is not installed")

from migrator.archive import open_beside
from migrator.blobs import Place, choose, in_bucket
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.sandbox.tickiti import Tickiti
from tests.blobs import weed
from tests.cli.conftest import Cli, cli
from tests.deliver.conftest import AUTHOR, Office
from tests.e2e.test_bucket_kills import Liar

__all__ = ["cli"]
pytestmark = pytest.mark.slow

MOMENTS = (0, 1, 2, 3, 5, 8)
"""Requests that a bucket answers before it dies."""
SAYS = "the service cannot be reached"


@pytest.fixture(scope="module")
def service() -> Iterator[weed.Weed]:
    with weed.serving() as started:
        yield started


@pytest.fixture
def liar(service: weed.Weed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Liar]:
    """Stand before a bucket that may die, and which nobody waits for."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    from obstore.store import S3Store as Bucket

    def impatient(*args: Any, **more: Any) -> Any:
        retry = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
        return Bucket(*args, **(more | {"retry_config": retry}))

    monkeypatch.setattr("migrator.blobs.s3.Bucket", impatient)
    with Liar(service.url) as made:
        yield made


@pytest.fixture
def office(
    liar: Liar, service: weed.Weed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Office]:
    """Make an archive in the bucket, and a Tickiti for it."""
    url = service.place().url
    choose(tmp_path / "archive", Place(url, liar.url, "us-east-1", allow_http=True))
    made = Office(tmp_path / "archive")
    for ticket in range(1, 5):
        made.ticket(ticket, b"first of %d" % ticket, b"second of %d" % ticket)
    made.open_there(Tickiti(), 1, 2, 3, 4)
    made.archive.ledger.finish_run(made.run, exit_code=0, summary={})
    made.archive.close()
    lines = ["kayako_ticket_id,ticket_number", *(f"{k},{v}" for k, v in made.numbers.items())]
    (tmp_path / "map.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "config.toml").write_text(
        f'[archive]\npath = "archive"\nblobs = "{url}"\n[tickiti]\nticket_numbers = "map.csv"\n'
        f'[s3]\nendpoint = "{liar.url}"\nregion = "us-east-1"\nallow_http = true\n'
        f'[deliver]\nauthor = "{AUTHOR}"\nurl = "{made.tickiti.url}"\n'
    )
    monkeypatch.setenv("TICKITI_TOKEN", made.tickiti.token)
    yield made
    made.tickiti.stop()
    made.tickiti.desk.close()


def test_verify_says_nothing_of_files_that_it_could_not_ask_for(
    cli: Cli, liar: Liar, office: Office
) -> None:
    """No file is damaged or lost because of it, and no verify is on record."""
    for moment in MOMENTS:
        liar.left = moment
        died = cli("verify", "--json")
        assert (died.code, SAYS in died.err, died.out) == (4, True, ""), moment
        liar.left = None
        assert "\nVerify: never.\n" in cli("status").out
    whole = cli("verify", "--json")
    assert (whole.code, json.loads(whole.out)["checked"]) == (0, 8)
    assert "\nVerify: never.\n" not in cli("status").out


def test_a_handover_without_its_end_is_none(
    cli: Cli, liar: Liar, office: Office, tmp_path: Path
) -> None:
    """It has neither README nor sums, its check says so, and the same command finishes it."""
    for moment in MOMENTS[:4]:
        liar.left = moment
        died = cli("handover", "pack")
        assert (died.code, SAYS in died.err) == (4, True), moment
        assert not (tmp_path / "pack" / "README.md").exists()
        liar.left = None
        checked = cli("handover", "--check", "pack")
        assert checked.code == (6 if (tmp_path / "pack" / "handover.json").exists() else 2)
        assert "intact" not in checked.out
    assert cli("handover", "pack").code in (0, 3)
    assert cli("handover", "--check", "pack").code == 0


def test_a_copy_from_a_bucket_that_dies_goes_on(
    cli: Cli, liar: Liar, office: Office, tmp_path: Path
) -> None:
    """The archive is not switched to half a copy, and no file counts as lost."""
    for moment in MOMENTS:
        liar.left = moment
        died = cli("archive", "copy", "archive", "--switch")
        assert (died.code, SAYS in died.err) == (4, True), moment
        assert "lost" not in died.out
        assert (tmp_path / "archive" / "blobs.json").exists()
    liar.left = None
    assert cli("archive", "copy", "archive", "--switch").code == 0
    assert not (tmp_path / "archive" / "blobs.json").exists()


def test_a_copy_into_a_bucket_that_dies_is_no_archive_yet(
    cli: Cli, liar: Liar, office: Office, service: weed.Weed, tmp_path: Path
) -> None:
    """It cannot be restored before the command has ended well."""
    there = service.place().url
    how = ["--endpoint", liar.url, "--region", "us-east-1", "--allow-http"]
    liar.about = there.removeprefix("s3://").partition("/")[2]
    for moment in MOMENTS:
        liar.left = moment
        died = cli("archive", "copy", there, *how)
        assert (died.code, SAYS in died.err) == (7, True), moment
        assert "Published" not in died.err
        liar.left = None
        assert cli("restore", there, "back", *how).code != 0
        assert not (tmp_path / "back" / "checkpoint.db").exists()
    assert cli("archive", "copy", there, *how).code == 0
    assert cli("restore", there, "back", *how).code == 0


def test_a_delivery_goes_on_where_the_bucket_died(cli: Cli, liar: Liar, office: Office) -> None:
    """What was not read is neither lost nor refused; each file is there once in the end."""
    for moment in MOMENTS:
        liar.left = moment
        died = cli("deliver", "--yes", "--json")
        assert (died.code, SAYS in died.err) == (4, True), moment
        liar.left = None
        with open_beside(office.root) as archive:
            told = archive.queries.delivery_totals(office.tickiti.url)
        assert {*told} <= {"delivered", "pending"}
        assert (told["delivered"].n if "delivered" in told else 0) <= sum(office.there().values())
        assert "have lost" not in died.out
    whole = cli("deliver", "--yes", "--json")
    assert (whole.code, sum(office.there().values())) == (0, 8)
    assert set(office.there().values()) == {1}


def test_a_snapshot_that_is_not_whole_is_not_the_latest(
    cli: Cli, liar: Liar, office: Office, service: weed.Weed, tmp_path: Path
) -> None:
    """What is published stays so until another one is whole, and a restore is whole or none."""
    assert cli("publish").code == 0
    with open_beside(office.root) as archive:
        place = Place(str(archive.blobs.where), service.url, "us-east-1", allow_http=True)
    bucket = in_bucket(tmp_path, place)
    first = b"".join(bucket.object_blocks("snapshots/latest") or ())
    for moment in MOMENTS[:4]:
        liar.left = moment
        died = cli("publish")
        assert (died.code, SAYS in died.err) == (7 if moment else 4, True), moment
        assert b"".join(bucket.object_blocks("snapshots/latest") or ()) == first
    how = ["--endpoint", liar.url, "--region", "us-east-1", "--allow-http"]
    for moment in MOMENTS[:2]:
        liar.left = moment
        died = cli("restore", place.url, "back", *how)
        assert (died.code, SAYS in died.err) == (4, True), moment
        assert not (tmp_path / "back" / "checkpoint.db").exists()
        assert cli("serve", "--from", place.url, *how).code == 4
    liar.left = None
    assert cli("restore", place.url, "back", *how).code == 0


def test_a_report_says_that_its_bucket_is_gone(cli: Cli, liar: Liar, office: Office) -> None:
    """It is no report of an archive without files."""
    liar.left = 0
    for form in ("text", "json", "csv", "html"):
        died = cli("report", "--format", form)
        assert (died.code, SAYS in died.err, died.out) == (4, True, "")


def test_a_repair_claims_what_the_bucket_took_alone(
    cli: Cli, liar: Liar, service: weed.Weed, tmp_path: Path
) -> None:
    """A bucket that dies in a repair has no false file, and the next repair ends it."""
    bare = {"links": 0, "articles": 0, "steps": 0, "field_files": 0}
    place = service.place()
    with SandboxServer(Helpdesk.build(SandboxOptions(seed=2, tickets=8, **bare))) as server:  # type: ignore[arg-type]
        (tmp_path / "config.toml").write_text(
            f'{server.config}attempts = 1\n[archive]\npath = "archive"\nblobs = "{place.url}"\n'
            f'[s3]\nendpoint = "{liar.url}"\nregion = "us-east-1"\nallow_http = true\n'
        )
        (tmp_path / "config.toml").chmod(0o600)
        assert cli("run").code == 0
        with open_beside(tmp_path / "archive") as archive:
            hashes = [sha256 for sha256, _ in archive.queries.expected_blobs()]
        bucket = in_bucket(tmp_path, place)
        moments = (2, len(hashes) + 4, len(hashes) + 10, len(hashes) + 14, None)
        for moment in moments:
            for sha256 in hashes[:4]:
                bucket.remove_object(f"blobs/{sha256[:2]}/{sha256[2:4]}/{sha256}")
            liar.left = moment
            done = cli("verify", "--repair")
            liar.left = None
            there = sum(bucket.size(sha256) is not None for sha256 in hashes[:4])
            told = re.search(r"^repaired +(\d+)$", done.out, re.MULTILINE)
            assert (int(told[1]) if told else 0) <= there, moment
            if moment is not None:
                assert (done.code in (4, 6, 7), SAYS in done.err or there < 4) == (True, True)
            if moment == len(hashes) + 4:
                assert "0 are damaged and 4 lost, such as" in done.err
        assert (done.code, there) == (0, 4)
