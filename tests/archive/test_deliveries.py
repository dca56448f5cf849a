"""What a target took is recorded before it is sent, and settled files are not asked for again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from migrator.archive import Archive, StoredBlob
from migrator.archive.records import DeliveredFile, Delivery

ListThem = Callable[..., int]
Store = Callable[[int, bytes], StoredBlob]
TARGET = "https://tickiti.example.com"


def test_a_file_is_settled_once_its_note_is_there(
    archive: Archive, list_them: ListThem, store: Store
) -> None:
    """Pending, failed and undone notes leave their files to do; a delivered one does not."""
    list_them(1)
    blob = store(1, b"one")
    (ticket,) = archive.queries.tickets_to_deliver(TARGET)
    file = DeliveredFile(TARGET, 1, blob.sha256, ticket, 3)
    note = Delivery(TARGET, ticket, "220009", "marker", "key", b"\x00body")
    note = archive.ledger.put_delivery(note, [file])
    assert archive.queries.deliveries(TARGET, ticket) == [note]
    assert archive.queries.delivered(TARGET, [1]) == [replace(file, delivery_id=note.id)]
    for state, left in (("pending", [ticket]), ("failed", [ticket]), ("delivered", [])):
        done = replace(file, state="delivered", delivery_id=note.id, name="a", there_id="7")
        archive.ledger.settle_delivery(replace(note, state=state, response_id="42"), [done])
        assert list(archive.queries.tickets_to_deliver(TARGET)) == left
    assert list(archive.queries.all_delivered(TARGET)) == [done]
    assert archive.queries.targets() == [TARGET]
    assert list(archive.queries.tickets_to_deliver("https://other.example.com")) == [ticket]
    archive.ledger.settle_delivery(replace(note, state="undone"), [])
    assert list(archive.queries.tickets_to_deliver(TARGET)) == [ticket]


def test_a_refusal_is_settled_once_a_note_tells_it(
    archive: Archive, list_them: ListThem, store: Store
) -> None:
    """Without a note it is tried again, with one only on request."""
    list_them(1)
    blob = store(1, b"one")
    (ticket,) = archive.queries.tickets_to_deliver(TARGET)
    file = DeliveredFile(TARGET, 1, blob.sha256, ticket, 3, "refused", "blocked", "no")
    archive.ledger.put_delivered([file])
    assert list(archive.queries.tickets_to_deliver(TARGET)) == [ticket]
    note = Delivery(TARGET, ticket, "220009", "marker", state="delivered")
    archive.ledger.put_delivery(note, [file])
    assert list(archive.queries.tickets_to_deliver(TARGET)) == []
    assert list(archive.queries.tickets_to_deliver(TARGET, recheck=True)) == [ticket]
    assert archive.queries.delivery_totals(TARGET)["refused"].n == 1
