"""Custom fields: definitions, values and files, and what ids and versions do to them."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

import pytest

from migrator.sandbox.kayako.model import FILE_FIELD, Attachment

if TYPE_CHECKING:
    from tests.sandbox.conftest import Client, Serve

PATH = "/Tickets/TicketCustomField"
CONTENTS = re.compile(r'type="11"[^>]*?(?: filename="([^"]*)")?(?: />|><!\[CDATA\[(.*)\]\])')


def with_file(client: Client) -> tuple[int, Attachment]:
    """Return a ticket that has a file in the field Invoice."""
    values = client.desk.field_values.items()
    found = ((key, of.get(1)) for key, of in values if key in client.desk.tickets)
    return next((key, row) for key, row in found if isinstance(row, Attachment))


def attributes(text: str, tag: str) -> list[str]:
    """Return the names of the attributes of the first such element."""
    found = re.search(rf"^<{tag}( [^>]*?)/?>", text, re.MULTILINE)
    assert found
    return re.findall(r' (\w+)="', found[1])


def test_definitions(client: Client) -> None:
    """Fields of tickets and others are empty elements; what they are is in their attributes."""
    text = client.get("/Base/CustomField").text
    assert attributes(text, "customfield") == [
        *("customfieldid", "customfieldgroupid", "title", "fieldtype", "fieldname", "defaultvalue"),
        *("isrequired", "usereditable", "staffeditable", "regexpvalidate", "displayorder"),
        *("encryptindb", "description", "grouptype"),
    ]
    kinds = re.findall(r'fieldtype="(\d+)".*grouptype="(\d+)"', text)
    assert {group for kind, group in kinds if kind == str(FILE_FIELD)} == {"1", "3", "4"}
    groups = client.get("/Base/CustomFieldGroup")
    assert attributes(groups.text, "customfieldgroup") == [
        *("customfieldgroupid", "title", "grouptype", "visibilitytype", "displayorder")
    ]
    assert 'title="Device"' in groups.text
    options = client.get("/Base/CustomField/ListOptions/2").text
    assert re.findall(r'optionvalue="([^"]*)"', options) == ["red", "light, blue", "green"]
    linked = client.get("/Base/CustomField/ListOptions/5").text
    assert re.findall(r'parentcustomfieldoptionid="(\d+)"', linked) == ["0", "51"]
    none = client.get("/Base/CustomField/ListOptions")
    assert (none.status, none.text) == (400, "No Custom Field ID Provided")
    assert "<?xml" not in client.get("/Base/CustomField/5").text


def test_values(client: Client) -> None:
    """All fields of a shown group come, set or not; a file is one line of base64 with its name."""
    ticket, row = with_file(client)
    text = client.get(f"{PATH}/{ticket}").text
    assert attributes(text, "group") == ["id", "title", "displayorder"]
    assert attributes(text, "field") == ["id", "title", "type", "name", "filename"]
    assert len(re.findall("^<field", text, re.MULTILINE)) >= 7
    name, contents = CONTENTS.findall(text)[0]
    assert name
    assert base64.b64decode(contents, validate=True) == row.source.read()
    assert 'title="Person"' not in text
    every = "".join(client.get(f"{PATH}/{key}").text for key in client.desk.field_values)
    for value in ("red, light\\, blue", "Printer &gt; Laser", "05/24/2011", "hunter2"):
        assert f"<![CDATA[{value}]]>" in every


@pytest.mark.parametrize("switch", ["double_base64", "old_fields"])
def test_encoded_twice(serve: Serve, switch: str) -> None:
    """Some versions encode files twice; old ones leave attributes out, and complain first."""
    with serve(switch) as client:
        ticket, row = with_file(client)
        text = client.get(f"{PATH}/{ticket}").text
        _, contents = CONTENTS.findall(text)[0]
        assert base64.b64decode(base64.b64decode(contents, validate=True)) == row.source.read()
        old = switch == "old_fields"
        assert text.startswith("[Notice]: Undefined offset: ") is old
        assert ("displayorder" in text) is not old
        assert ("name" in attributes(text, "field")) is not old


def test_merged_tickets_keep_their_values(client: Client) -> None:
    """The old id answers with the old values, which the survivor lacks; a mask has none."""
    old = next(key for key in client.desk.field_values if key in client.desk.merges)
    into = client.desk.tickets[client.desk.merges[old]]
    row = client.desk.field_values[old][1]
    assert isinstance(row, Attachment)
    name, contents = CONTENTS.findall(client.get(f"{PATH}/{old}").text)[0]
    assert name
    assert base64.b64decode(contents) == row.source.read()
    for key in (into.id, into.mask):
        assert row.source.read() not in [
            base64.b64decode(found)
            for _, found in CONTENTS.findall(client.get(f"{PATH}/{key}").text)
        ]
    by_mask = client.get(f"{PATH}/{client.desk.tickets[with_file(client)[0]].mask}")
    assert (by_mask.status, "CDATA" in by_mask.text) == (200, False)


def test_one_file_on_two_tickets(client: Client) -> None:
    """A ticket that was split off has the same file."""
    rows = [of[1] for of in client.desk.field_values.values() if isinstance(of.get(1), Attachment)]
    assert len(rows) == len({row.id for row in rows if isinstance(row, Attachment)}) + 1


def test_what_is_refused(client: Client) -> None:
    """Kayako's sentences, one of them with its literal dollars."""
    unknown, bare = client.get(f"{PATH}/99999"), client.get(PATH)
    assert (unknown.status, unknown.text) == (404, "Ticket not Found")
    assert (bare.status, bare.text) == (
        400,
        "Not Implemented, Call GET /Tickets/TicketCustomField/$ticketid$ instead.",
    )


