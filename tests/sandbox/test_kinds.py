"""Files of every kind: what the truth says of them, and what comes over the wire."""

from __future__ import annotations

import base64
import binascii
import hashlib
import http.client
import re
from typing import TYPE_CHECKING

import pytest

from migrator.sandbox.kayako import KIND_FAULTS, Helpdesk, SandboxOptions
from migrator.sandbox.kayako.model import FILE_FIELD, Attachment
from tests.sandbox.test_faults import decoded

if TYPE_CHECKING:
    from migrator.sandbox.kayako import Truth
    from tests.sandbox.conftest import Answer, Client, Serve

QUICK = {
    name: kind
    for kind, faults in KIND_FAULTS.items()
    for name, fault in faults.items()
    if not fault.lasting
}
NONE = {"field_files": 0, "articles": 0, "steps": 0, "links": 0, "notes": 0}


def test_a_modest_helpdesk_has_every_kind() -> None:
    """Each kind has some files by default, as many as asked for, and no ids that collide."""
    desk = Helpdesk.build(SandboxOptions())
    counts = {kind: len(of) for kind, of in desk.truths.items()}
    assert counts == {"post": len(desk.truth), "customfield": 8, "article": 9, "step": 6} | {
        "linked": 6
    }
    assert not desk.attachments.keys() & desk.guide_files.keys()
    more = Helpdesk.build(SandboxOptions(field_files=9, articles=8, steps=8, links=9)).truths
    assert {kind: len(of) for kind, of in more.items() if kind != "post"} == {
        "customfield": 11,
        "article": 12,
        "step": 12,
        "linked": 9,
    }


def test_equal_options_equal_files_of_every_kind() -> None:
    """The same options give the same files; without any, posts and their files are as before."""
    first, second = (Helpdesk.build(SandboxOptions(faults=frozenset({"all"}))) for _ in range(2))
    assert first.truths == second.truths
    bare = Helpdesk.build(SandboxOptions(faults=frozenset({"all"}), **NONE))  # type: ignore[arg-type]
    assert bare.attachments == first.attachments
    assert [post.dateline for post in bare.posts.values()] == [
        post.dateline for post in first.posts.values()
    ]
    assert {kind: len(of) for kind, of in bare.truths.items() if kind != "post"} == {
        "customfield": 0,
        "article": 0,
        "step": 0,
        "linked": 0,
    }
    assert bare.notes == {}
    of_files = [one for one in bare.custom_fields.values() if one.kind == FILE_FIELD]
    assert [bare.field_groups[one.group_id].of_tickets for one in of_files] == [False]


@pytest.mark.parametrize("seed", range(3))
def test_every_fault_of_every_kind_occurs(seed: int) -> None:
    """From 40 tickets on each has a file of its own."""
    desk = Helpdesk.build(SandboxOptions(seed=seed, faults=frozenset({"all"})))
    hit = {name for of in desk.truths.values() for true in of.values() for name in true.faults}
    hit |= {guide.fault for guide in desk.guides.values() if guide.fault}
    assert {*QUICK} <= hit


def test_the_truth_names_what_a_pull_can_learn_of(serve: Serve) -> None:
    """Files of tickets that are trashed, deleted or hidden are left out, as are unlinked ones."""
    with serve() as client:
        desk = client.desk
        key = next(iter(desk.truths["customfield"]))
        path = next(path for path in desk.links if len(desk.texts_with(path)) == 1)
        ((_, post),) = desk.texts_with(path)
        desk.trash(int(key.partition("/")[0]))
        desk.delete_ticket(desk.posts[post].ticket_id)
        assert key not in desk.truths["customfield"]
        assert path not in desk.truths["linked"]


def ask(client: Client, kind: str, row: Attachment) -> Answer:
    """Ask once for a file of a kind."""
    if kind == "linked":
        return client.send("GET", f"/__swift/files/{row.name.decode()}")
    if kind == "customfield":
        return client.get(f"/Tickets/TicketCustomField/{row.ticket_id}")
    app = {"article": "Knowledgebase", "step": "Troubleshooter"}[kind]
    return client.get(f"/{app}/Attachment/{row.post_id}/{row.id}")


def contents(kind: str, answer: Answer) -> bytes | None:
    """Return the file in an answer, None if there is none."""
    if kind == "linked":
        image = answer.headers["Content-Type"].startswith("image/")
        return answer.body if image and answer.body and answer.status == 200 else None
    if kind == "customfield":
        found = re.search(rb'type="11"[^>]*>(?:<!\[CDATA\[)([^\]]*)\]\]></field>', answer.body)
        try:
            return base64.b64decode(found[1], validate=True) if found else None
        except binascii.Error:
            return None
    whole = answer.status == 200 and answer.body.endswith(b"attachments>")
    return decoded(answer.body) if whole else None


