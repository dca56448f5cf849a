"""Lists, tickets, pages and counts that are not what was asked for: what comes, and what heals.

:func:`believed` is a naive client, which believes every well-formed reply.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from migrator.sandbox.kayako import FILE_FAULTS, HARMLESS_FAULTS, IN_ALL, TICKET_FAULTS
from tests.sandbox.test_tickets import DEPARTMENTS, STATUSES, WALK, listed

if TYPE_CHECKING:
    from tests.sandbox.conftest import Answer, Serve

COUNT = f"/Tickets/Ticket/GetTicketCount/{DEPARTMENTS}/{STATUSES}"


def believed(answer: Answer) -> int:
    """Count the attachments that a client finds who looks for nothing else."""
    return len(ElementTree.fromstring(answer.text).findall("attachment"))


LISTS = {
    "list_namespace": '<attachments xmlns="http://www.w3.org/1999/xhtml">\n<attachment>\n<id>',
    "list_prefix": '<k:attachments xmlns:k="urn:kayako">\n<k:attachment>\n<k:id><![CDATA[',
    "list_capitals": "<ATTACHMENTS>\n<ATTACHMENT>\n<ID><![CDATA[",
    "list_error": "<attachments>\n<error>\n<message><![CDATA[Unable to load attachments]]>",
    "list_text": "<attachments>\nWarning: mysqli_query(): MySQL server has gone away",
    "list_div": '<attachments>\n<div style="BACKGROUND: #f8ebeb;',
    "list_deeper": "<attachments>\n<items>\n<attachment>\n<id><![CDATA[",
    "list_cdata": "<attachments><![CDATA[\n<attachment>\n<id><![CDATA[",
    "list_closed": "<attachments />\n<attachment>\n<id><![CDATA[",
}


@pytest.mark.parametrize("fault", LISTS)
def test_an_odd_list_heals(serve: Serve, fault: str) -> None:
    """The first reply has no row where clients look for rows; the next one has all of them."""
    with serve(fault) as client:
        ticket = client.ticket_with(fault)
        answer = client.listing(ticket.id)
        assert answer.status == 200
        assert LISTS[fault] in answer.text
        if fault == "list_closed":
            with pytest.raises(ElementTree.ParseError):
                believed(answer)
            assert answer.text.endswith("</attachment>")
        else:
            assert believed(answer) == 0
        rows = [str(row.id) for row in client.desk.attachments_of(ticket.id)]
        assert client.listing(ticket.id).values("id") == rows != []
        assert client.desk.gaps == {}


def test_half_a_list_heals(serve: Serve) -> None:
    """The first reply ends with PHP's warning after half of the rows; the next one is whole."""
    with serve("list_half") as client:
        ticket = client.ticket_with("list_half").id
        client.desk.add_attachment(ticket, "</attachment>.txt", b"1")
        rows = [str(row.id) for row in client.desk.attachments_of(ticket)]
        half = client.listing(ticket)
        assert half.values("id") == rows[: len(rows) // 2] != []
        assert "\nWarning: mysqli_query(): " in half.text
        assert believed(half) == len(rows) // 2
        assert client.listing(ticket).values("id") == rows


def test_half_of_the_statuses(serve: Serve) -> None:
    """The first list lacks the statuses that most tickets have; the next one is whole."""
    with serve("half_statuses") as client:
        half, whole = client.get("/Tickets/TicketStatus"), client.get("/Tickets/TicketStatus")
        assert (half.values("id"), whole.values("id")) == (["1", "2"], STATUSES.split(","))
        assert "\nWarning: mysqli_query(): " in half.text
        assert half.text.endswith("</ticketstatuses>")


@pytest.mark.parametrize(
    ("fault", "paths"),
    [
        ("half_departments", ["/Base/Department"]),
        (
            "half_names",
            [
                *("/Tickets/TicketPriority", "/Tickets/TicketType", "/Base/Staff", "/Base/User"),
                *("/Base/StaffGroup", "/Base/UserGroup", "/Base/User/Filter/1/5"),
            ],
        ),
        ("half_fields", ["/Base/CustomField"]),
        ("half_guides", ["/Knowledgebase/Article", "/Troubleshooter/Step"]),
    ],
)
def test_half_of_other_lists(serve: Serve, fault: str, paths: list[str]) -> None:
    """Each list is cut once, at the beginning of a row."""
    with serve(fault) as client:
        for path in paths:
            half, whole, again = (client.get(path) for _ in range(3))
            assert whole.body == again.body
            rows = [ElementTree.tostring(one).strip() for one in ElementTree.fromstring(whole.text)]
            root = ElementTree.fromstring(half.text)
            kept = [ElementTree.tostring(one).partition(b"\nWarning: ")[0].strip() for one in root]
            assert kept == rows[: len(rows) // 2] != []
            assert "\nWarning: mysqli_query(): " in half.text


def test_half_of_the_fields_of_each_ticket(serve: Serve) -> None:
    """The groups behind the first are lost, once for each ticket."""
    with serve("half_fields") as client:
        for ticket in list(client.desk.tickets)[:3]:
            half, whole = (client.get(f"/Tickets/TicketCustomField/{ticket}") for _ in range(2))
            assert half.text.count("<group ") == whole.text.count("<group ") // 2 == 1


def test_odd_notes(serve: Serve) -> None:
    """Dates are words or nothing, colors no number; in tickets and in their own lists alike."""
    with serve("odd_notes") as client:
        kinds = {kind: of for kind, of in client.desk.notes if of in client.desk.tickets}
        for kind, path in (("ticket", "TicketNote"), ("timetrack", "TicketTimeTrack")):
            for call in (
                f"/Tickets/Ticket/{kinds[kind]}",
                f"/Tickets/{path}/ListAll/{kinds[kind]}",
            ):
                said = client.get(call).text
                assert 'notecolor="x"' in said
                odd = 'creationdate="2010-03-12 10:43:00"' if kind == "ticket" else 'billdate=""'
                assert odd in said


def test_notes_with_entities(serve: Serve) -> None:
    """They stand outside CDATA, so that no strict parser reads the reply."""
    with serve("entity_notes") as client:
        note = next(notes[0] for (kind, _), notes in client.desk.notes.items() if kind == "ticket")
        client.desk.add_note(replace(note, id=0, text="<p>Söhne & co</p>"))
        said = client.get(f"/Tickets/Ticket/{note.of}").text
        assert ">&lt;p&gt;S&ouml;hne &amp; co&lt;/p&gt;</note>" in said


def test_answers_that_get_lost(serve: Serve) -> None:
    """What was asked for is done, but a proxy says that it took too long; then all is well."""
    with serve("lost_answer") as client:
        desk = client.desk
        ticket = next(of for kind, of in desk.notes if kind == "ticket")
        form = {"ticketid": str(ticket), "contents": "x", "staffid": "1"}
        for path in ("/Tickets/TicketPost", "/Tickets/TicketNote"):
            before = len(desk.posts) + len(desk.notes["ticket", ticket])
            assert [client.post(path, **form).status for _ in range(2)] == [504, 200]
            assert len(desk.posts) + len(desk.notes["ticket", ticket]) == before + 2
        assert client.delete(f"/Tickets/Ticket/{ticket}").status == 504
        assert client.delete(f"/Tickets/Ticket/{ticket}").status == 404
        assert client.post("/Tickets/TicketSearch", query="x", contents="1").status == 200


def test_every_odd_list_is_looked_at() -> None:
    """No kind of odd list goes untested."""
    assert {*LISTS, "list_half"} == {name for name in TICKET_FAULTS if name.startswith("list_")}


def test_a_value_that_reads_like_a_tag_is_left_alone(serve: Serve) -> None:
    """Only tags get a prefix or other letters, whatever names of files hold."""
    name = "</filename><contents><![CDATA[QUJD.txt"
    with serve("list_prefix", "list_capitals") as client:
        for fault in ("list_prefix", "list_capitals"):
            ticket = client.ticket_with(fault)
            client.desk.add_attachment(ticket.id, name, b"")
            assert f"<![CDATA[{name}]]>" in client.listing(ticket.id).text


@pytest.mark.parametrize(
    ("fault", "heals"), [("foreign_list", True), ("foreign_list_always", False)]
)
def test_a_list_of_another_ticket(serve: Serve, fault: str, *, heals: bool) -> None:
    """Whole and well-formed, but each row names another ticket; once, or for ever: then a gap."""
    with serve(fault) as client:
        ticket, desk = client.ticket_with(fault), client.desk
        own = {row.id for row in desk.attachments_of(ticket.id)}
        for nth in range(3):
            answer = client.listing(ticket.id)
            right = heals and nth > 0
            assert (set(answer.values("ticketid")) == {str(ticket.id)}) is right
            assert (set(map(int, answer.values("id"))) == own) is right
            assert believed(answer) > 0
        assert desk.gaps == ({} if heals else {ticket.id: fault})
        assert (own <= desk.truth.keys()) is heals
        assert own.isdisjoint(desk.truth) is not heals
        desk.set_fault(fault, on=False)
        assert set(map(int, client.listing(ticket.id).values("id"))) == own <= desk.truth.keys()
        assert desk.gaps == {}


def test_another_ticket(serve: Serve) -> None:
    """Asked for by its id a ticket is once another one, of another department, then itself."""
    with serve("foreign_ticket") as client:
        ticket = client.ticket_with("foreign_ticket")
        answers = [client.get(f"/Tickets/Ticket/{ticket.id}") for _ in range(3)]
        (stranger,) = answers[0].ids()
        assert stranger != ticket.id
        assert client.desk.tickets[stranger].department_id != ticket.department_id
        assert client.desk.attachments_of(stranger)
        assert [one.ids() for one in answers[1:]] == [[ticket.id]] * 2
        assert not client.desk.merges.get(ticket.id)


def test_a_repeated_page(serve: Serve) -> None:
    """A page further down is once the first one again, for each order of the list."""
    with serve("repeated_page") as client:
        every = listed(client)
        assert client.get(f"{WALK}/-1/-1/10/0").ids() == every[:10]
        assert client.get(f"{WALK}/-1/-1/10/10").ids() == every[:10]
        assert client.get(f"{WALK}/-1/-1/10/10").ids() == every[10:20]
        newest = f"{WALK}/-1/-1/10/10/lastactivity/DESC"
        repeated, right = client.get(newest).ids(), client.get(newest).ids()
        assert repeated == client.get(f"{WALK}/-1/-1/10/0/lastactivity/desc").ids()
        assert set(repeated).isdisjoint(right)


def test_a_page_in_a_namespace(serve: Serve) -> None:
    """A page of tickets is once an empty one to those who ignore namespaces, for each order."""
    with serve("page_namespace") as client:
        for order in ("ticketid/ASC", "lastactivity/DESC"):
            path = f"{WALK}/-1/-1/10/0/{order}"
            first, second = client.get(path).text, client.get(path).text
            opened = '<tickets xmlns="http://www.w3.org/1999/xhtml">'
            assert opened in first
            assert first.replace(opened, "<tickets>") == second
            assert not ElementTree.fromstring(first).findall("ticket")


def test_a_wrong_count(serve: Serve) -> None:
    """First that of all other departments and the trash, then of everything; then it is right."""
    with serve("wrong_count") as client:
        others = sum(t.department_id not in {1, 2, 4, 5} for t in client.desk.tickets.values())
        right = len(listed(client))
        found = [int(client.get(COUNT).values("totalcount")[0]) for _ in range(4)]
        assert found == [others, len(client.desk.tickets), right, right]
        assert found[0] < right < found[1]


def test_noisy_errors(serve: Serve) -> None:
    """More than 200 characters of PHP stand before the text of an error, and more behind it."""
    with serve("noisy_errors", "deleted_between", "moved_between") as client:
        gone, moved = client.path_of("deleted_between"), client.path_of("moved_between")
        for path, status, words in (
            (gone, 404, "Attachment not Found"),
            (moved, 400, "Attachment does not belong to the specified ticket"),
            ("/Tickets/Ticket/99999", 404, "Ticket not Found"),
            ("/Tickets/Ticket", 400, "Not Implemented, Call /Tickets/Ticket/ListAll instead."),
        ):
            answer = client.get(path)
            before, found, behind = answer.text.partition(words)
            assert (answer.status, found) == (status, words)
            assert re.fullmatch(r"<br />\n<b>Deprecated</b>: .{200,}<br />\n", before)
            assert re.fullmatch(r"\n<br />\n<b>Notice</b>: .*<br />\n", behind)
            assert answer.headers["Content-Type"].startswith("text/xml")
        assert client.get("/Base/Department").text.startswith("<?xml")
        assert client.get("/Nothing/Here").text.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("fault", ["refused_row", "refused_ticket"])
def test_a_firewall_in_front_of_a_ticket(serve: Serve, fault: str) -> None:
    """Every page that it is on is refused with a page of HTML, for ever; all else is answered."""
    with serve(fault) as client:
        ticket, every = client.ticket_with(fault), listed(client)
        row = every.index(ticket.id)
        assert "SQL syntax" in ticket.subject
        assert ticket.id != every[-1]
        for size, start in ((100, 0), (row + 1, 0), (1, row), (2, row), (-1, 0)):
            answer = client.get(f"{WALK}/-1/-1/{size}/{start}")
            assert answer.status == 403
            assert answer.text.startswith("<!DOCTYPE html>")
            assert "firewall" in answer.text
            assert "<?xml" not in answer.text
        assert client.get(f"{WALK}/-1/-1/1/{row}/ticketid/DESC").status == 200
        assert client.get(f"{WALK}/-1/-1/{row}/0").ids() == every[:row]
        assert client.get(f"{WALK}/-1/-1/100/{row + 1}").ids() == every[row + 1 :]
        assert client.get(COUNT).values("totalcount") == [str(len(every))]
        own = {row.id for row in client.desk.attachments_of(ticket.id)}
        assert set(map(int, client.listing(ticket.id).values("id"))) == own
        alone = client.get(f"/Tickets/Ticket/{ticket.id}")
        assert alone.status == (200 if fault == "refused_row" else 403)
        assert client.desk.gaps == {ticket.id: fault}
        assert (own <= client.desk.truth.keys()) is (fault == "refused_row")
        client.desk.trash(ticket.id)
        assert client.desk.gaps == {}


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("odd_date", "<creationtime><![CDATA[2010-03-12 10:43:00]]></creationtime>"),
        ("odd_status", "<statusid><![CDATA[0x1]]></statusid>"),
        ("odd_activity", "<lastactivity><![CDATA[99999999999999999999]]></lastactivity>"),
        (
            "entity_subject",
            "<subject>Caf&eacute; ferm&eacute; &amp; &lt;b&gt;voil&agrave;&lt;/b&gt;</subject>",
        ),
    ],
)
def test_odd_fields_of_a_ticket(serve: Serve, fault: str, line: str) -> None:
    """They stand in pages and alone, for ever; row and files are there all the same."""
    with serve(fault) as client:
        ticket = client.ticket_with(fault)
        for _ in range(2):
            assert client.get(WALK).text.count(line) == 1
            assert client.get(f"/Tickets/Ticket/{ticket.id}").text.count(line) == 1
        assert ticket.id in client.get(WALK).ids()
        assert {row.id for row in client.desk.attachments_of(ticket.id)} <= client.desk.truth.keys()
        assert client.desk.gaps == {}