def test_set_a_file(serve: Serve) -> None:
    """A file that is set is served and part of the truth; no activity moves."""
    with serve() as client:
        ticket = with_file(client)[0]
        before = client.desk.tickets[ticket]
        client.desk.set_field(ticket, 7, "signed.txt", b"yes")
        assert 'filename="signed.txt"><![CDATA[eWVz]]>' in client.get(f"{PATH}/{ticket}").text
        names = {b'M\xfc"ller': "", b"a\x0b\n\"'.txt": "a\x0b\n&quot;'.txt"}
        for name, written in names.items():  # Latin-1 is nothing; nothing else is cleaned
            client.desk.set_field(ticket, 7, name, b"yes")
            assert f'filename="{written}"><' in client.get(f"{PATH}/{ticket}").text
        assert client.desk.truths["customfield"][f"{ticket}/7"].size == 3
        assert client.desk.tickets[ticket] == before


def test_versions_without(serve: Serve) -> None:
    """Old versions know no custom fields, others no guides: a page with 404."""
    with serve("no_fields", "no_guides") as client:
        for path in ("/Base/CustomField", f"{PATH}/1", "/Knowledgebase/Article"):
            answer = client.get(path)
            assert (answer.status, answer.headers["Content-Type"][:9]) == (404, "text/html")
        assert client.get("/Tickets/TicketStatus").status == 200


def test_values_are_set(serve: Serve) -> None:
    """Options are given by their ids; fields that are private, or not in the form, stay."""
    with serve() as client:
        ticket, row = with_file(client)
        before = dict(client.desk.field_values[ticket])
        lists = {"wzk02[]": "21", "p5qr7[0]": "51", "p5qr7[1][51]": "52"}
        texts = {
            "d8ma4": "05/24/2011",
            "r9cd6": "92",
            "s6wx2": "secret",
            "u8ab5": "x",
            "other": "x",
        }
        answer = client.post(f"{PATH}/{ticket}", **lists, **texts)
        assert answer.body == client.get(f"{PATH}/{ticket}").body
        assert client.desk.field_values[ticket] == before | {
            2: "red",
            4: "05/24/2011",
            5: "Printer &gt; Laser",
            9: "no",
            1: row,
        }
        many = "&".join(("wzk02[]=22", "wzk02[]=23", *map("=".join, client.credentials().items())))
        target = f"{client.script}?e={PATH}/{ticket}"
        form = "application/x-www-form-urlencoded"
        client.send("POST", target, many.replace("+", "%2B").encode(), Content_Type=form)
        assert client.desk.field_values[ticket][2] == "light\\, blue, green"
        unknown = client.post(f"{PATH}/99999", **texts)
        assert (unknown.status, unknown.text) == (404, "Ticket not Found")
