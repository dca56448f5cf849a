"""A whole archive whose blobs are in no file: nothing outside of a store may ask for one."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from migrator.archive import open_archive, open_beside, open_dry
from migrator.blobs import Wrapper
from migrator.blobs.base import Store, Verdict, Writer
from migrator.errors import ArchiveUnwritable
from migrator.pull.verify import prune, repair, verify
from migrator.serve import join_faces, load_faces
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from migrator.sources.kayako.source import KayakoSource
from tests.blobs.conformance import sha
from tests.blobs.memory import MemoryStore
from tests.pull.doubles import Desk, pull, states
from tests.report.handed import handed
from tests.web.desks import Visitor

DATA = b"file 2"


def test_run_verify_repair_prune_and_hand_over(tmp_path: Path) -> None:
    """Every step of an archive's life works on a store that has no paths."""
    store, desk, root = MemoryStore(), Desk(3), tmp_path / "archive"
    with open_archive(root, command="test", store=store) as archive:
        assert pull(desk, archive).exit_code == 0
        assert asyncio.run(verify(archive)).checked == 3
        store.objects[sha(DATA)] = b"damage"
        store.objects["temporary-99"] = b"left"
        del store.objects[sha(b"file 3")]
        report = asyncio.run(verify(archive))
        assert (report.damaged, report.lost) == ([sha(DATA)], [sha(b"file 3")])
        assert report.orphaned == ["temporary-99"]
        asyncio.run(repair(archive, KayakoSource(desk, concurrency=1), report))
        assert sorted(report.repaired) == sorted([sha(DATA), sha(b"file 3")])
        asyncio.run(prune(archive, report, sure=True))
        assert report.pruned == {"temporary-99": 4}
        assert asyncio.run(verify(archive)).exit_code == 0
        assert handed(archive, tmp_path / "handover").files == 3
    name = sha(DATA)
    assert (tmp_path / "handover/files" / name[:2] / name[2:4] / name).read_bytes() == DATA
    assert not (root / "blobs").exists()


def test_a_dry_run_keeps_nothing(tmp_path: Path) -> None:
    """It knows what is stored, reads it, and stores no more."""
    store, desk, root = MemoryStore(), Desk(2), tmp_path / "archive"
    with open_archive(root, command="test", store=store) as archive:
        pull(desk, archive)
    before = dict(store.objects)
    desk.open(3)
    desk.attach(3, b"new")
    with open_dry(root, store=store) as archive:
        assert pull(desk, archive).exit_code == 0
        assert states(archive) == {1: "stored", 2: "stored", 3: "stored"}
    assert store.objects == before


def test_both_faces_serve_it(tmp_path: Path) -> None:
    """A client of the API and a browser get whole bytes and ranges, and no damaged ones."""
    store, root = MemoryStore(), tmp_path / "archive"
    with open_archive(root, command="test", store=store) as archive:
        pull(Desk(3), archive)
        _, token = archive.access.create_token(
            "t", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )
    with (
        open_beside(root, store=store) as archive,
        BackgroundServer(join_faces(load_faces(), lambda: archive, EndpointSettings())) as server,
        Visitor(base_url=server.url, timeout=20) as visitor,
    ):
        visitor.sign_in(token)

        def asked(**more: object) -> tuple[int, bytes]:
            answer = visitor.post(
                "/api/v1/tickets/attachment",
                json={
                    "ticket_number": "2",
                    "response_attachment_id": 2,
                    "intent": "review_ok",
                    **more,
                },
                headers={"authorization": f"Bearer {token}"},
            )
            data = answer.json().get("data", {}).get("content_base64", "")
            return answer.status_code, base64.b64decode(data)

        assert visitor.get("/readyz").status_code == 200
        assert asked() == (200, DATA)
        assert asked(offset=1, length=3) == (200, DATA[1:4])
        page = visitor.get("/attachments/2/download", headers={"range": "bytes=-2"})
        assert (page.status_code, page.content) == (206, DATA[-2:])
        store.objects[sha(DATA)] = b"damage"
        assert asked() == (404, b"")
        assert visitor.get("/attachments/2/download").status_code == 404
        store.prepared = False
        store.objects.clear()
        assert visitor.get("/readyz").status_code == 503


class Failing(Wrapper):
    """A store that takes so many blobs and then no more."""

    def __init__(self, store: Store, room: int) -> None:
        super().__init__(store)
        self.room = room

    def writer(self) -> Writer:
        if not self.room:
            raise ArchiveUnwritable("The store is full.")
        self.room -= 1
        writer: Writer = self.store.writer()
        return writer


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_store_that_fails_ends_the_run_and_loses_nothing(tmp_path: Path, room: int) -> None:
    """What it took is stored, nothing else is said to be, and the next run takes the rest."""
    store, desk, root = MemoryStore(), Desk(3), tmp_path / "archive"
    with open_archive(root, command="test", store=Failing(store, room)) as archive:
        assert pull(desk, archive).exit_code == ArchiveUnwritable.exit_code
        for sha256, size in archive.queries.expected_blobs():
            assert archive.blobs.examine(sha256, size).verdict is Verdict.OK
        assert sum(state == "stored" for state in states(archive).values()) <= room
    with open_archive(root, command="test", store=store) as archive:
        assert pull(desk, archive).exit_code == 0
        assert set(states(archive).values()) == {"stored"}
