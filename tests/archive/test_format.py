"""FORMAT.md is complete and its recipes work: a stranger can read the archive without the tool."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import migrator.archive
from migrator.archive import Archive, State, StoredBlob, schema
from migrator.archive.checkpoint import Checkpoint
from tests.blobs.layout import path_of, temp_of

ListThem = Callable[..., int]
Store = Callable[[int, bytes], StoredBlob]
TEXT = (Path(migrator.archive.__file__).parent / "FORMAT.md").read_text("utf-8")
REPORT = (
    "attachment_id,ticket_id,post_id,ticket_number,queue_id,filename,declared_type,declared_size,"
    "size,sha256,mime_type,state,problem,detail,attempts,created_at,stored_at,kind,accepted"
)


def recipe(word: str) -> str:
    """Return the line of a shell block that has ``word`` in it."""
    blocks: list[str] = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    return next(line for block in blocks for line in block.splitlines() if word in line)


def test_every_table_and_column_is_explained(db: Checkpoint) -> None:
    """A table or column without its explanation is a mistake of this repository."""
    tables = [
        name
        for name, kind in db.execute("SELECT name, type FROM sqlite_master")
        if kind in ("table", "view") and not name.startswith("sqlite_")
    ]
    assert {"attachments", "ledger", "tokens"} <= set(tables)
    for table in tables:
        assert f"`{table}`" in TEXT, table
        for _, column, *_ in db.execute(f"PRAGMA table_info({table})"):
            assert f"`{column}`" in TEXT or f"`{table}.{column}`" in TEXT, (table, column)


def test_every_state_is_explained() -> None:
    """The six states of the ledger are in the table of states."""
    for state in State:
        assert f"| `{state}` |" in TEXT


def test_the_versions_are_told() -> None:
    """The marks of the file are the ones that the code writes."""
    assert f"0x{schema.APPLICATION_ID:X}" in TEXT
    assert f"the version of this format: {schema.VERSION}." in TEXT


def test_the_view_has_the_columns_of_the_report(db: Checkpoint) -> None:
    """The view for strangers carries the columns that scripts know from the CSV report."""
    columns = [row[1] for row in db.execute("PRAGMA table_info(ledger)")]
    others = {"department_id", "place"}
    assert ",".join(name for name in columns if name not in others) == REPORT


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_alone_can_check_the_blobs(
    archive: Archive, root: Path, list_them: ListThem, store: Store
) -> None:
    """The recipe is silent over a whole archive and names the damaged blob."""
    list_them(1, 2)
    blob, _ = store(1, b"one"), store(2, b"two")
    (temp_of(archive) / "left").touch()
    line = recipe("sha256sum")

    def run() -> subprocess.CompletedProcess[str]:
        command = ["sh", "-c", f"set -e; {line}"]
        return subprocess.run(command, cwd=root.parent, capture_output=True, text=True, check=False)

    whole = run()
    assert (whole.returncode, whole.stdout, whole.stderr) == (0, "", "")
    path = path_of(archive, blob.sha256)
    path.chmod(0o600)
    path.write_bytes(b"One")
    damaged = run()
    assert damaged.returncode != 0
    assert blob.sha256 in damaged.stdout


def test_a_plain_sqlite_reads_the_ledger(
    archive: Archive, root: Path, list_them: ListThem, store: Store
) -> None:
    """The queries of the recipes work with nothing but SQLite, beside a run."""
    list_them(14494)
    blob = store(14494, b"x")
    conn = sqlite3.connect(f"{(root / 'checkpoint.db').as_uri()}?mode=ro", uri=True)
    queries = re.findall(r"checkpoint\.db '(SELECT .*?)'", TEXT)
    assert len(queries) == 2
    everything, one = (conn.execute(query).fetchall() for query in queries)
    conn.close()
    assert len(everything) == 1
    assert one == [(blob.sha256,)]
