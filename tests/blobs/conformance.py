"""What any store must do: subclass :class:`Conformance` as a ``TestX`` and give it a store.

``bench`` is the store and what can be done to it from outside, as disks and people do.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrator.blobs.base import Examined, Store, StoredBlob, Verdict, Writer
from migrator.errors import ArchiveUnwritable, Interrupted

SMALL = b"an attachment " * 1000
EMPTY = b""
LARGE = os.urandom(1 << 20) * 5 + b"and a rest"
MIB = 1 << 20


@dataclass
class Bench:
    """A store on trial; ``harm`` gives the blob of a hash other bytes, or takes it away for None.

    ``plant`` leaves something that the store would not have made and gives its name. ``leave``
    leaves what a killed writer of the store would. ``again`` opens the same place as another
    process.
    """

    store: Store
    harm: Callable[[str, bytes | None], None]
    plant: Callable[[], str]
    leave: Callable[[bytes], str]
    again: Callable[[], Store]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(store: Store, *pieces: bytes) -> StoredBlob:
    """Store one content."""
    with store.writer() as writer:
        for piece in pieces:
            writer.write(piece)
        return writer.commit()


def held(store: Store, sha256: str) -> bytes | None:
    """Read a whole blob; None if there is none."""
    blob = store.open(sha256)
    if blob is None:
        return None
    with blob:
        return b"".join(blob.blocks())


def names(store: Store) -> dict[str, str | None]:
    """Return what lies in a store, by name."""
    return {entry.name: entry.kind for entry in store.scan()}


class Conformance:
    """The suite."""

    @pytest.mark.parametrize("data", [EMPTY, b"x", SMALL, LARGE], ids=["0", "1", "small", "large"])
    def test_what_was_written_is_read(self, bench: Bench, data: bytes) -> None:
        """A content of any size comes back as it was, under its hash, also to another process."""
        half = len(data) // 2
        blob = put(bench.store, data[:half], data[half:])
        assert (blob.sha256, blob.size, blob.deduped) == (sha(data), len(data), False)
        for store in (bench.store, bench.again()):
            assert held(store, blob.sha256) == data
            assert store.size(blob.sha256) == len(data)
            assert store.has(blob.sha256)
            assert store.examine(blob.sha256, len(data)) == Examined(Verdict.OK)

    def test_the_type_is_told_from_the_bytes(self, bench: Bench) -> None:
        """The first bytes tell it, in however many pieces they come."""
        pieces = (b"%PD", b"F-1.7\n", b"and more")
        assert put(bench.store, *pieces).mime_type == "application/pdf"
        assert put(bench.store).mime_type == "application/x-empty"

    def test_the_type_of_a_large_file_may_need_all_of_it(self, bench: Bench) -> None:
        """JSON that ends far behind the first bytes is JSON, and is stored as it came."""
        with bench.store.writer() as writer:
            if type(writer).reopen is Writer.reopen:
                pytest.skip("it has no file to look at")
        whole = b"[" + b"1," * 100_000 + b"1]"
        blob = put(bench.store, whole)
        assert blob.mime_type == "application/json"
        assert held(bench.store, blob.sha256) == whole
        assert put(bench.store, whole[:-1]).mime_type == "text/plain"

    def test_what_was_never_stored_is_not_there(self, bench: Bench) -> None:
        """A hash without a blob is lost, of no size, and cannot be opened."""
        assert bench.store.open(sha(SMALL)) is None
        assert bench.store.size(sha(SMALL)) is None
        assert not bench.store.has(sha(SMALL))
        assert bench.store.examine(sha(SMALL), len(SMALL)).verdict is Verdict.LOST

    @pytest.mark.parametrize(
        "name",
        ["", "ab", "../" * 21 + "x", "A" * 64, "a" * 64 + "\n", "a" * 63 + "/", "g" * 64],
    )
    def test_only_a_hash_names_a_blob(self, bench: Bench, name: str) -> None:
        """Anything but 64 lower-case hex digits is refused before the medium sees it."""
        store = bench.store
        for ask in (store.open, store.size, store.has, store.blocked):
            with pytest.raises(ValueError, match="64 lower-case hex"):
                ask(name)
        with pytest.raises(ValueError, match="64 lower-case hex"):
            store.examine(name, 1)

    def test_equal_bytes_are_kept_once(self, bench: Bench) -> None:
        """The second equal blob is deduped, and nothing else lies there."""
        put(bench.store, SMALL)
        assert [put(bench.store, SMALL).deduped for _ in range(2)] == [True, True]
        assert put(bench.again(), SMALL).deduped
        assert list(names(bench.store).values()) == ["blob"]

    @pytest.mark.parametrize("damage", [SMALL[:-1], b"X" + SMALL[1:], b"", SMALL + b"more", None])
    def test_dedupe_looks_before_it_believes(self, bench: Bench, damage: bytes | None) -> None:
        """A blob that is short, flipped, empty, long or gone is written again, though once seen."""
        put(bench.store, SMALL)
        assert put(bench.store, SMALL).deduped
        bench.harm(sha(SMALL), damage)
        assert put(bench.store, SMALL).deduped is False
        assert held(bench.store, sha(SMALL)) == SMALL

    @pytest.mark.parametrize("damage", [SMALL[:-1], b"X" + SMALL[1:], b"", SMALL + b"more"])
    def test_damage_is_found(self, bench: Bench, damage: bytes) -> None:
        """Other bytes or another length under the name are damaged."""
        put(bench.store, SMALL)
        assert bench.store.examine(sha(SMALL), len(SMALL) + 1).verdict is Verdict.DAMAGED
        bench.harm(sha(SMALL), damage)
        assert bench.store.examine(sha(SMALL), len(SMALL)).verdict is Verdict.DAMAGED

    @pytest.mark.parametrize(
        ("offset", "length"),
        [(0, 0), (0, 1), (1, 2), (MIB - 1, 2), (7, 3 * MIB), (0, 1 << 40), (len(LARGE) - 1, 1)],
    )
    def test_ranges_are_read(self, bench: Bench, offset: int, length: int) -> None:
        """Any span within the blob is given whole, one over its end as far as it goes."""
        blob = bench.store.open(put(bench.store, LARGE).sha256)
        assert blob is not None
        with blob:
            assert blob.size == len(LARGE)
            assert blob.read(offset, length) == LARGE[offset : offset + length]
            assert blob.read(len(LARGE), 5) == b""
            assert blob.read(len(LARGE) + 5, 5) == b""

    def test_other_bytes_are_another_version(self, bench: Bench) -> None:
        """Two openings of the same bytes agree, of others they do not."""

        def version() -> object:
            blob = bench.store.open(sha(SMALL))
            assert blob is not None
            with blob:
                return blob.version

        put(bench.store, SMALL)
        before = version()
        assert version() == before
        assert isinstance(hash(before), int)
        bench.harm(sha(SMALL), b"X" + SMALL[1:] + b"more")
        assert version() != before

    def test_a_writer_that_is_not_committed_leaves_nothing(self, bench: Bench) -> None:
        """Leaving the block, an exception and abort() drop the bytes, which nobody ever saw."""
        with bench.store.writer() as writer:
            writer.write(SMALL)
            assert (writer.sha256, writer.size) == (sha(SMALL), len(SMALL))
            assert not bench.store.has(sha(SMALL))
            assert set(names(bench.store).values()) <= {"temporary"}
        with contextlib.suppress(RuntimeError), bench.store.writer() as writer:
            writer.write(SMALL)
            raise RuntimeError
        writer.abort()
        assert names(bench.store) == {}

    @pytest.mark.parametrize("end", ["commit", "abort"])
    def test_a_writer_is_used_once(self, bench: Bench, end: str) -> None:
        """After commit or abort a writer refuses to write and to commit; abort changes nothing."""
        writer = bench.store.writer()
        getattr(writer, end)()
        before = names(bench.store)
        with pytest.raises(ValueError, match="already"):
            writer.write(b"x")
        with pytest.raises(ValueError, match="already"):
            writer.commit()
        writer.abort()
        assert names(bench.store) == before

    def test_writers_of_equal_bytes_do_not_disturb_each_other(self, bench: Bench) -> None:
        """Many threads that commit the same content at once end with one whole blob."""
        barrier = threading.Barrier(6)
        blobs: list[StoredBlob] = []

        def work() -> None:
            with bench.store.writer() as writer:
                writer.write(SMALL)
                barrier.wait()
                blobs.append(writer.commit())

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [blob.sha256 for blob in blobs] == [sha(SMALL)] * 6
        assert bench.store.examine(sha(SMALL), len(SMALL)).verdict is Verdict.OK
        assert list(names(bench.store).values()) == ["blob"]

    def test_a_scan_shows_all_that_is_there(self, bench: Bench) -> None:
        """Blobs with their hash, what killed writers left, and strangers, always in one order."""
        kinds = {put(bench.store, data).sha256: "blob" for data in (SMALL, LARGE, EMPTY)}
        left, stranger = bench.leave(b"left"), bench.plant()
        found = list(bench.store.scan())
        assert {one.sha256: one.kind for one in found if one.sha256} == kinds
        assert {one.name for one in found if one.kind == "temporary"} == {left}
        assert {one.name for one in found if one.kind is None} == {stranger}
        assert list(bench.store.scan()) == found

    def test_what_the_store_made_can_be_removed(self, bench: Bench) -> None:
        """It gives the bytes that are free now; what is not there cannot be removed."""
        put(bench.store, SMALL)
        bench.leave(b"left")
        for entry in list(bench.store.scan()):
            known = bench.store.entry(entry.name)
            assert known is not None
            assert (known.kind, known.sha256) == (entry.kind, entry.sha256)
            assert bench.store.remove(entry.name) == known.size
            assert bench.store.entry(entry.name) is None
            with pytest.raises(ArchiveUnwritable):
                bench.store.remove(entry.name)
        assert names(bench.store) == {}
        assert bench.store.examine(sha(SMALL), len(SMALL)).verdict is Verdict.LOST
        assert put(bench.store, SMALL).deduped is False

    def test_a_stranger_is_not_removed(self, bench: Bench) -> None:
        """What the store would not have made is not its own to remove."""
        stranger = bench.plant()
        assert bench.store.entry(stranger) is None
        with pytest.raises(ValueError, match="of this store"):
            bench.store.remove(stranger)
        assert names(bench.store) == {stranger: None}

    @pytest.mark.parametrize("link", [True, False])
    @pytest.mark.parametrize("data", [EMPTY, SMALL, LARGE], ids=["empty", "small", "large"])
    def test_a_copy_equals_its_blob(
        self, bench: Bench, tmp_path: Path, data: bytes, link: bool
    ) -> None:
        """It is read-only, for its owner alone, and no temporary file is left."""
        put(bench.store, data)
        target, temp = tmp_path / "mine", tmp_path / "temp"
        found = bench.store.copy_out(sha(data), len(data), target, temp=temp, link=link)
        assert found == Examined(Verdict.OK)
        assert target.read_bytes() == data
        assert stat.S_IMODE(target.stat().st_mode) == 0o400
        assert not temp.exists()

    @pytest.mark.parametrize("link", [True, False])
    @pytest.mark.parametrize("damage", [SMALL[:-1], b"X" + SMALL[1:], None])
    def test_no_damage_is_copied_out(
        self, bench: Bench, tmp_path: Path, damage: bytes | None, link: bool
    ) -> None:
        """Where there are no good bytes there is no file, and the verdict says why."""
        put(bench.store, SMALL)
        bench.harm(sha(SMALL), damage)
        target, temp = tmp_path / "mine", tmp_path / "temp"
        found = bench.store.copy_out(sha(SMALL), len(SMALL), target, temp=temp, link=link)
        assert found.verdict is (Verdict.LOST if damage is None else Verdict.DAMAGED)
        assert not target.exists()
        assert not temp.exists()

    def test_a_copy_can_be_stopped(self, bench: Bench, tmp_path: Path) -> None:
        """Whoever stops it between two blocks finds nothing of it."""
        put(bench.store, LARGE)
        calls: list[None] = []

        def stopped() -> None:
            calls.append(None)
            if len(calls) == 2:
                raise Interrupted("enough")

        target, temp = tmp_path / "mine", tmp_path / "temp"
        with pytest.raises(Interrupted):
            bench.store.copy_out(
                sha(LARGE), len(LARGE), target, temp=temp, link=False, stopped=stopped
            )
        assert not target.exists()
        assert not temp.exists()

    def test_a_place_that_was_prepared_misses_nothing(self, bench: Bench) -> None:
        """Preparing it again changes nothing, and removes nothing that was left there."""
        left = bench.leave(b"left")
        bench.store.prepare()
        assert bench.store.missing() == []
        assert names(bench.store) == {left: "temporary"}
        assert bench.store.where

    def test_nothing_keeps_a_blob_from_being_written(self, bench: Bench) -> None:
        """Neither before it is there nor after."""
        assert bench.store.blocked(sha(SMALL)) is None
        put(bench.store, SMALL)
        assert bench.store.blocked(sha(SMALL)) is None

    def test_large_blobs_take_little_memory(self, bench: Bench, tmp_path: Path) -> None:
        """Writing, examining and copying out 64 MiB takes a few blocks; a store in memory skips."""
        block = bytes(MIB)
        tracemalloc.start()
        try:
            blob = put(bench.store, *[block] * 64)
            bench.store.examine(blob.sha256, blob.size)
            bench.store.copy_out(
                blob.sha256, blob.size, tmp_path / "mine", temp=tmp_path / "temp", link=False
            )
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 8 * MIB
