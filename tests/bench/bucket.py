"""Files that come from a bucket, beside the same files on a disk, and snapshots of a large archive.

``python -m tests.bench bucket``: SeaweedFS is on this machine, so the network costs nothing. A
cold download asks the bucket, a warm one finds the file in the server's cache. Needs the extra
``[s3-test]``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from unittest import mock

from migrator.archive import Archive, open_archive, open_beside, snapshots
from migrator.archive.records import Department, Listed, Outcome, State, TicketRow
from migrator.blobs import Place, choose
from migrator.sandbox.bucket import BUCKET, ObjectStore
from migrator.serve.replica import Replica
from tests.bench import make_archive, serve
from tests.bench import measure as common
from tests.web.desks import Visitor

KINDS: Final = {"10 KB": (10_000, 100), "1 MB": (1_000_000, 20), "25 MB": (25_000_000, 4)}
PROGRAM: Final = [sys.executable, "-m", "migrator"]
BLOCK: Final = bytes(range(256)) * 4096


def measure(rounds: int, *, quick: bool, folder: Path | None) -> dict[str, Any]:
    """Measure downloads of all sizes, one that is large, and a snapshot."""
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "key"}
    with (
        tempfile.TemporaryDirectory(prefix="bench-bucket-", dir=folder) as name,
        mock.patch.dict(os.environ, keys),
        contextlib.ExitStack() as ends,
    ):
        home = Path(name)
        (home / "weed").mkdir()
        service = ObjectStore(home / "weed")
        ends.callback(service.kill)
        service.start()
        places = [
            Place(f"s3://{BUCKET}/{one}", service.url, "us-east-1", allow_http=True)
            for one in ("files", "large", "rows")
        ]
        return {
            "downloads": _downloads(home / "files", places[0], rounds),
            "large": _large(home / "large", places[1], (512 << 20) if quick else 5 * 10**9),
            "snapshot": _snapshot(home / "rows", places[2], 100_000 if quick else 1_000_000),
        }


def _told(place: Place) -> list[str]:
    return ["--endpoint", str(place.endpoint), "--region", "us-east-1", "--allow-http"]


def _served(place: Place) -> tuple[list[str], int]:
    port = serve.free_port()
    return [*PROGRAM, "serve", "--from", place.url, *_told(place), "--port", str(port)], port


def _downloads(home: Path, place: Place, rounds: int) -> dict[str, Any]:
    """Ask for each file once of the disk, and twice of a server whose cache is empty."""
    home.mkdir()
    made = serve.stock(home, KINDS)
    copy = ["-c", str(made.config), "archive", "copy", place.url, *_told(place)]
    common.run([*PROGRAM, *copy], folder=home)
    port = serve.free_port()
    local = [*PROGRAM, "-c", str(made.config), "serve", "--port", str(port)]
    names = ("disk", "cold", "warm")
    found: dict[str, dict[str, list[float]]] = {size: {n: [] for n in names} for size in KINDS}
    for _ in range(rounds):
        command, other = _served(place)
        with serve.running(local, port), serve.running(command, other):
            for size, ids in made.ids.items():
                for who, at in zip(names, (port, other, other), strict=True):
                    began = time.monotonic()
                    for one in ids:
                        serve.ask(f"http://127.0.0.1:{at}", made.token, one)
                    found[size][who].append((time.monotonic() - began) * 1000 / len(ids))
    return {
        size: {
            **{who: common.Middle.of(ms).as_json() for who, ms in each.items()},
            "cold of disk": common.ratio(each["disk"], each["cold"]).as_json(),
            "warm of disk": common.ratio(each["disk"], each["warm"]).as_json(),
        }
        for size, each in found.items()
    }


def _large(home: Path, place: Place, size: int) -> dict[str, float]:
    """Download one file through a server, whole and a part near its end."""
    choose(home, place)
    with open_archive(home, command="bench") as archive:
        token = _one_file(archive, size)
        snapshots.publish(archive, keep=1, now=int(time.time()))
    command, port = _served(place)
    with (
        serve.running(command, port) as pid,
        Visitor(base_url=f"http://127.0.0.1:{port}", timeout=600) as visitor,
    ):
        visitor.sign_in(token)
        read, began = hashlib.sha256(), time.monotonic()
        while True:
            with visitor.stream("GET", "/attachments/1/download") as answer:
                if answer.status_code == 200:
                    for block in answer.iter_bytes():
                        read.update(block)
                    break
                assert answer.status_code == 503, answer.status_code  # it is being checked
            time.sleep(1)
        seconds = time.monotonic() - began
        expected = hashlib.sha256()
        for _ in range(size // len(BLOCK)):
            expected.update(BLOCK)
        assert read.hexdigest() == expected.hexdigest()
        at = size // len(BLOCK) * len(BLOCK) - 1000
        began = time.monotonic()
        part = visitor.get("/attachments/1/download", headers={"range": f"bytes={at}-{at + 9}"})
        assert (part.status_code, part.content) == (206, BLOCK[-1000:-990])
        return {
            "size_mb": size / 1e6,
            "seconds": seconds,
            "range_ms": (time.monotonic() - began) * 1000,
            "peak_mb": serve.peak_memory(pid),
        }


def _one_file(archive: Archive, size: int) -> str:
    ledger = archive.ledger
    with archive.blobs.writer() as writer:
        for _ in range(size // len(BLOCK)):
            writer.write(BLOCK)
        blob = writer.commit()
    with ledger.atomic():
        run = ledger.begin_run("run", source="bench", scope={})
        ledger.put_departments([Department(1, "Support")])
        row = Listed(1, 1, 1, "large.png", "", blob.size, 0)
        ledger.record_ticket(run.id, TicketRow(1, 1), [row])
        held = {"sha256": blob.sha256, "size": blob.size, "mime_type": blob.mime_type}
        ledger.settle(Outcome(1, State.STORED, **held))  # type: ignore[arg-type]
    _, token = archive.access.create_token(
        "bench", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
    )
    return token


def _snapshot(home: Path, place: Place, rows: int) -> dict[str, float]:
    """Publish an archive of so many attachments, and let a server take it."""
    make_archive.make(home, make_archive.Size(rows))
    with open_beside(home) as archive:
        began = time.monotonic()
        made, _ = snapshots.publish(archive, keep=1, now=int(time.time()), place=place)
        published = time.monotonic() - began
    copy = home / "copy"
    copy.mkdir()
    replica = Replica(place, copy, every=60, cache=0)
    began = time.monotonic()
    replica.fetch()
    return {
        "rows": rows,
        "checkpoint_mb": made.unpacked / 1e6,
        "snapshot_mb": made.size / 1e6,
        "publish_s": published,
        "change_over_s": time.monotonic() - began,
    }


def markdown(results: Mapping[str, Any]) -> str:
    """Tell the results as tables."""
    columns = ["disk", "cold", "warm", "cold of disk", "warm of disk"]
    head = ["ms a file", "disk", "bucket, cold", "bucket, warm", "cold : disk", "warm : disk"]
    rows = [
        [size, *(common.Middle(**each[one]) for one in columns)]
        for size, each in results["downloads"].items()
    ]
    facts = [
        [f"{part}: {name}", f"{value:,.1f}"]
        for part in ("large", "snapshot")
        for name, value in results[part].items()
    ]
    return common.table(head, rows) + "\n\n" + common.table(["what", "figure"], facts)