def test_an_empty_list(serve: Serve) -> None:
    """The list of one ticket is empty once, though a post of it says that it has attachments."""
    with serve("list_empty") as client:
        ticket = client.desk.unlistable_ticket
        assert ticket is not None
        assert client.listing(ticket).text.endswith("\n<attachments>\n</attachments>")
        assert "1" in client.get(f"/Tickets/TicketPost/ListAll/{ticket}").values("hasattachments")
        rows = {row.id for row in client.desk.attachments_of(ticket)}
        assert (
            set(map(int, client.listing(ticket).values("id"))) == rows <= client.desk.truth.keys()
        )


@pytest.mark.parametrize("form", ["e", "standard"])
def test_short_queries(serve: Serve, form: str) -> None:
    """A route of more than 512 bytes is lost as a value of the query, and the web page answers."""
    with serve("short_queries", departments=150) as client:
        ids = client.get("/Base/Department").values("id")
        assert len(ids) == 151
        for number, length in ((150, 700), (60, 400)):
            path = f"/Tickets/Ticket/ListAll/{','.join(ids[:number])}/{STATUSES}/-1/-1/100/0"
            assert (len(path) > 512) is (length > 512)
            target = client.target(path)
            if form == "standard":
                target = target.replace("e=%2F", "/", 1).replace("%2C", ",").replace("%2F", "/")
            answer = client.send("GET", target)
            lost = form == "e" and len(path) > 512
            assert answer.status == (404 if lost else 200)
            assert ("SWIFT App does not exist" in answer.text) is lost