def pulled(client: Client, kind: str, row: Attachment) -> bytes | None:
    """Ask until the same file has come twice, and follow the helpdesk's own redirects."""
    seen: list[bytes | None] = []
    for _ in range(6):
        try:
            answer = ask(client, kind, row)
        except http.client.IncompleteRead:
            continue
        if answer.headers.get("Location", "").startswith(f"{client.server.portal}/files/"):
            place = answer.headers["Location"].removeprefix(client.server.portal)
            answer = client.send("GET", place)
        data = contents(kind, answer)
        if data is not None and data in seen:
            return data
        seen.append(data)
    return None


def afflicted(client: Client, kind: str, fault: str) -> tuple[Attachment, Truth]:
    """Return the file with a fault, and its truth."""
    desk = client.desk
    key, true = next((k, t) for k, t in desk.truths[kind].items() if fault in t.faults)
    if kind == "linked":
        return desk.links[key], true
    if kind == "customfield":
        ticket, field_id = map(int, key.split("/"))
        row = desk.field_values[ticket][field_id]
        assert isinstance(row, Attachment)
        return row, true
    return desk.guide_files[int(key)], true


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [n for n in QUICK if n != "linked_oversize" and not n.endswith("foreign_list")]
)
def test_a_patient_client_ends_with_the_truth(serve: Serve, fault: str) -> None:
    """It has the bytes of the truth in the end, or none where the truth has none."""
    kind = QUICK[fault]
    with serve(fault) as client:
        row, true = afflicted(client, kind, fault)
        data = pulled(client, kind, row)
        if true.state == "stored":
            assert data is not None
            assert (hashlib.sha256(data).hexdigest(), len(data)) == (true.sha256, true.size)
        else:
            assert not data
            assert (true.sha256, true.size) == (None, None)


@pytest.mark.parametrize("fault", ["article_foreign_list", "step_foreign_list"])
def test_a_list_of_another_one(serve: Serve, fault: str) -> None:
    """Once the list holds rows that name another article or step; then its own come."""
    kind = QUICK[fault]
    app, tag = {
        "article": ("Knowledgebase", "kbarticleid"),
        "step": ("Troubleshooter", "troubleshooterstepid"),
    }[kind]
    with serve(fault) as client:
        guide = next(one for one in client.desk.guides.values() if one.fault)
        path = f"/{app}/Attachment/ListAll/{guide.id}"
        first, second = client.get(path), client.get(path)
        assert str(guide.id) not in first.values(tag)
        assert {*second.values(tag)} == {str(guide.id)}


@pytest.mark.parametrize("kind", ["article", "step"])
def test_a_fault_costs_its_own_file_alone(serve: Serve, kind: str) -> None:
    """A list fails with one of its files; the other one is still to be had."""
    app = {"article": "Knowledgebase", "step": "Troubleshooter"}[kind]
    with serve(f"{kind}_memory") as client:
        row, _ = afflicted(client, kind, f"{kind}_memory")
        guide = client.desk.guides[kind, row.post_id]
        path = f"/{app}/Attachment/ListAll/{guide.id}"
        assert "Allowed memory size" in client.get(path).text
        (other,) = (one for one in client.desk.files_of(guide) if one is not row)
        for one in (f"{path}/{other.id}", f"/{app}/Attachment/{guide.id}/{other.id}"):
            assert decoded(client.get(one).body) == other.source.read()
        named = client.get(f"/{app}/{kind.title()}/{guide.id}")
        assert {str(row.id), str(other.id)} <= {*named.values("id")}


def test_drips_never_end(serve: Serve) -> None:
    """One byte comes a second, until somebody hangs up or the server stops."""
    with serve("linked_drips") as client:
        row, _ = afflicted(client, "linked", "linked_drips")
        connection = http.client.HTTPConnection(*client.address, timeout=20)
        connection.request("GET", f"/__swift/files/{row.name.decode()}")
        reply = connection.getresponse()
        assert reply.headers["Content-Length"] == str(row.size)
        assert reply.read(1) == row.source.read()[:1]
        connection.close()


def test_more_than_ten_megabytes_in_a_field(serve: Serve) -> None:
    """A file in a custom field may be larger than what parsers allow a text to be."""
    with serve("customfield_oversize") as client:
        row, true = afflicted(client, "customfield", "customfield_oversize")
        data = contents("customfield", ask(client, "customfield", row))
        assert data is not None
        assert len(data) == true.size == 8 << 20
        assert hashlib.sha256(data).hexdigest() == true.sha256
