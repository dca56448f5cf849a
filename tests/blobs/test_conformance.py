"""Stores that keep the contract: the one on a disk, the wrapper around one, one in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.blobs import DryStore, Wrapper, store_of
from migrator.blobs.base import Examined, Store, Verdict
from tests.blobs.conformance import LARGE, SMALL, Bench, Conformance, held, names, put, sha
from tests.blobs.memory import MemoryStore


def on_disk(root: Path) -> Bench:
    """Give the store of an archive."""
    folder = root / "blobs"

    def path(sha256: str) -> Path:
        return folder / sha256[:2] / sha256[2:4] / sha256

    def harm(sha256: str, data: bytes | None) -> None:
        path(sha256).unlink()
        if data is not None:
            path(sha256).write_bytes(data)

    def plant() -> str:
        (folder / "README").write_text("mine")
        return "blobs/README"

    def leave(data: bytes) -> str:
        name = "0f" * 16
        (folder / "tmp" / name).write_bytes(data)
        return f"blobs/tmp/{name}"

    store = store_of(root)
    store.prepare()
    return Bench(store, harm, plant, leave, lambda: store_of(root))


class TestLocalStore(Conformance):
    """The store on a disk."""

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Bench:
        return on_disk(tmp_path / "archive")


class TestWrapper(Conformance):
    """A wrapper that changes nothing is as good as its store."""

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Bench:
        bench = on_disk(tmp_path / "archive")
        bench.store = Wrapper(bench.store)
        return bench


class TestMemoryStore(Conformance):
    """A store that knows no path."""

    @pytest.fixture
    def bench(self) -> Bench:
        store = MemoryStore()
        store.prepare()

        def harm(sha256: str, data: bytes | None) -> None:
            del store.objects[sha256]
            if data is not None:
                store.objects[sha256] = data

        def plant() -> str:
            store.objects["README"] = b"mine"
            return "README"

        def leave(data: bytes) -> str:
            store.objects["temporary-99"] = data
            return "temporary-99"

        return Bench(store, harm, plant, leave, lambda: store)

    @pytest.mark.skip("it keeps all in memory")
    def test_large_blobs_take_little_memory(self, bench: Bench, tmp_path: Path) -> None: ...


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Give a store with one blob in it."""
    store = MemoryStore() if request.param == "memory" else store_of(tmp_path / "archive")
    store.prepare()
    put(store, SMALL)
    return store


def test_a_dry_store_says_what_would_be_stored(store: Store) -> None:
    """New bytes get their hash and type, those that are there are deduped, nothing is kept."""
    before, dry = names(store), DryStore(store)
    new = put(dry, LARGE)
    assert (new.sha256, new.size, new.deduped) == (sha(LARGE), len(LARGE), False)
    assert put(dry, SMALL).deduped
    with dry.writer() as writer:
        writer.write(b"never committed")
    assert names(store) == names(dry) == before
    assert dry.open(sha(LARGE)) is None


def test_a_dry_store_reads_and_removes_nothing(store: Store) -> None:
    """It reads what is there as its store does."""
    before, dry = names(store), DryStore(store)
    dry.prepare()
    for name in before:
        assert dry.remove(name) == 0
    assert names(store) == before
    assert held(dry, sha(SMALL)) == SMALL
    assert dry.examine(sha(SMALL), len(SMALL)) == Examined(Verdict.OK)