def test_many_departments(serve: Serve) -> None:
    """Tickets spread over so many departments as are asked for; four are what there always are."""
    with serve(tickets=100, departments=60) as client:
        answer = client.get("/Base/Department")
        assert answer.values("app").count("tickets") == 60
        assert len(set(answer.values("title"))) == 61
        assert len({t.department_id for t in client.desk.tickets.values()}) > 30


def test_harmless_faults_lose_nothing(serve: Serve) -> None:
    """With all of them on every attachment is stored and no ticket is a gap."""
    with serve(*HARMLESS_FAULTS) as client:
        truths = client.desk.truths
        assert {one.state for of in truths.values() for one in of.values()} == {"stored"}
        assert client.desk.gaps == {}
    rest = IN_ALL - HARMLESS_FAULTS
    wrong = (name for name, fault in FILE_FAULTS.items() if fault.state != "stored")
    assert rest == {
        *(IN_ALL & {*wrong}),
        *(name for name, fault in TICKET_FAULTS.items() if fault.gap),
    }
    assert {"foreign_list_always", "refused_row", "refused_ticket", "many_contents"} <= rest


def test_gaps_of_a_list_that_fails(serve: Serve) -> None:
    """The ticket of ``list_500`` is a gap while that is on."""
    with serve("list_500") as client:
        desk = client.desk
        assert desk.gaps == {desk.unlistable_ticket: "list_500"}
        desk.set_fault("list_500", on=False)
        assert desk.gaps == {}
