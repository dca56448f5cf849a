"""A damaged checkpoint is known for what it is, and never costs a file."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from migrator.archive import Listed, Outcome, State, TicketRow, open_archive
from migrator.archive.records import Reply
from migrator.errors import ArchiveDamaged
from migrator.pull.verify import prune, verify

PAGE = 4096


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an archive whose tables and indexes have several pages."""
    root = tmp_path_factory.mktemp("full") / "archive"
    with open_archive(root, command="test") as archive:
        ledger = archive.ledger
        run = ledger.begin_run("run", source="test", scope={}).id
        with ledger.atomic():
            listed = [Listed(n, 1, 5, f"{n}.pdf", "text/plain", 10, 7) for n in range(1, 181)]
            ledger.record_ticket(run, TicketRow(1, 3), listed)
            for number in range(1, 161):
                with archive.blobs.writer() as writer:
                    writer.write(b"%d" % number)
                    blob = writer.commit()
                ledger.settle(
                    Outcome(number, State.STORED, None, None, blob.sha256, blob.size, "text/plain")
                )
        archive.access.create_token(
            "n", abilities=["tickets:read"], queues=[1], is_staff=True, expires_at=None
        )
        ledger.add_check("verify", started_at=1, whole=True, exit_code=0, summary={"a": 1})
        ledger.put_progress(run, {"a": 1})
        ledger.finish_run(run, exit_code=0, summary={"a": 1})
    return root


@pytest.fixture
def full(template: Path, tmp_path: Path) -> Path:
    """Copy that archive; nobody has it open."""
    return Path(shutil.copytree(template, tmp_path / "archive"))


def tamper(root: Path, *statements: str) -> None:
    """Write what no constraint allows."""
    with closing(sqlite3.connect(root / "checkpoint.db", isolation_level=None)) as conn:
        conn.execute("PRAGMA ignore_check_constraints = ON")
        conn.execute("PRAGMA foreign_keys = OFF")
        for sql in statements:
            conn.execute(sql)


def unleash(root: Path) -> None:
    """Let every table take values of any type, as an editor of files may."""
    with closing(sqlite3.connect(root / "checkpoint.db", isolation_level=None)) as conn:
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute("UPDATE sqlite_master SET sql = replace(sql, 'STRICT', '')")
        conn.execute("PRAGMA schema_version = 9999")


def found(root: Path) -> str:
    """Give what the check says of a damaged archive."""
    with pytest.raises(ArchiveDamaged) as caught, open_archive(root, command="test") as archive:
        archive.queries.self_check()
    return str(caught.value)


FIRST = "WHERE id = (SELECT min(id) FROM attachments)"

REPLY = "INSERT INTO replies SELECT min(id), 'posts', '{}', {}, 9, 5, {} FROM tickets"

