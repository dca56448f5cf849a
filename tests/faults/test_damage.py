"""Files damaged behind our back, and what the source says when they are asked for again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from migrator.archive import Check, open_beside
from migrator.selftest.checks import flip_bit
from migrator.selftest.rig import Rig
from tests.faults.conftest import Inline, MakeRig

pytestmark = pytest.mark.slow


def truncate(path: Path) -> None:
    """Cut a byte off a file."""
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


def lose(path: Path) -> None:
    path.unlink()


def blob(rig: Rig, attachment: int) -> Path:
    """Give the file of an attachment's bytes."""
    sha256 = rig.rows()[attachment].sha256
    assert sha256 is not None
    return rig.archive / "blobs" / sha256[:2] / sha256[2:4] / sha256


Verify = Callable[..., dict[str, Any]]


@pytest.fixture
def verify(inline: Inline) -> Verify:
    """Verify; gives what is told to machines."""

    def call(code: int, *argv: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(inline(code, "verify", *argv, "--json").out)
        return found

    return call


@pytest.fixture
def pulled(rig: MakeRig, inline: Inline) -> tuple[Rig, int, int]:
    """Give an archive, and an attachment of its own with its ticket."""
    one = rig(tickets=4)
    ticket = min(key for key, row in one.helpdesk.tickets.items() if row.department_id)
    attachment = one.helpdesk.add_attachment(ticket, "invoice.txt", b"nobody else has this")
    inline(0, "run")
    return one, attachment, ticket


@pytest.mark.parametrize("harm", [flip_bit, truncate, lose])
def test_the_same_bytes_heal_a_damaged_file(
    pulled: tuple[Rig, int, int],
    inline: Inline,
    verify: Verify,
    harm: Callable[[Path], None],
) -> None:
    """Dedupe never trusts a file that is not whole: the new arrival replaces it."""
    one, attachment, ticket = pulled
    path = blob(one, attachment)
    whole = path.read_bytes()
    harm(path)
    found = verify(6)
    assert found["damaged"] + found["lost"] == 1
    one.helpdesk.add_attachment(ticket, "again.txt", whole)
    inline(6, "run")  # in doubt, until somebody has looked again
    assert path.read_bytes() == whole
    assert verify(0)["checked"]
    inline(0, "run")


@pytest.mark.parametrize("harm", [flip_bit, truncate, lose])
def test_other_bytes_are_no_repair(
    pulled: tuple[Rig, int, int], verify: Verify, harm: Callable[[Path], None]
) -> None:
    """What the source sends now is not what was stored: told, and neither row nor file changes."""
    one, attachment, ticket = pulled
    path, before = blob(one, attachment), one.rows()
    harm(path)
    left = path.read_bytes() if path.exists() else None
    desk = one.helpdesk
    desk.delete_attachment(attachment)
    desk.next_attachment_id = attachment
    assert desk.add_attachment(ticket, "invoice.txt", b"nobody else has THIS") == attachment
    found = verify(6, "--repair")
    assert found["repaired"] == 0
    reason = f"the source now sends other bytes for attachment {attachment}"
    assert found["files"]["unrepaired"] == {path.name: reason}
    assert one.rows() == before, "an expected hash was edited"
    assert (path.read_bytes() if path.exists() else None) == left
    assert verify(6)["damaged"] + verify(6)["lost"] == 1


def test_a_source_that_lost_the_file_is_told(rig: MakeRig, inline: Inline, verify: Verify) -> None:
    """An empty reply does not repair a damaged file, and is named for what it is."""
    one = rig(tickets=40, faults=frozenset({"missing_file"}))
    one.helpdesk.set_fault("missing_file", on=False)
    inline(0, "run")
    one.helpdesk.set_fault("missing_file", on=True)
    (attachment,) = (key for key, true in one.helpdesk.truth.items() if true.faults)
    path = blob(one, attachment)
    flip_bit(path)
    found = verify(6, "--repair")
    reason = f"the source now sends no bytes for attachment {attachment}"
    assert found["files"]["unrepaired"] == {path.name: reason}


def test_a_deleted_attachment_cannot_be_repaired(
    pulled: tuple[Rig, int, int], inline: Inline, verify: Verify
) -> None:
    """We hold what the source has deleted; if our copy breaks, that is told, not hidden."""
    one, attachment, _ = pulled
    path = blob(one, attachment)
    one.helpdesk.delete_attachment(attachment)
    inline(0, "run")
    assert one.rows()[attachment].state.value == "deleted"
    verify(0)
    flip_bit(path)
    ended = inline(6, "verify", "--repair", "--json")
    reason = json.loads(ended.out)["files"]["unrepaired"][path.name]
    assert "404" in reason or "not" in reason.lower()
    assert "cannot be repaired" in ended.err
    assert one.rows()[attachment].sha256 == path.name


def test_a_repair_follows_a_merge(pulled: tuple[Rig, int, int], verify: Verify) -> None:
    """The ticket was merged after the run: the bytes come from where they are now."""
    one, attachment, ticket = pulled
    path = blob(one, attachment)
    whole = path.read_bytes()
    others = [key for key, row in one.helpdesk.tickets.items() if row.department_id]
    one.helpdesk.merge(ticket, next(key for key in others if key != ticket))
    lose(path)
    assert verify(0, "--repair")["repaired"] == 1
    assert path.read_bytes() == whole


# Half an archive

LOOKING = [
    "status",
    "status --json",
    "report",
    "report --format json",
    "report --format csv",
    "report --format html",
    "audit",
    "handover out",
    "token list",
    "accept",
    "serve --port 0",
]
PULLING = ["plan", "run", "sync"]
CHECKING = ["verify", "verify --sample 50%", "verify --repair", "verify --prune --yes"]


def forget(root: Path) -> None:
    for path in root.glob("checkpoint.db*"):
        path.unlink()


def empty(root: Path) -> None:
    forget(root)
    (root / "checkpoint.db").touch()


def unmount(root: Path) -> None:
    shutil.rmtree(root / "blobs")


def mount_nothing(root: Path) -> None:
    unmount(root)
    (root / "blobs").mkdir()


@pytest.mark.parametrize("harm", [forget, empty, unmount, mount_nothing])
def test_half_an_archive_is_damage_to_every_command(
    pulled: tuple[Rig, int, int], inline: Inline, harm: Callable[[Path], None]
) -> None:
    """Exit 6 in words; nothing is called complete, and nothing is written in its place."""
    one, _, _ = pulled
    harm(one.archive)
    before = {path for path in one.archive.rglob("*") if "checkpoint.db-" not in path.name}
    for line in LOOKING + PULLING + CHECKING:
        ended = inline(6, *line.split())
        assert ended.out == "", line
        assert "Error: " in ended.err
        assert "from a backup" in ended.err or "mounted" in ended.err
        assert "bug" not in ended.err
    after = {path for path in one.archive.rglob("*") if "checkpoint.db-" not in path.name}
    assert after == before


def test_an_archive_of_one_lost_file_is_repaired(
    rig: MakeRig, inline: Inline, verify: Verify
) -> None:
    """The directory for temporary files says that the disk is there."""
    one = rig(tickets=4, articles=0, steps=0, field_files=0, links=0)
    desk = one.helpdesk
    for attachment in sorted(desk.attachments)[1:]:
        desk.delete_attachment(attachment)
    inline(0, "run")
    files = list(one.archive.glob("blobs/??/??/*"))  # the one, and kept replies
    for path in files:
        path.unlink()
    assert verify(6)["lost"] == len(files)
    assert verify(0, "--repair")["repaired"] == len(files)
    assert all(path.exists() for path in files)
    inline(0, "run")


def test_files_that_are_really_lost_come_back(
    pulled: tuple[Rig, int, int], inline: Inline, verify: Verify
) -> None:
    """All of them; the directory made by hand says that it is no disk that is not mounted."""
    one, _, _ = pulled
    files = {path.name for path in one.archive.glob("blobs/??/??/*")}
    mount_nothing(one.archive)
    said = inline(6, "verify", "--repair").err
    assert "make the directory" in said
    assert list((one.archive / "blobs").iterdir()) == []
    (one.archive / "blobs" / "tmp").mkdir()
    inline(6, "run")
    assert verify(6)["lost"] == len(files)
    found = verify(0, "--repair")
    assert (found["lost"], found["repaired"]) == (len(files), len(files))
    assert {path.name for path in one.archive.glob("blobs/??/??/*")} == files
    inline(0, "run")


# Values that nobody wrote

FIRST = "WHERE id = (SELECT min(id) FROM attachments WHERE sha256 IS NOT NULL)"
VALUES: dict[str, tuple[str, Sequence[str]]] = {
    "a state": (
        f"UPDATE attachments SET state = 'x' {FIRST}",
        ["report", "report --format csv", "report --format html", "handover out", "plan", "run"],
    ),
    "no hash": (
        f"UPDATE attachments SET sha256 = NULL {FIRST}",
        ["report --format csv", "report --format html", "audit", "handover out", "run"],
    ),
    "a hash that is none": (
        f"UPDATE attachments SET sha256 = 'zz' {FIRST}",
        ["report --format csv", "report --format html", "audit", "handover out"],
    ),
    "a scope": ("UPDATE runs SET scope = '{'", ["status", "report", "handover out", "run"]),
    "a summary": ("UPDATE runs SET summary = '[]'", ["status --json", "report", "sync", "plan"]),
    "abilities": ("UPDATE tokens SET abilities = '{}'", ["token list", "serve --port 0"]),
    "queues": ("UPDATE tokens SET queues = 'x'", ["token list", "serve --port 0"]),
    "a rule": ("UPDATE rules SET verdict = 'x'", ["rule list", "plan"]),
    "a tally": ("DELETE FROM tallies WHERE n = 0", ["status", "report", "run", "sync", "accept"]),
    "a text": (
        "UPDATE attachments SET filename = CAST(x'ff' AS TEXT)",
        ["report --format csv", "audit", "handover out", "run"],
    ),
    "a view": ("DROP VIEW ledger", ["report --format csv", "audit", "handover out", "plan"]),
    "a table": ("DROP TABLE marks", ["status", "sync", "run"]),
}


def tamper(root: Path, sql: str, *, strict: bool = True) -> None:
    """Write what no constraint allows."""
    with closing(sqlite3.connect(root / "checkpoint.db", isolation_level=None)) as conn:
        if not strict:
            conn.execute("PRAGMA writable_schema = ON")
            conn.execute("UPDATE sqlite_master SET sql = replace(sql, 'STRICT', '')")
            conn.execute("PRAGMA schema_version = 9999")
    with closing(sqlite3.connect(root / "checkpoint.db", isolation_level=None)) as conn:
        conn.execute("PRAGMA ignore_check_constraints = ON")
        conn.execute("PRAGMA foreign_keys = OFF")
        conn.execute(sql)


@pytest.fixture
def tokened(pulled: tuple[Rig, int, int], inline: Inline) -> Path:
    """Give the archive, which has a token."""
    inline(0, "token", "create", "--name", "n", "--ability", "tickets:read")
    return pulled[0].archive


@pytest.mark.parametrize("name", VALUES)
def test_damaged_values_are_damage_and_no_bug(tokened: Path, inline: Inline, name: str) -> None:
    """Whoever meets one ends with 6 and says what it is; verify always does, and prunes nothing."""
    sql, lines = VALUES[name]
    tamper(tokened, sql)
    for line in [*lines, *CHECKING]:
        said = inline(6, *line.split()).err
        assert "damaged" in said, line
        assert "This is a bug" not in said


@pytest.mark.parametrize(
    ("sql", "lines"),
    [
        ("UPDATE runs SET started_at = 'x', finished_at = 'y'", ["status", "report", "verify"]),
        ("UPDATE attachments SET created_at = 'x', size = 'y'", ["report --format csv", "audit"]),
        ("UPDATE tokens SET name = 7, expires_at = 'x'", ["token list"]),
        ("UPDATE tallies SET n = 'x'", ["status", "report", "run"]),
        ("UPDATE marks SET value = 'x'", ["status", "sync"]),
        ("UPDATE tickets SET created_at = 'x', department_id = 'y'", ["handover out", "verify"]),
    ],
)
def test_values_of_another_type_are_damage_and_no_bug(
    tokened: Path, inline: Inline, sql: str, lines: list[str]
) -> None:
    """Whatever goes wrong with them, the archive is looked at before a bug is suspected."""
    tamper(tokened, sql, strict=False)
    for line in lines:
        said = inline(6, *line.split()).err
        assert "damaged" in said, line
        assert "This is a bug" not in said


def test_a_pipe_for_a_lock_hangs_nobody(pulled: tuple[Rig, int, int]) -> None:
    """A process of its own comes to its end, with 6 and the reason."""
    one, _, _ = pulled
    (one.archive / "lock").unlink()
    os.mkfifo(one.archive / "lock")
    for line in ("status", "plan", "verify", "run"):
        assert "named pipe" in one.expect(6, *line.split()).err


# What is written down


def checks(rig: Rig, kind: str = "verify") -> list[Check]:
    """Give what the archive knows of its checks, the latest first."""
    with open_beside(rig.archive) as archive:
        return archive.queries.checks(kind)


def test_every_verify_is_written_down_once(pulled: tuple[Rig, int, int], inline: Inline) -> None:
    """When, whether all of it, the exit code and the figures; also where damage was found."""
    one, attachment, _ = pulled
    inline(0, "verify")
    path, whole = blob(one, attachment), blob(one, attachment).read_bytes()
    flip_bit(path)
    inline(6, "verify")
    inline(0, "verify", "--repair")
    assert path.read_bytes() == whole
    path.unlink()
    path.mkdir()
    inline(6, "verify", "--prune", "--yes")
    path.rmdir()
    path.write_bytes(whole)
    inline(0, "verify", "--sample", "99%", "--json")
    sample, odd, repaired, damaged, good = checks(one)
    assert [one.exit_code for one in (good, damaged, repaired, odd, sample)] == [0, 6, 0, 6, 0]
    assert [one.whole for one in (good, odd, sample)] == [True, True, False]
    assert (good.summary["damaged"], good.summary["first"]) == (0, [])
    assert good.summary["checked"] == len(list(one.archive.glob("blobs/??/??/*")))
    assert (damaged.summary["damaged"], damaged.summary["first"]) == (1, [path.name])
    assert (repaired.summary["repaired"], repaired.summary["first"]) == (1, [])
    assert (odd.summary["unreadable"], odd.summary["lost"]) == (1, 0)
    assert 0 < good.started_at <= good.finished_at


def test_a_verify_that_proves_nothing_is_not_written_down(
    pulled: tuple[Rig, int, int], inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that was interrupted, nor one by a damaged checkpoint."""
    one, _, _ = pulled

    tamper(one.archive, "UPDATE tallies SET n = n + 1")
    inline(6, "verify")
    tamper(one.archive, "UPDATE tallies SET n = n - 1")
    monkeypatch.setattr("migrator.pull.options.Stop.asked", True)
    inline(130, "verify")
    assert checks(one) == []


def test_a_repair_that_is_refused_tells_what_was_found(
    pulled: tuple[Rig, int, int], inline: Inline
) -> None:
    """The source is away: exit 4, but the damage is named, and written down."""
    one, attachment, _ = pulled
    path = blob(one, attachment)
    flip_bit(path)
    config = one.folder / "config.toml"
    config.write_text(config.read_text().replace('secret_key = "', 'secret_key = "wrong'))
    ended = inline(4, "verify", "--repair")
    assert f"damaged {path.name}" in ended.out
    assert [(check.exit_code, check.summary["first"]) for check in checks(one)] == [
        (6, [path.name])
    ]


def test_too_many_orphans_stop_a_prune(pulled: tuple[Rig, int, int], inline: Inline) -> None:
    """Exit 8, nothing is removed, all is told; --accept-orphans goes on."""
    one, _, _ = pulled
    files = []
    for number in range(40):
        name = hashlib.sha256(b"%d" % number).hexdigest()
        files.append(one.archive / "blobs" / name[:2] / name[2:4] / name)
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        files[-1].write_bytes(b"%d" % number)
    for options in (["--prune"], ["--prune", "--yes"]):
        ended = inline(8, "verify", *options, "--json")
        found = json.loads(ended.out)
        assert (found["orphaned"], found["pruned"], found["prunable"]) == (40, 0, 0)
        assert "--accept-orphans" in ended.err
    assert all(file.exists() for file in files)
    assert [check.exit_code for check in checks(one)] == [8, 8]
    inline(2, "verify", "--accept-orphans")
    inline(0, "verify", "--prune", "--yes", "--accept-orphans")
    assert not any(file.exists() for file in files)


def test_an_older_checkpoint_costs_no_file(pulled: tuple[Rig, int, int], inline: Inline) -> None:
    """Brought back from a backup, it does not know the files that came since: they stay."""
    one, _, ticket = pulled
    backup = (one.archive / "checkpoint.db").read_bytes()
    for number in range(30):
        one.helpdesk.add_attachment(ticket, f"{number}.txt", b"new %d" % number)
    inline(0, "run")
    files = one.blobs()
    for path in one.archive.glob("checkpoint.db*"):
        path.unlink()
    (one.archive / "checkpoint.db").write_bytes(backup)
    inline(8, "verify", "--prune", "--yes")
    inline(0, "run")
    assert one.blobs() == files
    inline(0, "verify", "--prune", "--yes")