TAMPERED: dict[str, tuple[str, Sequence[str]]] = {
    "a state": ("attachments", [f"UPDATE attachments SET state = 'x' {FIRST}"]),
    "no hash where one must be": (
        "attachments",
        [f"UPDATE attachments SET sha256 = NULL, size = NULL {FIRST}"],
    ),
    "no size": ("attachments", [f"UPDATE attachments SET size = NULL {FIRST}"]),
    "another size": ("bytes", [f"UPDATE attachments SET size = size + 1 {FIRST}"]),
    "a hash of nothing": (
        "refers to a row of blobs",
        [f"UPDATE attachments SET sha256 = '{'0' * 64}' {FIRST}"],
    ),
    "a hash in capitals": (
        "no SHA-256",
        [
            f"UPDATE attachments SET sha256 = upper(sha256) {FIRST}",
            "UPDATE blobs SET sha256 = upper(sha256) WHERE size = 1",
        ],
    ),
    "a hash that is a path": (
        "no SHA-256",
        [f"INSERT INTO blobs VALUES ('{'../' * 20}etc/', 1, 'text/plain', 1)"],
    ),
    "a row of blobs lost": ("refers to a row of blobs", ["DELETE FROM blobs WHERE size = 2"]),
    "a tally": ("tally of gone", ["UPDATE tallies SET n = n + 1 WHERE state = 'gone'"]),
    "bytes of a tally": ("tally of stored", ["UPDATE tallies SET bytes = 0"]),
    "a tally lost": ("tally of gone says no", ["DELETE FROM tallies WHERE state = 'gone'"]),
    "a reply named by a path": ("no SHA-256", [REPLY.format("../" * 20 + "etc/", 1, "NULL")]),
    "a reply as long as no file": (
        "a reply of ticket",
        [
            REPLY.format("a" * 64, 1, "NULL"),
            REPLY.format("a" * 64, 2, 5).replace("posts", "fields"),
        ],
    ),
    "two newest replies": (
        "2 newest replies of the kind posts",
        [REPLY.format("a" * 64, 1, "NULL"), REPLY.format("b" * 64, 1, "NULL")],
    ),
    "a scope": ("runs.scope of id 1", ["UPDATE runs SET scope = '{'"]),
    "a scope of another kind": ("runs.scope of id 1", ["UPDATE runs SET scope = '[1]'"]),
    "a summary": ("runs.summary", ["UPDATE runs SET summary = 'nul'"]),
    "abilities": ("tokens.abilities", ["UPDATE tokens SET abilities = '[[1]]'"]),
    "queues": ("tokens.queues", ["UPDATE tokens SET queues = '[true]'"]),
    "a hash of a token": ("token 1", [f"UPDATE tokens SET secret_sha256 = '{'x' * 64}'"]),
    "a check": ("checks.summary", ["UPDATE checks SET summary = ''"]),
    "progress": ("progress.facts", ["UPDATE progress SET facts = '1'"]),
    "a rule": ("CHECK constraint", ["UPDATE rules SET verdict = 'maybe'"]),
    "a text": ("a text in attachments", ["UPDATE attachments SET filename = CAST(x'ff' AS TEXT)"]),
    "a text of a post": ("a text in posts", ["UPDATE posts SET text = CAST(x'c3' AS TEXT)"]),
    "a table lost": ("marks is missing", ["DROP TABLE marks"]),
    "a view lost": ("ledger is missing", ["DROP VIEW ledger"]),
    "a trigger lost": ("attachments_added is missing", ["DROP TRIGGER attachments_added"]),
    "an index lost": ("attachments_by_blob is missing", ["DROP INDEX attachments_by_blob"]),
    "a run lost": ("refers to a row of runs", ["DELETE FROM runs"]),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_breaks_a_promise_is_named(full: Path, name: str) -> None:
    """Whatever FORMAT.md promises is looked at, and the text says where it does not hold."""
    says, statements = TAMPERED[name]
    tamper(full, *statements)
    text = found(full)
    assert says in text
    assert "from a backup" in text


def test_tables_that_take_anything_are_damage(full: Path) -> None:
    """Without STRICT nobody knows what is in them."""
    unleash(full)
    assert "takes values of any type" in found(full)


def test_many_faults_are_not_all_told(full: Path) -> None:
    """Some are named, and that there are more."""
    tamper(full, "UPDATE attachments SET state = 'x'")
    text = found(full)
    assert text.count(";") < 20
    assert "; and more." in text


def test_blobs_that_no_attachment_has_are_counted(full: Path) -> None:
    """A trace of rows that were lost: told, but no reason to stop."""
    tamper(full, f"INSERT INTO blobs VALUES ('{'0' * 64}', 1, 'text/plain', 1)")
    with open_archive(full, command="test") as archive:
        archive.queries.self_check()
        assert archive.queries.unused_blobs() == 1


def test_replies_alone_make_an_archive(tmp_path: Path) -> None:
    """Without any attachment, their files belong to the ledger and are missed once lost."""
    root = tmp_path / "archive"
    with open_archive(root, command="test") as archive:
        run = archive.ledger.begin_run("run", source="x", scope={})
        archive.ledger.put_ticket(TicketRow(1, 1))
        with archive.blobs.writer() as writer:
            writer.write(b"a reply")
            blob = writer.commit()
        archive.replies.put(Reply(1, "posts", blob.sha256, blob.size, 9, 5))
        archive.ledger.finish_run(run.id, exit_code=0, summary={})
    with open_archive(root, command="test") as archive:
        archive.queries.self_check()
        assert archive.queries.refers_to(blob.sha256)
    shutil.rmtree(root / "blobs")
    with pytest.raises(ArchiveDamaged):
        open_archive(root, command="test")


def test_a_hash_is_referred_to_by_any_row(full: Path) -> None:
    """By a row of either table is enough, and no index is asked."""
    only_attachment, only_blob, both = "a" * 64, "b" * 64, ""
    tamper(
        full,
        f"INSERT INTO blobs VALUES ('{only_blob}', 1, 'text/plain', 1)",
        f"UPDATE attachments SET sha256 = '{only_attachment}' WHERE id = 1",
    )
    with open_archive(full, command="test") as archive:
        ((both, _),) = archive.queries.expected_blobs(limit=1)
        asked = {only_attachment, only_blob, both, "c" * 64}
        assert archive.queries.referred(asked) == asked - {"c" * 64}
        assert [archive.queries.refers_to(one) for one in sorted(asked)].count(True) == 3


# Pages


def zero(data: bytearray, at: int, _: random.Random) -> None:
    data[at : at + PAGE] = bytes(PAGE)


def scramble(data: bytearray, at: int, chance: random.Random) -> None:
    data[at : at + PAGE] = chance.randbytes(PAGE)


def shorten(data: bytearray, at: int, _: random.Random) -> None:
    """Let a page of a tree say that it holds half of what it holds."""
    cells = int.from_bytes(data[at + 3 : at + 5], "big")
    data[at + 3 : at + 5] = (cells // 2).to_bytes(2, "big")


def swap(data: bytearray, at: int, chance: random.Random) -> None:
    other = chance.randrange(1, len(data) // PAGE) * PAGE
    data[at : at + PAGE], data[other : other + PAGE] = (
        data[other : other + PAGE],
        data[at : at + PAGE],
    )


@pytest.mark.slow
@pytest.mark.parametrize("harm", [zero, scramble, shorten, swap])
def test_no_damaged_page_costs_a_file(
    full: Path, harm: Callable[[bytearray, int, random.Random], None]
) -> None:
    """Whichever page of the checkpoint is damaged, and however: verify ends, prune removes none.

    Or it is seen that all rows are there as they were.
    """
    chance = random.Random(7)
    file = full / "checkpoint.db"
    whole = file.read_bytes()
    files = sorted((full / "blobs").glob("??/??/*"))
    assert len(files) == 160
    noticed = 0
    for page in range(1, len(whole) // PAGE):
        data = bytearray(whole)
        harm(data, page * PAGE, chance)
        file.write_bytes(data)
        for log in full.glob("checkpoint.db-*"):
            log.unlink()
        noticed += tried(full)
        assert sorted((full / "blobs").glob("??/??/*")) == files, f"page {page}"
    assert noticed > len(whole) // PAGE // 2


def tried(root: Path) -> bool:
    """Verify and prune; tell whether that ended with damage."""
    try:
        with open_archive(root, command="test", repairing=True) as archive:
            report = asyncio.run(verify(archive))
            asyncio.run(prune(archive, report, sure=True, accept=True))
            assert (report.checked, report.pruned, report.exit_code) == (160, {}, 0)
    except ArchiveDamaged:
        return True
    return False


def test_a_page_of_yesterday_costs_no_file(full: Path) -> None:
    """A write that the disk acknowledged and dropped leaves an old page among new ones."""
    old = (full / "checkpoint.db").read_bytes()
    with open_archive(full, command="test") as archive:
        from tests.archive.test_disk_full import pull

        for number in range(1001, 1041):
            pull(archive, number, 100)
    new = (full / "checkpoint.db").read_bytes()
    files = sorted((full / "blobs").glob("??/??/*"))
    changed = [
        at for at in range(PAGE, len(old), PAGE) if old[at : at + PAGE] != new[at : at + PAGE]
    ]
    assert len(changed) > 5
    for at in changed:
        data = bytearray(new)
        data[at : at + PAGE] = old[at : at + PAGE]
        (full / "checkpoint.db").write_bytes(data)
        for log in full.glob("checkpoint.db-*"):
            log.unlink()
        try:
            with open_archive(full, command="test", repairing=True) as archive:
                report = asyncio.run(verify(archive))
                asyncio.run(prune(archive, report, sure=True, accept=True))
        except ArchiveDamaged:
            pass
        assert sorted((full / "blobs").glob("??/??/*")) == files, f"page at {at}"
